"""Echo server driven by the Autobahn testsuite's fuzzing client.

Charter: uses only a public API: for asyncio, for trio, or the legacy one. Prints one JSON line with its port once it
listens, echoes every message with its type, and ends when its standard input does, so that it cannot outlive whoever
started it.
"""

from __future__ import annotations

import argparse
import asyncio
import functools
import json
import sys
from typing import Any

from apis import APIS, api_of
from loops import LOOPS, on_trio, run

from websockets.exceptions import ConnectionClosed

# Section 9 sends messages of 16 MiB; nothing in the testsuite is longer.
MAX_SIZE = 2**25


async def echo(websocket: Any) -> None:
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


async def main_on_trio() -> None:
    """Serve on a free port until standard input ends, on trio."""
    import trio

    from websockets.trio.server import serve

    async with trio.open_nursery() as nursery:
        listening = functools.partial(serve, echo, 0, host="127.0.0.1", max_size=MAX_SIZE, ping_interval=None)
        server = await nursery.start(listening)
        print(json.dumps({"port": server.listeners[0].socket.getsockname()[1]}), flush=True)
        await trio.to_thread.run_sync(sys.stdin.read)
        nursery.cancel_scope.cancel()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--loop", choices=sorted(LOOPS), default="asyncio", help="event loop (default: asyncio)")
    parser.add_argument("--api", choices=APIS, default="asyncio", help="API to serve with (default: asyncio)")
    options = parser.parse_args()
    if options.api == "trio":
        on_trio(main_on_trio)
    else:
        run(main(options.api), options.loop)
