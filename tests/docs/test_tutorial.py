"""What the tutorial builds works at every step, on a virtual clock and a network in memory."""

from __future__ import annotations

import asyncio
import contextlib
import importlib.util
import json
from collections.abc import AsyncIterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from _kit.clock import VirtualLoop, idle, virtual
from websockets.asyncio.client import ClientConnection, connect

FOLDER = Path(__file__).parents[2] / "examples" / "tutorial"
URI = "ws://localhost:8765"
DRINKS = f"{URI}/drink"


def load(name: str) -> ModuleType:
    """A fresh module, with no votes."""
    spec = importlib.util.spec_from_file_location(name, FOLDER / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@contextlib.asynccontextmanager
async def running(name: str) -> AsyncIterator[ModuleType]:
    """A step of the tutorial that runs until the end of the block."""
    module = load(name)
    task = asyncio.create_task(module.main())
    await idle()
    try:
        yield module
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


async def vote(websocket: ClientConnection, option: Any) -> None:
    await websocket.send(json.dumps({"vote": option}))


async def result(websocket: ClientConnection) -> dict[str, int]:
    votes: dict[str, int] = json.loads(await websocket.recv())["votes"]
    return votes


async def get(target: str, port: int = 8765) -> str:
    """What the server answers to a browser that asks for a page."""
    loop = asyncio.get_running_loop()
    assert isinstance(loop, VirtualLoop)
    peer = await loop.network.connect("localhost", port)
    await peer.send(f"GET {target} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode())
    response = await peer.read_until_eof()
    peer.close()
    return response.decode()


@virtual
async def test_step_1_counts_votes() -> None:
    async with running("step1"), connect(URI) as websocket:
        await vote(websocket, "tea")
        assert await result(websocket) == {"tea": 1, "coffee": 0}
        await vote(websocket, "tea")
        assert await result(websocket) == {"tea": 2, "coffee": 0}


@pytest.mark.parametrize("step", ["step2", "step3", "step4", "poll"])
def test_everybody_sees_each_vote(step: str) -> None:
    @virtual
    async def test() -> None:
        async with running(step), connect(DRINKS) as first, connect(DRINKS) as second:
            for websocket in (first, second):
                assert await result(websocket) == {"tea": 0, "coffee": 0}
            await vote(first, "coffee")
            for websocket in (first, second):
                assert await result(websocket) == {"tea": 0, "coffee": 1}
            async with connect(DRINKS) as late:
                assert await result(late) == {"tea": 0, "coffee": 1}

    test()


@pytest.mark.parametrize(("step", "page"), [("step3", "step3"), ("step4", "step3"), ("poll", "poll")])
def test_the_page_is_served(step: str, page: str) -> None:
    @virtual
    async def test() -> None:
        async with running(step):
            head, _, body = (await get("/drink")).partition("\r\n\r\n")
            assert head.startswith("HTTP/1.1 200 ")
            assert [line for line in head.split("\r\n") if line.startswith("Content-Type")] == [
                "Content-Type: text/html; charset=utf-8"
            ]
            assert body == (FOLDER / f"{page}.html").read_text("utf-8")

    test()


@pytest.mark.parametrize("step", ["step4", "poll"])
def test_polls_are_apart(step: str) -> None:
    @virtual
    async def test() -> None:
        async with running(step), connect(DRINKS) as drinks, connect(f"{URI}/lunch") as lunch:
            assert await result(drinks) == {"tea": 0, "coffee": 0}
            assert await result(lunch) == {"pizza": 0, "salad": 0, "soup": 0}
            await vote(lunch, "soup")
            assert await result(lunch) == {"pizza": 0, "salad": 0, "soup": 1}
            await vote(drinks, "tea")
            assert await result(drinks) == {"tea": 1, "coffee": 0}
            assert (await get("/dinner")).startswith("HTTP/1.1 404 ")

    test()


@pytest.mark.parametrize("message", ["", "{", "[]", "{}", '{"vote": "wine"}', '{"vote": ["tea"]}', b"\xff", "1"])
def test_a_message_that_is_no_vote(message: str | bytes) -> None:
    @virtual
    async def test() -> None:
        async with running("poll"), connect(DRINKS) as websocket:
            await result(websocket)
            await websocket.send(message)
            assert json.loads(await websocket.recv()).keys() == {"error"}
            await vote(websocket, "tea")
            assert await result(websocket) == {"tea": 1, "coffee": 0}

    test()


@virtual
async def test_a_viewer_who_leaves_is_forgotten() -> None:
    async with running("poll") as module:
        async with connect(DRINKS):
            assert len(module.polls["/drink"].viewers) == 1
        await idle()
        assert not module.polls["/drink"].viewers


def test_watch_connects_again(capsys: pytest.CaptureFixture[str]) -> None:
    @virtual
    async def test() -> None:
        watching = asyncio.create_task(load("watch").main())
        for _ in range(2):
            async with running("poll"), connect(DRINKS) as websocket:
                await asyncio.sleep(100)
                await vote(websocket, "tea")
                await idle()
        watching.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await watching

    test()
    session = ["tea: 0, coffee: 0", "tea: 1, coffee: 0", "connection lost; trying again"]
    assert capsys.readouterr().out.splitlines() == session * 2
