"""Order, limits and flushing over real sockets, where the compiled twin writes without the help of a transport.

In memory another layer may hide what is wrong here. So these tests repeat over sockets some of what test_sending.py and
test_buffers.py show in memory.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import socket
import struct
from typing import Any

import pytest

from _kit import steps, wire
from _kit.platforms import PROACTOR, needs_selector
from _kit.sockets import SocketPeer, socket_end
from robustness.worlds import both_sides, each_loop, until
from websockets import PreparedMessage
from websockets._rules import tls_transports
from websockets.asyncio import _internals
from websockets.asyncio._fastpath import _readable
from websockets.asyncio.connection import Connection
from websockets.asyncio.server import broadcast
from websockets.exceptions import ConnectionClosedError
from websockets.protocol import Side

GATHER_FROM = _readable.GATHER_FROM

each_layer = pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])

LARGE: dict[str, Any] = {
    "just copied": bytes(GATHER_FROM - 1),
    "just in pieces": bytes(GATHER_FROM),
    "bytes": bytes(range(256)) * 2**13,
    "text": "x" * GATHER_FROM,
    "wide text": "\u00e9" * GATHER_FROM,
    "bytearray": bytearray(b"y" * GATHER_FROM),
    "memoryview": memoryview(bytes(2 * GATHER_FROM))[::2],
}


def on_the_wire(message: Any) -> tuple[int, bytes]:
    """The opcode and the payload of a message."""
    if isinstance(message, str):
        return wire.TEXT, message.encode()
    return wire.BINARY, bytes(message)


async def with_answers_held_back(connection: Connection, peer: SocketPeer, *answers: str) -> None:
    """Have answers wait for the message that was received last."""
    await peer.texts(*("question" for _ in answers), "last")
    await until(lambda: len(connection._ws_queue) > len(answers))
    for answer in answers:
        assert await connection.recv() == "question"
        await connection.send(answer)
    assert connection._ws_corked


# ---------------------------------------------------------------------------------------------------------------- order


@both_sides
@pytest.mark.parametrize("message", LARGE.values(), ids=LARGE)
@each_loop
async def test_large_messages_do_not_overtake_answers(side: Side, message: Any) -> None:
    async with socket_end(side) as (connection, peer):
        await with_answers_held_back(connection, peer, "one", "two")
        # In this turn of the loop: in the next one the answers would be written anyway.
        reading = asyncio.create_task(peer.expect((wire.TEXT, b"one"), (wire.TEXT, b"two"), on_the_wire(message)))
        await connection.send(message)
        await reading
        assert await connection.recv() == "last"
        await connection.send("three")
        await peer.expect((wire.TEXT, b"three"))


async def _fragments(connection: Connection) -> None:
    await connection.send(["a", "b"])


async def _broadcast(connection: Connection) -> None:
    broadcast([connection], b"z" * GATHER_FROM)


async def _two_broadcasts(connection: Connection) -> None:
    """The second is held back behind the first."""
    broadcast([connection], "first")
    broadcast([connection], "second")
    await connection.send(b"z" * GATHER_FROM)


async def _prepared(connection: Connection) -> None:
    await connection.send(PreparedMessage(b"z" * GATHER_FROM))


async def _close(connection: Connection) -> None:
    connection._ws_start_closing(1001, "bye")


NEXT: dict[str, tuple[Any, list[tuple[int, bytes]]]] = {
    "ping": (lambda connection: connection.ping(b"p"), [(wire.PING, b"p")]),
    "pong": (lambda connection: connection.pong(b"p"), [(wire.PONG, b"p")]),
    "fragments": (_fragments, [(wire.TEXT, b"a"), (wire.CONT, b"b"), (wire.CONT, b"")]),
    "broadcast": (_broadcast, [(wire.BINARY, b"z" * GATHER_FROM)]),
    "broadcasts": (
        _two_broadcasts,
        [(wire.TEXT, b"first"), (wire.TEXT, b"second"), (wire.BINARY, b"z" * GATHER_FROM)],
    ),
    "prepared": (_prepared, [(wire.BINARY, b"z" * GATHER_FROM)]),
    "close": (_close, [(wire.CLOSE, b"\x03\xe9bye")]),
}


@each_layer
@both_sides
@pytest.mark.parametrize(("send", "frames"), NEXT.values(), ids=NEXT)
@each_loop
async def test_nothing_overtakes_answers(tls: bool, side: Side, send: Any, frames: list[tuple[int, bytes]]) -> None:
    async with socket_end(side, tls=tls) as (connection, peer):
        await with_answers_held_back(connection, peer, "one", "two")
        reading = asyncio.create_task(peer.read_frames(2 + len(frames)))
        await send(connection)
        assert await reading == [(wire.TEXT, b"one"), (wire.TEXT, b"two"), *frames]


@each_layer
@both_sides
@each_loop
async def test_what_the_kernel_does_not_take_keeps_its_place(tls: bool, side: Side) -> None:
    """A large frame is stuck halfway, and others follow it in all the ways there are."""
    message = bytes(range(256)) * 2**12
    async with socket_end(side, tls=tls, room=2**12) as (connection, peer):
        sending = [asyncio.create_task(connection.send(item)) for item in (message, "one", message, "x" * 2**18)]
        await steps(3)
        assert connection.buffered_amount > 2**20
        sending.append(asyncio.create_task(connection.ping(b"ping")))  # type: ignore[arg-type]
        await steps(3)
        broadcast([connection], "two")
        connection._ws_start_closing(1001, "bye")
        assert await peer.read_frames(7) == [
            *((wire.BINARY, message), (wire.TEXT, b"one"), (wire.BINARY, message), (wire.TEXT, b"x" * 2**18)),
            *((wire.PING, b"ping"), (wire.TEXT, b"two"), (wire.CLOSE, b"\x03\xe9bye")),
        ]
        await asyncio.gather(*sending)


@pytest.mark.parametrize("what", ["send", "ping", "pong"])
@pytest.mark.parametrize("tls", [False, True], ids=["plain", "TLS"])
@both_sides
@each_loop
async def test_a_loop_that_only_sends_ends_with_its_peer(
    side: Side, tls: bool, what: str, tls_transport: str | None
) -> None:
    """The kernel refuses a message, and the transport tells of it in another turn of the loop, or hides it (TLS)."""
    if PROACTOR and tls and tls_transport != tls_transports.MEMORY:
        pytest.skip("asyncio complains of the reset after the connection is over: see docs/platforms.md")
    async with socket_end(side, tls=tls) as (connection, peer):
        peer.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        peer.sock.close()

        calls: dict[str, Any] = {
            "send": functools.partial(connection.send, "text"),
            "ping": connection.ping,
            "pong": connection.pong,
        }

        async def send() -> None:
            # Windows' loop has a turn when the write buffer is full: after 64 KiB in frames of a few bytes.
            for _ in range(40_000):
                await calls[what]()

        with pytest.raises(ConnectionClosedError):
            await send()


async def send_for_long(connection: Connection) -> None:
    for _ in range(100_000):
        await connection.send("text")


async def received_before_the_end(connection: Connection) -> list[Any]:
    """Receive until the connection is lost."""
    received = []
    with contextlib.suppress(ConnectionClosedError):
        while True:
            received.append(await connection.recv())
    return received


async def unread_and_reset(connection: Connection, peer: SocketPeer) -> list[str]:
    """Have messages wait in the kernel, as the receive queue is full, then break off; return all messages."""
    texts = [str(number) for number in range(100)]
    # Otherwise the peer's kernel may keep the rest until the first messages are acknowledged, and discard it.
    peer.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    await peer.texts(*texts[:5])
    await until(lambda: connection._ws_reading_paused)
    await peer.texts(*texts[5:])
    peer.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    peer.sock.close()
    return texts


#: Options for a transport that we can read behind.
OVER_MEMORY: dict[bool, dict[str, Any]] = {False: {"max_queue": 2}, True: {"max_queue": 2, "tls_transport": "memory"}}


@needs_selector
@each_layer
@both_sides
@each_loop
async def test_what_came_before_a_reset_that_a_write_noticed(side: Side, tls: bool) -> None:
    """Transports stop reading when a write has failed; what the kernel has received isn't lost."""
    async with socket_end(side, tls=tls, **OVER_MEMORY[tls]) as (connection, peer):
        texts = await unread_and_reset(connection, peer)
        with pytest.raises(ConnectionClosedError):
            await send_for_long(connection)
        assert await received_before_the_end(connection) == texts


