"""Connections with state and methods of their own, on both sides."""

from __future__ import annotations

import asyncio
import json
from typing import Any

from websockets.asyncio.client import ClientConnection, connect
from websockets.asyncio.server import ServerConnection, serve


class CountingConnection(ServerConnection):
    """Counts what it sends, and numbers its peers."""

    created = 0

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        type(self).created += 1
        self.number = type(self).created
        self.sent = 0

    async def send_json(self, **members: Any) -> None:
        self.sent += 1
        await self.send(json.dumps({**members, "number": self.number, "sent": self.sent}))


class JsonConnection(ClientConnection):
    """Receives JSON."""

    async def recv_json(self) -> Any:
        return json.loads(await self.recv())


async def handler(websocket: ServerConnection) -> None:
    assert isinstance(websocket, CountingConnection)
    async for message in websocket:
        await websocket.send_json(echo=message)
    print("server: connection", websocket.number, "sent", websocket.sent)


async def main() -> None:
    async with serve(handler, "127.0.0.1", 0, create_connection=CountingConnection) as server:
        uri = f"ws://127.0.0.1:{next(iter(server.sockets)).getsockname()[1]}/"
        for words in (["one", "two"], ["three"]):
            async with connect(uri, create_connection=JsonConnection) as websocket:
                assert isinstance(websocket, JsonConnection)
                for word in words:
                    await websocket.send(word)
                    print("client: received", await websocket.recv_json())
    print("server: created", CountingConnection.created)


asyncio.run(main())
