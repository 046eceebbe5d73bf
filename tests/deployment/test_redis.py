"""Several servers through Redis: who hears what, in which order, and what a client learns when Redis is away."""

from __future__ import annotations

import asyncio
import collections
import contextlib
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from deployment.programs import TIMEOUT, Running, example, free_port, packages, program, running
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

CLIENTS = 100
MESSAGES = 20


@contextlib.contextmanager
def redis(port: int, folder: Path) -> Iterator[Running]:
    """Run Redis, which keeps nothing."""
    options = ["--bind", "127.0.0.1", "--save", "", "--dir", str(folder)]
    with running(program("redis-server"), "--port", str(port), *options, port=port) as run:
        yield run


@pytest.fixture
def store(tmp_path: Path) -> Iterator[int]:
    """Run Redis; give its port."""
    with redis(port := free_port(), tmp_path):
        yield port


@contextlib.contextmanager
def chat(store: int) -> Iterator[str]:
    """Run a process of the chat; give its URI."""
    port = free_port()
    env = {**packages(), "REDIS_URL": f"redis://127.0.0.1:{store}"}
    with example("redis/server.py", str(port), port=port, env=env) as server:
        server.wait_until(lambda: "listening" in server.output)
        yield f"ws://127.0.0.1:{port}"


def ask(store: int, *command: str) -> str:
    """What Redis says to a command."""
    done = subprocess.run(
        [program("redis-cli"), "-p", str(store), *command], capture_output=True, text=True, timeout=TIMEOUT, check=True
    )
    return done.stdout


async def enter(uri: str) -> ClientConnection:
    """Connect when the server has found Redis."""
    async with asyncio.timeout(TIMEOUT):
        while True:
            client = await connect(uri)
            with contextlib.suppress(ConnectionClosed):
                await client.send("knock")
                while await client.recv() != "knock":
                    pass
                return client
            await asyncio.sleep(0.05)


async def test_each_message_comes_once_to_each_client_of_both_servers(store: int) -> None:
    with chat(store) as first, chat(store) as second:
        clients = [await connect((first, second)[number % 2], max_queue=None) for number in range(CLIENTS)]
        expected = {f"{number}:{count}" for number in range(CLIENTS) for count in range(MESSAGES)}

        async def talk(number: int) -> None:
            for count in range(MESSAGES):
                await clients[number].send(f"{number}:{count}")

        async def hear(client: ClientConnection) -> list[str]:
            return [await client.recv(decode=True) for _ in expected]

        async with asyncio.timeout(TIMEOUT):
            heard, _ = await asyncio.gather(
                asyncio.gather(*(hear(client) for client in clients)),
                asyncio.gather(*(talk(number) for number in range(CLIENTS))),
            )
            # Nothing is left over: the next message is the next one.
            await clients[0].send("last")
            assert [await client.recv() for client in clients] == ["last"] * CLIENTS
            await asyncio.gather(*(client.close() for client in clients))

    for messages in heard:
        counted = collections.Counter(messages)
        assert set(counted) == expected
        assert set(counted.values()) == {1}
        # Redis passes a channel on in one order, so all agree, and what one client said stays in its order.
        assert messages == heard[0]
    for number in range(CLIENTS):
        said = [message for message in heard[0] if message.startswith(f"{number}:")]
        assert said == [f"{number}:{count}" for count in range(MESSAGES)]
    deliveries = sum(map(len, heard))
    print(f"\n2 servers, {CLIENTS} clients: {len(expected)} messages, {deliveries} deliveries, none missing or twice")


async def test_clients_learn_that_messages_may_be_missing(store: int) -> None:
    """The client of Redis connects again by itself, without a word; but the subscription is confirmed once more."""
    with chat(store) as first, chat(store) as second:
        clients = [await enter(uri) for uri in (first, second)]
        assert ask(store, "client", "kill", "type", "pubsub").strip() == "2"
        for client in clients:
            await asyncio.wait_for(client.wait_closed(), TIMEOUT)
            assert (client.close_code, client.close_reason) == (1013, "messages may be missing")
        for uri in (first, second):
            await (await enter(uri)).close()


async def test_redis_that_starts_again(tmp_path: Path) -> None:
    port = free_port()
    with contextlib.ExitStack() as stack:
        with redis(port, tmp_path) as run:
            first, second = [stack.enter_context(chat(port)) for _ in range(2)]
            client = await enter(first)
            assert run.stop() == 0
        await asyncio.wait_for(client.wait_closed(), TIMEOUT)
        assert client.close_code == 1013
        refused = await connect(second)
        await asyncio.wait_for(refused.wait_closed(), TIMEOUT)
        assert refused.close_code == 1013
        with redis(port, tmp_path):
            here, there = [await enter(uri) for uri in (first, second)]
            await here.send("are you there?")
            while not re.fullmatch("are you there.", await there.recv(decode=True)):
                pass
            await asyncio.gather(here.close(), there.close())
