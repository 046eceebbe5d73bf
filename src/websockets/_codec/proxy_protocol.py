"""The PROXY protocol, versions 1 and 2: the header in which a proxy says whose connection it passes on.

It is specified by HAProxy's "The PROXY protocol": https://www.haproxy.org/download/2.6/doc/proxy-protocol.txt, to which
the numbers of sections refer.

May know: bytes, addresses, which proxies are trusted. Must not know: sockets, how a server reads, what comes after the
header.
"""

from __future__ import annotations

import functools
import ipaddress
import os
import re
import struct
from collections.abc import Iterable
from typing import Any, Final, NamedTuple, Self

__all__ = ["SIGNATURE", "UNIX", "Addresses", "ProxyHeaderReader", "TrustedProxies", "UnexpectedProxyHeader"]

# Section 2.2: no request of HTTP begins like this.
SIGNATURE: Final = b"\r\n\r\n\0\r\nQUIT\n"

# Section 2.1: a line has 107 bytes at most, and the shortest is this one.
MAX_LINE: Final = 107
SHORTEST_LINE: Final = len(b"PROXY UNKNOWN\r\n")

# Section 2.2: signature, version and command, family and transport, length of what follows. Up to 64 KiB may follow;
# what proxies send stays far below this limit.
FIXED: Final = struct.Struct("!12sBBH")
MAX_HEADER: Final = 4096

LOCAL, PROXY = 0, 1
VERSION: Final = 2

# Section 2.2: the families and transports that servers like ours have. Others up to these numbers are valid, and count
# as unspecified.
TCP4, TCP6, UNIX_STREAM = 0x11, 0x21, 0x31
MAX_FAMILY, MAX_TRANSPORT = 3, 2

# What the addresses of a family take: two each, and for IP two ports.
SIZES: Final = {0: 0, 1: 12, 2: 36, 3: 216}
PATH_SIZE: Final = 108

# Section 2.2.3: the type of the checksum among the additional fields, and the length of their heads.
CRC32C: Final = 3
FIELD: Final = struct.Struct("!BH")

# Section 2.1. The addresses are checked later.
match_line = re.compile(rb"PROXY (TCP[46]) ([0-9A-Fa-f.:]+) ([0-9A-Fa-f.:]+) (0|[1-9][0-9]*) (0|[1-9][0-9]*)").fullmatch

UNIX: Final = "unix:"
"""What stands for whoever connects to a Unix socket among the proxies that are trusted."""


class UnexpectedProxyHeader(ValueError):
    """A header of the PROXY protocol where a request of HTTP is expected."""

    def __init__(self) -> None:
        super().__init__("PROXY protocol header, which isn't expected; see the option proxy_protocol")


class Addresses(NamedTuple):
    """Both ends of the connection that a proxy passes on, as sockets give addresses; None for those of its own."""

    peername: Any = None
    sockname: Any = None


class ProxyHeaderReader:
    """Reads one header, of either version, and not a byte more if its caller doesn't.

    Attributes:
        missing: bytes that are surely still missing; 1 or more until the header is complete.
    """

    def __init__(self) -> None:
        self._data = bytearray()
        self.missing = SHORTEST_LINE

    def feed(self, data: bytes) -> Addresses | None:
        """Read more; not to be called again after it returned addresses or raised.

        Parameters:
            data: bytes, up to :attr:`missing`.

        Returns:
            What the header says, None as long as it isn't complete.

        Raises:
            ValueError: it is no header of the PROXY protocol.
        """
        self._data += data
        read = bytes(self._data)
        if read.startswith(SIGNATURE[:1]):
            _expect(read, SIGNATURE)
            return self._feed_binary(read)
        _expect(read, b"PROXY ")
        return self._feed_line(read)

    def _feed_binary(self, read: bytes) -> Addresses | None:
        """Version 2 (section 2.2)."""
        size = FIXED.size
        if len(read) >= size:
            _, version_command, _, length = FIXED.unpack_from(read)
            if version_command >> 4 != VERSION:
                raise ValueError(f"unsupported version {version_command >> 4} of the PROXY protocol")
            size += length
            if size > MAX_HEADER:
                raise ValueError(f"header of {size} bytes; at most {MAX_HEADER} are read")
        self.missing = size - len(read)
        return None if self.missing else _parse_binary(read)

    def _feed_line(self, read: bytes) -> Addresses | None:
        """Version 1 (section 2.1)."""
        if read.endswith(b"\r\n"):
            return _parse_line(read[:-2])
        if len(read) >= MAX_LINE or b"\n" in read:
            raise ValueError(f"no line of at most {MAX_LINE} bytes that ends in CRLF")
        # Each word that isn't there yet takes a blank and a character at least; then comes the end of the line.
        words = 0 if read.startswith(b"PROXY U") else 5 - read.count(b" ")
        least = 2 * max(words, 0) + (1 if read.endswith(b"\r") else 2)
        self.missing = max(SHORTEST_LINE - len(read), min(least, MAX_LINE - len(read)))
        return None


def _expect(read: bytes, beginning: bytes) -> None:
    """See to it that what was read agrees with how a header begins.

    Raises:
        ValueError: it doesn't.
    """
    if not read.startswith(beginning[: len(read)]):
        raise ValueError(f"connection begins with {read[:16]!r}, which is no PROXY protocol header")


def _parse_line(line: bytes) -> Addresses:
    if line == b"PROXY UNKNOWN" or line.startswith(b"PROXY UNKNOWN "):
        return Addresses()
    match = match_line(line)
    try:
        if match is not None:
            family, *hosts, source_port, destination_port = (word.decode() for word in match.groups())
            source, destination = (ipaddress.ip_address(host) for host in hosts)
            ports = int(source_port), int(destination_port)
            if {source.version, destination.version} == {int(family[-1])} and max(ports) < 2**16:
                return Addresses(_ip_address(source, ports[0]), _ip_address(destination, ports[1]))
    except ValueError:
        pass  # an address that is none
    raise ValueError(f"malformed line: {line!r}")


