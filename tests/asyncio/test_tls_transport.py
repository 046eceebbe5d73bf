"""The transport that does TLS over memory: what asyncio's own does, it does too."""

from __future__ import annotations

import asyncio
import gc
import ssl
import sys
import weakref
from collections.abc import Callable
from typing import Any

import pytest

from _kit import virtual
from _kit.certificates import Certificate, Version, client_context, server_context
from _kit.tls import BIG, every_version, usual
from websockets._session.tls import Incoming, TLSChannel
from websockets.asyncio._handshakes import Handshakes
from websockets.asyncio._secure import start_tls
from websockets.asyncio._tls_transport import HANDSHAKE_TIMEOUT, READ_SIZE, SHUTDOWN_TIMEOUT, TLSTransport
from websockets.testing._link import Link
from websockets.testing._transport import MemoryTransport, transport_pair


async def idle() -> None:
    """Wait until nothing more happens: only then does the virtual clock go on."""
    await asyncio.sleep(0.001)


both = pytest.mark.parametrize("buffered", [False, True], ids=["bytes", "buffered"])


class Recorder:
    """What a protocol is called with."""

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.data = bytearray()
        self.lost: list[Exception | None] = []
        self.on_data: Callable[[], None] = lambda: None

    transport: Any = None

    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        self.calls.append("made")

    def got(self, data: bytes) -> None:
        self.data += data
        self.on_data()

    def eof_received(self) -> bool:
        self.calls.append("eof")
        return True  # means nothing with TLS

    def pause_writing(self) -> None:
        self.calls.append("pause")

    def resume_writing(self) -> None:
        self.calls.append("resume")

    def connection_lost(self, exc: Exception | None) -> None:
        self.calls.append("lost")
        self.lost.append(exc)


class Plain(Recorder, asyncio.Protocol):
    def data_received(self, data: bytes) -> None:
        self.got(data)


class Buffered(Recorder, asyncio.BufferedProtocol):
    def __init__(self, room: int = 1000) -> None:
        super().__init__()
        self.buffer = bytearray(room)

    def get_buffer(self, sizehint: int) -> bytearray:
        return self.buffer

    def buffer_updated(self, nbytes: int) -> None:
        self.got(bytes(self.buffer[:nbytes]))


def recorder(buffered: bool) -> Any:
    return Buffered() if buffered else Plain()


class Peer(asyncio.Protocol):
    """The other end, which does what a test says."""

    transport: MemoryTransport

    def __init__(self, *, server_side: bool, context: ssl.SSLContext | None = None, version: Version | None = None):
        context = context or usual("server" if server_side else "client", version)
        name = None if server_side else "localhost"
        self.channel = TLSChannel(context, server_side=server_side, server_hostname=name)
        self.data = b""
        self.closed = False

    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        self.channel.start()
        self.flush()

    def flush(self) -> None:
        for piece in self.channel.data_to_send():
            self.transport.write(piece)

    def data_received(self, data: bytes) -> None:
        self.channel.receive_data(data)
        while piece := self.channel.read():
            self.data += piece
        self.flush()

    def eof_received(self) -> bool:
        self.channel.receive_eof()
        return True

    def connection_lost(self, exc: Exception | None) -> None:
        self.closed = True

    def send(self, data: bytes) -> None:
        for piece in self.channel.encrypt_all(memoryview(data)):
            self.transport.write(piece)

    def close(self) -> None:
        self.channel.close()
        self.flush()


class Ends:
    """Our transport and its protocol, the peer, the link between them."""

    transport: TLSTransport
    peer: Peer
    link: Link
    below: MemoryTransport

    def __init__(self, protocol: Any, waiter: asyncio.Future[None]) -> None:
        self.protocol, self.waiter = protocol, waiter


def begin(
    protocol: Any,
    *,
    server_side: bool = False,
    version: Version | None = None,
    context: ssl.SSLContext | None = None,
    peer_context: ssl.SSLContext | None = None,
    link: dict[str, Any] | None = None,
    **options: Any,
) -> Ends:
    """Begin a handshake."""
    loop = asyncio.get_running_loop()
    ends = Ends(protocol, loop.create_future())
    context = context or usual("server" if server_side else "client", version)
    if not server_side:
        options.setdefault("server_hostname", "localhost")
    ends.transport = TLSTransport(loop, protocol, context, server_side=server_side, waiter=ends.waiter, **options)
    ends.peer = Peer(server_side=not server_side, context=peer_context, version=version)
    if server_side:
        _, ends.below, ends.link = transport_pair(ends.peer, ends.transport, **(link or {}))
    else:
        ends.below, _, ends.link = transport_pair(ends.transport, ends.peer, **(link or {}))
    return ends


