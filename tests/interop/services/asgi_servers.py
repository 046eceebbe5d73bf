"""``websockets.asgi`` under uvicorn, with Starlette and FastAPI, and under gunicorn with uvicorn's worker.

Charter: prints what clients see, one line each, for the test to compare. Runs where the frameworks are installed.
"""

# pyright: reportMissingImports=false
# Frameworks are installed where they run, not where types are checked.

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import fastapi
import uvicorn
import uvloop
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket, WebSocketDisconnect

import websockets
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

PROTOCOL = "websockets.asgi:UvicornProtocol"
START_TIMEOUT = 20


# ----------------------------------------------------------------------------------------------------- applications


async def echo(websocket: WebSocket) -> None:
    """Echo until the client closes, and tell how it did."""
    await websocket.accept(subprotocol=next(iter(websocket.scope["subprotocols"]), None), headers=[(b"x-a", b"1")])
    await websocket.send_text(f"{websocket.state.greeting} {websocket.client.host}")
    try:
        while True:
            event = await websocket.receive()
            websocket._raise_on_disconnect(event)
            await websocket.send({**event, "type": "websocket.send"})
    except WebSocketDisconnect as exc:
        print("server: disconnected with", exc.code, exc.reason or "-", flush=True)


async def refuse(websocket: WebSocket) -> None:
    """Refuse the request with a page."""
    await websocket.send_denial_response(PlainTextResponse("not today", 402))


async def page(request: Any) -> PlainTextResponse:
    """Answer a request that is none for a WebSocket."""
    return PlainTextResponse("page")


@contextlib.asynccontextmanager
async def lifespan(app: Any) -> AsyncIterator[dict[str, str]]:
    yield {"greeting": "hello"}


starlette = Starlette(
    routes=[WebSocketRoute("/echo", echo), WebSocketRoute("/refuse", refuse), Route("/page", page)], lifespan=lifespan
)
api = fastapi.FastAPI(lifespan=lifespan)


@api.websocket("/items/{item}")  # type: ignore[untyped-decorator]
async def items(websocket: fastapi.WebSocket, item: int) -> None:
    """Send what FastAPI found in the path, then close."""
    await websocket.accept()
    await websocket.send_json({"item": item})
    await websocket.close(4001, "sold out")


# ---------------------------------------------------------------------------------------------------------- uvicorn


@contextlib.asynccontextmanager
async def running(application: Any, **settings: Any) -> AsyncIterator[tuple[uvicorn.Server, int]]:
    """A server of uvicorn in this loop, and its port."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
        config = uvicorn.Config(application, ws=PROTOCOL, log_level="critical", **settings)
        server = uvicorn.Server(config)
        serving = asyncio.create_task(server.serve(sockets=[listening]))
        try:
            while not server.started:
                await asyncio.wait([serving], timeout=0.01)
            yield server, port
        finally:
            server.should_exit = True
            await serving


async def converse(uri: str) -> None:
    async with connect(f"{uri}/echo", subprotocols=["a", "b"]) as websocket:  # type: ignore[list-item]
        assert websocket.response is not None
        print("client: chose", websocket.subprotocol, "header", websocket.response.headers["x-a"])
        print("client: extensions", [extension.name for extension in websocket.protocol.extensions])
        print("client: received", await websocket.recv())
        for message in ("text", b"bytes", "x" * 2**20):
            await websocket.send(message)
            assert await websocket.recv() == message
        await websocket.close(3001, "bye")
    try:
        await connect(f"{uri}/refuse")
    except InvalidStatus as exc:
        print("client: refused with", exc.response.status_code, bytes(exc.response.body).decode())
    reader, writer = await asyncio.open_connection("127.0.0.1", int(uri.rpartition(":")[2]))
    writer.write(b"GET /page HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
    print("client: page", (await reader.read()).rpartition(b"\r\n\r\n")[2].decode())
    writer.close()


async def on_uvicorn(loop: str) -> None:
    print("client: uvicorn on", loop, "is", type(asyncio.get_running_loop()).__module__.partition(".")[0])
    async with running(starlette) as (server, port):
        uri = f"ws://127.0.0.1:{port}"
        await converse(uri)
        forwarded = {"X-Forwarded-For": "192.0.2.1"}
        async with connect(f"{uri}/echo", compression=None, additional_headers=forwarded) as websocket:
            print("client: through a proxy", await websocket.recv())
            server.should_exit = True
            try:
                await websocket.recv()
            except ConnectionClosed as exc:
                print("client: shutdown:", str(exc).partition(";")[0])
    async with running(api) as (_, port):
        async with connect(f"ws://127.0.0.1:{port}/items/7") as websocket:
            print("client: FastAPI", await websocket.recv())
            await websocket.wait_closed()
            print("client: closed with", websocket.close_code, websocket.close_reason)


# --------------------------------------------------------------------------------------------------------- gunicorn

WORKER = """
from uvicorn_worker import UvicornWorker


class Worker(UvicornWorker):
    CONFIG_KWARGS = {**UvicornWorker.CONFIG_KWARGS, "ws": "websockets.asgi:UvicornProtocol"}
"""


def start_gunicorn(folder: str, number: int) -> subprocess.Popen[bytes]:
    """Start gunicorn with two workers, on a socket that listens."""
    Path(folder, "worker.py").write_text(WORKER)
    here = Path(__file__).resolve()
    command = [
        *(sys.executable, "-m", "gunicorn", f"{here.stem}:starlette", "--worker-class", "worker.Worker"),
        *("--workers", "2", "--bind", f"fd://{number}", "--log-level", "error"),
    ]
    folders = os.pathsep.join([folder, str(here.parent), *filter(None, [os.environ.get("PYTHONPATH")])])
    # gunicorn writes to its home.
    variables = {**os.environ, "PYTHONPATH": folders, "HOME": folder}
    return subprocess.Popen(command, cwd=folder, pass_fds=[number], env=variables, stdout=subprocess.DEVNULL)


async def on_gunicorn() -> None:
    with tempfile.TemporaryDirectory() as folder, socket.create_server(("127.0.0.1", 0)) as listening:
        process = start_gunicorn(folder, listening.fileno())
        try:
            await ask_gunicorn(listening.getsockname()[1])
            process.send_signal(signal.SIGTERM)
            print("client: gunicorn ended with", await asyncio.to_thread(process.wait, START_TIMEOUT))
        finally:
            process.kill()


async def ask_gunicorn(port: int) -> None:
    # The socket listens already, so this waits until a worker accepts.
    async with connect(f"ws://127.0.0.1:{port}/echo", open_timeout=START_TIMEOUT) as websocket:
        print("client: gunicorn received", await websocket.recv())
        await websocket.send("text")
        print("client: gunicorn received", await websocket.recv())


async def main() -> None:
    print("library: websockets", websockets.__version__)
    await on_uvicorn("asyncio")


if __name__ == "__main__":
    asyncio.run(main())
    uvloop.run(on_uvicorn("uvloop"))
    asyncio.run(on_gunicorn())
