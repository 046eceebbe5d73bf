"""Servers on asyncio with a limit of connections: tasks, Unix sockets, the legacy API, wrong options."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Any

import pytest

from _kit import RawPeer, VirtualLoop, idle, request, virtual
from _kit.asking import ask, reach
from _kit.logs import lines
from websockets._rules import capacity as _capacity
from websockets.asyncio.server import Server, ServerConnection, ServerStatistics, serve, unix_serve
from websockets.http11 import Request
from websockets.legacy.server import WebSocketServerProtocol

FULL = b"Failed to open a WebSocket connection: too many connections.\n"


async def wait(connection: ServerConnection) -> None:
    await connection.wait_closed()


def serving(handler: Callable[..., Any] = wait, **options: Any) -> Server:
    return serve(handler, "localhost", 0, compression=None, ping_interval=None, **options)


async def enter(server: Server) -> RawPeer:
    """A client that is in."""
    peer = await reach(server)
    await peer.send(request())
    assert (await peer.read_until()).startswith(b"HTTP/1.1 101 ")
    return peer


async def knock(server: Server) -> RawPeer:
    """A client that was accepted, and says nothing."""
    peer = await reach(server)
    await idle()
    return peer


async def leave(*peers: RawPeer) -> None:
    for peer in peers:
        peer.close()
    await idle()


async def is_full(server: Server) -> bool:
    """Whether the next request is turned away."""
    answer = await ask(server, request())
    if answer.status != "503 Service Unavailable":
        return False
    assert answer.headers["Retry-After"] == ["5"]
    assert answer.headers["Connection"] == ["close"]
    assert answer.headers["Content-Length"] == [str(len(answer.body))]
    assert "Server" in answer.headers
    assert answer.body == FULL
    return True


@virtual
async def test_no_task_no_hook_and_one_line_for_those_beyond(caplog: pytest.LogCaptureFixture) -> None:
    asked: list[str] = []

    def hook(connection: ServerConnection, request: Request) -> None:
        asked.append(request.path)

    async with serving(max_connections=1, process_request=hook) as server:
        peer = await enter(server)
        asked.clear()
        tasks = asyncio.all_tasks()
        caplog.set_level(logging.INFO, "websockets.server")
        outside = [await reach(server) for _ in range(500)]
        for other in outside:
            await other.send(request())
        await idle()
        assert asyncio.all_tasks() == tasks
        assert [other.received.startswith(b"HTTP/1.1 503 ") for other in outside] == [True] * 500
        assert asked == []
        await leave(*outside)
        assert lines(caplog.records) == ["connection rejected (503 Service Unavailable)"] * 500
        assert len(server._ws_registry.all) == 1
        await leave(peer)


@virtual
async def test_those_who_cannot_be_told_are_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_capacity, "WAITING_LIMIT", 3)
    async with serving(max_connections=1) as server:
        peer = await enter(server)
        outside = [await knock(server) for _ in range(3)]
        crowd = [await knock(server) for _ in range(10)]
        assert {other.ended for other in crowd} == {"eof"}
        assert len(server._ws_registry.all) == 4
        assert server.statistics.refused == {"too many connections to be told": 10}
        for other in outside:
            await other.send(request())
            assert (await other.read_until_eof()).startswith(b"HTTP/1.1 503 ")
        await leave(peer, *outside, *crowd)
        assert server.statistics.refused == {"too many connections": 3, "too many connections to be told": 10}
        assert server.statistics.counted == 0


@virtual
async def test_connections_of_the_legacy_api() -> None:
    async with serving(max_connections=1, create_connection=WebSocketServerProtocol) as server:
        peer = await enter(server)
        assert await is_full(server)
        await leave(peer)
        assert server.statistics == ServerStatistics(0, 0, 1, {"too many connections": 1}, 0)


@virtual
async def test_unix_sockets_have_no_host() -> None:
    loop = asyncio.get_running_loop()
    assert isinstance(loop, VirtualLoop)
    async with unix_serve(wait, "/run/server", max_connections=3, max_connections_per_host=1):
        peers = [await loop.network.connect_unix("/run/server") for _ in range(4)]
        for peer in peers:
            await peer.send(request())
        await idle()
        assert [bytes(peer.received[9:12]) for peer in peers] == [b"101"] * 3 + [b"503"]
        await leave(*peers)


LEAST = "must be a whole number, 1 or more, or None for no limit"


@pytest.mark.parametrize(
    ("options", "kind", "error"),
    [
        ({"max_connections": 0}, ValueError, f"max_connections {LEAST}, not 0"),
        ({"max_connections_per_host": 2.5}, TypeError, f"max_connections_per_host {LEAST}, not 2.5"),
    ],
)
def test_limits_that_make_no_sense(options: Any, kind: type[Exception], error: str) -> None:
    with pytest.raises(kind, match=f"^{error}$"):
        serving(**options)
