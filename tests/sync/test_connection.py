"""Connections for threads, in a system in memory: what scenarios of all front-ends don't show."""

from __future__ import annotations

import contextlib
import gc
import logging
import warnings
from collections.abc import Callable
from typing import Any

import pytest

import websockets.sync
from _kit import wire
from _kit.threads import VirtualSystem, _Lock, run_threads, stop_steward
from websockets._rules.rates import Rates
from websockets.exceptions import ConcurrencyError, ConnectionClosedError, ConnectionClosedOK, InvalidState
from websockets.protocol import Protocol, Side, State
from websockets.sync import _receiving, _steward
from websockets.sync import connection as module
from websockets.sync._steward import LOOK_EVERY
from websockets.sync.connection import Connection
from websockets.sync.server import broadcast


def in_memory(test: Callable[[VirtualSystem], None]) -> Callable[..., None]:
    """Run a test with sockets of both kinds."""

    @pytest.mark.parametrize("kernel", [True, False])
    def run(kernel: bool) -> None:
        run_threads(test, kernel=kernel, look_every=0)

    run.__doc__ = test.__doc__
    return run


def one_end(system: VirtualSystem, side: Any = Side.CLIENT, kind: Any = Connection, **options: Any) -> tuple[Any, Any]:
    """A connection, and the socket of its peer."""
    conditions = {"capacity": options.pop("capacity")} if "capacity" in options else {}
    client, server = system.link(**conditions)
    mine, theirs = (client, server) if side is Side.CLIENT else (server, client)
    return kind(mine, Protocol(side), **options), theirs


def frames(peer: Any) -> list[Any]:
    return wire.parse(peer.recv(100_000))[0]


# ------------------------------------------------------------------------------------------------------------ receiving


@in_memory
def test_recv_in_time(system: VirtualSystem) -> None:
    connection, peer = one_end(system)
    system.call_at(system.now() + 3, lambda: peer.end.send(wire.text("late")))
    with pytest.raises(TimeoutError, match=r"^timed out in 2\.5s$"):
        connection.recv(2.5)
    assert system.now() == 1002.5
    assert connection.recv(2.5, False) == b"late"
    assert system.now() == 1003
    connection.abort()


@in_memory
def test_polling_reads_once(system: VirtualSystem) -> None:
    connection, peer = one_end(system)
    for timeout in (0, -1):
        with pytest.raises(TimeoutError):
            connection.recv(timeout)
    peer.send(wire.text("there"))
    assert connection.recv(timeout=-5) == "there"
    assert system.now() == 1000
    connection.abort()


@pytest.mark.scenario(78)
@in_memory
def test_a_timeout_while_a_message_arrives(system: VirtualSystem) -> None:
    connection, peer = one_end(system)
    for number in range(10):
        system.call_at(system.now() + number, lambda: peer.end.send(wire.cont("x", fin=False)))
    peer.send(wire.text("", fin=False))
    with pytest.raises(TimeoutError):
        connection.recv(5.5)
    assert system.now() == 1005.5
    peer.send(wire.cont("end"))
    system.sleep(5)
    connection.abort()


@in_memory
def test_a_socket_without_any_room(system: VirtualSystem) -> None:
    connection, peer = one_end(system, capacity=10)
    connection.send("abcd")
    system.call_at(1001, lambda: got.append(peer.end.recv(10)))
    got: list[bytes] = []
    connection.send("efgh")
    assert system.now() == 1001
    assert [row.payload for row in wire.parse(got[0] + peer.recv(10))[0]] == [b"abcd", b"efgh"]
    connection.abort()


@in_memory
def test_a_burst_of_messages(system: VirtualSystem) -> None:
    """More than the queue takes, while a thread receives and while none does."""
    connection, peer = one_end(system)
    thread = system.start_thread(lambda: got.extend(connection.recv() for _ in range(100)), name="receiver")
    got: list[Any] = []
    system.idle()
    peer.send(b"".join(wire.text(str(number)) for number in range(200)))
    thread.join()
    system.idle()
    got += [connection.recv(timeout=0) for _ in range(100)]
    assert got == [str(number) for number in range(200)]
    connection.abort()


