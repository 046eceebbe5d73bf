"""The header of the PROXY protocol: what it says, in whatever pieces it comes; what is none; who may send one."""

from __future__ import annotations

import contextlib
import ipaddress
import re
import struct
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from _kit.proxy_header import SIGNATURE, Place, crc32c, field, line, version_2
from websockets._codec.proxy_protocol import MAX_HEADER, UNIX, Addresses, ProxyHeaderReader, TrustedProxies
from websockets._rules.option_table import SERVE, check
from websockets._session.options import tls_after_header
from websockets.http11 import Request
from websockets.server import ServerProtocol

V4: tuple[Place, Place] = ("203.0.113.7", 40000), ("198.51.100.1", 443)
V6: tuple[Place, Place] = ("2001:db8::7", 65535), ("::1", 0)
OWN = Addresses()

OF_V4 = Addresses(*V4)
OF_V6 = Addresses(*((*place, 0, 0) for place in V6))


def checked(header: bytes) -> bytes:
    """A header whose last field is its checksum: of itself, with zeros in place of the checksum."""
    header = header[:14] + struct.pack("!H", len(header) + 7 - 16) + header[16:] + field(3, bytes(4))
    return header[:-4] + crc32c(header).to_bytes(4, "big")


def read(header: bytes, size: int | None = None) -> tuple[Addresses, list[int]]:
    """Read a header as a server does: no more than is missing, and up to ``size`` bytes at a time.

    Returns:
        What it says, and the sizes of the reads.
    """
    reader, at, sizes = ProxyHeaderReader(), 0, []
    while True:
        assert reader.missing >= 1
        piece = header[at : at + (reader.missing if size is None else min(size, reader.missing))]
        assert piece, "more is missing than there is"
        at += len(piece)
        sizes.append(len(piece))
        addresses = reader.feed(piece)
        if addresses is not None:
            assert at == len(header), "it read beyond the header, or not all of it"
            return addresses, sizes


