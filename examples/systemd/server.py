"""An echo server for systemd: it serves on the sockets that systemd gives, and says when it is ready.

``python server.py`` alone listens on port 8765.
"""

import asyncio
import contextlib
import os
import signal
import socket
import sys

from websockets.asyncio.server import Server, ServerConnection, serve

# The first descriptor after standard input, output and error.
FIRST_DESCRIPTOR = 3

# Connections that wait to be accepted, as in echo.socket.
BACKLOG = 4096


def given_sockets() -> list[socket.socket]:
    """The listening sockets that systemd gives to this process, if any. See sd_listen_fds(3)."""
    if os.environ.get("LISTEN_PID") != str(os.getpid()):
        return []
    count = int(os.environ.get("LISTEN_FDS", "0"))
    return [socket.socket(fileno=number) for number in range(FIRST_DESCRIPTOR, FIRST_DESCRIPTOR + count)]


def tell_systemd(state: str) -> None:
    """Tell systemd the state of the server, if it wants to know. See sd_notify(3)."""
    path = os.environ.get("NOTIFY_SOCKET")
    if path:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
            # An @ stands for the zero byte of an abstract address.
            sock.sendto(state.encode(), f"\0{path[1:]}" if path.startswith("@") else path)


async def echo(websocket: ServerConnection) -> None:
    async for message in websocket:
        await websocket.send(message)


def servers(sockets: list[socket.socket]) -> list[Server]:
    """A server for each socket that systemd gave, TCP or Unix; without any, one on a port of our own."""
    if not sockets:
        return [serve(echo, "127.0.0.1", 8765)]
    # Unix sockets, too: unix_serve() might remove the file when it ends, but the file belongs to systemd.
    return [serve(echo, sock=sock) for sock in sockets]


async def main() -> None:
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    sockets = given_sockets()
    async with contextlib.AsyncExitStack() as stack:
        for server in servers(sockets):
            await stack.enter_async_context(server)
        for sock in sockets:
            # asyncio has set the queue to 100. Don't use backlog=BACKLOG: asyncio would then accept that many at once.
            sock.listen(BACKLOG)
        tell_systemd("READY=1")
        await stop.wait()
        # Leaving the block closes the connections with 1001. New ones wait in the sockets, which systemd holds too.
        tell_systemd("STOPPING=1")


if __name__ == "__main__":
    try:
        asyncio.run(main())
    except KeyboardInterrupt:
        pass
    except OSError as exc:
        sys.exit(str(exc))
