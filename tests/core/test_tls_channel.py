"""TLS without a socket: the handshake, messages, and the end, between two channels that are joined in memory.

Limits, refusals and TLS in TLS: ``test_tls_limits.py``. OpenSSL's own programs and sockets: ``test_tls_openssl.py``.
"""

from __future__ import annotations

import ssl
from typing import Any

import pytest

from _kit.certificates import Certificate, Version, client_context, server_context
from _kit.tls import BIG, Pair, both_ends, every_version, move, opened, transfer
from websockets._session.tls import (
    Incoming,
    Outgoing,
    TLSChannel,
)
from websockets._session.tls_states import Event, after
from websockets.exceptions import InvalidState

# ------------------------------------------------------------------------------------------------------- the handshake


@every_version
def test_handshake(version: Version) -> None:
    pair = Pair(version)
    assert not pair.client.handshake_complete
    assert pair.client.version() is None
    assert pair.server.data_to_send() == []
    pair.carry()
    for channel in pair.client, pair.server:
        assert channel.handshake_complete
        assert channel.failure is None
        assert channel.version() == version.replace("_", ".")
        assert channel.cipher() == channel.ssl_object.cipher() != None  # noqa: E711
    assert pair.client.getpeercert()["subject"] == ((("commonName", "localhost"),),)
    assert pair.client.getpeercert(binary_form=True)[:1] == b"\x30"
    assert pair.server.getpeercert() is None


@every_version
@both_ends
@pytest.mark.parametrize("size", [1, 100, 16384, 16385, len(BIG)])
def test_messages(version: Version, end: str, size: int) -> None:
    source, target = opened(version).ends(end)
    for data in BIG[:size], BIG[-size:]:
        assert transfer(source, target, data) == data


