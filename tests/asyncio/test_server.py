"""Servers on asyncio: kinds of handlers, classes, options, sockets, tasks, cancellation, what is collected."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import gc
import inspect
import logging
import re
import ssl
import weakref
from collections.abc import AsyncIterator, Callable
from pathlib import PurePosixPath
from typing import Any

import pytest

from _kit import RawPeer, VirtualLoop, advance, idle, request, steps, virtual, wire
from scenarios._serving import REFUSED, messages_of_connections
from websockets.asyncio.client import connect, unix_connect
from websockets.asyncio.server import Server, ServerConnection, serve, unix_serve
from websockets.exceptions import (
    ConnectionClosed,
    InvalidStatus,
)
from websockets.http11 import Request, Response
from websockets.protocol import State
from websockets.server import ServerProtocol

LOGGER = "websockets.server"


async def echo(connection: ServerConnection) -> None:
    async for message in connection:
        await connection.send(message)


async def nothing(connection: ServerConnection) -> None:
    pass


def running_loop() -> VirtualLoop:
    loop = asyncio.get_running_loop()
    assert isinstance(loop, VirtualLoop)
    return loop


def now() -> float:
    return asyncio.get_running_loop().time()


def port(server: Server) -> int:
    number: int = next(iter(server.sockets)).getsockname()[1]
    return number


async def reach(server: Server) -> RawPeer:
    """A client that has not said anything."""
    return await running_loop().network.connect("localhost", port(server))


async def enter(server: Server, data: bytes = request()) -> RawPeer:
    """A client that was let in, and read the head of the answer."""
    peer = await reach(server)
    await peer.send(data)
    assert (await peer.read_until()).startswith(b"HTTP/1.1 101 ")
    return peer


async def leave(peer: RawPeer, code: int = 1000) -> None:
    """Close as a client should."""
    await peer.send(wire.close(code, mask=True))
    await peer.read_until_eof()
    peer.close()


@contextlib.asynccontextmanager
async def serving(handler: Callable[..., Any] = echo, **options: Any) -> AsyncIterator[Server]:
    async with serve(handler, "localhost", 0, **{"compression": None, **options}) as server:
        yield server


def uri(server: Server, path: str = "/") -> str:
    return f"ws://localhost:{port(server)}{path}"


def both_kinds(function: Callable[..., Any]) -> list[Callable[..., Any]]:
    """The same hook as a function and as a coroutine function that waits."""

    async def coroutine(*arguments: Any) -> Any:
        await asyncio.sleep(1)
        return function(*arguments)

    return [function, coroutine]


# ------------------------------------------------------------------------------------------------------------- opening


@virtual
@pytest.mark.parametrize(
    ("options", "after_the_read"),
    [
        ({}, State.OPEN),
        ({"subprotocols": ["chat"]}, State.OPEN),
        ({"process_request": lambda connection, request: None}, State.CONNECTING),
        ({"process_response": lambda connection, request, response: None}, State.CONNECTING),
        ({"select_subprotocol": lambda connection, offered: None}, State.CONNECTING),
    ],
)
async def test_only_hooks_put_off_the_answer(options: dict[str, Any], after_the_read: State) -> None:
    states: list[State] = []

    class Watched(ServerConnection):
        def data_received(self, data: Any) -> None:
            super().data_received(data)
            states.append(self.state)

    async with serving(create_connection=Watched, **options) as server:
        peer = await enter(server, request(headers={"Sec-WebSocket-Protocol": "chat"}))
        assert states == [after_the_read]
        await leave(peer)


@virtual
async def test_server_header_of_a_protocol_of_the_user() -> None:
    class Named(ServerProtocol):
        def accept(self, request: Request) -> Response:
            response = super().accept(request)
            response.headers["Server"] = "mine"
            return response

    def create_connection(protocol: ServerProtocol, server: Server, **options: Any) -> ServerConnection:
        return ServerConnection(Named(logger=protocol.logger), server, **options)

    async with serving(create_connection=create_connection) as server:
        peer = await reach(server)
        await peer.send(request())
        head = await peer.read_until()
        assert re.findall(rb"Server: (.*)\r\n", head) == [b"mine"]
        await leave(peer)


@virtual
async def test_connection() -> None:
    seen: list[ServerConnection] = []

    async def handler(connection: ServerConnection) -> None:
        seen.append(connection)
        await echo(connection)

    async with serving(handler, subprotocols=["chat"]) as server:
        async with connect(uri(server, "/a?b=c"), subprotocols=["chat"], origin="null") as client:  # type: ignore[list-item, arg-type]
            await client.send("hello")
            assert await client.recv() == "hello"
            (connection,) = seen
            assert server.connections == {connection}
            assert connection.request is not None
            assert connection.request.path == "/a?b=c"
            assert connection.request.headers["Origin"] == "null"
            assert connection.response is not None
            assert connection.response.status_code == 101
            assert connection.subprotocol == client.subprotocol == "chat"
            assert connection.protocol.origin == "null"
            assert connection.server is server
            assert connection.local_address == client.remote_address == ("127.0.0.1", port(server))
            assert connection.remote_address == client.local_address
        await idle()
        assert connection.state is State.CLOSED
        assert connection.close_code == 1000
        assert server.connections == set()


@virtual
async def test_flood_before_the_answer_fills_no_memory() -> None:
    go = asyncio.Event()

    async def process_request(connection: ServerConnection, request: Request) -> None:
        await go.wait()

    async with serving(process_request=process_request) as server:
        peer = await reach(server)
        await peer.send(request())
        flood = asyncio.create_task(peer.send(wire.binary(bytes(2**20), mask=True)))
        await idle()
        assert not flood.done()
        assert peer.link.to_server._room == 0
        go.set()
        await flood
        await peer.read_until()
        assert (await peer.read_frame()).payload == bytes(2**20)
        await leave(peer)


def test_hosts_that_make_no_sense() -> None:
    with pytest.raises(ValueError, match=r"^hosts must be names without scheme and port: 'localhost:80'$"):
        serve(echo, hosts=["localhost:80"])
    with pytest.raises(TypeError, match=r"^hosts must be names or compiled patterns, not 80$"):
        serve(echo, hosts=80)  # type: ignore[arg-type]


@pytest.mark.scenario(15)
@virtual
async def test_server_survives_all_of_it() -> None:
    async with serving() as server:
        for data in [b"", b"\x00", b"GET", request()[:-2], *(data for data, _ in REFUSED)]:
            peer = await reach(server)
            await peer.send(data)
            peer.eof()
            await idle()
            peer.close()
        for step in range(10):
            peer = await reach(server)
            await peer.send(request())
            await steps(step)
            peer.reset()
        async with connect(uri(server)) as client:
            await client.send("still here")
            assert await client.recv() == "still here"


def crash(*arguments: Any, **options: Any) -> Any:
    raise LookupError("secret")


HOOKS = ["process_request", "process_response"]


@pytest.mark.parametrize("chosen", ["b", None])
@pytest.mark.parametrize("kind", [0, 1], ids=["function", "coroutine function"])
@virtual
async def test_select_subprotocol(kind: int, chosen: str | None) -> None:
    seen: list[Any] = []

    def select(connection: ServerConnection, offered: Any) -> Any:
        seen.append((type(connection), connection.request, list(offered)))
        return chosen

    async with serving(select_subprotocol=both_kinds(select)[kind]) as server:
        async with connect(uri(server), subprotocols=["a", "b"]) as client:  # type: ignore[list-item]
            assert client.subprotocol == chosen
            (connection,) = server.connections
            assert connection.subprotocol == chosen
    ((connection_type, seen_request, offered),) = seen
    assert (connection_type, seen_request.path, offered) == (ServerConnection, "/", ["a", "b"])


@pytest.mark.parametrize("name", HOOKS)
@virtual
async def test_hook_that_takes_too_long(name: str, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, LOGGER)
    ended: list[BaseException] = []

    async def hook(*_: Any) -> None:
        try:
            await asyncio.Event().wait()
        except BaseException as exc:
            ended.append(exc)
            raise

    async with serving(open_timeout=3, **{name: hook}) as server:
        start = now()
        peer = await reach(server)
        await peer.send(request())
        await peer.read_until_eof()
        assert now() - start == pytest.approx(3, abs=0.02)
        peer.close()
    assert [type(exc) for exc in ended] == [asyncio.CancelledError]
    assert messages_of_connections(caplog) == [
        "opening handshake failed: timed out during opening handshake",
    ]


@virtual
async def test_hook_that_takes_too_long_and_answers_nevertheless(caplog: pytest.LogCaptureFixture) -> None:
    async def hook(connection: ServerConnection, request: Request) -> Response:
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.Event().wait()
        return connection.respond(200, "too late")

    async with serving(open_timeout=3, process_request=hook) as server:
        peer = await reach(server)
        await peer.send(request())
        assert await peer.read_until_eof() == b""
        peer.close()
    assert messages_of_connections(caplog, "WARNING", "ERROR") == []


@virtual
async def test_client_vanishes_while_a_hook_waits() -> None:
    """The deadline ends with the connection; so must what it was for."""
    waiting = asyncio.Event()

    async def hook(connection: ServerConnection, request: Request) -> None:
        waiting.set()
        # The next read tells that the client is gone.
        connection.transport.resume_reading()
        await asyncio.Event().wait()

    async with serving(process_request=hook, open_timeout=None) as server:
        peer = await reach(server)
        await peer.send(request())
        await waiting.wait()
        peer.reset()


@virtual
async def test_times_of_tls_handshakes(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[dict[str, Any]] = []
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)

    async def create_server(factory: Any, **kwargs: Any) -> Any:
        seen.append(kwargs)
        kwargs = {name: value for name, value in kwargs.items() if not name.startswith("ssl")}
        return await running_loop().network.create_server(factory, **kwargs)

    monkeypatch.setattr(running_loop(), "create_server", create_server)
    async with serving(nothing, ssl=context, open_timeout=3, close_timeout=4):
        pass
    async with serving(nothing, ssl=context, open_timeout=3, ssl_handshake_timeout=5, close_timeout=None):
        pass
    times = [{name: value for name, value in kwargs.items() if name.startswith("ssl_")} for kwargs in seen]
    assert times == [{"ssl_handshake_timeout": 3, "ssl_shutdown_timeout": 4}, {"ssl_handshake_timeout": 5}]


# ------------------------------------------------------------------------------------------------------------ handlers


class Handlers:
    """Every kind of callable that a handler can be."""

    def __init__(self) -> None:
        self.calls: list[Any] = []

    async def one(self, connection: ServerConnection) -> None:
        self.calls.append(connection)

    async def two(self, connection: ServerConnection, path: str) -> None:
        self.calls.append((connection, path))

    async def optional(self, connection: ServerConnection, path: str = "default") -> None:
        self.calls.append((connection, path))

    async def variadic(self, *arguments: Any) -> None:
        self.calls.append(arguments)

    async def three(self, prefix: str, connection: ServerConnection, path: str) -> None:
        self.calls.append((connection, prefix + path))

    async def keyword(self, connection: ServerConnection, *, path: str = "default") -> None:
        self.calls.append((connection, path))

    async def __call__(self, connection: ServerConnection) -> None:
        self.calls.append(connection)


HANDLERS: list[tuple[str, Callable[[Handlers], Any], str | None]] = [
    ("one parameter", lambda h: h.one, None),
    ("two parameters", lambda h: h.two, "/a?b"),
    ("optional parameter", lambda h: h.optional, "default"),
    ("keyword parameter", lambda h: h.keyword, "default"),
    ("callable object", lambda h: h, None),
    ("partial with one left", lambda h: functools.partial(h.two, path="bound"), "bound"),
    ("partial with two left", lambda h: functools.partial(h.three, "x"), "x/a?b"),
    ("function that returns a coroutine", lambda h: lambda connection: h.one(connection), None),
    ("function of two that returns a coroutine", lambda h: lambda connection, path: h.two(connection, path), "/a?b"),
]


@pytest.mark.parametrize(("make", "path"), [row[1:] for row in HANDLERS], ids=[row[0] for row in HANDLERS])
@virtual
async def test_kinds_of_handlers(make: Callable[[Handlers], Any], path: str | None) -> None:
    handlers = Handlers()
    async with serving(make(handlers)) as server:
        async with connect(uri(server, "/a?b")) as client:
            await client.wait_closed()
            assert client.close_code == 1000
    (call,) = handlers.calls
    connection = call if path is None else call[0]
    assert isinstance(connection, ServerConnection)
    assert path is None or call[1] == path


@virtual
async def test_variadic_handler_gets_the_connection_alone() -> None:
    handlers = Handlers()
    async with serving(handlers.variadic) as server, connect(uri(server)) as client:
        await client.wait_closed()
    ((connection,),) = handlers.calls
    assert isinstance(connection, ServerConnection)


async def endless_recv(connection: ServerConnection) -> None:
    while True:
        await connection.recv()


async def endless_send(connection: ServerConnection) -> None:
    while True:
        await connection.send("tick")
        await asyncio.sleep(1)


async def endless_tasks(connection: ServerConnection) -> None:
    async with asyncio.TaskGroup() as group:
        group.create_task(endless_recv(connection))
        group.create_task(endless_send(connection))


async def endless_tasks_one_fails(connection: ServerConnection) -> None:
    try:
        await endless_tasks(connection)
    except* ConnectionClosed as group:
        raise ExceptionGroup("several", [*group.exceptions, ZeroDivisionError()]) from None


@virtual
async def test_a_group_with_a_failure_is_a_failure(caplog: pytest.LogCaptureFixture) -> None:
    async with serving(endless_tasks_one_fails) as server:
        await leave(await enter(server), 1001)
        await advance(2)
    assert messages_of_connections(caplog) == ["connection handler failed"]


@pytest.mark.parametrize("handler", [endless_recv, endless_send, endless_tasks])
@virtual
async def test_handler_ends_with_its_own_connection(handler: Any, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, LOGGER)
    async with serving(handler) as server:
        peer = await enter(server)
        await leave(peer, 1001)
        await advance(2)
    story = "received 1001 (going away); then sent 1001 (going away)"
    assert sorted(messages_of_connections(caplog)) == [
        "connection closed",
        f"connection handler ended: {story}",
        "connection open",
    ]
    assert not [record for record in caplog.records if record.exc_info]


@virtual
async def test_handler_that_was_cancelled() -> None:
    """The client learns that something went wrong, and nobody waits for its answer."""
    tasks: list[asyncio.Task[Any] | None] = []

    async def handler(connection: ServerConnection) -> None:
        tasks.append(asyncio.current_task())
        await connection.recv()

    async with serving(handler) as server:
        peer = await enter(server)
        (task,) = tasks
        assert task is not None
        start = now()
        task.cancel()
        assert (await peer.read_frame()).payload == (1011).to_bytes(2, "big")
        assert await peer.read_until_eof() == b""
        await idle()
        assert (now(), task.cancelled(), peer.link.server.closed) == (start, True, True)
        peer.close()


# ---------------------------------------------------------------------------------------------- making the connections


class Mine(ServerConnection):
    """A connection class of the application."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.arguments = (args, kwargs)


