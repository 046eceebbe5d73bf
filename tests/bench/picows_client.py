"""A client made with the core of ``picows``, which has frames and callbacks instead of messages and coroutines.

Charter: the same exchange as that of the coroutines in ``clients``, turned inside out.
"""

# pyright: reportMissingImports=false
# What is measured is installed where it runs, not where types are checked.

from __future__ import annotations

import asyncio
import ssl
import time
from typing import Any

import picows

from bench.cases import BLOCK, Case
from bench.wire import messages

clock = time.perf_counter


class Client(picows.WSListener):  # type: ignore[misc]
    """A connection on which each answer is followed by another message.

    Parameters:
        case: what to send.
    """

    transport: Any
    closed: asyncio.Future[None]
    done: asyncio.Future[None]
    sending = False
    count = due = last = 0  # messages that came back; at which to look at the clock; at which to end
    timed = False  # whether the messages up to then are one round trip
    begun = end = 0.0
    round_trips: list[float]

    def __init__(self, case: Case) -> None:
        super().__init__()
        self.depth = case.depth
        self.data = messages(case.size, 1)[0].encode()

    def on_ws_connected(self, transport: Any) -> None:
        self.transport = transport
        self.closed = asyncio.get_running_loop().create_future()

    def on_ws_disconnected(self, transport: Any) -> None:
        self.closed.set_result(None)

    def on_ws_frame(self, transport: Any, frame: Any) -> None:
        if frame.msg_type == picows.WSMsgType.CLOSE:
            transport.disconnect()
            return
        frame.get_payload_as_utf8_text()
        self.count += 1
        if self.count == self.due:
            self.look()
        if self.sending:
            transport.send(picows.WSMsgType.TEXT, self.data)
        elif self.count == self.last:
            self.done.set_result(None)

    def look(self) -> None:
        """Look at the clock, as often as the coroutines of other libraries do."""
        now = clock()
        if self.timed:
            self.round_trips.append(now - self.begun)
        self.begun = now
        self.timed = not self.timed or self.depth >= BLOCK
        self.due = self.count + (self.depth if self.timed else BLOCK - self.depth)
        if now >= self.end:
            self.sending, self.due, self.last = False, 0, self.count + self.depth - 1

    async def exchange(self, end: float, round_trips: list[float]) -> int:
        """Keep messages in flight until the clock says so; returns how many there were."""
        self.end, self.round_trips = end, round_trips
        self.begun, self.count, self.due, self.last = clock(), 0, self.depth, 0
        self.sending = self.timed = True
        self.done = asyncio.get_running_loop().create_future()
        for _ in range(self.depth):
            self.transport.send(picows.WSMsgType.TEXT, self.data)
        await self.done
        return self.count

    async def close(self) -> None:
        """The closing handshake, and the end of the TCP connection."""
        self.transport.send_close(picows.WSCloseCode.OK)
        await self.closed


async def opened(uri: str, context: ssl.SSLContext | None, case: Case) -> Client:
    """A new connection after its opening handshake."""
    _, client = await picows.ws_connect(lambda: Client(case), uri, ssl_context=context, max_frame_size=1 << 30)
    found: Client = client
    return found
