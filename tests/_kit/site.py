"""A scripted web site for clients: it answers each request as the test says, and records requests with their times.

May know: the network of a virtual loop, the format of an opening handshake on the wire. Must not know: the library.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from typing import NamedTuple, TypeAlias

from . import wire
from .clock import VirtualLoop
from .peer import RawPeer

__all__ = ["Answer", "Asked", "Site", "let_in", "let_in_and_close", "redirect", "refuse", "site"]


class Asked(NamedTuple):
    """A request that arrived.

    Attributes:
        time: When, by the clock of the loop.
        target: The request target.
        headers: Values by name, both as they were sent.
    """

    time: float
    target: str
    headers: dict[str, list[str]]


#: What becomes of a connection after its request: bytes to send before it is closed, or a function that does it all.
Answer: TypeAlias = bytes | Callable[[RawPeer, Asked], Awaitable[None]]


async def let_in(peer: RawPeer, asked: Asked) -> None:
    """Open the connection, and answer when the client closes it."""
    await peer.send(wire.response(key=asked.headers["Sec-WebSocket-Key"][0]))
    await _part(peer)


def let_in_and_close(code: int = 1001, after: float = 0) -> Answer:
    """Open the connection, and close it ``after`` so many seconds."""

    async def answer(peer: RawPeer, asked: Asked) -> None:
        await peer.send(wire.response(key=asked.headers["Sec-WebSocket-Key"][0]))
        await asyncio.sleep(after)
        await peer.send(wire.close(code))
        await peer.read_frame()

    return answer


async def _part(peer: RawPeer) -> None:
    """Wait for the client to close, and answer."""
    row = await peer.read_frame()
    while row.opcode != wire.CLOSE:
        row = await peer.read_frame()
    await peer.send(wire.frame(wire.CLOSE, row.payload))


def refuse(status: int, headers: wire.Headers | None = None, body: bytes = b"") -> bytes:
    """An answer that opens nothing."""
    length = {"Content-Length": str(len(body))}
    return wire.response(status, {**length, **(headers or {})}, reason="Refused", body=body)


def redirect(location: str | Sequence[str] | None, status: int = 302) -> bytes:
    """An answer that sends the client on."""
    return refuse(status, {"Location": location})


class Site:
    """Who answers at one address.

    Args:
        port: The port.
        answers: What to answer: by target, or in this order, the last one again and again.

    Attributes:
        asked: The requests so far.
        peers: The connections so far.
    """

    def __init__(self, port: int, answers: Mapping[str, Answer] | Sequence[Answer]) -> None:
        self.port = port
        self.asked: list[Asked] = []
        self.peers: list[RawPeer] = []
        self._answers = answers

    def uri(self, target: str = "/", host: str = "localhost") -> str:
        """The URI of a target."""
        return f"ws://{host}:{self.port}{target}"

    @property
    def targets(self) -> list[str]:
        """The targets asked for."""
        return [asked.target for asked in self.asked]

    @property
    def times(self) -> list[float]:
        """When each request came, in seconds after the first."""
        return [round(asked.time - self.asked[0].time, 6) for asked in self.asked]

    async def converse(self, peer: RawPeer) -> None:
        """Answer one connection to its end."""
        self.peers.append(peer)
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            asked = _read(await peer.read_until(), peer.link.loop.time())
            self.asked.append(asked)
            answer = self._answer(asked)
            if callable(answer):
                await answer(peer, asked)
            else:
                await peer.send(answer)
        peer.close()

    def _answer(self, asked: Asked) -> Answer:
        if isinstance(self._answers, Mapping):
            return self._answers[asked.target]
        return self._answers[min(len(self.asked), len(self._answers)) - 1]


def _read(head: bytes, time: float) -> Asked:
    found = re.match(rb"GET (\S+) HTTP/1\.1\r\n", head)
    assert found is not None
    headers: dict[str, list[str]] = {}
    for name, value in re.findall(r"\r\n([^:\r]+): ([^\r]*)", head.decode("latin-1")):
        headers.setdefault(name, []).append(value)
    return Asked(time, found[1].decode("latin-1"), headers)


@contextlib.asynccontextmanager
async def site(
    answers: Mapping[str, Answer] | Sequence[Answer], host: str = "localhost", port: int = 0
) -> AsyncIterator[Site]:
    """A site in the network of the running virtual loop, until the end of the block."""
    loop = asyncio.get_running_loop()
    assert isinstance(loop, VirtualLoop)
    listener = loop.network.listen(host, port)
    result = Site(listener.port, answers)
    conversations: list[asyncio.Task[None]] = []

    async def accept() -> None:
        while True:
            peer = await listener.peer()
            conversations.append(asyncio.create_task(result.converse(peer)))

    accepting = asyncio.create_task(accept())
    try:
        yield result
        await loop.idle()
    finally:
        listener.close()
        for task in [accepting, *conversations]:
            task.cancel()
        await asyncio.wait([accepting, *conversations])
        for task in conversations:
            if not task.cancelled():
                task.result()