HEADERS: dict[str, tuple[bytes, Addresses]] = {
    # Version 1. The examples of section 2.1 are among them.
    "line for IPv4": (line(*V4), OF_V4),
    "line for IPv6": (line(*V6), OF_V6),
    "longest line for IPv4": (
        b"PROXY TCP4 255.255.255.255 255.255.255.255 65535 65535\r\n",
        Addresses(*[("255.255.255.255", 65535)] * 2),
    ),
    "shortest line for IPv4": (b"PROXY TCP4 0.0.0.0 0.0.0.0 0 0\r\n", Addresses(*[("0.0.0.0", 0)] * 2)),
    "shortest line for IPv6": (b"PROXY TCP6 :: :: 0 0\r\n", Addresses(*[("::", 0, 0, 0)] * 2)),
    "longest line for IPv6": (
        b"PROXY TCP6 " + b" ".join([b":".join([b"ffff"] * 8)] * 2) + b" 65535 65535\r\n",
        Addresses(*[("ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", 65535, 0, 0)] * 2),
    ),
    "line in capitals": (b"PROXY TCP6 2001:DB8::7 ::1 65535 0\r\n", OF_V6),
    "line for IPv4 in IPv6": (
        b"PROXY TCP6 ::ffff:203.0.113.7 ::ffff:198.51.100.1 40000 443\r\n",
        Addresses(("::ffff:203.0.113.7", 40000, 0, 0), ("::ffff:198.51.100.1", 443, 0, 0)),
    ),
    "line for something unknown": (b"PROXY UNKNOWN\r\n", OWN),
    "longest line for something unknown": (
        b"PROXY UNKNOWN " + b" ".join([b":".join([b"ffff"] * 8)] * 2) + b" 65535 65535\r\n",
        OWN,
    ),
    "line with anything behind unknown": (b"PROXY UNKNOWN a b c d e f g h\r\n", OWN),
    # Version 2.
    "IPv4": (version_2(*V4), OF_V4),
    "IPv6": (version_2(*V6), OF_V6),
    "IPv4 in IPv6": (
        version_2(("::ffff:203.0.113.7", 1), ("::ffff:198.51.100.1", 2)),
        Addresses(("::ffff:203.0.113.7", 1, 0, 0), ("::ffff:198.51.100.1", 2, 0, 0)),
    ),
    "Unix": (version_2(b"/run/a\xc3\xa9", b"/run/b"), Addresses("/run/a\u00e9", "/run/b")),
    "Unix, unnamed": (version_2(b"", b"/run/b"), Addresses("", "/run/b")),
    "Unix, abstract": (version_2(b"\0name", b"/" + b"x" * 107), Addresses(b"\0name", "/" + "x" * 107)),
    "local": (version_2(command=0), OWN),
    "local with addresses": (version_2(*V4, command=0), OWN),
    "local with nonsense": (version_2(command=0, kind=0xFF, tail=field(3, b"????")), OWN),
    "unspecified": (version_2(), OWN),
    "unspecified with anything": (version_2(tail=b"whatever"), OWN),
    "datagrams": (version_2(*V4, kind=0x12), OWN),
    "datagrams over IPv6": (version_2(*V6, kind=0x22), OWN),
    "Unix datagrams": (version_2(b"/run/a", b"/run/b", kind=0x32), OWN),
    "no transport": (version_2(*V4, kind=0x10), OWN),
    # Additional fields.
    "fields": (version_2(*V4, tail=field(5, b"id") + field(0x20, b"\1" + bytes(4)) + field(4, bytes(9))), OF_V4),
    "an empty field": (version_2(*V6, tail=field(2, b"")), OF_V6),
    "too short for a field": (version_2(*V4, tail=b"\5\0"), OF_V4),
    "checksum": (checked(version_2(*V4)), OF_V4),
    "checksum behind other fields": (checked(version_2(*V6, tail=field(1, b"h2"))), OF_V6),
    "as long as may be": (version_2(*V4, tail=field(4, bytes(MAX_HEADER - 28 - 3))), OF_V4),
}


@pytest.mark.parametrize(("header", "addresses"), HEADERS.values(), ids=HEADERS)
def test_headers(header: bytes, addresses: Addresses) -> None:
    for size in (None, 1, 2, 7):
        assert read(header, size)[0] == addresses


def test_checksum_of_the_standard() -> None:
    # RFC 3720 appendix B.4.
    assert crc32c(bytes(32)) == 0x8A9136AA
    assert crc32c(bytes(range(32))) == 0x46DD794E


def test_few_reads() -> None:
    """Of version 2 all that is left is read at once; a line is guessed word by word."""
    assert read(version_2(*V4))[1] == [15, 1, 12]
    assert read(b"PROXY UNKNOWN\r\n")[1] == [15]
    assert len(read(line(*V4))[1]) <= 10
    assert len(read(line(*V6))[1]) <= 10


places = st.tuples(st.ip_addresses(v=4), st.integers(0, 65535)) | st.tuples(st.ip_addresses(v=6), st.integers(0, 65535))


@given(places, places, st.integers(1, 20), st.booleans())
@example((ipaddress.ip_address("::ffff:0.0.0.1"), 1), (ipaddress.ip_address("::"), 2), 1, False)
def test_any_addresses_in_any_pieces(source: Any, destination: Any, size: int, binary: bool) -> None:
    if source[0].version != destination[0].version:
        destination = source[0], destination[1]
    ends = [(str(ip), port) for ip, port in (source, destination)]
    addresses, _ = read((version_2 if binary else line)(*ends), size)
    for told, (ip, port) in zip(addresses, (source, destination), strict=True):
        assert (ipaddress.ip_address(told[0]), told[1]) == (ip, port)
        assert told[2:] == (() if ip.version == 4 else (0, 0))


