"""The system and the wires: each call, on real sockets."""

from __future__ import annotations

import select
import socket
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

from websockets.sync import _system, _wire
from websockets.sync._system import READ, WRITE, System, current, using
from websockets.sync._wire import KernelWire, Wire, address_of, wire_for


@pytest.fixture
def sockets() -> Iterator[tuple[socket.socket, socket.socket]]:
    one, other = socket.socketpair()
    yield one, other
    one.close()
    other.close()


@pytest.fixture(params=["poll", "select"])
def system(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> System:
    if request.param == "select":
        monkeypatch.delattr(select, "poll", raising=False)
    return System()


def test_threads_and_time() -> None:
    system = current()
    began = system.now()
    done = system.event()
    thread = system.start_thread(done.set, name="test")
    assert done.wait(5)
    thread.join(5)
    assert not thread.is_alive()
    system.sleep(0.02)  # more than a tick of a coarse clock
    assert system.now() > began
    assert system.date() == pytest.approx(time.time(), abs=5)
    assert system.thread_id() == system.get_ident() == threading.get_ident()
    assert system.current_thread() is threading.current_thread()
    lock = system.lock()
    with lock, lock:
        assert not system.condition(lock).wait(0.001)


def test_another_system() -> None:
    before, other = current(), System()
    with using(other):
        assert current() is other
    assert current() is before


def test_opening_sockets() -> None:
    system = current()
    assert system.getaddrinfo("127.0.0.1", 80)
    with system.create_server(("127.0.0.1", 0)) as listening, system.socket(socket.AF_INET, socket.SOCK_STREAM) as sock:
        sock.connect(listening.getsockname())
    for sock in system.socketpair():
        sock.close()
    system.selector().close()


def test_waking() -> None:
    waker = current().waker()
    for _ in range(10_000):
        waker.wake()
    assert select.select([waker.socket], [], [], 5)[0]
    while select.select([waker.socket], [], [], 0)[0]:
        waker.clear()
    waker.clear()
    waker.close()
    waker.wake()
    waker.clear()


def test_waiting_for_a_socket(system: System, sockets: tuple[socket.socket, socket.socket]) -> None:
    one, other = sockets
    assert system.wait(one, WRITE, 0)
    assert system.wait(one, WRITE, None)
    assert not system.wait(one, READ, 0)
    assert not system.wait(one, READ, 0.01)
    other.send(b"x")
    assert system.wait(one, READ, None)
    assert system.wait(one, READ, 1e9)
    assert system.wait(one, READ | WRITE, 0)
    one.close()
    assert system.wait(one, READ, None)


@pytest.mark.skipif(not hasattr(select, "poll"), reason="takes poll()")
def test_a_long_wait_is_in_slices(
    monkeypatch: pytest.MonkeyPatch, sockets: tuple[socket.socket, socket.socket]
) -> None:
    """Nothing ends the wait of a thread for a socket that another thread has closed."""
    monkeypatch.setattr(_system, "LONG_SLICE", 0.001)
    one, _ = sockets
    assert not System().wait(one, READ, 0.0035)
    numbers = [one.fileno(), one.fileno(), -1]

    class Closing(socket.socket):
        def fileno(self) -> int:
            return numbers.pop(0) if numbers else -1

    with Closing(fileno=one.detach()) as closing:
        assert System().wait(closing, READ, None)
        numbers.append(closing.detach())
    socket.close(numbers[0])


def test_waiting_is_in_slices_without_poll(
    monkeypatch: pytest.MonkeyPatch, sockets: tuple[socket.socket, socket.socket]
) -> None:
    monkeypatch.delattr(select, "poll", raising=False)
    monkeypatch.setattr(_system, "SLICE", 0.001)
    assert System().wait(sockets[0], READ, None)
    assert System().wait(sockets[0], READ, 1)


class Patched(socket.socket):
    """A socket as gevent has them: its methods are those of Python."""

    def recv(self, *arguments: Any) -> bytes:
        return super().recv(*arguments)


def test_which_sockets_heed_flags(monkeypatch: pytest.MonkeyPatch, sockets: Any) -> None:
    system, patched = System(), Patched()
    assert system.heeds_flags(sockets[0])
    assert not system.heeds_flags(patched)
    assert not system.heeds_flags(object())
    assert type(wire_for(sockets[0], system)) is KernelWire
    assert type(wire_for(patched, system)) is Wire
    patched.close()
    monkeypatch.setattr(_system, "DONTWAIT", 0)
    assert not system.heeds_flags(sockets[0])


@pytest.mark.parametrize("kind", [KernelWire, Wire])
@pytest.mark.parametrize("blocking", [True, False])
def test_calls(kind: Any, blocking: bool, sockets: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    if not blocking:
        # As on Windows.
        monkeypatch.setattr(_wire, "DONTWAIT", 0)
    one, other = sockets
    call = kind(one, System())
    got: list[bytes] = []
    taken: list[int] = []
    assert one.gettimeout() == (None if blocking else 0.0)
    call.receive_now(got, 100)
    assert got == []
    other.send(b"one")
    call.receive_now(got, 100)
    assert got == [b"one"]
    got.clear()
    if blocking or kind is Wire:
        sending = threading.Timer(0.02, other.send, (b"two",))
        sending.start()
        call.receive(got, 100)
        assert got == [b"two"]
        sending.join()
    call.send_now(taken, [b"three"])
    call.send_now(taken, [b"four", b"five"] if call.gathers else [b"fourfive"])
    assert (taken, other.recv(100)) == ([5, 8], b"threefourfive")
    taken.clear()
    while True:
        before = len(taken)
        call.send_now(taken, [bytes(100_000)])
        if len(taken) == before:
            break
    call.end_sending()
    call.cut()
    call.cut()
    call.close()


def test_messages_do_not_wait_for_acknowledgements(sockets: Any) -> None:
    system = System()
    wire_for(sockets[0], system)
    with system.create_server(("127.0.0.1", 0)) as listening, socket.create_connection(listening.getsockname()) as sock:
        assert not sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
        wire_for(sock, system)
        assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


def test_a_socket_that_says_it_is_ready_and_is_not(sockets: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_wire, "DONTWAIT", 0)
    system = System()
    monkeypatch.setattr(system, "wait", lambda *arguments: True)
    call = Wire(sockets[0], system)
    got: list[Any] = []
    call.receive_now(got, 10)
    while True:
        before = len(got)
        call.send_now(got, [bytes(100_000)])
        if len(got) == before:
            break
    assert sum(got) > 0


def test_addresses(sockets: Any) -> None:
    assert address_of(sockets[0], "getsockname") == sockets[0].getsockname()
    sockets[0].close()
    assert address_of(sockets[0], "getsockname") is None
    assert address_of(object(), "getsockname") is None
