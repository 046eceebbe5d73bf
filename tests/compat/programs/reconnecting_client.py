"""A client that connects again whenever its connection ends, to a server that has a bad day."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Generator

from websockets.asyncio.client import connect
from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.http11 import Request, Response

REQUESTS = itertools.count(1)


def process_request(connection: ServerConnection, request: Request) -> Response | None:
    number = next(REQUESTS)
    print("server: request", number)
    if number in (2, 3):
        return connection.respond(503, "too busy\n")
    if number == 5:
        return connection.respond(404, "gone\n")
    return None


async def handler(websocket: ServerConnection) -> None:
    await websocket.send("welcome")
    await websocket.recv()
    await websocket.close(1012, "restarting")


def delays() -> Generator[float, None, None]:
    while True:
        yield 0.001


async def main() -> None:
    async with serve(handler, "127.0.0.1", 0, process_request=process_request) as server:
        port = next(iter(server.sockets)).getsockname()[1]
        try:
            async for websocket in connect(f"ws://127.0.0.1:{port}", reconnect_delays=delays):
                try:
                    async for message in websocket:
                        print("client: received", message)
                        # Longer than the delay before another attempt.
                        await asyncio.sleep(0.02)
                        await websocket.send("thanks")
                except ConnectionClosed as exc:
                    print("client:", exc)
                    continue
        except InvalidStatus as exc:
            print("client: giving up,", exc, exc.response.body.decode().strip())


asyncio.run(main())
