"""What clients that don't read cost the others: ``python tests/bench/slow_clients.py --help``.

Charter: measures broadcasts with ``on_slow="skip"`` over real sockets, from the call until the last client has the
message, with all clients reading and with some that don't, in turn; and the memory of the server. The clients are in a
process of their own and speak raw bytes; nothing is compressed.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import logging
import multiprocessing
import os
import resource
import select
import socket
import statistics
import struct
import time
from multiprocessing.connection import Connection as Pipe

from websockets.asyncio.server import Server, ServerConnection, broadcast, serve

SIZE = 1024
# In the kernel, on either side, so that not all the messages of a run find a place there.
ROOM = 2**14
STAMP = struct.Struct("d")
REQUEST = (
    "GET / HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {}\r\n\r\n"
)


def open_client(port: int, room: int | None = None) -> socket.socket:
    """A connection after its opening handshake; the kernel has that much room for what it doesn't read."""
    sock = socket.socket()
    if room is not None:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, room)
    sock.connect(("127.0.0.1", port))
    sock.sendall(REQUEST.format(base64.b64encode(os.urandom(16)).decode()).encode())
    head = b""
    while b"\r\n\r\n" not in head:
        head += sock.recv(1)
    return sock


def read_all(port: int, reading: int, silent: int, pipe: Pipe) -> None:
    """Open clients, then report how old each message is when a client has all of it, in seconds."""
    silent_ones = [open_client(port, ROOM) for _ in range(silent)]
    clients = {sock.fileno(): (sock, bytearray()) for sock in (open_client(port) for _ in range(reading))}
    poll = select.epoll()
    for number in clients:
        poll.register(number, select.EPOLLIN)
    pipe.send("ready")
    ages: list[float] = []
    frame = 4 + SIZE
    while clients:
        for number, _ in poll.poll():
            sock, data = clients[number]
            more = sock.recv(2**16)
            if not more:
                poll.unregister(number)
                del clients[number]
                continue
            data += more
            while len(data) >= frame:
                ages.append(time.monotonic() - STAMP.unpack_from(data, 4)[0])
                del data[:frame]
    pipe.send(ages)
    for sock in silent_ones:
        sock.close()


async def measure(reading: int, silent: int, count: int, interval: float) -> tuple[float, float, int, int]:
    """The median and the 99th percentile of the ages in ms, bytes that wait for silent clients, messages skipped."""

    async def handler(connection: ServerConnection) -> None:
        connection.transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, ROOM)
        await connection.wait_closed()

    async with serve(handler, "127.0.0.1", 0, compression=None, ping_interval=None, close_timeout=0.1) as server:
        mine, theirs = multiprocessing.Pipe()
        (listening,) = server.sockets
        port = listening.getsockname()[1]
        process = multiprocessing.get_context("spawn").Process(target=read_all, args=(port, reading, silent, theirs))
        process.start()
        await asyncio.to_thread(mine.recv)
        await send(server, count, interval)
        waiting = sum(connection.buffered_amount for connection in server.connections)
        skipped = sum(connection.statistics.skipped for connection in server.connections)
        server.close()
        ages = await asyncio.to_thread(mine.recv)
        await asyncio.to_thread(process.join)
    ages.sort()
    return statistics.median(ages) * 1000, ages[len(ages) * 99 // 100] * 1000, waiting, skipped


async def send(server: Server, count: int, interval: float) -> None:
    """Broadcast so many messages that tell when they were sent."""
    rest = bytes(SIZE - STAMP.size)
    for _ in range(count):
        broadcast(server.connections, STAMP.pack(time.monotonic()) + rest, on_slow="skip")
        await asyncio.sleep(interval)


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--clients", type=int, default=1000)
    parser.add_argument("--silent", type=int, default=50, help="how many of them don't read")
    parser.add_argument("--messages", type=int, default=500)
    parser.add_argument("--interval", type=float, default=0.03, help="seconds between two messages")
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    logging.getLogger("websockets").setLevel(logging.ERROR)  # each client that is skipped is a line
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    reading = options.clients - options.silent
    medians: dict[int, list[float]] = {0: [], options.silent: []}
    for _ in range(options.rounds):
        for silent in medians:
            median, late, waiting, skipped = asyncio.run(measure(reading, silent, options.messages, options.interval))
            medians[silent].append(median)
            print(
                f"{reading} clients read, {silent} don't: median {median:.1f} ms, 99 % {late:.1f} ms; "
                f"{waiting / 1024:.0f} KiB wait, {skipped} messages skipped",
                flush=True,
            )
    before, after = (statistics.median(values) for values in medians.values())
    print(f"with those that don't read, {after / before:.2f} times the latency without them")


if __name__ == "__main__":
    main()