@virtual
async def test_create_connection_as_a_class() -> None:
    seen: list[ServerConnection] = []

    async def handler(connection: ServerConnection) -> None:
        seen.append(connection)

    times = {"ping_interval": 1, "ping_timeout": 2, "close_timeout": 3, "max_queue": 4, "write_limit": 5}
    async with serving(handler, create_connection=Mine, **times) as server, connect(uri(server)) as client:
        await client.wait_closed()
    (connection,) = seen
    assert isinstance(connection, Mine)
    args, kwargs = connection.arguments
    assert [type(argument) for argument in args] == [ServerProtocol, Server]
    assert kwargs == times


@virtual
async def test_create_connection_as_a_factory() -> None:
    made: list[ServerConnection] = []

    def factory(protocol: ServerProtocol, server: Server, **kwargs: Any) -> ServerConnection:
        made.append(ServerConnection(protocol, server, **kwargs))
        return made[-1]

    async with serving(nothing, create_connection=factory) as server, connect(uri(server)) as client:
        await client.wait_closed()
    assert len(made) == 1


@virtual
async def test_create_protocol_is_the_old_name() -> None:
    seen: list[Any] = []

    async def handler(connection: ServerConnection) -> None:
        seen.append(type(connection))

    with pytest.warns(DeprecationWarning, match=r"^create_protocol was renamed to create_connection$") as caught:
        server = serve(handler, "localhost", 0, create_protocol=Mine)
    assert [warning.filename for warning in caught] == [__file__]
    async with server, connect(uri(server)) as client:
        await client.wait_closed()
    assert seen == [Mine]


