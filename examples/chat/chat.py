"""A chat room, and the page to enter it, at one port. ``python examples/chat/chat.py [port]``; Ctrl-C ends it.

A browser sends text: first a name, then the messages of its user. The server sends events in JSON: ``welcome`` to a
newcomer, with the names and the last messages; and ``joined``, ``said`` and ``left`` to everybody.
"""

import asyncio
import contextlib
import json
import sys
import time
from collections import deque
from http import HTTPStatus
from pathlib import Path
from typing import Any

from websockets.asyncio.server import Server, ServerConnection, broadcast, serve
from websockets.http11 import Request, Response

PAGE = Path(__file__).with_name("chat.html").read_text("utf-8")

MAX_NAME = 20  # characters
MAX_SIZE = 4096  # bytes of a message
HISTORY = 50  # messages that a newcomer sees
MAX_BUFFERED = 2**20  # bytes that may wait for somebody who doesn't read; then the connection is closed
PATIENCE = 10  # seconds that a newcomer has to say a name

# Close codes from 4000 on are for applications to define.
REFUSED = 4000


def chosen_name(said: str, taken: list[str]) -> str:
    """Check the name of a newcomer.

    Raises:
        ValueError: it can't be a name, or it is taken.
    """
    name = " ".join(said.split())
    if not (0 < len(name) <= MAX_NAME and name.isprintable()):
        raise ValueError(f"a name has 1 to {MAX_NAME} characters")
    if name.casefold() in map(str.casefold, taken):
        raise ValueError(f"{name} is in the room already")
    return name


class Room:
    """The people in the room, and their messages."""

    def __init__(self) -> None:
        self.people: dict[str, ServerConnection] = {}
        self.history: deque[dict[str, Any]] = deque(maxlen=HISTORY)

    async def handler(self, websocket: ServerConnection) -> None:
        """Serve one browser, from its name to its departure."""
        try:
            async with asyncio.timeout(PATIENCE):
                name = chosen_name(await websocket.recv(decode=True), [*self.people])
        except TimeoutError:
            await websocket.close(REFUSED, "no name was given")
        except ValueError as exc:
            await websocket.close(REFUSED, str(exc))
        else:
            await self.stay(websocket, name)

    async def stay(self, websocket: ServerConnection, name: str) -> None:
        """Pass on the messages of one browser, until it leaves."""
        self.people[name] = websocket
        # A broadcast doesn't wait, so no event is lost between this welcome and the next broadcast.
        welcome = {"type": "welcome", "name": name, "people": [*self.people], "history": [*self.history]}
        broadcast([websocket], json.dumps(welcome))
        self.tell({"type": "joined", "name": name})
        try:
            async for message in websocket:
                if isinstance(message, str) and message.strip():
                    said = {"type": "said", "name": name, "text": message.strip(), "time": time.time()}
                    self.history.append(said)
                    self.tell(said)
        finally:
            del self.people[name]
            self.tell({"type": "left", "name": name})

    def tell(self, event: dict[str, Any]) -> None:
        """Send an event to everybody in the room."""
        broadcast(self.people.values(), json.dumps(event), on_slow="close", max_buffered=MAX_BUFFERED)


def answer(connection: ServerConnection, request: Request) -> Response | None:
    """Answer a request: with the page, a WebSocket, or an error."""
    match request.path:
        case "/":
            return connection.respond(HTTPStatus.OK, PAGE, headers={"Content-Type": "text/html; charset=utf-8"})
        case "/chat":
            return None
        case _:
            return connection.respond(HTTPStatus.NOT_FOUND, "Not found.\n")


def chat(host: str, port: int) -> Server:
    """Make a server with one room; await it, or use it in ``async with``."""
    return serve(Room().handler, host, port, process_request=answer, max_size=MAX_SIZE)


async def main(port: int) -> None:
    async with chat("127.0.0.1", port) as server:
        for listening in server.sockets:
            print(f"open http://127.0.0.1:{listening.getsockname()[1]}/ in several windows", flush=True)
        await server.serve_forever()


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(main(int(sys.argv[1]) if len(sys.argv) > 1 else 8765))
