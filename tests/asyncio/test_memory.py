"""Memory that changes, goes, or runs out: what other code sees of ours, and what we see of theirs.

Charter: each promise of the page on the architecture about memory has its test here. ``PYTHONMALLOC=debug`` and the
sanitizers run this file, too: some of what it does would go unnoticed without them.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import gc
import socket
import threading
import zlib
from collections.abc import Callable
from typing import Any

import pytest

from _kit import virtual, wire
from _kit.platforms import needs_selector
from _kit.sockets import anonymous_tls
from robustness.worlds import LOOPS
from websockets._codec import _python
from websockets.asyncio.client import ClientConnection, connect
from websockets.asyncio.server import ServerConnection, serve
from websockets.client import ClientProtocol
from websockets.exceptions import ConnectionClosed
from websockets.extensions.permessage_deflate import PerMessageDeflate
from websockets.protocol import State
from websockets.server import ServerProtocol
from websockets.testing import connected_pair
from websockets.uri import parse_uri

from .test_descriptor import arrived, behind, waiting
from .test_fast_path_twins import Twin, every_twin, make

each_loop = pytest.mark.parametrize("new_loop", LOOPS.values(), ids=LOOPS)

# ---------------------------------------------------------------------------------------------- what classes get to see


class Watching(ServerConnection):
    """A class that sees what is read, and keeps it."""

    def data_received(self, data: Any) -> None:
        seen.append((self, data))
        assert not data.startswith(b"nothing begins so")
        super().data_received(data)


seen: list[tuple[Any, Any]] = []


@pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])
@each_loop
def test_a_class_that_sees_what_is_read_gets_bytes(
    new_loop: Callable[[], asyncio.AbstractEventLoop], tls: bool
) -> None:
    """They stay as they are, though all connections of a loop are read into the same buffer."""
    context, trusting = anonymous_tls() if tls else (None, None)

    async def test() -> None:
        async with serve(echo, "127.0.0.1", 0, ssl=context, create_connection=Watching, compression=None) as server:
            uri = f"{'wss' if tls else 'ws'}://127.0.0.1:{next(iter(server.sockets)).getsockname()[1]}/"
            async with connect(uri, ssl=trusting, proxy=None) as one, connect(uri, ssl=trusting, proxy=None) as two:
                for number in range(5):
                    for client, size in ((one, 10), (two, 100_000)):
                        await client.send(f"{number}" * size)
                        assert await client.recv() == f"{number}" * size

    seen.clear()
    with asyncio.Runner(loop_factory=new_loop) as runner:
        runner.run(test())
    assert {type(data) for _, data in seen} == {bytes}
    for connection in {id(connection): connection for connection, _ in seen}.values():
        stream = b"".join(data for other, data in seen if other is connection)
        head, _, frames = stream.partition(b"\r\n\r\n")
        assert head.startswith(b"GET / HTTP/1.1")
        rows, rest = wire.parse(frames)
        size = len(rows[0].payload)
        assert [row.payload for row in rows if row.opcode == 1] == [b"%d" % number * size for number in range(5)]
        assert rest == b""


async def echo(connection: ServerConnection) -> None:
    async for message in connection:
        await connection.send(message)


@virtual
async def test_a_class_that_sees_what_is_read_sees_it_once() -> None:
    """Though a part of it is put aside while too many messages wait."""
    read: list[bytes] = []

    class WatchingClient(ClientConnection):
        def data_received(self, data: Any) -> None:
            read.append(data)
            super().data_received(data)

    def make(protocol: Any, *server: Any, **options: Any) -> Any:
        return (ServerConnection if server else WatchingClient)(protocol, *server, **options)

    async with connected_pair(create_connection=make, max_queue=4, compression=None) as (client, server):
        for number in range(3000):
            await server.send(f"message {number}")
        for number in range(3000):
            assert await client.recv() == f"message {number}"
        assert b"".join(read).count(b"message") == 3000


@every_twin
@virtual
async def test_no_view_of_the_buffer_reaches_the_class(twin: Twin) -> None:
    path = make(twin)
    path._ws_decoder = None
    kept: list[Any] = []
    type(path).data_received = lambda self, data: kept.append(data)
    for data in (b"abc", b"defg"):
        path.get_buffer(-1)[: len(data)] = data
        path.buffer_updated(len(data))
    assert kept == [b"abc", b"defg"]
    assert [type(data) for data in kept] == [bytes, bytes]


# -------------------------------------------------------------------------------------------------- what may be resized


@needs_selector
@every_twin
@pytest.mark.parametrize("client", [False, True], ids=["server", "client"])
@pytest.mark.parametrize("size", [100, 5000, 2**20])
async def test_an_array_that_is_sent_is_not_looked_at_later(twin: Twin, client: bool, size: int) -> None:
    """It may change after send() has returned: the bytes that the socket didn't take were copied."""
    array = bytearray(b"x" * size)
    async with behind(twin, client=client) as (path, theirs):
        path._ws_send_now(array, None)
        array[:] = b"y" * size
        array.clear()
        stream = arrived(theirs) + waiting(path.transport)
    (row,), rest = wire.parse(stream)
    assert (row.payload, rest) == (b"x" * size, b"")


