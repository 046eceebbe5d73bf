"""A channel inside of a channel: it does what one channel does, and closes both."""

from __future__ import annotations

import ssl
from typing import Any, get_args

import pytest

from _kit.certificates import Certificate, Version, client_context, server_context
from _kit.tls import BIG, every_version, move, opened, transfer
from websockets._session.tls import INCOMING_LIMIT, Incoming, Outgoing, TLSChannel
from websockets._session.tls_in_tls import NestedChannel


class Ends:
    """A client and a server, each with a channel inside of another one."""

    def __init__(self, outer: Version = "TLSv1_3", inner: Version = "TLSv1_3", **options: Any) -> None:
        below = opened(outer)
        self.outer = below
        server = options.pop("server", None) or server_context(version=inner)
        context = client_context(version=inner)
        self.inner = TLSChannel(context, server_side=False, server_hostname="localhost")
        self.client = NestedChannel(self.inner, below.client)
        self.server = NestedChannel(TLSChannel(server, server_side=True), below.server)
        self.client.start()
        self.server.start()
        self.carry()

    def carry(self) -> None:
        """Carry ciphertext until nothing moves."""
        while carry(self.client, self.server) + carry(self.server, self.client):
            pass


def carry(source: Any, target: Any) -> int:
    return move(source, target)


@pytest.mark.parametrize("outer", get_args(Version))
@pytest.mark.parametrize("inner", get_args(Version))
def test_messages(outer: Version, inner: Version) -> None:
    ends = Ends(outer, inner)
    client: Any = ends.client
    server: Any = ends.server
    assert client.handshake_complete
    assert (client.incoming, client.outgoing) == (Incoming.OPEN, Outgoing.OPEN)
    assert transfer(client, server, BIG) == BIG
    assert transfer(server, client, BIG) == BIG
    assert client.unsent == 0
    assert client.failure is None


def test_what_it_tells() -> None:
    ends = Ends("TLSv1_2", "TLSv1_3")
    client = ends.client
    assert client.ssl_object is ends.inner.ssl_object
    assert client.version() == "TLSv1.3"
    assert client.cipher() == ends.inner.cipher()
    assert client.selected_alpn_protocol() is None
    assert client.getpeercert()["issuer"] == ((("commonName", "tests"),),)
    assert isinstance(client.getpeercert(True), bytes)
    assert client.wants_data
    assert not client.ended
    assert client.room > 2**15


def test_limits() -> None:
    """What isn't carried away waits, within bounds."""
    client = Ends().client
    taken = 0
    while count := client.send(BIG[taken:]):
        taken += count
    assert client.room == 0
    assert 2**16 <= client.unsent < 2**18
    first = client.data_to_send(1)
    assert first == []
    pieces = client.data_to_send(2**16)
    assert 0 < sum(map(len, pieces)) <= 2**16
    rest = client.data_to_send()
    assert client.unsent == 0
    assert sum(map(len, pieces + rest)) > taken
    assert client.room > 0


@every_version
def test_reading_in_pieces(version: Version) -> None:
    ends = Ends(version, version)
    client, server = ends.client, ends.server
    data = BIG[:INCOMING_LIMIT]
    view = memoryview(data)
    received = bytearray()
    buffer = bytearray(1000)
    while len(received) < len(data):
        view = view[server.send(view) :]
        for piece in server.data_to_send():
            # One byte of a record is missing, or there.
            for part in (piece[:-1], piece[-1:]):
                client.receive_data(part)
                while count := client.read_into(buffer):
                    received += buffer[:count]
                received += client.read(10)
    assert received == data
    assert client.read() == b""
    assert client.read_into(buffer) == 0


def test_plaintext_that_was_read_too_early() -> None:
    ends = Ends()
    ends.server.send(b"three")
    ends.carry()
    ends.client.unread(b"two")
    ends.client.unread(b"one")
    assert ends.client.read(4) == b"onet"
    assert ends.client.read() == b"wo"
    assert ends.client.read() == b"three"


def test_close_closes_both() -> None:
    ends = Ends()
    ends.client.send(b"last words")
    ends.client.close()
    assert ends.client.outgoing is Outgoing.CLOSED
    assert ends.outer.client.outgoing is Outgoing.CLOSED
    ends.carry()
    assert ends.server.read() == b"last words"
    assert ends.server.read() == b""
    assert (ends.server.incoming, ends.outer.server.incoming) == (Incoming.CLOSED, Incoming.CLOSED)
    assert ends.server.ended
    assert not ends.server.wants_data


def closed(channel: TLSChannel) -> bool:
    return channel.outgoing is Outgoing.CLOSED


def test_close_waits_for_what_was_sent() -> None:
    ends = Ends()
    taken = ends.client.send(BIG)
    taken += ends.client.send(BIG[taken:])
    ends.client.close()
    assert not closed(ends.outer.client)
    received = bytearray()
    for piece in ends.client.data_to_send():
        ends.server.receive_data(piece)
        while data := ends.server.read():
            received += data
    assert received == BIG[:taken]
    assert closed(ends.outer.client)
    assert ends.server.incoming is Incoming.CLOSED


def test_the_end_of_the_stream() -> None:
    ends = Ends()
    ends.client.receive_eof()
    assert ends.client.read() == b""
    assert ends.client.incoming is Incoming.TRUNCATED


def test_a_certificate_that_is_not_trusted() -> None:
    client = Ends(server=server_context(Certificate("elsewhere"))).client
    assert isinstance(client.failure, ssl.SSLCertVerificationError)
    assert not client.handshake_complete


def test_a_failure_below() -> None:
    client = Ends().client
    client.receive_data(b"\x17\x03\x03\x00\x20" + bytes(32))
    assert client.read() == b""
    assert isinstance(client.failure, ssl.SSLError)
    assert client.ended
    assert client.outgoing is Outgoing.FAILED
    assert client.room == 0


def test_ciphertext_that_waits_below() -> None:
    """As when the inner channel had no room for it before."""
    ends = Ends()
    buffer = bytearray(100)
    for message in b"one", b"two":
        ends.server.send(message)
        move(ends.outer.server, ends.outer.client)
    assert ends.client.read_into(buffer) == 6
    ends.server.send(b"three")
    move(ends.outer.server, ends.outer.client)
    assert ends.client.read() == b"three"
