"""``recv_streaming()`` on trio: an async generator that may be left at any point, and trio says nothing of it."""

from __future__ import annotations

import gc
import inspect
import threading
import warnings
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
import trio

from _kit.on_trio import on_network
from _kit.trio_ends import open_pair, stream_pair
from _kit.trio_network import TrioNetwork, run_on_network
from websockets.exceptions import ConcurrencyError
from websockets.trio.connection import Connection


@pytest.fixture(autouse=True)
def no_warning() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield
        gc.collect()


async def sockets(network: TrioNetwork) -> Any:
    client, server, _ = await stream_pair(network, "socket")
    return client, server


@on_network
async def test_it_is_an_async_generator(network: TrioNetwork) -> None:
    assert inspect.isasyncgenfunction(Connection.recv_streaming)
    assert list(inspect.signature(Connection.recv_streaming).parameters) == ["self", "decode"]
    async with open_pair(await sockets(network)) as (client, _):
        assert inspect.isasyncgen(client.recv_streaming())
        assert inspect.isasyncgenfunction(client.recv_streaming)


@on_network
async def test_a_thousand_are_left(network: TrioNetwork) -> None:
    async with open_pair(await sockets(network)) as (client, server):
        for number in range(1000):
            await server.send([f"{number}", "rest"])
            async for piece in client.recv_streaming():
                assert piece == f"{number}"
                break
        await server.send("next")
        assert await client.recv() == "next"


@on_network
async def test_methods_of_a_generator(network: TrioNetwork) -> None:
    async with open_pair(await sockets(network)) as (client, server):
        await server.send(["a", "b"])
        await server.send(["c", "d"])
        pieces: Any = client.recv_streaming()
        assert await pieces.asend(None) == "a"
        with pytest.raises(ValueError, match="^mine$"):
            await pieces.athrow(ValueError("mine"))
        pieces = client.recv_streaming()
        assert await anext(pieces) == "c"
        await pieces.aclose()
        await server.send("next")
        assert await client.recv() == "next"


@on_network
async def test_one_that_was_not_begun(network: TrioNetwork) -> None:
    async with open_pair(await sockets(network)) as (client, server):
        client.recv_streaming()
        kept = client.recv_streaming()
        await server.send("one")
        assert await client.recv() == "one"
        del kept


@on_network
async def test_the_generators_of_programs_are_as_before(network: TrioNetwork) -> None:
    """trio still takes care of those."""

    async def numbers() -> AsyncIterator[int]:
        yield 1
        yield 2

    async def leave() -> None:
        async for _number in numbers():
            break
        gc.collect()

    async with open_pair(await sockets(network)) as (client, _):
        client.recv_streaming()
        with pytest.warns(ResourceWarning, match="was garbage collected before it had been exhausted"):
            await leave()


@on_network
async def test_collected_in_another_thread(network: TrioNetwork) -> None:
    """The next receiver takes over."""
    async with open_pair(await sockets(network)) as (client, server):
        await server.send(["a", "b"])
        await server.send("next")
        kept: list[Any] = [client.recv_streaming()]

        async def begin() -> None:
            assert await anext(kept[0]) == "a"
            started.set()
            await trio.sleep_forever()

        started = trio.Event()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(begin)
            await started.wait()
            with pytest.raises(ConcurrencyError):
                await client.recv()
            thread = threading.Thread(target=kept.clear)
            thread.start()
            thread.join()
            assert await client.recv() == "next"
            nursery.cancel_scope.cancel()


def test_collected_after_the_end_of_the_run() -> None:
    kept: list[Any] = []

    async def main(network: TrioNetwork) -> None:
        async with open_pair(await sockets(network)) as (client, server):
            await server.send(["a", "b"])
            kept.append(client.recv_streaming())
            assert await anext(kept[0]) == "a"

    run_on_network(main)
    kept.clear()
    gc.collect()
