"""The chat room: names, what newcomers are told, what all hear, limits."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

import pytest
from chat import HISTORY, MAX_BUFFERED, MAX_SIZE, PATIENCE, REFUSED, chat

from _kit import virtual
from examples.visits import hear, uri
from websockets.asyncio.client import ClientConnection, connect
from websockets.asyncio.server import Server
from websockets.exceptions import ConnectionClosedError


@contextlib.asynccontextmanager
async def guest(server: Server, name: str) -> AsyncIterator[tuple[ClientConnection, Any]]:
    """Somebody in the room, and what it was told first."""
    async with connect(uri(server, "/chat")) as websocket:
        await websocket.send(name)
        welcome = await hear(websocket)
        assert welcome["type"] == "welcome"
        yield websocket, welcome


async def refusal(websocket: ClientConnection) -> str:
    """Why the room doesn't let somebody in."""
    with pytest.raises(ConnectionClosedError):
        await websocket.recv()
    assert websocket.close_code == REFUSED
    assert websocket.close_reason is not None
    return websocket.close_reason


@virtual
async def test_everybody_hears_everything() -> None:
    async with chat("127.0.0.1", 0) as server, guest(server, "Ada") as (ada, welcome):
        assert (welcome["name"], welcome["people"]) == ("Ada", ["Ada"])
        async with guest(server, " Grace  Hopper ") as (grace, welcome):
            assert (welcome["name"], welcome["people"]) == ("Grace Hopper", ["Ada", "Grace Hopper"])
            assert await hear(ada) == {"type": "joined", "name": "Grace Hopper"}
            await grace.send(" hello ✓ ")
            await grace.send("   ")
            await grace.send(b"binary")
            for websocket in (ada, grace):
                said = await hear(websocket)
                assert (said["type"], said["name"], said["text"]) == ("said", "Grace Hopper", "hello ✓")
        assert await hear(ada) == {"type": "left", "name": "Grace Hopper"}


@virtual
async def test_newcomers_see_what_was_said_last() -> None:
    async with chat("127.0.0.1", 0) as server, guest(server, "Ada") as (ada, _):
        for number in range(HISTORY + 1):
            await ada.send(f"message {number}")
            await hear(ada)
        async with guest(server, "Grace") as (grace, _):
            texts = [(await hear(grace))["text"] for _ in range(HISTORY)]
    assert texts == [f"message {number}" for number in range(1, HISTORY + 1)]


@pytest.mark.parametrize("name", ["", "  ", "x" * 21, "bell \a"])
@virtual
async def test_bad_name(name: str) -> None:
    async with chat("127.0.0.1", 0) as server, connect(uri(server, "/chat")) as websocket:
        await websocket.send(name)
        assert await refusal(websocket) == "a name has 1 to 20 characters"


@virtual
async def test_name_in_use_is_free_again_later() -> None:
    async with chat("127.0.0.1", 0) as server:
        async with guest(server, "Ada"), connect(uri(server, "/chat")) as second:
            await second.send("ADA")
            assert await refusal(second) == "ADA is in the room already"
        async with guest(server, "ada") as (_, welcome):
            assert welcome["people"] == ["ada"]


@virtual
async def test_nameless_guest_has_to_leave() -> None:
    async with chat("127.0.0.1", 0) as server, connect(uri(server, "/chat")) as websocket:
        before = websocket.loop.time()
        assert await refusal(websocket) == "no name was given"
        assert websocket.loop.time() - before == PATIENCE


@virtual
async def test_long_message_ends_the_connection_and_nothing_else() -> None:
    async with chat("127.0.0.1", 0) as server, guest(server, "Ada") as (ada, _):
        async with guest(server, "Grace") as (grace, _):
            await grace.send("x" * (MAX_SIZE + 1))
            with pytest.raises(ConnectionClosedError):
                await grace.recv()
            assert grace.close_code == 1009
        assert [(await hear(ada))["type"] for _ in range(2)] == ["joined", "left"]


@virtual
async def test_who_does_not_read_has_to_leave() -> None:
    loop = asyncio.get_running_loop()
    async with chat("127.0.0.1", 0) as server, guest(server, "Ada") as (ada, _):
        deaf = connect(uri(server, "/chat"), max_queue=1, compression=None)
        async with deaf as websocket:
            await websocket.send("Grace")
            await hear(ada)
            # Twice what may wait, in messages that are no larger than one that somebody says.
            for _ in range(2 * MAX_BUFFERED // 4000):
                await ada.send("x" * 4000)
                await hear(ada)
            before = loop.time()
            while (await hear(ada))["type"] != "left":
                pass
            # That is long before keepalive would have noticed.
            assert loop.time() - before <= 10
