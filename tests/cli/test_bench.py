"""The benchmark: what it sends, when it stops, what it makes of servers that don't do their part."""

from __future__ import annotations

import asyncio
import contextlib
import io
import json
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest

from _kit import virtual
from websockets.asyncio.client import ClientConnection
from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.cli._bench import (
    Load,
    Tally,
    bench,
    blocks_allowed,
    exchange,
    measure,
    opened,
    payload,
    report,
    show_progress,
)
from websockets.cli._format import Session, Style
from websockets.cli._screen import Screen
from websockets.cli._target import Target

Handler = Callable[[ServerConnection], Awaitable[None]]


async def echo(connection: ServerConnection) -> None:
    async for message in connection:
        await connection.send(message)


async def slow_echo(connection: ServerConnection) -> None:
    async for message in connection:
        await asyncio.sleep(0.1)
        await connection.send(message)


def target(server: Server) -> Target:
    return Target(f"ws://localhost:{next(iter(server.sockets)).getsockname()[1]}", {})


@contextlib.asynccontextmanager
async def connections(handler: Handler, number: int) -> AsyncIterator[list[ClientConnection]]:
    async with serve(handler, "localhost", 0) as server, opened(target(server), number) as clients:
        yield clients


# -------------------------------------------------------------------------------------------------------------- what


def test_payloads() -> None:
    text, data = payload(100, False), payload(100, True)
    assert isinstance(text, str)
    assert text.isascii()
    assert isinstance(data, bytes)
    assert len(text) == len(data) == 100
    assert (text, data) == (payload(100, False), payload(100, True))
    assert (payload(0, False), payload(0, True)) == ("", b"")


def test_tally() -> None:
    tally = Tally(2)
    assert [tally.take() for _ in range(3)] == [True, True, False]
    tally = Tally(None)
    assert tally.take()
    tally.stop()
    assert not tally.take()


# -------------------------------------------------------------------------------------------------------------- when


@virtual
async def test_count_ends_it() -> None:
    load = Load(3, 4, "message", duration=10, count=100)
    tally = Tally(load.count)
    async with connections(echo, 3) as clients:
        assert len(clients) == 3
        await measure(clients, load, tally)
    assert (tally.times.count, tally.failures) == (100, [])


@virtual
async def test_duration_ends_it() -> None:
    load = Load(2, 1, b"\x00", duration=1.05)
    tally = Tally(None)
    async with connections(slow_echo, 2) as clients:
        await measure(clients, load, tally)
    # What was sent before the end is waited for.
    assert (tally.times.count, tally.failures) == (2 * 11, [])
    assert tally.seconds == pytest.approx(1.1)


@virtual
async def test_depth_is_what_is_in_flight() -> None:
    waiting: list[int] = []

    async def batches(connection: ServerConnection) -> None:
        """Answer only when nothing more comes."""
        messages = []
        with contextlib.suppress(Exception):
            while True:
                try:
                    messages.append(await asyncio.wait_for(connection.recv(), 0.1))
                except TimeoutError:
                    waiting.append(len(messages))
                    for message in messages:
                        await connection.send(message)
                    messages = []

    async with connections(batches, 1) as clients:
        await measure(clients, Load(1, 5, "x", duration=10, count=20), Tally(20))
    assert max(waiting) == 5
    assert sum(waiting) == 20


@virtual
async def test_times_are_measured() -> None:
    tally = Tally(2)
    async with connections(slow_echo, 1) as (client,):
        await exchange(client, Load(1, 1, "x", 10, 2), tally, asyncio.get_running_loop().time)
    assert tally.times.count == 2
    assert tally.times.least == pytest.approx(0.1)
    assert tally.times.most == pytest.approx(0.1)


@virtual
async def test_interrupt() -> None:
    tally = Tally(None)
    async with connections(slow_echo, 2) as clients:
        task = asyncio.create_task(measure(clients, Load(2, 1, "x", 10), tally))
        await asyncio.sleep(0.55)
        task.cancel()
        await task
    assert (tally.times.count, tally.failures) == (10, [])
    assert tally.seconds == pytest.approx(0.55)


@virtual
async def test_large_messages_in_flight_do_not_block_both_ends() -> None:
    message = "x" * 100_000
    tally = Tally(200)
    async with connections(echo, 1) as clients:
        await measure(clients, Load(1, 100, message, duration=10, count=200), tally)
    assert (tally.times.count, tally.failures) == (200, [])


# ----------------------------------------------------------------------------------------------------------- failures


