"""The command ``websockets bench``: measure the throughput and the latency of an echo server.

May know: options, connections on asyncio, statistics, how results are reported. Must not know: the server.

The figures include this client, which runs in one process. The figures of two servers can be compared only if the
client is the same, and isn't the bottleneck.
"""

from __future__ import annotations

import argparse
import asyncio
import collections
import contextlib
import dataclasses
import logging
import os
import random
import string
import sys
import time
from collections.abc import AsyncIterator, Callable
from typing import Any

from ..asyncio.client import ClientConnection
from ..exceptions import InvalidURI
from ..typing import Data
from ._client import is_terminal, run, set_up_logs, standard_screen
from ._format import FORMATS, Display, Style, error_text
from ._latency import Latencies, drawn, histogram, milliseconds, number_of, summary, table
from ._screen import Screen
from ._status import ABNORMAL, HANDSHAKE, OK
from ._talk import FAILURES
from ._target import Target, asker, target_of, visible_uri

__all__ = ["Load", "Tally", "exchange", "measure", "payload", "report", "run_bench"]

# Seconds to wait at the end for missing answers.
PATIENCE = 10.0

# Seconds between two reports of progress.
PROGRESS = 0.2

# Maximum number of connections that are opening at the same time.
OPENING = 100


@dataclasses.dataclass(frozen=True)
class Load:
    """The load on the server.

    Parameters:
        connections: number of connections.
        depth: messages in flight on each.
        message: the message that is sent again and again.
        duration: seconds after which sending stops.
        count: number of messages after which sending stops; None for no limit.
    """

    connections: int
    depth: int
    message: Data
    duration: float
    count: int | None = None


class Tally:
    """Numbers of messages sent and received so far, on all connections.

    Parameters:
        count: maximum number of messages to send; None for no limit.
    """

    def __init__(self, count: int | None) -> None:
        self.left = count
        self.times = Latencies()
        self.failures: list[str] = []
        self.seconds = 0.0
        self.stopped = False

    def stop(self) -> None:
        """Stop sending more messages."""
        self.stopped = True

    def take(self) -> bool:
        """Return whether one more message may be sent; if so, count it."""
        if self.stopped or self.left == 0:
            return False
        if self.left is not None:
            self.left -= 1
        return True


def payload(size: int, binary: bool) -> Data:
    """Return a message of *size* bytes; it is always the same, and compression hardly makes it smaller."""
    source = random.Random(size)
    return source.randbytes(size) if binary else "".join(source.choices(string.ascii_letters + string.digits, k=size))


# ------------------------------------------------------------------------------------------------------------ measuring


async def exchange(
    connection: ClientConnection, load: Load, tally: Tally, clock: Callable[[], float] = time.perf_counter
) -> None:
    """Keep messages in flight on a connection, until no more may be sent and all answers have arrived.

    Raises:
        ConnectionClosed: the connection is closed before that.
        ValueError: an answer differs from the message.
    """
    message = load.message
    begun: collections.deque[float] = collections.deque()
    while len(begun) < load.depth and tally.take():
        begun.append(clock())
        await connection.send(message)
    while begun:
        answer = await connection.recv()
        now = clock()
        if answer != message:
            raise ValueError("the server doesn't send back what it receives")
        tally.times.add(now - begun.popleft())
        if tally.take():
            begun.append(clock())
            await connection.send(message)


@contextlib.asynccontextmanager
async def opened(target: Target, number: int) -> AsyncIterator[list[ClientConnection]]:
    """Open *number* connections, all or none, and close them at the end.

    Raises:
        OSError, WebSocketException, ValueError: as for ``connect``.
    """
    turn = asyncio.Semaphore(OPENING)

    async def open_one() -> ClientConnection:
        async with turn:
            # If reading pauses, the server could wait for this client while this client waits for the server.
            return await target.connect(max_queue=None)

    tasks = [asyncio.create_task(open_one()) for _ in range(number)]
    try:
        yield list(await asyncio.gather(*tasks))
    finally:
        for task in tasks:
            task.cancel()
        results = await asyncio.gather(*tasks, return_exceptions=True)
        connections = [result for result in results if isinstance(result, ClientConnection)]
        await asyncio.gather(*(connection.close() for connection in connections))


async def measure(connections: list[ClientConnection], load: Load, tally: Tally, patience: float = PATIENCE) -> None:
    """Apply the load, and then wait ``patience`` seconds for missing answers."""
    loop = asyncio.get_running_loop()
    began = loop.time()
    end = loop.call_at(began + load.duration, tally.stop)
    tasks = [asyncio.create_task(exchange(connection, load, tally)) for connection in connections]
    try:
        _, missing = await asyncio.wait(tasks, timeout=load.duration + patience)
    except asyncio.CancelledError:
        missing = set()  # Ctrl-C: the results so far are still reported
    tally.stop()
    tally.seconds = loop.time() - began
    end.cancel()
    for task in tasks:
        task.cancel()
    results = await asyncio.gather(*tasks, return_exceptions=True)
    tally.failures += [error_text(result) for result in results if isinstance(result, Exception)]
    tally.failures += [f"no answer within {patience:g} seconds"] * len(missing)


