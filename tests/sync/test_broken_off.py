"""Exceptions between two steps: what the system gave or took is processed, or the connection ends.

Signal handlers, memory that runs out, and calls that are nested too deeply can raise an exception anywhere.
"""

from __future__ import annotations

import _thread
import contextlib
import functools
import socket
import sys
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from _kit import wire
from _kit.platforms import needs_signals
from websockets.exceptions import ConnectionClosed, ConnectionClosedError
from websockets.protocol import Protocol, Side, State
from websockets.sync._fastpath import SocketPath, _readable
from websockets.sync._roles import Role
from websockets.sync.connection import Connection


class Interrupted(BaseException):
    """What a signal handler raises."""


@pytest.fixture
def end() -> Iterator[tuple[Connection, socket.socket]]:
    """A client, and the socket of its peer."""
    one, other = socket.socketpair()
    connection = Connection(one, Protocol(Side.CLIENT))
    with contextlib.suppress(TimeoutError):
        connection.recv(timeout=0)
    # The steward leaves it alone.
    connection._ws_entrust_reading = lambda: None  # type: ignore[method-assign]
    connection._ws_choose_path()
    yield connection, other
    connection.abort()
    other.close()


def rest_of(peer: socket.socket) -> bytes:
    """All that the peer is sent until the end."""
    received = b""
    with contextlib.suppress(ConnectionError):
        while data := peer.recv(2**16):
            received += data
    return received


def raising(exc: BaseException, call: Callable[..., Any] = lambda *_: None) -> Callable[..., Any]:
    """A function that calls another one, and then raises an exception."""

    def raise_it(*arguments: Any) -> Any:
        call(*arguments)
        raise exc

    return raise_it


class Part:
    """A socket that takes a part of what it is given, and can't say how much."""

    def __init__(self, wire: Any, calls: int) -> None:
        self.send, self.calls = wire.kernel_send, calls

    def __call__(self, data: Any, flags: int) -> int:
        taken: int = self.send(bytes(data)[:100], flags)
        self.calls -= 1
        if not self.calls:
            raise MemoryError
        return taken


@pytest.mark.parametrize("calls", [1, 2, 3])
def test_no_memory_for_the_number_of_bytes_that_were_sent(end: tuple[Connection, socket.socket], calls: int) -> None:
    """Part of a frame is never followed by another one."""
    connection, peer = end
    connection._ws_wire.kernel_send = Part(connection._ws_wire, calls)
    with pytest.raises(MemoryError):
        connection.send(bytes(1000))
    with pytest.raises(ConnectionClosedError) as caught:
        connection.send("next")
    assert isinstance(caught.value.__cause__, MemoryError)
    assert len(rest_of(peer)) == 100 * calls
    assert connection.buffered_amount == 0
    assert connection.socket.fileno() == -1


@pytest.mark.parametrize("name", ["bypass", "bypassed", "taken"])
def test_an_interruption_while_what_was_sent_is_noted(end: tuple[Connection, socket.socket], name: str) -> None:
    connection, peer = end
    connection._ws_wire.kernel_send = Part(connection._ws_wire, 100)
    outbox: Any = connection._ws_outbox
    kind = type(outbox)
    interrupting: Any = type("Interrupting", (kind,), {name: raising(Interrupted()), "__slots__": ()})()
    connection._ws_outbox = interrupting
    with pytest.raises(Interrupted):
        connection.send(bytes(1000))
    with pytest.raises(ConnectionClosedError, match="^no close frame received or sent$"):
        connection.send("next")
    assert len(rest_of(peer)) % 100 == 0
    assert connection.socket.fileno() == -1


@pytest.mark.parametrize("timeout", [None, 5])
@pytest.mark.parametrize("data", [wire.ping(b"x") + wire.text("one"), wire.text("o", fin=False)])
def test_an_interruption_while_what_was_read_is_processed(
    end: tuple[Connection, socket.socket], timeout: float | None, data: bytes
) -> None:
    """No other message is taken for the one that is missing."""
    connection, peer = end
    peer.sendall(data)
    session: Any = connection._ws_session
    session.receive_frames = session.receive_data = raising(Interrupted())
    with pytest.raises(Interrupted):
        connection.recv(timeout)
    assert connection.state is State.CLOSED
    with pytest.raises(ConnectionClosedError) as caught:
        connection.recv()
    assert str(caught.value.__cause__) == "interrupted by Interrupted"
    assert connection.socket.fileno() == -1
    assert rest_of(peer) == b""


@pytest.mark.parametrize("timeout", [None, 5])
def test_no_memory_for_what_was_read(end: tuple[Connection, socket.socket], timeout: float | None) -> None:
    connection, peer = end
    peer.sendall(wire.text("one"))
    wire_ = connection._ws_wire
    wire_.kernel_receive = raising(MemoryError(), connection.socket.recv)
    with pytest.raises(MemoryError):
        connection.recv(timeout)
    with pytest.raises(ConnectionClosedError) as caught:
        connection.recv(timeout)
    assert isinstance(caught.value.__cause__, MemoryError)
    assert connection.socket.fileno() == -1


