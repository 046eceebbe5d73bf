"""A WebSocket connection on asyncio: what users call, in as far as it waits.

May know: tasks, futures, messages. Must not know: the transport beyond its link, frames, what is due when.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import sys
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
from .._session.reading import Progress, Reading, second_receiver, undecodable
from ..exceptions import ConnectionClosedOK, InvalidState
from ..frames import CloseCode
from ..protocol._prepared import PreparedMessage, frame_for, prepare, size_of
from ..typing import Data, DataLike
from ._fastpath import FULL, SLOW, Messages, Waiter
from ._fastpath._readable import BURST
from ._session_transport import SessionTransport

__all__ = ["Connection"]

# Whether an object is collected as soon as nobody refers to it.
COUNTS_REFERENCES = sys.implementation.name == "cpython"

# When a loop over an async generator is left, asyncio closes the generator in a task of its own, once it is collected.
STEPS_TO_CLOSE_A_GENERATOR = 3


class Connection(SessionTransport):
    """A WebSocket connection.

    It is made by :func:`~websockets.asyncio.client.connect` or :func:`~websockets.asyncio.server.serve`. It is an async
    context manager that closes the connection with code 1000, or 1011 after an exception, and an async iterator over
    the messages received.

    Parameters:
        protocol: sans-I/O connection.
        ping_interval: seconds between keepalive pings; None for no keepalive.
        ping_timeout: seconds to wait for a sign of life after such a ping; None to never give up. Then a Close with
            1011 is sent, and the TCP connection ends at once.
        close_timeout: seconds that closing may take before the TCP connection is aborted; None for no limit.
        max_queue: number of frames received and not yet read above which reading pauses, and, as the second item of a
            tuple, the number at which it resumes; None for no limit.
        write_limit: bytes waiting to be sent above which :meth:`send` waits, and, as the second item of a tuple, the
            number of bytes at which it goes on.
        idle_timeout: seconds without data, sent or received, after which the connection is closed with 1001, or up to a
            quarter of them later; pings don't count. None for no limit.
    """

    # Made when something needs it; what keeps receivers from the straight way is ``_streaming``.
    _ws_stream: Reading | None = None

    # ------------------------------------------------------------------------------------------------ context, iterator

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        # A class may have a close() without parameters.
        await (self.close() if exc_type is None else self.close(CloseCode.INTERNAL_ERROR))

    def __aiter__(self) -> AsyncIterator[Data]:
        """Messages, until the connection closes normally.

        Raises:
            ConnectionClosedError: the connection closed otherwise.
        """
        # A class that has a recv() of its own iterates over what that gives.
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
        message = await self._ws_next()
        return message if decode is None else await self._ws_convert(message, decode)

    async def _ws_receive_slowly(self, iterating: bool) -> Data:
        """The next message, where that takes more than waiting for a read."""
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
        """The next message, be it one in fragments."""
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

        Leaving the iteration early gives up the rest of the message; the next ``recv`` gets the next message.

        Parameters:
            decode: as for :meth:`recv`.

        Returns:
            An async iterator over fragments; adjacent ones may be joined.

        Raises:
            ConnectionClosed: the connection closed before the message was whole.
            ConcurrencyError: another call of ``recv`` or ``recv_streaming`` waits already.
        """
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
        """Take over from a message in fragments that was left early; refuse a second receiver."""
        reading = self._ws_stream
        if self._ws_receiver is None and reading is not None:
            if reading.is_left(asyncio.current_task(), _is_over):
                self._ws_leave_stream(reading)
            elif not COUNTS_REFERENCES:
                # It was left if nobody knows it any more.
                gc.collect()
        for _ in range(STEPS_TO_CLOSE_A_GENERATOR):
            if self._ws_receiver is None and self._ws_streaming:
                await asyncio.sleep(0)
        if self._ws_receiver is not None or self._ws_streaming:
            raise second_receiver(name, "coroutine")

    def _ws_leave_stream(self, reading: Reading) -> None:
        """Give up the rest of a message that was read in fragments, if any, and let others receive."""
        self._ws_stream, self._ws_streaming = None, False
        reading.give_up()
        if self._ws_reading_paused:
            self._ws_drained()

    def _ws_before_waiting(self) -> None:
        """Make sure that waiting for something to arrive makes sense, and that nothing waits for us.

        Raises:
            ConnectionClosed: nothing will arrive.
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
        # It must be there before reading goes on: that may bring at once what is waited for.
        receiver = self._ws_receiver = Waiter(self.loop)
        try:
            self._ws_before_waiting()
            await receiver
        finally:
            self._ws_receiver = None

    async def _ws_let_others_run(self) -> None:
        self._ws_burst = 0
        # Nobody else may receive meanwhile, and a read must not take this for a wait for messages.
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
        """Send a message (RFC 6455 section 6.1), and wait while too much waits to be sent.

        A ``str`` becomes a text message, bytes a binary one. The items of an iterable, all of one type, become the
        fragments of one message; from its first item on, other messages wait until it is complete.

        Parameters:
            message: the message; one that is sent to many connections may be a
                :class:`~websockets.PreparedMessage`.
            text: True to send bytes as text, False to send a ``str`` as binary.
            compress: True to compress the message, False not to; None to compress it unless it is small. It matters
                only where permessage-deflate was negotiated.

        Raises:
            ConnectionClosed: the connection is closed; then nothing is asked of an iterable.
            TypeError: the message, or an item of it, has no type that can be sent.
        """
        sent = self._ws_send_now(message, text) if compress is None else SLOW
        if sent == SLOW:
            await self._ws_send_slowly(message, text, compress)
        elif sent == FULL:
            await self._ws_drain()

    async def _ws_send_slowly(self, message: object, text: bool | None, compress: bool | None) -> None:
        """Send a message where it isn't just a frame to write."""
        prepared = prepare(message, text)
        if prepared is None:
            await self._ws_send_fragments(message, text, compress)
            return
        if self._ws_send_lock is not None:
            # Who is next in line goes on in another turn of the loop.
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
        """Wait in line behind a fragmented message; the lock exists as long as somebody is in the line."""
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
            # The iterable may wait for what never comes.
            await self._ws_raise_closed()
        try:
            # Until the first item is there nothing has begun, and other messages pass.
            first = await anext(items)
        except StopAsyncIteration:
            return
        fragments = Fragmenter(self.protocol, first, text, compress)
        async with self._ws_sender():
            await self._ws_send_items(fragments, items)

    async def _ws_send_items(self, fragments: Fragmenter, rest: AsyncIterator[object]) -> None:
        """Send a message whose first item is there."""
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
            A future for the round trip in seconds. It need not be awaited. If the connection closes first, it raises
            :exc:`~websockets.exceptions.ConnectionClosed`.

        Raises:
            ConnectionClosed: the connection is closed.
            ConcurrencyError: a ping with the same payload waits for its pong.
            ProtocolError: the payload is too long.
        """
        waiter: asyncio.Future[float] = self.loop.create_future()
        try:
            self._ws_session.ping(data, waiter, self.loop.time())
        except InvalidState:
            await self._ws_raise_closed()
        await self._ws_flush_and_drain()
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
            self._ws_session.pong(data)
        except InvalidState:
            await self._ws_raise_closed()
        await self._ws_flush_and_drain()

    async def _ws_flush_and_drain(self) -> None:
        self._ws_flush()
        if self._ws_write_waiters is not None:
            await self._ws_drain()

    async def _ws_drain(self) -> None:
        """Wait until the transport takes more.

        Raises:
            ConnectionClosed: it never will.
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
        """Close the connection (RFC 6455 section 7.1.2), and wait until it is.

        If that takes longer than ``timeout``, or else ``close_timeout`` seconds, the TCP connection is aborted.

        Calling it again, or on a connection that is closed, has no effect but waiting.

        Parameters:
            code: close code.
            reason: text for humans, at most 123 bytes in UTF-8.
            timeout: seconds that closing may take, from now on; None for the ``close_timeout`` of the connection.

        Raises:
            ProtocolError: the code or the reason can't be sent; the connection stays as it is.
            TypeError: the code isn't an ``int``, the reason isn't a ``str``, or the timeout isn't a number.
            ValueError: the timeout is negative.
        """
        if timeout is not None:
            timeout = check("timeout", timeout, CLOSE)
        self._ws_start_closing(code, reason, timeout)
        await self.wait_closed()


class _Messages(Messages):
    """The messages of a connection, as an async generator would give them."""

    __slots__ = ()

    async def aclose(self) -> None:
        """Nothing needs to be done when a loop is left; for :func:`contextlib.aclosing`."""


async def _each(items: Iterable[object]) -> AsyncIterator[object]:
    for item in items:
        yield item


def _is_over(task: asyncio.Task[Any]) -> bool:
    return task.done()


# Names from earlier releases.
if not TYPE_CHECKING:
    __getattr__ = deprecated_names(__name__)
