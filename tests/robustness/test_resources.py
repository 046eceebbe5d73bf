"""Scenarios 55 to 67: peers that flood, that do not read, that vanish; and what a server has too little of."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import os
import socket
import ssl
import struct
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from _kit import request, steps, virtual, wire
from _kit.ends import open_end
from robustness.worlds import (
    DEFLATE,
    VICTIMS,
    RealPeer,
    Victim,
    both_sides,
    each_loop,
    each_twin,
    echo,
    flood,
    greet,
    longest_greeting,
    needs_proc,
    port_of,
    real_client,
    until,
    victim,
)
from scenarios._world import World
from scenarios._worlds import in_every_world
from websockets.asyncio.client import connect
from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed, ConnectionClosedError, InvalidStatus
from websockets.protocol import Side

scenario = pytest.mark.scenario

MIB = 2**20


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """After it could accept no connection, asyncio tries again soon."""
    monkeypatch.setattr("asyncio.constants.ACCEPT_RETRY_DELAY", 0.05)


# ------------------------------------------------------------------------------------------------------------ floods


@scenario(55)
@needs_proc
@pytest.mark.parametrize("loop", VICTIMS)
def test_s55_pings_from_a_peer_that_does_not_read(loop: str) -> None:
    """All are read, few are answered, none is kept."""
    pings = wire.ping(bytes(100), mask=True) * 1000
    with victim(loop) as process:
        before = process.status("VmRSS")
        assert asyncio.run(flood(process.port, pings, 48 * MIB, patience=10)) >= 48 * MIB
        assert process.status("VmHWM") - before < 24 * 1024
        asyncio.run(greet(f"ws://127.0.0.1:{process.port}/"))


@scenario(25)
@needs_proc
@pytest.mark.parametrize("loop", VICTIMS)
def test_s25_memory_is_flat_beyond_the_limit(loop: str) -> None:
    """500 clients at once that are told, again and again: what they took is used for the next ones."""

    async def knock(port: int) -> RealPeer:
        peer = RealPeer(*await asyncio.open_connection("127.0.0.1", port))
        peer.send(request())
        return peer

    async def attack(process: Victim) -> list[int]:
        inside = [await knock(process.port) for _ in range(100)]
        assert {(await peer.head())[9:12] for peer in inside} == {b"101"}
        sizes = []
        for _ in range(4):
            outside = await asyncio.gather(*(knock(process.port) for _ in range(500)))
            assert {(await peer.head())[9:12] for peer in outside} == {b"503"}
            sizes.append(process.status("VmRSS"))
            for peer in outside:
                peer.abort()
            await until(lambda: process.files() < 200)
        for peer in inside:
            peer.abort()
        await until(lambda: process.files() < 100)
        return sizes

    with victim(loop, max_connections=100) as process:
        before = process.status("VmRSS")
        sizes = asyncio.run(attack(process))
        # A few KiB each the first time. The allocator takes a MiB now and then until it has enough; 1000 connections
        # that stayed would take more.
        assert sizes[0] - before < 8 * 1024
        assert sizes[-1] - sizes[1] < 4 * 1024
        asyncio.run(until_let_in(f"ws://127.0.0.1:{process.port}/"))


async def until_let_in(uri: str) -> None:
    """A place is free when its handler is over, which takes a moment longer than the connection."""
    async with asyncio.timeout(10):
        while True:
            try:
                return await greet(uri)
            except InvalidStatus:
                await asyncio.sleep(0.01)


@scenario(56)
@needs_proc
@pytest.mark.parametrize("loop", VICTIMS)
def test_s56_messages_to_an_echo_from_peers_that_do_not_read(loop: str) -> None:
    """The server stops to read, and the floods stand still: one for each size of messages, all at once."""
    sizes = [0, 10, 1000, 10_000]

    async def attack(port: int) -> list[int]:
        floods = [wire.binary(bytes(size), mask=True) * (100_000 // (size + 6)) for size in sizes]
        return await asyncio.gather(*(flood(port, messages, 64 * MIB, patience=0.5) for messages in floods))

    with victim(loop) as process:
        before = process.status("VmRSS")
        sent = asyncio.run(attack(process.port))
        assert {size: count for size, count in zip(sizes, sent, strict=True) if count >= 64 * MIB} == {}
        assert process.status("VmHWM") - before < 24 * 1024
        asyncio.run(greet(f"ws://127.0.0.1:{process.port}/"))


@scenario(57)
@needs_proc
@pytest.mark.parametrize("loop", VICTIMS)
@pytest.mark.parametrize("payload", [b"", b"x"], ids=["empty", "a byte"])
def test_s57_fragments_without_end(payload: bytes, loop: str) -> None:
    fragments = wire.cont(payload, fin=False, mask=True) * 10_000

    async def attack(port: int) -> None:
        async with real_client(port) as peer:
            peer.send(wire.binary(b"begin", fin=False, mask=True))
            for _ in range(40):
                peer.send(fragments)
                await peer.writer.drain()
            peer.send(wire.cont(b"end", mask=True))
            row = await peer.frame()
            assert row.payload == b"begin" + 400_000 * payload + b"end"

    with victim(loop) as process:
        before = process.status("VmRSS")
        asyncio.run(attack(process.port))
        assert process.status("VmHWM") - before < 24 * 1024


NOISE: dict[str, tuple[bytes, bytes]] = {
    "messages": (b"", wire.binary(bytes(10_000), mask=True) * 10),
    "pings": (b"", wire.ping(mask=True) * 10_000),
    "pongs": (b"", wire.pong(mask=True) * 10_000),
    "empty messages": (b"", wire.binary(mask=True) * 10_000),
    "empty compressed messages": (b"", wire.binary(b"\0", rsv=4, mask=True) * 10_000),
    "fragments": (wire.binary(fin=False, mask=True), wire.cont(fin=False, mask=True) * 10_000),
}


# Seconds of CPU that a client may be kept waiting. Threads take turns at the interpreter of 5 ms each, so that a new
# client waits for all others at each of its steps; and while a busy machine lets the client wait, they go on.
LONGEST = {"threads": 15}


@pytest.fixture(scope="module", params=VICTIMS)
def hardy(request: pytest.FixtureRequest) -> Iterator[Victim]:
    """A server that is attacked again and again."""
    with victim(request.param) as process:
        yield process


@scenario(58)
@needs_proc
@pytest.mark.parametrize("noise", NOISE)
def test_s58_noisy_connections_starve_nobody(hardy: Victim, noise: str, request: pytest.FixtureRequest) -> None:
    options: dict[str, Any] = {"headers": DEFLATE} if "compressed" in noise else {}
    longest = LONGEST.get(request.node.callspec.params["hardy"], 4)
    assert asyncio.run(longest_greeting(hardy, *NOISE[noise], **options)) < longest


@scenario(59)
@both_sides
@each_twin
@in_every_world()
async def test_s59_the_queue_is_bounded(world: World, side: Side, twin: str) -> None:
    """Reading pauses when more than max_queue frames wait; then the kernel of the peer has no room, and it waits."""
    async with world.one_end(side, max_queue=16) as (connection, peer):
        sent = 0

        async def send() -> None:
            nonlocal sent
            while sent < 1000:
                await peer.send(wire.BINARY, sent.to_bytes(2) * 500)
                sent += 1

        sending = world.start(send)
        await world.advance(1)
        assert not world.is_reading(connection)
        # What one read gave, and what the kernel takes.
        assert sent * 1000 < 2 * 65_536 + 17_000
        for number in range(1000):
            assert await connection.recv() == number.to_bytes(2) * 500
        await sending.result()


@scenario(59)
@both_sides
@each_twin
@virtual
async def test_s59_the_queue_is_bounded_while_somebody_reads(side: Side, twin: str) -> None:
    """After a burst of messages recv() waits too, but not for the peer."""
    async with open_end(side) as (connection, peer):
        got = most = 0

        async def read() -> None:
            nonlocal got
            async for _ in connection:
                got += 1

        async def send() -> None:
            for _ in range(100):
                await peer.raw.send(wire.binary(mask=side is Side.SERVER) * 2000)

        reading, sending = asyncio.create_task(read()), asyncio.create_task(send())
        while got < 200_000:
            await steps(1)
            most = max(most, connection._ws_session.inbox.count)
        await sending
        reading.cancel()
        await asyncio.wait([reading])
        # What is in one read can't be sent back.
        assert most <= 65_536 // 2 + 16


# ------------------------------------------------------------------------------------------- peers that do not answer


async def send_forever(connection: ServerConnection) -> None:
    with contextlib.suppress(ConnectionClosed):
        while True:
            await connection.send(bytes(10_000))


@scenario(60)
@each_loop
async def test_s60_peer_that_stops_reading_is_dropped_while_send_waits() -> None:
    options: dict[str, Any] = {"ping_interval": 0.1, "ping_timeout": 0.1, "close_timeout": 0.1}
    async with (
        serve(send_forever, "127.0.0.1", 0, compression=None, **options) as server,
        real_client(port_of(server), request(), limit=1),
    ):
        await until(lambda: server._ws_registry.all)
        await until(lambda: not server._ws_registry.all)


@scenario(60)
@each_twin
@in_every_world()
async def test_s60_peer_that_floods_and_does_not_read_is_dropped(world: World, twin: str) -> None:
    """Silence is forgiven while reading is paused, but not if that is because nobody can write."""
    async with world.serve(echo, compression=None) as server:
        peer = await world.reach(server)
        await peer.write(request())
        await peer.read_until()
        peer.stop_reading()

        async def attack() -> None:
            with contextlib.suppress(OSError):
                while True:
                    await peer.write(wire.binary(bytes(1000), mask=True))

        attacking = world.start(attack)
        await world.advance(120)
        dropped = not server._ws_registry.all
        peer.reset()
        await attacking.stop()
        assert dropped


def contexts(tls: bool) -> tuple[ssl.SSLContext | None, ssl.SSLContext | None]:
    """For a server without a certificate, and a client that needs none; no TLS at all if there is to be none."""
    if not tls:
        return None, None
    server, client = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    client.check_hostname, client.verify_mode = False, ssl.CERT_NONE
    for context in server, client:
        context.set_ciphers("aNULL:@SECLEVEL=0")
        context.maximum_version = ssl.TLSVersion.TLSv1_2
    return server, client


@scenario(61)
@pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])
@each_loop
async def test_s61_silence_is_noticed_while_reading_is_paused(tls: bool) -> None:
    """The program doesn't ask for messages, and the peer answers no ping any more."""
    ended: list[ConnectionClosed] = []

    async def handler(connection: ServerConnection) -> None:
        await connection.wait_closed()
        for number in range(5):
            assert await connection.recv() == str(number)
        try:
            await connection.recv()
        except ConnectionClosed as exc:
            ended.append(exc)

    server_tls, client_tls = contexts(tls)
    options: dict[str, Any] = {"ping_interval": 0.05, "ping_timeout": 0.05, "close_timeout": 0.05, "max_queue": 2}
    async with serve(handler, "127.0.0.1", 0, ssl=server_tls, **options) as server:
        reader, writer = await asyncio.open_connection("127.0.0.1", port_of(server), ssl=client_tls)
        writer.write(request() + b"".join(wire.text(str(number), mask=True) for number in range(5)))
        await until(lambda: ended)
        assert str(ended[0].__cause__) == "timed out while waiting for keepalive pong"
        writer.transport.abort()
        del reader


