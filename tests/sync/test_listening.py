"""Listening sockets of servers for threads: addresses, files of Unix sockets, accepting without resources."""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from websockets.sync import _listening, _system
from websockets.sync._listening import Listener, listen

LOGGER = logging.getLogger("test.listening")

# What the system says, which differs from one to the next.
IN_USE = r"[Aa]ddress|[Ss]ocket|WinError"

needs_unix = pytest.mark.skipif(not hasattr(socket, "AF_UNIX"), reason="takes Unix sockets")
needs_ipv6 = pytest.mark.skipif(not socket.has_dualstack_ipv6(), reason="takes IPv6")


@contextlib.contextmanager
def listening(**arguments: Any) -> Iterator[Listener]:
    listener = listen(arguments)
    try:
        yield listener
    finally:
        listener.close()


class Accepting:
    """What a server does with connections: it stops after some of them."""

    def __init__(self, count: int) -> None:
        self.count = count
        self.accepted: list[socket.socket] = []

    def take(self, sock: socket.socket, address: Any) -> None:
        self.accepted.append(sock)

    def stopped(self) -> bool:
        return len(self.accepted) >= self.count

    def close(self) -> None:
        for sock in self.accepted:
            sock.close()


def accept(listener: Listener, count: int) -> None:
    with contextlib.closing(Accepting(count)) as accepting:
        listener.accept_until(accepting.stopped, accepting.take, LOGGER)


# ------------------------------------------------------------------------------------------------------------ addresses


@pytest.mark.parametrize(
    ("host", "family"),
    [
        ("127.0.0.1", socket.AF_INET),
        ("localhost", socket.AF_INET),
        pytest.param("::1", socket.AF_INET6, marks=needs_ipv6),
    ],
)
def test_the_family_fits_the_host(host: str, family: int) -> None:
    with listening(host=host, port=None) as listener:
        assert listener.socket.family == family
        assert listener.socket.getsockname()[1] > 0


@needs_ipv6
@pytest.mark.parametrize("client", ["127.0.0.1", "::1"])
@pytest.mark.parametrize("host", [None, ""])
def test_all_interfaces(client: str, host: str | None) -> None:
    with listening(host=host, port=0) as listener:
        with socket.create_connection((client, listener.socket.getsockname()[1])):
            accept(listener, 1)


def test_all_interfaces_without_ipv6(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket, "has_dualstack_ipv6", lambda: False)
    with listening(host=None, port=0) as listener:
        assert listener.socket.family == socket.AF_INET


def test_family_of_the_caller() -> None:
    with listening(host=None, port=0, family=socket.AF_INET, backlog=1) as listener:
        assert listener.socket.getsockname()[0] == "0.0.0.0"


def test_socket_of_the_caller() -> None:
    sock = socket.create_server(("127.0.0.1", 0))
    with listening(sock=sock, host=None, port=None) as listener:
        assert listener.socket is sock
    assert sock.fileno() == -1


def test_address_in_use() -> None:
    with listening(host="127.0.0.1", port=0) as first:
        with pytest.raises(OSError, match=IN_USE):
            listen({"host": "127.0.0.1", "port": first.socket.getsockname()[1]})


# --------------------------------------------------------------------------------------------------------- Unix sockets


@needs_unix
def test_file_of_a_unix_socket_is_removed(tmp_path: Path) -> None:
    path = tmp_path / "socket"
    with listening(path=str(path)):
        assert path.is_socket()
    assert not path.exists()


@needs_unix
def test_file_that_a_dead_process_left_is_replaced(tmp_path: Path) -> None:
    path = os.fsencode(tmp_path / "socket")
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(path)
    with listening(path=path) as listener, socket.socket(socket.AF_UNIX) as client:
        client.connect(path)
        accept(listener, 1)


@needs_unix
def test_file_at_which_somebody_listens_stays(tmp_path: Path) -> None:
    path = str(tmp_path / "socket")
    with listening(path=path, backlog=1):
        with pytest.raises(OSError, match=IN_USE):
            listen({"path": path})
        assert os.path.exists(path)


@needs_unix
def test_other_files_stay(tmp_path: Path) -> None:
    path = tmp_path / "data"
    path.write_text("precious")
    with pytest.raises(OSError, match=IN_USE):
        listen({"path": str(path)})
    assert path.read_text() == "precious"


@needs_unix
def test_file_of_another_server_stays(tmp_path: Path) -> None:
    path = str(tmp_path / "socket")
    with listening(path=path) as first:
        os.unlink(path)
        with listening(path=path):
            first.close()
            assert os.path.exists(path)
    assert not os.path.exists(path)


@needs_unix
def test_file_is_left_to_the_process_that_made_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = str(tmp_path / "socket")
    with listening(path=path) as listener:
        monkeypatch.setattr(os, "getpid", lambda: -1)
        listener.close()
        assert os.path.exists(path)


@needs_unix
@pytest.mark.skipif(not os.path.exists("/proc/net/unix"), reason="takes Linux")
def test_abstract_socket() -> None:
    name = f"\0websockets-test-{os.getpid()}"
    with listening(path=name) as listener:
        assert listener.socket.getsockname() == name.encode()


