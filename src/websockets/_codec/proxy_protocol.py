"""The PROXY protocol, versions 1 and 2: the header with the addresses of the connection that a proxy forwards.

The specification is HAProxy's "The PROXY protocol": https://www.haproxy.org/download/2.6/doc/proxy-protocol.txt.
Numbers of sections refer to it.

May know: bytes, addresses, which proxies are trusted. Must not know: sockets, how a server reads, the data after the
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

# Section 2.2: no HTTP request begins like this.
SIGNATURE: Final = b"\r\n\r\n\0\r\nQUIT\n"

# Section 2.1: a line has at most 107 bytes, and this is the shortest one.
MAX_LINE: Final = 107
SHORTEST_LINE: Final = len(b"PROXY UNKNOWN\r\n")

# Section 2.2: signature, version and command, family and transport, length of the rest. The rest may have up to 64 KiB;
# headers from real proxies are much shorter than this limit.
FIXED: Final = struct.Struct("!12sBBH")
MAX_HEADER: Final = 4096

LOCAL, PROXY = 0, 1
VERSION: Final = 2

# Section 2.2: the families and transports that WebSocket servers use. Others up to these numbers are valid, and are
# treated as unspecified.
TCP4, TCP6, UNIX_STREAM = 0x11, 0x21, 0x31
MAX_FAMILY, MAX_TRANSPORT = 3, 2

# The size in bytes of the addresses of a family: two addresses, and for IP two ports.
SIZES: Final = {0: 0, 1: 12, 2: 36, 3: 216}
PATH_SIZE: Final = 108

# Section 2.2.3: the type of the checksum among the additional fields, and the length of their heads.
CRC32C: Final = 3
FIELD: Final = struct.Struct("!BH")

# Section 2.1. The addresses are checked later.
match_line = re.compile(rb"PROXY (TCP[46]) ([0-9A-Fa-f.:]+) ([0-9A-Fa-f.:]+) (0|[1-9][0-9]*) (0|[1-9][0-9]*)").fullmatch

UNIX: Final = "unix:"
"""The entry in the list of trusted proxies for all connections to a Unix socket."""


class UnexpectedProxyHeader(ValueError):
    """A header of the PROXY protocol in place of an HTTP request."""

    def __init__(self) -> None:
        super().__init__("PROXY protocol header, which isn't expected; see the option proxy_protocol")


class Addresses(NamedTuple):
    """Both addresses of the forwarded connection, in the form of socket addresses; None for the proxy's own ones."""

    peername: Any = None
    sockname: Any = None


class ProxyHeaderReader:
    """Reads one header, of either version, without needing any byte after it.

    Attributes:
        missing: least number of bytes still missing; 1 or more until the header is complete.
    """

    def __init__(self) -> None:
        self._data = bytearray()
        self.missing = SHORTEST_LINE

    def feed(self, data: bytes) -> Addresses | None:
        """Read data; don't call it again after it returned addresses or raised an exception.

        Parameters:
            data: at most :attr:`missing` bytes.

        Returns:
            The addresses in the header; None until it is complete.

        Raises:
            ValueError: the data isn't a valid header of the PROXY protocol.
        """
        self._data += data
        read = bytes(self._data)
        if read.startswith(SIGNATURE[:1]):
            _expect(read, SIGNATURE)
            return self._feed_binary(read)
        _expect(read, b"PROXY ")
        return self._feed_line(read)

    def _feed_binary(self, read: bytes) -> Addresses | None:
        """Read a header of version 2 (section 2.2)."""
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
        """Read a header of version 1 (section 2.1)."""
        if read.endswith(b"\r\n"):
            return _parse_line(read[:-2])
        if len(read) >= MAX_LINE or b"\n" in read:
            raise ValueError(f"no line of at most {MAX_LINE} bytes that ends in CRLF")
        # Each missing word takes at least a blank and a character; then follows the end of the line.
        words = 0 if read.startswith(b"PROXY U") else 5 - read.count(b" ")
        least = 2 * max(words, 0) + (1 if read.endswith(b"\r") else 2)
        self.missing = max(SHORTEST_LINE - len(read), min(least, MAX_LINE - len(read)))
        return None


def _expect(read: bytes, beginning: bytes) -> None:
    """Check that the data so far agrees with the beginning of a header.

    Raises:
        ValueError: the data doesn't agree.
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
        pass  # not an address
    raise ValueError(f"malformed line: {line!r}")


def _parse_binary(header: bytes) -> Addresses:
    _, version_command, family_transport, length = FIXED.unpack_from(header)
    command = version_command & 0x0F
    family, transport = divmod(family_transport, 16)
    if command == LOCAL:
        # The proxy connects for itself, for instance for a health check: ignore the rest of the header.
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
    """Return the addresses of a family and transport."""
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
    """Return an IP address in the form of a socket address."""
    if isinstance(ip, ipaddress.IPv4Address):
        return str(ip), port
    mapped = ip.ipv4_mapped
    return (str(ip) if mapped is None else f"::ffff:{mapped}"), port, 0, 0


def _path(field: bytes) -> str | bytes:
    """Return the path of a Unix socket in the form of a socket address; abstract ones begin with a zero byte."""
    if field[:1] == b"\0":
        return field.rstrip(b"\0") or ""
    return os.fsdecode(field.partition(b"\0")[0])


def _check_fields(header: bytes, at: int) -> None:
    """Check the additional fields (section 2.2.3): their lengths, and the checksum if it is one of them.

    Raises:
        ValueError: a length or the checksum is wrong.
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
    """Return the checksum of RFC 4960 appendix B."""
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
    """The proxies that may connect and whose headers are trusted.

    Parameters:
        networks: their addresses and networks.
        unix: whether to trust all connections to a Unix socket.
    """

    def __init__(self, networks: Iterable[ipaddress.IPv4Network | ipaddress.IPv6Network], unix: bool) -> None:
        self._networks = tuple(networks)
        self._unix = unix

    @classmethod
    def of(cls, option: object) -> Self:
        """Make the object from an option: an iterable of addresses, networks and :data:`UNIX`.

        Raises:
            TypeError: the option isn't an iterable of strings.
            ValueError: the option is empty, or an item is none of these.
        """
        if isinstance(option, str | bytes) or not isinstance(option, Iterable):
            raise TypeError(f"proxy_protocol must be a list of addresses of proxies or None, not {option!r}")
        names = list(option)
        if not names:
            raise ValueError("proxy_protocol is empty: it must name the proxies that are trusted")
        return cls((_network(name) for name in names if name != UNIX), UNIX in names)

    def __contains__(self, address: object) -> bool:
        """Return whether the proxy with this socket address is trusted."""
        if isinstance(address, str | bytes):
            return self._unix
        try:
            # A peer that has already gone has no address; other families of sockets have addresses of other forms.
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