@pytest.mark.parametrize("kernel", [True, False])
def test_a_burst_that_was_received(kernel: bool) -> None:
    """Reading goes on when all that filled the queue is taken, even if nobody receives any more."""

    def test(system: VirtualSystem) -> None:
        connection, peer = one_end(system)
        messages = [f"{number} {'x' * 100}" for number in range(100)]
        peer.send(b"".join(map(wire.text, messages)))
        assert [connection.recv() for _ in messages] == messages
        peer.send(wire.ping(b"p"))
        system.sleep(0.1)
        assert [row.payload for row in frames(peer)] == [b"p"]
        connection.abort()

    run_threads(test, kernel=kernel, look_every=LOOK_EVERY)


@in_memory
def test_a_read_with_messages_and_more(system: VirtualSystem) -> None:
    connection, peer = one_end(system)
    thread = system.start_thread(lambda: got.append(connection.recv()), name="receiver")
    got: list[Any] = []
    system.idle()
    peer.send(wire.ping(b"p") + wire.text("one", fin=False) + wire.cont("two") + wire.text("three"))
    thread.join()
    assert got == ["onetwo"]
    assert connection.recv() == "three"
    assert [row.payload for row in frames(peer)] == [b"p"]
    connection.abort()


def send_for_ever(connection: Connection) -> None:
    while True:
        connection.send("x")


class Interrupted(BaseException):
    """What a signal handler raises."""


@in_memory
def test_an_interruption_just_before_a_read(system: VirtualSystem) -> None:
    """Others may receive then."""

    class Interrupting(Connection):
        interrupts = 1

        @property
        def recv_bufsize(self) -> int:  # type: ignore[override]
            if self.interrupts:
                self.interrupts -= 1
                raise Interrupted
            return 65536

    connection, peer = one_end(system, kind=Interrupting)
    peer.send(wire.text("one") + wire.text("two"))
    for timeout in (5, None):
        type(connection).interrupts = 0
        connection.interrupts = 1
        with pytest.raises(Interrupted):
            connection.recv(timeout)
    connection.interrupts = 0
    assert [connection.recv(5), connection.recv(5)] == ["one", "two"]
    with pytest.raises(TimeoutError):
        connection.recv(5)
    connection.abort()


@pytest.mark.parametrize("got", [True, False])
@pytest.mark.parametrize("timeout", [None, 5])
def test_an_interruption_just_after_a_read(got: bool, timeout: float | None) -> None:
    """What the kernel has given isn't lost."""

    def test(system: VirtualSystem) -> None:
        connection, peer = one_end(system)
        peer.send(wire.text("first"))
        assert connection.recv() == "first"
        peer.send(wire.text("one"))
        calls = connection._ws_wire
        name = "receive" if timeout is None else "receive_now"

        def interrupted(into: list[bytes], size: int) -> None:
            if got:
                getattr(calls, name)(into, size)
            raise Interrupted

        connection._ws_wire = _Replaced(calls, {name: interrupted, "kernel_receive": None})
        with pytest.raises(Interrupted):
            connection.recv(timeout)
        connection._ws_wire = calls
        assert connection.recv(timeout=0) == "one"
        connection.abort()

    run_threads(test, look_every=1)


class _Replaced:
    """A wire with other methods."""

    def __init__(self, calls: Any, others: dict[str, Any]) -> None:
        self._calls, self._others = calls, others

    def __getattr__(self, name: str) -> Any:
        return self._others[name] if name in self._others else getattr(self._calls, name)


