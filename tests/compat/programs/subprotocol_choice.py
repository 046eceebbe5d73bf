"""A server that chooses the newest version of its subprotocol that a client speaks."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from websockets import Subprotocol
from websockets.asyncio.client import connect
from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import InvalidStatus, NegotiationError

SUPPORTED = {"v1.example", "v2.example", "v3.example"}


def newest(connection: ServerConnection, offered: Sequence[Subprotocol]) -> Subprotocol | None:
    if not offered:
        return None
    common = SUPPORTED.intersection(offered)
    if not common:
        raise NegotiationError(f"no version in common with {', '.join(offered)}")
    return Subprotocol(max(common))


async def handler(websocket: ServerConnection) -> None:
    await websocket.send(f"speaking {websocket.subprotocol}")


async def attempt(uri: str, *names: str) -> None:
    subprotocols = [Subprotocol(name) for name in names]
    try:
        async with connect(uri, subprotocols=subprotocols or None) as websocket:
            print(websocket.subprotocol, "-", await websocket.recv())
    except InvalidStatus as exc:
        print(exc.response.status_code, exc.response.body.decode().strip())


async def main() -> None:
    async with serve(handler, "127.0.0.1", 0, select_subprotocol=newest) as server:
        uri = f"ws://127.0.0.1:{next(iter(server.sockets)).getsockname()[1]}/"
        await attempt(uri, "v1.example", "v2.example")
        await attempt(uri, "v3.example", "v4.example")
        await attempt(uri)
        await attempt(uri, "v9.example")
    ours = [Subprotocol("second"), Subprotocol("first")]
    async with serve(handler, "127.0.0.1", 0, subprotocols=ours) as server:
        uri = f"ws://127.0.0.1:{next(iter(server.sockets)).getsockname()[1]}/"
        await attempt(uri, "first", "second")
        await attempt(uri, "third")
        await attempt(uri)


asyncio.run(main())