def test_a_lock_that_cannot_be_taken_after_a_read(end: tuple[Connection, socket.socket]) -> None:
    connection, peer = end
    lock, me = connection._ws_lock, _thread.get_ident()

    class Refusing:
        left = 2

        def __enter__(self) -> None:
            self.left -= _thread.get_ident() == me
            if not self.left:
                raise Interrupted
            lock.__enter__()

        def __exit__(self, *exc_info: Any) -> None:
            lock.__exit__(*exc_info)

    peer.sendall(wire.text("one"))
    connection._ws_lock = Refusing()
    with pytest.raises(Interrupted):
        connection._ws_wait_until(lambda: False)
    assert connection.state is State.CLOSED
    assert connection.socket.fileno() == -1


def at_depth(depth: int, call: Callable[[], Any]) -> Any:
    return call() if depth == 0 else at_depth(depth - 1, call)


@pytest.mark.parametrize("what", ["recv", "recv a ping", "send", "send a part"])
def test_calls_that_are_nested_too_deeply(what: str) -> None:
    """Afterwards the connection works, or it has ended."""
    limit = sys.getrecursionlimit()
    seen = set()
    for calls in range(40, 100):
        one, other = socket.socketpair()
        connection = Connection(one, Protocol(Side.CLIENT))
        other.settimeout(5)
        if what == "send a part":
            connection._ws_wire.kernel_send = Part(connection._ws_wire, 100)
        if what.startswith("recv"):
            other.sendall(wire.ping(b"x") + wire.text("one") if "ping" in what else wire.text("one"))
            call: Callable[[], Any] = connection.recv
        else:
            call = functools.partial(connection.send, bytes(300))
        depth = 0
        frame: Any = sys._getframe()
        while frame is not None:
            depth, frame = depth + 1, frame.f_back
        sys.setrecursionlimit(depth + 100)
        try:
            at_depth(calls, call)
        except RecursionError:
            seen.add("too deep")
        except ConnectionClosed:
            seen.add("closed")
        else:
            seen.add("done")
        finally:
            sys.setrecursionlimit(limit)
        try:
            connection.send("next")
            other.sendall(wire.text("next"))
            assert connection.recv(timeout=5) in ("one", "next")
        except ConnectionClosed:
            pass
        else:
            received = b""
            while all(row.payload != b"next" for row in wire.parse(received)[0]):
                received += other.recv(2**16)
        connection.abort()
        connection.close()  # the steward may be about to close the descriptor
        other.close()
        roles = connection._ws_receiver, connection._ws_writing_thread, connection._ws_reading_thread
        assert roles == (0, 0, 0)
        assert connection.socket.fileno() == -1
    assert seen >= {"too deep", "done"}


class TrippingLock:
    """A lock that a signal precedes, whose handler hasn't run yet."""

    __enter__ = staticmethod(_thread.interrupt_main)

    release = staticmethod(_thread.get_ident)


@needs_signals
@pytest.mark.skipif(SocketPath is _readable.SocketPath, reason="a handler may run just after any call in Python")
def test_a_signal_while_the_kernel_brings_a_message(end: tuple[Connection, socket.socket]) -> None:
    """Ctrl-C doesn't lose it."""
    connection, peer = end
    peer.sendall(wire.text("first"))
    assert connection.recv() == "first"
    connection._ws_wire.kernel_receive = {connection.recv_bufsize: wire.text("message")}.__getitem__
    lock, connection._ws_listed = connection._ws_lock, True
    connection._ws_lock = TrippingLock()  # type: ignore[assignment]
    with pytest.raises(KeyboardInterrupt):
        connection.recv()
    connection._ws_lock = lock
    assert connection.recv(timeout=5) == "message"


def test_an_interruption_when_the_role_of_the_reader_is_left(end: tuple[Connection, socket.socket]) -> None:
    """As of a signal handler that reads in the middle of another read: what the other one does next isn't disturbed."""
    connection, _ = end
    connection._ws_nested = 1
    connection._ws_leave_reading = raising(Interrupted())  # type: ignore[method-assign]
    with pytest.raises(Interrupted):
        connection._ws_take_read([], None, False, [])
    assert connection._ws_nested == 0
    assert connection.state is State.OPEN


class BrokenChannel:
    """A TLS channel that can't encrypt."""

    handshake_complete, failure = True, None

    def encrypt(self, data: bytes) -> bytes | None:
        raise MemoryError


def test_an_interruption_while_a_ping_is_encrypted(end: tuple[Connection, socket.socket]) -> None:
    """A record that was encrypted and isn't sent would be missing in the order of records."""
    connection, peer = end
    connection._ws_channel = BrokenChannel()  # type: ignore[assignment]
    with pytest.raises(MemoryError):
        connection.ping()
    with pytest.raises(ConnectionClosedError) as caught:
        connection.send("next")
    assert isinstance(caught.value.__cause__, MemoryError)
    assert rest_of(peer) == b""


