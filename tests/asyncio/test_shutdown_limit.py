"""Servers on asyncio that close within a limit: handlers that resist cancellation, TLS, no running loop."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import ssl
from collections.abc import Callable
from typing import Any

import pytest

from _kit import RawPeer, idle, request, virtual
from _kit.asking import reach
from websockets.asyncio.server import Server, ServerConnection, serve

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
        assert not server._ws_registry.all
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
        assert [text.partition(":")[0] for text in caplog.messages] == ["connection handler failed"]
        peer.close()


# ---------------------------------------------------------------------------------------------------- TLS, and limits


@virtual
async def test_client_that_never_gets_through_tls(caplog: pytest.LogCaptureFixture) -> None:
    """The server doesn't wait for it, even without a timeout."""
    caplog.set_level(logging.INFO, "websockets.server")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    async with serving(forever, ssl=context, ssl_handshake_timeout=60, tls_transport="memory") as server:
        peer = await reach(server)
        await idle()
        server.close()
        assert await closed_after(server) == pytest.approx(0, abs=0.02)
        assert [text.partition(" closed: ")[2] for text in caplog.messages[1:]] == [
            *("", "TLS handshake failed: the server closes", "")
        ]
        peer.close()


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
        assert not server._ws_registry.all
        writer.close()
        with contextlib.suppress(ConnectionError):
            loop.run_until_complete(writer.wait_closed())
