"""A client that connects again whatever happens: refusals, a server that isn't there, connections that end."""

from __future__ import annotations

import asyncio
import http

import websockets
from websockets.legacy.client import Connect
from websockets.legacy.server import serve

REFUSALS = [http.HTTPStatus.NOT_FOUND, http.HTTPStatus.SERVICE_UNAVAILABLE]


class Patient(Connect):
    BACKOFF_INITIAL = 0.001
    BACKOFF_MIN = 0.001
    BACKOFF_MAX = 0.005
    BACKOFF_FACTOR = 1.5


async def process_request(path, request_headers):
    if REFUSALS:
        status = REFUSALS.pop(0)
        print("server: refusing with", int(status))
        return status, [], b""
    return None


async def handler(websocket, path):
    message = await websocket.recv()
    print("server: received", message)
    await websocket.close(4000 + int(message), "try again")


async def main():
    async with serve(handler, "127.0.0.1", 0, process_request=process_request) as server:
        port = server.sockets[0].getsockname()[1]
        count = 0
        async for websocket in Patient(f"ws://127.0.0.1:{port}/"):
            count += 1
            try:
                await websocket.send(str(count))
                async for message in websocket:
                    print("client: received", message)
            except websockets.ConnectionClosed as exc:
                print("client:", exc)
                if count < 3:
                    continue
                break


asyncio.run(main())
