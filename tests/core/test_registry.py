"""The connections of a server: who is there, who counts, who is told what at a shutdown. No loop is there."""

from __future__ import annotations

import logging
from typing import Any

import pytest

from websockets._rules.capacity import Capacity
from websockets._session import registry as _registry
from websockets._session.registry import GRACE, TLS_HANDSHAKE, Grace, Registry
from websockets._session.server_session import HandlerState, ServerSession
from websockets._session.session import Timing
from websockets.protocol import State
from websockets.server import ServerProtocol
from websockets.typing import LoggerLike


class Connection:
    """A connection as the registry sees it."""

    def __init__(self, state: State, host: str = "127.0.0.1") -> None:
        self.protocol = ServerProtocol(state=state)
        self.session = ServerSession(self.protocol, Timing(), (16, 4))
        self.remote_address = (host, 50000)
        self.logger: LoggerLike = logging.getLogger("test")

    @property
    def state(self) -> State:
        return self.protocol.state


def entered(registry: Registry[Connection, str], *states: State) -> list[Connection]:
    connections = [Connection(state) for state in states]
    for connection in connections:
        assert registry.enter(connection, connection.session)
    return connections


def test_who_is_there() -> None:
    registry: Registry[Connection, str] = Registry()
    assert registry.empty
    connecting, open_, closing = entered(registry, State.CONNECTING, State.OPEN, State.OPEN)
    closing.protocol.send_close(1000)
    assert registry.open_connections() == {open_}
    assert registry.opened_connections() == {open_, closing}
    statistics = registry.statistics()
    assert (statistics.open, statistics.counted) == (1, 3)
    for connection in (connecting, open_, closing):
        assert not registry.empty
        registry.leave(connection, connection.session)
    assert registry.empty


def test_who_left_is_counted_once() -> None:
    registry: Registry[Connection, str] = Registry(Capacity(2, None))
    one, other = entered(registry, State.CONNECTING, State.CONNECTING)
    one.session.connection_lost(None)
    for _ in range(2):
        registry.leave(one, one.session)
    assert registry.statistics().refused == {"client gone": 1}
    assert registry.statistics().counted == 1
    assert registry.all == {other}


def test_places_of_arrivals() -> None:
    registry: Registry[Connection, str] = Registry(Capacity(1, 1))
    assert registry.arrive("x")
    assert registry.arriving == {"x"}
    (connection,) = entered(registry, State.CONNECTING)
    assert connection.session.over_capacity
    assert registry.arrived("x")
    assert not registry.arrived("x")
    assert registry.refusal(connection.session) is None
    assert registry.statistics().counted == 1


def test_no_place_for_an_arrival(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("websockets._rules.capacity.WAITING_LIMIT", 0)
    registry: Registry[Connection, str] = Registry(Capacity(1, None))
    assert registry.arrive("x")
    assert not registry.arrive("y")
    assert registry.arriving == {"x"}


def test_without_limits_there_is_always_room() -> None:
    registry: Registry[Connection, str] = Registry()
    (connection,) = entered(registry, State.CONNECTING)
    assert registry.refusal(connection.session) is None
    assert registry.arrive("x")
    assert registry.arrived("x")


def test_answers_are_counted() -> None:
    registry: Registry[Connection, str] = Registry()
    for reason in (None, "a", "b", "a"):
        registry.count_answer(reason)
    statistics = registry.statistics()
    assert (statistics.opened, statistics.refused) == (1, {"a": 2, "b": 1})


@pytest.mark.parametrize("close_connections", [True, False])
def test_farewell(close_connections: bool) -> None:
    registry: Registry[Connection, str] = Registry()
    connecting, open_, closing = entered(registry, State.CONNECTING, State.OPEN, State.OPEN)
    closing.protocol.send_close(1000)
    registry.arrive("x")
    farewell = registry.say_farewell(3000, "why", close_connections=close_connections)
    assert farewell == ([connecting], [open_] if close_connections else [], ["x"])
    assert (registry.closing, registry.code, registry.reason) == (True, 3000, "why")


def test_giving_up(caplog: pytest.LogCaptureFixture) -> None:
    registry: Registry[Connection, str] = Registry()
    (connection,) = entered(registry, State.OPEN)
    assert registry.give_up() == [connection]
    assert registry.give_up(lambda connection: "it runs") == [connection]
    assert caplog.messages == [
        "connection handler still runs after it was cancelled; the server closes without it",
        "it runs; the server closes without it",
    ]


def test_a_connection_counts_until_it_and_its_handler_are_over() -> None:
    session = Connection(State.OPEN).session
    assert not session.finished
    session.handler = HandlerState.RUNNING
    session.connection_lost(None)
    assert not session.finished
    session.handler = HandlerState.OVER
    assert session.finished
    silent = Connection(State.CONNECTING).session
    silent.connection_lost(None)
    assert silent.finished


def test_why_a_connection_was_never_opened() -> None:
    session = Connection(State.CONNECTING).session
    session.start_opening(10, 0)
    assert session.handle_timeout(10)
    assert session.unopened_reason() == "timeout"
    garbage = Connection(State.CONNECTING).session
    garbage.receive_data(b"\0\r\n\r\n")
    assert garbage.unopened_reason() == "no valid HTTP request"
    failing = Connection(State.CONNECTING).session
    failing.protocol.handshake_exc = ValueError()
    assert failing.unopened_reason() == "failure"
    gone = Connection(State.CONNECTING).session
    gone.receive_data(b"GET / HTTP/1.1\r\n")
    gone.connection_lost(None)
    assert gone.unopened_reason() == "client gone"


@pytest.mark.parametrize(
    ("listening", "accepted", "left"),
    [
        ({}, 100, GRACE),
        ({"ssl": object()}, 100, GRACE + TLS_HANDSHAKE - 5),
        ({"ssl": object(), "ssl_handshake_timeout": 7}, 100, GRACE + 2),
        ({"ssl": object(), "ssl_handshake_timeout": 3}, 100, GRACE),
        ({"ssl": object()}, None, GRACE),
        (None, 100, GRACE + TLS_HANDSHAKE),
    ],
)
def test_grace(listening: dict[str, Any] | None, accepted: float | None, left: float) -> None:
    grace = Grace() if listening is None else Grace.of(listening)
    if accepted is not None:
        grace.accepted(accepted)
    assert grace.left(105) == left
    assert grace.shaking(105) is (GRACE < left < GRACE + TLS_HANDSHAKE)


def test_stages_have_an_end() -> None:
    # Documented: the server is closed two seconds after its time is up.
    assert _registry.CANCELLATIONS * _registry.PATIENCE == 2
