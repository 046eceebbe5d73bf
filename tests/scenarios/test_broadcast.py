"""Broadcasts: recipients, frames, and connections that are left out."""

from __future__ import annotations

import contextlib
import logging
import re
from collections.abc import AsyncIterator
from typing import Any

import pytest

from _kit import wire
from scenarios._world import Capability, End, Gate, Peer, Server, World
from scenarios._worlds import in_every_world
from websockets.exceptions import ConcurrencyError
from websockets.protocol import Side, State

LOGGER = "websockets.server"


@contextlib.asynccontextmanager
async def crowd(world: World, count: int, **options: Any) -> AsyncIterator[tuple[Server, list[Peer]]]:
    """A server with so many clients, which break off in the end."""

    async def handler(connection: Any) -> None:
        await connection.wait_closed()

    async with world.serve(handler, **{"compression": None, **options}) as server:
        peers = [await world.reach(server) for _ in range(count)]
        for peer in peers:
            await peer.write(wire.request())
            await peer.read_until()
        try:
            yield server, peers
        finally:
            for peer in peers:
                peer.reset()


async def received(world: World, peer: Peer) -> list[tuple[int, bytes]]:
    """The frames that arrived so far, as opcodes and payloads."""
    await world.settle()
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
@in_every_world()
async def test_broadcast(world: World, message: Any, options: dict[str, Any], frame: tuple[int, bytes]) -> None:
    async with crowd(world, 3) as (server, peers):
        await world.broadcast(server.connections, message, **options)
        assert [await received(world, peer) for peer in peers] == [[frame]] * 3


@pytest.mark.parametrize("message", [{"a": "b"}, ["a"], None, 5, iter("a")])
@pytest.mark.parametrize("count", [0, 1])
@in_every_world()
async def test_what_cannot_be_broadcast(world: World, message: Any, count: int) -> None:
    async with crowd(world, count) as (server, peers):
        with pytest.raises(TypeError, match=r"^data must be str or bytes$"):
            await world.broadcast(server.connections, message)
        assert [await received(world, peer) for peer in peers] == [[]] * count


@in_every_world()
async def test_later_changes_of_a_buffer_do_not_count(world: World) -> None:
    async with crowd(world, 1) as (server, (peer,)):
        message = bytearray(b"before")
        await world.broadcast(server.connections, message)
        message[:] = b"after!"
        assert await received(world, peer) == [(wire.BINARY, b"before")]


@in_every_world()
async def test_any_iterable_of_connections(world: World) -> None:
    async with crowd(world, 3) as (server, peers):
        await world.broadcast((connection for connection in server.connections), "a")
        await world.broadcast(list(server.connections)[:1], "b")
        assert sorted([len(await received(world, peer)) for peer in peers]) == [1, 1, 2]
        await world.broadcast([], "c")
        with pytest.raises(TypeError, match="not iterable"):
            await world.broadcast(next(iter(server.connections)), "d")


@in_every_world()
async def test_order_among_other_messages(world: World) -> None:
    async with crowd(world, 1) as (server, (peer,)):
        (connection,) = server.connections
        await connection.send("one")
        await world.broadcast([connection], "two")
        await connection.send("three")
        await world.broadcast([connection], "four")
        assert [payload for _, payload in await received(world, peer)] == [b"one", b"two", b"three", b"four"]


@in_every_world()
async def test_all_kinds_of_connections_at_once(world: World) -> None:
    """Clients mask, and compression differs; nobody gets what was made for another."""
    async with (
        world.pair() as (client, deflating),
        world.pair(client={"compression": None}) as (other_client, plain),
        world.one_end(Side.CLIENT) as (raw_client, peer),
    ):
        await world.broadcast([client, deflating, other_client, plain, raw_client], "hello " * 20)
        for connection in (client, deflating, other_client, plain):
            assert await connection.recv() == "hello " * 20
        row = await peer.frame()
        assert row.mask is not None
        assert row.payload == b"hello " * 20
        assert deflating.protocol.extensions
        assert not plain.protocol.extensions


@in_every_world(Capability.CANCELLATION)
async def test_connections_that_are_not_open(world: World, caplog: pytest.LogCaptureFixture) -> None:
    async with crowd(world, 3) as (server, peers):
        closing, closed, _ = server.connections
        task = world.start(closing.close)
        closed.abort()
        await world.settle()
        assert (closing.state, closed.state) == (State.CLOSING, State.CLOSED)
        await world.broadcast([closing, closed, *server.connections], "a", raise_exceptions=True)
        frames = [await received(world, peer) for peer in peers if peer.ended is None]
        assert sorted(frames) == [[(wire.TEXT, b"a")], [(wire.CLOSE, b"\x03\xe8")]]
        await task.stop()
    assert caplog.records == []


@in_every_world()
async def test_nobody_waits_for_a_slow_client(world: World) -> None:
    async with crowd(world, 2) as (server, (slow, quick)):
        slow.stop_reading()
        for number in range(50):
            await world.broadcast(server.connections, bytes([number]) * 10_000)
        assert len(await received(world, quick)) == 50
        slow.resume_reading()
        assert len(await received(world, slow)) == 50


async def pieces(go: Gate) -> AsyncIterator[str]:
    yield "one"
    await go.wait()
    yield "two"


