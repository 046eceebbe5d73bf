"""Limits on the connections of a server, in all and from one host; and the reasons for refusing more.

May know: numbers, addresses of peers. Must not know: connections, how a client learns of a refusal.

A connection counts from the moment when it is accepted until it and its handler have ended. So a client that sends
nothing takes a place too, and so does a connection for which a proxy has not sent the PROXY header yet. A connection
beyond the limit stays outside until it has sent a request. Then the server answers with a refusal, or lets it in if
there is room by then. A connection outside uses as much memory as one that sends nothing, so the number of those
outside is limited, too; connections beyond that limit are closed without an answer.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Hashable
from typing import Final, Generic, TypeVar

__all__ = ["CROWDED", "RETRY_AFTER", "WAITING_LIMIT", "Capacity", "host_of"]

# Maximum number of connections beyond the limit that are kept open for an answer.
WAITING_LIMIT: Final = 1000

# Seconds after which refused clients may try again.
RETRY_AFTER: Final = 5

# Reasons for a refusal: no room for a connection, none for this host, none for one more that waits for an answer.
FULL: Final = "too many connections"
FULL_FOR_HOST: Final = "too many connections from this host"
CROWDED: Final = "too many connections to be told"

T = TypeVar("T", bound=Hashable)


class Capacity(Generic[T]):
    """The connections inside the limits, and those outside.

    Parameters:
        total: maximum number of connections at once; None for no limit.
        per_host: maximum number of connections from one host at once; None for no limit.
    """

    def __init__(self, total: int | None, per_host: int | None) -> None:
        self.total = total
        self.per_host = per_host
        self._inside = 0
        self._of_host: dict[Hashable, int] = {}
        # The hosts of the connections inside, if there is a limit for each host.
        self._homes: dict[T, Hashable] = {}
        self._outside: dict[T, Hashable] = {}

    def __len__(self) -> int:
        """Return the number of connections inside."""
        return self._inside

    def enter(self, guest: T, address: object) -> bool:
        """Let a new connection in if there is room, or keep it outside.

        Parameters:
            guest: the connection; it is kept until :meth:`leave` is called.
            address: address of its peer, in the form that sockets use.

        Returns:
            Whether it may stay. If not, it isn't kept, and :meth:`leave` must not be called.
        """
        host = None if self.per_host is None else host_of(address)
        if self._obstacle(host) is None:
            self._let_in(guest, host)
            return True
        if len(self._outside) >= WAITING_LIMIT:
            return False
        self._outside[guest] = host
        return True

    def refusal(self, guest: T) -> str | None:
        """Let in a connection that has sent its request, if there is room; return the reason if there is none."""
        if guest not in self._outside:
            return None
        host = self._outside[guest]
        obstacle = self._obstacle(host)
        if obstacle is None:
            del self._outside[guest]
            self._let_in(guest, host)
        return obstacle

    def is_inside(self, guest: T) -> bool:
        """Return whether a connection that may stay is inside, and so counts."""
        return guest not in self._outside

    def leave(self, guest: T) -> None:
        """Remove a connection that has ended, as has its handler."""
        if guest in self._outside:
            del self._outside[guest]
            return
        self._inside -= 1
        host = self._homes.pop(guest, None)
        if host is not None:
            self._of_host[host] -= 1
            if not self._of_host[host]:
                del self._of_host[host]

    def _obstacle(self, host: Hashable) -> str | None:
        if self.total is not None and self._inside >= self.total:
            return FULL
        if self.per_host is not None and host is not None and self._of_host.get(host, 0) >= self.per_host:
            return FULL_FOR_HOST
        return None

    def _let_in(self, guest: T, host: Hashable) -> None:
        self._inside += 1
        if host is not None:
            self._homes[guest] = host
            self._of_host[host] = self._of_host.get(host, 0) + 1


def host_of(address: object) -> Hashable:
    """Return the key under which a peer's host is counted; None for a Unix socket, which has no host.

    All 2**64 IPv6 addresses with the same first 64 bits usually belong to one host or customer, so they count as one
    host. An IPv4 address counts as the same host if it is mapped into IPv6.
    """
    if not isinstance(address, tuple) or not address:
        return None
    host: Hashable = address[0]
    if not isinstance(host, str) or ":" not in host:
        return host
    try:
        ip = ipaddress.IPv6Address(host)
    except ValueError:
        return host
    return str(ip.ipv4_mapped) if ip.ipv4_mapped is not None else int(ip) >> 64
