"""Choosing a subprotocol with a function or a coroutine function of the user."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any

import pytest

from _kit import idle, request, virtual
from _kit.asking import ask, reach, uri_of
from websockets.asyncio.client import connect
from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.exceptions import InvalidStatus, NegotiationError
from websockets.typing import Subprotocol

Choose = Callable[[ServerConnection, Sequence[Subprotocol]], Any]


async def tell(connection: ServerConnection) -> None:
    await connection.send(str(connection.subprotocol))


@contextlib.asynccontextmanager
async def serving(choose: Any, **options: Any) -> AsyncIterator[Server]:
    async with serve(tell, "localhost", 0, select_subprotocol=choose, **options) as server:
        yield server


def second(connection: ServerConnection, offered: Sequence[Subprotocol]) -> Any:
    if len(offered) < 2:
        raise NegotiationError("offer two")
    return offered[1]


def none(connection: ServerConnection, offered: Sequence[Subprotocol]) -> Any:
    return None


def fail(connection: ServerConnection, offered: Sequence[Subprotocol]) -> Any:
    raise LookupError("no database")


def unspeakable(connection: ServerConnection, offered: Sequence[Subprotocol]) -> Any:
    return "a\r\nb"


def both_kinds(function: Choose) -> list[Any]:
    """The same choice at once, and after a while."""

    async def coroutine(*arguments: Any) -> Any:
        await asyncio.sleep(1)
        return function(*arguments)

    return [function, coroutine]


@pytest.mark.parametrize("choose", both_kinds(second))
@virtual
async def test_choice(choose: Any) -> None:
    async with serving(choose, server_header=None) as server:
        async with connect(uri_of(server), subprotocols=["a", "b", "c"]) as client:  # type: ignore[list-item]
            assert client.subprotocol == "b"
            assert await client.recv() == "b"
            assert client.response is not None
            *_, last = client.response.headers.raw_items()
            assert last == ("Sec-WebSocket-Protocol", "b")


@pytest.mark.parametrize("choose", both_kinds(none))
@virtual
async def test_no_choice(choose: Any) -> None:
    async with serving(choose) as server:
        async with connect(uri_of(server), subprotocols=["a"]) as client:  # type: ignore[list-item]
            assert client.subprotocol is None
            assert await client.recv() == "None"


@pytest.mark.parametrize("choose", both_kinds(second))
@virtual
async def test_nothing_to_choose(choose: Any, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "websockets.server")
    async with serving(choose) as server:
        answer = await ask(server, request())
    assert answer.status == "400 Bad Request"
    assert answer.body == b"Failed to open a WebSocket connection: offer two.\n"
    assert "connection rejected (400 Bad Request)" in caplog.messages


@pytest.mark.parametrize("choose", [*both_kinds(fail), *both_kinds(unspeakable)])
@virtual
async def test_failure(choose: Any, caplog: pytest.LogCaptureFixture) -> None:
    async with serving(choose) as server:
        answer = await ask(server, request(headers={"Sec-WebSocket-Protocol": "a"}))
    assert answer.status == "500 Internal Server Error"
    assert caplog.messages == ["opening handshake failed"]


@virtual
async def test_refused_before_the_choice() -> None:
    def choose(connection: ServerConnection, offered: Sequence[Subprotocol]) -> None:
        raise AssertionError("never called")

    async with serving(both_kinds(choose)[1], origins=["http://good"]) as server:
        with pytest.raises(InvalidStatus, match="HTTP 403"):
            await connect(uri_of(server), subprotocols=["a"])  # type: ignore[list-item]


@virtual
async def test_client_that_leaves_before_the_choice() -> None:
    cancelled: list[bool] = []

    async def choose(connection: ServerConnection, offered: Sequence[Subprotocol]) -> None:
        try:
            await asyncio.sleep(3600)
        finally:
            cancelled.append(True)

    async with serving(choose) as server:
        peer = await reach(server)
        await peer.send(request())
        await idle()
        peer.reset()
    assert cancelled == [True]


@virtual
async def test_server_that_closes_before_the_choice() -> None:
    async with serving(both_kinds(second)[1]) as server:
        peer = await reach(server)
        await peer.send(request(headers={"Sec-WebSocket-Protocol": "a, b"}))
        await idle()
        server.close()
        assert (await peer.read_until_eof()).startswith(b"HTTP/1.1 503 ")
        peer.close()
