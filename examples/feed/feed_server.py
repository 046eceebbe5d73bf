"""A feed of numbered events. ``python examples/feed/feed_server.py [port]``; Ctrl-C ends it.

A client sends its position, ``{"feed": "5f0c...", "after": 41}``, or ``{"feed": null, "after": null}`` if it is new.
The server confirms the position, in the same form, and then sends each event: ``{"number": 42, "data": ...}``. If it no
longer has the next event, it closes the connection with 4001.
"""

import asyncio
import json
import sys
import time
import uuid
from collections import deque
from collections.abc import AsyncIterator
from typing import Any

from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.frames import CloseCode

KEEP = 1000  # events

# Close codes from 4000 on are for applications to define.
GONE = 4001


class Gone(Exception):
    """The server no longer has the requested events."""


class Feed:
    """Numbered events; the last ones are kept.

    There is one list for all subscribers, and each has a position in it. So nothing piles up for slow or absent
    subscribers. They miss nothing until they are too far behind, and then they are told.

    Parameters:
        keep: how many events.
    """

    def __init__(self, keep: int = KEEP) -> None:
        # A new feed counts from 1 again, so its numbers mean something else.
        self.id = uuid.uuid4().hex
        self.last = 0
        self._kept: deque[Any] = deque(maxlen=keep)
        self._published = asyncio.Event()

    def publish(self, data: Any) -> None:
        """Add an event."""
        self.last += 1
        self._kept.append(data)
        self._published.set()
        self._published = asyncio.Event()

    async def after(self, number: int) -> AsyncIterator[tuple[int, Any]]:
        """Yield the events after a number, with their numbers: first old ones, then new ones.

        Raises:
            Gone: the next one isn't kept any more, or there never was one of that number.
        """
        if number > self.last:
            raise Gone(f"the last event is {self.last}")
        while True:
            while number < self.last:
                first = self.last - len(self._kept) + 1
                if number + 1 < first:
                    raise Gone(f"the first event is {first}")
                number += 1
                yield number, self._kept[number - first]
            await self._published.wait()

    async def handler(self, websocket: ServerConnection) -> None:
        """One subscription."""
        try:
            match json.loads(await websocket.recv()):
                case {"feed": None, "after": None}:
                    after = self.last
                case {"feed": self.id, "after": int(after)} if after >= 0:
                    pass
                case {"feed": str(), "after": int()}:
                    raise Gone("this is another feed")
                case _:
                    raise ValueError("that is no position")
        except Gone as exc:
            await websocket.close(GONE, str(exc))
        except ValueError as exc:
            await websocket.close(CloseCode.POLICY_VIOLATION, str(exc))
        else:
            sending = asyncio.create_task(self.send(websocket, after))
            # Sending would notice the end too late, because there may be nothing to send for long.
            await websocket.wait_closed()
            sending.cancel()

    async def send(self, websocket: ServerConnection, after: int) -> None:
        """Send events until the connection ends."""
        await websocket.send(json.dumps({"feed": self.id, "after": after}))
        try:
            async for number, data in self.after(after):
                # This waits while the client is slow.
                await websocket.send(json.dumps({"number": number, "data": data}))
        except Gone as exc:
            await websocket.close(GONE, str(exc))


def feed_server(feed: Feed, host: str, port: int) -> Server:
    """Make a server of a feed; await it, or use it in ``async with``."""
    return serve(feed.handler, host, port, max_size=1000)


async def main(port: int) -> None:
    feed = Feed()
    async with feed_server(feed, "127.0.0.1", port) as server:
        for listening in server.sockets:
            print(f"listening on ws://127.0.0.1:{listening.getsockname()[1]}", flush=True)
        while True:
            await asyncio.sleep(0.5)
            feed.publish(time.strftime("%H:%M:%S"))
            # Simulate a bad network.
            if feed.last % 10 == 0:
                print(f"dropping {len(server.connections)} connections", flush=True)
                for connection in server.connections:
                    connection.transport.abort()


if __name__ == "__main__":
    try:
        asyncio.run(main(int(sys.argv[1]) if len(sys.argv) > 1 else 8765))
    except KeyboardInterrupt:
        pass
    except OSError as exc:
        sys.exit(str(exc))
