"""Scenarios 78 to 85: cancellation at every step, tasks and threads that get in each other's way, shutdown."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import re
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest

from _kit import advance, idle, request, steps, virtual, wire
from _kit.ends import open_end
from robustness.worlds import LOOPS, both_sides, each_loop, echo, greet, now, port_of, real_client, until
from websockets import PreparedMessage
from websockets.asyncio.client import connect
from websockets.asyncio.connection import Connection
from websockets.asyncio.server import ServerConnection, broadcast, serve
from websockets.exceptions import ConcurrencyError, ConnectionClosedError, ConnectionClosedOK
from websockets.protocol import Side

scenario = pytest.mark.scenario


# ------------------------------------------------------------------------------------------------------- cancellation


async def cancelled_after(count: int, coroutine: Coroutine[Any, Any, Any]) -> Any:
    """Run a coroutine for so many turns of the loop, then cancel it; its result if it was done before, else None."""
    task = asyncio.ensure_future(coroutine)
    await steps(count)
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        return await task


OPERATIONS: dict[str, Callable[[Connection], Coroutine[Any, Any, Any]]] = {
    "send": lambda connection: connection.send("cancelled?"),
    "large send": lambda connection: connection.send(bytes(200_000)),
    "ping": lambda connection: connection.ping(),
    "ping and its pong": lambda connection: ping_and_wait(connection),
    "pong": lambda connection: connection.pong(b"cancelled?"),
    "recv": lambda connection: connection.recv(),
    "streaming": lambda connection: first_fragment(connection),
    "iteration": lambda connection: anext(aiter(connection)),  # type: ignore[arg-type]
    "wait_closed": lambda connection: connection.wait_closed(),
}


async def ping_and_wait(connection: Connection) -> None:
    await (await connection.ping())


async def first_fragment(connection: Connection) -> Any:
    async with contextlib.aclosing(connection.recv_streaming()) as fragments:  # type: ignore[type-var]
        async for fragment in fragments:
            return fragment


@scenario(78)
@both_sides
@pytest.mark.parametrize("name", OPERATIONS)
@virtual
async def test_s78_cancelled_at_every_step(name: str, side: Side) -> None:
    """After any cancellation the peer sees whole frames; messages go on both ways, in order, and none is lost."""
    for count in range(8):
        async with open_end(side) as (connection, peer):
            got: list[Any] = []
            for number in range(3):
                result = await cancelled_after(count, OPERATIONS[name](connection))
                if isinstance(result, str):
                    got.append(result)
                await peer.text(str(number))
            await idle()
            while len(got) < 3:
                got.append(await connection.recv())
            assert got == ["0", "1", "2"]
            await connection.send("end")
            row = await peer.frame()
            while row.payload != b"end":
                assert row.opcode in (wire.TEXT, wire.BINARY, wire.PING, wire.PONG)
                assert row.payload in (b"cancelled?", bytes(200_000)) or row.opcode == wire.PING
                row = await peer.frame()


@scenario(78)
@both_sides
@pytest.mark.parametrize("count", range(6))
@virtual
async def test_s78_cancelled_while_the_peer_does_not_read(count: int, side: Side) -> None:
    """A send that waits for room was handed over whole already."""
    async with open_end(side) as (connection, peer):
        peer.raw.stop_reading()
        sent = 0
        for _ in range(200):
            await cancelled_after(count, connection.send(bytes(1000)))
            sent += 1
        peer.raw.resume_reading()
        await connection.send("end")
        rows: list[wire.Row] = []
        while not rows or rows[-1].payload != b"end":
            rows.append(await peer.frame())
        assert {row.payload for row in rows[:-1]} <= {bytes(1000)}
        # Cancelled before the first step, a task never began.
        assert len(rows) - 1 == (0 if count == 0 else sent)


@scenario(78)
@both_sides
@pytest.mark.parametrize("count", range(8))
@virtual
async def test_s78_close_cancelled(count: int, side: Side) -> None:
    """The closing handshake that began goes on by itself."""
    async with open_end(side) as (connection, peer):
        await cancelled_after(count, connection.close(1000, "bye"))
        if count == 0:
            await connection.send("not begun")
            await peer.expect(wire.TEXT, b"not begun")
        else:
            await peer.expect_close(1000, "bye")
            await peer.finish()
            await connection.wait_closed()
            assert connection.close_code == 1000


@scenario(78)
@each_loop
async def test_s78_cancelled_over_real_sockets() -> None:
    async with serve(echo, "127.0.0.1", 0) as server:
        for count in range(12):
            task = asyncio.ensure_future(connect(f"ws://127.0.0.1:{port_of(server)}/", proxy=None).connect())
            await asyncio.sleep(count * 0.0002)
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await (await task).close()
        async with connect(f"ws://127.0.0.1:{port_of(server)}/", proxy=None) as client:
            sent, got = [], []
            for number in range(200):
                message = str(number)
                await client.send(message)
                sent.append(message)
                got.append(await cancelled_after(number % 7, client.recv()))
            got = [message for message in got if message is not None]
            while len(got) < len(sent):
                got.append(await client.recv())
            assert got == sent
        await until(lambda: not server._ws_registry.all)


@scenario(78)
@each_loop
async def test_s78_handler_cancelled() -> None:
    tasks: list[asyncio.Task[None]] = []

    async def handler(connection: ServerConnection) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.append(task)
        await connection.recv()

    async with serve(handler, "127.0.0.1", 0) as server, real_client(port_of(server)) as peer:
        await until(lambda: tasks)
        tasks[0].cancel()
        close = await peer.frame()
        assert close.payload[:2] == (1011).to_bytes(2)
        await until(lambda: not server._ws_registry.all)


# ---------------------------------------------------------------------------------------------------- several at once


@scenario(79)
@both_sides
@virtual
async def test_s79_two_receivers(side: Side) -> None:
    async with open_end(side) as (connection, peer):
        first = asyncio.create_task(connection.recv())
        await steps(2)
        with pytest.raises(ConcurrencyError):
            await connection.recv()
        await peer.text("for the first")
        assert await first == "for the first"


@scenario(79)
@both_sides
@virtual
async def test_s79_messages_never_get_into_another(side: Side) -> None:
    async def fragments(letter: str) -> AsyncIterator[str]:
        for _ in range(5):
            await steps(3)
            yield letter

    async with open_end(side) as (connection, peer):
        tasks = [asyncio.create_task(connection.send(fragments(letter))) for letter in "abc"]
        tasks += [asyncio.create_task(connection.send(text * 50)) for text in "ABC"]
        await asyncio.gather(*tasks)
        await connection.send("end")
        messages: list[str] = []
        fragment = ""
        while not messages or messages[-1] != "end":
            row = await peer.frame()
            assert (row.opcode == wire.CONT) is bool(fragment)
            fragment += row.payload.decode()
            if row.fin:
                messages.append(fragment)
                fragment = ""
        assert sorted(messages[:-1]) == sorted([letter * 5 for letter in "abc"] + [letter * 50 for letter in "ABC"])


WAITING: dict[str, Callable[[Connection], Awaitable[Any]]] = {
    "recv": lambda connection: connection.recv(),
    "recv_streaming": lambda connection: anext(aiter(connection.recv_streaming())),
    "blocked send": lambda connection: fill(connection),
    "pong": lambda connection: ping_and_wait(connection),
    "close": lambda connection: connection.close(),
    "wait_closed": lambda connection: connection.wait_closed(),
}


async def fill(connection: Connection) -> None:
    while True:
        await connection.send(bytes(10_000))


@scenario(80)
@both_sides
@pytest.mark.parametrize("closers", [1, 3])
@pytest.mark.parametrize("waiting", WAITING)
@virtual
async def test_s80_closed_while_another_task_waits(waiting: str, closers: int, side: Side) -> None:
    """All who wait learn of the end, and close() does what it should, in time, however many call it."""
    async with open_end(side, close_timeout=5) as (connection, peer):
        if waiting == "blocked send":
            peer.raw.stop_reading()
        waiter = asyncio.ensure_future(WAITING[waiting](connection))
        await advance(0.1)
        begin = now()
        closing = [asyncio.create_task(connection.close(1000, f"closer {number}")) for number in range(closers)]
        await advance(0.1)
        if waiting == "blocked send":
            await asyncio.wait(closing)
            assert now() - begin == pytest.approx(5, abs=0.1)
        else:
            row = await peer.frame()
            while row.opcode == wire.PING:
                row = await peer.frame()
            assert row.opcode == wire.CLOSE
            await peer.finish()
            await asyncio.wait(closing)
            assert now() - begin < 0.2
        await asyncio.gather(*closing)
        if waiting in ("close", "wait_closed"):
            assert await waiter is None
        else:
            with pytest.raises(ConnectionClosedError if waiting == "blocked send" else ConnectionClosedOK):
                await waiter


# ------------------------------------------------------------------------------------------------ failures, shutdown


@scenario(81)
@each_loop
async def test_s81_exception_in_a_handler(caplog: pytest.LogCaptureFixture) -> None:
    async def handler(connection: ServerConnection) -> None:
        raise LookupError("a secret")

    async with serve(handler, "127.0.0.1", 0) as server, real_client(port_of(server)) as peer:
        close = await peer.frame()
        assert close.payload == (1011).to_bytes(2)
        peer.send(wire.close(1011, mask=True))
        assert await peer.rest() == b""
    (record,) = [record for record in caplog.records if record.levelno >= logging.ERROR]
    assert record.message.startswith("connection handler failed: ")


@scenario(82)
@each_loop
async def test_s82_server_closes_during_everything() -> None:
    """Clients that open, that are open, that close, that read nothing: each gets what is due, and it ends in time."""
    closing = asyncio.Event()

    async def handler(connection: ServerConnection) -> None:
        if connection.request is not None and connection.request.path == "/closing":
            closing.set()
            await connection.close()
        await connection.wait_closed()

    async with contextlib.AsyncExitStack() as stack:
        server = await serve(handler, "127.0.0.1", 0, close_timeout=0.2)
        silent = await stack.enter_async_context(real_client(port_of(server), b""))
        half = await stack.enter_async_context(real_client(port_of(server), request()[:-2]))
        closed = await stack.enter_async_context(real_client(port_of(server), request("/closing")))
        is_open = await stack.enter_async_context(real_client(port_of(server)))
        stuck = await stack.enter_async_context(real_client(port_of(server), request(), limit=1))
        await closing.wait()
        await until(lambda: len(server._ws_registry.all) == 5)
        server.close()
        async with asyncio.timeout(5):
            await server.wait_closed()
        assert (await silent.rest()).startswith(b"HTTP/1.1 503 ")
        assert (await half.rest()).startswith(b"HTTP/1.1 503 ")
        await closed.head()
        assert (await closed.frame()).payload == (1000).to_bytes(2)
        assert (await is_open.frame()).payload == (1001).to_bytes(2)
        assert stuck.writer is not None


@scenario(83)
@pytest.mark.parametrize("debug", [False, True], ids=["", "debug"])
@pytest.mark.parametrize("loop", LOOPS)
# What is left open is the point. As an error the warning makes uvloop hang.
@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_s83_the_loop_ends_with_connections_open(loop: str, debug: bool, caplog: pytest.LogCaptureFixture) -> None:
    reported: list[dict[str, Any]] = []
    left: list[asyncio.Future[Any]] = []

    async def main() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda _, context: reported.append(context))
        server = await serve(echo, "127.0.0.1", 0)
        uri = f"ws://127.0.0.1:{port_of(server)}/"
        clients = [await connect(uri, proxy=None) for _ in range(3)]
        waiting: list[Coroutine[Any, Any, Any]] = [clients[0].recv(), clients[1].close(), connect(uri).connect()]
        left.extend(map(asyncio.ensure_future, waiting))
        await asyncio.sleep(0)

    with asyncio.Runner(loop_factory=LOOPS[loop], debug=debug) as runner:
        runner.run(main())
    del runner
    left.clear()
    gc.collect()
    assert reported == []
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]


@scenario(84)
@each_loop
async def test_s84_no_exception_goes_unretrieved(caplog: pytest.LogCaptureFixture) -> None:
    """Everything fails, everywhere; each failure reaches somebody, or the log, and none is left to the collector."""

    async def handler(connection: ServerConnection) -> None:
        await connection.ping()
        await connection.send("hello")
        raise LookupError

    def process_request(connection: ServerConnection, request: Any) -> None:
        if request.path == "/crash":
            raise LookupError

    async with serve(handler, "127.0.0.1", 0, process_request=process_request, close_timeout=0.1) as server:
        uri = f"ws://127.0.0.1:{port_of(server)}"
        for data in [b"garbage\r\n\r\n", request("/crash"), request(), request() + b"\xff" * 100]:
            async with real_client(port_of(server), data):
                pass
            async with real_client(port_of(server), data) as peer:
                await peer.head()
        for path in ["/crash", "/"]:
            with contextlib.suppress(Exception):
                client = await connect(uri + path, proxy=None)
                receiving = asyncio.ensure_future(client.recv())
                await client.ping()
                client.transport.abort()
                await client.wait_closed()
                await receiving
        await until(lambda: not server._ws_registry.all)
    gc.collect()
    assert not [record for record in caplog.records if record.name == "asyncio"]


@scenario(85)
@pytest.mark.parametrize("loop", LOOPS)
def test_s85_loops_in_threads(loop: str) -> None:
    """Connections of different loops share nothing that a thread could trip over."""
    failures: list[BaseException] = []
    text = "é" * 70_000
    shared = PreparedMessage(text)

    async def main() -> None:
        async with serve(echo, "127.0.0.1", 0) as server:
            async with connect(f"ws://127.0.0.1:{port_of(server)}/", proxy=None) as client:
                for number in range(100):
                    await client.send(str(number) * 100)
                    assert await client.recv() == str(number) * 100
                # What was prepared is for all of them.
                broadcast(server.connections, shared)
                await client.send(shared)
                assert [await client.recv(), await client.recv()] == [text, text]
            await greet(f"ws://127.0.0.1:{port_of(server)}/")

    def run() -> None:
        try:
            with asyncio.Runner(loop_factory=LOOPS[loop]) as runner:
                runner.run(main())
        except BaseException as exc:
            failures.append(exc)

    threads = [threading.Thread(target=run) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert failures == []


@scenario(85)
def test_s85_fork_and_threads_are_documented() -> None:
    page = (Path(__file__).parents[2] / "docs" / "robustness.md").read_text("utf-8")
    (section,) = re.findall(r"^## Threads and processes\n(.*?)(?=^## )", page, re.DOTALL | re.MULTILINE)
    assert "thread" in section
    assert "fork" in section