@given(st.binary(max_size=200), st.booleans())
@example(b"\x21\x11\x00\x0c", True)
def test_anything_is_a_header_or_none(data: bytes, signed: bool) -> None:
    """Whatever comes: it is read with bounds, or refused, or there is too little of it."""
    reader, at = ProxyHeaderReader(), 0
    data = SIGNATURE + data if signed else b"PROXY " + data
    with contextlib.suppress(ValueError):
        while piece := data[at : at + reader.missing]:
            at += len(piece)
            if reader.feed(piece) is not None:
                break
            assert 1 <= reader.missing <= MAX_HEADER


WRONG: dict[str, tuple[bytes, str]] = {
    "a request": (b"GET / HTTP/1.1\r\n", "connection begins with b'GET / HTTP/1.1\\r', which is no PROXY protocol h"),
    "TLS": (b"\x16\x03\x01\x02\x00\x01\x00", "connection begins with b'\\x16\\x03"),
    "lower case": (b"proxy tcp4 ", "connection begins with b'proxy tcp4 '"),
    "almost the signature": (SIGNATURE[:-1] + b"\r" + bytes(4), "which is no PROXY protocol header"),
    "an empty line": (b"\r\nPROXY TCP4", "which is no PROXY protocol header"),
    # Version 1.
    "no CR": (b"PROXY UNKNOWN a\n", "no line of at most 107 bytes that ends in CRLF"),
    "two lines": (b"PROXY TCP4 0.0.0.0\n0.0.0.0 0 0\r\n", "no line of at most 107 bytes that ends in CRLF"),
    "too long": (b"PROXY UNKNOWN " + b"x" * 92 + b"\r\n", "no line of at most 107 bytes that ends in CRLF"),
    "endless": (b"PROXY UNKNOWN " + b"x" * 1000, "no line of at most 107 bytes that ends in CRLF"),
    "another protocol": (b"PROXY UDP4 0.0.0.0 0.0.0.0 0 0\r\n", "malformed line: b'PROXY UDP4 0.0.0.0 0.0.0.0 0 0'"),
    "unknown and more": (b"PROXY UNKNOWNS\r\n", "malformed line"),
    "families mixed": (b"PROXY TCP4 ::1 ::1 1 2\r\n", "malformed line"),
    "IPv4 in TCP6": (b"PROXY TCP6 127.0.0.1 127.0.0.1 1 2\r\n", "malformed line"),
    "one of each": (b"PROXY TCP6 ::1 127.0.0.1 1 2\r\n", "malformed line"),
    "no address": (b"PROXY TCP4 1.2.3 127.0.0.1 1 2\r\n", "malformed line"),
    "leading zeros": (b"PROXY TCP4 127.0.0.01 127.0.0.1 1 2\r\n", "malformed line"),
    "a zone": (b"PROXY TCP6 fe80::1%1 ::1 1 2\r\n", "malformed line"),
    "a name": (b"PROXY TCP4 localhost 127.0.0.1 1 2\r\n", "malformed line"),
    "port too high": (b"PROXY TCP4 127.0.0.1 127.0.0.1 1 65536\r\n", "malformed line"),
    "port with zeros": (b"PROXY TCP4 127.0.0.1 127.0.0.1 01 2\r\n", "malformed line"),
    "port with a sign": (b"PROXY TCP4 127.0.0.1 127.0.0.1 +1 2\r\n", "malformed line"),
    "two blanks": (b"PROXY TCP4  127.0.0.1 127.0.0.1 1 2\r\n", "malformed line"),
    "too few words": (b"PROXY TCP4 127.0.0.1 127.0.0.1 1\r\n", "malformed line"),
    "too many words": (b"PROXY TCP4 127.0.0.1 127.0.0.1 1 2 3\r\n", "malformed line"),
    "no ASCII": (b"PROXY TCP4 127.0.0.1 127.0.0.\xb2 1 2\r\n", "malformed line"),
    # Version 2.
    "version 1 in binary": (SIGNATURE + b"\x11\x11\x00\x0c" + bytes(12), "unsupported version 1 of the PROXY protocol"),
    "version 3": (SIGNATURE + b"\x31\x11\xff\xff", "unsupported version 3 of the PROXY protocol"),
    "unknown command": (version_2(*V4, command=2), "unknown command 2"),
    "unknown family": (version_2(*V4, kind=0x41), "unknown address family 4 or transport 1"),
    "unknown transport": (version_2(*V4, kind=0x13), "unknown address family 1 or transport 3"),
    "too short for IPv4": (SIGNATURE + b"\x21\x11\x00\x0b" + bytes(11), "11 bytes for addresses that take 12"),
    "too short for IPv6": (version_2(*V4, kind=0x21), "12 bytes for addresses that take 36"),
    "too short for Unix": (version_2(*V6, kind=0x31), "36 bytes for addresses that take 216"),
    "nothing for IPv4": (version_2(kind=0x11), "0 bytes for addresses that take 12"),
    "too long for us": (
        SIGNATURE + b"\x21\x11" + struct.pack("!H", MAX_HEADER - 15),
        "header of 4097 bytes; at most 4096",
    ),
    "longest": (SIGNATURE + b"\x20\x00\xff\xff", "header of 65551 bytes; at most 4096 are read"),
    "field too long": (version_2(*V4, tail=b"\5\0\3id"), "additional field of 3 bytes, of which 2 are there"),
    "wrong checksum": (version_2(*V4, tail=field(3, b"\0\0\0\1")), "wrong checksum"),
    "checksum of another length": (version_2(*V4, tail=field(3, b"")), "wrong checksum"),
    "changed since": (checked(version_2(*V4)).replace(b"\x9c\x40", b"\x9c\x41"), "wrong checksum"),
}