async def opened(protocol: Any, **options: Any) -> Ends:
    ends = begin(protocol, **options)
    await ends.waiter
    await idle()
    return ends


async def over(ends: Ends) -> None:
    """Break the connection off."""
    ends.transport.abort()
    ends.peer.transport.abort()
    await idle()


# --------------------------------------------------------------------------------------------------------- bytes


@pytest.mark.parametrize("chunk", [None, 1, 7, 5000])
@pytest.mark.parametrize("server_side", [False, True], ids=["client", "server"])
@both
@every_version
@virtual
async def test_all_bytes_go_both_ways(version: Version, buffered: bool, server_side: bool, chunk: int | None) -> None:
    ends = await opened(recorder(buffered), version=version, server_side=server_side, link={"chunk": chunk})
    sizes = (1, 300, 9_000, 2**17) if chunk in (None, 5000) else (1, 300)
    for data in (BIG[:size] for size in sizes):
        for kind in bytes, bytearray, memoryview:
            ends.transport.write(kind(data))
            ends.peer.send(data)
        ends.transport.writelines([data[:5], data[5:]])
        ends.peer.send(data)
        await idle()
        assert ends.peer.data == ends.protocol.data == data * 4
        ends.peer.data = b""
        ends.protocol.data.clear()
    ends.transport.write(b"")
    with pytest.raises(TypeError, match="expecting a bytes-like instance, got str"):
        ends.transport.write("text")  # type: ignore[arg-type]
    assert {"made"} <= set(ends.protocol.calls) <= {"made", "pause", "resume"}
    await over(ends)
    assert ends.protocol.lost == [None]


@virtual
async def test_data_in_one_read_with_the_end_of_the_handshake() -> None:
    ends = begin(Buffered(3), server_side=True)
    ends.link.to_server.hold()
    await idle()
    ends.link.to_server.release()
    ends.peer.transport.pause_reading()
    await idle()
    ends.peer.transport.resume_reading()
    ends.link.to_server.hold()
    await idle()
    ends.peer.send(b"early data")
    ends.link.to_server.release()
    await ends.waiter
    await idle()
    assert ends.protocol.data == b"early data"
    await over(ends)


@both
@virtual
async def test_reading_pauses(buffered: bool) -> None:
    ends = await opened(recorder(buffered))
    assert ends.transport.is_reading()
    ends.transport.pause_reading()
    assert not ends.transport.is_reading()
    ends.peer.send(BIG)
    await idle()
    assert not ends.protocol.data
    ends.transport.resume_reading()
    ends.transport.resume_reading()
    assert not ends.protocol.data
    await idle()
    assert ends.protocol.data == BIG
    # In the middle of a read.
    ends.protocol.on_data = ends.transport.pause_reading
    ends.protocol.data.clear()
    ends.peer.send(BIG[:5000])
    rounds = 0
    while len(ends.protocol.data) < 5000:
        rounds += 1
        await idle()
        ends.transport.resume_reading()
    assert rounds == (5 if buffered else 1)
    assert ends.protocol.data == BIG[:5000]
    await over(ends)


@virtual
async def test_paused_at_the_end() -> None:
    """What came before the end of the stream isn't lost, and the end comes behind it."""
    ends = await opened(Buffered())
    ends.protocol.on_data = ends.transport.pause_reading
    ends.peer.send(BIG[:3000])
    ends.peer.close()
    ends.peer.transport.write_eof()
    await idle()
    while len(ends.protocol.data) < 3000:
        assert "eof" not in ends.protocol.calls
        ends.transport.resume_reading()
        await idle()
    ends.transport.resume_reading()
    await idle()
    assert ends.protocol.calls == ["made", "eof", "lost"]
    assert ends.peer.closed or ends.peer.channel.incoming is Incoming.CLOSED


@both
@virtual
async def test_paused_when_the_connection_is_lost(buffered: bool) -> None:
    """What was read from the network before isn't lost, although there is no time to wait."""
    ends = await opened(recorder(buffered))
    ends.protocol.on_data = ends.transport.pause_reading
    # Two reads for a protocol without buffer, as it gets the first one as a whole.
    ends.peer.send(BIG[:5000])
    await idle()
    ends.below.resume_reading()
    ends.peer.send(BIG[5000:9000])
    await idle()
    assert len(ends.protocol.data) < 9000
    ends.peer.transport.abort()
    ends.below.abort()
    await idle()
    assert ends.protocol.data == BIG[:9000]
    assert ends.protocol.calls == ["made", "lost"]