@virtual
async def test_no_answer() -> None:
    async def silent(connection: ServerConnection) -> None:
        await connection.wait_closed()

    tally = Tally(None)
    async with connections(silent, 2) as clients:
        await measure(clients, Load(2, 1, "x", duration=1), tally)
    assert tally.failures == ["no answer within 10 seconds"] * 2
    assert tally.seconds == pytest.approx(11)


@virtual
async def test_no_echo() -> None:
    async def wrong(connection: ServerConnection) -> None:
        async for _ in connection:
            await connection.send("something else")

    tally = Tally(None)
    async with connections(wrong, 1) as clients:
        await measure(clients, Load(1, 1, "x", duration=1), tally)
    assert tally.failures == ["the server doesn't send back what it receives"]


@virtual
async def test_connections_that_end() -> None:
    async def close(connection: ServerConnection) -> None:
        await connection.recv()
        await connection.close(1011)

    tally = Tally(None)
    async with connections(close, 1) as clients:
        await measure(clients, Load(1, 1, "x", duration=1), tally)
    (failure,) = tally.failures
    assert "1011" in failure


# ------------------------------------------------------------------------------------------------------------ results


def lines_of(load: Load, tally: Tally) -> list[str]:
    return report("ws://host/", load, tally, blocks=False)[1]


def test_report() -> None:
    tally = Tally(None)
    tally.times.extend([0.001, 0.001, 0.002])
    tally.seconds = 1.5
    values, lines = report("ws://host/", Load(1, 2, "12345678", 1), tally, blocks=False)
    assert lines == [
        "1 connection to ws://host/, 2 in flight on each, 8 bytes of text",
        "",
        "messages  3 in 1.50 s",
        "rate      2 messages/s, 0.00 MB/s each way",
        "latency   min 1.00  mean 1.33  max 2.00 ms",
        "          p50 1.00  p90 2.00  p99 2.00  p99.9 2.00 ms",
        "",
        *lines[7:],
    ]
    assert lines[7] == f"  1 - 1.1 ms  {'#' * 40}  66.7%"
    assert json.loads(json.dumps(values))["latency"]["max"] == 0.002
    assert (values["messages"], values["messages_per_second"], values["failures"]) == (3, 2.0, [])


def test_report_of_failures() -> None:
    tally = Tally(None)
    tally.failures = ["no", "no", "never"]
    assert lines_of(Load(4, 1, b"", 1), tally) == [
        "4 connections to ws://host/, 1 in flight on each, 0 bytes",
        "",
        "messages  0 in 0.00 s",
        "rate      0 messages/s, 0.00 MB/s each way",
        "FAILED    2 of 4: no",
        "FAILED    1 of 4: never",
    ]


@pytest.mark.parametrize(("encoding", "allowed"), [("utf-8", True), ("ascii", False), ("cp1252", False), (None, False)])
def test_block_characters(encoding: str | None, allowed: bool) -> None:
    assert blocks_allowed(encoding) is allowed


def display(lines: list[str]) -> Session:
    return Session(Style(), lines.append, lines.append)


@virtual
async def test_all_of_it() -> None:
    lines: list[str] = []
    screen = Screen(io.StringIO(), err := io.StringIO())
    load = Load(2, 1, "x", duration=1)
    async with serve(slow_echo, "localhost", 0) as server:
        assert await bench(target(server), load, Tally(None), display(lines), screen) == 0
    assert lines[2] == "messages  20 in 1.00 s"
    shown = err.getvalue().split("\r\x1b[K")
    assert shown[1].startswith("0.2 of 1 s   ")
    assert shown[-1] == ""


@virtual
async def test_status_of_failures() -> None:
    async def close(connection: ServerConnection) -> None:
        await connection.recv()

    lines: list[str] = []
    async with serve(close, "localhost", 0) as server:
        there = target(server)
        assert await bench(there, Load(1, 1, "x", 1), Tally(None), display(lines), None) == 3
    assert await bench(there, Load(1, 1, "x", 1), Tally(None), display(lines), None) == 1
    assert lines[-2].startswith("Failed to connect to ws://localhost:")
    assert lines[-1] == "Hint: is a server running there?"


@virtual
async def test_progress() -> None:
    screen = Screen(io.StringIO(), err := io.StringIO())
    task = asyncio.create_task(show_progress(Tally(None), screen, Load(1, 1, "x", 5)))
    await asyncio.sleep(0.5)
    task.cancel()
    assert err.getvalue() == (
        "\r\x1b[K0.2 of 5 s   0 messages/s   p50 0.000 ms\r\x1b[K0.4 of 5 s   0 messages/s   p50 0.000 ms"
    )
