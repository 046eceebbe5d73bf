"""Connections without a fault: whatever happens to others, their messages arrive, all of them and in order.

May know: the public API on asyncio. Must not know: faults, what is measured.
"""

from __future__ import annotations

import asyncio
import random
import ssl
from typing import Any

from soak.ledger import Channel, Ledger, number_of
from websockets.asyncio.client import connect
from websockets.asyncio.server import ServerConnection, broadcast, serve
from websockets.exceptions import ConnectionClosed

__all__ = ["Steady"]

# How many messages may be on their way in one direction of an echo.
WINDOW = 20

# Seconds after which what is still under way will never arrive. It takes a few, unless the machine stands still.
PATIENCE = 600.0


class Steady:
    """A server without faults, and clients of it.

    Parameters:
        ledger: where everything is counted.
        tls: contexts of the server and of its clients; None for plain TCP.
    """

    def __init__(self, ledger: Ledger, tls: tuple[ssl.SSLContext, ssl.SSLContext] | None) -> None:
        self.ledger = ledger
        self.tls = tls
        self.chance = random.Random(1)
        self.channels: dict[str, tuple[Channel, Channel]] = {}
        self.subscribers: set[ServerConnection] = set()
        self.news = 0
        self.news_counts: dict[str, int] = {}
        self.may_speak = asyncio.Event()

    async def start(self) -> None:
        """Listen."""
        context = self.tls[0] if self.tls else None
        self.server = await serve(
            self.handle, "127.0.0.1", 0, ssl=context, open_timeout=PATIENCE, close_timeout=PATIENCE
        )
        self.port = next(iter(self.server.sockets)).getsockname()[1]

    async def stop(self) -> None:
        """Listen no more."""
        self.server.close()
        await self.server.wait_closed()

    def connect(self, path: str, **options: Any) -> connect:
        """A client that isn't connected yet."""
        scheme, context = ("wss", self.tls[1]) if self.tls else ("ws", None)
        times = {"open_timeout": PATIENCE, "close_timeout": PATIENCE, "proxy": None}
        options.setdefault("compression", self.chance.choice((None, "deflate")))
        return connect(f"{scheme}://127.0.0.1:{self.port}{path}", ssl=context, **{**times, **options})

    # ------------------------------------------------------------------------------------------------------ the server

    async def handle(self, connection: ServerConnection) -> None:
        """Serve a client, as its path asks for."""
        assert connection.request is not None
        path = connection.request.path
        self.ledger.opened()
        try:
            await (self.handle_news(connection, path) if path.startswith("/news") else self.echo(connection, path))
        except ConnectionClosed as exc:
            self.ledger.complain(f"server, {path}: {exc}")
        finally:
            self.ledger.closed()

    async def echo(self, connection: ServerConnection, path: str) -> None:
        """Take in numbered messages, and answer each with one of the other direction."""
        there, back = self.channels[path]
        async for message in connection:
            there.receive(message)
            if path.startswith("/fragments"):
                await connection.send(pieces(back.send()))
            else:
                await connection.send(back.send())

    async def handle_news(self, connection: ServerConnection, path: str) -> None:
        """Let a client hear what is broadcast, from now on until it says that it had enough."""
        await connection.send(str(self.news))
        self.subscribers.add(connection)
        begin = self.news
        await connection.recv()
        self.subscribers.discard(connection)
        self.news_counts[path] = self.news - begin
        await connection.send("end")
        await connection.wait_closed()

    # ------------------------------------------------------------------------------------------------------ the clients

    async def talk(self, path: str, count: int) -> None:
        """Connect, have some messages echoed, and close."""
        self.channels[path] = there, back = Channel(self.ledger), Channel(self.ledger)
        kind = "fragments" if path.startswith("/fragments") else "echo"
        try:
            async with asyncio.timeout(PATIENCE), self.connect(path) as connection:
                await self.converse(connection, there, back, count)
            self.ledger.connections[kind] += 1
        except Exception as exc:
            self.ledger.complain(f"client, {path}: {exc!r}")
        finally:
            del self.channels[path]

    async def converse(self, connection: Any, there: Channel, back: Channel, count: int) -> None:
        """Send messages, a few ahead of their echoes, with pauses and pings between them."""
        pongs = []
        for index in range(count):
            message = there.send()
            await connection.send(pieces(message) if index % 10 == 3 else message)
            if there.next_sent - back.next_received >= WINDOW:
                back.receive(await connection.recv())
            if self.chance.random() < 0.03:
                await asyncio.sleep(self.chance.random() * 0.05)
            if self.chance.random() < 0.02:
                # The pong comes behind the echoes, and is seen only when they were received.
                pongs.append(await connection.ping())
        while back.next_received < there.next_sent:
            back.receive(await connection.recv())
        for pong in pongs:
            await pong

    async def listen(self, path: str, count: int) -> None:
        """Connect, hear some news, and close."""
        try:
            async with asyncio.timeout(PATIENCE), self.connect(path) as connection:
                channel = Channel(self.ledger, int(await connection.recv()))
                begin = channel.next_received
                while channel.next_received - begin < count and self.may_speak.is_set():
                    await self.hear(connection, channel)
                await connection.send("enough")
                while (message := await connection.recv()) != "end":
                    channel.receive(message)
                # What was broadcast to it: the server counts for all subscribers at once.
                self.ledger.sent += self.news_counts.pop(path)
            self.ledger.connections["broadcast"] += 1
        except Exception as exc:
            self.ledger.complain(f"client, {path}: {exc!r}")

    async def hear(self, connection: Any, channel: Channel) -> None:
        """Take in some news; wait in short turns, as the round may end meanwhile."""
        try:
            async with asyncio.timeout(0.5):
                channel.receive(await connection.recv())
        except TimeoutError:
            return

    async def speak(self) -> None:
        """Broadcast news while a round lasts."""
        while self.may_speak.is_set():
            channel = Channel(Ledger(), self.news)
            message = channel.send()
            assert number_of(message) == self.news
            self.news += 1
            broadcast(self.subscribers, message)
            await asyncio.sleep(0.02)


class LongLived:
    """A connection that lasts from the first round to the last.

    Parameters:
        steady: the server that it is connected to.
        path: what it asks for.
    """

    def __init__(self, steady: Steady, path: str) -> None:
        self.steady = steady
        self.path = path
        self.there, self.back = steady.channels[path] = Channel(steady.ledger), Channel(steady.ledger)

    async def start(self) -> None:
        """Connect."""
        self.connection = await self.steady.connect(self.path)

    async def talk(self, count: int) -> None:
        """Have some more messages echoed."""
        try:
            async with asyncio.timeout(PATIENCE):
                await self.steady.converse(self.connection, self.there, self.back, count)
        except Exception as exc:
            self.steady.ledger.complain(f"client, {self.path}: {exc!r}")

    async def stop(self) -> None:
        """Close."""
        await self.connection.close()
        self.steady.ledger.connections["long-lived"] += 1


def pieces(message: str | bytes) -> list[Any]:
    """A message in fragments, none of which is empty unless all are."""
    size = max(len(message) // 3, 1)
    return [message[at : at + size] for at in range(0, len(message), size)]
