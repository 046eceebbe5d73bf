"""Servers and clients on trio in tests: a decorator for tests on the network in memory, a server in a block.

May know: the public trio API, the network in memory for trio. Must not know: any test.
"""

from __future__ import annotations

import contextlib
import functools
import inspect
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import trio

from websockets.trio.server import Server, ServerConnection, serve

from . import wire
from .trio_network import TrioNetwork, TrioPeer, run_on_network

__all__ = ["Codes", "answer_opening", "ask", "echo", "on_network", "opened", "port_of", "reach", "serving", "uri_of"]


# Seconds of virtual time that no test needs.
LIMIT = 100_000


def on_network(test: Callable[..., Awaitable[None]]) -> Callable[..., None]:
    """Make a test of a coroutine function whose first parameter is the network in memory."""

    @functools.wraps(test)
    def run(*args: Any, **kwargs: Any) -> None:
        async def limited(network: TrioNetwork) -> None:
            with trio.fail_after(LIMIT):
                await test(network, *args, **kwargs)

        run_on_network(limited)

    signature = inspect.signature(test)
    run.__signature__ = signature.replace(parameters=list(signature.parameters.values())[1:])  # type: ignore[attr-defined]
    return run


async def echo(websocket: ServerConnection) -> None:
    """Send back all messages."""
    async for message in websocket:
        await websocket.send(message)


class Codes:
    """A handler that sends back messages, and notes the close codes of its connections."""

    def __init__(self) -> None:
        self.seen: list[int | None] = []

    async def __call__(self, websocket: ServerConnection) -> None:
        """Handle a connection."""
        try:
            await echo(websocket)
        finally:
            with trio.CancelScope(shield=True):
                await websocket.wait_closed()
            self.seen.append(websocket.close_code)


@contextlib.asynccontextmanager
async def serving(handler: Any = echo, **options: Any) -> AsyncIterator[Server]:
    """A server at a free port, closed at the end of the block."""
    place: dict[str, Any] = {} if "listeners" in options else {"host": "localhost", "port": 0}
    async with trio.open_nursery() as nursery:
        server = await nursery.start(functools.partial(serve, handler, **place, **options))
        yield server
        await server.aclose()


def port_of(server: Server) -> int:
    """The port on which a server listens."""
    listener: Any = server.listeners[0]
    port: int = listener.socket.getsockname()[1]
    return port


def uri_of(server: Server, path: str = "/", scheme: str = "ws") -> str:
    """The URI of a path on a server."""
    return f"{scheme}://localhost:{port_of(server)}{path}"


async def reach(network: TrioNetwork, server: Server) -> TrioPeer:
    """A client that has not said anything."""
    return await network.connect("localhost", port_of(server))


async def ask(network: TrioNetwork, server: Server, data: bytes) -> str:
    """Send bytes, and read what a server answers before it ends the connection."""
    peer = await reach(network, server)
    await peer.send(data)
    answer = await peer.read_until_eof()
    peer.close()
    return answer.decode("latin-1")


async def opened(network: TrioNetwork, server: Server) -> TrioPeer:
    """A client after its opening handshake."""
    peer = await reach(network, server)
    await peer.send(wire.request())
    head = await peer.read_until()
    assert head.startswith(b"HTTP/1.1 101 ")
    return peer


async def answer_opening(peer: TrioPeer) -> str:
    """Play the server in the opening handshake; return the head of the request."""
    head = (await peer.read_until()).decode()
    key = re.search(r"Sec-WebSocket-Key: (\S+)", head)
    assert key is not None
    await peer.send(wire.response(key=key[1]))
    return head
