"""Echo server driven by the Autobahn testsuite's fuzzing client.

Charter: uses only the public asyncio API, or the legacy one. Prints one JSON line with its port once it listens, echoes
every message with its type, and ends when its standard input does, so that it cannot outlive whoever started it.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys

from apis import APIS, api_of
from loops import LOOPS, run

from websockets.asyncio.server import ServerConnection
from websockets.exceptions import ConnectionClosed

# Section 9 sends messages of 16 MiB; nothing in the testsuite is longer.
MAX_SIZE = 2**25


async def echo(websocket: ServerConnection) -> None:
    """Send each message back until the connection ends, for whatever reason: breaking it is the testsuite's job."""
    try:
        async for message in websocket:
            await websocket.send(message)
    except ConnectionClosed:
        pass


async def main(api: str) -> None:
    """Serve on a free port until standard input ends."""
    async with api_of("server", api).serve(echo, "127.0.0.1", 0, max_size=MAX_SIZE, ping_interval=None) as server:
        (listener,) = server.sockets
        print(json.dumps({"port": listener.getsockname()[1]}), flush=True)
        await asyncio.to_thread(sys.stdin.read)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--loop", choices=sorted(LOOPS), default="asyncio", help="event loop (default: asyncio)")
    parser.add_argument("--api", choices=APIS, default="asyncio", help="API to serve with (default: asyncio)")
    options = parser.parse_args()
    run(main(options.api), options.loop)
