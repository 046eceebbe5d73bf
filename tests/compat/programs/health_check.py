"""A server that also answers the health checks of a load balancer, over plain HTTP."""

from __future__ import annotations

import asyncio
import urllib.error
import urllib.request

from websockets.asyncio.client import connect
from websockets.asyncio.server import ServerConnection, serve
from websockets.http11 import Request, Response

# Health checks don't go through a proxy.
OPENER = urllib.request.build_opener(urllib.request.ProxyHandler({}))


def health_check(connection: ServerConnection, request: Request) -> Response | None:
    if request.path == "/healthz":
        return connection.respond(200, "OK\n")
    return None


async def echo(websocket: ServerConnection) -> None:
    async for message in websocket:
        await websocket.send(message)


def get(url: str) -> None:
    try:
        response = OPENER.open(url, timeout=10)
    except urllib.error.HTTPError as exc:
        response = exc
    with response:
        body = response.read().decode()
        print(response.status, response.headers["Content-Type"], response.headers["Connection"])
        print(response.headers["Upgrade"], len(body) == int(response.headers["Content-Length"]), body.splitlines()[0])


async def main() -> None:
    async with serve(echo, "127.0.0.1", 0, process_request=health_check) as server:
        port = next(iter(server.sockets)).getsockname()[1]
        await asyncio.to_thread(get, f"http://127.0.0.1:{port}/healthz")
        await asyncio.to_thread(get, f"http://127.0.0.1:{port}/other")
        async with connect(f"ws://127.0.0.1:{port}/") as websocket:
            await websocket.send("still a WebSocket server")
            print(await websocket.recv())


asyncio.run(main())
