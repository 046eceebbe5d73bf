"""What becomes of costs when connections, or messages, get more or larger: ``python tests/bench/growth.py --help``.

Charter: an echo server in a process of its own, measured as the benchmark does it. First with ever more connections:
memory while they are idle, then CPU time a message while each sends one a second, spread evenly over time. Then with
ever larger messages on one connection.
"""

from __future__ import annotations

import argparse
import os
import socket
import statistics
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from bench.cases import Job, echo
from bench.children import processors
from bench.contenders import BARE, OURS, Contender
from bench.load import opened
from bench.measure import FIRST_IDLE, measure, settled, start, used_by, warm_up
from bench.streams import Poll, allow_many_files
from bench.wire import Traffic

CONTENDER = Contender(OURS, OURS, "websockets", sys.executable)
# What the kernel and the loop do with bytes: what grows there grows everywhere.
BELOW = Contender(BARE, "bare protocol", BARE, sys.executable)
SMALL = 256
MASK = bytes(4)


class Client:
    """A connection that sends messages and throws away what comes back."""

    def __init__(self, sock: socket.socket, poll: Poll) -> None:
        self.sock = sock
        self.received = 0
        poll.selector.register(sock, 1, self)

    def on_readable(self) -> None:
        self.received += len(self.sock.recv(2**16))


def pace(clients: list[Client], poll: Poll, seconds: float) -> int:
    """Have each client send a message a second, one after another, until all are answered; returns how many."""
    message = Traffic(echo("server", SMALL), MASK).frames[0]
    step, count = 1 / len(clients), int(len(clients) * seconds)
    wanted = sum(client.received for client in clients) + count * (len(message) - len(MASK))
    begun, sent = time.monotonic(), 0
    while sent < count or sum(client.received for client in clients) < wanted:
        if sent < count and time.monotonic() - begun >= sent * step:
            clients[sent % len(clients)].sock.sendall(message)
            sent += 1
            continue
        left = begun + sent * step - time.monotonic() if sent < count else 1
        for key, _ in poll.selector.select(max(left, 0)):
            key.data.on_readable()
    return count


def connections(count: int, seconds: float) -> tuple[float, float]:
    """The memory of a connection in KiB, and the CPU time of a message in microseconds."""
    case = echo("server", SMALL, connections=count)
    with start("servers", CONTENDER, Job(case)) as server:
        job, poll = Job(case, port=server.answer()["port"]), Poll()
        first = [opened(job) for _ in range(FIRST_IDLE)]
        before = settled(server)
        clients = [Client(opened(job), poll) for _ in range(count)]
        memory = (settled(server) - before) / count
        pace(clients, poll, max(warm_up(seconds), 1))
        cpu = used_by(server)
        sent = pace(clients, poll, seconds)
        cpu = (used_by(server) - cpu) / sent * 1e6
        for sock in (*first, *(client.sock for client in clients)):
            sock.close()
    return memory, cpu


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--connections", type=int, nargs="*", default=[100, 1000, 10_000])
    parser.add_argument("--exponents", type=int, nargs="*", default=list(range(10, 25, 2)), help="sizes, powers of 2")
    parser.add_argument("--seconds", type=float, default=5, help="how long each is measured")
    parser.add_argument("--rounds", type=int, default=3, help="measurements of each size, whose median counts")
    options = parser.parse_args()
    allow_many_files()
    if (mine := processors()[1]) is not None:
        os.sched_setaffinity(0, {mine})
    print("| connections | memory of one, KiB | CPU of a message, us |\n| ---: | ---: | ---: |")
    for count in options.connections:
        memory, cpu = connections(count, options.seconds)
        print(f"| {count:,} | {memory:.2f} | {cpu:.1f} |", flush=True)
    print("\n| size, KiB | CPU of a message, us | of a KiB, us | of a KiB, without a library |")
    print("| ---: | ---: | ---: | ---: |")
    for exponent in options.exponents:
        case, size = echo("server", 2**exponent), 2 ** (exponent - 10)
        cost, below = (
            statistics.median(
                measure(contender, case, "asyncio", options.seconds / 5, sys.executable).cost
                for _ in range(options.rounds)
            )
            for contender in (CONTENDER, BELOW)
        )
        print(f"| {size:,} | {cost:,.1f} | {cost / size:.2f} | {below / size:.2f} |", flush=True)


if __name__ == "__main__":
    main()
