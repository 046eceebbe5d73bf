"""Clients on asyncio that connect again and again: when they try, how long they wait, and when they give up."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
import ssl
from collections.abc import AsyncGenerator, Callable, Iterator, Sequence
from typing import Any, cast

import pytest

from _kit import RawPeer, VirtualLoop, idle, steps, virtual, wire
from _kit.site import Answer, Asked, Site, let_in, let_in_and_close, redirect, refuse, site
from websockets.asyncio.client import ClientConnection, connect, process_exception
from websockets.exceptions import (
    ConnectionClosed,
    ConnectionClosedError,
    ConnectionClosedOK,
    InvalidHeaderValue,
    InvalidMessage,
    InvalidStatus,
    SecurityError,
)
from websockets.http11 import Response
from websockets.protocol import State

LOGGER = "websockets.client"


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


def messages(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records]


# ----------------------------------------------------------------------------------------------------------- iterating


@pytest.mark.parametrize(
    ("answer", "times"),
    [
        (b"HTTP/1.0 503 Service Unavailable\r\nRetry-After: 7\r\n\r\nbusy", [0, 7]),
        (b"HTTP/1.1 102\r\n\r\nHTTP/1.0 503\r\nRetry-After:\r\n 7\r\n\r\n", [0, 7]),
        (b"HTTP/1.1 503 x\r\nRetry-After: 7\r\nContent-Length: 9\r\n\r\nbusy", [0, 7]),
        (b"HTTP/1.1 503 x\r\nRetry-After: 7\r\nTransfer-Encoding: chunked\r\n\r\nx\r\n", [0, 7]),
    ],
)
@virtual
async def test_refusals_that_pass_however_they_are_written(answer: bytes, times: list[float]) -> None:
    async with site([answer, let_in]) as web:
        async for _ in connect(web.uri(), reconnect_delays=series(1)):
            break
        assert web.times == times


@virtual
async def test_a_refusal_whose_body_does_not_end_is_one_that_passes() -> None:
    async def busy(peer: RawPeer, asked: Asked) -> None:
        await peer.send(b"HTTP/1.1 503 Busy\r\nRetry-After: 7\r\n\r\n")
        await asyncio.sleep(3600)

    async with site([busy, let_in]) as web:
        async for _ in connect(web.uri(), reconnect_delays=series(1), open_timeout=3):
            break
        assert web.times == [0, 10]


@virtual
async def test_new_connection_each_time() -> None:
    connections: list[ClientConnection] = []
    async with site([let_in]) as web:
        async for connection in connect(web.uri(), reconnect_delays=itertools.repeat(0).__iter__):
            assert all(earlier.state is State.CLOSED for earlier in connections)
            assert connection.state is State.OPEN
            connections.append(connection)
            if len(connections) == 3:
                break
            await asyncio.sleep(1)
        await idle()
        assert [earlier.close_code for earlier in connections] == [1000, 1000, 1000]
        assert web.times == [0, 1, 2]


@virtual
async def test_additional_headers_are_read_for_each_attempt() -> None:
    headers = {"X-Token": "1"}
    async with site([let_in_and_close(1000, 5)]) as web:
        async for connection in connect(web.uri(), additional_headers=headers, reconnect_delays=series(1)):
            await listen(connection)
            if len(web.asked) == 2:
                break
            headers["X-Token"] = "2"
        assert [asked.headers["X-Token"] for asked in web.asked] == [["1"], ["2"]]


@virtual
async def test_connection_that_closes_in_the_body() -> None:
    seen: list[type[Exception]] = []
    async with site([let_in_and_close(1000, 5), let_in_and_close(1011, 5), let_in]) as web:
        async for connection in connect(web.uri(), reconnect_delays=series(1)):
            try:
                if len(seen) == 2:
                    break
                await connection.recv()
            except ConnectionClosed as exc:
                seen.append(type(exc))
                continue
        assert seen == [ConnectionClosedOK, ConnectionClosedError]
        # Each outlived the delay, so there was none.
        assert web.times == [0, 5, 10]


@pytest.mark.parametrize("error", [LookupError, ConnectionClosedError(None, None)])
@virtual
async def test_exception_in_the_body(error: Any) -> None:
    connections: list[ClientConnection] = []
    async with site([let_in]) as web:

        async def main() -> None:
            async for connection in connect(web.uri()):
                connections.append(connection)
                raise error

        with pytest.raises((LookupError, ConnectionClosedError)):
            await main()
        await idle()
        assert [connection.state for connection in connections] == [State.CLOSED]
        assert len(web.asked) == 1


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


# -------------------------------------------------------------------------------------------------- what is tried again


async def hang(peer: RawPeer, asked: Asked) -> None:
    await peer.read_until_eof()


async def reset(peer: RawPeer, asked: Asked) -> None:
    peer.reset()


RETRIED: list[tuple[str, Answer, float, str]] = [
    *(
        (f"status {status}", refuse(status), 0, f"InvalidStatus: server rejected WebSocket connection: HTTP {status}")
        for status in (429, 500, 502, 503, 504)
    ),
    ("end of the stream", b"", 0, "InvalidMessage: did not receive a valid HTTP response"),
    ("half a response", wire.response()[:-2], 0, "InvalidMessage: did not receive a valid HTTP response"),
    ("reset", reset, 0, "InvalidMessage: did not receive a valid HTTP response"),
    ("silence", hang, 10, "TimeoutError: timed out during opening handshake"),
]


@pytest.mark.parametrize(("answer", "took", "text"), [row[1:] for row in RETRIED], ids=[row[0] for row in RETRIED])
@virtual
async def test_tried_again(answer: Answer, took: float, text: str, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, LOGGER)
    async with site([answer, let_in]) as web:
        (connection,) = await visit(web, 1, reconnect_delays=series(3))
        assert connection.response is not None
        assert web.times == [0, took + 3]
    (line,) = messages(caplog)
    assert line.replace("websockets.exceptions.", "") == f"connect failed; reconnecting in 3.0 seconds: {text}"


async def wrong_accept(peer: RawPeer, asked: Asked) -> None:
    await peer.send(wire.response(key="x"))
    await peer.read_until_eof()


FATAL: list[tuple[str, Answer, type[Exception]]] = [
    *((f"status {status}", refuse(status), InvalidStatus) for status in (200, 400, 401, 403, 404, 426, 501, 505)),
    ("garbage", b"hello\r\n\r\n", InvalidMessage),
    ("wrong Accept", wrong_accept, InvalidHeaderValue),
    ("redirects", redirect("/"), SecurityError),
]


@pytest.mark.parametrize(("answer", "kind"), [row[1:] for row in FATAL], ids=[row[0] for row in FATAL])
@virtual
async def test_not_tried_again(answer: Answer, kind: type[Exception]) -> None:
    async with site([answer]) as web:
        start = now()
        with pytest.raises(kind):
            await visit(web, 1)
        assert now() == start


@virtual
async def test_server_that_is_not_there_yet() -> None:
    attempts = connect("ws://localhost:8000/", reconnect_delays=series(1, 2, 3))
    first = asyncio.ensure_future(anext(aiter(attempts)))
    await asyncio.sleep(4)
    assert not first.done()
    async with site([let_in], port=8000) as web:
        connection = await first
        assert now() == pytest.approx(1006)
        assert len(web.asked) == 1
        await connection.close()


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
async def test_redirects_do_not_change_where_the_next_attempt_begins() -> None:
    async with site([let_in_and_close(1001, 5)], port=81) as second:
        async with site([redirect("ws://localhost:81/")], port=80) as first:
            async for connection in connect("ws://localhost:80/start", reconnect_delays=series(1)):
                await listen(connection)
                if len(second.asked) == 2:
                    break
    assert first.targets == ["/start", "/start"]
    assert second.targets == ["/", "/"]


@virtual
async def test_deadline_for_each_attempt() -> None:
    async with site([hang]) as web:
        with pytest.raises(TimeoutError, match="^timed out during opening handshake$"):
            await visit(web, 1, open_timeout=2, reconnect_delays=series(1, 1))
        assert web.times == [0, 3, 6]


# --------------------------------------------------------------------------------------------------- how long to wait


@pytest.mark.parametrize(
    ("answers", "delays", "times"),
    [
        # Failures one after the other.
        ([refuse(503)] * 4 + [let_in], [1, 2, 4, 8], [0, 1, 3, 7, 15]),
        # Accept, then close at once: each is a failure too.
        ([let_in_and_close()] * 4 + [let_in], [1, 2, 4, 8], [0, 1, 3, 7, 15]),
        # Alternating makes no difference.
        ([refuse(503), let_in_and_close(), refuse(503), let_in_and_close(), let_in], [1, 2, 4, 8], [0, 1, 3, 7, 15]),
        # The delays start over once a connection outlived the one before it: of 2, then of 1.
        ([refuse(503), refuse(503), let_in_and_close(after=3), refuse(503), let_in], [1, 2, 4], [0, 1, 3, 6, 7]),
        # A connection as long as the delay before it has not outlived it.
        ([refuse(503), let_in_and_close(after=1), let_in], [1, 2], [0, 1, 4]),
        # The first connection is measured by the first delay.
        ([let_in_and_close(after=1.5), let_in_and_close(after=0.5), let_in], [1, 2], [0, 1.5, 3]),
    ],
    ids=["failures", "closures", "both", "outlived", "just not outlived", "first"],
)
@virtual
async def test_delays(answers: list[Answer], delays: Sequence[float], times: Sequence[float]) -> None:
    async with site(answers) as web:
        connections = sum(callable(answer) for answer in answers)
        await visit(web, connections, reconnect_delays=series(*delays))
        assert web.times == times


@virtual
async def test_accept_then_close_is_no_hot_loop(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, LOGGER)
    async with site([let_in_and_close(1013)]) as web:
        task = asyncio.create_task(visit(web, 1000))
        await asyncio.sleep(3600)
        task.cancel()
        await asyncio.wait([task])
        assert len(web.asked) < 60
    lines = messages(caplog)
    assert len(lines) < 60
    assert lines[-1].endswith("seconds: received 1013 (try again later); then sent 1013 (try again later)")


@virtual
async def test_default_delays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("websockets.client.random.random", lambda: 0.5)
    async with site([refuse(503)] * 5 + [let_in]) as web:
        await visit(web, 1)
        waits = [3.1 * 1.618**count for count in range(4)]
        assert web.times == pytest.approx(list(itertools.accumulate([0, 2.5, *waits])), abs=1e-5)


@virtual
async def test_each_iteration_has_delays_of_its_own() -> None:
    async with site([refuse(503), let_in, refuse(503), let_in]) as web:
        connecting = connect(web.uri(), reconnect_delays=series(1, 100))
        for _ in range(2):
            async for _connection in connecting:
                break
        await idle()
        assert web.times == [0, 1, 1, 2]


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


@virtual
async def test_connection_must_outlive_retry_after() -> None:
    async with site([refuse(503, {"Retry-After": "60"}), let_in_and_close(after=30), let_in]) as web:
        await visit(web, 2, reconnect_delays=series(1, 2))
        assert web.times == [0, 60, 92]


# ------------------------------------------------------------------------------------------------------------ giving up


@pytest.mark.parametrize("delays", [(), (1, 2)])
@virtual
async def test_no_more_delays_after_a_failure(delays: tuple[float, ...]) -> None:
    async with site([refuse(503)]) as web:
        with pytest.raises(InvalidStatus, match="HTTP 503$"):
            await visit(web, 1, reconnect_delays=series(*delays))
        assert web.times == [0, 1, 3][: len(delays) + 1]


@virtual
async def test_last_error_keeps_its_cause() -> None:
    async with site([reset]) as web:
        with pytest.raises(InvalidMessage) as caught:
            await visit(web, 1, reconnect_delays=series(1))
        assert isinstance(caught.value.__cause__, EOFError)
        assert isinstance(caught.value.__cause__.__cause__, ConnectionResetError)


@virtual
async def test_no_more_delays_after_a_connection() -> None:
    async with site([let_in_and_close(1013)]) as web:
        with pytest.raises(ConnectionClosedError, match="^received 1013 "):
            await visit(web, 9, reconnect_delays=series(1, 2))
        assert web.times == [0, 1, 3]


@virtual
async def test_closure_keeps_its_cause() -> None:
    async def break_off(peer: RawPeer, asked: Asked) -> None:
        await peer.send(wire.response(key=asked.headers["Sec-WebSocket-Key"][0]))
        await idle()
        peer.reset()

    async with site([break_off]) as web:
        with pytest.raises(ConnectionClosedError) as caught:
            await visit(web, 9, reconnect_delays=series())
        assert isinstance(caught.value.__cause__, ConnectionResetError)


@virtual
async def test_last_delay_can_be_outlived() -> None:
    async with site([refuse(503), let_in_and_close(after=2), refuse(503), let_in]) as web:
        await visit(web, 2, reconnect_delays=series(1))
        assert web.times == [0, 1, 3, 4]


# ---------------------------------------------------------------------------------------------------- process_exception


def test_default_of_process_exception() -> None:
    assert connect("ws://localhost/").process_exception is process_exception
    response = Response(404, "Not Found", cast("Any", None))
    for exc in (InvalidStatus(response), InvalidMessage("garbage"), LookupError()):
        assert process_exception(exc) is exc
    assert process_exception(ConnectionRefusedError()) is None


@virtual
async def test_process_exception_tries_again() -> None:
    seen: list[Exception] = []
    async with site([refuse(404), b"garbage\r\n\r\n", let_in]) as web:
        await visit(web, 1, process_exception=seen.append, reconnect_delays=series(1, 1))
        assert web.times == [0, 1, 2]
    assert [type(exc) for exc in seen] == [InvalidStatus, InvalidMessage]


@virtual
async def test_process_exception_gives_up() -> None:
    async with site([refuse(503)]) as web:
        with pytest.raises(InvalidStatus) as caught:
            await visit(web, 1, process_exception=lambda exc: exc)
        assert caught.value.__cause__ is None
        assert caught.value.__context__ is None
        assert len(web.asked) == 1


@virtual
async def test_process_exception_gives_another_exception() -> None:
    error = LookupError("mine")
    async with site([refuse(503)]) as web:
        with pytest.raises(LookupError) as caught:
            await visit(web, 1, process_exception=lambda exc: error)
    assert caught.value is error
    assert isinstance(error.__cause__, InvalidStatus)


def raise_plainly(exc: Exception) -> Exception | None:
    raise LookupError("mine")


def raise_without_cause(exc: Exception) -> Exception | None:
    raise LookupError("mine") from None


def raise_with_a_cause(exc: Exception) -> Exception | None:
    raise LookupError("mine") from KeyError("other")


def raise_after_a_failure(exc: Exception) -> Exception | None:
    try:
        raise KeyError("other")
    except KeyError:
        raise LookupError("mine")  # noqa: B904


@pytest.mark.parametrize(
    "process", [raise_plainly, raise_without_cause, raise_with_a_cause, raise_after_a_failure], ids=lambda f: f.__name__
)
@virtual
async def test_process_exception_raises(process: Callable[[Exception], Exception | None]) -> None:
    async with site([refuse(503)]) as web:
        with pytest.raises(LookupError, match="mine") as caught:
            await visit(web, 1, process_exception=process)
        assert len(web.asked) == 1
    assert isinstance(caught.value.__cause__, InvalidStatus)


@virtual
async def test_process_exception_raises_what_it_was_given() -> None:
    def process(exc: Exception) -> Exception | None:
        raise exc

    async with site([refuse(503)]) as web:
        with pytest.raises(InvalidStatus) as caught:
            await visit(web, 1, process_exception=process)
    assert (caught.value.__cause__, caught.value.__context__) == (None, None)


@virtual
async def test_process_exception_cancels() -> None:
    def process(exc: Exception) -> Exception | None:
        raise asyncio.CancelledError("mine")

    async with site([refuse(503)]) as web:
        with pytest.raises(asyncio.CancelledError, match="mine") as caught:
            await visit(web, 1, process_exception=process)
    assert caught.value.__cause__ is None


@virtual
async def test_process_exception_is_for_iterations() -> None:
    def process(exc: Exception) -> Exception | None:
        raise AssertionError("never called")

    async with site([refuse(503)]) as web:
        with pytest.raises(InvalidStatus):
            await connect(web.uri(), process_exception=process)
