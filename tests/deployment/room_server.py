"""A server with one room, for ``test_rooms.py``: ``room_server.py PORT URL``, with the URL of Redis or NATS.

A client joins with its path as what others may know of it. What it sends is published; ``?`` is answered with the
statistics and the number of members.
"""

# pyright: reportMissingImports=false

import asyncio
import dataclasses
import json
import sys

from websockets.asyncio.server import ServerConnection, serve
from websockets.rooms import NatsHub, RedisHub

ROOM = "a room"


async def main(port: int, url: str) -> None:
    make = NatsHub if url.startswith("nats:") else RedisHub
    # So little may wait that messages are lost while the broker is away.
    async with make(url, interval=1, max_waiting=100_000) as hub:

        async def handler(websocket: ServerConnection) -> None:
            assert websocket.request is not None
            hub.join(ROOM, websocket, websocket.request.path)
            async for message in websocket:
                if message == "?":
                    counted = dataclasses.asdict(hub.statistics)
                    await websocket.send("?" + json.dumps(counted | {"everybody": len(hub.members(ROOM))}))
                else:
                    hub.publish(ROOM, message)

        async with serve(handler, "127.0.0.1", port, max_queue=None) as server:
            await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]), sys.argv[2]))
