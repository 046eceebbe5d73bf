"""Clients that reconnect: attempts, delays, and when they give up."""

from __future__ import annotations

import contextlib
import itertools
import logging
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest

from _kit import wire
from _kit.site import Asked
from scenarios._answers import hang, let_in, let_in_and_close, redirect, refuse, reset
from scenarios._serving import messages
from scenarios._world import Answer, Capability, End, Peer, Site, Step, World
from scenarios._worlds import in_every_world
from websockets.exceptions import (
    ConnectionClosed,
    ConnectionClosedError,
    ConnectionClosedOK,
    InvalidHeaderValue,
    InvalidMessage,
    InvalidStatus,
    SecurityError,
)
from websockets.protocol import State

LOGGER = "websockets.client"


def series(*delays: float) -> Callable[[], Iterator[float]]:
    """Delays for ``reconnect_delays``."""
    return lambda: iter(delays)


async def listen(connection: Any) -> None:
    with contextlib.suppress(ConnectionClosed):
        async for _ in connection:
            pass


async def visit(world: World, web: Site, times: int, **options: Any) -> list[End]:
    """Connect so many times, and stay each time until the server closes."""
    connections: list[End] = []
    async for connection in world.connect(web.uri(), **options):
        connections.append(connection)
        if len(connections) == times:
            break
        await listen(connection)
    return connections


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
@in_every_world()
async def test_refusals_that_pass_however_they_are_written(world: World, answer: bytes, times: list[float]) -> None:
    async with world.site([answer, let_in]) as web:
        async for _ in world.connect(web.uri(), reconnect_delays=series(1)):
            break
        assert web.times == times


@in_every_world()
async def test_a_refusal_whose_body_does_not_end_is_one_that_passes(world: World) -> None:
    async def busy(peer: Peer, asked: Asked) -> None:
        await peer.write(b"HTTP/1.1 503 Busy\r\nRetry-After: 7\r\n\r\n")
        await world.sleep(3600)

    async with world.site([busy, let_in]) as web:
        async for _ in world.connect(web.uri(), reconnect_delays=series(1), open_timeout=3):
            break
        assert web.times == [0, 10]


@in_every_world()
async def test_new_connection_each_time(world: World) -> None:
    connections: list[End] = []
    async with world.site([let_in]) as web:
        async for connection in world.connect(web.uri(), reconnect_delays=itertools.repeat(0).__iter__):
            assert all(earlier.state is State.CLOSED for earlier in connections)
            assert connection.state is State.OPEN
            connections.append(connection)
            if len(connections) == 3:
                break
            await world.sleep(1)
        await world.settle()
        assert [earlier.close_code for earlier in connections] == [1000, 1000, 1000]
        assert web.times == [0, 1, 2]


@in_every_world()
async def test_additional_headers_are_read_for_each_attempt(world: World) -> None:
    headers = {"X-Token": "1"}
    async with world.site([let_in_and_close(1000, 5)]) as web:
        async for connection in world.connect(web.uri(), additional_headers=headers, reconnect_delays=series(1)):
            await listen(connection)
            if len(web.asked) == 2:
                break
            headers["X-Token"] = "2"
        assert [asked.headers["X-Token"] for asked in web.asked] == [["1"], ["2"]]


@in_every_world()
async def test_connection_that_closes_in_the_body(world: World) -> None:
    seen: list[type[Exception]] = []
    async with world.site([let_in_and_close(1000, 5), let_in_and_close(1011, 5), let_in]) as web:
        async for connection in world.connect(web.uri(), reconnect_delays=series(1)):
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
@in_every_world()
async def test_exception_in_the_body(world: World, error: Any) -> None:
    connections: list[End] = []
    async with world.site([let_in]) as web:

        async def main() -> None:
            async for connection in world.connect(web.uri()):
                connections.append(connection)
                raise error

        with pytest.raises((LookupError, ConnectionClosedError)):
            await main()
        await world.settle()
        assert [connection.state for connection in connections] == [State.CLOSED]
        assert len(web.asked) == 1


RETRIED: list[tuple[str, Answer, float, str]] = [
    *(
        (
            f"status {status}",
            refuse(status),
            0,
            f"InvalidStatus: server rejected WebSocket connection: HTTP {status} "
            f"(the response has 'Refused': HTTP {status})",
        )
        for status in (429, 500, 502, 503, 504)
    ),
    ("end of the stream", b"", 0, "InvalidMessage: did not receive a valid HTTP response"),
    ("half a response", wire.response()[:-2], 0, "InvalidMessage: did not receive a valid HTTP response"),
    ("reset", reset, 0, "InvalidMessage: did not receive a valid HTTP response"),
    ("silence", hang, 10, "TimeoutError: LATE"),
]


