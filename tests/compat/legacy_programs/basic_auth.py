"""A server that lets in those who have a password, by a factory of protocols."""

from __future__ import annotations

import asyncio

import websockets
from websockets.client import connect


async def hello(websocket, path):
    await websocket.send(f"Hello {websocket.username}, this is {websocket.realm}!")


async def check(username, password):
    await asyncio.sleep(0)
    return username == password[::-1]


async def visit(port, user_info):
    try:
        async with connect(f"ws://{user_info}127.0.0.1:{port}/") as websocket:
            print(await websocket.recv())
    except websockets.InvalidStatusCode as exc:
        print(exc)
        print(exc.status_code, exc.headers["WWW-Authenticate"])


async def main():
    for arguments in ({"credentials": ("mary", "password")}, {"check_credentials": check}):
        protected = websockets.basic_auth_protocol_factory(realm="example", **arguments)
        async with websockets.serve(hello, "127.0.0.1", 0, create_protocol=protected) as server:
            port = server.sockets[0].getsockname()[1]
            for user_info in ("mary:password@", "mary:yram@", "bob:password@", ""):
                await visit(port, user_info)


asyncio.run(main())
