"""Clients and servers for programs on anyio, which run on asyncio or on trio: one API, in the shape of trio's.

May know: the public API of both front-ends, which of the two libraries runs; anyio, if a program passes one of its
streams. Must not know: private parts of the front-ends.

Which library runs is known when a function is called. On trio, everything is as in :mod:`websockets.trio`. On
asyncio, connections and servers are those of :mod:`websockets.asyncio` with the methods of trio's. Options that aren't
named here are passed on, so those that only one of the front-ends has can be used on that one.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, Self

from .asyncio import client as asyncio_client
from .asyncio import router as asyncio_router
from .asyncio import server as asyncio_server
from .asyncio.server import basic_auth
from .exceptions import ConnectionClosed
from .frames import CloseCode
from .typing import DataLike

if TYPE_CHECKING:
    from werkzeug.routing import Map

    from .asyncio.server import ServerStatistics

__all__ = [
    "ClientConnection",
    "Pong",
    "Server",
    "ServerConnection",
    "basic_auth",
    "broadcast",
    "connect",
    "current_library",
    "route",
    "serve",
    "unix_connect",
]

# In bytes, of one read of a stream of anyio.
CHUNK: Final = 2**16

# The methods of a byte stream of anyio.
BYTE_STREAM: Final = ("receive", "send", "aclose")


def current_library() -> str:
    """Return which library runs here: "asyncio" or "trio".

    Raises:
        RuntimeError: none of them runs.
    """
    # If trio isn't imported, it doesn't run. In guest mode both run, and the task tells.
    trio = sys.modules.get("trio")
    if trio is not None and trio.lowlevel.in_trio_task():
        return "trio"
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        raise RuntimeError("neither asyncio nor trio is running") from None
    return "asyncio"


# ---------------------------------------------------------------------------------------------- connections on asyncio


class Pong:
    """The answer to a ping on asyncio, in the shape of :class:`trio.Event`.

    Parameters:
        latency: what ``ping()`` of the front-end for asyncio returned.
        ack_on_close: True if the end of the connection counts as an answer, too.
    """

    def __init__(self, latency: Awaitable[float], ack_on_close: bool = False) -> None:
        self._answered = asyncio.ensure_future(latency)
        self._ack_on_close = ack_on_close

    def is_set(self) -> bool:
        """Return whether the pong has arrived."""
        done = self._answered.done() and not self._answered.cancelled()
        return done and (self._ack_on_close or self._answered.exception() is None)

    async def wait(self) -> None:
        """Wait for the pong.

        Raises:
            ConnectionClosed: the connection was closed before that, and ``ack_on_close`` is False.
        """
        try:
            await asyncio.shield(self._answered)
        except ConnectionClosed:
            if not self._ack_on_close:
                raise


class _Closing:
    """The methods that a connection on asyncio has in addition."""

    async def aclose(
        self: Any, code: int = CloseCode.NORMAL_CLOSURE, reason: str = "", *, timeout: float | None = None
    ) -> None:
        """Close the connection; see :meth:`websockets.trio.connection.Connection.aclose`.

        Parameters:
            code: close code.
            reason: text for humans, at most 123 bytes in UTF-8.
            timeout: seconds from now that closing may take; None for the ``close_timeout`` of the connection.
        """
        try:
            await self.close(code, reason, timeout=timeout)
        except asyncio.CancelledError:
            self.abort()
            raise


class ClientConnection(_Closing, asyncio_client.ClientConnection):
    """The client's end of a connection on asyncio; on trio it is :class:`websockets.trio.client.ClientConnection`."""

    async def ping(  # type: ignore[override]
        self, data: DataLike | None = None, *, ack_on_close: bool = False
    ) -> Pong:
        """Send a ping; see :meth:`websockets.trio.connection.Connection.ping`."""
        return Pong(await super().ping(data), ack_on_close)


