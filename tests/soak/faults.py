"""Peers with a fault, and what must become of each: dropped in time, answered as the RFC says, and forgotten.

May know: sockets, the naive wire format, the public API on asyncio. Must not know: what is measured.

The other end is the library with short timeouts. A fault that takes longer than it may, or is answered otherwise, is
a complaint. Messages on such connections aren't counted.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import socket
import struct
import zlib
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from typing import Any, TypeVar

from _kit import wire
from soak.ledger import Ledger
from soak.meters import Heart
from websockets.asyncio.client import connect
from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed, InvalidHandshake

__all__ = ["Faulty"]

# Timeouts of our end, in seconds; the pace multiplies them.
OPEN, PING, CLOSE = 8.0, 2.5, 1.0

# Seconds after which a peer must be dropped, whatever it does or doesn't: far more than the sum of the above, as the
# machine may be busy.
PATIENCE = 30.0

_T = TypeVar("_T")

MASK = b"\x01\x02\x03\x04"
LARGE = wire.binary(bytes(60_000), mask=MASK)
PINGS = wire.ping(b"flood", mask=MASK) * 500
TINY = wire.text("x", mask=MASK) * 500
SHREDS = (
    wire.text(b"a", fin=False, mask=MASK) + wire.cont(b"", fin=False, mask=MASK) * 3000 + wire.cont(b"z", mask=MASK)
)
DEFLATE = {"Sec-WebSocket-Extensions": "permessage-deflate"}


def bomb() -> bytes:
    """A message of 20 MB, in 20 kB."""
    stream = zlib.compressobj(wbits=-15)
    return stream.compress(bytes(20_000_000)) + stream.flush(zlib.Z_SYNC_FLUSH)[:-4]


BOMB = wire.binary(bomb(), rsv=4, mask=MASK)


class Raw:
    """A TCP connection, byte by byte."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.loop = asyncio.get_running_loop()
        self.tasks: list[asyncio.Task[Any]] = []

    def meanwhile(self, reading: Coroutine[Any, Any, _T]) -> asyncio.Task[_T]:
        """Read while something else is done, at most until the socket is closed."""
        task = asyncio.ensure_future(reading)
        self.tasks.append(task)
        return task

    async def stop(self) -> None:
        """End what is still being read: a socket must not be closed meanwhile."""
        for task in self.tasks:
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)

    async def send(self, data: bytes) -> None:
        """Send, and wait while there is no room."""
        await self.loop.sock_sendall(self.sock, data)

    async def read(self) -> bytes:
        """Read something; nothing after the end, be it in order or not."""
        try:
            return await self.loop.sock_recv(self.sock, 65536)
        except ConnectionError:
            return b""

    async def read_head(self) -> bytes:
        """Read the head of a request or response, and nothing after it."""
        data = b""
        while not data.endswith(b"\r\n\r\n") and (byte := await self.loop.sock_recv(self.sock, 1)):
            data += byte
        return data

    async def read_to_end(self) -> bytes:
        """Read until the other end is done."""
        data = b""
        while piece := await self.read():
            data += piece
        return data

    async def read_rows(self) -> list[wire.Row]:
        """Read all frames but pings until the other end is done."""
        rows, _ = wire.parse(await self.read_to_end())
        return [row for row in rows if row.opcode != wire.PING]

    async def close_code(self) -> int:
        """Read until the other end is done; the code of its Close, 0 if it sent something else."""
        rows = await self.read_rows()
        only_close = [row.opcode for row in rows] == [wire.CLOSE]
        return int.from_bytes(rows[0].payload[:2], "big") if only_close else 0

    def reset(self) -> None:
        """Close with a reset."""
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.sock.close()


class Unexpected(Exception):
    """A fault that was answered in a way that it must not be."""


def expect(holds: object, what: object = "") -> None:
    """Raise if something isn't as it must be."""
    if not holds:
        raise Unexpected(what)