@pytest.mark.parametrize(("data", "error"), WRONG.values(), ids=WRONG)
def test_what_is_no_header(data: bytes, error: str) -> None:
    for size in (None, 1, 5):
        # In small pieces the beginning that is shown is shorter.
        text = error if size is None or "begins" not in error else "no PROXY protocol header"
        with pytest.raises(ValueError, match=re.escape(text)):
            read(data, size)


@pytest.mark.parametrize("first", [b"G", b"\0", b"\x16", b"\n", b" "])
def test_refused_at_the_first_wrong_byte(first: bytes) -> None:
    with pytest.raises(ValueError, match="which is no PROXY protocol header"):
        ProxyHeaderReader().feed(first)


# ------------------------------------------------------------------------------------------------------- who is trusted

TRUSTED = ["10.0.0.0/8", "192.0.2.1", "2001:db8::/32"]


@pytest.mark.parametrize(
    ("address", "trusted"),
    [
        (("10.255.255.255", 1), True),
        (("11.0.0.0", 1), False),
        (("192.0.2.1", 1), True),
        (("192.0.2.2", 1), False),
        (("2001:db8:1::", 1, 0, 0), True),
        (("2001:db9::", 1, 0, 0), False),
        # A socket for both families.
        (("::ffff:10.0.0.1", 1, 0, 0), True),
        (("::ffff:11.0.0.1", 1, 0, 0), False),
        (("fe80::1%eth0", 1, 0, 2), False),
        # Peers that are gone, and sockets of other kinds.
        (None, False),
        ((1, 2), False),
        (("somewhere", 1), False),
        ("", False),
        (b"\0name", False),
    ],
)
def test_trusted(address: object, trusted: bool) -> None:
    assert (address in TrustedProxies.of(TRUSTED)) is trusted


def test_trusted_on_a_unix_socket() -> None:
    proxies = TrustedProxies.of({UNIX, "10.0.0.1"})
    assert "" in proxies
    assert "/run/peer" in proxies
    assert b"\0name" in proxies
    assert ("10.0.0.1", 1) in proxies
    assert ("10.0.0.2", 1) not in proxies
    assert None not in proxies


