"""What one message to many costs for each of them: ``python tests/bench/prepared.py --help``.

Charter: compares ``send`` of a message, ``send`` of a ``PreparedMessage``, ``broadcast``, and for messages that aren't
compressed the system call that all of them make, by the CPU time of the server's process, over real sockets whose other
ends read and throw away. Each round does all of them in turn.
"""

from __future__ import annotations

import argparse
import asyncio
import functools
import json
import multiprocessing
import os
import select
import socket
import statistics
import time
from collections.abc import Awaitable, Callable
from multiprocessing.connection import Connection as Pipe

from websockets import PreparedMessage
from websockets.asyncio.server import ServerConnection, broadcast, serve
from websockets.frames import Frame, Opcode

REQUEST = (
    "GET / HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
    "Sec-WebSocket-Key: c29tZSBzaXh0ZWVuIGJ5dA==\r\nSec-WebSocket-Extensions: {}\r\n\r\n"
)

Send = Callable[[list[ServerConnection], str], Awaitable[None]]


async def each(connections: list[ServerConnection], message: str) -> None:
    for connection in connections:
        await connection.send(message)


async def prepared(connections: list[ServerConnection], message: str) -> None:
    once = PreparedMessage(message)
    for connection in connections:
        await connection.send(once)


async def everybody(connections: list[ServerConnection], message: str) -> None:
    broadcast(connections, message)


async def everybody_prepared(connections: list[ServerConnection], message: str) -> None:
    broadcast(connections, PreparedMessage(message))


@functools.cache
def descriptor(connection: ServerConnection) -> int:
    number: int = connection.transport.get_extra_info("socket").fileno()
    return number


async def kernel(connections: list[ServerConnection], message: str) -> None:
    frame = Frame(Opcode.TEXT, message.encode()).serialize(mask=False)
    for connection in connections:
        os.write(descriptor(connection), frame)


WAYS: dict[str, Send] = {
    "send": each,
    "send prepared": prepared,
    "broadcast": everybody,
    "broadcast prepared": everybody_prepared,
    "system call": kernel,
}


def text(name: str, size: int) -> str:
    """JSON of so many characters."""
    rows = [{"id": number, "name": f"{name} {number * 7919 % 1000}", "price": number * 1.37} for number in range(size)]
    return json.dumps(rows, ensure_ascii=False)[:size]


MESSAGES = {
    "100 B": text("user", 100),
    "1 KB": text("user", 2**10),
    "1 KB, not only ASCII": text("usér", 2**10),
    "16 KB": text("user", 2**14),
    "16 KB, not only ASCII": text("usér", 2**14),
}


def throw_away(port: int, count: int, deflate: bool, pipe: Pipe) -> None:
    """Open so many clients and read what they get, until all are closed."""
    poll, clients = select.epoll(), {}
    for _ in range(count):
        sock = socket.create_connection(("127.0.0.1", port))
        sock.sendall(REQUEST.format("permessage-deflate" if deflate else "x-none").encode())
        head = b""
        while b"\r\n\r\n" not in head:
            head += sock.recv(1)
        clients[sock.fileno()] = sock
        poll.register(sock.fileno(), select.EPOLLIN)
    pipe.send("ready")
    buffer = bytearray(2**20)
    while clients:
        for number, _ in poll.poll():
            if not clients[number].recv_into(buffer):
                poll.unregister(number)
                clients.pop(number).close()


async def timed(send: Send, connections: list[ServerConnection], message: str, times: int) -> float:
    """CPU time of a recipient, in microseconds."""
    start = time.process_time()
    for _ in range(times):
        await send(connections, message)
        # Broadcasts that follow each other closely would share writes.
        await asyncio.sleep(0.002)
    return (time.process_time() - start) / times / len(connections) * 1e6


async def measure(count: int, rounds: int, deflate: bool) -> None:
    """Measure all messages, and print a line for each."""

    async def handler(connection: ServerConnection) -> None:
        await connection.wait_closed()

    compression = "deflate" if deflate else None
    async with serve(handler, "127.0.0.1", 0, compression=compression, ping_interval=None, close_timeout=1) as server:
        mine, theirs = multiprocessing.Pipe()
        (listening,) = server.sockets
        arguments = listening.getsockname()[1], count, deflate, theirs
        multiprocessing.get_context("spawn").Process(target=throw_away, args=arguments, daemon=True).start()
        await asyncio.to_thread(mine.recv)
        connections = list(server.connections)
        for name, message in MESSAGES.items():
            times = 30 if len(message) < 5000 else 10
            ways = {way: send for way, send in WAYS.items() if send is not kernel or not deflate}
            figures: dict[str, list[float]] = {way: [] for way in ways}
            for _ in range(rounds):
                for way, send in ways.items():
                    figures[way].append(await timed(send, connections, message, times))
            medians = {way: statistics.median(values) for way, values in figures.items()}
            print(f"| {'compressed' if deflate else 'plain'}, {name} |", end="")
            for way in WAYS:
                cell = f"{medians[way]:.1f} ({medians[way] / medians['send']:.2f})" if way in ways else "–"
                print(f" {cell} |", end="")
            print(flush=True)
        server.close(timeout=0.5)


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--clients", type=int, default=100)
    parser.add_argument("--rounds", type=int, default=7)
    options = parser.parse_args()
    print("CPU microseconds a recipient; in parentheses the ratio to send\n")
    print(f"| | {' | '.join(WAYS)} |\n| --- |{' ---: |' * len(WAYS)}")
    for deflate in (False, True):
        asyncio.run(measure(options.clients, options.rounds, deflate))


if __name__ == "__main__":
    main()
