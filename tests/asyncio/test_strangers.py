"""Stress: sockets are closed, detached and opened again at random, between sends; strangers' sockets stay silent.

Charter: real sockets of the kernel, where numbers of descriptors are used again. ``WEBSOCKETS_STRESS`` multiplies the
rounds; how many there were is printed.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import socket
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

from websockets.asyncio.client import ClientConnection
from websockets.asyncio.server import broadcast
from websockets.client import ClientProtocol
from websockets.exceptions import ConnectionClosed
from websockets.protocol import State
from websockets.uri import parse_uri

ROUNDS = int(os.environ.get("WEBSOCKETS_STRESS", "1"))

# Others may run while the kernel takes what is larger, as with sock.send().
UNDIVIDED = 2**14


class Strangers:
    """Pairs of sockets that get whatever numbers are free."""

    def __init__(self) -> None:
        self.pairs: list[tuple[socket.socket, socket.socket]] = []

    def open(self, count: int) -> None:
        self.pairs += [socket.socketpair() for _ in range(count)]

    def close(self) -> None:
        """Close them; none of them must have got anything."""
        for sock in (sock for pair in self.pairs for sock in pair):
            sock.setblocking(False)
            try:
                got = sock.recv(2**16)
            except BlockingIOError:
                continue
            raise AssertionError(f"a stranger got {got!r}")
        for pair in self.pairs:
            for sock in pair:
                sock.close()
        self.pairs.clear()


async def connected(sock: socket.socket) -> Any:
    """A client's connection on a socket, without its opening handshake."""
    protocol = ClientProtocol(parse_uri("ws://localhost/"), state=State.OPEN)
    loop = asyncio.get_running_loop()
    _, connection = await loop.create_connection(lambda: ClientConnection(protocol, ping_interval=None), sock=sock)
    connection._ws_choose_path()
    return connection


async def send(connection: Any, size: int) -> None:
    await connection.send(bytes(size))


async def broadcast_to(connection: Any, size: int) -> None:
    broadcast([connection], bytes(size))


async def ping(connection: Any, size: int) -> None:
    await connection.ping()


async def close(connection: Any, size: int) -> None:
    connection._ws_start_closing(1000)


SENDS = [send, send, send, broadcast_to, ping, close]
ENDS: list[Callable[[Any, socket.socket], object]] = [
    lambda connection, sock: sock.close(),
    lambda connection, sock: os.close(number) if (number := sock.detach()) >= 0 else None,
    lambda connection, sock: connection.transport.close(),
    lambda connection, sock: connection.transport.abort(),
    lambda connection, sock: connection.transport.__del__(),
    lambda connection, sock: None,
]


async def act(step: Any, connection: Any, size: int) -> None:
    """Send something, and have it go on without waiting for anybody."""
    task = asyncio.ensure_future(step(connection, size))
    await asyncio.sleep(0)
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError, ConnectionClosed, OSError, RuntimeError, AttributeError):
        await task


async def one_round(chance: random.Random) -> int:
    """Some connections, some of which lose their sockets; return how often something was sent."""
    # asyncio complains of sockets that are closed behind its back; here that is no news.
    asyncio.get_running_loop().set_exception_handler(lambda loop, context: None)
    strangers, sends = Strangers(), 0
    pairs = [socket.socketpair() for _ in range(chance.randint(1, 4))]
    connections = [(await connected(ours), ours) for ours, _ in pairs]
    for _ in range(chance.randint(2, 12)):
        connection, ours = chance.choice(connections)
        if chance.random() < 0.3:
            with contextlib.suppress(OSError, AttributeError, TypeError, ResourceWarning):
                chance.choice(ENDS)(connection, ours)
            strangers.open(chance.randint(0, 3))
        size = chance.choice([0, 100, 3000, 20_000, 300_000])
        sends += 1
        await act(chance.choice(SENDS), connection, size)
        if chance.random() < 0.3:
            with contextlib.suppress(OSError):
                chance.choice(pairs)[1].recv(2**18, socket.MSG_DONTWAIT)
    for connection, ours in connections:
        abort(connection)
        ours.close()
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    for _, theirs in pairs:
        theirs.close()
    strangers.close()
    return sends


def abort(connection: Any) -> None:
    """asyncio stumbles if what it watched was closed behind its back."""
    with contextlib.suppress(OSError, AttributeError):
        connection.transport.abort()


@pytest.mark.filterwarnings("ignore::ResourceWarning")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_strangers_stay_silent() -> None:
    chance = random.Random(1)
    # A loop for each: asyncio remembers numbers.
    sends = sum(asyncio.run(one_round(chance)) for _ in range(150 * ROUNDS))
    print(f"{150 * ROUNDS} rounds, {sends} sends")
    assert sends > 500


class Closer(threading.Thread):
    """A thread that closes sockets at any moment, and opens others, which may get their numbers."""

    def __init__(self, socks: list[socket.socket], strangers: Strangers, chance: random.Random) -> None:
        super().__init__()
        self.socks, self.strangers, self.chance = socks, strangers, chance

    def run(self) -> None:
        for sock in self.socks:
            end = time.perf_counter() + self.chance.random() * 0.001
            while time.perf_counter() < end:
                pass
            if self.chance.random() < 0.5:
                sock.close()
            else:
                number = sock.detach()
                if number >= 0:
                    os.close(number)
            self.strangers.open(1)


async def one_race(chance: random.Random) -> int:
    """Send on connections, whose sockets a thread closes; return how often something was sent."""
    asyncio.get_running_loop().set_exception_handler(lambda loop, context: None)
    strangers, sends = Strangers(), 0
    pairs = [socket.socketpair() for _ in range(6)]
    connections = [await connected(ours) for ours, _ in pairs]
    thread = Closer([ours for ours, _ in pairs], strangers, chance)
    thread.start()
    while thread.is_alive():
        for connection in connections:
            sends += 1
            with contextlib.suppress(ConnectionClosed, OSError, RuntimeError):
                connection._ws_send_now(bytes(chance.choice([10, 1000, UNDIVIDED - 14])), None)
    thread.join()
    for connection in connections:
        abort(connection)
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    for ours, theirs in pairs:
        ours.close()
        theirs.close()
    strangers.close()
    return sends


@pytest.mark.filterwarnings("ignore::ResourceWarning")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_strangers_stay_silent_while_a_thread_closes_sockets() -> None:
    """What is sent at once is sent while no other thread runs."""
    chance = random.Random(2)
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        sends = sum(asyncio.run(one_race(chance)) for _ in range(10 * ROUNDS))
    finally:
        sys.setswitchinterval(interval)
    print(f"{10 * ROUNDS} rounds, {sends} sends")
    assert sends > 60
