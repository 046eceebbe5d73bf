"""Hooks of servers: what they see, answer and change, how they fail; the choice of a subprotocol, of origins."""

from __future__ import annotations

import logging
import re
from http import HTTPStatus
from typing import Any

import pytest

from _kit import request, wire
from scenarios._serving import (
    BROKEN,
    LOGGER,
    ask,
    both_kinds,
    enter,
    leave,
    messages_of_connections,
    nothing,
    serving,
    uri,
)
from scenarios._world import Capability, World
from scenarios._worlds import in_every_world
from websockets.datastructures import Headers
from websockets.exceptions import NegotiationError
from websockets.http11 import SERVER, Request, Response
from websockets.protocol import State
from websockets.server import ServerProtocol


def forbid(connection: Any, request: Request) -> Any:
    return connection.respond(HTTPStatus.FORBIDDEN, f"no {request.path}\n")


@pytest.mark.parametrize("hook", both_kinds(forbid))
@in_every_world()
async def test_process_request_answers(world: World, hook: Any, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, LOGGER)
    async with serving(world, process_request=hook(world)) as server:
        status, headers, body = await ask(world, server, request("/secret"))
        assert (status, body) == ("403 Forbidden", b"no /secret\n")
        assert headers["Connection"] == ["close"]
        assert headers["Content-Type"] == ["text/plain; charset=utf-8"]
        assert headers["Server"] == [SERVER]
    assert messages_of_connections(caplog) == ["HTTP response sent (403 Forbidden)"]


@pytest.mark.parametrize("hook", both_kinds(lambda connection, request: None))
@in_every_world()
async def test_process_request_lets_in(world: World, hook: Any) -> None:
    async with serving(world, process_request=hook(world)) as server, world.connect(uri(world, server)) as client:
        await client.send("hello")
        assert await client.recv() == "hello"


@in_every_world()
async def test_process_request_sees_what_is_no_handshake(world: World) -> None:
    seen: list[tuple[str, str, State]] = []

    def hook(connection: Any, request: Request) -> Response | None:
        seen.append((request.method, request.protocol, connection.state))
        return connection.respond(200, "healthy") if request.path == "/health" else None

    async with serving(world, process_request=hook) as server:
        plain = {"Upgrade": None, "Connection": None, "Sec-WebSocket-Key": None}
        assert (await ask(world, server, request("/health", plain)))[0] == "200 OK"
        assert (await ask(world, server, request("/health", method="POST")))[0] == "200 OK"
        assert (await ask(world, server, request("/health", http="HTTP/1.0")))[0] == "200 OK"
        assert (await ask(world, server, request("/", method="POST")))[0] == "405 Method Not Allowed"
        assert (await ask(world, server, b"garbage\r\n\r\n"))[0] == "400 Bad Request"
    assert seen == [
        ("GET", "HTTP/1.1", State.CONNECTING),
        ("POST", "HTTP/1.1", State.CONNECTING),
        ("GET", "HTTP/1.0", State.CONNECTING),
        ("POST", "HTTP/1.1", State.CONNECTING),
    ]


@in_every_world()
async def test_process_request_may_open_the_connection_by_itself(world: World) -> None:
    response = Response(101, "As You Wish", Headers({"Upgrade": "websocket"}))
    async with serving(world, process_request=lambda *_: response, server_header=None) as server:
        peer = await world.reach(server)
        await peer.write(request(headers={"Sec-WebSocket-Key": None}) + wire.text("hello", mask=True))
        assert await peer.read_until() == b"HTTP/1.1 101 As You Wish\r\nUpgrade: websocket\r\n\r\n"
        assert (await peer.frame()).payload == b"hello"
        await leave(peer)


@in_every_world()
async def test_one_response_for_all_stays_as_it_is(world: World) -> None:
    response = Response(200, "OK", Headers({"Content-Length": "2"}), b"ok")
    async with serving(world, process_request=lambda *_: response) as server:
        answers = [await ask(world, server, request()) for _ in range(3)]
    assert [headers["Server"] for _, headers, _ in answers] == [[SERVER]] * 3
    assert len(list(response.headers.raw_items())) == 2


@pytest.mark.parametrize("hook", both_kinds(lambda connection, request, response: response.headers.update({"X": "y"})))
@in_every_world()
async def test_process_response_changes_the_response(world: World, hook: Any) -> None:
    async with serving(world, process_response=hook(world)) as server:
        async with world.connect(uri(world, server)) as client:
            assert client.response is not None
            assert client.response.headers["X"] == "y"
        # Refusals and answers of process_request too.
        assert (await ask(world, server, request(method="PUT")))[1]["X"] == ["y"]


@pytest.mark.parametrize("hook", both_kinds(lambda connection, request, response: connection.respond(418, "tea")))
@pytest.mark.parametrize("data", [request(), request(method="PUT")])
@in_every_world()
async def test_process_response_replaces_the_response(world: World, hook: Any, data: bytes) -> None:
    async with serving(world, process_response=hook(world)) as server:
        status, _, body = await ask(world, server, data)
        assert (status, body) == ("418 I'm a Teapot", b"tea")


@in_every_world()
async def test_process_response_sees_request_and_response(world: World) -> None:
    seen: list[Any] = []

    def process_response(connection: Any, request: Request, response: Response) -> None:
        seen.append((request.path, response.status_code, response.headers["Server"], connection.response))

    options = {"process_request": lambda c, r: forbid(c, r) if r.path == "/no" else None}
    async with serving(world, process_response=process_response, **options) as server:
        for path in ("/no", "/yes"):
            peer = await world.reach(server)
            await peer.write(request(path))
            await peer.read_until()
            peer.reset()
    assert seen == [("/no", 403, SERVER, None), ("/yes", 101, SERVER, None)]


