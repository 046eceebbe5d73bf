"""A server that receives files, and the page to send them. ``python examples/upload/upload_server.py [folder [port]]``

A client announces a file, ``{"name": "a.png", "size": 12345}``. The server answers ``{"received": 0}``, and gets the
content in binary messages: one in fragments, or several, because a page can't send fragments. It reports the progress,
``{"received": 4096}``, and at the end also ``"saved"``, the name of the file on the server, and ``"sha256"``. Then the
client may send the next file.
"""

import asyncio
import contextlib
import hashlib
import json
import os
import sys
import uuid
from http import HTTPStatus
from pathlib import Path
from typing import Any

from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.http11 import Request, Response

PAGE = Path(__file__).with_name("upload.html").read_text("utf-8")

MAX_FILE = 100 * 2**20  # bytes
MAX_FRAGMENT = 2**20  # bytes, of which a few wait in memory for each connection
MAX_ANNOUNCEMENT = 1000  # characters
STEP = 2**18  # bytes from one report to the next
PATIENCE = 30  # seconds without any progress

# Close codes from 4000 on are for applications to define.
REFUSED = 4000


class Refused(Exception):
    """The server refuses an upload; the text says why."""


def checked(announcement: str) -> tuple[str, int]:
    """Check an announcement; return the name and the size of the file.

    Raises:
        Refused: the file isn't allowed.
    """
    try:
        match json.loads(announcement):
            case {"name": str(name), "size": int(size)}:
                pass
            case _:
                raise Refused("a name and a size are needed first")
    except ValueError as exc:
        raise Refused("that is no JSON") from exc
    # It becomes a name in our folder, so refuse paths, and names that are special on some systems.
    if not (0 < len(name) <= 100 and name.isprintable()) or name.startswith(".") or set(name) & set('/\\:*?"<>|'):
        raise Refused("a file can't have that name here")
    if not 0 <= size <= MAX_FILE:
        raise Refused(f"a file may have {MAX_FILE} bytes at most")
    return name, size


class Uploads:
    """Receives and keeps files.

    Parameters:
        folder: where to keep them; created if it doesn't exist.
    """

    def __init__(self, folder: Path) -> None:
        folder.mkdir(exist_ok=True)
        self.folder = folder

    async def handler(self, websocket: ServerConnection) -> None:
        """Receive the files of one client, one after the other."""
        try:
            while True:
                name, size = checked(await self.announcement(websocket))
                await self.take(websocket, name, size)
        except Refused as exc:
            await websocket.close(REFUSED, str(exc))
        except TimeoutError:
            await websocket.close(REFUSED, f"nothing came for {PATIENCE} seconds")

    async def announcement(self, websocket: ServerConnection) -> str:
        """Receive the announcement of a file. It has its own limit, because ``max_size`` is large enough for files."""
        text = ""
        async for fragment in websocket.recv_streaming(decode=True):
            text += fragment
            if len(text) > MAX_ANNOUNCEMENT:
                raise Refused("a name and a size are needed first")
        return text

    async def take(self, websocket: ServerConnection, name: str, size: int) -> None:
        """Receive one file. It gets its name when it is complete; an incomplete file is removed."""
        part = self.folder / f".{uuid.uuid4()}.part"
        try:
            digest = await self.receive(websocket, part, size)
            saved = self.keep(part, name)
        finally:
            part.unlink(missing_ok=True)
        await tell(websocket, received=size, saved=saved, sha256=digest)

    async def receive(self, websocket: ServerConnection, part: Path, size: int) -> str:
        """Write a file, fragment by fragment; return its digest."""
        digest = hashlib.sha256()
        received = told = 0
        await tell(websocket, received=0)
        with part.open("xb") as file:
            async with asyncio.timeout(PATIENCE) as limit:
                while received < size:
                    async for fragment in websocket.recv_streaming(decode=False):
                        received += len(fragment)
                        if received > size:
                            raise Refused(f"the file was to have {size} bytes")
                        # Disks are slow, and other connections must not wait for them. This one waits: so a client that
                        # is faster than the disk has to wait, too (back-pressure).
                        await asyncio.to_thread(file.write, fragment)
                        digest.update(fragment)
                        if fragment:
                            limit.reschedule(asyncio.get_running_loop().time() + PATIENCE)
                        if received - told >= STEP:
                            told = received
                            await tell(websocket, received=received)
        return digest.hexdigest()

    def keep(self, part: Path, name: str) -> str:
        """Give a file its announced name, or a similar one; return the name."""
        stem, suffix = os.path.splitext(name)
        number = 1
        while True:
            saved = name if number == 1 else f"{stem} ({number}){suffix}"
            # Renaming would replace another file of that name.
            with contextlib.suppress(FileExistsError):
                os.link(part, self.folder / saved)
                return saved
            number += 1


async def tell(websocket: ServerConnection, **report: Any) -> None:
    """Send a report."""
    await websocket.send(json.dumps(report))


def answer(connection: ServerConnection, request: Request) -> Response | None:
    """Answer a request: with the page, a WebSocket, or an error."""
    match request.path:
        case "/":
            return connection.respond(HTTPStatus.OK, PAGE, headers={"Content-Type": "text/html; charset=utf-8"})
        case "/upload":
            return None
        case _:
            return connection.respond(HTTPStatus.NOT_FOUND, "Not found.\n")


def upload_server(folder: Path, host: str, port: int) -> Server:
    """Make a server that keeps files in a folder; await it, or use it in ``async with``."""
    return serve(
        Uploads(folder).handler,
        host,
        port,
        process_request=answer,
        max_size=(MAX_FILE, MAX_FRAGMENT),
        max_queue=4,
        # Most large files are compressed already.
        compression=None,
    )


async def main(folder: Path, port: int) -> None:
    async with upload_server(folder, "127.0.0.1", port) as server:
        for listening in server.sockets:
            print(f"open http://127.0.0.1:{listening.getsockname()[1]}/; files go to {folder}", flush=True)
        await server.serve_forever()


if __name__ == "__main__":
    folder = Path(sys.argv[1] if len(sys.argv) > 1 else "uploads")
    try:
        asyncio.run(main(folder, int(sys.argv[2]) if len(sys.argv) > 2 else 8765))
    except KeyboardInterrupt:
        pass
    except OSError as exc:
        sys.exit(str(exc))