@virtual
async def test_factory_that_fails(caplog: pytest.LogCaptureFixture) -> None:
    async with serving(create_connection=crash) as server:
        peer = await reach(server)
        assert await peer.read_until_eof() == b""
        assert server.statistics.refused == {"failure": 1}
    assert "creating a connection failed" in caplog.messages


@pytest.mark.scenario(66)
@virtual
async def test_connections_are_collected_at_once() -> None:
    references: list[weakref.ref[Any]] = []

    async def handler(connection: ServerConnection) -> None:
        references.append(weakref.ref(connection))
        await echo(connection)

    async with serving(handler, select_subprotocol=lambda connection, offered: None) as server:
        await leave(await enter(server))
        await idle()
        gc.disable()
        try:
            assert [reference() for reference in references] == [None]
        finally:
            gc.enable()


# -------------------------------------------------------------------------------------------------------------- options


def test_options_are_checked_at_once() -> None:
    rows: list[tuple[dict[str, Any], str]] = [
        (
            {"max_queue": (1, 2)},
            r"^max_queue must be a number of frames, .*, not \(1, 2\): the second is above the first$",
        ),
        ({"compression": "gzip"}, "^unsupported compression: gzip$"),
        ({"subprotocols": ["a b"]}, "^invalid subprotocol: a b$"),
    ]
    for options, error in rows:
        with pytest.raises(ValueError, match=error):
            serve(echo, **options)
    with pytest.raises(TypeError, match="^subprotocols must be a list, not a str$"):
        serve(echo, subprotocols="chat")  # type: ignore[arg-type]