@scenario(61)
@pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])
@each_loop
async def test_s61_a_live_peer_is_spared_while_reading_is_paused(tls: bool) -> None:
    """Each ping is sent after the pong to the one before it was seen, as none is given up on so soon."""
    reading = asyncio.Event()
    connections: list[ServerConnection] = []

    async def handler(connection: ServerConnection) -> None:
        connections.append(connection)
        await reading.wait()
        async for message in connection:
            await connection.send(message)

    server_tls, client_tls = contexts(tls)
    options: dict[str, Any] = {"ping_interval": 3600, "ping_timeout": 60, "max_queue": 2}
    async with serve(handler, "127.0.0.1", 0, ssl=server_tls, **options) as server:
        scheme = "wss" if tls else "ws"
        async with connect(f"{scheme}://127.0.0.1:{port_of(server)}/", ssl=client_tls, proxy=None) as client:
            for number in range(5):
                await client.send(str(number))
            await until(lambda: connections and connections[0]._ws_reading_paused)
            # A ping from before the pause would be spared, but only after its timeout.
            connections[0].ping_interval = 0.01
            before = connections[0].statistics.pings_sent
            await until(lambda: connections[0].statistics.pings_sent >= before + 5)
            assert connections[0]._ws_reading_paused
            reading.set()
            assert [await client.recv() for _ in range(5)] == ["0", "1", "2", "3", "4"]


