"""A counter that everybody sees and may change. ``python examples/counter/counter.py [port]``; Ctrl-C ends it.

A browser sends ``plus`` or ``minus``. The server sends the count and the number of viewers, whenever either changes.
"""

import asyncio
import json
import sys
from http import HTTPStatus
from pathlib import Path

from websockets.asyncio.server import Server, ServerConnection, broadcast, serve
from websockets.http11 import Request, Response

PAGE = Path(__file__).with_name("counter.html").read_text("utf-8")

STEPS = {"plus": 1, "minus": -1}


class Counter:
    """The count, and its viewers."""

    def __init__(self) -> None:
        self.count = 0
        self.viewers: set[ServerConnection] = set()

    async def handler(self, websocket: ServerConnection) -> None:
        """Serve one browser, from its arrival to its departure."""
        self.viewers.add(websocket)
        self.tell()
        try:
            async for message in websocket:
                # No other task runs between reading the count and writing it: without an await there is no race.
                self.count += STEPS[message] if isinstance(message, str) and message in STEPS else 0
                self.tell()
        finally:
            self.viewers.remove(websocket)
            self.tell()

    def tell(self) -> None:
        """Send the state to everybody."""
        broadcast(self.viewers, json.dumps({"count": self.count, "viewers": len(self.viewers)}))


def answer(connection: ServerConnection, request: Request) -> Response | None:
    """Answer a request: with the page, a WebSocket, or an error."""
    match request.path:
        case "/":
            return connection.respond(HTTPStatus.OK, PAGE, headers={"Content-Type": "text/html; charset=utf-8"})
        case "/counter":
            return None
        case _:
            return connection.respond(HTTPStatus.NOT_FOUND, "Not found.\n")


def counter(host: str, port: int) -> Server:
    """Make a server with one counter; await it, or use it in ``async with``."""
    return serve(Counter().handler, host, port, process_request=answer, max_size=16)


async def main(port: int) -> None:
    async with counter("127.0.0.1", port) as server:
        for listening in server.sockets:
            print(f"open http://127.0.0.1:{listening.getsockname()[1]}/ in several windows", flush=True)
        await server.serve_forever()


if __name__ == "__main__":
    try:
        asyncio.run(main(int(sys.argv[1]) if len(sys.argv) > 1 else 8765))
    except KeyboardInterrupt:
        pass
    except OSError as exc:
        sys.exit(str(exc))