@each_layer
@each_loop
async def test_a_release_that_closes_its_sockets_earlier(tls: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """What wasn't read is lost, and nothing else."""
    monkeypatch.setattr(_internals, "_CLOSE_AFTERWARDS", ())
    async with socket_end(Side.SERVER, tls=tls, **OVER_MEMORY[tls]) as (connection, peer):
        texts = await unread_and_reset(connection, peer)
        with pytest.raises(ConnectionClosedError):
            await send_for_long(connection)
        received = await received_before_the_end(connection)
        assert received == texts[: len(received)]


@each_loop
async def test_nothing_came_before_the_transport_was_aborted() -> None:
    async with socket_end(Side.SERVER) as (connection, _):
        connection.transport.abort()
        assert await received_before_the_end(connection) == []


@needs_selector
@each_loop
async def test_the_connection_ends_even_if_what_came_before_can_not_be_processed() -> None:
    async with socket_end(Side.SERVER, max_queue=2) as (connection, peer):
        await unread_and_reset(connection, peer)
        reported: list[Any] = []
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda _, context: reported.append(context.get("exception")))

        def fail(data: bytes) -> None:
            raise RuntimeError("failed")

        vars(connection)["data_received"] = fail
        with pytest.raises(ConnectionClosedError):
            await send_for_long(connection)
        assert "failed" in map(str, reported)


