"""Servers on asyncio with a limit of connections, and what servers count."""

from __future__ import annotations

import asyncio
import dataclasses
import logging
from collections.abc import Callable
from typing import Any

import pytest

from _kit import RawPeer, VirtualLoop, advance, idle, request, virtual, wire
from _kit.asking import ask, port_of, reach, uri_of
from websockets._rules import capacity as _capacity
from websockets.asyncio.client import connect
from websockets.asyncio.server import Server, ServerConnection, ServerStatistics, serve, unix_serve
from websockets.exceptions import InvalidStatus
from websockets.http11 import Request, Response
from websockets.legacy.server import WebSocketServerProtocol

FULL = b"Failed to open a WebSocket connection: too many connections.\n"
FULL_FOR_HOST = b"Failed to open a WebSocket connection: too many connections from this host.\n"


async def wait(connection: ServerConnection) -> None:
    await connection.wait_closed()


def serving(handler: Callable[..., Any] = wait, **options: Any) -> Server:
    return serve(handler, "localhost", 0, compression=None, ping_interval=None, **options)


async def enter(server: Server) -> RawPeer:
    """A client that is in."""
    peer = await reach(server)
    await peer.send(request())
    assert (await peer.read_until()).startswith(b"HTTP/1.1 101 ")
    return peer


async def knock(server: Server) -> RawPeer:
    """A client that was accepted, and says nothing."""
    peer = await reach(server)
    await idle()
    return peer


async def leave(*peers: RawPeer) -> None:
    for peer in peers:
        peer.close()
    await idle()


async def is_full(server: Server) -> bool:
    """Whether the next request is turned away."""
    answer = await ask(server, request())
    if answer.status != "503 Service Unavailable":
        return False
    assert answer.headers["Retry-After"] == ["5"]
    assert answer.headers["Connection"] == ["close"]
    assert answer.headers["Content-Length"] == [str(len(answer.body))]
    assert "Server" in answer.headers
    assert answer.body == FULL
    return True


# ---------------------------------------------------------------------------------------------------------- the limit


@virtual
async def test_beyond_the_limit() -> None:
    async with serving(max_connections=2) as server:
        peers = [await enter(server) for _ in range(2)]
        assert await is_full(server)
        assert await is_full(server)
        await leave(peers[0])
        other = await enter(server)
        assert await is_full(server)
        await leave(other, peers[1])


@virtual
async def test_no_task_no_hook_and_one_line_for_those_beyond(caplog: pytest.LogCaptureFixture) -> None:
    asked: list[str] = []

    def hook(connection: ServerConnection, request: Request) -> None:
        asked.append(request.path)

    async with serving(max_connections=1, process_request=hook) as server:
        peer = await enter(server)
        asked.clear()
        tasks = asyncio.all_tasks()
        caplog.set_level(logging.INFO, "websockets.server")
        outside = [await reach(server) for _ in range(500)]
        for other in outside:
            await other.send(request())
        await idle()
        assert asyncio.all_tasks() == tasks
        assert [other.received.startswith(b"HTTP/1.1 503 ") for other in outside] == [True] * 500
        assert asked == []
        await leave(*outside)
        assert caplog.messages.count("connection rejected (503 Service Unavailable)") == 500
        assert caplog.messages.count("connection closed") == 500
        assert len(caplog.messages) == 1000
        assert len(server._registry.all) == 1
        await leave(peer)


@virtual
async def test_whoever_says_nothing_takes_a_place_until_the_deadline() -> None:
    async with serving(max_connections=1, open_timeout=5) as server:
        peer = await knock(server)
        assert await is_full(server)
        await advance(5.1)
        await leave(peer, await enter(server))


@virtual
async def test_refused_client_takes_a_place_until_it_is_gone() -> None:
    async with serving(max_connections=1) as server:
        peer = await reach(server)
        await peer.send(request(method="PUT"))
        await idle()
        assert await is_full(server)
        await leave(peer)
        await leave(await enter(server))


@virtual
async def test_silence_beyond_the_limit_has_the_same_deadline_and_no_answer() -> None:
    async with serving(max_connections=1, open_timeout=5) as server:
        peer = await enter(server)
        outside = await knock(server)
        await advance(4.9)
        assert outside.link.server.closed is False
        await advance(0.2)
        assert (outside.ended, outside.received) == ("eof", b"")
        await leave(peer, outside)


