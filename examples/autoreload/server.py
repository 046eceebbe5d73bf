"""A server to be changed while it runs: it greets, and ends in order on SIGTERM and on Ctrl-C."""

import asyncio
import signal
import sys

from websockets.asyncio.server import ServerConnection, serve


async def greet(websocket: ServerConnection) -> None:
    async for name in websocket:
        await websocket.send(f"Hello, {name!s}!")


async def main() -> None:
    async with serve(greet, "127.0.0.1", 8765) as server:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, server.close)
        await server.serve_forever()


if __name__ == "__main__":
    try:
        asyncio.run(main())
    except KeyboardInterrupt:
        pass
    except OSError as exc:
        sys.exit(str(exc))