@virtual
async def test_a_protocol_that_fails_when_the_connection_is_lost() -> None:
    ends = await opened(Buffered())
    ends.transport.pause_reading()
    ends.below.resume_reading()
    ends.peer.send(b"data")
    await idle()
    reported: list[Any] = []
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda _, context: reported.append(context["exception"]))

    def fail() -> None:
        raise RuntimeError("failed")

    ends.protocol.on_data = fail
    ends.below.abort()
    await idle()
    assert [str(exc) for exc in reported] == ["failed"]
    assert ends.protocol.calls == ["made", "lost"]
    ends.peer.transport.abort()


@virtual
async def test_another_protocol() -> None:
    ends = await opened(Plain())
    other: Any = Buffered()
    assert ends.transport.get_protocol() == ends.protocol
    ends.transport.set_protocol(other)
    assert ends.transport.get_protocol() == other
    ends.peer.send(b"data")
    await idle()
    assert (bytes(ends.protocol.data), bytes(other.data)) == (b"", b"data")
    await over(ends)
    assert ends.protocol.lost == []
    assert other.lost == [None]


@virtual
async def test_another_protocol_in_the_middle_of_a_read() -> None:
    """The rest is for the new one."""
    others: list[Any] = [Plain(), Buffered()]
    for other in others:
        ends = await opened(Buffered())

        def change(ends: Ends = ends, other: Any = other) -> None:
            if len(ends.protocol.data) == 2000:
                ends.transport.set_protocol(other)

        ends.protocol.on_data = change
        ends.peer.send(bytes(2500))
        await idle()
        assert (len(ends.protocol.data), len(other.data)) == (2000, 500)
        await over(ends)


@pytest.mark.parametrize("early", [False, True])
@virtual
async def test_buffers_without_room(early: bool) -> None:
    """The loop is told, as by asyncio's transports."""
    ends = await opened(Buffered(0))
    reported: list[Any] = []
    loop = asyncio.get_running_loop()
    handler = loop.get_exception_handler()
    loop.set_exception_handler(lambda _, context: reported.append(context["exception"]))
    if early:
        ends.transport.pause_reading()
        ends.peer.send(b"data")
        ends.transport.resume_reading()
    ends.peer.send(b"data")
    await idle()
    loop.set_exception_handler(handler)
    assert [str(exc) for exc in reported] == ["get_buffer() returned an empty buffer"]
    assert ends.protocol.calls == ["made", "lost"]


@both
@virtual
async def test_a_protocol_that_fails(buffered: bool) -> None:
    ends = await opened(recorder(buffered))
    reported: list[Any] = []
    loop = asyncio.get_running_loop()
    handler = loop.get_exception_handler()
    loop.set_exception_handler(lambda _, context: reported.append(context["exception"]))

    def fail() -> None:
        raise RuntimeError("failed")

    ends.protocol.on_data = fail
    ends.peer.send(b"data")
    await idle()
    loop.set_exception_handler(handler)
    assert [str(exc) for exc in reported] == ["failed"]
    assert [type(exc) for exc in ends.protocol.lost] == [RuntimeError]


# --------------------------------------------------------------------------------------------------- the end


@virtual
async def test_close() -> None:
    ends = await opened(Plain())
    ends.transport.write(BIG)
    ends.transport.close()
    ends.transport.close()
    ends.transport.write(b"too late")
    ends.transport.writelines([b"too late"])
    assert ends.transport.is_closing()
    assert not ends.transport.is_reading()
    await idle()
    assert ends.peer.data == BIG
    assert ends.peer.channel.incoming is Incoming.CLOSED
    # It waits for the peer, and has no use for data.
    ends.peer.send(BIG)
    await idle()
    assert not ends.protocol.lost
    ends.peer.close()
    await idle()
    assert ends.protocol.lost == [None]
    assert not ends.protocol.data
    assert ends.peer.closed or ends.link.server.closed or ends.below.is_closing()
    ends.peer.transport.abort()


@virtual
async def test_close_while_reading_is_paused() -> None:
    ends = await opened(Plain())
    ends.transport.pause_reading()
    ends.peer.send(BIG)
    await idle()
    ends.transport.close()
    ends.peer.close()
    await idle()
    assert ends.protocol.calls == ["made", "lost"]
    ends.peer.transport.abort()


