"""The pages of the examples in a browser: several see each other, and come back when the server does.

Charter: each test runs the server of an example in its own loop, and acts as the users of its page.
``BROWSER_SCREENSHOTS=FOLDER`` keeps pictures of what they saw.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import os
import re
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from chat import chat, make_hub
from counter import counter
from drawing import HEIGHT, WIDTH, drawing
from token_server import Gate, token_server
from tokens import Token, issue
from upload_server import upload_server

from _kit.brokers import Exchange, install
from interop.browser import Browser, Page, browsing
from websockets.asyncio.client import connect
from websockets.asyncio.server import Server
from websockets.exceptions import InvalidStatus
from websockets.typing import Origin

EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest.fixture
async def browser() -> AsyncIterator[Browser]:
    async with browsing() as browser:
        yield browser


def port(server: Server) -> int:
    (listening,) = server.sockets
    number: int = listening.getsockname()[1]
    return number


def address(server: Server) -> str:
    return f"http://127.0.0.1:{port(server)}/"


async def test_chat(browser: Browser) -> None:
    async with chat("127.0.0.1", 0) as server:
        ada, grace = [await browser.open(address(server)) for _ in range(2)]
        await ada.screenshot("chat-door")
        for page, name in ((ada, "Ada"), (grace, "Grace")):
            await page.type(name)
            await page.sees("#status", f"connected as {name}")
        await ada.sees("#log", "Grace joined")
        await grace.type("Hello, <b>Ada</b> ✓")
        await ada.sees("#log .said", "Hello, <b>Ada</b> ✓")
        await ada.type("Hello!")
        await grace.sees("#log .said:not(.mine)", "Hello!")
        await ada.screenshot("chat")
        assert (await ada.text("#people")).split() == ["Ada", "Grace"]
        # A second window with the same name is refused, and may choose another one.
        other = await browser.open(address(server))
        await other.type("ada")
        await other.sees("#refusal", "ada is in the room already")
        await other.screenshot("chat-refused")
        await other.type("Alan")
        await other.sees("#log", "Hello!")
        # Who loads the page again keeps its name.
        await other.reload()
        await other.sees("#status", "connected as Alan")
        await other.close()
        await ada.sees("#log", "Alan left")


async def test_chat_on_two_servers(browser: Browser, monkeypatch: pytest.MonkeyPatch) -> None:
    """They are one room, and the pages tell what was lost between them; Redis is in memory."""
    install(monkeypatch, exchange := Exchange())
    url = "redis://localhost"
    async with make_hub(url) as here, make_hub(url) as there:
        async with chat("127.0.0.1", 0, here) as first, chat("127.0.0.1", 0, there) as second:
            ada, grace = [await browser.open(address(server)) for server in (first, second)]
            await ada.type("Ada")
            await ada.sees("#status", "connected as Ada")
            await grace.type("ada")
            await grace.sees("#refusal", "ada is in the room already")
            await grace.type("Grace")
            await ada.sees("#log", "Grace joined")
            await grace.type("Hello from the other server")
            await ada.sees("#log .said", "Hello from the other server")
            assert (await ada.text("#people")).split() == ["Ada", "Grace"]
            # A message gets lost on its way.
            connections, exchange.connections = exchange.connections, []
            await ada.type("lost")
            await ada.sees("#log", "lost")
            await here.flush()
            exchange.connections = connections
            await ada.type("heard")
            await grace.sees("#log .said:not(.mine)", "heard")
            await grace.sees("#log", "1 messages of others are missing")
            await grace.close()
            await ada.sees("#log", "Grace left")


async def test_chat_reconnects(browser: Browser) -> None:
    async with chat("127.0.0.1", 0) as server:
        where = port(server)
        page = await browser.open(address(server))
        await page.type("Ada")
        await page.sees("#status", "connected as Ada")
    await page.sees("#status", "trying again")
    async with chat("127.0.0.1", where):
        await page.sees("#status", "connected as Ada")


async def test_counter(browser: Browser) -> None:
    async with counter("127.0.0.1", 0) as server:
        where = port(server)
        first, second = [await browser.open(address(server), size=(560, 400)) for _ in range(2)]
        for page in (first, second):
            await page.sees("#status", "2 are looking")
        for _ in range(3):
            await first.click("#minus")
        await second.sees("#count", "−3")
        await second.click("#plus")
        await first.sees("#count", "−2")
        await first.screenshot("counter")
    await first.sees("#status", "trying again")
    await first.screenshot("counter-lost")
    async with counter("127.0.0.1", where):
        await first.sees("#count", "0")


async def shows(page: Page, x: float, y: float, color: str) -> None:
    """Wait until the picture has a color at a point, which is given by fractions of its size."""
    place = f"{x * WIDTH:.0f}, {y * HEIGHT:.0f}, 1, 1"
    await page.until(f"context.getImageData({place}).data.join() === '{color}'")


async def test_drawing(browser: Browser) -> None:
    red, blue, nothing = "211,58,44,255", "36,88,211,255", "0,0,0,0"
    async with drawing("127.0.0.1", 0) as server:
        first, second = [await browser.open(address(server), size=(900, 660)) for _ in range(2)]
        for page, color in ((first, "red"), (second, "blue")):
            await page.sees("#status", "connected")
            await page.click(f"[title={color}]")
        turns = [turn * math.tau / 60 for turn in range(61)]
        circle = [await first.place("canvas", 0.4 + 0.2 * math.cos(a), 0.5 + 0.32 * math.sin(a)) for a in turns]
        await first.drag(circle)
        await second.drag([await second.place("canvas", right, 0.5) for right in (0.1, 0.3, 0.5, 0.9)])
        third = await browser.open(address(server), size=(900, 660))
        for page in (first, second, third):
            # Here red is alone, here blue is, and here blue lies over red.
            for x, y, color in ((0.4, 0.82, red), (0.8, 0.5, blue), (0.6, 0.5, blue), (0.95, 0.95, nothing)):
                await shows(page, x, y, color)
        await third.screenshot("drawing")
        await third.click("#clear")
        for page in (first, second, third):
            await page.until("context.getImageData(0, 0, canvas.width, canvas.height).data.every((byte) => !byte)")


async def test_upload(browser: Browser, tmp_path: Path) -> None:
    folder = tmp_path / "uploads"
    # More than the page has on the way at a time.
    large, empty, hidden = (tmp_path / name for name in ("large.bin", "empty.txt", ".hidden"))
    large.write_bytes(bytes(range(256)) * 2**15 + b"rest")
    empty.touch()
    hidden.touch()
    async with upload_server(folder, "127.0.0.1", 0) as server:
        page = await browser.open(address(server), size=(640, 520))
        for path, outcome in (
            (large, "saved as large.bin"),
            (empty, "saved as empty.txt"),
            (large, "saved as large (2).bin"),
            (hidden, "a file can't have that name here"),
        ):
            await page.choose_file("#files", path)
            await page.sees("#list li", outcome)
        await page.screenshot("upload")
    names = ["empty.txt", "large (2).bin", "large.bin"]
    assert sorted(path.name for path in folder.iterdir()) == names
    assert (folder / "large.bin").read_bytes() == large.read_bytes()


async def test_upload_tries_again(browser: Browser, tmp_path: Path) -> None:
    folder = tmp_path / "uploads"
    path = tmp_path / "a.txt"
    path.write_text("content")
    async with upload_server(folder, "127.0.0.1", 0) as server:
        where = port(server)
        page = await browser.open(address(server))
    await page.choose_file("#files", path)
    await page.sees("#list", "trying again")
    async with upload_server(folder, "127.0.0.1", where):
        await page.sees("#list", "saved as a.txt")
    assert (folder / "a.txt").read_text() == "content"


async def test_token_auth(browser: Browser) -> None:
    key = b"of this test"
    now = time.time()
    async with token_server(Gate(key, lambda: now), "127.0.0.1", 0) as server:
        page = await browser.open(address(server), size=(640, 480))
        for text, status in (
            (issue(b"another", Token("ada", now + 60)), "wrong signature"),
            (issue(key, Token("ada", now - 1)), "token expired"),
            (issue(key, Token("ada", now + 60)), "connected as ada, for 60 seconds"),
            (issue(key, Token("ada", now + 90)), "connected as ada, for 90 seconds"),
        ):
            await page.evaluate("document.getElementById('token').focus()")
            await page.type(text)
            await page.sees("#status", status)
        await page.type("Hello!")
        await page.sees("#log", "ada: Hello!")
        await page.screenshot("token")
        # The connection lives as long as its token, by the clock of the loop.
        await page.evaluate("document.getElementById('token').focus()")
        await page.type(issue(key, Token("ada", now + 0.1)))
        await page.sees("#status", "token expired")


@contextlib.asynccontextmanager
async def starlette_app(python: Path) -> AsyncIterator[str]:
    """The Starlette application in a process of its own, as it is what imports Starlette; gives the URI of its page."""
    program = EXAMPLES / "starlette_app" / "starlette_app.py"
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    process = await asyncio.create_subprocess_exec(
        python, program, "0", "0", env=environment, stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.PIPE
    )
    assert process.stderr is not None
    written = b""
    try:
        async with asyncio.timeout(30):
            while not (found := re.search(rb"running on (http://\S+)", written)):
                written += await process.stderr.readline()
                assert not process.stderr.at_eof(), written.decode()
        yield found[1].decode() + "/"
        process.terminate()
        async with asyncio.timeout(30):
            written += (await process.communicate())[1]
        assert b"Application shutdown complete" in written
    finally:
        if process.returncode is None:
            process.kill()
            await process.communicate()


async def test_starlette_app(browser: Browser, frameworks: Path) -> None:
    async with starlette_app(frameworks) as address:
        first, second = [await browser.open(address, size=(640, 400)) for _ in range(2)]
        for page in (first, second):
            await page.sees("#status", "connected")
        await first.click("#notice")
        await first.type("The coffee is ready.")
        for page in (first, second):
            await page.sees("#notices", "The coffee is ready.")
        third = await browser.open(address, size=(640, 400))
        await third.sees("#notices", "The coffee is ready.")
        await third.click("#notice")
        await third.type("   ")
        await third.sees("#status", "a notice is a text of 1 to 500 characters")
        await third.screenshot("starlette")
        # A page of another site is kept out.
        where = await first.evaluate("PORT = document.scripts[0].text.match(/hostname}:(\\d+)/)[1]")
        with pytest.raises(InvalidStatus, match="403"):
            await connect(f"ws://127.0.0.1:{where}/", origin=Origin("http://example.com"), proxy=None)
