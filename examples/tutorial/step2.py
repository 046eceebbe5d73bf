"""Step 2: everybody sees each vote. ``python examples/tutorial/step2.py``; Ctrl-C ends it."""

import asyncio
import json
import sys

from websockets.asyncio.server import ServerConnection, broadcast, serve

votes = {"tea": 0, "coffee": 0}
viewers: set[ServerConnection] = set()


def results() -> str:
    return json.dumps({"votes": votes})


async def handler(websocket: ServerConnection) -> None:
    viewers.add(websocket)
    try:
        await websocket.send(results())
        async for message in websocket:
            event = json.loads(message)
            votes[event["vote"]] += 1
            broadcast(viewers, results())
    finally:
        viewers.remove(websocket)


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
