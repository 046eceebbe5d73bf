"""A headless Chromium in the hands of a test, by the DevTools protocol, which our own client speaks.

Charter: starts the browser and sees to it that it ends; opens pages, acts as their users, looks at them. Knows nothing
of what is on a page. Each page is in a context of its own, as if in the browser of somebody else.

An error on a page fails the test, at the end of the block.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import itertools
import json
import os
import re
import signal
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from peer_chromium import FLAGS

from interop.programs import chromium
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

__all__ = ["Browser", "Page", "browsing"]

# Pages that nobody looks at are to run like the others.
AWAKE = (
    "--disable-background-timer-throttling",
    "--disable-backgrounding-occluded-windows",
    "--disable-renderer-backgrounding",
)

# Seconds. Only failures ever wait that long.
TIMEOUT = 30

# A promise of the page that an expression comes true.
UNTIL = """
new Promise((resolve) => {
  const look = () => (%s) ? resolve(true) : setTimeout(look, 10);
  look();
})
"""


class Browser:
    """A running browser.

    Parameters:
        devtools: the connection to it.
    """

    def __init__(self, devtools: ClientConnection) -> None:
        self._devtools = devtools
        self._numbers = itertools.count(1)
        self._answers: dict[int, asyncio.Future[dict[str, Any]]] = {}
        self.errors: list[str] = []

    async def listen(self) -> None:
        """Pass on what the browser says, until it ends."""
        with contextlib.suppress(ConnectionClosed):
            async for text in self._devtools:
                message = json.loads(text)
                if "id" in message:
                    self._answers.pop(message["id"]).set_result(message)
                elif message["method"] == "Runtime.exceptionThrown":
                    details = message["params"]["exceptionDetails"]
                    self.errors.append(details.get("exception", {}).get("description") or details["text"])
        for answer in self._answers.values():
            answer.cancel()

    async def call(self, method: str, session: str | None = None, **parameters: Any) -> dict[str, Any]:
        """Have the browser do something."""
        number = next(self._numbers)
        answer = self._answers[number] = asyncio.get_running_loop().create_future()
        command: dict[str, Any] = {"id": number, "method": method, "params": parameters}
        await self._devtools.send(json.dumps(command if session is None else {**command, "sessionId": session}))
        async with asyncio.timeout(TIMEOUT):
            message = await answer
        assert "error" not in message, f"{method}: {message['error']}"
        result: dict[str, Any] = message["result"]
        return result

    async def open(self, uri: str, size: tuple[int, int] = (900, 640)) -> Page:
        """Open a page in a context of its own, and wait until it is loaded."""
        context = (await self.call("Target.createBrowserContext"))["browserContextId"]
        width, height = size
        target = await self.call(
            "Target.createTarget", url="about:blank", browserContextId=context, width=width, height=height
        )
        session = (await self.call("Target.attachToTarget", targetId=target["targetId"], flatten=True))["sessionId"]
        page = Page(self, target["targetId"], session)
        await page.call("Runtime.enable")
        await page.call("Page.enable")
        await page.go(uri)
        return page


class Page:
    """A page, and what its user does.

    Parameters:
        browser: where it is.
        target: what the browser calls it.
        session: how the browser is told that a command is for it.
    """

    def __init__(self, browser: Browser, target: str, session: str) -> None:
        self._browser = browser
        self._target = target
        self._session = session

    async def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Have the browser do something with this page."""
        return await self._browser.call(method, self._session, **parameters)

    async def go(self, uri: str) -> None:
        """Load a page in the place of this one."""
        assert "errorText" not in await self.call("Page.navigate", url=uri)
        await self.until(f"location.href === {json.dumps(uri)} && document.readyState === 'complete'")

    async def reload(self) -> None:
        """Load the page again."""
        await self.evaluate("window.old = true")
        await self.call("Page.reload")
        await self.until("!window.old && document.readyState === 'complete'")

    async def close(self) -> None:
        """Close the page."""
        await self._browser.call("Target.closeTarget", targetId=self._target)

    async def evaluate(self, expression: str) -> Any:
        """The value of an expression on the page; of a promise, what it gives."""
        answer = await self.call("Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True)
        assert "exceptionDetails" not in answer, answer["exceptionDetails"]
        return answer["result"].get("value")

    async def until(self, expression: str) -> None:
        """Wait until an expression is true on the page."""
        try:
            async with asyncio.timeout(TIMEOUT):
                await self.evaluate(UNTIL % expression)
        except TimeoutError:
            text = await self.evaluate("document.body.innerText")
            raise AssertionError(f"never true: {expression}\n{text}\n{self._browser.errors}") from None

    async def text(self, selector: str) -> str:
        """The text that is seen in an element."""
        found: str = await self.evaluate(f"document.querySelector({json.dumps(selector)}).innerText")
        return found

    async def sees(self, selector: str, text: str) -> None:
        """Wait until an element has a text in it."""
        await self.until(f"document.querySelector({json.dumps(selector)})?.innerText.includes({json.dumps(text)})")

    async def type(self, text: str, enter: bool = True) -> None:
        """Type a text where the cursor is, and Enter."""
        await self.call("Input.insertText", text=text)
        if enter:
            key = {"key": "Enter", "code": "Enter", "windowsVirtualKeyCode": 13, "text": "\r"}
            await self.call("Input.dispatchKeyEvent", type="keyDown", **key)
            await self.call("Input.dispatchKeyEvent", type="keyUp", **key)

    async def click(self, selector: str) -> None:
        """Click on the middle of an element."""
        x, y = await self.place(selector, 0.5, 0.5)
        await self.drag([(x, y)])

    async def place(self, selector: str, right: float, down: float) -> tuple[float, float]:
        """A point of an element in the window, by fractions of its width and height."""
        box = f"document.querySelector({json.dumps(selector)}).getBoundingClientRect().toJSON()"
        found = await self.evaluate(box)
        return found["x"] + right * found["width"], found["y"] + down * found["height"]

    async def drag(self, points: list[tuple[float, float]]) -> None:
        """Press the mouse button at the first point, move along the others, and release it at the last."""
        kinds = ["mouseMoved", "mousePressed", *["mouseMoved"] * (len(points) - 1), "mouseReleased"]
        for kind, (x, y) in zip(kinds, [points[0], *points, points[-1]], strict=True):
            held = 1 if kind != "mouseReleased" and kind != kinds[0] else 0
            await self.call("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", buttons=held, clickCount=1)

    async def choose_file(self, selector: str, path: Path) -> None:
        """Choose a file in a field for files."""
        root = (await self.call("DOM.getDocument"))["root"]["nodeId"]
        node = (await self.call("DOM.querySelector", nodeId=root, selector=selector))["nodeId"]
        await self.call("DOM.setFileInputFiles", nodeId=node, files=[str(path)])

    async def screenshot(self, name: str) -> None:
        """Keep a picture of the page, if somebody wants one: in the folder that BROWSER_SCREENSHOTS names."""
        folder = os.environ.get("BROWSER_SCREENSHOTS")
        if folder:
            shot = await self.call("Page.captureScreenshot", format="png")
            (Path(folder) / f"{name}.png").write_bytes(base64.b64decode(shot["data"]))


@contextlib.asynccontextmanager
async def browsing() -> AsyncIterator[Browser]:
    """A browser with a new profile, until the end of the block."""
    # Chromium's last processes may still be writing to their profile when it is deleted.
    with tempfile.TemporaryDirectory(prefix="chromium-", ignore_cleanup_errors=True) as profile:
        process = await asyncio.create_subprocess_exec(
            chromium(),
            *FLAGS,
            *AWAKE,
            "--remote-debugging-port=0",
            f"--user-data-dir={profile}",
            "about:blank",
            stderr=asyncio.subprocess.PIPE,
            # Chromium has many processes, and all must end.
            start_new_session=True,
        )
        try:
            async with _devtools(process) as browser:
                yield browser
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            # Not wait(): what it wrote to its pipe is to be read, or the transport stays open.
            await process.communicate()
    assert not browser.errors, "\n".join(browser.errors)


@contextlib.asynccontextmanager
async def _devtools(process: asyncio.subprocess.Process) -> AsyncIterator[Browser]:
    """The connection to a browser that says on standard error where it listens."""
    assert process.stderr is not None
    async with asyncio.timeout(TIMEOUT):
        while not (found := re.search(rb"DevTools listening on (ws://\S+)", await process.stderr.readline())):
            assert not process.stderr.at_eof(), "the browser ended"
    # What else it writes must not fill the pipe.
    reading = asyncio.create_task(process.stderr.read())
    async with connect(found[1].decode(), max_size=None, ping_interval=None, proxy=None) as devtools:
        browser = Browser(devtools)
        listening = asyncio.create_task(browser.listen())
        try:
            yield browser
        finally:
            reading.cancel()
            await asyncio.wait([reading])
            await devtools.close()
            await listening
