"""Names and addresses in memory: which addresses a name has, and the sockets that show an address.

May know: the shapes of addresses of IPv4, IPv6 and Unix sockets. Must not know: links, who listens where, event loops.
"""

from __future__ import annotations

import ipaddress
import socket
from typing import Any

__all__ = ["WILDCARDS", "Address", "FakeSocket", "resolve", "sockname"]

#: What ``getsockname()`` returns: a tuple for IPv4 and IPv6, a path for a Unix socket.
Address = tuple[str, int] | tuple[str, int, int, int] | str

#: The IP addresses that stand for all addresses of a family.
WILDCARDS = {"0.0.0.0": socket.AF_INET, "::": socket.AF_INET6}

# Names get the addresses after this one.
_FIRST_IP = ipaddress.IPv4Address("10.0.0.0")

# Windows has Unix sockets, but Python does not offer them there; the family has the same number.
_UNIX: int = getattr(socket, "AF_UNIX", 1)


class FakeSocket:
    """The part of a socket that ``get_extra_info("socket")`` and ``server.sockets`` expose.

    Attributes:
        family: ``AF_INET``, ``AF_INET6``, or ``AF_UNIX``, which is 1 where Python has no such name.
        options: what ``setsockopt`` was told, by level and name.
    """

    type = socket.SOCK_STREAM
    proto = 0

    def __init__(self, sockname: Address, peername: Address | None = None) -> None:
        self.family = _family(sockname)
        self.options: dict[tuple[int, int], Any] = {}
        self._sockname, self._peername = sockname, peername

    def getsockname(self) -> Address:
        """Return the address of this end."""
        return self._sockname

    def getpeername(self) -> Address:
        """Return the address of the other end.

        Raises:
            OSError: there is no other end.
        """
        if self._peername is None:
            raise OSError("not connected")
        return self._peername

    def fileno(self) -> int:
        """Return -1, as a closed socket does: there is no file descriptor."""
        return -1

    def setsockopt(self, level: int, name: int, value: Any) -> None:
        """Remember an option; it has no effect."""
        self.options[level, name] = value

    def getsockopt(self, level: int, name: int) -> Any:
        """Return an option that was set, or 0."""
        return self.options.get((level, name), 0)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self._sockname!r} -> {self._peername!r}>"


def _family(address: Address) -> int:
    """Return the family that an address of this shape belongs to."""
    if isinstance(address, str):
        return _UNIX
    return socket.AF_INET if len(address) == 2 else socket.AF_INET6


def sockname(ip: str, port: int) -> tuple[socket.AddressFamily, Address]:
    """Return the family of an IP address, and the address with its port in the shape of that family."""
    if ipaddress.ip_address(ip).version == 4:
        return socket.AF_INET, (ip, port)
    return socket.AF_INET6, (ip, port, 0, 0)


def resolve(hosts: dict[str, list[str]], host: str, family: int = 0) -> list[str]:
    """Return the IP addresses of a host.

    Parameters:
        hosts: the addresses of names. A name that is missing is added, with an address of its own.
        host: name, in any case, or IP address.
        family: ``AF_INET``, ``AF_INET6``, or 0 for both.

    Raises:
        socket.gaierror: there is none of that family.
    """
    host = host.lower()
    if host not in hosts:
        hosts[host] = [host if _is_ip(host) else str(_FIRST_IP + len(hosts))]
    found = [ip for ip in hosts[host] if family in (0, sockname(ip, 0)[0])]
    if not found:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
    return found


def _is_ip(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True