def crash(*arguments: Any, **options: Any) -> Any:
    raise LookupError("secret")


HOOKS = ["process_request", "process_response"]
WRONG_RESULTS: list[Any] = ["text", (200, {}, b""), False, 0, ServerProtocol]


@pytest.mark.scenario(27)
@pytest.mark.parametrize("name", HOOKS)
@pytest.mark.parametrize("hook", both_kinds(crash))
@in_every_world()
async def test_hook_raises(world: World, name: str, hook: Any, caplog: pytest.LogCaptureFixture) -> None:
    async with serving(world, **{name: hook(world)}) as server:
        status, headers, body = await ask(world, server, request())
        assert (status, headers["Connection"], body) == ("500 Internal Server Error", ["close"], BROKEN)
    (record,) = [record for record in caplog.records if record.levelno >= logging.WARNING]
    assert (record.levelname, record.getMessage()) == ("ERROR", f"{name} failed")
    assert record.exc_info is not None
    assert isinstance(record.exc_info[1], LookupError)


@pytest.mark.parametrize("name", HOOKS)
@pytest.mark.parametrize("result", WRONG_RESULTS, ids=repr)
@in_every_world()
async def test_hook_returns_the_wrong_type(
    world: World, name: str, result: Any, caplog: pytest.LogCaptureFixture
) -> None:
    async with serving(world, **{name: lambda *_: result}) as server:
        status, _, body = await ask(world, server, request())
        assert (status, body) == ("500 Internal Server Error", BROKEN)
    (record,) = [record for record in caplog.records if record.levelno >= logging.WARNING]
    assert record.getMessage() == f"{name} failed"
    assert record.exc_info is not None
    assert str(record.exc_info[1]) == f"{name} must return a Response or None, not {result!r}"


UNSENDABLE = [
    Response(200, "OK\r\nX: y", Headers()),
    Response(200, "OK", Headers(), "text"),  # type: ignore[arg-type]
    Response("200 OK", "", Headers()),  # type: ignore[arg-type]
]


@pytest.mark.parametrize("name", HOOKS)
@pytest.mark.parametrize("response", UNSENDABLE)
@in_every_world()
async def test_hook_returns_what_cannot_be_sent(
    world: World, name: str, response: Response, caplog: pytest.LogCaptureFixture
) -> None:
    async with serving(world, **{name: lambda *_: response}) as server:
        status, _, body = await ask(world, server, request())
        assert (status, body) == ("500 Internal Server Error", BROKEN)
    (record,) = [record for record in caplog.records if record.levelno >= logging.WARNING]
    assert (record.getMessage(), record.exc_info is None) == ("opening handshake failed", False)


@pytest.mark.parametrize("name", HOOKS)
@in_every_world()
async def test_hook_closes_the_connection(world: World, name: str, caplog: pytest.LogCaptureFixture) -> None:
    async def hook(connection: Any, *_: Any) -> None:
        await connection.close()

    async with serving(world, close_timeout=1, **{name: hook}) as server:
        peer = await world.reach(server)
        await peer.write(request())
        assert await peer.read_until_eof() == b""
        peer.hang_up()
    assert messages_of_connections(caplog, "WARNING", "ERROR") == []


def refuse(connection: Any, offered: Any) -> Any:
    raise NegotiationError("none")


REFUSED_CHOICE = ("400 Bad Request", b"Failed to open a WebSocket connection: none.\n", False)
BROKEN_CHOICE = ("500 Internal Server Error", BROKEN, True)


@pytest.mark.parametrize("kind", [0, 1], ids=["function", "coroutine function"])
@pytest.mark.parametrize(
    ("select", "expected"),
    [(refuse, REFUSED_CHOICE), (crash, BROKEN_CHOICE), (lambda *_: "a\r\nb: c", BROKEN_CHOICE)],
    ids=["refuses", "crashes", "chooses what cannot be sent"],
)
@in_every_world()
async def test_select_subprotocol_fails(
    world: World, select: Any, kind: int, expected: tuple[str, bytes, bool], caplog: pytest.LogCaptureFixture
) -> None:
    async with serving(world, select_subprotocol=both_kinds(select)[kind](world)) as server:
        status, _, body = await ask(world, server, request(headers={"Sec-WebSocket-Protocol": "a"}))
    lines = messages_of_connections(caplog, "ERROR")
    assert (status, body, bool(lines)) == expected
    assert lines == ["opening handshake failed"] * expected[2]


@in_every_world(Capability.CANCELLATION)
async def test_select_subprotocol_takes_too_long(world: World) -> None:
    async def select(connection: Any, offered: Any) -> Any:
        await world.gate().wait()

    async with serving(world, select_subprotocol=select, open_timeout=3) as server:
        start = world.now()
        peer = await world.reach(server)
        await peer.write(request())
        assert await peer.read_until_eof() == b""
        assert world.now() - start == pytest.approx(3, abs=0.02)
        peer.hang_up()


@in_every_world()
async def test_origins(world: World) -> None:
    async with serving(world, nothing, origins=["http://a", re.compile(r"https://\w+\.b"), None]) as server:
        for origin in ("http://a", "https://x.b", None):
            await leave(await enter(world, server, request(headers={"Origin": origin})))
        for origin in ("http://b", "https://x.b.evil", ""):
            assert (await ask(world, server, request(headers={"Origin": origin})))[0] == "403 Forbidden"


@in_every_world()
async def test_compression(world: World) -> None:
    async with serving(world, compression="deflate") as server, world.connect(uri(world, server)) as client:
        assert client.response is not None
        assert client.response.headers["Sec-WebSocket-Extensions"] == ("permessage-deflate; client_max_window_bits=12")
        await client.send("a" * 1000)
        assert await client.recv() == "a" * 1000
