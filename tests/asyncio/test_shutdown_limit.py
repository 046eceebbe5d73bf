"""Servers on asyncio that close within a limit, whatever clients and handlers do."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import ssl
from collections.abc import Callable
from typing import Any

import pytest

from _kit import RawPeer, advance, idle, request, virtual, wire
from _kit.asking import reach
from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.exceptions import ProtocolError

LOGGER = "websockets.server"
GOING_AWAY = (1001).to_bytes(2, "big")
LEFT_BEHIND = "connection handler still runs after it was cancelled; the server closes without it"


def now() -> float:
    return asyncio.get_running_loop().time()


def serving(handler: Callable[..., Any], **options: Any) -> Server:
    return serve(handler, "localhost", 0, compression=None, ping_interval=None, close_timeout=None, **options)


async def enter(server: Server) -> RawPeer:
    """A client that is in, and that never answers anything."""
    peer = await reach(server)
    await peer.send(request())
    assert (await peer.read_until()).startswith(b"HTTP/1.1 101 ")
    return peer


async def forever(connection: ServerConnection) -> None:
    await asyncio.Event().wait()


class Stubborn:
    """A handler that goes on when it is cancelled, so many times."""

    def __init__(self, times: int) -> None:
        self.times = times
        self.cancelled: list[float] = []
        self.release = asyncio.Event()

    async def __call__(self, connection: ServerConnection) -> None:
        while not self.release.is_set():
            try:
                await self.release.wait()
            except asyncio.CancelledError:
                self.cancelled.append(now())
                if len(self.cancelled) > self.times:
                    raise


async def closed_after(server: Server) -> float:
    """Seconds until the server is closed."""
    start = now()
    await server.wait_closed()
    return now() - start


@virtual
async def test_handler_that_never_ends() -> None:
    async with serving(forever) as server:
        peers = [await enter(server) for _ in range(3)]
        server.close(timeout=5)
        assert await closed_after(server) == pytest.approx(5, abs=0.02)
        for peer in peers:
            # The farewell was sent at once; there was no answer to it.
            assert (await peer.read_frame()).payload == GOING_AWAY
            await idle()
            assert peer.link.server.closed
            peer.close()


@virtual
async def test_nothing_to_wait_for() -> None:
    async with serving(forever) as server:
        server.close(timeout=5)
        assert await closed_after(server) == 0


@virtual
async def test_handler_that_ends_in_time_is_not_cancelled() -> None:
    ends: list[str] = []

    async def handler(connection: ServerConnection) -> None:
        await connection.wait_closed()
        await asyncio.sleep(3)
        ends.append("by itself")

    async with serving(handler) as server:
        peer = await enter(server)
        server.close(timeout=5)
        await peer.read_frame()
        await peer.send(wire.frame(wire.CLOSE, GOING_AWAY, mask=True))
        peer.close()
        assert await closed_after(server) == pytest.approx(3, abs=0.02)
        assert ends == ["by itself"]


@virtual
async def test_no_time_at_all() -> None:
    async with serving(forever) as server:
        peer = await enter(server)
        server.close(timeout=0)
        assert await closed_after(server) == 0
        peer.close()


@virtual
async def test_client_that_never_answers_the_close() -> None:
    async def handler(connection: ServerConnection) -> None:
        async for _ in connection:
            pass

    async with serving(handler) as server:
        peer = await enter(server)
        server.close(timeout=2, reason="restart")
        assert await closed_after(server) == pytest.approx(2, abs=0.02)
        assert (await peer.read_frame()).payload == GOING_AWAY + b"restart"
        peer.close()


@virtual
async def test_connections_that_may_stay_are_told_before_they_are_cut_off() -> None:
    async with serving(forever) as server:
        peer = await enter(server)
        server.close(close_connections=False, code=1012, timeout=60)
        await advance(59)
        assert len(server.connections) == 1
        assert await closed_after(server) == pytest.approx(1, abs=0.02)
        assert (await peer.read_frame()).payload == (1012).to_bytes(2, "big")
        peer.close()


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
@virtual
async def test_limit_after_a_close_without_one(
    first: dict[str, Any], payload: bytes, second: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    """The first call says what connections are told, and the second only until when."""
    caplog.set_level(logging.INFO, LOGGER)
    async with serving(forever) as server:
        peers = [await enter(server) for _ in range(2)]
        staying = not first.get("close_connections", True)
        caplog.clear()
        server.close(**first)
        await advance(100)
        assert len(server.connections) == (2 if staying else 0)
        server.close(timeout=7, **second)
        await advance(6.9)
        # Who may stay isn't told before the time is over, and everybody else was told at once.
        assert [bool(peer.unread) for peer in peers] == [not staying] * 2
        assert not any(peer.link.server.closed for peer in peers)
        assert len(server._registry.all) == 2
        assert await closed_after(server) == pytest.approx(0.1, abs=0.02)
        await idle()
        for peer in peers:
            rows, rest = wire.parse(peer.unread)
            assert ([(row.opcode, row.payload) for row in rows], rest) == ([(wire.CLOSE, payload)], b"")
            assert peer.link.server.closed
            peer.close()
        server.close()
        await server.wait_closed()
    assert caplog.messages == ["server closing", "connection closed", "connection closed", "server closed"]


@virtual
async def test_those_who_leave_before_the_limit_are_told_nothing() -> None:
    ended: list[float] = []

    async def handler(connection: ServerConnection) -> None:
        async for message in connection:
            await connection.send(message)
        ended.append(now())

    async with serving(handler) as server:
        peer = await enter(server)
        start = now()
        server.close(close_connections=False, code=1012)
        server.close(timeout=60)
        await advance(30)
        # It is served as before.
        await peer.send(wire.text("still here", mask=True))
        assert (await peer.read_frame()).payload == b"still here"
        await peer.send(wire.close(1000, mask=True))
        assert (await peer.read_frame()).payload == b"\x03\xe8"
        peer.close()
        await server.wait_closed()
        assert now() - start == pytest.approx(30, abs=0.02)
        assert ended == [now()]


@virtual
async def test_hook_that_never_answers(caplog: pytest.LogCaptureFixture) -> None:
    async def hook(*_: Any) -> None:
        await asyncio.Event().wait()

    async with serving(forever, process_request=hook, open_timeout=None) as server:
        peer = await reach(server)
        await peer.send(request())
        await idle()
        caplog.set_level(logging.INFO, LOGGER)
        server.close(timeout=2)
        assert await closed_after(server) == pytest.approx(2, abs=0.02)
        assert caplog.messages == ["server closing", "connection closed", "server closed"]
        peer.close()


@virtual
async def test_client_that_says_nothing_and_stays() -> None:
    async with serving(forever, open_timeout=None) as server:
        peer = await reach(server)
        await idle()
        server.close(timeout=2)
        assert await closed_after(server) == pytest.approx(2, abs=0.02)
        assert (await peer.read_until_eof()).startswith(b"HTTP/1.1 503 ")
        peer.close()


# ------------------------------------------------------------------------------------------------- stubborn handlers


@virtual
async def test_handler_that_swallows_one_cancellation(caplog: pytest.LogCaptureFixture) -> None:
    handler = Stubborn(1)
    async with serving(handler) as server:
        peer = await enter(server)
        start = now()
        server.close(timeout=5)
        assert await closed_after(server) == pytest.approx(6, abs=0.02)
        assert [time - start for time in handler.cancelled] == pytest.approx([5, 6], abs=0.02)
        assert caplog.messages == []
        peer.close()


@virtual
async def test_handler_that_needs_a_moment_to_clean_up() -> None:
    cleaned: list[float] = []

    async def handler(connection: ServerConnection) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0.5)
            cleaned.append(now())

    async with serving(handler) as server:
        peer = await enter(server)
        server.close(timeout=5)
        assert await closed_after(server) == pytest.approx(5.5, abs=0.02)
        assert len(cleaned) == 1
        peer.close()


@virtual
async def test_handler_that_never_ends_though_it_is_cancelled(caplog: pytest.LogCaptureFixture) -> None:
    handler = Stubborn(100)
    async with serving(handler) as server:
        peers = [await enter(server) for _ in range(2)]
        (connection, *_) = server.connections
        server.close(timeout=5)
        assert await closed_after(server) == pytest.approx(7, abs=0.02)
        assert len(handler.cancelled) == 4
        assert [(record.levelname, record.getMessage()) for record in caplog.records] == [("ERROR", LEFT_BEHIND)] * 2
        assert connection in [record.__dict__["websocket"] for record in caplog.records]
        # It may still end by itself; nobody minds.
        handler.release.set()
        await idle()
        assert not server._registry.all
        for peer in peers:
            peer.close()


@virtual
async def test_handler_that_fails_when_it_is_cancelled(caplog: pytest.LogCaptureFixture) -> None:
    async def handler(connection: ServerConnection) -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            raise RuntimeError("not now") from None

    async with serving(handler) as server:
        peer = await enter(server)
        server.close(timeout=5)
        assert await closed_after(server) == pytest.approx(5, abs=0.02)
        assert caplog.messages == ["connection handler failed"]
        peer.close()


@virtual
async def test_handler_that_waits_for_the_server() -> None:
    async def handler(connection: ServerConnection) -> None:
        connection.server.close(timeout=1)
        await connection.server.wait_closed()

    async with serving(handler) as server:
        peer = await enter(server)
        assert await closed_after(server) == pytest.approx(1, abs=0.02)
        peer.close()


# ---------------------------------------------------------------------------------------------------- TLS, and limits


@virtual
async def test_client_that_never_gets_through_tls() -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    async with serving(forever, ssl=context, ssl_handshake_timeout=60) as server:
        peer = await reach(server)
        await idle()
        server.close(timeout=5)
        # Not ours to cut off, except where asyncio offers a way.
        assert await closed_after(server) <= 7.02
        peer.close()
        await advance(60)


@pytest.mark.parametrize(
    ("timeouts", "seconds"),
    [((None, 3), 3), ((5, 3), 3), ((3, 5), 3), ((5, None), 5), ((3, 3, 0), 0)],
    ids=lambda value: str(value),
)
@virtual
async def test_limit_is_brought_forward(timeouts: tuple[float | None, ...], seconds: float) -> None:
    async with serving(forever) as server:
        peer = await enter(server)
        for timeout in timeouts:
            server.close(timeout=timeout)
        assert await closed_after(server) == pytest.approx(seconds, abs=0.02)
        # Too late for another.
        server.close(timeout=1)
        peer.close()


@virtual
async def test_limit_that_is_set_later() -> None:
    async with serving(forever) as server:
        peer = await enter(server)
        server.close()
        await advance(100)
        server.close(timeout=1)
        assert await closed_after(server) == pytest.approx(1, abs=0.02)
        peer.close()


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
@virtual
async def test_limit_that_makes_no_sense(timeout: Any, kind: type[Exception], error: str) -> None:
    async with serving(forever) as server:
        with pytest.raises(kind, match=f"^{error}$"):
            server.close(timeout=timeout)
        with pytest.raises(ProtocolError):
            server.close(code=1006, timeout=0)
        assert server.is_serving()


@virtual
async def test_serve_forever_ends_in_time() -> None:
    async with serving(forever) as server:
        peer = await enter(server)
        serving_forever = asyncio.create_task(server.serve_forever())
        await idle()
        server.close(timeout=4)
        start = now()
        await serving_forever
        assert now() - start == pytest.approx(4, abs=0.02)
        peer.close()


def test_server_is_closed_without_a_running_loop() -> None:
    """As in programs that call close() between two calls of run_until_complete()."""

    async def start() -> tuple[Server, asyncio.StreamWriter]:
        server = await serve(handler, "127.0.0.1", 0)
        _, writer = await asyncio.open_connection(*next(iter(server.sockets)).getsockname())
        writer.write(request())
        await entered.wait()
        return server, writer

    async def handler(connection: ServerConnection) -> None:
        entered.set()
        await forever(connection)

    entered = asyncio.Event()
    loop = asyncio.new_event_loop()
    with contextlib.closing(loop):
        server, writer = loop.run_until_complete(start())
        server.close(timeout=0)
        loop.run_until_complete(server.wait_closed())
        assert not server._registry.all
        writer.close()
        with contextlib.suppress(ConnectionError):
            loop.run_until_complete(writer.wait_closed())
