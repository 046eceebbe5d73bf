"""A voice service's connection: each send has a time limit, and the connection says how it ended."""

from __future__ import annotations

import asyncio
from typing import Any

from websockets.asyncio.client import ClientConnection, connect
from websockets.asyncio.connection import ConnectionClosed, State  # type: ignore[attr-defined]
from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosedOK


class BoundedConnection(ClientConnection):
    send_limit = 0.2

    async def send(self, message: Any, **kwargs: Any) -> None:
        try:
            async with asyncio.timeout(self.send_limit):
                await super().send(message, **kwargs)
        except TimeoutError:
            # The network takes nothing any more: a closing handshake would wait for ever.
            self.transport.abort()
            await asyncio.shield(self.connection_lost_waiter)
            raise self.protocol.close_exc from None

    async def close(self, code: int = 1000, reason: str = "") -> None:  # type: ignore[override, unused-ignore]
        await super().close(code, reason)
        print("closed with", self.close_code, "of", self.close_timeout, "seconds", self.state is State.CLOSED)


async def handler(websocket: ServerConnection) -> None:
    assert websocket.request is not None
    if websocket.request.path == "/deaf":
        # What this client sends is never read.
        websocket.transport.pause_reading()
        await websocket.wait_closed()
        return
    async for message in websocket:
        await websocket.send(message)


async def main() -> None:
    async with serve(handler, "127.0.0.1", 0, max_size=None, ping_interval=None) as server:
        host, port = server.sockets[0].getsockname()
        uri = f"ws://{host}:{port}"
        async with connect(f"{uri}/echo", create_connection=BoundedConnection) as websocket:
            print("times", websocket.ping_interval, websocket.ping_timeout, websocket.close_timeout)
            websocket.ping_interval, websocket.ping_timeout, websocket.close_timeout = 30, 15, 2
            await websocket.send("hello")
            print(await websocket.recv())
            print("serves", len(server.all_connections), "in", len(server.handler_tasks))
        try:
            await websocket.recv()
        except ConnectionClosedOK as exc:
            print(exc)
        websocket = await connect(f"{uri}/deaf", create_connection=BoundedConnection, compression=None)
        try:
            await websocket.send(bytes(20_000_000))
        except ConnectionClosed as exc:
            print(type(exc).__name__, exc)
        print(websocket.connection_lost_waiter.done(), websocket.state.name)


asyncio.run(main())
