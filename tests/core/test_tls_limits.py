"""TLS without a socket: bounds, interruptions, what is refused, TLS in TLS, and any order of events."""

from __future__ import annotations

import gc
import ssl
import weakref
from collections.abc import Callable, Iterator
from typing import Any, get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from _kit.certificates import Certificate, Version, client_context, server_context
from _kit.tls import BIG, Pair, both_ends, every_version, move, opened
from websockets._session import tls
from websockets._session.tls import (
    INCOMING_LIMIT,
    OUTGOING_LIMIT,
    Incoming,
    Outgoing,
)
from websockets._session.tls_in_tls import relay
from websockets._session.tls_records import RecordTypes
from websockets.exceptions import InvalidState

# -------------------------------------------------------------------------------------------------------------- limits


def test_nothing_is_taken_before_the_handshake() -> None:
    pair = Pair()
    assert pair.client.send(b"x") == pair.client.room == 0
    pair.carry()
    assert pair.client.send(b"x") == 1


@pytest.mark.parametrize("data", [b"", bytearray(), memoryview(b"")])
def test_empty_writes(data: bytes) -> None:
    pair = opened()
    assert pair.client.send(data) == 0
    assert pair.client.data_to_send() == []


def test_other_types_of_data() -> None:
    pair = opened()
    numbers = memoryview(bytes(range(80))).cast("Q")
    assert pair.client.send(numbers) == 80
    assert pair.client.send(bytearray(b"x" * 20_000)) == 20_000
    move(pair.client, pair.server)
    assert pair.server.read(80) == bytes(range(80))
    buffer = memoryview(bytearray(40_000))
    assert pair.server.read_into(buffer) == 20_000
    assert buffer[:20_000] == b"x" * 20_000
    assert pair.server.read(0) == b""


def test_room_for_ciphertext() -> None:
    channel, other = opened().ends("client")
    assert channel.room == OUTGOING_LIMIT
    assert channel.send(BIG) == OUTGOING_LIMIT
    assert channel.send(BIG) == channel.room == 0
    assert OUTGOING_LIMIT < channel.unsent < OUTGOING_LIMIT + 1000
    pieces = channel.data_to_send(40_000)
    assert 30_000 < sum(map(len, pieces)) <= 40_000
    pieces += channel.data_to_send(10)
    pieces += channel.data_to_send()
    assert channel.data_to_send(10) == []
    assert channel.room == OUTGOING_LIMIT
    for piece in pieces:
        other.receive_data(piece)
    assert other.read(2 * OUTGOING_LIMIT) == BIG[:OUTGOING_LIMIT]


def test_room_for_tiny_messages() -> None:
    channel, _ = opened().ends("client")
    count = 0
    while channel.send(b"x"):
        count += 1
    assert OUTGOING_LIMIT // 30 < count < OUTGOING_LIMIT // 20
    assert len(channel.data_to_send()) < 10


def test_reading_pauses() -> None:
    pair = opened()
    given_ = 0
    while pair.server.wants_data:
        pair.client.send(bytes(10_000))
        given_ += move(pair.client, pair.server)
    assert INCOMING_LIMIT <= given_ < INCOMING_LIMIT + 11_000
    assert len(pair.server.read(16_384)) == 16_384
    assert pair.server.wants_data


def test_memory_is_given_back() -> None:
    """The buffers of a memory BIO never shrink, so only a slice goes there."""
    pair = opened()
    seen = 0
    for _ in range(4):
        assert pair.client.send(BIG)
        move(pair.client, pair.server)
        seen = max(seen, pair.server._input.pending)
        while pair.server.read(1_000):
            seen = max(seen, pair.server._input.pending)
    assert 0 < seen <= tls.SLICE
    assert pair.server._waiting.__sizeof__() < 1000


def test_channels_are_collected_at_once() -> None:
    pair = Pair()
    failed = pair.server
    failed.receive_data(b"GET / HTTP/1.1\r\n\r\n")
    references = [weakref.ref(pair.client), weakref.ref(failed)]
    gc.disable()
    try:
        del pair, failed
        assert [reference() for reference in references] == [None, None]
    finally:
        gc.enable()


@pytest.mark.parametrize("raised", [KeyboardInterrupt, RuntimeError])
@pytest.mark.parametrize("call", ["do_handshake", "read", "write", "unwrap"])
def test_interrupted(call: str, raised: type[BaseException]) -> None:
    """A signal handler raises inside a call: nobody knows what it did, so nothing follows it."""

    class Interrupted(ssl.SSLObject):
        armed = False

    def interrupted(self: Interrupted, *args: Any) -> Any:
        if self.armed:
            raise raised
        return getattr(ssl.SSLObject, call)(self, *args)

    setattr(Interrupted, call, interrupted)
    client = client_context()
    client.sslobject_class = Interrupted
    pair = opened(client=client) if call != "do_handshake" else Pair(client=client)
    Interrupted.armed = True
    if call == "do_handshake":
        move(pair.client, pair.server)
    else:
        pair.server.send(b"x")
    actions: dict[str, Callable[[], object]] = {
        "do_handshake": lambda: move(pair.server, pair.client),
        "read": lambda: (move(pair.server, pair.client), pair.client.read()),
        "write": lambda: pair.client.send(b"x"),
        "unwrap": pair.client.close,
    }
    with pytest.raises(raised):
        actions[call]()
    assert pair.client.incoming is Incoming.FAILED
    assert f"TLS was interrupted by {raised.__name__}" in str(pair.client.failure)
    with pytest.raises(InvalidState):
        pair.client.send(b"x")


