"""The steward by itself: looks, deadlines, errors, its end."""

from __future__ import annotations

import logging
import math
import signal
import subprocess
import sys
import threading
from typing import Any

import pytest

from _kit import wire
from _kit.threads import VirtualSystem, run_threads, stop_steward
from websockets.protocol import Protocol, Side, State
from websockets.sync import _steward
from websockets.sync._steward import LOOK_EVERY, Steward, steward_of
from websockets.sync._system import READ, System
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


def test_a_steward_for_each_system(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_steward, "_systems", [])
    system = VirtualSystem()
    del system.steward
    steward = steward_of(system)
    assert steward_of(system) is steward
    stop_steward(system)
    assert steward_of(system) is not steward
    assert _steward._systems == [system]


def fails_once(system: VirtualSystem, name: str, exc: Exception) -> None:
    """Have a method of the system fail once."""

    def fail(*arguments: Any, **options: Any) -> None:
        delattr(system, name)
        raise exc

    setattr(system, name, fail)


NO_ROOM = [("waker", OSError), ("selector", OSError), ("start_thread", RuntimeError)]


@pytest.mark.parametrize(("name", "kind"), NO_ROOM)
def test_no_room_for_the_thread(name: str, kind: type[Exception]) -> None:
    """The first connection can't be opened; a later one can."""

    def test(system: VirtualSystem) -> None:
        wakers: list[Any] = []

        def waker() -> Any:
            wakers.append(VirtualSystem.waker(system))
            return wakers[-1]

        system.waker = waker  # type: ignore[method-assign]
        client, server = system.link()
        fails_once(system, name, kind("no room"))
        with pytest.raises(kind, match="^no room$"):
            Connection(client, Protocol(Side.CLIENT))
        assert [waker.closed for waker in wakers] == [True] * len(wakers)
        connection = Connection(client, Protocol(Side.CLIENT))
        server.send(wire.ping(b"p"))
        system.sleep(0.1)
        assert wire.parse(server.recv(100))[0][0].payload == b"p"
        connection.abort()
        server.end.close()

    run_threads(test)


class Fatal(BaseException):
    """An error that ends a thread, such as SystemExit."""


@pytest.mark.parametrize("room", [True, False])
def test_a_thread_that_ended_is_replaced(room: bool) -> None:
    def test(system: VirtualSystem) -> None:
        client, server = system.link()
        connection = Connection(client, Protocol(Side.CLIENT))
        charge = Charge(system)
        system.steward.know(charge)
        system.idle()

        def fail(now: float) -> None:
            raise Fatal

        charge._ws_handle_timeout = fail  # type: ignore[method-assign]
        if not room:
            fails_once(system, "selector", OSError("no room"))
        system.steward.move(charge, 1001)
        system.sleep(2)
        thread = system.strands[1]
        assert isinstance(thread.failure, Fatal)
        thread.failure = None
        server.send(wire.ping(b"p"))
        system.sleep(0.1)
        if not room:
            assert not server.readiness() & READ
            system.steward.know(charge)
            system.sleep(0.1)
        assert wire.parse(server.recv(100))[0][0].payload == b"p"
        connection.abort()
        server.end.close()

    run_threads(test)


@pytest.mark.parametrize("kernel", [True, False])
def test_closing_without_a_steward(kernel: bool) -> None:
    """While the interpreter ends, no other thread runs; those who close keep the time limit themselves."""

    def test(system: VirtualSystem) -> None:
        client, server = system.link()
        connection = Connection(client, Protocol(Side.CLIENT), close_timeout=3)
        stop_steward(system)
        connection.close()
        assert system.now() == 1003
        assert connection.state is State.CLOSED
        assert connection.socket.closed
        system.steward = Steward(system)
        server.end.close()

    run_threads(test, kernel=kernel)


PROGRAM = """
import atexit, socket, time
from websockets.protocol import CLIENT, Protocol
from websockets.sync.connection import Connection
one, other = socket.socketpair()
def close():
    connection.close()
    print(connection.state.name)
atexit.register(close)
connection = Connection(one, Protocol(CLIENT), close_timeout=0.2)
"""


def test_a_connection_is_closed_when_the_program_ends() -> None:
    """The function of atexit was registered before the first connection."""
    ended = subprocess.run(
        [sys.executable, "-X", "dev", "-c", PROGRAM], capture_output=True, text=True, timeout=30, check=False
    )
    assert (ended.returncode, ended.stdout) == (0, "CLOSED\n")
    assert "steward" not in ended.stderr


IN_A_SUBINTERPRETER = """
try:
    import _interpreters as interpreters
    kind = ("legacy",)
except ImportError:
    import _xxsubinterpreters as interpreters
    kind = ()
made = interpreters.create(*kind) if kind else interpreters.create(isolated=False)
interpreters.run_string(made, '''
import atexit, socket
from websockets.protocol import CLIENT, Protocol
from websockets.sync.connection import Connection
one, other = socket.socketpair()
connection = Connection(one, Protocol(CLIENT), close_timeout=0.2)
@atexit.register
def close():
    connection.close()
    print(connection.state.name)
''')
interpreters.destroy(made)
print("end")
"""


@pytest.mark.skipif(sys.version_info < (3, 12), reason="subinterpreters have another interface there")
def test_a_subinterpreter_ends() -> None:
    """The interpreter would abort if the thread were still there."""
    ended = subprocess.run(
        [sys.executable, "-c", IN_A_SUBINTERPRETER], capture_output=True, text=True, timeout=30, check=False
    )
    assert (ended.returncode, ended.stdout) == (0, "CLOSED\nend\n"), ended.stderr


@pytest.mark.parametrize("inside", [False, True])
def test_only_a_subinterpreter_stops_it(inside: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    system = System()
    without = System()
    monkeypatch.setattr(system, "in_subinterpreter", lambda: inside)
    monkeypatch.setattr(_steward, "_systems", [without, system])
    system.steward = Steward(system)
    _steward._at_exit()
    assert system.steward._stopped is inside


@pytest.mark.parametrize(("raised", "answer"), [(None, False), (TypeError, False), (ValueError, True)])
def test_what_tells_a_subinterpreter(
    raised: type[Exception] | None, answer: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    def set_handler(number: int, handler: object) -> None:
        assert handler is signal.getsignal(number)
        if raised is not None:
            raise raised

    monkeypatch.setattr(signal, "signal", set_handler)
    assert System().in_subinterpreter() is answer
    found: list[bool] = []
    thread = threading.Thread(target=lambda: found.append(System().in_subinterpreter()))
    thread.start()
    thread.join()
    assert found == [False]