@scenario(62)
@both_sides
@each_twin
@pytest.mark.parametrize(
    "data", [b"\x81", b"\x82\xfe\x01", wire.text("unfinished")[:-1], wire.text("fragment", fin=False)], ids=len
)
@in_every_world()
async def test_s62_stalled_in_the_middle_of_a_message(world: World, data: bytes, side: Side, twin: str) -> None:
    async with world.one_end(side, ping_interval=20, ping_timeout=10) as (connection, peer):
        begin = world.now()
        mask = side is Side.SERVER
        unfinished = wire.text("fragment", fin=False, mask=mask) if data[0] == 1 else wire.text("unfinished", mask=mask)
        await peer.write(unfinished[: len(data)] if data[0] != 1 else unfinished)
        with pytest.raises(ConnectionClosedError, match="keepalive ping timeout"):
            await connection.recv()
        assert world.now() - begin == pytest.approx(20 + 10, abs=0.1)


@scenario(63)
@needs_proc
@each_loop
@pytest.mark.parametrize("answers", [False, True], ids=["no answer", "answer"])
async def test_s63_closing_ends_in_time_and_the_socket_is_freed(answers: bool) -> None:
    async def close(connection: ServerConnection) -> None:
        begin = time.monotonic()
        await connection.close()
        assert 0.05 < time.monotonic() - begin < 5

    async with (
        serve(close, "127.0.0.1", 0, close_timeout=0.1) as server,
        real_client(port_of(server)) as peer,
    ):
        await peer.frame()
        files = len(os.listdir("/proc/self/fd"))
        if answers:
            peer.send(wire.close(1000, mask=True))
        await until(lambda: not server._ws_registry.all)
        await until(lambda: len(os.listdir("/proc/self/fd")) == files - 1)