@virtual
async def test_room_that_there_is_when_the_request_comes() -> None:
    async with serving(max_connections=1) as server:
        peer = await enter(server)
        outside = await knock(server)
        await leave(peer)
        await outside.send(request())
        assert (await outside.read_until()).startswith(b"HTTP/1.1 101 ")
        assert await is_full(server)
        await leave(outside)
        assert server.statistics.counted == 0


@virtual
async def test_handler_that_still_runs_takes_a_place() -> None:
    done = asyncio.Event()

    async def handler(connection: ServerConnection) -> None:
        await done.wait()

    async with serving(handler, max_connections=1) as server:
        await leave(await enter(server))
        assert server.connections == set()
        assert await is_full(server)
        done.set()
        await idle()
        await leave(await enter(server))


@pytest.mark.parametrize("data", [b"garbage\r\n\r\n", request(method="PUT"), request(headers={"Upgrade": None})])
@virtual
async def test_what_is_said_beyond_the_limit(data: bytes) -> None:
    """What isn't HTTP is refused as ever; what is HTTP gets 503, whatever it asks for."""
    async with serving(max_connections=1) as server:
        peer = await enter(server)
        status = (await ask(server, data)).status
        assert status == ("400 Bad Request" if data.startswith(b"garbage") else "503 Service Unavailable")
        await leave(peer)


@virtual
async def test_frames_behind_a_request_that_is_turned_away_count_for_nothing() -> None:
    async with serving(max_connections=1) as server:
        peer = await enter(server)
        answer = await ask(server, request() + wire.text("x" * 100, mask=True))
        assert answer.status == "503 Service Unavailable"
        await leave(peer)


@virtual
async def test_without_a_server_header() -> None:
    async with serving(max_connections=1, server_header=None) as server:
        peer = await enter(server)
        assert "Server" not in (await ask(server, request())).headers
        await leave(peer)


@virtual
async def test_those_who_cannot_be_told_are_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_capacity, "OUTSIDE", 3)
    async with serving(max_connections=1) as server:
        peer = await enter(server)
        outside = [await knock(server) for _ in range(3)]
        crowd = [await knock(server) for _ in range(10)]
        assert {other.ended for other in crowd} == {"eof"}
        assert len(server._registry.all) == 4
        assert server.statistics.refused == {"too many connections to be told": 10}
        for other in outside:
            await other.send(request())
            assert (await other.read_until_eof()).startswith(b"HTTP/1.1 503 ")
        await leave(peer, *outside, *crowd)
        assert server.statistics.refused == {"too many connections": 3, "too many connections to be told": 10}
        assert server.statistics.counted == 0


@virtual
async def test_close_turns_away_those_outside_too() -> None:
    async with serving(max_connections=1) as server:
        peer = await enter(server)
        outside = await knock(server)
        server.close()
        assert (await outside.read_until_eof()).endswith(b"Server is shutting down.\n")
        await leave(outside, peer)


@virtual
async def test_client_waits_as_long_as_the_server_asks() -> None:
    times: list[float] = []

    async def handler(connection: ServerConnection) -> None:
        times.append(asyncio.get_running_loop().time())
        await wait(connection)

    async with serving(handler, max_connections=1) as server:
        peer = await enter(server)
        with pytest.raises(InvalidStatus) as caught:
            await connect(uri_of(server), proxy=None)
        assert caught.value.response.status_code == 503
        leaving = asyncio.get_running_loop().call_later(4, peer.close)
        async for connection in connect(uri_of(server), proxy=None, reconnect_delays=lambda: iter([0.1] * 9)):
            await connection.ping()
            break
        assert leaving.when() < times[1]
        assert times[1] - times[0] == pytest.approx(5, abs=0.1)


@virtual
async def test_connections_of_the_legacy_api() -> None:
    async with serving(max_connections=1, create_connection=WebSocketServerProtocol) as server:
        peer = await enter(server)
        assert await is_full(server)
        await leave(peer)
        assert server.statistics == ServerStatistics(0, 0, 1, {"too many connections": 1}, 0)


# --------------------------------------------------------------------------------------------------------- from a host


async def come_from(server: Server, address: str) -> RawPeer:
    """A client at an address, with its request sent."""
    loop = asyncio.get_running_loop()
    assert isinstance(loop, VirtualLoop)
    host = "::1" if ":" in address else "127.0.0.1"
    peer = RawPeer(await loop.network.open(host, port_of(server), local_addr=(address, 0)))
    await peer.send(request())
    await idle()
    return peer


