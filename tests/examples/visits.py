"""How tests visit a server of an example: its URIs, its pages, its messages.

All is in the network of a virtual loop: no port is real, and waiting takes no time.
"""

from __future__ import annotations

import asyncio
import json
from typing import Any, NamedTuple

from _kit import VirtualLoop
from websockets.asyncio.connection import Connection
from websockets.asyncio.server import Server

__all__ = ["Page", "fetch", "hear", "port", "tell", "uri"]


class Page(NamedTuple):
    """The answer to a request for a page."""

    status: int
    headers: dict[str, str]
    text: str


def port(server: Server) -> int:
    """The port where a server listens."""
    (listening,) = server.sockets
    number: int = listening.getsockname()[1]
    return number


def uri(server: Server, path: str) -> str:
    """The URI of a path at a server."""
    return f"ws://127.0.0.1:{port(server)}{path}"


async def fetch(server: Server, path: str, headers: dict[str, str] | None = None) -> Page:
    """Ask for a page, as a browser does."""
    loop = asyncio.get_running_loop()
    assert isinstance(loop, VirtualLoop)
    peer = await loop.network.connect("127.0.0.1", port(server))
    lines = "".join(f"{name}: {value}\r\n" for name, value in {"Host": "127.0.0.1", **(headers or {})}.items())
    await peer.send(f"GET {path} HTTP/1.1\r\n{lines}\r\n".encode())
    head, _, body = (await peer.read_until_eof()).partition(b"\r\n\r\n")
    peer.close()
    status, *fields = head.decode("latin-1").split("\r\n")
    return Page(int(status.split()[1]), dict(field.split(": ", 1) for field in fields), body.decode())


async def tell(connection: Connection, message: object) -> None:
    """Send something as JSON."""
    await connection.send(json.dumps(message))


async def hear(connection: Connection) -> Any:
    """Receive something in JSON."""
    return json.loads(await connection.recv())
