"""A server that lets in only who has a token, in the query or in a header."""

from __future__ import annotations

import asyncio
import http
from urllib.parse import parse_qs, urlsplit

from websockets.asyncio.client import connect
from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import InvalidStatus
from websockets.http11 import Request, Response

USERS = {"token-of-ann": "ann", "token-of-bob": "bob"}


def token_in(request: Request) -> str | None:
    query = parse_qs(urlsplit(request.path).query)
    if "token" in query:
        return query["token"][0]
    authorization = request.headers.get("Authorization", "")
    scheme, _, token = authorization.partition(" ")
    return token if scheme == "Bearer" else None


async def authenticate(connection: ServerConnection, request: Request) -> Response | None:
    token = token_in(request)
    if token is None:
        response = connection.respond(http.HTTPStatus.UNAUTHORIZED, "Missing token\n")
        response.headers["WWW-Authenticate"] = "Bearer"
        return response
    await asyncio.sleep(0)  # a look into a database
    if token not in USERS:
        return connection.respond(http.HTTPStatus.FORBIDDEN, "Invalid token\n")
    connection.username = USERS[token]
    return None


async def greet(websocket: ServerConnection) -> None:
    await websocket.send(f"hello, {websocket.username}")


async def attempt(uri: str, token: str | None = None) -> None:
    headers = None if token is None else {"Authorization": f"Bearer {token}"}
    try:
        async with connect(uri, additional_headers=headers) as websocket:
            print(await websocket.recv())
    except InvalidStatus as exc:
        response = exc.response
        print(exc)
        print(response.status_code, response.reason_phrase, response.headers.get("WWW-Authenticate"))
        print(response.body.decode().strip())


async def main() -> None:
    async with serve(greet, "127.0.0.1", 0, process_request=authenticate) as server:
        uri = f"ws://127.0.0.1:{next(iter(server.sockets)).getsockname()[1]}/"
        await attempt(f"{uri}?token=token-of-ann")
        await attempt(uri, "token-of-bob")
        await attempt(uri)
        await attempt(uri, "token-of-eve")


asyncio.run(main())
