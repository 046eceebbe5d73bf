"""Broadcasts on asyncio: when they are written, in how many pieces, and what transports and extensions spoil."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

import pytest

from _kit import RawPeer, VirtualLoop, idle, virtual, wire
from websockets.asyncio.client import connect
from websockets.asyncio.connection import Connection
from websockets.asyncio.server import Server, broadcast, serve
from websockets.extensions.base import Extension
from websockets.extensions.permessage_deflate import PerMessageDeflate, ServerPerMessageDeflateFactory
from websockets.frames import Frame


@contextlib.asynccontextmanager
async def crowd(count: int, **options: Any) -> AsyncIterator[tuple[Server, list[RawPeer]]]:
    """A server with so many clients, which break off in the end."""
    loop = asyncio.get_running_loop()
    assert isinstance(loop, VirtualLoop)

    async def handler(connection: Connection) -> None:
        await connection.wait_closed()

    async with serve(handler, "localhost", 0, **{"compression": None, **options}) as server:
        (listening,) = server.sockets
        peers = [await loop.network.connect("localhost", listening.getsockname()[1]) for _ in range(count)]
        for peer in peers:
            await peer.send(wire.request())
            await peer.read_until()
        try:
            yield server, peers
        finally:
            for peer in peers:
                peer.reset()


async def received(peer: RawPeer) -> list[tuple[int, bytes]]:
    """The frames that arrived so far, as opcodes and payloads."""
    await idle()
    rows, rest = wire.parse(peer.unread)
    assert rest == b""
    return [(row.opcode, row.payload) for row in rows if row.fin and row.mask is None]


class Counting:
    """A transport that notes when something is written, in turns of the loop since the start."""

    def __init__(self, transport: asyncio.Transport) -> None:
        self._transport = transport
        self.turn = 0
        self.takes = 0.0  # seconds for a write
        self.writes: list[tuple[int, int]] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    def write(self, data: bytes) -> None:
        self.writes.append((self.turn, len(data)))
        loop = asyncio.get_running_loop()
        assert isinstance(loop, VirtualLoop)
        loop.stall(self.takes)
        self._transport.write(data)


async def storm(turns: list[int]) -> list[tuple[int, int]]:
    """Each write, and its turn of the loop, when this number of broadcasts of one byte is made in each turn."""
    async with crowd(1) as (server, (peer,)):
        (connection,) = server.connections
        counting = Counting(connection.transport)
        connection.transport = counting  # type: ignore[assignment]
        for number in turns:
            for _ in range(number):
                broadcast([connection], "x")
            await asyncio.sleep(0)
            counting.turn += 1
        assert await received(peer) == [(wire.TEXT, b"x")] * sum(turns)
        return list(counting.writes)


@virtual
async def test_a_broadcast_alone_is_written_at_once() -> None:
    assert await storm([1, 0, 0, 1, 0, 0, 1]) == [(0, 3), (3, 3), (6, 3)]


@virtual
async def test_broadcasts_that_follow_each_other_share_writes() -> None:
    # The first is written, the others when a turn has passed without one.
    assert await storm([3, 0, 0, 0]) == [(0, 3), (1, 6)]
    assert await storm([1] * 10 + [0] * 4) == [(0, 3), (10, 27)]


@pytest.mark.parametrize(("slow", "most"), [(0.0, 5), (0.0031, 12), (1.0, 35)])
@virtual
async def test_broadcasts_are_not_held_back_for_long(slow: float, most: int) -> None:
    loop = asyncio.get_running_loop()
    assert isinstance(loop, VirtualLoop)
    async with crowd(1) as (server, _):
        (connection,) = server.connections
        counting = Counting(connection.transport)
        connection.transport = counting  # type: ignore[assignment]
        counting.takes = slow
        for turn in range(100):
            counting.turn = turn
            broadcast([connection], "x")
            await asyncio.sleep(0)
            loop.stall(0.0003)
        # For a millisecond, or for as long as writing takes, up to ten milliseconds.
        shared = [size // 3 for _, size in counting.writes]
        assert shared[:2] == [1, 5]
        assert max(shared) == most


@virtual
async def test_too_many_bytes_are_not_held_back() -> None:
    async with crowd(1) as (server, (peer,)):
        (connection,) = server.connections
        counting = Counting(connection.transport)
        connection.transport = counting  # type: ignore[assignment]
        for _ in range(20):
            broadcast([connection], "x" * 10_000)
        assert [size for _, size in counting.writes] == [10_004, 70_028, 70_028]
        assert len(await received(peer)) == 20


@virtual
async def test_what_is_held_back_is_sent_before_anything_else() -> None:
    async with crowd(1) as (server, (peer,)):
        (connection,) = server.connections
        broadcast([connection], "one")
        broadcast([connection], "two")
        await connection.send("three")
        broadcast([connection], "four")
        await connection.ping(b"five")
        broadcast([connection], "six")
        connection._ws_start_closing(1000)
        assert [payload for _, payload in await received(peer)] == [
            *(b"one", b"two", b"three", b"four", b"five", b"six"),
            b"\x03\xe8",
        ]


@virtual
async def test_writing_what_was_held_back_fails_for_one_of_many() -> None:
    async with crowd(3) as (server, peers):
        faulty, *others = server.connections
        everybody = [faulty, *others]
        broadcast(everybody, "one")
        broadcast(everybody, "two")
        told: list[dict[str, Any]] = []
        asyncio.get_running_loop().set_exception_handler(lambda loop, context: told.append(context))

        def write(data: bytes) -> None:
            raise LookupError("no way")

        intact = faulty.transport.write
        faulty.transport.write = write  # type: ignore[method-assign,assignment]
        assert sorted([len(await received(peer)) for peer in peers]) == [1, 2, 2]
        faulty.transport.write = intact  # type: ignore[method-assign]
        (context,) = told
        assert context["message"] == "unexpected internal error"
        assert isinstance(context["exception"], LookupError)


COMPRESSION: dict[str, dict[str, Any]] = {
    "default": {},
    "forgetting": {
        "extensions": [ServerPerMessageDeflateFactory(server_no_context_takeover=True, server_max_window_bits=9)]
    },
}


@pytest.mark.parametrize("name", COMPRESSION)
@virtual
async def test_compression_is_shared_and_contexts_stay_intact(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    alone: list[int] = []
    pack_alone = PerMessageDeflate._pack_alone

    def counting(self: PerMessageDeflate, head: int, data: Any) -> Any:
        alone.append(len(data))
        return pack_alone(self, head, data)

    monkeypatch.setattr(PerMessageDeflate, "_pack_alone", counting)

    async def handler(connection: Connection) -> None:
        await connection.wait_closed()

    async with contextlib.AsyncExitStack() as stack:
        server = await stack.enter_async_context(serve(handler, "localhost", 0, **COMPRESSION[name]))
        (listening,) = server.sockets
        port = listening.getsockname()[1]
        clients = [await stack.enter_async_context(connect(f"ws://localhost:{port}")) for _ in range(3)]
        ends = list(server.connections)
        sizes = [300, 5000, 20, 300, 2048, 40_000, 300, 2047]
        for number, size in enumerate(sizes):
            message = f"{number} is the number of this message. " * (size // 30 + 1)
            broadcast(ends, message[:size])
            for end in ends:
                await end.send(message)
            for client in clients:
                assert [await client.recv(), await client.recv()] == [message[:size], message]
    # Each once, not once for each connection; the smallest is below the threshold.
    assert alone == ([size for size in sizes if size > 20] if name == "forgetting" else [5000, 2048, 40_000])


class Faulty(Extension):
    """An extension that can't encode."""

    name = "faulty"  # type: ignore[assignment]

    def encode(self, frame: Frame) -> Frame:
        raise LookupError("no way")


