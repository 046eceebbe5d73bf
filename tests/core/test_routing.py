"""Routing without the waiting: what Werkzeug says of a target, and which response that calls for."""

from __future__ import annotations

import sys
from typing import Any

import pytest
from werkzeug.exceptions import Gone, HTTPException
from werkzeug.routing import BaseConverter, Map, Rule

from _kit.hook_calls import call_hooks
from websockets._session.routing import (
    Found,
    Moved,
    Refused,
    Routes,
    after,
    find,
    require_werkzeug,
    routes_of,
    url_scheme,
)
from websockets.datastructures import Headers
from websockets.http11 import Request, Response
from websockets.server import ServerProtocol


def gone(adapter: object, **arguments: object) -> str:
    raise Gone


def broken(adapter: object, **arguments: object) -> str:
    raise HTTPException("which one?")


class Month(BaseConverter):
    regex = "[0-9]+"

    def to_python(self, value: str) -> int:
        month = super().to_python(value)
        return int(month)


def url_map() -> Map:
    return Map(
        [
            Rule("/", endpoint="root"),
            Rule("/chat/<room>", endpoint="chat"),
            Rule("/n/<int:number>", endpoint="number"),
            Rule("/month/<month:m>", endpoint="month"),
            Rule("/files/<path:name>", endpoint="file"),
            Rule("/folder/", endpoint="folder"),
            Rule("/old", endpoint="root", redirect_to="/new"),
            Rule("/gone", endpoint="root", redirect_to=gone),
            Rule("/broken", endpoint="root", redirect_to=broken),
            Rule("/post", endpoint="post", methods=["POST", "PUT"]),
            Rule("/built", endpoint="built", build_only=True),
        ],
        converters={"month": Month},
    )


def routes(**options: Any) -> Routes:
    return Routes(url_map(), **options)


@pytest.mark.parametrize(
    ("target", "answer"),
    [
        ("/", Found("root", {})),
        ("/?a=b", Found("root", {})),
        ("/chat/a%20b?c=d#e", Found("chat", {"room": "a%20b"})),
        ("/chat/%ff", Found("chat", {"room": "%ff"})),
        ("/n/12", Found("number", {"number": 12})),
        ("/month/3", Found("month", {"m": 3})),
        ("/files/a/b", Found("file", {"name": "a/b"})),
        ("/folder", Moved("ws://localhost:80/folder/")),
        ("/folder?a=b&c=%20", Moved("ws://localhost:80/folder/?a=b&c=%20")),
        ("/chat//a", Moved("ws://localhost:80/chat/a")),
        ("/old", Moved("ws://localhost:80/new")),
        ("/n/x", Refused(404)),
        ("/built", Refused(404)),
        ("/chat", Refused(404)),
        ("/gone", Refused(410)),
        ("/post", Refused(405, "POST, PUT")),
    ],
)
def test_find(target: str, answer: Any) -> None:
    assert find(routes().url_map, "localhost:80", "ws", target) == answer


def test_find_with_a_host_that_is_none() -> None:
    assert find(routes().url_map, "a" * 70 + ".\u00e9", "ws", "/") == Refused(400)


def test_find_with_an_error_that_has_no_status() -> None:
    with pytest.raises(HTTPException, match="which one"):
        find(routes().url_map, "localhost", "ws", "/broken")


def test_secure_redirect() -> None:
    assert find(routes().url_map, "localhost", "wss", "/folder") == Moved("wss://localhost/folder/")


@pytest.mark.parametrize(("ssl", "scheme"), [(None, "ws"), (True, "wss"), (object(), "wss")])
def test_url_scheme(ssl: object, scheme: str) -> None:
    assert url_scheme(ssl) == scheme


def test_werkzeug_is_required(monkeypatch: pytest.MonkeyPatch) -> None:
    require_werkzeug("route")
    monkeypatch.setitem(sys.modules, "werkzeug.routing", None)
    with pytest.raises(ImportError, match=r"^unix_route\(\) requires werkzeug$"):
        require_werkzeug("unix_route")


