"""Tests without a network for threads: servers and clients in memory, faults on demand, in real time.

Test a whole app::

    from websockets.testing.threads import serve_in_memory

    def test_echo():
        with serve_in_memory(handler) as server:
            with server.connect("/chat?room=1") as websocket:
                websocket.send("Hello!")
                assert websocket.recv(timeout=5) == "Hello!"

Names and parameters are those of :mod:`websockets.testing`, where :class:`~websockets.testing.Link` and the conditions
of a network are explained. :func:`run` calls a function, in which ``connect()`` and ``serve()`` of all threads use the
network in memory, so a program runs as it is.

Time is real, because nobody can know what threads of a program wait for. So choose short timeouts for tests, such as
``ping_interval=0.05``. A program that waits for ever isn't noticed; give ``recv()`` a timeout.

May know: the public API for threads, and where that gets its sockets. Only tests import it.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, TypeVar

from ..sync._system import current, using, using_here
from ..sync.client import ClientConnection, reconnect
from ..sync.connection import Connection
from ..sync.router import route
from ..sync.server import Handler, Server, ServerConnection, serve
from ._link import Direction, Link, MemorySocket, break_blocked
from ._threads_network import MemorySystem, Network

if TYPE_CHECKING:
    from werkzeug.routing import Map

__all__ = ["Direction", "InMemoryServer", "Link", "Network", "connected_pair", "link_of", "run", "serve_in_memory"]

_T = TypeVar("_T")

# A server that listens at all addresses is reached at this one.
_REACHED_AT = {"0.0.0.0": "127.0.0.1", "::": "::1"}


def run(function: Callable[..., _T], *args: Any, network: Network | None = None) -> _T:
    """Call a function, with a network in memory in place of the real one, in all threads of the program.

    Parameters:
        function: the function.
        *args: its arguments.
        network: the network; a new one by default, with no delay and no faults.

    Returns:
        The result of the function.

    Raises:
        BaseException: the function raises it.
        TypeError: a connection in it gets a socket of the system, as ``sock`` or from a SOCKS proxy.
    """
    system = (network or Network())._system
    with system.used(), using(system):
        return function(*args)


class _Connecting(reconnect):
    """Connects in memory."""

    _ws_in_memory: MemorySystem

    def connect(self) -> ClientConnection:
        with using_here(self._ws_in_memory):
            return super().connect()


class InMemoryServer:
    """A server that can only be reached through this object; :func:`serve_in_memory` makes it.

    Attributes:
        server: the :class:`~websockets.sync.server.Server`, running in a thread.
        network: the :class:`Network` that it is in.
        uri: its address, such as ``ws://localhost:20000``.
    """

    def __init__(self, server: Server, network: Network, secure: bool) -> None:
        self.server = server
        self.network = network
        host, port = server.socket.getsockname()[:2]
        self.uri = f"{'wss' if secure else 'ws'}://localhost:{port}"
        self._address = _REACHED_AT.get(host, host), port

    @property
    def links(self) -> list[Link]:
        """The :class:`~websockets.testing.Link` of every connection that was made to this server, in order."""
        sock: Any = self.server.socket
        links: list[Link] = sock.links
        return links

    def connect(self, path: str = "/", **options: Any) -> reconnect:
        """Connect to the server: use it in ``with``, call its ``connect()``, or iterate over it to connect again.

        Parameters:
            path: path and query of the request; or a whole URI. The server sees host, port and path of that URI, but
                the connection always leads to this server.
            **options: as for :class:`~websockets.sync.client.reconnect`. ``source_address=("10.1.2.3", 0)`` makes the
                client come from another address. No proxy is used unless ``proxy`` is given.

        Returns:
            A :class:`~websockets.sync.client.reconnect`; see there for what it raises.
        """
        uri = path if "://" in path else self.uri + path
        connecting = _Connecting(uri, **{"proxy": None, "address": self._address, **options})
        connecting._ws_in_memory = self.network._system
        return connecting


@contextlib.contextmanager
def serve_in_memory(app: Handler | Map, *, network: Network | None = None, **options: Any) -> Iterator[InMemoryServer]:
    """Run a server in memory, in a thread: opening handshakes, frames and TLS are real, but there is no socket.

    On exit the server is shut down, and its handlers are waited for. Before that, the connections on which nothing
    passes, after :meth:`Link.hold <websockets.testing.Link.hold>` or ``drop()``, are broken. If the block raises an
    exception, all connections are broken, and handlers are waited for at most a second.

    Parameters:
        app: connection handler, as for :func:`~websockets.sync.server.serve`; or a URL map, as for
            :func:`~websockets.sync.router.route`.
        network: where to listen; by default the network of :func:`run`, or else a new one, with no delay and no faults.
        **options: for ``serve`` or ``route``. ``daemon_threads`` is true by default, so that a handler that never ends
            doesn't keep the tests from ending.

    Returns:
        A context manager that gives an :class:`InMemoryServer`.

    Raises:
        OSError: another server listens at the same address of the network.
    """
    used = _network(network)
    system = used._system
    start: Any = serve if callable(app) else route
    with system.used():
        with using_here(system):
            server: Server = start(app, **{"host": "localhost", "port": 0, "daemon_threads": True, **options})

        def accept() -> None:
            with using_here(system):
                server.serve_forever()

        serving = InMemoryServer(server, used, secure=options.get("ssl") is not None)
        thread = threading.Thread(target=accept, name="server in memory", daemon=True)
        thread.start()
        try:
            yield serving
        except BaseException:
            for link in serving.links:
                if not link.closed:
                    link.reset()
            # A server waits for a second longer.
            server.shutdown(timeout=0)
            raise
        break_blocked(serving.links)
        server.shutdown()
        thread.join()


@contextlib.contextmanager
def connected_pair(
    path: str = "/",
    *,
    client: Mapping[str, Any] | None = None,
    server: Mapping[str, Any] | None = None,
    network: Network | None = None,
    **options: Any,
) -> Iterator[tuple[ClientConnection, ServerConnection]]:
    """Connect a client and a server to each other in memory: two ends of one connection, after an opening handshake.

    On exit both ends are closed.

    Parameters:
        path: path and query of the request, or a whole URI; see :meth:`InMemoryServer.connect`.
        client: options of the client alone, as for :class:`~websockets.sync.client.reconnect`.
        server: options of the server alone, as for :func:`~websockets.sync.server.serve`.
        network: as for :func:`serve_in_memory`.
        **options: options of both: ``compression``, ``max_size``, ``ping_interval``, ``subprotocols``...

    Returns:
        A context manager that gives a :class:`~websockets.sync.client.ClientConnection` and a
        :class:`~websockets.sync.server.ServerConnection`.

    Raises:
        InvalidHandshake: the opening handshake fails, because of the options.
        TimeoutError: it takes too long.
    """
    opened: list[ServerConnection] = []
    running = threading.Event()

    def handler(connection: ServerConnection) -> None:
        opened.append(connection)
        running.set()
        connection.wait_closed()

    with serve_in_memory(handler, network=network, **{**options, **(server or {})}) as serving:
        with serving.connect(path, **{**options, **(client or {})}) as ours:
            running.wait()
            theirs = opened[0]
            try:
                yield ours, theirs
            finally:
                break_blocked(serving.links)
                # Both ends close at once, because an end that has stopped reading would not see the other one close.
                closing = threading.Thread(target=theirs.close, name="closing in memory")
                closing.start()
                ours.close()
                closing.join()


def _network(network: Network | None) -> Network:
    """Return the network to use: the one given, that of :func:`run`, or a new one."""
    if network is None:
        system = current()
        network = system.network if isinstance(system, MemorySystem) else Network()
    return network


def link_of(connection: Connection) -> Link:
    """Return the link that a connection runs on, which has the faults; any thread may cause them.

    Parameters:
        connection: either end of a connection in memory.

    Raises:
        TypeError: it isn't in memory.
    """
    end = getattr(connection.socket, "end", None)
    if not isinstance(end, MemorySocket):
        raise TypeError(f"{connection!r} isn't in memory")
    return end.link
