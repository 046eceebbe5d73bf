"""A WebSocket connection on asyncio: what waits, between the session and the transport.

May know: the loop, the transport, futures. Must not know: frames, close codes, what is due when: that is the session's.

Every way into this file, a read, a timer, a call of the user, ends the same way: tell the session, then, if it is
restless, :meth:`Connection._attend`: write what it has to say and wake whom it concerns.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import logging
from collections import deque
from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Iterable
from types import TracebackType
from typing import Any, Literal, NoReturn, Self, cast, overload

from .._face import Face
from .._lifecycle import State
from .._messages import (
    OPCODE_BINARY,
    OPCODE_TEXT,
    Assembly,
    Missing,
    converter,
    encode_item,
    encode_message,
    fragment_converter,
    refuse_mapping,
)
from .._options import queue_marks, write_marks
from .._session import Session, Timing
from .._timers import Entry
from ..exceptions import ConcurrencyError, ConnectionClosedOK, InvalidState
from ..frames import CloseCode, Opcode
from ..protocol import Protocol
from ..typing import BytesLike, Data, DataLike, LoggerLike
from ._loops import Ringing, loop_state
from ._waiter import Waiter

__all__ = ["Connection"]

# One object serves all the connections of a server.
_timing = functools.lru_cache(maxsize=64)(Timing)

# After so many messages without a wait, recv() lets the other tasks of the loop run.
BURST = 256

# So many bytes are written at once, however many messages wait.
CORK_LIMIT = 2**16

# When a loop over an async generator is left, asyncio closes the generator in a task of its own.
STEPS_TO_CLOSE_A_GENERATOR = 3


class Connection(Face, asyncio.BufferedProtocol, asyncio.Protocol):
    """A WebSocket connection.

    It is made by :func:`~websockets.asyncio.client.connect` or :func:`~websockets.asyncio.server.serve`. It is an async
    context manager that closes the connection with code 1000, or 1011 after an exception, and an async iterator over
    the messages received.

    Parameters:
        protocol: sans-I/O connection.
        ping_interval: seconds between keepalive pings; None for no keepalive.
        ping_timeout: seconds to wait for a sign of life after such a ping; None to never give up.
        close_timeout: seconds that closing may take before the TCP connection is aborted; None for no limit.
        max_queue: number of frames received and not yet read above which reading pauses, and, as the second item of a
            tuple, the number at which it resumes; None for no limit.
        write_limit: bytes waiting to be sent above which :meth:`send` waits, and, as the second item of a tuple, the
            number of bytes at which it goes on.
    """

    # Made when something needs them; an idle connection stays small.
    transport: asyncio.Transport
    _logger: LoggerLike | None = None
    _entry: Entry[Ringing] | None = None
    _receiver: Waiter | None = None
    _streaming: bool = False
    _burst: int = 0
    _lost: bool = False
    _closing: asyncio.Future[None] | None = None
    _corked: int = 0  # bytes accepted by send() that wait for the answers to other messages of the same read
    _backstop: bool = False  # whether the loop is going to see to them
    _drainers: deque[asyncio.Future[None]] | None = None
    # Held while a fragmented message is being sent; None while nobody sends one, so that send() needs no lock.
    _send_lock: asyncio.Lock | None = None
    _senders: int = 0

    def __init__(
        self,
        protocol: Protocol,
        *,
        ping_interval: float | None = 20,
        ping_timeout: float | None = 20,
        close_timeout: float | None = 10,
        max_queue: int | tuple[int | None, int | None] | None = 16,
        write_limit: int | tuple[int, int | None] = 2**15,
    ) -> None:
        self.protocol = protocol
        self.loop = asyncio.get_running_loop()
        self._shared = loop_state(self.loop)
        self._write_limit = write_limit
        timing = _timing(ping_interval, ping_timeout, close_timeout)
        self._session = Session(protocol, timing, queue_marks(max_queue))
        if protocol.logger.isEnabledFor(logging.INFO):
            # Otherwise the protocol has nothing to say that needs to lead to the connection.
            protocol.logger = self.logger

    def _address(self, name: str) -> Any:
        return self.transport.get_extra_info(name)

    # ------------------------------------------------------------------------------------------------ context, iterator

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close(CloseCode.NORMAL_CLOSURE if exc_type is None else CloseCode.INTERNAL_ERROR)

    async def __aiter__(self) -> AsyncIterator[Data]:
        """Messages, until the connection closes normally.

        Raises:
            ConnectionClosedError: the connection closed otherwise.
        """
        try:
            while True:
                yield await self.recv()
        except ConnectionClosedOK:
            return

    # -------------------------------------------------------------------------------------------------------- receiving

    @overload
    async def recv(self, decode: Literal[True]) -> str: ...
    @overload
    async def recv(self, decode: Literal[False]) -> bytes: ...
    @overload
    async def recv(self, decode: bool | None = None) -> Data: ...

    async def recv(self, decode: bool | None = None) -> Data:
        """Receive the next message (RFC 6455 section 6.2). Cancelling it never loses a message.

        Parameters:
            decode: True for ``str``, False for ``bytes``, whatever the type of the message; None for ``str`` if it is
                text and ``bytes`` if it is binary.

        Returns:
            The message.

        Raises:
            ConnectionClosed: the connection is closed, and what was received before has been read.
            ConcurrencyError: another call of ``recv`` or ``recv_streaming`` waits already.
        """
        if self._receiver is not None or self._streaming:
            await self._take_turn("recv")
        if self._burst >= BURST:
            await self._let_others_run()
        inbox = self._session.inbox
        message = inbox.get()
        while isinstance(message, Missing):
            await self._wait_for_frames()
            message = inbox.get()
        self._burst += 1
        if self._session.muted and inbox.drained:
            self._resume_reading()
        return message if decode is None else await self._convert(message, decode)

    @overload
    def recv_streaming(self, decode: Literal[True]) -> AsyncIterator[str]: ...
    @overload
    def recv_streaming(self, decode: Literal[False]) -> AsyncIterator[bytes]: ...
    @overload
    def recv_streaming(self, decode: bool | None = None) -> AsyncIterator[Data]: ...

    async def recv_streaming(self, decode: bool | None = None) -> AsyncIterator[Data]:
        """Receive the next message in fragments, as they arrive (RFC 6455 section 5.4).

        Leaving the iteration early gives up the rest of the message; the next ``recv`` gets the next message.

        Parameters:
            decode: as for :meth:`recv`.

        Returns:
            An async iterator over fragments; adjacent ones may be joined.

        Raises:
            ConnectionClosed: the connection closed before the message was whole.
            ConcurrencyError: another call of ``recv`` or ``recv_streaming`` waits already.
        """
        if self._receiver is not None or self._streaming:
            await self._take_turn("recv_streaming")
        self._streaming = True
        inbox = self._session.inbox
        assembly: Assembly | None = None
        try:
            while not inbox.items:
                await self._wait_for_frames()
            first = inbox.items[0]
            if isinstance(first, Assembly):
                assembly = first
                convert = fragment_converter(decode, first.text)
                while (piece := await self._next_piece(first)) is not None:
                    yield convert(piece, first.complete and not first.waiting)
            else:
                inbox.items.popleft()
                yield await self._convert(first, decode)
        finally:
            if assembly is not None:
                inbox.release(assembly)
            self._streaming = False
            if self._session.muted and inbox.drained:
                self._resume_reading()

    async def _next_piece(self, assembly: Assembly) -> bytes | None:
        """The next fragment of a message; None after the last."""
        inbox = self._session.inbox
        while (piece := inbox.take(assembly)) is None and not assembly.complete:
            await self._wait_for_frames()
        return piece

    async def _take_turn(self, name: str) -> None:
        """Refuse a second receiver; but a stream that was left early may be about to be closed by the loop."""
        for _ in range(STEPS_TO_CLOSE_A_GENERATOR):
            if self._receiver is None:
                await asyncio.sleep(0)
        if self._receiver is not None or self._streaming:
            raise ConcurrencyError(
                f"cannot call {name} while another coroutine is already running recv or recv_streaming"
            )

    async def _wait_for_frames(self) -> None:
        """Wait until something arrives.

        Raises:
            ConnectionClosed: nothing will.
        """
        if self._lost:
            raise self._session.close_exc()
        self._session.drained()
        if self._session.restless:
            self._attend()
        if self._corked:
            self._flush()
        self._resume_reading()
        self._burst = 0
        self._receiver = Waiter(self.loop)
        try:
            await self._receiver
        finally:
            self._receiver = None

    async def _let_others_run(self) -> None:
        self._burst = 0
        self._receiver = Waiter(self.loop)
        self.loop.call_soon(self._wake_receiver)
        try:
            await self._receiver
        finally:
            self._receiver = None

    def _wake_receiver(self) -> None:
        if self._receiver is not None:
            self._receiver.wake()

    async def _convert(self, message: Data, decode: bool | None) -> Data:
        try:
            return converter(decode)(message)
        except UnicodeDecodeError as exc:
            # Text was checked when it arrived: this is a binary message that the user takes for text.
            self._session.fail(CloseCode.INVALID_DATA, f"{exc.reason} at position {exc.start}", exc)
            self._attend()
            await self._raise_closed()

    # ---------------------------------------------------------------------------------------------------------- sending

    async def send(
        self, message: DataLike | Iterable[DataLike] | AsyncIterable[DataLike], *, text: bool | None = None
    ) -> None:
        """Send a message (RFC 6455 section 6.1), and wait while too much waits to be sent.

        A ``str`` becomes a text message, bytes a binary one. The items of an iterable, all of one type, become the
        fragments of one message; other messages wait until it is complete.

        Parameters:
            message: the message.
            text: True to send bytes as text, False to send a ``str`` as binary.

        Raises:
            ConnectionClosed: the connection is closed.
            TypeError: the message, or an item of it, has no type that can be sent.
        """
        encoded = encode_message(message, text)
        if encoded is None:
            await self._send_fragments(message, text)
            return
        if self._send_lock is None:
            try:
                size = self.protocol._send_message(*encoded)
            except InvalidState:
                await self._raise_closed()
            if self._drainers is None and self._session.inbox.items and self._cork(size):
                return
        else:
            async with self._sender():
                await self._send_frame(*encoded)
        self._flush()
        if self._drainers is not None:
            await self._drain()

    def _cork(self, size: int) -> bool:
        """Hold back a frame while more received messages wait: their answers can share a write.

        Whoever reads the last of them writes; otherwise the next turn of the loop does.
        """
        self._corked += size
        if self._corked > CORK_LIMIT:
            return False
        if not self._backstop:
            self._backstop = True
            self.loop.call_soon(self._uncork)
        return True

    def _uncork(self) -> None:
        self._backstop = False
        self._flush()

    @contextlib.asynccontextmanager
    async def _sender(self) -> AsyncIterator[None]:
        """Wait in line behind a fragmented message; the lock exists as long as somebody is in the line."""
        lock = self._send_lock = self._send_lock or asyncio.Lock()
        self._senders += 1
        try:
            async with lock:
                yield
        finally:
            self._senders -= 1
            if not self._senders:
                self._send_lock = None

    async def _send_frame(self, opcode: int, payload: BytesLike, fin: bool = True, first: bool = True) -> None:
        try:
            if first:
                self.protocol._send_first(Opcode(opcode), payload, fin)
            else:
                self.protocol.send_continuation(payload, fin)
        except InvalidState:
            await self._raise_closed()
        self._flush()

    async def _send_fragments(self, message: object, text: bool | None) -> None:
        refuse_mapping(message)
        if isinstance(message, AsyncIterable):
            items = message
        elif isinstance(message, Iterable):
            items = _each(message)
        else:
            raise TypeError("data must be str, bytes, iterable, or async iterable")
        async with self._sender():
            await self._send_items(items, text)

    async def _send_items(self, items: AsyncIterable[object], text: bool | None) -> None:
        kind: bool | None = None
        try:
            async for item in items:
                first = kind is None
                kind, payload = encode_item(item, kind)
                opcode = OPCODE_TEXT if (kind if text is None else text) else OPCODE_BINARY
                await self._send_frame(opcode, payload, fin=False, first=first)
                if self._drainers is not None:
                    await self._drain()
            if kind is not None:
                await self._send_frame(0, b"", first=False)
        except BaseException as exc:
            # Cancelled before the first fragment, nothing was promised to the peer.
            if self.protocol._continuing or isinstance(exc, Exception):
                self._session.fail(CloseCode.INTERNAL_ERROR, "error in fragmented message", _as_cause(exc))
                self._attend()
            raise

    async def ping(self, data: DataLike | None = None) -> Awaitable[float]:
        """Send a ping (RFC 6455 section 5.5.2).

        Parameters:
            data: payload, at most 125 bytes; random if None.

        Returns:
            A future for the round trip in seconds. It need not be awaited. If the connection closes first, it raises
            :exc:`~websockets.exceptions.ConnectionClosed`.

        Raises:
            ConnectionClosed: the connection is closed.
            ConcurrencyError: a ping with the same payload waits for its pong.
            ProtocolError: the payload is too long.
        """
        waiter: asyncio.Future[float] = self.loop.create_future()
        try:
            self._session.ping(data, waiter, self.loop.time())
        except InvalidState:
            await self._raise_closed()
        await self._flush_and_drain()
        return waiter

    async def pong(self, data: DataLike = b"") -> None:
        """Send a pong that nobody asked for (RFC 6455 section 5.5.3). Pings are answered without being asked.

        Parameters:
            data: payload, at most 125 bytes.

        Raises:
            ConnectionClosed: the connection is closed.
            ProtocolError: the payload is too long.
        """
        try:
            self._session.pong(data)
        except InvalidState:
            await self._raise_closed()
        await self._flush_and_drain()

    async def _flush_and_drain(self) -> None:
        self._flush()
        if self._drainers is not None:
            await self._drain()

    async def _drain(self) -> None:
        """Wait until the transport takes more.

        Raises:
            ConnectionClosed: it never will.
        """
        assert self._drainers is not None
        waiter = self.loop.create_future()
        self._drainers.append(waiter)
        await waiter
        if self._lost:
            raise self._session.close_exc()

    async def _raise_closed(self) -> NoReturn:
        """Tell the user that the connection is closed, once it is and the reason is known.

        Raises:
            ConnectionClosed: always, but while the connection isn't open yet.
            InvalidState: the opening handshake isn't over.
        """
        if self.protocol.state is State.CONNECTING:
            raise InvalidState("connection is connecting")
        await self.wait_closed()
        raise self._session.close_exc()

    # ---------------------------------------------------------------------------------------------------------- closing

    async def close(self, code: int = CloseCode.NORMAL_CLOSURE, reason: str = "") -> None:
        """Close the connection (RFC 6455 section 7.1.2), and wait until it is, ``close_timeout`` seconds at most.

        Calling it again, or on a connection that is closed, has no effect but waiting.

        Parameters:
            code: close code.
            reason: text for humans, at most 123 bytes in UTF-8.

        Raises:
            ProtocolError: the code or the reason can't be sent.
        """
        self._start_closing(code, reason)
        await self.wait_closed()

    def _start_closing(self, code: int, reason: str = "") -> None:
        self._session.close(code, reason)
        if not self._lost:
            # The Close of the peer must be seen, also when nobody reads messages any more.
            self._resume_reading()
            self._attend()

    async def wait_closed(self) -> None:
        """Wait until the connection is closed: the closing handshake is over and the TCP connection too."""
        if self._lost:
            return
        if self._closing is None:
            self._closing = self.loop.create_future()
        # Many may wait; one that is cancelled must not wake the others.
        await asyncio.shield(self._closing)

    def _abort(self) -> None:
        # A transport isn't touched once it said that it is over.
        if not self._lost:
            if self.protocol.debug:
                self.logger.debug("x closing TCP connection")
            self.transport.abort()

    # ---------------------------------------------------------------------------------------- what the transport calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Called by the loop."""
        # Other loops have transports of their own, which keep the contract without the base class.
        self.transport = transport = cast(asyncio.Transport, transport)
        transport.set_write_buffer_limits(*write_marks(self._write_limit))

    def get_buffer(self, sizehint: int) -> memoryview:
        """Called by the loop: where to read into."""
        return self._shared.buffer

    def buffer_updated(self, nbytes: int) -> None:
        """Called by the loop: so much was read."""
        self.data_received(self._shared.buffer[:nbytes])

    def data_received(self, data: BytesLike) -> None:
        """Take in what a read gave; whoever waits for a message goes on before this returns."""
        session = self._session
        if session.receive_data(data):
            self._attend()
        inbox = session.inbox
        if inbox.items:
            receiver = self._receiver
            if receiver is not None:
                receiver.resume()
            elif inbox.full and not inbox.discarding and not session.muted:
                session.muted = True
                self.transport.pause_reading()

    def eof_received(self) -> None:
        """Called by the loop: the peer will send no more. The transport closes when what waits has been sent."""
        self._session.receive_eof()
        self._attend()

    def connection_lost(self, exc: Exception | None) -> None:
        """Called by the loop: the TCP connection is over."""
        if exc is not None and self.protocol.debug:
            self.logger.debug("! error while receiving data", exc_info=exc)
        waiters = self._session.connection_lost(exc)
        self._lost = True
        if self._entry is not None:
            self._shared.cancel(self._entry)
            self._entry = None
        self._attend()
        for waiter in waiters:
            _reject(waiter, self._session.close_exc())
        self._wake_receiver()
        self._wake_drainers()
        if self._closing is not None and not self._closing.done():
            self._closing.set_result(None)

    def pause_writing(self) -> None:
        """Called by the loop: too much waits to be sent."""
        self._drainers = deque()
        self._session.writing(possible=False)

    def resume_writing(self) -> None:
        """Called by the loop: little enough waits to be sent."""
        self._wake_drainers()
        self._session.writing(possible=True)
        self._flush()

    def _wake_drainers(self) -> None:
        drainers, self._drainers = self._drainers, None
        for waiter in drainers or ():
            if not waiter.done():
                waiter.set_result(None)

    def _resume_reading(self) -> None:
        if self._session.muted and not self._lost:
            self._session.muted = False
            self.transport.resume_reading()

    # -------------------------------------------------------------------------------------------------- what follows

    def _attend(self) -> None:
        """Do what follows from what the session was told."""
        for waiter, latency in self._session.attend(self.loop.time()):
            if not waiter.done():
                waiter.set_result(latency)
        self._flush()
        if not self._lost:
            self._schedule()

    def _flush(self) -> None:
        """Write what the session has to say."""
        self._corked = 0
        writes = self.protocol.data_to_send()
        if not writes or self._lost or self.transport.is_closing():
            return
        if writes[-1]:
            self.transport.write(writes[0] if len(writes) == 1 else b"".join(writes))
            return
        # An empty item is the last there can be: the end of what we send.
        if before := b"".join(writes):
            self.transport.write(before)
        self._half_close()

    def _write(self, frame: bytes) -> None:
        """Write a frame that was made for several connections."""
        if self._corked:
            self._flush()
        self.transport.write(frame)

    def _half_close(self) -> None:
        """End the sending side; where that can't be done alone, as with TLS, end the connection."""
        if self.transport.can_write_eof():
            if self.protocol.debug:
                self.logger.debug("x half-closing TCP connection")
            # A reset that nobody noticed yet is news for connection_lost(), not for whoever closes.
            with contextlib.suppress(OSError):
                self.transport.write_eof()
        else:
            if self.protocol.debug:
                self.logger.debug("x closing TCP connection")
            self.transport.close()

    def _schedule(self) -> None:
        """See to it that the session's alarm rings; an alarm that rings too early looks again."""
        when = self._session.alarm_at
        if self._entry is not None:
            if self._entry.when <= when:
                return
            self._shared.cancel(self._entry)
        self._entry = None if when == float("inf") else self._shared.call_at(when, self)

    def _ring(self, now: float) -> None:
        self._entry = None
        if now < self._session.alarm_at:
            self._schedule()
        elif self._session.ring(now):
            self._abort()
        else:
            self._attend()


async def _each(items: Iterable[object]) -> AsyncIterator[object]:
    for item in items:
        yield item


def _as_cause(exc: BaseException) -> Exception:
    return exc if isinstance(exc, Exception) else ConnectionAbortedError("sending a fragmented message was cancelled")


def _reject(waiter: asyncio.Future[Any], exc: Exception) -> None:
    """Give up on a future; nobody need know if nobody waits for it."""
    if not waiter.done():
        waiter.set_exception(exc)
        waiter.exception()  # marks it as seen
