"""The receiving half of a connection in threads: who receives, and waiting for a message.

May know: the socket, the lock, the role of the reader; messages in the receive queue, frames as the decoder gives them.
Must not know: what the program wants to be given; closing.

A thread that receives takes the next message from the queue. If there is none, it reads from the socket itself. What
happens to nearly every message is in ``_fastpath``; what is unusual is here. One thread at a time may receive. Another
thread may read meanwhile, such as the steward or one that closes; then the receiver waits for a change.
"""

from __future__ import annotations

import gc
import math
from typing import Any

from .._session.reading import COUNTS_REFERENCES, Progress, Reading, second_receiver
from ..typing import Data
from ._sending import FREE, TAKEN
from ._stewarded import StewardedSocket

__all__ = ["ReceivingSocket"]


class ReceivingSocket(StewardedSocket):
    """The receiving half of a :class:`~.connection.Connection`."""

    def _ws_receive(self, timeout: float | None) -> Data:
        """Receive the next message, when the fast path can't."""
        mine = False
        try:
            with self._ws_lock:
                self._ws_epoch += 1
                if self._ws_receiver or self._ws_stream is not None:
                    self._ws_take_turn("recv")
                mine, self._ws_receiver = True, self._ws_ident()
            return self._ws_next_slowly(timeout)
        except BaseException:
            if mine:
                # First, as there may be no room for another call.
                self._ws_receiver = 0
                self._ws_give_up_turn()
            raise

    def _ws_go_on(self, timeout: float | None) -> Data:
        """Go on receiving, after the fast path has read something else than messages, or a part of one."""
        try:
            self._ws_flush()
            return self._ws_next_slowly(timeout)
        except BaseException:
            self._ws_receiver = 0
            self._ws_give_up_turn()
            raise

    def _ws_read_nothing(self, data: bytes | None, error: OSError | None, timeout: float | None) -> Data:
        """Go on receiving, after a read of the fast path has brought the end of the stream, or an error."""
        try:
            self._ws_take_read([] if data is None else [data], error, False, [])
            return self._ws_go_on(timeout)
        except BaseException:
            self._ws_receiver = 0
            self._ws_give_up_turn()
            raise

    def _ws_take_read(self, got: list[bytes], error: OSError | None, watching: bool, begun: list[bool]) -> None:
        """Process what a call of the socket brought, and leave the role of the reader.

        If something interrupts this, bytes that were read may be missing, and so the connection ends.

        Parameters:
            got: what was read, if anything.
            error: why nothing was.
            watching: as for ``_ws_read()``.
            begun: gets an item first of all. Without one, all this is left to the caller.
        """
        begun += (True,)  # no call, after which a signal handler could run
        processed = left = False
        try:
            with self._ws_lock:
                try:
                    self._ws_received(got[0] if got else None, error)
                    processed = True
                finally:
                    self._ws_leave_reading(watching)
                    left = True
        except BaseException as exc:
            with self._ws_lock:
                if self._ws_nested and not left:
                    self._ws_nested -= 1
                elif self._ws_reader is TAKEN and self._ws_reading_thread == self._ws_ident() and not left:
                    # There may be no room for a call.
                    self._ws_reader, self._ws_reading_thread = FREE, 0
                if got and not processed:
                    self._ws_broken = self._ws_owing = True
                    self._ws_interrupted(exc)
                self._ws_left_reading()
            raise

    def _ws_receive_others(self, frames: list[Any] | None, rest: bytes | None) -> None:
        """Process the frames of a read that has others than whole messages; called under the lock.

        Parameters:
            frames: the frames, without the messages before them; None if there are none.
            rest: what was read after them; None if they are all.
        """
        if self._ws_session.receive_frames(frames or []):
            self._ws_process_events()
        if rest:
            self._ws_bytes_received -= len(rest)  # these bytes were counted when they were read
            self._ws_receive_data(rest)
        elif self._ws_queue:
            self._ws_steer(self._ws_session.intake.check_full(True))

    def _ws_next_slowly(self, timeout: float | None) -> Data:
        """Receive the next message; the caller is the receiver."""
        deadline = None if timeout is None else self._ws_system.now() + timeout
        in_time = True
        taken: list[Data] = []
        try:
            while True:
                with self._ws_lock:
                    # Taken and stored in one step, so that no signal handler comes in between.
                    taken += self._ws_session.inbox.next_message()
                    if taken:
                        self._ws_after_taking()
                        self._ws_receiver = 0
                if taken:
                    return taken[0]
                if not in_time:
                    raise TimeoutError(f"timed out in {timeout:.1f}s")
                in_time = self._ws_wait_for_frames(deadline)
        except BaseException:
            if taken:
                try:
                    self._ws_keep_message(taken[0])
                except BaseException:
                    # There may be no room for a call, so whoever uses the connection next ends it.
                    self._ws_broken = self._ws_owing = True
            raise

    def _ws_keep_message(self, message: Data) -> None:
        """Put the message that was taken last back, because an exception keeps it from being returned."""
        with self._ws_lock:
            self._ws_queue.appendleft(message)

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
                return self._ws_wait_for_turn(deadline)
        if mine:
            return self._ws_read(deadline)
        self._ws_flush()
        return True

    def _ws_wait_for_turn(self, deadline: float | None) -> bool:
        """Wait for a change, or for the end of the wait for a limit of a rate; called under the lock.

        Returns:
            False if the deadline passed before.
        """
        limit_at = self._ws_session.limit_at
        if limit_at == math.inf or (deadline is not None and deadline <= limit_at):
            return self._ws_wait_change(deadline, claims=True)
        # The steward would do it, too, but not to the millisecond.
        if not self._ws_wait_change(limit_at, claims=True) and self._ws_session.limit_at == limit_at:
            self._ws_limit_over(self._ws_system.now())
        return True

    def _ws_before_waiting(self) -> bool:
        """Have what was kept back processed; return whether there was anything.

        Raises:
            ConnectionClosed: nothing more will arrive.
        """
        session = self._ws_session
        self._ws_check_broken()
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
            self._ws_receiver = 0
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