@virtual
async def test_unknown_option() -> None:
    with pytest.raises(TypeError, match="unexpected keyword argument 'nonsense'"):
        await serve(echo, "localhost", 0, nonsense=1)


def test_signature_of_connection_and_serve_agree() -> None:
    connection = inspect.signature(ServerConnection).parameters
    options = inspect.signature(serve).parameters
    for name in ("ping_interval", "ping_timeout", "close_timeout", "max_queue", "write_limit"):
        assert connection[name].default == options[name].default


# --------------------------------------------------------------------------------------------------------------- server


@virtual
async def test_server_object(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, LOGGER)
    server = serve(echo, "localhost", 0)
    for ask_it in (lambda: server.sockets, server.is_serving, server.get_loop):
        with pytest.raises(RuntimeError, match=r"^the server was not awaited$"):
            ask_it()
    assert await server is server
    assert await server is server
    assert server.is_serving()
    assert server.get_loop() is running_loop()
    assert server.connections == set()
    assert server.connections is not server.connections
    (listening,) = server.sockets
    assert listening.getsockname() == ("127.0.0.1", port(server))
    assert server.handler is echo
    server.close()
    assert not server.is_serving()
    await server.wait_closed()
    assert list(server.sockets) == []
    assert [record.getMessage() for record in caplog.records] == [
        f"server listening on 127.0.0.1:{listening.getsockname()[1]}",
        "server closing",
        "server closed",
    ]


