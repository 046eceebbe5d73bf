"""Check that the installed package works, with the expected twin of the accelerator.

    python check_installed.py [native|python]

Charter: knows the public asyncio API and the choice of the twin; imports the package from the path of Python, which
must not contain a source tree.
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import websockets
from websockets import _codec
from websockets.asyncio.client import connect
from websockets.asyncio.server import ServerConnection, serve


async def echo(connection: ServerConnection) -> None:
    """Send each message back; a handler."""
    async for message in connection:
        await connection.send(message)


async def exchange() -> None:
    """Send a message of each kind to a server and back, and close the connection in good order."""
    async with serve(echo, "127.0.0.1", 0) as server:
        port = next(iter(server.sockets)).getsockname()[1]
        async with connect(f"ws://127.0.0.1:{port}/", proxy=None) as connection:
            for message in ("text é", b"binary" * 100_000):
                await connection.send(message)
                assert await connection.recv() == message
        assert connection.close_code == 1000


def main() -> None:
    """Check the installed package; exit with status 1 if something is wrong."""
    expected = sys.argv[1] if len(sys.argv) > 1 else "native"
    folder = Path(websockets.__file__).parent
    if folder.parent.name == "src":
        sys.exit(f"{folder} is a source tree")
    if not (folder / "py.typed").is_file():
        sys.exit(f"{folder} isn't typed")
    if expected != _codec.TWIN:
        sys.exit(f"the accelerator is {_codec.TWIN} instead of {expected}")
    asyncio.run(exchange())
    print(f"websockets {websockets.__version__} works with the {expected} accelerator")


if __name__ == "__main__":
    main()
