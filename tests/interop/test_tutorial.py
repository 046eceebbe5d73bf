"""The page of the tutorial in a browser: who looks at it sees each vote, and it comes back when the server does."""

from __future__ import annotations

import asyncio
import contextlib
import importlib.util
from collections.abc import AsyncIterator
from pathlib import Path
from types import ModuleType

import pytest

from interop.browser import Browser, browsing
from websockets.asyncio.server import Server, serve

FOLDER = Path(__file__).parents[2] / "examples" / "tutorial"


def load(name: str) -> ModuleType:
    """A fresh module, with no votes."""
    spec = importlib.util.spec_from_file_location(name, FOLDER / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@contextlib.asynccontextmanager
async def running(name: str, port: int = 0) -> AsyncIterator[Server]:
    """The server of a step, on a free port unless there is one to come back to."""
    module = load(name)
    async with serve(module.handler, "127.0.0.1", port, process_request=module.process_request) as server:
        yield server


def port(server: Server) -> int:
    (listening,) = server.sockets
    number: int = listening.getsockname()[1]
    return number


@pytest.fixture
async def browser() -> AsyncIterator[Browser]:
    async with browsing() as browser:
        yield browser


@pytest.mark.parametrize(("step", "path"), [("step3", "/"), ("step4", "/drink"), ("poll", "/drink")])
async def test_votes_are_seen(browser: Browser, step: str, path: str) -> None:
    async with running(step) as server:
        address = f"http://127.0.0.1:{port(server)}{path}"
        first, second = await asyncio.gather(browser.open(address), browser.open(address))
        for page in (first, second):
            await page.sees("button:nth-child(2)", "coffee\n0")
        await first.click("button:nth-child(2)")
        for page in (first, second):
            await page.sees("button:nth-child(2)", "coffee\n1")
        await first.screenshot(f"tutorial-{step}")


async def test_the_page_comes_back(browser: Browser) -> None:
    async with running("poll") as server:
        number = port(server)
        page = await browser.open(f"http://127.0.0.1:{number}/lunch")
        await page.sees("button", "pizza")
    await page.sees("#note", "Not connected")
    async with running("poll", number):
        await page.until("document.querySelector('#note').innerText === ''")
        await page.click("button")
        await page.sees("button", "pizza\n1")
