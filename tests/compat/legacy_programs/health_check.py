"""Answers over HTTP beside the WebSocket: a hook that returns status, headers and body."""

from __future__ import annotations

import asyncio
import http

from websockets.client import connect
from websockets.exceptions import AbortHandshake, InvalidStatusCode
from websockets.server import serve


async def health_check(path, request_headers):
    if path == "/health/":
        return http.HTTPStatus.OK, [("X-Health", "good")], b"OK\n"
    if "X-Forbidden" in request_headers:
        raise AbortHandshake(http.HTTPStatus.FORBIDDEN, {"X-Reason": request_headers["X-Forbidden"]}, b"no\n")
    return None


async def echo(websocket, path):
    async for message in websocket:
        await websocket.send(message)


async def get(port, path):
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
    answer = (await reader.read()).decode()
    writer.close()
    head, _, body = answer.partition("\r\n\r\n")
    status, *headers = head.split("\r\n")
    kept = [header for header in headers if header.split(":")[0] in ("X-Health", "Content-Length", "Connection")]
    print(status, sorted(kept), repr(body))


async def main():
    async with serve(echo, "127.0.0.1", 0, process_request=health_check) as server:
        port = server.sockets[0].getsockname()[1]
        await get(port, "/health/")
        async with connect(f"ws://127.0.0.1:{port}/") as websocket:
            await websocket.send("alive")
            print(await websocket.recv())
        try:
            await connect(f"ws://127.0.0.1:{port}/", extra_headers={"X-Forbidden": "because"})
        except InvalidStatusCode as exc:
            print(exc, exc.headers["X-Reason"])


asyncio.run(main())
