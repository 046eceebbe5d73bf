"""What programs expect of a server on each event loop, as asyncio's own servers have it: who goes on when it closes."""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Callable
from typing import Any

import pytest

from _kit import steps
from robustness.worlds import each_loop
from websockets.asyncio.server import serve
from websockets.legacy.server import serve as serve_of_old
from websockets.utils import get_socket_name

each_server = pytest.mark.parametrize("make", [serve, serve_of_old], ids=["today", "legacy"])


async def handler(connection: Any) -> None:
    await connection.wait_closed()


@pytest.mark.parametrize("count", [1, 2, 3, 10])
@each_server
@each_loop
async def test_serve_forever_that_is_cancelled_closes_the_server(make: Callable[..., Any], count: int) -> None:
    """At any step: asyncio lets others run before a server begins to listen."""
    server = await make(handler, "127.0.0.1", 0)
    forever = asyncio.create_task(server.serve_forever())
    await steps(count)
    forever.cancel()
    await asyncio.wait([forever])
    assert forever.cancelled()
    assert not server.is_serving()
    assert server.sockets == ()
    await server.wait_closed()


@each_server
@each_loop
async def test_tasks_that_wait_have_ended_when_the_server_has(make: Callable[..., Any]) -> None:
    async with make(handler, "127.0.0.1", 0) as server:
        waiting = [asyncio.create_task(server.wait_closed()) for _ in range(3)]
        await steps(3)
        assert not any(task.done() for task in waiting)
    assert all(task.done() for task in waiting)
    # And who comes late doesn't wait.
    late = asyncio.create_task(server.wait_closed())
    await steps(1)
    assert late.done()


@each_server
@each_loop
async def test_waiting_without_closing(make: Callable[..., Any]) -> None:
    server = await make(handler, "127.0.0.1", 0)
    impatient = asyncio.create_task(asyncio.wait_for(server.wait_closed(), 0.01))
    patient = asyncio.create_task(server.wait_closed())
    await asyncio.wait([impatient])
    assert isinstance(impatient.exception(), TimeoutError)
    server.close()
    await patient


@each_server
@each_loop
async def test_sockets(make: Callable[..., Any]) -> None:
    async with make(handler, ["127.0.0.1", "127.0.0.2"], 0) as server:
        assert isinstance(server.sockets, tuple)
        assert sorted(listening.getsockname()[0] for listening in server.sockets) == ["127.0.0.1", "127.0.0.2"]
        assert server.sockets[0].family == socket.AF_INET
    assert server.sockets == ()


def test_what_the_log_says_of_a_socket(caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        async with serve(handler, "127.0.0.1", 0) as server:
            name = get_socket_name(server.sockets[0])
            assert name == f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
            assert caplog.messages == [f"server listening on {name}"]

    caplog.set_level(logging.INFO, "websockets.server")
    asyncio.run(main())
