"""Prices for everybody who listens, on asyncio or on trio: the same program, by way of anyio.

``python examples/ticker/ticker_anyio.py [asyncio|trio]``: a server sends prices, and two clients print three each.
"""

import itertools
import sys
from typing import Any

import anyio
import anyio.abc

from websockets.anyio import broadcast, connect, serve


async def wait_for_end(websocket: Any) -> None:
    await websocket.wait_closed()


async def send_prices(server: Any, interval: float) -> None:
    for price in itertools.count(100):
        await broadcast(server.connections, str(price))
        await anyio.sleep(interval)


async def follow(uri: str, count: int, prices: list[str]) -> None:
    """Add a number of prices to a list."""
    async with connect(uri) as websocket:
        async for price in websocket:
            prices.append(price)
            if len(prices) == count:
                return


async def start_server(tasks: anyio.abc.TaskGroup, interval: float) -> Any:
    async def run(*, task_status: anyio.abc.TaskStatus[Any]) -> None:
        await serve(wait_for_end, 0, host="127.0.0.1", task_status=task_status)

    server = await tasks.start(run)
    tasks.start_soon(send_prices, server, interval)
    return server


async def main(interval: float = 0.1) -> None:
    async with anyio.create_task_group() as tasks:
        server = await start_server(tasks, interval)
        uri = f"ws://127.0.0.1:{server.addresses[0][1]}/"
        lists: list[list[str]] = [[], []]
        async with anyio.create_task_group() as clients:
            for prices in lists:
                clients.start_soon(follow, uri, 3, prices)
        for prices in lists:
            print(*prices)
        tasks.cancel_scope.cancel()


if __name__ == "__main__":
    anyio.run(main, backend=sys.argv[1] if len(sys.argv) > 1 else "asyncio")
