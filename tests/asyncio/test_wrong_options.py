"""Wrong values of options, front-end by front-end: each gets its error when it is given, and nothing is opened."""

from __future__ import annotations

import asyncio
import contextlib
import dis
import functools
import gc
import inspect
import logging
import re
import socket
import warnings
from collections.abc import Callable
from fractions import Fraction
from typing import Any, NoReturn

import pytest
from werkzeug.routing import Map, Rule

from _kit import run_virtual, virtual
from _kit.asking import port_of, uri_of
from _kit.platforms import PROACTOR
from _kit.sockets import anonymous_tls
from _kit.wrong_options import ADDRESS, CALLS, OF_CONNECTIONS, RIGHT, WRONG, Right, Wrong, error, options_of
from websockets._rules import option_table as allowed
from websockets.asyncio import client, connection, router, server
from websockets.client import ClientProtocol
from websockets.extensions.permessage_deflate import ClientPerMessageDeflateFactory
from websockets.protocol import Protocol, Side, State
from websockets.server import ServerProtocol
from websockets.testing import connected_pair, serve_in_memory
from websockets.trio import client as trio_client
from websockets.trio import connection as trio_connection
from websockets.trio import server as trio_server
from websockets.uri import parse_uri

LOOP_CLASSES: list[Any] = [asyncio.SelectorEventLoop]
RUNNERS: list[Callable[..., Any]] = [asyncio.run]
with contextlib.suppress(ImportError):
    import uvloop

    LOOP_CLASSES.append(uvloop.Loop)
    RUNNERS.append(uvloop.run)

with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)
    from websockets.legacy import auth as legacy_auth
    from websockets.legacy import client as legacy_client
    from websockets.legacy import protocol as legacy_protocol
    from websockets.legacy import server as legacy_server


def name_of(row: Wrong | Right) -> str:
    return f"{row.name}={row.value!r:.20}"