@pytest.mark.scenario(78)
@pytest.mark.parametrize("taken", [None, 0, 3, "all"])
def test_an_interruption_of_a_send(taken: Any) -> None:
    """The frame is sent, once, and others come later."""

    def test(system: VirtualSystem) -> None:
        connection, peer = one_end(system)
        calls = connection._ws_wire

        def interrupted(into: list[int], pieces: Any) -> None:
            if taken == "all":
                calls.send_now(into, pieces)
            elif taken:
                calls.send_now(into, [pieces[0][:taken]])
            elif taken == 0:
                into.append(0)
            raise Interrupted

        connection._ws_wire = _Replaced(calls, {"send_now": interrupted, "kernel_send": None})
        with pytest.raises(Interrupted):
            connection.send("one")
        connection._ws_wire = calls
        connection.send("two")
        assert [row.payload for row in frames(peer)] == [b"one", b"two"]
        connection.abort()

    run_threads(test, look_every=0)


class InterruptingLock(_Lock):
    """A lock of a connection. When the main thread has released it some times, a signal handler raises an exception."""

    def __init__(self, system: VirtualSystem, times: int) -> None:
        super().__init__(system)
        self.times, self.thread = times, system.running

    def __exit__(self, *exc_info: object) -> None:
        super().__exit__(*exc_info)
        if self._system.running is self.thread and not self.count:
            self.times -= 1
            if self.times == 0:
                raise Interrupted


class RefusingLock(_Lock):
    """A lock of a connection that a signal handler prevents from being taken, once."""

    def __init__(self, system: VirtualSystem, times: int) -> None:
        super().__init__(system)
        self.times, self.thread = times, system.running

    def __enter__(self) -> None:
        if self._system.running is self.thread:
            self.times -= 1
            if self.times == 0:
                raise Interrupted
        super().__enter__()


@pytest.mark.parametrize("times", [2, 3, 4])
@pytest.mark.parametrize("room", [3, 1000])
def test_an_interruption_before_a_step_of_sending(times: int, room: int) -> None:
    """The message is sent, once."""

    def test(system: VirtualSystem) -> None:
        connection, peer = one_end(system, capacity=room)
        system.idle()
        connection._ws_lock = RefusingLock(system, times)
        with contextlib.suppress(Interrupted):
            connection.send("one")
        connection._ws_lock.times = 0
        thread = system.start_thread(lambda: connection.send("two"), name="sender")
        got = b""
        while len(wire.parse(got)[0]) < 2:
            got += peer.recv(100)
        thread.join()
        assert [row.payload for row in wire.parse(got)[0]] == [b"one", b"two"]
        connection.abort()

    run_threads(test, look_every=0)


@in_memory
def test_a_pong_is_sent_with_the_message_behind_its_ping(system: VirtualSystem) -> None:
    """Not with the next message, or when the thread receives again."""
    connection, peer = one_end(system)
    peer.send(wire.ping(b"one") + wire.text("message") + wire.ping(b"two"))
    assert connection.recv() == "message"
    assert [row.payload for row in frames(peer)] == [b"one", b"two"]
    connection.abort()


@in_memory
def test_the_rest_of_a_read(system: VirtualSystem) -> None:
    """As the compiled twin leaves it, when a read has many frames."""
    connection, _ = one_end(system)
    with connection._ws_lock:
        connection._ws_bytes_received = 100
        connection._ws_receive_others([0x89, b"one"], wire.text("message") + wire.ping(b"two"))
    assert connection._ws_bytes_received == 100
    assert connection.recv() == "message"
    connection.abort()