@pytest.mark.parametrize("timeout", [None, 5.0])
@virtual
async def test_a_peer_that_does_not_close(timeout: float | None) -> None:
    ends = await opened(Plain(), shutdown_timeout=timeout)
    loop = asyncio.get_running_loop()
    start = loop.time()
    ends.transport.close()
    ended = asyncio.Event()

    def lost(exc: Exception) -> None:
        ends.protocol.lost.append(exc)
        ended.set()

    ends.protocol.connection_lost = lost
    await ended.wait()
    assert loop.time() - start == (timeout or SHUTDOWN_TIMEOUT)
    assert [str(exc) for exc in ends.protocol.lost] == ["SSL shutdown timed out"]
    ends.peer.transport.abort()


@virtual
async def test_close_after_the_network_took_nothing() -> None:
    ends = await opened(Plain(), link={"capacity": 1000}, shutdown_timeout=3)
    ends.peer.transport.pause_reading()
    ends.transport.write(BIG)
    ends.transport.close()
    await asyncio.sleep(4)
    assert ends.protocol.calls == ["made", "pause", "lost"]
    ends.peer.transport.abort()


@pytest.mark.parametrize("notify", [False, True], ids=["truncated", "close_notify"])
@both
@virtual
async def test_the_peer_closes(buffered: bool, notify: bool) -> None:
    ends = await opened(recorder(buffered))
    ends.peer.send(b"last")
    if notify:
        ends.peer.close()
    else:
        ends.peer.transport.write_eof()
    await idle()
    assert ends.protocol.data == b"last"
    assert ends.protocol.calls == ["made", "eof", "lost"]
    assert ends.protocol.lost == [None]
    # It gets our close_notify.
    assert ends.peer.channel.incoming is Incoming.CLOSED
    ends.peer.transport.abort()


@virtual
async def test_answers_at_the_end() -> None:
    """What a protocol writes when the peer closes still goes out."""
    ends = await opened(Plain())
    ends.protocol.eof_received = lambda: ends.transport.write(b"bye")
    ends.peer.close()
    await idle()
    assert ends.peer.data == b"bye"
    assert ends.peer.channel.incoming is Incoming.CLOSED
    ends.peer.transport.abort()


@virtual
async def test_a_protocol_that_closes_at_the_end() -> None:
    ends = await opened(Plain())
    ends.protocol.eof_received = ends.transport.close
    ends.peer.close()
    await idle()
    assert ends.protocol.calls == ["made", "lost"]
    ends.peer.transport.abort()


@both
@virtual
async def test_a_failure_behind_data(buffered: bool) -> None:
    ends = await opened(recorder(buffered))
    good = b"".join(ends.peer.channel.encrypt_all(memoryview(b"good")))
    ends.peer.transport.write(good + b"\x17\x03\x03\x00\x20" + bytes(32))
    await idle()
    assert ends.protocol.data == b"good"
    assert ends.protocol.calls == ["made", "lost"]
    assert isinstance(ends.protocol.lost[0], ssl.SSLError)
    # The peer is told.
    assert ends.peer.channel.failure is not None
    assert "ALERT" in str(ends.peer.channel.failure)
    ends.peer.transport.abort()


@both
@virtual
async def test_clear_text_behind_data(buffered: bool) -> None:
    """It fails at once: nobody waits for the rest of what isn't a record."""
    ends = await opened(recorder(buffered), version="TLSv1_3")
    ends.peer.send(b"good")
    ends.peer.transport.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
    await idle()
    assert ends.protocol.data == b"good"
    assert ends.protocol.calls == ["made", "lost"]
    assert isinstance(ends.protocol.lost[0], ssl.SSLError)
    ends.peer.transport.abort()


@virtual
async def test_abort() -> None:
    ends = await opened(Plain(), link={"capacity": 1000})
    ends.transport.write(BIG)
    ends.transport.abort()
    await idle()
    assert ends.protocol.calls == ["made", "pause", "lost"]
    ends.transport.abort()
    ends.transport.close()
    ends.transport.pause_reading()
    ends.transport.resume_reading()
    ends.transport.write(b"data")
    assert ends.peer.channel.incoming is not Incoming.CLOSED
    ends.peer.transport.abort()


