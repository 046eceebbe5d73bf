"""Clients that open the TCP connection themselves: a class of connect that has its own way to be awaited."""

from __future__ import annotations

import asyncio
import socket

import websockets
from websockets.legacy.client import Connect
from websockets.legacy.server import serve


class ThroughSocket(Connect):
    """Everything is set up late, when there is a socket."""

    def __init__(self, uri, address, **options):
        self.arguments = (uri,), options
        self.address = address

    def __await__(self):
        return self.await_with_socket().__await__()

    async def await_with_socket(self):
        arguments, options = self.arguments
        sock = socket.socket()
        sock.setblocking(False)
        await asyncio.get_running_loop().sock_connect(sock, self.address)
        super().__init__(*arguments, sock=sock, **options)
        return await self.__await_impl__()


async def handler(websocket):
    async for message in websocket:
        await websocket.send(f"{websocket.path} {message}")


async def main():
    async with serve(handler, "127.0.0.1", 0) as server:
        address = server.sockets[0].getsockname()
        websocket = await ThroughSocket("ws://example.com/one", address)
        await websocket.send("awaited")
        print(await websocket.recv())
        await websocket.close()
        connecting = ThroughSocket("ws://example.com/two", address, extra_headers={"A": "b"})
        async with connecting as websocket:
            await websocket.send("entered")
            print(await websocket.recv(), connecting.protocol is websocket, websocket.request_headers["A"])
        print(websocket.close_code, websocket.closed)
        count = 0
        async for websocket in ThroughSocket("ws://example.com/three", address):
            count += 1
            try:
                await websocket.send(f"number {count}")
                print(await websocket.recv())
                if count == 2:
                    break
                await websocket.close()
                await websocket.recv()
            except websockets.ConnectionClosed:
                continue
        await websocket.close()
    try:
        await Connect("ws://example.com").__aexit__(None, None, None)
    except AttributeError as exc:
        print("AttributeError:", exc)


asyncio.run(main())
