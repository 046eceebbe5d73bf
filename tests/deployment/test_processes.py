"""Several processes on one port: who gets the connections, and what becomes of them when a process ends."""

from __future__ import annotations

import asyncio
import collections
import contextlib

from deployment.programs import TIMEOUT, example, free_port
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
