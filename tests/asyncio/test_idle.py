"""Idle connections on asyncio: classes and factories of connections, options, buffers of the kernel."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from _kit import advance, idle, virtual
from _kit.asking import uri_of
from _kit.ends import open_end
from websockets.asyncio.client import connect
from websockets.asyncio.connection import Connection
from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosedError
from websockets.legacy.server import WebSocketServerProtocol
from websockets.protocol import Side, State

both_sides = pytest.mark.parametrize("side", [Side.SERVER, Side.CLIENT], ids=["server", "client"])

# Seconds, and what a test allows for: connections that are due together ring together.
TIMEOUT = 8.0
SOON = 0.05
REASON = "idle timeout"


def now() -> float:
    return asyncio.get_running_loop().time()


async def still_open(connection: Connection, seconds: float) -> None:
    await advance(seconds)
    assert connection.state is State.OPEN


@both_sides
@virtual
async def test_large_message_that_leaves_slowly(side: Side) -> None:
    async with open_end(side, idle_timeout=TIMEOUT, ping_interval=None) as (connection, peer):
        peer.raw.stop_reading()
        sending = asyncio.create_task(connection.send(bytes(2**20)))
        await idle()
        for _ in range(10):
            await still_open(connection, 7)
            peer.raw.sock.recv(2**15)
        # The peer reads no more; a ping that waits is no data.
        pinging = asyncio.create_task(connection.ping())
        await advance(TIMEOUT * 1.25 + SOON)
        assert connection.state is State.CLOSING
        peer.raw.close()
        for waiting in (sending, pinging):
            with pytest.raises(ConnectionClosedError, match="idle timeout"):
                await waiting


@pytest.mark.parametrize("factory", [WebSocketServerProtocol, None])
@virtual
async def test_classes_of_connections(factory: Any) -> None:
    async def handler(connection: Any) -> None:
        await connection.wait_closed()

    async with (
        serve(handler, "localhost", 0, idle_timeout=TIMEOUT, create_connection=factory) as server,
        connect(uri_of(server), proxy=None) as client,
    ):
        start = now()
        await client.wait_closed()
        assert now() - start == pytest.approx(TIMEOUT, abs=SOON)
        assert (client.close_code, client.close_reason) == (1001, REASON)


@virtual
async def test_factories_that_know_nothing_of_it() -> None:
    def factory(
        protocol: Any,
        server: Any,
        *,
        ping_interval: Any,
        ping_timeout: Any,
        close_timeout: Any,
        max_queue: Any,
        write_limit: Any,
    ) -> ServerConnection:
        return ServerConnection(protocol, server)

    async with (
        serve(lambda connection: connection.wait_closed(), "localhost", 0, create_connection=factory) as server,
        connect(uri_of(server), proxy=None),
    ):
        pass


IDLE = "idle_timeout must be a positive number of seconds, or None for no limit"


@pytest.mark.parametrize(
    ("timeout", "kind", "error"),
    [
        (0, ValueError, f"{IDLE}, not 0"),
        (-1, ValueError, f"{IDLE}, not -1"),
        ("60", TypeError, f"{IDLE}, not '60'"),
    ],
)
def test_timeout_that_makes_no_sense(timeout: Any, kind: type[Exception], error: str) -> None:
    with pytest.raises(kind, match=f"^{error}$"):
        serve(lambda connection: connection.wait_closed(), "localhost", 0, idle_timeout=timeout)
    with pytest.raises(kind, match=f"^{error}$"):
        connect("ws://localhost", idle_timeout=timeout)