@every_version
def test_one_byte_at_a_time(version: Version) -> None:
    pair = Pair(version)
    received = bytearray()
    sent = 0
    for _ in range(20):
        for source, target in pair.ends("client"), pair.ends("server"):
            for byte in b"".join(source.data_to_send()):
                target.receive_data(bytes([byte]))
                received += target.read()
        sent += pair.client.send(b"hello")
    pair.carry()
    received += pair.server.read()
    assert received == b"hello" * (sent // 5)
    assert sent >= 50


@every_version
def test_data_behind_the_last_flight(version: Version) -> None:
    """Plaintext arrives in the same read as the end of the handshake."""
    pair = Pair(version)
    while not pair.client.handshake_complete:
        move(pair.client, pair.server)
        move(pair.server, pair.client)
    pair.client.send(b"early")
    pair.client.send(BIG[:40_000])
    move(pair.client, pair.server)
    assert pair.server.handshake_complete
    assert pair.server.read() == b"early" + BIG[:40_000]


def test_alpn() -> None:
    client, server = client_context(), server_context()
    client.set_alpn_protocols(["h2", "http/1.1"])
    server.set_alpn_protocols(["http/1.1"])
    pair = opened(client=client, server=server)
    assert pair.client.selected_alpn_protocol() == pair.server.selected_alpn_protocol() == "http/1.1"
    assert opened().client.selected_alpn_protocol() is None


def test_sni() -> None:
    asked: list[str | None] = []
    server = server_context()
    other = server_context(Certificate("example.com"))

    def choose(ssl_object: Any, name: str | None, context: ssl.SSLContext) -> None:
        asked.append(name)
        ssl_object.context = other

    server.sni_callback = choose
    pair = opened(server=server, hostname="example.com")
    assert asked == ["example.com"]
    assert pair.client.getpeercert()["subject"] == ((("commonName", "example.com"),),)


@every_version
def test_client_certificate(version: Version) -> None:
    server = server_context(version=version)
    server.load_verify_locations(cadata=client_authority())
    server.verify_mode = ssl.CERT_REQUIRED
    pair = opened(version, client=client_context(Certificate("somebody"), version), server=server)
    assert pair.server.getpeercert()["subject"] == ((("commonName", "somebody"),),)


def client_authority() -> str:
    return Certificate("tests", authority=True).text


@every_version
def test_missing_client_certificate(version: Version) -> None:
    server = server_context(version=version)
    server.load_verify_locations(cadata=client_authority())
    server.verify_mode = ssl.CERT_REQUIRED
    pair = Pair(version, server=server)
    pair.carry()
    assert pair.server.failure is not None
    assert pair.server.failure.reason == "PEER_DID_NOT_RETURN_A_CERTIFICATE"
    # A client of TLS 1.3 learns of it when it reads.
    assert pair.client.read() == b""
    assert pair.client.failure is not None
    assert "ALERT" in pair.client.failure.reason
    assert pair.client.incoming is Incoming.FAILED


@every_version
@pytest.mark.parametrize(
    ("certificate", "hostname", "text"),
    [
        (Certificate("localhost"), "example.com", "Hostname mismatch"),
        (Certificate("localhost", days=-1), "localhost", "certificate has expired"),
        (Certificate("localhost", issuer="localhost"), "localhost", "self-signed certificate"),
        (Certificate("localhost", issuer="nobody"), "localhost", "unable to get local issuer certificate"),
    ],
)
def test_wrong_certificates(version: Version, certificate: Certificate, hostname: str, text: str) -> None:
    pair = Pair(version, server=server_context(certificate, version), hostname=hostname)
    move(pair.client, pair.server)
    move(pair.server, pair.client)
    assert isinstance(pair.client.failure, ssl.SSLCertVerificationError)
    assert text in pair.client.failure.verify_message
    assert (pair.client.incoming, pair.client.outgoing) == (Incoming.FAILED, Outgoing.FAILED)
    assert not pair.client.handshake_complete
    # The alert is still there to be sent, and says to the server what was wrong.
    assert move(pair.client, pair.server)
    pair.server.read()
    assert pair.server.failure is not None
    assert "ALERT" in pair.server.failure.reason


def test_versions_that_do_not_meet() -> None:
    pair = Pair(client=client_context(version="TLSv1_3"), server=server_context(version="TLSv1_2"))
    pair.carry()
    assert [channel.failure is None for channel in pair.ends("client")] == [False, False]


@pytest.mark.parametrize("data", [b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n", bytes(100), b"\xff" * 100])
@both_ends
def test_garbage_in_place_of_tls(data: bytes, end: str) -> None:
    channel, _ = Pair().ends(end)
    channel.receive_data(data)
    assert channel.incoming is Incoming.FAILED
    assert isinstance(channel.failure, ssl.SSLError)
    assert channel.failure.__traceback__ is None
    channel.receive_data(data)
    channel.receive_eof()
    channel.close()
    channel.start()
    assert channel.read() == b""


@every_version
def test_garbage_after_the_handshake(version: Version) -> None:
    pair = opened(version)
    pair.client.send(b"good")
    data = bytearray(b"".join(pair.client.data_to_send()))
    pair.client.send(b"bad")
    data += b"".join(pair.client.data_to_send())
    data[-1] ^= 1
    pair.server.receive_data(data)
    # What arrived before it is delivered.
    assert pair.server.read() == b"good"
    assert pair.server.ended
    assert pair.server.failure is not None
    with pytest.raises(InvalidState, match="can't send plaintext: TLS failed") as caught:
        pair.server.send(b"late")
    assert caught.value.__cause__ is pair.server.failure
    move(pair.server, pair.client)
    assert pair.client.read() == b""
    assert pair.client.failure is not None
    assert pair.client.failure.reason in ("SSLV3_ALERT_BAD_RECORD_MAC", "SSL/TLS_ALERT_BAD_RECORD_MAC")


@both_ends
def test_stream_ends_during_the_handshake(end: str) -> None:
    channel, _ = Pair().ends(end)
    channel.receive_eof()
    assert isinstance(channel.failure, ssl.SSLEOFError)
    assert str(channel.failure).startswith("the peer ended the connection during the TLS handshake")
    assert channel.incoming is Incoming.FAILED


@pytest.mark.parametrize(
    ("server_side", "hostname", "text"),
    [
        (False, None, "the context checks the host name"),
        (False, "", "the context checks the host name"),
        (False, ".a", "idna"),
        (True, "localhost", "server_hostname is for clients"),
    ],
)
def test_wrong_host_names(server_side: bool, hostname: str | None, text: str) -> None:
    context = server_context() if server_side else client_context()
    with pytest.raises(ValueError, match=text):
        TLSChannel(context, server_side=server_side, server_hostname=hostname)


def test_contexts_are_not_changed() -> None:
    client, server = client_context(version="TLSv1_2"), server_context(version="TLSv1_2")
    before = [(context.options, context.verify_flags, context.verify_mode) for context in (client, server)]
    opened(client=client, server=server)
    assert before == [(context.options, context.verify_flags, context.verify_mode) for context in (client, server)]


# ------------------------------------------------------------------------------------------------------------- the end


@every_version
@both_ends
def test_orderly_end(version: Version, end: str) -> None:
    one, other = opened(version).ends(end)
    one.send(b"last words")
    one.close()
    one.close()
    assert one.outgoing is Outgoing.CLOSED
    with pytest.raises(InvalidState, match="can't send plaintext: we closed"):
        one.send(b"more")
    move(one, other)
    assert other.read() == b"last words"
    assert (other.incoming, other.ended) == (Incoming.CLOSED, True)
    # The other half is still open. The answer may come late, or never.
    assert transfer(other, one, b"answer") == b"answer"
    assert not one.ended
    other.close()
    move(other, one)
    assert one.read() == b""
    assert one.incoming is Incoming.CLOSED
    assert one.data_to_send() == other.data_to_send() == []
    one.receive_eof()
    assert (one.incoming, one.failure) == (Incoming.CLOSED, None)


@every_version
@both_ends
def test_both_close_at_once(version: Version, end: str) -> None:
    pair = opened(version)
    for channel in pair.ends(end):
        channel.send(b"x")
        channel.close()
    for source, target in pair.ends(end), pair.ends(end)[::-1]:
        move(source, target)
        assert target.read() == b"x"
        assert target.incoming is Incoming.CLOSED


@every_version
def test_close_while_data_is_unread(version: Version) -> None:
    """Neither what was decrypted, nor what wasn't, nor what is still on its way is lost by our close_notify."""
    pair = opened(version)
    data = BIG[: 3 * 16384]
    pair.server.send(data[:40_000])
    ciphertext = b"".join(pair.server.data_to_send())
    pair.client.receive_data(ciphertext[:-10])
    received = pair.client.read(10)
    pair.client.close()
    pair.client.receive_data(ciphertext[-10:])
    buffer = bytearray(100)
    received += buffer[: pair.client.read_into(buffer)]
    pair.server.send(data[40_000:])
    move(pair.server, pair.client)
    while piece := pair.client.read(7_000):
        received += piece
    assert received == data
    assert not pair.client.ended
    pair.client.receive_eof()
    assert pair.client.incoming is Incoming.TRUNCATED


@every_version
@pytest.mark.parametrize("cut", [None, -1, -30])
def test_truncation(version: Version, cut: int | None) -> None:
    """The end of the stream between two records, and inside one."""
    pair = opened(version)
    pair.client.send(b"whole")
    move(pair.client, pair.server)
    if cut is not None:
        pair.client.send(b"torn")
        pair.server.receive_data(b"".join(pair.client.data_to_send())[:cut])
    pair.server.receive_eof()
    assert not pair.server.wants_data
    with pytest.raises(InvalidState, match="data after the end of the stream"):
        pair.server.receive_data(b"x")
    assert not pair.server.ended
    assert pair.server.read() == b"whole"
    assert (pair.server.incoming, pair.server.failure) == (Incoming.TRUNCATED, None)
    # The other half isn't concerned: the peer may have closed one direction of TCP.
    assert pair.server.outgoing is Outgoing.OPEN
    assert transfer(pair.server, pair.client, b"still") == b"still"
    pair.server.close()
    move(pair.server, pair.client)
    assert pair.client.read() == b""
    assert pair.client.incoming is Incoming.CLOSED


def test_truncation_behind_read_into() -> None:
    pair = opened()
    pair.client.send(b"whole")
    move(pair.client, pair.server)
    pair.server.receive_eof()
    buffer = bytearray(10)
    assert pair.server.read_into(buffer) == 5
    assert pair.server.incoming is Incoming.TRUNCATED
    assert pair.server.read_into(buffer) == 0


def test_stream_ends_while_nothing_waits() -> None:
    pair = opened()
    pair.server.receive_eof()
    assert pair.server.incoming is Incoming.TRUNCATED


def test_end_of_stream_behind_plaintext_that_is_held() -> None:
    pair = opened()
    pair.client.send(b"held")
    move(pair.client, pair.server)
    assert pair.server.read(1) == b"h"
    pair.server.close()
    pair.server.receive_eof()
    assert not pair.server.ended
    assert pair.server.read() + pair.server.read() == b"eld"
    assert pair.server.incoming is Incoming.TRUNCATED


def test_close_during_the_handshake() -> None:
    pair = Pair()
    pair.client.close()
    assert (pair.client.incoming, pair.client.outgoing) == (Incoming.ABANDONED, Outgoing.CLOSED)
    assert not pair.client.handshake_complete
    pair.client.receive_data(b"discarded")
    pair.client.receive_eof()
    assert pair.client.failure is None


def test_data_after_close_notify_is_discarded() -> None:
    pair = opened()
    pair.client.close()
    data = b"".join(pair.client.data_to_send())
    pair.server.receive_data(data + bytes(70_000))
    assert pair.server.read() == b""
    pair.server.receive_data(b"more")
    assert (pair.server.incoming, pair.server.failure) == (Incoming.CLOSED, None)
    assert not pair.server.wants_data


@pytest.mark.parametrize("event", Event)
@pytest.mark.parametrize("outgoing", Outgoing)
@pytest.mark.parametrize("incoming", Incoming)
def test_table(incoming: Incoming, outgoing: Outgoing, event: Event) -> None:
    """How a half ended never changes, and an event that can't happen changes nothing."""
    try:
        then = after(incoming, outgoing, event)
    except InvalidState:
        return
    assert incoming in (Incoming.HANDSHAKE, Incoming.OPEN, then[0])
    assert outgoing in (Outgoing.HANDSHAKE, Outgoing.OPEN, then[1])
    assert Incoming.HANDSHAKE not in then
    assert (event is Event.COMPLETE) is (incoming is Incoming.HANDSHAKE and then[0] is Incoming.OPEN)
    assert event is not Event.FAILURE or not {Incoming.OPEN, Outgoing.OPEN} & set(then)


# --------------------------------------------------------------------------------------------- both steps in one


@every_version
def test_encrypting_and_decrypting_in_one_step(version: Version) -> None:
    pair = opened(version)
    for data in (b"a", bytes(8192), bytes(16_384), bytes(16_394), bytes(24_576)):
        ciphertext = pair.client.encrypt(data)
        assert ciphertext
        plaintext = pair.server.decrypt(ciphertext)
        # TLS 1.2 has records to look for.
        assert (pair.server.read() if plaintext is None else plaintext) == data
    assert pair.client.quiet
    assert pair.server.quiet


def test_decrypting_pieces_and_several_records() -> None:
    pair = opened("TLSv1_3")
    ciphertext = b"".join(pair.client.encrypt(data) or b"" for data in (b"one", b"two", b"three"))
    assert pair.server.decrypt(ciphertext[:10]) == b""
    assert pair.server.decrypt(ciphertext[10:-10]) == b"onetwo"
    assert pair.server.decrypt(ciphertext[-10:]) == b"three"


def test_what_isnt_done_in_one_step() -> None:
    pair = opened("TLSv1_3")
    assert pair.client.encrypt(b"") is None
    assert pair.client.encrypt(bytes(24_577)) is None
    large = transfer_of(pair, bytes(50_000))
    assert pair.server.decrypt(large) == bytes(50_000)
    pair.client.send(b"last")
    pair.client.close()
    assert pair.client.encrypt(b"more") is None
    assert pair.server.decrypt(b"".join(pair.client.data_to_send())) is None
    assert not pair.server.quiet
    assert pair.server.read() == b"last"
    assert pair.server.ended
    assert pair.server.decrypt(b"more") is None


def test_an_answer_in_the_middle_of_a_large_piece() -> None:
    """The rest is decrypted when the answer is being sent."""
    pair = opened("TLSv1_3")
    decrypt = pair.server._decrypt

    def answer(size: int, buffer: memoryview | None = None) -> Any:
        if not pair.server._output.pending:
            pair.server._output.write(b"answer")
        return decrypt(size, buffer)

    pair.server._decrypt = answer  # type: ignore[method-assign]
    assert pair.server.decrypt(transfer_of(pair, bytes(50_000))) is None
    first = pair.server.read()
    assert 0 < len(first) < 50_000
    assert pair.server.data_to_send() == [b"answer"]
    assert first + pair.server.read() == bytes(50_000)


def test_a_record_that_was_changed_in_a_large_piece() -> None:
    pair = opened("TLSv1_3")
    ciphertext = bytearray(transfer_of(pair, bytes(50_000)))
    ciphertext[20_000] ^= 1
    assert pair.server.decrypt(bytes(ciphertext)) is None
    assert pair.server.read() == bytes(16_384)
    assert pair.server.failure is not None


def test_the_end_behind_a_large_piece() -> None:
    pair = opened("TLSv1_3")
    pair.client.send(bytes(50_000))
    pair.client.close()
    assert pair.server.decrypt(b"".join(pair.client.data_to_send())) is None
    assert pair.server.read() == bytes(50_000)
    assert pair.server.ended


def transfer_of(pair: Pair, data: bytes) -> bytes:
    """The ciphertext of data."""
    assert pair.client.send(data) == len(data)
    return b"".join(pair.client.data_to_send())
