"""Shared by scenarios of servers: scripted clients that connect, send requests and leave; hooks of both kinds.

May know: the adapter, HTTP and frames on the wire. Must not know: any front-end.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Callable
from http import HTTPStatus
from typing import Any

import pytest

from _kit import request, wire
from _kit.asking import Answered, answered
from _kit.logs import lines

from ._world import Peer, Server, World

__all__ = [
    "BROKEN",
    "GOING_AWAY",
    "LOGGER",
    "REFUSED",
    "ask",
    "both_kinds",
    "echo",
    "enter",
    "knock",
    "leave",
    "messages",
    "messages_of_connections",
    "nothing",
    "recv_all",
    "says_closing",
    "serving",
    "uri",
]

GOING_AWAY = (1001).to_bytes(2, "big")

LOGGER = "websockets.server"

# The body of an answer to a client when the server is to blame.
BROKEN = b"Failed to open a WebSocket connection.\nSee server log for more information.\n"


# Requests that a server refuses, and with which status.
REFUSED = [
    (request(headers={"Upgrade": None}), "426 Upgrade Required"),
    (request(headers={"Host": None}), "400 Bad Request"),
    (request(headers={"Sec-WebSocket-Version": "8"}), "426 Upgrade Required"),
    (request(method="POST"), "405 Method Not Allowed"),
    (request(http="HTTP/1.0"), "505 HTTP Version Not Supported"),
    (request(headers={"Origin": "http://evil"}), "403 Forbidden"),
    (request("/" + "a" * 8192), f"414 {HTTPStatus(414).phrase}"),
    (request(raw=b"a: b\r\n" * 200), "431 Request Header Fields Too Large"),
    (request(headers={"Content-Length": "5"}, body=b"hello"), "400 Bad Request"),
    (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", "400 Bad Request"),
    (b"\r\n\r\n", "400 Bad Request"),
]


# What the log says.


def messages(caplog: pytest.LogCaptureFixture, *levels: str) -> list[str]:
    """The lines of a log, or those of some levels."""
    return lines(caplog.records, *levels)


def messages_of_connections(caplog: pytest.LogCaptureFixture, *levels: str) -> list[str]:
    """The same without the lines of the server itself."""
    return [line for line in messages(caplog, *levels) if not line.startswith("server ")]


# Handlers.


async def echo(connection: Any) -> None:
    """Send every message back."""
    async for message in connection:
        await connection.send(message)


async def nothing(connection: Any) -> None:
    """Return at once."""


async def recv_all(connection: Any) -> None:
    """Receive until the end."""
    async for _ in connection:
        pass


def both_kinds(function: Callable[..., Any]) -> list[Callable[[World], Callable[..., Any]]]:
    """The same hook as a function, and as a coroutine function that waits for a second; each made for a world."""

    def at_once(world: World) -> Callable[..., Any]:
        return function

    def after_a_while(world: World) -> Callable[..., Any]:
        async def coroutine(*arguments: Any) -> Any:
            await world.sleep(1)
            return function(*arguments)

        return coroutine

    return [at_once, after_a_while]


# Servers.


@contextlib.asynccontextmanager
async def serving(world: World, handler: Callable[..., Any] = echo, **options: Any) -> AsyncIterator[Server]:
    """A server that does not compress, unless it is told to."""
    async with world.serve(handler, **{"compression": None, **options}) as server:
        yield server


# Clients.


def uri(world: World, server: Any, path: str = "/") -> str:
    """The URI of a path on a server."""
    return world.uri(server, path)


async def knock(world: World, server: Any, data: bytes = b"") -> Peer:
    """A client that sent something, which has arrived."""
    peer = await world.reach(server)
    await peer.write(data)
    await world.settle()
    return peer


async def enter(world: World, server: Any, data: bytes | None = None) -> Peer:
    """A client that was let in, and read the head of the answer."""
    peer = await world.reach(server)
    await peer.write(request() if data is None else data)
    assert (await peer.read_until()).startswith(b"HTTP/1.1 101 ")
    return peer


async def ask(world: World, server: Any, data: bytes) -> Answered:
    """What a server answers before it ends the connection."""
    peer = await world.reach(server)
    await peer.write(data)
    answer = await peer.read_until_eof()
    peer.hang_up()
    return answered(answer)


def says_closing(answer: bytes) -> bool:
    """Whether an answer is the one of a server that shuts down."""
    head, _, body = answer.partition(b"\r\n\r\n")
    return (
        head.startswith(b"HTTP/1.1 503 Service Unavailable\r\n")
        and b"\r\nConnection: close\r\n" in head
        and body == b"Server is shutting down.\n"
    )


async def leave(peer: Peer, code: int = 1000) -> None:
    """Close as a client should."""
    await peer.write(wire.close(code, mask=True))
    await peer.read_until_eof()
    peer.hang_up()
