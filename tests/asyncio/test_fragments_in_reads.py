"""Messages in fragments on the path of a message: from reads of any size to a task that waits for one."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from _kit import idle, virtual, wire
from _kit.ends import open_end
from websockets._codec import ACCELERATOR
from websockets._rules import messages as _messages
from websockets.exceptions import ConnectionClosedError
from websockets.protocol import Side

both_sides = pytest.mark.parametrize("side", [Side.SERVER, Side.CLIENT])

compiled = pytest.mark.skipif(ACCELERATOR != "native", reason="only the compiled twin adds fragments by itself")


def fragments(side: Side, *pieces: bytes, opcode: int = wire.TEXT) -> bytes:
    """A message in fragments, as the peer of this side sends it."""
    last = len(pieces) - 1
    return b"".join(
        wire.frame(
            wire.CONT if index else opcode, piece, fin=index == last, mask=wire.MASK if side is Side.SERVER else None
        )
        for index, piece in enumerate(pieces)
    )


def control(side: Side, opcode: int, payload: bytes) -> bytes:
    return wire.frame(opcode, payload, mask=wire.MASK if side is Side.SERVER else None)


async def warm_up(connection: Any, peer: Any) -> None:
    """The first read starts the decoder; later ones take the fast path."""
    await peer.text("first")
    assert await connection.recv() == "first"


@both_sides
@pytest.mark.parametrize("size", [1, 3, 7, 50, 100_000])
@virtual
async def test_messages_arrive_however_they_are_cut(side: Side, size: int) -> None:
    async with open_end(side) as (connection, peer):
        await warm_up(connection, peer)
        data = b"".join(
            (
                fragments(side, b"a", b"", b"bc", b"d" * 300),
                control(side, wire.TEXT, b"whole"),
                fragments(side, "é€😀".encode()[:4], "é€😀".encode()[4:]),
                fragments(side, b"\xff", b"\xfe", opcode=wire.BINARY),
                fragments(side, *[b"x"] * 200),
                fragments(side, b"", b""),
            )
        )
        expected = ["abc" + "d" * 300, "whole", "é€😀", b"\xff\xfe", "x" * 200, ""]
        got: list[Any] = []

        async def receive() -> None:
            got.extend([await connection.recv() for _ in expected])

        receiving = asyncio.create_task(receive())
        for start in range(0, len(data), size):
            await peer.raw.send(data[start : start + size])
            await idle()
        await receiving
        assert got == expected
        assert connection._ws_session.inbox.count == 0
        assert connection.statistics.messages_received == 1 + len(expected)


@both_sides
@virtual
async def test_messages_that_waited_are_still_read_by_fragments(side: Side) -> None:
    """Whatever arrived in one read, an iteration over fragments gets them as they were sent."""
    async with open_end(side, max_queue=None) as (connection, peer):
        await warm_up(connection, peer)
        await peer.raw.send(fragments(side, b"a", b"bc", b"", b"d") * 3)
        await idle()
        assert connection._ws_session.inbox.count == 12
        assert [piece async for piece in connection.recv_streaming()] == ["a", "bc", "", "d"]
        assert await connection.recv() == "abcd"
        assert [piece async for piece in connection.recv_streaming(decode=False)] == [b"a", b"bc", b"", b"d"]
        assert connection._ws_session.inbox.count == 0


@both_sides
@virtual
async def test_fragments_are_read_while_the_rest_arrives(side: Side) -> None:
    async with open_end(side) as (connection, peer):
        await warm_up(connection, peer)
        pieces: list[Any] = []

        async def stream() -> None:
            pieces.extend([piece async for piece in connection.recv_streaming()])

        streaming = asyncio.create_task(stream())
        data = fragments(side, b"a", b"bc", b"d")
        cut = len(fragments(side, b"a", b"bc"))
        await peer.raw.send(data[:cut])
        await idle()
        first: Any = connection._ws_session.inbox.items[0]
        assert first.waiting == 0
        await peer.raw.send(data[cut:])
        await streaming
        assert pieces == ["a", "bc", "d"]


@both_sides
@virtual
async def test_pings_amid_fragments_are_answered(side: Side) -> None:
    async with open_end(side) as (connection, peer):
        await warm_up(connection, peer)
        whole = fragments(side, b"a", b"b", b"c", b"d")
        first, second = len(fragments(side, b"a")), len(fragments(side, b"a", b"b", b"c"))
        ping = control(side, wire.PING, b"now")
        await peer.raw.send((whole[:first] + ping + whole[first:second] + ping + whole[second:]) * 2)
        assert [await connection.recv() for _ in range(2)] == ["abcd", "abcd"]
        assert connection.statistics.pings_received == 4
        # And what comes next takes the fast path again.
        await peer.raw.send(whole)
        assert await connection.recv() == "abcd"


@both_sides
@compiled
@virtual
async def test_the_compiled_twin_needs_no_help(side: Side, monkeypatch: pytest.MonkeyPatch) -> None:
    async with open_end(side) as (connection, peer):
        await warm_up(connection, peer)
        frames: list[int] = []
        rest = type(connection)._ws_receive_rest

        def count(self: Any, rows: list[Any]) -> None:
            frames.append(len(rows) // 2)
            rest(self, rows)

        monkeypatch.setattr(type(connection), "_ws_receive_rest", count)
        slowly = asyncio.create_task(connection.recv())
        await peer.raw.send(fragments(side, b"a", b"b"))
        assert await slowly == "ab"
        assert frames == []
        # A limit of their number is checked in Python.
        connection._ws_session.inbox.items.assembles = False
        await peer.raw.send(fragments(side, b"a", b"b"))
        assert await connection.recv() == "ab"
        assert frames == [2]


@both_sides
@virtual
async def test_a_part_of_a_message_resumes_nobody(side: Side) -> None:
    async with open_end(side) as (connection, peer):
        await warm_up(connection, peer)
        receiving = asyncio.create_task(connection.recv())
        await idle()
        receiver = connection._ws_receiver
        data = fragments(side, b"a", b"b", b"c")
        for byte in data[:-1]:
            await peer.raw.send(bytes([byte]))
            await idle()
            assert connection._ws_receiver is receiver
        await peer.raw.send(data[-1:])
        assert await receiving == "abc"


@both_sides
@virtual
async def test_fragments_count_for_the_queue(side: Side) -> None:
    async with open_end(side, max_queue=4) as (connection, peer):
        await warm_up(connection, peer)
        await peer.raw.send(fragments(side, b"a", b"b", b"c", b"d"))
        await idle()
        assert connection.transport.is_reading()
        await peer.raw.send(fragments(side, b"e", b"f"))
        await idle()
        assert not connection.transport.is_reading()
        assert [await connection.recv() for _ in range(2)] == ["abcd", "ef"]
        assert connection.transport.is_reading()


@both_sides
@pytest.mark.parametrize(
    ("options", "pieces", "code", "limit"),
    [
        ({"max_size": 10}, (b"12345", b"67890", b"1"), 1009, None),
        ({"max_size": (None, 5)}, (b"12345", b"123456"), 1009, None),
        ({}, (b"abc\xc3", b"abc"), 1007, None),
        ({}, (b"abc", b"\xff"), 1007, None),
        ({}, (b"abc", b"\xc3"), 1007, None),
        ({}, (b"1", b"2", b"3"), 1009, 2),
    ],
)
@virtual
async def test_limits_and_text_apply_to_the_whole_message(
    side: Side, options: Any, pieces: Any, code: int, limit: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_messages, "MAX_FRAGMENTS", limit)
    async with open_end(side, **options) as (connection, peer):
        await warm_up(connection, peer)
        good = fragments(side, b"a", b"b")
        await peer.raw.send(good + fragments(side, *pieces) + good)
        # What came before is not lost.
        assert await connection.recv() == "ab"
        with pytest.raises(ConnectionClosedError) as caught:
            await connection.recv()
        assert caught.value.sent is not None
        assert caught.value.sent.code == code


@both_sides
@virtual
async def test_a_crowd_of_fragments_lets_others_run(side: Side) -> None:
    async with open_end(side, max_queue=None) as (connection, peer):
        await warm_up(connection, peer)
        receiving = asyncio.create_task(connection.recv())
        await peer.raw.send(fragments(side, *[b"x"] * 3000))
        assert await receiving == "x" * 3000


@both_sides
@virtual
async def test_parts_of_a_message_that_python_counts_resume_nobody(side: Side, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_messages, "MAX_FRAGMENTS", 10)
    async with open_end(side) as (connection, peer):
        await warm_up(connection, peer)
        receiving = asyncio.create_task(connection.recv())
        first, second = fragments(side, b"a"), fragments(side, b"a", b"b")
        await peer.raw.send(first)
        assert await receiving == "a"
        receiving = asyncio.create_task(connection.recv())
        half = len(second) // 2
        await peer.raw.send(second[:half])
        await idle()
        assert not receiving.done()
        await peer.raw.send(second[half:])
        assert await receiving == "ab"


@both_sides
@virtual
async def test_frames_after_which_nothing_is_to_be_done(side: Side) -> None:
    """Such as the first fragment of a message, where a decoder leaves that to Python."""
    async with open_end(side) as (connection, peer):
        await warm_up(connection, peer)
        connection._ws_receive_rest([wire.TEXT, b"a"])
        connection._ws_receive_rest([0x80, b"b"])
        assert await connection.recv() == "ab"
