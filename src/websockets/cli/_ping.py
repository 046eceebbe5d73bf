"""A series of pings, and the times until their pongs.

May know: connections on asyncio, statistics, how events are reported. Must not know: argparse, terminals.
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
    """Sends pings and measures round trips (RFC 6455 section 5.5.2). Call it with a connection.

    Parameters:
        count: number of pings; None to continue until interrupted.
        interval: seconds from a ping to the next, if the pong arrives before that.
        display: where to report.
    """

    def __init__(self, count: int | None, interval: float, display: Display) -> None:
        self.count = count
        self.interval = interval
        self.display = display
        self.sent = 0
        self.times = Latencies()

    async def __call__(self, connection: ClientConnection) -> None:
        """Ping until all pongs have arrived; then, or after an interruption, report the results.

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
        """Return OK: if a ping stays without an answer, the connection fails, and its status counts."""
        return OK

    def results(self) -> tuple[dict[str, Any], list[str]]:
        """Return the results, as values for programs and as lines for humans."""
        seconds = summary(self.times, ["p50", "p99"])
        lines = [
            f"{number_of(self.sent, 'ping')}, {number_of(self.times.count, 'pong')}",
            *([f"round trip: {table(seconds)}"] if seconds else []),
        ]
        values = {name: round(value, 9) for name, value in seconds.items()}
        return {"sent": self.sent, "received": self.times.count, "seconds": values}, lines


async def _discard(connection: ClientConnection) -> None:
    """Receive and drop all messages, because unread messages would stop the connection from reading pongs."""
    with contextlib.suppress(ConnectionClosed):
        while True:
            await connection.recv(decode=False)
