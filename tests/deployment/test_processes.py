"""Several processes on one port: who gets the connections, and what becomes of them when a process ends."""

from __future__ import annotations

import asyncio
import collections
import contextlib
import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from deployment.programs import TIMEOUT, Running, example, free_port, listens, running, until
from websockets.asyncio.client import connect

CONNECTIONS = 400


async def test_processes() -> None:
    port = free_port()
    uri = f"ws://127.0.0.1:{port}"
    with example("processes/server.py", str(port), port=port) as first:
        with example("processes/server.py", str(port), port=port) as second:
            # That one listens doesn't tell that both do.
            second.wait_until(lambda: "listens" in second.output)
            pids = {str(first.process.pid), str(second.process.pid)}
            clients = [await connect(uri) for _ in range(CONNECTIONS)]
            places = []
            for client in clients:
                await client.send("hello")
                places.append((await client.recv(decode=True)).partition(":")[0])
            shares = collections.Counter(places)
            assert set(shares) == pids
            # By a hash of the addresses: about half, and a quarter at least, or chance has worked hard.
            assert min(shares.values()) > CONNECTIONS // 4

            assert await asyncio.to_thread(second.stop) == 0
            leavers = [
                client for client, place in zip(clients, places, strict=True) if place == str(second.process.pid)
            ]
            async with asyncio.timeout(TIMEOUT):
                await asyncio.gather(*(client.wait_closed() for client in leavers))
            assert {client.close_code for client in leavers} == {1001}

            async with contextlib.AsyncExitStack() as stack:
                returned = [await stack.enter_async_context(connect(uri)) for _ in leavers]
                for client in {*clients, *returned} - {*leavers}:
                    await client.send("hello")
                    assert (await client.recv(decode=True)).startswith(f"{first.process.pid}:")
                for client in {*clients} - {*leavers}:
                    await client.close()
        assert first.stop() == 0
    print(f"\nprocesses: {sorted(shares.values())} of {CONNECTIONS}; {len(leavers)} moved, the others stayed")


WORKERS = 3
CLIENTS = 30


def group(leader: int) -> list[int]:
    """The processes of a group that live."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            state, _, pgrp = (folder / "stat").read_text().rpartition(")")[2].split()[:3]
            if int(pgrp) == leader and state != "Z":
                found.append(int(folder.name))
    return found


def workers(leader: int) -> list[int]:
    """Those among them that serve."""
    command = {pid: Path(f"/proc/{pid}/cmdline").read_bytes() for pid in group(leader)}
    return [pid for pid, line in command.items() if b"spawn_main" in line]


def stop_one(run: Running) -> None:
    os.kill(workers(run.process.pid)[0], signal.SIGSTOP)
    run.process.terminate()


# What happens; the status, or a set of them; the codes that clients see; seconds at the longest.
ENDS: dict[str, tuple[Callable[[Running], None], int, set[int], float]] = {
    "SIGTERM": (lambda run: run.process.terminate(), 0, {1001}, TIMEOUT),
    "SIGTERM to all": (lambda run: os.killpg(run.process.pid, signal.SIGTERM), 0, {1001}, TIMEOUT),
    "SIGINT to all": (lambda run: os.killpg(run.process.pid, signal.SIGINT), 0, {1001}, TIMEOUT),
    "SIGHUP": (lambda run: run.process.send_signal(signal.SIGHUP), 0, {1001}, TIMEOUT),
    "SIGHUP to all": (lambda run: os.killpg(run.process.pid, signal.SIGHUP), 0, {1001}, TIMEOUT),
    "SIGKILL": (lambda run: run.process.kill(), -9, {1001}, TIMEOUT),
    "a worker killed": (lambda run: os.kill(workers(run.process.pid)[0], signal.SIGKILL), 3, {1001, 1006}, TIMEOUT),
    "a worker stopped, SIGTERM": (stop_one, 3, {1001, 1006}, 17 + TIMEOUT),
}


@pytest.mark.parametrize("how", ENDS)
async def test_workers_that_end(how: str) -> None:
    """With clients, by any means: all hear of it who can, and nothing remains."""
    end, status, codes, limit = ENDS[how]
    port = free_port()
    command = [sys.executable, "-m", "websockets", "serve", "--workers", str(WORKERS), f"127.0.0.1:{port}"]
    with running(*command) as run:
        await asyncio.to_thread(run.wait_until, lambda: "Listening" in run.output)
        clients = [await connect(f"ws://127.0.0.1:{port}") for _ in range(CLIENTS)]
        assert len(workers(run.process.pid)) == WORKERS
        begin = time.monotonic()
        end(run)
        assert await asyncio.to_thread(run.process.wait, limit) == status
        above = time.monotonic() - begin
        await until(lambda: not group(run.process.pid))
        everything = time.monotonic() - begin
        await asyncio.gather(*(client.wait_closed() for client in clients))
        assert {client.close_code for client in clients} <= codes
        # The next server has the port for itself.
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection("127.0.0.1", port)
    print(f"\nworkers, {how}: status {status} after {above:.2f} s, nothing remains after {everything:.2f} s")


async def test_workers_without_standard_streams() -> None:
    """As daemons are started: what is logged must not go to whatever got their numbers."""
    port = free_port()
    serve = f"{sys.executable} -m websockets serve -v --workers {WORKERS} 127.0.0.1:{port}"
    with running("sh", "-c", f"exec {serve} <&- >&- 2>&-") as run:
        await until(lambda: listens(port))
        async with connect(f"ws://127.0.0.1:{port}") as client:
            await client.send("hello")
            assert await client.recv() == "hello"
        await until(lambda: len(workers(run.process.pid)) == WORKERS)
        run.process.terminate()
        assert await asyncio.to_thread(run.process.wait, TIMEOUT) in (0, -signal.SIGTERM)
        await until(lambda: not group(run.process.pid))
