"""What a hub costs beside ``broadcast``, and what members that don't read cost the others.

``python tests/bench/hubs.py --help``. Charter: one server, and clients in a process of its own that speak raw bytes;
nothing is compressed. Two rooms have the same members, but in one of them are also some that don't read; messages go to
them, and by ``broadcast`` to the members, in turn. So all figures of a run are of the same seconds of the same machine.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import multiprocessing
import resource
import select
import socket
import statistics
import struct
import time
from collections.abc import Callable
from importlib import import_module
from multiprocessing.connection import Connection as Pipe
from typing import Any

from websockets.asyncio.server import ServerConnection, broadcast, serve
from websockets.rooms import Hub

# A script, like this one, in the same folder.
slow_clients: Any = import_module("slow_clients")

SIZE = 1024
# When a message was sent, and which one of the three it is.
STAMP = struct.Struct("dI")
WAYS = ("broadcast", "hub", "hub, some don't read")


def read_all(port: int, reading: int, silent: int, pipe: Pipe) -> None:
    """Open clients, those that don't read first; report the ages of all messages, in seconds, by their way."""
    silent_ones = [slow_clients.open_client(port, slow_clients.ROOM) for _ in range(silent)]
    clients = {sock.fileno(): (sock, bytearray()) for sock in (slow_clients.open_client(port) for _ in range(reading))}
    poll = select.epoll()
    for number in clients:
        poll.register(number, select.EPOLLIN)
    pipe.send("ready")
    ages: list[list[float]] = [[] for _ in WAYS]
    frame = 4 + SIZE
    while clients:
        for number, _ in poll.poll():
            sock, data = clients[number]
            more = sock.recv(2**16)
            now = time.monotonic()
            if not more:
                poll.unregister(number)
                del clients[number]
                continue
            data += more
            while len(data) >= frame:
                sent, way = STAMP.unpack_from(data, 4)
                ages[way].append(now - sent)
                del data[:frame]
    pipe.send(ages)
    for sock in silent_ones:
        sock.close()


async def measure(options: argparse.Namespace) -> tuple[list[list[float]], list[list[float]]]:
    """The ages of messages, and the CPU time of each call, by their way."""
    hub = Hub(on_slow=options.on_slow, max_buffered=options.max_buffered)
    entered: list[ServerConnection] = []

    async def handler(connection: ServerConnection) -> None:
        entered.append(connection)
        if len(entered) > options.silent:
            hub.join("all read", connection)
        else:
            connection.transport.get_extra_info("socket").setsockopt(
                socket.SOL_SOCKET, socket.SO_SNDBUF, slow_clients.ROOM
            )
        hub.join("some don't", connection)
        await connection.wait_closed()

    async with serve(handler, "127.0.0.1", 0, compression=None, ping_interval=None, close_timeout=0.1) as server:
        mine, theirs = multiprocessing.Pipe()
        port = server.sockets[0].getsockname()[1]
        arguments = port, options.members - options.silent, options.silent, theirs
        process = multiprocessing.get_context("spawn").Process(target=read_all, args=arguments)
        process.start()
        await asyncio.to_thread(mine.recv)
        members = entered[options.silent :]
        sending: list[Callable[[bytes], Any]] = [
            lambda message: broadcast(members, message, on_slow=options.on_slow, max_buffered=options.max_buffered),
            lambda message: hub.publish("all read", message),
            lambda message: hub.publish("some don't", message),
        ]
        spent: list[list[float]] = [[] for _ in WAYS]
        rest = bytes(SIZE - STAMP.size)
        for number in range(options.messages * len(WAYS)):
            # Each way follows each other one equally often.
            way = (number + number // len(WAYS)) % len(WAYS)
            before = time.process_time()
            sending[way](STAMP.pack(time.monotonic(), way) + rest)
            spent[way].append(time.process_time() - before)
            await asyncio.sleep(options.interval)
        server.close()
        ages = await asyncio.to_thread(mine.recv)
        await asyncio.to_thread(process.join)
    return ages, spent


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--members", type=int, default=10_000, help="each takes a descriptor in each of two processes")
    parser.add_argument("--silent", type=int, default=50, help="how many of them don't read")
    parser.add_argument("--messages", type=int, default=50, help="of each way")
    parser.add_argument("--interval", type=float, default=0.3, help="seconds between two messages")
    parser.add_argument("--on-slow", choices=["send", "skip", "close"], default="skip")
    parser.add_argument("--max-buffered", type=int, default=None)
    options = parser.parse_args()
    logging.getLogger("websockets").setLevel(logging.ERROR)  # each member that is skipped is a line
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    ages, spent = asyncio.run(measure(options))
    for way, its_ages, its_spent in zip(WAYS, ages, spent, strict=True):
        its_ages.sort()
        print(
            f"{way:22} median {statistics.median(its_ages) * 1000:7.1f} ms, "
            f"99 % {its_ages[len(its_ages) * 99 // 100] * 1000:7.1f} ms, "
            f"CPU of a call {statistics.median(its_spent) * 1000:6.1f} ms"
        )
    cost = statistics.median(spent[1]) / statistics.median(spent[0])
    slower = statistics.median(ages[2]) / statistics.median(ages[1])
    print(f"hub / broadcast, CPU: {cost:.2f}; others beside members that don't read, latency: {slower:.2f}")


if __name__ == "__main__":
    main()