CUT = {
    "header": wire.text("lost", mask=True)[:1],
    "frame": wire.text("lost", mask=True)[:-1],
    "message": wire.text("lost", fin=False, mask=True),
    "fragment": wire.text("lost", fin=False, mask=True) + wire.cont("too", mask=True)[:-2],
    "nothing": b"",
}


@scenario(64)
@each_loop
@pytest.mark.parametrize("reset", [False, True], ids=["EOF", "RST"])
@pytest.mark.parametrize("cut", CUT.values(), ids=CUT)
async def test_s64_connection_lost_in_the_middle(cut: bytes, reset: bool) -> None:
    got: list[Any] = []
    ends: list[ConnectionClosed] = []

    async def handler(connection: ServerConnection) -> None:
        with contextlib.suppress(ConnectionClosed):
            while True:
                got.append(await connection.recv())
        try:
            await connection.send("too late")
        except ConnectionClosed as exc:
            ends.append(exc)
        assert connection.close_code == 1006

    async with serve(handler, "127.0.0.1", 0) as server:
        async with real_client(port_of(server)) as peer:
            peer.send(wire.text("whole", mask=True) + cut)
            await until(lambda: got)
            if reset:
                sock = peer.writer.get_extra_info("socket")
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            peer.abort()
            await until(lambda: ends)
    assert got == ["whole"]
    (end,) = ends
    assert isinstance(end, ConnectionClosedError)
    assert end.rcvd is None


@scenario(64)
@both_sides
@each_twin
@pytest.mark.parametrize("reset", [False, True], ids=["EOF", "RST"])
@in_every_world()
async def test_s64_partial_messages_are_never_delivered(world: World, reset: bool, side: Side, twin: str) -> None:
    async with world.one_end(side) as (connection, peer):
        await peer.text("whole")
        await peer.text("frag", fin=False)
        await peer.write(wire.cont("ment", mask=side is Side.SERVER)[:-1])
        await world.advance(0.1)
        peer.reset() if reset else peer.hang_up()
        assert await connection.recv() == "whole"
        with pytest.raises(ConnectionClosedError, match="no close frame received or sent") as caught:
            await connection.recv()
        assert connection.close_code == 1006
        assert isinstance(caught.value.__cause__, ConnectionResetError if reset else EOFError)


# ------------------------------------------------------------------------------------------------------- file limits


@contextlib.contextmanager
def no_more_files() -> Iterator[None]:
    """Take every file descriptor that this process may have."""
    resource = pytest.importorskip("resource")
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(map(int, os.listdir("/proc/self/fd"))) + 2, hard))
    taken: list[int] = []
    try:
        with contextlib.suppress(OSError):
            while True:
                taken.append(os.dup(1))
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        for file in taken:
            os.close(file)


@scenario(65)
@needs_proc
@each_loop
async def test_s65_out_of_file_descriptors(quick: None, caplog: pytest.LogCaptureFixture) -> None:
    """Old connections live, nothing spins, and once there are files again, so are new connections."""
    reports: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: reports.append(context))
    # asyncio tries as often as its backlog is long, and each failed try ends in a report and in a timer for more tries.
    async with serve(echo, "127.0.0.1", 0, backlog=1) as server:
        uri = f"ws://127.0.0.1:{port_of(server)}/"
        async with connect(uri, proxy=None) as old:
            waiting = [socket.socket() for _ in range(2)]
            with no_more_files():
                for sock in waiting:
                    sock.setblocking(False)
                    with contextlib.suppress(BlockingIOError):
                        sock.connect(("127.0.0.1", port_of(server)))
                busy, begin = time.process_time(), time.monotonic()
                while time.monotonic() - begin < 0.3:
                    await old.send("still there")
                    assert await old.recv() == "still there"
                    await asyncio.sleep(0.02)
                took = time.monotonic() - begin
                # A busy machine makes both longer; a busy loop, the first alone.
                assert time.process_time() - busy < took / 2
            for sock in waiting:
                sock.close()
            await greet(uri)
    # libuv reports nothing, as it turns connections away.
    assert {report["message"] for report in reports} <= {"socket.accept() out of system resource"}
    assert len(reports) <= took / 0.05 + 2
    assert not [record for record in caplog.records if record.levelno > logging.INFO]


