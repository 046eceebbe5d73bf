"""Pings, one after the other, and how long their pongs take.

May know: connections on asyncio, statistics, how events are told. Must not know: argparse, terminals.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any

from ..asyncio.client import ClientConnection
from ..exceptions import ConnectionClosed
from ._format import Display
from ._latency import Latencies, number_of, summary, table
from ._status import OK

__all__ = ["Ping"]


class Ping:
    """Sends pings (RFC 6455 section 5.5.2) and measures. Call it with a connection.

    Parameters:
        count: number of pings; None to go on until interrupted.
        interval: seconds from a ping to the next, if the pong comes before that.
        display: whom to tell.
    """

    def __init__(self, count: int | None, interval: float, display: Display) -> None:
        self.count = count
        self.interval = interval
        self.display = display
        self.sent = 0
        self.times = Latencies()

    async def __call__(self, connection: ClientConnection) -> None:
        """Ping until as many pongs came as were asked for; then, or when it is interrupted, tell the results.

        Raises:
            ConnectionClosed: the connection is closed.
        """
        reader = asyncio.create_task(_discard(connection))
        try:
            while self.count is None or self.sent < self.count:
                await self._one(connection)
        finally:
            reader.cancel()
            await asyncio.gather(reader, return_exceptions=True)
            self.display.results("ping", *self.results())

    async def _one(self, connection: ClientConnection) -> None:
        began = connection.loop.time()
        waiter = await connection.ping()
        self.sent += 1
        seconds = await waiter
        self.times.add(seconds)
        self.display.pong(self.sent, seconds)
        if self.count is None or self.sent < self.count:
            await asyncio.sleep(began + self.interval - connection.loop.time())

    def status(self) -> int:
        """Pings that stay without an answer end with the connection: there is nothing to add."""
        return OK

    def results(self) -> tuple[dict[str, Any], list[str]]:
        """What was measured, for programs and for humans."""
        seconds = summary(self.times, ["p50", "p99"])
        lines = [
            f"{number_of(self.sent, 'ping')}, {number_of(self.times.count, 'pong')}",
            *([f"round trip: {table(seconds)}"] if seconds else []),
        ]
        values = {name: round(value, 9) for name, value in seconds.items()}
        return {"sent": self.sent, "received": self.times.count, "seconds": values}, lines


async def _discard(connection: ClientConnection) -> None:
    """Messages aren't of interest; but nothing is read behind messages that nobody takes."""
    with contextlib.suppress(ConnectionClosed):
        while True:
            await connection.recv(decode=False)
