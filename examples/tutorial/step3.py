"""Step 3: a page in the browser. ``python examples/tutorial/step3.py``; Ctrl-C ends it."""

import asyncio
import json
import sys
from http import HTTPStatus
from pathlib import Path

from websockets.asyncio.server import ServerConnection, broadcast, serve
from websockets.http11 import Request, Response

PAGE = Path(__file__).with_name("step3.html").read_text("utf-8")

votes = {"tea": 0, "coffee": 0}
viewers: set[ServerConnection] = set()


def results() -> str:
    return json.dumps({"votes": votes})


def process_request(connection: ServerConnection, request: Request) -> Response | None:
    if "Upgrade" in request.headers:
        return None
    return connection.respond(HTTPStatus.OK, PAGE, headers={"Content-Type": "text/html; charset=utf-8"})


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
    async with serve(handler, "localhost", 8765, process_request=process_request) as server:
        await server.serve_forever()


if __name__ == "__main__":
    try:
        asyncio.run(main())
    except KeyboardInterrupt:
        pass
    except OSError as exc:
        sys.exit(str(exc))
