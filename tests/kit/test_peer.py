"""Raw peers: bytes in the hands of a test."""

from __future__ import annotations

import asyncio

import pytest

from _kit import CAPACITY, Link, RawPeer, Row, advance, idle, virtual, wire


def peers(*, delay: float = 0.0, chunk: int | None = None, capacity: int = CAPACITY) -> tuple[RawPeer, RawPeer]:
    link = Link(asyncio.get_running_loop(), delay=delay, chunk=chunk, capacity=capacity)
    return RawPeer(link.client), RawPeer(link.server)


@virtual
async def test_reading_consumes_and_received_keeps() -> None:
    a, b = peers()
    await a.send(b"hello world")
    assert await b.read_exactly(5) == b"hello"
    assert await b.read_exactly(0) == b""
    assert b.unread == b" world"
    assert b.received == b"hello world"


@virtual
async def test_reading_waits() -> None:
    a, b = peers(delay=1)
    reading = asyncio.create_task(b.read_exactly(4))
    await a.send(b"ab")
    await advance(5)
    assert not reading.done()
    await a.send(b"cdef")
    assert await reading == b"abcd"
    assert b.unread == b"ef"


@virtual
async def test_reading_can_be_cancelled() -> None:
    a, b = peers()
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(1):
            await b.read_exactly(1)
    await a.send(b"x")
    assert await b.read_exactly(1) == b"x"


@virtual
async def test_read_until_takes_the_head_of_a_message() -> None:
    a, b = peers(chunk=1)
    await a.send(wire.request(body=b"more"))
    assert await b.read_until() == wire.request()
    await a.send(b";rest")
    assert await b.read_until(b";") == b"more;"
    assert await b.read_exactly(4) == b"rest"


@virtual
async def test_read_frame_takes_one_frame() -> None:
    a, b = peers(chunk=1)
    await a.send(wire.text("one", mask=True) + wire.ping() + b"\x81")
    assert await b.read_frame() == Row(True, 0, wire.TEXT, wire.MASK, b"one")
    assert await b.read_frame() == Row(True, 0, wire.PING, None, b"")
    await idle()
    assert b.unread == b"\x81"


@virtual
async def test_read_frame_is_strict() -> None:
    a, b = peers()
    await a.send(b"\x83\x00")
    with pytest.raises(ValueError, match="opcode 3 is reserved"):
        await b.read_frame()


@virtual
async def test_the_end_of_the_stream() -> None:
    a, b = peers()
    await a.send(b"all of it")
    a.eof()
    assert await b.read_until_eof() == b"all of it"
    assert b.ended == "eof"
    assert await b.read_until_eof() == b""
    await b.send(b"answer")
    assert await a.read_exactly(6) == b"answer"
    a.close()
    b.close()
    assert a.link.closed


@pytest.mark.parametrize("read", ["read_frame", "read_until"])
@virtual
async def test_an_end_too_early(read: str) -> None:
    a, b = peers()
    await a.send(b"\x81")
    a.close()
    with pytest.raises(asyncio.IncompleteReadError) as caught:
        await getattr(b, read)()
    assert caught.value.partial == b"\x81"


@virtual
async def test_an_end_too_early_names_the_bytes_expected() -> None:
    a, b = peers()
    await a.send(b"ab")
    a.close()
    with pytest.raises(asyncio.IncompleteReadError, match="2 bytes read on a total of 3 expected bytes"):
        await b.read_exactly(3)


@virtual
async def test_a_reset() -> None:
    a, b = peers()
    await a.send(b"before")
    a.reset()
    assert await b.read_exactly(6) == b"before"
    for reading in (b.read_exactly(1), b.read_until_eof()):
        with pytest.raises(ConnectionResetError):
            await reading
    assert b.ended == "reset"
    with pytest.raises(BrokenPipeError):
        await b.send(b"x")
    with pytest.raises(OSError, match="not connected"):
        b.eof()


@virtual
async def test_a_peer_that_does_not_read_makes_the_other_wait() -> None:
    a, b = peers()
    b.stop_reading()
    sending = asyncio.create_task(a.send(bytes(3 * CAPACITY)))
    await idle()
    assert not sending.done()
    assert b.received == b""
    b.resume_reading()
    await sending
    await idle()
    assert len(b.received) == 3 * CAPACITY


@virtual
async def test_waiting_to_send_can_be_cancelled() -> None:
    a, b = peers(capacity=4)
    b.stop_reading()
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(1):
            await a.send(b"abcdef")
    b.resume_reading()
    await idle()
    assert b.received == b"abcd"


@virtual
async def test_closing_with_unread_bytes_resets_the_other() -> None:
    a, b = peers()
    b.stop_reading()
    await a.send(b"x")
    b.close()
    b.resume_reading()
    with pytest.raises(ConnectionResetError):
        await a.read_until_eof()


@virtual
async def test_a_spurious_wake_up_reads_nothing() -> None:
    a, b = peers()
    await a.send(b"x")
    # Somebody else was faster.
    assert b.sock.recv(1) == b"x"
    await idle()
    assert b.received == b""
    assert b.ended is None
