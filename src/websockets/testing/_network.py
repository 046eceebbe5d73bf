"""A network inside one process: names, addresses, listening sockets, and asyncio's four ways to get a stream.

It offers what ``loop.create_server``, ``create_connection`` and their Unix namesakes do, with memory in place of the
kernel (:mod:`._link`); :class:`~._loop.VirtualClockLoop` passes those calls on to it. It may know asyncio, how the
library tries several addresses, :mod:`._link` and :mod:`._transport`; it must not know WebSocket.

TLS is asyncio's own, run over memory transports.
"""

from __future__ import annotations

import asyncio
import contextvars
import errno
import functools
import ipaddress
import itertools
import os
import random
import socket
from asyncio import sslproto
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, NamedTuple, Protocol, TypeVar

from .._rules.happy_eyeballs import ATTEMPT_DELAY, Pace
from ..asyncio._dial import race
from ._link import CAPACITY, Address, Chunk, Delay, FakeSocket, Link, MemorySocket, check_conditions, draw
from ._transport import MemoryTransport

if TYPE_CHECKING:
    import ssl as tls

__all__ = ["Listener", "MemoryServer", "Network", "start_transport"]

_P = TypeVar("_P", bound=asyncio.BaseProtocol)
_Factory = Callable[[], asyncio.BaseProtocol]
_Path = str | os.PathLike[str]

_FIRST_IP = ipaddress.IPv4Address("10.0.0.0")
_WILDCARDS = {"0.0.0.0": socket.AF_INET, "::": socket.AF_INET6}


class Listener(Protocol):
    """Whoever accepts connections at an address."""

    def is_serving(self) -> bool:
        """Return whether connections are accepted now."""
        ...

    def accept(self, sock: MemorySocket) -> None:
        """Take a new connection."""


class _Security(NamedTuple):
    """TLS settings of a connection or a server."""

    context: tls.SSLContext
    hostname: str | None
    handshake_timeout: int | None
    shutdown_timeout: float | None


