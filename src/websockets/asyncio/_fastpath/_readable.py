"""The fast path of a message between a transport and a task: the readable twin of the compiled one.

May know: the event loop, the transport, the receive queue, how to make a frame, and the protocol between a task and the
future that it awaits (``_asyncio_future_blocking``, ``add_done_callback``...), which asyncio documents for
:func:`asyncio.isfuture`. Must not know: anything that doesn't happen to every message. For the rest, it calls methods
of its subclass.

This file specifies the compiled twin: if the two differ, this one is right.

With a plain future, a message needs two turns of the event loop: one to read it, and one to resume the task. The second
turn costs as much as everything else for a small message. So at the end of a read, the fast path may resume the task at
once, in the task's own context, as the event loop would do.

Answers to a burst of messages share a write. While the receive queue has messages, frames are held back. The call that
receives the last message writes them, or else the next turn of the event loop. Frames of broadcasts are held back in
the same place; ``_session.outbox`` explains how they differ.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections import deque
from collections.abc import Callable, Coroutine, Generator
from contextvars import Context
from typing import TYPE_CHECKING, Any, Final, Self

from ..._codec import Assembly, Encoded, FrameDecoder, Queue, build_frame, build_header, new_mask
from ..._codec.header import FIN, payload_length
from ..._rules.lifecycle import Lifecycle
from ..._rules.messages import MISSING, Missing, encode_message
from ..._session.outbox import BATCH_LIMIT, GATHER_FROM
from ...protocol import Protocol
from ...typing import BytesLike, Data
from .._internals import PLAIN_LOOPS, task_runs

__all__ = ["BATCH_LIMIT", "BURST", "FULL", "GATHER_FROM", "SENT", "SLOW", "FastPath", "Messages", "Waiter"]

# After this number of messages without a wait, the other tasks of the event loop get their turn.
BURST: Final = 256

# The results of an attempt to send: the fast path can't send it; sent; sent, and the write buffer is full.
SLOW, SENT, FULL = range(3)

_PENDING, _DONE, _CANCELLED = range(3)


class Waiter:
    """A future without a result, for one task.

    Parameters:
        loop: the loop of the task.
    """

    __slots__ = ("_asyncio_future_blocking", "_callback", "_context", "_loop", "_message", "_state")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._asyncio_future_blocking = False
        self._loop = loop
        self._state = _PENDING
        self._callback: Callable[[Waiter], object] | None = None
        self._context: Context | None = None
        self._message: object = None

    # ------------------------------------------------------------------------------------------------ what tasks call

    def get_loop(self) -> asyncio.AbstractEventLoop:
        """The loop of the task."""
        return self._loop

    def __await__(self) -> Generator[Waiter, None, None]:
        if self._state == _PENDING:
            self._asyncio_future_blocking = True
            yield self
        self.result()

    __iter__ = __await__

    def add_done_callback(self, callback: Callable[[Waiter], object], *, context: Context | None = None) -> None:
        """Store the callback that resumes the task."""
        self._callback, self._context = callback, context
        if self._state != _PENDING:
            self._call_soon()

    def remove_done_callback(self, callback: Callable[[Waiter], object]) -> int:
        """Remove the callback that resumes the task; return how many were removed."""
        own = self._callback
        removed = int(own == callback)
        if removed and self._callback is own:  # the comparison may have run other code
            self._callback = self._context = None
        return removed

    def cancel(self, msg: object = None) -> bool:
        """Cancel the wait; the task resumes in the next turn of the event loop, as with any future."""
        if self._state != _PENDING:
            return False
        self._message = msg
        self._end(_CANCELLED)
        return True

    def done(self) -> bool:
        """Whether the wait is over."""
        return self._state != _PENDING

    def cancelled(self) -> bool:
        """Whether the wait was cancelled."""
        return self._state == _CANCELLED

    def result(self) -> None:
        """Return None if the wait is over.

        Raises:
            asyncio.CancelledError: the wait was cancelled.
            asyncio.InvalidStateError: the wait isn't over.
        """
        if self._state == _CANCELLED:
            raise asyncio.CancelledError() if self._message is None else asyncio.CancelledError(self._message)
        if self._state == _PENDING:
            raise asyncio.InvalidStateError("result is not ready")

    def exception(self) -> None:
        """Return None if the wait is over; raises like :meth:`result`, as a waiter has no other exception."""
        self.result()

    def _end(self, how: int) -> None:
        """End the wait; if the event loop is closed, raise and leave the wait as it is."""
        self._state = how
        try:
            self._call_soon()
        except BaseException:
            self._state = _PENDING
            raise

    def _call_soon(self) -> None:
        callback = self._callback
        if callback is not None:
            self._loop.call_soon(callback, self, context=self._context)
            self._callback = None

    # -------------------------------------------------------------------------------------------- what connections call

    def wake(self) -> None:
        """End the wait; the task resumes in the next turn of the event loop."""
        if self._state == _PENDING:
            self._end(_DONE)

    def resume(self) -> None:
        """End the wait; the task resumes before this returns, unless another task runs or the loop may be re-entered.

        The caller must have finished its own work, because the task may call it again. If the task raises an exception
        that ends the program, the event loop raises it in its next turn: some loops swallow exceptions in a read, and
        the rest of the read would be lost.
        """
        context = self._context
        if self._state != _PENDING or self._callback is None or context is None or not self._may_run():
            self.wake()
            return
        try:
            context.run(self._run)
        except (SystemExit, KeyboardInterrupt) as exc:
            self._loop.call_soon(_raise, exc)
        except RuntimeError:
            if self._state != _PENDING:
                raise
            # The context has already been entered.
            self.wake()

    def _may_run(self) -> bool:
        plain = type(self._loop).run_until_complete in PLAIN_LOOPS
        return plain and not task_runs(self._loop)

    def _run(self) -> None:
        callback = self._callback
        assert callback is not None
        self._state, self._callback = _DONE, None
        callback(self)


def _raise(exc: BaseException) -> None:
    raise exc


class _Numbers:
    """Numbers of a connection, in slots: the shared-key dictionary of other attributes is full."""

    __slots__ = (
        "_ws_bytes_received",
        "_ws_bytes_sent",
        "_ws_gathers",
        "_ws_messages_sent",
        "_ws_metered",
        "_ws_payload_sent",
        "_ws_saved_sent",
        "_ws_socket",
        "_ws_torn",
    )

    _ws_bytes_received: int
    _ws_bytes_sent: int
    _ws_gathers: bool
    _ws_messages_sent: int
    _ws_metered: FrameDecoder | None
    _ws_payload_sent: int
    _ws_saved_sent: int
    _ws_socket: socket.socket | None
    _ws_torn: bool

    def __new__(cls, *_arguments: object, **_options: object) -> Self:
        self = super().__new__(cls)
        self._ws_bytes_received = self._ws_bytes_sent = self._ws_messages_sent = self._ws_payload_sent = (
            self._ws_saved_sent
        ) = 0
        self._ws_socket, self._ws_torn, self._ws_gathers, self._ws_metered = None, False, False, None
        return self


class FastPath(_Numbers):
    """The path of every message from the transport to a task, and back.

    Attributes:
        protocol, loop, transport: of the connection.
        _ws_life: the lifecycle of the connection, and _ws_may_send: the state of its sending half in which messages may
            be sent.
        _ws_queue: the receive queue.
        _ws_buffer: the buffer for reads; shared with other connections.
        _ws_decoder: the decoder for reads on the fast path; None if reads can't take the fast path.
        _ws_metered: the same decoder in place of _ws_decoder, where rates are limited. The compiled twin feeds it as
            far as was granted; then it calls _ws_look.
        _ws_receiver: the waiter of the task that waits for a message.
        _ws_write_waiters: futures of tasks that wait because the write buffer is full; None while it has room.
        _ws_send_lock: held while a fragmented message is being sent; None if there is none.
        _ws_high: number of frames in the receive queue above which reading pauses.
        _ws_burst: number of messages received since the last wait.
        _ws_corked: bytes of frames held back, and _ws_backstop: whether the next turn of the event loop writes them.
        _ws_streaming: whether a task reads a message in fragments.
        _ws_reading_paused: whether reading is paused, because the receive queue is full.
        _ws_quick: whether a task that waits for a message only has to wait for a read.
        _ws_plain: whether messages to send need neither an extension other than _ws_pack nor a line in the log.
        _ws_pack: function that compresses a message: from the first byte of a frame and a payload to those to send; or
            None.
        _ws_inflate: function that decompresses a message in one frame: from its first byte and its payload to the
            message, or to None if that fails the connection. The compiled twin calls it while it feeds the decoder. Or
            None.
        _ws_client: whether frames are masked.
        _ws_lost: whether the TCP connection is over.
        _ws_socket: the socket to which the compiled twin may write directly, when the transport would do only that;
            None if there is none, for instance after a program has replaced the transport.
        _ws_gathers: whether the compiled twin may pass a frame to the transport in pieces.
        _ws_torn: whether a frame on the wire can't be completed, so that nothing may follow it.
        _ws_write_error: the exception of a write that failed.
        _ws_bytes_received: bytes that were read, and _ws_bytes_sent: bytes that were passed to the transport.
        _ws_messages_sent: messages in one frame, _ws_payload_sent: the bytes of their payloads, _ws_saved_sent: the
            bytes that compression saved.
    """

    # Set on the instance only when they are needed, so that an idle connection stays small.
    protocol: Protocol
    loop: asyncio.AbstractEventLoop
    transport: asyncio.Transport
    _ws_life: Lifecycle
    _ws_may_send: object
    _ws_queue: Queue[Any]
    _ws_buffer: memoryview
    _ws_decoder: FrameDecoder | None = None
    _ws_receiver: Waiter | None = None
    _ws_write_waiters: deque[asyncio.Future[None]] | None = None
    _ws_send_lock: asyncio.Lock | None = None
    _ws_pack: Callable[[int, BytesLike], tuple[int, BytesLike]] | None = None
    _ws_inflate: Callable[[int, bytes], Data | None] | None = None
    _ws_cork: list[bytes] | None = None
    _ws_high: int = 2**62
    _ws_burst: int = 0
    _ws_corked: int = 0
    _ws_backstop: bool = False
    _ws_streaming: bool = False
    _ws_reading_paused: bool = False
    _ws_quick: bool = False
    _ws_plain: bool = False
    _ws_client: bool = False
    _ws_lost: bool = False
    _ws_write_error: Exception | None = None

    if TYPE_CHECKING:
        # Methods of the subclass.

        def _ws_receive_data(self, data: BytesLike) -> None: ...
        def _ws_hold_rest(self, rest: bytes) -> None: ...
        def _ws_look(self, rest: bytes | None) -> None: ...
        def _ws_pause_if_full(self) -> None: ...
        def _ws_drained(self) -> None: ...
        def _ws_receive_slowly(self, iterating: bool) -> Coroutine[Any, Any, Data]: ...
        def _ws_write_pieces(self, header: bytes, payload: bytes) -> None: ...
        def _ws_refuse_writing(self) -> None: ...
        def _ws_uncork(self) -> None: ...
        def _ws_give(self, write: Callable[[Any], None], data: object) -> None: ...
        def _ws_tear(self) -> None: ...

    # -------------------------------------------------------------------------------------------------------- receiving

    def get_buffer(self, sizehint: int) -> memoryview:
        """Return a view of the buffer to read into; the event loop calls this, and may release its view."""
        return memoryview(self._ws_buffer)

    def buffer_updated(self, nbytes: int) -> None:
        """Process all bytes that were read, as the next read of any connection uses the buffer; the loop calls this."""
        self.data_received(bytes(self._ws_buffer[:nbytes]))

    def data_received(self, data: BytesLike) -> None:
        """Process data; event loops with a buffer of their own call this, and subclasses that override it."""
        self._ws_receive_data(data)

    def _ws_deliver(self) -> None:
        """Resume the task that waits for a message, or pause reading if the receive queue is full."""
        if self._ws_queue:
            if self._ws_receiver is not None and self._ws_has_news():
                self._ws_receiver.resume()
            if self._ws_queue:
                self._ws_pause_if_full()

    def _ws_has_news(self) -> bool:
        """Whether there is something for a task that waits: a message, or, if it reads fragments, a part of one."""
        first = self._ws_queue[0]
        return self._ws_streaming or not isinstance(first, Assembly) or first.complete

    def _ws_take(self) -> Data | Missing:
        """Return the next message if it is in the receive queue, complete, and may be taken without a wait."""
        queue = self._ws_queue
        if not queue or self._ws_receiver is not None or self._ws_streaming or self._ws_burst >= BURST:
            return MISSING
        message: Data | None = queue.popleft() if isinstance(queue[0], (str, bytes)) else queue.take()
        if message is None:
            return MISSING
        self._ws_burst += 1
        if self._ws_reading_paused:
            self._ws_drained()
        return message

    async def _ws_next(self, iterating: bool = False) -> Data:
        """Receive the next message; with ``iterating``, a normal end of the connection ends the iteration."""
        message = self._ws_take()
        if isinstance(message, Missing):
            return await self._ws_receive_slowly(iterating)
        return message

    # ---------------------------------------------------------------------------------------------------------- sending

    def _ws_send_now(self, message: object, text: bool | None) -> int:
        """Send a message at once, in one frame, if the fast path can; return SLOW, SENT or FULL."""
        text = text if text is None else bool(text)  # bool() may run other code
        if not self._ws_sends_at_once():
            return SLOW
        if isinstance(message, Encoded):
            return self._ws_send_encoded(message) if text is None else SLOW
        encoded = encode_message(message, text)
        if encoded is None:
            return SLOW
        head, payload = encoded[0] | FIN, encoded[1]
        if self._ws_pack is None:
            return self._ws_send_frame(head, payload, len(payload))
        try:
            packed_head, packed = self._ws_pack(head, payload)
            # Compressing may have run other code, too.
            return self._ws_send_frame(packed_head, packed, len(payload)) if self._ws_sends_at_once() else SLOW
        except BaseException:
            self._ws_tear()
            raise

    def _ws_sends_at_once(self) -> bool:
        """Return whether the state of the connection lets a message be sent at once."""
        life = self._ws_life
        return (
            self._ws_plain and self._ws_send_lock is None and life.sending is self._ws_may_send and not life.continuing
        )

    def _ws_send_frame(self, head: int, payload: BytesLike, size: int) -> int:
        """Make and send the frame of a message of ``size`` bytes."""
        if self._ws_client:
            return self._ws_put(build_frame(head, payload, new_mask()), size)
        if len(payload) < GATHER_FROM or type(payload) is not bytes:
            return self._ws_put(build_frame(head, payload, None), size)
        self._ws_count(len(payload), size)
        self._ws_write_pieces(build_header(head, len(payload)), payload)
        return SENT if self._ws_write_waiters is None else FULL

    def _ws_send_encoded(self, message: Encoded) -> int:
        """Send a prepared message in the frame that other connections use, if this one can use it."""
        if self._ws_client or self._ws_pack is not None or message._plain is None:
            return SLOW
        return self._ws_put(message._plain, message._size)

    def _ws_count(self, payload: int, size: int) -> None:
        """Count a message of ``size`` bytes, in a frame with ``payload`` bytes."""
        self._ws_messages_sent += 1
        self._ws_payload_sent += payload
        self._ws_saved_sent += size - payload

    def _ws_put(self, frame: bytes, size: int) -> int:
        """Send the frame of a message of ``size`` bytes; hold it back while the receive queue has messages."""
        self._ws_count(payload_length(frame), size)
        hold = self._ws_queue and self._ws_write_waiters is None
        if hold or self._ws_corked:
            self._ws_append(frame)
            if hold and self._ws_corked <= BATCH_LIMIT and self._ws_set_backstop():
                return SENT
            frame = self._ws_take_corked()
        self._ws_write_out(frame)
        return SENT if self._ws_write_waiters is None else FULL

    def _ws_hold(self, frame: bytes, size: int) -> None:
        """Hold back the frame of a message of ``size`` bytes until a flush, or until too many bytes are held back."""
        self._ws_count(payload_length(frame), size)
        self._ws_append(frame)
        if self._ws_corked > BATCH_LIMIT:
            self._ws_write_out(self._ws_take_corked())

    def _ws_append(self, frame: bytes) -> None:
        self._ws_cork = self._ws_cork or []
        self._ws_cork.append(frame)
        self._ws_corked += len(frame)

    def _ws_write_out(self, frames: bytes) -> None:
        """Write frames, unless the connection is over."""
        if self._ws_lost:
            return
        if self.transport.is_closing():
            self._ws_refuse_writing()
            return
        self._ws_bytes_sent += len(frames)
        self._ws_give(self.transport.write, frames)

    def _ws_write_last(self, frames: bytes) -> None:
        """Write frames before the end of the stream, which the caller sends at once; both may travel together."""
        self._ws_write_out(frames)

    def _ws_set_backstop(self) -> bool:
        """Have the next turn of the event loop write the frames held back; return whether it will."""
        if not self._ws_backstop:
            with contextlib.suppress(Exception):  # if this fails, the caller writes at once
                self.loop.call_soon(self._ws_uncork)
                self._ws_backstop = True
        return self._ws_backstop

    def _ws_take_corked(self) -> bytes:
        """Return the frames that were held back, and remove them."""
        frames = b"".join(self._ws_cork or ())
        self._ws_cork, self._ws_corked = None, 0
        return frames


class Messages:
    """An iterator over the messages of a connection."""

    def __init__(self, path: FastPath) -> None:
        self._path = path

    def __aiter__(self) -> Messages:
        return self

    def __anext__(self) -> Coroutine[Any, Any, Data]:
        return self._path._ws_next(True)
