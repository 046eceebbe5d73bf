"""Classes of the legacy API in the hands of ``serve`` and ``connect`` of today, and the other way round."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from http import HTTPStatus
from typing import Any

import pytest
from werkzeug.routing import Map, Rule

import websockets
from _kit import advance, idle, request, virtual
from _kit.asking import ask, reach, uri_of
from _kit.site import Answer, let_in, redirect, refuse, site
from websockets.asyncio.server import Server, ServerConnection
from websockets.datastructures import Headers
from websockets.exceptions import InvalidStatus
from websockets.http11 import Request, Response
from websockets.legacy.auth import basic_auth_protocol_factory
from websockets.legacy.client import WebSocketClientProtocol
from websockets.legacy.client import connect as connect_of_old
from websockets.legacy.exceptions import AbortHandshake
from websockets.legacy.server import WebSocketServerProtocol
from websockets.legacy.server import serve as serve_of_old
from websockets.typing import Origin, Subprotocol

A, B = Subprotocol("a"), Subprotocol("b")


async def echo(websocket: Any) -> None:
    async for message in websocket:
        await websocket.send(message)


class Derived(WebSocketServerProtocol):
    def __init__(self, *args: Any, color: str = "none", **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.color = color
        self.opened = 0

    def connection_open(self) -> None:
        super().connection_open()
        self.opened += 1

    async def process_request(self, path: str, request_headers: Headers) -> Any:
        if path == "/early":
            return HTTPStatus.OK, [("X-Color", self.color)], b"early\n"
        if path == "/abort":
            raise AbortHandshake(HTTPStatus.GONE, {}, b"gone\n")
        return await super().process_request(path, request_headers)


def factory(*args: Any, **kwargs: Any) -> Derived:
    return Derived(*args, color="blue", **kwargs)


@asynccontextmanager
async def serving(handler: Any = echo, **options: Any) -> AsyncIterator[Server]:
    """A server of the current API with a class of the legacy one."""
    with pytest.warns(DeprecationWarning, match=r"^create_protocol was renamed to create_connection$"):
        server = websockets.serve(handler, "localhost", 0, **{"create_protocol": Derived, **options})
    async with server:
        yield server


# ------------------------------------------------------------------------------------------------------------- servers


@virtual
async def test_headers_beyond_ascii() -> None:
    """Programs of today have ISO-8859-1 for both directions, whatever class the connections are of."""
    seen: list[str] = []

    def decline(connection: Any, request: Any) -> Any:
        seen.append(request.headers["X-Name"])
        return connection.respond(403, "", headers={"X-Why": "né"})

    async with serving(process_request=decline) as server:
        with pytest.raises(InvalidStatus) as caught:
            await websockets.connect(
                uri_of(server), additional_headers={"X-Name": "né"}, create_connection=WebSocketClientProtocol
            )
    assert (seen, caught.value.response.headers["X-Why"]) == (["né"], "né")


@pytest.mark.parametrize("create_protocol", [Derived, factory, functools.partial(Derived, color="blue")])
@virtual
async def test_server(create_protocol: Any) -> None:
    seen: list[Any] = []

    async def handler(websocket: Any, path: str) -> None:
        seen.append((websocket, path))
        await echo(websocket)

    async with serving(handler, create_protocol=create_protocol, subprotocols=[A]) as server:
        async with websockets.connect(uri_of(server, "/p"), subprotocols=[B, A]) as client:
            await client.send("hello")
            assert await client.recv() == "hello"
            ((websocket, path),) = seen
            assert isinstance(websocket, Derived)
            assert (path, websocket.path, websocket.opened, websocket.open) == ("/p", "/p", 1, True)
            assert websocket.color == ("none" if create_protocol is Derived else "blue")
            assert websocket.subprotocol == A
            assert server.connections == {websocket}
            assert client.response is not None
            assert client.response.headers["Server"] == websockets.http11.SERVER
            websockets.broadcast(server.connections, "to all")
            assert await client.recv() == "to all"
        await idle()
        assert server.connections == set()
        answer = await ask(server, request("/early"))
        assert (answer.status, answer.body) == ("200 OK", b"early\n")
        assert (await ask(server, request("/abort"))).status == "410 Gone"


@virtual
async def test_options_of_the_server() -> None:
    seen: list[Any] = []

    async def handler(websocket: Any) -> None:
        seen.append(websocket)
        await websocket.wait_closed()

    options = {"max_size": (30, 20), "ping_interval": 3, "close_timeout": 4, "max_queue": 5, "server_header": None}
    async with serving(handler, open_timeout=6, **options) as server:
        async with websockets.connect(uri_of(server)) as client:
            assert client.response is not None
            assert "Server" not in client.response.headers
            (websocket,) = seen
            assert (websocket.max_size, websocket.ping_interval, websocket.close_timeout) == ((30, 20), 3, 4)
            assert (websocket.max_queue, websocket.open_timeout) == (5, 6)
            assert websocket.protocol.max_fragment_size == 20
        peer = await reach(server)
        await advance(5)
        assert peer.ended is None
        await advance(2)
        assert peer.ended is not None


@virtual
async def test_hooks_of_the_server() -> None:
    def process_request(connection: ServerConnection, request: Request) -> Response | None:
        return connection.respond(HTTPStatus.PAYMENT_REQUIRED, "tea\n") if request.path == "/tea" else None

    async def process_response(connection: ServerConnection, request: Request, response: Response) -> Response | None:
        response.headers["X-Status"] = str(response.status_code)
        return connection.respond(HTTPStatus.CONFLICT, "no\n") if request.path == "/no" else None

    ran: list[Any] = []

    async def handler(websocket: Any) -> None:
        ran.append(websocket)

    async with serving(handler, process_request=process_request, process_response=process_response) as server:
        answer = await ask(server, request("/tea"))
        assert (answer.status, answer.body) == ("402 Payment Required", b"tea\n")
        assert answer.headers["X-Status"] == ["402"]
        answer = await ask(server, request("/no"))
        assert (answer.status, answer.body) == ("409 Conflict", b"no\n")
        assert ran == []
        async with websockets.connect(uri_of(server)) as client:
            assert client.response is not None
            assert client.response.headers["X-Status"] == "101"
            await client.wait_closed()
        assert len(ran) == 1


@pytest.mark.parametrize("waits", [False, True])
@virtual
async def test_choice_of_the_server(waits: bool) -> None:
    def choose(connection: ServerConnection, offered: Sequence[Subprotocol]) -> Subprotocol:
        return offered[-1]

    async def choose_slowly(connection: ServerConnection, offered: Sequence[Subprotocol]) -> Subprotocol:
        await asyncio.sleep(1)
        return offered[-1]

    async with serving(select_subprotocol=choose_slowly if waits else choose) as server:
        async with websockets.connect(uri_of(server), subprotocols=[A, B]) as client:
            assert client.subprotocol == B


@virtual
async def test_authentication() -> None:
    protected = basic_auth_protocol_factory("realm", credentials=("ann", "secret"))

    async def handler(websocket: Any) -> None:
        await websocket.send(websocket.username)

    async with serving(handler, create_protocol=protected) as server:
        assert (await ask(server, request())).status == "401 Unauthorized"
        async with websockets.connect(uri_of(server, user_info="ann:secret@")) as client:
            assert await client.recv() == "ann"


@virtual
async def test_closing_the_server() -> None:
    hesitate = asyncio.Event()

    class Slow(WebSocketServerProtocol):
        async def process_request(self, path: str, request_headers: Headers) -> None:
            if path == "/slow":
                await hesitate.wait()

    async with serving(create_protocol=Slow) as server:
        client = await websockets.connect(uri_of(server))
        slow = await reach(server)
        await slow.send(request("/slow"))
        silent = await reach(server)
        await idle()
        server.close()
        assert (await silent.read_until_eof()).startswith(b"HTTP/1.1 503 ")
        await client.wait_closed()
        assert client.close_code == 1001
        hesitate.set()
        assert (await slow.read_until_eof()).startswith(b"HTTP/1.1 503 ")
        slow.close()
        silent.close()


@virtual
async def test_routes() -> None:
    async def room(websocket: Any, number: int) -> None:
        await websocket.send(f"{number} {websocket.path} {websocket.opened}")

    url_map = Map([Rule("/rooms/<int:number>", endpoint=room)])
    async with websockets.route(url_map, "localhost", 0, create_connection=Derived) as server:
        async with websockets.connect(uri_of(server, "/rooms/3")) as client:
            assert await client.recv() == "3 /rooms/3 1"
        with pytest.raises(InvalidStatus, match="HTTP 404"):
            await websockets.connect(uri_of(server, "/halls/3"))


@virtual
async def test_client_that_leaves_a_class_of_old() -> None:
    """A wait of the class before the request is answered ends with the TCP connection."""
    ended: list[str] = []

    class Slow(WebSocketServerProtocol):
        async def read_http_request(self) -> tuple[str, Headers]:
            try:
                await asyncio.Event().wait()
            finally:
                ended.append("read_http_request")
            raise AssertionError("not reached")

    async with serving(create_protocol=Slow) as server:
        peer = await reach(server)
        await peer.send(request())
        await idle()
        peer.close()
        await idle()
        assert ended == ["read_http_request"]


# ------------------------------------------------------------------------------------------------------------- clients


class Client(WebSocketClientProtocol):
    opened = False

    def connection_open(self) -> None:
        self.opened = True


@virtual
async def test_client() -> None:
    answers: dict[str, Answer] = {"/": let_in, "/moved": redirect("/"), "/gone": refuse(410, body=b"long ago")}
    async with site(answers) as web:

        def connecting(path: str) -> websockets.connect:
            with pytest.warns(DeprecationWarning, match=r"^create_protocol was renamed to create_connection$"):
                return websockets.connect(
                    web.uri(path),
                    create_protocol=Client,
                    additional_headers={"X-A": "1"},
                    max_size=7,
                    origin=Origin("null"),
                )

        for path in ("/", "/moved"):
            async with connecting(path) as client:
                assert isinstance(client, Client)
                assert client.opened
                assert (client.path, client.request_headers["X-A"], client.protocol.max_message_size) == ("/", "1", 7)
        with pytest.raises(InvalidStatus) as caught:
            await connecting("/gone")
        assert caught.value.response.status_code == 410
        assert caught.value.response.body == b"long ago"
        assert web.targets == ["/", "/moved", "/", "/gone"]
        assert all(asked.headers["Origin"] == ["null"] for asked in web.asked)


@virtual
async def test_connections_of_old_are_connections_of_today() -> None:
    seen: list[Any] = []

    async def handler(websocket: Any) -> None:
        seen.append(websocket)
        await websocket.send(["a", "b"])
        await websocket.wait_closed()

    async with serve_of_old(handler, "localhost", 0) as server:
        async with connect_of_old(uri_of(server)) as client:
            assert "".join([piece async for piece in client.recv_streaming(decode=True)]) == "ab"
            websockets.broadcast(server.websockets, "news")
            assert await client.recv() == "news"
            await client.send(b"text", text=True)
            assert client.request is not None
            assert client.response is not None
            assert client.response.status_code == 101
            assert isinstance(seen[0], ServerConnection)
        assert client.close_exc.rcvd is not None
