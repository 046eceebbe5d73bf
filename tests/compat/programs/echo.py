"""An echo server, and a client that sends it all kinds of messages."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

from websockets.asyncio.client import connect
from websockets.asyncio.server import ServerConnection, serve


async def echo(websocket: ServerConnection) -> None:
    async for message in websocket:
        await websocket.send(message)


async def countdown() -> AsyncIterator[str]:
    for number in range(3, 0, -1):
        await asyncio.sleep(0)
        yield f"{number}... "


async def main() -> None:
    async with serve(echo, "127.0.0.1", 0) as server:
        port = next(iter(server.sockets)).getsockname()[1]
        async with connect(f"ws://127.0.0.1:{port}/path?query") as websocket:
            for message in ("Hello!", "", "héllo ✓", b"\x00\xff", bytearray(b"array"), "x" * 100_000):
                await websocket.send(message)
                answer = await websocket.recv()
                print(type(answer).__name__, len(answer), answer == message)
            await websocket.send(["one ", "two ", "three"])
            print(await websocket.recv())
            await websocket.send(countdown())
            print(await websocket.recv())
            await websocket.send(b"bytes as text", text=True)
            print(await websocket.recv())
            await websocket.send("text as bytes", text=False)
            print(await websocket.recv(), websocket.state.name)
            latency = await (await websocket.ping())
            print(latency > 0, websocket.latency == latency)
            assert websocket.request is not None
            assert websocket.response is not None
            print(websocket.request.path, websocket.response.status_code, websocket.subprotocol)
        print(websocket.state.name, websocket.close_code, repr(websocket.close_reason))


asyncio.run(main())
