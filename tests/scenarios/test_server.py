"""Servers: opening handshakes, their deadlines, handlers and their end, the log."""

from __future__ import annotations

import contextlib
import logging
import re
from typing import Any

import pytest

from _kit import CHUNKERS, Chunker, request, wire
from _kit.asking import answered
from _kit.logs import told
from scenarios._serving import (
    LOGGER,
    REFUSED,
    ask,
    both_kinds,
    enter,
    leave,
    messages_of_connections,
    nothing,
    serving,
    uri,
)
from scenarios._world import Peer, World
from scenarios._worlds import in_every_world
from websockets.exceptions import (
    ConnectionClosed,
    ConnectionClosedError,
    InvalidState,
)
from websockets.http11 import SERVER, Request, Response


@pytest.mark.scenario(28)
@pytest.mark.parametrize("chunker", CHUNKERS, ids=lambda chunker: chunker.__name__)
@in_every_world()
async def test_frames_behind_the_request(world: World, chunker: Chunker) -> None:
    async with serving(world) as server:
        peer = await world.reach(server)
        for chunk in chunker(request() + wire.text("first", mask=True)):
            await peer.write(chunk)
            await world.settle()
        await peer.read_until()
        assert (await peer.frame()).payload == b"first"
        await leave(peer)


@in_every_world()
async def test_frames_before_the_answer(world: World) -> None:
    go = world.gate()

    async def process_request(connection: Any, request: Request) -> None:
        await go.wait()

    async with serving(world, process_request=process_request) as server:
        peer = await world.reach(server)
        await peer.write(request() + wire.text("one", mask=True))
        await world.settle()
        await peer.write(wire.text("two", mask=True))
        await world.settle()
        assert peer.received == b""
        go.open()
        await peer.read_until()
        assert [(await peer.frame()).payload for _ in range(2)] == [b"one", b"two"]
        await leave(peer)


@pytest.mark.parametrize(
    "call",
    [
        lambda connection: connection.send("early"),
        lambda connection: connection.ping(),
        lambda connection: connection.pong(),
    ],
    ids=["send", "ping", "pong"],
)
@in_every_world()
async def test_nothing_is_sent_before_the_answer(world: World, call: Any) -> None:
    """Who tries is told at once, and doesn't wait for an end that nothing brings about."""

    async def process_request(connection: Any, request: Request) -> None:
        with pytest.raises(InvalidState, match=r"^connection is connecting$"):
            await call(connection)

    async with serving(world, process_request=process_request) as server:
        peer = await world.reach(server)
        await peer.write(request())
        assert (await peer.read_until()).startswith(b"HTTP/1.1 101 ")
        await leave(peer)


@pytest.mark.parametrize(("data", "status"), REFUSED, ids=range(len(REFUSED)))
@in_every_world()
async def test_refused_connection_closes(
    world: World, data: bytes, status: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, LOGGER)

    async def handler(connection: Any) -> None:
        raise AssertionError("never called")

    start = world.now()
    async with serving(world, handler, origins=[None, "http://good"]) as server:
        peer = await world.reach(server)
        await peer.write(data)
        got, headers, body = answered(await peer.read_until_eof())
        peer.hang_up()
        assert got == status
        assert headers["Connection"] == ["close"]
        assert headers["Content-Length"] == [str(len(body))]
        await world.settle()
        assert peer.let_go
        assert server.connections == set()
    assert world.now() == start
    assert messages_of_connections(caplog) == [f"connection rejected ({status})"]


@pytest.mark.scenario(26)
@in_every_world()
async def test_refused_client_that_stays_is_dropped(world: World, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, LOGGER)
    async with serving(world, close_timeout=3) as server:
        start = world.now()
        peer = await world.reach(server)
        await peer.write(request(method="PUT"))
        await peer.read_until_eof()
        await world.settle()
        assert not peer.let_go
        await world.advance(3.02)
        assert peer.let_go
        assert world.now() - start == pytest.approx(3.02)
    assert messages_of_connections(caplog) == ["connection rejected (405 Method Not Allowed)"]


