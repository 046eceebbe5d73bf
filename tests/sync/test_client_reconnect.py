"""Clients for threads that reconnect: blocks, iterations, hooks, delays. Nobody sleeps for real."""

from __future__ import annotations

import itertools
import logging
import socket
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from _kit import wire
from _kit.scripted import Script, Visitor, let_in, refuse, scripted
from websockets.exceptions import ConnectionClosedError, ConnectionClosedOK, InvalidStatus
from websockets.protocol import State
from websockets.sync._system import System
from websockets.sync.client import ClientConnection, reconnect


@pytest.fixture(autouse=True)
def slept(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The delays so far; a server that is asked for the time tells the beginning of 2030."""
    slept: list[float] = []
    monkeypatch.setattr(System, "sleep", lambda self, seconds: slept.append(seconds))
    monkeypatch.setattr(System, "date", lambda self: 1893456000.0)
    return slept


class Clock:
    """The monotonic clock, as one that connections outlive their delays by."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.ahead = 0.0
        now = System.now
        monkeypatch.setattr(System, "now", lambda system: now(system) + self.ahead)


def at(port: int) -> str:
    return f"ws://127.0.0.1:{port}/"


def close_with(code: int) -> Script:
    """Open a connection, and close it."""

    def play(sock: socket.socket) -> None:
        visitor = Visitor(sock)
        visitor.accept(more=wire.close(code))
        visitor.read_frame()

    return play


def fixed(*delays: float) -> Callable[[], Iterator[float]]:
    return lambda: iter(delays)


# --------------------------------------------------------------------------------------------------------------- blocks


def test_block() -> None:
    with scripted(let_in, let_in) as port:
        connecting = reconnect(at(port))
        assert connecting.connection is None
        for _ in range(2):
            with connecting as websocket:
                assert connecting.connection is websocket
                assert type(websocket) is ClientConnection
            assert connecting.connection is None
            assert websocket.close_code == 1000


def test_blocks_inside_of_each_other() -> None:
    with scripted(let_in) as port:
        connecting = reconnect(at(port))
        with connecting:
            with pytest.raises(RuntimeError, match=r"^connect\(\) isn't reentrant$"), connecting:
                pass


def test_block_that_is_left_only() -> None:
    with pytest.raises(AttributeError, match="left without having been entered"):
        reconnect("ws://localhost/").__exit__(None, None, None)


def test_block_that_fails() -> None:
    with scripted(refuse(404), let_in) as port:
        connecting = reconnect(at(port))
        with pytest.raises(InvalidStatus), connecting:
            pass
        with connecting:
            pass


def test_block_that_is_left_by_an_exception() -> None:
    codes = []

    def look(sock: socket.socket) -> None:
        visitor = Visitor(sock)
        visitor.accept()
        codes.append(visitor.part())

    with scripted(look) as port, pytest.raises(LookupError), reconnect(at(port)):
        raise LookupError
    assert codes == [1011]


def test_connecting_by_hand() -> None:
    """There is no warning: connections that iterate have no block either."""
    with scripted(let_in) as port:
        websocket = reconnect(at(port)).connect()
        websocket.close()


def test_class_that_derives_from_it(slept: list[float]) -> None:
    class Mine(reconnect):
        attempts = 0

        def connect(self) -> ClientConnection:
            self.attempts += 1
            if self.attempts == 2:
                raise OSError("broken")
            return super().connect()

    with scripted(let_in, let_in) as port:
        mine = Mine(at(port), reconnect_delays=fixed(7))
        with mine:
            assert mine.attempts == 1
        for websocket in mine:
            assert websocket.state is State.OPEN
            break
        assert mine.attempts == 3
    assert slept == [7]


# ----------------------------------------------------------------------------------------------------------- iterations


def test_iteration(monkeypatch: pytest.MonkeyPatch, slept: list[float]) -> None:
    clock = Clock(monkeypatch)
    with scripted(let_in, let_in, let_in) as port:
        made: list[ClientConnection] = []
        for websocket in reconnect(at(port)):
            assert [(before.state, before.close_code) for before in made] == [(State.CLOSED, 1000)] * len(made)
            assert websocket.state is State.OPEN
            made.append(websocket)
            if len(made) == 3:
                break
            clock.ahead += 3600
    assert slept == []
    assert (made[2].state, made[2].close_code) == (State.CLOSED, 1000)


def test_body_that_raises() -> None:
    made: list[ClientConnection] = []

    def loop(port: int) -> None:
        for websocket in reconnect(at(port)):
            made.append(websocket)
            raise LookupError

    with scripted(let_in) as port:
        with pytest.raises(LookupError):
            loop(port)
        assert made[0].state is State.CLOSED


def test_closed_by_hand() -> None:
    with scripted(let_in) as port:
        connections: Any = iter(reconnect(at(port)))
        websocket = next(connections)
        connections.close()
        assert websocket.state is State.CLOSED
        assert list(connections) == []


def test_failures(slept: list[float], caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "websockets.client")
    with scripted(refuse(503), refuse(500), let_in) as port:
        for _ in reconnect(at(port), reconnect_delays=fixed(1, 2, 4)):
            break
    assert slept == [1, 2]
    assert [record.getMessage() for record in caplog.records if "reconnecting" in record.getMessage()] == [
        "connect failed; reconnecting in 1.0 seconds: "
        "websockets.exceptions.InvalidStatus: server rejected WebSocket connection: HTTP 503 "
        "(the response has 'Refused': HTTP 503)",
        "connect failed; reconnecting in 2.0 seconds: "
        "websockets.exceptions.InvalidStatus: server rejected WebSocket connection: HTTP 500 "
        "(the response has 'Refused': HTTP 500)",
    ]


@pytest.mark.parametrize(("value", "delay"), [("30", 30), ("Tue, 01 Jan 2030 00:01:00 GMT", 60), ("x", 1)])
def test_server_that_says_when(value: str, delay: float, slept: list[float]) -> None:
    with scripted(refuse(503, {"Retry-After": value}), let_in) as port:
        for _ in reconnect(at(port), reconnect_delays=fixed(1)):
            break
    assert slept == [delay]


def test_default_delays(slept: list[float]) -> None:
    with scripted(refuse(503), refuse(503), let_in) as port:
        for _ in reconnect(at(port)):
            break
    assert 0 <= slept[0] <= 5
    assert slept[1:] == [3.1]


def test_no_delay(slept: list[float]) -> None:
    with scripted(refuse(503), let_in) as port:
        for _ in reconnect(at(port), reconnect_delays=fixed(0)):
            break
    assert slept == []


def test_fatal_failure() -> None:
    with scripted(refuse(404)) as port:
        with pytest.raises(InvalidStatus):
            next(iter(reconnect(at(port))))


def test_end_of_the_delays(slept: list[float]) -> None:
    with scripted(refuse(503), refuse(500)) as port:
        with pytest.raises(InvalidStatus) as raised:
            next(iter(reconnect(at(port), reconnect_delays=fixed(1))))
    assert raised.value.response.status_code == 500
    assert slept == [1]


def test_hook_for_failures(slept: list[float]) -> None:
    seen: list[Exception] = []
    error = LookupError("enough")

    def process(exc: Exception) -> Exception | None:
        seen.append(exc)
        return None if len(seen) < 3 else error

    with scripted(refuse(404), refuse(404), refuse(404)) as port:
        options: Any = {"process_exception": process, "reconnect_delays": lambda: itertools.repeat(5)}
        with pytest.raises(LookupError) as raised:
            next(iter(reconnect(at(port), **options)))
    assert raised.value is error
    assert error.__cause__ is seen[2]
    assert slept == [5, 5]


@pytest.mark.parametrize(("code", "kind"), [(1000, ConnectionClosedOK), (1011, ConnectionClosedError)])
def test_connections_that_are_closed_at_once(code: int, kind: Any, slept: list[float]) -> None:
    closed: list[Any] = []

    def loop(port: int) -> None:
        for websocket in reconnect(at(port), reconnect_delays=fixed(1, 2)):
            with pytest.raises(kind):
                websocket.recv()
            closed.append(websocket.close_code)

    with scripted(*[close_with(code)] * 3) as port:
        with pytest.raises(kind):
            loop(port)
    assert closed == [code] * 3
    assert slept == [1, 2]


def test_attributes_that_change_between_attempts(slept: list[float]) -> None:
    with scripted(refuse(503), let_in) as port:
        connecting = reconnect(at(port), additional_headers={"X": "1"})

        def delays() -> Iterator[float]:
            connecting.additional_headers = {"X": "2"}
            yield 1

        connecting.reconnect_delays = delays
        for websocket in connecting:
            assert websocket.request is not None
            assert websocket.request.headers["X"] == "2"
            break


def test_two_iterations_at_the_same_time() -> None:
    with scripted(let_in, let_in) as first, scripted(let_in) as second:
        one = reconnect(at(first))
        connections = [iter(one), iter(reconnect(at(second))), iter(one)]
        with pytest.raises(ConnectionRefusedError):
            # The scripts are played one after the other, so these are too.
            next(iter(reconnect("ws://127.0.0.1:1/", process_exception=lambda exc: exc)))
        for made in (connections[1], connections[0], connections[2]):
            assert next(made).state is State.OPEN
            made.close()  # type: ignore[attr-defined]
