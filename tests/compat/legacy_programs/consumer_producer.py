"""Receiving and sending at the same time, pings by hand, and how a connection ended."""

from __future__ import annotations

import asyncio

from websockets.client import WebSocketClientProtocol, connect
from websockets.exceptions import ConnectionClosed, ConnectionClosedError, ConnectionClosedOK
from websockets.server import serve


class Counting(WebSocketClientProtocol):
    """Counts what is sent and received."""

    sent = received = 0

    async def send(self, message):
        self.sent += 1
        await super().send(message)

    async def recv(self):
        message = await super().recv()
        self.received += 1
        return message


async def consumer_handler(websocket):
    async for message in websocket:
        print("consumed", message)


async def producer_handler(websocket):
    for number in range(3):
        await websocket.send(f"produced {number}")
    await asyncio.Event().wait()


async def handler(websocket, path):
    consumer = asyncio.ensure_future(consumer_handler(websocket))
    producer = asyncio.ensure_future(producer_handler(websocket))
    done, pending = await asyncio.wait([consumer, producer], return_when=asyncio.FIRST_COMPLETED)
    print("server:", consumer in done, websocket.open, repr(consumer.exception()))
    for task in pending:
        task.cancel()


async def main():
    async with serve(handler, "127.0.0.1", 0) as server:
        uri = f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}/"
        async with connect(uri, create_protocol=Counting) as websocket:
            await websocket.send("one")
            for _ in range(3):
                print(await websocket.recv())
            pong = await websocket.ping("data")
            print("latency is a float:", isinstance(await pong, float))
            receiving = asyncio.ensure_future(websocket.recv())
            await asyncio.sleep(0)
            try:
                await websocket.recv()
            except RuntimeError as exc:
                print(exc)
            receiving.cancel()
            await websocket.close(code=1001, reason="enough")
            await websocket.close()
            for call in (websocket.recv, websocket.ping, websocket.ensure_open):
                try:
                    await call()
                except ConnectionClosed as exc:
                    print(type(exc).__name__, exc, exc.code, exc.reason)
        print(websocket.sent, websocket.received, websocket.close_code, websocket.close_reason, websocket.state.name)
        websocket = await connect(uri)
        await websocket.close(4321, "odd")
        try:
            await websocket.send("late")
        except ConnectionClosedOK:
            print("this was no normal end")
        except ConnectionClosedError as exc:
            print(exc)


asyncio.run(main())
