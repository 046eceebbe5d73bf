"""Step 1: a server that counts votes. ``python examples/tutorial/step1.py``; Ctrl-C ends it."""

import asyncio
import json
import sys

from websockets.asyncio.server import ServerConnection, serve

votes = {"tea": 0, "coffee": 0}


async def handler(websocket: ServerConnection) -> None:
    async for message in websocket:
        event = json.loads(message)
        votes[event["vote"]] += 1
        await websocket.send(json.dumps({"votes": votes}))


async def main() -> None:
    async with serve(handler, "localhost", 8765) as server:
        await server.serve_forever()


if __name__ == "__main__":
    try:
        asyncio.run(main())
    except KeyboardInterrupt:
        pass
    except OSError as exc:
        sys.exit(str(exc))
