"""A client of the poll that shows each result, and reconnects whenever the connection is lost.

Run it with ``python examples/tutorial/watch.py [uri]``; Ctrl-C ends it.
"""

import asyncio
import json
import sys

from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed


async def main(uri: str = "ws://localhost:8765/drink") -> None:
    async for websocket in connect(uri):
        try:
            async for message in websocket:
                event = json.loads(message)
                print(", ".join(f"{option}: {count}" for option, count in event["votes"].items()), flush=True)
        except ConnectionClosed:
            pass
        print("connection lost; trying again", flush=True)


if __name__ == "__main__":
    try:
        asyncio.run(main(*sys.argv[1:]))
    except KeyboardInterrupt:
        pass
    except OSError as exc:
        sys.exit(str(exc))
