"""Logs that tell which connection each line is about."""

from __future__ import annotations

import asyncio
import logging
import sys
from collections.abc import MutableMapping
from typing import Any

from websockets.asyncio.client import connect
from websockets.asyncio.server import ServerConnection, serve


class PathAdapter(logging.LoggerAdapter[logging.Logger]):
    """Puts the path of the request before each line."""

    def process(self, msg: Any, kwargs: MutableMapping[str, Any]) -> tuple[Any, MutableMapping[str, Any]]:
        try:
            websocket = kwargs["extra"]["websocket"]
        except KeyError:
            return msg, kwargs
        path = websocket.request.path if websocket.request is not None else "?"
        return f"{path}: {msg}", kwargs


class ConnectionFormatter(logging.Formatter):
    """Shows the state of the connection that a record is about."""

    def format(self, record: logging.LogRecord) -> str:
        websocket = getattr(record, "websocket", None)
        state = "-" if websocket is None else websocket.state.name
        return f"{record.levelname} {state} {record.getMessage()}"


async def handler(websocket: ServerConnection) -> None:
    websocket.logger.info("hello from the handler")
    async for message in websocket:
        websocket.logger.warning("received %s", message)
        await websocket.send("noted")


async def main() -> None:
    output = logging.StreamHandler(sys.stdout)
    output.setFormatter(ConnectionFormatter())
    # The address is another one each time.
    output.addFilter(lambda record: "listening" not in record.getMessage())
    logger = logging.getLogger("program")
    logger.addHandler(output)
    logger.setLevel(logging.INFO)
    for path in ("/first", "/second"):
        async with serve(handler, "127.0.0.1", 0, logger=PathAdapter(logger, None)) as server:
            port = next(iter(server.sockets)).getsockname()[1]
            async with connect(f"ws://127.0.0.1:{port}{path}") as websocket:
                await websocket.send("a message")
                await websocket.recv()
        print("client:", websocket.close_code)


asyncio.run(main())
