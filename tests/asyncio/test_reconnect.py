"""Clients on asyncio that connect again and again: cancellation, names, clocks, the iterator."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import ssl
from collections.abc import AsyncGenerator, Callable, Iterator
from typing import Any, cast

import pytest

from _kit import VirtualLoop, idle, steps, virtual, wire
from _kit.site import Site, let_in, let_in_and_close, refuse, site
from websockets.asyncio.client import ClientConnection, connect, process_exception
from websockets.exceptions import (
    ConnectionClosed,
    InvalidMessage,
    InvalidStatus,
)
from websockets.http11 import Response
from websockets.protocol import State


def running_loop() -> VirtualLoop:
    loop = asyncio.get_running_loop()
    assert isinstance(loop, VirtualLoop)
    return loop


def now() -> float:
    return asyncio.get_running_loop().time()


def series(*delays: float) -> Callable[[], Iterator[float]]:
    """Delays for ``reconnect_delays``."""
    return lambda: iter(delays)


async def listen(connection: ClientConnection) -> None:
    with contextlib.suppress(ConnectionClosed):
        async for _ in connection:
            pass


async def visit(web: Site, times: int, **options: Any) -> list[ClientConnection]:
    """Connect so many times, and stay each time until the server closes."""
    connections: list[ClientConnection] = []
    async for connection in connect(web.uri(), **options):
        connections.append(connection)
        if len(connections) == times:
            break
        await listen(connection)
    return connections


@virtual
async def test_leaving_early() -> None:
    async with site([let_in]) as web:
        (connection,) = await visit(web, 1)
        await idle()
        assert (connection.state, connection.close_code) == (State.CLOSED, 1000)
        # Or at once, for those who hold the iterator.
        iterator = cast("AsyncGenerator[ClientConnection]", aiter(connect(web.uri())))
        connection = await anext(iterator)
        await iterator.aclose()
        assert (connection.state, connection.close_code) == (State.CLOSED, 1000)


@virtual
async def test_several_iterations_of_one_object() -> None:
    async with site([let_in]) as web:
        connecting = connect(web.uri())
        one, two = aiter(connecting), aiter(connecting)
        first, second = await anext(one), await anext(two)
        assert first is not second
        assert first.state is second.state is State.OPEN
        for iterator in (one, two):
            await cast("AsyncGenerator[ClientConnection]", iterator).aclose()


@virtual
async def test_cancelled_at_any_step() -> None:
    async def stay(web: Site) -> None:
        async for connection in connect(web.uri(), reconnect_delays=itertools.repeat(3).__iter__):
            await listen(connection)

    async with site([refuse(503), let_in_and_close(), let_in]) as web:
        for count in range(30):
            web.asked.clear()
            task = asyncio.create_task(stay(web))
            await steps(count)
            if count >= 20:
                await asyncio.sleep((count - 20) / 2)
            start = now()
            task.cancel()
            await asyncio.wait([task])
            assert task.cancelled()
            await idle()
            assert now() == start
            assert all(link.client.closed for link in running_loop().network.links)


@virtual
async def test_name_that_cannot_be_resolved_yet() -> None:
    network = running_loop().network
    network.hosts["example.com"] = []
    first = asyncio.ensure_future(anext(aiter(connect("ws://example.com/", reconnect_delays=series(5)))))
    await idle()
    network.hosts["example.com"] = ["127.0.0.1"]
    async with site([let_in], port=80):
        await (await first).close()


@virtual
async def test_certificate_that_is_not_trusted(monkeypatch: pytest.MonkeyPatch) -> None:
    errors: list[Exception] = [ssl.SSLError("broken record"), ssl.SSLCertVerificationError("not trusted")]

    async def create_connection(*args: Any, **kwargs: Any) -> Any:
        raise errors.pop(0)

    monkeypatch.setattr(running_loop(), "create_connection", create_connection)
    with pytest.raises(ssl.SSLCertVerificationError, match="not trusted"):
        async for _ in connect("wss://localhost/", reconnect_delays=series(1)):
            pass
    assert errors == []


@virtual
async def test_default_delays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("websockets.client.random.random", lambda: 0.5)
    async with site([refuse(503)] * 5 + [let_in]) as web:
        await visit(web, 1)
        waits = [3.1 * 1.618**count for count in range(4)]
        assert web.times == pytest.approx(list(itertools.accumulate([0, 2.5, *waits])), abs=1e-5)


RETRY_AFTER: list[tuple[str, int, wire.Headers, float]] = [
    ("longer than the delay", 503, {"Retry-After": "7"}, 7),
    ("429", 429, {"Retry-After": "7"}, 7),
    ("shorter than the delay", 503, {"Retry-After": "1"}, 2),
    ("zero", 503, {"Retry-After": "0"}, 2),
    ("a date", 503, {"Retry-After": "Tue, 14 Nov 2023 22:13:30 GMT"}, 10),
    ("a date of long ago", 503, {"Retry-After": "Tue, 14 Nov 2000 22:13:30 GMT"}, 2),
    ("garbage", 503, {"Retry-After": "soon"}, 2),
    ("negative", 503, {"Retry-After": "-7"}, 2),
    ("twice", 503, {"Retry-After": ["7", "8"]}, 2),
    ("other status", 500, {"Retry-After": "7"}, 2),
]


@pytest.mark.parametrize(
    ("status", "headers", "delay"), [row[1:] for row in RETRY_AFTER], ids=[row[0] for row in RETRY_AFTER]
)
@virtual
async def test_retry_after(status: int, headers: wire.Headers, delay: float, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("websockets.asyncio.client.time.time", lambda: 1_700_000_000.0)
    async with site([refuse(status, headers), let_in]) as web:
        await visit(web, 1, reconnect_delays=series(2))
        assert web.times == [0, delay]


# ---------------------------------------------------------------------------------------------------- process_exception


def test_default_of_process_exception() -> None:
    assert connect("ws://localhost/").process_exception is process_exception
    response = Response(404, "Not Found", cast("Any", None))
    for exc in (InvalidStatus(response), InvalidMessage("garbage"), LookupError()):
        assert process_exception(exc) is exc
    assert process_exception(ConnectionRefusedError()) is None


@virtual
async def test_process_exception_cancels() -> None:
    def process(exc: Exception) -> Exception | None:
        raise asyncio.CancelledError("mine")

    async with site([refuse(503)]) as web:
        with pytest.raises(asyncio.CancelledError, match="mine") as caught:
            await visit(web, 1, process_exception=process)
    assert caught.value.__cause__ is None
