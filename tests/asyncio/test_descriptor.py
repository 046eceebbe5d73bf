"""What the compiled twin writes to a socket without the transport: nobody could tell, but for the time it takes."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
import struct
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from _kit import request, virtual
from core._twins import TWINS
from robustness.worlds import LOOPS
from websockets.asyncio import _readable
from websockets.asyncio._link import _descriptor_of
from websockets.asyncio.client import connect
from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosedError
from websockets.testing import connected_pair

from .test_pump import PATHS, Twin, every_twin, make

# From the sizes whose frames are copied to those that the kernel takes in many pieces.
SIZES = [0, 1, 125, 126, 2000, 2040, 2041, 2042, 2043, 2044, 2045, 5000, 65535, 65536, 300_000, 2**20]


class Behind:
    """A transport in front of a socket, which keeps what is written to it."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.waiting: list[bytes] = []
        self._buffer = self.waiting
        self.closing = False

    def write(self, data: Any) -> None:
        self.waiting.append(bytes(data))

    @property
    def _closing(self) -> bool:
        return self.closing

    def is_closing(self) -> bool:
        return self.closing

    def get_write_buffer_size(self) -> int:
        return sum(map(len, self.waiting))


@contextlib.contextmanager
def behind(twin: Twin, *, client: bool = False, transparent: bool = False) -> Iterator[tuple[Any, socket.socket]]:
    """A pump, and the other end of its socket, which holds little; whether its transport shows what waits there."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        for sock in ours, theirs:
            sock.setblocking(False)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 5000)
        pump = make(twin, client=client)
        pump.transport = Behind(ours)
        pump._descriptor, pump._transparent = ours.fileno(), transparent
        yield pump, theirs


def arrived(theirs: socket.socket) -> bytes:
    pieces = []
    with contextlib.suppress(BlockingIOError):
        while piece := theirs.recv(2**20):
            pieces.append(piece)
    return b"".join(pieces)


def decoded(data: bytes, *, masked: bool) -> list[Any]:
    decoder = TWINS["python"].FrameDecoder(masked, 0, -1, -1, True)
    frames: list[Any] = decoder.feed(data)
    assert decoder.failure is None
    return frames[1::2]


def message(kind: str, size: int) -> Any:
    if kind == "wide text":
        return "\u00e9" * (size // 2)
    if kind == "text":
        return "x" * size
    return {"bytes": bytes, "bytearray": bytearray, "view": memoryview}[kind](b"y" * size)


kinds = st.sampled_from(["text", "wide text", "bytes", "bytearray", "view"])


@every_twin
@given(st.lists(st.tuples(kinds, st.sampled_from(SIZES)), max_size=5), st.booleans(), st.booleans())
@virtual
async def test_what_the_socket_and_the_transport_get_is_the_stream(
    twin: Twin, plan: list[tuple[str, int]], client: bool, transparent: bool
) -> None:
    """The transport gets what the socket doesn't take, and everything after that."""
    sent = [message(kind, size) for kind, size in plan]
    with behind(twin, client=client, transparent=transparent) as (pump, theirs):
        for item in sent:
            assert pump._send_now(item, None) == _readable.SENT
        stream = arrived(theirs) + b"".join(pump.transport.waiting)
    assert decoded(stream, masked=client) == [item if isinstance(item, str) else bytes(item) for item in sent]


