"""Stress: connections whose threads are switched as often as possible, or which signal handlers interrupt at random;
no message is lost, doubled or reordered.

Charter: real sockets and real threads. ``WEBSOCKETS_STRESS`` multiplies the messages; how many there were is printed.
334 make it 100,000 for each connection.
"""

from __future__ import annotations

import contextlib
import os
import random
import signal
import socket
import sys
import threading
import time
import traceback
from typing import Any

import pytest

from _kit.platforms import needs_signals
from websockets.exceptions import ConnectionClosedError
from websockets.protocol import Protocol, Side
from websockets.sync.connection import Connection

#: Messages of each connection.
MESSAGES = 300 * int(os.environ.get("WEBSOCKETS_STRESS", "1"))

CONNECTIONS = 8
SENDERS = 2

#: Signals that interrupt a connection.
SIGNALS = 300 * int(os.environ.get("WEBSOCKETS_STRESS", "1"))

#: Seconds of real time that an end may take on a busy machine.
PATIENCE = 60


def start(function: Any, *args: Any) -> threading.Thread:
    thread = threading.Thread(target=function, args=args, daemon=True)
    thread.start()
    return thread


def echo(connection: Connection) -> None:
    for message in connection:
        connection.send(message)


def send_numbered(connection: Connection, sender: int) -> None:
    for count in range(MESSAGES // SENDERS):
        connection.send(f"{sender}:{count}")


def receive_numbered(connection: Connection, chance: random.Random) -> None:
    """Receive what two threads sent, which comes back in the order of each."""
    following = [0] * SENDERS
    for count in range(MESSAGES // SENDERS * SENDERS):
        message = connection.recv(timeout=PATIENCE)
        sender, received = map(int, str(message).split(":"))
        assert received == following[sender], f"{received} in place of {following[sender]}, of sender {sender}"
        following[sender] += 1
        if count % 97 == 0:
            time.sleep(chance.random() * 0.1)


def converse(number: int, failures: list[str]) -> None:
    one, other = socket.socketpair()
    # The peers are alive, but a busy machine may give one of them no turn for long.
    patient = {"ping_timeout": 2 * PATIENCE, "close_timeout": PATIENCE}
    client = Connection(one, Protocol(Side.CLIENT), **patient)
    server = Connection(other, Protocol(Side.SERVER), **patient)
    threads = [start(echo, server), *(start(send_numbered, client, sender) for sender in range(SENDERS))]
    try:
        receive_numbered(client, random.Random(number))
        client.close()
        for thread in threads:
            thread.join(PATIENCE)
            assert not thread.is_alive()
        assert (client.close_code, server.close_code) == (1000, 1000)
        received = client.statistics.messages_received, server.statistics.messages_received
        assert received == (MESSAGES // SENDERS * SENDERS,) * 2
    except BaseException:
        failures.append(f"connection {number}: {client!r} {server!r}\n{traceback.format_exc()}")
    finally:
        client.abort()
        server.abort()


@pytest.mark.scenario(79)
def test_nothing_is_lost_doubled_or_reordered() -> None:
    failures: list[str] = []
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        conversations = [start(converse, number, failures) for number in range(CONNECTIONS)]
        for thread in conversations:
            thread.join()
    finally:
        sys.setswitchinterval(before)
    print(f"{CONNECTIONS} connections, {MESSAGES} messages each, in rounds between {SENDERS} senders and an echo")
    assert not failures, "\n".join(failures)


class Interrupted(BaseException):
    """What a signal handler raises."""


class Interruptions:
    """A timer whose signal handler raises an exception at a random time, while it is armed."""

    def __init__(self) -> None:
        self.chance = random.Random(5)
        self.left = SIGNALS
        self.armed = False

    def __call__(self, *_: object) -> None:
        if self.armed:
            self.armed = False
            self.left -= 1
            raise Interrupted

    def arm(self) -> None:
        self.armed = True
        signal.setitimer(signal.ITIMER_REAL, 1e-6 + self.chance.random() * 3e-4)


def ask_until_interrupted(
    interruptions: Interruptions, client: Connection, asked: list[int], answers: list[Any], timeout: float | None
) -> None:
    """Send numbers, and receive them."""
    answer: Any = None
    try:
        interruptions.arm()
        # A condition here would be outside of "try" in the end, for Python 3.13.
        while True:
            if not interruptions.armed:
                # An exception that comes in a callback of a weak reference is lost.
                break
            asked.append(len(asked))
            client.send(str(asked[-1]))
            answer = client.recv(timeout)
            answers += (answer,)
            answer = None
    except (Interrupted, RuntimeError) as exc:
        # In one place, Condition.wait() of Python doesn't take its lock again. Whoever releases the lock then says so.
        if isinstance(exc, RuntimeError) and str(exc) != "cannot release un-acquired lock":
            raise
        if answer is not None:
            answers.append(answer)


def converse_with_interruptions(interruptions: Interruptions, timeout: float | None) -> None:
    """Until the connection ends by an interruption, each number that arrived comes back once, in order."""
    one, other = socket.socketpair()
    client = Connection(one, Protocol(Side.CLIENT))
    server = Connection(other, Protocol(Side.SERVER))
    seen: list[Any] = []

    def answer() -> None:
        with contextlib.suppress(ConnectionClosedError):
            for message in server:
                seen.append(message)
                server.send(message)

    thread = start(answer)
    asked: list[int] = []
    answers: list[Any] = []
    try:
        while interruptions.left:
            ask_until_interrupted(interruptions, client, asked, answers, timeout)
        client.send("end")
        while "end" not in answers:
            answers.append(client.recv(timeout=PATIENCE))
        assert answers == seen
        client.close()
    except ConnectionClosedError as closed:
        interruptions.armed = False
        cause = str(closed.__cause__)
    else:
        cause = "interrupted by Interrupted"
    finally:
        interruptions.armed = False
        client.abort()
        server.abort()
        thread.join(PATIENCE)
    assert cause == "interrupted by Interrupted"
    assert answers == seen[: len(answers)]
    numbers = [int(number) for number in seen if number != "end"]
    assert numbers == sorted(set(numbers))


@needs_signals
# In a callback of a weak reference or of the garbage collector, Python just tells of the exception, and goes on.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("timeout", [None, PATIENCE])
def test_signal_handlers_that_raise(timeout: float | None) -> None:
    if "coverage" in sys.modules or sys.gettrace() is not None:
        pytest.skip("a tracer lets signal handlers run at more places than the interpreter does")
    interruptions = Interruptions()
    before = signal.signal(signal.SIGALRM, interruptions)
    try:
        while interruptions.left:
            converse_with_interruptions(interruptions, timeout)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
