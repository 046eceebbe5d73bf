"""Laws of stream transports: data, ends and resets. See ``test_transport_flow.py`` for the rest.

Each law is written once and runs in both worlds, so that a test which passes in memory means something.
"""

from __future__ import annotations

import asyncio

import pytest

from _kit import steps
from kit.worlds import HUGE, PROTOCOLS, Buffered, Plain, World, closed, law, until

# Data.


@PROTOCOLS
@law
async def test_data_passes_both_ways(world: World, protocol: type[Plain | Buffered]) -> None:
    a, b = protocol(), protocol()
    left, right = await world.connect(a, b)
    left.write(b"to the right")
    right.write(b"to the left")
    await until(lambda: a.received and b.received)
    assert (bytes(a.received), bytes(b.received)) == (b"to the left", b"to the right")
    assert a.events == b.events == ["made", "data"]


@PROTOCOLS
@law
async def test_a_lot_of_data_passes_in_order(world: World, protocol: type[Plain | Buffered]) -> None:
    a, b = Plain(), protocol()
    left, _ = await world.connect(a, b)
    data = bytes(range(256)) * 8192
    left.write(data)
    await until(lambda: len(b.received) == len(data))
    assert b.received == data


@law
async def test_bytes_like_objects_pass(world: World) -> None:
    a, b = Plain(), Plain()
    left, _ = await world.connect(a, b)
    left.write(bytearray(b"a"))
    left.write(memoryview(b"xbx")[1:2])
    left.write(b"")
    left.writelines([b"c", bytearray(b"d"), memoryview(b"e")])
    left.writelines([])
    await until(lambda: len(b.received) == 5)
    assert b.received == b"abcde"


@law
async def test_writing_text_is_an_error(world: World) -> None:
    a, b = Plain(), Plain()
    left, _ = await world.connect(a, b)
    with pytest.raises(TypeError, match="must be a bytes.*, not 'str'"):
        left.write("text")  # type: ignore[arg-type]
    assert not left.is_closing()


# Buffered protocols.


@law
async def test_the_size_of_the_buffer_is_respected(world: World) -> None:
    a, b = Plain(), Buffered(size=7)
    left, _ = await world.connect(a, b)
    left.write(b"0123456789abcdef")
    await until(lambda: len(b.received) == 16)
    assert b.pieces == [7, 7, 2]
    assert b.received == b"0123456789abcdef"


@law
async def test_the_class_decides_what_is_called(world: World) -> None:
    class Both(Plain, asyncio.BufferedProtocol):
        get_buffer = Buffered.get_buffer
        buffer_updated = Buffered.buffer_updated

    class Pretender(Plain):
        get_buffer = None
        buffer_updated = None

    a, b = Both(), Pretender()
    a.buffer = bytearray(3)  # type: ignore[attr-defined]
    left, right = await world.connect(a, b)
    left.write(b"hello")
    right.write(b"hello")
    await until(lambda: len(a.received) == len(b.received) == 5)
    assert (a.pieces, b.pieces) == ([3, 2], [5])


@law
async def test_an_empty_buffer_is_fatal(world: World) -> None:
    a, b = Plain(), Buffered(size=0)
    left, _ = await world.connect(a, b)
    left.write(b"x")
    await closed(a, b)
    assert isinstance(b.lost(), RuntimeError)
    assert str(b.lost()) == "get_buffer() returned an empty buffer"
    [context] = world.reported()
    assert context["exception"] is b.lost()


@law
async def test_the_protocol_can_change(world: World) -> None:
    a, b, c = Plain(), Plain(), Buffered(size=2)
    left, right = await world.connect(a, b)
    left.write(b"first")
    await until(lambda: b.received)
    right.set_protocol(c)
    c.transport = right
    assert right.get_protocol() is c
    left.write(b"second")
    await until(lambda: len(c.received) == 6)
    assert (bytes(b.received), bytes(c.received), c.pieces) == (b"first", b"second", [2, 2, 2])
    assert b.lost() == "not yet"


# Ends.


@PROTOCOLS
@law
async def test_eof_closes_unless_told_otherwise(world: World, protocol: type[Plain | Buffered]) -> None:
    a, b = Plain(keep_open=True), protocol()
    left, _ = await world.connect(a, b)
    assert left.can_write_eof()
    left.write(b"last words")
    left.write_eof()
    left.write_eof()
    await until(lambda: b.lost() is None)
    assert b.events == ["made", "data", "eof", ("lost", None)]
    await until(lambda: "eof" in a.events)
    assert a.lost() == "not yet"
    left.close()
    await closed(a)
    assert a.events == ["made", "eof", ("lost", None)]


@PROTOCOLS
@law
async def test_after_eof_the_other_direction_goes_on(world: World, protocol: type[Plain | Buffered]) -> None:
    a, b = protocol(), Plain(keep_open=True)
    left, right = await world.connect(a, b)
    left.write_eof()
    await until(lambda: "eof" in b.events)
    assert right.is_reading()
    assert not right.is_closing()
    right.write(b"still here")
    await until(lambda: a.received)
    right.close()
    await closed(a, b)
    assert a.events == ["made", "data", "eof", ("lost", None)]
    assert b.events == ["made", "eof", ("lost", None)]


