"""A counter that many can change, and that all see: a handler with a path, and messages to everybody."""

from __future__ import annotations

import asyncio
import json

import websockets
from websockets.server import broadcast

USERS = set()
STATE = {"value": 0}


def state_event():
    return json.dumps({"type": "state", **STATE})


def users_event():
    return json.dumps({"type": "users", "count": len(USERS)})


async def counter(websocket, path):
    try:
        USERS.add(websocket)
        broadcast(USERS, users_event())
        await websocket.send(state_event())
        async for message in websocket:
            data = json.loads(message)
            if data["action"] == "minus":
                STATE["value"] -= 1
            elif data["action"] == "plus":
                STATE["value"] += 1
            else:
                print("unsupported event:", data)
                continue
            broadcast(USERS, state_event())
    finally:
        USERS.remove(websocket)
        broadcast(USERS, users_event())


async def main():
    async with websockets.serve(counter, "127.0.0.1", 0) as server:
        uri = f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}/"
        async with websockets.connect(uri) as ann:
            print("ann:", await ann.recv(), await ann.recv())
            async with websockets.connect(uri) as bob:
                print("bob:", await bob.recv(), await bob.recv())
                print("ann:", await ann.recv())
                await bob.send(json.dumps({"action": "plus"}))
                await bob.send(json.dumps({"action": "times"}))
                await bob.send(json.dumps({"action": "plus"}))
                print("ann:", await ann.recv(), await ann.recv())
                print("bob:", await bob.recv(), await bob.recv())
            print("ann:", await ann.recv())


asyncio.run(main())
