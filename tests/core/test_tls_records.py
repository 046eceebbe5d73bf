"""Records of TLS: where they end, and a channel that gives OpenSSL complete ones only."""

from __future__ import annotations

import itertools
import ssl
import sys
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from _kit.certificates import Version, client_context
from _kit.tls import BIG, Pair, both_ends, every_version, opened
from websockets._session import tls
from websockets._session.tls import Incoming, TLSChannel
from websockets._session.tls_records import last_boundary, missing_bytes


def record(size: int) -> bytes:
    return b"\x17\x03\x03" + size.to_bytes(2, "big") + bytes(size)


@given(st.lists(st.integers(0, 2000), max_size=12), st.integers(0, 5000), st.integers(0, 30))
def test_boundaries(sizes: list[int], limit: int, cut: int) -> None:
    data = b"".join(map(record, sizes))
    data = data[: max(len(data) - cut, 0)]
    ends = [end for end in itertools.accumulate(size + 5 for size in sizes) if end <= len(data)]
    start = 0
    while ends:
        end = last_boundary(data, start, limit)
        fitting = [each for each in ends if each - start <= limit]
        assert end == (fitting[-1] if fitting else ends[0])
        ends = [each for each in ends if each > end]
        start = end
    assert last_boundary(data, start, limit) == start


@pytest.mark.parametrize("header", [b"HTTP/1.1 400", b"\x17\x03\x03\x41\x01", b"\x17\x02\x03\x00\x09"])
@pytest.mark.parametrize("before", [b"", record(3)])
def test_a_header_that_no_record_has(header: bytes, before: bytes) -> None:
    """OpenSSL has to see it: waiting for the rest could take forever."""
    assert last_boundary(before + header, 0, 10) == len(before + header)


def test_the_longest_record() -> None:
    assert last_boundary(record(2**14 + 256)[:-1], 0, 10) == 0
    assert last_boundary(record(2**14 + 256), 0, 10) == 2**14 + 261


@given(st.integers(0, 300), st.integers(1, 304), st.integers(0, 400))
def test_what_is_missing(size: int, begun: int, more: int) -> None:
    data = record(size) + bytes(200)
    begun = min(begun, size + 4)
    missing = size + 5 - begun
    rest = memoryview(data)[begun : begun + more]
    expected = len(rest) if begun + len(rest) < 5 else min(missing, len(rest))
    assert missing_bytes(data[:begun], rest) == expected


def received(channel: TLSChannel, data: bytes, step: int, room: int) -> bytes:
    """Everything that is decrypted of this, with reads of that size into a buffer of that room."""
    plaintext, buffer = b"", bytearray(room)
    for start in range(0, len(data), step):
        size, quiet = channel.decrypt_into(memoryview(data)[start : start + step], memoryview(buffer))
        plaintext += buffer[:size]
        assert quiet is channel.quiet
        while size := channel.read_into(buffer):
            plaintext += buffer[:size]
    return plaintext


def ciphertext(channel: TLSChannel, *messages: bytes) -> bytes:
    return b"".join(b"".join(channel.encrypt_all(memoryview(message))) for message in messages)


@pytest.mark.parametrize("room", [1000, 2**18])
@pytest.mark.parametrize("step", [1, 3, 1000, 16_406, 50_000, 2**20])
@every_version
@both_ends
def test_any_read(end: str, version: Version, step: int, room: int) -> None:
    ours, other = opened(version).ends(end)
    messages = [b"a", BIG[:20_000], b"b" * 300, b"c", BIG[:30_000]]
    if step == 1:
        messages[1:] = [BIG[:300], b"b", b"c"]
    assert received(ours, ciphertext(other, *messages), step, room) == b"".join(messages)
    assert ours.quiet


