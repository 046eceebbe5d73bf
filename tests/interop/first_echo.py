"""From nothing to an echo in a browser: the steps and seconds that it takes, with this library and the published one.

Charter: a script that is run by hand, since it measures downloads and builds as well; needs Chromium. Each way begins
in an empty folder and ends when a page in the browser shows what came back::

    PYTHONPATH=tests:tests/interop/peers python tests/interop/first_echo.py

A step is what somebody has to do: a command to type, a file to write, a page to open. The time is that of the machine.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from interop.browser import Browser, browsing

CHECKOUT = Path(__file__).resolve().parents[2]

# The shortest program that serves a page, and sends back what the page says.
PROGRAM = '''
import asyncio
from websockets.asyncio.server import serve

PAGE = """<!doctype html><input id=text><p id=echo>
<script>
  const socket = new WebSocket(location.href.replace("http", "ws") + "echo");
  socket.onmessage = (event) => { document.getElementById("echo").textContent = event.data; };
  document.getElementById("text").onchange = (event) => socket.send(event.target.value);
</script>"""

def answer(connection, request):
    if request.path == "/":
{respond}

async def echo(websocket):
    async for message in websocket:
        await websocket.send(message)

async def main():
    async with serve(echo, "127.0.0.1", 8765, process_request=answer) as server:
        await server.serve_forever()

asyncio.run(main())
'''.lstrip()

RESPOND = '        return connection.respond(200, PAGE, headers={"Content-Type": "text/html"})'
# A response of release 17.4 is plain text, and headers may repeat.
RESPOND_17_4 = """        response = connection.respond(200, PAGE)
        del response.headers["Content-Type"]
        response.headers["Content-Type"] = "text/html"
        return response"""


@dataclass
class Way:
    """One way from nothing to an echo.

    Attributes:
        name: of whom it is the way.
        requirement: what to install.
        program: what to write, if anything.
        command: what to run.
        says: what the page needs before it echoes.
        echo: where the page shows it.
    """

    name: str
    requirement: str
    command: str
    program: str = ""
    says: tuple[str, ...] = ("Hello!",)
    echo: str = "#echo"
    steps: list[tuple[str, float]] = field(default_factory=list)

    @contextlib.contextmanager
    def step(self, what: str) -> Iterator[None]:
        """Do a step, and note it."""
        begun = time.perf_counter()
        yield
        self.steps.append((what, time.perf_counter() - begun))

    async def go(self, folder: Path, browser: Browser) -> None:
        """Go it."""
        for command in ("python3 -m venv .venv", f".venv/bin/pip install {self.requirement}"):
            with self.step(command):
                await run(command, folder)
        if self.program:
            with self.step(f"write a file of {len(self.program.splitlines())} lines"):
                (folder / "echo.py").write_text(self.program)
        async with contextlib.AsyncExitStack() as stack:
            with self.step(self.command):
                await stack.enter_async_context(serving(self.command, folder))
            with self.step("open a page, type a text, see it come back"):
                page = await browser.open("http://127.0.0.1:8765/")
                await page.evaluate("document.querySelector('input:focus, #text').focus()")
                for text in self.says:
                    await page.until("!socket || socket.readyState === WebSocket.OPEN")
                    await page.type(text)
                    if text != self.says[-1]:
                        await page.until("document.activeElement.id === 'text'")
                await page.sees(self.echo, self.says[-1])
            await page.close()


WAYS: tuple[Callable[[], Way], ...] = (
    lambda: Way(
        "this library, with an example of it",
        str(CHECKOUT),
        f".venv/bin/python {CHECKOUT}/examples/chat/chat.py",
        says=("Ada", "Hello!"),
        echo="#log",
    ),
    lambda: Way("this library", str(CHECKOUT), ".venv/bin/python echo.py", PROGRAM.replace("{respond}", RESPOND)),
    lambda: Way(
        "websockets 17.4",
        "websockets==17.4",
        ".venv/bin/python echo.py",
        PROGRAM.replace("{respond}", RESPOND_17_4),
    ),
)


def environment() -> dict[str, str]:
    """Nothing of ours but what is installed."""
    return {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "VIRTUAL_ENV"))}


async def run(command: str, folder: Path) -> None:
    """Run a command that must end well."""
    process = await asyncio.create_subprocess_shell(
        command, cwd=folder, env=environment(), stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    output, _ = await process.communicate()
    assert process.returncode == 0, output.decode()


@contextlib.asynccontextmanager
async def serving(command: str, folder: Path) -> AsyncIterator[None]:
    """Run a server; gives way when it listens."""
    process = await asyncio.create_subprocess_exec(*command.split(), cwd=folder, env=environment())
    try:
        async with asyncio.timeout(30):
            while True:
                with contextlib.suppress(OSError):
                    _, writer = await asyncio.open_connection("127.0.0.1", 8765)
                    writer.close()
                    break
                await asyncio.sleep(0.01)
        yield
    finally:
        process.kill()
        await process.wait()


async def main() -> None:
    """Go every way, and tell about it."""
    async with browsing() as browser:
        for way in (make() for make in WAYS):
            with tempfile.TemporaryDirectory() as folder:
                await way.go(Path(folder), browser)
            total = sum(seconds for _, seconds in way.steps)
            print(f"\n{way.name}: {len(way.steps)} steps, {total:.1f} s")
            for what, seconds in way.steps:
                print(f"  {seconds:6.2f} s  {re.sub(re.escape(str(CHECKOUT)), 'CHECKOUT', what)}")


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
