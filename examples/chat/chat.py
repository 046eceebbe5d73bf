"""A chat room, and the page to enter it, at one port. ``python examples/chat/chat.py [port [url]]``; Ctrl-C ends it.

With the URL of Redis, such as ``redis://localhost``, several of these programs are one room.

A browser sends text: first a name, then the messages of its user. The server sends events in JSON: ``welcome`` to a
newcomer, with the names, then the last messages; ``said`` to everybody, ``joined`` and ``left`` to the others; and
``missed`` if messages of another server were lost.
"""

import asyncio
import json
import sys
import time
from http import HTTPStatus
from pathlib import Path

from websockets.asyncio.server import Server, ServerConnection, broadcast, serve
from websockets.http11 import Request, Response
from websockets.rooms import Hub, Presence, RedisHub

PAGE = Path(__file__).with_name("chat.html").read_text("utf-8")

ROOM = "chat"
MAX_NAME = 20  # characters
MAX_SIZE = 4096  # bytes of a message
HISTORY = 50  # messages that a newcomer sees
MAX_BUFFERED = 2**20  # bytes that may wait for somebody who doesn't read; then the connection is closed
MAX_RATE = (100, 200)  # messages a second from one browser, and at once; more of them have to wait
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


def tell(event: Presence) -> str:
    """Return what the others hear when somebody comes or goes."""
    return json.dumps({"type": "joined" if event.joined else "left", "name": event.member.info})


def tell_missed(room: str, count: int) -> str:
    """Return what everybody hears when messages of another server are missing."""
    return json.dumps({"type": "missed", "count": count})


def make_hub(url: str | None = None) -> Hub:
    """Make the rooms: of this program alone, or with others over Redis."""
    if url is None:
        hub = Hub(history=HISTORY, presence=tell, max_buffered=MAX_BUFFERED)
    else:
        hub = RedisHub(url, history=HISTORY, presence=tell, max_buffered=MAX_BUFFERED, on_missed=tell_missed)
    # What was said stays when nobody is there to hear it.
    hub.keep(ROOM)
    return hub


async def enter(websocket: ServerConnection, hub: Hub) -> None:
    """Serve one browser, from its name to its departure."""
    try:
        async with asyncio.timeout(PATIENCE):
            said = await websocket.recv(decode=True)
        name = chosen_name(said, [member.info for member in hub.members(ROOM)])
    except TimeoutError:
        await websocket.close(REFUSED, "no name was given")
    except ValueError as exc:
        await websocket.close(REFUSED, str(exc))
    else:
        await stay(websocket, hub, name)


async def stay(websocket: ServerConnection, hub: Hub, name: str) -> None:
    """Pass on the messages of one browser, until it leaves."""
    people = [*(member.info for member in hub.members(ROOM)), name]
    # Neither of these calls waits, so nothing happens between them that the newcomer doesn't hear of.
    broadcast([websocket], json.dumps({"type": "welcome", "name": name, "people": people}))
    hub.join(ROOM, websocket, name)
    try:
        async for message in websocket:
            if isinstance(message, str) and message.strip():
                said = {"type": "said", "name": name, "text": message.strip(), "time": time.time()}
                hub.publish(ROOM, json.dumps(said))
    finally:
        hub.leave(ROOM, websocket)


def answer(connection: ServerConnection, request: Request) -> Response | None:
    """Answer a request: with the page, a WebSocket, or an error."""
    match request.path:
        case "/":
            return connection.respond(HTTPStatus.OK, PAGE, headers={"Content-Type": "text/html; charset=utf-8"})
        case "/chat":
            return None
        case _:
            return connection.respond(HTTPStatus.NOT_FOUND, "Not found.\n")


def chat(host: str, port: int, hub: Hub | None = None) -> Server:
    """Make a server with one room; await it, or use it in ``async with``."""
    rooms = make_hub() if hub is None else hub

    async def handler(websocket: ServerConnection) -> None:
        await enter(websocket, rooms)

    return serve(handler, host, port, process_request=answer, max_size=MAX_SIZE, max_rate=MAX_RATE)


async def main(port: int, url: str | None = None) -> None:
    async with make_hub(url) as hub, chat("127.0.0.1", port, hub) as server:
        for listening in server.sockets:
            print(f"open http://127.0.0.1:{listening.getsockname()[1]}/ in several windows", flush=True)
        await server.serve_forever()


if __name__ == "__main__":
    try:
        asyncio.run(main(int(sys.argv[1]) if len(sys.argv) > 1 else 8765, *sys.argv[2:3]))
    except KeyboardInterrupt:
        pass
    except OSError as exc:
        sys.exit(str(exc))
