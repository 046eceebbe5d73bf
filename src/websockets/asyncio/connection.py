"""WebSocket connections on asyncio: the methods that users call and that wait.

May know: tasks, futures, messages. Must not know: the transport beyond its base class, frames, timeouts.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable, Iterable
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, Self, overload

from .._compat.deprecated import deprecated_names
from .._rules.messages import (
    MISSING,
    Missing,
    converter,
)
from .._rules.option_table import CLOSE, check
from .._session.fragments import Fragmenter, is_async
from .._session.reading import COUNTS_REFERENCES, Progress, Reading, second_receiver, undecodable
from ..exceptions import ConnectionClosedOK, InvalidState
from ..frames import CloseCode
from ..protocol._prepared import PreparedMessage, frame_for, prepare, size_of
from ..typing import Data, DataLike
from ._fastpath import FULL, SLOW, Messages, Waiter
from ._fastpath._readable import BURST
from ._session_transport import SessionTransport

__all__ = ["Connection"]

# Turns of the event loop: when a program leaves a loop over an async generator, asyncio closes the generator in a task
# of its own, after the generator is collected.
STEPS_TO_CLOSE_A_GENERATOR = 3


class Connection(SessionTransport):
    """A WebSocket connection.

    :func:`~websockets.asyncio.client.connect` and :func:`~websockets.asyncio.server.serve` create it. It is an async
    context manager that closes the connection with code 1000, or 1011 after an exception, and an async iterator over
    the messages received.

    Parameters:
        protocol: sans-I/O connection.
        ping_interval: seconds between keepalive pings; None for no keepalive.
        ping_timeout: seconds to wait for any data after such a ping; None to wait forever. After that time a Close
            frame with code 1011 is sent, and the TCP connection is aborted.
        close_timeout: seconds that closing may take before the TCP connection is aborted; None for no limit.
        max_queue: number of frames in the receive queue above which reading pauses, or a tuple of that number and the
            number at which reading resumes; None for no limit.
        write_limit: bytes in the write buffer above which :meth:`send` waits, or a tuple of that number and the number
            at which :meth:`send` continues.
        idle_timeout: seconds without data, sent or received, after which the connection is closed with code 1001; it
            may take up to a quarter longer. Pings and pongs don't count as data. None for no limit.
    """

    # Set while a message is read in fragments. The flag ``_ws_streaming`` keeps other receivers off the fast path.
    _ws_stream: Reading | None = None

    # ------------------------------------------------------------------------------------------------ context, iterator

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        # A subclass may define close() without parameters.
        await (self.close() if exc_type is None else self.close(CloseCode.INTERNAL_ERROR))

    def __aiter__(self) -> AsyncIterator[Data]:
        """Iterate over messages until the connection closes normally.

        Raises:
            ConnectionClosedError: the connection closed with an error.
        """
        # A subclass that overrides recv() iterates over the results of its recv().
        return _Messages(self) if type(self).recv is Connection.recv else self._ws_results()

    async def _ws_results(self) -> AsyncIterator[Data]:
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
        """Receive the next message (RFC 6455 section 6.2). Cancelling this never loses a message.

        Parameters:
            decode: True to return ``str`` and False to return ``bytes`` for any type of message; None to return ``str``
                for a text message and ``bytes`` for a binary message.

        Returns:
            The message.

        Raises:
            ConnectionClosed: the connection is closed, and all messages received before that have been read.
            ConcurrencyError: another call of ``recv`` or ``recv_streaming`` is already waiting.
        """
        message = await self._ws_next()
        return message if decode is None else await self._ws_convert(message, decode)

    async def _ws_receive_slowly(self, iterating: bool) -> Data:
        """Receive the next message, when the fast path can't."""
        try:
            if self._ws_receiver is not None or self._ws_streaming:
                await self._ws_take_turn("recv")
            elif self._ws_burst >= BURST:
                await self._ws_let_others_run()
            while isinstance(message := self._ws_get(), Missing):
                await self._ws_wait_for_frames()
            return message
        except ConnectionClosedOK:
            if iterating:
                raise StopAsyncIteration from None
            raise

    def _ws_get(self) -> Data | Missing:
        """Return the next message, with its fragments joined; MISSING if it isn't complete."""
        message = self._ws_session.inbox.get()
        if message is not MISSING:
            self._ws_burst += 1
            if self._ws_reading_paused:
                self._ws_drained()
        return message

    @overload
    def recv_streaming(self, decode: Literal[True]) -> AsyncIterator[str]: ...
    @overload
    def recv_streaming(self, decode: Literal[False]) -> AsyncIterator[bytes]: ...
    @overload
    def recv_streaming(self, decode: bool | None = None) -> AsyncIterator[Data]: ...

    async def recv_streaming(self, decode: bool | None = None) -> AsyncIterator[Data]:
        """Receive the next message in fragments, as they arrive (RFC 6455 section 5.4).

        Leaving the iteration early discards the rest of the message; the next ``recv`` returns the next message.

        Parameters:
            decode: as for :meth:`recv`.

        Returns:
            An async iterator over fragments; adjacent fragments may be joined.

        Raises:
            ConnectionClosed: the connection closed before the message was complete.
            ConcurrencyError: another call of ``recv`` or ``recv_streaming`` is already waiting.
        """
        self._ws_check_loop()
        if self._ws_receiver is not None or self._ws_streaming:
            await self._ws_take_turn("recv_streaming")
        reading = self._ws_stream = Reading(self._ws_session.inbox, decode, asyncio.current_task())
        self._ws_streaming = True
        try:
            while (piece := reading.take()) is not Progress.END:
                if piece is Progress.WAIT:
                    await self._ws_wait_for_frames()
                elif reading.fragmented:
                    yield piece
                    reading.go_on(asyncio.current_task())
                else:
                    yield await self._ws_convert(piece, decode)
        finally:
            if self._ws_stream is reading:
                self._ws_leave_stream(reading)

    async def _ws_take_turn(self, name: str) -> None:
        """Take over from an iteration over fragments that was left early; refuse a second receiver."""
        reading = self._ws_stream
        if self._ws_receiver is None and reading is not None:
            if reading.is_left(asyncio.current_task(), _is_over):
                self._ws_leave_stream(reading)
            elif not COUNTS_REFERENCES:
                # If the iteration was left, nothing refers to its generator, and collecting it ends the iteration.
                gc.collect()
        for _ in range(STEPS_TO_CLOSE_A_GENERATOR):
            if self._ws_receiver is None and self._ws_streaming:
                await asyncio.sleep(0)
        if self._ws_receiver is not None or self._ws_streaming:
            raise second_receiver(name, "coroutine")

    def _ws_leave_stream(self, reading: Reading) -> None:
        """Discard the rest of a message that was read in fragments, if any, and let others receive."""
        self._ws_stream, self._ws_streaming = None, False
        reading.give_up()
        if self._ws_reading_paused:
            self._ws_drained()

    def _ws_before_waiting(self) -> None:
        """Check that more data can arrive, then flush the frames held back and resume reading.

        Raises:
            ConnectionClosed: nothing more will arrive.
        """
        if self._ws_lost:
            raise self._ws_session.close_exc()
        if self._ws_session.port.failure_held:
            self._ws_session.drained()
            self._ws_process_events()
        elif self._ws_corked:
            self._ws_flush()
        self._ws_resume_reading()
        self._ws_burst = 0

    async def _ws_wait_for_frames(self) -> None:
        # Set the receiver before reading resumes: resuming may deliver a message at once.
        receiver = self._ws_receiver = Waiter(self.loop)
        try:
            self._ws_before_waiting()
            await receiver
        finally:
            self._ws_receiver = None

    async def _ws_let_others_run(self) -> None:
        self._ws_burst = 0
        # No other task may receive during this pause, and a read must not treat it as a wait for messages.
        self._ws_streaming = True
        try:
            await asyncio.sleep(0)
        finally:
            self._ws_streaming = False

    async def _ws_convert(self, message: Data, decode: bool | None) -> Data:
        try:
            return converter(decode)(message)
        except UnicodeDecodeError as exc:
            code, reason = undecodable(exc)
            self._ws_fail(code, reason, exc)
            await self._ws_raise_closed()

    # ---------------------------------------------------------------------------------------------------------- sending

    async def send(
        self,
        message: DataLike | Iterable[DataLike] | AsyncIterable[DataLike] | PreparedMessage,
        *,
        text: bool | None = None,
        compress: bool | None = None,
    ) -> None:
        """Send a message (RFC 6455 section 6.1); wait while the write buffer is full (back-pressure).

        A ``str`` is sent as a text message, bytes as a binary message. The items of an iterable, all of the same type,
        are sent as the fragments of one message; after its first item, other messages wait until it is complete.

        Parameters:
            message: the message; for a message to many connections, a :class:`~websockets.PreparedMessage`.
            text: True to send bytes as text, False to send a ``str`` as binary; None to go by the type.
            compress: True to compress the message, False not to compress it; None to compress it unless it is small.
                It has an effect only if permessage-deflate was negotiated.

        Raises:
            ConnectionClosed: the connection is closed; an iterable isn't iterated over in this case.
            TypeError: the message, or one of its items, has a type that can't be sent.
        """
        sent = self._ws_send_now(message, text) if compress is None else SLOW
        if sent == SLOW:
            await self._ws_send_slowly(message, text, compress)
        elif sent == FULL:
            await self._ws_drain()

    async def _ws_send_slowly(self, message: object, text: bool | None, compress: bool | None) -> None:
        """Send a message, when the fast path can't."""
        self._ws_check_loop()
        if self._ws_takes_turns:
            await asyncio.sleep(0)
        prepared = prepare(message, text)
        if prepared is None:
            await self._ws_send_fragments(message, text, compress)
            return
        if self._ws_send_lock is not None:
            # The next task in line continues in another turn of the event loop.
            async with self._ws_sender():
                pass
        try:
            frame = frame_for(self.protocol, prepared, compress)
        except InvalidState:
            await self._ws_raise_closed()
        if self._ws_put(frame, size_of(prepared)) == FULL:
            await self._ws_drain()

    @contextlib.asynccontextmanager
    async def _ws_sender(self) -> AsyncIterator[None]:
        """Wait in line behind a fragmented message; the lock exists as long as a task is in the line."""
        lock = self._ws_send_lock = self._ws_send_lock or asyncio.Lock()
        self._ws_senders += 1
        try:
            async with lock:
                yield
        finally:
            self._ws_senders -= 1
            if not self._ws_senders:
                self._ws_send_lock = None

    async def _ws_send_fragments(self, message: Any, text: bool | None, compress: bool | None) -> None:
        items = aiter(message if is_async(message) else _each(message))
        if self._ws_life.sending is not self._ws_may_send:
            # Don't ask the iterable for items: it may wait forever.
            await self._ws_raise_closed()
        try:
            # The message begins with its first item; until then other messages can be sent.
            first = await anext(items)
        except StopAsyncIteration:
            return
        fragments = Fragmenter(self.protocol, first, text, compress)
        async with self._ws_sender():
            await self._ws_send_items(fragments, items)

    async def _ws_send_items(self, fragments: Fragmenter, rest: AsyncIterator[object]) -> None:
        """Send a fragmented message, given its first item and an iterator over the rest."""
        try:
            await self._ws_send_fragment(fragments.start)
            async for item in rest:
                await self._ws_send_fragment(fragments.add, item)
            await self._ws_send_fragment(fragments.finish)
        except BaseException as exc:
            if (failure := fragments.failure(exc)) is not None:
                self._ws_fail(*failure)
            raise

    async def _ws_send_fragment(self, send: Callable[..., None], *item: object) -> None:
        try:
            send(*item)
        except InvalidState:
            await self._ws_raise_closed()
        await self._ws_flush_and_drain()

    async def ping(self, data: DataLike | None = None) -> Awaitable[float]:
        """Send a ping (RFC 6455 section 5.5.2).

        Parameters:
            data: payload, at most 125 bytes; random if None.

        Returns:
            A future for the round-trip time in seconds. It doesn't have to be awaited. If the connection closes first,
            it raises :exc:`~websockets.exceptions.ConnectionClosed`.

        Raises:
            ConnectionClosed: the connection is closed.
            ConcurrencyError: another ping with the same payload is waiting for its pong.
            ProtocolError: the payload is too long.
        """
        self._ws_check_loop()
        waiter: asyncio.Future[float] = self.loop.create_future()
        try:
            self._ws_session.ping(data, waiter, self.loop.time())
        except InvalidState:
            await self._ws_raise_closed()
        await self._ws_flush_and_drain()
        return waiter

    async def pong(self, data: DataLike = b"") -> None:
        """Send an unsolicited pong (RFC 6455 section 5.5.3). Pings are answered automatically.

        Parameters:
            data: payload, at most 125 bytes.

        Raises:
            ConnectionClosed: the connection is closed.
            ProtocolError: the payload is too long.
        """
        self._ws_check_loop()
        try:
            self._ws_session.pong(data)
        except InvalidState:
            await self._ws_raise_closed()
        await self._ws_flush_and_drain()

    async def _ws_flush_and_drain(self) -> None:
        self._ws_flush()
        if self._ws_write_waiters is not None:
            await self._ws_drain()
        elif self._ws_takes_turns:
            await asyncio.sleep(0)

    async def _ws_drain(self) -> None:
        """Wait until the write buffer has room.

        Raises:
            ConnectionClosed: the TCP connection is lost.
        """
        assert self._ws_write_waiters is not None
        waiter = self.loop.create_future()
        self._ws_write_waiters.append(waiter)
        await waiter
        if self._ws_lost:
            raise self._ws_session.close_exc()

    # ---------------------------------------------------------------------------------------------------------- closing

    async def close(
        self, code: int = CloseCode.NORMAL_CLOSURE, reason: str = "", *, timeout: float | None = None
    ) -> None:
        """Close the connection (RFC 6455 section 7.1.2), and wait until it is closed.

        If that takes longer than ``timeout``, or ``close_timeout`` if ``timeout`` is None, the TCP connection is
        aborted. Calling this again, or on a closed connection, only waits.

        Parameters:
            code: close code.
            reason: text for humans, at most 123 bytes in UTF-8.
            timeout: seconds from now that closing may take; None for the ``close_timeout`` of the connection.

        Raises:
            ProtocolError: the code or the reason can't be sent; the connection stays open.
            TypeError: the code isn't an ``int``, the reason isn't a ``str``, or the timeout isn't a number.
            ValueError: the timeout is negative.
        """
        self._ws_check_loop()
        if timeout is not None:
            timeout = check("timeout", timeout, CLOSE)
        self._ws_start_closing(code, reason, timeout)
        await self.wait_closed()


class _Messages(Messages):
    """The messages of a connection, with the interface of an async generator."""

    __slots__ = ()

    async def aclose(self) -> None:
        """Do nothing; :func:`contextlib.aclosing` calls this."""


async def _each(items: Iterable[object]) -> AsyncIterator[object]:
    for item in items:
        yield item


def _is_over(task: asyncio.Task[Any]) -> bool:
    return task.done()


# Names from earlier releases.
if not TYPE_CHECKING:
    __getattr__ = deprecated_names(__name__)