@virtual
async def test_abort_while_data_waits() -> None:
    ends = await opened(Buffered(100))
    ends.protocol.on_data = ends.transport.pause_reading
    ends.peer.send(BIG[:300])
    await idle()
    ends.transport.abort()
    ends.transport.resume_reading()
    await idle()
    assert len(ends.protocol.data) == 100
    assert ends.protocol.calls == ["made", "lost"]
    ends.peer.transport.abort()


@pytest.mark.parametrize("size", [5, 2**18])
@virtual
async def test_encrypting_fails(size: int) -> None:
    class Failing(ssl.SSLObject):
        def write(self, data: Any) -> int:
            raise ssl.SSLError(ssl.SSL_ERROR_SSL, "out of order")

    context = client_context()
    context.sslobject_class = Failing
    ends = await opened(Plain(), context=context)
    ends.transport.write(bytes(size))
    assert ends.transport.is_closing()
    ends.transport.write(bytes(size))
    await idle()
    assert ["out of order" in str(exc) for exc in ends.protocol.lost] == [True]
    ends.peer.transport.abort()


@virtual
async def test_the_connection_is_lost() -> None:
    ends = await opened(Plain())
    ends.link.server.reset()
    await idle()
    assert [type(exc) for exc in ends.protocol.lost] == [ConnectionResetError]


@virtual
async def test_nothing_is_kept() -> None:
    ends = await opened(Plain())
    references = [weakref.ref(ends.protocol), weakref.ref(ends.transport)]
    await over(ends)
    del ends
    gc.collect()
    assert [reference() for reference in references] == [None, None]


def test_one_direction_can_not_end() -> None:
    async def main() -> None:
        transport = TLSTransport(asyncio.get_running_loop(), Plain(), usual("client"))
        assert not transport.can_write_eof()
        with pytest.raises(NotImplementedError):
            transport.write_eof()

    asyncio.run(main())


# ---------------------------------------------------------------------------------------------- back-pressure


@virtual
async def test_back_pressure() -> None:
    ends = await opened(Plain(), link={"capacity": 10_000})
    ends.transport.set_write_buffer_limits(2**15, 2**13)
    low, high = ends.transport.get_write_buffer_limits()
    assert (low, 2**15 < high < 2**15 + 1000) == (2**13, True)
    ends.peer.transport.pause_reading()
    await idle()
    # What was written counts, and not what TLS adds.
    ends.transport.write(bytes(10_000))
    while ends.transport.get_write_buffer_size() < 2**14:
        ends.transport.write(bytes(1000))
    ends.transport.write(bytes(2**15 - ends.transport.get_write_buffer_size()))
    assert ends.protocol.calls == ["made"]
    ends.transport.write(bytes(1000))
    assert ends.protocol.calls == ["made", "pause"]
    ends.transport.write(bytes(2**17))
    ends.peer.transport.resume_reading()
    await idle()
    assert ends.protocol.calls == ["made", "pause", "resume"]
    assert ends.transport.get_write_buffer_size() == 0
    ends.transport.set_write_buffer_limits(0)
    assert ends.transport.get_write_buffer_limits() == (0, 0)
    with pytest.raises(ValueError, match="high"):
        ends.transport.set_write_buffer_limits(high=1, low=5)
    ends.transport.set_write_buffer_limits()
    await over(ends)


@virtual
async def test_large_writes_are_seen_by_the_limits() -> None:
    """Some transports don't look at them after writelines()."""
    ends = await opened(Plain(), link={"capacity": 10_000})
    looked: list[Any] = []
    ends.below._check_high_water = lambda: looked.append(1)  # type: ignore[method-assign]
    ends.transport.write(BIG)
    assert len(looked) == 2
    del ends.below._check_high_water
    await over(ends)


@virtual
async def test_a_large_write_after_the_network_failed(monkeypatch: pytest.MonkeyPatch) -> None:
    """In Python 3.12, asyncio's writelines() would then watch a socket that gets closed."""
    ends = await opened(Plain())
    written: list[str] = []
    for name in "write", "writelines":
        monkeypatch.setattr(ends.below, name, lambda _, name=name: written.append(name))
    ends.transport.write(BIG)
    ends.below.abort()
    ends.transport.write(BIG)
    assert written == ["writelines", "write"]
    await over(ends)


@virtual
async def test_full_as_soon_as_the_connection_is_made() -> None:
    """The protocol learns it once."""

    class Eager(Plain):
        def connection_made(self, transport: Any) -> None:
            super().connection_made(transport)
            transport.write(BIG)

    ends = await opened(Eager(), link={"capacity": 5000})
    assert ends.protocol.calls == ["made", "pause", "resume"]
    assert ends.peer.data == BIG
    await over(ends)


