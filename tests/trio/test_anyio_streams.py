"""``websockets.anyio.connect(stream=...)``: byte streams of anyio, on asyncio and on trio."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator
from typing import Any

import anyio
import anyio.abc
import anyio.streams.tls
import pytest
import trio

from _kit.certificates import client_context, server_context
from _kit.on_both import echo, on_both
from _kit.platforms import needs_unix_sockets
from websockets.anyio import _TrioStream, connect, serve
from websockets.exceptions import ConnectionClosedError, InvalidMessage


@contextlib.asynccontextmanager
async def serving(handler: Any = echo, **options: Any) -> AsyncIterator[int]:
    """A server, and its port."""

    async def run(*, task_status: anyio.abc.TaskStatus[Any]) -> None:
        await serve(handler, 0, host="127.0.0.1", task_status=task_status, **options)

    async with anyio.create_task_group() as tasks:
        server = await tasks.start(run)
        async with server:
            yield server.addresses[0][1]


class Wrapped(anyio.abc.ByteStream):
    """A byte stream that isn't a socket; it can be made to break."""

    def __init__(self, inner: anyio.abc.ByteStream) -> None:
        self.inner = inner
        self.failure: Exception | None = None
        self.closed = False
        self.closing = anyio.Event()

    async def receive(self, max_bytes: int = 65536) -> bytes:
        data = await self.inner.receive(max_bytes)
        if self.failure is not None:
            raise self.failure
        return data

    async def send(self, item: bytes) -> None:
        assert type(item) is bytes
        await self.inner.send(item)

    async def send_eof(self) -> None:
        await self.inner.send_eof()

    async def aclose(self) -> None:
        self.closed = True
        self.closing.set()
        await self.inner.aclose()


async def open_stream(port: int) -> Wrapped:
    """A stream to a server."""
    return Wrapped(await anyio.connect_tcp("127.0.0.1", port))


@on_both
async def test_messages() -> None:
    async with serving(max_size=None) as port:
        stream = await open_stream(port)
        async with connect("ws://anywhere.test/", stream=stream, max_size=None) as websocket:
            for message in ("hello", b"x" * 1_000_000):
                await websocket.send(message)
                assert await websocket.recv() == message
        assert websocket.close_code == 1000
        assert stream.closed


@on_both
async def test_stream_of_a_socket() -> None:
    async with serving() as port:
        async with connect("ws://anywhere.test/", stream=await anyio.connect_tcp("127.0.0.1", port)) as websocket:
            await websocket.send("hello")
            assert await websocket.recv() == "hello"


@on_both
async def test_tls_over_a_stream() -> None:
    async with serving(ssl=server_context()) as port:
        async with connect("wss://localhost/", stream=await open_stream(port), ssl=client_context()) as websocket:
            await websocket.send("hello")
            assert await websocket.recv() == "hello"


@on_both
async def test_end_of_a_stream() -> None:
    async def leave(websocket: Any) -> None:
        await websocket.recv()
        websocket.abort()

    async with serving(leave) as port:
        stream = await open_stream(port)
        async with connect("ws://anywhere.test/", stream=stream) as websocket:
            await websocket.send("go")
            with pytest.raises(ConnectionClosedError):
                await websocket.recv()
        assert stream.closed


@needs_unix_sockets  # anyio asks for their names
@on_both
async def test_opening_handshake_fails() -> None:
    ours, theirs = socket.socketpair()
    async with await anyio.abc.UNIXSocketStream.from_socket(theirs) as peer:
        await peer.send(b"nonsense\r\n\r\n")
        stream = Wrapped(await anyio.abc.UNIXSocketStream.from_socket(ours))
        with pytest.raises(InvalidMessage):
            async with connect("ws://anywhere.test/", stream=stream):
                raise AssertionError
        assert stream.closed


@pytest.mark.parametrize("failure", [anyio.BrokenResourceError, anyio.ClosedResourceError])
def test_broken_stream(failure: type[Exception]) -> None:
    @on_both
    async def test() -> None:
        async with serving() as port:
            stream = await open_stream(port)
            async with connect("ws://anywhere.test/", stream=stream) as websocket:
                stream.failure = failure()
                await websocket.send("hello")
                with pytest.raises(ConnectionClosedError):
                    await websocket.recv()

    for library in ("asyncio", "trio"):
        test(library)


@on_both
async def test_cancelled_block() -> None:
    async with serving() as port:
        stream = await open_stream(port)
        with anyio.CancelScope() as scope:
            async with connect("ws://anywhere.test/", stream=stream):
                scope.cancel()
                await anyio.sleep(10)
        with anyio.fail_after(10):
            await stream.closing.wait()


def test_stream_of_trio() -> None:
    async def main() -> None:
        async with serving() as port:
            async with connect(
                "ws://anywhere.test/", stream=await trio.open_tcp_stream("127.0.0.1", port)
            ) as websocket:
                await websocket.send("hello")
                assert await websocket.recv() == "hello"

    trio.run(main)


@needs_unix_sockets  # anyio asks for their names
def test_wrong_on_asyncio() -> None:
    async def main() -> None:
        with pytest.raises(TypeError, match="^stream must be a byte stream of anyio, or None; got int$"):
            connect("ws://anywhere.test/", stream=1)
        ours, theirs = socket.socketpair()
        with theirs:
            async with await anyio.abc.UNIXSocketStream.from_socket(ours) as stream:
                for name in ("host", "port", "sock"):
                    with pytest.raises(ValueError, match=f"^{name} is incompatible with stream$"):
                        connect("ws://anywhere.test/", stream=stream, **{name: 1})
                with pytest.raises(TypeError, match="^a stream is for one connection"):
                    aiter(connect("ws://anywhere.test/", stream=stream))

    asyncio.run(main())


@needs_unix_sockets  # anyio asks for their names
def test_stream_never_says_when_it_takes_data() -> None:
    trio.run(_TrioStream(None).wait_send_all_might_not_block)
