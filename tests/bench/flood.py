"""What a client that sends as much as it can costs the others: ``python tests/bench/flood.py --help``.

Charter: one server that echoes, a client that measures round trips, and one that floods, each in a process of its own.
Short turns without the flood, with it, and with it and ``max_rate`` follow each other, so that all figures are of the
same minutes of the same machine.
"""

from __future__ import annotations

import argparse
import asyncio
import multiprocessing
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
    """Send as much as the socket takes."""
    sock = slow_clients.open_client(port)
    sock.setblocking(False)
    pipe.send("ready")
    sent, data, until = 0, TINY * 20_000, time.monotonic() + seconds
    while time.monotonic() < until:
        try:
            # A part of a frame must be followed by the rest of it.
            sent += sock.send(data[sent % len(TINY) :])
        except BlockingIOError:
            time.sleep(0.0005)
    pipe.send(sent / len(TINY) / seconds)
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
        *rates, trips = [await asyncio.to_thread(pipe.recv) for pipe in pipes]
    return trips, sum(rates)


def late(values: list[float]) -> float:
    """The 99th percentile."""
    return sorted(values)[len(values) * 99 // 100]


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=2, help="of a turn")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--rate", type=int, default=500, help="of max_rate")
    options = parser.parse_args()
    ways: dict[str, tuple[bool, dict[str, Any]]] = {
        "no flood": (False, {}),
        "no flood, max_rate": (False, {"max_rate": (options.rate, options.rate)}),
        "flood, max_rate": (True, {"max_rate": (options.rate, options.rate)}),
        "flood": (True, {}),
    }
    trips: dict[str, list[list[float]]] = {way: [] for way in ways}
    rates: dict[str, list[float]] = {way: [] for way in ways}
    for _ in range(options.rounds):
        for way, (floods, limits) in ways.items():
            found, rate = asyncio.run(turn(options.seconds, floods, limits))
            trips[way].append(found)
            rates[way].append(rate)
    base = statistics.median(late(each) for each in trips["no flood"])
    for way, turns in trips.items():
        middle = statistics.median(statistics.median(each) for each in turns)
        end = statistics.median(late(each) for each in turns)
        print(
            f"{way:20} {statistics.median(rates[way]):9,.0f} messages/s; round trips: median {middle * 1e6:6.0f} µs, "
            f"99 % {end * 1e6:6.0f} µs, {end / base:.2f} times"
        )


if __name__ == "__main__":
    main()