@virtual
async def test_all_interfaces(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, LOGGER)
    async with serve(nothing, None, 8765) as server:
        assert len(list(server.sockets)) == 2
        async with connect("ws://127.0.0.1:8765/") as client:
            await client.wait_closed()
    assert [record.getMessage() for record in caplog.records][:2] == [
        "server listening on 0.0.0.0:8765",
        "server listening on [::]:8765",
    ]


@virtual
async def test_address_in_use() -> None:
    async with serving() as server:
        with pytest.raises(OSError, match="already in use"):
            await serve(echo, "localhost", port(server))
        with pytest.raises(OSError, match="already in use"):
            async with serve(echo, "localhost", port(server)):
                raise AssertionError("never reached")


@virtual
async def test_start_serving_later() -> None:
    server = await serve(nothing, "localhost", 0, start_serving=False)
    assert not server.is_serving()
    with pytest.raises(ConnectionRefusedError):
        await reach(server)
    await server.start_serving()
    assert server.is_serving()
    await server.start_serving()
    async with connect(uri(server)) as client:
        await client.wait_closed()
    server.close()
    await server.wait_closed()


@pytest.mark.parametrize("path", ["/run/a", b"/run/a", PurePosixPath("/run/a")])
@virtual
async def test_unix_socket(path: Any, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, LOGGER)
    async with unix_serve(echo, path) as server:
        assert caplog.records[0].getMessage() == "server listening on /run/a"
        assert server.is_serving()
        async with unix_connect(path) as client:
            await client.send("hello")
            assert await client.recv() == "hello"
            assert client.request is not None
            assert client.request.headers["Host"] == "localhost"


