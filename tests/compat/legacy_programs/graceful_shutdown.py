"""A server that runs until a signal; connections are told that it goes away."""

from __future__ import annotations

import asyncio
import os
import signal

import websockets
from websockets.client import connect
from websockets.server import serve


async def echo(websocket, path):
    try:
        async for message in websocket:
            await websocket.send(message)
    finally:
        print("server: connection ended, open:", websocket.open)


async def client(uri, ready):
    async with connect(uri) as websocket:
        await websocket.send("hello")
        print("client:", await websocket.recv())
        ready.set()
        try:
            await websocket.recv()
        except websockets.ConnectionClosedOK as exc:
            print("client:", exc)


async def main():
    loop = asyncio.get_running_loop()
    stop = loop.create_future()
    loop.add_signal_handler(signal.SIGTERM, stop.set_result, None)
    ready = asyncio.Event()
    async with serve(echo, "127.0.0.1", 0) as server:
        uri = f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        visiting = asyncio.create_task(client(uri, ready))
        await ready.wait()
        os.kill(os.getpid(), signal.SIGTERM)
        await stop
        print("serving:", server.is_serving())
    print("serving:", server.is_serving())
    await visiting


asyncio.run(main())
