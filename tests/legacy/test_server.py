"""Servers of the legacy API: hooks that classes override or pass, what a request is answered, handlers, shutdown."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import warnings
from collections.abc import AsyncIterator, Sequence
from http import HTTPStatus
from pathlib import PurePosixPath
from typing import Any

import pytest

from _kit import RawPeer, advance, idle, request, virtual, wire
from _kit.asking import ask, port_of, reach, uri_of
from _kit.clock import VirtualLoop
from websockets.datastructures import Headers
from websockets.exceptions import ConnectionClosedError, ConnectionClosedOK, InvalidHandshake, InvalidOrigin
from websockets.http11 import SERVER
from websockets.legacy.client import connect, unix_connect
from websockets.legacy.exceptions import AbortHandshake, InvalidStatusCode
from websockets.legacy.server import (
    HTTPResponse,
    WebSocketServer,
    WebSocketServerProtocol,
    broadcast,
    serve,
    unix_serve,
)
from websockets.protocol import State
from websockets.typing import Origin, Subprotocol

LOGGER = "websockets.server"
A, B, C = (Subprotocol(name) for name in "abc")


async def echo(websocket: WebSocketServerProtocol) -> None:
    async for message in websocket:
        await websocket.send(message)


@contextlib.asynccontextmanager
async def serving(handler: Any = echo, **options: Any) -> AsyncIterator[WebSocketServer]:
    async with serve(handler, "localhost", 0, **{"compression": None, **options}) as server:
        yield server


async def enter(server: Any, data: bytes = request()) -> RawPeer:
    """A client that was let in, and read the head of the answer."""
    peer = await reach(server)
    await peer.send(data)
    assert (await peer.read_until()).startswith(b"HTTP/1.1 101 ")
    return peer


async def leave(peer: RawPeer) -> None:
    await peer.send(wire.close(1000, mask=True))
    await peer.read_until_eof()
    peer.close()


@virtual
async def test_target_in_absolute_form() -> None:
    async def handler(websocket: WebSocketServerProtocol) -> None:
        await websocket.send(f"{websocket.path} {websocket.request_headers['Host']}")

    async with serving(handler) as server:
        peer = await enter(server, request("http://example.com/chat?a", host="other"))
        assert (await peer.read_frame()).payload == b"/chat?a example.com"
        peer.reset()


def messages(caplog: pytest.LogCaptureFixture, level: str) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelname == level]


# ------------------------------------------------------------------------------------------------------------ a server


@virtual
async def test_connection() -> None:
    seen: list[WebSocketServerProtocol] = []

    async def handler(websocket: WebSocketServerProtocol) -> None:
        seen.append(websocket)
        await echo(websocket)

    async with serving(handler, extra_headers={"X-Server": "1"}) as server:
        async with connect(uri_of(server, "/a?b=c"), extra_headers={"X-Client": "2"}) as client:
            await client.send("hello")
            assert await client.recv() == "hello"
            (websocket,) = seen
            assert server.websockets == {websocket}
            assert (websocket.open, websocket.closed, websocket.state) == (True, False, State.OPEN)
            assert websocket.path == "/a?b=c"
            assert websocket.request_headers["X-Client"] == "2"
            assert websocket.response_headers["X-Server"] == "1"
            assert websocket.response_headers["Server"] == SERVER
            assert client.response_headers["X-Server"] == "1"
            assert websocket.ws_server is server
            assert websocket.local_address == client.remote_address == ("127.0.0.1", port_of(server))
            assert websocket.handler_task is not None
        await idle()
        assert (websocket.open, websocket.closed, websocket.close_code) == (False, True, 1000)
        assert server.websockets == set()
        assert websocket.handler_task.done()


@virtual
async def test_awaiting_a_server() -> None:
    serving = serve(echo, "localhost", 0)
    server = await serving
    assert server is serving.ws_server
    assert server.is_serving()
    async with connect(uri_of(server)) as client:
        await client.send(b"\x00")
        assert await client.recv() == b"\x00"
    server.close()
    await server.wait_closed()
    assert not server.is_serving()


@virtual
async def test_path_as_an_argument() -> None:
    async def handler(websocket: WebSocketServerProtocol, path: str) -> None:
        assert websocket.path == path
        await websocket.send(path)

    with pytest.warns(DeprecationWarning, match=r"^remove second argument of ws_handler$") as caught:
        serving = serve(handler, "localhost", 0)
    assert caught[0].filename == __file__
    async with serving as server:
        async with connect(uri_of(server, "/x?y")) as client:
            assert await client.recv() == "/x?y"


@virtual
async def test_arguments_of_old() -> None:
    class Derived(WebSocketServerProtocol):
        pass

    seen: list[Any] = []

    async def handler(websocket: WebSocketServerProtocol) -> None:
        seen.extend([type(websocket), websocket.close_timeout])

    loop = asyncio.get_running_loop()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        serving = serve(handler, "localhost", 0, timeout=3, klass=Derived, loop=loop, legacy_recv=False)
    assert [str(warning.message) for warning in caught] == [
        "rename timeout to close_timeout",
        "rename klass to create_protocol",
        "remove loop argument",
    ]
    async with serving as server:
        async with connect(uri_of(server)) as client:
            await client.wait_closed()
    assert seen == [Derived, 3]


@virtual
async def test_unix_socket() -> None:
    path = PurePosixPath("/run/legacy")
    async with unix_serve(echo, path):
        async with unix_connect(path) as client:
            await client.send("hello")
            assert await client.recv() == "hello"
            assert client.request_headers["Host"] == "localhost"


def test_options_are_checked_at_once() -> None:
    with pytest.raises(ValueError, match="unsupported compression: zip"):
        serve(echo, "localhost", 0, compression="zip")
    with pytest.raises(TypeError, match="subprotocols must be a list"):
        serve(echo, "localhost", 0, subprotocols="chat")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="max_queue must be a number of frames, 0 or more"):
        serve(echo, "localhost", 0, max_queue=-4)


@virtual
async def test_wrapping_a_server() -> None:
    server = WebSocketServer()
    with pytest.raises(RuntimeError, match="made by serve"):
        await server
    loop = asyncio.get_running_loop()
    listening = await loop.create_server(lambda: WebSocketServerProtocol(echo, server), "localhost", 0)
    server.wrap(listening)
    async with connect(uri_of(server)) as client:
        await client.send("hello")
        assert await client.recv() == "hello"
        assert len(server.websockets) == 1
    server.close()
    await server.wait_closed()


class Keeper:
    """What frameworks have instead of a server of ours."""

    def __init__(self) -> None:
        self.serving = True
        self.kept: list[WebSocketServerProtocol] = []
        self.gone: list[WebSocketServerProtocol] = []

    def register(self, websocket: WebSocketServerProtocol) -> None:
        self.kept.append(websocket)

    def unregister(self, websocket: WebSocketServerProtocol) -> None:
        self.gone.append(websocket)

    def is_serving(self) -> bool:
        return self.serving


@virtual
async def test_own_keeper_of_connections() -> None:
    """Frameworks make connections without a server of ours."""

    async def handler(websocket: WebSocketServerProtocol, path: str) -> None:
        await websocket.send(path)
        await echo(websocket)

    def factory() -> WebSocketServerProtocol:
        with pytest.warns(DeprecationWarning, match=r"^remove second argument of ws_handler$"):
            return WebSocketServerProtocol(handler, keeper, server_header=None)

    keeper = Keeper()
    server = await asyncio.get_running_loop().create_server(factory, "localhost", 0)
    peer = await enter(server, request("/path"))
    assert (await peer.read_frame()).payload == b"/path"
    await leave(peer)
    await idle()
    assert keeper.kept == keeper.gone
    keeper.serving = False
    answer = await ask(server, request())
    assert (answer.status, answer.body) == ("503 Service Unavailable", b"Server is shutting down.\n")
    assert "Server" not in answer.headers
    server.close()


@virtual
async def test_bytes_that_a_framework_has_read() -> None:
    """A framework that got the request hands over its bytes, and then the transport."""
    seen: list[str] = []

    class Upgrading(asyncio.Protocol):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            assert isinstance(transport, asyncio.Transport)
            self.transport = transport

        def data_received(self, data: bytes) -> None:
            websocket = WebSocketServerProtocol(echo, keeper)
            websocket.connection_made(self.transport)
            websocket.data_received(data)
            self.transport.set_protocol(websocket)
            seen.append("upgraded")

    keeper = WebSocketServer()
    server = await asyncio.get_running_loop().create_server(Upgrading, "localhost", 0)
    keeper.wrap(server)
    peer = await enter(server)
    await peer.send(wire.text("hello", mask=True))
    assert (await peer.read_frame()).payload == b"hello"
    await leave(peer)
    server.close()
    assert seen == ["upgraded"]


# ------------------------------------------------------------------------------------------------------ process_request


async def health(path: str, request_headers: Headers) -> HTTPResponse | None:
    if path == "/health":
        return HTTPStatus.OK, [("X-Health", "good")], b"OK\n"
    if path == "/number":
        return 402, {"Content-Type": "x/y", "Date": "today", "Server": "mine"}, b"pay"
    if path == "/raise":
        raise AbortHandshake(HTTPStatus.GONE, {}, b"gone")
    if path == "/handshake":
        raise InvalidOrigin("nobody")
    if path == "/break":
        raise KeyError("secret")
    return None


class Overriding(WebSocketServerProtocol):
    async def process_request(self, path: str, request_headers: Headers) -> HTTPResponse | None:
        return await health(path, request_headers)


@pytest.mark.parametrize("options", [{"process_request": health}, {"create_protocol": Overriding}])
@virtual
async def test_process_request(options: dict[str, Any]) -> None:
    async with serving(**options) as server:
        answer = await ask(server, request("/health"))
        assert (answer.status, answer.body) == ("200 OK", b"OK\n")
        assert answer.headers["X-Health"] == ["good"]
        assert answer.headers["Content-Length"] == ["3"]
        assert answer.headers["Content-Type"] == ["text/plain"]
        assert answer.headers["Connection"] == ["close"]
        assert answer.headers["Server"] == [SERVER]
        assert len(answer.headers["Date"]) == 1
        answer = await ask(server, request("/number"))
        assert (answer.status, answer.body) == ("402 Payment Required", b"pay")
        assert (answer.headers["Content-Type"], answer.headers["Date"]) == (["x/y"], ["today"])
        assert answer.headers["Server"] == ["mine"]
        answer = await ask(server, request("/raise"))
        assert (answer.status, answer.body) == ("410 Gone", b"gone")
        assert (await ask(server, request("/handshake"))).status == "403 Forbidden"
        await leave(await enter(server))


@pytest.mark.parametrize("options", [{"process_request": health}, {"create_protocol": Overriding}])
def test_failure_of_process_request(options: dict[str, Any], caplog: pytest.LogCaptureFixture) -> None:
    @virtual
    async def scenario() -> None:
        async with serving(**options) as server:
            answer = await ask(server, request("/break"))
            assert answer.status == "500 Internal Server Error"
            assert b"secret" not in answer.body

    scenario()
    assert messages(caplog, "ERROR") == ["opening handshake failed"]


def test_answer_that_is_none(caplog: pytest.LogCaptureFixture) -> None:
    @virtual
    async def scenario() -> None:
        async def nonsense(path: str, request_headers: Headers) -> Any:
            return (HTTPStatus.OK, {}, "text") if path == "/" else (1, {}, b"")

        async with serving(process_request=nonsense) as server:
            for path in ("/", "/status"):
                assert (await ask(server, request(path))).status == "500 Internal Server Error"

    scenario()
    assert set(messages(caplog, "ERROR")) == {"opening handshake failed"}


@virtual
async def test_process_request_that_is_no_coroutine() -> None:
    def simple(path: str, request_headers: Headers) -> HTTPResponse | None:
        return HTTPStatus.OK, [], b"simple"

    class Simple(WebSocketServerProtocol):
        def process_request(self, path: str, request_headers: Headers) -> Any:
            return simple(path, request_headers)

    options: list[dict[str, Any]] = [{"process_request": simple}, {"create_protocol": Simple}]
    for each in options:
        with pytest.warns(DeprecationWarning, match=r"^declare process_request as a coroutine$"):
            async with serving(**each) as server:
                assert (await ask(server, request())).body == b"simple"


@virtual
async def test_client_that_leaves_early() -> None:
    left: list[str] = []

    class Slow(WebSocketServerProtocol):
        async def process_request(self, path: str, request_headers: Headers) -> None:
            try:
                await asyncio.Event().wait()
            finally:
                left.append("process_request")

        def connection_lost(self, exc: Exception | None) -> None:
            left.append("connection_lost")
            super().connection_lost(exc)

    async with serving(create_protocol=Slow) as server:
        peer = await reach(server)
        await peer.send(request())
        await idle()
        assert left == []
        peer.close()
        await idle()
        assert left == ["connection_lost", "process_request"]


@virtual
async def test_writing_after_the_client_left() -> None:
    """A framework that answers by itself, too late, must not fail for it."""
    connections: list[WebSocketServerProtocol] = []

    class Writing(WebSocketServerProtocol):
        async def process_request(self, path: str, request_headers: Headers) -> None:
            connections.append(self)
            await asyncio.Event().wait()

        def connection_lost(self, exc: Exception | None) -> None:
            self.transport.write(b"HTTP/1.1 500 Internal Server Error\r\n\r\n")
            super().connection_lost(exc)

    async with serving(create_protocol=Writing) as server:
        peer = await reach(server)
        await peer.send(request())
        await idle()
        peer.eof()
        assert await peer.read_until_eof() == b""
        peer.close()
        await idle()
        assert connections[0].closed


@virtual
async def test_answering_by_hand() -> None:
    class Writing(WebSocketServerProtocol):
        async def process_request(self, path: str, request_headers: Headers) -> None:
            self.transport.write(b"HTTP/1.1 500 Oops\r\n\r\n")
            self.transport.close()

    ran: list[object] = []

    async def handler(websocket: WebSocketServerProtocol) -> None:
        ran.append(websocket)

    async with serving(handler, create_protocol=Writing) as server:
        assert (await ask(server, request())).status == "500 Oops"
    assert ran == []


@virtual
async def test_opening_that_takes_too_long() -> None:
    class Slow(WebSocketServerProtocol):
        async def process_request(self, path: str, request_headers: Headers) -> None:
            await asyncio.sleep(60)

    async with serving(create_protocol=Slow, open_timeout=5) as server:
        silent, asking = await reach(server), await reach(server)
        await asking.send(request())
        await advance(4)
        assert (silent.ended, asking.ended) == (None, None)
        await advance(2)
        assert (silent.ended, asking.ended) == ("eof", "eof")


@virtual
async def test_flood_before_the_answer_fills_no_memory() -> None:
    go = asyncio.Event()

    class Slow(WebSocketServerProtocol):
        async def process_request(self, path: str, request_headers: Headers) -> None:
            await go.wait()

    async with serving(create_protocol=Slow, max_size=None) as server:
        peer = await reach(server)
        await peer.send(request())
        flood = asyncio.create_task(peer.send(wire.binary(bytes(2**22), mask=True)))
        await idle()
        assert not flood.done()
        go.set()
        await flood
        await peer.read_until()
        assert len((await peer.read_frame()).payload) == 2**22
        await leave(peer)


# ----------------------------------------------------------------------------------------------------- other hooks


@virtual
async def test_hooks_of_the_handshake() -> None:
    calls: list[str] = []

    class Hooked(WebSocketServerProtocol):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            calls.append("connection_made")
            super().connection_made(transport)

        async def handler(self) -> None:
            calls.append("handler")
            await super().handler()

        async def handshake(self, *args: Any, **kwargs: Any) -> str:  # type: ignore[override]
            calls.append("handshake")
            path = await super().handshake(*args, **kwargs)
            assert self.open
            return f"{path}!"

        async def read_http_request(self) -> tuple[str, Headers]:
            calls.append("read_http_request")
            path, headers = await super().read_http_request()
            assert (path, headers["Host"]) == (self.path, f"localhost:{port_of(self.ws_server)}")
            return "/other", headers

        async def process_request(self, path: str, request_headers: Headers) -> HTTPResponse | None:
            calls.append(f"process_request {path}")
            return await super().process_request(path, request_headers)

        @staticmethod
        def process_origin(headers: Headers, origins: Sequence[Origin | None] | None = None) -> Origin | None:
            calls.append("process_origin")
            return WebSocketServerProtocol.process_origin(headers, origins)

        @staticmethod
        def process_extensions(headers: Headers, available_extensions: Any) -> Any:
            calls.append("process_extensions")
            return WebSocketServerProtocol.process_extensions(headers, available_extensions)

        def process_subprotocol(self, headers: Headers, available_subprotocols: Any) -> Any:
            calls.append("process_subprotocol")
            return super().process_subprotocol(headers, available_subprotocols)

        def select_subprotocol(self, client_subprotocols: Any, server_subprotocols: Any) -> Any:
            calls.append(f"select_subprotocol {client_subprotocols} {server_subprotocols}")
            return super().select_subprotocol(client_subprotocols, server_subprotocols)

        def write_http_response(self, status: Any, headers: Headers, body: bytes | None = None) -> None:
            calls.append(f"write_http_response {status:d}")
            headers["X-Written"] = "yes"
            super().write_http_response(status, headers, body)

        def connection_open(self) -> None:
            calls.append("connection_open")
            assert self.open
            super().connection_open()

        def connection_lost(self, exc: Exception | None) -> None:
            calls.append("connection_lost")
            super().connection_lost(exc)

    async def handler(websocket: WebSocketServerProtocol, path: str) -> None:
        calls.append(f"ws_handler {path}")

    with pytest.warns(DeprecationWarning, match=r"^remove second argument of ws_handler$"):
        server = await serve(handler, "localhost", 0, create_protocol=Hooked, subprotocols=[A])
    async with server:
        async with connect(uri_of(server), subprotocols=[B, A], compression="deflate") as client:
            await client.wait_closed()
            assert client.response_headers["X-Written"] == "yes"
            assert (client.subprotocol, len(client.extensions)) == (A, 1)
    assert calls == [
        *("connection_made", "handler", "handshake", "read_http_request", "process_request /other", "process_origin"),
        *("process_extensions", "process_subprotocol", "select_subprotocol ['b', 'a'] ['a']"),
        *("write_http_response 101", "connection_open", "ws_handler /other!", "connection_lost"),
    ]


@virtual
async def test_handshake_that_refuses() -> None:
    class Refusing(WebSocketServerProtocol):
        async def handshake(self, *args: Any, **kwargs: Any) -> str:  # type: ignore[override]
            raise AbortHandshake(HTTPStatus.UNAUTHORIZED, {"WWW-Authenticate": "Token"}, b"who are you?")

    async with serving(create_protocol=Refusing) as server:
        answer = await ask(server, request())
        assert (answer.status, answer.body) == ("401 Unauthorized", b"who are you?")
        assert answer.headers["WWW-Authenticate"] == ["Token"]


def test_handshake_that_fails_too_late(caplog: pytest.LogCaptureFixture) -> None:
    """Once the connection is open there is no answer any more."""

    class Late(WebSocketServerProtocol):
        async def handshake(self, *args: Any, **kwargs: Any) -> str:  # type: ignore[override]
            await super().handshake(*args, **kwargs)
            raise InvalidHandshake("changed my mind")

    @virtual
    async def scenario() -> None:
        async with serving(create_protocol=Late) as server:
            peer = await enter(server)
            assert (await peer.read_frame()).payload[:2] == (1011).to_bytes(2, "big")
            peer.close()

    scenario()
    assert messages(caplog, "ERROR") == ["opening handshake failed"]


SELECTION: list[tuple[list[Subprotocol], list[Subprotocol], Subprotocol | None]] = [
    ([], [A], None),
    ([A], [], None),
    ([A], [B], None),
    ([A, B], [B, A], B),
    ([B, A], [A, B], A),
    ([B, C], [A, B, C], B),
    ([C, A, B], [A, B, C], A),
]


@pytest.mark.parametrize(("client", "server", "selected"), SELECTION)
@virtual
async def test_subprotocol(client: list[Subprotocol], server: list[Subprotocol], selected: Subprotocol | None) -> None:
    async with serving(subprotocols=server or None) as listening:
        async with connect(uri_of(listening), subprotocols=client or None) as connection:
            assert connection.subprotocol == selected


@virtual
async def test_select_subprotocol() -> None:
    def last(client: Sequence[Subprotocol], server: Sequence[Subprotocol]) -> Subprotocol:
        assert (client, server) == ([A, B], [A, B, C])
        return client[-1]

    async with serving(subprotocols=[A, B, C], select_subprotocol=last) as server:
        async with connect(uri_of(server), subprotocols=[A, B]) as client:
            assert client.subprotocol == B


@pytest.mark.parametrize("value", ["\u20ac", "a\r\nX: y"])
@pytest.mark.parametrize("source", ["select_subprotocol", "extra_headers"])
@virtual
async def test_a_choice_that_cannot_be_sent_is_no_fault_of_the_client(source: str, value: str) -> None:
    options: dict[str, Any] = {}
    if source == "select_subprotocol":
        options |= {"subprotocols": [A], "select_subprotocol": lambda client, server: value}
    else:
        options["extra_headers"] = lambda path, request_headers: {"X-Header": value}
    async with serving(logger=logging.getLogger("unsent"), **options) as server:
        with pytest.raises(InvalidStatusCode) as raised:
            await connect(uri_of(server), subprotocols=[A])
    assert raised.value.status_code == 500


@virtual
async def test_extra_headers() -> None:
    def extra(path: str, request_headers: Headers) -> list[tuple[str, str]]:
        return [("X-Path", path), ("X-Host", request_headers["Host"]), ("Date", "today"), ("Server", "mine")]

    async with serving(extra_headers=extra) as server:
        peer = await reach(server)
        await peer.send(request("/p"))
        head = (await peer.read_until()).decode()
        for line in ("X-Path: /p", "X-Host: localhost", "Date: today", "Server: mine"):
            assert head.count(f"\r\n{line}\r\n") == 1
        assert (head.count("Date:"), head.count("Server:")) == (1, 1)
        await leave(peer)


# What is in the request, and the status of the answer.
ORIGINS: list[tuple[list[str | None], str | None, str]] = [
    ([""], None, "101 Switching Protocols"),
    ([""], "", "403 Forbidden"),
    ([""], "http://here", "403 Forbidden"),
    ([None], None, "101 Switching Protocols"),
    ([None], "", "403 Forbidden"),
    (["http://here", ""], None, "101 Switching Protocols"),
    (["http://here", ""], "http://here", "101 Switching Protocols"),
    (["http://here", ""], "", "403 Forbidden"),
    (["http://here"], None, "403 Forbidden"),
]


@pytest.mark.parametrize(("origins", "origin", "status"), ORIGINS)
@pytest.mark.filterwarnings("ignore:use None instead:DeprecationWarning")
@virtual
async def test_no_origin(origins: Any, origin: str | None, status: str) -> None:
    async with serving(origins=origins) as server:
        peer = await reach(server)
        await peer.send(request(headers={"Origin": origin}))
        assert (await peer.read_until()).split(b"\r\n")[0] == f"HTTP/1.1 {status}".encode()
        peer.reset()


@virtual
async def test_no_origin_as_it_was_said_once() -> None:
    origins: Any = ["", "http://here"]
    with pytest.warns(DeprecationWarning, match="^use None instead of '' in origins$") as caught:
        serve(echo, "localhost", 0, origins=origins)
    assert [warning.filename for warning in caught] == [__file__]
    with pytest.warns(DeprecationWarning, match="^use None instead of '' in origins$") as caught:
        connection = WebSocketServerProtocol(echo, WebSocketServer(), origins=origins)
    assert [warning.filename for warning in caught] == [__file__]
    assert connection.origins == [None, "http://here"]


@virtual
async def test_origin_of_a_connection() -> None:
    seen: list[Any] = []

    class Hooked(WebSocketServerProtocol):
        async def process_request(self, path: str, request_headers: Headers) -> HTTPResponse | None:
            seen.append(self.origin)
            return await super().process_request(path, request_headers)

        def process_subprotocol(self, headers: Headers, available_subprotocols: Any) -> Subprotocol | None:
            seen.append(self.origin)
            return super().process_subprotocol(headers, available_subprotocols)

    async def handler(websocket: WebSocketServerProtocol) -> None:
        seen.append(websocket.origin)
        await echo(websocket)

    async with serving(handler, create_protocol=Hooked) as server:
        for origin in ("http://here", "", None):
            await leave(await enter(server, request(headers={"Origin": origin})))
    assert seen == [None, "http://here", "http://here", None, "", "", None, None, None]


@virtual
async def test_origins() -> None:
    async with serving(origins=["http://here"]) as server:
        await leave(await enter(server, request(headers={"Origin": "http://here"})))
        answer = await ask(server, request(headers={"Origin": "http://there"}))
        assert answer.status == "403 Forbidden"
        assert b"invalid Origin header: http://there" in answer.body


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (b"rubbish\r\n\r\n", "400 Bad Request"),
        (request(headers={"Upgrade": None}), "426 Upgrade Required"),
        (request(headers={"Sec-WebSocket-Key": None}), "400 Bad Request"),
        (request(method="POST"), "405 Method Not Allowed"),
    ],
)
@virtual
async def test_refusals(data: bytes, status: str) -> None:
    async with serving() as server:
        assert (await ask(server, data)).status == status


@virtual
async def test_headers_beyond_ascii() -> None:
    """Received bytes can be had back, and what is sent is in UTF-8: frameworks rely on it."""
    seen: list[Any] = []

    async def handler(websocket: WebSocketServerProtocol) -> None:
        assert websocket.request is not None
        seen.extend([websocket.request_headers["X-Name"], websocket.request.headers["X-Name"]])
        seen.append(websocket.response_headers["X-Answer"])

    def answer(path: str, request_headers: Headers) -> Headers:
        seen.append(request_headers["X-Name"])
        return Headers({"X-Answer": "né"})

    async with serving(handler, extra_headers=answer) as server:
        peer = await reach(server)
        await peer.send(request(headers={"X-Name": "né".encode() + b"\xff"}))
        assert b"\r\nX-Answer: n\xc3\xa9\r\n" in await peer.read_until()
        await leave(peer)
    name = "n\udcc3\udca9\udcff"
    assert seen == [name, name, name, "né"]
    assert name.encode("ascii", "surrogateescape") == b"n\xc3\xa9\xff"


@virtual
async def test_a_refusal_with_headers_beyond_ascii() -> None:
    async def decline(path: str, request_headers: Headers) -> HTTPResponse:
        return HTTPStatus.FORBIDDEN, {"X-Why": "né"}, b""

    async with serving(process_request=decline) as server:
        assert (await ask(server, request())).headers["X-Why"] == ["n\xc3\xa9"]


async def refuse(path: str, request_headers: Headers) -> HTTPResponse:
    return HTTPStatus.FORBIDDEN, {}, b"no"


async def fail(path: str, request_headers: Headers) -> None:
    raise KeyError("oops")


@pytest.mark.parametrize(
    ("data", "options", "status"),
    [
        (b"rubbish\r\n\r\n", {}, b"400 "),
        (request(headers={"Upgrade": None}), {}, b"426 "),
        (request(), {"process_request": refuse}, b"403 "),
        (request(), {"process_request": fail}, b"500 "),
        (request(), {"origins": ["http://here"]}, b"403 "),
    ],
)
@virtual
async def test_a_refused_client_may_stay(data: bytes, options: dict[str, Any], status: bytes) -> None:
    """The TCP connection ends with the refusal, even if the client keeps its side open."""
    connections: list[WebSocketServerProtocol] = []

    class Noted(WebSocketServerProtocol):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            super().connection_made(transport)
            connections.append(self)

    async with serving(create_protocol=Noted, close_timeout=60, **options) as server:
        peer = await reach(server)
        await peer.send(data)
        assert (await peer.read_until_eof()).startswith(b"HTTP/1.1 " + status)
        (connection,) = connections
        assert connection.transport.is_closing()
        # As uvicorn does when it shuts down.
        connection.transport.write(b"HTTP/1.1 500 Internal Server Error\r\n\r\n")
        await idle()
        assert not server.websockets
        peer.close()


@virtual
async def test_a_refused_client_gets_all_of_the_refusal() -> None:
    body = bytes(10_000_000)

    async def close_for(path: str, request_headers: Headers) -> HTTPResponse:
        return HTTPStatus.FORBIDDEN, {}, body

    async with serving(process_request=close_for) as server:
        assert (await ask(server, request())).body == body


@virtual
async def test_a_refused_client_that_does_not_read() -> None:
    async def close_for(path: str, request_headers: Headers) -> HTTPResponse:
        return HTTPStatus.FORBIDDEN, {}, bytes(10_000_000)

    async with serving(process_request=close_for, close_timeout=5) as server:
        peer = await reach(server)
        peer.stop_reading()
        await peer.send(request())
        await advance(4)
        assert len(server.websockets) == 1
        await advance(7)
        assert not server.websockets
        peer.close()


# ------------------------------------------------------------------------------------------------- handlers, shutdown


@virtual
async def test_frames_behind_the_request() -> None:
    async with serving() as server:
        peer = await enter(server, request() + wire.text("early", mask=True))
        assert (await peer.read_frame()).payload == b"early"
        await leave(peer)


def test_handler_that_fails(caplog: pytest.LogCaptureFixture) -> None:
    async def handler(websocket: WebSocketServerProtocol) -> None:
        raise KeyError("oops")

    @virtual
    async def scenario() -> None:
        async with serving(handler) as server:
            async with connect(uri_of(server)) as client:
                with pytest.raises(ConnectionClosedError) as caught:
                    await client.recv()
                assert caught.value.rcvd is not None
                assert caught.value.rcvd.code == 1011

    scenario()
    assert [text.partition(":")[0] for text in messages(caplog, "ERROR")] == ["connection handler failed"]


def test_handler_that_fails_with_an_own_keeper(caplog: pytest.LogCaptureFixture) -> None:
    async def handler(websocket: WebSocketServerProtocol) -> None:
        raise KeyError("oops")

    @virtual
    async def scenario() -> None:
        keeper = Keeper()
        loop = asyncio.get_running_loop()
        server = await loop.create_server(lambda: WebSocketServerProtocol(handler, keeper), "localhost", 0)
        peer = await enter(server)
        assert (await peer.read_frame()).payload[:2] == (1011).to_bytes(2, "big")
        await leave(peer)
        await idle()
        assert keeper.kept == keeper.gone
        server.close()

    scenario()
    assert [text.partition(":")[0] for text in messages(caplog, "ERROR")] == ["connection handler failed"]


@virtual
async def test_closing_a_server() -> None:
    server = await serve(echo, "localhost", 0)
    client = await connect(uri_of(server))
    opening = await reach(server)
    await idle()
    server.close()
    await opening.read_until()
    with pytest.raises(ConnectionClosedOK) as caught:
        await client.recv()
    assert caught.value.rcvd is not None
    assert caught.value.rcvd.code == 1001
    opening.close()
    await server.wait_closed()
    assert server.websockets == set()


@virtual
async def test_closing_a_server_without_its_connections() -> None:
    server = await serve(echo, "localhost", 0)
    client = await connect(uri_of(server))
    server.close(close_connections=False)
    await client.send("still here")
    assert await client.recv() == "still here"
    await client.close()
    await server.wait_closed()


@virtual
async def test_serving_until_cancelled() -> None:
    async with serve(echo, "localhost", 0, start_serving=False) as server:
        assert not server.is_serving()
        forever = asyncio.create_task(server.serve_forever())
        await idle()
        assert server.is_serving()
        assert server.get_loop() is asyncio.get_running_loop()
        forever.cancel()
        await asyncio.wait([forever])
        assert forever.cancelled()
        assert not server.is_serving()
        with pytest.raises(RuntimeError, match="the server is closed"):
            await server.serve_forever()


@virtual
async def test_serving_until_closed() -> None:
    async with serving() as server:
        forever = asyncio.create_task(server.serve_forever())
        async with connect(uri_of(server)) as client:
            server.close()
            await client.wait_closed()
            assert client.close_code == 1001
        # As where a program awaits it: an exception, though nobody cancelled the task.
        with pytest.raises(asyncio.CancelledError):
            await forever
        assert forever.cancelling() == 0
        for _ in range(2):
            with pytest.raises(RuntimeError, match="the server is closed"):
                await server.serve_forever()


@virtual
async def test_serving_for_ever_twice_at_once() -> None:
    async with serving() as server:
        forever = asyncio.create_task(server.serve_forever())
        await idle()
        for _ in range(2):
            with pytest.raises(RuntimeError, match=r"^server .* is already being awaited on serve_forever\(\)$"):
                await server.serve_forever()
        assert server.is_serving()
        assert not forever.done()
        server.close()
        await asyncio.wait([forever])
        assert forever.cancelled()


@virtual
async def test_refused_while_closing() -> None:
    hesitate = asyncio.Event()

    async def process_request(path: str, request_headers: Headers) -> None:
        await hesitate.wait()

    server = await serve(echo, "localhost", 0, process_request=process_request)
    peer = await reach(server)
    await peer.send(request())
    await idle()
    server.close()
    hesitate.set()
    assert (await peer.read_until_eof()).startswith(b"HTTP/1.1 503 ")
    peer.close()
    await server.wait_closed()


@virtual
async def test_broadcast() -> None:
    async with serving() as server:
        clients = [await connect(uri_of(server)) for _ in range(3)]
        broadcast(server.websockets, "to all")
        assert [await client.recv() for client in clients] == ["to all"] * 3
        broadcast(server.websockets, b"to all", True)
        assert [await client.recv() for client in clients] == [b"to all"] * 3
        for client in clients:
            await client.close()


@virtual
async def test_connections_leave_nothing_behind() -> None:
    import gc
    import weakref

    references: list[weakref.ref[WebSocketServerProtocol]] = []

    async def handler(websocket: WebSocketServerProtocol) -> None:
        references.append(weakref.ref(websocket))
        await echo(websocket)

    loop = asyncio.get_running_loop()
    assert isinstance(loop, VirtualLoop)
    async with serving(handler) as server:
        async with connect(uri_of(server)) as client:
            await client.send("hello")
            await client.recv()
        await idle()
        gc.collect()
        assert [reference() for reference in references] == [None]