@in_every_world()
async def test_names_that_the_server_answers_to(world: World) -> None:
    def health(connection: Any, request: Request) -> Response | None:
        return connection.respond(200, "healthy") if request.path == "/health" else None

    for hook in (None, health):
        async with serving(world, hosts=["localhost"], process_request=hook) as server:
            # A name of an attacker that leads to this server: DNS rebinding.
            status, headers, body = await ask(world, server, request(host="evil.example"))
            assert (status, headers["Connection"]) == ("421 Misdirected Request", ["close"])
            assert body == b"Failed to open a WebSocket connection: invalid Host header: evil.example.\n"
            async with world.connect(world.uri(server).replace("localhost", "LOCALHOST"), proxy=None):
                pass
            if hook is not None:
                # Health checks by address come before.
                assert (await ask(world, server, request("/health", host="10.0.0.1")))[0] == "200 OK"


@in_every_world()
async def test_page_beside_the_connections(world: World) -> None:
    page = b"<!doctype html><p>Hello!"

    def process_request(connection: Any, request: Request) -> Any:
        if request.path == "/":
            return connection.respond(200, page, headers={"Content-Type": "text/html; charset=utf-8"})
        return connection.respond(200, page) if request.path == "/raw" else None

    async with serving(world, process_request=process_request) as server:
        status, headers, body = await ask(world, server, request())
        assert (status, headers["Content-Type"], body) == ("200 OK", ["text/html; charset=utf-8"], page)
        status, headers, body = await ask(world, server, request("/raw"))
        assert (status, headers["Content-Type"], body) == ("200 OK", ["application/octet-stream"], page)
        async with world.connect(uri(world, server, "/ws"), proxy=None):
            pass


@in_every_world()
async def test_answer_to_head_has_no_body(world: World) -> None:
    async with serving(world, process_request=lambda connection, request: connection.respond(200, "fine")) as server:
        status, headers, body = await ask(world, server, request(method="HEAD"))
        assert (status, headers["Content-Length"], body) == ("200 OK", ["4"], b"")


@in_every_world()
async def test_half_closed_client_gets_its_answer(world: World) -> None:
    async with serving(world, process_request=both_kinds(lambda connection, request: None)[1](world)) as server:
        for data, status in [(request(), b"HTTP/1.1 101 "), (request(method="PUT"), b"HTTP/1.1 405 ")]:
            peer = await world.reach(server)
            await peer.write(data)
            peer.eof()
            assert (await peer.read_until_eof()).startswith(status)
            peer.hang_up()


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, [SERVER]),
        ({"server_header": "mine"}, ["mine"]),
        ({"server_header": "mine, é \t"}, ["mine, é \t"]),
        ({"server_header": None}, None),
        ({"server_header": ""}, None),
    ],
)
@pytest.mark.parametrize("data", [request(), request(method="PUT")])
@in_every_world()
async def test_server_header(world: World, options: Any, expected: list[str] | None, data: bytes) -> None:
    async with serving(world, nothing, **options) as server:
        peer = await world.reach(server)
        await peer.write(data)
        found = re.findall(r"Server: (.*)\r\n", (await peer.read_until()).decode("iso-8859-1"))
        assert found == (expected or [])
        peer.reset()


# ---------------------------------------------------------------------------------------------------------- deadlines


@pytest.mark.scenario(1, 67)
@in_every_world()
async def test_silent_client(world: World, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, LOGGER)
    async with serving(world, open_timeout=3) as server:
        start = world.now()
        peer = await world.reach(server)
        await peer.read_until_eof()
        assert world.now() - start == pytest.approx(3, abs=0.02)
        assert peer.received == b""
        peer.hang_up()
    assert messages_of_connections(caplog) == [
        "opening handshake failed: timed out during opening handshake",
    ]


@pytest.mark.scenario(2)
@pytest.mark.parametrize("data", [request(), request(raw=b"a: b\r\n" * 200), b"x" * 9000])
@in_every_world()
async def test_dripping_client(world: World, data: bytes, caplog: pytest.LogCaptureFixture) -> None:
    """One deadline for the whole request, and not one a byte."""
    caplog.set_level(logging.INFO, LOGGER)
    async with serving(world) as server:
        start = world.now()
        peer = await world.reach(server)
        with contextlib.suppress(OSError):
            for byte in wire.bytewise(data):
                await peer.write(byte)
                await world.sleep(0.3)
        assert world.now() - start == pytest.approx(10, abs=0.501)
        peer.hang_up()
    assert messages_of_connections(caplog)[0] == "opening handshake failed: timed out during opening handshake"


