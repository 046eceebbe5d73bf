"""Servers with a limit for connections, and the statistics of servers."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import pytest

from _kit import request, wire
from scenarios._serving import ask, enter, knock
from scenarios._world import Capability, Peer, Server, World
from scenarios._worlds import in_every_world
from websockets import ServerStatistics
from websockets.exceptions import InvalidStatus
from websockets.http11 import Request, Response

FULL = b"Failed to open a WebSocket connection: too many connections.\n"
FULL_FOR_HOST = b"Failed to open a WebSocket connection: too many connections from this host.\n"


async def wait(connection: Any) -> None:
    await connection.wait_closed()


def serving(world: World, handler: Callable[..., Any] = wait, **options: Any) -> Any:
    return world.serve(handler, compression=None, ping_interval=None, **options)


async def leave(world: World, *peers: Peer) -> None:
    for peer in peers:
        peer.hang_up()
    await world.settle()


async def is_full(world: World, server: Server) -> bool:
    """Whether the next request is turned away."""
    answer = await ask(world, server, request())
    if answer.status != "503 Service Unavailable":
        return False
    assert answer.headers["Retry-After"] == ["5"]
    assert answer.headers["Connection"] == ["close"]
    assert answer.headers["Content-Length"] == [str(len(answer.body))]
    assert "Server" in answer.headers
    assert answer.body == FULL
    return True


# ---------------------------------------------------------------------------------------------------------- the limit


@in_every_world()
async def test_beyond_the_limit(world: World) -> None:
    async with serving(world, max_connections=2) as server:
        peers = [await enter(world, server) for _ in range(2)]
        assert await is_full(world, server)
        assert await is_full(world, server)
        await leave(world, peers[0])
        other = await enter(world, server)
        assert await is_full(world, server)
        await leave(world, other, peers[1])


@in_every_world()
async def test_whoever_says_nothing_takes_a_place_until_the_deadline(world: World) -> None:
    async with serving(world, max_connections=1, open_timeout=5) as server:
        peer = await knock(world, server)
        assert await is_full(world, server)
        await world.advance(5.1)
        await leave(world, peer, await enter(world, server))


@in_every_world()
async def test_refused_client_takes_a_place_until_it_is_gone(world: World) -> None:
    async with serving(world, max_connections=1) as server:
        peer = await world.reach(server)
        await peer.write(request(method="PUT"))
        await world.settle()
        assert await is_full(world, server)
        await leave(world, peer)
        await leave(world, await enter(world, server))


@in_every_world()
async def test_silence_beyond_the_limit_has_the_same_deadline_and_no_answer(world: World) -> None:
    async with serving(world, max_connections=1, open_timeout=5) as server:
        peer = await enter(world, server)
        outside = await knock(world, server)
        await world.advance(4.9)
        assert outside.let_go is False
        await world.advance(0.2)
        assert (outside.ended, outside.received) == ("eof", b"")
        await leave(world, peer, outside)


@in_every_world()
async def test_room_that_there_is_when_the_request_comes(world: World) -> None:
    async with serving(world, max_connections=1) as server:
        peer = await enter(world, server)
        outside = await knock(world, server)
        await leave(world, peer)
        await outside.write(request())
        assert (await outside.read_until()).startswith(b"HTTP/1.1 101 ")
        assert await is_full(world, server)
        await leave(world, outside)
        assert server.statistics.counted == 0


@in_every_world()
async def test_handler_that_still_runs_takes_a_place(world: World) -> None:
    done = world.gate()

    async def handler(connection: Any) -> None:
        await done.wait()

    async with serving(world, handler, max_connections=1) as server:
        await leave(world, await enter(world, server))
        assert server.connections == set()
        assert await is_full(world, server)
        done.open()
        await world.settle()
        await leave(world, await enter(world, server))


@pytest.mark.parametrize("data", [b"garbage\r\n\r\n", request(method="PUT"), request(headers={"Upgrade": None})])
@in_every_world()
async def test_what_is_said_beyond_the_limit(world: World, data: bytes) -> None:
    """What isn't HTTP is refused as ever; what is HTTP gets 503, whatever it asks for."""
    async with serving(world, max_connections=1) as server:
        peer = await enter(world, server)
        status = (await ask(world, server, data)).status
        assert status == ("400 Bad Request" if data.startswith(b"garbage") else "503 Service Unavailable")
        await leave(world, peer)


@in_every_world()
async def test_frames_behind_a_request_that_is_turned_away_count_for_nothing(world: World) -> None:
    async with serving(world, max_connections=1) as server:
        peer = await enter(world, server)
        answer = await ask(world, server, request() + wire.text("x" * 100, mask=True))
        assert answer.status == "503 Service Unavailable"
        await leave(world, peer)


@in_every_world()
async def test_without_a_server_header(world: World) -> None:
    async with serving(world, max_connections=1, server_header=None) as server:
        peer = await enter(world, server)
        assert "Server" not in (await ask(world, server, request())).headers
        await leave(world, peer)


@in_every_world()
async def test_close_turns_away_those_outside_too(world: World) -> None:
    async with serving(world, max_connections=1) as server:
        peer = await enter(world, server)
        outside = await knock(world, server)
        server.close()
        assert (await outside.read_until_eof()).endswith(b"Server is shutting down.\n")
        await leave(world, outside, peer)


