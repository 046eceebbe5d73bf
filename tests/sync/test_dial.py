"""Reaching a host with several addresses: which is tried when, before which deadline, and what is left behind.

Most tests run on a fake system, with a clock of its own; some, at the end, over real sockets.
"""

from __future__ import annotations

import errno
import math
import os
import selectors
import socket
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NoReturn

import pytest

from _kit.platforms import needs_unix_sockets
from websockets.sync import _dial
from websockets.sync._dial import open_connection, open_unix_connection
from websockets.sync._line import is_late
from websockets.sync._system import System, using

V6, V4, OTHER = "2001:db8::1", "192.0.2.1", "192.0.2.2"
ADDRESSES = [V6, V4, OTHER]
REFUSED, UNREACHABLE = errno.ECONNREFUSED, errno.EHOSTUNREACH


class Outcome(SimpleNamespace):
    """What becomes of an attempt: seconds until then, and the code of the error, 0 for success."""

    after: float
    code: int


def never() -> Outcome:
    return Outcome(after=math.inf, code=0)


def accepted(after: float = 0.01) -> Outcome:
    return Outcome(after=after, code=0)


def refused(after: float = 0.01, code: int = REFUSED) -> Outcome:
    return Outcome(after=after, code=code)


class FakeSocket:
    """A socket of the fake system."""

    def __init__(self, fake: Fake, family: int) -> None:
        self.fake, self.family = fake, family
        self.blocking, self.closed, self.bound = True, False, None
        self.options: list[Any] = []
        fake.sockets.append(self)
        if family in fake.unsupported:
            raise OSError(errno.EAFNOSUPPORT, "Address family not supported by protocol")

    def setblocking(self, flag: bool) -> None:
        self.blocking = flag

    def bind(self, address: Any) -> None:
        if address == "broken":
            raise OSError(errno.EADDRNOTAVAIL, "Cannot assign requested address")
        self.bound = address

    def connect_ex(self, address: Any) -> int:
        assert not self.blocking
        self.address = address
        self.fake.attempts.append((round(self.fake.time, 6), address[0]))
        self.outcome = self.fake.outcomes[address[0]]
        if self.outcome.after == 0:
            code: int = self.outcome.code
            return code
        self.at = self.fake.time + self.outcome.after
        return errno.EINPROGRESS

    def getsockopt(self, level: int, name: int) -> int:
        assert (level, name) == (socket.SOL_SOCKET, socket.SO_ERROR)
        code: int = self.outcome.code
        return code

    def setsockopt(self, *option: int) -> None:
        self.options.append(option)

    def close(self) -> None:
        self.closed = True


class FakeSelector:
    """A selector of the fake system: when it waits, time passes."""

    def __init__(self, fake: Fake) -> None:
        self.fake = fake
        self.keys: dict[Any, Any] = {}
        self.closed = False

    def register(self, sock: FakeSocket, mask: int, data: Any) -> None:
        assert mask == selectors.EVENT_WRITE
        self.keys[sock] = SimpleNamespace(fileobj=sock, data=data)

    def unregister(self, sock: FakeSocket) -> Any:
        return self.keys.pop(sock)

    def select(self, timeout: float | None) -> list[Any]:
        assert self.keys
        assert timeout is None or 0 <= timeout < 10**7
        first = min(sock.at for sock in self.keys)
        until = first if timeout is None else min(first, self.fake.time + timeout)
        assert until < math.inf, "this would wait for ever"
        self.fake.time = max(self.fake.time, until)
        return [(key, 0) for sock, key in self.keys.items() if sock.at <= self.fake.time]

    def close(self) -> None:
        self.closed = True


class Fake(System):
    """The system, as far as connecting needs it."""

    def __init__(self, **outcomes: Outcome) -> None:
        self.time = 1000.0
        self.outcomes = {{"v6": V6, "v4": V4, "other": OTHER}[name]: outcome for name, outcome in outcomes.items()}
        self.attempts: list[tuple[float, str]] = []
        self.sockets: list[FakeSocket] = []
        self.unsupported: set[int] = set()
        self.asked: list[Any] = []

    def now(self) -> float:
        return self.time

    def getaddrinfo(self, host: Any, port: Any, **hints: Any) -> list[Any]:
        self.asked.append((host, port, hints))
        return [
            (socket.AF_INET6, socket.SOCK_STREAM, 6, "", (ip, port, 0, 0))
            if ":" in ip
            else (socket.AF_INET, socket.SOCK_STREAM, 6, "", (ip, port))
            for ip in ADDRESSES
            if ip in self.outcomes
        ]

    def socket(self, family: int, kind: int, proto: int = 0) -> Any:
        return FakeSocket(self, family)

    def selector(self) -> Any:
        self.selecting = FakeSelector(self)
        return self.selecting

    def dial(self, deadline: float | None = None, **options: Any) -> Any:
        """Connect; times of attempts count from now."""
        with using(self):
            self.time = 0.0
            sock = open_connection("example.com", 80, deadline, **options)
        self.check(sock)
        return sock

    def check(self, remaining: Any = None) -> None:
        """Nothing is left behind."""
        assert self.selecting.closed
        assert [sock for sock in self.sockets if not sock.closed] == ([] if remaining is None else [remaining])

    def fails(self, kind: type[BaseException], deadline: float | None = None, **options: Any) -> Any:
        with pytest.raises(kind) as raised:
            self.dial(deadline, **options)
        self.check()
        return raised.value