# ------------------------------------------------------------------------------------------------------------ accepting


def test_many_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_listening, "ACCEPTED_AT_ONCE", 2)
    with listening(host="127.0.0.1", port=0) as listener, contextlib.ExitStack() as clients:
        for _ in range(5):
            clients.enter_context(socket.create_connection(listener.socket.getsockname()))
        accept(listener, 5)


def test_stopped_before_it_begins() -> None:
    with listening(host="127.0.0.1", port=0) as listener:
        accept(listener, 0)
        listener.wake()


class Sockets:
    """A listening socket whose ``accept()`` has results given before; then nobody waits."""

    def __init__(self, real: socket.socket, *results: Any) -> None:
        self._real = real
        self._results = list(results)
        self.calls = 0

    def accept(self) -> tuple[Any, Any]:
        self.calls += 1
        result = self._results.pop(0) if self._results else BlockingIOError()
        if isinstance(result, BaseException):
            raise result
        return result, None

    def __getattr__(self, name: str) -> Any:
        return getattr(self._real, name)


class Clock(_system.System):
    """A system whose clock runs when it waits, and where all sockets are ready at once."""

    def __init__(self) -> None:
        self.time = 0.0
        self.waits: list[float | None] = []
        self.during_wait: Callable[[], object] = lambda: None

    def now(self) -> float:
        return self.time

    def selector(self) -> Any:
        return Selector(self)


class Selector:
    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self.registered: list[Any] = []

    def __enter__(self) -> Selector:
        return self

    def __exit__(self, *exc_info: object) -> None: ...

    def register(self, sock: Any, mask: int) -> None:
        self.registered.append(sock)

    def unregister(self, sock: Any) -> None:
        self.registered.remove(sock)

    def select(self, timeout: float | None = None) -> list[Any]:
        self._clock.waits.append(timeout)
        self._clock.time += timeout or 0
        self._clock.during_wait()
        return []


@pytest.fixture
def clock() -> Iterator[Clock]:
    clock = Clock()
    with _system.using(clock):
        yield clock


@contextlib.contextmanager
def scripted(*results: Any) -> Iterator[tuple[Listener, Sockets]]:
    with socket.create_server(("127.0.0.1", 0)) as real:
        listener = Listener(real)
        listener.socket = sockets = Sockets(real, *results)  # type: ignore[assignment]
        yield listener, sockets


@pytest.mark.scenario(65)
@pytest.mark.parametrize("number", [errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM])
def test_out_of_resources(number: int, clock: Clock, caplog: pytest.LogCaptureFixture) -> None:
    """Accepting pauses; the log says so once, until it works again."""
    failure = OSError(number, os.strerror(number))
    with contextlib.closing(socket.socket()) as sock, contextlib.closing(socket.socket()) as other:
        with scripted(failure, failure, sock, failure, other) as (listener, sockets):
            accepting = Accepting(2)
            listener.accept_until(accepting.stopped, accepting.take, LOGGER)
    assert accepting.accepted == [sock, other]
    assert sockets.calls == 5
    assert [wait for wait in clock.waits if wait is not None] == [1.0, 1.0, 1.0]
    line = f"accepting connections failed; trying again every 1 s: {failure}"
    assert [(record.levelname, record.getMessage()) for record in caplog.records] == [("ERROR", line)] * 2


@pytest.mark.parametrize("look_every", [None, 0.25])
def test_signals_that_arrive_at_a_bad_moment_are_looked_for(look_every: float | None, clock: Clock) -> None:
    with contextlib.closing(socket.socket()) as sock, scripted(sock) as (listener, _):
        accepting = Accepting(1)
        listener.accept_until(accepting.stopped, accepting.take, LOGGER, look_every)
    assert clock.waits == [look_every]


def test_stopped_while_there_are_no_resources(clock: Clock) -> None:
    stopped: list[bool] = []
    clock.during_wait = lambda: stopped.append(clock.time > 0)
    with scripted(OSError(errno.EMFILE, "Too many open files")) as (listener, sockets):
        listener.accept_until(lambda: any(stopped), lambda sock, address: None, LOGGER)
    assert sockets.calls == 1


@pytest.mark.parametrize("exc", [ConnectionAbortedError(errno.ECONNABORTED, "gone"), OSError(errno.EPROTO, "gone")])
def test_client_that_has_gone(exc: OSError, clock: Clock) -> None:
    with contextlib.closing(socket.socket()) as sock, scripted(exc, sock) as (listener, _):
        accepting = Accepting(1)
        listener.accept_until(accepting.stopped, accepting.take, LOGGER)
    assert accepting.accepted == [sock]


def test_other_errors_end_it(clock: Clock) -> None:
    with scripted(OSError(errno.EBADF, "Bad file descriptor")) as (listener, _):
        with pytest.raises(OSError, match="Bad file descriptor"):
            listener.accept_until(lambda: False, lambda sock, address: None, LOGGER)
