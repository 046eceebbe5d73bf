"""How an answer to a request comes about: the order, what each failure answers, logs and counts. No loop is there."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import pytest

from _kit import wire
from _kit.extended_connect import ExtendedConnect
from _kit.hook_calls import call_hooks
from websockets._rules.capacity import Capacity
from websockets._session.answering import Answering
from websockets._session.options import ServerOptions
from websockets._session.registry import Registry
from websockets._session.server_session import HandlerState, ServerSession
from websockets._session.session import Timing
from websockets.datastructures import Headers
from websockets.exceptions import ConnectionClosedError, NegotiationError
from websockets.http11 import Request, Response
from websockets.protocol import State
from websockets.server import ServerProtocol, take_request
from websockets.typing import LoggerLike, Subprotocol

A, B = Subprotocol("a"), Subprotocol("b")
BROKEN = b"Failed to open a WebSocket connection.\nSee server log for more information.\n"


class Connection:
    """A connection, as a front-end for threads may have it."""

    def __init__(self, answering: Answering, address: Any = ("127.0.0.1", 1)) -> None:
        self.answering = answering
        self.protocol = answering.options.protocol()
        self.session = ServerSession(self.protocol, Timing(), (16, 4))
        self.remote_address = address
        self.logger: LoggerLike = logging.getLogger("test")
        self.stays = answering.registry.enter(self, self.session)

    @property
    def state(self) -> State:
        return self.protocol.state

    def ask(self, data: bytes | None = None) -> bytes:
        """Have a client ask, and return what it gets."""
        self.session.receive_data(wire.request(raw=b"Sec-WebSocket-Protocol: a, b\r\n") if data is None else data)
        request = self.answering.take_request(self, self.session)
        if request is not None:
            self.answer(request)
        self.session.process_events(0)
        return b"".join(self.protocol.data_to_send())

    def answer(self, request: Request) -> None:
        if self.answering.asks(self.session):
            response = call_hooks(self.answering.steps(self, self.session))
            assert not self.session.asking
            if response is not None:
                self.opened = self.answering.respond(self, self.session, response)
        else:
            self.opened = self.answering.answer_at_once(self, self.session, request)

    opened = False


async def handler(websocket: Any) -> None: ...


def answering(**options: Any) -> Answering:
    """What answers for a server with these options of ``serve()``."""
    names = "origins hosts extensions subprotocols select_subprotocol process_request process_response server_header"
    names += " open_timeout ping_interval ping_timeout close_timeout max_size max_queue write_limit create_connection"
    names += " max_connections max_connections_per_host idle_timeout proxy_protocol compression"
    given: dict[str, Any] = {
        **dict.fromkeys(names.split()),
        "max_queue": 16,
        "write_limit": 2**15,
        "handler": handler,
        "host": None,
        "port": 0,
        "logger": logging.getLogger("test.protocol"),
        "kwargs": {},
    }
    made = ServerOptions.of({**given, **options}, logging.getLogger("test.protocol"))
    return Answering(made, Registry(made.capacity))


def head(answer: bytes) -> tuple[int, dict[str, str], bytes]:
    """The status, the headers and the body of an answer."""
    lines, _, body = answer.partition(b"\r\n\r\n")
    status, *fields = lines.decode().split("\r\n")
    return int(status.split()[1]), dict(field.split(": ", 1) for field in fields), body


# ------------------------------------------------------------------------------------------------------- any carrier


@pytest.mark.parametrize(("status", "opened"), [(101, False), (200, True), (404, False)])
def test_the_carrier_says_which_response_opens_a_connection(status: int, opened: bool) -> None:
    def process_response(connection: Any, request: Request, response: Response) -> Response:
        return Response(status, "", response.headers)

    connection = Connection(answering(process_response=process_response, select_subprotocol=lambda *_: A))
    headers = Headers({"Host": "localhost", "Sec-WebSocket-Version": "13", "Sec-WebSocket-Protocol": "a"})
    carrier = ExtendedConnect()
    take_request(connection.protocol, Request("/", headers, "CONNECT", "HTTP/2"), carrier)
    assert connection.ask(b"") == b""
    (head,) = carrier.heads
    assert (head.headers["Sec-WebSocket-Protocol"], connection.opened) == ("a", opened)
    assert connection.answering.registry.statistics().opened == opened


# -------------------------------------------------------------------------------------------------- without any hooks


def test_at_once() -> None:
    connection = Connection(answering(server_header="test"))
    status, headers, _ = head(connection.ask())
    assert (status, headers["Server"], connection.opened) == (101, "test", True)
    assert connection.session.response is not None
    assert connection.session.answered
    assert connection.answering.registry.statistics().opened == 1


def answered(connection: Connection) -> bool:
    """Make and send a response; no hook is asked for."""
    steps = connection.answering.answer(connection, connection.session)
    with pytest.raises(StopIteration) as end:
        next(steps)
    opened: bool = end.value.value
    return opened


def test_made_and_sent_in_one_step() -> None:
    connection = Connection(answering())
    connection.protocol.receive_data(wire.request())
    connection.answering.take_request(connection, connection.session)
    assert answered(connection)
    assert head(b"".join(connection.protocol.data_to_send()))[0] == 101


def test_not_sent_to_who_has_gone() -> None:
    connection = Connection(answering())
    connection.protocol.receive_data(wire.request())
    connection.answering.take_request(connection, connection.session)
    connection.session.connection_lost(None)
    assert not answered(connection)
    assert connection.session.response is None


@pytest.mark.parametrize("at_once", [False, True])
def test_handler_that_cannot_be_started(at_once: bool, caplog: pytest.LogCaptureFixture) -> None:
    connection = Connection(answering())
    if at_once:
        connection.ask()
    else:
        connection.protocol.receive_data(wire.request())
        connection.answering.take_request(connection, connection.session)
    error = RuntimeError("no thread")
    connection.answering.break_off(connection, connection.session, error, "starting the connection handler failed")
    written = b"".join(connection.protocol.data_to_send())
    if at_once:
        assert written == wire.close(1011)
    else:
        assert head(written)[0] == 500
    assert connection.answering.registry.statistics().handler_failures == 1
    (record,) = (record for record in caplog.records if record.levelname == "ERROR")
    assert record.getMessage() == "starting the connection handler failed"
    assert record.exc_info is not None


def test_nothing_is_answered_before_there_is_a_request() -> None:
    connection = Connection(answering())
    assert connection.ask(b"GET / HTTP/1.1\r\n") == b""
    assert connection.session.request is None
    assert connection.session.answerable


def test_a_bad_request_is_refused() -> None:
    connection = Connection(answering(server_header="test"))
    status, headers, _ = head(connection.ask(wire.request(method="POST")))
    assert (status, headers["Server"], connection.opened) == (405, "test", False)
    assert connection.answering.registry.statistics().refused == {"invalid method": 1}


@pytest.mark.parametrize("hooks", [{}, {"process_request": lambda connection, request: None}], ids=["no hook", "hook"])
def test_a_server_that_shuts_down(hooks: dict[str, Any]) -> None:
    connection = Connection(answering(server_header="test", **hooks))
    connection.answering.registry.say_farewell(1001, "", close_connections=True)
    status, headers, body = head(connection.ask())
    assert (status, headers["Server"], body) == (503, "test", b"Server is shutting down.\n")
    assert connection.answering.registry.statistics().refused == {"server is shutting down": 1}


def test_who_has_not_asked_is_refused_when_the_server_shuts_down() -> None:
    connection = Connection(answering())
    assert connection.answering.unavailable_unless_asked(connection.session)
    assert head(b"".join(connection.protocol.data_to_send()))[0] == 503
    # Once is enough.
    assert not connection.answering.unavailable_unless_asked(connection.session)


def test_who_has_asked_gets_the_answer_of_the_handler() -> None:
    connection = Connection(answering())
    connection.session.handler = HandlerState.RUNNING
    assert not connection.answering.unavailable_unless_asked(connection.session)
    assert connection.protocol.data_to_send() == []


# ------------------------------------------------------------------------------------------------------------- room


def test_no_room() -> None:
    server = answering(max_connections=1, server_header="test")
    one, other = Connection(server), Connection(server)
    assert (one.stays, other.stays) == (True, True)
    assert (one.session.over_capacity, other.session.over_capacity) == (False, True)
    status, headers, body = head(other.ask())
    assert (status, headers["Retry-After"], headers["Server"]) == (503, "5", "test")
    assert body == b"Failed to open a WebSocket connection: too many connections.\n"
    assert server.registry.statistics().refused == {"too many connections": 1}
    assert head(one.ask())[0] == 101


def test_room_by_now() -> None:
    server = answering(max_connections=1)
    one, other = Connection(server), Connection(server)
    server.registry.leave(one, one.session)
    assert head(other.ask())[0] == 101
    assert not other.session.over_capacity
    assert server.registry.statistics().counted == 1


def test_no_hook_is_asked_where_there_is_no_room() -> None:
    server = answering(max_connections=1, process_request=lambda connection, request: pytest.fail("asked"))
    _, other = Connection(server), Connection(server)
    assert head(other.ask())[0] == 503


# ------------------------------------------------------------------------------------------------------------- hooks


def test_a_selector_that_chooses_none() -> None:
    connection = Connection(answering(select_subprotocol=lambda connection, offered: None))
    status, headers, _ = head(connection.ask())
    assert (status, "Sec-WebSocket-Protocol" in headers) == (101, False)
    assert connection.protocol.subprotocol is None


def test_the_order_of_hooks() -> None:
    calls: list[Any] = []

    def process_request(connection: Connection, request: Request) -> None:
        calls.append(("process_request", connection.session.asking, request.path))

    def select_subprotocol(connection: Connection, offered: Any) -> Subprotocol:
        calls.append(("select_subprotocol", connection.session.asking, offered))
        return B

    def process_response(connection: Connection, request: Request, response: Response) -> None:
        calls.append(("process_response", connection.session.asking, response.headers["Server"]))
        assert response.headers["Sec-WebSocket-Protocol"] == "b"

    server = answering(
        process_request=process_request,
        select_subprotocol=select_subprotocol,
        process_response=process_response,
        server_header="test",
    )
    connection = Connection(server)
    assert head(connection.ask())[0] == 101
    assert calls == [
        ("process_request", True, "/"),
        ("select_subprotocol", True, [A, B]),
        ("process_response", True, "test"),
    ]
    assert connection.protocol.subprotocol == B
    assert not server.registry.statistics().refused


def test_process_request_answers() -> None:
    server = answering(
        process_request=lambda connection, request: connection.protocol.reject(200, "OK\n"),
        select_subprotocol=lambda connection, offered: pytest.fail("asked"),
        server_header="test",
    )
    connection = Connection(server)
    status, headers, body = head(connection.ask())
    assert (status, headers["Server"], body) == (200, "test", b"OK\n")
    assert server.registry.statistics().refused == {"application": 1}


def test_process_response_replaces() -> None:
    server = answering(process_response=lambda connection, request, response: connection.protocol.reject(404, "No\n"))
    connection = Connection(server)
    status, _, body = head(connection.ask())
    assert (status, body, connection.opened) == (404, b"No\n", False)


def test_a_refused_request_has_no_subprotocol_to_choose() -> None:
    server = answering(select_subprotocol=lambda connection, offered: pytest.fail("asked"))
    assert head(Connection(server).ask(wire.request(http="HTTP/1.0")))[0] == 505


def raising(exc: Exception) -> Callable[..., Any]:
    def hook(*arguments: Any) -> Any:
        raise exc

    return hook


@pytest.mark.parametrize("name", ["process_request", "process_response"])
@pytest.mark.parametrize(
    ("hook", "error"),
    [
        (raising(ZeroDivisionError("x")), "x"),
        (raising(NegotiationError("x")), "x"),
        (lambda *arguments: 1, "{} must return a Response or None, not 1"),
    ],
    ids=["raises", "raises what blames the client", "wrong type"],
)
def test_a_hook_that_fails(name: str, hook: Any, error: str, caplog: pytest.LogCaptureFixture) -> None:
    connection = Connection(answering(**{name: hook}))
    status, _, body = head(connection.ask())
    assert (status, body) == (500, BROKEN)
    assert [(record.name, record.message) for record in caplog.records] == [("test", f"{name} failed")]
    assert str(connection.protocol.handshake_exc) == error.format(name)
    assert connection.answering.registry.statistics().refused == {"failure": 1}


@pytest.mark.parametrize(
    ("hook", "status", "reason"),
    [
        (raising(ZeroDivisionError()), 500, "failure"),
        (raising(NegotiationError("none of these")), 400, "invalid handshake"),
        (lambda connection, offered: "a\r\nb", 500, "failure"),
    ],
    ids=["raises", "refuses", "can't be sent"],
)
def test_a_selector_that_fails(hook: Any, status: int, reason: str) -> None:
    connection = Connection(answering(select_subprotocol=hook))
    assert head(connection.ask())[0] == status
    assert connection.protocol.subprotocol is None
    assert connection.answering.registry.statistics().refused == {reason: 1}


def test_a_response_that_cannot_be_sent(caplog: pytest.LogCaptureFixture) -> None:
    def process_response(connection: Any, request: Request, response: Response) -> Response:
        return Response(200, "a\r\nb", response.headers)

    connection = Connection(answering(process_response=process_response))
    status, _, body = head(connection.ask())
    assert (status, body, connection.opened) == (500, BROKEN, False)
    assert [(record.name, record.message) for record in caplog.records] == [("test", "opening handshake failed")]
    assert connection.session.response is not None
    assert connection.session.response.status_code == 500


def test_a_server_that_shuts_down_during_a_hook() -> None:
    def process_response(connection: Connection, request: Request, response: Response) -> None:
        connection.answering.registry.say_farewell(1001, "", close_connections=True)

    assert head(Connection(answering(process_response=process_response)).ask())[0] == 503


def test_a_client_that_leaves_during_a_hook() -> None:
    def process_request(connection: Connection, request: Request) -> None:
        connection.session.connection_lost(None)

    connection = Connection(answering(process_request=process_request))
    assert connection.ask() == b""
    assert connection.session.response is None
    assert connection.session.unopened_reason() == "client gone"


def test_an_answer_that_nobody_waits_for_any_more() -> None:
    server = answering(process_request=lambda connection, request: None)
    connection = Connection(server)
    connection.session.receive_data(wire.request())
    server.take_request(connection, connection.session)
    steps = server.steps(connection, connection.session)
    step = next(steps)
    assert step.arguments == (connection, connection.session.request)
    assert connection.session.asking
    # As when a task is cancelled.
    steps.close()
    assert not connection.session.asking


def test_a_protocol_with_a_selector_of_its_own() -> None:
    server = answering()
    connection = Connection(server)
    assert not server.asks(connection.session)
    own = ServerProtocol(select_subprotocol=lambda protocol, offered: A)
    connection.protocol, connection.session = own, ServerSession(own, Timing(), (16, 4))
    assert server.asks(connection.session)
    assert head(connection.ask())[1]["Sec-WebSocket-Protocol"] == "a"


# ----------------------------------------------------------------------------------------------------------- handlers


def test_arguments_of_a_handler() -> None:
    async def with_path(websocket: Any, path: str) -> None: ...

    for function, arguments in [(handler, ()), (with_path, ("/a?b",))]:
        connection = Connection(answering(handler=function))
        connection.ask(wire.request("/a?b"))
        assert connection.answering.handler_arguments(connection.session) == arguments


def test_a_handler_that_fails(caplog: pytest.LogCaptureFixture) -> None:
    connection = Connection(answering())
    connection.ask()
    error = ZeroDivisionError()
    assert connection.answering.handler_failed(connection, connection.session, error)
    [record] = caplog.records
    assert (record.message, record.exc_info and record.exc_info[1]) == ("connection handler failed", error)
    assert connection.answering.registry.statistics().handler_failures == 1


def test_a_handler_that_ends_with_its_connection(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "test")
    connection = Connection(answering())
    connection.ask()
    # Another connection ends in the same way, but this one is open.
    stranger = ConnectionClosedError(None, None)
    assert connection.answering.handler_failed(connection, connection.session, stranger)
    connection.session.connection_lost(None)
    caplog.clear()
    group = ExceptionGroup("", [connection.session.close_exc(), ExceptionGroup("", [connection.session.close_exc()])])
    for exc in (connection.session.close_exc(), group):
        assert not connection.answering.handler_failed(connection, connection.session, exc)
    assert connection.answering.handler_failed(
        connection, connection.session, ExceptionGroup("", [connection.session.close_exc(), ValueError()])
    )
    lines = ["connection handler ended: no close frame received or sent"] * 2 + ["connection handler failed"]
    assert [record.message for record in caplog.records if record.name == "test"] == lines


def test_capacity_that_is_full_outside_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("websockets._rules.capacity.WAITING_LIMIT", 1)
    registry: Registry[Any, Any] = Registry(Capacity(1, None))
    server = Answering(answering().options, registry)
    assert [Connection(server).stays for _ in range(3)] == [True, True, False]
    assert registry.statistics().refused == {"too many connections to be told": 1}
    assert len(registry.all) == 2
