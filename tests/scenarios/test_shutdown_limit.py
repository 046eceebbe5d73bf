"""Shutdown of servers with a timeout, with clients and handlers that don't end."""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import Any

import pytest

from _kit import request, wire
from _kit.logs import lines
from scenarios._serving import GOING_AWAY, enter
from scenarios._world import Capability, Server, World
from scenarios._worlds import in_every_world
from websockets.exceptions import ProtocolError

LOGGER = "websockets.server"


def serving(world: World, handler: Callable[..., Any], **options: Any) -> AbstractAsyncContextManager[Server]:
    return world.serve(handler, compression=None, ping_interval=None, close_timeout=None, **options)


def forever(world: World) -> Callable[..., Any]:
    """A handler that ends when it is cancelled."""

    async def handler(connection: Any) -> None:
        await world.gate().wait()

    return handler


async def closed_after(world: World, server: Server) -> float:
    """Seconds until the server is closed."""
    start = world.now()
    await server.wait_closed()
    return world.now() - start


@in_every_world(Capability.CANCELLATION)
async def test_handler_that_never_ends(world: World) -> None:
    async with serving(world, forever(world)) as server:
        peers = [await enter(world, server) for _ in range(3)]
        server.close(timeout=5)
        assert await closed_after(world, server) == pytest.approx(5, abs=0.02)
        for peer in peers:
            # The farewell was sent at once; there was no answer to it.
            assert (await peer.frame()).payload == GOING_AWAY
            await world.settle()
            assert peer.let_go
            peer.hang_up()


@in_every_world(Capability.CANCELLATION)
async def test_nothing_to_wait_for(world: World) -> None:
    async with serving(world, forever(world)) as server:
        server.close(timeout=5)
        assert await closed_after(world, server) == 0


@in_every_world()
async def test_handler_that_ends_in_time_is_not_cancelled(world: World) -> None:
    ends: list[str] = []

    async def handler(connection: Any) -> None:
        await connection.wait_closed()
        await world.sleep(3)
        ends.append("by itself")

    async with serving(world, handler) as server:
        peer = await enter(world, server)
        server.close(timeout=5)
        await peer.frame()
        await peer.write(wire.frame(wire.CLOSE, GOING_AWAY, mask=True))
        peer.hang_up()
        assert await closed_after(world, server) == pytest.approx(3, abs=0.02)
        assert ends == ["by itself"]


@in_every_world(Capability.CANCELLATION)
async def test_no_time_at_all(world: World) -> None:
    async with serving(world, forever(world)) as server:
        peer = await enter(world, server)
        server.close(timeout=0)
        assert await closed_after(world, server) == 0
        peer.hang_up()


@in_every_world()
async def test_client_that_never_answers_the_close(world: World) -> None:
    async def handler(connection: Any) -> None:
        async for _ in connection:
            pass

    async with serving(world, handler) as server:
        peer = await enter(world, server)
        server.close(timeout=2, reason="restart")
        assert await closed_after(world, server) == pytest.approx(2, abs=0.02)
        assert (await peer.frame()).payload == GOING_AWAY + b"restart"
        peer.hang_up()


@in_every_world(Capability.CANCELLATION)
async def test_connections_that_may_stay_are_told_before_they_are_cut_off(world: World) -> None:
    async with serving(world, forever(world)) as server:
        peer = await enter(world, server)
        server.close(close_connections=False, code=1012, timeout=60)
        await world.advance(59)
        assert len(server.connections) == 1
        assert await closed_after(world, server) == pytest.approx(1, abs=0.02)
        assert (await peer.frame()).payload == (1012).to_bytes(2, "big")
        peer.hang_up()


# What a program does that lets connections end by themselves first, and what they are told then.
FIRST_CALLS: dict[str, tuple[dict[str, Any], bytes]] = {
    "stay": ({"close_connections": False}, GOING_AWAY),
    "stay, with a code": ({"close_connections": False, "code": 1012}, b"\x03\xf4"),
    "stay, with a reason": ({"close_connections": False, "code": 4000, "reason": "moving"}, b"\x0f\xa0moving"),
    "code": ({"code": 1012}, b"\x03\xf4"),
    "code and reason": ({"code": 1012, "reason": "restart"}, b"\x03\xf4restart"),
}


