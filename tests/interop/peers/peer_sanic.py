"""Peer for ``sanic``, whose WebSocket implementation stands on our protocol without I/O.

Charter: adapts a handler of Sanic to the contract, on the same event loop. Only a server.
"""

# pyright: reportMissingImports=false
# The peers are installed where they run, not where types are checked.

from __future__ import annotations

import asyncio
import contextlib
import socket
import sys
from importlib.metadata import version
from typing import Any

from contract import Closed, Handler, run_server
from sanic import Sanic
from sanic.exceptions import WebsocketClosed

from websockets.version import version as ours

CLOSE_TIMEOUT = 10


class SanicLink:
    """A connection as a handler of Sanic sees it."""

    deflate = False  # Sanic has no compression

    def __init__(self, websocket: Any) -> None:
        self.websocket = websocket

    async def send(self, message: str | bytes) -> None:
        await self.websocket.send(message)

    async def receive(self) -> str | bytes:
        try:
            message: str | bytes = await self.websocket.recv()
        except (asyncio.CancelledError, WebsocketClosed):
            # Sanic cancels whoever waits when the client closes.
            close = self.websocket.ws_proto.close_rcvd
            if close is None:
                raise
            raise Closed(close.code, close.reason) from None
        return message

    async def ping(self, payload: bytes) -> None:
        await (await self.websocket.ping(payload))

    async def close(self, code: int, reason: str) -> int | None:
        await self.websocket.close(code, reason)
        # Sanic doesn't wait for the answer, and cancels the handler when the connection is over.
        with contextlib.suppress(asyncio.CancelledError):
            await self.websocket.wait_for_connection_lost(CLOSE_TIMEOUT)
        # Whether the end of the stream was seen too is a race that Sanic doesn't wait for.
        close = self.websocket.ws_proto.close_rcvd
        return None if close is None else int(close.code)


async def serve(handle: Handler) -> int:
    """Start a server on a free port and return the port."""
    application = Sanic("peer", configure_logging=False)

    async def handler(request: Any, websocket: Any, path: str) -> None:
        await handle(SanicLink(websocket), f"/{path}?{request.query_string}")

    application.add_websocket_route(handler, "/<path:path>")
    listening = socket.create_server(("127.0.0.1", 0))
    server = await application.create_server(sock=listening, return_asyncio_server=True)
    assert server is not None
    await server.startup()
    await server.start_serving()
    port: int = listening.getsockname()[1]
    return port


if __name__ == "__main__":
    if sys.argv[1:] != ["server"]:
        sys.exit(f"usage: {sys.argv[0]} server")
    asyncio.run(run_server(f"sanic {version('sanic')} on websockets {ours}", serve))
