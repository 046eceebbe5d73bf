"""Tests of the auction, without a socket and without waiting. ``pytest examples/tested_app``

The server is the real one, and so are opening handshakes, keepalive and limits. Only the network is in memory, and the
clock jumps ahead when no task can run.
"""

import asyncio
import functools
import json
from collections.abc import Callable, Coroutine
from typing import Any

import pytest
from auction import PATIENCE, auction

from websockets.asyncio.client import ClientConnection
from websockets.exceptions import ConnectionClosedError
from websockets.testing import Network, link_of, run, serve_in_memory

AT_FIRST = {"price": 100, "bidder": None}
AT_ADA = {"price": 150, "bidder": "ada"}


def virtual(test: Callable[[], Coroutine[Any, Any, None]]) -> Callable[[], None]:
    """Run a test on a loop with a virtual clock."""

    @functools.wraps(test)
    def wrapper() -> None:
        run(test())

    return wrapper


def now() -> float:
    return asyncio.get_running_loop().time()


async def hear(websocket: ClientConnection) -> Any:
    return json.loads(await websocket.recv())


async def bid(websocket: ClientConnection, amount: int | str) -> Any:
    """Return the next message that a bidder gets after a bid."""
    await websocket.send(str(amount))
    return await hear(websocket)


@virtual
async def test_everybody_hears_of_a_bid() -> None:
    async with serve_in_memory(auction("localhost", 0)) as server:
        async with server.connect("/ada") as ada, server.connect("/grace") as grace:
            assert await hear(ada) == await hear(grace) == AT_FIRST
            assert await bid(ada, 150) == AT_ADA
            assert await hear(grace) == AT_ADA
            # A bidder who comes late gets the result, too.
            async with server.connect("/alan") as alan:
                assert await hear(alan) == AT_ADA


@virtual
async def test_bids_that_do_not_count() -> None:
    async with serve_in_memory(auction("localhost", 0)) as server, server.connect("/ada") as ada:
        await hear(ada)
        assert await bid(ada, 99) == {"refused": "the least bid is 100"}
        assert await bid(ada, 100) == {"price": 100, "bidder": "ada"}
        assert await bid(ada, 109) == {"refused": "the least bid is 110"}
        for nonsense in ("", "-200", "2e3", "٣٠٠", "9" * 20):
            assert await bid(ada, nonsense) == {"refused": "that is no bid"}


@virtual
async def test_it_is_over_when_nobody_bids_any_more() -> None:
    async with serve_in_memory(auction("localhost", 0)) as server, server.connect("/ada") as ada:
        await hear(ada)
        await bid(ada, 100)
        # No real second passes here.
        await asyncio.sleep(PATIENCE - 1)
        await bid(ada, 110)
        last = now()
        assert await hear(ada) == {"sold": 110, "to": "ada"}
        assert now() == last + PATIENCE
        assert await bid(ada, 200) == {"refused": "it is over"}


@virtual
async def test_bid_stands_when_the_connection_breaks() -> None:
    async with serve_in_memory(auction("localhost", 0)) as server, server.connect("/grace") as grace:
        await hear(grace)
        async with server.connect("/ada") as ada:
            await hear(ada)
            await bid(ada, 150)
            link_of(ada).reset()
        assert await hear(grace) == AT_ADA
        assert await hear(grace) == {"sold": 150, "to": "ada"}


@virtual
async def test_bidder_who_is_gone_without_a_word_is_noticed() -> None:
    async with serve_in_memory(auction("localhost", 0)) as server:
        async with server.connect("/ada") as ada:
            await hear(ada)
            (connection,) = server.server.connections
            # Like a pulled cable: nothing arrives any more, and no end gets an error.
            link_of(ada).drop()
            before = now()
            await connection.wait_closed()
            assert now() - before <= 20
        assert server.server.connections == set()


@virtual
async def test_slow_network() -> None:
    # A quarter of a second in each direction, in pieces of at most ten bytes.
    async with serve_in_memory(auction("localhost", 0), network=Network(delay=0.25, chunk=10)) as server:
        async with server.connect("/ada") as ada, server.connect("/grace") as grace:
            await hear(ada)
            await hear(grace)
            await bid(ada, 150)
            await hear(grace)
            # Both heard of it a quarter of a second after it was taken, and a bid takes as long to arrive.
            await asyncio.sleep(PATIENCE - 0.5)
            await grace.send("200")
            assert await hear(grace) == {"sold": 150, "to": "ada"}
            assert await hear(grace) == {"refused": "it is over"}


@virtual
async def test_long_message_closes_only_its_connection() -> None:
    async with serve_in_memory(auction("localhost", 0)) as server:
        async with server.connect("/ada") as ada, server.connect("/grace") as grace:
            await hear(ada)
            await hear(grace)
            await ada.send("1" * 1000)
            with pytest.raises(ConnectionClosedError, match="message too big"):
                await ada.recv()
            assert await bid(grace, 150) == {"price": 150, "bidder": "grace"}