class ServerConnection(_Closing, asyncio_server.ServerConnection):
    """The server's end of a connection on asyncio; on trio it is :class:`websockets.trio.server.ServerConnection`."""

    async def ping(  # type: ignore[override]
        self, data: DataLike | None = None, *, ack_on_close: bool = False
    ) -> Pong:
        """Send a ping; see :meth:`websockets.trio.connection.Connection.ping`."""
        return Pong(await super().ping(data), ack_on_close)


# -------------------------------------------------------------------------------------------------------------- clients


class _TrioStream:
    """A byte stream of anyio as a stream of trio.

    Parameters:
        stream: the stream.
    """

    def __init__(self, stream: Any) -> None:
        self._stream = stream

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        """Receive data; nothing at the end."""
        with _errors_of_trio():
            data: bytes = await self._stream.receive(max_bytes or CHUNK)
            return data
        return b""

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        """Send data."""
        with _errors_of_trio():
            await self._stream.send(bytes(data))

    async def wait_send_all_might_not_block(self) -> None:
        """Do nothing: it isn't known when a stream takes data."""

    async def aclose(self) -> None:
        """Close the stream."""
        await self._stream.aclose()


@contextlib.contextmanager
def _errors_of_trio() -> Iterator[None]:
    """Raise errors of anyio's streams as trio's do; the end of a stream is none."""
    import anyio
    import trio

    try:
        yield
    except anyio.EndOfStream:
        pass
    except anyio.BrokenResourceError as exc:
        raise trio.BrokenResourceError(*exc.args) from exc
    except anyio.ClosedResourceError as exc:
        raise trio.ClosedResourceError(*exc.args) from exc


async def _carry(stream: Any, far: socket.socket) -> None:
    """Carry bytes on asyncio between a byte stream of anyio and a socket, until the socket is closed.

    Parameters:
        stream: the stream; it is closed at the end.
        far: one end of a pair of sockets; a connection has the other one.
    """
    import anyio

    loop = asyncio.get_running_loop()
    failures = (anyio.EndOfStream, anyio.BrokenResourceError, anyio.ClosedResourceError, OSError)

    async def receive() -> None:
        with contextlib.suppress(*failures):
            while True:
                await loop.sock_sendall(far, await stream.receive(CHUNK))
        with contextlib.suppress(OSError):
            far.shutdown(socket.SHUT_WR)

    with far:
        receiving = asyncio.ensure_future(receive())
        try:
            with contextlib.suppress(*failures):
                while data := await loop.sock_recv(far, CHUNK):
                    await stream.send(data)
        finally:
            receiving.cancel()
            await asyncio.wait([receiving])
            await stream.aclose()


