"""WebSocket connections on trio: the methods that users call and that wait.

May know: tasks, locks, messages. Must not know: streams, frames, timeouts, who writes.
"""

from __future__ import annotations

import contextlib
import functools
import gc
import inspect
import sys
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Callable, Iterable
from types import MethodType, TracebackType
from typing import Any, Final, Literal, NoReturn, Self, overload

import trio

from .._codec.header import payload_length
from .._rules.lifecycle import Sending
from .._rules.messages import MISSING, Missing, converter
from .._rules.option_table import CLOSE, check
from .._session.fragments import Fragmenter, is_async
from .._session.reading import COUNTS_REFERENCES, Progress, Reading, second_receiver, undecodable
from ..exceptions import ConnectionClosedOK, InvalidState
from ..frames import CloseCode
from ..protocol._prepared import PreparedMessage, frame_of
from ..typing import Data, DataLike
from ._session_stream import SessionStream

__all__ = ["Connection"]

# After this number of messages without a wait, other tasks get their turn.
BURST: Final = 64

# Types of messages in one piece.
IN_ONE_PIECE: Final = (str, bytes, bytearray, memoryview, PreparedMessage)


class _MayBeLeft:
    """An async generator method whose generators may be left early.

    trio warns of a generator that is left, since it can't wait for its end. A generator that doesn't wait when it is
    closed needs no help: Python closes it itself, unless the event loop has asked to do that. So the generator takes
    its first step where nobody asks. The method must yield once before it begins; that item is dropped.

    Parameters:
        function: the async generator function.
    """

    def __init__(self, function: Callable[..., AsyncGenerator[Any]]) -> None:
        functools.update_wrapper(self, function)
        self._function = function
        # It returns async generators, and inspect shall say so.
        self.__code__ = function.__code__
        self.__defaults__ = function.__defaults__
        self.__kwdefaults__ = function.__kwdefaults__

    def __get__(self, instance: object | None, owner: object) -> Any:
        return self if instance is None else MethodType(self, instance)

    def __call__(self, *args: Any, **kwargs: Any) -> AsyncGenerator[Any]:
        generator = self._function(*args, **kwargs)
        hooks = sys.get_asyncgen_hooks()
        sys.set_asyncgen_hooks(None, None)
        try:
            first = anext(generator)
            with contextlib.suppress(StopIteration):
                first.send(None)
        finally:
            sys.set_asyncgen_hooks(*hooks)
        return generator


def may_be_left(function: Any) -> Any:
    """Decorate an async generator method whose generators may be left early; see :class:`_MayBeLeft`."""
    return _MayBeLeft(function)


