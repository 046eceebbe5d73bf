"""One of our connections on a virtual loop, with a test as its peer, byte by byte.

May know: the public asyncio API, the format of an opening handshake on the wire.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import AsyncIterator
from typing import Any, Literal

from websockets.asyncio.client import connect
from websockets.asyncio.connection import Connection
from websockets.asyncio.server import ServerConnection, serve
from websockets.protocol import Side

from . import wire
from .asking import port_of
from .clock import VirtualLoop
from .peer import RawPeer
from .wire import Row

__all__ = ["FramePeer", "open_end"]


class FramePeer:
    """The other end of one of our connections, speaking frames that the naive wire format builds.

    Parameters:
        raw: its bytes.
        masks: whether what it sends is masked: it is a client.
    """

    def __init__(self, raw: RawPeer, masks: bool) -> None:
        self.raw = raw
        self.link = raw.link
        self.mask = masks

    async def send(self, opcode: int, payload: bytes = b"", **options: Any) -> None:
        """Send a frame; see :func:`wire.frame`."""
        await self.raw.send(wire.frame(opcode, payload, mask=self.mask, **options))

    async def text(self, payload: str | bytes, **options: Any) -> None:
        """Send a text frame."""
        await self.send(wire.TEXT, payload.encode() if isinstance(payload, str) else payload, **options)

    async def close(self, code: int = 1000, reason: str = "") -> None:
        """Send a Close frame."""
        await self.raw.send(wire.close(code, reason, mask=self.mask))

    async def write(self, data: bytes) -> None:
        """Send bytes as they are."""
        await self.raw.send(data)

    async def frame(self) -> Row:
        """The next frame that our end sent."""
        return await self.raw.read_frame()

    async def read_until(self, separator: bytes = b"\r\n\r\n") -> bytes:
        """The next bytes up to the end of ``separator``; by default, the head of an HTTP message."""
        return await self.raw.read_until(separator)

    async def read_until_eof(self) -> bytes:
        """All bytes up to the end of the stream."""
        return await self.raw.read_until_eof()

    @property
    def received(self) -> bytes:
        """All bytes received so far."""
        return self.raw.received

    @property
    def unread(self) -> bytes:
        """The bytes received and not yet returned by a reading method."""
        return self.raw.unread

    @property
    def ended(self) -> Literal["eof", "reset"] | None:
        """How the stream of our end ended: None while it goes on."""
        return self.raw.ended

    @property
    def let_go(self) -> bool:
        """Whether our end closed its socket."""
        return (self.link.server if self.mask else self.link.client).closed

    @property
    def address(self) -> Any:
        """The address of its own socket."""
        return self.raw.sock.getsockname()

    def stop_reading(self) -> None:
        """Read no more: buffers fill up, and our end has to wait."""
        self.raw.stop_reading()

    def resume_reading(self) -> None:
        """Undo :meth:`stop_reading`."""
        self.raw.resume_reading()

    def eof(self) -> None:
        """End the stream, and go on reading."""
        self.raw.eof()

    def hang_up(self) -> None:
        """Close the socket."""
        self.raw.close()

    def reset(self) -> None:
        """Close the socket with a reset."""
        self.raw.reset()

    async def pause(self, seconds: float) -> None:
        """Do nothing for a while."""
        await asyncio.sleep(seconds)

    def delay(self, seconds: float) -> None:
        """Have everything take this long from now on, both ways."""
        self.link.slow(seconds)

    def vanish(self) -> None:
        """Lose everything from now on, both ways, without a word."""
        self.link.drop()

    async def expect(self, opcode: int, payload: bytes) -> None:
        """The next frame must be this one."""
        row = await self.frame()
        assert (row.opcode, row.payload, row.fin) == (opcode, payload, True)

    async def expect_close(self, code: int, reason: str = "") -> None:
        """The next frame must be this Close."""
        await self.expect(wire.CLOSE, code.to_bytes(2, "big") + reason.encode())

    async def finish(self, code: int = 1000) -> None:
        """Answer a Close, and end the TCP connection in the order that is right for this end."""
        await self.close(code)
        if self.mask:
            await self.raw.read_until_eof()
        self.raw.close()


@contextlib.asynccontextmanager
async def open_end(side: Side, **options: Any) -> AsyncIterator[tuple[Connection, FramePeer]]:
    """One of our connections, open, and its peer. In the end the peer breaks what is still there.

    Parameters:
        side: which end is ours.
        options: for ``serve`` or ``connect``; no compression unless asked for.
    """
    options = {"compression": None, **options}
    opener = _open_server if side is Side.SERVER else _open_client
    async with opener(options) as (connection, peer):
        try:
            yield connection, peer
        finally:
            peer.raw.reset()


@contextlib.asynccontextmanager
async def _open_server(options: dict[str, Any]) -> AsyncIterator[tuple[Connection, FramePeer]]:
    loop = asyncio.get_running_loop()
    assert isinstance(loop, VirtualLoop)
    opened: asyncio.Future[ServerConnection] = loop.create_future()

    async def handler(connection: ServerConnection) -> None:
        opened.set_result(connection)
        await connection.wait_closed()

    async with serve(handler, "localhost", 0, **options) as server:
        raw = await loop.network.connect("localhost", port_of(server))
        await raw.send(wire.request())
        await raw.read_until()
        yield await opened, FramePeer(raw, masks=True)
        raw.reset()


@contextlib.asynccontextmanager
async def _open_client(options: dict[str, Any]) -> AsyncIterator[tuple[Connection, FramePeer]]:
    loop = asyncio.get_running_loop()
    assert isinstance(loop, VirtualLoop)
    listener = loop.network.listen()
    opening = asyncio.ensure_future(connect(f"ws://localhost:{listener.port}/", **options).connect())
    raw = await listener.peer()
    head = await raw.read_until()
    found = re.search(rb"Sec-WebSocket-Key: (\S+)", head)
    assert found is not None
    await raw.send(wire.response(key=found[1].decode()))
    connection = await opening
    listener.close()
    yield connection, FramePeer(raw, masks=False)
    raw.reset()
    await connection.wait_closed()