@virtual
async def test_limits_after_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """The transports of uvloop refuse to set theirs."""
    ends = await opened(Plain())
    await over(ends)
    monkeypatch.delattr(type(ends.below), "set_write_buffer_limits")
    ends.transport.set_write_buffer_limits(5)


@virtual
async def test_pieces_of_memory_that_are_not_contiguous() -> None:
    ends = await opened(Plain())
    ends.transport.write(memoryview(b"a-b-c-")[::2])
    await idle()
    assert ends.peer.data == b"abc"
    await over(ends)


@virtual
async def test_answers_are_bounded() -> None:
    """A peer asks for answers and takes none: then nothing more is read."""
    ends = await opened(Plain(), link={"capacity": 1000})
    ends.transport.set_write_buffer_limits(0)
    ends.peer.transport.pause_reading()
    ends.transport.write(bytes(2000))
    assert ends.protocol.calls == ["made", "pause"]

    def ask() -> None:
        # In place of the answer to a key update.
        ends.transport._channel._pieces.append(b"x" * 2**16)
        ends.transport._channel._pieces_size += 2**16

    ends.protocol.on_data = ask
    ends.peer.send(b"first")
    await idle()
    assert ends.protocol.data == b"first"
    assert not ends.below.is_reading()
    ends.protocol.on_data = lambda: None
    ends.peer.send(b"second")
    await idle()
    assert ends.protocol.data == b"first"
    # The answers go out in order, and reading goes on.
    ends.peer.data_received = lambda data: None  # type: ignore[method-assign]
    ends.peer.transport.resume_reading()
    await idle()
    assert ends.protocol.data == b"firstsecond"
    assert ends.protocol.calls == ["made", "pause", "resume"]
    assert ends.transport.get_write_buffer_size() == 0
    await over(ends)


# ------------------------------------------------------------------------------------------------ the handshake


@pytest.mark.parametrize("timeout", [None, 7.0])
@virtual
async def test_a_handshake_that_takes_too_long(timeout: float | None) -> None:
    failures: list[Any] = []
    handshakes = Handshakes(lambda *given: failures.append(given))
    ends = begin(Plain(), server_side=True, handshake_timeout=timeout, handshakes=handshakes)
    ends.link.to_server.drop()
    loop = asyncio.get_running_loop()
    start = loop.time()
    with pytest.raises(ConnectionAbortedError, match="SSL handshake is taking longer than"):
        await ends.waiter
    assert loop.time() - start == (timeout or HANDSHAKE_TIMEOUT)
    await idle()
    assert ends.protocol.calls == []
    assert [transport for transport, _ in failures] == [ends.transport]
    ends.peer.transport.abort()


@pytest.mark.parametrize("reset", [False, True])
@virtual
async def test_connection_lost_in_the_handshake(reset: bool) -> None:
    ends = begin(Plain(), server_side=True)
    ends.peer.channel.data_to_send = lambda *_: []  # type: ignore[method-assign]
    await asyncio.sleep(0)
    if reset:
        ends.link.reset()
    else:
        ends.peer.transport.write_eof()
    with pytest.raises(ConnectionResetError):
        await ends.waiter
    await idle()
    assert ends.protocol.calls == []
    ends.peer.transport.abort()


@virtual
async def test_a_peer_that_speaks_in_clear() -> None:
    ends = begin(Plain(), server_side=True)
    ends.peer.channel.data_to_send = lambda *_: [b"GET / HTTP/1.1\r\n\r\n"]  # type: ignore[method-assign]
    with pytest.raises(ssl.SSLError, match="HTTP_REQUEST"):
        await ends.waiter
    await idle()
    ends.peer.transport.abort()


@virtual
async def test_a_certificate_that_is_not_accepted() -> None:
    ends = begin(Plain(), peer_context=server_context(Certificate("elsewhere")))
    with pytest.raises(ssl.SSLCertVerificationError):
        await ends.waiter
    await idle()
    assert ends.protocol.calls == []
    # The alert says why.
    assert "ALERT" in str(ends.peer.channel.failure)
    assert ends.below.is_closing()
    ends.peer.transport.abort()