# With RuntimeError transports say that they took nothing, and that the connection may go on.
@pytest.mark.parametrize(("where", "failure"), [("extension", LookupError), ("transport", RuntimeError)])
@virtual
async def test_write_that_fails(
    where: str, failure: type[Exception], caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def write(data: bytes) -> None:
        raise failure("no way")

    async with crowd(2) as (server, peers):
        faulty, sound = server.connections
        if where == "extension":
            faulty.protocol.extensions = [Faulty()]
            faulty._ws_choose_path()
        else:
            monkeypatch.setattr(faulty.transport, "write", write)
        broadcast([faulty, sound], "hello")
        assert sorted([len(await received(peer)) for peer in peers]) == [0, 1]
        (record,) = caplog.records
        assert (record.levelname, record.exc_info) == ("WARNING", None)
        assert record.getMessage() == "skipped broadcast: failed to write message: " + f"{failure.__name__}: no way"
        caplog.clear()

        with pytest.raises(ExceptionGroup, match="^skipped broadcast") as caught:
            broadcast([faulty, sound], "hello", raise_exceptions=True)
        (error,) = caught.value.exceptions
        assert isinstance(error, RuntimeError)
        assert str(error) == "failed to write message"
        assert isinstance(error.__cause__, failure)
        assert sorted([len(await received(peer)) for peer in peers]) == [0, 2]
        assert caplog.records == []
        monkeypatch.undo()
        faulty.protocol.extensions = []


def test_there_is_nothing_to_await() -> None:
    assert broadcast([], "a") is None  # type: ignore[func-returns-value]


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"on_slow": "wait"}, "on_slow must be 'send', 'skip' or 'close', not 'wait'"),
        ({"max_buffered": -1}, "max_buffered must be a number of bytes, 0 or more, or None, not -1"),
    ],
)
def test_wrong_options(options: dict[str, Any], error: str) -> None:
    with pytest.raises(ValueError, match=error):
        broadcast([], "a", **options)
