"""The chat of the examples on two servers over Redis: one room, also after Redis has started again."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from deployment.programs import TIMEOUT, Running, example, free_port, packages, program, running
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosedError

Event = dict[str, Any]


@contextlib.contextmanager
def redis(port: int, folder: Path) -> Iterator[Running]:
    """Run Redis, which keeps nothing."""
    options = ["--bind", "127.0.0.1", "--save", "", "--dir", str(folder)]
    with running(program("redis-server"), "--port", str(port), *options, port=port) as run:
        yield run


@contextlib.contextmanager
def chat(store: int) -> Iterator[str]:
    """Run a server of the chat; give the URI of its room."""
    port = free_port()
    url = f"redis://127.0.0.1:{store}"
    with example("chat/chat.py", str(port), url, port=port, env=packages()) as server:
        server.wait_until(lambda: "open http://" in server.output)
        yield f"ws://127.0.0.1:{port}/chat"


class Guest:
    """Somebody in the room, and what it hears."""

    def __init__(self, websocket: ClientConnection, welcome: Event) -> None:
        self._websocket = websocket
        self.people: list[str] = welcome["people"]

    async def says(self, text: str) -> None:
        """Say something."""
        await self._websocket.send(text)

    async def hears(self, kind: str) -> Event:
        """Wait for the next event of a kind."""
        async with asyncio.timeout(TIMEOUT):
            while True:
                event: Event = json.loads(await self._websocket.recv())
                if event["type"] == "joined":
                    self.people.append(event["name"])
                if event["type"] == kind:
                    return event


@contextlib.asynccontextmanager
async def guest(uri: str, name: str) -> AsyncIterator[Guest]:
    """Enter the room."""
    async with connect(uri) as websocket:
        await websocket.send(name)
        async with asyncio.timeout(TIMEOUT):
            welcome = json.loads(await websocket.recv())
        assert welcome["type"] == "welcome"
        yield Guest(websocket, welcome)


async def test_one_room_on_two_servers(tmp_path: Path) -> None:
    with redis(store := free_port(), tmp_path), chat(store) as first, chat(store) as second:
        async with guest(first, "Ada") as ada:
            assert ada.people == ["Ada"]
            await ada.says("is anybody there?")
            async with guest(second, "Grace") as grace:
                assert (await ada.hears("joined"))["name"] == "Grace"
                # The server of the newcomer has kept the room, and so it has heard what was said in it. Who came before
                # is in the welcome, or is on its way to this server at that moment.
                assert (await grace.hears("said"))["text"] == "is anybody there?"
                assert sorted(grace.people) == ["Ada", "Grace"]
                await grace.says("yes ✓")
                for each in (ada, grace):
                    while (said := await each.hears("said"))["name"] != "Grace":
                        pass
                    assert said["text"] == "yes ✓"
                # A name is taken in the whole room.
                async with connect(first) as websocket:
                    await websocket.send("grace")
                    with pytest.raises(ConnectionClosedError):
                        await websocket.recv()
                    assert websocket.close_reason == "grace is in the room already"
            assert (await ada.hears("left"))["name"] == "Grace"


async def test_redis_that_is_killed_and_starts_again(tmp_path: Path) -> None:
    with contextlib.ExitStack() as stack:
        run = stack.enter_context(redis(store := free_port(), tmp_path))
        first, second = [stack.enter_context(chat(store)) for _ in range(2)]
        async with guest(first, "Ada") as ada, guest(second, "Grace") as grace:
            await ada.hears("joined")
            await ada.says("hello")
            await grace.hears("said")
            run.process.kill()
            run.process.wait()
            await ada.hears("said")
            for number in range(5):
                await ada.says(f"{number}")
                # In the same server, nothing is missing.
                assert (await ada.hears("said"))["text"] == f"{number}"
            stack.enter_context(redis(store, tmp_path))
            # Nobody has left. What was said has waited, or the page is told how much of it is missing.
            heard, missed = list[str](), 0
            async with asyncio.timeout(TIMEOUT):
                while len(heard) + missed < 5:
                    event = json.loads(await grace._websocket.recv())
                    if event["type"] == "said":
                        heard.append(event["text"])
                    elif event["type"] == "missed":
                        missed += event["count"]
                    else:
                        raise AssertionError(event)
            assert heard == [f"{number}" for number in range(5)][missed:]
            await grace.says("and now?")
            assert (await ada.hears("said"))["text"] == "and now?"
            print(f"\n5 messages were said while Redis was away: {len(heard)} arrived later, {missed} are missing")
