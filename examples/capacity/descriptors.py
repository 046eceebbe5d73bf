"""A server that avoids running out of file descriptors, and reports it once a minute if it does.

``python descriptors.py [PORT [MAX_CONNECTIONS]]``; by default, as many connections as there are descriptors for.
"""

import asyncio
import errno
import resource
import sys
from typing import Any

from websockets.asyncio.server import ServerConnection, serve

# Enough for most machines, if the system sets no limit.
WANTED = 100_000

# Up to 1000 clients beyond max_connections wait for their 503. When many come at once, asyncio accepts five times its
# backlog of 100 before it has closed the first. And the program itself needs some.
RESERVE = 1600

# Seconds between two reports.
PAUSE = 60


def raise_limit() -> int:
    """Raise the limit of this process as far as the system allows; return the limit."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = WANTED if hard == resource.RLIM_INFINITY else min(WANTED, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
        return wanted
    return soft if soft != resource.RLIM_INFINITY else WANTED


class Reports:
    """Exception handler of a loop. Without descriptors left, asyncio makes a hundred reports a second."""

    def __init__(self) -> None:
        self.silent_until = 0.0

    def __call__(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        exc = context.get("exception")
        if isinstance(exc, OSError) and exc.errno in (errno.EMFILE, errno.ENFILE):
            if loop.time() < self.silent_until:
                return
            self.silent_until = loop.time() + PAUSE
        loop.default_exception_handler(context)


async def echo(websocket: ServerConnection) -> None:
    async for message in websocket:
        await websocket.send(message)


async def main(port: int = 8765, max_connections: int | None = None) -> None:
    limit = raise_limit()
    if max_connections is None:
        max_connections = max(limit - RESERVE, 1)
    asyncio.get_running_loop().set_exception_handler(Reports())
    async with serve(echo, "127.0.0.1", port, max_connections=max_connections) as server:
        print(f"{limit} descriptors, {max_connections} connections", flush=True)
        await server.serve_forever()


if __name__ == "__main__":
    try:
        asyncio.run(main(*map(int, sys.argv[1:])))
    except KeyboardInterrupt:
        pass
    except OSError as exc:
        sys.exit(str(exc))
