"""Servers for threads with a handler for each path."""

from __future__ import annotations

import contextlib
import socket
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from werkzeug.routing import Map, Rule

from _kit import request
from _kit.blocking import Logged, ask, enter, knock, running
from _kit.sockets import anonymous_tls
from websockets.headers import build_authorization_basic
from websockets.http11 import Request, Response
from websockets.sync import router
from websockets.sync.router import Router, route, unix_route
from websockets.sync.server import Server, ServerConnection, basic_auth


def root(connection: ServerConnection) -> None:
    connection.send("root")


def add(connection: ServerConnection, first: int, second: int) -> None:
    assert connection.handler_kwargs == {"first": first, "second": second}
    connection.send(str(first + second))


def url_map() -> Map:
    return Map(
        [
            Rule("/", endpoint=root),
            Rule("/folder/", endpoint=root),
            Rule("/add/<int:first>/<int:second>", endpoint=add),
            Rule("/post", endpoint=root, methods=["POST"]),
        ]
    )


@contextlib.contextmanager
def routing(urls: Map | None = None, **options: Any) -> Iterator[Server]:
    with running(route(urls or url_map(), "127.0.0.1", 0, compression=None, **options)) as server:
        yield server


def answer(server: Server, path: str, **headers: str) -> Any:
    """The first message of a handler, or the status of a refusal."""
    with knock(server) as client:
        client.send(request(path, headers))
        status = int(client.read_until().split()[1])
        if status != 101:
            return status
        message = client.read_frame().payload.decode()
        client.answer_close()
        return message


@pytest.mark.parametrize(
    ("path", "expected"),
    [("/", "root"), ("/add/1/2", "3"), ("/folder", 302), ("/add/1", 404), ("/post", 405), ("/add/1/2?x", "3")],
)
def test_routes(path: str, expected: Any) -> None:
    with routing() as server:
        assert answer(server, path) == expected


@pytest.mark.skipif(not hasattr(socket, "AF_UNIX"), reason="takes Unix sockets")
def test_unix_routes(tmp_path: Path) -> None:
    with running(unix_route(url_map(), tmp_path / "socket", server_name="example.com", compression=None)) as server:
        assert answer(server, "/add/3/4") == "7"


@pytest.mark.parametrize(
    ("options", "location"),
    [
        ({}, "ws://localhost/folder/"),
        ({"ssl": True}, "wss://localhost/folder/"),
        ({"server_name": "example.com:8000"}, "ws://example.com:8000/folder/"),
    ],
)
def test_redirect(options: dict[str, Any], location: str) -> None:
    with routing(**options) as server:
        found = ask(server, request("/folder"))
    assert found.status == "302 Found"
    assert found.headers["Location"] == [location]


def test_tls_of_our_own() -> None:
    context, trusting = anonymous_tls()
    with routing(ssl=context) as server, enter(server, tls=trusting) as client:
        assert client.read_frame().payload == b"root"
        client.answer_close()


def refuse(connection: ServerConnection, request: Request) -> Response | None:
    return connection.respond(418, "tea") if request.path == "/add/1/2" else None


def test_process_request_comes_first() -> None:
    with routing(process_request=refuse) as server:
        assert answer(server, "/add/1/2") == 418
        assert answer(server, "/add/1/3") == "4"
        assert answer(server, "/nowhere") == 404


def test_with_basic_auth() -> None:
    with routing(process_request=basic_auth(credentials=("user", "pass"))) as server:
        authorization = build_authorization_basic("user", "pass")
        assert answer(server, "/nowhere") == 401
        assert answer(server, "/nowhere", Authorization=authorization) == 404
        assert answer(server, "/", Authorization=authorization) == "root"


def test_create_router() -> None:
    class Mine(Router):
        def not_found(self, connection: ServerConnection) -> Response:
            return connection.respond(404, f"no {self.url_scheme} here")

        def handler(self, connection: ServerConnection) -> None:
            connection.send("mine")
            super().handler(connection)

    with routing(create_router=Mine) as server:
        assert ask(server, request("/nowhere")).body == b"no ws here"
        with enter(server) as client:
            assert [client.read_frame().payload for _ in range(2)] == [b"mine", b"root"]
            client.answer_close()


async def later(connection: ServerConnection) -> None: ...


def test_async_endpoints_are_refused() -> None:
    with pytest.raises(TypeError, match=r"^handler must be a function that isn't async and takes a connection, not <f"):
        route(Map([Rule("/", endpoint=later)]), "127.0.0.1", 0)


def test_rules_that_only_build_urls_need_no_handler() -> None:
    with routing(Map([Rule("/", endpoint=root), Rule("/page", endpoint="page", build_only=True)])) as server:
        assert answer(server, "/") == "root"
        assert answer(server, "/page") == 404


def test_endpoints_of_a_router_of_ones_own_are_its_business() -> None:
    class Mine(Router):
        def handler(self, connection: ServerConnection) -> None:
            connection.send(str(getattr(connection.handler, "__name__", connection.handler)))

    urls = Map([Rule("/", endpoint=later), Rule("/name", endpoint="name")])
    with routing(urls, create_router=Mine) as server:
        assert answer(server, "/") == "later"
        assert answer(server, "/name") == "name"


def test_endpoint_that_turns_out_to_be_async() -> None:
    urls = Map([Rule("/", endpoint=lambda connection: later(connection))])
    with Logged() as logged, routing(urls) as server, enter(server) as client:
        assert client.answer_close() == (1011, "")
        assert logged.find("connection handler failed").exc_info is not None


@pytest.mark.parametrize("function", [route, unix_route])
def test_without_werkzeug(function: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "werkzeug.routing", None)
    with pytest.raises(ImportError, match=rf"^{function.__name__}\(\) requires werkzeug$"):
        function(None)


def test_no_other_names() -> None:
    with pytest.raises(AttributeError, match="has no attribute 'nonsense'"):
        getattr(router, "nonsense")  # noqa: B009


def test_context_must_fit() -> None:
    with pytest.raises(TypeError, match="ssl must be"):
        route(url_map(), "127.0.0.1", 0, ssl="cert.pem")  # type: ignore[arg-type]
