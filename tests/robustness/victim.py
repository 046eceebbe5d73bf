"""A server in a process of its own, whose memory a test can look at from outside.

    python victim.py LOOP|threads [OPTION=NUMBER...]

The options are for ``serve``. It listens on a free port, which it writes to standard output, until its standard input
ends. Charter: knows the public APIs for asyncio and for threads, and which loops there are; must not know what it is a
victim of.
"""

from __future__ import annotations

import asyncio
import sys
import threading
from collections.abc import Callable
from typing import Any

from websockets.asyncio.server import ServerConnection, serve
from websockets.sync import server as threads


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


def echo_in_thread(connection: threads.ServerConnection) -> None:
    """Send each message back."""
    for message in connection:
        connection.send(message)


def serve_in_threads(options: dict[str, Any]) -> None:
    """Serve until nobody wants it, with a thread for each connection."""
    with threads.serve(echo_in_thread, "127.0.0.1", 0, close_timeout=0.5, **options) as server:
        print(server.socket.getsockname()[1], flush=True)
        threading.Thread(target=server.serve_forever).start()
        sys.stdin.read()


if __name__ == "__main__":
    settings = {name: int(number) for name, number in (option.split("=") for option in sys.argv[2:])}
    if sys.argv[1] == "threads":
        serve_in_threads(settings)
        sys.exit()
    factory: Callable[[], asyncio.AbstractEventLoop] = asyncio.new_event_loop
    if sys.argv[1] == "uvloop":
        import uvloop

        factory = uvloop.new_event_loop
    with asyncio.Runner(loop_factory=factory) as runner:
        runner.run(main(settings))