async def show_progress(tally: Tally, screen: Screen, load: Load) -> None:
    """Show the progress at regular intervals."""
    loop = asyncio.get_running_loop()
    began = loop.time()
    while True:
        await asyncio.sleep(PROGRESS)
        seconds = loop.time() - began
        rate = tally.times.count / seconds
        median = milliseconds(tally.times.percentile(50))
        screen.progress(f"{seconds:.1f} of {load.duration:g} s   {rate:,.0f} messages/s   p50 {median} ms")


async def bench(target: Target, load: Load, tally: Tally, display: Display, progress: Screen | None) -> int:
    """Connect, measure, and report the results.

    Parameters:
        target: the server.
        load: the load on the server.
        tally: the counters.
        display: where to report the results.
        progress: where to show the progress; None not to show it.

    Returns:
        The status for the shell.
    """
    async with contextlib.AsyncExitStack() as stack:
        try:
            connections = await stack.enter_async_context(opened(target, load.connections))
        except FAILURES as exc:
            display.failed(target.name, exc)
            return HANDSHAKE
        if progress is None:
            await measure(connections, load, tally)
        else:
            telling = asyncio.create_task(show_progress(tally, progress, load))
            await measure(connections, load, tally)
            telling.cancel()
            progress.progress("")
    display.results("bench", *report(target.name, load, tally, blocks_allowed(sys.stdout.encoding)))
    return ABNORMAL if tally.failures else OK


# -------------------------------------------------------------------------------------------------------------- results


def blocks_allowed(encoding: str | None) -> bool:
    """Return whether an encoding has block characters."""
    try:
        "█▏".encode(encoding or "ascii")
    except UnicodeEncodeError:
        return False
    return True


def report(name: str, load: Load, tally: Tally, blocks: bool = True) -> tuple[dict[str, Any], list[str]]:
    """Return the results, as values for programs and as lines for humans.

    Parameters:
        name: name of the server.
        load: the load on the server.
        tally: the measured numbers.
        blocks: whether block characters may be used; True by default.
    """
    seconds = summary(tally.times)
    size = len(load.message)
    rate = tally.times.count / tally.seconds if tally.seconds else 0.0
    values = {
        "uri": name,
        "connections": load.connections,
        "depth": load.depth,
        "size": size,
        "messages": tally.times.count,
        "seconds": round(tally.seconds, 6),
        "messages_per_second": round(rate, 1),
        "latency": {name: round(value, 9) for name, value in seconds.items()},
        "failures": tally.failures,
    }
    kind = "bytes of text" if isinstance(load.message, str) else "bytes"
    lines = [
        f"{number_of(load.connections, 'connection')} to {name}, {load.depth:,} in flight on each, {size:,} {kind}",
        "",
        f"messages  {tally.times.count:,} in {tally.seconds:.2f} s",
        f"rate      {rate:,.0f} messages/s, {rate * size / 1e6:,.2f} MB/s each way",
    ]
    if seconds:
        around = {name: value for name, value in seconds.items() if not name.startswith("p")}
        within = {name: value for name, value in seconds.items() if name.startswith("p")}
        lines += [f"latency   {table(around)}", f"          {table(within)}"]
        lines += ["", *drawn(histogram(tally.times), blocks=blocks)]
    failures = collections.Counter(tally.failures)
    lines += [f"FAILED    {number} of {load.connections}: {text}" for text, number in failures.items()]
    return values, lines


def run_bench(options: argparse.Namespace) -> int:
    """Run the command with these options.

    Returns:
        The status for the shell.

    Raises:
        UsageError: the options are invalid.
    """
    screen = standard_screen()
    set_up_logs(logging.DEBUG if options.verbose else 0, screen)
    display = FORMATS[options.format](Style(), screen.line, screen.complain)
    # The answers are as large as the messages, so the limit must allow them.
    options.max_size = options.max_size and max(options.max_size, options.size)
    try:
        target = target_of(options, dict(os.environ), asker())
    except InvalidURI as exc:
        display.failed(visible_uri(options.uri), exc)
        return HANDSHAKE
    message = payload(options.size, options.binary)
    load = Load(options.connections, options.depth, message, options.duration, options.count)
    progress = screen if is_terminal(sys.stderr) else None
    return run(bench(target, load, Tally(options.count), display, progress))