@pytest.mark.parametrize("times", range(1, 12))
@pytest.mark.parametrize("path", ["send", "slowly", "ping", "full", "in part"])
def test_an_interruption_between_two_steps_of_sending(path: str, times: int) -> None:
    """Nobody keeps the role of the writer: whatever is sent later goes out."""

    def test(system: VirtualSystem) -> None:
        connection, peer = one_end(system, capacity=30)
        system.idle()
        connection._ws_lock = lock = InterruptingLock(system, times)
        if path in ("full", "in part"):
            system.call_at(system.now() + 1, lambda: got.append(peer.end.recv(10)))
        got: list[bytes] = []
        with contextlib.suppress(Interrupted):
            if path == "send":
                connection.send("x")
            elif path == "slowly":
                connection.send("x", timeout=1)
            elif path == "ping":
                connection.ping(b"x")
            elif path == "in part":
                connection.send("x" * 30)
            else:
                connection.send("x" * 30, timeout=2)
        lock.times = 0
        thread = system.start_thread(lambda: connection.send("other", timeout=5), name="other")
        while b"later" not in [row.payload for row in wire.parse(b"".join(got))[0]]:
            if not thread.is_alive():
                thread = system.start_thread(lambda: connection.send("later", timeout=5), name="later")
            got.append(peer.recv(100))
        rows = [row.payload for row in wire.parse(b"".join(got))[0]]
        assert rows[-2:] == [b"other", b"later"]
        connection.abort()
        thread.join()

    run_threads(test, look_every=0)


def while_it_sends(system: VirtualSystem, connection: Any, function: Callable[[], Any], sends: bool = True) -> None:
    """Have a function called while the connection sends its next message, as by another thread."""
    calls = connection._ws_wire

    def send(frame: bytes, flags: int) -> Any:
        connection._ws_wire = calls
        thread = system.start_thread(function, name="other")
        thread.join()
        if not sends:
            raise BlockingIOError
        return calls.sock.send(frame, flags)

    connection._ws_wire = _Replaced(calls, {"kernel_send": send})


@in_memory
def test_a_pong_that_is_due_while_a_thread_sends(system: VirtualSystem) -> None:
    connection, peer = one_end(system)
    while_it_sends(system, connection, lambda: connection.pong(b"p"))
    connection.send("message")
    assert [row.payload for row in frames(peer)] == [b"message", b"p"]
    connection.abort()


@pytest.mark.parametrize("sent", [True, False])
def test_an_end_while_a_thread_sends(sent: bool) -> None:
    def test(system: VirtualSystem) -> None:
        connection, peer = one_end(system)

        def end() -> None:
            with connection._ws_lock:
                connection._ws_outbox.tear()
            if not sent:
                system.start_thread(connection.abort, name="aborting")

        while_it_sends(system, connection, end, sent)
        if sent:
            connection.send("message")
            connection.abort()
        else:
            with pytest.raises(ConnectionClosedError):
                connection.send("message")
        peer.end.close()

    run_threads(test, look_every=0)


@in_memory
def test_a_peer_that_ends_the_stream_and_does_not_read(system: VirtualSystem) -> None:
    """Nobody reads the end again and again while it can't be answered."""
    connection, peer = one_end(system, capacity=100, close_timeout=3, ping_interval=None)
    thread = system.start_thread(lambda: failures.append(_failure(lambda: connection.send(bytes(1000)))), name="sender")
    failures: list[Any] = []
    system.idle()
    peer.end.shutdown()
    system.idle()
    assert connection.state is State.CLOSED
    connection.close()
    assert system.now() == pytest.approx(1003, abs=0.02)
    thread.join()
    assert isinstance(failures[0], ConnectionClosedError)
    peer.end.close()


def test_the_end_of_the_stream_counts_once() -> None:
    def test(system: VirtualSystem) -> None:
        connection, peer = one_end(system)
        with connection._ws_lock:
            connection._ws_receive_eof()
            connection._ws_receive_eof()
        connection.abort()
        peer.end.close()

    run_threads(test, look_every=0)


