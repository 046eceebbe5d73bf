"""A client that sends a file and shows the progress. ``python examples/upload/upload_client.py file [uri]``"""

import asyncio
import contextlib
import json
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

FRAGMENT = 2**16


async def fragments(path: Path) -> AsyncIterator[bytes]:
    """Yield the content of a file, piece by piece: it may be larger than the memory."""
    with path.open("rb") as file:
        while data := await asyncio.to_thread(file.read, FRAGMENT):
            yield data


def announcement(path: Path) -> dict[str, Any]:
    """Return the message that announces a file."""
    return {"name": path.name, "size": path.stat().st_size}


async def upload(uri: str, path: Path, progress: Callable[[int, int], None]) -> dict[str, Any]:
    """Send a file as one message.

    Parameters:
        uri: the server.
        path: the file.
        progress: called with the number of bytes that have arrived, and the total.

    Returns:
        The last report of the server: the name of the file there, and its digest.

    Raises:
        ConnectionClosed: the server refused it; ``exc.rcvd.reason`` says why.
    """
    async with connect(uri, compression=None) as websocket:
        announced = announcement(path)
        await websocket.send(json.dumps(announced))
        report: dict[str, Any] = json.loads(await websocket.recv())
        # Reports come while we send. Sending waits whenever the server, or its disk, is slower (back-pressure).
        sending = asyncio.create_task(websocket.send(fragments(path)))
        try:
            while "saved" not in report:
                report = json.loads(await websocket.recv())
                progress(report["received"], announced["size"])
        finally:
            # Everything is sent, or the connection is closed.
            sending.cancel()
            with contextlib.suppress(asyncio.CancelledError, Exception):
                await sending
        return report


def show(received: int, size: int) -> None:
    print(f"\r{received / size if size else 1:4.0%}", end="", flush=True)


async def main(path: Path, uri: str) -> None:
    try:
        report = await upload(uri, path, show)
    except ConnectionClosed as exc:
        sys.exit(f"\rnot taken: {exc}")
    print(f"\rsaved as {report['saved']}, SHA-256 {report['sha256']}")


if __name__ == "__main__":
    try:
        asyncio.run(main(Path(sys.argv[1]), sys.argv[2] if len(sys.argv) > 2 else "ws://127.0.0.1:8765/upload"))
    except KeyboardInterrupt:
        pass
    except OSError as exc:
        sys.exit(str(exc))
