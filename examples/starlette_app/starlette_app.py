"""A Starlette application and a WebSocket server in one process. ``python examples/starlette_app/starlette_app.py``

Starlette serves the pages and the HTTP API of a notice board, at port 8000. Viewers of the board get new notices by
WebSocket, at port 8765. Both run on the same event loop, so they share the board. Needs ``starlette`` and ``uvicorn``.
"""

import contextlib
import json
import re
import socket
import sys
from collections import deque
from collections.abc import AsyncIterator
from pathlib import Path

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.routing import Route

from websockets.asyncio.server import ServerConnection, broadcast, serve

PAGE = Path(__file__).with_name("board.html").read_text("utf-8")

# The page and the WebSocket have different ports, so to browsers they are different origins. Accept only these.
ORIGINS = [re.compile(r"http://(127\.0\.0\.1|localhost)(:\d+)?")]

MAX_NOTICE = 500  # characters
KEEP = 100  # notices


class Board:
    """The notices, and their viewers.

    Parameters:
        listening: the socket for WebSocket connections.
    """

    def __init__(self, listening: socket.socket) -> None:
        self.listening = listening
        self.notices: deque[str] = deque(maxlen=KEEP)
        self.viewers: set[ServerConnection] = set()

    @contextlib.asynccontextmanager
    async def lifespan(self, app: Starlette) -> AsyncIterator[None]:
        """Start and stop the WebSocket server with the application."""
        async with serve(self.handler, sock=self.listening, origins=ORIGINS, max_size=1000):
            yield

    # --- by WebSocket

    async def handler(self, websocket: ServerConnection) -> None:
        """Serve one viewer: send all notices at once, and then each new one."""
        # Don't use the server's connections: they open before their handlers run, so a notice could come first.
        broadcast([websocket], json.dumps([*self.notices]))
        self.viewers.add(websocket)
        try:
            await websocket.wait_closed()
        finally:
            self.viewers.remove(websocket)

    # --- by HTTP

    async def page(self, request: Request) -> Response:
        """Serve the page, which has to know the port."""
        return HTMLResponse(PAGE.replace("{port}", str(self.listening.getsockname()[1])))

    async def add(self, request: Request) -> Response:
        """Add a notice, and send it to the viewers."""
        try:
            notice = await request.json()
        except ValueError:
            notice = None
        if not (isinstance(notice, str) and 0 < len(notice.strip()) <= MAX_NOTICE):
            return JSONResponse({"error": f"a notice is a text of 1 to {MAX_NOTICE} characters"}, status_code=400)
        self.notices.append(notice.strip())
        broadcast(self.viewers, json.dumps([notice.strip()]))
        return JSONResponse({"viewers": len(self.viewers)}, status_code=201)


def application(listening: socket.socket) -> Starlette:
    """Make the application, with its WebSocket server at a socket."""
    board = Board(listening)
    routes = [Route("/", board.page), Route("/notices", board.add, methods=["POST"])]
    return Starlette(routes=routes, lifespan=board.lifespan)


if __name__ == "__main__":
    http_port, websocket_port = map(int, sys.argv[1:] or ("8000", "8765"))
    try:
        # Listen first: what fails in a lifespan, uvicorn reports with a traceback.
        with socket.create_server(("127.0.0.1", websocket_port)) as listening:
            uvicorn.run(application(listening), host="127.0.0.1", port=http_port)
    except KeyboardInterrupt:
        pass
    except OSError as exc:
        sys.exit(str(exc))
