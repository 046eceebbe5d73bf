"""The live counter: everybody sees the same."""

from __future__ import annotations

import asyncio

from counter import counter

from _kit import virtual
from examples.visits import hear, uri
from websockets.asyncio.client import connect


@virtual
async def test_everybody_sees_each_change() -> None:
    async with counter("127.0.0.1", 0) as server, connect(uri(server, "/counter")) as first:
        assert await hear(first) == {"count": 0, "viewers": 1}
        async with connect(uri(server, "/counter")) as second:
            for websocket in (first, second):
                assert await hear(websocket) == {"count": 0, "viewers": 2}
            await first.send("minus")
            for websocket in (first, second):
                assert await hear(websocket) == {"count": -1, "viewers": 2}
            await second.send("plus")
            for websocket in (first, second):
                assert await hear(websocket) == {"count": 0, "viewers": 2}
        assert await hear(first) == {"count": 0, "viewers": 1}


@virtual
async def test_nonsense_changes_nothing() -> None:
    async with counter("127.0.0.1", 0) as server, connect(uri(server, "/counter")) as websocket:
        await hear(websocket)
        for message in ("times", b"plus"):
            await websocket.send(message)
            assert (await hear(websocket))["count"] == 0


@virtual
async def test_no_change_is_lost() -> None:
    async with counter("127.0.0.1", 0) as server, connect(uri(server, "/counter")) as watcher:

        async def click() -> None:
            async with connect(uri(server, "/counter")) as websocket:
                for _ in range(20):
                    await websocket.send("plus")

        await asyncio.gather(*(click() for _ in range(10)))
        states = [await hear(watcher)]
        while states[-1] != {"count": 200, "viewers": 1}:
            states.append(await hear(watcher))
        counts = [state["count"] for state in states]
    assert counts == sorted(counts)