# -------------------------------------------------------------------------------------------------------------- churn


def resident() -> int:
    """The memory of this process, in bytes."""
    pages = Path("/proc/self/statm").read_text("ascii").split()[1]
    return int(pages) * os.sysconf("SC_PAGE_SIZE")


@scenario(66)
@needs_proc
@each_loop
async def test_s66_churn_leaves_nothing_behind() -> None:
    """1500 connections that end in different ways: the last leave as much behind as the first, which is nothing."""

    async def handler(connection: ServerConnection) -> None:
        with contextlib.suppress(ConnectionClosed):
            async for message in connection:
                await connection.send(message)

    async def once(kind: int) -> None:
        if kind == 0:
            async with real_client(port_of(server), b"garbage\r\n\r\n") as peer:
                await peer.rest()
        elif kind == 1:
            async with real_client(port_of(server), headers={"Sec-WebSocket-Extensions": "permessage-deflate"}) as peer:
                peer.send(wire.text("x", fin=False, mask=True))
        else:
            client = await connect(f"ws://127.0.0.1:{port_of(server)}/", proxy=None)
            await client.send("hello" * 100)
            assert await client.recv() == "hello" * 100
            if kind == 2:
                client.transport.abort()
                await client.wait_closed()
            else:
                await client.close()

    async def some(count: int) -> tuple[int, int, int, int]:
        for start in range(0, count, 10):
            await asyncio.gather(*(once(kind % 5) for kind in range(start, start + 10)))
        await until(lambda: not server._ws_registry.all)
        gc.collect()
        return len(os.listdir("/proc/self/fd")), len(asyncio.all_tasks()), len(gc.get_objects()), resident()

    async with serve(handler, "127.0.0.1", 0, close_timeout=1) as server:
        files, tasks, objects, rss = await some(300)
        files_then, tasks_then, objects_then, rss_then = await some(1200)
        assert (files_then, tasks_then) == (files, tasks)
        assert objects_then - objects < 300
        assert rss_then - rss < 4 * MIB


# --------------------------------------------------------------------------------------------------------------- logs

ATTACKS: dict[str, list[bytes]] = {
    "silence": [],
    "silence in a request": [b"GET / HT"],
    "garbage": [b"\xff" * 100 + b"\r\n\r\n"],
    "garbage without end": [b"\xff" * 9000],
    "escape sequences": [b"GET /\x1b[31m HTTP/1.1\r\n\r\n"],
    "post": [request(method="POST")],
    "many headers": [request(raw=b"a: b\r\n" * 200)],
    "garbage for frames": [request(), b"\xff" * 1000],
    "bad text": [request(), wire.text(b"\xff", mask=True)],
    "too big": [request(), wire.frame(wire.BINARY, declared=2**40, mask=True)],
    "ping flood": [request(), wire.ping(b"x", mask=True) * 1000],
    "fragment flood": [request(), wire.text("", fin=False, mask=True), wire.cont(fin=False, mask=True) * 1000],
    "empty close": [request(), wire.close(mask=True)],
    "bad close": [request(), wire.close(1005, mask=True)],
}


@scenario(67)
@pytest.mark.parametrize("reset", [False, True], ids=["stays", "RST"])
@pytest.mark.parametrize("pieces", ATTACKS.values(), ids=ATTACKS)
@in_every_world()
async def test_s67_an_attack_costs_few_lines_and_no_traceback(
    world: World, pieces: list[bytes], reset: bool, caplog: pytest.LogCaptureFixture
) -> None:
    async with world.serve(echo, logger=logging.getLogger("attacked")) as server:
        caplog.set_level(logging.INFO, "attacked")
        peer = await world.reach(server)
        for piece in pieces:
            await peer.write(piece)
            await world.advance(0.1)
        if reset:
            peer.reset()
        await world.advance(100)
        peer.hang_up()
        await world.advance(1)
        records = list(caplog.records)
    assert len(records) <= 3, [record.message for record in records]
    for record in records:
        assert record.levelno == logging.INFO
        assert record.exc_info is None
        assert record.getMessage().isprintable()
        assert len(record.getMessage()) < 300