@pytest.mark.scenario(3)
@in_every_world()
async def test_many_dripping_clients_delay_nobody(world: World) -> None:
    async with serving(world) as server:
        peers = [await world.reach(server) for _ in range(50)]

        async def drip(peer: Peer) -> None:
            with contextlib.suppress(OSError):
                for byte in wire.bytewise(request("/" + "a" * 1000)):
                    await peer.write(byte)
                    await world.sleep(0.3)
            peer.hang_up()

        drips = [world.start(drip, peer) for peer in peers]
        await world.advance(1)
        start = world.now()
        async with world.connect(uri(world, server)) as client:
            await client.send("hello")
            assert await client.recv() == "hello"
        assert world.now() == start
        for running in drips:
            await running.result()
        assert world.now() - start < 12


@in_every_world()
async def test_no_open_timeout(world: World) -> None:
    async with serving(world, open_timeout=None) as server:
        peer = await world.reach(server)
        await world.advance(3600)
        await peer.write(request())
        await peer.read_until()
        await leave(peer)


@in_every_world()
async def test_open_timeout_is_for_the_opening_only(world: World) -> None:
    async with serving(world, open_timeout=3, ping_interval=None) as server:
        peer = await enter(world, server)
        await world.advance(100)
        assert len(server.connections) == 1
        await leave(peer)


@in_every_world()
async def test_handler_returns(world: World, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, LOGGER)
    async with serving(world, nothing) as server, world.connect(uri(world, server)) as client:
        await client.wait_closed()
        assert (client.close_code, client.close_reason) == (1000, "")
        await world.settle()
        assert messages_of_connections(caplog) == ["connection open", "connection closed"]


@pytest.mark.scenario(81)
@in_every_world()
async def test_handler_raises(world: World, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, LOGGER)

    async def handler(connection: Any) -> None:
        raise LookupError("secret")

    async with serving(world, handler) as server, world.connect(uri(world, server)) as client:
        await client.wait_closed()
        assert (client.close_code, client.close_reason) == (1011, "")
        await world.settle()
        assert messages_of_connections(caplog) == ["connection open", "connection handler failed", "connection closed"]
        (record,) = [record for record in caplog.records if record.levelname == "ERROR"]
        assert record.exc_info is not None
        assert isinstance(record.exc_info[1], LookupError)


@in_every_world()
async def test_handler_raises_after_the_connection_closed(world: World, caplog: pytest.LogCaptureFixture) -> None:
    async def handler(connection: Any) -> None:
        await connection.wait_closed()
        raise LookupError

    async with serving(world, handler) as server:
        await leave(await enter(world, server))
        await world.settle()
    assert messages_of_connections(caplog, "ERROR") == ["connection handler failed"]


async def endless_recv(connection: Any) -> None:
    while True:
        await connection.recv()


@in_every_world()
async def test_handler_ends_with_its_own_connection_broken(world: World, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, LOGGER)
    async with serving(world, endless_recv) as server:
        peer = await enter(world, server)
        peer.reset()
        await world.settle()
    assert messages_of_connections(caplog)[2:] == ["connection handler ended: no close frame received or sent"]


@pytest.mark.parametrize("own_closes_too", [False, True])
@in_every_world()
async def test_handler_ends_with_the_closure_of_another_connection(
    world: World, own_closes_too: bool, caplog: pytest.LogCaptureFixture
) -> None:
    async with serving(world, nothing) as other:

        async def handler(connection: Any) -> None:
            async with world.connect(uri(world, other)) as client:
                if own_closes_too:
                    await connection.wait_closed()
                await client.recv()

        async with serving(world, handler) as server:
            peer = await enter(world, server)
            if own_closes_too:
                await leave(peer, 3000)
            else:
                assert (await peer.frame()).payload == (1011).to_bytes(2, "big")
                await leave(peer, 1011)
    (record,) = [record for record in caplog.records if record.levelname == "ERROR"]
    assert record.getMessage().startswith("connection handler failed: ")
    assert record.exc_info is not None
    assert isinstance(record.exc_info[1], ConnectionClosed)


@in_every_world()
async def test_connection_closed_raised_by_hand_while_open(world: World, caplog: pytest.LogCaptureFixture) -> None:
    async def handler(connection: Any) -> None:
        raise ConnectionClosedError(None, None)

    async with serving(world, handler) as server, world.connect(uri(world, server)) as client:
        await client.wait_closed()
        assert client.close_code == 1011
    assert messages_of_connections(caplog, "ERROR") == ["connection handler failed"]