class Resizing(threading.Thread):
    """A thread that makes an array shorter and longer, wherever it may."""

    def __init__(self, array: bytearray) -> None:
        super().__init__()
        self.array = array
        self.rounds = 0
        self.stopping = threading.Event()

    def run(self) -> None:
        size = len(self.array)
        while not self.stopping.is_set():
            with contextlib.suppress(BufferError):
                del self.array[1:]
                self.array.extend(b"x" * (size - 1))
            self.rounds += 1


@pytest.mark.parametrize("compression", [None, "deflate"])
@pytest.mark.parametrize("role", ["server", "client"])
def test_a_thread_that_resizes_what_is_sent(role: str, compression: str | None) -> None:
    """Some whole messages arrive, of any size that the array had; nothing else, and nothing crashes."""
    array = bytearray(b"x" * 300_000)
    sizes: set[int] = set()
    count = 60

    async def send(connection: Any) -> None:
        for _ in range(count):
            await connection.send(array)
        await connection.send("done")

    async def receive(connection: Any) -> None:
        while (message := await connection.recv()) != "done":
            assert message == b"x" * len(message)
            sizes.add(len(message))

    async def test() -> None:
        handler, use = (send, receive) if role == "server" else (receive, send)
        async with serve(handler, "127.0.0.1", 0, compression=compression) as server:
            port = next(iter(server.sockets)).getsockname()[1]
            async with connect(f"ws://127.0.0.1:{port}/", proxy=None, compression=compression) as client:
                await use(client)
                if role == "client":
                    await client.wait_closed()

    thread = Resizing(array)
    thread.start()
    try:
        asyncio.run(test())
    finally:
        thread.stopping.set()
        thread.join()
    assert sizes <= set(range(300_001))
    assert thread.rounds > 0


# ------------------------------------------------------------------------------------------- what goes while it is used


@pytest.mark.parametrize("end", ["abort", "close", "replace"])
@virtual
async def test_a_connection_that_ends_while_a_message_is_inflated(end: str) -> None:
    """As out of a signal handler, or of a finaliser: what is being used stays until it has been."""
    async with connected_pair(compression="deflate") as (client, server):
        deflate: Any = client.protocol.extensions[0]
        inflate = type(deflate).decompress
        calls: list[int] = []

        def interrupted(self: Any, *arguments: Any) -> Any:
            calls.append(1)
            if len(calls) == 2:
                if end == "abort":
                    client.abort()
                elif end == "close":
                    client._ws_start_closing(1000)
                else:
                    client._ws_inflate = client._ws_decoder = None
                    client._ws_queue = type(client._ws_queue)()
                gc.collect()
            return inflate(self, *arguments)

        type(deflate).decompress = interrupted
        try:
            # From the second read on, the compiled twin inflates; here that is one read.
            await server.send("first message " * 20)
            assert await client.recv() == "first message " * 20
            calls.clear()
            frames = b"".join(
                server.protocol._frame_message(1, f"message {number} ".encode() * 20, True) for number in range(5)
            )
            server._ws_write_out(frames)
            got = []
            with contextlib.suppress(ConnectionClosed, asyncio.TimeoutError):
                while True:
                    got.append(await asyncio.wait_for(client.recv(), 1))
        finally:
            type(deflate).decompress = inflate
        assert len(calls) >= 2
        assert got == [f"message {number} " * 20 for number in range(len(got))]
        client.abort()
        server.abort()


# --------------------------------------------------------------------------------------------------- what isn't there


@virtual
async def test_a_connection_without_its_loop() -> None:
    """A program that deletes it gets exceptions, not a crash."""
    async with connected_pair() as (client, server):
        loop = client.loop
        for message in ("one", "two"):
            await server.send(message)
        assert await client.recv() == "one"
        del client.loop
        with contextlib.suppress(AttributeError):
            await client.send("text")
        with contextlib.suppress(AttributeError):
            await client.recv()
        client.loop = loop
        client.abort()


# -------------------------------------------------------------------------------------------------------- out of memory


class Allocations:
    """Has an allocation of the interpreter fail, if it can be told to."""

    def __init__(self) -> None:
        self.testing = pytest.importorskip("_testcapi", reason="this interpreter can't be told to fail")

    def fail(self, number: int, act: Callable[[], object]) -> BaseException | None:
        """Run something in which the allocation of this number fails; return what it raised."""
        gc.disable()
        self.testing.set_nomemory(number, number + 1)
        try:
            act()
        except (MemoryError, OSError, SystemError) as exc:
            return exc
        finally:
            self.testing.remove_mem_hooks()
            gc.enable()
        return None


MESSAGES: dict[str, Any] = {
    "text": "x" * 300,
    "wide text": "é" * 300,
    "bytes": b"x" * 5000,
    "array": bytearray(b"x" * 5000),
    "large": b"x" * 2**20,
    "large text": "x" * 2**20,
    "large array": bytearray(2**20),
}


