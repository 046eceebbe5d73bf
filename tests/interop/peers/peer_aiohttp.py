"""Peer for ``aiohttp``.

Charter: adapts aiohttp's client and server to the contract.
"""

# pyright: reportMissingImports=false
# The peers are installed where they run, not where types are checked.

from __future__ import annotations

from typing import Any

import aiohttp
from aiohttp import web
from contract import Closed, Handler, Link, main


class AiohttpLink:
    """A connection of aiohttp; its client and server connections have the same methods.

    Pings are left to us (``autoping=False``), because aiohttp hides the pongs that it receives otherwise.
    """

    def __init__(self, websocket: Any) -> None:
        self.websocket = websocket
        self.session: aiohttp.ClientSession | None = None

    @property
    def deflate(self) -> bool:
        return bool(self.websocket.compress)

    async def send(self, message: str | bytes) -> None:
        if isinstance(message, str):
            await self.websocket.send_str(message)
        else:
            await self.websocket.send_bytes(message)

    async def next_frame(self) -> Any:
        frame = await self.websocket.receive()
        while frame.type is aiohttp.WSMsgType.PING:
            await self.websocket.pong(frame.data)
            frame = await self.websocket.receive()
        return frame

    async def receive(self) -> str | bytes:
        frame = await self.next_frame()
        if frame.type is aiohttp.WSMsgType.CLOSE:
            await self.leave()
            raise Closed(frame.data, frame.extra)
        if frame.type not in (aiohttp.WSMsgType.TEXT, aiohttp.WSMsgType.BINARY):
            raise ValueError(f"unexpected {frame!r}")
        data: str | bytes = frame.data
        return data

    async def ping(self, payload: bytes) -> None:
        await self.websocket.ping(payload)
        frame = await self.next_frame()
        if frame.type is not aiohttp.WSMsgType.PONG or bytes(frame.data) != payload:
            raise ValueError(f"{frame!r} does not answer the ping")

    async def close(self, code: int, reason: str) -> int | None:
        await self.websocket.close(code=code, message=reason.encode())
        await self.leave()
        close_code: int | None = self.websocket.close_code
        return close_code

    async def leave(self) -> None:
        if self.session is not None:
            await self.session.close()


async def connect(uri: str, deflate: bool) -> Link:
    """Open a connection in a session of its own."""
    session = aiohttp.ClientSession()
    link = AiohttpLink(await session.ws_connect(uri, compress=15 if deflate else 0, autoping=False))
    link.session = session
    return link


async def serve(handle: Handler) -> int:
    """Start a server on a free port and return the port."""

    async def handler(request: web.Request) -> web.WebSocketResponse:
        websocket = web.WebSocketResponse(autoping=False)
        await websocket.prepare(request)
        await handle(AiohttpLink(websocket), request.path_qs)
        return websocket

    application = web.Application()
    application.router.add_get("/{tail:.*}", handler)
    runner = web.AppRunner(application)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    port: int = runner.addresses[0][1]
    return port


if __name__ == "__main__":
    main(f"aiohttp {aiohttp.__version__}", connect, serve)
