"""A server under ``ulimit -n``: with a plan it never runs out of descriptors; without one it goes on all the same."""

from __future__ import annotations

import asyncio
import collections
import contextlib
import socket
import sys
from collections.abc import Iterator

import pytest

from deployment.programs import EXAMPLES, TIMEOUT, free_port, running, until
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import InvalidHandshake, InvalidStatus
from websockets.protocol import State

PROGRAM = EXAMPLES / "capacity" / "descriptors.py"
OUT = "socket.accept() out of system resource"


def limited(descriptors: int, *arguments: object) -> list[str]:
    """The command that runs the server with so many descriptors; it can't raise the limit beyond that."""
    command = [sys.executable, str(PROGRAM), *map(str, arguments)]
    # At first it has fewer, as after a login.
    return ["sh", "-c", f'ulimit -Sn 100 && ulimit -Hn {descriptors} && exec "$@"', "sh", *command]


@contextlib.contextmanager
def crowd(port: int, number: int) -> Iterator[list[socket.socket]]:
    """So many TCP connections, which say nothing."""
    with contextlib.ExitStack() as stack:
        yield [stack.enter_context(socket.create_connection(("127.0.0.1", port), TIMEOUT)) for _ in range(number)]


async def hello(client: ClientConnection) -> None:
    await client.send("hello")
    assert await client.recv() == "hello"


async def test_a_server_with_a_plan() -> None:
    """Beyond it, clients are refused in order, however many come, and it never runs out."""
    port = free_port()
    with running(*limited(1700, port), port=port) as run:
        assert run.output.splitlines() == ["1700 descriptors, 100 connections"]
        seen: collections.Counter[str] = collections.Counter()
        async with contextlib.AsyncExitStack() as stack:
            for _ in range(300):
                try:
                    await stack.enter_async_context(connect(f"ws://127.0.0.1:{port}"))
                    seen["open"] += 1
                except InvalidStatus as exc:
                    seen[str(exc.response.status_code)] += 1
            assert seen == {"open": 100, "503": 200}
            # And those who ask for nothing don't use up what is left.
            with crowd(port, 2000):
                with pytest.raises((InvalidHandshake, OSError)):
                    await connect(f"ws://127.0.0.1:{port}", open_timeout=TIMEOUT)
        assert OUT not in run.output
    print(f"\\n1700 descriptors, 2300 clients: {dict(seen)}, never out of descriptors")


async def test_a_server_without_a_plan() -> None:
    """Out of descriptors, it says so once; open connections live, and new ones come in as soon as there is room."""
    port = free_port()
    with running(*limited(100, port, 10_000), port=port) as run:
        async with connect(f"ws://127.0.0.1:{port}") as old:
            with crowd(port, 150):
                await until(lambda: OUT in run.output)
                await hello(old)
                # asyncio tries again after a second.
                await asyncio.sleep(2.5)
                await hello(old)
                assert old.state is State.OPEN
            async with connect(f"ws://127.0.0.1:{port}", open_timeout=TIMEOUT) as new:
                await hello(new)
        assert run.output.count(OUT) == 1
    print("\\n100 descriptors, 150 clients: reported once, served again")
