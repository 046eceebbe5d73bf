"""Closing on asyncio: cancellation, transports that refuse, what is collected, what runs out of memory."""

from __future__ import annotations

import asyncio
import gc
import logging
import weakref
from collections.abc import Callable
from typing import Any, ClassVar

import pytest

from _kit import idle, steps, virtual, wire
from _kit.ends import open_end
from websockets.asyncio.connection import Connection
from websockets.asyncio.server import ServerConnection
from websockets.exceptions import ConnectionClosedError
from websockets.protocol import Side, State
from websockets.testing import connected_pair

both_sides = pytest.mark.parametrize("side", [Side.SERVER, Side.CLIENT])


def now() -> float:
    return asyncio.get_running_loop().time()


class Remembering(ServerConnection):
    """A class of the application that has something to do when the connection is over."""

    order: ClassVar[list[str]] = []

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self.order.append("connection_lost")


class Nameless(Remembering):
    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)


# As of a function that was made by exec().
Nameless.connection_lost.__module__ = None  # type: ignore[assignment]


@pytest.mark.parametrize(
    ("cls", "expected"),
    [
        pytest.param(ServerConnection, ["recv", "after the call"], id="at once"),
        pytest.param(Remembering, ["connection_lost", "after the call", "recv"], id="not before a class of the user"),
        pytest.param(Nameless, ["connection_lost", "after the call", "recv"], id="nor before one without a module"),
    ],
)
@virtual
async def test_who_waits_for_a_message_goes_on_when_the_connection_ends(
    cls: type[ServerConnection], expected: list[str]
) -> None:
    order = Remembering.order
    order.clear()

    async def receive(connection: Connection) -> None:
        with pytest.raises(ConnectionClosedError):
            await connection.recv()
        order.append("recv")

    def end(connection: Connection) -> None:
        connection.connection_lost(None)
        order.append("after the call")

    async with open_end(Side.SERVER, create_connection=cls) as (connection, _):
        task = asyncio.create_task(receive(connection))
        await idle()
        asyncio.get_running_loop().call_soon(end, connection)
        await task
        assert order == expected


@both_sides
@pytest.mark.parametrize("fragmented", [False, True], ids=["whole", "fragments"])
@pytest.mark.parametrize("size", [1, 3000], ids=["tiny", "larger"])
@virtual
async def test_what_comes_after_our_close_is_not_kept_without_a_limit(side: Side, fragmented: bool, size: int) -> None:
    """Nobody is going to read it, and reading goes on for the sake of the Close."""
    async with open_end(side, max_queue=4) as (connection, peer):
        await peer.text("before")
        await idle()
        task = asyncio.create_task(connection.close())
        await peer.expect_close(1000)
        for _ in range(200):
            await peer.text("x" * size, fin=not fragmented)
            if fragmented:
                await peer.send(wire.CONT, b"y")
        await idle()
        assert connection._ws_session.inbox.count <= 6
        await peer.finish()
        await task
        assert connection.close_code == 1000
        assert await connection.recv() == "before"


@virtual
async def test_half_closing_where_the_transport_cannot(caplog: pytest.LogCaptureFixture) -> None:
    """As with TLS: the end of what is sent is the end of the connection."""
    caplog.set_level(logging.DEBUG, "websockets")
    async with open_end(Side.SERVER) as (connection, peer):
        connection.transport.can_write_eof = lambda: False  # type: ignore[method-assign]
        await peer.close(1000)
        await connection.wait_closed()
        assert peer.raw.ended == "eof"
    assert "x closing TCP connection" in caplog.messages
    assert "x half-closing TCP connection" not in caplog.messages


@pytest.mark.scenario(78)
@both_sides
@pytest.mark.parametrize("stage", ["before", "during"])
@virtual
async def test_cancelling_close(side: Side, stage: str) -> None:
    """Cancelled or not, a close() that began goes on, within its deadline."""
    async with open_end(side, close_timeout=2) as (connection, peer):
        # Never an eager task, which could not be cancelled before it begins.
        task = asyncio.Task(connection.close())
        await steps(0 if stage == "before" else 3)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        if stage == "before":
            assert connection.state is State.OPEN
            return
        await peer.expect_close(1000)
        await connection.wait_closed()


@virtual
async def test_a_closed_connection_is_let_go_of() -> None:
    """No cycle keeps it until the collector comes by."""
    gc.disable()
    try:
        async with connected_pair() as (client, server):
            references = [weakref.ref(end) for end in (client, client.protocol, client._ws_session)]
            await client.send("hello")
            await server.recv()
            await client.ping()
            await client.close()
            del client, server
        await idle()
        assert [reference() for reference in references] == [None, None, None]
    finally:
        gc.enable()


# --------------------------------------------------------------------------------------------- writes that are refused


def refuse_once(connection: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have the transport say, the next time, that it takes nothing."""
    write = connection.transport.write

    def refuse(data: bytes) -> None:
        monkeypatch.setattr(connection.transport, "write", write)
        raise RuntimeError("not now")

    monkeypatch.setattr(connection.transport, "write", refuse)


@both_sides
@virtual
async def test_a_close_that_the_transport_refuses(side: Side, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is lost, and the peer doesn't answer it; but closing that has begun has a limit."""
    async with open_end(side, close_timeout=2) as (connection, _):
        started = now()
        refuse_once(connection, monkeypatch)
        with pytest.raises(RuntimeError, match="not now"):
            await connection.close()
        await connection.wait_closed()
        assert now() == started + 2


@both_sides
@virtual
async def test_a_keepalive_ping_that_the_transport_refuses(side: Side, monkeypatch: pytest.MonkeyPatch) -> None:
    """A silent peer is noticed all the same."""
    async with open_end(side, ping_interval=1, ping_timeout=2, close_timeout=1) as (connection, _):
        loop = asyncio.get_running_loop()
        reported: list[Any] = []
        loop.set_exception_handler(lambda loop, context: reported.append(context["exception"]))
        refuse_once(connection, monkeypatch)
        await connection.wait_closed()
        assert [type(exc) for exc in reported] == [RuntimeError]
        with pytest.raises(ConnectionClosedError, match="keepalive ping timeout"):
            await connection.recv()


@both_sides
@virtual
async def test_abort_in_any_case(side: Side, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*arguments: object) -> None:
        raise MemoryError

    async with open_end(side) as (connection, _):
        monkeypatch.setattr(connection._ws_session, "fail", fail, raising=False)
        with pytest.raises(MemoryError):
            connection.abort()
        await connection.wait_closed()


END: dict[str, Callable[[Any], None]] = {
    "close": lambda connection: connection._ws_start_closing(1000),
    "fail": lambda connection: connection._ws_fail(1011, "why", ConnectionAbortedError()),
}


@pytest.mark.parametrize("method", END)
@both_sides
@virtual
async def test_without_memory_closing_ends_at_once(side: Side, method: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """There may be no Close on its way then, and no limit."""

    def run_out(*arguments: object) -> None:
        raise MemoryError

    async with open_end(side, close_timeout=None) as (connection, _):
        monkeypatch.setattr(connection._ws_session, method, run_out, raising=False)
        with pytest.raises(MemoryError):
            END[method](connection)
        monkeypatch.undo()
        await connection.wait_closed()
