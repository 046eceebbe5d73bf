"""The first program of the tutorial, as it was when loops were run by hand: a server that greets, and its client."""

from __future__ import annotations

import asyncio

import websockets


async def hello(websocket, path):
    name = await websocket.recv()
    print(f"< {name} at {path}")
    await websocket.send(f"Hello {name}!")


async def ask(uri):
    async with websockets.connect(uri) as websocket:
        await websocket.send("Ann")
        print(f"> {await websocket.recv()}")


loop = asyncio.new_event_loop()
asyncio.set_event_loop(loop)
start_server = websockets.serve(hello, "127.0.0.1", 0)
server = loop.run_until_complete(start_server)
port = server.sockets[0].getsockname()[1]
loop.run_until_complete(ask(f"ws://127.0.0.1:{port}/greetings?loud=no"))
server.close()
loop.run_until_complete(server.wait_closed())
loop.close()