@in_memory
def test_a_stream_on_an_interpreter_that_does_not_count_references(system: VirtualSystem) -> None:
    connection, peer = one_end(system)
    peer.send(wire.text("one", fin=False))
    fragments = connection.recv_streaming()
    assert next(fragments) == "one"
    thread = system.start_thread(lambda: failures.append(_failure(connection.recv)), name="other")
    failures: list[Any] = []
    thread.join()
    assert isinstance(failures[0], ConcurrencyError)
    connection.abort()
    with pytest.raises(ConnectionClosedError):
        next(fragments)


def test_garbage_is_collected_where_references_are_not_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_receiving, "COUNTS_REFERENCES", False)
    collected: list[bool] = []
    monkeypatch.setattr(gc, "collect", lambda: collected.append(True))
    test_a_stream_on_an_interpreter_that_does_not_count_references(True)
    assert collected


def _failure(function: Callable[[], Any]) -> BaseException | None:
    try:
        function()
    except Exception as exc:
        return exc
    return None


@in_memory
def test_attributes_of_a_subclass(system: VirtualSystem) -> None:
    """Programs have attributes whose names became those of properties."""

    class Mine(Connection):
        def __init__(self, *arguments: Any, **options: Any) -> None:
            self.debug = self.buffered_amount = "mine"  # type: ignore[assignment]
            self.ping_interval = self.ping_timeout = self.close_timeout = 7
            super().__init__(*arguments, **options)

    connection, peer = one_end(system, kind=Mine, idle_timeout=5, ping_interval=3)
    assert (connection.debug, connection.buffered_amount) == ("mine", "mine")
    assert (connection.ping_interval, connection.ping_timeout, connection.close_timeout) == (3, 20, 10)
    system.sleep(6)
    assert wire.CLOSE in [row.opcode for row in frames(peer)]
    connection.abort()
    plain, _ = one_end(system)
    assert (plain.debug, plain.buffered_amount) == (False, 0)
    plain.abort()


# -------------------------------------------------------------------------------------------------------------- sending


@in_memory
def test_only_one_message_in_fragments(system: VirtualSystem) -> None:
    connection, peer = one_end(system)
    text = "^cannot call send while another thread is already running send$"

    def items() -> Any:
        yield "one"
        for other in ("whole", b"bytes", ["another"]):
            with pytest.raises(ConcurrencyError, match=text):
                connection.send(other)
        connection.ping(b"p")
        yield "two"

    connection.send(items())
    assert [row.payload for row in frames(peer)] == [b"one", b"p", b"two", b""]
    connection.abort()


@in_memory
def test_fragments_without_time(system: VirtualSystem) -> None:
    """A message that can't be completed ends the connection."""
    connection, peer = one_end(system, capacity=100)
    with pytest.raises(TimeoutError, match="^timed out while sending a fragmented message$"):
        connection.send((bytes(60) for _ in range(3)), timeout=1)
    assert system.now() == 1001
    assert connection.state is State.CLOSING
    data = b""
    while wire.CLOSE not in [row.opcode for row in wire.parse(data)[0]]:
        data += peer.recv(50)
    assert wire.parse(data)[0][-1].payload[2:] == b"error in fragmented message"
    connection.abort()


@in_memory
def test_the_last_fragment_without_time(system: VirtualSystem) -> None:
    """Nothing is missing then, and the message is sent later."""
    connection, peer = one_end(system, capacity=70)
    with pytest.raises(TimeoutError, match=r"^timed out in 1\.0s$"):
        connection.send([bytes(60)], timeout=1)
    data = b""
    while len(wire.parse(data)[0]) < 2:
        data += peer.recv(50)
    assert connection.state is State.OPEN
    connection.abort()


@in_memory
def test_a_socket_that_fails(system: VirtualSystem) -> None:
    connection, peer = one_end(system)
    peer.send(wire.text("last"))
    peer.end.close()
    with pytest.raises(ConnectionClosedError):
        send_for_ever(connection)
    assert connection.close_code == 1006
    assert isinstance(connection.close_exc.__cause__, OSError | EOFError)