class Network:
    """A network in memory: whatever is reached by name, address and port, and what happens on the way.

    Parameters:
        delay: seconds that each write travels: a number, or a tuple of two between which to draw one each time.
            Connecting takes two of them. Order is always kept.
        loss: probability from 0 to 1 that a write is lost on the way. A stream loses nothing for good: TCP sends it
            again 0.2 seconds later, then after 0.4, 0.8 and so on up to 120 (RFC 6298), and whatever was written after
            it waits. So loss is a stall. Only if a write is lost 16 times in a row does TCP give up: the writer gets
            :exc:`TimeoutError`, and the reader nothing, ever. For data that just vanishes see :meth:`Link.drop`.
        chunk: limit of bytes a read, which splits what was written: a number, a tuple of two between which to draw one
            each time, or a function of the number of bytes available. None for no limit: a read gives all that has
            arrived, from several writes too.
        capacity: bytes that fit into each direction of a connection, on the way and arrived together; beyond, writers
            have to wait.
        seed: what chance begins with. Each connection has a generator of its own for each direction, so what happens to
            one doesn't depend on how much others write.

    Attributes:
        delay, loss, chunk, capacity: for connections made from now on; see :class:`Link` for those that exist.
        links: the :class:`Link` of every connection ever made, in order.
        hosts: IP addresses of names. A name that is missing gets an address of its own when first used; a name with an
            empty list can't be resolved.

    Raises:
        ValueError: a number makes no sense.
    """

    def __init__(
        self,
        *,
        delay: Delay = 0.0,
        loss: float = 0.0,
        chunk: Chunk = None,
        capacity: int = CAPACITY,
        seed: int | str = 0,
    ) -> None:
        check_conditions(delay, loss, chunk, capacity)
        self.delay, self.loss, self.chunk, self.capacity = delay, loss, chunk, capacity
        self.links: list[Link] = []
        self.hosts: dict[str, list[str]] = {"localhost": ["127.0.0.1"]}
        self._seed = seed
        self._random = random.Random(f"{seed} connecting")
        self._listeners: dict[tuple[str, int] | str, Listener] = {}
        self._blackholes: set[tuple[str, int]] = set()
        self._ports = itertools.count(20000)
        self._client_ports = itertools.count(50000)

    # Names and addresses.

    def _resolve(self, host: str, family: int = 0) -> list[str]:
        """Return the IP addresses of a host.

        Raises:
            socket.gaierror: there is none of that family.
        """
        host = host.lower()
        if host not in self.hosts:
            self.hosts[host] = [host if _is_ip(host) else str(_FIRST_IP + len(self.hosts))]
        found = [ip for ip in self.hosts[host] if family in (0, _sockname(ip, 0)[0])]
        if not found:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return found

    def blackhole(self, host: str, port: int) -> None:
        """Make connecting to an address take for ever, as when packets are lost."""
        self._blackholes.update((ip, port) for ip in self._resolve(host))

    def _bind(self, listener: Listener, hosts: Iterable[str], port: int, family: int) -> list[FakeSocket]:
        """Reserve addresses for a listener."""
        ips = list(dict.fromkeys(ip for host in hosts for ip in self._resolve(host, family)))
        if port == 0:
            port = next(port for port in self._ports if not any((ip, port) in self._listeners for ip in ips))
        for ip in ips:
            if (ip, port) in self._listeners:
                message = f"error while attempting to bind on address {(ip, port)!r}: address already in use"
                raise OSError(errno.EADDRINUSE, message)
        self._listeners.update(((ip, port), listener) for ip in ips)
        return [FakeSocket(_sockname(ip, port)[1]) for ip in ips]

    def _bind_unix(self, listener: Listener, path: _Path) -> list[FakeSocket]:
        name = os.fspath(path)
        if name in self._listeners:
            raise OSError(errno.EADDRINUSE, f"Address {name!r} is already in use")
        self._listeners[name] = listener
        return [FakeSocket(name)]

    def _unbind(self, listener: Listener) -> None:
        self._listeners = {address: other for address, other in self._listeners.items() if other is not listener}

    def _find(self, ip: str, port: int) -> Listener | None:
        """Return who accepts connections at an address, directly or for all addresses of its family."""
        wildcard = next(any_ip for any_ip, family in _WILDCARDS.items() if family == _sockname(ip, port)[0])
        listener = self._listeners.get((ip, port)) or self._listeners.get((wildcard, port))
        return listener if listener is not None and listener.is_serving() else None

    # Connecting.

    async def open(
        self, host: str, port: int, *, family: int = 0, local_addr: tuple[str, int] | None = None
    ) -> MemorySocket:
        """Connect a socket, for :func:`~websockets.asyncio.client.connect` and others that take ``sock``.

        If the name has several addresses, they are tried as RFC 8305 says, 0.25 seconds apart.

        Parameters:
            host: name or IP address.
            port: port.
            family: ``AF_INET``, ``AF_INET6``, or 0 for both.
            local_addr: address and port of this end.

        Raises:
            ConnectionRefusedError: nobody listens there.
            socket.gaierror: the name has no address.
        """
        return await self._open(host, port, family, local_addr, Pace())

    async def _open(
        self, host: str, port: int, family: int, local_addr: tuple[str, int] | None, pace: Pace
    ) -> MemorySocket:
        found = [(_sockname(ip, port)[0], ip, port) for ip in self._resolve(host, family)]
        connect = functools.partial(self._open_address, local_addr)
        return await race(found, pace, connect, MemorySocket.close)

    async def _open_address(
        self, local_addr: tuple[str, int] | None, place: tuple[socket.AddressFamily, str, int]
    ) -> MemorySocket:
        _, ip, port = place
        await self._round_trip()
        if (ip, port) in self._blackholes:
            await asyncio.get_running_loop().create_future()
        listener = self._find(ip, port)
        if listener is None:
            raise ConnectionRefusedError(errno.ECONNREFUSED, f"Connect call failed {(ip, port)!r}")
        mine, theirs = self._addresses(ip, port, local_addr)
        return self._connect(listener, mine, theirs)

    async def open_unix(self, path: _Path) -> MemorySocket:
        """Connect a Unix socket; see :meth:`open`.

        Raises:
            FileNotFoundError: there is no such path.
            ConnectionRefusedError: nobody listens there.
        """
        await self._round_trip()
        name = os.fspath(path)
        if name not in self._listeners:
            raise FileNotFoundError(errno.ENOENT, "No such file or directory")
        listener = self._listeners[name]
        if not listener.is_serving():
            raise ConnectionRefusedError(errno.ECONNREFUSED, "Connection refused")
        return self._connect(listener, "", name)

    async def _round_trip(self) -> None:
        # Never at once: connecting is a point where a task can be cancelled.
        await asyncio.sleep(draw(self._random, self.delay) + draw(self._random, self.delay))

    def _addresses(self, ip: str, port: int, local_addr: tuple[str, int] | None) -> tuple[Address, Address]:
        family, theirs = _sockname(ip, port)
        any_local = "127.0.0.1" if family == socket.AF_INET else "::1"
        local_ip, local_port = local_addr or (any_local, 0)
        return _sockname(self._resolve(local_ip)[0], local_port or next(self._client_ports))[1], theirs

    def _connect(self, listener: Listener, mine: Address, theirs: Address) -> MemorySocket:
        link = Link(
            asyncio.get_running_loop(),
            mine,
            theirs,
            delay=self.delay,
            loss=self.loss,
            chunk=self.chunk,
            capacity=self.capacity,
            seed=f"{self._seed}.{len(self.links)}",
        )
        self.links.append(link)
        listener.accept(link.server)
        return link.client

    # What asyncio's loop offers. Parameters that mean nothing without a kernel are accepted and ignored; unknown ones
    # are an error, so that a misspelt one shows.

    async def create_server(
        self,
        protocol_factory: _Factory,
        host: str | Sequence[str] | None = None,
        port: int | None = None,
        *,
        family: int = 0,
        flags: int = 0,
        sock: None = None,
        backlog: int = 100,
        ssl: tls.SSLContext | None = None,
        reuse_address: bool | None = None,
        reuse_port: bool | None = None,
        keep_alive: bool | None = None,
        ssl_handshake_timeout: int | None = None,
        ssl_shutdown_timeout: float | None = None,
        start_serving: bool = True,
    ) -> MemoryServer:
        """Listen in memory; see ``loop.create_server``.

        Parameters:
            protocol_factory: makes the protocol of each connection.
            host: name, IP address, or several; None or empty means all addresses.
            port: port; 0 chooses a free one, the same for all addresses.
            family: ``AF_INET``, ``AF_INET6``, or 0 for both.
            ssl: TLS settings.
            ssl_handshake_timeout: seconds.
            ssl_shutdown_timeout: seconds.
            start_serving: whether to accept connections at once.

        Raises:
            OSError: the address is in use.
        """
        wildcards = [ip for ip, ip_family in _WILDCARDS.items() if family in (0, ip_family)]
        hosts: Sequence[str] = [host] if isinstance(host, str) else host or [""]
        hosts = [ip for name in hosts for ip in ([name] if name else wildcards)]
        security = None if ssl is None else _Security(ssl, None, ssl_handshake_timeout, ssl_shutdown_timeout)
        server = MemoryServer(self, protocol_factory, security)
        server.bound(self._bind(server, hosts, port or 0, family))
        return await self._started(server, start_serving)

    async def create_unix_server(
        self,
        protocol_factory: _Factory,
        path: _Path,
        *,
        sock: None = None,
        backlog: int = 100,
        ssl: tls.SSLContext | None = None,
        ssl_handshake_timeout: int | None = None,
        ssl_shutdown_timeout: float | None = None,
        start_serving: bool = True,
        cleanup_socket: bool = True,
    ) -> MemoryServer:
        """Listen in memory at a path; see ``loop.create_unix_server`` and :meth:`create_server`."""
        security = None if ssl is None else _Security(ssl, None, ssl_handshake_timeout, ssl_shutdown_timeout)
        server = MemoryServer(self, protocol_factory, security)
        server.bound(self._bind_unix(server, path))
        return await self._started(server, start_serving)

    async def _started(self, server: MemoryServer, start_serving: bool) -> MemoryServer:
        if start_serving:
            await server.start_serving()
        return server

    async def create_connection(
        self,
        protocol_factory: Callable[[], _P],
        host: str | None = None,
        port: int | None = None,
        *,
        ssl: tls.SSLContext | bool | None = None,
        family: int = 0,
        proto: int = 0,
        flags: int = 0,
        sock: MemorySocket | None = None,
        local_addr: tuple[str, int] | None = None,
        server_hostname: str | None = None,
        ssl_handshake_timeout: int | None = None,
        ssl_shutdown_timeout: float | None = None,
        happy_eyeballs_delay: float | None = ATTEMPT_DELAY,
        interleave: int | None = None,
        all_errors: bool = False,
    ) -> tuple[asyncio.Transport, _P]:
        """Connect in memory; see ``loop.create_connection``.

        Parameters:
            protocol_factory: makes the protocol.
            host: name or IP address.
            port: port.
            ssl: TLS settings, or True for the default ones.
            family: ``AF_INET``, ``AF_INET6``, or 0 for both.
            sock: a connected socket of :meth:`open`, instead of host and port.
            local_addr: address and port of this end.
            server_hostname: the name that the certificate must have; ``host`` by default.
            ssl_handshake_timeout: seconds.
            ssl_shutdown_timeout: seconds.
            happy_eyeballs_delay: seconds between attempts at the addresses of a name; None to try the next one when
                one has failed. Other than in a loop, 0.25 by default: so ``connect()`` has it on a real network.
            interleave: see ``loop.create_connection``.
            all_errors: whether a failure is a group with the error of each attempt.

        Raises:
            ConnectionRefusedError: nobody listens there.
            ValueError: parameters contradict each other.
        """
        if (sock is None) == (host is None and port is None):
            raise ValueError("exactly one of sock and host/port must be given")
        security = _client_security(ssl, server_hostname, host, ssl_handshake_timeout, ssl_shutdown_timeout)
        if sock is None:
            given = {"happy_eyeballs_delay": happy_eyeballs_delay, "interleave": interleave, "all_errors": all_errors}
            pace = Pace.taken_from(given)
            sock = await self._open(host or "localhost", port or 0, family, local_addr, pace)
        return await self._stream(sock, protocol_factory, security)

    async def create_unix_connection(
        self,
        protocol_factory: Callable[[], _P],
        path: _Path | None = None,
        *,
        ssl: tls.SSLContext | bool | None = None,
        sock: MemorySocket | None = None,
        server_hostname: str | None = None,
        ssl_handshake_timeout: int | None = None,
        ssl_shutdown_timeout: float | None = None,
    ) -> tuple[asyncio.Transport, _P]:
        """Connect in memory to a path; see ``loop.create_unix_connection`` and :meth:`create_connection`."""
        if (sock is None) == (path is None):
            raise ValueError("exactly one of sock and path must be given")
        security = _client_security(ssl, server_hostname, None, ssl_handshake_timeout, ssl_shutdown_timeout)
        if sock is None:
            sock = await self.open_unix(path or "")
        return await self._stream(sock, protocol_factory, security)

    async def _stream(
        self, sock: MemorySocket, factory: Callable[[], _P], security: _Security | None
    ) -> tuple[asyncio.Transport, _P]:
        protocol = factory()
        loop = asyncio.get_running_loop()
        waiter: asyncio.Future[None] = loop.create_future()
        transport = start_transport(loop, sock, protocol, security, waiter)
        try:
            await waiter
        except BaseException:
            transport.close()
            raise
        return transport, protocol