def test_giving_up_writing_when_nothing_is_to_be_written(end: tuple[Connection, socket.socket]) -> None:
    connection, _ = end
    assert not connection._ws_owing
    connection._ws_gave_up_writing()
    assert connection.state is State.OPEN


# ---------------------------------------------------------------------------------- a message that was taken isn't lost


@needs_signals
@pytest.mark.skipif(SocketPath is _readable.SocketPath, reason="a handler may run just after any call in Python")
@pytest.mark.parametrize("timeout", [None, 5])
def test_a_signal_while_a_message_is_returned(end: tuple[Connection, socket.socket], timeout: float | None) -> None:
    """Ctrl-C doesn't lose it."""
    connection, peer = end
    peer.sendall(wire.text("first"))
    assert connection.recv() == "first"
    connection._ws_queue.append("message")
    lock, connection._ws_listed = connection._ws_lock, True
    connection._ws_lock = TrippingLock()  # type: ignore[assignment]
    message: Any = None
    with pytest.raises(KeyboardInterrupt):  # noqa: PT012
        message = connection.recv(timeout)
        _thread.get_ident()  # the handler runs here at the latest
    connection._ws_lock = lock
    assert message == "message"


class LeavingLock:
    """A lock; leaving it raises an exception once in this thread, the given number of times from now."""

    def __init__(self, lock: Any, left: int) -> None:
        self.lock, self.left, self.thread = lock, left, _thread.get_ident()

    def __enter__(self) -> None:
        self.lock.__enter__()

    def __exit__(self, *exc_info: Any) -> None:
        self.lock.__exit__(*exc_info)
        if _thread.get_ident() == self.thread:
            self.left -= 1
            if not self.left:
                raise Interrupted


@pytest.mark.parametrize("timeout", [None, 5])
@pytest.mark.parametrize("left", range(1, 8))
def test_an_interruption_behind_a_lock(end: tuple[Connection, socket.socket], timeout: float | None, left: int) -> None:
    """The next call returns the message, or says that the connection has ended."""
    connection, peer = end
    peer.sendall(wire.text("o", fin=False) + wire.cont("ne") + wire.text("two"))
    lock = connection._ws_lock
    connection._ws_lock = LeavingLock(lock, left)
    received: list[Any] = []
    with contextlib.suppress(Interrupted):
        received += [connection.recv(timeout)]
    connection._ws_lock = lock
    try:
        while len(received) < 2:
            received.append(connection.recv(timeout=5))
    except ConnectionClosedError as closed:
        received.append(str(closed.__cause__))
    assert received in (["one", "two"], ["one", "interrupted by Interrupted"], ["interrupted by Interrupted"])


@pytest.mark.parametrize("name", ["_ws_after_taking", "_ws_convert"])
def test_an_interruption_when_a_message_has_been_taken(end: tuple[Connection, socket.socket], name: str) -> None:
    connection, peer = end
    peer.sendall(wire.text("one") + wire.text("two"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(connection, name, raising(Interrupted()))
        with pytest.raises(Interrupted):
            connection.recv(5, decode=True)
    assert connection._ws_receiver == 0
    assert [connection.recv(timeout=5) for _ in range(2)] == ["one", "two"]


def test_no_room_to_put_a_message_back(end: tuple[Connection, socket.socket]) -> None:
    """No other message is taken for the one that is missing."""
    connection, peer = end
    peer.sendall(wire.text("one") + wire.text("two"))
    with pytest.MonkeyPatch.context() as patch:
        for name in ("_ws_after_taking", "_ws_keep_message"):
            patch.setattr(connection, name, raising(Interrupted()))
        with pytest.raises(Interrupted):
            connection.recv(timeout=5)
    connection._ws_queue.popleft()
    with pytest.raises(ConnectionClosedError):
        connection.recv(timeout=5)


@pytest.mark.parametrize("nested", [0, 1])
@pytest.mark.parametrize("data", [b"", wire.text("one")])
def test_an_interruption_before_what_was_read_is_processed(
    end: tuple[Connection, socket.socket], data: bytes, nested: int
) -> None:
    """The role of the reader is left, and no other message is taken for the one that is missing."""
    connection, peer = end
    peer.sendall(data)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(connection, "_ws_take_read", raising(Interrupted()))
        with connection._ws_lock:
            assert connection._ws_claim_reading()
        connection._ws_nested = nested
        with pytest.raises(Interrupted):
            connection._ws_read(connection._ws_system.now() + (5 if data else 0))
    assert connection._ws_nested == 0
    assert (connection._ws_reader is Role.TAKEN) is bool(nested)
    if nested:
        with connection._ws_lock:
            connection._ws_leave_reading()
    if data:
        with pytest.raises(ConnectionClosedError) as caught:
            connection.recv(timeout=5)
        assert str(caught.value.__cause__) == "interrupted by Interrupted"
    else:
        peer.sendall(wire.text("one"))
        assert connection.recv(timeout=5) == "one"
