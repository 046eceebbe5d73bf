"""Servers and clients of the library that meet in memory, on any event loop.

May know: the public API for asyncio, where that gets its streams, the network in memory. Must not know: how links work.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Mapping
from typing import Any

from .._session.connector import use_network
from ..asyncio import client as clients
from ..asyncio._serving import answering_of
from ..asyncio.client import ClientConnection
from ..asyncio.connection import Connection
from ..asyncio.server import Handler, Server, ServerConnection, serve
from ._asyncio_network import Network
from ._asyncio_server import MemoryServer
from ._link import Link, MemorySocket, break_blocked
from ._loop import VirtualClockLoop

__all__ = ["InMemoryServer", "connected_pair", "link_of", "serve_in_memory"]

# A server that listens at all addresses of a family is reached at this one.
_REACHED_AT = {"0.0.0.0": "127.0.0.1", "::": "::1"}


class InMemoryServer:
    """A server that can only be reached through this object; :func:`serve_in_memory` makes it.

    Attributes:
        server: the :class:`~websockets.asyncio.server.Server`, running.
        network: the :class:`Network` that it is in.
        uri: its address, such as ``ws://localhost:20000``.
    """

    server: Server
    network: Network
    uri: str

    def __init__(self, server: Server, network: Network) -> None:
        assert isinstance(server.server, MemoryServer)
        self.server = server
        self.network = network
        self._listening: MemoryServer = server.server
        address = self._listening.sockets[0].getsockname()
        scheme = "ws" if answering_of(server).options.context is None else "wss"
        if isinstance(address, str):
            self.uri = f"{scheme}://localhost"
            self._place: dict[str, Any] = {"unix": True, "path": address}
        else:
            self.uri = f"{scheme}://localhost:{address[1]}"
            self._place = {"host": _REACHED_AT.get(address[0], address[0]), "port": address[1]}

    @property
    def links(self) -> list[Link]:
        """The :class:`Link` of every connection that was made to this server, in order."""
        return self._listening.links

    def connect(self, path: str = "/", **options: Any) -> clients.connect:
        """Connect to the server: await it, use it in ``async with``, or iterate over it to connect again and again.

        Parameters:
            path: path and query of the request; or a whole URI. The server sees host, port and path of that URI, but
                the connection always leads to this server.
            **options: as for :class:`~websockets.asyncio.client.connect`. ``local_addr=("10.1.2.3", 0)`` makes the
                client come from another address. No proxy is used unless ``proxy`` is given; a proxy in memory needs
                a :class:`VirtualClockLoop`.

        Returns:
            A :class:`~websockets.asyncio.client.connect`; see there for what it raises.
        """
        uri = path if "://" in path else self.uri + path
        connecting = clients.connect(uri, **{"proxy": None, **self._place, **options})
        use_network(connecting, self.network)
        return connecting


@contextlib.asynccontextmanager
async def serve_in_memory(
    app: Handler | Server, *, network: Network | None = None, **options: Any
) -> AsyncIterator[InMemoryServer]:
    """Run a server in memory: opening handshakes, frames and TLS are real, but there is no socket.

    It works on every event loop. On exit the server is closed, as by ``async with serve(...)``. Before that, the
    connections on which nothing passes, after :meth:`Link.hold` or :meth:`Link.drop`, are broken.

    Parameters:
        app: connection handler, as for :func:`~websockets.asyncio.server.serve`; or the object that ``serve``,
            ``unix_serve`` or :func:`~websockets.asyncio.router.route` returned, before it is awaited.
        network: where to listen; by default the network of a running :class:`VirtualClockLoop`, or else a new one, with
            no delay and no faults.
        **options: for ``serve``, if ``app`` is a handler.

    Returns:
        An async context manager that gives an :class:`InMemoryServer`.

    Raises:
        TypeError: ``app`` is a server and there are options as well.
        RuntimeError: ``app`` is a server that listens already.
        OSError: another server listens at the same address of the network.
    """
    if isinstance(app, Server):
        if options:
            raise TypeError(f"options must be given when the server is made: {', '.join(options)}")
        if app.server is not None:
            raise RuntimeError("the server listens already")
        server = app
    else:
        server = serve(app, **{"host": "localhost", "port": 0, **options})
    server._ws_streams = network = _network(network)
    async with server:
        serving = InMemoryServer(server, network)
        try:
            yield serving
        finally:
            break_blocked(serving.links)


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

    It works on every event loop. On exit both ends are closed.

    Parameters:
        path: path and query of the request, or a whole URI; see :meth:`InMemoryServer.connect`.
        client: options of the client alone, as for :class:`~websockets.asyncio.client.connect`.
        server: options of the server alone, as for :func:`~websockets.asyncio.server.serve`.
        network: as for :func:`serve_in_memory`.
        **options: options of both: ``compression``, ``max_size``, ``ping_interval``, ``subprotocols``...

    Returns:
        An async context manager that gives a :class:`~websockets.asyncio.client.ClientConnection` and a
        :class:`~websockets.asyncio.server.ServerConnection`.

    Raises:
        InvalidHandshake: the opening handshake fails, because of the options.
        TimeoutError: it takes too long.
    """
    opened: asyncio.Future[ServerConnection] = asyncio.get_running_loop().create_future()

    async def handler(connection: ServerConnection) -> None:
        opened.set_result(connection)
        await connection.wait_closed()

    async with serve_in_memory(handler, network=network, **{**options, **(server or {})}) as serving:
        ours = await serving.connect(path, **{**options, **(client or {})})
        theirs = await opened
        try:
            yield ours, theirs
        finally:
            break_blocked(serving.links)
            # Both ends close at once, because an end that has stopped reading would not see the other one close.
            await asyncio.gather(ours.close(), theirs.close())


def _network(network: Network | None) -> Network:
    """Return the network to use: the one given, that of the loop, or a new one."""
    loop = asyncio.get_running_loop()
    if network is None:
        network = loop.network if isinstance(loop, VirtualClockLoop) else Network()
    return network


def link_of(connection: Connection) -> Link:
    """Return the link that a connection runs on, which has the faults.

    Parameters:
        connection: either end of a connection in memory.

    Raises:
        TypeError: it isn't in memory.
    """
    socket = connection.transport.get_extra_info("socket")
    if not isinstance(socket, MemorySocket):
        raise TypeError(f"{connection!r} isn't in memory")
    return socket.link