@pytest.mark.parametrize("call", ["write", "unwrap"])
def test_failures_of_openssl(call: str) -> None:
    class Failing(ssl.SSLObject):
        pass

    def fails(*args: Any) -> Any:
        raise ssl.SSLError(ssl.SSL_ERROR_SSL, "out of order")

    setattr(Failing, call, fails)
    client = client_context()
    client.sslobject_class = Failing
    channel, _ = opened(client=client).ends("client")
    if call == "write":
        assert channel.send(BIG) == 0
    channel.close()
    assert "out of order" in str(channel.failure)
    assert (channel.incoming, channel.outgoing) == (Incoming.FAILED, Outgoing.FAILED)


# ----------------------------------------------------------------------------------------------------- the hidden parts


def record(kind: int, size: int) -> bytes:
    return bytes([kind, 3, 3]) + size.to_bytes(2, "big") + bytes([22]) * size


@given(
    sizes=st.lists(st.integers(0, 700), max_size=5),
    handshake=st.booleans(),
    cuts=st.lists(st.integers(1, 400), min_size=1),
)
def test_record_types(sizes: list[int], handshake: bool, cuts: list[int]) -> None:
    """A handshake record is found however the stream is cut, and nothing else looks like one."""
    stream = b"".join(record(23, size) for size in sizes)
    expected = len(stream) if handshake else -1
    stream += record(22, 50) if handshake else record(21, 2)
    finder, found, position = RecordTypes(), -1, 0
    for number in range(len(stream)):
        piece = stream[position : position + cuts[number % len(cuts)]]
        if (offset := finder.find(memoryview(piece))) >= 0:
            found = position + offset
            break
        position += len(piece)
        if position >= len(stream):
            break
    assert found == expected


@both_ends
@pytest.mark.parametrize("cut", [False, True])
def test_renegotiation_is_refused(end: str, cut: bool) -> None:
    """What matters is the type of the record, so its contents need not be right."""
    one, other = opened("TLSv1_2").ends(end)
    one.send(b"before")
    data = b"".join(one.data_to_send()) + record(22, 50)
    one.send(b"behind")
    data += b"".join(one.data_to_send())
    for piece in (data[n : n + 1] for n in range(len(data))) if cut else [data]:
        other.receive_data(piece)
    assert not other.wants_data
    other.receive_eof()
    assert other.read() == b"before"
    assert str(other.failure).startswith("the peer asked for renegotiation, which is refused")
    assert (other.incoming, other.outgoing) == (Incoming.FAILED, Outgoing.FAILED)
    # The peer is told that there is nothing more to come.
    move(other, one)
    assert one.read() == b""
    assert one.incoming is Incoming.CLOSED


def test_renegotiation_where_close_notify_fails() -> None:
    class Failing(ssl.SSLObject):
        def unwrap(self) -> None:
            raise ssl.SSLError(ssl.SSL_ERROR_SSL, "out of order")

    client = client_context(version="TLSv1_2")
    client.sslobject_class = Failing
    channel, _ = opened(client=client).ends("client")
    channel.receive_data(record(22, 50))
    assert channel.read() == b""
    assert "out of order" in str(channel.failure)


@every_version
def test_too_much_without_plaintext(version: Version, monkeypatch: pytest.MonkeyPatch) -> None:
    """Part of a record does for it here; floods of key updates are in ``test_tls_openssl.py``."""
    one, other = opened(version).ends("client")
    monkeypatch.setattr(tls, "SILENT_LIMIT", 50)
    for _ in range(2):
        one.send(bytes(100))
        other.receive_data(b"".join(one.data_to_send()))
        assert other.read() == bytes(100)
    one.send(bytes(100))
    data = b"".join(one.data_to_send())
    other.receive_data(data[:50])
    assert other.read() == b""
    assert not other.ended
    other.receive_data(data[50:60])
    assert other.read() == b""
    assert str(other.failure).startswith("the peer sent too many records without data")
    move(other, one)
    assert one.read() == b""
    assert one.incoming is Incoming.CLOSED


def test_renegotiation_after_close() -> None:
    pair = opened("TLSv1_2")
    pair.client.close()
    pair.client.receive_data(record(22, 50))
    assert pair.client.read() == b""
    assert (pair.client.incoming, pair.client.outgoing) == (Incoming.FAILED, Outgoing.CLOSED)


# ----------------------------------------------------------------------------------------------------------- TLS in TLS


