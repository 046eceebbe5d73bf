"""Whether messages take the short way through a connection: it is a matter of speed only, and so nothing else shows it.

What is counted are calls of the methods that deal with everything that isn't just a message. The compiled twin calls
none of them for a message; the readable one has some of them on its way.
"""

from __future__ import annotations

import asyncio
import collections
import logging
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from _kit import idle, steps, virtual, wire
from _kit.ends import FramePeer, open_end
from websockets import PreparedMessage
from websockets._codec import TWIN
from websockets._session import broadcast as plans
from websockets._session.session import Session
from websockets.asyncio import connection as connections
from websockets.asyncio._fastpath._readable import BURST
from websockets.asyncio.connection import Connection
from websockets.asyncio.server import broadcast
from websockets.protocol import Side, _prepared
from websockets.testing import connected_pair

both_sides = pytest.mark.parametrize("side", [Side.SERVER, Side.CLIENT], ids=["server", "client"])

# What deals with more than messages, and what the readable twin calls for messages, too.
UNUSUAL = {
    *(
        "_ws_process_events",
        "_ws_choose_path",
        "_ws_flush",
        "_ws_hold_rest",
        "_ws_receive_rest",
        "_ws_send_slowly",
        "_ws_take_turn",
    ),
    *("_ws_let_others_run", "_ws_schedule", "_ws_pause_reading", "_ws_drained"),
}
IN_PYTHON = {
    "_ws_receive_data",
    "_ws_take_in",
    "_ws_receive_slowly",
    "_ws_wait_for_frames",
    "_ws_before_waiting",
    "_ws_pause_if_full",
}

Calls = collections.Counter[str]


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> Calls:
    """How often each of those methods was called, of any connection."""
    counted = Calls()

    def watch(name: str) -> None:
        original = getattr(Connection, name)

        def counting(self: Connection, *args: Any) -> Any:
            counted[name] += 1
            return original(self, *args)

        monkeypatch.setattr(Connection, name, counting)

    for name in UNUSUAL if TWIN == "python" else UNUSUAL | IN_PYTHON:
        watch(name)
    return counted


async def echo(connection: Connection, peer: FramePeer, count: int = 10) -> None:
    """Messages come in, one by one, and go back."""

    async def answer() -> None:
        for _ in range(count):
            await connection.send(await connection.recv())

    answering = asyncio.create_task(answer())
    await steps(2)
    for number in range(count):
        if number % 2:
            await peer.text(str(number))
            await peer.expect(wire.TEXT, str(number).encode())
        else:
            await peer.send(wire.BINARY, bytes(number))
            await peer.expect(wire.BINARY, bytes(number))
    await answering


# An idle connection has no decoder, so the first read makes one.
FIRST_READ = (
    {"_ws_choose_path": 1} if TWIN == "python" else {"_ws_receive_data": 1, "_ws_take_in": 1, "_ws_choose_path": 1}
)


@both_sides
@virtual
async def test_from_the_first_message_on(side: Side, calls: Calls) -> None:
    async with open_end(side) as (connection, peer):
        calls.clear()
        await echo(connection, peer)
        assert calls == FIRST_READ


@both_sides
@virtual
async def test_below_a_limit_of_a_rate(side: Side, calls: Calls, monkeypatch: pytest.MonkeyPatch) -> None:
    looks: list[float] = []

    def look(session: Session, now: float) -> float:
        looks.append(now)
        return meter(session, now)

    meter = Session.meter
    monkeypatch.setattr(Session, "meter", look)
    async with open_end(side, max_rate=(1000, 1000), max_bytes_rate=(10**6, 10**6)) as (connection, peer):
        calls.clear()
        await echo(connection, peer, 1000)
        # Of an eighth of the messages that may come at once, nobody asks for the time.
        assert len(looks) == 8
        assert calls == FIRST_READ
        assert connection.statistics.limited == 0