class Faulty:
    """A server and a client of ours with peers that have faults.

    Parameters:
        ledger: where faults are counted.
        pace: multiplies all timeouts.
        heart: tells whether a timeout may have passed because the loop stood still.
    """

    def __init__(self, ledger: Ledger, pace: float, heart: Heart) -> None:
        self.ledger = ledger
        self.heart = heart
        self.ping = PING * pace
        self.times: dict[str, Any] = {
            "open_timeout": OPEN * pace,
            "ping_interval": self.ping,
            "ping_timeout": self.ping,
            "close_timeout": CLOSE * pace,
        }
        self.chance = random.Random(2)
        self.faults: list[Callable[[], Awaitable[None]]] = [
            *(self.reset, self.half_open, self.never_reads, self.never_closes, self.silent, self.slow, self.ping_flood),
            *(self.message_flood, self.fragment_flood, self.garbage, self.too_big, self.bomb, self.no_http),
            *(self.cut_off, self.cancelled_connect, self.cancelled_recv, self.cancelled_send, self.cancelled_handler),
            *(self.server_is_silent, self.server_talks_garbage, self.server_resets, self.server_never_closes),
            self.server_is_half_open,
        ]

    async def start(self) -> None:
        """Listen: our server for peers with faults, and servers with faults for our client."""
        self.server = await serve(self.handle, "127.0.0.1", 0, **self.times)
        self.port = next(iter(self.server.sockets)).getsockname()[1]

    async def stop(self) -> None:
        """Listen no more."""
        self.server.close()
        await self.server.wait_closed()

    async def handle(self, connection: ServerConnection) -> None:
        """Echo; close when asked to."""
        self.ledger.opened()
        try:
            async for message in connection:
                if message == "close":
                    await connection.close()
                elif message == "much":
                    await connection.send(bytes(20_000_000))
                elif message == "cancel":
                    task = asyncio.current_task()
                    assert task is not None
                    task.cancel()
                    await asyncio.sleep(0)
                else:
                    await connection.send(message)
        except ConnectionClosed:
            pass
        finally:
            self.ledger.closed()

    async def commit(self, number: int) -> None:
        """Commit one fault after another, and see what comes of it."""
        fault = self.faults[number % len(self.faults)]
        name = fault.__name__
        begun = self.heart.loop.time()
        try:
            async with asyncio.timeout(PATIENCE):
                await fault()
            self.ledger.faults[name] += 1
        except Exception as exc:
            if self.heart.stalled_since(begun):
                self.ledger.excused += 1
            else:
                self.ledger.complain(f"fault {name}: {exc!r}")

    @contextlib.asynccontextmanager
    async def raw(self, head: bytes | None = None) -> AsyncIterator[Raw]:
        """A peer that did the opening handshake, or sends something else in its place."""
        sock = socket.socket()
        sock.setblocking(False)
        with sock:
            raw = Raw(sock)
            await raw.loop.sock_connect(sock, ("127.0.0.1", self.port))
            if head is None:
                await raw.send(wire.request())
                expect(b" 101 " in (answer := await raw.read_head()), answer)
            else:
                await raw.send(head)
            try:
                yield raw
            finally:
                await raw.stop()

    # ------------------------------------------------------------------------------------------- clients with a fault

    async def reset(self) -> None:
        """Resets in the middle of a conversation."""
        async with self.raw() as raw:
            await raw.send(TINY[: self.chance.randrange(len(TINY))])
            await asyncio.sleep(self.chance.random() * 0.05)
            raw.reset()

    async def half_open(self) -> None:
        """Says nothing any more, not even pong."""
        async with self.raw() as raw:
            expect(wire.parse(await raw.read_to_end())[0][0].opcode == wire.PING)

    async def never_reads(self) -> None:
        """Asks for a lot and doesn't read it: is dropped, however much waits to be sent."""
        async with self.raw() as raw:
            await raw.send(wire.text("much", mask=MASK))
            # It sees that it was dropped when it sends something, so it goes on doing that, but never pong.
            with contextlib.suppress(ConnectionError):
                while True:
                    await asyncio.sleep(3 * self.ping)
                    await raw.send(TINY[:1])

    async def never_closes(self) -> None:
        """Doesn't answer Close."""
        async with self.raw() as raw:
            await raw.send(wire.text("close", mask=MASK))
            expect(await raw.close_code() == 1000)

    async def silent(self) -> None:
        """Connects, and that is all."""
        async with self.raw(b"") as raw:
            await raw.read_to_end()

    async def slow(self) -> None:
        """Sends its request a byte at a time."""
        async with self.raw(b"") as raw:
            reading = raw.meanwhile(raw.read_to_end())
            with contextlib.suppress(ConnectionError):
                for byte in wire.request():
                    await raw.send(bytes([byte]))
                    await asyncio.sleep(0.1)
                    if reading.done():
                        break
            await reading

    async def ping_flood(self) -> None:
        """Pings, and reads few of the pongs."""
        async with self.raw() as raw:
            for _ in range(10):
                await raw.send(PINGS)
            await raw.send(wire.close(1000, mask=MASK))
            rows = await raw.read_rows()
            expect(rows and rows[-1].opcode == wire.CLOSE, rows[-1:])

    async def message_flood(self) -> None:
        """Sends tiny messages faster than it reads the answers, but reads them."""
        async with self.raw() as raw:
            reading = raw.meanwhile(raw.read_rows())
            for _ in range(4):
                await raw.send(TINY)
            await raw.send(wire.close(1000, mask=MASK))
            rows = await reading
            expect(rows and rows[-1].opcode == wire.CLOSE, rows[-1:])

    async def fragment_flood(self) -> None:
        """Sends a message in fragments that are empty."""
        async with self.raw() as raw:
            await raw.send(SHREDS + wire.text("close", mask=MASK))
            rows = await raw.read_rows()
            expect([row.payload for row in rows] == [b"az", b"\x03\xe8"], rows)

    async def garbage(self) -> None:
        """Sends what isn't a frame."""
        async with self.raw() as raw:
            await raw.send(b"\xff" + self.chance.randbytes(500))
            expect((code := await raw.close_code()) == 1002, code)

    async def too_big(self) -> None:
        """Announces a message that is too big."""
        async with self.raw() as raw:
            await raw.send(wire.frame(wire.BINARY, b"begin", declared=2**40, mask=MASK))
            expect((code := await raw.close_code()) == 1009, code)

    async def bomb(self) -> None:
        """Sends what would inflate to much more."""
        async with self.raw(wire.request(headers=DEFLATE)) as raw:
            expect(b"permessage-deflate" in (head := await raw.read_head()), head)
            await raw.send(BOMB)
            expect((code := await raw.close_code()) == 1009, code)

    async def no_http(self) -> None:
        """Sends a request that isn't one."""
        async with self.raw(b"GET / HTTP/1.1\r\nbroken header\r\n\r\n") as raw:
            expect((await raw.read_to_end()).startswith(b"HTTP/1.1 400 "))

    async def cut_off(self) -> None:
        """Ends the stream in the middle of a frame."""
        async with self.raw() as raw:
            await raw.send(LARGE[:1000])
            raw.sock.shutdown(socket.SHUT_WR)
            await raw.read_to_end()

    # ---------------------------------------------------------------------------------------------- cancelled at will

    def connect(self, port: int | None = None) -> connect:
        """A client of ours with short timeouts."""
        return connect(f"ws://127.0.0.1:{port or self.port}/", proxy=None, **{**self.times, "open_timeout": PATIENCE})

    async def cancelled(self, awaitable: Any) -> None:
        """Begin something, and cancel it after a moment."""
        task = asyncio.ensure_future(awaitable)
        await asyncio.wait([task], timeout=self.chance.random() * 0.02)
        task.cancel()
        await asyncio.wait([task])
        if not task.cancelled() and (exc := task.exception()) is not None:
            raise exc

    async def cancelled_connect(self) -> None:
        """A client that gives up while it connects; if it was too late for that, it closes."""

        async def use() -> None:
            async with self.connect():
                await asyncio.sleep(1)

        await self.cancelled(use())

    async def cancelled_recv(self) -> None:
        """A receiver that is cancelled loses nothing."""
        async with self.connect() as connection:
            await self.cancelled(connection.recv())
            await connection.send("kept")
            for _ in range(3):
                with contextlib.suppress(TimeoutError):
                    expect(await asyncio.wait_for(connection.recv(), self.chance.random() * 0.01) == "kept")
                    return
            expect(await connection.recv() == "kept")

    async def cancelled_send(self) -> None:
        """A sender that is cancelled: whole messages arrive, or none."""
        async with self.connect() as connection:
            for size in (10, 100_000, 900_000):
                with contextlib.suppress(ConnectionClosed):
                    await self.cancelled(connection.send(b"x" * size))
            async with asyncio.timeout(PATIENCE):
                await connection.send("last")
                while (message := await connection.recv()) != "last":
                    expect(message in (b"x" * 10, b"x" * 100_000, b"x" * 900_000), "half a message")

    async def cancelled_handler(self) -> None:
        """A handler that is cancelled closes its connection."""
        async with self.raw() as raw:
            await raw.send(wire.text("cancel", mask=MASK))
            await raw.read_to_end()

    # ------------------------------------------------------------------------------------------- servers with a fault

    @contextlib.asynccontextmanager
    async def listening(self, serve_one: Callable[[Raw], Awaitable[None]]) -> AsyncIterator[int]:
        """A server of one connection, that does something with it."""

        async def accept() -> None:
            sock, _ = await asyncio.get_running_loop().sock_accept(listener)
            with sock:
                await serve_one(Raw(sock))

        with socket.create_server(("127.0.0.1", 0)) as listener:
            listener.setblocking(False)
            task = asyncio.ensure_future(accept())
            try:
                yield listener.getsockname()[1]
                await task
            finally:
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)

    async def server_is_silent(self) -> None:
        """Never answers the request."""

        async def serve_one(raw: Raw) -> None:
            await raw.read_to_end()

        async with self.listening(serve_one) as port:
            await fails(TimeoutError, connect(f"ws://127.0.0.1:{port}/", proxy=None, open_timeout=0.5))

    async def server_talks_garbage(self) -> None:
        """Answers the request with something that isn't HTTP."""

        async def serve_one(raw: Raw) -> None:
            await raw.read_head()
            await raw.send(b"\x15\x03\x03\x00\x02\x02\x28" * 10)
            await raw.read_to_end()

        async with self.listening(serve_one) as port:
            await fails(InvalidHandshake, self.connect(port))

    async def open(self, raw: Raw) -> None:
        """Answer a request."""
        head = await raw.read_head()
        key = head.partition(b"Sec-WebSocket-Key: ")[2].partition(b"\r\n")[0].decode()
        await raw.send(wire.response(key=key))

    async def server_resets(self) -> None:
        """Resets once it is open."""

        async def serve_one(raw: Raw) -> None:
            await self.open(raw)
            await raw.send(wire.text("hello"))
            raw.reset()

        async with self.listening(serve_one) as port:
            with contextlib.suppress(ConnectionError, InvalidHandshake):
                async with self.connect(port) as connection:
                    await fails(ConnectionClosed, until_closed(connection))

    async def server_never_closes(self) -> None:
        """Doesn't answer Close."""

        async def serve_one(raw: Raw) -> None:
            await self.open(raw)
            await raw.read_to_end()

        async with self.listening(serve_one) as port:
            async with self.connect(port) as connection:
                await connection.send("hello")

    async def server_is_half_open(self) -> None:
        """Doesn't answer pings."""

        async def serve_one(raw: Raw) -> None:
            await self.open(raw)
            await raw.read_to_end()

        async with self.listening(serve_one) as port:
            async with self.connect(port) as connection:
                await fails(ConnectionClosed, until_closed(connection))


async def until_closed(connection: Any) -> None:
    while True:
        await connection.recv()


async def fails(error: type[BaseException], awaitable: Any) -> None:
    """Something must fail in a certain way."""
    try:
        await awaitable
    except error:
        return
    raise Unexpected(f"no {error.__name__}")
