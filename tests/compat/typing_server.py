"""Servers as typed programs write them; nothing here runs: see test_typing.py."""

from __future__ import annotations

import asyncio
import re
import socket
import ssl
from collections.abc import Sequence
from typing import Any, assert_type

from werkzeug.routing import Map, Rule

from websockets import broadcast, serve
from websockets.asyncio.router import Router, route, unix_route
from websockets.asyncio.server import Server, ServerConnection, basic_auth, unix_serve
from websockets.extensions.permessage_deflate import ServerPerMessageDeflateFactory
from websockets.http11 import Request, Response
from websockets.typing import Origin, Subprotocol


async def handler(connection: ServerConnection) -> None:
    async for message in connection:
        await connection.send(message)


async def handler_with_path(connection: ServerConnection, path: str) -> None:
    await connection.send(path)


class Application:
    """An object with a method as its handler."""

    async def handle(self, connection: ServerConnection) -> None:
        print(connection.username, self)

    async def __call__(self, connection: ServerConnection) -> None:
        await self.handle(connection)


async def no_handler(connection: int) -> None:
    """What takes something else."""


async def use(ssl_context: ssl.SSLContext) -> None:
    async with serve(handler, "localhost", 8765) as server:
        assert_type(server, Server)
        await server.serve_forever()
    server = await serve(handler, ["127.0.0.1", "::1"], 8765, ssl=ssl_context, reuse_port=True)
    assert_type(server.connections, set[ServerConnection])
    assert_type(server.is_serving(), bool)
    assert_type(server.get_loop(), asyncio.AbstractEventLoop)
    assert_type([listening.getsockname() for listening in server.sockets], list[Any])
    assert_type(server.sockets, tuple[socket.socket, ...])
    assert_type(server.sockets[0], socket.socket)
    assert_type(server.all_connections, set[ServerConnection])
    assert_type(server.handler_tasks, set[asyncio.Task[None]])
    server.close()
    server.close(close_connections=False)
    server.close(code=1001, reason="restart")
    await server.wait_closed()
    serve(handler_with_path, port=0)
    serve(Application().handle)
    serve(Application())
    unix_serve(handler, "/run/socket")
    serve(no_handler)  # type: ignore[arg-type]
    serve(lambda connection: None)  # type: ignore[arg-type]


def refuse(connection: ServerConnection, request: Request) -> Response | None:
    return connection.respond(403, "no\n") if request.headers.get("X-Token") is None else None


async def refuse_later(connection: ServerConnection, request: Request) -> Response | None:
    return refuse(connection, request)


def change(connection: ServerConnection, request: Request, response: Response) -> None:
    response.headers["X-Server"] = "mine"


async def change_later(connection: ServerConnection, request: Request, response: Response) -> Response | None:
    return response


def choose(connection: ServerConnection, offered: Sequence[Subprotocol]) -> Subprotocol | None:
    return offered[0] if offered else None


async def choose_later(connection: ServerConnection, offered: Sequence[Subprotocol]) -> Subprotocol | None:
    return choose(connection, offered)


class Mine(ServerConnection):
    """A connection with an attribute of its own."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.messages = 0


def hooks() -> None:
    serve(handler, process_request=refuse, process_response=change, select_subprotocol=choose)
    serve(handler, process_request=refuse_later, process_response=change_later, select_subprotocol=choose_later)
    serve(handler, origins=[None, Origin("https://example.com"), re.compile(r"https://.*\.example\.com")])
    serve(handler, subprotocols=[Subprotocol("chat")], server_header=None, create_connection=Mine)
    serve(handler, extensions=[ServerPerMessageDeflateFactory(server_max_window_bits=10)], compression=None)
    serve(handler, process_request=lambda connection, request: connection.respond(200, request.path))
    serve(handler, process_request=change)  # type: ignore[arg-type]


async def check(username: str, password: str) -> bool:
    return username == password


def authentication() -> None:
    serve(handler, process_request=basic_auth("realm", ("user", "password")))
    serve(handler, process_request=basic_auth(credentials=[("user", "password"), ("other", "word")]))
    serve(handler, process_request=basic_auth(check_credentials=check))
    basic_auth(check_credentials=lambda username, password: username == password)
    basic_auth(credentials=42)  # type: ignore[arg-type]


class Mapped(Router):
    """A router with its own pages."""

    def not_found(self, connection: ServerConnection) -> Response:
        return connection.respond(404, "nothing here\n")

    def get_server_name(self, connection: ServerConnection, request: Request) -> str:
        return "example.com"


async def room(connection: ServerConnection, room: str) -> None:
    await connection.send(room)


def routing(context: ssl.SSLContext) -> None:
    url_map = Map([Rule("/<room>", endpoint=room)])
    assert_type(route(url_map, "localhost", 8765), Server)
    route(url_map, port=8765, server_name="example.com", ssl=context, create_router=Mapped)
    route(url_map, ssl=True, process_request=basic_auth(credentials=("user", "password")))
    assert_type(unix_route(url_map, "/run/socket", server_name="example.com"), Server)


def tell(connections: set[ServerConnection], named: dict[ServerConnection, str]) -> None:
    broadcast(connections, "text")
    broadcast(named, b"binary", text=True, raise_exceptions=True)
    broadcast([connection for connection in connections if connection.username], memoryview(b"binary"))
    broadcast(connections, ["fragments"])  # type: ignore[arg-type]