@contextlib.asynccontextmanager
async def fragmenting(world: World) -> AsyncIterator[tuple[End, Peer, Gate]]:
    """A connection in the middle of a fragmented message, which goes on when the event is set."""
    async with world.one_end(Side.SERVER) as (connection, peer):
        go = world.gate()
        sending = world.start(connection.send, world.source(pieces(go)))
        assert (await peer.frame()).payload == b"one"
        yield connection, peer, go
        await sending.result()


@in_every_world()
async def test_connection_in_a_fragmented_message(world: World, caplog: pytest.LogCaptureFixture) -> None:
    async with fragmenting(world) as (connection, peer, go):
        await world.broadcast([connection], "skipped")
        go.open()
        assert [(await peer.frame()).payload for _ in range(2)] == [b"two", b""]
        await world.broadcast([connection], "again")
        assert (await peer.frame()).payload == b"again"
    (record,) = caplog.records
    assert (record.name, record.levelname) == (LOGGER, "WARNING")
    assert record.getMessage() == "skipped broadcast: sending a fragmented message"
    assert record.websocket.id == connection.id  # type: ignore[attr-defined]


@in_every_world()
async def test_exception_for_a_connection_in_a_fragmented_message(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    async with fragmenting(world) as (connection, _, go), world.one_end(Side.SERVER) as (other, peer):
        with pytest.raises(ExceptionGroup, match="^skipped broadcast") as caught:
            await world.broadcast([connection, other], "hello", raise_exceptions=True)
        (error,) = caught.value.exceptions
        assert isinstance(error, ConcurrencyError)
        assert str(error) == "sending a fragmented message"
        # The others got it.
        assert (await peer.frame()).payload == b"hello"
        go.open()
    assert caplog.records == []


@in_every_world()
async def test_log_at_debug(world: World, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, LOGGER)
    async with crowd(world, 2) as (server, _):
        caplog.clear()
        await world.broadcast(server.connections, "hello")
        assert [record.getMessage() for record in caplog.records] == ["> TEXT 'hello' [5 bytes]"] * 2


# --------------------------------------------------------------------------------------------------------- slow clients


@contextlib.asynccontextmanager
async def crowd_with_a_slow_one(world: World) -> AsyncIterator[tuple[list[Any], Any, list[Peer]]]:
    """Connections of a server; the one whose peer, the last, doesn't read; and the peers."""
    async with crowd(world, 3) as (server, peers):
        peers[-1].stop_reading()
        port = peers[-1].address[1]
        (slow,) = (end for end in server.connections if end.remote_address[1] == port)
        yield list(server.connections), slow, peers


@pytest.mark.parametrize("max_buffered", [None, 2**16, 2**20])
@in_every_world()
async def test_slow_clients_are_skipped(
    world: World, max_buffered: int | None, caplog: pytest.LogCaptureFixture
) -> None:
    limit = max_buffered or 2**15
    async with crowd_with_a_slow_one(world) as (ends, slow, peers):
        for _ in range(200):
            await world.broadcast(ends, bytes(10_000), on_slow="skip", max_buffered=max_buffered)
            await world.settle()
            assert slow.buffered_amount <= limit + 10_004
        skipped = slow.statistics.skipped
        assert 0 < skipped < 200
        assert [end.statistics.skipped for end in ends if end != slow] == [0, 0]
        assert [len(await received(world, peer)) for peer in peers[:2]] == [200, 200]
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
        await world.settle()
        await world.broadcast(ends, b"last", on_slow="skip", max_buffered=max_buffered)
        frames = await received(world, peers[-1])
        assert len(frames) == 200 - skipped + 1
        assert frames[-1] == (wire.BINARY, b"last")


@in_every_world()
async def test_slow_clients_are_closed(world: World, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, LOGGER)
    async with crowd_with_a_slow_one(world) as (ends, slow, peers):
        for _ in range(200):
            await world.broadcast(ends, bytes(10_000), on_slow="close", max_buffered=50_000)
            await world.settle()
        assert slow.state is State.CLOSING
        assert slow.buffered_amount <= 60_100
        (told,) = [record for record in caplog.records if record.getMessage().startswith("closing connection")]
        waiting = re.fullmatch(r"closing connection: too slow, (\d+) bytes wait", told.getMessage())
        assert waiting is not None, told
        assert 50_000 < int(waiting[1]) <= 60_004
        assert told.levelname == "INFO"
        peers[-1].resume_reading()
        frames = await received(world, peers[-1])
        assert frames[-1] == (wire.CLOSE, (1008).to_bytes(2, "big") + b"too slow")
        assert [len(await received(world, peer)) for peer in peers[:2]] == [200, 200]
        assert slow.statistics.skipped == 0


@in_every_world()
async def test_slow_clients_are_sent_to(world: World) -> None:
    async with crowd_with_a_slow_one(world) as (ends, slow, _):
        for _ in range(200):
            await world.broadcast(ends, bytes(10_000), max_buffered=50_000)
        assert slow.buffered_amount > 1_000_000


@in_every_world()
async def test_what_is_held_back_is_no_sign_of_slowness(world: World) -> None:
    async with crowd(world, 1) as (server, (peer,)):
        for _ in range(6):
            await world.broadcast(server.connections, bytes(10_000), on_slow="close", max_buffered=25_000)
        assert [len(payload) for _, payload in await received(world, peer)] == [10_000] * 6
