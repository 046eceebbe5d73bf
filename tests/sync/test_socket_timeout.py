"""The program sets a timeout on the socket of a connection. That isn't the end of the connection.

Charter: real sockets of the kernel.
"""

from __future__ import annotations

import socket
from typing import Any

import pytest

from _kit import wire
from _kit.blocking import wait_for
from sync.test_closed_socket import Outcome, connected, is_waiting
from websockets.sync._system import LONG_SLICE, READ, System
from websockets.sync._wire import KernelWire

TIMEOUTS = [0, 0.0001, 0.01]

# More than the buffers of a pair of sockets hold.
LARGE = 2**22


@pytest.mark.parametrize("timeout", TIMEOUTS)
def test_receiving(timeout: float, monkeypatch: pytest.MonkeyPatch) -> None:
    receive, calls = KernelWire.receive, []

    def counted(self: Any, *arguments: Any) -> None:
        calls.append(arguments)
        receive(self, *arguments)

    monkeypatch.setattr(KernelWire, "receive", counted)
    with connected() as (connection, peer):
        connection.socket.settimeout(timeout)
        got: list[object] = []
        receiver = Outcome(lambda: got.append(connection.recv()))
        # The first call was in vain, and now it waits.
        wait_for(lambda: len(calls) > 0 and is_waiting(connection))
        peer.sendall(wire.text("late"))
        assert receiver.end() is None
        assert got == ["late"]
        # It waits for the socket, and doesn't ask it again and again.
        assert len(calls) < 5


@pytest.mark.parametrize("timeout", TIMEOUTS)
def test_a_call_in_vain_waits_for_the_socket(timeout: float) -> None:
    class Waiting(System):
        def wait(self, sock: Any, mask: int, timeout: float | None) -> bool:
            waits.append((sock, mask, timeout))
            return False

    waits: list[object] = []
    here, there = socket.socketpair()
    with here, there:
        kernel_wire = KernelWire(here, Waiting())
        here.settimeout(timeout)
        with pytest.raises((BlockingIOError, TimeoutError)):
            kernel_wire.receive([], 1)
        assert waits == [(here, READ, LONG_SLICE)]


@pytest.mark.parametrize("timeout", TIMEOUTS)
def test_sending(timeout: float) -> None:
    with connected() as (connection, peer):
        connection.socket.settimeout(timeout)
        sender = Outcome(lambda: connection.send(bytes(LARGE)))
        wait_for(lambda: connection.buffered_amount > 0)
        stream = bytearray()
        while len(stream) < LARGE:
            stream += peer.recv(2**16)
        assert sender.end() is None
        (row,), rest = wire.parse(bytes(stream))
        assert (row.payload, rest) == (bytes(LARGE), b"")


def test_a_timeout_of_the_kernel_is_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    with connected() as (connection, _):
        monkeypatch.setattr(KernelWire, "receive", fail)
        connection.socket.settimeout(0)
        error = Outcome(connection.recv).end()
        assert error is not None
        assert isinstance(error.__cause__, TimeoutError)


def fail(*_: object) -> None:
    raise TimeoutError(110, "Connection timed out")
