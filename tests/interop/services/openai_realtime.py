"""The client of ``openai`` for its realtime service, on our client, with a server of ours that plays the service.

Charter: prints what both sides see, one line each, for the test to compare. Runs where the frameworks are installed.
"""

# pyright: reportMissingImports=false
# Frameworks are installed where they run, not where types are checked.

from __future__ import annotations

import asyncio
import importlib.util
import json
import sys
import types
from typing import Any

import websockets
from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.exceptions import SecurityError
from websockets.http11 import Request, Response

if importlib.util.find_spec("websockets.sync") is None:
    # ``openai`` imports the name of a class of the front-end for threads, which its asynchronous client never uses.
    stand_in: Any = types.ModuleType("websockets.sync.client")
    stand_in.ClientConnection = object
    sys.modules["websockets.sync"] = types.ModuleType("websockets.sync")
    sys.modules["websockets.sync.client"] = stand_in

import openai


def event(kind: str, **members: Any) -> str:
    """An event of the service."""
    return json.dumps({"type": kind, "event_id": f"event {kind}", **members})


def delta(text: str) -> str:
    """A piece of the answer."""
    place = {"item_id": "item", "response_id": "response", "output_index": 0, "content_index": 0}
    return event("response.output_text.delta", delta=text, **place)


async def service(connection: ServerConnection) -> None:
    """Play the service: a session, and an answer in two pieces to whoever asks for one."""
    assert connection.request is not None
    print("server: path", connection.request.path)
    print("server: authorization", connection.request.headers["Authorization"])
    await connection.send(event("session.created", session={"type": "realtime", "model": "m"}))
    async for message in connection:
        request = json.loads(message)
        print("server: received", request["type"])
        if request["type"] == "response.create":
            await connection.send(delta("Hel"))
            await connection.send(delta("lo!"))
            await connection.send(event("response.done", response={"id": "response", "status": "completed"}))
    print("server: closed with", connection.close_code)


def redirect(connection: ServerConnection, request: Request) -> Response | None:
    """Send requests to two of the paths somewhere else."""
    place = {"/here/realtime": "/v1/realtime?model=moved", "/there/realtime": "ws://example.com/"}
    location = place.get(request.path.partition("?")[0])
    if location is None:
        return None
    response = connection.respond(302, "elsewhere\n")
    response.headers["Location"] = location
    return response


def client(server: Server, path: str) -> openai.AsyncOpenAI:
    """The client of the service, with a base URL on our server."""
    port = next(iter(server.sockets)).getsockname()[1]
    return openai.AsyncOpenAI(api_key="secret", websocket_base_url=f"ws://127.0.0.1:{port}{path}")


async def converse(server: Server, path: str) -> None:
    """Ask for an answer and print it."""
    async with client(server, path).realtime.connect(model="m") as connection:
        await connection.session.update(session={"type": "realtime", "output_modalities": ["text"]})
        await connection.response.create()
        async for received in connection:
            print("client: received", received.type, getattr(received, "delta", ""))
            if received.type == "response.done":
                return


async def main() -> None:
    print("library: websockets", websockets.__version__)
    async with serve(service, "127.0.0.1", 0, process_request=redirect) as server:
        await converse(server, "/v1")
        await converse(server, "/here")
        try:
            await converse(server, "/there")
        except SecurityError as exc:
            print("client: refused", exc)


asyncio.run(main())
