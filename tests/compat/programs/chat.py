"""A chat room: what one says, all others hear."""

from __future__ import annotations

import asyncio
import json

from websockets import ConnectionClosedOK, ServerConnection, broadcast, connect, serve

ROOM: dict[ServerConnection, str] = {}


def tell(**event: str) -> None:
    broadcast(ROOM, json.dumps(event))


async def chat(websocket: ServerConnection) -> None:
    assert websocket.request is not None
    name = websocket.request.path.removeprefix("/")
    ROOM[websocket] = name
    tell(type="join", name=name)
    try:
        async for message in websocket:
            assert isinstance(message, str)
            tell(type="say", name=name, text=message)
    finally:
        del ROOM[websocket]
        tell(type="leave", name=name)


async def listen(uri: str, name: str, lines: int) -> None:
    async with connect(uri + name) as websocket:
        for _ in range(lines):
            print(f"{name} hears {await websocket.recv()!r}")


async def main() -> None:
    async with serve(chat, "127.0.0.1", 0) as server:
        uri = f"ws://127.0.0.1:{next(iter(server.sockets)).getsockname()[1]}/"
        async with connect(uri + "ann") as ann:
            print("ann hears", await ann.recv())
            async with connect(uri + "bob") as bob:
                print("ann hears", await ann.recv())
                print("bob hears", await bob.recv())
                await bob.send("hi ann")
                print("ann hears", await ann.recv())
                print("bob hears", await bob.recv())
                await ann.send("hi bob")
                print("ann hears", await ann.recv())
                print("bob hears", await bob.recv())
            print("ann hears", await ann.recv())
            try:
                await bob.send("too late")
            except ConnectionClosedOK as exc:
                print("bob:", exc)
        await listen(uri, "eve", 1)


asyncio.run(main())
