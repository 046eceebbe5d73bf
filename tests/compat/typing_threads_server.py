"""Servers for threads as typed programs write them; nothing here runs: see test_typing.py."""

from __future__ import annotations

import re
import socket
import ssl
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, assert_type

from werkzeug.routing import Map, Rule

from websockets.extensions.permessage_deflate import ServerPerMessageDeflateFactory
from websockets.http11 import Request, Response
from websockets.sync.router import Router, route, unix_route
from websockets.sync.server import (
    Server,
    ServerConnection,
    ServerStatistics,
    basic_auth,
    broadcast,
    serve,
    unix_serve,
)
from websockets.typing import Origin, Subprotocol


def handler(connection: ServerConnection) -> None:
    for message in connection:
        assert_type(message, str | bytes)
        connection.send(message)


async def async_handler(connection: ServerConnection) -> None:
    """What nobody would await."""


class Application:
    """An object with a method as its handler."""

    def handle(self, connection: ServerConnection) -> None:
        print(connection.username, self)

    def __call__(self, connection: ServerConnection) -> None:
        self.handle(connection)


def use(context: ssl.SSLContext, listening: socket.socket) -> None:
    with serve(handler, "localhost", 8765) as server:
        assert_type(server, Server)
        server.serve_forever()
    server = serve(handler, sock=listening, ssl=context)
    assert_type(server.socket, socket.socket)
    assert_type(server.fileno(), int)
    assert_type(server.connections, set[ServerConnection])
    assert_type(server.all_connections, set[ServerConnection])
    assert_type(server.statistics, ServerStatistics)
    server.shutdown()
    server.shutdown(close_connections=False)
    server.shutdown(code=1012, reason="restart", timeout=30)
    serve(Application().handle, port=0, reuse_port=True)
    serve(Application(), executor=ThreadPoolExecutor(10), daemon_threads=True)
    serve(lambda connection: connection.send("hello"))
    unix_serve(handler, "/run/socket")
    serve(async_handler)  # type: ignore[arg-type]


def refuse(connection: ServerConnection, request: Request) -> Response | None:
    return connection.respond(403, "no\n") if request.headers.get("X-Token") is None else None


async def refuse_later(connection: ServerConnection, request: Request) -> Response | None:
    return refuse(connection, request)


def change(connection: ServerConnection, request: Request, response: Response) -> None:
    response.headers["X-Server"] = "mine"


def choose(connection: ServerConnection, offered: Sequence[Subprotocol]) -> Subprotocol | None:
    return offered[0] if offered else None


class Mine(ServerConnection):
    """A connection with an attribute of its own."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.messages = 0


def hooks() -> None:
    serve(handler, process_request=refuse, process_response=change, select_subprotocol=choose)
    serve(handler, origins=[None, Origin("https://example.com"), re.compile(r"https://.*\.example\.com")])
    serve(handler, subprotocols=[Subprotocol("chat")], server_header=None, create_connection=Mine)
    serve(handler, extensions=[ServerPerMessageDeflateFactory(server_max_window_bits=10)], compression=None)
    serve(handler, process_request=lambda connection, request: connection.respond(200, request.path))
    serve(handler, process_request=refuse_later)  # type: ignore[arg-type]


async def check_later(username: str, password: str) -> bool:
    return username == password


def authentication() -> None:
    serve(handler, process_request=basic_auth("realm", ("user", "password")))
    serve(handler, process_request=basic_auth(credentials=[("user", "password"), ("other", "word")]))
    basic_auth(check_credentials=lambda username, password: username == password)
    basic_auth(check_credentials=check_later)  # type: ignore[arg-type]


class Mapped(Router):
    """A router with its own pages."""

    def not_found(self, connection: ServerConnection) -> Response:
        return connection.respond(404, "nothing here\n")


def room(connection: ServerConnection, room: str) -> None:
    connection.send(room)


def routing(context: ssl.SSLContext) -> None:
    url_map = Map([Rule("/<room>", endpoint=room)])
    assert_type(route(url_map, "localhost", 8765), Server)
    route(url_map, port=8765, server_name="example.com", ssl=context, create_router=Mapped)
    route(url_map, ssl=True, process_request=basic_auth(credentials=("user", "password")))
    assert_type(unix_route(url_map, "/run/socket", server_name="example.com"), Server)


def tell(connections: set[ServerConnection], named: dict[ServerConnection, str]) -> None:
    broadcast(connections, "text")
    broadcast(named, b"binary", text=True, raise_exceptions=True)
    broadcast(connections, ["fragments"])  # type: ignore[arg-type]
