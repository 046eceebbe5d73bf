"""Peer for our API for trio.

Charter: adapts ``websockets.trio`` to the contract.
"""

from __future__ import annotations

import functools
import json
import sys
from typing import Any

import trio
from contract import Closed, Link, emit, handle, play

from websockets.exceptions import ConnectionClosed
from websockets.trio.client import connect
from websockets.trio.server import ServerConnection, serve
from websockets.version import version

LIBRARY = f"websockets {version}"


class TrioLink:
    """A connection of the library."""

    def __init__(self, websocket: Any) -> None:
        self.websocket = websocket

    @property
    def deflate(self) -> bool:
        return "permessage-deflate" in self.websocket.response.headers.get("Sec-WebSocket-Extensions", "")

    async def send(self, message: str | bytes) -> None:
        await self.websocket.send(message)

    async def receive(self) -> str | bytes:
        try:
            message: str | bytes = await self.websocket.recv()
        except ConnectionClosed:
            raise Closed(self.websocket.close_code, self.websocket.close_reason or "") from None
        return message

    async def ping(self, payload: bytes) -> None:
        await (await self.websocket.ping(payload)).wait()

    async def close(self, code: int, reason: str) -> int | None:
        await self.websocket.aclose(code, reason)
        close_code: int | None = self.websocket.close_code
        return close_code


async def run_client(uri: str) -> None:
    """Play scenarios until standard input ends."""
    emit(library=LIBRARY)
    while line := await trio.to_thread.run_sync(sys.stdin.readline):
        scenario = json.loads(line)
        links: list[Any] = []

        async def opened(target: str, deflate: bool, links: list[Any] = links) -> Link:
            connecting = connect(target, compression="deflate" if deflate else None, proxy=None)
            links.append(connecting)
            return TrioLink(await connecting.__aenter__())

        report = await play(opened, uri, scenario)
        for connecting in links:
            if connecting.connection is not None:
                await connecting.__aexit__(None, None, None)
        emit(target=scenario["target"], **report)


async def handler(websocket: ServerConnection) -> None:
    """Attend to one connection."""
    assert websocket.request is not None
    await handle(TrioLink(websocket), websocket.request.path)


async def run_server() -> None:
    """Serve until standard input ends."""
    async with trio.open_nursery() as nursery:
        server = await nursery.start(functools.partial(serve, handler, 0, host="127.0.0.1"))
        emit(library=LIBRARY, port=server.listeners[0].socket.getsockname()[1])
        await trio.to_thread.run_sync(sys.stdin.read)
        await server.aclose()


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["server"]:
            trio.run(run_server)
        case ["client", address]:
            trio.run(run_client, address)
        case _:
            sys.exit(f"usage: {sys.argv[0]} server | client URI")
