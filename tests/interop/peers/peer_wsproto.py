"""Peer for ``wsproto``, a protocol without I/O.

Charter: puts wsproto on asyncio's streams, in the plainest way, and adapts that to the contract.
"""

# pyright: reportMissingImports=false
# The peers are installed where they run, not where types are checked.

from __future__ import annotations

import asyncio
from importlib.metadata import version
from typing import Any
from urllib.parse import urlsplit

import wsproto
from contract import Closed, Handler, Link, main
from wsproto import events
from wsproto.extensions import PerMessageDeflate

READ_SIZE = 65536


class WsprotoLink:
    """A wsproto connection on a pair of streams."""

    def __init__(self, side: Any, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connection = wsproto.WSConnection(side)
        self.reader = reader
        self.writer = writer
        self.deflate = False

    async def put(self, event: Any) -> None:
        self.writer.write(self.connection.send(event))
        await self.writer.drain()

    async def next_event(self) -> Any:
        """Return the next event, reading more bytes as long as there is none; answer pings on the way."""
        while True:
            for event in self.connection.events():
                if not isinstance(event, events.Ping):
                    return event
                await self.put(event.response())
            data = await self.reader.read(READ_SIZE)
            self.connection.receive_data(data or None)

    async def send(self, message: str | bytes) -> None:
        await self.put(events.Message(data=message))

    async def receive(self) -> str | bytes:
        parts = []
        while True:
            event = await self.next_event()
            if isinstance(event, events.CloseConnection):
                if self.connection.state is wsproto.ConnectionState.REMOTE_CLOSING:
                    await self.put(event.response())
                self.writer.close()
                raise Closed(event.code, event.reason or "")
            parts.append(event.data)
            if event.message_finished:
                # Adding to an empty slice keeps the type: str for text, bytes for binary.
                whole: str | bytes = parts[0][:0].join(parts)
                return whole

    async def ping(self, payload: bytes) -> None:
        await self.put(events.Ping(payload=payload))
        event = await self.next_event()
        if not isinstance(event, events.Pong) or bytes(event.payload) != payload:
            raise ValueError(f"{event!r} does not answer the ping")

    async def close(self, code: int, reason: str) -> int | None:
        await self.put(events.CloseConnection(code=code, reason=reason))
        try:
            unexpected = await self.receive()
        except Closed as exc:
            return exc.code
        raise ValueError(f"received a message of {len(unexpected)} instead of a close")


async def connect(uri: str, deflate: bool) -> Link:
    """Open a connection."""
    address = urlsplit(uri)
    streams = await asyncio.open_connection(address.hostname, address.port)
    link = WsprotoLink(wsproto.ConnectionType.CLIENT, *streams)
    offers: list[Any] = [PerMessageDeflate()] if deflate else []
    target = uri.removeprefix(f"{address.scheme}://{address.netloc}")
    await link.put(events.Request(host=address.netloc, target=target, extensions=offers))
    answer = await link.next_event()
    if not isinstance(answer, events.AcceptConnection):
        raise ValueError(f"{answer!r} refuses the connection")
    link.deflate = bool(answer.extensions)
    return link


async def serve(handle: Handler) -> int:
    """Start a server on a free port and return the port."""

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        link = WsprotoLink(wsproto.ConnectionType.SERVER, reader, writer)
        request = await link.next_event()
        await link.put(events.AcceptConnection(extensions=[PerMessageDeflate()]))
        await handle(link, request.target)

    server = await asyncio.start_server(handler, "127.0.0.1", 0)
    port: int = server.sockets[0].getsockname()[1]
    return port


if __name__ == "__main__":
    main(f"wsproto {version('wsproto')}", connect, serve)
