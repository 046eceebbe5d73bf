"""Rooms in two processes over Redis and over NATS: who hears what, and what happens while the broker is away."""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from deployment.programs import TIMEOUT, Running, free_port, packages, program, running
from websockets.asyncio.client import ClientConnection, connect

SERVER = Path(__file__).with_name("room_server.py")

CLIENTS = 100
MESSAGES = 20


class Broker:
    """Redis or NATS at a port.

    Parameters:
        kind: which one.
        folder: where it may write.
    """

    def __init__(self, kind: str, folder: Path) -> None:
        self.port = free_port()
        self.url = f"{kind}://127.0.0.1:{self.port}"
        self._command = {
            "redis": [
                "redis-server",
                "--bind",
                "127.0.0.1",
                "--port",
                str(self.port),
                "--save",
                "",
                "--dir",
                str(folder),
            ],
            "nats": ["nats-server", "--addr", "127.0.0.1", "--port", str(self.port)],
        }[kind]

    def run(self) -> contextlib.AbstractContextManager[Running]:
        """Run it."""
        return running(program(self._command[0]), *self._command[1:], port=self.port)


@pytest.fixture(params=["redis", "nats"])
def broker(request: pytest.FixtureRequest, tmp_path: Path) -> Broker:
    return Broker(request.param, tmp_path)


@contextlib.contextmanager
def room(broker: Broker) -> Iterator[str]:
    """Run a process with a room; give its URI."""
    port = free_port()
    with running(sys.executable, SERVER, str(port), broker.url, port=port, env=packages()):
        yield f"ws://127.0.0.1:{port}"


async def ask(client: ClientConnection) -> dict[str, Any]:
    """The statistics of a process."""
    await client.send("?")
    while not (answer := await client.recv(decode=True)).startswith("?"):
        pass
    counted: dict[str, Any] = json.loads(answer[1:])
    return counted


async def everybody(client: ClientConnection, **expected: int) -> dict[str, Any]:
    """Wait until a process has counted that much."""
    async with asyncio.timeout(TIMEOUT):
        while True:
            counted = await ask(client)
            if expected.items() <= counted.items():
                return counted
            await asyncio.sleep(0.05)


@contextlib.asynccontextmanager
async def clients(count: int, *uris: str) -> AsyncIterator[list[ClientConnection]]:
    """Clients of the processes in turn, who know that all of them are there."""
    async with contextlib.AsyncExitStack() as stack:
        entered = [
            await stack.enter_async_context(connect(f"{uris[number % len(uris)]}/{number}", max_queue=None))
            for number in range(count)
        ]
        for client in entered[: len(uris)]:
            await everybody(client, everybody=count)
        yield entered


async def hear(client: ClientConnection, count: int) -> list[str]:
    """The next messages."""
    return [await client.recv(decode=True) for _ in range(count)]


async def test_each_message_comes_once_and_in_order(broker: Broker) -> None:
    with broker.run(), room(broker) as first, room(broker) as second:
        async with clients(CLIENTS, first, second) as those:

            async def talk(number: int) -> None:
                for count in range(MESSAGES):
                    await those[number].send(f"{number}:{count}")

            async with asyncio.timeout(2 * TIMEOUT):
                heard, _ = await asyncio.gather(
                    asyncio.gather(*(hear(client, CLIENTS * MESSAGES) for client in those)),
                    asyncio.gather(*(talk(number) for number in range(CLIENTS))),
                )
            for messages in heard:
                assert len(set(messages)) == CLIENTS * MESSAGES
                for number in range(CLIENTS):
                    said = [message for message in messages if message.startswith(f"{number}:")]
                    assert said == [f"{number}:{count}" for count in range(MESSAGES)]
            for client in those[:2]:
                counted = await ask(client)
                assert (counted["lost"], counted["missed"], counted["duplicates"]) == (0, 0, 0)
    print(f"\n{broker.url}: {sum(map(len, heard))} deliveries, none missing or twice")


@pytest.mark.parametrize(("count", "size"), [(10, 10), (200, 5_000)], ids=["little", "much"])
async def test_a_broker_that_is_killed_and_starts_again(broker: Broker, count: int, size: int) -> None:
    with contextlib.ExitStack() as stack:
        run = stack.enter_context(broker.run())
        first, second = stack.enter_context(room(broker)), stack.enter_context(room(broker))
        async with clients(CLIENTS, first, second) as those:
            run.process.kill()
            run.process.wait()
            a, b = those[:2]
            for number in range(count):
                await a.send(f"{number:0{size}}")
            # In the same process, nothing is missing.
            assert [int(each[-5:]) for each in await hear(a, count)] == [*range(count)]
            await asyncio.sleep(2)
            stack.enter_context(broker.run())
            for client in (a, b):
                # Nobody has left, and the process is connected again; it says nothing else while it waits.
                await reconnected(client)
            here, there = await ask(a), await everybody_heard(b, count)
            assert here["lost"] <= there["missed"]
            assert (here["lost"] > 0) is (size > 1000)
            assert there["received"] + there["missed"] == count
            assert here["published"] == count
            await a.send("later")
            async with asyncio.timeout(TIMEOUT):
                for client in those[1::2]:
                    while await client.recv() != "later":
                        pass
            print(
                f"\n{broker.url}: of {count} messages, {there['received']} arrived later, {there['missed']} are missing"
            )


async def reconnected(client: ClientConnection) -> None:
    """Wait until a process has connected again, and knows the members of both."""
    await everybody(client, connections=2, everybody=CLIENTS, waiting=0)


async def everybody_heard(client: ClientConnection, count: int) -> dict[str, Any]:
    """Wait until a process has received all messages of the other one, or has counted them as missing."""
    async with asyncio.timeout(TIMEOUT):
        while True:
            counted = await ask(client)
            if counted["received"] + counted["missed"] >= count:
                return counted
            await asyncio.sleep(0.05)
