"""Shared by scenarios of servers: scripted clients that connect, send requests and leave; hooks of both kinds.

May know: the adapter, HTTP and frames on the wire. Must not know: any front-end.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from _kit import request, wire
from _kit.asking import Answered, answered

from ._world import Peer, World

__all__ = ["GOING_AWAY", "ask", "both_kinds", "echo", "enter", "knock", "leave", "nothing", "recv_all", "uri"]

GOING_AWAY = (1001).to_bytes(2, "big")


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


async def leave(peer: Peer, code: int = 1000) -> None:
    """Close as a client should."""
    await peer.write(wire.close(code, mask=True))
    await peer.read_until_eof()
    peer.hang_up()