@needs_selector
@pytest.mark.parametrize("compression", [None, "deflate"])
@pytest.mark.parametrize("role", ["server", "client"])
@pytest.mark.parametrize("kind", MESSAGES)
async def test_send_without_memory(kind: str, role: str, compression: str | None) -> None:
    """Whichever allocation fails: the wire is whole, or the connection is gone."""
    if compression is not None and not kind.startswith(("text", "bytes", "large array")):
        return
    for byte in range(256):
        # The interpreter's cache of results crashes where this is made without memory.
        _python._xor_table(byte)
    allocations, message = Allocations(), MESSAGES[kind]
    payload = message.encode() if isinstance(message, str) else bytes(message)
    failures = gone = 0
    for number in range(60):
        ours, theirs = socket.socketpair()
        with ours, theirs:
            theirs.setblocking(False)
            ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 5000)
            connection = await established(ours, role, compression)
            error = allocations.fail(number, functools.partial(connection._ws_send_now, message, None))
            failures += error is not None
            closing = connection.transport.is_closing()
            gone += closing
            before = arrived(theirs)
            if not closing:
                # What is compressed later may refer to it, if it was sent.
                connection._ws_send_now(message, None)
                connection._ws_send_now("after", None)
            stream = before + arrived(theirs) + (b"" if closing else waiting(connection.transport))
            check(stream, payload, closing, error is None)
            if not closing:
                connection.transport.abort()
            await asyncio.sleep(0)
    # With little to send, there is another way that needs less memory.
    assert failures > 0 or (compression is None and kind in ("text", "bytes", "array"))


def check(stream: bytes, payload: bytes, closing: bool, sent: bool) -> None:
    """What is on the wire is frames, the first one whole unless nothing follows it."""
    inflate = zlib.decompressobj(-15)
    rows, rest = wire.parse(stream)
    got = [inflate.decompress(row.payload + b"\x00\x00\xff\xff") if row.rsv else row.payload for row in rows]
    if closing:
        assert got in ([], [payload])
    else:
        assert (got, rest) == ([payload] * (2 if sent or len(got) == 3 else 1) + [b"after"], b"")


async def established(sock: socket.socket, role: str, compression: str | None) -> Any:
    """A connection of a server or a client on a socket, without its opening handshake."""

    def make() -> Any:
        protocol: Any
        if role == "client":
            protocol = ClientProtocol(parse_uri("ws://localhost/"), state=State.OPEN)
        else:
            protocol = ServerProtocol(state=State.OPEN)
        if compression:
            protocol.extensions = [PerMessageDeflate(False, False, 15, 15)]
        if role == "client":
            return ClientConnection(protocol, ping_interval=None)
        return Unserved(protocol, None, ping_interval=None)  # type: ignore[arg-type]

    _, connection = await asyncio.get_running_loop().create_connection(make, sock=sock)
    connection._ws_choose_path()
    return connection


class Unserved(ServerConnection):
    """A server's connection without the server."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super(ServerConnection, self).connection_made(transport)

    def connection_lost(self, exc: Exception | None) -> None:
        super(ServerConnection, self).connection_lost(exc)


@needs_selector
@pytest.mark.parametrize("compression", [None, "deflate"])
async def test_receive_without_memory(compression: str | None) -> None:
    """Whichever allocation fails: what was received is whole and in order, or the connection is gone."""
    allocations = Allocations()
    peer = PerMessageDeflate(False, False, 15, 15)
    failures = 0
    for number in range(80):
        ours, theirs = socket.socketpair()
        with ours, theirs:
            connection = await established(ours, "client", compression)
            texts = [f"message {index} " * 30 for index in range(4)] + ["x" * 70_000, "é" * 5000]
            frames = b""
            for index, text in enumerate(texts):
                head, data = peer.pack(0x81, text.encode()) if compression else (0x81, text.encode())
                frames += wire.frame(head & 0x0F, bytes(data), rsv=head >> 4 & 4)
                frames += wire.frame(0x9, b"?") if index == 2 else b""
            if compression:
                peer = PerMessageDeflate(False, False, 15, 15)

            def read(connection: Any = connection, frames: bytes = frames) -> None:
                while frames:
                    buffer = connection.get_buffer(-1)
                    size = min(len(buffer), len(frames), 30_000)
                    memoryview(buffer)[:size] = frames[:size]
                    connection.buffer_updated(size)
                    frames = frames[size:]

            error = allocations.fail(number, read)
            failures += error is not None
            got = []
            while len(connection._ws_queue):
                got.append(connection._ws_queue.popleft())
            assert got == texts[: len(got)]
            # A failure may be held back until what came before it has been read.
            if error is None and connection.state is State.OPEN and not connection._ws_session.port.failure_held:
                assert got == texts
            connection.transport.abort()
            await asyncio.sleep(0)
    assert failures > 0
