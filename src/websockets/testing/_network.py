"""A network in memory: names, listening sockets, and what happens when somebody connects.

:class:`BaseNetwork` does everything but wait. A front-end inherits from it and adds its own ways to wait, which take
three steps: look up the places of a name with ``_places``, wait for the seconds that ``_round_trip`` returns, call
``_connect``. See :mod:`._asyncio_network`.

May know: links, names and addresses. Must not know: asyncio or any other event loop, transports, TLS, WebSocket.
"""

from __future__ import annotations

import errno
import itertools
import os
import random
import socket
from collections.abc import Iterable
from typing import NamedTuple, Protocol

from ._addresses import WILDCARDS, Address, FakeSocket, resolve, sockname
from ._conditions import CAPACITY, Chunk, Delay, check_conditions, draw_delay
from ._link import Link, MemorySocket
from ._scheduler import Scheduler

__all__ = ["BaseNetwork", "Listener", "Place"]

_Path = str | os.PathLike[str]


class Listener(Protocol):
    """An object that accepts the connections made to an address."""

    def is_serving(self) -> bool:
        """Return whether connections are accepted now."""
        ...

    def accept(self, sock: MemorySocket) -> None:
        """Take a new connection; called while the other end connects, so it must not do more than take note of it."""


class Place(NamedTuple):
    """One address of a name, with a port."""

    family: socket.AddressFamily
    ip: str
    port: int


class BaseNetwork:
    """A network in memory, without waiting: see :class:`~websockets.testing.Network` for parameters and attributes.

    Raises:
        ValueError: a number makes no sense.
    """

    # Between threads, it is one that holds a lock.
    _link: type[Link] = Link

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

    # Names.

    def _resolve(self, host: str, family: int = 0) -> list[str]:
        """Return the IP addresses of a host; see :func:`~._addresses.resolve`."""
        return resolve(self.hosts, host, family)

    def _places(self, host: str, port: int, family: int = 0) -> list[Place]:
        """Return the places to connect to, in the order of preference.

        Raises:
            socket.gaierror: the name has no address of that family.
        """
        return [Place(sockname(ip, port)[0], ip, port) for ip in self._resolve(host, family)]

    def blackhole(self, host: str, port: int) -> None:
        """Make an address one that never answers: connecting to it takes for ever."""
        self._blackholes.update((ip, port) for ip in self._resolve(host))

    # Listening.

    def _bind(self, listener: Listener, hosts: Iterable[str], port: int, family: int = 0) -> list[FakeSocket]:
        """Give a listener the addresses of several hosts.

        Parameters:
            listener: accepts the connections.
            hosts: names or IP addresses.
            port: port; 0 chooses a free one, the same for all addresses.
            family: ``AF_INET``, ``AF_INET6``, or 0 for both.

        Returns:
            The listening sockets, one for each address.

        Raises:
            OSError: an address is in use.
        """
        ips = list(dict.fromkeys(ip for host in hosts for ip in self._resolve(host, family)))
        if port == 0:
            port = next(port for port in self._ports if not any((ip, port) in self._listeners for ip in ips))
        for ip in ips:
            if (ip, port) in self._listeners:
                message = f"error while attempting to bind on address {(ip, port)!r}: address already in use"
                raise OSError(errno.EADDRINUSE, message)
        self._listeners.update(((ip, port), listener) for ip in ips)
        return [FakeSocket(sockname(ip, port)[1]) for ip in ips]

    def _bind_unix(self, listener: Listener, path: _Path) -> list[FakeSocket]:
        """Give a listener the path of a Unix socket.

        Raises:
            OSError: the path is in use.
        """
        name = os.fspath(path)
        if name in self._listeners:
            raise OSError(errno.EADDRINUSE, f"Address {name!r} is already in use")
        self._listeners[name] = listener
        return [FakeSocket(name)]

    def _unbind(self, listener: Listener) -> None:
        """Take all its addresses from a listener."""
        self._listeners = {address: other for address, other in self._listeners.items() if other is not listener}

    # Connecting.

    def _round_trip(self) -> float:
        """Return the seconds that it takes to connect: two delays, there and back."""
        return draw_delay(self._random, self.delay) + draw_delay(self._random, self.delay)

    def _connect(
        self, scheduler: Scheduler, place: Place, local_addr: tuple[str, int] | None = None
    ) -> MemorySocket | None:
        """Connect to a place. The caller has waited for :meth:`_round_trip`.

        Parameters:
            scheduler: of the link between both ends.
            place: where to connect.
            local_addr: address and port of this end; the loopback address and a free port by default.

        Returns:
            The socket of this end; None if the place never answers.

        Raises:
            ConnectionRefusedError: nobody listens there.
        """
        address = (place.ip, place.port)
        if address in self._blackholes:
            return None
        listener = self._find(place)
        if listener is None:
            raise ConnectionRefusedError(errno.ECONNREFUSED, f"Connect call failed {address!r}")
        return self._join(scheduler, listener, self._local_address(place, local_addr), sockname(*address)[1])

    def _connect_unix(self, scheduler: Scheduler, path: _Path) -> MemorySocket:
        """Connect to the path of a Unix socket; see :meth:`_connect`.

        Raises:
            FileNotFoundError: there is no such path.
            ConnectionRefusedError: nobody listens there.
        """
        name = os.fspath(path)
        if name not in self._listeners:
            raise FileNotFoundError(errno.ENOENT, "No such file or directory")
        listener = self._listeners[name]
        if not listener.is_serving():
            raise ConnectionRefusedError(errno.ECONNREFUSED, "Connection refused")
        return self._join(scheduler, listener, "", name)

    def _find(self, place: Place) -> Listener | None:
        """Return the listener at a place, or the one at all addresses of its family; None if nobody accepts."""
        wildcard = next(ip for ip, family in WILDCARDS.items() if family == place.family)
        listener = self._listeners.get((place.ip, place.port)) or self._listeners.get((wildcard, place.port))
        return listener if listener is not None and listener.is_serving() else None

    def _local_address(self, place: Place, local_addr: tuple[str, int] | None) -> Address:
        loopback = "127.0.0.1" if place.family == socket.AF_INET else "::1"
        ip, port = local_addr or (loopback, 0)
        return sockname(self._resolve(ip)[0], port or next(self._client_ports))[1]

    def _join(self, scheduler: Scheduler, listener: Listener, mine: Address, theirs: Address) -> MemorySocket:
        """Make a link between a client and a listener; return the client's end."""
        link = self._link(
            scheduler,
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