@pytest.mark.parametrize("compression", [None, "deflate"])
@virtual
async def test_with_and_without_compression(compression: str | None, calls: Calls) -> None:
    async with connected_pair(client={"compression": compression}) as (client, server):
        assert bool(server.protocol.extensions) is bool(compression)
        calls.clear()
        for text in ("short", "a longer one, which compression makes shorter " * 20):
            receiving = asyncio.create_task(server.recv())
            await steps(2)
            await client.send(text)
            assert await receiving == text
            await server.send(text.encode())
            assert await client.recv() == text.encode()
            broadcast([server], "small")
            assert await client.recv() == "small"
            await idle()
        assert calls == dict.fromkeys(FIRST_READ, 2)


@both_sides
@virtual
async def test_for_any_number_of_messages(side: Side, calls: Calls) -> None:
    """As long as there are waits in between, others have their turns then, and no other pause is needed."""
    async with open_end(side) as (connection, peer):
        await echo(connection, peer)
        calls.clear()
        await echo(connection, peer, 2 * BURST)
        assert calls == {}


@both_sides
@virtual
async def test_for_messages_that_wait(side: Side, calls: Calls) -> None:
    async with open_end(side) as (connection, peer):
        await echo(connection, peer)
        await _receive_fragments(connection, peer)
        await peer.text("first")
        await idle()
        # It is asked once more whether fragments wait, too.
        calls.clear()
        for text in ("second", "third"):
            await peer.text(text)
            await idle()
        for text in ("first", "second", "third"):
            assert await connection.recv() == text
        assert calls == {}


@virtual
async def test_a_message_for_many_is_laid_out_once(monkeypatch: pytest.MonkeyPatch) -> None:
    laid_out = 0
    lay_out = _prepared.frame_for

    def counting(*args: Any) -> Any:
        nonlocal laid_out
        laid_out += 1
        return lay_out(*args)

    for module in (plans, connections):
        monkeypatch.setattr(module, "frame_for", counting)
    async with open_end(Side.SERVER) as (one, first), open_end(Side.SERVER) as (two, second):
        broadcast([one, two], "broadcast")
        assert laid_out == 1
        message = PreparedMessage("prepared")
        for connection in (one, two, one):
            await connection.send(message)
        assert laid_out == 2
        assert [(await first.frame()).payload for _ in range(3)] == [b"broadcast", b"prepared", b"prepared"]
        assert [(await second.frame()).payload for _ in range(2)] == [b"broadcast", b"prepared"]


async def _be_pinged(connection: Connection, peer: FramePeer) -> None:
    await peer.send(wire.PING, b"p")
    await peer.expect(wire.PONG, b"p")


async def _ping(connection: Connection, peer: FramePeer) -> None:
    answered = await connection.ping(b"p")
    await peer.expect(wire.PING, b"p")
    await peer.send(wire.PONG, b"p")
    await answered


async def _get_an_unasked_pong(connection: Connection, peer: FramePeer) -> None:
    await peer.send(wire.PONG, b"p")
    await idle()


async def _keep_alive(connection: Connection, peer: FramePeer) -> None:
    ping = await peer.frame()
    await peer.send(wire.PONG, ping.payload)
    await idle()


async def _receive_fragments(connection: Connection, peer: FramePeer) -> None:
    receiving = asyncio.create_task(connection.recv())
    await peer.text("a", fin=False)
    await steps(5)
    await peer.send(wire.CONT, b"b", fin=False)
    await peer.send(wire.CONT, b"c")
    assert await receiving == "abc"


async def _stream(connection: Connection, peer: FramePeer) -> None:
    await peer.text("a", fin=False)
    await peer.send(wire.CONT, b"b")
    assert [fragment async for fragment in connection.recv_streaming()] == ["a", "b"]


async def _leave_a_stream(connection: Connection, peer: FramePeer) -> None:
    await peer.text("a", fin=False)
    fragments = connection.recv_streaming()
    assert await anext(fragments) == "a"
    await fragments.aclose()  # type: ignore[attr-defined]
    await peer.send(wire.CONT, b"b")
    await idle()


