"""Requests to one of our servers on a virtual loop, and its responses, in HTTP.

May know: the network of a virtual loop, the public asyncio API of a server, the format of a response on the wire.
"""

from __future__ import annotations

import asyncio
from typing import Any, NamedTuple

from .clock import VirtualLoop
from .peer import RawPeer

__all__ = ["Answered", "answered", "ask", "port_of", "reach", "uri_of"]


class Answered(NamedTuple):
    """A response that ended its connection, or opened it.

    Attributes:
        status: Code and phrase.
        headers: Values by name.
        body: Everything after the head.
    """

    status: str
    headers: dict[str, list[str]]
    body: bytes


def port_of(server: Any) -> int:
    """The port on which a server listens."""
    port: int = next(iter(server.sockets)).getsockname()[1]
    return port


def uri_of(server: Any, path: str = "/", user_info: str = "") -> str:
    """The URI of a path on a server."""
    return f"ws://{user_info}localhost:{port_of(server)}{path}"


async def reach(server: Any) -> RawPeer:
    """A client that has not said anything."""
    loop = asyncio.get_running_loop()
    assert isinstance(loop, VirtualLoop)
    return await loop.network.connect("localhost", port_of(server))


async def ask(server: Any, data: bytes) -> Answered:
    """Send bytes, and read what a server answers before it ends the connection."""
    peer = await reach(server)
    await peer.send(data)
    answer = await peer.read_until_eof()
    peer.close()
    return answered(answer)


def answered(answer: bytes) -> Answered:
    """Take a response apart."""
    head, _, body = answer.partition(b"\r\n\r\n")
    status, *lines = head.decode("latin-1").split("\r\n")
    headers: dict[str, list[str]] = {}
    for line in lines:
        name, value = line.split(": ", 1)
        headers.setdefault(name, []).append(value)
    return Answered(status.removeprefix("HTTP/1.1 "), headers, body)
