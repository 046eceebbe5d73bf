"""Servers on asyncio that close: at every stage of a connection, once or twice, cancelled, with or without a loop."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from _kit import RawPeer, VirtualLoop, advance, idle, request, steps, virtual, wire
from websockets.asyncio.client import connect
from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.exceptions import ConnectionClosedOK, ProtocolError
from websockets.http11 import Request, Response
from websockets.protocol import State

LOGGER = "websockets.server"
GOING_AWAY = (1001).to_bytes(2, "big")


async def recv_all(connection: ServerConnection) -> None:
    async for _ in connection:
        pass


def running_loop() -> VirtualLoop:
    loop = asyncio.get_running_loop()
    assert isinstance(loop, VirtualLoop)
    return loop


def now() -> float:
    return asyncio.get_running_loop().time()


def port(server: Server) -> int:
    number: int = next(iter(server.sockets)).getsockname()[1]
    return number


@contextlib.asynccontextmanager
async def serving(handler: Callable[..., Any] = recv_all, **options: Any) -> AsyncIterator[Server]:
    async with serve(handler, "localhost", 0, compression=None, **options) as server:
        yield server


async def reach(server: Server, data: bytes = b"") -> RawPeer:
    """A client that sent ``data``, which has arrived."""
    peer = await running_loop().network.connect("localhost", port(server))
    await peer.send(data)
    await idle()
    return peer


async def enter(server: Server) -> RawPeer:
    """A client that is in."""
    peer = await reach(server, request())
    assert (await peer.read_until()).startswith(b"HTTP/1.1 101 ")
    return peer


async def leave(peer: RawPeer) -> bytes:
    """Answer a Close as a client should; return its payload."""
    row = await peer.read_frame()
    assert row.opcode == wire.CLOSE
    await peer.send(wire.frame(wire.CLOSE, row.payload, mask=True))
    assert await peer.read_until_eof() == b""
    peer.close()
    return row.payload


async def turned_away(peer: RawPeer) -> bool:
    """Whether a client was refused as the server closes."""
    answer = await peer.read_until_eof()
    peer.close()
    head, _, body = answer.partition(b"\r\n\r\n")
    return (
        head.startswith(b"HTTP/1.1 503 Service Unavailable\r\n")
        and b"\r\nConnection: close\r\n" in head
        and body == b"Server is shutting down.\n"
    )


def messages(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records]


# ------------------------------------------------------------------------------------------ before the connection opens


@pytest.mark.parametrize("data", [b"", b"GET / HT", request()[:-2]], ids=["silent", "request line", "headers"])
@virtual
async def test_close_before_the_request(data: bytes, caplog: pytest.LogCaptureFixture) -> None:
    async with serving(open_timeout=None) as server:
        peer = await reach(server, data)
        caplog.set_level(logging.INFO, LOGGER)
        start = now()
        server.close()
        assert await turned_away(peer)
        await server.wait_closed()
        assert now() == start
        assert messages(caplog) == [
            "server closing",
            "connection rejected (503 Service Unavailable)",
            "connection closed",
            "server closed",
        ]


@virtual
async def test_rest_of_the_request_comes_too_late() -> None:
    async with serving() as server:
        peer = await reach(server, request()[:-2])
        server.close()
        await peer.send(b"\r\n")
        assert await turned_away(peer)


@virtual
async def test_refused_client_that_stays_is_dropped() -> None:
    async with serving(close_timeout=3) as server:
        peer = await reach(server)
        start = now()
        server.close()
        await server.wait_closed()
        assert now() - start == pytest.approx(3, abs=0.02)
        assert peer.link.server.closed
        peer.close()


@pytest.mark.parametrize("name", ["process_request", "process_response"])
@virtual
async def test_close_while_a_hook_waits(name: str, caplog: pytest.LogCaptureFixture) -> None:
    async def hook(*_: Any) -> None:
        await asyncio.sleep(2)

    async with serving(**{name: hook}) as server:
        peer = await reach(server, request())
        caplog.set_level(logging.INFO, LOGGER)
        start = now()
        server.close()
        assert await turned_away(peer)
        await server.wait_closed()
        assert now() - start == 2
        assert "connection rejected (503 Service Unavailable)" in messages(caplog)


@virtual
async def test_refusal_passes_through_the_other_hook() -> None:
    seen: list[int] = []

    def process_response(connection: ServerConnection, request: Request, response: Response) -> None:
        seen.append(response.status_code)

    def process_request(connection: ServerConnection, request: Request) -> None:
        connection.server.close()

    async with serving(process_request=process_request, process_response=process_response) as server:
        # It doesn't matter that there is something wrong with the request too.
        assert await turned_away(await reach(server, request(method="PUT")))
    assert seen == [503]


@virtual
async def test_answer_of_a_hook_counts_while_the_server_closes() -> None:
    async def hook(connection: ServerConnection, request: Request) -> Any:
        await asyncio.sleep(2)
        return connection.respond(200, "healthy")

    async with serving(process_request=hook) as server:
        peer = await reach(server, request())
        server.close()
        assert (await peer.read_until_eof()).startswith(b"HTTP/1.1 200 OK\r\n")
        peer.close()


@virtual
async def test_hook_closes_the_server() -> None:
    def hook(connection: ServerConnection, request: Request) -> None:
        connection.server.close()

    async with serving(process_request=hook) as server:
        assert await turned_away(await reach(server, request()))


@virtual
async def test_refused_request_stays_refused() -> None:
    async with serving() as server:
        peer = await reach(server, b"garbage\r\n\r\n")
        server.close()
        assert (await peer.read_until_eof()).startswith(b"HTTP/1.1 400 Bad Request\r\n")
        assert peer.received.count(b"HTTP/1.1") == 1
        peer.close()


@pytest.mark.scenario(82)
@pytest.mark.parametrize("hooks", [False, True], ids=["without hooks", "with hooks"])
@virtual
async def test_close_at_any_step_of_the_opening(hooks: bool) -> None:
    """The client is refused or goes away with 1001, and nobody waits for a deadline."""

    async def hook(*_: Any) -> None:
        await asyncio.sleep(0)

    options = {"process_request": hook, "process_response": hook} if hooks else {}
    outcomes = set()
    for count in range(16):
        async with serving(**options) as server:
            peer = await running_loop().network.connect("localhost", port(server))
            await peer.send(request())
            await steps(count)
            start = now()
            server.close()
            with contextlib.suppress(ConnectionResetError):
                head = await peer.read_until()
                outcomes.add(head[9:12])
                if head[9:12] == b"101":
                    assert await leave(peer) == GOING_AWAY
                else:
                    assert await turned_away(peer) is False  # the head is read
            peer.close()
            await server.wait_closed()
            assert now() == start
    assert outcomes == {b"101", b"503"}


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
@virtual
async def test_close_open_connections(arguments: Any, payload: bytes) -> None:
    async with serving() as server:
        peers = [await enter(server) for _ in range(3)]
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
@virtual
async def test_close_code_that_cannot_be_sent(arguments: Any, error: str) -> None:
    async with serving() as server:
        with pytest.raises((ProtocolError, TypeError), match=error):
            server.close(**arguments)
        assert server.is_serving()


@virtual
async def test_close_is_idempotent() -> None:
    async with serving() as server:
        peer = await enter(server)
        server.close(code=1012)
        server.close(code=1013)
        server.close(close_connections=False)
        assert await leave(peer) == b"\x03\xf4"
        await server.wait_closed()
        server.close()
        await server.wait_closed()


@virtual
async def test_connections_may_stay() -> None:
    async with serving(ping_interval=None) as server:
        waiting = await reach(server)
        peer = await enter(server)
        listening = port(server)
        server.close(close_connections=False)
        assert await turned_away(waiting)
        closing = asyncio.create_task(server.wait_closed())
        with pytest.raises(ConnectionRefusedError):
            await running_loop().network.connect("localhost", listening)
        await advance(100)
        assert not closing.done()
        assert len(server.connections) == 1
        await peer.send(wire.close(1000, mask=True))
        assert (await peer.read_frame()).payload == b"\x03\xe8"
        peer.close()
        await closing


@pytest.mark.scenario(82)
@virtual
async def test_connections_that_close_already() -> None:
    async def handler(connection: ServerConnection) -> None:
        await connection.close(4000)

    async with serving(handler) as server:
        peer = await enter(server)
        assert server.connections == set()
        server.close()
        assert await leave(peer) == (4000).to_bytes(2, "big")


@virtual
async def test_client_that_never_answers() -> None:
    async with serving(close_timeout=3) as server:
        peer = await enter(server)
        start = now()
        server.close()
        await server.wait_closed()
        assert now() - start == pytest.approx(3, abs=0.02)
        peer.close()


@pytest.mark.scenario(82)
@virtual
async def test_client_that_never_reads() -> None:
    async def flood(connection: ServerConnection) -> None:
        while True:
            await connection.send(bytes(10_000))

    async with serving(flood, close_timeout=3, ping_interval=None) as server:
        peer = await running_loop().network.connect("localhost", port(server))
        peer.stop_reading()
        await peer.send(request())
        await idle()
        start = now()
        server.close()
        await server.wait_closed()
        assert now() - start == pytest.approx(3, abs=0.02)
        peer.close()


@virtual
async def test_handlers_are_awaited_and_not_cancelled() -> None:
    done = asyncio.Event()

    async def handler(connection: ServerConnection) -> None:
        with pytest.raises(ConnectionClosedOK):
            await connection.recv()
        await asyncio.sleep(50)
        done.set()

    async with serving(handler) as server:
        peer = await enter(server)
        start = now()
        server.close()
        await leave(peer)
        await server.wait_closed()
        assert done.is_set()
        assert now() - start == 50


@virtual
async def test_handler_closes_the_server() -> None:
    async def handler(connection: ServerConnection) -> None:
        connection.server.close()

    async with serving(handler) as server:
        peer = await enter(server)
        assert await leave(peer) == GOING_AWAY
        await server.wait_closed()


@virtual
async def test_close_at_any_step_of_connecting() -> None:
    """A connection may be accepted, and reach the server only after it went through its connections to close them."""
    outcomes: set[Any] = set()
    for count in range(10):
        async with serving(open_timeout=None, close_timeout=None) as server:
            connecting = asyncio.create_task(running_loop().network.connect("localhost", port(server)))
            await steps(count)
            server.close()
            try:
                outcomes.add(await turned_away(await connecting))
            except ConnectionError as exc:
                outcomes.add(type(exc))
            await server.wait_closed()
    assert outcomes == {True, ConnectionRefusedError, ConnectionResetError}


# -------------------------------------------------------------------------------------------------------- wait_closed


@virtual
async def test_wait_closed_waits_for_close() -> None:
    server = await serve(recv_all, "localhost", 0)
    waiters = [asyncio.create_task(server.wait_closed()) for _ in range(3)]
    await advance(100)
    assert not any(waiter.done() for waiter in waiters)
    peer = await enter(server)
    waiters[0].cancel()
    server.close()
    await idle()
    waiters[1].cancel()
    await idle()
    assert [waiter.cancelled() for waiter in waiters] == [True, True, False]
    assert not waiters[2].done()
    await leave(peer)
    await waiters[2]


@virtual
async def test_leaving_the_context() -> None:
    async with serving() as server:
        peer = await enter(server)
        leaving = asyncio.create_task(leave(peer))
    assert not server.is_serving()
    assert leaving.done()
    assert await leaving == GOING_AWAY


@virtual
async def test_leaving_the_context_through_an_exception() -> None:
    leaving: list[asyncio.Task[bytes]] = []

    async def main() -> None:
        async with serving() as server:
            leaving.append(asyncio.create_task(leave(await enter(server))))
            raise LookupError

    with pytest.raises(LookupError):
        await main()
    assert await leaving[0] == GOING_AWAY


@virtual
async def test_start_serving_after_close() -> None:
    async with serving() as server:
        server.close()
        for method in (server.start_serving, server.serve_forever):
            with pytest.raises(RuntimeError, match=r"^the server is closed$"):
                await method()


@virtual
async def test_close_before_the_start() -> None:
    server = serve(recv_all, "localhost", 0)
    server.close()
    await server.wait_closed()


# ------------------------------------------------------------------------------------------------------- serve_forever


@virtual
async def test_serve_forever_until_closed() -> None:
    server = await serve(recv_all, "localhost", 0, start_serving=False)
    forever = asyncio.create_task(server.serve_forever())
    await idle()
    assert server.is_serving()
    peer = await enter(server)
    server.close()
    await leave(peer)
    await forever


@virtual
async def test_serve_forever_until_cancelled(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, LOGGER)
    server = await serve(recv_all, "localhost", 0)
    forever = asyncio.create_task(server.serve_forever())
    peer = await enter(server)
    forever.cancel()
    assert await leave(peer) == GOING_AWAY
    await asyncio.wait([forever])
    assert forever.cancelled()
    assert not server.is_serving()
    assert messages(caplog)[-1] == "server closed"


@virtual
async def test_a_class_that_closes_in_its_own_way(caplog: pytest.LogCaptureFixture) -> None:
    told: list[tuple[Any, ...]] = []

    class Closing(ServerConnection):
        async def close(self, code: int = 1000, reason: str = "", **options: Any) -> None:
            told.append((code, reason))
            await asyncio.sleep(1)
            if code == 1012:
                raise LookupError("not today")
            await super().close(code, reason, **options)

    for code in (1001, 1012):
        async with serving(create_connection=Closing) as server:
            peer = await enter(server)
            start = now()
            server.close(code=code, reason="bye")
            # What fails is in the log, and the connection is closed all the same.
            assert await leave(peer) == code.to_bytes(2, "big") + b"bye"
            assert now() - start == pytest.approx(1, abs=0.1)
        assert told == [(code, "bye"), (1000, "")]
        told.clear()
    assert [record.getMessage() for record in caplog.records if record.levelname == "ERROR"] == ["closing failed"]


@virtual
async def test_a_class_whose_close_has_no_parameters() -> None:
    closed: list[State] = []

    class Closing(ServerConnection):
        async def close(self) -> None:  # type: ignore[override]
            await super().close()
            closed.append(self.state)

    async def handler(connection: ServerConnection) -> None:
        async with connection:
            pass

    async with serving(handler, create_connection=Closing) as server:
        assert await leave(await enter(server)) == (1000).to_bytes(2, "big")
    assert closed == [State.CLOSED] * 2


@virtual
async def test_connections_and_tasks_of_a_server() -> None:
    running: list[asyncio.Task[Any] | None] = []
    going_on = asyncio.Event()

    async def handler(connection: ServerConnection) -> None:
        running.append(asyncio.current_task())
        await connection.wait_closed()
        await going_on.wait()

    async with serving(handler) as server:
        assert not server.all_connections | server.handler_tasks
        opening = await reach(server)
        assert not server.all_connections | server.handler_tasks
        peer = await enter(server)
        await idle()
        (connection,) = server.all_connections
        assert server.connections == {connection}
        assert server.handler_tasks == {*running}
        peer.reset()
        await idle()
        # It is closed, and its handler goes on.
        assert server.connections == set()
        assert server.all_connections == {connection}
        assert server.handler_tasks == {*running}
        going_on.set()
        await idle()
        assert not server.all_connections | server.handler_tasks
        opening.reset()


@virtual
async def test_serve_forever_cancelled_twice() -> None:
    async def handler(connection: ServerConnection) -> None:
        await asyncio.sleep(100)

    server = await serve(handler, "localhost", 0)
    forever = asyncio.create_task(server.serve_forever())
    leaving = asyncio.create_task(leave(await enter(server)))
    forever.cancel()
    await advance(10)
    assert not forever.done()
    forever.cancel()
    await idle()
    # Whoever cancels again doesn't want to wait; the server closes all the same.
    assert forever.cancelled()
    assert await leaving == GOING_AWAY
    await server.wait_closed()


@virtual
async def test_cancelled_at_any_step() -> None:
    """A program in ``async with serve(...): await serve_forever()`` that is cancelled closes what is open."""
    for count in range(20):
        servers: list[Server] = []

        async def main(servers: list[Server] = servers) -> None:
            async with serve(recv_all, "localhost", 0) as server:
                servers.append(server)
                await server.serve_forever()

        task = asyncio.create_task(main())
        client = asyncio.create_task(client_of(servers))
        await steps(count)
        start = now()
        task.cancel()
        await asyncio.wait([task])
        assert task.cancelled()
        client.cancel()
        await asyncio.wait([client])
        assert now() == start


async def client_of(servers: list[Server]) -> None:
    """A client as soon as there is a server; whatever happens to it, it ends well."""
    while not servers:
        await steps(1)
    with contextlib.suppress(OSError, ConnectionClosedOK):
        async with connect(f"ws://localhost:{port(servers[0])}/") as connection:
            await connection.recv()


@virtual
async def test_two_servers_close_together() -> None:
    async with serving() as one, serving() as two:
        peers = [await enter(one), await enter(two)]
        one.close()
        two.close(code=1012)
        assert [await leave(peer) for peer in peers] == [GOING_AWAY, b"\x03\xf4"]


# ------------------------------------------------------------------------------------------- without, and after, a loop


async def running() -> tuple[Server, RawPeer]:
    """A server with one client."""
    server = await serve(recv_all, "localhost", 0, compression=None)
    return server, await enter(server)


def test_close_while_the_loop_stands_still() -> None:
    loop = VirtualLoop()
    with asyncio.Runner(loop_factory=lambda: loop) as runner:
        server, peer = runner.run(running())
        server.close()
        assert runner.run(leave(peer)) == GOING_AWAY
        runner.run(server.wait_closed())
    assert loop.errors == []


@pytest.mark.scenario(83)
@pytest.mark.parametrize("closing", [False, True])
def test_end_of_the_loop_ends_connections(closing: bool) -> None:
    """A program that just ends cancels all tasks: clients learn of it, and the log stays empty."""
    loop = VirtualLoop()
    with asyncio.Runner(loop_factory=lambda: loop) as runner:
        server, peer = runner.run(running())
        if closing:
            server.close()
    assert loop.errors == []
    assert peer.link.server.closed
    rows, _ = wire.parse(peer.unread + peer.sock.incoming._take(1000))
    assert [(row.opcode, row.payload) for row in rows] == [(wire.CLOSE, GOING_AWAY if closing else b"\x03\xf3")]
    assert server.connections == set()


def test_state_after_the_end_of_the_loop() -> None:
    connections: list[ServerConnection] = []

    async def handler(connection: ServerConnection) -> None:
        connections.append(connection)
        await connection.recv()

    async def main() -> None:
        server = await serve(handler, "localhost", 0)
        await enter(server)

    loop = VirtualLoop()
    with asyncio.Runner(loop_factory=lambda: loop) as runner:
        runner.run(main())
    assert [connection.state for connection in connections] == [State.CLOSED]
    assert loop.errors == []
