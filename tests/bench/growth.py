"""What becomes of costs when connections, or messages, get more or larger: ``python tests/bench/growth.py --help``.

Charter: an echo server in a process of its own, measured by the CPU time and the memory that the kernel accounts to it.
First with ever more connections: memory while they are idle, then CPU time a message while each sends one at a steady
pace, spread evenly over time. Then with ever larger messages on one connection: CPU time a message. Needs Linux.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import multiprocessing
import os
import resource
import select
import socket
import statistics
import time
from collections.abc import Callable
from multiprocessing.connection import Connection as Pipe
from pathlib import Path

from websockets.asyncio.server import ServerConnection, serve

REQUEST = (
    "GET / HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {}\r\n\r\n"
)
# Those that come before the first measurement fill what any process needs once.
FIRST = 100
SMALL = 256


async def answer(connection: ServerConnection) -> None:
    async for message in connection:
        await connection.send(message)


def run_server(pipe: Pipe) -> None:
    """Serve until the pipe closes."""

    async def main() -> None:
        async with serve(answer, "127.0.0.1", 0, compression=None, ping_interval=None, max_size=None) as server:
            (listening,) = server.sockets
            pipe.send(listening.getsockname()[1])
            await asyncio.to_thread(pipe.poll, None)

    asyncio.run(main())


class Measured:
    """The server's process."""

    def __enter__(self) -> Measured:
        self.pipe, theirs = multiprocessing.Pipe()
        self.process = multiprocessing.get_context("spawn").Process(target=run_server, args=(theirs,), daemon=True)
        self.process.start()
        self.port = self.pipe.recv()
        self.proc = Path(f"/proc/{self.process.pid}")
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.join()

    def cpu(self) -> float:
        """Seconds of CPU time."""
        return int((self.proc / "schedstat").read_text().split()[0]) / 1e9

    def memory(self) -> float:
        """KiB that are resident."""
        return int((self.proc / "statm").read_text().split()[1]) * resource.getpagesize() / 1024

    def open(self) -> socket.socket:
        sock = socket.create_connection(("127.0.0.1", self.port))
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.sendall(REQUEST.format(base64.b64encode(os.urandom(16)).decode()).encode())
        head = b""
        while b"\r\n\r\n" not in head:
            head += sock.recv(1)
        return sock


def frame(size: int) -> bytes:
    """A message of a client, 126 bytes or more, all zeros, with a mask of zeros."""
    length = b"\xfe" + size.to_bytes(2, "big") if size < 65536 else b"\xff" + size.to_bytes(8, "big")
    return b"\x82" + length + bytes(4 + size)


def answered(size: int) -> int:
    """How long the answer is, which has no mask."""
    return len(frame(size)) - 4


def pace(clients: list[socket.socket], seconds: float) -> None:
    """Have each client send a message a second, one after another, and read what comes back."""
    message, step = frame(SMALL), 1 / len(clients)
    poll = select.epoll()
    by_number = {sock.fileno(): sock for sock in clients}
    for number in by_number:
        poll.register(number, select.EPOLLIN)
    begun = time.monotonic()
    sent, count = 0, int(len(clients) * seconds)
    while sent < count:
        due = min(int((time.monotonic() - begun) / step) + 1, count)
        for number in range(sent, due):
            clients[number % len(clients)].sendall(message)
        sent = max(sent, due)
        for number, _ in poll.poll(max(begun + sent * step - time.monotonic(), 0)):
            by_number[number].recv(2**16)
    poll.close()


def connections(counts: list[int], seconds: float) -> None:
    """Print a line for each number of connections."""
    print("| connections | memory of one, KiB | CPU of a message, us |\n| ---: | ---: | ---: |")
    for count in counts:
        with Measured() as server:
            clients = [server.open() for _ in range(FIRST)]
            before = server.memory()
            clients += [server.open() for _ in range(count)]
            memory = (server.memory() - before) / count
            del clients[count:]
            pace(clients, min(seconds, 2))
            cpu = server.cpu()
            pace(clients, seconds)
            cpu = (server.cpu() - cpu) / int(count * seconds) * 1e6
        print(f"| {count:,} | {memory:.2f} | {cpu:.1f} |", flush=True)


def sizes(exponents: list[int], seconds: float, rounds: int) -> None:
    """Print a line for each size."""
    print("\n| size, KiB | CPU of a message, us | of a KiB, us |\n| ---: | ---: | ---: |")
    for size in (2**exponent for exponent in exponents):
        figures = [_echo(size, seconds) for _ in range(rounds)]
        cpu = statistics.median(figures)
        print(f"| {size >> 10:,} | {cpu:,.1f} | {cpu / (size >> 10):.2f} |", flush=True)


def _echo(size: int, seconds: float) -> float:
    message, whole, room = frame(size), answered(size), bytearray(2**20)

    def exchange() -> None:
        sent = left = 0
        sock.setblocking(False)
        left = whole
        while left:
            readable, writable, _ = select.select([sock], [sock] if sent < len(message) else [], [])
            if writable:
                sent += sock.send(memoryview(message)[sent : sent + 2**20])
            if readable:
                left -= sock.recv_into(room)

    with Measured() as server, server.open() as sock:
        _repeat(exchange, seconds / 5)
        cpu = server.cpu()
        times = _repeat(exchange, seconds)
        return (server.cpu() - cpu) / times * 1e6


def _repeat(action: Callable[[], None], seconds: float) -> int:
    end, times = time.monotonic() + seconds, 0
    while time.monotonic() < end or not times:
        action()
        times += 1
    return times


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--connections", type=int, nargs="*", default=[100, 1000, 10_000])
    parser.add_argument("--exponents", type=int, nargs="*", default=list(range(10, 25, 2)), help="sizes, powers of 2")
    parser.add_argument("--seconds", type=float, default=5, help="how long each is measured")
    parser.add_argument("--rounds", type=int, default=3, help="measurements of each size, whose median counts")
    options = parser.parse_args()
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    connections(options.connections, options.seconds)
    sizes(options.exponents, options.seconds / 5, options.rounds)


if __name__ == "__main__":
    main()
