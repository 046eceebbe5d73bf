"""The steward by itself: looks, deadlines, errors, its end."""

from __future__ import annotations

import logging
import math
from typing import Any

import pytest

from _kit import wire
from _kit.threads import VirtualSystem, run_threads
from websockets.protocol import Protocol, Side, State
from websockets.sync import _steward
from websockets.sync._steward import LOOK_EVERY, Steward, steward_of, stop_steward
from websockets.sync.connection import Connection


class Charge:
    """A connection that notes what the steward does."""

    def __init__(self, system: VirtualSystem) -> None:
        self._ws_entry: Any = None
        self.looks = 0
        self.times: list[float] = []
        self.attended: list[float] = []
        self.broken: list[Exception] = []
        self._system = system
        self.wrong = ""

    def _check(self, name: str) -> None:
        if self.wrong == name:
            raise ZeroDivisionError

    def _ws_handle_timeout(self, now: float) -> None:
        self.times.append(now)
        self._check("timeout")

    def _ws_look(self) -> bool:
        self.times.append(self._system.now())
        self._check("look")
        self.looks -= 1
        return self.looks > 0

    def _ws_attend(self, selector: Any) -> None:
        self.attended.append(self._system.now())

    def _ws_be_ready(self, mask: int) -> None: ...

    def _ws_unwatch(self) -> None: ...

    def _ws_break_off(self, exc: Exception) -> None:
        self.broken.append(exc)
        self._check("break off")

    def _ws_disown(self) -> None: ...


def test_looks_come_while_they_are_needed() -> None:
    def test(system: VirtualSystem) -> None:
        charge = Charge(system)
        charge.looks = 3
        system.steward.know(charge)
        system.steward.look_at(charge)
        system.sleep(10)
        assert charge.times == pytest.approx([1000 + LOOK_EVERY * number for number in (1, 2, 3)])

    run_threads(test, look_every=LOOK_EVERY)


def test_two_looks_are_within_a_tenth_of_a_second() -> None:
    assert 2 * LOOK_EVERY < 0.1


def test_deadlines() -> None:
    def test(system: VirtualSystem) -> None:
        charge, other = Charge(system), Charge(system)
        for each in (charge, other):
            system.steward.know(each)
        system.steward.move(charge, 1005)
        system.steward.move(other, math.inf)
        system.steward.move(other, 1003)
        system.steward.move(charge, 1004)
        system.steward.forget(other)
        system.steward.forget(other)
        system.sleep(10)
        assert (charge.times, other.times) == ([1004], [])
        # Somebody who asks is attended at once.
        system.steward.ask(other)
        system.idle()
        assert other.attended == [1010]

    run_threads(test)


@pytest.mark.parametrize("wrong", ["timeout", "look"])
def test_an_error_ends_one_connection(wrong: str, caplog: pytest.LogCaptureFixture) -> None:
    def test(system: VirtualSystem) -> None:
        charge, other = Charge(system), Charge(system)
        charge.wrong = wrong
        for each in (charge, other):
            system.steward.know(each)
            each.looks = 2
            system.steward.look_at(each)
            system.steward.move(each, 1001)
        system.sleep(10)
        assert [type(exc) for exc in charge.broken] == [ZeroDivisionError]
        assert len(other.times) == 3
        charge.wrong = "break off"
        system.steward.know(charge)

    run_threads(test)
    assert [record.getMessage() for record in caplog.records] == ["unexpected internal error"]


def test_an_error_of_a_connection_ends_it(caplog: pytest.LogCaptureFixture) -> None:
    def test(system: VirtualSystem) -> None:
        client, server = system.link()

        class Broken(Connection):
            def _ws_receive_bytes(self, data: bytes) -> None:
                raise ZeroDivisionError

        connection = Broken(client, Protocol(Side.CLIENT))
        server.send(wire.text("x"))
        assert connection.wait_closed(1)
        assert isinstance(connection.close_exc.__cause__, ZeroDivisionError)
        server.end.close()

    run_threads(test, look_every=0)
    (record,) = caplog.records
    assert (record.levelno, record.getMessage()) == (logging.ERROR, "unexpected internal error")


def test_its_end() -> None:
    """Connections can still be used, but nobody looks after them; a socket that it watched isn't left open."""

    def test(system: VirtualSystem) -> None:
        client, server = system.link()
        connection = Connection(client, Protocol(Side.CLIENT))
        system.idle()
        steward = system.steward
        stop_steward(system)
        stop_steward(system)
        system.idle()
        steward.know(connection)
        server.send(wire.ping(b"p") + wire.text("x"))
        assert connection.recv() == "x"
        assert connection.state is State.OPEN
        connection.abort()
        assert connection.socket.closed
        other, far = system.link()
        later = Connection(other, Protocol(Side.CLIENT))
        system.idle()
        later.abort()
        stop_steward(system)
        system.idle()
        assert later.socket.closed
        system.steward = Steward(system)
        for end in (server, far):
            end.end.close()

    run_threads(test, look_every=0)


def test_it_stops_when_the_program_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_steward, "_systems", [])
    system = VirtualSystem()
    del system.steward
    ends: list[Any] = []
    system.at_exit = ends.append  # type: ignore[method-assign, assignment]
    steward = steward_of(system)
    assert steward_of(system) is steward
    (end,) = ends
    end()
    assert steward_of(system) is not steward