def test_one_address() -> None:
    fake = Fake(v4=accepted())
    sock = fake.dial()
    assert sock.address == (V4, 80)
    assert sock.blocking
    assert sock.options == [(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)]
    assert fake.asked == [("example.com", 80, {"type": socket.SOCK_STREAM})]


def test_a_connection_that_is_there_at_once() -> None:
    assert Fake(v4=Outcome(after=1e-9, code=0)).dial().address == (V4, 80)


def test_the_next_address_after_a_while() -> None:
    fake = Fake(v6=never(), v4=accepted())
    assert fake.dial().address == (V4, 80)
    assert fake.attempts == [(0.0, V6), (0.25, V4)]


def test_the_first_to_answer() -> None:
    fake = Fake(v6=accepted(0.4), v4=accepted(0.1))
    assert fake.dial().address == (V4, 80)
    slow = Fake(v6=accepted(0.4), v4=accepted(0.3))
    assert slow.dial().address == (V6, 80, 0, 0)


def test_two_at_the_same_time() -> None:
    fake = Fake(v6=accepted(0.5), v4=accepted(0.25))
    assert fake.dial().address == (V6, 80, 0, 0)


def test_the_next_address_after_a_failure() -> None:
    fake = Fake(v6=refused(0.1), v4=accepted())
    assert fake.dial().address == (V4, 80)
    assert fake.attempts == [(0.0, V6), (0.1, V4)]


def test_one_after_the_other() -> None:
    fake = Fake(v6=refused(5), v4=accepted())
    assert fake.dial(happy_eyeballs_delay=None).address == (V4, 80)
    assert fake.attempts == [(0.0, V6), (5.0, V4)]


def test_other_delays_and_orders() -> None:
    fake = Fake(v6=never(), v4=never(), other=accepted())
    assert fake.dial(happy_eyeballs_delay=1, interleave=0).address == (OTHER, 80)
    assert fake.attempts == [(0.0, V6), (1.0, V4), (2.0, OTHER)]


@pytest.mark.parametrize("after", [0, 0.1])
def test_nobody_listens(after: float) -> None:
    exc = Fake(v4=refused(after)).fails(ConnectionRefusedError)
    assert exc.errno == REFUSED
    assert str(exc) == f"[Errno {REFUSED}] Connect call failed ('{V4}', 80): {os.strerror(REFUSED)}"


def test_nobody_listens_anywhere() -> None:
    exc = Fake(v6=refused(), v4=refused(code=UNREACHABLE)).fails(OSError)
    assert V6 in str(exc)
    assert V4 in str(exc)


def test_all_errors() -> None:
    exc = Fake(v6=refused(), v4=refused(code=UNREACHABLE)).fails(ExceptionGroup, all_errors=True)
    assert exc.message == "create_connection failed"
    assert [error.errno for error in exc.exceptions] == [REFUSED, UNREACHABLE]


def test_a_family_that_the_system_does_not_have() -> None:
    fake = Fake(v6=accepted(), v4=accepted())
    fake.unsupported = {socket.AF_INET6}
    with using(fake):
        assert open_connection("example.com", 80, None).address == (V4, 80)  # type: ignore[attr-defined]


def test_a_name_without_addresses() -> None:
    with using(Fake()), pytest.raises(OSError, match=r"^example.com has no address$"):
        open_connection("example.com", 80, None)


def test_local_address() -> None:
    assert Fake(v4=accepted()).dial(source_address=("127.0.0.1", 5)).bound == ("127.0.0.1", 5)
    exc = Fake(v4=accepted()).fails(OSError, source_address="broken")
    assert exc.errno == errno.EADDRNOTAVAIL


def test_a_deadline_for_all() -> None:
    fake = Fake(v6=never(), v4=never())
    exc = fake.fails(TimeoutError, 3)
    assert str(exc) == "timed out while connecting"
    assert is_late(exc)
    assert fake.time == 3


def test_a_deadline_with_its_own_text() -> None:
    assert str(Fake(v4=never()).fails(TimeoutError, 3, text="late")) == "late"


