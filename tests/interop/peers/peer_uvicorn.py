"""Peer for ``uvicorn``, whose WebSocket implementations stand on our protocol without I/O, or on our legacy API.

Charter: adapts an ASGI application to the contract, on the same event loop. Only a server.
"""

# pyright: reportMissingImports=false
# The peers are installed where they run, not where types are checked.

from __future__ import annotations

import argparse
import asyncio
import functools
import socket
from importlib.metadata import version
from typing import Any

import uvicorn
from contract import Closed, Handler, run_server

from websockets.version import version as ours


class AsgiLink:
    """A connection as an ASGI application sees it."""

    deflate = False  # ASGI doesn't tell

    def __init__(self, receive: Any, send: Any) -> None:
        self.receive_event = receive
        self.send_event = send

    async def send(self, message: str | bytes) -> None:
        kind = "text" if isinstance(message, str) else "bytes"
        await self.send_event({"type": "websocket.send", kind: message})

    async def receive(self) -> str | bytes:
        event = await self.receive_event()
        if event["type"] == "websocket.disconnect":
            raise Closed(event["code"], event.get("reason") or "")
        message: str | bytes = event["text"] if event.get("text") is not None else event["bytes"]
        return message

    async def ping(self, payload: bytes) -> None:
        raise NotImplementedError("ASGI has no pings")

    async def close(self, code: int, reason: str) -> int | None:
        await self.send_event({"type": "websocket.close", "code": code, "reason": reason})
        # What the client answers, ASGI doesn't tell.
        return None


async def serve(handle: Handler, implementation: Any) -> int:
    """Start a server on a free port and return the port."""

    async def application(scope: Any, receive: Any, send: Any) -> None:
        assert scope["type"] == "websocket"
        await receive()
        await send({"type": "websocket.accept"})
        query = scope["query_string"].decode()
        await handle(AsgiLink(receive, send), f"{scope['path']}?{query}")

    listening = socket.create_server(("127.0.0.1", 0))
    config = uvicorn.Config(application, ws=implementation, lifespan="off", log_level="warning")
    server = uvicorn.Server(config)
    serving = asyncio.create_task(server.serve(sockets=[listening]))
    while not server.started:
        await asyncio.wait([serving], timeout=0.01)
    port: int = listening.getsockname()[1]
    return port


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Serve with uvicorn.")
    parser.add_argument("role", choices=["server"])
    parser.add_argument("--ws", choices=["websockets", "websockets-sansio"], default="websockets-sansio")
    arguments = parser.parse_args()
    library = f"uvicorn {version('uvicorn')} on websockets {ours}"
    asyncio.run(run_server(library, functools.partial(serve, implementation=arguments.ws)))
