"""Servers on asyncio with a handler for each path."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
import sys
from collections.abc import AsyncIterator
from typing import Any

import pytest
from werkzeug.routing import Map, Rule

from _kit import request, virtual
from _kit.asking import ask, reach, uri_of
from websockets.asyncio.client import connect, unix_connect
from websockets.asyncio.router import Router, route, unix_route
from websockets.asyncio.server import Server, ServerConnection, basic_auth
from websockets.exceptions import InvalidStatus
from websockets.http11 import Request, Response


async def root(connection: ServerConnection) -> None:
    await connection.send("root")


async def add(connection: ServerConnection, first: int, second: int) -> None:
    assert connection.handler_kwargs == {"first": first, "second": second}
    await connection.send(str(first + second))


def url_map() -> Map:
    return Map(
        [
            Rule("/", endpoint=root),
            Rule("/folder/", endpoint=root),
            Rule("/add/<int:first>/<int:second>", endpoint=add),
            Rule("/post", endpoint=root, methods=["POST"]),
        ]
    )


@contextlib.asynccontextmanager
async def routing(**options: Any) -> AsyncIterator[Server]:
    async with route(url_map(), "localhost", 0, compression=None, **options) as server:
        yield server


async def answer(uri: str, **options: Any) -> Any:
    """The first message of a handler, or the status of a refusal."""
    try:
        async with connect(uri, **options) as client:
            return await client.recv()
    except InvalidStatus as exc:
        return exc.response.status_code


@pytest.mark.parametrize(
    ("path", "expected"),
    [("/", "root"), ("/add/1/2", "3"), ("/folder", "root"), ("/add/1", 404), ("/post", 405), ("/add/1/2?x", "3")],
)
@virtual
async def test_routes(path: str, expected: Any) -> None:
    async with routing() as server:
        assert await answer(uri_of(server, path)) == expected


@virtual
async def test_targets_in_absolute_form() -> None:
    """RFC 9112 section 3.2.2: path and query choose the route, and the host of the target is the server's name."""
    async with routing() as server:
        for target, status in [("/add/1/2", 101), ("/add/1/2?a", 101), ("", 101), ("/add/1", 404)]:
            peer = await reach(server)
            await peer.send(request(f"ws://example.com:8765{target}", host="other"))
            assert (await peer.read_until()).startswith(b"HTTP/1.1 %d " % status)
            peer.reset()
        found = await ask(server, request("HTTP://example.com:8765/folder", host="other"))
        assert found.headers["Location"] == ["ws://example.com:8765/folder/"]


@virtual
async def test_unix_routes() -> None:
    async with unix_route(url_map(), "/run/socket", server_name="example.com"):
        async with unix_connect("/run/socket", "ws://localhost/add/3/4") as client:
            assert await client.recv() == "7"


@virtual
async def test_refusal_keeps_the_request_from_the_handshake() -> None:
    async with routing() as server:
        assert (await ask(server, request("/nowhere", {"Upgrade": None}))).status == "404 Not Found"
        assert (await ask(server, request("/", {"Upgrade": None}))).status == "426 Upgrade Required"
        assert (await ask(server, request("/nowhere", {"Host": None}))).status == "400 Bad Request"
        assert (await ask(server, request("/nowhere", {"Host": ["a", "b"]}))).status == "400 Bad Request"


@pytest.mark.parametrize(
    ("options", "location"),
    [
        ({}, "ws://localhost/folder/"),
        ({"ssl": True}, "wss://localhost/folder/"),
        ({"server_name": "example.com:8000"}, "ws://example.com:8000/folder/"),
        ({"server_name": "example.com", "ssl": True}, "wss://example.com/folder/"),
    ],
)
@virtual
async def test_redirect(options: dict[str, Any], location: str) -> None:
    async with routing(**options) as server:
        found = await ask(server, request("/folder"))
    assert found.status == "302 Found"
    assert found.headers["Location"] == [location]
    assert found.body == f"Found at {location}".encode()


@virtual
async def test_tls_of_our_own(monkeypatch: pytest.MonkeyPatch) -> None:
    arguments: dict[str, Any] = {}
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)

    async def create_server(*args: Any, **kwargs: Any) -> Any:
        arguments.update(kwargs)
        raise OSError("not today")

    monkeypatch.setattr(asyncio.get_running_loop(), "create_server", create_server)
    with pytest.raises(OSError, match="not today"):
        await route(url_map(), "localhost", 8765, ssl=context)
    assert arguments["ssl"] is context


async def refuse_later(connection: ServerConnection, request: Request) -> Response | None:
    await asyncio.sleep(1)
    return refuse(connection, request)


def refuse(connection: ServerConnection, request: Request) -> Response | None:
    return connection.respond(418, "tea") if request.path == "/add/1/2" else None


@pytest.mark.parametrize("process_request", [refuse, refuse_later])
@virtual
async def test_process_request_comes_first(process_request: Any) -> None:
    async with routing(process_request=process_request) as server:
        assert await answer(uri_of(server, "/add/1/2")) == 418
        assert await answer(uri_of(server, "/add/1/3")) == "4"
        assert await answer(uri_of(server, "/nowhere")) == 404


@virtual
async def test_with_basic_auth() -> None:
    async with routing(process_request=basic_auth(credentials=("user", "pass"))) as server:
        assert await answer(uri_of(server, "/nowhere")) == 401
        assert await answer(uri_of(server, "/nowhere", "user:pass@")) == 404
        assert await answer(uri_of(server, "/", "user:pass@")) == "root"


@virtual
async def test_create_router() -> None:
    class Mine(Router):
        def not_found(self, connection: ServerConnection) -> Response:
            return connection.respond(404, f"no {self.url_scheme} here")

        async def handler(self, connection: ServerConnection) -> None:
            await connection.send("mine")
            await super().handler(connection)

    async with routing(create_router=Mine) as server:
        assert (await ask(server, request("/nowhere"))).body == b"no ws here"
        async with connect(uri_of(server)) as client:
            assert [message async for message in client] == ["mine", "root"]


@pytest.mark.parametrize("function", [route, unix_route])
def test_without_werkzeug(function: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "werkzeug.routing", None)
    with pytest.raises(ImportError, match=rf"^{function.__name__}\(\) requires werkzeug$"):
        function(None)
