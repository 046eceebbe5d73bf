"""A scripted endpoint that sends and receives raw bytes: the peer in tests of a server or a client.

It uses a link in memory directly, without a protocol or a transport, so a test sees the bytes and the end of the stream
as they arrive. May know: the link of :mod:`websockets.testing`, :mod:`.wire` to read frames, and nothing else of the
library.
"""

from __future__ import annotations

import asyncio
from typing import Literal

from websockets.testing import Link
from websockets.testing._link import MemorySocket

from .wire import Row, parse_one

__all__ = ["RawPeer"]


class RawPeer:
    """One end of a link, in the hands of a test.

    It reads all the time, so a program that sends to it never waits, until :meth:`stop_reading`. Reading methods
    consume :attr:`unread` from the front; :attr:`received` keeps everything.

    Parameters:
        sock: the end of the link.

    Attributes:
        sock: the same.
        link: the link, for its faults.
        ended: how the incoming stream ended: ``"eof"``, ``"reset"``, or None while it goes on.
    """

    def __init__(self, sock: MemorySocket) -> None:
        self.sock = sock
        self.link: Link = sock.link
        self.ended: Literal["eof", "reset"] | None = None
        self._received = bytearray()
        self._consumed = 0
        self._waiters: list[asyncio.Future[None]] = []
        sock.add_reader(self._read)

    # What came so far.

    @property
    def received(self) -> bytes:
        """All bytes received so far."""
        return bytes(self._received)

    @property
    def unread(self) -> bytes:
        """The bytes received and not yet returned by a reading method."""
        return bytes(self._received[self._consumed :])

    # Reading.

    async def read_exactly(self, count: int) -> bytes:
        """Wait for ``count`` bytes and return them.

        Raises:
            asyncio.IncompleteReadError: the stream ended first.
            ConnectionResetError: the connection was reset first.
        """
        while len(self.unread) < count:
            await self._more(count)
        return self._consume(count)

    async def read_until(self, separator: bytes = b"\r\n\r\n") -> bytes:
        """Wait for ``separator`` and return all up to its end; by default, the head of an HTTP message.

        Raises:
            asyncio.IncompleteReadError: the stream ended first.
            ConnectionResetError: the connection was reset first.
        """
        while separator not in self.unread:
            await self._more()
        return self._consume(self.unread.index(separator) + len(separator))

    async def read_frame(self) -> Row:
        """Wait for a frame and return it.

        Raises:
            asyncio.IncompleteReadError: the stream ended first.
            ConnectionResetError: the connection was reset first.
            ValueError: the frame is not legal.
        """
        while (found := parse_one(self.unread)) is None:
            await self._more()
        row, rest = found
        self._consume(len(self.unread) - len(rest))
        return row

    async def read_until_eof(self) -> bytes:
        """Wait for the end of the stream and return what came before it.

        Raises:
            ConnectionResetError: the connection was reset instead.
        """
        while self.ended is None:
            await self._news()
        if self.ended == "reset":
            raise ConnectionResetError("Connection reset by peer")
        return self._consume(len(self.unread))

    def stop_reading(self) -> None:
        """Read no more: buffers fill up, and the other side has to wait. Ends and resets are not seen either."""
        self.sock.remove_reader()

    def resume_reading(self) -> None:
        """Undo :meth:`stop_reading`."""
        if self.ended is None and not self.sock.closed:
            self.sock.add_reader(self._read)

    # Writing and ending.

    async def send(self, data: bytes) -> None:
        """Send bytes; wait while the buffers are full.

        Raises:
            OSError: the other side is gone.
        """
        view = memoryview(data)
        while view:
            try:
                view = view[self.sock.send(view) :]
            except BlockingIOError:
                await self._writable()

    def eof(self) -> None:
        """Send the end of the stream and go on reading.

        Raises:
            OSError: the connection was reset.
        """
        self.sock.shutdown()

    def close(self) -> None:
        """Close: an end of stream for the other side, or a reset if bytes were left in the kernel's buffer."""
        self.sock.close()

    def reset(self) -> None:
        """Close with a reset."""
        self.sock.reset()

    # The rest is ours.

    def _read(self) -> None:
        try:
            data = self.sock.recv(256 * 1024)
        except BlockingIOError:
            return
        except ConnectionResetError:
            self._end("reset")
            return
        self._received += data
        if not data:
            self._end("eof")
        self._wake()

    def _end(self, how: Literal["eof", "reset"]) -> None:
        self.ended = how
        self.sock.remove_reader()
        self._wake()

    def _wake(self) -> None:
        waiters, self._waiters = self._waiters, []
        for waiter in waiters:
            if not waiter.done():
                waiter.set_result(None)

    async def _news(self) -> None:
        """Wait until something arrives."""
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiters.append(waiter)
        await waiter

    async def _more(self, expected: int | None = None) -> None:
        """Wait until something arrives, for a reader that has not enough."""
        if self.ended == "reset":
            raise ConnectionResetError("Connection reset by peer")
        if self.ended == "eof":
            raise asyncio.IncompleteReadError(self.unread, expected)
        await self._news()

    def _consume(self, count: int) -> bytes:
        data = self.unread[:count]
        self._consumed += count
        return data

    async def _writable(self) -> None:
        """Wait until the buffers have room or the connection is gone."""
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiters.append(waiter)
        self.sock.add_writer(self._wake)
        try:
            await waiter
        finally:
            self.sock.remove_writer()
