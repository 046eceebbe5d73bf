"""The command ``websockets bench``: how many messages a server sends back, and how long each takes.

May know: options, connections on asyncio, statistics, how results are told. Must not know: the server.

It measures this client too, which runs in one process. The figures of two servers can be compared only if the client is
the same, and isn't what they wait for.
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

# Seconds to wait for the answers that are still missing in the end.
PATIENCE = 10.0

# Seconds between two signs of progress.
PROGRESS = 0.2

# Connections that are being opened at the same time.
OPENING = 100


@dataclasses.dataclass(frozen=True)
class Load:
    """What the server has to bear.

    Parameters:
        connections: number of connections.
        depth: messages in flight on each.
        message: the message that is sent, over and over.
        duration: seconds after which no more are sent.
        count: number of messages after which no more are sent; None for no such limit.
    """

    connections: int
    depth: int
    message: Data
    duration: float
    count: int | None = None


class Tally:
    """What has been sent and received so far, on all connections.

    Parameters:
        count: messages that may be sent; None for no limit.
    """

    def __init__(self, count: int | None) -> None:
        self.left = count
        self.times = Latencies()
        self.failures: list[str] = []
        self.seconds = 0.0
        self.stopped = False

    def stop(self) -> None:
        """Let no more messages be sent."""
        self.stopped = True

    def take(self) -> bool:
        """Whether one more message may be sent; if so, it is counted."""
        if self.stopped or self.left == 0:
            return False
        if self.left is not None:
            self.left -= 1
        return True


def payload(size: int, binary: bool) -> Data:
    """A message of so many bytes that hardly gets smaller when it is compressed, and is the same each time."""
    source = random.Random(size)
    return source.randbytes(size) if binary else "".join(source.choices(string.ascii_letters + string.digits, k=size))


# ------------------------------------------------------------------------------------------------------------ measuring


async def exchange(
    connection: ClientConnection, load: Load, tally: Tally, clock: Callable[[], float] = time.perf_counter
) -> None:
    """Keep messages in flight on a connection, until no more may be sent and all are back.

    Raises:
        ConnectionClosed: the connection is closed before that.
        ValueError: what comes back isn't what was sent.
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
    """So many connections, which are closed in the end; all or none.

    Raises:
        OSError, WebSocketException, ValueError: as ``connect``.
    """
    turn = asyncio.Semaphore(OPENING)

    async def open_one() -> ClientConnection:
        async with turn:
            # A reader that pauses could make the server wait for it, and this client for the server.
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
    """Bear on the server for as long as the load says, and ``patience`` seconds more for answers that are missing."""
    loop = asyncio.get_running_loop()
    began = loop.time()
    end = loop.call_at(began + load.duration, tally.stop)
    tasks = [asyncio.create_task(exchange(connection, load, tally)) for connection in connections]
    try:
        _, missing = await asyncio.wait(tasks, timeout=load.duration + patience)
    except asyncio.CancelledError:
        missing = set()  # Ctrl-C: what was measured until now is worth telling
    tally.stop()
    tally.seconds = loop.time() - began
    end.cancel()
    for task in tasks:
        task.cancel()
    results = await asyncio.gather(*tasks, return_exceptions=True)
    tally.failures += [error_text(result) for result in results if isinstance(result, Exception)]
    tally.failures += [f"no answer within {patience:g} seconds"] * len(missing)


async def show_progress(tally: Tally, screen: Screen, load: Load) -> None:
    """Tell, again and again, how far it is."""
    loop = asyncio.get_running_loop()
    began = loop.time()
    while True:
        await asyncio.sleep(PROGRESS)
        seconds = loop.time() - began
        rate = tally.times.count / seconds
        median = milliseconds(tally.times.percentile(50))
        screen.progress(f"{seconds:.1f} of {load.duration:g} s   {rate:,.0f} messages/s   p50 {median} ms")


async def bench(target: Target, load: Load, tally: Tally, display: Display, progress: Screen | None) -> int:
    """Connect, measure, and tell the results.

    Parameters:
        target: the server.
        load: what it has to bear.
        tally: where it is counted.
        display: whom to tell.
        progress: where to tell how far it is; None not to.

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
    """Whether a text in this encoding may have block characters."""
    try:
        "█▏".encode(encoding or "ascii")
    except UnicodeEncodeError:
        return False
    return True


def report(name: str, load: Load, tally: Tally, blocks: bool = True) -> tuple[dict[str, Any], list[str]]:
    """The results, for programs and for humans.

    Parameters:
        name: the server's.
        load: what it had to bear.
        tally: what was measured.
        blocks: whether block characters may be used.
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
    """Do what the options say.

    Returns:
        The status for the shell.

    Raises:
        UsageError: options make no sense.
    """
    screen = standard_screen()
    set_up_logs(logging.DEBUG if options.verbose else 0, screen)
    display = FORMATS[options.format](Style(), screen.line, screen.complain)
    # What is sent must be able to come back.
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