@in_memory
def test_a_ping_that_a_close_acknowledges(system: VirtualSystem) -> None:
    connection, peer = one_end(system)
    never, closed = connection.ping(), connection.ping(ack_on_close=True)
    connection.abort()
    assert closed.is_set()
    assert not never.is_set()
    peer.end.close()


@pytest.mark.scenario(60)
@in_memory
def test_a_message_to_a_peer_that_stopped_reading_ends_in_time(system: VirtualSystem) -> None:
    connection, peer = one_end(system, capacity=100, ping_interval=2, ping_timeout=3, close_timeout=4)
    with pytest.raises(ConnectionClosedError, match="keepalive ping timeout"):
        connection.send(bytes(1000))
    assert system.now() <= 1009.1
    peer.end.close()


# -------------------------------------------------------------------------------------------------------------- closing


@in_memory
def test_wait_closed_in_time(system: VirtualSystem) -> None:
    connection, peer = one_end(system)
    assert not connection.wait_closed(0)
    assert not connection.wait_closed(2)
    assert system.now() == 1002
    peer.send(wire.close(1000))
    thread = system.start_thread(lambda: peer.recv(100) and peer.end.close(), name="peer")
    assert connection.wait_closed(2)
    assert connection.wait_closed()
    thread.join()


@in_memory
def test_close_socket(system: VirtualSystem) -> None:
    connection, peer = one_end(system)
    connection.close_socket()
    assert connection.state is State.CLOSED
    connection.close_socket()
    connection.abort()
    system.idle()
    assert connection.socket.closed
    with pytest.raises(ConnectionClosedError, match="^no close frame received or sent$"):
        connection.recv()
    peer.end.close()


@in_memory
def test_a_block_and_an_iteration(system: VirtualSystem) -> None:
    client, server = system.link()
    one, other = Connection(client, Protocol(Side.CLIENT)), Connection(server, Protocol(Side.SERVER))
    thread = system.start_thread(lambda: got.extend(other), name="server")
    got: list[Any] = []
    with one as entered:
        assert entered is one
        one.send("message")
    thread.join()
    assert got == ["message"]
    assert one.close_code == 1000
    with pytest.raises(ConnectionClosedOK):
        one.send("late")


@in_memory
def test_an_exception_closes_with_1011(system: VirtualSystem) -> None:
    connection, peer = one_end(system, close_timeout=1)
    with pytest.raises(ZeroDivisionError), connection:
        raise ZeroDivisionError
    assert frames(peer)[0].payload == (1011).to_bytes(2, "big")
    assert system.now() == pytest.approx(1001, abs=0.02)
    peer.end.close()


def test_a_connection_that_is_not_open() -> None:
    def test(system: VirtualSystem) -> None:
        client, server = system.link()
        connection = Connection(client, Protocol(Side.CLIENT, state=State.CONNECTING))
        with pytest.raises(InvalidState, match="^connection is connecting$"):
            connection.send("x")
        assert not connection._ws_wait_until(lambda: False, system.now() + 2)
        assert system.now() == 1002
        connection.abort()
        assert not connection._ws_wait_until(lambda: False)
        server.end.close()

    run_threads(test, look_every=0)


def test_who_waits_while_another_thread_reads() -> None:
    def test(system: VirtualSystem) -> None:
        connection, peer = one_end(system)
        thread = system.start_thread(connection.recv, name="receiver")
        system.idle()
        assert not connection._ws_wait_until(lambda: False, system.now() + 2)
        assert system.now() == 1002
        peer.send(wire.text("x"))
        thread.join()
        connection.abort()

    run_threads(test, look_every=0)


# ------------------------------------------------------------------------------------------------------------- the rest


