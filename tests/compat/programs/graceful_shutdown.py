"""A server that ends gracefully on SIGTERM: clients learn that it goes away, handlers tidy up."""

from __future__ import annotations

import asyncio
import os
import signal

from websockets.asyncio.client import connect
from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed


async def handler(websocket: ServerConnection) -> None:
    try:
        await websocket.send("ready")
        await websocket.recv()
    except ConnectionClosed as exc:
        print("handler:", type(exc).__name__, exc)
    finally:
        await asyncio.sleep(0.01)
        print("handler: tidied up")


async def client(uri: str, ready: asyncio.Event) -> None:
    async with connect(uri) as websocket:
        print("client:", await websocket.recv())
        ready.set()
        try:
            await websocket.recv()
        except ConnectionClosed as exc:
            print("client:", type(exc).__name__, exc)


async def main() -> None:
    ready = asyncio.Event()
    async with serve(handler, "127.0.0.1", 0) as server:
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, server.close)
        uri = f"ws://127.0.0.1:{next(iter(server.sockets)).getsockname()[1]}/"
        visitor = asyncio.create_task(client(uri, ready))
        await ready.wait()
        print("server: connections", len(server.connections))
        os.kill(os.getpid(), signal.SIGTERM)
        await server.wait_closed()
        print("server: closed,", server.is_serving(), len(server.connections))
    await visitor
    try:
        await connect(uri)
    except OSError as exc:
        print("client:", type(exc).__name__)


asyncio.run(main())
