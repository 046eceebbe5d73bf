"""A server on a Unix socket, and its client; fragments, and both kinds of messages."""

from __future__ import annotations

import asyncio
import os.path
import tempfile

from websockets.client import unix_connect
from websockets.server import unix_serve


async def chunks():
    for chunk in (b"async ", b"fragments"):
        yield chunk
        await asyncio.sleep(0)


async def handler(websocket, path):
    async for message in websocket:
        print(path, type(message).__name__, message)
        await websocket.send([f"{len(message)} ", "received"])


async def main():
    with tempfile.TemporaryDirectory() as folder:
        socket_path = os.path.join(folder, "socket")
        async with unix_serve(handler, socket_path, compression=None):
            async with unix_connect(socket_path) as websocket:
                print(websocket.request_headers["Host"], websocket.path)
                for message in ("text", b"bytes", bytearray(b"more bytes"), ["fragments ", "of text"], chunks()):
                    await websocket.send(message)
                    print(await websocket.recv())
            print(websocket.close_code, repr(websocket.close_reason), websocket.closed)


asyncio.run(main())
