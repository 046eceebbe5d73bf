"""An echo server for supervisord: it serves on the socket that supervisord holds, and ends in order on SIGTERM.

``python server.py`` alone listens on port 8765. With ``LISTEN_FD``, it serves on the listening socket of that number.
"""

import asyncio
import os
import signal
import socket
import sys

from websockets.asyncio.server import Server, ServerConnection, serve


async def echo(websocket: ServerConnection) -> None:
    async for message in websocket:
        await websocket.send(f"{os.getpid()}: {message!s}")


def make_server() -> Server:
    """A server on the socket that this process was given, or on one of its own."""
    number = os.environ.get("LISTEN_FD")
    if number is None:
        return serve(echo, "127.0.0.1", 8765)
    # A copy, because closing standard input, which is number 0, is asking for trouble.
    return serve(echo, sock=socket.socket(fileno=os.dup(int(number))))


async def main() -> None:
    async with make_server() as server:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            # Two seconds less than stopwaitsecs, after which supervisord kills the process.
            loop.add_signal_handler(number, lambda: server.close(timeout=8))
        print("ready", flush=True)
        await server.serve_forever()


if __name__ == "__main__":
    try:
        asyncio.run(main())
    except KeyboardInterrupt:
        pass
    except OSError as exc:
        sys.exit(str(exc))
