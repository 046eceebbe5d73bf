"""Broadcasts on asyncio: to whom they go, in which form, and who is left out."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import re
from collections.abc import AsyncIterator
from typing import Any

import pytest

from _kit import RawPeer, VirtualLoop, idle, virtual, wire
from _kit.ends import FramePeer, open_end
from websockets.asyncio.client import connect
from websockets.asyncio.connection import Connection
from websockets.asyncio.server import Server, broadcast, serve
from websockets.exceptions import ConcurrencyError
from websockets.extensions.base import Extension
from websockets.extensions.permessage_deflate import PerMessageDeflate, ServerPerMessageDeflateFactory
from websockets.frames import Frame
from websockets.protocol import Side, State
from websockets.testing import connected_pair

LOGGER = "websockets.server"


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


MESSAGES: list[tuple[Any, dict[str, Any], tuple[int, bytes]]] = [
    ("caf\xe9", {}, (wire.TEXT, "caf\xe9".encode())),
    ("", {}, (wire.TEXT, b"")),
    (b"\x00\xff", {}, (wire.BINARY, b"\x00\xff")),
    (bytearray(b"a"), {}, (wire.BINARY, b"a")),
    (memoryview(b"abc")[::2], {}, (wire.BINARY, b"ac")),
    (b"a", {"text": True}, (wire.TEXT, b"a")),
    ("a", {"text": False}, (wire.BINARY, b"a")),
    (bytes(70_000), {}, (wire.BINARY, bytes(70_000))),
]


@pytest.mark.parametrize(("message", "options", "frame"), MESSAGES, ids=range(len(MESSAGES)))
@virtual
async def test_broadcast(message: Any, options: dict[str, Any], frame: tuple[int, bytes]) -> None:
    async with crowd(3) as (server, peers):
        assert broadcast(server.connections, message, **options) is None  # type: ignore[func-returns-value]
        assert [await received(peer) for peer in peers] == [[frame]] * 3


@pytest.mark.parametrize("message", [{"a": "b"}, ["a"], None, 5, iter("a")])
@pytest.mark.parametrize("count", [0, 1])
@virtual
async def test_what_cannot_be_broadcast(message: Any, count: int) -> None:
    async with crowd(count) as (server, peers):
        with pytest.raises(TypeError, match=r"^data must be str or bytes$"):
            broadcast(server.connections, message)
        assert [await received(peer) for peer in peers] == [[]] * count


@virtual
async def test_later_changes_of_a_buffer_do_not_count() -> None:
    async with crowd(1) as (server, (peer,)):
        message = bytearray(b"before")
        broadcast(server.connections, message)
        message[:] = b"after!"
        assert await received(peer) == [(wire.BINARY, b"before")]


@virtual
async def test_any_iterable_of_connections() -> None:
    async with crowd(3) as (server, peers):
        broadcast((connection for connection in server.connections), "a")
        broadcast(list(server.connections)[:1], "b")
        assert sorted([len(await received(peer)) for peer in peers]) == [1, 1, 2]
        broadcast([], "c")
        with pytest.raises(TypeError, match="not iterable"):
            broadcast(next(iter(server.connections)), "d")  # type: ignore[arg-type]


@virtual
async def test_order_among_other_messages() -> None:
    async with crowd(1) as (server, (peer,)):
        (connection,) = server.connections
        await connection.send("one")
        broadcast([connection], "two")
        await connection.send("three")
        broadcast([connection], "four")
        assert [payload for _, payload in await received(peer)] == [b"one", b"two", b"three", b"four"]


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
    """What is written, and in which turn, when so many broadcasts of one byte are made in each turn of the loop."""
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
        connection._start_closing(1000)
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


@virtual
async def test_all_kinds_of_connections_at_once() -> None:
    """Clients mask, and compression differs; nobody gets what was made for another."""
    async with (
        connected_pair() as (client, deflating),
        connected_pair(client={"compression": None}) as (other_client, plain),
        open_end(Side.CLIENT) as (raw_client, peer),
    ):
        broadcast([client, deflating, other_client, plain, raw_client], "hello " * 20)
        for connection in (client, deflating, other_client, plain):
            assert await connection.recv() == "hello " * 20
        row = await peer.frame()
        assert row.mask is not None
        assert row.payload == b"hello " * 20
        assert deflating.protocol.extensions
        assert not plain.protocol.extensions


@virtual
async def test_connections_that_are_not_open(caplog: pytest.LogCaptureFixture) -> None:
    async with crowd(3) as (server, peers):
        closing, closed, _ = server.connections
        task = asyncio.create_task(closing.close())
        closed.transport.abort()
        await idle()
        assert (closing.state, closed.state) == (State.CLOSING, State.CLOSED)
        broadcast([closing, closed, *server.connections], "a", raise_exceptions=True)
        frames = [await received(peer) for peer in peers if peer.ended is None]
        assert sorted(frames) == [[(wire.TEXT, b"a")], [(wire.CLOSE, b"\x03\xe8")]]
        task.cancel()
    assert caplog.records == []


@virtual
async def test_nobody_waits_for_a_slow_client() -> None:
    async with crowd(2, write_limit=1000) as (server, (slow, quick)):
        slow.stop_reading()
        for number in range(50):
            broadcast(server.connections, bytes([number]) * 10_000)
        assert len(await received(quick)) == 50
        slow.resume_reading()
        assert len(await received(slow)) == 50


async def pieces(go: asyncio.Event) -> AsyncIterator[str]:
    yield "one"
    await go.wait()
    yield "two"


@contextlib.asynccontextmanager
async def fragmenting() -> AsyncIterator[tuple[Connection, FramePeer, asyncio.Event]]:
    """A connection in the middle of a fragmented message, which goes on when the event is set."""
    async with open_end(Side.SERVER) as (connection, peer):
        go = asyncio.Event()
        sending = asyncio.create_task(connection.send(pieces(go)))
        assert (await peer.frame()).payload == b"one"
        yield connection, peer, go
        await sending


@virtual
async def test_connection_in_a_fragmented_message(caplog: pytest.LogCaptureFixture) -> None:
    async with fragmenting() as (connection, peer, go):
        broadcast([connection], "skipped")
        go.set()
        assert [(await peer.frame()).payload for _ in range(2)] == [b"two", b""]
        broadcast([connection], "again")
        assert (await peer.frame()).payload == b"again"
    (record,) = caplog.records
    assert (record.name, record.levelname) == (LOGGER, "WARNING")
    assert record.getMessage() == "skipped broadcast: sending a fragmented message"
    assert record.websocket.id == connection.id  # type: ignore[attr-defined]


@virtual
async def test_exception_for_a_connection_in_a_fragmented_message(caplog: pytest.LogCaptureFixture) -> None:
    async with fragmenting() as (connection, _, go), open_end(Side.SERVER) as (other, peer):
        with pytest.raises(ExceptionGroup, match="^skipped broadcast") as caught:
            broadcast([connection, other], "hello", raise_exceptions=True)
        (error,) = caught.value.exceptions
        assert isinstance(error, ConcurrencyError)
        assert str(error) == "sending a fragmented message"
        # The others got it.
        assert (await peer.frame()).payload == b"hello"
        go.set()
    assert caplog.records == []


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
            faulty._choose_path()
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


@virtual
async def test_log_at_debug(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, LOGGER)
    async with crowd(2) as (server, _):
        caplog.clear()
        broadcast(server.connections, "hello")
        assert [record.getMessage() for record in caplog.records] == ["> TEXT 'hello' [5 bytes]"] * 2


# --------------------------------------------------------------------------------------------------------- slow clients


@contextlib.asynccontextmanager
async def crowd_with_a_slow_one() -> AsyncIterator[tuple[list[Any], Any, list[RawPeer]]]:
    """Connections of a server; the one whose peer, the last, doesn't read; and the peers."""
    async with crowd(3, write_limit=2**16) as (server, peers):
        peers[-1].stop_reading()
        port = peers[-1].sock.getsockname()[1]
        (slow,) = (end for end in server.connections if end.remote_address[1] == port)
        yield list(server.connections), slow, peers


