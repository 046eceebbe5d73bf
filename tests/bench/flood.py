"""What a client that sends as much as it can costs the others: ``python tests/bench/flood.py --help``.

Charter: one server that echoes, a client that measures round trips, and one that floods, each in a process of its own.
Short turns without the flood, with it, and both with ``max_rate`` follow each other, so that all figures are of the
same minutes of the same machine; each round begins with another of them. The round trips of all rounds are pooled. What
the flood costs is the ratio to the turns without it that have the same options.
"""

from __future__ import annotations

import argparse
import asyncio
import multiprocessing
import select
import socket
import statistics
import time
from importlib import import_module
from multiprocessing.connection import Connection as Pipe
from typing import Any

from websockets.asyncio.server import ServerConnection, serve

# A script, like this one, in the same folder.
slow_clients: Any = import_module("slow_clients")

# Masked text frames of four bytes; the mask is zero, which costs the server the same.
TINY = b"\x81\x84\x00\x00\x00\x00tiny"
ASKED = b"\x81\x84\x00\x00\x00\x00ping"
ANSWER = b"\x81\x04ping"


def flood(port: int, seconds: float, pipe: Pipe) -> None:
    """Send as much as the socket takes, until somebody says that it is enough, or has gone."""
    sock = slow_clients.open_client(port)
    sock.setblocking(False)
    # The kernel takes it as it is: this reaches millions of messages a second where nothing holds it up.
    data, sent = memoryview(TINY * 20_000), 0
    pipe.send("ready")
    began = time.monotonic()
    while not select.select([pipe], [], [], 0)[0]:
        if select.select([pipe], [sock], [], seconds)[1]:
            # A part of a frame must be followed by the rest of it.
            sent += sock.send(data[sent % len(TINY) :])
    pipe.send(sent / len(TINY) / (time.monotonic() - began))
    sock.close()


def ask(port: int, seconds: float, pipe: Pipe) -> None:
    """Measure round trips, one after the other, in seconds."""
    sock = slow_clients.open_client(port)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    pipe.send("ready")
    trips: list[float] = []
    until = time.monotonic() + seconds
    while (before := time.monotonic()) < until:
        sock.sendall(ASKED)
        answer = b""
        while len(answer) < len(ANSWER):
            answer += sock.recv(len(ANSWER) - len(answer))
        trips.append(time.monotonic() - before)
        time.sleep(0.004)  # slower than the limit
    pipe.send(trips)
    sock.close()


async def turn(seconds: float, floods: bool, limits: dict[str, Any]) -> tuple[list[float], float]:
    """Round trips, and the messages of the flood in a second."""

    async def handler(connection: ServerConnection) -> None:
        async for message in connection:
            if message == "ping":
                await connection.send(message)

    options: dict[str, Any] = {"compression": None, "ping_interval": None, "close_timeout": 0.1, **limits}
    async with serve(handler, "127.0.0.1", 0, **options) as server:
        port = server.sockets[0].getsockname()[1]
        pipes = []
        for function in (flood, ask) if floods else (ask,):
            mine, theirs = multiprocessing.Pipe()
            context = multiprocessing.get_context("spawn")
            context.Process(target=function, args=(port, seconds, theirs), daemon=True).start()
            await asyncio.to_thread(mine.recv)
            pipes.append(mine)
        *flooding, asking = pipes
        trips = await asyncio.to_thread(asking.recv)
        rate = 0.0
        for pipe in flooding:
            pipe.send("enough")
            rate += await asyncio.to_thread(pipe.recv)
    return trips, rate


def at(values: list[float], percent: int) -> float:
    """A percentile."""
    return sorted(values)[len(values) * percent // 100]


def rotated(ways: list[str], number: int) -> list[str]:
    """The ways in the order of a round."""
    first = number % len(ways)
    return ways[first:] + ways[:first]


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=2, help="of a turn")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--rate", type=int, default=500, help="of max_rate")
    options = parser.parse_args()
    limits: dict[str, dict[str, Any]] = {"": {}, ", max_rate": {"max_rate": (options.rate, options.rate)}}
    ways = {f"{what}{limit}": (what == "flood", limit) for limit in limits for what in ("no flood", "flood")}
    trips: dict[str, list[float]] = {way: [] for way in ways}
    rates: dict[str, list[float]] = {way: [] for way in ways}
    for number in range(options.rounds):
        for way in rotated([*ways], number):
            floods, limit = ways[way]
            found, rate = asyncio.run(turn(options.seconds, floods, limits[limit]))
            trips[way] += found
            rates[way].append(rate)
    for way, (_, limit) in ways.items():
        middle, end, base = at(trips[way], 50), at(trips[way], 99), at(trips[f"no flood{limit}"], 99)
        print(
            f"{way:20} {statistics.median(rates[way]):9,.0f} messages/s; {len(trips[way]):6} round trips: median "
            f"{middle * 1e6:6.0f} µs, 99 % {end * 1e6:6.0f} µs, {end / base:.2f} times no flood{limit}"
        )


if __name__ == "__main__":
    main()