class Connection(SessionStream, trio.abc.AsyncResource):
    """A WebSocket connection.

    :func:`~websockets.trio.client.connect` and :func:`~websockets.trio.server.serve` create it. It is an async context
    manager that closes the connection with code 1000, or 1011 after an exception, and an async iterator over the
    messages received. If the block is cancelled, a Close frame with code 1001 is sent if that takes no wait, and the
    connection is aborted.

    Parameters:
        nursery: where the task of the connection runs.
        stream: the connection to the peer. A :class:`trio.SocketStream` is written to by its socket.
        protocol: sans-I/O connection.
        ping_interval: seconds between keepalive pings; None for no keepalive.
        ping_timeout: seconds to wait for any data after such a ping; None to wait forever. After that time a Close
            frame with code 1011 is sent, and the TCP connection is aborted.
        close_timeout: seconds that closing may take before the TCP connection is aborted; None for no limit.
        max_queue: number of frames in the receive queue above which reading pauses, or a tuple of that number and the
            number at which reading resumes; None for no limit.
        idle_timeout: seconds without data, sent or received, after which the connection is closed with code 1001; it
            may take up to a quarter longer. Pings and pongs don't count as data. None for no limit.

    Attributes:
        nursery, stream, protocol: as the parameters.
    """

    # Set while a message is read in fragments.
    _ws_stream: Reading | None = None
    _ws_burst: int = 0
    # Held while a fragmented message is being sent; it exists as long as a task is in the line.
    _ws_send_lock: trio.Lock | None = None
    _ws_line: int = 0

    # ------------------------------------------------------------------------------------------------ context, iterator

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        # A subclass may define aclose() without parameters.
        if exc_type is None:
            await self.aclose()
        else:
            # A nursery in the block may raise a group of cancellations.
            failures = exc.split(trio.Cancelled)[1] if isinstance(exc, BaseExceptionGroup) else exc
            cancelled = failures is None or isinstance(failures, trio.Cancelled)
            await self.aclose(CloseCode.GOING_AWAY if cancelled else CloseCode.INTERNAL_ERROR)

    def __aiter__(self) -> AsyncIterator[Data]:
        """Iterate over messages until the connection closes normally.

        Raises:
            ConnectionClosedError: the connection closed with an error.
        """
        return _Messages(self)

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
        self._ws_check_run()
        if self._ws_receiver is not None or self._ws_streams:
            self._ws_take_turn("recv")
        if self._ws_inbox.items:
            await self._ws_checkpoint()
        else:
            await self._ws_wait_for_frames()
        while isinstance(message := self._ws_get(), Missing):
            await self._ws_wait_for_frames()
        # From here on nothing may wait: the message would be lost if the task were cancelled.
        return message if decode is None else await self._ws_convert(message, decode)

    def _ws_get(self) -> Data | Missing:
        """Return the next message, with its fragments joined; MISSING if it isn't complete."""
        message = self._ws_inbox.get()
        if message is not MISSING:
            self._ws_burst += 1
            if self._ws_session.intake.paused:
                self._ws_drained()
        return message

    async def _ws_checkpoint(self) -> None:
        """Be a checkpoint, before a message is taken; other tasks run only after a burst of messages."""
        if self._ws_burst < BURST:
            await trio.lowlevel.checkpoint_if_cancelled()
            return
        self._ws_burst = 0
        self._ws_receiver = trio.lowlevel.current_task()
        try:
            await trio.lowlevel.checkpoint()
        finally:
            self._ws_receiver = None

    @overload
    def recv_streaming(self, decode: Literal[True]) -> AsyncIterator[str]: ...
    @overload
    def recv_streaming(self, decode: Literal[False]) -> AsyncIterator[bytes]: ...
    @overload
    def recv_streaming(self, decode: bool | None = None) -> AsyncIterator[Data]: ...

    @may_be_left
    async def recv_streaming(self, decode: bool | None = None) -> AsyncIterator[Any]:
        """Receive the next message in fragments, as they arrive (RFC 6455 section 5.4).

        Leaving the iteration early discards the rest of the message; the next ``recv`` returns the next message.

        Parameters:
            decode: as for :meth:`recv`.

        Returns:
            An async iterator over fragments; adjacent fragments may be joined. It may be left without closing it.

        Raises:
            ConnectionClosed: the connection closed before the message was complete.
            ConcurrencyError: another call of ``recv`` or ``recv_streaming`` is already waiting.
        """
        yield None
        self._ws_check_run()
        if self._ws_receiver is not None or self._ws_streams:
            self._ws_take_turn("recv_streaming")
        reading = self._ws_stream = Reading(self._ws_inbox, decode, trio.lowlevel.current_task())
        self._ws_streams = True
        try:
            await trio.lowlevel.checkpoint_if_cancelled()
            while (piece := reading.take()) is not Progress.END:
                if piece is Progress.WAIT:
                    await self._ws_wait_for_frames()
                elif reading.fragmented:
                    yield piece
                    reading.go_on(trio.lowlevel.current_task())
                    await trio.lowlevel.checkpoint_if_cancelled()
                else:
                    yield await self._ws_convert(piece, decode)
        except GeneratorExit:
            # This may come from the garbage collector, after the end of trio's run or in another thread. Then the next
            # receiver takes over.
            reading.reader = None
            raise
        except BaseException:
            self._ws_leave_stream(reading)
            raise
        self._ws_leave_stream(reading)

    def _ws_take_turn(self, name: str) -> None:
        """Take over from an iteration over fragments that was left early; refuse a second receiver."""
        reading = self._ws_stream
        if self._ws_receiver is None and reading is not None:
            if not COUNTS_REFERENCES:
                # If the iteration was left, nothing refers to it, and collecting it tells.
                gc.collect()
            if reading.is_left(trio.lowlevel.current_task(), _is_over):
                self._ws_leave_stream(reading)
        if self._ws_receiver is not None or self._ws_streams:
            raise second_receiver(name, "coroutine")

    def _ws_leave_stream(self, reading: Reading) -> None:
        """Discard the rest of a message that was read in fragments, if any, and let others receive."""
        if self._ws_stream is reading:
            self._ws_stream, self._ws_streams = None, False
            reading.give_up()
            self._ws_drained()

    def _ws_drained(self) -> None:
        """Resume reading if the receive queue has room."""
        intake = self._ws_session.intake
        if intake.paused:
            intake.check_drained()
            if not intake.paused:
                self._ws_unpark()

    async def _ws_wait_for_frames(self) -> None:
        """Wait until something arrives.

        Raises:
            ConnectionClosed: nothing more will arrive.
        """
        session = self._ws_session
        if self._ws_lost:
            # If a scope around the block was cancelled, that is the news; the connection is lost because of it.
            await trio.lowlevel.checkpoint_if_cancelled()
            raise session.close_exc()
        if session.port.failure_held:
            session.drained()
            self._ws_process_events()
            self._ws_write_soon()
        if session.intake.paused:
            self._ws_resume_reading()
        self._ws_burst = 0
        self._ws_receiver, self._ws_receiver_waits = trio.lowlevel.current_task(), True
        try:
            await trio.lowlevel.wait_task_rescheduled(self._ws_stop_waiting)
        finally:
            self._ws_receiver = None

    def _ws_stop_waiting(self, _: Callable[[], NoReturn]) -> trio.lowlevel.Abort:
        self._ws_receiver_waits = False
        return trio.lowlevel.Abort.SUCCEEDED

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
        """Send a message (RFC 6455 section 6.1); wait until it is written to the network (back-pressure).

        If this is cancelled, the message is sent whole or not at all, with two exceptions. A message in fragments can't
        be completed, so the connection fails with code 1011. And a stream that isn't a socket doesn't tell what it
        wrote, so the connection is aborted.

        Parameters:
            message: the message; for a message to many connections, a :class:`~websockets.PreparedMessage`.
            text: True to send bytes as text, False to send a ``str`` as binary; None to go by the type.
            compress: True to compress the message, False not to compress it; None to compress it unless it is small.
                It has an effect only if permessage-deflate was negotiated.

        Raises:
            ConnectionClosed: the connection is closed; an iterable isn't iterated over in this case.
            TypeError: the message, or one of its items, has a type that can't be sent.
        """
        self._ws_check_run()
        await trio.lowlevel.checkpoint_if_cancelled()
        if self._ws_send_lock is not None and isinstance(message, IN_ONE_PIECE):
            async with self._ws_sender():
                pass
        try:
            made = frame_of(self.protocol, message, text, compress)
        except InvalidState:
            await self._ws_raise_closed()
        if made is None:
            await self._ws_send_fragments(message, text, compress)
        else:
            self._ws_count(*made)
            await self._ws_write_frame(made[0])

    def _ws_count(self, frame: bytes, size: int) -> None:
        """Count the frame of a message of ``size`` bytes."""
        payload = payload_length(frame)
        self._ws_messages_sent += 1
        self._ws_payload_sent += payload
        self._ws_saved_sent += size - payload

    @contextlib.asynccontextmanager
    async def _ws_sender(self) -> AsyncIterator[None]:
        """Wait in line behind a fragmented message."""
        lock = self._ws_send_lock = self._ws_send_lock or trio.Lock()
        self._ws_line += 1
        try:
            async with lock:
                yield
        finally:
            self._ws_line -= 1
            if not self._ws_line:
                self._ws_send_lock = None

    async def _ws_send_fragments(self, message: Any, text: bool | None, compress: bool | None) -> None:
        items: Any = aiter(message if is_async(message) else _Each(message))
        if self._ws_session.port.life.sending is not Sending.OPEN:
            # Don't ask the iterable for items: it may wait forever.
            await self._ws_raise_closed()
        try:
            # The message begins with its first item; until then other messages can be sent.
            first = await anext(items, MISSING)
            if first is not MISSING:
                fragments = Fragmenter(self.protocol, first, text, compress)
                async with self._ws_sender():
                    await self._ws_send_items(fragments, items)
                await self._ws_write_to(self._ws_wire.outbox.accepted)
        finally:
            if inspect.isasyncgen(items):
                # trio warns of a generator that is left. Nobody else can close one that was made for this call.
                await items.aclose()

    async def _ws_send_items(self, fragments: Fragmenter, rest: AsyncIterator[object]) -> None:
        """Send a fragmented message, given its first item and an iterator over the rest; don't wait for its end."""
        try:
            await self._ws_send_frame(fragments.start)
            async for item in rest:
                await self._ws_send_frame(fragments.add, item)
            await self._ws_put_by(fragments.finish)
        except BaseException as exc:
            if (failure := fragments.failure(exc)) is not None:
                self._ws_fail(*failure)
            raise

    async def _ws_send_frame(self, send: Callable[..., None], *arguments: object) -> None:
        """Send a frame, and wait until it is written."""
        await self._ws_put_by(send, *arguments)
        await self._ws_write_to(self._ws_wire.outbox.accepted)

    async def _ws_put_by(self, send: Callable[..., None], *arguments: object) -> None:
        """Have a frame put into the write buffer, unless the connection is closed."""
        await trio.lowlevel.checkpoint_if_cancelled()
        try:
            send(*arguments)
        except InvalidState:
            await self._ws_raise_closed()
        self._ws_process_events()

    async def ping(self, data: DataLike | None = None, *, ack_on_close: bool = False) -> trio.Event:
        """Send a ping (RFC 6455 section 5.5.2).

        Parameters:
            data: payload, at most 125 bytes; random if None.
            ack_on_close: True to set the event when the connection closes, too.

        Returns:
            An event that is set when the pong arrives; :attr:`latency` is the round-trip time then. It doesn't have to
            be awaited.

        Raises:
            ConnectionClosed: the connection is closed.
            ConcurrencyError: another ping with the same payload is waiting for its pong.
            ProtocolError: the payload is too long.
        """
        self._ws_check_run()
        answered = trio.Event()
        await self._ws_send_frame(self._ws_session.ping, data, (answered, ack_on_close), trio.current_time())
        return answered

    async def pong(self, data: DataLike = b"") -> None:
        """Send an unsolicited pong (RFC 6455 section 5.5.3). Pings are answered automatically.

        Parameters:
            data: payload, at most 125 bytes.

        Raises:
            ConnectionClosed: the connection is closed.
            ProtocolError: the payload is too long.
        """
        self._ws_check_run()
        await self._ws_send_frame(self._ws_session.pong, data)

    # ---------------------------------------------------------------------------------------------------------- closing

    async def aclose(
        self, code: int = CloseCode.NORMAL_CLOSURE, reason: str = "", *, timeout: float | None = None
    ) -> None:
        """Close the connection (RFC 6455 section 7.1.2), and wait until it is closed.

        If that takes longer than ``timeout``, or ``close_timeout`` if ``timeout`` is None, the TCP connection is
        aborted. It is aborted at once if this is cancelled; then the Close frame is sent only if that takes no wait.
        Calling this again, or on a closed connection, only waits.

        Parameters:
            code: close code.
            reason: text for humans, at most 123 bytes in UTF-8.
            timeout: seconds from now that closing may take; None for the ``close_timeout`` of the connection.

        Raises:
            ProtocolError: the code or the reason can't be sent; the connection stays open.
            TypeError: the code isn't an ``int``, the reason isn't a ``str``, or the timeout isn't a number.
            ValueError: the timeout is negative.
        """
        self._ws_check_run()
        if timeout is not None:
            timeout = check("timeout", timeout, CLOSE)
        self._ws_begin_closing(code, reason, timeout)
        try:
            # If this is cancelled already, no other task shall be asked to write.
            await trio.lowlevel.checkpoint_if_cancelled()
            await self._ws_write_own()
            await self.wait_closed()
        except BaseException:
            await self._ws_leave(code, reason)
            raise


class _Messages:
    """The messages of a connection, with the interface of an async generator."""

    __slots__ = ("_connection",)

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Data:
        try:
            return await self._connection.recv()
        except ConnectionClosedOK:
            raise StopAsyncIteration from None

    async def aclose(self) -> None:
        """Do nothing; :func:`contextlib.aclosing` calls this."""


class _Each:
    """The items of an iterable, as an async iterator that may be left."""

    __slots__ = ("_items",)

    def __init__(self, items: Iterable[object]) -> None:
        self._items = iter(items)

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> object:
        for item in self._items:
            return item
        raise StopAsyncIteration


def _is_over(task: trio.lowlevel.Task) -> bool:
    return inspect.getcoroutinestate(task.coro) == inspect.CORO_CLOSED
