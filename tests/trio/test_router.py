"""Servers with a handler for each path, on trio."""

from __future__ import annotations

import sys
from typing import Any

import pytest
import trio
from werkzeug.routing import Map, Rule

from _kit import wire
from _kit.certificates import client_context, server_context
from _kit.on_trio import ask, on_network, uri_of
from _kit.trio_network import TrioNetwork
from websockets.exceptions import InvalidStatus
from websockets.http11 import Request, Response
from websockets.trio.client import connect
from websockets.trio.router import Router, route
from websockets.trio.server import Server, ServerConnection


async def say(websocket: ServerConnection, word: str = "nothing") -> None:
    await websocket.send(word)


def rules() -> Map:
    return Map([Rule("/say/<word>", endpoint=say), Rule("/say/", endpoint=say)])


async def start(nursery: trio.Nursery, **options: Any) -> Server:
    async def run(task_status: trio.TaskStatus[Server]) -> None:
        await route(rules(), 0, host="localhost", task_status=task_status, **options)

    server: Server = await nursery.start(run)
    return server


async def said(uri: str, **options: Any) -> Any:
    async with connect(uri, **options) as websocket:
        return await websocket.recv()


@on_network
async def test_routes(network: TrioNetwork) -> None:
    async with trio.open_nursery() as nursery:
        server = await start(nursery)
        assert await said(uri_of(server, "/say/hello")) == "hello"
        assert await said(uri_of(server, "/say/")) == "nothing"
        # The canonical URL.
        assert await said(uri_of(server, "/say")) == "nothing"
        with pytest.raises(InvalidStatus, match="HTTP 404"):
            await said(uri_of(server, "/other"))
        await server.aclose()


@pytest.mark.parametrize("is_async", [False, True])
@on_network
async def test_process_request_comes_first(network: TrioNetwork, is_async: bool) -> None:
    def refuse(connection: ServerConnection, request: Request) -> Response | None:
        return connection.respond(403, "no") if request.path.endswith("x") else None

    async def refuse_later(connection: ServerConnection, request: Request) -> Response | None:
        await trio.sleep(1)
        return refuse(connection, request)

    async with trio.open_nursery() as nursery:
        server = await start(nursery, process_request=refuse_later if is_async else refuse)
        assert await said(uri_of(server, "/say/hello")) == "hello"
        with pytest.raises(InvalidStatus, match="HTTP 403"):
            await said(uri_of(server, "/say/x"))
        await server.aclose()


@on_network
async def test_tls_and_a_class_of_routers(network: TrioNetwork) -> None:
    class Mine(Router):
        def not_found(self, connection: Any) -> Response:
            response: Response = connection.respond(410, "gone")
            return response

    async with trio.open_nursery() as nursery:
        server = await start(nursery, ssl=server_context(), create_router=Mine)
        uri, options = uri_of(server, "/say", scheme="wss"), {"ssl": client_context()}
        assert await said(uri, **options) == "nothing"
        with pytest.raises(InvalidStatus, match="HTTP 410"):
            await said(uri_of(server, "/", scheme="wss"), **options)
        await server.aclose()


@on_network
async def test_tls_of_a_proxy_in_front(network: TrioNetwork) -> None:
    async with trio.open_nursery() as nursery:
        server = await start(nursery, ssl=True, server_name="example.com")
        answer = await ask(network, server, wire.request("/say"))
        assert "\r\nLocation: wss://example.com/say/\r\n" in answer
        await server.aclose()


def test_without_werkzeug(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "werkzeug.routing", None)

    async def run() -> None:
        with pytest.raises(ImportError, match=r"^route\(\) requires werkzeug$"):
            await route(Map(), 0)

    trio.run(run)
