"""Servers on asyncio that close: at every step, cancelled, by classes of the user, with or without a loop."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from _kit import RawPeer, VirtualLoop, advance, idle, request, steps, virtual, wire
from scenarios._serving import messages, says_closing
from websockets.asyncio.client import connect
from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.exceptions import ConnectionClosedOK
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
    return says_closing(answer)


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
    # A second cancellation ends the wait; the server closes all the same.
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