@pytest.mark.parametrize(("answer", "took", "text"), [row[1:] for row in RETRIED], ids=[row[0] for row in RETRIED])
@in_every_world()
async def test_tried_again(
    world: World, answer: Answer, took: float, text: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, LOGGER)
    async with world.site([answer, let_in]) as web:
        (connection,) = await visit(world, web, 1, reconnect_delays=series(3))
        assert connection.response is not None
        assert web.times == [0, took + 3]
    (line,) = messages(caplog)
    assert line.replace("websockets.exceptions.", "") == f"connect failed; reconnecting in 3.0 seconds: {text}".replace(
        "LATE", world.late[Step.RESPONSE]
    )


async def wrong_accept(peer: Peer, asked: Asked) -> None:
    await peer.write(wire.response(key="x"))
    await peer.read_until_eof()


FATAL: list[tuple[str, Answer, type[Exception]]] = [
    *((f"status {status}", refuse(status), InvalidStatus) for status in (200, 400, 401, 403, 404, 426, 501, 505)),
    ("garbage", b"hello\r\n\r\n", InvalidMessage),
    ("wrong Accept", wrong_accept, InvalidHeaderValue),
    ("redirects", redirect("/"), SecurityError),
]


@pytest.mark.parametrize(("answer", "kind"), [row[1:] for row in FATAL], ids=[row[0] for row in FATAL])
@in_every_world()
async def test_not_tried_again(world: World, answer: Answer, kind: type[Exception]) -> None:
    async with world.site([answer]) as web:
        start = world.now()
        with pytest.raises(kind):
            await visit(world, web, 1)
        assert world.now() == start


@in_every_world(Capability.ADDRESSES)
async def test_server_that_is_not_there_yet(world: World) -> None:
    start = world.now()
    attempts = world.connect("ws://localhost:8000/", reconnect_delays=series(1, 2, 3))

    async def reconnect() -> Any:
        async for connection in attempts:
            return connection
        raise AssertionError("never reached")

    first = world.start(reconnect)
    await world.sleep(4)
    assert not first.done()
    async with world.site([let_in], port=8000) as web:
        connection = await first.result()
        assert world.now() - start == pytest.approx(6)
        assert len(web.asked) == 1
        await connection.close()


@in_every_world(Capability.ADDRESSES)
async def test_redirects_do_not_change_where_the_next_attempt_begins(world: World) -> None:
    async with world.site([let_in_and_close(1001, 5)], port=81) as second:
        async with world.site([redirect("ws://localhost:81/")], port=80) as first:
            async for connection in world.connect("ws://localhost:80/start", reconnect_delays=series(1)):
                await listen(connection)
                if len(second.asked) == 2:
                    break
    assert first.targets == ["/start", "/start"]
    assert second.targets == ["/", "/"]


@in_every_world()
async def test_deadline_for_each_attempt(world: World) -> None:
    async with world.site([hang]) as web:
        with pytest.raises(TimeoutError, match=f"^{world.late[Step.RESPONSE]}$"):
            await visit(world, web, 1, open_timeout=2, reconnect_delays=series(1, 1))
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
@in_every_world()
async def test_delays(world: World, answers: list[Answer], delays: Sequence[float], times: Sequence[float]) -> None:
    async with world.site(answers) as web:
        connections = sum(callable(answer) for answer in answers)
        await visit(world, web, connections, reconnect_delays=series(*delays))
        assert web.times == times


@in_every_world()
async def test_accept_then_close_is_no_hot_loop(world: World, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, LOGGER)
    async with world.site([let_in_and_close(1013)]) as web:
        task = world.start(visit, world, web, 1000)
        await world.sleep(3600)
        await task.stop()
        assert len(web.asked) < 60
    lines = messages(caplog)
    assert len(lines) < 60
    assert lines[-1].endswith("seconds: received 1013 (try again later); then sent 1013 (try again later)")


@in_every_world()
async def test_each_iteration_has_delays_of_its_own(world: World) -> None:
    async with world.site([refuse(503), let_in, refuse(503), let_in]) as web:
        connecting = world.connect(web.uri(), reconnect_delays=series(1, 100))
        for _ in range(2):
            async for _connection in connecting:
                break
        await world.settle()
        assert web.times == [0, 1, 1, 2]