# ------------------------------------------------------------------------------------------------------------ responses


class Connection:
    """As much of a connection as a router needs."""

    handler: Any = None
    handler_kwargs: Any = None

    def respond(self, status: int, text: str) -> Response:
        return ServerProtocol().reject(status, text)


def request(path: str, *hosts: str) -> Request:
    return Request(path, Headers([("Host", host) for host in hosts]))


def route(router: Routes, path: str, *hosts: str) -> tuple[Response | None, Connection]:
    connection = Connection()
    return router.route_request(connection, request(path, *(hosts or ("localhost",)))), connection


def test_rules_are_for_websocket() -> None:
    assert all(rule.websocket for rule in routes().url_map.iter_rules())


def test_route_to_a_handler() -> None:
    response, connection = route(routes(), "/chat/lobby")
    assert response is None
    assert (connection.handler, connection.handler_kwargs) == ("chat", {"room": "lobby"})


@pytest.mark.parametrize(
    ("path", "status", "body", "headers"),
    [
        ("/nowhere", 404, b"Not Found", {}),
        ("/folder", 302, b"Found at ws://localhost/folder/", {"Location": "ws://localhost/folder/"}),
        ("/gone", 410, b"Gone", {}),
        ("/post", 405, b"Method Not Allowed", {"Allow": "POST, PUT"}),
    ],
)
def test_route_to_a_response(path: str, status: int, body: bytes, headers: dict[str, str]) -> None:
    response, connection = route(routes(), path)
    assert response is not None
    assert (response.status_code, response.body, connection.handler) == (status, body, None)
    more = dict(response.headers.raw_items())
    for name in ("Date", "Connection", "Content-Length", "Content-Type"):
        del more[name]
    assert more == headers


def test_a_hook_comes_before_the_routing() -> None:
    answer = ServerProtocol().reject(200, "OK")
    for answered in (None, answer):
        asked: list[Any] = []

        def process_request(*arguments: Any, asked: list[Any] = asked, answered: Any = answered) -> Any:
            asked.extend(arguments)
            return answered

        connection, asks = Connection(), request("/chat/lobby", "localhost")
        assert call_hooks(after(process_request, routes())(connection, asks)) is answered
        assert asked == [connection, asks]
        assert connection.handler == (None if answered else "chat")


def test_routers_of_a_server() -> None:
    class Other(Routes):
        pass

    given: dict[str, Any] = {"server_name": "a:1", "ssl": True, "create_router": None, "process_request": None}
    router = routes_of(Routes, url_map(), **given)
    assert (type(router), router.server_name, router.url_scheme) == (Routes, "a:1", "wss")
    assert type(routes_of(Routes, url_map(), **{**given, "create_router": Other})) is Other
    for name, wrong in {"server_name": 1, "ssl": 1, "create_router": 1, "process_request": 1}.items():
        with pytest.raises(TypeError, match=name):
            routes_of(Routes, url_map(), **{**given, name: wrong})


@pytest.mark.parametrize("hosts", [(), ("a", "b")])
def test_request_without_one_host_is_left_to_the_handshake(hosts: tuple[str, ...]) -> None:
    connection = Connection()
    assert routes().route_request(connection, request("/nowhere", *hosts)) is None
    assert connection.handler is None


def test_server_name() -> None:
    response, _ = route(routes(server_name="example.com"), "/folder", "evil")
    assert response is not None
    assert response.headers["Location"] == "ws://example.com/folder/"


def test_overrides() -> None:
    class Mine(Routes):
        def get_server_name(self, connection: Connection, request: Request) -> str:
            return "mine"

        def redirect(self, connection: Connection, url: str) -> Response:
            return connection.respond(308, url)

        def not_found(self, connection: Connection) -> Response:
            return connection.respond(404, "no such room")

    moved, _ = route(Mine(url_map(), url_scheme="wss"), "/folder")
    missing, _ = route(Mine(url_map()), "/nowhere")
    assert moved is not None
    assert (moved.status_code, moved.body) == (308, b"wss://mine/folder/")
    assert missing is not None
    assert missing.body == b"no such room"
