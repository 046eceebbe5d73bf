"""The feed: no gap whatever happens to connections, and a word when there is one."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any

import feed_client
import feed_server
import pytest
from feed_client import Missed, Position, follow
from feed_server import GONE, Feed
from feed_server import feed_server as serve_feed

from _kit import VirtualLoop, idle, virtual
from examples.visits import hear, tell, uri
from websockets.asyncio.client import connect
from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.exceptions import ConnectionClosedError


async def collect(where: str, count: int, position: Position | None = None) -> list[tuple[int, Any]]:
    """The next events that a client gets, with their numbers."""
    found: list[tuple[int, Any]] = []
    async with contextlib.aclosing(follow(where, position)) as events:
        async for reached, data in events:
            found.append((reached.after, data))
            if len(found) == count:
                break
    return found


def slow(server: Server) -> connect:
    """A client with hardly any room for what it hasn't read."""
    return connect(uri(server, "/"), max_queue=1, compression=None)


@virtual
async def test_new_client_gets_what_comes_from_now_on() -> None:
    feed = Feed()
    feed.publish("before")
    async with serve_feed(feed, "127.0.0.1", 0) as server:
        collecting = asyncio.create_task(collect(uri(server, "/"), 2))
        await idle()
        feed.publish("first")
        feed.publish({"any": ["JSON"]})
        assert await collecting == [(2, "first"), (3, {"any": ["JSON"]})]


@pytest.mark.parametrize("end", ["abort", "close", "fault"])
@virtual
async def test_no_gap(end: str) -> None:
    loop = asyncio.get_running_loop()
    assert isinstance(loop, VirtualLoop)
    feed = Feed()
    async with serve_feed(feed, "127.0.0.1", 0) as server:
        collecting = asyncio.create_task(collect(uri(server, "/"), 300, Position(feed.id, 0)))
        connections: set[ServerConnection] = set()
        for number in range(1, 301):
            feed.publish(f"data {number}")
            await asyncio.sleep(1)
            # A connection that lasted for longer than the longest first delay is replaced at once.
            if number % 6 == 0:
                connections |= server.connections
                if end == "fault":
                    loop.network.links[-1].reset()
                for connection in server.connections:
                    if end == "abort":
                        connection.transport.abort()
                    elif end == "close":
                        await connection.close(1012)
        assert await collecting == [(number, f"data {number}") for number in range(1, 301)]
        # It was a new connection each time, but for the last: there was something to be lost.
        assert len(connections) == 49


@virtual
async def test_no_gap_while_the_server_is_away() -> None:
    feed = Feed()
    async with serve_feed(feed, "127.0.0.1", 0) as server:
        where = uri(server, "/")
        collecting = asyncio.create_task(collect(where, 3))
        await idle()
        feed.publish("a")
        await idle()
    feed.publish("b")
    await asyncio.sleep(60)
    async with serve_feed(feed, "127.0.0.1", int(where.split(":")[2].rstrip("/"))):
        feed.publish("c")
        assert await collecting == [(1, "a"), (2, "b"), (3, "c")]


@virtual
async def test_position_of_an_earlier_run() -> None:
    feed = Feed()
    for data in "abc":
        feed.publish(data)
    async with serve_feed(feed, "127.0.0.1", 0) as server:
        assert await collect(uri(server, "/"), 2, Position(feed.id, 1)) == [(2, "b"), (3, "c")]


@pytest.mark.parametrize(
    ("feed_id", "after", "reason"),
    [(None, 6, "the first event is 8"), (None, 13, "the last event is 12"), ("x", 9, "this is another feed")],
)
@virtual
async def test_missed(feed_id: str | None, after: int, reason: str) -> None:
    feed = Feed(keep=5)
    for number in range(1, 13):
        feed.publish(number)
    async with serve_feed(feed, "127.0.0.1", 0) as server:
        with pytest.raises(Missed, match=reason):
            await collect(uri(server, "/"), 1, Position(feed_id or feed.id, after))
        assert await collect(uri(server, "/"), 5, Position(feed.id, 7)) == [(n, n) for n in range(8, 13)]


@virtual
async def test_slow_client_is_told_that_it_missed_something() -> None:
    feed = Feed(keep=10)
    async with serve_feed(feed, "127.0.0.1", 0) as server, slow(server) as websocket:
        await tell(websocket, {"feed": None, "after": None})
        assert await hear(websocket) == {"feed": feed.id, "after": 0}
        # More than fits into the buffers on the way.
        for _ in range(500):
            feed.publish("x" * 10_000)
            await idle()
        numbers = []
        with contextlib.suppress(ConnectionClosedError):
            while True:
                numbers.append((await hear(websocket))["number"])
        assert websocket.close_code == GONE
        assert numbers == list(range(1, len(numbers) + 1))
        assert 10 < len(numbers) < 500


@pytest.mark.parametrize("message", ["", "[]", '{"feed": 1, "after": 1}', '{"feed": null, "after": 1}'])
@virtual
async def test_no_position(message: str) -> None:
    async with serve_feed(Feed(), "127.0.0.1", 0) as server, connect(uri(server, "/")) as websocket:
        await websocket.send(message)
        with pytest.raises(ConnectionClosedError):
            await websocket.recv()
        assert websocket.close_code == 1008


@virtual
async def test_gap_of_a_server_is_noticed() -> None:
    async def handler(websocket: ServerConnection) -> None:
        await websocket.recv()
        await tell(websocket, {"feed": "x", "after": 1})
        await tell(websocket, {"number": 3, "data": None})

    async with serve(handler, "127.0.0.1", 0) as server:
        with pytest.raises(Missed, match="event 3 came after 1"):
            await collect(uri(server, "/"), 1)


@virtual
async def test_programs(capsys: pytest.CaptureFixture[str]) -> None:
    serving = asyncio.create_task(feed_server.main(8765))
    await idle()
    following = asyncio.create_task(feed_client.main("ws://127.0.0.1:8765"))
    await asyncio.sleep(30)
    for task in (following, serving):
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
    lines = capsys.readouterr().out.splitlines()
    assert "dropping 1 connections" in lines
    numbers = [int(line.split()[0]) for line in lines if line[0].isdigit()]
    assert numbers == list(range(1, len(numbers) + 1))
    assert len(numbers) > 40