@in_every_world()
async def test_handler_may_close_and_go_on(world: World) -> None:
    done = world.gate()

    async def handler(connection: Any) -> None:
        await connection.close(4000, "bye")
        await world.sleep(5)
        done.open()

    async with serving(world, handler) as server, world.connect(uri(world, server)) as client:
        await client.wait_closed()
        assert (client.close_code, client.close_reason) == (4000, "bye")
    assert done.is_open()


@in_every_world()
async def test_limits_reach_the_connection(world: World) -> None:
    async with serving(world, max_size=10, max_queue=(8, 2)) as server:
        peer = await enter(world, server)
        (connection,) = server.connections
        assert connection.protocol.max_message_size == 10
        await peer.write(wire.binary(bytes(11), mask=True))
        assert (await peer.frame()).payload[:2] == (1009).to_bytes(2, "big")
        await leave(peer)


@in_every_world()
async def test_two_servers(world: World) -> None:
    async def second(connection: Any) -> None:
        await connection.send("second")

    async with serving(world) as one, serving(world, second) as two:
        async with world.connect(uri(world, one)) as a, world.connect(uri(world, two)) as b:
            await a.send("first")
            assert (await a.recv(), await b.recv()) == ("first", "second")
            assert len(one.connections) == 1
            one.close()
            await a.wait_closed()
            assert a.close_code == 1001
            assert two.is_serving()
            async with world.connect(uri(world, two)) as c:
                assert await c.recv() == "second"


# ------------------------------------------------------------------------------------------------------------------ log


@pytest.mark.parametrize("level", [logging.DEBUG, logging.INFO])
@in_every_world()
async def test_records_carry_the_connection(world: World, level: int, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(level, LOGGER)
    ids: list[Any] = []

    class Collector(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            connection = getattr(record, "websocket", None)
            ids.append((told(record), None if connection is None else connection.id))

    async def handler(connection: Any) -> None:
        ids.append(("handler", connection.id))

    collector = Collector()
    logging.getLogger(LOGGER).addHandler(collector)
    try:
        async with serving(world, handler) as server, world.connect(uri(world, server)) as client:
            await client.wait_closed()
            await world.settle()
    finally:
        logging.getLogger(LOGGER).removeHandler(collector)
    (own,) = [identity for line, identity in ids if line == "handler"]
    seen = dict(ids)
    assert seen["connection open"] == seen["connection closed"] == own
    assert seen["server closing"] is None


@in_every_world()
async def test_logger_of_ones_own(world: World, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "mine")
    logger = logging.LoggerAdapter(logging.getLogger("mine"), {"extra": 1})
    async with serving(world, nothing, logger=logger) as server, world.connect(uri(world, server)) as client:
        await client.wait_closed()
        await world.settle()
    assert {record.name for record in caplog.records} == {"mine"}
    assert "connection open" in messages_of_connections(caplog)


@in_every_world()
async def test_nothing_is_logged_below_the_level(world: World, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING, LOGGER)
    async with serving(world, endless_recv, open_timeout=1) as server:
        await leave(await enter(world, server))
        await ask(world, server, b"garbage\r\n\r\n")
        peer = await world.reach(server)
        await peer.read_until_eof()
        peer.hang_up()
    assert caplog.records == []


# ------------------------------------------------------------------------------------------------------- a normal day


@in_every_world()
async def test_the_log_tells_of_each_connection_and_each_refusal(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, LOGGER)

    async def echo(connection: Any) -> None:
        async for message in connection:
            await connection.send(message)

    async with serving(world, echo) as server:
        async with world.connect(uri(world, server, "/chat?a%20b")) as client:
            await client.send("hello")
            await client.recv()
            await client.close(4000, "100%")
        await world.settle()
    start, opened, closed = (record.getMessage() for record in caplog.records[:3])
    assert start.startswith("server listening on ")
    who = r"(127\.0\.0\.1:\d+)"
    first = re.fullmatch(rf"connection open: {who} /chat\?a%20b, id ([0-9a-f-]{{36}})", opened)
    assert first is not None, opened
    story = r"received 4000 \(private use\) 100%; then sent 4000 \(private use\) 100%"
    pattern = rf"connection closed: {who}, {story}, \d+\.\d s, messages: 1 received, 1 sent, id ([0-9a-f-]{{36}})"
    last = re.fullmatch(pattern, closed)
    assert last is not None, closed
    assert last.groups() == first.groups()
