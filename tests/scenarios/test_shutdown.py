"""Shutdown of servers: at every stage of a connection, once or twice, cancelled, with or without an event loop."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from _kit import request, wire
from scenarios._serving import GOING_AWAY, enter, knock, messages, recv_all, says_closing
from scenarios._world import Peer, Running, Server, World
from scenarios._worlds import in_every_world
from websockets.exceptions import ConnectionClosedOK, ProtocolError
from websockets.http11 import Request, Response

LOGGER = "websockets.server"


@contextlib.asynccontextmanager
async def serving(world: World, handler: Callable[..., Any] = recv_all, **options: Any) -> AsyncIterator[Server]:
    async with world.serve(handler, compression=None, **options) as server:
        yield server


async def leave(peer: Peer) -> bytes:
    """Answer a Close as a client should; return its payload."""
    row = await peer.frame()
    assert row.opcode == wire.CLOSE
    await peer.write(wire.frame(wire.CLOSE, row.payload, mask=True))
    assert await peer.read_until_eof() == b""
    peer.hang_up()
    return row.payload


async def turned_away(peer: Peer) -> bool:
    """Whether a client was refused as the server closes."""
    answer = await peer.read_until_eof()
    peer.hang_up()
    return says_closing(answer)


# ------------------------------------------------------------------------------------------ before the connection opens


@pytest.mark.parametrize("data", [b"", b"GET / HT", request()[:-2]], ids=["silent", "request line", "headers"])
@in_every_world()
async def test_close_before_the_request(world: World, data: bytes, caplog: pytest.LogCaptureFixture) -> None:
    async with serving(world, open_timeout=None) as server:
        peer = await knock(world, server, data)
        caplog.set_level(logging.INFO, LOGGER)
        start = world.now()
        server.close()
        assert await turned_away(peer)
        await server.wait_closed()
        assert world.now() == start
        assert messages(caplog) == [
            "server closing",
            "connection rejected (503 Service Unavailable)",
            "server closed",
        ]


@in_every_world()
async def test_rest_of_the_request_comes_too_late(world: World) -> None:
    async with serving(world) as server:
        peer = await knock(world, server, request()[:-2])
        server.close()
        await peer.write(b"\r\n")
        assert await turned_away(peer)


@in_every_world()
async def test_refused_client_that_stays_is_dropped(world: World) -> None:
    async with serving(world, close_timeout=3) as server:
        peer = await knock(world, server)
        start = world.now()
        server.close()
        await server.wait_closed()
        assert world.now() - start == pytest.approx(3, abs=0.02)
        assert peer.let_go
        peer.hang_up()


@pytest.mark.parametrize("name", ["process_request", "process_response"])
@in_every_world()
async def test_close_while_a_hook_waits(world: World, name: str, caplog: pytest.LogCaptureFixture) -> None:
    async def hook(*_: Any) -> None:
        await world.sleep(2)

    async with serving(world, **{name: hook}) as server:
        peer = await knock(world, server, request())
        caplog.set_level(logging.INFO, LOGGER)
        start = world.now()
        server.close()
        assert await turned_away(peer)
        await server.wait_closed()
        assert world.now() - start == 2
        assert "connection rejected (503 Service Unavailable)" in messages(caplog)


@in_every_world()
async def test_refusal_passes_through_the_other_hook(world: World) -> None:
    seen: list[int] = []

    def process_response(connection: Any, request: Request, response: Response) -> None:
        seen.append(response.status_code)

    def process_request(connection: Any, request: Request) -> None:
        connection.server.close()

    async with serving(world, process_request=process_request, process_response=process_response) as server:
        # It doesn't matter that there is something wrong with the request too.
        assert await turned_away(await knock(world, server, request(method="PUT")))
    assert seen == [503]


@in_every_world()
async def test_answer_of_a_hook_counts_while_the_server_closes(world: World) -> None:
    async def hook(connection: Any, request: Request) -> Any:
        await world.sleep(2)
        return connection.respond(200, "healthy")

    async with serving(world, process_request=hook) as server:
        peer = await knock(world, server, request())
        server.close()
        assert (await peer.read_until_eof()).startswith(b"HTTP/1.1 200 OK\r\n")
        peer.hang_up()


@in_every_world()
async def test_hook_closes_the_server(world: World) -> None:
    def hook(connection: Any, request: Request) -> None:
        connection.server.close()

    async with serving(world, process_request=hook) as server:
        assert await turned_away(await knock(world, server, request()))


@in_every_world()
async def test_refused_request_stays_refused(world: World) -> None:
    async with serving(world) as server:
        peer = await knock(world, server, b"garbage\r\n\r\n")
        server.close()
        assert (await peer.read_until_eof()).startswith(b"HTTP/1.1 400 Bad Request\r\n")
        assert peer.received.count(b"HTTP/1.1") == 1
        peer.hang_up()


# ----------------------------------------------------------------------------------------------------- open connections


@pytest.mark.parametrize(
    ("arguments", "payload"),
    [
        ({}, GOING_AWAY),
        ({"code": 1012}, b"\x03\xf4"),
        ({"code": 1012, "reason": "restart"}, b"\x03\xf4restart"),
        ({"reason": "x" * 123}, GOING_AWAY + b"x" * 123),
        ({"reason": None}, GOING_AWAY),
        ({"code": None}, b""),
    ],
)
@in_every_world()
async def test_close_open_connections(world: World, arguments: Any, payload: bytes) -> None:
    async with serving(world) as server:
        peers = [await enter(world, server) for _ in range(3)]
        assert len(server.connections) == 3
        server.close(**arguments)
        assert [await leave(peer) for peer in peers] == [payload] * 3
        await server.wait_closed()
        assert server.connections == set()


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ({"code": 1006}, "invalid status code"),
        ({"reason": "x" * 124}, "control frame too long"),
        ({"code": None, "reason": "x"}, "cannot send a reason without a code"),
        ({"code": "1001"}, "code must be an int, not str: '1001'"),
        ({"code": True}, "code must be an int, not bool: True"),
        ({"reason": b"x"}, "reason must be a str, not bytes: b'x'"),
    ],
)
@in_every_world()
async def test_close_code_that_cannot_be_sent(world: World, arguments: Any, error: str) -> None:
    async with serving(world) as server:
        with pytest.raises((ProtocolError, TypeError), match=error):
            server.close(**arguments)
        assert server.is_serving()


@in_every_world()
async def test_close_is_idempotent(world: World) -> None:
    async with serving(world) as server:
        peer = await enter(world, server)
        server.close(code=1012)
        server.close(code=1013)
        server.close(close_connections=False)
        assert await leave(peer) == b"\x03\xf4"
        await server.wait_closed()
        server.close()
        await server.wait_closed()


@in_every_world()
async def test_connections_may_stay(world: World) -> None:
    async with serving(world, ping_interval=None) as server:
        waiting = await knock(world, server)
        peer = await enter(world, server)
        uri = world.uri(server)
        server.close(close_connections=False)
        assert await turned_away(waiting)
        closing = world.start(server.wait_closed)
        with pytest.raises(ConnectionRefusedError):
            await world.reach(uri)
        await world.advance(100)
        assert not closing.done()
        assert len(server.connections) == 1
        await peer.write(wire.close(1000, mask=True))
        assert (await peer.frame()).payload == b"\x03\xe8"
        peer.hang_up()
        await closing.result()


@pytest.mark.scenario(82)
@in_every_world()
async def test_connections_that_close_already(world: World) -> None:
    async def handler(connection: Any) -> None:
        await connection.close(4000)

    async with serving(world, handler) as server:
        peer = await enter(world, server)
        await world.settle()
        assert server.connections == set()
        server.close()
        assert await leave(peer) == (4000).to_bytes(2, "big")


@in_every_world()
async def test_client_that_never_answers(world: World) -> None:
    async with serving(world, close_timeout=3) as server:
        peer = await enter(world, server)
        start = world.now()
        server.close()
        await server.wait_closed()
        assert world.now() - start == pytest.approx(3, abs=0.02)
        peer.hang_up()


@pytest.mark.scenario(82)
@in_every_world()
async def test_client_that_never_reads(world: World) -> None:
    async def flood(connection: Any) -> None:
        while True:
            await connection.send(bytes(10_000))

    async with serving(world, flood, close_timeout=3, ping_interval=None) as server:
        peer = await knock(world, server)
        peer.stop_reading()
        await peer.write(request())
        await world.settle()
        start = world.now()
        server.close()
        await server.wait_closed()
        assert world.now() - start == pytest.approx(3, abs=0.02)
        peer.hang_up()


@in_every_world()
async def test_handlers_are_awaited_and_not_cancelled(world: World) -> None:
    done = world.gate()

    async def handler(connection: Any) -> None:
        with pytest.raises(ConnectionClosedOK):
            await connection.recv()
        await world.sleep(50)
        done.open()

    async with serving(world, handler) as server:
        peer = await enter(world, server)
        start = world.now()
        server.close()
        await leave(peer)
        await server.wait_closed()
        assert done.is_open()
        assert world.now() - start == 50


@in_every_world()
async def test_handler_closes_the_server(world: World) -> None:
    async def handler(connection: Any) -> None:
        connection.server.close()

    async with serving(world, handler) as server:
        peer = await enter(world, server)
        assert await leave(peer) == GOING_AWAY
        await server.wait_closed()


@in_every_world()
async def test_leaving_the_context(world: World) -> None:
    async with serving(world) as server:
        peer = await enter(world, server)
        leaving = world.start(leave, peer)
    assert not server.is_serving()
    assert leaving.done()
    assert await leaving.result() == GOING_AWAY


@in_every_world()
async def test_leaving_the_context_through_an_exception(world: World) -> None:
    leaving: list[Running[bytes]] = []

    async def main() -> None:
        async with serving(world) as server:
            leaving.append(world.start(leave, await enter(world, server)))
            raise LookupError

    with pytest.raises(LookupError):
        await main()
    assert await leaving[0].result() == GOING_AWAY


@in_every_world()
async def test_two_servers_close_together(world: World) -> None:
    async with serving(world) as one, serving(world) as two:
        peers = [await enter(world, one), await enter(world, two)]
        one.close()
        two.close(code=1012)
        assert [await leave(peer) for peer in peers] == [GOING_AWAY, b"\x03\xf4"]
