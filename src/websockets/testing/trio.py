"""Tests without a network on trio: servers and clients in memory, faults on demand, and a virtual clock.

Test a whole app::

    from websockets.testing.trio import run, serve_in_memory

    async def echoes():
        async with serve_in_memory(handler) as server:
            async with server.connect("/chat?room=1") as websocket:
                await websocket.send("Hello!")
                assert await websocket.recv() == "Hello!"

    def test_echo():
        run(echoes)

Names and parameters are those of :mod:`websockets.testing`, where :class:`~websockets.testing.Link` and the conditions
of a network are explained. :func:`run` has a virtual clock, trio's :class:`~trio.testing.MockClock`: when there is
nothing to do, time jumps to the next deadline. In it, ``connect()``, ``serve()`` and trio's own functions use the
network in memory, so a program runs as it is. ``serve_in_memory`` and ``connected_pair`` also work in any other run,
for instance in a test of pytest-trio.

A program that waits for ever isn't noticed; put ``trio.fail_after(3600)`` around it, which takes no real time.

May know: the public API for trio, and where that gets its streams. Only tests import it.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from .._session.connector import use_network
from ..trio import client as clients
from ..trio._wire import socket_of
from ..trio.client import ClientConnection
from ..trio.connection import Connection
from ..trio.router import route
from ..trio.server import Handler, Server, ServerConnection, serve
from ._link import Direction, Link, break_blocked
from ._trio_network import Network, StreamSocket

import trio  # isort: skip  # after ours, whose error says how to install it
import trio.testing  # isort: skip

if TYPE_CHECKING:
    from werkzeug.routing import Map

__all__ = ["Direction", "InMemoryServer", "Link", "Network", "connected_pair", "link_of", "run", "serve_in_memory"]

_T = TypeVar("_T")

_NETWORK: trio.lowlevel.RunVar[Network | None] = trio.lowlevel.RunVar("websockets.testing.trio", None)

# A server that listens at all addresses is reached at this one.
_REACHED_AT = {"0.0.0.0": "127.0.0.1", "::": "::1"}


def run(
    async_fn: Callable[..., Awaitable[_T]],
    *args: Any,
    network: Network | None = None,
    instruments: Sequence[trio.abc.Instrument] = (),
) -> _T:
    """Run an async function on a virtual clock, with a network in memory in place of the real one.

    Parameters:
        async_fn: the async function.
        *args: its arguments.
        network: the network; a new one by default, with no delay and no faults.
        instruments: as for :func:`trio.run`.

    Returns:
        The result of the function.

    Raises:
        BaseException: the function raises it.
    """
    used = network or Network()

    async def main() -> _T:
        _NETWORK.set(used)
        trio.socket.set_custom_socket_factory(used)
        trio.socket.set_custom_hostname_resolver(used)
        used.scheduler.start()
        return await async_fn(*args)

    clock = trio.testing.MockClock(autojump_threshold=0)
    return trio.run(main, clock=clock, instruments=instruments, strict_exception_groups=True)


class InMemoryServer:
    """A server that can only be reached through this object; :func:`serve_in_memory` makes it.

    Attributes:
        server: the :class:`~websockets.trio.server.Server`, running.
        network: the :class:`Network` that it is in.
        uri: its address, such as ``ws://localhost:20000``.
    """

    def __init__(self, server: Server, network: Network, sock: StreamSocket, secure: bool) -> None:
        self.server = server
        self.network = network
        self._sock = sock
        host, port = sock.getsockname()[:2]
        self.uri = f"{'wss' if secure else 'ws'}://localhost:{port}"
        self._place = {"host": _REACHED_AT.get(host, host), "port": port}

    @property
    def links(self) -> list[Link]:
        """The :class:`~websockets.testing.Link` of every connection that was made to this server, in order."""
        return self._sock.links

    def connect(self, path: str = "/", **options: Any) -> clients.connect:
        """Connect to the server: use it in ``async with``, or iterate over it to connect again and again.

        Parameters:
            path: path and query of the request; or a whole URI. The server sees host, port and path of that URI, but
                the connection always leads to this server.
            **options: as for :class:`~websockets.trio.client.connect`. ``local_address="10.1.2.3"`` makes the client
                come from another address. No proxy is used unless ``proxy`` is given.

        Returns:
            A :class:`~websockets.trio.client.connect`; see there for what it raises.
        """
        uri = path if "://" in path else self.uri + path
        connecting = clients.connect(uri, **{"proxy": None, **self._place, **options})
        use_network(connecting, self.network)
        return connecting


@contextlib.asynccontextmanager
async def serve_in_memory(
    app: Handler | Map, *, network: Network | None = None, **options: Any
) -> AsyncIterator[InMemoryServer]:
    """Run a server in memory: opening handshakes, frames and TLS are real, but there is no socket.

    On exit the server is closed, and its handlers are waited for. Before that, the connections on which nothing passes,
    after :meth:`Link.hold <websockets.testing.Link.hold>` or ``drop()``, are broken. An exception of the block, or its
    cancellation, ends the handlers at once.

    Parameters:
        app: connection handler, as for :func:`~websockets.trio.server.serve`; or a URL map, as for
            :func:`~websockets.trio.router.route`.
        network: where to listen; by default the network of :func:`run`, or else a new one, with no delay and no faults.
        **options: for ``serve`` or ``route``.

    Returns:
        An async context manager that gives an :class:`InMemoryServer`.

    Raises:
        OSError: another server listens at the same address of the network.
    """
    used = network or _NETWORK.get() or Network()
    listener = await used.open_listener(options.pop("host", "localhost"), options.pop("port", 0))
    start: Any = serve if callable(app) else route
    failure: BaseException | None = None
    async with trio.open_nursery(strict_exception_groups=True) as nursery:
        try:
            server = await nursery.start(functools.partial(start, app, listeners=[listener], **options))
            sock: Any = listener.socket
            serving = InMemoryServer(server, used, sock, secure=options.get("ssl") is not None)
            yield serving
            break_blocked(serving.links)
            await server.aclose()
        except BaseException as exc:
            # The nursery would put it into a group.
            failure = exc
            listener.socket.close()
            nursery.cancel_scope.cancel()
    if failure is not None:
        raise failure


@contextlib.asynccontextmanager
async def connected_pair(
    path: str = "/",
    *,
    client: Mapping[str, Any] | None = None,
    server: Mapping[str, Any] | None = None,
    network: Network | None = None,
    **options: Any,
) -> AsyncIterator[tuple[ClientConnection, ServerConnection]]:
    """Connect a client and a server to each other in memory: two ends of one connection, after an opening handshake.

    On exit both ends are closed.

    Parameters:
        path: path and query of the request, or a whole URI; see :meth:`InMemoryServer.connect`.
        client: options of the client alone, as for :class:`~websockets.trio.client.connect`.
        server: options of the server alone, as for :func:`~websockets.trio.server.serve`.
        network: as for :func:`serve_in_memory`.
        **options: options of both: ``compression``, ``max_size``, ``ping_interval``, ``subprotocols``...

    Returns:
        An async context manager that gives a :class:`~websockets.trio.client.ClientConnection` and a
        :class:`~websockets.trio.server.ServerConnection`.

    Raises:
        InvalidHandshake: the opening handshake fails, because of the options.
        TimeoutError: it takes too long.
    """
    opened: list[ServerConnection] = []
    running = trio.Event()

    async def handler(connection: ServerConnection) -> None:
        opened.append(connection)
        running.set()
        await connection.wait_closed()

    async with serve_in_memory(handler, network=network, **{**options, **(server or {})}) as serving:
        async with serving.connect(path, **{**options, **(client or {})}) as ours:
            await running.wait()
            try:
                yield ours, opened[0]
            finally:
                break_blocked(serving.links)
                # Both ends close at once, because an end that has stopped reading would not see the other one close.
                async with trio.open_nursery(strict_exception_groups=True) as nursery:
                    nursery.start_soon(ours.aclose)
                    nursery.start_soon(opened[0].aclose)


def link_of(connection: Connection) -> Link:
    """Return the link that a connection runs on, which has the faults.

    Parameters:
        connection: either end of a connection in memory.

    Raises:
        TypeError: it isn't in memory.
    """
    sock = socket_of(connection.stream)
    if not isinstance(sock, StreamSocket) or sock.end is None:
        raise TypeError(f"{connection!r} isn't in memory")
    return sock.end.link
