"""Link and network on a heap of timers. No event loop runs here, so the core of the kit needs none.

The helpers are a front-end for threads in small: calls that block until a callback wakes them.
"""

from __future__ import annotations

import asyncio
import collections
import contextvars
import socket
import threading
from collections.abc import Callable
from typing import Any

import pytest

from _kit import START, Link, MemorySocket, run_virtual
from _kit.bare import BareClock
from websockets.testing._network import BaseNetwork, Place


@pytest.fixture(autouse=True)
def no_loop() -> None:
    """Make sure that no event loop runs."""
    with pytest.raises(RuntimeError, match="no running event loop"):
        asyncio.get_running_loop()


# What a front-end adds: calls that block.


def block(clock: BareClock, add: Callable[[Callable[[], None]], None], remove: Callable[[], None]) -> None:
    """Declare an interest, and block until its callback is called."""
    woken: list[bool] = []
    add(lambda: woken.append(True))
    try:
        clock.run_until(lambda: woken)
    finally:
        remove()


def receive(clock: BareClock, sock: MemorySocket, limit: int = 1000) -> bytes:
    """Block until the socket is readable, and read it."""
    block(clock, sock.add_reader, sock.remove_reader)
    return sock.recv(limit)


def receive_all(clock: BareClock, sock: MemorySocket) -> bytes:
    """Block until the end of the stream."""
    received = b""
    while data := receive(clock, sock):
        received += data
    return received


def send(clock: BareClock, sock: MemorySocket, data: bytes) -> None:
    """Block until the kernel has accepted everything."""
    while data:
        block(clock, sock.add_writer, sock.remove_writer)
        data = data[sock.send(data) :]


class Backlog:
    """A listening socket: connections wait here until somebody takes them."""

    def __init__(self, *, serving: bool = True) -> None:
        self.waiting: collections.deque[MemorySocket] = collections.deque()
        self.serving = serving

    def is_serving(self) -> bool:
        return self.serving

    def accept(self, sock: MemorySocket) -> None:
        self.waiting.append(sock)

    def take(self, clock: BareClock) -> MemorySocket:
        """Block until there is a connection."""
        clock.run_until(lambda: self.waiting)
        return self.waiting.popleft()


class BareNetwork(BaseNetwork):
    """A network whose calls block."""

    def __init__(self, clock: BareClock, **conditions: Any) -> None:
        super().__init__(**conditions)
        self.clock = clock

    def listen(self, host: str = "localhost", port: int = 80, **options: bool) -> Backlog:
        backlog = Backlog(**options)
        self._bind(backlog, [host], port)
        return backlog

    def connect(self, host: str = "localhost", port: int = 80) -> MemorySocket | None:
        """Try the addresses of a name, one after the other."""
        error: OSError | None = None
        for place in self._places(host, port):
            self.clock.sleep(self._round_trip())
            try:
                return self._connect(self.clock, place)
            except OSError as exc:
                error = exc
        assert error is not None
        raise error

    def connect_later(self, connected: list[MemorySocket | None], seconds: float, place: Place) -> None:
        """Connect by a callback alone, as somebody does who can't block."""
        self.clock.call_at(self.clock.time() + seconds, lambda: connected.append(self._connect(self.clock, place)))


# Links.


def test_a_blocking_reader_is_woken() -> None:
    clock = BareClock()
    link = Link(clock, delay=1.5)
    link.client.send(b"hello")
    link.client.close()
    assert receive(clock, link.server) == b"hello"
    assert clock.time() == 1.5
    assert receive(clock, link.server) == b""


def test_a_reader_that_nobody_will_wake_is_stuck() -> None:
    clock = BareClock()
    link = Link(clock)
    with pytest.raises(RuntimeError, match="stuck"):
        receive(clock, link.server)


def test_a_blocking_writer_is_woken() -> None:
    clock = BareClock()
    link = Link(clock, capacity=4, delay=1)
    received = bytearray()
    link.server.add_reader(lambda: received.extend(link.server.recv(3)))
    send(clock, link.client, b"abcdefghij")
    link.client.close()
    clock.run_until(lambda: len(received) == 10)
    assert received == b"abcdefghij"
    assert clock.time() == 3  # "abcd", then "efg" and "h", then "ij"


def test_a_reader_in_another_thread_is_woken() -> None:
    clock, changed, blocked = BareClock(), threading.Condition(), threading.Event()
    link = Link(clock, delay=60)
    received: list[bytes] = []

    def wake() -> None:
        link.server.remove_reader()
        changed.notify_all()

    def read() -> None:
        with changed:
            link.server.add_reader(wake)
            blocked.set()
            changed.wait()
            received.append(link.server.recv(1000))

    reader = threading.Thread(target=read, daemon=True)
    reader.start()
    assert blocked.wait(10)
    # The thread keeps the lock until it waits. So it does wait once the lock is ours.
    with changed:
        link.client.send(b"hello")
        clock.sleep(60)
    reader.join(10)
    assert received == [b"hello"]


def test_callbacks_run_in_the_context_of_whoever_waits() -> None:
    clock, variable = BareClock(), contextvars.ContextVar("variable", default="other side")
    link = Link(clock)
    seen: list[str] = []

    def wait() -> None:
        variable.set("waiting side")
        link.server.add_reader(lambda: seen.append(f"{variable.get()}: {link.server.recv(9).decode()}"))

    contextvars.copy_context().run(wait)
    link.client.send(b"hello")
    clock.run_until(lambda: seen)
    assert seen == ["waiting side: hello"]
    assert variable.get() == "other side"


