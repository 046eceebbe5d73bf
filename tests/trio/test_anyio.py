"""The facade for programs on anyio: the same code on asyncio and on trio."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import anyio
import anyio.abc
import anyio.lowlevel
import pytest
import trio
from werkzeug.routing import Map, Rule

from _kit.on_both import echo, on_both
from websockets.anyio import (
    ClientConnection,
    Pong,
    Server,
    basic_auth,
    broadcast,
    connect,
    current_library,
    route,
    serve,
    unix_connect,
)
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.trio import client as trio_client


@contextlib.asynccontextmanager
async def serving(handler: Any = echo, **options: Any) -> AsyncIterator[tuple[Server, str]]:
    """A server at a free port, and its URI."""

    async def run(*, task_status: anyio.abc.TaskStatus[Server]) -> None:
        await serve(handler, 0, host="127.0.0.1", task_status=task_status, **options)

    async with anyio.create_task_group() as tasks:
        server = await tasks.start(run)
        async with server:
            yield server, f"ws://127.0.0.1:{server.addresses[0][1]}/"


@on_both
async def test_messages() -> None:
    async with serving() as (server, uri):
        async with connect(uri) as websocket:
            await websocket.send("hello")
            assert await websocket.recv() == "hello"
            await broadcast(server.connections, "to all")
            assert await websocket.recv() == "to all"
            assert server.statistics.open == 1
            await websocket.aclose(1001, "bye", timeout=5)
        assert (websocket.close_code, websocket.close_reason) == (1001, "bye")


@on_both
async def test_pings() -> None:
    async with serving() as (server, uri), connect(uri) as websocket:
        pong = await websocket.ping()
        await pong.wait()
        assert pong.is_set()
        (connection,) = server.connections
        pong = await connection.ping(b"abc")
        await pong.wait()
        assert websocket.latency > 0 or connection.latency > 0


@on_both
async def test_end_of_the_connection_as_an_answer() -> None:
    async with serving() as (_, uri), connect(uri) as websocket:
        pong = await websocket.ping(ack_on_close=True)
        websocket.abort()
        await pong.wait()
        assert pong.is_set()


async def test_pong_that_never_comes() -> None:
    future: asyncio.Future[float] = asyncio.get_running_loop().create_future()
    pong = Pong(future)
    assert not pong.is_set()
    future.set_exception(ConnectionClosed(None, None))
    assert not pong.is_set()
    with pytest.raises(ConnectionClosed):
        await pong.wait()
    future = asyncio.get_running_loop().create_future()
    pong = Pong(future)
    future.cancel()
    assert not pong.is_set()


@on_both
async def test_reconnection() -> None:
    async with serving() as (server, uri):
        async for websocket in connect(uri):
            await websocket.send("hello")
            assert await websocket.recv() == "hello"
            break
        made: list[Any] = []
        async with connect(uri).attempts() as attempts:
            async for websocket in attempts:
                made.append(websocket)
                await websocket.send("hello")
                assert await websocket.recv() == "hello"
                break
        assert made[0].close_code == 1000
        assert server.statistics.opened == 2


@on_both
async def test_errors_leave_as_they_are() -> None:
    async with serving() as (_, uri):
        with pytest.raises(ValueError, match="mine"):
            async with connect(uri):
                raise ValueError("mine")


@on_both
async def test_cancelled_body() -> None:
    async with serving() as (server, uri):
        made: list[Any] = []
        with anyio.CancelScope() as scope:
            async with connect(uri) as websocket:
                made.append(websocket)
                scope.cancel()
                await websocket.recv()
        assert scope.cancelled_caught
        with anyio.CancelScope() as scope:
            async with connect(uri) as websocket:
                made.append(websocket)
                scope.cancel()
                await websocket.aclose()
        for websocket in made:
            await websocket.wait_closed()
            assert websocket.state.name == "CLOSED"
        assert server.statistics.opened == 2


@on_both
async def test_cancelling_a_server() -> None:
    ended: list[str] = []

    async def handler(websocket: Any) -> None:
        try:
            await websocket.send("hello")
            await anyio.sleep_forever()
        finally:
            ended.append("handler")

    async def run(*, task_status: anyio.abc.TaskStatus[Server]) -> None:
        await serve(handler, 0, host="127.0.0.1", task_status=task_status)

    async with anyio.create_task_group() as outer:
        async with anyio.create_task_group() as inner:
            server = await inner.start(run)
            async with connect(f"ws://127.0.0.1:{server.addresses[0][1]}/") as connection:
                assert await connection.recv() == "hello"
                inner.cancel_scope.cancel()
        # Nothing of the server runs after its task group.
        assert ended == ["handler"]
        outer.cancel_scope.cancel()


@on_both
async def test_shutdown_with_a_limit() -> None:
    async def handler(websocket: Any) -> None:
        await websocket.send("hello")
        await anyio.sleep_forever()

    async with serving(handler) as (server, uri):
        async with connect(uri) as websocket:
            assert await websocket.recv() == "hello"
            with anyio.move_on_after(0):
                await server.aclose()
            await server.aclose(timeout=0)
            with pytest.raises(ConnectionClosed):
                await websocket.recv()


@on_both
async def test_basic_auth() -> None:
    async def check(user: str, password: str) -> bool:
        await anyio.lowlevel.checkpoint()
        return password == "secret"

    async with serving(process_request=basic_auth(check_credentials=check)) as (_, uri):
        async with connect(uri.replace("//", "//me:secret@")) as websocket:
            await websocket.send("hello")
            assert await websocket.recv() == "hello"
        with pytest.raises(InvalidStatus, match="HTTP 401"):
            async with connect(uri):
                pass


@on_both
async def test_routes() -> None:
    async def say(websocket: Any, word: str) -> None:
        await websocket.send(word)

    async def run(*, task_status: anyio.abc.TaskStatus[Server]) -> None:
        rules = Map([Rule("/<word>", endpoint=say)])
        await route(rules, 0, host="127.0.0.1", task_status=task_status)

    async with anyio.create_task_group() as tasks:
        server = await tasks.start(run)
        async with connect(f"ws://127.0.0.1:{server.addresses[0][1]}/hello") as websocket:
            assert await websocket.recv() == "hello"
        await server.aclose()


@pytest.mark.skipif(not hasattr(socket, "AF_UNIX"), reason="no Unix sockets")
@on_both
async def test_unix_sockets() -> None:
    connecting = unix_connect("/nowhere/server", "ws://example.com/")
    with pytest.raises(OSError, match=r"No such file|nowhere"):
        async with connecting:
            pass


@on_both
async def test_without_a_task_group() -> None:
    """What isn't told that it has started serves all the same."""
    with anyio.move_on_after(0.01) as scope:
        await serve(echo, 0, host="127.0.0.1")
    assert scope.cancelled_caught


# --------------------------------------------------------------------------------------------------- which library runs


def test_no_library(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(RuntimeError, match=r"^neither asyncio nor trio is running$"):
        current_library()
    with pytest.raises(RuntimeError, match=r"^neither asyncio nor trio is running$"):
        connect("ws://localhost/")
    monkeypatch.delitem(sys.modules, "trio")
    with pytest.raises(RuntimeError, match=r"^neither asyncio nor trio is running$"):
        current_library()


def test_libraries_that_run() -> None:
    async def ask() -> str:
        return current_library()

    assert asyncio.run(ask()) == "asyncio"
    assert trio.run(ask) == "trio"


def test_classes() -> None:
    async def make() -> Any:
        return connect("ws://localhost/")._connecting

    assert isinstance(trio.run(make), trio_client.connect)
    made = asyncio.run(make())
    assert made._ws_connector_state.make_connection.func is ClientConnection


def test_facade_needs_neither_anyio_nor_trio() -> None:
    source = (Path(__file__).parents[2] / "src" / "websockets" / "anyio.py").read_text("utf-8")
    assert "\nimport anyio" not in source
    assert "import sniffio" not in source
