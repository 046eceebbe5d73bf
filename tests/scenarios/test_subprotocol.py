"""Choice of a subprotocol by a function or a coroutine function of the user."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import AsyncIterator, Sequence
from typing import Any

import pytest

from _kit import request
from _kit.logs import lines
from scenarios._serving import ask, both_kinds
from scenarios._world import Server, World
from scenarios._worlds import in_every_world
from websockets.exceptions import InvalidStatus, NegotiationError
from websockets.typing import Subprotocol


async def tell(connection: Any) -> None:
    await connection.send(str(connection.subprotocol))


@contextlib.asynccontextmanager
async def serving(world: World, choose: Any, **options: Any) -> AsyncIterator[Server]:
    async with world.serve(tell, select_subprotocol=choose, **options) as server:
        yield server


def second(connection: Any, offered: Sequence[Subprotocol]) -> Any:
    if len(offered) < 2:
        raise NegotiationError("offer two")
    return offered[1]


def none(connection: Any, offered: Sequence[Subprotocol]) -> Any:
    return None


def fail(connection: Any, offered: Sequence[Subprotocol]) -> Any:
    raise LookupError("no database")


def unspeakable(connection: Any, offered: Sequence[Subprotocol]) -> Any:
    return "a\r\nb"


@pytest.mark.parametrize("choose", both_kinds(second))
@in_every_world()
async def test_choice(world: World, choose: Any) -> None:
    async with serving(world, choose(world), server_header=None) as server:
        async with world.connect(world.uri(server), subprotocols=["a", "b", "c"]) as client:
            assert client.subprotocol == "b"
            assert await client.recv() == "b"
            assert client.response is not None
            *_, last = client.response.headers.raw_items()
            assert last == ("Sec-WebSocket-Protocol", "b")


@pytest.mark.parametrize("choose", both_kinds(none))
@in_every_world()
async def test_no_choice(world: World, choose: Any) -> None:
    async with serving(world, choose(world)) as server:
        async with world.connect(world.uri(server), subprotocols=["a"]) as client:
            assert client.subprotocol is None
            assert await client.recv() == "None"


@pytest.mark.parametrize("choose", both_kinds(second))
@in_every_world()
async def test_nothing_to_choose(world: World, choose: Any, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "websockets.server")
    async with serving(world, choose(world)) as server:
        answer = await ask(world, server, request())
    assert answer.status == "400 Bad Request"
    assert answer.body == b"Failed to open a WebSocket connection: offer two.\n"
    assert "connection rejected (400 Bad Request)" in lines(caplog.records)


@pytest.mark.parametrize("choose", [*both_kinds(fail), *both_kinds(unspeakable)])
@in_every_world()
async def test_failure(world: World, choose: Any, caplog: pytest.LogCaptureFixture) -> None:
    async with serving(world, choose(world)) as server:
        answer = await ask(world, server, request(headers={"Sec-WebSocket-Protocol": "a"}))
    assert answer.status == "500 Internal Server Error"
    assert caplog.messages == ["opening handshake failed"]


@in_every_world()
async def test_refused_before_the_choice(world: World) -> None:
    def choose(connection: Any, offered: Sequence[Subprotocol]) -> None:
        raise AssertionError("never called")

    async with serving(world, both_kinds(choose)[1](world), origins=["http://good"]) as server:
        with pytest.raises(InvalidStatus, match="HTTP 403"):
            await world.connect(world.uri(server), subprotocols=["a"])


@in_every_world()
async def test_server_that_closes_before_the_choice(world: World) -> None:
    async with serving(world, both_kinds(second)[1](world)) as server:
        peer = await world.reach(server)
        await peer.write(request(headers={"Sec-WebSocket-Protocol": "a, b"}))
        await world.settle()
        server.close()
        assert (await peer.read_until_eof()).startswith(b"HTTP/1.1 503 ")
        peer.hang_up()
