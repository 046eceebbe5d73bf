"""One of our connections over a real TCP connection, with a test as its peer.

Only such a connection shows the buffers of the kernel, and the writes of the compiled twin to a socket. It works on any
event loop. May know: the public asyncio API, the format of an opening handshake on the wire.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import select
import socket
import ssl
from collections.abc import AsyncIterator
from typing import Any

from websockets.asyncio.client import connect
from websockets.asyncio.connection import Connection
from websockets.asyncio.server import ServerConnection, serve
from websockets.protocol import Side

from . import wire
from .wire import Row

__all__ = ["SocketPeer", "anonymous_tls", "socket_end"]

# Seconds for which a peer waits for bytes: more than a healthy run needs.
PATIENCE = 30

# Seconds in which the kernel carries bytes from one end to the other, however busy the machine is.
MOMENT = 5


class SocketPeer:
    """The other end of one of our connections. It reads only when it is asked to.

    Parameters:
        sock: its socket.
        masks: whether what it sends is masked: it is a client.
        tls: TLS on top of the socket; None for none.
    """

    def __init__(self, sock: socket.socket, masks: bool, tls: tuple[ssl.SSLContext, bool] | None = None) -> None:
        sock.setblocking(False)
        self.sock = sock
        self.mask = masks
        self.unread = b""
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = None if tls is None else tls[0].wrap_bio(self._incoming, self._outgoing, server_side=tls[1])

    async def send(self, data: bytes) -> None:
        """Send bytes; wait while the buffers are full."""
        if self._tls is not None:
            self._tls.write(data)
            data = self._outgoing.read()
        await asyncio.get_running_loop().sock_sendall(self.sock, data)

    async def frame(self, opcode: int, payload: bytes = b"", **options: Any) -> None:
        """Send a frame; see :func:`wire.frame`."""
        await self.send(wire.frame(opcode, payload, mask=self.mask, **options))

    async def texts(self, *texts: str) -> None:
        """Send text messages, all in one write."""
        await self.send(b"".join(wire.text(text, mask=self.mask) for text in texts))

    async def read(self) -> bytes:
        """Wait for some more bytes; nothing at the end of the stream."""
        async with asyncio.timeout(PATIENCE):
            if self._tls is None:
                return await self._read_socket()
            while True:
                try:
                    return self._tls.read(2**18)
                except ssl.SSLWantReadError:
                    await self._exchange()

    async def read_until(self, separator: bytes = b"\r\n\r\n") -> bytes:
        """Wait for ``separator`` and return all up to its end; by default, the head of an HTTP message."""
        while separator not in self.unread:
            await self._more()
        end = self.unread.index(separator) + len(separator)
        data, self.unread = self.unread[:end], self.unread[end:]
        return data

    async def next(self) -> Row:
        """The next frame that our end sent."""
        while (found := wire.parse_one(self.unread)) is None:
            await self._more()
        row, self.unread = found
        return row

    async def read_frames(self, count: int) -> list[tuple[int, bytes]]:
        """The next frames: opcode and payload of each."""
        rows = [await self.next() for _ in range(count)]
        return [(row.opcode, row.payload) for row in rows]

    async def expect(self, *frames: tuple[int, bytes]) -> None:
        """The next frames must be these: opcode and payload of each."""
        for number, frame in enumerate(frames):
            row = await self.next()
            assert (number, row.opcode, len(row.payload)) == (number, frame[0], len(frame[1]))
            assert row.payload == frame[1]
            assert row.fin

    def take(self, count: int) -> list[tuple[int, bytes]]:
        """The next frames, opcode and payload of each, without a turn of the loop; not for TLS.

        What our end wrote until now may take the kernel a moment, and what it didn't write never comes.
        """
        frames: list[tuple[int, bytes]] = []
        while len(frames) < count:
            found = wire.parse_one(self.unread)
            if found is not None:
                frames.append((found[0].opcode, found[0].payload))
                self.unread = found[1]
            elif select.select([self.sock], [], [], MOMENT)[0]:
                self.unread += self.sock.recv(2**18)
            else:
                break
        return frames

    async def _more(self) -> None:
        data = await self.read()
        if not data:
            raise EOFError(f"the stream ended after {len(self.unread)} bytes of what was awaited")
        self.unread += data

    async def _read_socket(self) -> bytes:
        return await asyncio.get_running_loop().sock_recv(self.sock, 2**18)

    async def _exchange(self) -> None:
        """Carry records between TLS and the socket."""
        if data := self._outgoing.read():
            await asyncio.get_running_loop().sock_sendall(self.sock, data)
        elif data := await self._read_socket():
            self._incoming.write(data)
        else:
            self._incoming.write_eof()

    async def shake_hands(self) -> None:
        """Do the handshake of TLS, if there is TLS."""
        while self._tls is not None:
            try:
                self._tls.do_handshake()
            except ssl.SSLWantReadError:
                await self._exchange()
            else:
                break
        if data := self._outgoing.read():
            await asyncio.get_running_loop().sock_sendall(self.sock, data)


def anonymous_tls() -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """Contexts of a server without a certificate, and of a client that needs none."""
    server, client = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    client.check_hostname, client.verify_mode = False, ssl.CERT_NONE
    for context in server, client:
        context.set_ciphers("aNULL:@SECLEVEL=0")
        context.maximum_version = ssl.TLSVersion.TLSv1_2
    return server, client


@contextlib.asynccontextmanager
async def socket_end(
    side: Side, *, tls: bool = False, room: int | None = None, **options: Any
) -> AsyncIterator[tuple[Connection, SocketPeer]]:
    """One of our connections, open, and its peer. In the end both are broken off.

    Parameters:
        side: which end is ours.
        tls: whether there is TLS in between.
        room: bytes for each of the kernel's buffers on the way to the peer, which rounds them up; None for as much as
            it likes.
        options: for ``serve`` or ``connect``; no compression, no keepalive, and no limit for messages, unless asked
            for.
    """
    options = {"compression": None, "max_size": None, "close_timeout": 60, "ping_interval": None, **options}
    opener = _open_server if side is Side.SERVER else _open_client
    async with opener(tls, room, options) as (connection, peer):
        try:
            yield connection, peer
        finally:
            connection.abort()
            peer.sock.close()
            await connection.wait_closed()


def _limit(sock: socket.socket, option: int, room: int | None) -> None:
    if room is not None:
        sock.setsockopt(socket.SOL_SOCKET, option, room)


@contextlib.asynccontextmanager
async def _open_server(
    tls: bool, room: int | None, options: dict[str, Any]
) -> AsyncIterator[tuple[Connection, SocketPeer]]:
    opened: asyncio.Future[ServerConnection] = asyncio.get_running_loop().create_future()

    async def handler(connection: ServerConnection) -> None:
        opened.set_result(connection)
        await connection.wait_closed()

    context, trusting = anonymous_tls() if tls else (None, None)
    listening = socket.create_server(("127.0.0.1", 0))
    # What is accepted inherits it.
    _limit(listening, socket.SO_SNDBUF, room)
    async with serve(handler, sock=listening, ssl=context, **options):
        theirs = socket.socket()
        _limit(theirs, socket.SO_RCVBUF, room)
        theirs.connect(listening.getsockname())
        peer = SocketPeer(theirs, True, None if trusting is None else (trusting, False))
        await peer.shake_hands()
        await peer.send(wire.request())
        await peer.read_until()
        yield await opened, peer


@contextlib.asynccontextmanager
async def _open_client(
    tls: bool, room: int | None, options: dict[str, Any]
) -> AsyncIterator[tuple[Connection, SocketPeer]]:
    context, trusting = anonymous_tls() if tls else (None, None)
    with socket.create_server(("127.0.0.1", 0)) as listening:
        _limit(listening, socket.SO_RCVBUF, room)
        ours = socket.socket()
        _limit(ours, socket.SO_SNDBUF, room)
        ours.connect(listening.getsockname())
        theirs, _ = listening.accept()
    ours.setblocking(False)
    uri = "ws://localhost/" if trusting is None else "wss://localhost/"
    opening = asyncio.ensure_future(connect(uri, sock=ours, ssl=trusting, proxy=None, **options).connect())
    peer = SocketPeer(theirs, False, None if context is None else (context, True))
    await peer.shake_hands()
    found = re.search(rb"Sec-WebSocket-Key: (\S+)", await peer.read_until())
    assert found is not None
    await peer.send(wire.response(key=found[1].decode()))
    yield await opening, peer