def test_faults() -> None:
    clock = BareClock()
    held, dropped, broken = Link(clock), Link(clock), Link(clock)
    held.hold()
    held.client.send(b"late")
    clock.call_at(100, held.release)
    assert receive(clock, held.server) == b"late"
    assert clock.time() == 100
    dropped.drop()
    dropped.client.send(b"lost")
    clock.sleep(3600)
    assert not dropped.server.readable
    broken.reset()
    for sock in (broken.client, broken.server):
        with pytest.raises(ConnectionResetError):
            receive(clock, sock)


def test_tcp_gives_up() -> None:
    clock = BareClock()
    link = Link(clock, loss=1)
    link.client.send(b"x")
    with pytest.raises(TimeoutError):
        receive(clock, link.client)
    assert clock.time() > 900


async def arrivals_on_a_loop(**conditions: Any) -> list[tuple[float, bytes]]:
    loop = asyncio.get_running_loop()
    link, seen = Link(loop, **conditions), []
    done: asyncio.Future[None] = loop.create_future()

    def read() -> None:
        data = link.server.recv(1000)
        seen.append((loop.time() - START, data))
        if not data:
            link.server.remove_reader()
            done.set_result(None)

    link.server.add_reader(read)
    for _ in range(20):
        link.client.send(b"0123456789")
    link.client.close()
    await done
    return seen


def arrivals_on_a_heap(**conditions: Any) -> list[tuple[float, bytes]]:
    clock = BareClock()
    link, seen = Link(clock, **conditions), [(-1.0, b"-")]
    for _ in range(20):
        link.client.send(b"0123456789")
    link.client.close()
    while seen[-1][1]:
        data = receive(clock, link.server)
        seen.append((clock.time(), data))
    return seen[1:]


def test_a_seed_means_the_same_everywhere() -> None:
    conditions = {"delay": (0.1, 2), "loss": 0.2, "chunk": (1, 7), "seed": 42}
    on_a_heap, on_a_loop = arrivals_on_a_heap(**conditions), run_virtual(arrivals_on_a_loop(**conditions))
    assert [data for _, data in on_a_heap] == [data for _, data in on_a_loop]
    assert [when for when, _ in on_a_heap] == pytest.approx([when for when, _ in on_a_loop], abs=1e-6)
    assert len(on_a_heap) > 20


# The network.


def test_a_listener_accepts() -> None:
    clock = BareClock()
    network = BareNetwork(clock, delay=0.5)
    listener = network.listen("example.com")
    client = network.connect("example.com")
    assert client is not None
    assert clock.time() == 1  # there and back
    server = listener.take(clock)
    assert server.getpeername() == client.getsockname() == ("127.0.0.1", 50000)
    assert client.getpeername() == server.getsockname() == ("10.0.0.1", 80)
    assert network.links == [client.link]
    send(clock, client, b"hello")
    assert receive(clock, server) == b"hello"
    send(clock, server, b"goodbye")
    server.close()
    assert receive_all(clock, client) == b"goodbye"
    assert clock.time() == 2


def test_a_listener_blocks_until_somebody_connects() -> None:
    clock = BareClock()
    network = BareNetwork(clock)
    listener = network.listen()
    connected: list[MemorySocket | None] = []
    [place] = network._places("localhost", 80)
    for seconds in (20, 10):
        network.connect_later(connected, seconds, place)
    first = listener.take(clock)
    assert clock.time() == 10
    second = listener.take(clock)
    assert clock.time() == 20
    assert [sock.link.client for sock in (first, second)] == connected


def test_where_nobody_accepts() -> None:
    clock = BareClock()
    network = BareNetwork(clock)
    network.hosts["nowhere"] = []
    network.listen("192.0.2.1", serving=False)
    for host in ("localhost", "192.0.2.1"):
        with pytest.raises(ConnectionRefusedError):
            network.connect(host)
    with pytest.raises(socket.gaierror):
        network.connect("nowhere")
    network.blackhole("localhost", 80)
    assert network.connect() is None
    assert network.links == []


def test_the_next_address_of_a_name() -> None:
    clock = BareClock()
    network = BareNetwork(clock)
    network.hosts["both"] = ["2001:db8::1", "192.0.2.1"]
    listener = network.listen("192.0.2.1")
    client = network.connect("both")
    assert client is not None
    assert listener.take(clock) is client.link.server


def test_unix_sockets() -> None:
    clock = BareClock()
    network = BareNetwork(clock)
    with pytest.raises(FileNotFoundError):
        network._connect_unix(clock, "/run/test")
    listener = Backlog(serving=False)
    network._bind_unix(listener, "/run/test")
    with pytest.raises(ConnectionRefusedError):
        network._connect_unix(clock, "/run/test")
    listener.serving = True
    client = network._connect_unix(clock, "/run/test")
    client.send(b"x")
    assert receive(clock, listener.take(clock)) == b"x"
    network._unbind(listener)
    with pytest.raises(FileNotFoundError):
        network._connect_unix(clock, "/run/test")
