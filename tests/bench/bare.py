"""What the event loop alone costs: a protocol that understands nothing and answers so many bytes with as many others.

Charter: about the least that an asyncio server can do for a case, so that the cost of a library can be told from that
of the loop under it.
"""

from __future__ import annotations

import asyncio
from typing import cast

from bench.cases import Case
from bench.wire import CLOSE_ANSWER, END_OF_HEADERS, MASK, Traffic, counter, response

# One for all connections: there is never more than one read at a time.
BUFFER = memoryview(bytearray(1 << 18))


class Bare(asyncio.BufferedProtocol):
    """A connection of a server that answers each message of a client, by their known size.

    Parameters:
        case: what its client does.
    """

    transport: asyncio.Transport

    def __init__(self, case: Case) -> None:
        self.case = case
        self.request = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)

    def get_buffer(self, sizehint: int) -> memoryview:
        return BUFFER

    def buffer_updated(self, nbytes: int) -> None:
        data = BUFFER[:nbytes]
        if END_OF_HEADERS not in self.request:
            self._open(data)
        elif self.case.kind == "open-close":
            self.transport.write(CLOSE_ANSWER)
            self.transport.close()
        elif whole := self.counter.feed(data):
            self.transport.write(self.traffic.take(whole))

    def _open(self, data: memoryview) -> None:
        self.request += data
        if END_OF_HEADERS in self.request:
            self.transport.write(response(self.request))
            if self.case.kind == "echo":
                self.traffic = Traffic(self.case, None)
                self.counter = counter(self.case, Traffic(self.case, MASK).frames)
