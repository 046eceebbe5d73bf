"""The server of the guides to containers and Kubernetes: as process 1, with signals, checks, and the times of a Pod.

Charter: a namespace of the kernel is what a container has for processes; no image is built, and no cluster is asked.
"""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import os
import re
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from deployment.programs import EXAMPLES, TIMEOUT, Running, free_port, program, running, until
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosedError

SERVER = EXAMPLES / "containers" / "server.py"
DEPLOYMENT = (EXAMPLES / "kubernetes" / "deployment.yaml").read_text("utf-8")

NAMESPACE = "--user", "--map-root-user", "--pid", "--fork", "--kill-child"

# A server as in many a first program: it ends on Ctrl-C, and knows of no other signal.
CARELESS = """
import asyncio, os
from websockets.asyncio.server import serve

async def echo(websocket):
    async for message in websocket:
        await websocket.send(message)

async def main():
    async with serve(echo, "127.0.0.1", int(os.environ["PORT"])) as server:
        await server.serve_forever()

asyncio.run(main())
"""


def children(pid: int) -> list[int]:
    """The processes that a process has started."""
    return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


class Container:
    """A program that is process 1 of a namespace.

    Parameters:
        run: what started it.
        port: where it listens.
    """

    def __init__(self, run: Running, port: int) -> None:
        self.run = run
        self.port = port
        (self.first,) = children(run.process.pid)

    def terminate(self) -> None:
        """Send SIGTERM to process 1, as those do who stop a container."""
        os.kill(self.first, signal.SIGTERM)

    async def ended(self) -> int:
        """The status of process 1, once it has ended."""
        return await asyncio.to_thread(self.run.process.wait, TIMEOUT)

    def ask(self, path: str) -> int:
        """The status of the answer to a check."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=TIMEOUT)
        with contextlib.closing(connection):
            connection.request("GET", path)
            return connection.getresponse().status


@contextlib.asynccontextmanager
async def container(*command: str | Path, **env: str) -> AsyncIterator[tuple[Container, ClientConnection]]:
    """Run a server as process 1, with a client that has had an answer."""
    port = free_port()
    with running(program("unshare"), *NAMESPACE, *command, port=port, env={**env, "PORT": str(port)}) as run:
        async with connect(f"ws://127.0.0.1:{port}") as client:
            await hello(client)
            yield Container(run, port), client


async def hello(client: ClientConnection) -> None:
    """Send a message and get it back."""
    await client.send("hello")
    assert await asyncio.wait_for(client.recv(), TIMEOUT) == "hello"


async def closed(client: ClientConnection) -> int | None:
    """The code with which a connection ends."""
    await asyncio.wait_for(client.wait_closed(), TIMEOUT)
    return client.close_code


async def test_process_1_ends_in_order() -> None:
    """On SIGTERM, it closes its connections with 1001."""
    async with container(sys.executable, SERVER) as (server, client):
        server.terminate()
        assert await closed(client) == 1001
        assert await server.ended() == 0
        assert server.run.output.splitlines()[1:] == ["stopped"]


async def test_checks() -> None:
    """Before it closes connections, the server says that it leaves, and still serves."""
    async with container(sys.executable, SERVER, DRAIN="2") as (server, client):
        assert [server.ask(path) for path in ("/health", "/ready")] == [200, 200]
        server.terminate()
        await until(lambda: server.ask("/ready") == 503)
        assert server.ask("/health") == 200
        await hello(client)
        assert await closed(client) == 1001
        assert await server.ended() == 0


async def test_process_1_without_a_handler_ignores_the_signal() -> None:
    async with container(sys.executable, "-c", CARELESS) as (server, client):
        server.terminate()
        # The kernel has dropped it by now: it isn't even pending.
        await hello(client)
        os.kill(server.first, signal.SIGKILL)
        with pytest.raises(ConnectionClosedError):
            await client.recv()
        assert await closed(client) == 1006


async def test_init_passes_the_signal_on() -> None:
    """Then a server without a handler ends at once, and tells nobody; one with a handler ends in order."""
    async with container(program("tini"), "--", sys.executable, "-c", CARELESS) as (server, client):
        server.terminate()
        assert await closed(client) == 1006
        assert await server.ended() == 128 + signal.SIGTERM
    async with container(program("tini"), "--", sys.executable, SERVER) as (server, client):
        server.terminate()
        assert await closed(client) == 1001
        assert await server.ended() == 0


async def test_shell_keeps_the_signal() -> None:
    """It's process 1 unless the server takes its place."""
    line = f"{sys.executable} {SERVER}"
    async with container("sh", "-c", f"{line} && echo over") as (server, client):
        server.terminate()
        await hello(client)
        assert server.ask("/ready") == 200
    async with container("sh", "-c", f"exec {line}") as (server, client):
        server.terminate()
        assert await closed(client) == 1001
        assert await server.ended() == 0


async def test_command_as_process_1() -> None:
    """``websockets serve`` handles SIGTERM, as process 1 and with workers as well."""
    for workers in ("1", "2"):
        port = free_port()
        command = sys.executable, "-m", "websockets", "serve", "--workers", workers, f":{port}"
        with running(program("unshare"), *NAMESPACE, *command, port=port) as run:
            async with connect(f"ws://127.0.0.1:{port}") as client:
                await hello(client)
                server = Container(run, port)
                server.terminate()
                assert await closed(client) == 1001
                assert await server.ended() == 0


def setting(name: str) -> float:
    """A number in the environment of the container."""
    (found,) = re.findall(rf'{{name: {name}, value: "([\d.]+)"}}', DEPLOYMENT)
    return float(found)


def test_times_of_the_pod() -> None:
    """SIGKILL comes after all the rest."""
    (grace,) = re.findall(r"terminationGracePeriodSeconds: (\d+)", DEPLOYMENT)
    (before,) = re.findall(r'command: \["sleep", "(\d+)"\]', DEPLOYMENT)
    assert float(before) + setting("DRAIN") + setting("CLOSE") + 2 < float(grace)


async def test_probes_of_the_pod() -> None:
    """The server answers what is asked, at the port that it's asked at."""
    paths = re.findall(r"httpGet: {path: (\S+), port: ws}", DEPLOYMENT)
    (port,) = re.findall(r"name: ws, containerPort: (\d+)", DEPLOYMENT)
    assert setting("PORT") == float(port)
    async with container(sys.executable, SERVER) as (server, _):
        assert [server.ask(path) for path in paths] == [200, 200, 200]
