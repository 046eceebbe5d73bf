"""Peer for the core of ``picows``, which has frames and callbacks, no compression, and leaves closing to its user.

Charter: turns picows' callbacks into the coroutines of the contract.
"""

# pyright: reportMissingImports=false
# The peers are installed where they run, not where types are checked.

from __future__ import annotations

import asyncio
from collections.abc import Callable
from importlib.metadata import version
from typing import Any

import picows
from contract import Closed, Handler, Link, main

# Connections that are being served: a task without a reference may vanish.
TASKS: set[asyncio.Task[None]] = set()


class PicowsLink(picows.WSListener):  # type: ignore[misc]
    """A picows connection, whose frames wait in a queue until somebody asks for them."""

    deflate = False

    def __init__(self, served: Callable[[PicowsLink], None] | None = None) -> None:
        super().__init__()
        self.served = served
        self.frames: asyncio.Queue[tuple[Any, bytes, bool]] = asyncio.Queue()

    def on_ws_connected(self, transport: Any) -> None:
        self.transport = transport
        if self.served is not None:
            self.served(self)

    def on_ws_frame(self, transport: Any, frame: Any) -> None:
        # The frame is a view of picows' buffer: it is only valid now. Pings are answered by picows itself.
        if frame.msg_type != picows.WSMsgType.PING:
            self.frames.put_nowait((frame.msg_type, frame.get_payload_as_bytes(), frame.fin))

    async def send(self, message: str | bytes) -> None:
        if isinstance(message, str):
            self.transport.send(picows.WSMsgType.TEXT, message.encode())
        else:
            self.transport.send(picows.WSMsgType.BINARY, message)

    async def receive(self) -> str | bytes:
        kind, data, fin = await self.frames.get()
        if kind == picows.WSMsgType.CLOSE:
            self.answer_close(data)
        while not fin:
            _, more, fin = await self.frames.get()
            data += more
        return data.decode() if kind == picows.WSMsgType.TEXT else data

    def answer_close(self, data: bytes) -> None:
        code, reason = int.from_bytes(data[:2]), data[2:].decode()
        self.transport.send_close(code, data[2:])
        self.transport.disconnect()
        raise Closed(code, reason)

    async def ping(self, payload: bytes) -> None:
        self.transport.send_ping(payload)
        kind, data, _ = await self.frames.get()
        if kind != picows.WSMsgType.PONG or data != payload:
            raise ValueError(f"{kind!r} with {data!r} does not answer the ping")

    async def close(self, code: int, reason: str) -> int | None:
        self.transport.send_close(code, reason.encode())
        kind, data, _ = await self.frames.get()
        if kind != picows.WSMsgType.CLOSE:
            raise ValueError(f"received {kind!r} with {len(data)} bytes instead of a close")
        self.transport.disconnect()
        return int.from_bytes(data[:2])


async def connect(uri: str, deflate: bool) -> Link:
    """Open a connection; the core of picows has no compression to offer."""
    assert not deflate
    _, link = await picows.ws_connect(PicowsLink, uri)
    opened: PicowsLink = link
    return opened


async def serve(handle: Handler) -> int:
    """Start a server on a free port and return the port."""

    def listener(request: Any) -> PicowsLink:
        target = request.path.decode()

        def served(link: PicowsLink) -> None:
            task = asyncio.create_task(handle(link, target))
            TASKS.add(task)
            task.add_done_callback(TASKS.discard)

        return PicowsLink(served)

    server = await picows.ws_create_server(listener, "127.0.0.1", 0)
    port: int = server.sockets[0].getsockname()[1]
    return port


if __name__ == "__main__":
    main(f"picows {version('picows')}", connect, serve)
