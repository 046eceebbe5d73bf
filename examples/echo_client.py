"""The smallest client: it says hello and prints the answer. ``python examples/echo_client.py [uri]``"""

import asyncio
import sys

from websockets.asyncio.client import connect


async def main(uri: str) -> None:
    async with connect(uri) as websocket:
        await websocket.send("Hello!")
        print(await websocket.recv())


if __name__ == "__main__":
    try:
        asyncio.run(main(sys.argv[1] if len(sys.argv) > 1 else "ws://127.0.0.1:8765"))
    except KeyboardInterrupt:
        pass
    except OSError as exc:
        sys.exit(str(exc))
