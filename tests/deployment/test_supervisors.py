"""supervisord, which holds the socket while processes are replaced; and the program that reloads a server."""

from __future__ import annotations

import asyncio
import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from deployment.programs import EXAMPLES, TIMEOUT, adapted, free_port, program, running, until
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

OPEN = 20


class Supervisor:
    """The example under supervisord, in a folder.

    Parameters:
        folder: the folder.
        port: where it listens.
    """

    def __init__(self, folder: Path, port: int) -> None:
        self.config = folder / "supervisord.conf"
        self.uri = f"ws://127.0.0.1:{port}"

    def control(self, *words: str) -> str:
        """What ``supervisorctl`` prints."""
        command = [program("supervisorctl"), "--configuration", str(self.config), *words]
        folder = self.config.parent
        return subprocess.run(command, cwd=folder, stdout=subprocess.PIPE, text=True, timeout=TIMEOUT).stdout

    @property
    def running(self) -> int:
        """How many processes run."""
        return self.control("status").count("RUNNING")


@contextlib.contextmanager
def supervised(folder: Path) -> Iterator[Supervisor]:
    """Run the example."""
    port = free_port()
    names = {"_python": sys.executable, "server.py": EXAMPLES / "supervisor" / "server.py", "_8765": port}
    adapted("supervisor/supervisord.conf", folder, **names)
    supervisor = Supervisor(folder, port)
    command = program("supervisord"), "--nodaemon", "--silent", "--configuration", str(supervisor.config)
    with running(*command, port=port, cwd=folder) as run:
        run.wait_until(lambda: supervisor.running == 2)
        yield supervisor
        # In order, as its processes are in groups of their own.
        assert run.stop() == 0


async def answer(client: ClientConnection) -> int:
    """The number of the process that a client talks to."""
    await client.send("hello")
    number, _, message = str(await asyncio.wait_for(client.recv(), TIMEOUT)).partition(": ")
    assert message == "hello"
    return int(number)


async def test_processes_are_replaced_one_by_one(tmp_path: Path) -> None:
    """Nobody is refused, as supervisord holds the socket; those who are connected are told to go away."""
    refused: list[OSError] = []
    served: set[int] = set()
    over = asyncio.Event()

    async def visit(uri: str) -> None:
        while not over.is_set():
            try:
                async with connect(uri, open_timeout=TIMEOUT) as client:
                    served.add(await answer(client))
            except (ConnectionClosed, InvalidStatus):
                continue  # It came to a process that is about to end, and is told so: 1001 or 503.
            except OSError as exc:
                refused.append(exc)

    with supervised(tmp_path) as supervisor:
        before = [await connect(supervisor.uri) for _ in range(OPEN)]
        first = {await answer(client) for client in before}
        visitor = asyncio.create_task(visit(supervisor.uri))
        for name in ("echo:0", "echo:1"):
            told = await asyncio.to_thread(supervisor.control, "restart", name)
            assert told == f"{name}: stopped\n{name}: started\n"
        served.clear()
        await until(lambda: bool(served))
        over.set()
        await visitor
        assert not refused
        assert not served & first
        await asyncio.gather(*(client.wait_closed() for client in before))
        assert {client.close_code for client in before} == {1001}


async def test_process_that_fails_is_started_again(tmp_path: Path) -> None:
    with supervised(tmp_path) as supervisor:
        async with connect(supervisor.uri) as client:
            failed = await answer(client)
            os.kill(failed, 9)
            await asyncio.wait_for(client.wait_closed(), TIMEOUT)
            assert client.close_code == 1006
        await until(lambda: supervisor.running == 2)
        async with connect(supervisor.uri) as client:
            assert await answer(client) != failed


async def test_reload(tmp_path: Path) -> None:
    """The server is run again when it has changed; its client sees 1001, and reconnects to the new one."""
    port = free_port()
    source = adapted("autoreload/server.py", tmp_path, _8765=port)
    with running(sys.executable, EXAMPLES / "autoreload" / "reload.py", source.name, port=port, cwd=tmp_path) as run:
        async with connect(f"ws://127.0.0.1:{port}") as client:
            await client.send("Anna")
            assert await client.recv() == "Hello, Anna!"
            # Another time of change than before, whatever the clock of the file system.
            source.write_text(source.read_text("utf-8").replace("Hello", "Good morning"), "utf-8")
            os.utime(source, (1, 1))
            await asyncio.wait_for(client.wait_closed(), TIMEOUT)
            assert client.close_code == 1001
        async with asyncio.timeout(TIMEOUT):
            async for client in connect(f"ws://127.0.0.1:{port}", reconnect_delays=lambda: iter([0.1] * 300)):
                await client.send("Anna")
                assert await client.recv() == "Good morning, Anna!"
                await client.close()
                break
        assert run.stop() == 0
        assert run.output == "changed: starting again\n"
