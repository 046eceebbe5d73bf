"""Back-pressure on what is received, and the log records of a connection on asyncio."""

from __future__ import annotations

import asyncio
import logging
import re
from typing import Any

import pytest

from _kit import idle, steps, virtual, wire
from _kit.ends import open_end
from _kit.logs import told
from websockets.asyncio.connection import Connection
from websockets.protocol import Protocol, Side
from websockets.testing import connected_pair

both_sides = pytest.mark.parametrize("side", [Side.SERVER, Side.CLIENT])

QUEUES: list[tuple[Any, int, int]] = [(16, 16, 4), (8, 8, 2), ((8, 6), 8, 6), ((None, 2), 8, 2), (0, 0, 0)]


@pytest.mark.scenario(59)
@both_sides
@pytest.mark.parametrize(("max_queue", "high", "low"), QUEUES)
@virtual
async def test_reading_pauses_and_resumes(side: Side, max_queue: Any, high: int, low: int) -> None:
    async with open_end(side, max_queue=max_queue) as (connection, peer):
        for index in range(high):
            await peer.text(str(index))
            await steps(3)
        assert connection.transport.is_reading()
        await peer.text("one too many")
        await steps(3)
        assert not connection.transport.is_reading()
        for _ in range(high - low):
            await connection.recv()
            assert not connection.transport.is_reading()
        await connection.recv()
        assert connection.transport.is_reading()