@virtual
async def test_one_host_leaves_room_for_others() -> None:
    async with serve(wait, None, 0, max_connections=4, max_connections_per_host=2) as server:
        addresses = ["10.0.0.1"] * 3 + ["2001:db8::1", "2001:db8::2", "2001:db8::3", "10.0.0.2"]
        peers = [await come_from(server, address) for address in addresses]
        assert [bytes(peer.received[9:12]) for peer in peers] == [
            *(b"101", b"101", b"503"),
            *(b"101", b"101", b"503"),
            b"503",
        ]
        assert peers[2].received.endswith(FULL_FOR_HOST)
        assert [peer.received.endswith(FULL) for peer in peers[5:]] == [True, True]
        await leave(*peers)
        assert server.statistics.refused == {"too many connections from this host": 1, "too many connections": 2}


@virtual
async def test_unix_sockets_have_no_host() -> None:
    loop = asyncio.get_running_loop()
    assert isinstance(loop, VirtualLoop)
    async with unix_serve(wait, "/run/server", max_connections=3, max_connections_per_host=1):
        peers = [await loop.network.connect_unix("/run/server") for _ in range(4)]
        for peer in peers:
            await peer.send(request())
        await idle()
        assert [bytes(peer.received[9:12]) for peer in peers] == [b"101"] * 3 + [b"503"]
        await leave(*peers)


LEAST = "must be a whole number, 1 or more, or None for no limit"


@pytest.mark.parametrize(
    ("options", "kind", "error"),
    [
        ({"max_connections": 0}, ValueError, f"max_connections {LEAST}, not 0"),
        ({"max_connections_per_host": 2.5}, TypeError, f"max_connections_per_host {LEAST}, not 2.5"),
    ],
)
def test_limits_that_make_no_sense(options: Any, kind: type[Exception], error: str) -> None:
    with pytest.raises(kind, match=f"^{error}$"):
        serving(**options)


# ---------------------------------------------------------------------------------------------------------- statistics


def answer_health(connection: ServerConnection, request: Request) -> Response | None:
    if request.path == "/broken":
        raise RuntimeError("no")
    return connection.respond(200, "healthy") if request.path == "/health" else None


async def stay(connection: ServerConnection, request: Request) -> None:
    await asyncio.sleep(60)


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
@virtual
async def test_refused_by_reason(options: Any, data: bytes, reason: str, caplog: pytest.LogCaptureFixture) -> None:
    async with serving(**options) as server:
        await ask(server, data)
        await ask(server, data)
        await idle()
        assert server.statistics == ServerStatistics(0, 0, 0, {reason: 2}, 0)


@virtual
async def test_clients_that_never_had_an_answer() -> None:
    async with serving(open_timeout=5, process_request=stay) as server:
        slow = await knock(server)
        await advance(5.1)
        await leave(slow)
        assert server.statistics.refused == {"timeout": 1}
        await leave(await knock(server))
        half = await reach(server)
        await half.send(b"GET / HT")
        await idle()
        await leave(half)
        asking = await reach(server)
        await asking.send(request())
        await idle()
        # A server that thinks about its answer doesn't read: it doesn't learn that the client is gone.
        await leave(asking)
        assert server.statistics.refused == {"timeout": 1, "client gone": 2}
        await advance(5.1)
        assert server.statistics.refused == {"timeout": 2, "client gone": 2}
        knocking = await knock(server)
        server.close()
        await leave(knocking)
    assert server.statistics.refused["server is shutting down"] == 1


@virtual
async def test_numbers_of_a_server() -> None:
    async def handler(connection: ServerConnection) -> None:
        message = await connection.recv()
        if message == "fail":
            raise RuntimeError("as told")
        await connection.wait_closed()
        await asyncio.sleep(1)

    async with serving(handler) as server:
        assert server.statistics == ServerStatistics(0, 0, 0, {}, 0)
        async with connect(uri_of(server), proxy=None) as one, connect(uri_of(server), proxy=None) as other:
            silent = await knock(server)
            before = server.statistics
            assert before == ServerStatistics(open=2, counted=3, opened=2, refused={}, handler_failures=0)
            await one.send("fail")
            await one.wait_closed()
            await other.send("x")
            await idle()
        assert server.statistics == ServerStatistics(open=0, counted=2, opened=2, refused={}, handler_failures=1)
        await leave(silent)
        await advance(1)
        after = server.statistics
        assert after == ServerStatistics(0, 0, 2, {"client gone": 1}, 1)
        # A snapshot stays as it was, and nobody can change it.
        assert before.open == 2
        assert dataclasses.asdict(after)["refused"] == {"client gone": 1}
        with pytest.raises(dataclasses.FrozenInstanceError):
            after.open = 5  # type: ignore[misc]