@pytest.mark.parametrize("second", [{}, {"code": 1013, "reason": "other"}, {"close_connections": False}], ids=str)
@pytest.mark.parametrize(("first", "payload"), FIRST_CALLS.values(), ids=FIRST_CALLS)
@in_every_world(Capability.CANCELLATION)
async def test_limit_after_a_close_without_one(
    world: World, first: dict[str, Any], payload: bytes, second: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    """The first call says what connections are told, and the second only until when."""
    caplog.set_level(logging.INFO, LOGGER)
    async with serving(world, forever(world)) as server:
        peers = [await enter(world, server) for _ in range(2)]
        staying = not first.get("close_connections", True)
        caplog.clear()
        server.close(**first)
        await world.advance(100)
        assert len(server.connections) == (2 if staying else 0)
        server.close(timeout=7, **second)
        await world.advance(6.9)
        # Who may stay isn't told before the time is over, and everybody else was told at once.
        assert [bool(peer.unread) for peer in peers] == [not staying] * 2
        assert not any(peer.let_go for peer in peers)
        assert len(server.all_connections) == 2
        assert await closed_after(world, server) == pytest.approx(0.1, abs=0.02)
        await world.settle()
        for peer in peers:
            rows, rest = wire.parse(peer.unread)
            assert ([(row.opcode, row.payload) for row in rows], rest) == ([(wire.CLOSE, payload)], b"")
            assert peer.let_go
            peer.hang_up()
        server.close()
        await server.wait_closed()
    assert lines(caplog.records) == ["server closing", "connection closed", "connection closed", "server closed"]


@in_every_world()
async def test_those_who_leave_before_the_limit_are_told_nothing(world: World) -> None:
    ended: list[float] = []

    async def handler(connection: Any) -> None:
        async for message in connection:
            await connection.send(message)
        ended.append(world.now())

    async with serving(world, handler) as server:
        peer = await enter(world, server)
        start = world.now()
        server.close(close_connections=False, code=1012)
        server.close(timeout=60)
        await world.advance(30)
        # It is served as before.
        await peer.write(wire.text("still here", mask=True))
        assert (await peer.frame()).payload == b"still here"
        await peer.write(wire.close(1000, mask=True))
        assert (await peer.frame()).payload == b"\x03\xe8"
        peer.hang_up()
        await server.wait_closed()
        assert world.now() - start == pytest.approx(30, abs=0.02)
        assert ended == [world.now()]


@in_every_world(Capability.CANCELLATION)
async def test_hook_that_never_answers(world: World, caplog: pytest.LogCaptureFixture) -> None:
    async def hook(*_: Any) -> None:
        await world.gate().wait()

    async with serving(world, forever(world), process_request=hook, open_timeout=None) as server:
        peer = await world.reach(server)
        await peer.write(request())
        await world.settle()
        caplog.set_level(logging.INFO, LOGGER)
        server.close(timeout=2)
        assert await closed_after(world, server) == pytest.approx(2, abs=0.02)
        assert lines(caplog.records) == ["server closing", "server closed"]
        peer.hang_up()


@in_every_world(Capability.CANCELLATION)
async def test_client_that_says_nothing_and_stays(world: World) -> None:
    async with serving(world, forever(world), open_timeout=None) as server:
        peer = await world.reach(server)
        await world.settle()
        server.close(timeout=2)
        assert await closed_after(world, server) == pytest.approx(2, abs=0.02)
        assert (await peer.read_until_eof()).startswith(b"HTTP/1.1 503 ")
        peer.hang_up()


@in_every_world(Capability.CANCELLATION)
async def test_handler_that_waits_for_the_server(world: World) -> None:
    async def handler(connection: Any) -> None:
        connection.server.close(timeout=1)
        await connection.server.wait_closed()

    async with serving(world, handler) as server:
        peer = await enter(world, server)
        assert await closed_after(world, server) == pytest.approx(1, abs=0.02)
        peer.hang_up()


@pytest.mark.parametrize(
    ("timeouts", "seconds"),
    [((None, 3), 3), ((5, 3), 3), ((3, 5), 3), ((5, None), 5), ((3, 3, 0), 0)],
    ids=lambda value: str(value),
)
@in_every_world(Capability.CANCELLATION)
async def test_limit_is_brought_forward(world: World, timeouts: tuple[float | None, ...], seconds: float) -> None:
    async with serving(world, forever(world)) as server:
        peer = await enter(world, server)
        for timeout in timeouts:
            server.close(timeout=timeout)
        assert await closed_after(world, server) == pytest.approx(seconds, abs=0.02)
        # Too late for another.
        server.close(timeout=1)
        peer.hang_up()


@in_every_world(Capability.CANCELLATION)
async def test_limit_that_is_set_later(world: World) -> None:
    async with serving(world, forever(world)) as server:
        peer = await enter(world, server)
        server.close()
        await world.advance(100)
        server.close(timeout=1)
        assert await closed_after(world, server) == pytest.approx(1, abs=0.02)
        peer.hang_up()


LIMIT = "timeout must be a number of seconds, 0 or more, or None for no limit"


@pytest.mark.parametrize(
    ("timeout", "kind", "error"),
    [
        (-1, ValueError, f"{LIMIT}, not -1"),
        (float("nan"), ValueError, f"{LIMIT}, not nan"),
        ("5", TypeError, f"{LIMIT}, not '5'"),
        (True, TypeError, f"{LIMIT}, not True"),
    ],
)
@in_every_world(Capability.CANCELLATION)
async def test_limit_that_makes_no_sense(world: World, timeout: Any, kind: type[Exception], error: str) -> None:
    async with serving(world, forever(world)) as server:
        with pytest.raises(kind, match=f"^{error}$"):
            server.close(timeout=timeout)
        with pytest.raises(ProtocolError):
            server.close(code=1006, timeout=0)
        assert server.is_serving()
