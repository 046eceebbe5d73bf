"""Peer for our API for threads.

Charter: adapts ``websockets.sync`` to the contract, whose coroutines never wait here: what a link does has been done
when its method returns.
"""

from __future__ import annotations

import json
import sys
import threading
from collections.abc import Coroutine
from typing import Any, TypeVar

from contract import Closed, Link, emit, handle, play

from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect
from websockets.sync.server import ServerConnection, serve
from websockets.version import version

LIBRARY = f"websockets {version}"

# Seconds that a ping may take to be answered.
PATIENCE = 20

T = TypeVar("T")


class ThreadLink:
    """A connection of the library."""

    def __init__(self, websocket: Any) -> None:
        self.websocket = websocket

    @property
    def deflate(self) -> bool:
        return "permessage-deflate" in self.websocket.response.headers.get("Sec-WebSocket-Extensions", "")

    async def send(self, message: str | bytes) -> None:
        self.websocket.send(message)

    async def receive(self) -> str | bytes:
        try:
            message: str | bytes = self.websocket.recv()
        except ConnectionClosed:
            raise Closed(self.websocket.close_code, self.websocket.close_reason or "") from None
        return message

    async def ping(self, payload: bytes) -> None:
        answered: threading.Event = self.websocket.ping(payload)
        if not answered.wait(PATIENCE):
            raise TimeoutError("no pong")

    async def close(self, code: int, reason: str) -> int | None:
        self.websocket.close(code, reason)
        close_code: int | None = self.websocket.close_code
        return close_code


def done(work: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine that waits for nothing."""
    try:
        work.send(None)
    except StopIteration as stop:
        result: T = stop.value
        return result
    raise AssertionError("it waits")


async def opened(uri: str, deflate: bool) -> Link:
    """Open a connection."""
    return ThreadLink(connect(uri, compression="deflate" if deflate else None, proxy=None, legacy=True))


def run_client(uri: str) -> None:
    """Play scenarios until standard input ends."""
    emit(library=LIBRARY)
    for line in sys.stdin:
        scenario = json.loads(line)
        emit(target=scenario["target"], **done(play(opened, uri, scenario)))


def handler(websocket: ServerConnection) -> None:
    """Attend to one connection."""
    assert websocket.request is not None
    done(handle(ThreadLink(websocket), websocket.request.path))


def run_server() -> None:
    """Serve until standard input ends."""
    with serve(handler, "127.0.0.1", 0) as server:
        serving = threading.Thread(target=server.serve_forever)
        serving.start()
        emit(library=LIBRARY, port=server.socket.getsockname()[1])
        sys.stdin.read()
    serving.join()


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["server"]:
            run_server()
        case ["client", address]:
            run_client(address)
        case _:
            sys.exit(f"usage: {sys.argv[0]} server | client URI")