@law
async def test_eof_comes_after_everything_buffered(world: World) -> None:
    a, b = Plain(keep_open=True), Plain()
    left, right = await world.connect(a, b)
    right.pause_reading()
    left.write(bytes(HUGE))
    assert left.get_write_buffer_size() > 0
    left.write_eof()
    right.resume_reading()
    await until(lambda: b.lost() is None)
    assert len(b.received) == HUGE
    assert b.events == ["made", "data", "eof", ("lost", None)]


@law
async def test_after_write_eof_writing_is_an_error(world: World) -> None:
    a, b = Plain(), Plain(keep_open=True)
    left, _ = await world.connect(a, b)
    left.write_eof()
    for data in (b"x", b""):
        with pytest.raises(RuntimeError, match="after write_eof"):
            left.write(data)
    with pytest.raises(RuntimeError, match="after write_eof"):
        left.writelines([b"x"])


@law
async def test_eof_is_seen_again_after_a_pause(world: World) -> None:
    a, b = Plain(keep_open=True), Plain(keep_open=True)
    left, right = await world.connect(a, b)
    left.write_eof()
    await world.settle()
    right.pause_reading()
    right.resume_reading()
    await world.settle()
    assert b.events == ["made", "eof", "eof"]


@law
async def test_close_writes_what_is_buffered(world: World) -> None:
    a, b = Plain(), Plain()
    left, right = await world.connect(a, b)
    right.pause_reading()
    left.write(bytes(HUGE))
    left.close()
    left.close()
    assert left.is_closing()
    assert not left.is_reading()
    await steps(15)
    assert a.lost() == "not yet"
    right.resume_reading()
    await closed(a, b)
    assert len(b.received) == HUGE
    assert a.lost() is None
    assert b.lost() is None


@law
async def test_closing_is_announced_later_and_once(world: World) -> None:
    a, b = Plain(), Plain()
    left, _ = await world.connect(a, b)
    left.close()
    left.abort()
    assert a.lost() == "not yet"
    await closed(a, b)
    assert a.events == ["made", ("lost", None)]
    left.close()
    left.abort()
    left.write(b"to nobody")
    left.write_eof()
    await world.settle()
    assert a.events == ["made", ("lost", None)]


@law
async def test_abort_forgets_what_is_buffered(world: World) -> None:
    a, b = Plain(), Plain()
    left, right = await world.connect(a, b)
    right.pause_reading()
    left.write(bytes(HUGE))
    left.abort()
    assert left.is_closing()
    assert left.get_write_buffer_size() == 0
    assert a.lost() == "not yet"
    await closed(a)
    assert a.lost() is None
    right.resume_reading()
    await closed(b)
    assert len(b.received) < HUGE
    assert b.lost() is None


@law
async def test_abort_inside_connection_made(world: World) -> None:
    class Shy(Plain):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            super().connection_made(transport)
            self.transport.abort()

    a, b = Plain(), Shy()
    left, _ = await world.connect(a, b)
    left.write(b"x")
    await closed(a, b)
    assert b.events == ["made", ("lost", None)]


@law
async def test_nothing_is_received_after_close(world: World) -> None:
    a, b = Plain(), Plain()
    left, right = await world.connect(a, b)
    left.write(b"too late")
    right.close()
    await closed(a, b)
    assert b.events == ["made", ("lost", None)]


# Resets.


@PROTOCOLS
@law
async def test_closing_with_unread_data_resets(world: World, protocol: type[Plain | Buffered]) -> None:
    a, b = protocol(), Plain()
    left, right = await world.connect(a, b)
    right.pause_reading()
    left.write(b"unread")
    right.write(b"before the end")
    await world.settle()
    right.close()
    await closed(a, b)
    assert b.lost() is None
    assert isinstance(a.lost(), ConnectionResetError)
    assert a.received == b"before the end"


@law
async def test_closing_with_unread_data_ends_a_blocked_writer(world: World) -> None:
    a, b = Plain(), Plain()
    left, right = await world.connect(a, b)
    right.pause_reading()
    left.write(bytes(HUGE))
    await steps(15)
    right.close()
    await closed(a, b)
    assert isinstance(a.lost(), ConnectionResetError)
    assert left.get_write_buffer_size() == 0


@law
async def test_writing_to_a_closed_peer_breaks_the_pipe(world: World) -> None:
    a, b = Plain(keep_open=True), Plain()
    left, right = await world.connect(a, b)
    right.close()
    await until(lambda: "eof" in a.events)
    left.write(b"accepted by the kernel")
    await world.settle()
    assert a.lost() == "not yet"
    left.write(b"refused")
    await closed(a, b)
    assert isinstance(a.lost(), BrokenPipeError)


@law
async def test_a_paused_reader_learns_of_a_reset_when_it_writes(world: World) -> None:
    a, b = Plain(), Plain()
    left, right = await world.connect(a, b)
    left.pause_reading()
    right.pause_reading()
    left.write(b"unread")
    await world.settle()
    right.close()
    await world.settle()
    assert a.lost() == "not yet"
    left.write(b"x")
    await closed(a, b)
    assert isinstance(a.lost(), ConnectionResetError)


@law
async def test_ending_the_stream_after_a_reset_is_an_error(world: World) -> None:
    a, b = Plain(keep_open=True), Plain()
    left, right = await world.connect(a, b)
    right.close()
    await until(lambda: "eof" in a.events)
    left.write(b"answered with a reset")
    await world.settle()
    with pytest.raises(OSError, match="not connected"):
        left.write_eof()