# ------------------------------------------------------------------------------------------------------------- flushing


@both_sides
@each_loop
async def test_the_answer_to_the_last_message_writes_all(side: Side) -> None:
    async with socket_end(side) as (connection, peer):
        await with_answers_held_back(connection, peer, "one", "two")
        assert await connection.recv() == "last"
        await connection.send("three")
        assert peer.take(3) == [(wire.TEXT, b"one"), (wire.TEXT, b"two"), (wire.TEXT, b"three")]


@both_sides
@each_loop
async def test_who_waits_for_a_message_writes_what_is_held_back(side: Side) -> None:
    """The peer may wait for these answers, too."""
    async with socket_end(side) as (connection, peer):
        await with_answers_held_back(connection, peer, "one", "two")
        assert await connection.recv() == "last"
        waiting = connection.recv()
        waiting.send(None)
        assert peer.take(2) == [(wire.TEXT, b"one"), (wire.TEXT, b"two")]
        waiting.close()


@each_layer
@both_sides
@each_loop
async def test_what_is_held_back_waits_for_one_turn_of_the_loop(tls: bool, side: Side) -> None:
    async with socket_end(side, tls=tls) as (connection, peer):
        for _ in range(2):
            await with_answers_held_back(connection, peer, "one", "two")
            await peer.expect((wire.TEXT, b"one"), (wire.TEXT, b"two"))
            assert await connection.recv() == "last"