@in_every_world()
async def test_connection_must_outlive_retry_after(world: World) -> None:
    async with world.site([refuse(503, {"Retry-After": "60"}), let_in_and_close(after=30), let_in]) as web:
        await visit(world, web, 2, reconnect_delays=series(1, 2))
        assert web.times == [0, 60, 92]


# ------------------------------------------------------------------------------------------------------------ giving up


@pytest.mark.parametrize("delays", [(), (1, 2)])
@in_every_world()
async def test_no_more_delays_after_a_failure(world: World, delays: tuple[float, ...]) -> None:
    async with world.site([refuse(503)]) as web:
        with pytest.raises(InvalidStatus, match="HTTP 503"):
            await visit(world, web, 1, reconnect_delays=series(*delays))
        assert web.times == [0, 1, 3][: len(delays) + 1]


@in_every_world()
async def test_last_error_keeps_its_cause(world: World) -> None:
    async with world.site([reset]) as web:
        with pytest.raises(InvalidMessage) as caught:
            await visit(world, web, 1, reconnect_delays=series(1))
        assert isinstance(caught.value.__cause__, EOFError)
        assert isinstance(caught.value.__cause__.__cause__, ConnectionResetError)


@in_every_world()
async def test_no_more_delays_after_a_connection(world: World) -> None:
    async with world.site([let_in_and_close(1013)]) as web:
        with pytest.raises(ConnectionClosedError, match="^received 1013 "):
            await visit(world, web, 9, reconnect_delays=series(1, 2))
        assert web.times == [0, 1, 3]


@in_every_world()
async def test_closure_keeps_its_cause(world: World) -> None:
    async def break_off(peer: Peer, asked: Asked) -> None:
        await peer.write(wire.response(key=asked.headers["Sec-WebSocket-Key"][0]))
        await world.settle()
        peer.reset()

    async with world.site([break_off]) as web:
        with pytest.raises(ConnectionClosedError) as caught:
            await visit(world, web, 9, reconnect_delays=series())
        assert isinstance(caught.value.__cause__, ConnectionResetError)


@in_every_world()
async def test_last_delay_can_be_outlived(world: World) -> None:
    async with world.site([refuse(503), let_in_and_close(after=2), refuse(503), let_in]) as web:
        await visit(world, web, 2, reconnect_delays=series(1))
        assert web.times == [0, 1, 3, 4]


@in_every_world()
async def test_process_exception_tries_again(world: World) -> None:
    seen: list[Exception] = []
    async with world.site([refuse(404), b"garbage\r\n\r\n", let_in]) as web:
        await visit(world, web, 1, process_exception=seen.append, reconnect_delays=series(1, 1))
        assert web.times == [0, 1, 2]
    assert [type(exc) for exc in seen] == [InvalidStatus, InvalidMessage]


@in_every_world()
async def test_process_exception_gives_up(world: World) -> None:
    async with world.site([refuse(503)]) as web:
        with pytest.raises(InvalidStatus) as caught:
            await visit(world, web, 1, process_exception=lambda exc: exc)
        assert caught.value.__cause__ is None
        assert caught.value.__context__ is None
        assert len(web.asked) == 1


@in_every_world()
async def test_process_exception_gives_another_exception(world: World) -> None:
    error = LookupError("mine")
    async with world.site([refuse(503)]) as web:
        with pytest.raises(LookupError) as caught:
            await visit(world, web, 1, process_exception=lambda exc: error)
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
@in_every_world()
async def test_process_exception_raises(world: World, process: Callable[[Exception], Exception | None]) -> None:
    async with world.site([refuse(503)]) as web:
        with pytest.raises(LookupError, match="mine") as caught:
            await visit(world, web, 1, process_exception=process)
        assert len(web.asked) == 1
    assert isinstance(caught.value.__cause__, InvalidStatus)


@in_every_world()
async def test_process_exception_raises_what_it_was_given(world: World) -> None:
    def process(exc: Exception) -> Exception | None:
        raise exc

    async with world.site([refuse(503)]) as web:
        with pytest.raises(InvalidStatus) as caught:
            await visit(world, web, 1, process_exception=process)
    assert (caught.value.__cause__, caught.value.__context__) == (None, None)


@in_every_world()
async def test_process_exception_is_for_iterations(world: World) -> None:
    def process(exc: Exception) -> Exception | None:
        raise AssertionError("never called")

    async with world.site([refuse(503)]) as web:
        with pytest.raises(InvalidStatus):
            await world.connect(web.uri(), process_exception=process)