# -------------------------------------------------------------------------------------------- cancelling, at every step


@pytest.mark.scenario(78)
@pytest.mark.parametrize("hooks", [False, True], ids=["without hooks", "with hooks"])
@virtual
async def test_tasks_cancelled_at_any_step(hooks: bool) -> None:
    """Wherever the task of a connection is cancelled, the connection ends and the server can close."""
    options = {name: both_kinds(lambda *_: None)[1] for name in HOOKS} if hooks else {}
    for count in range(12):
        before = asyncio.all_tasks()
        async with serving(**options) as server:
            peer = await reach(server)
            await peer.send(request() + wire.text("hello", mask=True))
            for _ in range(count):
                await steps(1)
                if hooks:
                    await asyncio.sleep(0.25)
            for task in asyncio.all_tasks() - before:
                task.cancel()
            await peer.read_until_eof()
            peer.close()


# ------------------------------------------------------------------------------------------------- a few real sockets


async def test_real_sockets() -> None:
    async with serve(echo, "127.0.0.1", 0) as server, connect(f"ws://127.0.0.1:{port(server)}/") as client:
        await client.send("hello")
        assert await client.recv() == "hello"
        with pytest.raises(InvalidStatus, match="HTTP 400"):
            await connect(f"ws://127.0.0.1:{port(server)}/", additional_headers={"Host": "twice"})


@virtual
async def test_what_debuggers_show() -> None:
    starting = serve(echo, "localhost", 0)
    assert repr(starting) == "<Server, not listening yet>"
    async with starting as server:
        port = next(iter(server.sockets)).getsockname()[1]
        assert repr(server) == f"<Server at 127.0.0.1:{port}, 0 connections>"
    assert repr(server) == "<Server, 0 connections, closing>"