@pytest.fixture
def nothing_opens(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody may ask for the loop, or make a socket."""

    def refuse(*_: Any, **__: Any) -> NoReturn:
        raise AssertionError("something is opened")

    monkeypatch.setattr(asyncio, "get_running_loop", refuse)
    monkeypatch.setattr(socket, "socket", refuse)


@pytest.mark.usefixtures("nothing_opens")
@pytest.mark.parametrize("row", WRONG, ids=name_of)
def test_wrong_value(row: Wrong) -> None:
    for call in row.calls:
        exc = error(call, row)
        assert exc is not None, call
        assert isinstance(exc, row.kind), call
        assert ADDRESS.sub("", str(exc)) == ADDRESS.sub("", row.text), call


@pytest.mark.usefixtures("nothing_opens")
@pytest.mark.filterwarnings("ignore:remove second argument:DeprecationWarning")
@pytest.mark.parametrize("row", RIGHT, ids=name_of)
def test_right_value(row: Right) -> None:
    for call in row.calls:
        CALLS[call](options_of(row))


def test_iterators_of_origins_and_extensions_are_read_once() -> None:
    made = ServerProtocol(origins=iter(["https://x"]), extensions=iter([]))  # type: ignore[arg-type]
    assert (made.origins, made.available_extensions) == (["https://x"], [])


def test_headers_that_can_be_read_once_are_left_alone() -> None:
    pairs = iter([("X", None)])
    client.connect("ws://localhost", additional_headers=pairs)  # type: ignore[arg-type]
    assert list(pairs) == [("X", None)]


def test_headers_may_be_of_classes_of_somebodys() -> None:
    class Tokens(dict[str, str]):
        def items(self) -> NoReturn:
            raise AssertionError("read before there is an attempt")

    client.connect("ws://localhost", additional_headers=Tokens())


def never_run() -> None: ...


@pytest.mark.parametrize("handler", [None, never_run, lambda *_: None, object], ids=str)
def test_a_handler_is_not_needed_where_process_request_answers(handler: Any) -> None:
    server.serve(handler, "localhost", 0, process_request=lambda *_: None)
    if handler is not None:
        answering: Any = lambda *_: None  # noqa: E731
        legacy_server.serve(handler, "localhost", 0, process_request=answering)


@pytest.mark.parametrize("handler", [never_run, object])
def test_a_legacy_handler_that_cannot_be_run(handler: Any) -> None:
    with pytest.raises(TypeError, match="ws_handler must be an async function that takes a connection"):
        legacy_server.serve(handler, "localhost", 0)


@pytest.mark.parametrize("name", ["X-Api-Key", "Authorization"])
@pytest.mark.parametrize("value", ["token\n", None, b"token"])
def test_no_value_of_a_header_shows(name: str, value: Any) -> None:
    with pytest.raises((TypeError, ValueError)) as caught:
        client.connect("ws://localhost", additional_headers={name: value})
    assert "token" not in repr(caught.value) + str(caught.value) + repr(caught.value.__context__)


class Looking(logging.LoggerAdapter[logging.Logger]):
    """A logger that looks at the variables of its callers when it is checked, as debuggers do at any time."""

    @property
    def log(self) -> Any:  # pyright: ignore[reportIncompatibleMethodOverride]
        frame: Any = inspect.currentframe()
        while frame is not None:
            frame, _ = frame.f_back, frame.f_locals
        return super().log


def test_a_debugger_changes_nothing() -> None:
    log: Any = Looking(logging.getLogger("x"), {})
    factory = ClientPerMessageDeflateFactory()
    made = client.connect("ws://localhost", extensions=iter([factory]), logger=log)  # type: ignore[arg-type]
    assert made._ws_connector_state.options.protocol(made.ws_uri).available_extensions == [factory]
    factories: Any = iter([factory])
    old = legacy_client.connect("ws://localhost", extensions=factories, logger=log)
    assert old._ws_connector_state.options.protocol(old.ws_uri).available_extensions == [factory]
    serving = server.serve(echo, "localhost", 0, origins=iter(["https://x"]), logger=log)  # type: ignore[arg-type]
    assert serving._ws_answering.options.protocol().origins == ["https://x"]


async def echo(websocket: Any) -> None:
    await websocket.send(await websocket.recv())


@pytest.mark.parametrize("max_queue", [10**30, (None, 10**30), (10**30, 10**29)])
@virtual
async def test_a_queue_without_end(max_queue: Any) -> None:
    async with serve_in_memory(echo, max_queue=max_queue) as end, end.connect(max_queue=max_queue) as connection:
        await connection.send("hello")
        assert await connection.recv() == "hello"


def injecting(handler: Any) -> Any:
    @functools.wraps(handler)
    async def injected(websocket: Any) -> None:
        await handler(websocket, "database")

    return injected


def injecting_by_name(handler: Any) -> Any:
    @functools.wraps(handler)
    async def injected(*args: Any, **kwargs: Any) -> None:
        await handler(*args, database="database", **kwargs)

    return injected


def passing_on(handler: Any) -> Any:
    @functools.wraps(handler)
    async def passed(*args: Any, **kwargs: Any) -> None:
        await handler(*args, **kwargs)

    return passed


async def tell(websocket: Any, database: str) -> None:
    await websocket.send(database)


async def tell_path(websocket: Any, path: str) -> None:
    await websocket.send(path)


def showing(handler: Any) -> Any:
    async def shown(websocket: Any) -> None:
        await handler(websocket, "database")

    shown.__signature__ = inspect.signature(handler)  # type: ignore[attr-defined]
    return shown


class Methods:
    async def tell(self, websocket: Any) -> None:
        await websocket.send("database")

    tell.__signature__ = inspect.signature(lambda self, websocket, database: None)  # type: ignore[attr-defined]


def in_a_branch(websocket: Any) -> Any:
    return None if websocket is None else echo(websocket)


def in_a_block(websocket: Any) -> Any:
    try:
        with contextlib.nullcontext():
            for attempt in range(2):
                if attempt:
                    return echo(websocket)
    finally:
        contextlib.nullcontext()
    return None


def in_a_match(websocket: Any) -> Any:
    match websocket:
        case None:
            return None
        case _:
            return (coroutine := echo(websocket)) and coroutine


RETURNING = [in_a_branch, in_a_block, in_a_match]


@pytest.mark.parametrize("handler", RETURNING)
def test_handlers_that_return_something(handler: Any) -> None:
    server.serve(handler, "localhost", 0)
    handler(1).close()
    server.serve(handler, "localhost", 0)


def test_bytecode_that_nobody_knows(monkeypatch: pytest.MonkeyPatch) -> None:
    names = [instruction._replace(opname="?") for instruction in dis.get_instructions(returns_nothing)]
    with pytest.raises(TypeError, match="returns nothing to wait for"):
        server.serve(returns_nothing, "localhost", 0)
    monkeypatch.setattr(dis, "get_instructions", lambda _: iter(names))
    server.serve(returns_nothing, "localhost", 0)


def returns_nothing(websocket: Any) -> Any: ...


class Strange:
    """A handler that answers to no question."""

    def __getattr__(self, name: str) -> NoReturn:
        raise RuntimeError(name) if name == "__signature__" else AttributeError(name)

    async def __call__(self, websocket: Any) -> None:
        await websocket.send("database")


@pytest.mark.parametrize(
    ("handler", "told"),
    [
        (injecting(tell), "database"),
        (injecting(tell_path), "database"),
        (injecting_by_name(tell), "database"),
        (showing(tell), "database"),
        (Methods().tell, "database"),
        (Strange(), "database"),
        (passing_on(tell_path), "/"),
        (tell_path, "/"),
    ],
)
@virtual
async def test_what_a_decorated_handler_gets(handler: Any, told: str) -> None:
    async with serve_in_memory(handler) as end, end.connect() as connection:
        assert await connection.recv() == told


# --------------------------------------------------------------------------------------- connections, built directly


@pytest.mark.parametrize(
    "row", [row for row in WRONG if row.name in OF_CONNECTIONS and "connect" in row.calls], ids=name_of
)
@virtual
async def test_connections(row: Wrong) -> None:
    uri = parse_uri("ws://localhost/")
    serving = CALLS["serve"]({})
    made: list[Any] = [
        functools.partial(connection.Connection, Protocol(Side.CLIENT)),
        functools.partial(client.ClientConnection, ClientProtocol(uri)),
        functools.partial(server.ServerConnection, ServerProtocol(), serving),
        functools.partial(legacy_protocol.WebSocketCommonProtocol),
        functools.partial(legacy_client.WebSocketClientProtocol),
    ]
    for make in made:
        if row.text.endswith("no pong comes so soon"):
            make(**options_of(row))  # nothing is known of the other option there
        elif row.name == "ping_interval" and row.value == 0:
            make(**options_of(row))  # as uvicorn's tests do
        else:
            with pytest.raises(row.kind) as caught:
                make(**options_of(row))
            text = row.text
            if row.name == "ping_interval":
                text = text.replace("a positive number of seconds", "a number of seconds, 0 or more")
            # In the legacy API None stands for 10 there.
            assert str(caught.value).replace("None for 10", "None for no limit") == text


@virtual
async def test_connections_with_the_same_options_share_them() -> None:
    one, other = (connection.Connection(Protocol(Side.CLIENT), max_queue=(8, 2), ping_interval=7) for _ in range(2))
    assert one._ws_session.timing is other._ws_session.timing
    # A list can't be kept, but it can be used.
    like = connection.Connection(Protocol(Side.CLIENT), max_queue=[8, 2], ping_interval=7)  # type: ignore[arg-type]
    assert like._ws_session.timing == one._ws_session.timing
    assert (like._ws_session.inbox.high, like._ws_write_limit) == (8, (2**15, None))


# ------------------------------------------------------------------------------------- the table and the signatures

# What takes options, as the table names it.
SIGNATURES: dict[str, list[Any]] = {
    allowed.CONNECT: [client.connect],
    allowed.SERVE: [server.serve],
    allowed.ROUTE: [router._route],
    allowed.TRIO_CONNECT: [trio_client.connect],
    allowed.TRIO_SERVE: [trio_server.serve],
    allowed.TRIO_CONNECTION: [trio_connection.Connection, trio_client.ClientConnection, trio_server.ServerConnection],
    allowed.CONNECTION: [connection.Connection, client.ClientConnection, server.ServerConnection],
    allowed.CLIENT_PROTOCOL: [ClientProtocol],
    allowed.SERVER_PROTOCOL: [ServerProtocol],
    allowed.CLOSE: [server.Server.close, connection.Connection.close],
    allowed.BROADCAST: [server.broadcast],
    allowed.BASIC_AUTH: [server.basic_auth],
    allowed.LEGACY_CONNECT: [legacy_client.connect],
    allowed.LEGACY_SERVE: [legacy_server.serve],
    allowed.LEGACY_CONNECTION: [legacy_protocol.WebSocketCommonProtocol],
    allowed.LEGACY_BASIC_AUTH: [legacy_auth.basic_auth_protocol_factory],
}

# Parameters that are checked elsewhere, or may be anything.
NOT_IN_THE_TABLE = {
    allowed.ROUTE: {"serve", "args"},
    allowed.CONNECTION: {"protocol", "server"},
    allowed.TRIO_SERVE: {"task_status"},
    allowed.TRIO_CONNECTION: {"nursery", "stream", "protocol", "server"},
    allowed.CLIENT_PROTOCOL: {"uri"},
    allowed.CLOSE: {"self", "close_connections", "code", "reason"},
    allowed.BROADCAST: {"connections", "message", "text", "raise_exceptions", "on_slow"},
    allowed.BASIC_AUTH: {"credentials"},
    allowed.LEGACY_CONNECTION: {"host", "port", "secure", "legacy_recv", "loop", "timeout"},
    allowed.LEGACY_BASIC_AUTH: {"credentials", "create_protocol"},
}

# Options that are keyword arguments without a parameter of their own.
PASSED_ON = {allowed.LEGACY_CONNECT: {"proxy"}}


@pytest.mark.parametrize("taker", SIGNATURES)
def test_every_parameter_is_in_the_table(taker: str) -> None:
    for taking in SIGNATURES[taker]:
        parameters = inspect.signature(taking).parameters.values()
        names = {parameter.name for parameter in parameters if parameter.kind is not parameter.VAR_KEYWORD}
        taken = set(allowed.table(taker)) - PASSED_ON.get(taker, set())
        assert names - NOT_IN_THE_TABLE.get(taker, set()) == taken, taking


@pytest.mark.parametrize("taker", SIGNATURES)
def test_defaults_are_those_of_the_signatures(taker: str) -> None:
    for taking in SIGNATURES[taker]:
        for name, parameter in inspect.signature(taking).parameters.items():
            option = allowed.table(taker).get(name)
            if option is not None and option.default not in (allowed.REQUIRED, allowed.UNSET):
                # None stands for the usual function.
                default = None if inspect.isfunction(parameter.default) else parameter.default
                assert default == option.default, name


# Parameters of the library's own, and those that only say where the TCP connection begins.
NOT_OF_LOOPS = {
    "unix", "proxy_ssl", "proxy_server_hostname", "proxy_ssl_handshake_timeout", "proxy_ssl_shutdown_timeout",
}  # fmt: skip


@pytest.mark.parametrize("method", [*allowed.CLIENT_LOOPS, *allowed.SERVER_LOOPS])
def test_keywords_that_go_on_are_those_of_event_loops(method: str) -> None:
    taken = {name for loop in LOOP_CLASSES for name in inspect.signature(getattr(loop, method)).parameters} - {
        "self",
        "protocol_factory",
    }
    known = set(allowed.table(method)) - NOT_OF_LOOPS
    if method == allowed.TCP_SERVER:
        known |= {"host", "port"}  # parameters of serve() by name
    # Options of later releases than this one.
    assert taken <= known
    assert known - taken <= {"all_errors", "keep_alive", "cleanup_socket"}


# --------------------------------------------------------------------------------------- what only the call can tell


def returns_a_number(websocket: Any) -> Any:
    return 5


async def fails(uri: str) -> int | None:
    async with client.connect(uri, proxy=None) as websocket:
        await websocket.wait_closed()
        return websocket.close_code


@pytest.mark.parametrize(
    "serve",
    [
        lambda: server.serve(returns_a_number, "localhost", 0),
        lambda: server.serve(lambda websocket, path: returns_a_number(websocket), "localhost", 0),
        lambda: legacy_server.serve(returns_a_number, "localhost", 0),
        lambda: router.route(Map([Rule("/", endpoint=returns_a_number)]), "localhost", 0),
    ],
)
def test_a_handler_that_gives_nothing_to_wait_for(serve: Callable[[], Any], caplog: pytest.LogCaptureFixture) -> None:
    @virtual
    async def scenario() -> None:
        async with serve() as serving:
            assert await fails(uri_of(serving)) == 1011

    scenario()
    (record,) = [record for record in caplog.records if record.levelname == "ERROR"]
    assert record.getMessage().startswith("connection handler failed: ")
    assert record.exc_info is not None
    assert isinstance(record.exc_info[1], TypeError)
    text = r"a connection handler must be an async function: <function .*> returned 5"
    assert re.fullmatch(text, str(record.exc_info[1]))


@pytest.mark.parametrize(
    "times",
    [
        {"ping_interval": float("inf"), "ping_timeout": float("inf"), "close_timeout": float("inf")},
        {"ping_interval": Fraction(1, 2), "ping_timeout": Fraction(1, 2), "close_timeout": Fraction(1, 2)},
        {"ping_interval": 1, "ping_timeout": True, "close_timeout": True},
        {"ping_interval": 10**9, "ping_timeout": 10**9, "close_timeout": 10**9},
    ],
)
@pytest.mark.parametrize("run", [run_virtual, *RUNNERS])
def test_right_times_work(times: dict[str, Any], run: Callable[[Any], Any]) -> None:
    async def scenario() -> None:
        options = {**times, "open_timeout": times["close_timeout"], "idle_timeout": float("inf")}
        async with connected_pair(**options) as (ours, theirs):
            await ours.send("hello")
            assert await theirs.recv() == "hello"
            if run is run_virtual:
                await asyncio.sleep(100)
                assert ours.state is State.OPEN
        assert (ours.close_code, theirs.close_code) == (1000, 1000)

    run(scenario())


@pytest.mark.parametrize("run", RUNNERS)
@pytest.mark.parametrize("none", [0, 0.0, None])
def test_no_time_to_close_leaves_tls_alone(none: float | None, run: Callable[[Any], Any]) -> None:
    async def scenario() -> None:
        context, trusting = anonymous_tls()
        async with server.serve(echo_once, "127.0.0.1", 0, ssl=context, close_timeout=none) as serving:
            uri = f"wss://127.0.0.1:{port_of(serving)}"
            async with client.connect(uri, ssl=trusting, proxy=None) as websocket:
                await websocket.send("hello")
                assert await websocket.recv() == "hello"

    run(scenario())
    if PROACTOR:
        # It leaves the socket of a TLS connection that was reset to the collector: see docs/platforms.md.
        with warnings.catch_warnings(action="ignore", category=ResourceWarning):
            gc.collect()


async def echo_once(websocket: server.ServerConnection) -> None:
    await websocket.send(await websocket.recv())


@virtual
async def test_no_time_to_open() -> None:
    async with server.serve(echo_once, "localhost", 0) as serving:
        with pytest.raises(TimeoutError, match=r"^timed out during opening handshake$"):
            await client.connect(uri_of(serving), open_timeout=0)


@virtual
async def test_options_of_connections_in_memory() -> None:
    with pytest.raises(TypeError, match=r"^max_size must be "):
        async with connected_pair(max_size="1MB"):
            pass
    async with serve_in_memory(echo_once) as serving:
        with pytest.raises(ValueError, match=r"^ping_interval must be "):
            serving.connect(ping_interval=0)


@virtual
async def test_options_of_broadcasts_and_of_closing() -> None:
    async with connected_pair() as (ours, theirs):
        for value in "1", 1.5, True:
            with pytest.raises(TypeError, match=r"^max_buffered must be a number of bytes, 0 or more, or None, not "):
                server.broadcast([theirs], "hello", max_buffered=value)  # type: ignore[arg-type]
        for end in ours, theirs.server:
            with pytest.raises(TypeError, match=r"^timeout must be a number of seconds, .*, not '1'$"):
                await end.close(timeout="1")  # type: ignore[arg-type,misc]
        assert ours.state is theirs.state is State.OPEN