@in_memory
def test_attributes(system: VirtualSystem) -> None:
    connection, peer = one_end(system, side=Side.SERVER)
    assert connection.socket.end.getsockname() == connection.local_address
    assert connection.remote_address == peer.getsockname()
    assert (connection.debug, connection.recv_bufsize, connection.close_timeout) == (False, 65536, 10)
    connection.close_timeout = 3
    connection.ping_interval = None
    assert (connection.close_timeout, connection.ping_interval) == (3, None)
    addresses = connection.local_address, connection.remote_address
    connection.abort()
    connection.close_timeout = 4
    assert (connection.local_address, connection.remote_address) == addresses
    peer.end.close()


def test_addresses_of_something_that_has_none() -> None:
    def test(system: VirtualSystem) -> None:
        connection, peer = one_end(system)
        connection.socket = object()
        assert (connection.local_address, connection.remote_address) == (None, None)
        connection.abort()
        peer.end.close()

    run_threads(test, look_every=0)


def test_log_of_a_late_check(caplog: pytest.LogCaptureFixture) -> None:
    """There is no event loop that could have stalled."""
    caplog.set_level(logging.INFO, "websockets")

    def test(system: VirtualSystem) -> None:
        connection, peer = one_end(system)
        (ping,) = frames(peer)
        # The process stops, and goes on a minute later.
        system.time_now += 60
        system.sleep(0.1)
        assert connection.state is State.OPEN
        peer.send(wire.pong(ping.payload))
        system.sleep(15)
        assert connection.state is State.OPEN
        connection.abort()

    run_threads(test, look_every=0)
    (line,) = [line for line in caplog.messages if "stalled" in line]
    assert line == "threads stalled for 40.0 seconds; waiting longer for keepalive pong"


def test_log_at_debug(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "websockets")

    def test(system: VirtualSystem) -> None:
        connection, peer = one_end(system)
        connection.send("x")
        assert connection.debug
        peer.end.reset()
        assert connection.wait_closed(1)
        other, far = one_end(system)
        other.abort()
        far.end.close()
        closing, last = one_end(system, side=Side.SERVER)
        last.send(wire.close(1000, mask=True))
        last.end.shutdown()
        assert closing.wait_closed(1)
        last.end.close()

    run_threads(test, look_every=0)
    lines = [record.getMessage() for record in caplog.records]
    assert "> TEXT 'x' [1 byte]" in lines
    assert "! error while receiving data" in lines
    assert "x closing TCP connection" in lines
    assert "x half-closing TCP connection" in lines


@in_memory
def test_a_broadcast_needs_no_threads(system: VirtualSystem) -> None:
    connection, peer = one_end(system)
    with pytest.warns(DeprecationWarning, match=r"^broadcast\(\) needs no threads any more; ignored: max_workers$"):
        broadcast([connection], "message", max_workers=3)
    assert [row.payload for row in frames(peer)] == [b"message"]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        broadcast([connection], "message")
    connection.abort()
    peer.end.close()