@pytest.mark.parametrize("max_buffered", [None, 2**16, 2**20])
@virtual
async def test_slow_clients_are_skipped(max_buffered: int | None, caplog: pytest.LogCaptureFixture) -> None:
    limit = max_buffered or 2**16
    async with crowd_with_a_slow_one() as (ends, slow, peers):
        for _ in range(200):
            broadcast(ends, bytes(10_000), on_slow="skip", max_buffered=max_buffered)
            await idle()
            assert slow.buffered_amount <= limit + 10_004
        skipped = slow.statistics.skipped
        assert 0 < skipped < 200
        assert [end.statistics.skipped for end in ends if end is not slow] == [0, 0]
        assert [len(await received(peer)) for peer in peers[:2]] == [200, 200]
        # Each time that the count has doubled, there is a line.
        lines = [record.getMessage() for record in caplog.records if "skipped" in record.getMessage()]
        assert len(lines) == skipped.bit_length()
        for number, line in enumerate(lines):
            text = rf"skipped broadcast: too slow, (\d+) bytes wait; {2**number} skipped until now"
            told = re.fullmatch(text, line)
            assert told is not None, line
            assert limit < int(told[1]) <= limit + 10_004
        assert {record.levelname for record in caplog.records} == {"WARNING"}
        # Once it reads again, it gets messages again.
        peers[-1].resume_reading()
        await idle()
        broadcast(ends, b"last", on_slow="skip", max_buffered=max_buffered)
        frames = await received(peers[-1])
        assert len(frames) == 200 - skipped + 1
        assert frames[-1] == (wire.BINARY, b"last")


@virtual
async def test_slow_clients_are_closed(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, LOGGER)
    async with crowd_with_a_slow_one() as (ends, slow, peers):
        for _ in range(200):
            broadcast(ends, bytes(10_000), on_slow="close", max_buffered=50_000)
            await idle()
        assert slow.state is State.CLOSING
        assert slow.buffered_amount <= 60_100
        (told,) = [record for record in caplog.records if record.getMessage().startswith("closing connection")]
        waiting = re.fullmatch(r"closing connection: too slow, (\d+) bytes wait", told.getMessage())
        assert waiting is not None, told
        assert 50_000 < int(waiting[1]) <= 60_004
        assert told.levelname == "INFO"
        peers[-1].resume_reading()
        frames = await received(peers[-1])
        assert frames[-1] == (wire.CLOSE, (1008).to_bytes(2, "big") + b"too slow")
        assert [len(await received(peer)) for peer in peers[:2]] == [200, 200]
        assert slow.statistics.skipped == 0


@virtual
async def test_slow_clients_are_sent_to() -> None:
    async with crowd_with_a_slow_one() as (ends, slow, _):
        for _ in range(200):
            broadcast(ends, bytes(10_000), max_buffered=50_000)
        assert slow.buffered_amount > 1_000_000


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


@virtual
async def test_what_is_held_back_is_no_sign_of_slowness() -> None:
    async with crowd(1) as (server, (peer,)):
        for _ in range(6):
            broadcast(server.connections, bytes(10_000), on_slow="close", max_buffered=25_000)
        assert [len(payload) for _, payload in await received(peer)] == [10_000] * 6
