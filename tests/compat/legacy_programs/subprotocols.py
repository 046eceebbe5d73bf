"""What both sides agree on: subprotocols, origins, extensions, and headers that they add."""

from __future__ import annotations

import asyncio

from websockets.client import connect
from websockets.exceptions import InvalidStatusCode
from websockets.extensions.permessage_deflate import ClientPerMessageDeflateFactory, ServerPerMessageDeflateFactory
from websockets.server import WebSocketServerProtocol, serve


class Picky(WebSocketServerProtocol):
    def select_subprotocol(self, client_subprotocols, server_subprotocols):
        if "x-debug" in client_subprotocols:
            return "x-debug"
        return super().select_subprotocol(client_subprotocols, server_subprotocols)


def extra_headers(path, request_headers):
    return [("X-Path", path), ("X-Agent", request_headers["User-Agent"])]


async def handler(websocket, path):
    deflate = [str(extension).split("(")[0] for extension in websocket.extensions]
    await websocket.send(f"{path} {websocket.subprotocol} {deflate} {websocket.request_headers['Host'][:9]}")


async def main():
    options = {
        "subprotocols": ["wamp", "soap"],
        "origins": ["http://example.com", None],
        "extra_headers": extra_headers,
        "extensions": [ServerPerMessageDeflateFactory(server_max_window_bits=11)],
        "compression": None,
        "server_header": None,
    }
    async with serve(handler, "127.0.0.1", 0, create_protocol=Picky, **options) as server:
        port = server.sockets[0].getsockname()[1]
        for subprotocols in (["wamp", "soap"], ["soap"], ["other"], None, ["soap", "x-debug"]):
            async with connect(
                f"ws://127.0.0.1:{port}/chat",
                subprotocols=subprotocols,
                user_agent_header="tests",
                extensions=[ClientPerMessageDeflateFactory()] if subprotocols else None,
                compression=None,
            ) as websocket:
                print(await websocket.recv())
                headers = websocket.response_headers
                print(websocket.subprotocol, headers["X-Path"], headers["X-Agent"], headers.get("Server"))
        for origin in ("http://example.com", "http://example.org"):
            try:
                async with connect(f"ws://127.0.0.1:{port}/origin", origin=origin) as websocket:
                    print(await websocket.recv())
            except InvalidStatusCode as exc:
                print(exc)


asyncio.run(main())
