"""A drawing that everybody sees and may add to. ``python examples/drawing/drawing.py [port]``; Ctrl-C ends it.

All messages are JSON. A browser sends strokes, each a line through some points:
``{"color": "#d33a2c", "width": 4, "points": [x, y, x, y...]}``; or ``{"clear": true}``. The server sends
``{"picture": [stroke...]}``, the whole picture, to a newcomer, and to everybody when it was cleared; and
``{"stroke": stroke}`` for each new stroke.
"""

import asyncio
import json
import re
import sys
from collections import deque
from http import HTTPStatus
from pathlib import Path
from typing import Any

from websockets.asyncio.server import Server, ServerConnection, broadcast, serve
from websockets.frames import CloseCode
from websockets.http11 import Request, Response

PAGE = Path(__file__).with_name("drawing.html").read_text("utf-8")

WIDTH, HEIGHT = 1200, 750  # of the picture, as in the page
MAX_LINE_WIDTH = 40
MAX_NUMBERS = 512  # in the points of a stroke
MAX_SIZE = 4096  # bytes of a message: enough for such a stroke
MAX_STROKES = 20_000  # beyond this, the oldest are dropped
MAX_BUFFERED = 4 * 2**20  # bytes that may wait for somebody who doesn't read; then the connection is closed

Stroke = dict[str, Any]


def checked_stroke(message: object) -> Stroke:
    """Check a stroke, because it goes to everybody; return only the known fields.

    Raises:
        ValueError: it isn't a stroke.
    """
    match message:
        case {"color": str(color), "width": int(width), "points": [*points]}:
            if not re.fullmatch("#[0-9a-f]{6}", color):
                raise ValueError("that is no color")
            if not 0 < width <= MAX_LINE_WIDTH:
                raise ValueError("no line has that width")
            if not 4 <= len(points) <= MAX_NUMBERS or len(points) % 2 or not all(map(is_position, points)):
                raise ValueError("those are no points")
            return {"color": color, "width": width, "points": points}
        case _:
            raise ValueError("that is no stroke")


def is_position(number: object) -> bool:
    """Whether a value can be a coordinate: an integer, not a boolean, in or close to the picture."""
    return type(number) is int and -WIDTH <= number <= 2 * WIDTH


class Drawing:
    """The picture, and its viewers."""

    def __init__(self) -> None:
        self.strokes: deque[Stroke] = deque(maxlen=MAX_STROKES)
        self.viewers: set[ServerConnection] = set()

    async def handler(self, websocket: ServerConnection) -> None:
        """Serve one browser, from its arrival to its departure."""
        # A broadcast doesn't wait, so each stroke is either in this picture or among those that follow.
        broadcast([websocket], json.dumps({"picture": [*self.strokes]}))
        self.viewers.add(websocket)
        try:
            async for message in websocket:
                self.take(json.loads(message))
        except ValueError as exc:  # also of JSON
            await websocket.close(CloseCode.POLICY_VIOLATION, str(exc))
        finally:
            self.viewers.remove(websocket)

    def take(self, message: object) -> None:
        """Do what a browser asks for, and show it to everybody.

        Raises:
            ValueError: the request is invalid.
        """
        if message == {"clear": True}:
            self.strokes.clear()
            self.tell({"picture": []})
        else:
            stroke = checked_stroke(message)
            self.strokes.append(stroke)
            # Send it back to its author too: so strokes that cross lie in the same order on every screen.
            self.tell({"stroke": stroke})

    def tell(self, message: dict[str, Any]) -> None:
        """Send a message to all viewers."""
        broadcast(self.viewers, json.dumps(message), on_slow="close", max_buffered=MAX_BUFFERED)


def answer(connection: ServerConnection, request: Request) -> Response | None:
    """Answer a request: with the page, a WebSocket, or an error."""
    match request.path:
        case "/":
            return connection.respond(HTTPStatus.OK, PAGE, headers={"Content-Type": "text/html; charset=utf-8"})
        case "/drawing":
            return None
        case _:
            return connection.respond(HTTPStatus.NOT_FOUND, "Not found.\n")


def drawing(host: str, port: int) -> Server:
    """Make a server with one picture; await it, or use it in ``async with``."""
    return serve(Drawing().handler, host, port, process_request=answer, max_size=MAX_SIZE)


async def main(port: int) -> None:
    async with drawing("127.0.0.1", port) as server:
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
