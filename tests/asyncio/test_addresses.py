"""Addresses of both ends: the same after the end of a connection as while it was open, whatever carried it."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from _kit import virtual
from _kit.platforms import needs_unix_sockets
from _kit.sockets import anonymous_tls
from robustness.worlds import each_loop, now, port_of
from websockets.asyncio.client import ClientConnection, connect, unix_connect
from websockets.asyncio.connection import Connection
from websockets.asyncio.server import ServerConnection, serve, unix_serve
from websockets.client import ClientProtocol
from websockets.legacy.client import WebSocketClientProtocol
from websockets.testing import connected_pair
from websockets.uri import parse_uri


def addresses(connection: Connection) -> tuple[Any, Any]:
    return connection.local_address, connection.remote_address


@contextlib.asynccontextmanager
async def pair(unix: Path | None, tls: bool) -> AsyncIterator[tuple[ClientConnection, ServerConnection]]:
    """Both ends of a connection over real sockets."""
    ours, theirs = anonymous_tls() if tls else (None, None)
    opened: asyncio.Future[ServerConnection] = asyncio.get_running_loop().create_future()

    async def handler(connection: ServerConnection) -> None:
        opened.set_result(connection)
        await connection.wait_closed()

    options: dict[str, Any] = {"compression": None, "ssl": theirs}
    if unix is None:
        async with serve(handler, "127.0.0.1", 0, ssl=ours) as server:
            uri = f"{'wss' if tls else 'ws'}://127.0.0.1:{port_of(server)}/"
            async with connect(uri, proxy=None, **options) as client:
                yield client, await opened
    else:
        async with unix_serve(handler, str(unix), ssl=ours), unix_connect(str(unix), **options) as client:
            yield client, await opened


async def closed(client: Connection) -> None:
    await client.close()


async def aborted(client: Connection) -> None:
    client.abort()


async def given_up_by_the_program(client: Connection) -> None:
    client.transport.abort()


@pytest.mark.parametrize("end", [closed, aborted, given_up_by_the_program], ids=lambda end: end.__name__)
@pytest.mark.parametrize("asked", [True, False], ids=["asked before", "asked only afterwards"])
@pytest.mark.parametrize("tls", [False, True], ids=["plain", "TLS"])
@pytest.mark.parametrize("unix", [False, pytest.param(True, marks=needs_unix_sockets)], ids=["TCP", "Unix"])
@each_loop
async def test_addresses_after_the_end(unix: bool, tls: bool, asked: bool, end: Any, tmp_path: Path) -> None:
    path = tmp_path / f"socket{now()}" if unix else None
    async with pair(path, tls) as ends:
        before = [addresses(connection) for connection in ends] if asked else []
        await end(ends[0])
        for connection in ends:
            await connection.wait_closed()
        after = [addresses(connection) for connection in ends]
        (ours, server), (seen, peer) = after
        if path is None:
            assert (ours, server) == (peer, seen)
            assert ours[0] == server[0] == "127.0.0.1"
            assert ours[1] != server[1]
        else:
            assert after == [("", str(path)), (str(path), "")]
        assert not asked or before == after


@virtual
async def test_addresses_in_memory() -> None:
    async with connected_pair() as (client, server):
        before = addresses(client), addresses(server)
    assert (addresses(client), addresses(server)) == before
    assert before[0] == before[1][::-1]


@virtual
async def test_a_connection_that_was_never_made_may_be_lost() -> None:
    # As when the TLS handshake fails, on some loops.
    connection = ClientConnection(ClientProtocol(parse_uri("ws://localhost/")))
    connection.connection_lost(None)
    with pytest.raises(AttributeError):
        assert connection.remote_address


@virtual
async def test_addresses_of_the_legacy_api_before_there_is_a_connection() -> None:
    assert addresses(WebSocketClientProtocol()) == (None, None)
