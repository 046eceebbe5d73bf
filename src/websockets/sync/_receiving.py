"""The receiving half of a connection in threads: who receives, the short path of a message, and waiting for one.

May know: the socket, the lock, the role of the reader; messages in the receive queue, frames as the decoder gives them.
Must not know: what the program wants to be given; closing.

A thread that receives takes the next message from the queue. If there is none, it reads from the socket itself, and
usually the read brings one message, which never enters the queue. One thread at a time may receive. Another thread may
read meanwhile, such as the steward or one that closes; then the receiver waits for a change.
"""

from __future__ import annotations

import gc
from typing import Any, Final, cast

from .._codec.header import WHOLE
from .._rules.messages import MISSING, Missing
from .._session.reading import COUNTS_REFERENCES, Progress, Reading, second_receiver
from ..typing import Data
from ._sending import FREE, TAKEN
from ._session_socket import DIRECT, SessionSocket

__all__ = ["ReceivingSocket"]

# As constants of this module, because access to them is faster.
_WHOLE: Final = frozenset(WHOLE)
_IN_ONE_PIECE: Final = (str, bytes)


class ReceivingSocket(SessionSocket):
    """The receiving half of a :class:`~.connection.Connection`."""

    # Set while a message is read in fragments.
    _ws_stream: Reading | None = None

    def _ws_next(self, timeout: float | None) -> Data:
        """Receive the next message. Nearly all calls take the short path: a message waits, or one read brings one."""
        got: list[bytes] = []
        error: OSError | None = None
        mine = False
        try:
            with self._ws_lock:
                self._ws_epoch += 1
                if self._ws_receiver or self._ws_stream is not None:
                    self._ws_take_turn("recv")
                queue, decoder = self._ws_queue, self._ws_decoder
                if queue and type(queue[0]) in _IN_ONE_PIECE:
                    message = queue.popleft()
                    if decoder is None or not self._ws_listed:
                        self._ws_after_taking()
                    return cast(Data, message)
                me = self._ws_ident()
                mine, self._ws_receiver = True, me
                if queue or timeout is not None or self._ws_reader is TAKEN:
                    # In the queue is a message in fragments, which may be complete.
                    decoder = None
                elif decoder is not None:
                    self._ws_reader, self._ws_reading_thread = TAKEN, me
            if decoder is not None:
                interrupted = True
                try:
                    # As Wire.receive() does it.
                    if (receive := self._ws_wire.kernel_receive) is not None:
                        got += map(receive, (self.recv_bufsize,))
                    else:
                        self._ws_wire.receive(got, self.recv_bufsize)
                    interrupted = False
                except OSError as exc:
                    error, interrupted = exc, False
                finally:
                    with self._ws_lock:
                        message = self._ws_take_directly(decoder, got, error, interrupted)
                if message is not MISSING:
                    return cast(Data, message)
                self._ws_flush()
            return self._ws_next_slowly(timeout)
        except BaseException:
            if mine:
                self._ws_give_up_turn()
            raise

    def _ws_take_directly(self, decoder: Any, got: list[bytes], error: OSError | None, interrupted: bool) -> Any:
        """Process what a read has brought, and leave the role of the reader; return the next message, or MISSING."""
        self._ws_reader, self._ws_reading_thread = FREE, 0
        message: Any = MISSING
        if got and self._ws_decoder is decoder and 0 < len(got[0]) <= DIRECT and not interrupted:
            self._ws_bytes_received += len(got[0])
            frames = decoder.feed(got[0])
            # The queue is empty, so the first message in one frame is the next one.
            if len(frames) == 2 and frames[0] in WHOLE and decoder.failure is None:
                message = frames[1]
            elif frames and decoder.failure is None and _WHOLE.issuperset(frames[::2]):
                message = frames[1]
                for later in frames[3::2]:
                    self._ws_queue.append(later)
            else:
                self._ws_receive_frames(frames)
                message = self._ws_get()
        else:
            self._ws_received(got[0] if got else None, error)
            if not interrupted:
                message = self._ws_get()
        if message is not MISSING:
            self._ws_receiver = 0
        if not self._ws_listed or self._ws_waiting or self._ws_lost:
            self._ws_left_reading()
        return message

    def _ws_receive_frames(self, frames: list[Any]) -> None:
        """Process the frames of a read."""
        if self._ws_session.receive_frames(frames):
            self._ws_process_events()
        if self._ws_queue:
            self._ws_steer(self._ws_session.intake.check_full(True))

    def _ws_next_slowly(self, timeout: float | None) -> Data:
        """Receive the next message, when the short path can't."""
        deadline = None if timeout is None else self._ws_system.now() + timeout
        in_time = True
        while True:
            with self._ws_lock:
                message = self._ws_get()
                if not isinstance(message, Missing):
                    self._ws_receiver = 0
                    return message
            if not in_time:
                raise TimeoutError(f"timed out in {timeout:.1f}s")
            in_time = self._ws_wait_for_frames(deadline)

    def _ws_get(self) -> Data | Missing:
        """Return the next message, with its fragments joined; MISSING if it isn't complete. Called under the lock."""
        message = self._ws_session.inbox.get()
        if message is not MISSING:
            self._ws_after_taking()
        return message

    def _ws_after_taking(self) -> None:
        """Go on reading, if the receive queue has room again; called under the lock."""
        if self._ws_session.intake.paused:
            self._ws_steer(self._ws_session.intake.check_drained())
        if self._ws_reader is FREE and not self._ws_listed:
            self._ws_list()

    def _ws_give_up_turn(self) -> None:
        """Let others receive, after an exception."""
        with self._ws_lock:
            self._ws_receiver = 0
            if self._ws_reader is TAKEN and self._ws_reading_thread == self._ws_ident():
                self._ws_leave_reading()
            # Who has left that role may have left it to this thread, whose time is up.
            self._ws_list()

    def _ws_wait_for_frames(self, deadline: float | None) -> bool:
        """Wait until something has arrived, or may have.

        Returns:
            False if the deadline passed before.

        Raises:
            ConnectionClosed: nothing more will arrive.
        """
        with self._ws_lock:
            changed = self._ws_before_waiting()
            mine = not changed and self._ws_claim_reading()
            if not changed and not mine:
                return self._ws_wait_change(deadline, claims=True)
        if mine:
            return self._ws_read(deadline)
        self._ws_flush()
        return True

    def _ws_before_waiting(self) -> bool:
        """Have what was kept back processed; return whether there was anything.

        Raises:
            ConnectionClosed: nothing more will arrive.
        """
        session = self._ws_session
        if self._ws_lost:
            raise session.close_exc()
        if session.port.failure_held:
            session.drained()
            self._ws_process_events()
            return True
        if session.intake.paused:
            self._ws_steer(session.intake.resume())
            return True
        return False

    def _ws_take_piece(self, reading: Reading) -> Any:
        """Wait for the next piece of a message, and return it; END behind the last one."""
        try:
            while True:
                with self._ws_lock:
                    self._ws_epoch += 1
                    piece = reading.take()
                    if piece is not Progress.WAIT:
                        self._ws_receiver = 0
                        self._ws_after_taking()
                        return piece
                    self._ws_receiver = self._ws_ident()
                self._ws_wait_for_frames(None)
        except BaseException:
            self._ws_give_up_turn()
            raise

    def _ws_take_turn(self, name: str) -> None:
        """Take over from an iteration over fragments that was left early; refuse a second receiver."""
        reading = self._ws_stream
        if not self._ws_receiver and reading is not None:
            if reading.is_left(self._ws_system.current_thread(), _is_over):
                self._ws_leave_stream(reading)
            elif not COUNTS_REFERENCES:
                # If the iteration was left, nothing refers to its generator, and collecting it ends the iteration.
                gc.collect()
        if self._ws_receiver or self._ws_stream is not None:
            raise second_receiver(name, "thread")

    def _ws_leave_stream(self, reading: Reading) -> None:
        """Discard the rest of a message that was read in fragments, if any, and let others receive."""
        self._ws_stream = None
        reading.give_up()
        self._ws_after_taking()


def _is_over(thread: Any) -> bool:
    return not thread.is_alive()
