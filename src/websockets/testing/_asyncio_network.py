"""A network in memory for asyncio: waiting until one is connected, and asyncio's four methods that make streams.

:class:`Network` offers ``create_server``, ``create_connection`` and the same for Unix sockets, as asyncio's loops do;
:class:`~._loop.VirtualClockLoop` passes those calls on to it.

May know: asyncio, how the library tries several addresses, the network in memory. Must not know: WebSocket.
"""

from __future__ import annotations

import asyncio
import functools
import os
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, TypeVar

from .._rules.happy_eyeballs import ATTEMPT_DELAY, Pace
from ..asyncio._dial import race
from ._addresses import WILDCARDS
from ._asyncio_server import MemoryServer
from ._asyncio_tls import Security, client_security, start_transport
from ._link import MemorySocket
from ._network import BaseNetwork, Place

if TYPE_CHECKING:
    import ssl as tls

__all__ = ["Network"]

_P = TypeVar("_P", bound=asyncio.BaseProtocol)
_Factory = Callable[[], asyncio.BaseProtocol]
_Path = str | os.PathLike[str]


class Network(BaseNetwork):
    """A network in memory: names and addresses, servers that listen there, and the faults on the way to them.

    Parameters:
        delay: seconds that each write travels: a number, or a tuple of two between which to draw one each time.
            Connecting takes two of them. Data always arrives in order.
        loss: probability from 0 to 1 that a write is lost on the way. TCP sends a lost write again after 0.2 seconds,
            then after 0.4, 0.8 and so on up to 120 (RFC 6298), and later writes wait for it. So a loss only delays the
            data. When a write is lost 16 times in a row, TCP gives up: the writer gets :exc:`TimeoutError`, and the
            reader never gets anything more. To lose data without that, see :meth:`Link.drop`.
        chunk: most bytes that one read gives, so that a message comes in several pieces: a number, a tuple of two
            between which to draw one each time, or a function of the number of bytes available. None for no limit: a
            read gives all data that has arrived, from several writes too.
        capacity: bytes that fit into each direction of a connection, those on the way and those that have arrived
            taken together; when it is full, writers have to wait.
        seed: of the random numbers. Each direction of each connection has a generator of its own, so the faults of one
            connection don't depend on how much others write.

    Attributes:
        delay, loss, chunk, capacity: of connections made from now on; for those that exist, see :class:`Link`.
        links: the :class:`Link` of every connection ever made, in order.
        hosts: the IP addresses of names, as lists. A name that is missing gets an address of its own at its first use;
            a name with an empty list can't be resolved.

    Raises:
        ValueError: a number makes no sense.
    """

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
        connect = functools.partial(self._open_place, local_addr)
        return await race(self._places(host, port, family), pace, connect, MemorySocket.close)

    async def _open_place(self, local_addr: tuple[str, int] | None, place: Place) -> MemorySocket:
        loop = asyncio.get_running_loop()
        await self._wait_round_trip()
        sock = self._connect(loop, place, local_addr)
        if sock is None:
            never: asyncio.Future[MemorySocket] = loop.create_future()
            return await never
        return sock

    async def open_unix(self, path: _Path) -> MemorySocket:
        """Connect a Unix socket; see :meth:`open`.

        Raises:
            FileNotFoundError: there is no such path.
            ConnectionRefusedError: nobody listens there.
        """
        await self._wait_round_trip()
        return self._connect_unix(asyncio.get_running_loop(), path)

    async def _wait_round_trip(self) -> None:
        # Even without a delay this takes a turn of the loop, because a task that connects can be cancelled there.
        await asyncio.sleep(self._round_trip())

    # The methods of asyncio's loops. Parameters that mean nothing without a kernel are accepted and ignored. Unknown
    # ones are an error, so that a misspelt name is noticed.

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
        wildcards = [ip for ip, ip_family in WILDCARDS.items() if family in (0, ip_family)]
        hosts: Sequence[str] = [host] if isinstance(host, str) else host or [""]
        hosts = [ip for name in hosts for ip in ([name] if name else wildcards)]
        security = None if ssl is None else Security(ssl, None, ssl_handshake_timeout, ssl_shutdown_timeout)
        server = MemoryServer(protocol_factory, security, self._unbind)
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
        security = None if ssl is None else Security(ssl, None, ssl_handshake_timeout, ssl_shutdown_timeout)
        server = MemoryServer(protocol_factory, security, self._unbind)
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
            happy_eyeballs_delay: seconds between attempts at the addresses of a name; None to try the next one only
                when one has failed. The default is 0.25, as for ``connect()``; asyncio's loops have None.
            interleave: see ``loop.create_connection``.
            all_errors: whether to raise a group with the error of each attempt when all have failed.

        Raises:
            ConnectionRefusedError: nobody listens there.
            ValueError: parameters contradict each other.
        """
        if (sock is None) == (host is None and port is None):
            raise ValueError("exactly one of sock and host/port must be given")
        security = client_security(ssl, server_hostname, host, ssl_handshake_timeout, ssl_shutdown_timeout)
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
        security = client_security(ssl, server_hostname, None, ssl_handshake_timeout, ssl_shutdown_timeout)
        if sock is None:
            sock = await self.open_unix(path or "")
        return await self._stream(sock, protocol_factory, security)

    async def _stream(
        self, sock: MemorySocket, factory: Callable[[], _P], security: Security | None
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