class connect:
    """Connect to a WebSocket server, on the library that runs.

    Use it as an async context manager to get a connection that is closed on exit, or iterate over it with ``async for``
    to reconnect.

    Parameters:
        uri: where to connect: ``ws://`` or ``wss://``.
        **options: as for :class:`websockets.trio.client.connect` or :class:`websockets.asyncio.client.connect`. And on
            both, ``stream`` is a byte stream of anyio, such as ``anyio.abc.SocketStream``, that is open already;
            or, on trio, a stream of trio. It is closed with the connection.

    Raises:
        RuntimeError: neither asyncio nor trio is running.
        Exception: otherwise as for these classes.
    """

    # On asyncio: the stream, and the task that carries its bytes.
    _stream: Any = None
    _carrying: asyncio.Future[None] | None = None

    def __init__(self, uri: str, **options: Any) -> None:
        if (stream := options.pop("stream", None)) is not None:
            is_of_anyio = all(callable(getattr(stream, name, None)) for name in BYTE_STREAM)
            if current_library() == "trio":
                options["stream"] = _TrioStream(stream) if is_of_anyio else stream
            elif not is_of_anyio:
                raise TypeError(f"stream must be a byte stream of anyio, or None; got {type(stream).__name__}")
            else:
                self._stream = stream
                for name in ("host", "port", "sock"):
                    if options.get(name) is not None:
                        raise ValueError(f"{name} is incompatible with stream")
        self._connecting: Any = _connector("connect", (uri,), options)

    async def __aenter__(self) -> Any:
        if self._stream is None:
            return await self._connecting.__aenter__()
        near, far = socket.socketpair()
        for end in (near, far):
            end.setblocking(False)
        self._carrying = asyncio.ensure_future(_carry(self._stream, far))
        self._connecting.create_connection_kwargs["sock"] = near
        try:
            return await self._connecting.__aenter__()
        except BaseException:
            near.close()
            await self._carried()
            raise

    async def _carried(self) -> None:
        """Wait until the stream is closed, too."""
        carrying, self._carrying = self._carrying, None
        if carrying is not None:
            try:
                await asyncio.wait([carrying])
            finally:
                carrying.cancel()

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> bool | None:
        connection = self._connecting.connection
        try:
            done: bool | None = await self._connecting.__aexit__(exc_type, exc, traceback)
        except asyncio.CancelledError:
            # As on trio, a block that is cancelled leaves nothing in the background.
            connection.abort()
            raise
        finally:
            await self._carried()
        return done

    def __aiter__(self) -> AsyncIterator[Any]:
        if self._stream is not None:
            raise TypeError("a stream is for one connection: use async with")
        return aiter(self._connecting)

    def attempts(self) -> contextlib.AbstractAsyncContextManager[AsyncIterator[Any]]:
        """Return a context manager for an iteration over connections, which closes the last one when it is left."""
        if isinstance(self._connecting, asyncio_client.connect):
            return contextlib.aclosing(aiter(self._connecting))  # type: ignore[type-var]
        attempts: contextlib.AbstractAsyncContextManager[AsyncIterator[Any]] = self._connecting.attempts()
        return attempts


def unix_connect(path: str | bytes | os.PathLike[str] | None = None, uri: str | None = None, **options: Any) -> connect:
    """Connect to a WebSocket server on a Unix socket; otherwise like :class:`connect`.

    Parameters:
        path: path of the socket.
        uri: the URI for the request; ``ws://localhost/`` by default, or ``wss://localhost/`` with ``ssl``.
        **options: as for :class:`connect`.
    """
    connecting = connect.__new__(connect)
    connecting._connecting = _connector("unix_connect", (path, uri), options)
    return connecting


def _connector(function: str, place: tuple[Any, ...], options: dict[str, Any]) -> Any:
    if current_library() == "trio":
        from .trio import client as trio_client

        return getattr(trio_client, function)(*place, **options)
    options.setdefault("create_connection", ClientConnection)
    return getattr(asyncio_client, function)(*place, **options)


# -------------------------------------------------------------------------------------------------------------- servers


class Server:
    """A WebSocket server; ``await task_group.start(serve, ...)`` returns it.

    It is an async context manager that closes the server and waits until it is closed.

    Parameters:
        server: the server of the front-end.
    """

    def __init__(self, server: Any) -> None:
        self._server = server

    @property
    def connections(self) -> set[Any]:
        """The connections that are open now; a new set each time."""
        connections: set[Any] = self._server.connections
        return connections

    @property
    def statistics(self) -> ServerStatistics:
        """The statistics of the server; a new snapshot each time."""
        statistics: ServerStatistics = self._server.statistics
        return statistics

    @property
    def addresses(self) -> list[Any]:
        """The addresses at which the server listens, in the form that sockets use."""
        if isinstance(self._server, asyncio_server.Server):
            return [sock.getsockname() for sock in self._server.sockets]
        return [listener.socket.getsockname() for listener in self._server.listeners]

    async def aclose(
        self,
        close_connections: bool = True,
        code: int = CloseCode.GOING_AWAY,
        reason: str = "",
        *,
        timeout: float | None = None,
    ) -> None:
        """Close the server, and wait until it is closed; see :meth:`websockets.trio.server.Server.aclose`.

        Parameters:
            close_connections: True to close open connections; False to let them end with their handlers.
            code: close code for open connections.
            reason: close reason for open connections, at most 123 bytes in UTF-8.
            timeout: seconds that the shutdown may take; None for no limit.
        """
        if not isinstance(self._server, asyncio_server.Server):
            await self._server.aclose(close_connections, code, reason, timeout=timeout)
            return
        self._server.close(close_connections, code, reason, timeout=timeout)
        try:
            await self._server.wait_closed()
        except asyncio.CancelledError:
            self._server.close(timeout=0)
            raise

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.aclose()