@in_every_world()
async def test_client_waits_as_long_as_the_server_asks(world: World) -> None:
    times: list[float] = []

    async def handler(connection: Any) -> None:
        times.append(world.now())
        await wait(connection)

    async with serving(world, handler, max_connections=1) as server:
        peer = await enter(world, server)
        with pytest.raises(InvalidStatus) as caught:
            await world.connect(world.uri(server), proxy=None)
        assert caught.value.response.status_code == 503

        async def go_away() -> float:
            await world.sleep(4)
            peer.hang_up()
            return world.now()

        leaving = world.start(go_away)
        async for connection in world.connect(world.uri(server), proxy=None, reconnect_delays=lambda: iter([0.1] * 9)):
            await connection.ping()
            await world.settle()
            break
        assert await leaving.result() < times[1]
        assert times[1] - times[0] == pytest.approx(5, abs=0.1)


# --------------------------------------------------------------------------------------------------------- from a host


async def come_from(world: World, server: Server, address: str) -> Peer:
    """A client at an address, with its request sent."""
    peer = await world.reach(server, address)
    await peer.write(request())
    await world.settle()
    return peer


@in_every_world()
async def test_one_host_leaves_room_for_others(world: World) -> None:
    async with world.serve(wait, host=None, max_connections=4, max_connections_per_host=2) as server:
        addresses = ["10.0.0.1"] * 3 + ["2001:db8::1", "2001:db8::2", "2001:db8::3", "10.0.0.2"]
        peers = [await come_from(world, server, address) for address in addresses]
        assert [bytes(peer.received[9:12]) for peer in peers] == [
            *(b"101", b"101", b"503"),
            *(b"101", b"101", b"503"),
            b"503",
        ]
        assert peers[2].received.endswith(FULL_FOR_HOST)
        assert [peer.received.endswith(FULL) for peer in peers[5:]] == [True, True]
        await leave(world, *peers)
        assert server.statistics.refused == {"too many connections from this host": 1, "too many connections": 2}


# ---------------------------------------------------------------------------------------------------------- statistics


def answer_health(connection: Any, request: Request) -> Response | None:
    if request.path == "/broken":
        raise RuntimeError("no")
    return connection.respond(200, "healthy") if request.path == "/health" else None


REFUSED = [
    ({}, request(method="PUT"), "invalid method"),
    ({}, request(headers={"Upgrade": None}), "invalid upgrade"),
    ({}, request(headers={"Sec-WebSocket-Key": "x"}), "invalid handshake"),
    ({}, request(headers={"Sec-WebSocket-Version": "14"}), "invalid handshake"),
    ({}, b"garbage\r\n\r\n", "no valid HTTP request"),
    ({}, request("/" + "a" * 9000), "request line too long"),
    ({"origins": ["http://a"]}, request(), "invalid origin"),
    ({"hosts": ["a"]}, request(), "invalid host"),
    ({"process_request": answer_health}, request("/health"), "application"),
    ({"process_request": answer_health}, request("/broken"), "failure"),
]


@pytest.mark.parametrize(("options", "data", "reason"), REFUSED, ids=[row[2] for row in REFUSED])
@in_every_world()
async def test_refused_by_reason(
    world: World, options: Any, data: bytes, reason: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with serving(world, **options) as server:
        await ask(world, server, data)
        await ask(world, server, data)
        await world.settle()
        assert server.statistics == ServerStatistics(0, 0, 0, {reason: 2}, 0)


@in_every_world(Capability.CANCELLATION)
async def test_clients_that_never_had_an_answer(world: World) -> None:
    async def stay(connection: Any, request: Request) -> None:
        await world.sleep(60)

    async with serving(world, open_timeout=5, process_request=stay) as server:
        slow = await knock(world, server)
        await world.advance(5.1)
        await leave(world, slow)
        assert server.statistics.refused == {"timeout": 1}
        await leave(world, await knock(world, server))
        half = await world.reach(server)
        await half.write(b"GET / HT")
        await world.settle()
        await leave(world, half)
        asking = await world.reach(server)
        await asking.write(request())
        await world.settle()
        # A server that thinks about its answer doesn't read: it doesn't learn that the client is gone.
        await leave(world, asking)
        assert server.statistics.refused == {"timeout": 1, "client gone": 2}
        await world.advance(5.1)
        assert server.statistics.refused == {"timeout": 2, "client gone": 2}
        knocking = await knock(world, server)
        server.close()
        await leave(world, knocking)
    assert server.statistics.refused["server is shutting down"] == 1


@in_every_world()
async def test_numbers_of_a_server(world: World) -> None:
    async def handler(connection: Any) -> None:
        message = await connection.recv()
        if message == "fail":
            raise RuntimeError("as told")
        await connection.wait_closed()
        await world.sleep(1)

    async with serving(world, handler) as server:
        assert server.statistics == ServerStatistics(0, 0, 0, {}, 0)
        async with (
            world.connect(world.uri(server), proxy=None) as one,
            world.connect(world.uri(server), proxy=None) as other,
        ):
            silent = await knock(world, server)
            before = server.statistics
            assert before == ServerStatistics(open=2, counted=3, opened=2, refused={}, handler_failures=0)
            await one.send("fail")
            await one.wait_closed()
            await other.send("x")
            await world.settle()
        assert server.statistics == ServerStatistics(open=0, counted=2, opened=2, refused={}, handler_failures=1)
        await leave(world, silent)
        await world.advance(1)
        after = server.statistics
        assert after == ServerStatistics(0, 0, 2, {"client gone": 1}, 1)
        # A snapshot stays as it was, and nobody can change it.
        assert before.open == 2
        assert dataclasses.asdict(after)["refused"] == {"client gone": 1}
        with pytest.raises(dataclasses.FrozenInstanceError):
            after.open = 5
