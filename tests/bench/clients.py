"""The clients that are measured: the same one in each library.

Charter: imports one library, as its users would, with its defaults but for two: compression is off unless it is what is
measured, and a message may have any size. Run as ``python -m bench.clients LIBRARY JOB``, beside ``bench.answer``. It
prints a line of JSON when it is ready. Then, for each line ``{"amount": N}`` on standard input, it does what the job
says for so many seconds and prints what came of it, with the CPU time that it took. Between two runs nothing is in
flight.
"""

# pyright: reportMissingImports=false
# What is measured is installed where it runs, not where types are checked.

from __future__ import annotations

import asyncio
import json
import os
import ssl
import statistics
import sys
import time
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import AsyncExitStack
from importlib import import_module
from itertools import cycle
from typing import Any

from bench.cases import BLOCK, Job
from bench.loops import run
from bench.streams import HOST
from bench.wire import VARIETY, messages

clock = time.perf_counter

Run = Callable[[float], Awaitable[dict[str, Any]]]
Client = Callable[[Job, AsyncExitStack], Awaitable[Run]]


def uri(job: Job) -> str:
    return f"{'ws' if job.certificate is None else 'wss'}://{HOST}:{job.port}/"


def context_of(job: Job) -> ssl.SSLContext | None:
    """What TLS needs, if it is asked for; whose certificate it is does not matter here."""
    if job.certificate is None:
        return None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def result(count: int, seconds: float, round_trips: list[float]) -> dict[str, Any]:
    """What is told of a run: how much was done, in what time, how long one took."""
    median = statistics.median(round_trips) * 1e6 if round_trips else None
    return {"count": count, "seconds": seconds, "round_trip_us": median}


def texts(job: Job) -> list[str]:
    """What is sent: one message again and again, or several where one alone would compress to nothing."""
    return messages(job.case.size, VARIETY if job.case.deflate else 1)


# ----------------------------------------------------------------------------------------------------------- coroutines


async def exchange(
    send: Callable[[str], Awaitable[Any]],
    recv: Callable[[], Awaitable[Any]],
    texts: list[str],
    depth: int,
    end: float,
    round_trips: list[float],
) -> int:
    """Keep messages in flight on one connection until the clock says so; returns how many there were.

    Parameters:
        send: sends a message.
        recv: waits for a message.
        texts: what to send, in turn.
        depth: how many to keep in flight.
        end: when to stop.
        round_trips: gets seconds for some of the messages.
    """
    text = cycle(texts).__next__
    more = max(BLOCK - depth, 0)
    for _ in range(depth):
        await send(text())
    count = depth
    while (begun := clock()) < end:
        # The message that was sent last comes back after those before it.
        for _ in range(depth):
            await recv()
            await send(text())
        round_trips.append(clock() - begun)
        for _ in range(more):
            await recv()
            await send(text())
        count += depth + more
    for _ in range(depth):
        await recv()
    return count


Exchange = Callable[[float, list[float]], Awaitable[int]]


def together(exchanges: list[Exchange]) -> Run:
    """Use some connections at the same time."""

    async def go(seconds: float) -> dict[str, Any]:
        round_trips: list[float] = []
        begun = clock()
        counts = await asyncio.gather(*(exchange(begun + seconds, round_trips) for exchange in exchanges))
        return result(sum(counts), clock() - begun, round_trips)

    return go


def repeated(job: Job, once: Callable[[], Coroutine[Any, Any, None]]) -> Run:
    """Open and close connections, some at the same time."""

    async def several(end: float, durations: list[float]) -> int:
        count = 0
        while (begun := clock()) < end:
            await once()
            durations.append(clock() - begun)
            count += 1
        return count

    return together([several] * job.case.connections)


def exchanging(
    send: Callable[[str], Awaitable[Any]], recv: Callable[[], Awaitable[Any]], sent: list[str], job: Job
) -> Exchange:
    """Use a connection that has these functions."""
    return lambda end, round_trips: exchange(send, recv, sent, job.case.depth, end, round_trips)


def check(reply: object, expected: str) -> None:
    """Make sure that what comes back is what the other side has to send.

    Raises:
        ValueError: it isn't.
    """
    if reply != expected:
        raise ValueError("received something else than what was sent")


# ------------------------------------------------------------------------------------------------------------ libraries


async def use_websockets(job: Job, stack: AsyncExitStack, package: str = "websockets") -> Run:
    """This library, and those with the same interface."""
    connect = import_module(f"{package}.asyncio.client").connect
    sent = texts(job)
    options: dict[str, Any] = {"max_size": None, "proxy": None}
    if not job.case.deflate:
        options["compression"] = None
    if job.certificate is not None:
        options["ssl"] = context_of(job)

    async def once() -> None:
        async with connect(uri(job), **options):
            pass

    async def opened() -> Exchange:
        websocket = await connect(uri(job), **options)
        await websocket.send(sent[0])
        check(await websocket.recv(), sent[0])
        return exchanging(websocket.send, websocket.recv, sent, job)

    if job.case.kind == "open-close":
        return repeated(job, once)
    return together([await opened() for _ in range(job.case.connections)])


async def use_picows_websockets(job: Job, stack: AsyncExitStack) -> Run:
    return await use_websockets(job, stack, "picows.websockets")


async def use_aiohttp(job: Job, stack: AsyncExitStack) -> Run:
    import aiohttp

    sent = texts(job)
    # Without a limit, which is about requests.
    connector = aiohttp.TCPConnector(limit=0)
    session = await stack.enter_async_context(aiohttp.ClientSession(connector=connector))
    options = {"max_msg_size": 0, "compress": 15 if job.case.deflate else 0, "ssl": context_of(job) or True}

    async def once() -> None:
        async with session.ws_connect(uri(job), **options):
            pass

    async def opened() -> Exchange:
        websocket = await session.ws_connect(uri(job), **options)
        await websocket.send_str(sent[0])
        check((await websocket.receive()).data, sent[0])
        return exchanging(websocket.send_str, websocket.receive, sent, job)

    if job.case.kind == "open-close":
        return repeated(job, once)
    return together([await opened() for _ in range(job.case.connections)])


async def use_picows(job: Job, stack: AsyncExitStack) -> Run:
    """The core of picows: callbacks for frames, which it neither joins nor checks for UTF-8."""
    from bench.picows_client import opened

    async def once() -> None:
        client = await opened(uri(job), context_of(job), job.case)
        await client.close()

    if job.case.kind == "open-close":
        return repeated(job, once)
    clients = [await opened(uri(job), context_of(job), job.case) for _ in range(job.case.connections)]
    return together([client.exchange for client in clients])


LIBRARIES: dict[str, Client] = {
    "websockets": use_websockets,
    "picows.websockets": use_picows_websockets,
    "picows": use_picows,
    "aiohttp": use_aiohttp,
}


# ------------------------------------------------------------------------------------------------------------ obedience


async def obey(job: Job, client: Client) -> None:
    """Do what the lines on standard input say; meanwhile nothing is in flight, so that the loop may stand still."""
    async with AsyncExitStack() as stack:
        go = await client(job, stack)
        print(json.dumps({"ready": True}), flush=True)
        for line in sys.stdin:
            used = time.process_time()
            outcome = await go(json.loads(line)["amount"])
            print(json.dumps({**outcome, "cpu": time.process_time() - used}), flush=True)
        # Closing would take its time, as the other side cannot tell a Close from a message.
        os._exit(0)


def main() -> None:
    job = Job.from_json(sys.argv[2])
    run(obey(job, LIBRARIES[sys.argv[1]]), job.loop)


if __name__ == "__main__":
    main()
