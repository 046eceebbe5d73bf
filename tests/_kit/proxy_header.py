"""Headers of the PROXY protocol as a proxy sends them, written from HAProxy's specification.

The checksum is computed bit by bit, which is slow and obviously right. Must not know: the library.
"""

from __future__ import annotations

import ipaddress
import struct

__all__ = ["crc32c", "field", "line", "version_2"]

SIGNATURE = bytes([0x0D, 0x0A, 0x0D, 0x0A, 0x00, 0x0D, 0x0A, 0x51, 0x55, 0x49, 0x54, 0x0A])

#: (host, port)
Place = tuple[str, int]


def line(source: Place, destination: Place) -> bytes:
    """Version 1, for TCP over IPv4 or IPv6."""
    family = 6 if ":" in source[0] else 4
    return f"PROXY TCP{family} {source[0]} {destination[0]} {source[1]} {destination[1]}\r\n".encode()


def version_2(
    source: Place | bytes = b"", destination: Place | bytes = b"", *, kind: int = 0, command: int = 1, tail: bytes = b""
) -> bytes:
    """Version 2.

    Parameters:
        source, destination: for TCP, host and port; for Unix sockets, paths; nothing for an unspecified family.
        kind: family and transport; by default those of TCP or of the paths.
        command: 0 for LOCAL, 1 for PROXY.
        tail: additional fields, or whatever comes after the addresses.
    """
    if isinstance(source, bytes) or isinstance(destination, bytes):
        addresses = struct.pack("108s108s", source, destination) if source or destination else b""
        own = 0x31 if addresses else 0
    else:
        hosts = [ipaddress.ip_address(host) for host, _ in (source, destination)]
        addresses = b"".join(host.packed for host in hosts) + struct.pack("!HH", source[1], destination[1])
        own = 0x11 if hosts[0].version == 4 else 0x21
    body = addresses + tail
    return SIGNATURE + struct.pack("!BBH", 0x20 | command, kind or own, len(body)) + body


def field(kind: int, value: bytes) -> bytes:
    """An additional field of version 2."""
    return struct.pack("!BH", kind, len(value)) + value


def crc32c(data: bytes) -> int:
    """The checksum of Castagnoli's polynomial: a division, bit by bit."""
    bits = [byte >> bit & 1 for byte in data for bit in range(8)]
    # The first 32 bits are inverted, and zeros follow.
    register = 0xFFFFFFFF
    for bit in bits:
        register ^= bit
        register = (register >> 1) ^ (0x82F63B78 if register & 1 else 0)
    return register ^ 0xFFFFFFFF