@pytest.mark.parametrize(
    ("option", "error", "text"),
    [
        ("10.0.0.1", TypeError, "proxy_protocol must be a list of addresses of proxies or None, not '10.0.0.1'"),
        (True, TypeError, "proxy_protocol must be a list of addresses of proxies or None, not True"),
        (b"10.0.0.1", TypeError, "proxy_protocol must be a list of addresses of proxies or None, not b'10.0.0.1'"),
        ([167772161], TypeError, "proxy_protocol must have strings, not 167772161"),
        ([], ValueError, "proxy_protocol is empty: it must name the proxies that are trusted"),
        (
            ["proxy.example"],
            ValueError,
            "invalid item in proxy_protocol: 'proxy.example' does not appear to be an IPv4",
        ),
        (
            ["10.0.0.1/8"],
            ValueError,
            "invalid item in proxy_protocol: 10.0.0.1/8 has host bits set; expected an IP add",
        ),
        (["*"], ValueError, "expected an IP address, a network such as '10.0.0.0/8', or 'unix:'"),
        (["10.0.0.1:80"], ValueError, "expected an IP address, a network such as '10.0.0.0/8', or 'unix:'"),
    ],
)
def test_no_list_of_proxies(option: Any, error: type[Exception], text: str) -> None:
    with pytest.raises(error) as raised:
        check("proxy_protocol", option, SERVE)
    assert text in str(raised.value)


def test_list_of_proxies() -> None:
    assert check("proxy_protocol", None, SERVE) is None
    proxies = check("proxy_protocol", (name for name in TRUSTED), SERVE)
    assert ("10.0.0.1", 1) in proxies


# ----------------------------------------------------------------------------------------------------------- behind it


def test_tls_after_the_header() -> None:
    arguments: dict[str, Any] = {"host": "h", "ssl": "context", "ssl_handshake_timeout": 3, "ssl_shutdown_timeout": 4}
    assert tls_after_header(arguments) == {
        "sslcontext": "context",
        "ssl_handshake_timeout": 3,
        "ssl_shutdown_timeout": 4,
    }
    assert arguments == {"host": "h"}
    assert tls_after_header({"ssl": "context"}) == {"sslcontext": "context"}


def test_no_tls_after_the_header() -> None:
    arguments: dict[str, Any] = {"host": "h", "ssl": None, "ssl_handshake_timeout": 3}
    assert tls_after_header(arguments) is None
    assert arguments == {"host": "h", "ssl": None, "ssl_handshake_timeout": 3}
    assert tls_after_header({}) is None


# ------------------------------------------------------------------------------------------- where nobody expects one


@pytest.mark.parametrize("header", [line(*V4), b"PROXY UNKNOWN\r\n", version_2(*V4), version_2(command=0)])
@pytest.mark.parametrize("tail", [b"", b"GET / HTTP/1.1\r\nHost: h\r\n\r\n"], ids=["alone", "with a request"])
def test_a_server_that_does_not_expect_it_names_it(
    header: bytes, tail: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "websockets.server")
    server = ServerProtocol()
    server.receive_data(header + tail)
    answer, *_ = server.data_to_send()
    assert answer.startswith(b"HTTP/1.1 400 Bad Request\r\n")
    assert answer.endswith(
        b"\r\nFailed to open a WebSocket connection: did not receive a valid HTTP request: "
        b"PROXY protocol header, which isn't expected; see the option proxy_protocol.\n"
    )
    assert caplog.messages == [
        "opening handshake failed: PROXY protocol header, which isn't expected; see the option proxy_protocol",
        "connection rejected (400 Bad Request)",
    ]


def test_a_line_in_pieces_is_named_too() -> None:
    server = ServerProtocol()
    for byte in line(*V4):
        server.receive_data(bytes([byte]))
    assert b"PROXY protocol header, which isn't expected" in server.data_to_send()[0]


def test_a_path_called_proxy_is_no_header() -> None:
    server = ServerProtocol()
    server.receive_data(b"GET /PROXY HTTP/1.1\r\nHost: h\r\n\r\n")
    (request,) = server.events_received()
    assert isinstance(request, Request)
