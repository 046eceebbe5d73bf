"""The path of a message between a transport and a task: the readable twin of what the accelerator has of it.

May know: the loop, the transport, the queue of what was received, how a frame is made, and the protocol between a task
and what it awaits (``_asyncio_future_blocking``, ``add_done_callback``...), which is what asyncio documents for
:func:`asyncio.isfuture`. Must not know: anything that doesn't happen to every message; for all of that the class is
derived from that connections use, and it calls its methods.

This file describes what the compiled twin does; where the two differ, this one is right.

With a plain future a message takes two turns of the loop: one to read it, one to resume the task. The second turn costs
as much as everything else that happens to a small message. So a read that has been dealt with entirely may resume the
task at once, in the task's own context, as the loop would have done.

Answers to a burst of messages share a write. As long as received messages wait to be read, frames are held back;
whoever reads the last of them writes, and otherwise the next turn of the loop does. Frames of broadcasts are held back
in the same place; ``_session.outbox`` says how they differ.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections import deque
from collections.abc import Callable, Coroutine, Generator
from contextvars import Context
from typing import TYPE_CHECKING, Any, Final, Self

from ..._codec import Encoded, FrameDecoder, Queue, build_frame, build_header, new_mask
from ..._codec.header import FIN, payload_length
from ..._rules.lifecycle import Lifecycle
from ..._rules.messages import MISSING, Missing, encode_message
from ..._session.outbox import BATCH_LIMIT, GATHER_FROM
from ...protocol import Protocol
from ...typing import BytesLike, Data
from .._internals import PLAIN_LOOPS, task_runs

__all__ = ["BATCH_LIMIT", "BURST", "FULL", "GATHER_FROM", "SENT", "SLOW", "FastPath", "Messages", "Waiter"]

# After so many messages without a wait, the other tasks of the loop get their turn.
BURST: Final = 256

# What came of an attempt to send: it takes more than there is here; done; done, and the transport has enough for now.
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
        """Remember how to resume the task."""
        self._callback, self._context = callback, context
        if self._state != _PENDING:
            self._call_soon()

    def remove_done_callback(self, callback: Callable[[Waiter], object]) -> int:
        """Forget how to resume the task."""
        own = self._callback
        removed = int(own == callback)
        if removed and self._callback is own:  # the comparison may have run anything
            self._callback = self._context = None
        return removed

    def cancel(self, msg: object = None) -> bool:
        """Called when the task is cancelled; it is resumed in the next turn of the loop, as with any future."""
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
        """Nothing, once the wait is over.

        Raises:
            asyncio.CancelledError: it was cancelled.
            asyncio.InvalidStateError: it isn't over.
        """
        if self._state == _CANCELLED:
            raise asyncio.CancelledError() if self._message is None else asyncio.CancelledError(self._message)
        if self._state == _PENDING:
            raise asyncio.InvalidStateError("result is not ready")

    def exception(self) -> None:
        """As :meth:`result`: there is never another exception."""
        self.result()

    def _end(self, how: int) -> None:
        """End the wait. If the loop takes no more calls, it hasn't ended."""
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
        """End the wait; the task goes on in the next turn of the loop."""
        if self._state == _PENDING:
            self._end(_DONE)

    def resume(self) -> None:
        """End the wait; the task goes on before this returns, unless another one runs or the loop may be re-entered.

        The caller must be done with whatever it does: the task may call it again. What a task raises to end the program
        leaves the loop in its next turn: some loops keep what is raised in a read, and the rest of it would be lost.
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
            # The context is entered already.
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
    """Numbers that every connection has: the table of names of other attributes is full."""

    __slots__ = (
        "_ws_bytes_received",
        "_ws_bytes_sent",
        "_ws_gathers",
        "_ws_messages_sent",
        "_ws_payload_sent",
        "_ws_saved_sent",
        "_ws_socket",
        "_ws_torn",
    )

    _ws_bytes_received: int
    _ws_bytes_sent: int
    _ws_gathers: bool
    _ws_messages_sent: int
    _ws_payload_sent: int
    _ws_saved_sent: int
    _ws_socket: socket.socket | None
    _ws_torn: bool

    def __new__(cls, *_arguments: object, **_options: object) -> Self:
        self = super().__new__(cls)
        self._ws_bytes_received = self._ws_bytes_sent = self._ws_messages_sent = self._ws_payload_sent = (
            self._ws_saved_sent
        ) = 0
        self._ws_socket, self._ws_torn, self._ws_gathers = None, False, False
        return self


class FastPath(_Numbers):
    """What every message passes on its way from the transport to a task, and back.

    Attributes:
        protocol, loop, transport: of the connection.
        _life: the life of the connection, and _may_send: what its sending half is while messages may be sent.
        _queue: what was received and not yet read.
        _buffer: where reads go; shared with other connections.
        _decoder: what reads may be fed to without further ado; None while there is more to it.
        _receiver: what a task that waits for a message awaits.
        _drainers: those who wait for the transport to take more; None while it does.
        _send_lock: held while a fragmented message is being sent; None while nobody sends one.
        _high: number of messages waiting above which reading pauses.
        _burst: messages taken since the last wait.
        _corked: bytes of frames held back, and _backstop: whether the loop is going to see to them.
        _streaming: whether somebody reads a message in fragments.
        _muted: whether reading is paused, as nobody asks for what was received.
        _quick: whether waiting for a message is only a matter of waiting for a read.
        _plain: whether nothing but _pack changes messages that are sent, and no line in the log shows them.
        _pack: what compresses a message: from the first byte of a frame and a payload to those to send; or None.
        _inflate: what inflates a message in one frame: from its first byte and its payload to the message, or to None
            if that fails the connection. The compiled twin calls it while it feeds the decoder; or None.
        _client: whether frames are masked.
        _lost: whether the TCP connection is over.
        _socket: where the compiled twin may write itself, whenever the transport would do no more than that; None if
            nowhere, as for a transport that is assigned anew.
        _gathers: whether the compiled twin may give the transport a frame in pieces itself.
        _torn: whether what is on the wire can't be completed, so that nothing may follow.
        _write_error: why writing failed.
        _bytes_received: bytes that were read, and _bytes_sent: those that were given to the transport.
        _messages_sent: messages in one frame, _payload_sent: the bytes of their payloads, _saved_sent: how many of them
            compression saved.
    """

    # Made when something needs them; an idle connection stays small.
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
        # What the class has that connections use.

        def _ws_receive_data(self, data: BytesLike) -> None: ...
        def _ws_hold_rest(self, rest: bytes) -> None: ...
        def _ws_pause_if_full(self) -> None: ...
        def _ws_drained(self) -> None: ...
        def _ws_receive_slowly(self, iterating: bool) -> Coroutine[Any, Any, Data]: ...
        def _ws_write_pieces(self, header: bytes, payload: bytes) -> None: ...
        def _ws_uncork(self) -> None: ...
        def _ws_give(self, write: Callable[[Any], None], data: object) -> None: ...
        def _ws_tear(self) -> None: ...

    # -------------------------------------------------------------------------------------------------------- receiving

    def get_buffer(self, sizehint: int) -> memoryview:
        """Called by the loop: where to read into. Each caller gets a view of its own, which it may release."""
        return memoryview(self._ws_buffer)

    def buffer_updated(self, nbytes: int) -> None:
        """Called by the loop: so much was read. It is taken out: the next read of any connection goes there, too."""
        self.data_received(bytes(self._ws_buffer[:nbytes]))

    def data_received(self, data: BytesLike) -> None:
        """Called by loops that bring what they read along, or by a class that wants to see what is read."""
        self._ws_receive_data(data)

    def _ws_deliver(self) -> None:
        """Messages may have arrived: somebody waits for them, or too many wait."""
        if self._ws_queue:
            if self._ws_receiver is not None:
                self._ws_receiver.resume()
            if self._ws_queue:
                self._ws_pause_if_full()

    def _ws_take(self) -> Data | Missing:
        """The next message, if it is there, in one piece, and may be taken without a wait."""
        queue = self._ws_queue
        if not queue or self._ws_receiver is not None or self._ws_streaming or self._ws_burst >= BURST:
            return MISSING
        if not isinstance(queue[0], (str, bytes)):
            return MISSING
        self._ws_burst += 1
        message: Data = queue.popleft()
        if self._ws_reading_paused:
            self._ws_drained()
        return message

    async def _ws_next(self, iterating: bool = False) -> Data:
        """The next message; ``iterating`` tells that it is for a loop, which a normal end of the connection ends."""
        message = self._ws_take()
        if isinstance(message, Missing):
            return await self._ws_receive_slowly(iterating)
        return message

    # ---------------------------------------------------------------------------------------------------------- sending

    def _ws_send_now(self, message: object, text: bool | None) -> int:
        """Send a message if nothing stands in the way of sending it at once, in one frame."""
        text = text if text is None else bool(text)  # which may run anything
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
            # Compressing may have run anything, too.
            return self._ws_send_frame(packed_head, packed, len(payload)) if self._ws_sends_at_once() else SLOW
        except BaseException:
            self._ws_tear()
            raise

    def _ws_sends_at_once(self) -> bool:
        """Whether a message may be sent at once, as far as the connection is concerned."""
        life = self._ws_life
        return (
            self._ws_plain and self._ws_send_lock is None and life.sending is self._ws_may_send and not life.continuing
        )

    def _ws_send_frame(self, head: int, payload: BytesLike, size: int) -> int:
        """Send a frame for a message of ``size`` bytes."""
        if self._ws_client:
            return self._ws_put(build_frame(head, payload, new_mask()), size)
        if len(payload) < GATHER_FROM or type(payload) is not bytes:
            return self._ws_put(build_frame(head, payload, None), size)
        self._ws_count(len(payload), size)
        self._ws_write_pieces(build_header(head, len(payload)), payload)
        return SENT if self._ws_write_waiters is None else FULL

    def _ws_send_encoded(self, message: Encoded) -> int:
        """Send a message in the frame that it was laid out in for others, if that will do here."""
        if self._ws_client or self._ws_pack is not None or message._plain is None:
            return SLOW
        return self._ws_put(message._plain, message._size)

    def _ws_count(self, payload: int, size: int) -> None:
        """Take note of a message of ``size`` bytes, in a frame with a payload of so many."""
        self._ws_messages_sent += 1
        self._ws_payload_sent += payload
        self._ws_saved_sent += size - payload

    def _ws_put(self, frame: bytes, size: int) -> int:
        """Send a message of ``size`` bytes, in its frame: hold it back while more received messages wait."""
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
        """Send a message of ``size`` bytes, in its frame, once somebody flushes or too many bytes wait."""
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
        if not self._ws_lost and not self.transport.is_closing():
            self._ws_bytes_sent += len(frames)
            self._ws_give(self.transport.write, frames)

    def _ws_set_backstop(self) -> bool:
        """See to it that what waits is written in the next turn of the loop; return whether it will be."""
        if not self._ws_backstop:
            with contextlib.suppress(Exception):  # then it is written at once
                self.loop.call_soon(self._ws_uncork)
                self._ws_backstop = True
        return self._ws_backstop

    def _ws_take_corked(self) -> bytes:
        """Take out the frames that were held back."""
        frames = b"".join(self._ws_cork or ())
        self._ws_cork, self._ws_corked = None, 0
        return frames


class Messages:
    """An iterator over the messages of a connection."""

    def __init__(self, pump: FastPath) -> None:
        self._pump = pump

    def __aiter__(self) -> Messages:
        return self

    def __anext__(self) -> Coroutine[Any, Any, Data]:
        return self._pump._ws_next(True)