class Nested:
    """A client and a server whose TLS runs through TLS, as to a server behind an https proxy."""

    def __init__(self, outer: Version, inner: Version, padding: int = 0) -> None:
        self.outer, certificate = opened(outer), Certificate("localhost", padding=padding)
        self.inner = Pair(inner, server=server_context(certificate, inner))
        self.carry()

    def relay(self) -> None:
        relay(self.inner.client, self.outer.client)
        relay(self.inner.server, self.outer.server)

    def carry(self) -> None:
        moved = True
        while moved:
            self.relay()
            moved = bool(move(self.outer.client, self.outer.server) + move(self.outer.server, self.outer.client))


@pytest.mark.parametrize("inner", get_args(Version))
@pytest.mark.parametrize("outer", get_args(Version))
def test_tls_in_tls(outer: Version, inner: Version) -> None:
    nested = Nested(outer, inner)
    client, server = nested.inner.ends("client")
    received = bytearray()
    view = memoryview(BIG)
    while view:
        view = view[client.send(view) :]
        nested.carry()
        while piece := server.read(10_000):
            received += piece
            nested.carry()
    assert received == BIG
    server.close()
    nested.carry()
    assert client.read() == b""
    assert client.incoming is Incoming.CLOSED
    assert nested.outer.client.incoming is Incoming.OPEN


def test_tls_in_tls_with_a_long_flight() -> None:
    """A handshake that sends more at once than waits in a channel otherwise."""
    nested = Nested("TLSv1_3", "TLSv1_3", padding=80_000)
    assert nested.inner.client.handshake_complete


@pytest.mark.parametrize("orderly", [True, False])
def test_tls_in_tls_ends_below(orderly: bool) -> None:
    """Any end of the channel nearer to the network cuts off the one inside."""
    nested = Nested("TLSv1_3", "TLSv1_2")
    nested.inner.server.send(b"last words")
    nested.relay()
    if orderly:
        nested.outer.server.close()
    move(nested.outer.server, nested.outer.client)
    if not orderly:
        nested.outer.client.receive_eof()
    nested.relay()
    assert nested.inner.client.read() == b"last words"
    assert nested.inner.client.incoming is Incoming.TRUNCATED
    assert nested.outer.client.incoming is (Incoming.CLOSED if orderly else Incoming.TRUNCATED)


# ------------------------------------------------------------------------------------------------- any cut, any order

Step = tuple[str, bool, int]
STEP = st.tuples(st.sampled_from(["send", "carry", "read"]), st.booleans(), st.integers(1, 40_000))


class Interleaving:
    """Both directions of a connection, where every step moves a number of bytes one way."""

    def __init__(self, version: Version) -> None:
        pair = Pair(version)
        self.channels = {False: pair.client, True: pair.server}
        self.wires = {False: bytearray(), True: bytearray()}
        self.left = {False: memoryview(BIG)[:90_000], True: memoryview(BIG)[7:70_000]}
        self.received = {False: bytearray(), True: bytearray()}

    def step(self, action: str, side: bool, size: int) -> None:
        channel = self.channels[side]
        if action == "send" and self.left[side]:
            self.left[side] = self.left[side][channel.send(self.left[side][:size]) :]
        elif action == "carry":
            self.wires[side] += b"".join(channel.data_to_send(None if size % 2 else size))
            if self.channels[not side].wants_data:
                self.channels[not side].receive_data(self.wires[side][:size])
                del self.wires[side][:size]
        elif action == "read":
            self.received[side] += channel.read(size)

    def rest(self) -> Iterator[Step]:
        """Enough steps to bring all across."""
        while any(len(self.received[side]) < (69_993 if not side else 90_000) for side in self.channels):
            for side in self.channels:
                yield from (("send", side, 50_001), ("carry", side, 50_001), ("read", side, 50_001))


@settings(max_examples=60)
@given(version=st.sampled_from(get_args(Version)), steps=st.lists(STEP, max_size=120))
def test_any_cut_and_any_order(version: Version, steps: list[Step]) -> None:
    both = Interleaving(version)
    for step in steps:
        both.step(*step)
    for _, step in zip(range(600), both.rest(), strict=False):
        both.step(*step)
    assert both.received == {False: BIG[7:70_000], True: BIG[:90_000]}
    assert [channel.failure for channel in both.channels.values()] == [None, None]


def test_data_behind_many_tickets_is_no_flood() -> None:
    """What OpenSSL hasn't seen yet isn't counted as silence."""
    context = server_context(version="TLSv1_3")
    context.num_tickets = 20
    pair = Pair("TLSv1_3", server=context)
    move(pair.client, pair.server)
    move(pair.server, pair.client)
    move(pair.client, pair.server)
    pair.client.receive_data(b"".join(pair.server.encrypt_all(memoryview(BIG))))
    received = b""
    while piece := pair.client.read():
        received += piece
    assert pair.client.failure is None
    assert received == BIG


def test_closing_keeps_what_was_given_back() -> None:
    pair = opened()
    pair.client.receive_data(b"".join(pair.server.encrypt_all(memoryview(b"abcdef"))))
    pair.client.unread(pair.client.read(2))
    pair.client.close()
    assert pair.client.read() == b"abcdef"
