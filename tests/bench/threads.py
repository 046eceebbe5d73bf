"""What several loops in threads of one process get done together: ``python tests/bench/threads.py --help``.

Charter: each thread has a loop with a server and a client of its own, which echo; the messages of all of them are
counted. Some are shared by all threads. With a GIL, more threads do no more than one; without it, as much more as there
are processors.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import sys
import threading
import time

from websockets import PreparedMessage
from websockets.asyncio.client import connect
from websockets.asyncio.server import ServerConnection, broadcast, serve

SHARED = [(text, PreparedMessage(text)) for text in ("é", "a" * 1000, "é" * 50_000)]
DEPTH = 20
EACH = 2 + DEPTH  # messages of a round


async def echo(connection: ServerConnection) -> None:
    async for message in connection:
        await connection.send(message)


async def talk(rounds: int, compression: str | None) -> None:
    """Exchange messages: a shared one, several in flight, and a broadcast."""
    async with serve(echo, "127.0.0.1", 0, compression=compression) as server:
        (listening,) = server.sockets
        uri = f"ws://127.0.0.1:{listening.getsockname()[1]}/"
        async with connect(uri, proxy=None, compression=compression) as client:
            for number in range(rounds):
                whole, shared = SHARED[number % len(SHARED)]
                await client.send(shared)
                assert await client.recv() == whole
                texts = [f"message {number} {place}" for place in range(DEPTH)]
                for text in texts:
                    await client.send(text)
                for text in texts:
                    assert await client.recv() == text
                broadcast(server.connections, shared)
                assert await client.recv() == whole


def rate(threads: int, rounds: int, compression: str | None) -> float:
    """Messages a second, there and back, in so many threads."""
    failures: list[BaseException] = []

    def run() -> None:
        try:
            asyncio.run(talk(rounds, compression))
        except BaseException as exc:
            failures.append(exc)

    running = [threading.Thread(target=run) for _ in range(threads)]
    start = time.perf_counter()
    for thread in running:
        thread.start()
    for thread in running:
        thread.join()
    if failures:
        raise failures[0]
    return threads * rounds * EACH / (time.perf_counter() - start)


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", type=int, nargs="*", default=[1, 2, 4])
    parser.add_argument("--exchanges", type=int, default=1000, help=f"rounds of {EACH} messages in each thread")
    parser.add_argument("--repeat", type=int, default=3, help="measurements, whose median counts")
    options = parser.parse_args()
    # Releases before 3.13 have a GIL, and nothing to ask.
    gil = getattr(sys, "_is_gil_enabled", lambda: True)()
    print(f"Python {sys.version.split()[0]}, {'with' if gil else 'without'} the GIL: thousands of messages a second\n")
    print(f"| threads | {' | '.join(map(str, options.threads))} |\n| --- |{' ---: |' * len(options.threads)}")
    for compression in (None, "deflate"):
        cells = [
            statistics.median(rate(count, options.exchanges, compression) for _ in range(options.repeat))
            for count in options.threads
        ]
        print(f"| {compression or 'plain'} | {' | '.join(f'{cell / 1000:.0f}' for cell in cells)} |", flush=True)


if __name__ == "__main__":
    main()