@both_sides
@pytest.mark.parametrize("read", ["recv", "decoded", "iteration", "recv_streaming"])
@pytest.mark.parametrize("fragmented", [False, True], ids=["whole", "fragments"])
@virtual
async def test_reading_resumes_whichever_way_messages_are_read(side: Side, fragmented: bool, read: str) -> None:
    """As soon as few enough wait, and not only when somebody waits for more."""
    frames = 2 if fragmented else 1
    async with open_end(side, max_queue=(8, 4)) as (connection, peer):
        whole = wire.text("ab", mask=peer.mask)
        pieces = wire.text("a", fin=False, mask=peer.mask) + wire.cont("b", mask=peer.mask)
        # All in one read, so that none of it is left in the kernel.
        await peer.raw.send((pieces if fragmented else whole) * (10 // frames))
        await idle()
        waiting = 10
        while waiting:
            assert connection.transport.is_reading() is (waiting <= 4)
            if read == "recv":
                assert await connection.recv() == "ab"
            elif read == "decoded":
                assert await connection.recv(decode=False) == b"ab"
            elif read == "iteration":
                assert await anext(aiter(connection)) == "ab"
            else:
                assert "".join([piece async for piece in connection.recv_streaming(decode=True)]) == "ab"
            waiting -= frames
        assert connection.transport.is_reading()


@both_sides
@virtual
async def test_a_message_in_fragments_counts_by_its_frames(side: Side) -> None:
    async with open_end(side, max_queue=4) as (connection, peer):
        await peer.text("frag", fin=False)
        await peer.send(wire.CONT, b"men", fin=False)
        await peer.send(wire.CONT, b"ts")
        await peer.text("four")
        await steps(5)
        assert connection.transport.is_reading()
        await peer.text("five")
        await steps(5)
        assert not connection.transport.is_reading()
        assert [await connection.recv() for _ in range(3)] == ["fragments", "four", "five"]
        for index in range(4):
            await peer.text(str(index))
        await steps(5)
        assert connection.transport.is_reading()


@both_sides
@virtual
async def test_reading_pauses_when_nobody_waits_for_the_rest_any_more(side: Side) -> None:
    """A task that waits for a message gets all its frames; once it is cancelled, the next read is one too many."""
    async with open_end(side, max_queue=1) as (connection, peer):
        waiting = asyncio.create_task(connection.recv())
        await peer.text("a", fin=False)
        await peer.send(wire.CONT, b"b", fin=False)
        await steps(5)
        assert connection.transport.is_reading()
        waiting.cancel()
        await steps(2)
        await peer.raw.send(wire.cont("c", mask=peer.mask)[:1])
        await steps(5)
        assert not connection.transport.is_reading()
        await peer.raw.send(wire.cont("c", mask=peer.mask)[1:])
        assert await connection.recv() == "abc"


@both_sides
@virtual
async def test_no_limit(side: Side) -> None:
    async with open_end(side, max_queue=None) as (connection, peer):
        for index in range(1000):
            await peer.text(str(index))
        await idle()
        assert connection.transport.is_reading()
        assert [await connection.recv() for _ in range(1000)] == [str(index) for index in range(1000)]


QUEUE = "max_queue must be a number of frames, 0 or more, a pair of such, or None for no limit"


@pytest.mark.parametrize(
    ("max_queue", "text"),
    [
        ((8, -1), f"{QUEUE}, not (8, -1)"),
        ((2, 4), f"{QUEUE}, not (2, 4): the second is above the first"),
    ],
)
@virtual
async def test_wrong_limits(max_queue: Any, text: str) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(text)}$"):
        Connection(Protocol(Side.SERVER), max_queue=max_queue)


@both_sides
@virtual
async def test_a_message_in_more_fragments_than_the_queue_takes(side: Side) -> None:
    """A reader that waits for a message gets it, however many frames it has."""
    async with open_end(side, max_queue=4) as (connection, peer):
        await peer.text("x", fin=False)
        for _ in range(50):
            await peer.send(wire.CONT, b"x", fin=False)
            await steps(2)
        assert not connection.transport.is_reading()
        task = asyncio.create_task(connection.recv())
        for _ in range(50):
            await peer.send(wire.CONT, b"x", fin=False)
        await peer.send(wire.CONT, b"x")
        assert await task == "x" * 102
        await peer.text("next")
        assert await connection.recv() == "next"


@both_sides
@virtual
async def test_a_stream_is_limited_by_its_reader(side: Side) -> None:
    """Without a limit of size, the fragments that wait are still few."""
    async with open_end(side, max_queue=4, max_size=None) as (connection, peer):
        peer.link.to_server.chunk = peer.link.to_client.chunk = 1000
        fragments = connection.recv_streaming(decode=False)

        async def send() -> None:
            await peer.send(wire.BINARY, bytes(1000), fin=False)
            for _ in range(1000):
                await peer.send(wire.CONT, bytes(1000), fin=False)
            await peer.send(wire.CONT, b"end")

        task = asyncio.create_task(send())
        last = await anext(fragments)
        received = len(last)
        await idle()
        assert connection._ws_session.inbox.count < 10
        async for fragment in fragments:
            received += len(fragment)
            last = fragment
        assert received == 1_001_003
        assert last[-3:] == b"end"
        await task


@pytest.mark.scenario(57)
@both_sides
@virtual
async def test_a_million_tiny_fragments(side: Side) -> None:
    async with open_end(side) as (connection, peer):
        task = asyncio.create_task(connection.recv())
        await peer.text("", fin=False)
        tiny = wire.cont("x", fin=False, mask=peer.mask) + wire.cont("", fin=False, mask=peer.mask)
        for _ in range(50):
            await peer.raw.send(tiny * 1000)
        await peer.send(wire.CONT, b"!")
        assert await task == "x" * 50_000 + "!"


# -------------------------------------------------------------------------------------------------------------- logging


@virtual
async def test_log_of_a_session(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "websockets")
    async with connected_pair(client={"compression": None, "additional_headers": {"Cookie": "s3cret"}}) as (
        client,
        server,
    ):
        await client.send("hi")
        assert await server.recv() == "hi"
        await client.close(1001, "bye")
    assert "s3cret" not in caplog.text
    lines = [(record.name, record.levelname, told(record)) for record in caplog.records]
    for name, line in (
        ("client", "> GET / HTTP/1.1"),
        ("client", "> Cookie: [redacted]"),
        ("server", "< GET / HTTP/1.1"),
        ("server", "> HTTP/1.1 101 Switching Protocols"),
        ("client", "> TEXT 'hi' [2 bytes]"),
        ("server", "< TEXT 'hi' [2 bytes]"),
        ("client", "> CLOSE 1001 (going away) bye [5 bytes]"),
        ("server", "< CLOSE 1001 (going away) bye [5 bytes]"),
        ("server", "x half-closing TCP connection"),
        ("client", "= connection is CLOSED"),
    ):
        assert (f"websockets.{name}", "DEBUG", line) in lines
    info = [line for name, level, line in lines if level == "INFO"]
    assert info[0].startswith("server listening on 127.0.0.1:")
    assert info[1:] == ["connection open", "connection closed", "server closing", "server closed"]
    # Every record of a connection leads to it, but for what was logged before there was one.
    first = {record.name: record for record in reversed(caplog.records) if hasattr(record, "websocket")}
    assert {name: vars(record)["websocket"].__class__.__name__ for name, record in first.items()} == {
        "websockets.client": "ClientConnection",
        "websockets.server": "ServerConnection",
    }


@virtual
async def test_info_records_lead_to_the_connection(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "websockets")
    async with connected_pair() as (_, server):
        opened = [record for record in caplog.records if told(record) == "connection open"]
        assert opened[0].websocket.id == server.id  # type: ignore[attr-defined]


@both_sides
@virtual
async def test_logger_of_the_user(side: Side, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "mine")
    async with open_end(side, logger=logging.getLogger("mine")) as (connection, peer):
        connection.logger.info("hello")
        await peer.text("hi")
        await connection.recv()
    assert {record.name for record in caplog.records} == {"mine"}
    assert "< TEXT 'hi' [2 bytes]" in caplog.messages
    (hello,) = [record for record in caplog.records if record.getMessage() == "hello"]
    assert hasattr(hello, "websocket")


@both_sides
@virtual
async def test_logger_of_the_user_for_one_connection(side: Side, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    async with open_end(side) as (connection, _):
        connection.logger = logging.getLogger("mine")
        connection.logger.info("hello")
    assert [record.name for record in caplog.records if record.getMessage() == "hello"] == ["mine"]


@both_sides
@virtual
async def test_attributes(side: Side) -> None:
    async with open_end(side) as (connection, peer):
        assert connection.request is not None
        assert connection.response is not None
        assert connection.response.status_code == 101
        assert connection.latency == 0.0
        assert connection.subprotocol is None
        assert (connection.close_code, connection.close_reason) == (None, None)
        ends = (peer.link.server, peer.link.client)
        mine, theirs = ends if side is Side.SERVER else ends[::-1]
        assert connection.local_address == mine.getsockname()
        assert connection.remote_address == theirs.getsockname()
        assert connection.id == connection.protocol.id
        connection.mine = "users may keep what they like on a connection"  # type: ignore[attr-defined]
