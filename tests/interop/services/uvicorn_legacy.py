"""``uvicorn --ws websockets``, which derives a class from our legacy API, with a client of ours and ``aiohttp``.

Charter: prints what both sides see, one line each, for the test to compare. Runs where the frameworks are installed.
"""

# pyright: reportMissingImports=false
# Frameworks are installed where they run, not where types are checked.

from __future__ import annotations

import asyncio
import socket
from typing import Any

import aiohttp
import uvicorn

import websockets
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

# Seconds; long for a machine that is busy, short for a test.
PING_INTERVAL = 0.5

REQUEST = (
    b"GET /silent HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)


async def application(scope: Any, receive: Any, send: Any) -> None:
    """Echo, unless the path says otherwise."""
    await receive()
    path = scope["path"]
    query = scope["query_string"].decode()
    target = f"{path}?{query}" if query else path
    if (path, scope["subprotocols"]) != ("/busy", ["seen"]):
        print("server:", target, "offers", scope["subprotocols"])
    if path == "/forbidden":
        await send({"type": "websocket.close"})
    elif path == "/busy":
        headers = [(b"retry-after", b"later")]
        await send({"type": "websocket.http.response.start", "status": 503, "headers": headers})
        await send({"type": "websocket.http.response.body", "body": b"bu", "more_body": True})
        await send({"type": "websocket.http.response.body", "body": b"sy"})
    elif path == "/broken":
        raise RuntimeError("broken on purpose")
    else:
        subprotocol = next(iter(scope["subprotocols"]), None)
        await send({"type": "websocket.accept", "subprotocol": subprotocol, "headers": [(b"x-header", b"1")]})
        await echo(receive, send)


async def echo(receive: Any, send: Any) -> None:
    while (event := await receive())["type"] == "websocket.receive":
        kind = "text" if event.get("text") is not None else "bytes"
        await send({"type": "websocket.send", kind: event[kind]})
    reason = event.get("reason")
    print("server: disconnected with", int(event["code"]), *([reason] if reason else []))


async def converse_with_aiohttp(session: aiohttp.ClientSession, uri: str) -> None:
    async with session.ws_connect(f"{uri}/echo?x=1", protocols=("a", "b")) as websocket:
        print(f"client: aiohttp chose {websocket.protocol}, header {websocket._response.headers['x-header']}")
        await websocket.send_str("text")
        print("client: aiohttp received", repr((await websocket.receive()).data))
        await websocket.send_bytes(b"bytes")
        print("client: aiohttp received", repr((await websocket.receive()).data))
        await websocket.close(code=3001, message=b"bye")


async def converse(uri: str) -> None:
    async with connect(f"{uri}/plain") as websocket:
        assert websocket.response is not None
        print(f"client: ours chose {websocket.subprotocol}, header {websocket.response.headers['x-header']}")
        await websocket.send("text")
        print("client: ours received", repr(await websocket.recv()))
        await websocket.send(bytes(2**20))
        print("client: ours received", len(await websocket.recv()), "bytes")
        # It lives on through several pings.
        await asyncio.sleep(PING_INTERVAL * 3)
        await (await websocket.ping())


async def be_refused(session: aiohttp.ClientSession, uri: str) -> None:
    for path in ("/forbidden", "/busy", "/broken"):
        try:
            await session.ws_connect(f"{uri}{path}")
        except aiohttp.WSServerHandshakeError as exc:
            print("client: aiohttp was refused with", exc.status)
    try:
        await connect(f"{uri}/busy", subprotocols=["seen"])  # type: ignore[list-item]
    except InvalidStatus as exc:
        response = exc.response
        body = bytes(response.body).decode()
        print(f"client: ours was refused with {response.status_code}, {body}, {response.headers['Retry-After']}")


async def be_silent(port: int) -> None:
    """A client that doesn't answer pings."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(REQUEST)
    _, _, frames = (await reader.read()).partition(b"\r\n\r\n")
    writer.close()
    ping, close = frames[:6], frames[6:]
    assert ping[:2] == b"\x89\x04"
    print("client: no pong: ping, close", int.from_bytes(close[2:4], "big"), close[4:].decode())


async def main() -> None:
    print("library: websockets", websockets.__version__)
    listening = socket.create_server(("127.0.0.1", 0))
    port = listening.getsockname()[1]
    uri = f"ws://127.0.0.1:{port}"
    config = uvicorn.Config(
        application,
        ws="websockets",
        lifespan="off",
        log_level="critical",
        ws_ping_interval=PING_INTERVAL,
        ws_ping_timeout=PING_INTERVAL,
    )
    server = uvicorn.Server(config)
    serving = asyncio.create_task(server.serve(sockets=[listening]))
    while not server.started:
        await asyncio.wait([serving], timeout=0.01)
    async with aiohttp.ClientSession() as session:
        await converse_with_aiohttp(session, uri)
        await converse(uri)
        await be_refused(session, uri)
        await be_silent(port)
    websocket = await connect(f"{uri}/shutdown")
    server.should_exit = True
    try:
        await websocket.recv()
    except ConnectionClosed as exc:
        print("client: shutdown:", str(exc).partition(";")[0])
    await serving


asyncio.run(main())