@pytest.mark.scenario(85)
@pytest.mark.parametrize("kernel", [True, False])
def test_a_child_process_disowns_connections(kernel: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    def test(system: VirtualSystem) -> None:
        connection, peer = one_end(system)
        system.idle()
        steward, lock = system.steward, connection._ws_lock
        # The thread uses these, as this is no other process.
        steward._waker.close = steward._selector.close = lambda: None
        # No other connection of this process may be disowned.
        monkeypatch.setattr(_steward, "_systems", [system])
        _steward._after_fork()
        for call in (connection.recv, connection.ping, connection.wait_closed, lambda: connection.send("x")):
            with pytest.raises(RuntimeError, match="^connection was opened in another process$"):
                call()
        connection.socket.close = lambda: closed.append(True)
        closed: list[bool] = []
        connection.close()
        connection.abort()
        connection.close_socket()
        assert len(closed) == 3
        connection._ws_lock, connection._ws_foreign = lock, False
        del connection.socket.close
        assert _steward.steward_of(system) is not steward
        stop_steward(system)
        system.steward = steward
        steward._waker.wake()
        peer.end.close()

    run_threads(test, kernel=kernel, look_every=0)


def test_a_deadline_after_the_end() -> None:
    """The connection may end just before the steward handles it."""

    def test(system: VirtualSystem) -> None:
        connection, peer = one_end(system)
        connection.abort()
        end = str(connection.close_exc)
        connection._ws_handle_timeout(system.now() + 100)
        assert str(connection.close_exc) == end
        peer.end.close()

    run_threads(test, look_every=0)


def test_a_socket_that_cannot_be_watched() -> None:
    def test(system: VirtualSystem) -> None:
        connection, peer = one_end(system)

        def fail(*arguments: Any) -> None:
            raise OSError("bad descriptor")

        connection._ws_watch = fail
        system.idle()
        assert connection.state is State.CLOSED
        assert str(connection.close_exc.__cause__) == "bad descriptor"
        peer.end.close()

    run_threads(test, look_every=0)


@in_memory
def test_the_rest_of_a_read_when_the_connection_ends(system: VirtualSystem) -> None:
    """A large read is taken in by portions; what is kept back isn't lost."""
    connection, peer = one_end(system, max_queue=1)
    peer.send(b"".join(wire.binary(bytes([number]) * 3000) for number in range(20)))
    system.idle()
    assert connection._ws_session.intake.rest
    peer.end.shutdown()
    connection.ping()
    peer.end.reset()
    with pytest.raises(ConnectionClosedError):
        send_for_ever(connection)
    assert [connection.recv()[0] for _ in range(20)] == [*range(20)]


def test_submodules_are_attributes() -> None:
    assert websockets.sync.connection is module
    assert vars(websockets.sync)["__getattr__"]("connection") is module  # as before anybody has imported it
    with pytest.raises(AttributeError, match="^module 'websockets.sync' has no attribute 'nothing'$"):
        websockets.sync.nothing  # type: ignore[attr-defined]  # noqa: B018


def test_what_a_fork_calls(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a steward there is nothing to do."""
    system = VirtualSystem()
    del system.steward
    monkeypatch.setattr(_steward, "_systems", [system])
    _steward._after_fork()
    # Nor is there if it hasn't begun.
    system.steward = _steward.Steward(system)
    _steward._after_fork()
    stop_steward(system)


# --------------------------------------------------------------------------------------------------- limits of rates


@in_memory
def test_recv_in_time_beside_a_limit_of_a_rate(system: VirtualSystem) -> None:
    """The time is up before reading goes on."""
    connection, peer = one_end(system, max_queue=None)
    connection._ws_session.limit(Rates((0.1, 1), None, False))
    peer.send(wire.text("a") + wire.text("b"))
    assert connection.recv() == "a"
    assert connection.recv() == "b"
    peer.send(wire.text("c"))
    began = system.now()
    with pytest.raises(TimeoutError):
        connection.recv(timeout=4)
    assert system.now() - began == pytest.approx(4)
    assert connection.recv(timeout=100) == "c"
    assert system.now() - began == pytest.approx(10)
    connection.abort()


@in_memory
def test_two_wait_for_a_limit_of_a_rate(system: VirtualSystem) -> None:
    """One wants a pong, the other a message, and both come in time."""
    connection, peer = one_end(system, max_queue=None)
    connection._ws_session.limit(Rates((0.1, 1), None, False))
    peer.send(wire.text("a") + wire.text("b"))
    assert [connection.recv(), connection.recv()] == ["a", "b"]
    began, latencies = system.now(), list[float]()
    pong = connection.ping(b"x")

    def wait() -> None:
        assert pong.wait(60)
        latencies.append(system.now() - began)

    waiting = system.start_thread(wait, name="waiting")
    peer.send(wire.pong(b"x") + wire.text("c"))
    assert connection.recv() == "c"
    waiting.join()
    assert latencies == [pytest.approx(10, abs=0.1)]
    connection.abort()
