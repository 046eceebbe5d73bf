"""The method ``handshake()``: connect() and the server call it if a program has replaced it."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import AsyncIterator
from typing import Any
from unittest.mock import AsyncMock, Mock

import pytest

from _kit import virtual
from websockets.asyncio.client import ClientConnection, connect
from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import InvalidMessage, InvalidStatus
from websockets.frames import CloseCode
from websockets.http11 import Request, Response


async def echo(connection: ServerConnection) -> None:
    async for message in connection:
        await connection.send(message)


@contextlib.asynccontextmanager
async def serving(**options: Any) -> AsyncIterator[str]:
    async with serve(echo, "localhost", 0, **options) as server:
        yield f"ws://localhost:{server.sockets[0].getsockname()[1]}/"


@virtual
async def test_client_with_a_handshake_of_its_own() -> None:
    class Mine(ClientConnection):
        async def handshake(self, additional_headers: Any = None, user_agent_header: Any = None) -> None:
            assert (additional_headers, user_agent_header) == ({"X": "1"}, "me")
            await super().handshake({"X": "2"})

    async with serving() as uri:
        options: dict[str, Any] = {"additional_headers": {"X": "1"}, "user_agent_header": "me"}
        async with connect(uri, create_connection=Mine, **options) as client:
            assert client.request is not None
            assert client.request.headers["X"] == "2"
            assert client.request.headers["User-Agent"] != "me"
            await client.send("x")
            assert await client.recv() == "x"


@virtual
async def test_client_whose_handshake_fails() -> None:
    class Mine(ClientConnection):
        async def handshake(self, *arguments: Any, **options: Any) -> None:
            await super().handshake(*arguments, **options)
            raise LookupError("not this one")

    async with serving() as uri:
        with pytest.raises(LookupError, match="^not this one$"):
            await connect(uri, create_connection=Mine)


@virtual
async def test_a_mock_for_a_connection() -> None:
    """Programs test redirects that way."""
    connection = Mock()
    connection.handshake = AsyncMock()

    connecting = connect("ws://example.com/", additional_headers={"X": "1"}, user_agent_header="me")
    connecting.open_tcp_connection = AsyncMock(return_value=connection)  # type: ignore[method-assign]
    assert await connecting is connection
    connection.handshake.assert_awaited_once_with({"X": "1"}, "me")


@virtual
async def test_server_with_a_handshake_of_its_own() -> None:
    calls: list[Any] = []

    class Mine(ServerConnection):
        async def handshake(self, *arguments: Any, **options: Any) -> None:
            calls.append(arguments)
            await super().handshake(*arguments, **options)

    async with serving(create_connection=Mine, server_header="test") as uri:
        async with connect(uri) as client:
            assert client.response is not None
            assert client.response.headers["Server"] == "test"
            await client.send("x")
            assert await client.recv() == "x"
        with pytest.raises(InvalidStatus, match="^server rejected WebSocket connection: HTTP 400"):
            await connect(uri, additional_headers={"Sec-WebSocket-Version": "8"})
    assert calls == [(None, None, "test")] * 2


def refuse(connection: ServerConnection, request: Request) -> Response:
    return connection.respond(418, "teapot")


@virtual
async def test_server_with_hooks_of_its_own() -> None:
    class Mine(ServerConnection):
        async def handshake(self, *arguments: Any, **options: Any) -> None:
            await super().handshake(process_request=refuse, server_header=None)

    async with serving(create_connection=Mine) as uri:
        with pytest.raises(InvalidStatus) as caught:
            await connect(uri)
    assert caught.value.response.status_code == 418
    assert "Server" not in caught.value.response.headers


@virtual
@pytest.mark.parametrize("opens", [False, True])
async def test_server_whose_handshake_fails(caplog: pytest.LogCaptureFixture, opens: bool) -> None:
    class Mine(ServerConnection):
        async def handshake(self, *arguments: Any, **options: Any) -> None:
            if opens:
                await super().handshake(*arguments, **options)
            raise LookupError("not this one")

    async with serving(create_connection=Mine) as uri:
        if opens:
            async with connect(uri) as client:
                await client.wait_closed()
            assert client.close_code == CloseCode.INTERNAL_ERROR
        else:
            with pytest.raises(InvalidStatus, match="HTTP 500"):
                await connect(uri)
    records = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert [(record.getMessage(), record.exc_info is not None) for record in records] == [
        ("opening handshake failed", True)
    ]


@virtual
async def test_a_client_that_leaves_during_the_handshake() -> None:
    class Mine(ServerConnection):
        async def handshake(self, *arguments: Any, **options: Any) -> None:
            self.transport.abort()
            self.connection_lost(None)
            await super().handshake(*arguments, **options)

    async with serving(create_connection=Mine) as uri:
        with pytest.raises((InvalidMessage, OSError)):
            await connect(uri)
