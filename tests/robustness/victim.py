"""A server in a process of its own, whose memory a test can look at from outside.

    python victim.py LOOP [OPTION=NUMBER...]

The options are for ``serve``. It listens on a free port, which it writes to standard output, until its standard input
ends. Charter: knows the public asyncio API and which loops there are; must not know what it is a victim of.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable
from typing import Any

from websockets.asyncio.server import ServerConnection, serve


async def echo(connection: ServerConnection) -> None:
    """Send each message back."""
    async for message in connection:
        await connection.send(message)


async def main(options: dict[str, Any]) -> None:
    """Serve until nobody wants it."""
    # Nobody is there to close in order.
    async with serve(echo, "127.0.0.1", 0, close_timeout=0.5, **options) as server:
        print(next(iter(server.sockets)).getsockname()[1], flush=True)
        await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)


if __name__ == "__main__":
    factory: Callable[[], asyncio.AbstractEventLoop] = asyncio.new_event_loop
    if sys.argv[1] == "uvloop":
        import uvloop

        factory = uvloop.new_event_loop
    with asyncio.Runner(loop_factory=factory) as runner:
        runner.run(main({name: int(number) for name, number in (option.split("=") for option in sys.argv[2:])}))
