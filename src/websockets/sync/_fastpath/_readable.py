"""The fast path of a message between a socket and a thread: the readable twin of the compiled one.

May know: the socket, the lock, the roles of the reader and the writer, the receive queue, the decoder, how to make a
frame. Must not know: anything that doesn't happen to every message. For the rest, it calls methods of its subclass.

This file specifies the compiled twin: if the two differ, this one is right.

A message is received on the fast path if it waits in the queue in one piece, or if a single read brings it. It is sent
on the fast path if nobody else writes, nothing waits to be written, and it is a frame of its own. In all other cases
nothing has happened yet, and a method of the subclass does all of it.

A signal handler may raise an exception between any two steps. So the kernel's answer is stored in the step that calls
it, and whoever has taken a role leaves it, whatever happens. A message that was taken and can't be returned is put
back. Handlers run after calls, and when a function begins: not after an access to an item, a ``del``, a ``return``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

from ..._codec import FrameDecoder, Queue, build_frame, new_mask
from ..._codec.header import WHOLE, WHOLE_BINARY, WHOLE_TEXT
from ..._rules.messages import MISSING
from ...typing import Data
from .._roles import Role
from .._system import DONTWAIT, Lock

if TYPE_CHECKING:
    from ..._rules.lifecycle import Lifecycle
    from ..._session.tls import TLSChannel
    from ..._session.tls_in_tls import NestedChannel
    from .._wire import Wire

__all__ = ["DIRECT", "SocketPath"]

# In bytes. A larger read is taken in by slices, as it may have tens of thousands of tiny frames.
DIRECT: Final = 2**12

# As constants of this module, because access to them is faster.
_FREE: Final = Role.FREE
_TAKEN: Final = Role.TAKEN
_NOW: Final = (DONTWAIT,)
_IN_ONE_PIECE: Final = (str, bytes)


class SocketPath:
    """The path of every message from the socket to a thread, and back.

    Attributes:
        _ws_lock: guards all others.
        _ws_ident: function that returns a number for the running thread.
        _ws_wire: the socket.
        _ws_channel: TLS; None without it.
        _ws_queue: the receive queue.
        _ws_decoder: the decoder, if reads can take the fast path; else None.
        _ws_life: the lifecycle of the connection, and _ws_may_send: the state of its sending half in which messages may
            be sent.
        _ws_reader: the role of the reader, and _ws_reading_thread: the thread that has it.
        _ws_writer: the role of the writer, and _ws_writing_thread: the thread that has it.
        _ws_receiver: the thread that is in ``recv()`` or ``recv_streaming()``; 0 if none is.
        _ws_stream: a message that is read in fragments; None if there is none.
        _ws_epoch: the number of calls of ``recv()``, from which the steward sees whether anybody receives.
        _ws_listed: whether the connection is on the list of those at which the steward looks.
        _ws_waiting: the number of threads that wait for a change.
        _ws_lost: whether the TCP connection is over.
        _ws_broken: whether it must end, because something may be missing of what was read or written.
        _ws_owing: whether the outbox has anything to write; True, too, once the connection is lost.
        _ws_plain: whether messages to send need neither an extension nor a line in the log.
        _ws_client: whether frames are masked.
        _ws_sealing: whether a frame is being encrypted; what a signal handler sends then must come later.
        _ws_bypassing: the size of the frame that is being sent past the outbox, and _ws_bypassed: bytes that were.
        _ws_bytes_received, _ws_bytes_sent, _ws_messages_sent, _ws_payload_sent: as for asyncio.
    """

    # Set on the instance only when they are needed, so that an idle connection stays small.
    _ws_lock: Lock
    _ws_ident: Callable[[], int]
    _ws_wire: Wire
    _ws_queue: Queue[Any]
    _ws_life: Lifecycle
    _ws_may_send: object
    _ws_channel: TLSChannel | NestedChannel | None = None
    _ws_decoder: FrameDecoder | None = None
    _ws_reader: Role = _FREE
    _ws_writer: Role = _FREE
    _ws_reading_thread: int = 0
    _ws_writing_thread: int = 0
    _ws_receiver: int = 0
    _ws_stream: Any = None
    _ws_epoch: int = 0
    _ws_waiting: int = 0
    _ws_listed: bool = False
    _ws_lost: bool = False
    _ws_broken: bool = False
    _ws_owing: bool = False
    _ws_plain: bool = False
    _ws_client: bool = False
    _ws_sealing: bool = False
    _ws_bypassing: int = 0
    _ws_bypassed: int = 0
    _ws_bytes_received: int = 0
    _ws_bytes_sent: int = 0
    _ws_messages_sent: int = 0
    _ws_payload_sent: int = 0

    if TYPE_CHECKING:
        # Members of the subclass.
        recv_bufsize: int

        def _ws_receive(self, timeout: float | None) -> Data: ...
        def _ws_go_on(self, timeout: float | None) -> Data: ...
        def _ws_read_nothing(self, data: bytes | None, error: OSError | None, timeout: float | None) -> Data: ...
        def _ws_received(self, data: bytes | None, error: OSError | None) -> None: ...
        def _ws_receive_data(self, data: bytes) -> None: ...
        def _ws_receive_others(self, frames: list[Any] | None, rest: bytes | None) -> None: ...
        def _ws_receive_channel(self, channel: TLSChannel | NestedChannel) -> None: ...
        def _ws_encrypt(self, frame: bytes) -> bytes: ...
        def _ws_interrupted(self, cause: BaseException) -> None: ...
        def _ws_give_up_turn(self) -> None: ...
        def _ws_keep_message(self, message: Data) -> None: ...
        def _ws_left_reading(self) -> None: ...
        def _ws_list(self) -> None: ...
        def _ws_after_send(self, frame: bytes, count: int, error: OSError | None, interrupted: bool) -> None: ...

    # -------------------------------------------------------------------------------------------------------- receiving

    @property
    def _ws_next_message(self) -> Data:
        """The next message, as of :meth:`_ws_next` without a timeout.

        It is an attribute, so that no signal handler can run between the end of the compiled twin and its caller.
        """
        return self._ws_next(None)

    def _ws_next(self, timeout: float | None) -> Data:
        """Receive the next message. Nearly always it waits in the queue, or one read brings it."""
        got: list[bytes] = []
        message: Any = MISSING
        error: OSError | None = None
        receive = decoder = None
        mine, me, wanted, kept = False, 0, False, True
        try:
            with self._ws_lock:
                self._ws_epoch += 1
                queue, decoder = self._ws_queue, self._ws_decoder
                if not (self._ws_receiver or self._ws_stream is not None or decoder is None):
                    if not queue:
                        if timeout is None and self._ws_reader is not _TAKEN:
                            receive = self._ws_wire.kernel_receive
                    elif type(queue[0]) in _IN_ONE_PIECE and (self._ws_listed or self._ws_still_waits(queue)):
                        message = queue[0]
                        del queue[0]
                if receive is not None:
                    me = self._ws_ident()
                    mine, self._ws_receiver = True, me
                    self._ws_reader, self._ws_reading_thread = _TAKEN, me
            if receive is None:
                return self._ws_receive(timeout) if message is MISSING else message
            try:
                got += map(receive, (self.recv_bufsize,))  # no step of Python between the kernel and the list
                wanted = True
            except OSError as exc:
                error = exc
            finally:
                if got and got[0]:
                    kept = False
                    with self._ws_lock:
                        others = self._ws_process(decoder, got[0])
                        kept = True
                        message = self._ws_take_in(others, wanted)
        except BaseException as exc:
            # Perhaps memory was wanting for what was read.
            if not kept or (mine and not wanted and isinstance(exc, MemoryError)):
                self._ws_cease(exc, me)
            if message is not MISSING:
                self._ws_surely_keep(message, exc, me)
            if mine:
                # First, as there may be no room for another call.
                self._ws_receiver = 0
                self._ws_give_up_turn()
            raise
        if message is not MISSING:
            return message  # type: ignore[no-any-return]
        if got and got[0]:
            return self._ws_go_on(timeout)
        return self._ws_read_nothing(got[0] if got else None, error, timeout)

    def _ws_surely_keep(self, message: Data, cause: BaseException, thread: int) -> None:
        """Put a message back that can't be returned; if there is no room for that, end the connection."""
        try:
            self._ws_keep_message(message)
        except BaseException:
            self._ws_cease(cause, thread)

    def _ws_still_waits(self, queue: Queue[Any]) -> bool:
        """Have the steward look whether somebody reads; return whether the next message can still be taken.

        A signal handler may have received in the meantime, or begun to.
        """
        self._ws_list()
        taken = self._ws_receiver or self._ws_stream is not None or self._ws_decoder is None
        return bool(not taken and queue and type(queue[0]) in _IN_ONE_PIECE)

    def _ws_process(self, decoder: Any, data: bytes) -> bool:
        """Leave the role of the reader, and process what was read; called under the lock.

        Parameters:
            decoder: the decoder when the read began.
            data: what was read.

        Returns:
            Whether there was anything but whole messages.
        """
        self._ws_reader, self._ws_reading_thread = _FREE, 0
        if self._ws_decoder is not decoder:
            self._ws_received(data, None)
            return True
        channel = self._ws_channel
        if channel is None:
            return self._ws_decode(decoder, data)
        if (plaintext := channel.decrypt(data)) is not None:
            return self._ws_decode(decoder, plaintext)
        # TLS has more to say.
        self._ws_receive_channel(channel)
        return True

    def _ws_take_in(self, others: bool, wanted: bool) -> Any:
        """Do what follows when the reader has left; called under the lock.

        Parameters:
            others: whether anything but messages has arrived.
            wanted: whether to return the next message, if nothing else has arrived.

        Returns:
            The message, or MISSING.
        """
        if not self._ws_listed or self._ws_waiting or self._ws_lost:
            self._ws_left_reading()
        queue = self._ws_queue
        if others or not wanted or not queue or type(queue[0]) not in _IN_ONE_PIECE:
            return MISSING
        self._ws_receiver = 0
        message = queue[0]
        del queue[0]
        return message

    def _ws_decode(self, decoder: Any, data: bytes) -> bool:
        """Feed the decoder; return whether there was anything but whole messages."""
        if len(data) > DIRECT:
            # The compiled twin puts whole messages into the queue, and leaves only the rest of a read to this method.
            self._ws_receive_data(data)
            return True
        self._ws_bytes_received += len(data)
        frames = decoder.feed(data)
        count = 0
        while count < len(frames) and frames[count] in WHOLE:
            self._ws_queue.append(frames[count + 1])
            count += 2
        others = frames[count:]
        if others or decoder.failure is not None:
            self._ws_receive_others(others or None, None)
            return True
        return False

    def _ws_cease(self, cause: BaseException, thread: int) -> None:
        """End the connection, because an exception came in the middle of reading or writing: bytes may be missing.

        Parameters:
            cause: the exception.
            thread: the running thread, which leaves its roles.
        """
        with self._ws_lock:
            self._ws_broken = self._ws_owing = True
            self._ws_plain, self._ws_decoder = False, None
            if self._ws_reader is _TAKEN and self._ws_reading_thread == thread:
                self._ws_reader, self._ws_reading_thread = _FREE, 0
            if self._ws_writer is _TAKEN and self._ws_writing_thread == thread:
                self._ws_writer, self._ws_writing_thread = _FREE, 0
            if self._ws_receiver == thread:
                self._ws_receiver = 0
        # If there is no room for this call, whoever uses the connection next sees that it is broken.
        self._ws_interrupted(cause)

    # ---------------------------------------------------------------------------------------------------------- sending

    def _ws_send_now(self, message: object) -> bool:
        """Send a message in one frame, if nothing is in its way.

        Parameters:
            message: the message; only ``str`` and ``bytes`` can be sent.

        Returns:
            Whether that was done. If not, nothing was.
        """
        if not self._ws_plain:
            return False
        if type(message) is str:
            head, payload = WHOLE_TEXT, message.encode()
        elif type(message) is bytes:
            head, payload = WHOLE_BINARY, message
        else:
            return False
        frame = build_frame(head, payload, new_mask() if self._ws_client else None)
        try:
            return self._ws_send_frame(frame, len(payload))
        except RecursionError:
            if self._ws_writer is _TAKEN and self._ws_writing_thread == self._ws_ident():
                # There was no room even for _ws_cease().
                self._ws_broken = self._ws_owing = True
                self._ws_writer, self._ws_writing_thread = _FREE, 0
            raise

    def _ws_send_frame(self, frame: bytes, payload_size: int) -> bool:
        """Send a frame past the outbox, if nothing is in its way; return whether that was done."""
        taken: list[int] = []
        error: OSError | None = None
        life, mine, me, sealed = self._ws_life, False, 0, True
        try:
            with self._ws_lock:
                if self._ws_owing or self._ws_writer is not _FREE or not self._ws_plain:
                    return False
                send = self._ws_wire.kernel_send
                if send is None or life.sending is not self._ws_may_send or life.continuing:
                    return False
                size, me = len(frame), self._ws_ident()
                mine, self._ws_writer, self._ws_writing_thread = True, _TAKEN, me
                if self._ws_channel is not None:
                    # What a signal handler sends in the middle of this is encrypted later.
                    sealed, self._ws_sealing = False, True
                    frame = self._ws_encrypt(frame)
                    sealed, self._ws_sealing = True, False
                self._ws_bypassing = len(frame)
                self._ws_messages_sent += 1
                self._ws_payload_sent += payload_size
                self._ws_bytes_sent += size
            try:
                taken += map(send, (frame,), _NOW)
            except OSError as exc:
                error = None if isinstance(exc, BlockingIOError) else exc
            except MemoryError:
                # Perhaps it was wanting for the number of bytes that the socket took.
                sealed = False
                raise
            if taken and taken[0] == len(frame):
                with self._ws_lock:
                    if not self._ws_owing:
                        self._ws_bypassed += self._ws_bypassing
                        mine = False
                        self._ws_bypassing = 0
                        self._ws_writer, self._ws_writing_thread = _FREE, 0
                        return True
        except BaseException as exc:
            if not sealed:
                self._ws_sealing = False
                self._ws_cease(exc, me)
            elif mine:
                self._ws_go_on_sending(frame, taken[0] if taken else 0, error, True, me)
            raise
        self._ws_go_on_sending(frame, taken[0] if taken else 0, error, False, me)
        return True

    def _ws_go_on_sending(self, frame: bytes, count: int, error: OSError | None, interrupted: bool, me: int) -> None:
        try:
            self._ws_after_send(frame, count, error, interrupted)
        except BaseException as exc:
            if self._ws_writer is _TAKEN and self._ws_writing_thread == me:
                # There was no room for the call, or no memory: the rest of the frame isn't kept.
                self._ws_cease(exc, me)
            raise