async def _send_fragments(connection: Connection, peer: FramePeer) -> None:
    await connection.send(["a", "b"])
    assert [(await peer.frame()).payload for _ in range(3)] == [b"a", b"b", b""]


async def _pause_reading(connection: Connection, peer: FramePeer) -> None:
    for number in range(40):
        await peer.text(str(number))
        await steps(3)
    assert not connection.transport.is_reading()
    assert [await connection.recv() for _ in range(40)] == [str(number) for number in range(40)]
    await idle()
    assert connection.transport.is_reading()


async def _pause_writing(connection: Connection, peer: FramePeer) -> None:
    peer.raw.stop_reading()
    sending = [asyncio.create_task(connection.send(bytes(50_000))) for _ in range(10)]
    await idle()
    assert not sending[-1].done()
    peer.raw.resume_reading()
    for _ in sending:
        await peer.expect(wire.BINARY, bytes(50_000))
    await asyncio.gather(*sending)


async def _cancel_recv(connection: Connection, peer: FramePeer) -> None:
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(connection.recv(), 1)


async def _receive_a_burst(connection: Connection, peer: FramePeer) -> None:
    await peer.raw.send(wire.text("x", mask=peer.mask) * (2 * BURST + 1))
    await idle()
    for _ in range(2 * BURST + 1):
        assert await connection.recv() == "x"


async def _receive_a_crowd(connection: Connection, peer: FramePeer) -> None:
    await peer.raw.send(wire.frame(wire.PONG, b"", mask=peer.mask) * 2000)
    await idle()


async def _receive_a_large_message(connection: Connection, peer: FramePeer) -> None:
    receiving = asyncio.create_task(connection.recv())
    await peer.send(wire.BINARY, bytes(10**6))
    assert await receiving == bytes(10**6)


async def _answer_while_more_waits(connection: Connection, peer: FramePeer) -> None:
    await peer.raw.send(wire.text("x", mask=peer.mask) * 3)
    await idle()
    for _ in range(3):
        await connection.send(await connection.recv())
    for _ in range(3):
        await peer.expect(wire.TEXT, b"x")


async def _broadcast(connection: Connection, peer: FramePeer) -> None:
    for number in range(3):
        broadcast([connection], str(number))
    for number in range(3):
        await peer.expect(wire.TEXT, str(number).encode())
    await idle()


DETOURS: list[Callable[[Connection, FramePeer], Awaitable[None]]] = [
    *(_be_pinged, _ping, _get_an_unasked_pong, _keep_alive, _receive_fragments, _stream, _leave_a_stream),
    *(_send_fragments, _pause_reading, _pause_writing, _cancel_recv, _receive_a_burst, _receive_a_crowd),
    *(_receive_a_large_message, _answer_while_more_waits, _broadcast),
]


@both_sides
@pytest.mark.parametrize("detour", DETOURS, ids=lambda detour: detour.__name__[1:])
@virtual
async def test_back_to_it_after(side: Side, detour: Any, calls: Calls) -> None:
    async with open_end(side) as (connection, peer):
        await echo(connection, peer)
        for _ in range(2):
            await detour(connection, peer)
            calls.clear()
            await echo(connection, peer)
            assert calls == {}


@both_sides
@virtual
async def test_not_while_messages_are_logged(side: Side, calls: Calls, caplog: pytest.LogCaptureFixture) -> None:
    """What is counted here can be seen to happen."""
    caplog.set_level(logging.DEBUG, "websockets")
    async with open_end(side) as (connection, peer):
        calls.clear()
        await echo(connection, peer, 10)
        assert calls["_ws_send_slowly"] == 10


@both_sides
@virtual
async def test_what_is_unusual_is_counted(side: Side, calls: Calls) -> None:
    async with open_end(side) as (connection, peer):
        calls.clear()
        await _be_pinged(connection, peer)
        assert calls["_ws_process_events"] == 1
        # The compiled twin assembles fragments itself.
        before = calls.copy()
        await _receive_fragments(connection, peer)
        assert calls == before