def _parse_binary(header: bytes) -> Addresses:
    _, version_command, family_transport, length = FIXED.unpack_from(header)
    command = version_command & 0x0F
    family, transport = divmod(family_transport, 16)
    if command == LOCAL:
        # The proxy connects for itself, such as for a health check: nothing else in the header counts.
        return Addresses()
    if command != PROXY:
        raise ValueError(f"unknown command {command}")
    if family > MAX_FAMILY or transport > MAX_TRANSPORT:
        raise ValueError(f"unknown address family {family} or transport {transport}")
    size = SIZES[family]
    if length < size:
        raise ValueError(f"{length} bytes for addresses that take {size}")
    if family:
        _check_fields(header, FIXED.size + size)
    return _parse_addresses(family_transport, header[FIXED.size :])


def _parse_addresses(kind: int, block: bytes) -> Addresses:
    """The addresses of a family and transport."""
    if kind == UNIX_STREAM:
        return Addresses(_path(block[:PATH_SIZE]), _path(block[PATH_SIZE : 2 * PATH_SIZE]))
    if kind not in (TCP4, TCP6):
        return Addresses()
    size = 4 if kind == TCP4 else 16
    source, destination, source_port, destination_port = struct.unpack_from(f"!{size}s{size}sHH", block)
    return Addresses(
        _ip_address(ipaddress.ip_address(source), source_port),
        _ip_address(ipaddress.ip_address(destination), destination_port),
    )


def _ip_address(ip: ipaddress.IPv4Address | ipaddress.IPv6Address, port: int) -> tuple[Any, ...]:
    """An address in the form in which sockets give it."""
    if isinstance(ip, ipaddress.IPv4Address):
        return str(ip), port
    mapped = ip.ipv4_mapped
    return (str(ip) if mapped is None else f"::ffff:{mapped}"), port, 0, 0


def _path(field: bytes) -> str | bytes:
    """The path of a Unix socket in the form in which sockets give it: abstract ones begin with a zero byte."""
    if field[:1] == b"\0":
        return field.rstrip(b"\0") or ""
    return os.fsdecode(field.partition(b"\0")[0])


def _check_fields(header: bytes, at: int) -> None:
    """Check the additional fields (section 2.2.3): their lengths, and the checksum if it is one of them.

    Raises:
        ValueError: they are wrong.
    """
    while at + FIELD.size <= len(header):
        kind, length = FIELD.unpack_from(header, at)
        at += FIELD.size
        if at + length > len(header):
            raise ValueError(f"additional field of {length} bytes, of which {len(header) - at} are there")
        if kind == CRC32C:
            told = header[at : at + length]
            if told != _crc32c(header[:at] + bytes(length) + header[at + length :]).to_bytes(4, "big"):
                raise ValueError("wrong checksum")
        at += length


def _crc32c(data: bytes) -> int:
    """The checksum of RFC 4960 appendix B."""
    table, crc = _crc32c_table(), 0xFFFFFFFF
    for byte in data:
        crc = (crc >> 8) ^ table[(crc ^ byte) & 0xFF]
    return crc ^ 0xFFFFFFFF


@functools.cache
def _crc32c_table() -> list[int]:
    table = []
    for crc in range(256):
        for _ in range(8):
            crc = (crc >> 1) ^ (0x82F63B78 if crc & 1 else 0)
        table.append(crc)
    return table


class TrustedProxies:
    """The proxies that may connect, and whose headers are believed.

    Parameters:
        networks: their addresses.
        unix: whether whoever connects to a Unix socket is one.
    """

    def __init__(self, networks: Iterable[ipaddress.IPv4Network | ipaddress.IPv6Network], unix: bool) -> None:
        self._networks = tuple(networks)
        self._unix = unix

    @classmethod
    def of(cls, option: object) -> Self:
        """The proxies that somebody gave as addresses, networks and :data:`UNIX`.

        Raises:
            TypeError: they aren't strings, or not several.
            ValueError: there are none, or one is something else.
        """
        if isinstance(option, str | bytes) or not isinstance(option, Iterable):
            raise TypeError(f"proxy_protocol must be a list of addresses of proxies or None, not {option!r}")
        names = list(option)
        if not names:
            raise ValueError("proxy_protocol is empty: it must name the proxies that are trusted")
        return cls((_network(name) for name in names if name != UNIX), UNIX in names)

    def __contains__(self, address: object) -> bool:
        """Whether a peer is one of them, by its address as sockets give it."""
        if isinstance(address, str | bytes):
            return self._unix
        try:
            # A peer that is gone already has no address; other families of sockets have other ones.
            ip = ipaddress.ip_address(str(address[0]) if isinstance(address, tuple) else "")
        except ValueError:
            return False
        if isinstance(ip, ipaddress.IPv6Address) and ip.ipv4_mapped is not None:
            ip = ip.ipv4_mapped
        return any(ip in network for network in self._networks)


def _network(name: object) -> ipaddress.IPv4Network | ipaddress.IPv6Network:
    if not isinstance(name, str):
        raise TypeError(f"proxy_protocol must have strings, not {name!r}")
    try:
        return ipaddress.ip_network(name)
    except ValueError as exc:
        expected = f"expected an IP address, a network such as '10.0.0.0/8', or '{UNIX}'"
        raise ValueError(f"invalid item in proxy_protocol: {exc}; {expected}") from None
