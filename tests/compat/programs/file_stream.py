"""A file that is sent as one message without ever being in memory as a whole, and received likewise."""

from __future__ import annotations

import asyncio
import hashlib
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path

from websockets.asyncio.client import connect
from websockets.asyncio.server import ServerConnection, serve

CHUNK = 50_000
SIZE = 3_000_000


async def chunks(path: Path) -> AsyncIterator[bytes]:
    with path.open("rb") as file:
        while chunk := file.read(CHUNK):
            yield chunk
            await asyncio.sleep(0)


async def receive(websocket: ServerConnection) -> None:
    digest, size, largest = hashlib.sha256(), 0, 0
    async for chunk in websocket.recv_streaming(decode=False):
        digest.update(chunk)
        size += len(chunk)
        largest = max(largest, len(chunk))
    print("server: received", size, largest < size)
    await websocket.send(digest.hexdigest())
    async for line in websocket.recv_streaming(decode=True):
        print("server: read", line)


async def main() -> None:
    async with serve(receive, "127.0.0.1", 0, max_size=None) as server:
        port = next(iter(server.sockets)).getsockname()[1]
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "file"
            path.write_bytes(bytes(range(256)) * (SIZE // 256))
            async with connect(f"ws://127.0.0.1:{port}", compression=None) as websocket:
                await websocket.send(chunks(path))
                digest = await websocket.recv()
                print("client: digest", digest == hashlib.sha256(path.read_bytes()).hexdigest())
                await websocket.send("not streamed")
                await websocket.wait_closed()
                print("client:", websocket.close_code)


asyncio.run(main())
