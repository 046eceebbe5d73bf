"""A server for clients that have a token. ``python examples/token_auth/token_server.py [port]``; Ctrl-C ends it.

Programs show it in a header, ``Authorization: Bearer <token>``. Pages can't set headers of a WebSocket, so they send
``{"token": "<token>"}`` first. The same message renews the token later. When it expires, the connection is closed.
"""

import asyncio
import json
import os
import secrets
import sys
import time
from collections.abc import Callable
from http import HTTPStatus
from pathlib import Path
from typing import Any

from tokens import InvalidToken, Token, issue, verify

from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.http11 import Request, Response

PAGE = Path(__file__).with_name("token.html").read_text("utf-8")

PATIENCE = 5  # seconds that a page has to send its token
LIFETIME = 300  # seconds, of the token that is printed for a trial

# Close codes from 4000 on are for applications to define: this one recalls HTTP's 401.
UNAUTHORIZED = 4401


class Gate:
    """Accepts clients that have a token.

    Parameters:
        key: signs the tokens.
        clock: the time in seconds since the epoch.
    """

    def __init__(self, key: bytes, clock: Callable[[], float] = time.time) -> None:
        self.key = key
        self.clock = clock

    def answer(self, connection: ServerConnection, request: Request) -> Response | None:
        """Answer a request: with the page, a WebSocket, or a refusal if the header has a wrong token."""
        match request.path:
            case "/":
                return connection.respond(HTTPStatus.OK, PAGE, headers={"Content-Type": "text/html; charset=utf-8"})
            case "/account":
                try:
                    self.in_header(request)
                except InvalidToken as exc:
                    challenge = {"WWW-Authenticate": 'Bearer error="invalid_token"'}
                    return connection.respond(HTTPStatus.UNAUTHORIZED, f"{exc}\n", headers=challenge)
                return None
            case _:
                return connection.respond(HTTPStatus.NOT_FOUND, "Not found.\n")

    def in_header(self, request: Request) -> Token | None:
        """Return the token in the header of a request; None if there is no such header."""
        header = request.headers.get("Authorization")
        if header is None:
            return None
        scheme, _, text = header.partition(" ")
        if scheme.lower() != "bearer":
            raise InvalidToken("malformed token")
        return verify(self.key, text.strip(), self.clock())

    def in_message(self, message: Any) -> Token:
        """Return the token in a message."""
        match message:
            case {"token": str(text)}:
                return verify(self.key, text, self.clock())
            case _:
                raise InvalidToken("a token is needed first")

    async def handler(self, websocket: ServerConnection) -> None:
        """Serve one connection: first check the token, then talk, until the token expires."""
        assert websocket.request is not None
        try:
            token = self.in_header(websocket.request)
            if token is None:
                async with asyncio.timeout(PATIENCE):
                    token = self.in_message(json.loads(await websocket.recv()))
            await self.talk(websocket, token)
        except InvalidToken as exc:
            await websocket.close(UNAUTHORIZED, str(exc))
        except TimeoutError:
            await websocket.close(UNAUTHORIZED, "no token was given")
        except ValueError:
            await websocket.close(UNAUTHORIZED, "that is no JSON")

    async def talk(self, websocket: ServerConnection, token: Token) -> None:
        """Do the work of the server; here it sends each message back, with the name of its user."""
        try:
            async with asyncio.timeout(None) as limit:
                await self.welcome(websocket, token, limit)
                async for text in websocket:
                    match json.loads(text):
                        case {"say": said}:
                            await websocket.send(json.dumps({"user": token.user, "said": said}))
                        case message:
                            renewed = self.in_message(message)
                            if renewed.user != token.user:
                                raise InvalidToken("that is the token of somebody else")
                            token = renewed
                            await self.welcome(websocket, token, limit)
        except TimeoutError as exc:
            raise InvalidToken("token expired") from exc

    async def welcome(self, websocket: ServerConnection, token: Token, limit: asyncio.Timeout) -> None:
        """Tell the client how long its token is valid, and set the timeout to that time."""
        left = token.expires - self.clock()
        limit.reschedule(asyncio.get_running_loop().time() + left)
        await websocket.send(json.dumps({"user": token.user, "seconds": round(left)}))


def token_server(gate: Gate, host: str, port: int) -> Server:
    """Make a server behind a gate; await it, or use it in ``async with``."""
    return serve(gate.handler, host, port, process_request=gate.answer, max_size=4096)


async def main(port: int) -> None:
    # Store the key if tokens should outlive the server, but never in the program.
    key = os.environ["TOKEN_KEY"].encode() if "TOKEN_KEY" in os.environ else secrets.token_bytes()
    async with token_server(Gate(key), "127.0.0.1", port) as server:
        for listening in server.sockets:
            print(f"open http://127.0.0.1:{listening.getsockname()[1]}/")
        # Usually the service that checks passwords issues tokens: the web application, or a separate server.
        print(f"token of ada, for {LIFETIME} s: {issue(key, Token('ada', time.time() + LIFETIME))}", flush=True)
        await server.serve_forever()


if __name__ == "__main__":
    try:
        asyncio.run(main(int(sys.argv[1]) if len(sys.argv) > 1 else 8765))
    except KeyboardInterrupt:
        pass
    except OSError as exc:
        sys.exit(str(exc))