def test_no_partial_records_for_openssl() -> None:
    """OpenSSL is never asked in vain: its errors cost more than a message."""
    asked: list[int] = []

    class Counting(ssl.SSLObject):
        def read(self, len: int = 1024, buffer: Any = None) -> Any:
            asked.append(0)
            count: Any = super().read(len, buffer)
            asked[-1] = count
            return count

    context = client_context()
    context.sslobject_class = Counting
    ours, other = opened(client=context).ends("client")
    del asked[:]
    assert received(ours, ciphertext(other, *[BIG[:100_000]] * 3), 70_000, 2**18) == BIG[:100_000] * 3
    assert len(asked) == 3 * 7
    assert min(asked) > 0
    assert ours._input.pending == 0


def test_memory_is_bounded() -> None:
    ours, other = opened().ends("client")
    seen = 0
    data = ciphertext(other, BIG)
    for start in range(0, len(data), 60_000):
        ours.decrypt_into(memoryview(data)[start : start + 60_000], memoryview(bytearray(100)))
        seen = max(seen, ours._input.pending)
    assert seen <= 2 * tls.SLICE


def test_data_with_the_end_of_the_handshake() -> None:
    """The rest of a read, part of a record too, goes on where the handshake ended."""
    for cut in (1, 4, 10, 40):
        pair = Pair()
        pair.server.receive_data(b"".join(pair.client.data_to_send()))
        pair.client.receive_data(b"".join(pair.server.data_to_send()))
        flight = b"".join(pair.client.data_to_send()) + ciphertext(pair.client, b"first", b"second")
        pair.server.receive_data(flight[:-cut])
        assert received(pair.server, flight[-cut:], 100, 100).endswith(b"second")
        # The same where data is received in the other manner.
        pair.client.receive_data(b"".join(pair.server.data_to_send()))
        flight = ciphertext(pair.client, b"third", b"fourth")
        pair.server.decrypt_into(memoryview(flight[:-cut]), memoryview(bytearray(100)))
        if cut < 20:
            assert pair.server.decrypt(flight[-cut:]) is not None or pair.server.read()


def test_data_before_a_failure() -> None:
    ours, other = opened().ends("server")
    data = ciphertext(other, b"good") + record(40)
    buffer = bytearray(100)
    assert ours.decrypt_into(memoryview(data), memoryview(buffer)) == (4, False)
    assert buffer[:4] == b"good"
    assert ours.incoming is Incoming.FAILED
    assert ours.data_to_send()  # an alert
    assert ours.decrypt_into(memoryview(data), memoryview(buffer)) == (0, False)


@pytest.mark.parametrize("closed", [False, True])
def test_close_notify(closed: bool) -> None:
    ours, other = opened().ends("server")
    if closed:
        ours.close()
        ours.data_to_send()
    last = ciphertext(other, b"last")
    other.close()
    data = last + b"".join(other.data_to_send()) + record(20)
    buffer = bytearray(100)
    assert ours.decrypt_into(memoryview(data), memoryview(buffer)) == (4, False)
    assert ours.incoming is Incoming.CLOSED


def test_a_failure_while_encrypting() -> None:
    class Failing(ssl.SSLObject):
        raised: BaseException = ssl.SSLError(ssl.SSL_ERROR_SSL, "out of order")

        def write(self, data: Any) -> int:
            raise self.raised

    context = client_context()
    context.sslobject_class = Failing
    channel = opened(client=context).client
    assert channel.encrypt_all(memoryview(b"x")) == []
    assert channel.failure is Failing.raised
    assert channel.encrypt_all(memoryview(b"x")) == []
    Failing.raised = KeyboardInterrupt()
    channel = opened(client=context).client
    with pytest.raises(KeyboardInterrupt):
        channel.encrypt_all(memoryview(b"x"))
    assert "interrupted by KeyboardInterrupt" in str(channel.failure)


def test_no_name_to_check() -> None:
    """asyncio lets programs leave the check out, by an empty name."""
    context = client_context()
    with pytest.raises(ValueError, match="the context checks the host name"):
        TLSChannel(context, server_side=False)
    if sys.version_info < (3, 14):
        TLSChannel(context, server_side=False, needs_name=False).start()
    else:
        # Since then, ssl itself insists on a name; so does asyncio's TLS.
        with pytest.raises(ValueError, match="server_hostname"):
            TLSChannel(context, server_side=False, needs_name=False)
