"""One of several processes that listen on the same port: start it as many times as there are processors.

``python server.py [PORT]``; SIGTERM or SIGHUP ends one process in order, and its clients reconnect to another.
"""

import asyncio
import os
import signal
import sys

from websockets.asyncio.server import ServerConnection, serve


async def echo(websocket: ServerConnection) -> None:
    async for message in websocket:
        await websocket.send(f"{os.getpid()}: {message!r}")


async def main(port: int) -> None:
    stop = asyncio.Event()
    # SIGHUP is sent when the terminal is closed.
    for number in (signal.SIGTERM, signal.SIGHUP):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    # With SO_REUSEPORT, each process has its own queue, and the kernel distributes new connections among them.
    async with serve(echo, "127.0.0.1", port, reuse_port=True):
        print(f"process {os.getpid()} listens on port {port}", flush=True)
        await stop.wait()


if __name__ == "__main__":
    try:
        asyncio.run(main(int(sys.argv[1]) if len(sys.argv) > 1 else 8765))
    except KeyboardInterrupt:
        pass
    except OSError as exc:
        sys.exit(str(exc))
