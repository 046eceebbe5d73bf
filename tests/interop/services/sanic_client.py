"""The test client of ``sanic``, which stands on our legacy API, with an application of ``sanic``.

Charter: prints what both sides see, one line each, for the test to compare. Runs where the frameworks are installed.
"""

# pyright: reportMissingImports=false
# Frameworks are installed where they run, not where types are checked.

from __future__ import annotations

from typing import Any

from sanic import Sanic
from sanic_testing.testing import SanicTestClient

import websockets


async def shout(request: Any, websocket: Any) -> None:
    """Send back what is received, until an empty message, which ends the test client's conversation."""
    while message := await websocket.recv():
        print("server: received", message)
        await websocket.send(message.upper())


async def talk(websocket: Any) -> None:
    for message in ("hello", b"bytes"):
        await websocket.send(message)
        await websocket.recv()


def main() -> None:
    print("library: websockets", websockets.__version__)
    application = Sanic("application", configure_logging=False)
    application.add_websocket_route(shout, "/shout")
    _, response = SanicTestClient(application).websocket("/shout", mimic=talk)
    print("client: sent", response.client_sent)
    print("client: received", response.client_received)


if __name__ == "__main__":
    main()