def test_a_deadline_that_has_passed() -> None:
    fake = Fake(v4=accepted())
    with using(fake), pytest.raises(TimeoutError, match=r"^timed out while connecting$"):
        open_connection("example.com", 80, fake.time)
    assert not fake.asked


def test_a_timeout_for_each() -> None:
    fake = Fake(v6=never(), v4=accepted())
    assert fake.dial(timeout=2, happy_eyeballs_delay=None).address == (V4, 80)
    assert fake.attempts == [(0.0, V6), (2.0, V4)]


def test_a_timeout_for_each_of_two_at_the_same_time() -> None:
    fake = Fake(v6=never(), v4=never())
    exc = fake.fails(TimeoutError, 60, timeout=2)
    assert not is_late(exc)
    assert exc.errno == errno.ETIMEDOUT
    assert V6 in str(exc)
    assert V4 in str(exc)
    assert fake.time == 2.25


@pytest.mark.parametrize("long", [10**9, math.inf])
def test_times_that_no_system_can_wait(long: float) -> None:
    fake = Fake(v6=accepted(100), v4=accepted())
    with using(fake):
        sock: Any = open_connection("example.com", 80, long, happy_eyeballs_delay=long)
    assert sock.address == (V6, 80, 0, 0)


def test_interrupted(monkeypatch: pytest.MonkeyPatch) -> None:
    """Everything is closed, whatever the user presses, whenever."""

    def interrupt(*_: Any) -> NoReturn:
        raise KeyboardInterrupt

    for name in ("bind", "connect_ex", "getsockopt"):
        with monkeypatch.context() as patching:
            patching.setattr(FakeSocket, name, interrupt)
            Fake(v6=accepted(), v4=accepted()).fails(KeyboardInterrupt, source_address=("127.0.0.1", 5))
    with monkeypatch.context() as patching:
        patching.setattr(FakeSelector, "select", interrupt)
        Fake(v6=accepted(), v4=accepted()).fails(KeyboardInterrupt)


# -------------------------------------------------------------------------------------------------------- real sockets


@pytest.fixture
def listening() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server


@pytest.mark.parametrize("timeout", [None, 60])
def test_a_real_server(listening: socket.socket, timeout: float | None) -> None:
    port = listening.getsockname()[1]
    with open_connection("localhost", str(port), timeout and timeout + System().now()) as sock:
        assert sock.gettimeout() is None
        assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
        theirs, address = listening.accept()
        with theirs:
            assert address == sock.getsockname()


def test_a_real_port_where_nobody_listens(listening: socket.socket) -> None:
    port = listening.getsockname()[1]
    listening.close()
    with pytest.raises(ConnectionRefusedError, match=r"Connect call failed \('127.0.0.1', \d+\)"):
        open_connection("127.0.0.1", port, None)


def test_a_real_local_address(listening: socket.socket) -> None:
    host, port = listening.getsockname()
    with open_connection(host, port, None, source_address=("127.0.0.1", 0), timeout=60) as sock:
        assert sock.getsockname()[0] == "127.0.0.1"


@needs_unix_sockets
class TestUnixSockets:
    @pytest.fixture
    def path(self, tmp_path: Path) -> Iterator[str]:
        path = str(tmp_path / "server")
        with socket.socket(socket.AF_UNIX) as listening:
            listening.bind(path)
            listening.listen()
            yield path

    @pytest.mark.parametrize(("deadline", "timeout"), [(None, None), (math.inf, 60), (10**10, None)])
    def test_connected(self, path: str, deadline: float | None, timeout: float | None) -> None:
        with open_unix_connection(path, deadline, timeout) as sock:
            assert sock.getpeername() == path

    def test_nobody_listens(self, tmp_path: Path) -> None:
        with pytest.raises(FileNotFoundError):
            open_unix_connection(str(tmp_path / "missing"), None)

    def test_late(self, path: str) -> None:
        with pytest.raises(TimeoutError, match=r"^timed out while connecting$"):
            open_unix_connection(path, 0)

    def test_slow(self, path: str, monkeypatch: pytest.MonkeyPatch) -> None:
        class Slow(socket.socket):
            def connect(self, address: Any) -> NoReturn:
                assert self.gettimeout() == 5
                raise TimeoutError("timed out")

        monkeypatch.setattr(socket, "socket", Slow)
        with pytest.raises(TimeoutError, match=r"^timed out while connecting$"):
            open_unix_connection(path, None, 5)


def test_attempts_that_go_on() -> None:
    assert errno.EINPROGRESS in _dial.UNDER_WAY
    assert (errno.EWOULDBLOCK in _dial.UNDER_WAY) is (sys.platform == "win32")