class _Status:
    """What a task reports when it has started: the server, in the shape that this module gives it."""

    def __init__(self, task_status: Any) -> None:
        self._task_status = task_status

    def started(self, value: Any = None) -> None:
        if self._task_status is not None:
            self._task_status.started(Server(value))


async def serve(
    handler: Callable[[Any], Awaitable[None]],
    port: int | None = None,
    *,
    host: str | None = None,
    task_status: Any = None,
    **options: Any,
) -> None:
    """Run a WebSocket server until it is closed, on the library that runs.

    Start it in a task group::

        async with anyio.create_task_group() as tasks:
            server = await tasks.start(serve, handler, 8765)

    Cancelling it ends all handlers at once.

    Parameters:
        handler: coroutine function that is called with the connection.
        port: TCP port; 0 for any free port, see ``server.addresses``.
        host: address to listen on; None for all interfaces.
        task_status: for ``start()`` of a task group, which returns the :class:`Server`.
        **options: as for :func:`websockets.trio.server.serve` or :func:`websockets.asyncio.server.serve`.

    Raises:
        RuntimeError: neither asyncio nor trio is running.
        Exception: otherwise as for these functions.
    """
    if current_library() == "trio":
        from .trio import server as trio_server

        await trio_server.serve(handler, port, host=host, task_status=_Status(task_status), **options)
    else:
        await _serve_on_asyncio(asyncio_server.serve, (handler, host, port), task_status, options)


async def route(
    url_map: Map, port: int | None = None, *, host: str | None = None, task_status: Any = None, **options: Any
) -> None:
    """Run a WebSocket server with a handler for each path; otherwise like :func:`serve`.

    Parameters:
        url_map: :class:`werkzeug.routing.Map` whose endpoints are handlers.
        port, host, task_status: as for :func:`serve`.
        **options: as for :func:`websockets.trio.router.route` or :func:`websockets.asyncio.router.route`.
    """
    if current_library() == "trio":
        from .trio import router as trio_router

        await trio_router.route(url_map, port, host=host, task_status=_Status(task_status), **options)
    else:
        await _serve_on_asyncio(asyncio_router.route, (url_map, host, port), task_status, options)


async def _serve_on_asyncio(
    function: Callable[..., asyncio_server.Server], place: tuple[Any, ...], task_status: Any, options: dict[str, Any]
) -> None:
    options.setdefault("create_connection", ServerConnection)
    server = await function(*place, **options)
    try:
        _Status(task_status).started(server)
        await server.wait_closed()
    except BaseException:
        # If this was cancelled, handlers are cancelled, too; as on trio, none of them runs any more after this.
        server.close(timeout=0)
        await _until_closed(server)
        raise


async def _until_closed(server: asyncio_server.Server) -> None:
    """Wait although this is cancelled; the server limits the time. anyio cancels again and again."""
    closing = asyncio.ensure_future(server.wait_closed())
    while not closing.done():
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.wait([closing])


async def broadcast(connections: Iterable[Any], message: Any, **options: Any) -> None:
    """Send a message to many connections; see :func:`websockets.trio.server.broadcast`.

    Parameters:
        connections: the connections.
        message: the message.
        **options: ``text``, ``raise_exceptions``, ``on_slow`` and ``max_buffered``.
    """
    if current_library() == "trio":
        from .trio import server as trio_server

        await trio_server.broadcast(connections, message, **options)
    else:
        asyncio_server.broadcast(connections, message, **options)