@both_sides
@each_loop
async def test_what_is_held_back_is_little(side: Side) -> None:
    async with socket_end(side) as (connection, peer):
        await with_answers_held_back(connection, peer, *"abcdefgh")
        answer = "x" * (_readable.BATCH_LIMIT // 4)
        for _ in range(4):
            await connection.send(answer)
        assert peer.take(12) == [
            *((wire.TEXT, letter.encode()) for letter in "abcdefgh"),
            *[(wire.TEXT, answer.encode())] * 4,
        ]


@both_sides
@pytest.mark.parametrize("message", ["x", b"y" * 2**11, bytearray(2**11), "z" * 2**16], ids=len)
@each_loop
async def test_a_message_is_written_before_send_returns(side: Side, message: Any) -> None:
    async with socket_end(side) as (connection, peer):
        for _ in range(3):
            await connection.send(message)
            assert peer.take(1) == [on_the_wire(message)]
            if PROACTOR:
                await steps(3)  # Windows' loop begins another write when it has seen the end of the one before


@both_sides
@pytest.mark.parametrize("size", [1, 2**11, 2**16])
@each_loop
async def test_a_broadcast_is_written_before_it_returns(side: Side, size: int) -> None:
    async with socket_end(side) as (one, first), socket_end(side) as (two, second):
        for _ in range(3):
            broadcast([one, two], bytes(size))
            assert first.take(1) == second.take(1) == [(wire.BINARY, bytes(size))]
            await steps(3)  # one that follows closely would wait for the next


# --------------------------------------------------------------------------------------------------------------- limits


@both_sides
@pytest.mark.parametrize("limits", [(2**16, 2**14), (2**16, 0), (2**20, 2**19)], ids=str)
@pytest.mark.parametrize("size", [5000, GATHER_FROM, 2**20])
@each_loop
async def test_send_waits_above_one_limit_until_the_other(side: Side, limits: tuple[int, int], size: int) -> None:
    """Bytes that still wait count, whether the transport writes or the compiled twin."""
    high, low = limits
    frame = size + 14
    async with socket_end(side, room=2**12, write_limit=limits) as (connection, peer):
        sent, left = 0, list[int]()

        async def send() -> None:
            await connection.send(bytes(size))
            left.append(connection.buffered_amount)

        while True:
            sending = asyncio.create_task(send())
            sent += 1
            # The kernel may still have room for more.
            await steps(20)
            if connection.buffered_amount <= low:
                # It has just been told to go on.
                await steps(3)
                assert sending.done()
            if not sending.done():
                break
            assert connection.buffered_amount <= high
        assert low < connection.buffered_amount <= high + frame
        await peer.expect(*[(wire.BINARY, bytes(size))] * sent)
        await sending
        assert left[-1] <= low
        # It has recovered.
        await connection.send("next")
        await peer.expect((wire.TEXT, b"next"))


@each_layer
@both_sides
@pytest.mark.parametrize(("max_queue", "low"), [(16, 4), ((8, 6), 6), (0, 0)])
@each_loop
async def test_reading_pauses_while_too_much_waits(tls: bool, side: Side, max_queue: Any, low: int) -> None:
    texts = [str(number) for number in range(500)]
    async with socket_end(side, tls=tls, max_queue=max_queue) as (connection, peer):
        assert connection.transport.is_reading()
        await peer.texts(*texts[:250])
        await until(lambda: len(connection._ws_queue) >= 250)
        assert not connection.transport.is_reading()
        await peer.texts(*texts[250:])
        for text in texts[:250]:
            assert await connection.recv() == text
            assert connection.transport.is_reading() is (len(connection._ws_queue) <= low)
        for text in texts[250:]:
            assert await connection.recv() == text
        await until(connection.transport.is_reading)


@both_sides
@each_loop
async def test_answers_to_a_flood_wait_for_a_peer_that_does_not_read(side: Side) -> None:
    """Frames that are held back must not get around the limit either."""
    async with socket_end(side, room=2**12, write_limit=2**16, max_queue=None) as (connection, peer):
        flood = [str(number) * 100 for number in range(2000)]

        async def answer() -> None:
            async for message in connection:
                await connection.send(message)
                most.append(connection.buffered_amount)

        most = [0]
        answering = asyncio.create_task(answer())
        sending = asyncio.create_task(peer.texts(*flood))
        await until(lambda: connection._ws_write_waiters is not None)
        await steps(20)
        assert max(most) <= 2**16 + _readable.BATCH_LIMIT + 2**11
        assert len(most) < len(flood)
        assert [payload.decode() for _, payload in await peer.read_frames(len(flood))] == flood
        await sending
        connection._ws_start_closing(1000)
        assert await peer.read_frames(1) == [(wire.CLOSE, b"\x03\xe8")]
        connection.abort()
        with pytest.raises(ConnectionClosedError):
            await answering


@each_layer
@both_sides
@each_loop
async def test_all_that_waits_is_in_buffered_amount(tls: bool, side: Side) -> None:
    """With TLS, most of it is in another transport below."""
    async with socket_end(side, tls=tls, room=2**12) as (connection, peer):
        assert connection.buffered_amount == 0
        sending = [asyncio.create_task(connection.send(bytes(2**18))) for _ in range(4)]
        await steps(20)
        # uvloop and aiofastnet don't tell what that one holds.
        silent = "uvloop" in type(connection.loop).__module__ or "aiofastnet" in type(connection.transport).__module__
        unseen = 2**18 if tls and silent else 0
        assert 2**20 - 2**17 - unseen < connection.buffered_amount < 2**20 + 2**15
        await peer.expect(*[(wire.BINARY, bytes(2**18))] * 4)
        await asyncio.gather(*sending)
        assert connection.buffered_amount == 0
