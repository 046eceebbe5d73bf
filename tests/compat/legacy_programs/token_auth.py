"""A token in the URI, checked by a class that was derived from the protocol."""

from __future__ import annotations

import asyncio
import http
import urllib.parse

import websockets
from websockets.client import connect

TOKENS = {"12ab": "ann", "34cd": "bob"}


class QueryParamProtocol(websockets.WebSocketServerProtocol):
    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.user = None

    async def process_request(self, path, headers):
        query = urllib.parse.parse_qs(urllib.parse.urlparse(path).query)
        token = query.get("token", [None])[0]
        if token is None:
            return http.HTTPStatus.UNAUTHORIZED, [], b"Missing token\n"
        self.user = TOKENS.get(token)
        if self.user is None:
            return http.HTTPStatus.UNAUTHORIZED, [], b"Invalid token\n"
        return await super().process_request(path, headers)

    def connection_open(self):
        super().connection_open()
        print(self.user, "is in:", self.open, self.state.name)


async def handler(websocket, path):
    await websocket.send(f"Hello {websocket.user}!")
    await websocket.wait_closed()
    print(websocket.user, "left with", websocket.close_code)


async def main():
    async with websockets.serve(handler, "127.0.0.1", 0, create_protocol=QueryParamProtocol) as server:
        port = server.sockets[0].getsockname()[1]
        for query in ("?token=12ab", "?token=34cd", "?token=56ef", ""):
            try:
                async with connect(f"ws://127.0.0.1:{port}/{query}") as websocket:
                    print(await websocket.recv())
            except websockets.InvalidStatusCode as exc:
                print(exc.status_code)


asyncio.run(main())
