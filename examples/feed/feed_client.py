"""A client that reconnects and misses no event. ``python examples/feed/feed_client.py [uri]``"""

import asyncio
import contextlib
import json
import sys
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from typing import Any

from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

GONE = 4001


@dataclass(frozen=True)
class Position:
    """The position of a client in a feed. Store it to go on after a restart."""

    feed: str
    after: int


class Missed(Exception):
    """Some events are lost for this client: it must fetch the current state and begin again."""


async def follow(uri: str, position: Position | None = None) -> AsyncGenerator[tuple[Position, Any]]:
    """Yield the events of a feed, each once and in order; reconnect as needed. Use it in ``aclosing()``.

    Parameters:
        uri: the URI of the feed.
        position: of the last event that was handled; None to begin with new events.

    Yields:
        Events, each with the position after it.

    Raises:
        Missed: the server doesn't have the next event any more.
    """
    async for websocket in connect(uri):
        # This also closes the connection when the caller leaves.
        async with websocket:
            try:
                where = {"feed": None, "after": None} if position is None else vars(position)
                await websocket.send(json.dumps(where))
                position = Position(**json.loads(await websocket.recv()))
                async for message in websocket:
                    event = json.loads(message)
                    if event["number"] != position.after + 1:
                        raise Missed(f"event {event['number']} came after {position.after}")
                    position = Position(position.feed, event["number"])
                    yield position, event["data"]
            except ConnectionClosed as exc:
                if exc.rcvd is not None and exc.rcvd.code == GONE:
                    raise Missed(exc.rcvd.reason) from exc
                # Ignore other closures: the next connection goes on where this one ended.


async def main(uri: str) -> None:
    async with contextlib.aclosing(follow(uri)) as events:
        async for position, data in events:
            print(position.after, data, flush=True)


if __name__ == "__main__":
    try:
        asyncio.run(main(sys.argv[1] if len(sys.argv) > 1 else "ws://127.0.0.1:8765"))
    except KeyboardInterrupt:
        pass
    except OSError as exc:
        sys.exit(str(exc))