@virtual
async def test_an_alert_that_nobody_reads() -> None:
    ends = begin(Plain(), peer_context=server_context(Certificate("elsewhere")), shutdown_timeout=2)
    with pytest.raises(ssl.SSLCertVerificationError):
        await ends.waiter
    ends.below._buffer.append(memoryview(b"stuck"))
    await asyncio.sleep(3)
    assert ends.below.is_closing()
    ends.peer.transport.abort()


@pytest.mark.parametrize("name", ["handshake", "shutdown"])
@pytest.mark.parametrize("timeout", [0, -1.0])
@virtual
async def test_timeouts_are_positive(name: str, timeout: float) -> None:
    options: dict[str, Any] = {f"{name}_timeout": timeout}
    with pytest.raises(ValueError, match=f"ssl_{name}_timeout should be a positive number, got {timeout}"):
        begin(Plain(), **options)


@pytest.mark.parametrize("how", ["certificate", "reset"])
@virtual
async def test_a_protocol_that_was_there_before_learns_that_the_handshake_failed(how: str) -> None:
    ends = begin(Plain(), introduces=False, peer_context=server_context(Certificate("elsewhere")))
    if how == "reset":
        await asyncio.sleep(0)
        ends.below.abort()
    with pytest.raises(ssl.SSLCertVerificationError if how == "certificate" else ConnectionResetError) as caught:
        await ends.waiter
    await idle()
    assert ends.protocol.calls == ["lost"]
    assert ends.protocol.lost == [caught.value]
    ends.peer.transport.abort()


@virtual
async def test_a_name_that_can_not_be_sent() -> None:
    ends = begin(Plain(), server_hostname=".")
    with pytest.raises(ValueError, match="idna"):
        await ends.waiter
    await idle()
    assert ends.below.is_closing()
    ends.peer.transport.abort()


@virtual
async def test_an_empty_name_is_not_checked() -> None:
    certificate = Certificate("elsewhere")
    ends = begin(
        Plain(), server_hostname="", context=client_context(certificate), peer_context=server_context(certificate)
    )
    if sys.version_info < (3, 14):
        await ends.waiter
    else:
        # Since then, ssl itself insists on a name; so does asyncio's TLS.
        with pytest.raises(ValueError, match="server_hostname"):
            await ends.waiter
    await over(ends)


@virtual
async def test_closed_in_the_handshake() -> None:
    """asyncio's server closes all connections; it doesn't know about TLS."""
    ends = begin(Plain(), server_side=True)
    ends.link.to_server.hold()
    await asyncio.sleep(0)
    ends.transport.close()
    ends.transport.buffer_updated(100)  # some loops may
    ends.link.to_server.release()
    with pytest.raises(ConnectionResetError):
        await ends.waiter
    await idle()
    assert ends.protocol.calls == []
    ends.peer.transport.abort()


@pytest.mark.parametrize("early", [False, True])
@virtual
async def test_given_up(early: bool) -> None:
    """uvloop doesn't tell a protocol when the task that connects is cancelled: no timer may keep it."""
    ends = begin(Plain())
    if not early:
        await asyncio.sleep(0)
    ends.transport.give_up()
    await idle()
    assert ends.transport._timer is None
    assert ends.transport.is_closing()
    assert ends.protocol.calls == []
    assert ends.below.is_closing() is early
    ends.below.abort()
    ends.peer.transport.abort()


@virtual
async def test_handshakes_are_aborted() -> None:
    """Those under way, and those that begin afterwards; not the one that was complete."""
    told: list[tuple[Any, str]] = []
    handshakes = Handshakes(lambda transport, exc: told.append((transport, str(exc))))
    complete = await opened(Plain(), server_side=True, handshakes=handshakes)
    under_way = begin(Plain(), server_side=True, handshakes=handshakes)
    under_way.link.to_server.hold()
    await asyncio.sleep(0)
    handshakes.abort()
    later = begin(Plain(), server_side=True, handshakes=handshakes)
    await idle()
    assert told == [(each.transport, "the server closes") for each in (under_way, later)]
    assert complete.protocol.calls == ["made"]
    for ends in (under_way, later):
        assert ends.below.is_closing()
        with pytest.raises(ConnectionResetError):
            await ends.waiter
        ends.peer.transport.abort()
    await over(complete)


@virtual
async def test_closed_in_the_handshake_the_failure_is_told_once() -> None:
    told: list[Exception] = []
    ends = begin(Plain(), server_side=True, handshakes=Handshakes(lambda _, exc: told.append(exc)))
    ends.link.to_server.hold()
    await asyncio.sleep(0)
    ends.transport.close()
    with pytest.raises(ConnectionResetError):
        await ends.waiter
    await asyncio.sleep(2 * HANDSHAKE_TIMEOUT)
    assert len(told) == 1
    ends.peer.transport.abort()