@every_twin
@pytest.mark.parametrize("size", [2**18 - 14, 2**18 - 13, 2**18, 2**20, 3 * 2**20 + 1])
@virtual
async def test_pieces_of_what_is_masked(twin: Twin, size: int) -> None:
    """However many of them the kernel takes, and where in one it stops, the mask goes on where it was."""
    payload = (bytes(range(251)) * (size // 251 + 1))[:size]
    with behind(twin, client=True) as (pump, _), socket.create_server(("127.0.0.1", 0)) as listening:
        # TCP has room for several; a pair of sockets for less than one.
        with socket.create_connection(listening.getsockname()) as ours, listening.accept()[0] as theirs:
            ours.setblocking(False)
            theirs.settimeout(60)  # what never comes must not be waited for
            pump.transport = Behind(ours)
            pump._descriptor = ours.fileno()
            pump._send_now(payload, None)
            waiting = b"".join(pump.transport.waiting)
            stream, whole = bytearray(), size + 14
            while len(stream) < whole - len(waiting):
                stream += theirs.recv(2**20)
    assert decoded(bytes(stream) + waiting, masked=True) == [payload]


@pytest.mark.skipif("native" not in PATHS, reason="the compiled twin wasn't built")
@pytest.mark.parametrize("transparent", [False, True], ids=["asked", "seen"])
@virtual
async def test_what_waits_comes_first(transparent: bool) -> None:
    with behind(PATHS["native"], transparent=transparent) as (pump, theirs):
        pump._send_now("one", None)
        assert (arrived(theirs), pump.transport.waiting) == (b"\x81\x03one", [])
        pump.transport.write(b"before")
        pump._send_now("two", None)
        pump._send_now(bytes(2**20), None)
        pump._put(b"\x81\x01x", 1)
        assert arrived(theirs) == b""
        waiting = b"".join(pump.transport.waiting)
        assert waiting.startswith(b"before\x81\x03two\x82")
        assert waiting.endswith(bytes(2**20) + b"\x81\x01x")
        pump.transport.waiting.clear()
        pump._put(b"\x81\x01y", 1)
        assert (arrived(theirs), pump.transport.waiting) == (b"\x81\x01y", [])


@pytest.mark.parametrize("transparent", [False, True], ids=["asked", "seen"])
@every_twin
@virtual
async def test_nothing_is_written_once_the_transport_closes(twin: Twin, transparent: bool) -> None:
    with behind(twin, transparent=transparent) as (pump, theirs):
        pump.transport.closing = True
        for size in SIZES:
            if size < _readable.GATHER_FROM:
                pump._send_now(bytes(size), None)
        assert (arrived(theirs), pump.transport.waiting, pump._bytes_sent) == (b"", [], 0)


@every_twin
@virtual
async def test_a_descriptor_goes_with_its_transport(twin: Twin) -> None:
    with behind(twin) as (pump, theirs):
        pump.transport = Behind(pump.transport.sock)
        pump._send_now("text", None)
        assert (arrived(theirs), pump.transport.waiting) == (b"", [b"\x81\x04text"])


@pytest.mark.skipif("native" not in PATHS, reason="the compiled twin wasn't built")
@virtual
async def test_what_the_kernel_says_only_once_is_kept() -> None:
    with behind(PATHS["native"]) as (pump, theirs):
        theirs.close()
        pump._send_now("text", None)
        assert isinstance(pump._write_error, BrokenPipeError)
        # It is for the transport to find out, too, and to end the connection.
        assert pump.transport.waiting == [b"\x81\x04text"]


async def test_a_reset_is_told_as_what_it_was() -> None:
    failure: asyncio.Future[ConnectionClosedError] = asyncio.get_running_loop().create_future()

    async def handler(connection: ServerConnection) -> None:
        # Nobody else runs meanwhile: the connection learns of it by writing.
        peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        peer.close()
        await connection.send("text")
        with pytest.raises(ConnectionClosedError) as raised:
            await connection.recv()
        failure.set_result(raised.value)

    async with serve(handler, "127.0.0.1", 0, compression=None) as server:
        peer = socket.create_connection(next(iter(server.sockets)).getsockname())
        peer.sendall(request())
        closed = await failure
    assert isinstance(closed.__cause__, ConnectionResetError)
    assert closed.rcvd is None


@pytest.mark.parametrize("new_loop", LOOPS.values(), ids=LOOPS)
def test_the_sockets_of_loops_are_written_to(new_loop: Callable[[], asyncio.AbstractEventLoop]) -> None:
    async def test() -> None:
        ours, theirs = socket.socketpair()
        with theirs:
            transport, _ = await asyncio.get_running_loop().create_connection(asyncio.Protocol, sock=ours)
            assert _descriptor_of(transport) == ours.fileno()
            transport.abort()
            await asyncio.sleep(0)

    with asyncio.Runner(loop_factory=new_loop) as runner:
        runner.run(test())


async def test_asyncio_shows_what_waits() -> None:
    """If it doesn't any more, nothing breaks; but it takes longer to ask."""
    seen: asyncio.Future[tuple[bool, int]] = asyncio.get_running_loop().create_future()

    async def handler(connection: ServerConnection) -> None:
        before = connection._transparent
        connection.transport.write(bytes(2**24))
        seen.set_result((before, len(connection.transport._buffer)))  # type: ignore[attr-defined]
        connection.abort()

    async with serve(handler, "127.0.0.1", 0) as server:
        with socket.create_connection(next(iter(server.sockets)).getsockname()) as peer:
            peer.sendall(request())
            transparent, waiting = await seen
    assert transparent
    assert waiting > 0


def anonymous() -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """Contexts of a server without a certificate, and of a client that needs none."""
    server, client = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    client.check_hostname, client.verify_mode = False, ssl.CERT_NONE
    for context in server, client:
        context.set_ciphers("aNULL:@SECLEVEL=0")
        context.maximum_version = ssl.TLSVersion.TLSv1_2
    return server, client


async def test_those_below_tls_are_not() -> None:
    loop = asyncio.get_running_loop()
    made: asyncio.Future[Any] = loop.create_future()

    class Refusing(asyncio.Protocol):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            made.set_result(transport)

    context, client = anonymous()
    server = await loop.create_server(Refusing, "127.0.0.1", 0, ssl=context)
    async with server:
        host, port = server.sockets[0].getsockname()
        transport, _ = await loop.create_connection(asyncio.Protocol, host, port, ssl=client)
        for end in transport, await made:
            assert end.get_extra_info("socket").fileno() >= 0
            assert _descriptor_of(end) == -1
            end.abort()


async def test_tls_brings_what_it_read() -> None:
    """It would take longer to fill the buffer of the loop; and nothing else is any different."""
    protocols: list[asyncio.BaseProtocol] = []

    async def handler(connection: ServerConnection) -> None:
        protocols.append(connection.transport.get_protocol())
        async for data in connection:
            await connection.send(data)

    context, trusting = anonymous()
    async with serve(handler, "127.0.0.1", 0, ssl=context) as server:
        host, port = next(iter(server.sockets)).getsockname()
        async with connect(f"wss://{host}:{port}/", ssl=trusting, proxy=None, max_size=None) as client:
            protocols.append(client.transport.get_protocol())
            for size in (0, 100, 100_000, 2**20 - 1):
                await client.send(bytes(size))
                assert await client.recv() == bytes(size)
            assert await (await client.ping()) >= 0
        assert client.close_code == 1000
    assert len(protocols) == 2
    assert not any(isinstance(protocol, asyncio.BufferedProtocol) for protocol in protocols)


async def test_those_of_others_are_not() -> None:
    """Whoever derives from a transport may want to see what is written."""
    ours, theirs = socket.socketpair()
    with theirs:
        transport, _ = await asyncio.get_running_loop().create_connection(asyncio.Protocol, sock=ours)

        class Watched(type(transport)):  # type: ignore[misc]
            pass

        transport.__class__ = Watched
        assert _descriptor_of(transport) == -1
        transport.abort()
        await asyncio.sleep(0)


@pytest.mark.parametrize(
    ("heard", "told"),
    [(None, EOFError), (ConnectionResetError(), ConnectionResetError), (BrokenPipeError(), InterruptedError)],
    ids=["the end", "a reset", "a broken pipe"],
)
@virtual
async def test_it_is_told_only_where_the_transport_cannot_know(heard: Exception | None, told: type[Exception]) -> None:
    """What passed, such as a lack of memory in the kernel, isn't why the connection ended later."""
    async with connected_pair() as (_, connection):
        connection._write_error = InterruptedError()
        connection.transport.set_protocol(asyncio.Protocol())
        connection.transport.abort()
        connection.connection_lost(heard)
        with pytest.raises(ConnectionClosedError) as raised:
            await connection.recv()
    assert type(raised.value.__cause__) is told
