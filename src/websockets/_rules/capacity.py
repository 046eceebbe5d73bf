"""How many connections a server takes at once, in all and from one host; and why it refuses the others.

May know: numbers, addresses of peers. Must not know: what a connection is, how it is told, how it ends.

A connection counts from the moment at which it is accepted to its end and that of its handler: whoever says nothing
takes a place too, and so does a connection of which a proxy has yet to say whose it is. Those beyond the limit are kept
outside, at the cost of any connection that says nothing, until they have sent a request that can be answered; only then
are they told, or let in if there is room by now. So that those outside have a limit as well, only so many are kept, and
the others are not told anything.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Hashable
from typing import Final, Generic, TypeVar

__all__ = ["CROWDED", "OUTSIDE", "RETRY_AFTER", "Capacity", "host_of"]

# So many connections beyond the limit are kept until they can be told.
OUTSIDE: Final = 1000

# When those who are told may try again, in seconds.
RETRY_AFTER: Final = 5

# Why there is no room: for a request, for one of this host, for another one that is to be told.
FULL: Final = "too many connections"
FULL_FOR_HOST: Final = "too many connections from this host"
CROWDED: Final = "too many connections to be told"

T = TypeVar("T", bound=Hashable)


class Capacity(Generic[T]):
    """Who is inside, and who is outside.

    Parameters:
        total: connections at once; None for any number.
        per_host: connections of one host at once; None for any number.
    """

    def __init__(self, total: int | None, per_host: int | None) -> None:
        self.total = total
        self.per_host = per_host
        self._inside = 0
        self._of_host: dict[Hashable, int] = {}
        # Where those inside come from, if that matters.
        self._homes: dict[T, Hashable] = {}
        self._outside: dict[T, Hashable] = {}

    def __len__(self) -> int:
        """How many are inside."""
        return self._inside

    def enter(self, guest: T, address: object) -> bool:
        """Let a new connection in if there is room, or keep it outside.

        Parameters:
            guest: the connection, for as long as :meth:`leave` isn't called.
            address: of its peer, as sockets give it.

        Returns:
            Whether it may stay; else it is forgotten already.
        """
        host = None if self.per_host is None else host_of(address)
        if self._obstacle(host) is None:
            self._let_in(guest, host)
            return True
        if len(self._outside) >= OUTSIDE:
            return False
        self._outside[guest] = host
        return True

    def refusal(self, guest: T) -> str | None:
        """Why a connection that sent its request can't be let in; None if it is inside, be it from now on."""
        if guest not in self._outside:
            return None
        host = self._outside[guest]
        obstacle = self._obstacle(host)
        if obstacle is None:
            del self._outside[guest]
            self._let_in(guest, host)
        return obstacle

    def is_inside(self, guest: T) -> bool:
        """Whether a connection that may stay counts."""
        return guest not in self._outside

    def leave(self, guest: T) -> None:
        """A connection is over, and its handler too."""
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
    """What stands for the host of a peer; None for the peer of a Unix socket, which has none.

    One host, or one customer, has all the 2**64 addresses that begin with the same 64 bits of an IPv6 address. An IPv4
    address counts as such in whatever form it comes.
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