@virtual
async def test_the_waiter_is_gone() -> None:
    """A task that was cancelled waits no more; nothing complains."""
    for context in None, server_context(Certificate("elsewhere")):
        ends = begin(Plain(), peer_context=context)
        ends.waiter.cancel()
        await idle()
        assert ("made" in ends.protocol.calls) is (context is None)
        await over(ends)


@virtual
async def test_full_before_the_end_of_the_handshake() -> None:
    """The protocol hears of it when it is connected."""
    ends = begin(Plain(), link={"capacity": 1000})
    ends.transport.pause_writing()
    await ends.waiter
    assert ends.protocol.calls == ["made", "pause"]
    ends.transport.resume_writing()
    assert ends.protocol.calls == ["made", "pause", "resume"]
    ends = begin(Plain())
    ends.transport.pause_writing()
    ends.transport.resume_writing()
    await ends.waiter
    assert ends.protocol.calls == ["made"]
    await over(ends)


# ----------------------------------------------------------------------------------------- layers, and what is asked


@both
@virtual
async def test_two_layers(buffered: bool) -> None:
    """As through a proxy; the layers don't share buffers."""
    ends = await opened(Plain())
    inner = TLSChannel(usual("server"), server_side=True)
    inner.start()
    received = bytearray()

    def forward(data: bytes) -> None:
        ends.peer.channel.receive_data(data)
        while piece := ends.peer.channel.read():
            inner.receive_data(piece)
            while plain := inner.read():
                received.extend(plain)
        for piece in inner.data_to_send():
            ends.peer.send(piece)

    ends.peer.data_received = forward  # type: ignore[method-assign]
    protocol = recorder(buffered)
    ends.transport.pause_reading()
    secured: Any = await start_tls(
        "memory", ends.transport, protocol, usual("client"), server_hostname="localhost", ssl_shutdown_timeout=1
    )
    assert isinstance(secured, TLSTransport)
    assert secured._source is not ends.transport._source
    secured.write(BIG)
    for piece in inner.encrypt_all(memoryview(BIG)):
        ends.peer.send(piece)
    await idle()
    assert received == protocol.data == BIG
    assert secured.get_write_buffer_size() == 0
    assert "made" not in protocol.calls  # another transport introduced it
    secured.close()
    await asyncio.sleep(5)
    assert len(protocol.lost) == 1
    await over(ends)


@virtual
async def test_a_layer_of_asyncio_in_ours() -> None:
    """A program may start TLS on our transport by the method of the loop."""
    ends = await opened(Plain())
    inner = TLSChannel(usual("server"), server_side=True)

    def forward(data: bytes) -> None:
        ends.peer.channel.receive_data(data)
        while piece := ends.peer.channel.read():
            inner.receive_data(piece)
        for piece in inner.data_to_send():
            ends.peer.send(piece)

    ends.peer.data_received = forward  # type: ignore[method-assign]
    loop = asyncio.get_running_loop()
    secured = await loop.start_tls(ends.transport, Plain(), usual("client"), server_hostname="localhost")
    assert secured is not None
    secured.write(b"data")
    await idle()
    assert inner.read() == b"data"
    ends.transport._force_close(OSError("reason"))
    await idle()
    ends.peer.transport.abort()


@virtual
async def test_what_is_asked() -> None:
    ends = begin(Plain())
    assert "handshake" in repr(ends.transport)
    await ends.waiter
    ask = ends.transport.get_extra_info
    assert ask("sslcontext") is usual("client", None)
    assert ask("ssl_object").version() == "TLSv1.3"
    assert ask("peercert")["subjectAltName"]
    assert ask("cipher")[1] == "TLSv1.3"
    assert ask("compression") is None
    assert ask("socket") is ends.below.get_extra_info("socket")
    assert ask("nonsense", 5) == 5
    assert "open over <MemoryTransport" in repr(ends.transport)
    await over(ends)
    assert ask("ssl_object").version() == "TLSv1.3"
    assert "closing" in repr(ends.transport)


@virtual
async def test_the_buffer_is_shared() -> None:
    first, second = await opened(Plain()), await opened(Buffered())
    assert first.transport._source is second.transport._source
    assert len(first.transport._source) == READ_SIZE
    await over(first)
    await over(second)