def _is_ip(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def _sockname(ip: str, port: int) -> tuple[socket.AddressFamily, Address]:
    """Make an address in the shape of its family."""
    if ipaddress.ip_address(ip).version == 4:
        return socket.AF_INET, (ip, port)
    return socket.AF_INET6, (ip, port, 0, 0)


def _usual_context() -> tls.SSLContext:
    # Some interpreters, such as Pyodide, have no TLS: it is imported where it is asked for.
    from ssl import create_default_context

    return create_default_context()


def _client_security(
    ssl: tls.SSLContext | bool | None,
    server_hostname: str | None,
    host: str | None,
    handshake_timeout: int | None,
    shutdown_timeout: float | None,
) -> _Security | None:
    """Check and complete the TLS settings of a client, by the rules of asyncio."""
    if not ssl:
        if server_hostname is not None:
            raise ValueError("server_hostname is only meaningful with ssl")
        return None
    hostname = host if server_hostname is None else server_hostname
    if hostname is None:
        raise ValueError("You must set server_hostname when using ssl without a host")
    return _Security(_usual_context() if ssl is True else ssl, hostname, handshake_timeout, shutdown_timeout)


def start_transport(
    loop: asyncio.AbstractEventLoop,
    sock: MemorySocket,
    protocol: asyncio.BaseProtocol,
    security: _Security | None,
    waiter: asyncio.Future[None],
    server: MemoryServer | None = None,
) -> asyncio.Transport:
    """Make a transport, with TLS between it and the protocol if there are settings for it."""
    if security is None:
        return MemoryTransport(loop, sock, protocol, waiter=waiter, owner=server)
    secure = sslproto.SSLProtocol(
        loop,
        protocol,
        security.context,
        waiter,
        server_side=server is not None,
        server_hostname=security.hostname,
        ssl_handshake_timeout=security.handshake_timeout,
        ssl_shutdown_timeout=security.shutdown_timeout,
    )
    MemoryTransport(loop, sock, secure, owner=server)
    # The one private name of asyncio used here: in public, only its loops make TLS transports.
    transport: asyncio.Transport = secure._app_transport
    return transport


class MemoryServer(asyncio.AbstractServer):
    """What ``create_server`` returns: the interface of ``asyncio.Server``, as of Python 3.13 on every version.

    Attributes:
        links: every connection that was made to it, in order.
    """

    def __init__(
        self,
        network: Network,
        factory: _Factory,
        security: _Security | None,
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._network, self._factory, self._security = network, factory, security
        self.links: list[Link] = []
        self._sockets: list[FakeSocket] | None = []
        self._transports: set[MemoryTransport] = set()
        self._serving = False
        self._context = contextvars.copy_context()
        self._forever: asyncio.Future[None] | None = None
        self._waiters: list[asyncio.Future[None]] = []

    def bound(self, sockets: list[FakeSocket]) -> None:
        """Remember the listening sockets; called by the network only."""
        self._sockets = sockets

    def __repr__(self) -> str:
        return f"<MemoryServer sockets={self.sockets!r}>"

    @property
    def secure(self) -> bool:
        """Whether connections use TLS."""
        return self._security is not None

    # The interface of asyncio.Server.

    @property
    def sockets(self) -> tuple[FakeSocket, ...]:
        """The listening sockets; none after :meth:`close`."""
        return tuple(self._sockets or ())

    def get_loop(self) -> asyncio.AbstractEventLoop:
        """Return the loop."""
        return self._loop

    def is_serving(self) -> bool:
        """Return whether connections are accepted."""
        return self._serving

    async def start_serving(self) -> None:
        """Accept connections from now on.

        Raises:
            RuntimeError: the server is closed.
        """
        if self._sockets is None:
            raise RuntimeError(f"server {self!r} is closed")
        if not self._serving:
            self._serving = True
            self._context = contextvars.copy_context()
        await asyncio.sleep(0)

    async def serve_forever(self) -> None:
        """Accept connections until cancelled, or until :meth:`close`, then close the server.

        Raises:
            RuntimeError: the server is closed, or somebody else waits here.
        """
        if self._forever is not None:
            raise RuntimeError(f"server {self!r} is already being awaited on serve_forever()")
        await self.start_serving()
        self._forever = self._loop.create_future()
        try:
            await self._forever
        finally:
            self._forever = None
            self.close()
            await self.wait_closed()

    def close(self) -> None:
        """Stop listening; connections go on."""
        if self._sockets is None:
            return
        self._sockets, self._serving = None, False
        self._network._unbind(self)
        if self._forever is not None:
            self._forever.cancel()
        self._wake()

    def close_clients(self) -> None:
        """Close the transports of all connections."""
        for transport in self._transports.copy():
            transport.close()

    def abort_clients(self) -> None:
        """Abort the transports of all connections."""
        for transport in self._transports.copy():
            transport.abort()

    async def wait_closed(self) -> None:
        """Wait until the server is closed and its last connection has ended."""
        while self._sockets is not None or self._transports:
            waiter: asyncio.Future[None] = self._loop.create_future()
            self._waiters.append(waiter)
            await waiter

    # For the network and for transports.

    def accept(self, sock: MemorySocket) -> None:
        """Take a new connection, in the next iteration of the loop and in the context of :meth:`start_serving`."""
        self.links.append(sock.link)
        self._loop.call_soon(self._accept, sock, context=self._context.copy())

    def _accept(self, sock: MemorySocket) -> None:
        if not self._serving:
            sock.reset()
            return
        try:
            protocol = self._factory()
        except Exception as exc:
            sock.reset()
            message = "Error on transport creation for incoming connection"
            self._loop.call_exception_handler({"message": message, "exception": exc})
            return
        waiter: asyncio.Future[None] = self._loop.create_future()
        # A TLS handshake that fails is the client's news; nobody waits for it here.
        waiter.add_done_callback(lambda waiter: waiter.cancelled() or waiter.exception())
        start_transport(self._loop, sock, protocol, self._security, waiter, self)

    def attach(self, transport: MemoryTransport) -> None:
        """Count a transport."""
        self._transports.add(transport)

    def detach(self, transport: MemoryTransport) -> None:
        """Count a transport no more."""
        self._transports.discard(transport)
        self._wake()

    def _wake(self) -> None:
        waiters, self._waiters = self._waiters, []
        for waiter in waiters:
            if not waiter.done():
                waiter.set_result(None)
