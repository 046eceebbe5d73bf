"""The path of a message, in both of its twins: each on its own, and compared with each other."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import functools
import gc
import socket
import sys
import weakref
from collections import deque
from collections.abc import Coroutine
from typing import Any, NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from _kit import steps, virtual, wire
from core._twins import TWINS
from websockets._codec import Encoded
from websockets._rules.lifecycle import Sending
from websockets.asyncio._fastpath import _readable
from websockets.asyncio._internals import OWN_METHODS, PLAIN_LOOPS, RUNNING_TASKS, current_task

# What is sent in two pieces.
LARGE = _readable.GATHER_FROM

MASK = b"\x01\x02\x03\x04"


class Twin(NamedTuple):
    """One twin of everything that a fast path needs."""

    path: Any
    messages: Any
    waiter: Any
    queue: Any
    decoder: Any
    encoded: Any
    half: Any
    read_buffer: Any


PATHS = {
    name: Twin(
        _readable.FastPath if name == "python" else twin.FastPath,
        _readable.Messages if name == "python" else twin.Messages,
        _readable.Waiter if name == "python" else twin.Waiter,
        twin.Queue,
        twin.FrameDecoder,
        Encoded if name == "python" else twin.Encoded,
        twin.SendingHalf,
        twin.read_buffer,
    )
    for name, twin in TWINS.items()
}

if "native" in TWINS:
    # The library tells only the twin that it uses.
    TWINS["native"].know_plain_loops(PLAIN_LOOPS)
    TWINS["native"].know_tasks(current_task, RUNNING_TASKS)
    TWINS["native"].know_transport(*OWN_METHODS, socket.socket.fileno)

# Skipped without a compiled twin; whether it must be there is for tests/core/test_accelerator_choice.py to say.
absent = pytest.mark.skipif("native" not in PATHS, reason="the compiled twin wasn't built")
compiled_twin = pytest.mark.parametrize("twin", [pytest.param(PATHS.get("native"), id="native", marks=absent)])

every_twin = pytest.mark.parametrize("twin", PATHS.values(), ids=PATHS)


class Writes:
    """A transport that keeps what is written."""

    def __init__(self) -> None:
        self.data: list[bytes] = []
        self.closing = False
        self.fails = False

    def write(self, data: Any) -> None:
        if self.fails:
            raise RuntimeError("write failed")
        self.data.append(bytes(data))

    def is_closing(self) -> bool:
        return self.closing


class Item:
    """Something that can be seen to be gone."""


def make(twin: Twin, *, client: bool = False) -> Any:
    """A path on a transport that keeps what is written; its class in Python logs what it is asked for."""

    class Path(twin.path):  # type: ignore[misc,name-defined]
        asked: list[str]

        def _ws_receive_data(self, data: Any) -> None:
            self.asked.append(f"data {bytes(data).hex()}")

        def _ws_hold_rest(self, rest: bytes) -> None:
            self.asked.append(f"hold {len(rest)}")
            self.rest = rest

        def _ws_look(self, rest: bytes | None) -> None:
            self.asked.append(f"look {None if rest is None else len(rest)}")
            self.rest = rest or b""

        def _ws_receive_rest(self, frames: list[Any]) -> None:
            self.asked.append(f"rest {frames}")
            for head, payload in zip(frames[::2], frames[1::2], strict=True):
                if head in (0x81, 0x82):
                    self._ws_queue.append(payload)
            self._ws_deliver()

        def _ws_pause_if_full(self) -> None:
            if len(self._ws_queue) > self._ws_high:
                self.asked.append("pause")

        def _ws_drained(self) -> None:
            self.asked.append("drained")

        async def _ws_receive_slowly(self, iterating: bool) -> str:
            self.asked.append(f"slowly {iterating}")
            await asyncio.sleep(0)
            if self._ws_queue:
                return f"slow {self._ws_queue.popleft()}"
            raise StopAsyncIteration if iterating else EOFError

        def _ws_write_pieces(self, header: Any, payload: Any) -> None:
            self.asked.append("pieces")
            self.transport.write(self._ws_take_corked())
            self.transport.write(bytes(header) + bytes(payload))

        def _ws_give(self, write: Any, data: Any) -> None:
            write(data)

        def _ws_tear(self) -> None:
            self.asked.append("tear")

        def _ws_refuse_writing(self) -> None:
            self.asked.append("refuse writing")

        def _ws_uncork(self) -> None:
            self.asked.append("uncork")
            self._ws_backstop = False
            self.transport.write(self._ws_take_corked())

    path = Path()
    path.asked = []
    path.loop = asyncio.get_running_loop()
    path.transport = Writes()
    path.protocol = Item()
    path._ws_life = twin.half()
    path._ws_life.sending = path._ws_may_send = Sending.OPEN
    path._ws_life.continuing = False
    path._ws_queue = twin.queue()
    path._ws_buffer = twin.read_buffer(2**18)
    path._ws_decoder = twin.decoder(not client, 0, -1, -1, True)
    path._ws_client = client
    path._ws_quick = path._ws_plain = True
    return path


def is_readable(path: Any) -> bool:
    return isinstance(path, _readable.FastPath)


def read(path: Any, data: bytes) -> None:
    """As a loop does it, with the readable twin's decoder where the fast path leaves that to its class."""
    if is_readable(path):
        feed(path, data)
        return
    while data:
        buffer = path.get_buffer(-1)
        size = min(len(buffer), len(data))
        buffer[:size] = data[:size]
        path.buffer_updated(size)
        data = data[size:]


def feed(path: Any, data: bytes) -> None:
    """What the compiled twin does with a read, in other words."""
    before = path._ws_decoder.failure
    frames = path._ws_decoder.feed(data)
    while frames and frames[0] in (0x81, 0x82):
        path._ws_queue.append(frames[1])
        del frames[:2]
    if frames or path._ws_decoder.failure is not before:
        path._ws_receive_rest(frames)
    elif path._ws_receiver is not None or len(path._ws_queue) > path._ws_high:
        path._ws_deliver()


def text(message: str, **options: Any) -> bytes:
    return wire.frame(0x1, message.encode(), mask=MASK, **options)


# --------------------------------------------------------------------------------------------------------------- queue


@every_twin
@given(st.lists(st.sampled_from(["append", "popleft", "pop"]) | st.integers(-2, 200), max_size=300))
def test_queues_are_like_deques(twin: Twin, plan: list[Any]) -> None:
    queue, model = twin.queue(), deque[object]()
    for number, step in enumerate(plan):
        if step == "append":
            queue.append(number)
            model.append(number)
        elif isinstance(step, int):
            # Bursts: a queue grows, wraps around, and lets go of what it needed for them.
            for item in range(step):
                queue.append(item)
                model.append(item)
            for _ in range(min(len(model), step - 1)):
                assert queue.popleft() == model.popleft()
        else:
            assert outcome(queue, step) == outcome(model, step)
        assert (len(queue), bool(queue), list(queue)) == (len(model), bool(model), list(model))
        if model:
            assert queue[0] == model[0]


def outcome(queue: Any, step: str) -> Any:
    try:
        return getattr(queue, step)()
    except IndexError:
        return IndexError


@every_twin
def test_queues_keep_nothing_alive(twin: Twin) -> None:
    queue = twin.queue()
    item = Item()
    seen = weakref.ref(item)
    queue.append(item)
    queue.append(queue)
    del item, queue
    gc.collect()
    assert seen() is None


# ------------------------------------------------------------------------------------------------------------- reading


@virtual
@every_twin
async def test_messages_go_into_the_queue(twin: Twin) -> None:
    path = make(twin)
    read(path, text("a") + text("b") + wire.frame(0x2, b"c", mask=MASK))
    assert (list(path._ws_queue), path.asked) == (["a", "b", b"c"], [])


@virtual
@every_twin
async def test_anything_else_is_for_the_class_and_so_is_what_follows(twin: Twin) -> None:
    path = make(twin)
    read(path, text("a") + wire.frame(0x9, b"ping", mask=MASK) + text("b"))
    assert path.asked == ["rest [137, b'ping', 129, 'b']"]
    assert list(path._ws_queue) == ["a", "b"]


@virtual
@compiled_twin
async def test_a_crowd_of_frames_has_to_wait(twin: Twin) -> None:
    path = make(twin)
    ping = wire.frame(0x9, b"", mask=MASK)
    read(path, ping * 1300 + text("a"))
    held = [line for line in path.asked if line.startswith("hold")]
    assert held == [f"hold {800 * len(ping) + len(text('a'))}"]
    path.data_received(path.rest)
    path.data_received(path.rest)
    assert [line.count("137") for line in path.asked if line.startswith("rest")] == [500, 500, 300]
    assert list(path._ws_queue) == ["a"]


@virtual
@compiled_twin
async def test_inflated_messages_have_to_wait(twin: Twin) -> None:
    path = make(twin)
    path._ws_decoder = twin.decoder(True, 0x40, -1, -1, True)
    path._ws_inflate = lambda head, payload: bytes(payload) * 100_000
    compressed = wire.frame(0x2, b"zip", rsv=0x4, mask=MASK)
    read(path, compressed * 10 + text("a"))
    assert [len(message) for message in path._ws_queue] == [300_000] * 4
    assert path.asked == [f"hold {6 * len(compressed) + len(text('a'))}"]
    path._ws_inflate = lambda head, payload: None
    path.data_received(path.rest)
    assert len(path._ws_queue) == 4
    assert path.asked[1:] == ["rest []"]

    def fail(head: int, payload: bytes) -> bytes:
        raise LookupError("no way")

    path._ws_inflate = fail
    with pytest.raises(LookupError):
        path.data_received(compressed)


def meter(path: Any, messages: int, size: int) -> None:
    """Grant a path numbers of messages and of bytes, as where rates are limited."""
    path._ws_metered, path._ws_decoder = path._ws_decoder, None
    path._ws_metered.messages_granted, path._ws_metered.bytes_granted = messages, size


@virtual
@compiled_twin
async def test_as_much_as_is_granted(twin: Twin) -> None:
    path = make(twin)
    meter(path, 3, 1000)
    frame = text("abcd")
    read(path, frame * 2)
    path.data_received(frame)
    assert (list(path._ws_queue), path.asked) == (["abcd"] * 3, [])
    assert (path._ws_metered.bytes_granted, path._ws_metered.spent) == (970, False)
    # Up to a slice of 1024 bytes is taken in all the same.
    read(path, frame * 200)
    assert len(path._ws_queue) == 3 + 102
    assert path.asked == [f"look {200 * len(frame) - 1024}"]
    assert path._ws_metered.spent
    # Nothing more, until somebody has looked.
    path.data_received(path.rest)
    assert len(path._ws_queue) == 3 + 102
    assert path._ws_bytes_received == (3 + 200) * len(frame) + len(path.rest)


@virtual
@compiled_twin
async def test_a_grant_that_ends_with_a_read(twin: Twin) -> None:
    for messages, size in ((0, 1000), (1000, 9)):
        path = make(twin)
        meter(path, messages, size)
        read(path, text("abcd"))
        assert (list(path._ws_queue), path.asked) == (["abcd"], ["look None"])


@virtual
@compiled_twin
async def test_a_grant_without_an_end(twin: Twin) -> None:
    path = make(twin)
    meter(path, 2**62, 2**62)
    frame = text("abcd")
    read(path, frame * 10_000)
    assert (len(path._ws_queue), path.asked) == (10_000, [])
    read(path, wire.frame(0x9, b"", mask=MASK) * 600)
    assert [line.split(" ")[0] for line in path.asked] == ["rest", "hold"]


@virtual
@compiled_twin
async def test_a_grant_and_other_frames(twin: Twin) -> None:
    path = make(twin)
    meter(path, 1, 1000)
    read(path, text("a") + wire.frame(0x9, b"ping", mask=MASK) + text("b"))
    assert path.asked == ["rest [137, b'ping', 129, 'b']", "look None"]
    assert list(path._ws_queue) == ["a", "b"]
    path = make(twin)
    meter(path, 1000, 10_000)
    read(path, text("a") * 1000 + wire.frame(0x3, b"", mask=MASK) + text("b") * 1000)
    assert (len(path._ws_queue), path.asked) == (1000, ["rest []"])
    assert path._ws_metered.failure == (1002, "invalid opcode")


@every_twin
def test_decoders_know_what_is_granted(twin: Twin) -> None:
    decoder = twin.decoder(True, 0, -1, -1, True)
    assert (decoder.messages_granted, decoder.bytes_granted, decoder.spent) == (0, 0, False)
    decoder.feed(text("a"))
    assert decoder.spent
    decoder.messages_granted = 1
    assert not decoder.spent
    decoder.bytes_granted -= 1
    assert decoder.spent


@virtual
@every_twin
async def test_messages_are_packed(twin: Twin) -> None:
    for client in (False, True):
        path = make(twin, client=client)
        path._ws_decoder = None

        def pack(head: int, payload: Any) -> tuple[int, bytes]:
            return (head | 0x40, b"packed" + bytes(payload)) if len(payload) > 2 else (head, bytes(payload))

        path._ws_pack = pack
        for message in ("text", "é€", b"bytes", bytearray(b"array"), memoryview(b"a-view")[::2], "no", b"no"):
            path._ws_send_now(message, None)
            payload = message.encode() if isinstance(message, str) else bytes(message)
            opcode = 0x1 if isinstance(message, str) else 0x2
            expected = [0xC0 | opcode, b"packed" + payload] if len(payload) > 2 else [0x80 | opcode, payload]
            decoder = twin.decoder(client, 0x40, -1, -1, False)
            assert decoder.feed(b"".join(path.transport.data)) == expected
            path.transport.data.clear()


@virtual
@every_twin
async def test_a_failure_is_told_once(twin: Twin) -> None:
    path = make(twin)
    read(path, text("a") + b"\x83\x80\x00\x00\x00\x00")
    read(path, text("b"))
    assert path.asked == ["rest []"]
    assert path._ws_decoder.failure == (1002, "invalid opcode")
    assert list(path._ws_queue) == ["a"]


@virtual
@every_twin
async def test_without_a_decoder_reads_are_for_the_class(twin: Twin) -> None:
    path = make(twin)
    path._ws_decoder = None
    path.get_buffer(100)[:2] = b"xy"
    path.buffer_updated(2)
    assert path.asked == ["data 7879"]


@virtual
@every_twin
async def test_reading_pauses_when_nobody_asks(twin: Twin) -> None:
    path = make(twin)
    path._ws_high = 2
    read(path, text("a") + text("b"))
    assert path.asked == []
    read(path, text("c"))
    assert path.asked == ["pause"]
    path._ws_reading_paused = True
    assert [await path._ws_next() for _ in range(3)] == ["a", "b", "c"]
    assert path.asked == ["pause", "drained", "drained", "drained"]


LARGE_MESSAGES: dict[str, str | bytes] = {
    "text": "text " * 200_000,
    "late": "a" * 900_000 + "é€𝄞" * 1000,
    "early": "é€𝄞" * 90_000 + "a" * 70_000,
    "bytes": bytes(range(256)) * 4000,
}


@functools.cache  # the naive mask takes its time
def between(opcode: int, payload: bytes, mask: bytes | None) -> bytes:
    """A frame between two small ones."""
    return wire.text("before", mask=mask) + wire.frame(opcode, payload, mask=mask) + wire.text("after", mask=mask)


@virtual
@every_twin
@pytest.mark.parametrize("piece", [2**18, 70_001, 65_537, 4096])
@pytest.mark.parametrize("name", LARGE_MESSAGES)
async def test_large_messages_arrive_in_pieces(twin: Twin, name: str, piece: int) -> None:
    message = LARGE_MESSAGES[name]
    payload = message.encode() if isinstance(message, str) else message
    opcode = 0x1 if isinstance(message, str) else 0x2
    for client in (False, True):
        path = make(twin, client=client)
        data = between(opcode, payload, None if client else MASK)
        for at in range(0, len(data), piece):
            read(path, data[at : at + piece])
        assert list(path._ws_queue) == ["before", message, "after"]
        assert path.asked == []


@virtual
@compiled_twin
async def test_a_large_text_is_refused_by_its_first_wrong_byte(twin: Twin) -> None:
    path = make(twin)
    data = bytearray(wire.frame(0x1, b"x" * 2**20))
    data[600_000] = 0xFF
    path = make(twin, client=True)
    for at in range(0, len(data), 100_000):
        read(path, bytes(data[at : at + 100_000]))
    assert path._ws_decoder.failure == (1007, "invalid start byte at position 599990")
    assert path.asked == ["rest []"]
    assert list(path._ws_queue) == []


@every_twin
def test_a_buffer_begins_where_kernels_copy_fastest(twin: Twin) -> None:
    buffers = [twin.read_buffer(size) for size in (0, 1, 1000, 2**18)]
    assert [len(buffer) for buffer in buffers] == [0, 1, 1000, 2**18]
    if twin is not PATHS["python"]:
        addresses = [ctypes.addressof(ctypes.c_char.from_buffer(buffer)) for buffer in buffers[1:]]
        assert [address % 64 for address in addresses] == [0, 0, 0]


@virtual
@every_twin
async def test_a_buffer_looks_like_a_memoryview(twin: Twin) -> None:
    """What loops and transports do with it."""
    path = make(twin)
    buffer = path.get_buffer(-1)
    buffer[:3] = b"abc"
    assert bytes(buffer[1:3]) == b"bc"
    with memoryview(buffer) as view, view[3:5] as part:
        part[:] = b"de"
    assert (bytes(buffer[:5]), len(buffer)) == (b"abcde", 2**18)
    with pytest.raises(TypeError):
        del buffer[0]
    with pytest.raises(TypeError):
        buffer["x"]


@virtual
@every_twin
async def test_a_caller_that_lets_go_of_the_buffer(twin: Twin) -> None:
    """Each caller may release what it got; all connections of a loop go on reading."""
    path = make(twin)
    for _ in range(2):
        buffer = path.get_buffer(-1)
        with memoryview(buffer) as view:
            view[: len(text("a"))] = text("a")
        getattr(buffer, "release", int)()
        read(path, text("a"))
    assert list(path._ws_queue) == ["a", "a"]


# ------------------------------------------------------------------------------------------------------------- waiting


# The readable twin leaves the wait to its class: tests/asyncio/test_waiter.py shows it.
@virtual
@compiled_twin
async def test_a_read_resumes_the_task_at_once(twin: Twin) -> None:
    path = make(twin)
    got: list[str] = []

    async def handler() -> None:
        async for message in twin.messages(path):
            got.append(message)

    task = asyncio.create_task(handler())
    await steps(1)
    asyncio.get_running_loop().call_soon(read, path, text("a") + text("b"))
    asyncio.get_running_loop().call_soon(got.append, "read")
    await steps(2)
    assert got == ["a", "b", "read"]
    assert path._ws_receiver is not None
    task.cancel()
    await asyncio.wait([task])
    assert path._ws_receiver is None
    assert path.asked == []


@virtual
@every_twin
@pytest.mark.parametrize("name", ["_ws_reading_paused", "_ws_streaming", "_ws_lost"])
async def test_the_unusual_is_for_the_class(twin: Twin, name: str) -> None:
    path = make(twin)
    setattr(path, name, True)
    path._ws_quick = not path._ws_lost
    if not is_readable(path) or path._ws_streaming:
        with pytest.raises(EOFError):
            await path._ws_next()
        assert path.asked == ["slowly False"]
    with pytest.raises(StopAsyncIteration):
        await anext(twin.messages(path))
    assert path.asked[-1] == "slowly True"


@virtual
@every_twin
async def test_what_is_no_plain_message_is_for_the_class(twin: Twin) -> None:
    path = make(twin)
    path._ws_quick = False
    path._ws_queue.add_fragment(0x1, b"fragment")
    assert (await path._ws_next()).startswith("slow <")


@virtual
@every_twin
async def test_a_long_burst_lets_others_run(twin: Twin) -> None:
    path = make(twin)
    for number in range(300):
        path._ws_queue.append(str(number))
    for number in range(256):
        assert await path._ws_next() == str(number)
    assert await path._ws_next() == "slow 256"


def drive(awaitable: Any) -> Any:
    """An iterator over what a task sees of an awaitable."""
    return awaitable if isinstance(awaitable, Coroutine) else awaitable.__await__()


@virtual
@every_twin
async def test_what_is_awaited_is_like_a_coroutine(twin: Twin) -> None:
    path = make(twin)
    path._ws_queue.append("a")
    with pytest.raises(StopIteration) as stop:
        drive(path._ws_next()).send(None)
    assert stop.value.value == "a"
    path._ws_queue.append("b")
    awaited = drive(path._ws_next())
    with pytest.raises(StopIteration):
        awaited.send(None)
    with pytest.raises(RuntimeError, match="cannot reuse"):
        awaited.send(None)
    awaited = drive(path._ws_next())
    with pytest.raises(KeyError):
        awaited.throw(KeyError("thrown"))
    for exc in (KeyError, KeyError("thrown")):
        path._ws_streaming = True
        awaited = drive(path._ws_next())
        awaited.send(None)
        with pytest.raises(KeyError):
            awaited.throw(exc)
    awaited = drive(path._ws_next())
    awaited.send(None)
    awaited.close()
    awaited.close()


@virtual
@compiled_twin
async def test_a_wait_that_is_given_up_leaves_nothing(twin: Twin) -> None:
    path = make(twin)
    for end in ("close", "throw", "del"):
        awaited = path._ws_next()
        waiter = awaited.send(None)
        assert waiter is path._ws_receiver
        assert asyncio.isfuture(waiter)
        with pytest.raises(RuntimeError, match="await wasn't used"):
            awaited.send(None)
        if end == "close":
            awaited.close()
        elif end == "throw":
            with pytest.raises(KeyError):
                awaited.throw(KeyError)
        del awaited
        assert path._ws_receiver is None
    with pytest.raises(TypeError):
        path._ws_next().throw("no exception")
    with pytest.raises(TypeError):
        path._ws_next().throw()


# ------------------------------------------------------------------------------------------------------------- sending


def decoded(twin: Twin, path: Any) -> list[Any]:
    """The frames that a fast path wrote; masked if it is a client's."""
    frames: list[Any] = twin.decoder(path._ws_client, 0, -1, -1, False).feed(b"".join(path.transport.data))
    return frames


MESSAGES: list[Any] = [
    "",
    "text",
    "é",
    "x" * 200,
    b"",
    b"bytes",
    bytearray(b"array"),
    memoryview(b"a-view")[::2],
    "y" * LARGE,
    b"z" * LARGE,
    "é" * LARGE,
]


@virtual
@every_twin
@pytest.mark.parametrize("client", [False, True], ids=["server", "client"])
@pytest.mark.parametrize("as_text", [None, False, True])
async def test_what_is_sent(twin: Twin, client: bool, as_text: bool | None) -> None:
    path = make(twin, client=client)
    for message in MESSAGES:
        assert path._ws_send_now(message, as_text) == _readable.SENT
        payload = message.encode() if isinstance(message, str) else bytes(message)
        opcode = 0x1 if (isinstance(message, str) if as_text is None else as_text) else 0x2
        assert decoded(twin, path) == [0x80 | opcode, payload]
        path.transport.data.clear()


@virtual
@every_twin
async def test_what_is_not_sent_at_once(twin: Twin) -> None:
    path = make(twin)
    for message in (["fragments"], {"a": 1}, 5, None):
        assert path._ws_send_now(message, None) == _readable.SLOW
    path._ws_send_lock = asyncio.Lock()
    assert path._ws_send_now("a", None) == _readable.SLOW
    path._ws_send_lock = None
    path._ws_plain = False
    assert path._ws_send_now("a", None) == _readable.SLOW
    path._ws_plain = True
    path._ws_life.continuing = True
    assert path._ws_send_now("a", None) == _readable.SLOW
    path._ws_life.continuing = False
    path._ws_life.sending = Sending.SHUT
    assert path._ws_send_now("a", None) == _readable.SLOW
    assert path.transport.data == []


@virtual
@every_twin
async def test_text_that_cannot_be_encoded(twin: Twin) -> None:
    path = make(twin)
    with pytest.raises(UnicodeEncodeError):
        path._ws_send_now("\ud800", None)
    assert path.transport.data == []


@virtual
@every_twin
async def test_answers_share_a_write(twin: Twin) -> None:
    path = make(twin)
    path._ws_queue.append("waits")
    for number in range(3):
        assert path._ws_send_now(str(number), None) == _readable.SENT
    assert (path.transport.data, path._ws_corked) == ([], 9)
    path._ws_queue.popleft()
    path._ws_send_now("last", None)
    assert (b"".join(path.transport.data), len(path.transport.data), path._ws_corked) == (
        b"\x81\x010\x81\x011\x81\x012\x81\x04last",
        1,
        0,
    )
    await steps(2)
    assert path.asked == ["uncork"]


@virtual
@every_twin
async def test_what_is_held_back_has_a_limit(twin: Twin) -> None:
    path = make(twin)
    path._ws_queue.append("waits")
    for _ in range(10):
        path._ws_send_now("x" * 10000, None)
    assert [len(data) for data in path.transport.data] == [7 * 10004]
    assert path._ws_corked == 3 * 10004


@virtual
@every_twin
async def test_the_backstop_writes(twin: Twin) -> None:
    path = make(twin)
    path._ws_queue.append("waits")
    path._ws_send_now("a", None)
    path._ws_send_now("b", None)
    await steps(2)
    assert path.asked == ["uncork"]
    assert path.transport.data == [b"\x81\x01a\x81\x01b"]
    path._ws_send_now("c", None)
    await steps(2)
    assert path.asked == ["uncork", "uncork"]


@virtual
@every_twin
async def test_a_transport_that_has_enough(twin: Twin) -> None:
    path = make(twin)
    path._ws_queue.append("waits")
    path._ws_send_now("a", None)
    path._ws_write_waiters = deque()
    assert path._ws_send_now("b", None) == _readable.FULL
    assert path._ws_put(b"\x81\x01c", 1) == _readable.FULL
    assert path._ws_send_now("z" * LARGE, None) == _readable.FULL
    assert b"".join(path.transport.data).startswith(b"\x81\x01a\x81\x01b\x81\x01c")


@virtual
@every_twin
async def test_what_is_laid_out_already_is_sent_as_it_is(twin: Twin) -> None:
    path = make(twin)
    encoded = twin.encoded()
    encoded._plain, encoded._size = b"\x81\x01e", 1
    assert path._ws_send_now(encoded, None) == _readable.SENT
    assert path.transport.data == [b"\x81\x01e"]
    path._ws_queue.append("question")
    path._ws_send_now(encoded, None)
    assert (path.transport.data[1:], path._ws_corked) == ([], 3)
    assert (path._ws_messages_sent, path._ws_payload_sent, path._ws_saved_sent) == (2, 2, 0)


@virtual
@every_twin
@pytest.mark.parametrize(
    ("options", "text", "plain"),
    [
        ({"_ws_client": True}, None, b"\x81\x00"),
        ({"_ws_pack": lambda head, payload: (head, payload)}, None, b"\x81\x00"),
        ({"_ws_send_lock": object()}, None, b"\x81\x00"),
        ({}, True, b"\x81\x00"),
        ({}, None, None),
    ],
    ids=["masked", "compressed", "behind fragments", "as text", "not laid out"],
)
async def test_what_was_laid_out_for_others_only(twin: Twin, options: Any, text: Any, plain: Any) -> None:
    path = make(twin)
    for name, value in options.items():
        setattr(path, name, value)
    encoded = twin.encoded()
    encoded._plain, encoded._size = plain, 0
    assert path._ws_send_now(encoded, text) == _readable.SLOW
    assert (path.transport.data, path._ws_messages_sent) == ([], 0)


@virtual
@every_twin
@pytest.mark.parametrize("closing", [False, True])
async def test_nothing_is_written_to_what_is_over(twin: Twin, closing: bool) -> None:
    path = make(twin)
    path.transport.closing = closing
    path._ws_lost = not closing
    assert path._ws_send_now("a", None) == _readable.SENT
    assert path._ws_put(b"\x81\x01c", 1) == _readable.SENT
    assert path.transport.data == []


@virtual
@every_twin
async def test_failures_of_the_transport_are_raised(twin: Twin) -> None:
    path = make(twin)
    path.transport.fails = True
    for method, *arguments in (
        ("_ws_send_now", "a", None),
        ("_ws_put", b"\x81\x00", 0),
        ("_ws_send_now", "z" * LARGE, None),
    ):
        with pytest.raises(RuntimeError, match="write failed"):
            getattr(path, method)(*arguments)


# ---------------------------------------------------------------------------------------------------------- both alike

OPERATIONS = st.one_of(
    st.tuples(
        st.just("read"),
        st.lists(
            st.sampled_from([text("a"), text("é"), text("x" * 300), wire.frame(0x9, b"p", mask=MASK)]), max_size=4
        ),
    ),
    st.tuples(st.just("take"), st.just(None)),
    st.tuples(st.just("send"), st.sampled_from(MESSAGES)),
    st.tuples(st.just("put"), st.sampled_from([b"\x81\x01p", b"\x82" + b"q" * 200])),
    st.tuples(
        st.sampled_from(["write", "write last"]),
        st.sampled_from([b"", b"\x89\x00", b"HTTP/1.1 101 Switching Protocols"]),
    ),
    st.tuples(st.just("drainers"), st.booleans()),
    st.tuples(st.just("uncork"), st.just(None)),
)


def apply(path: Any, operation: str, argument: Any) -> object:
    """What a fast path answers to one operation."""
    if operation == "read":
        read(path, b"".join(argument))
    elif operation == "take" and path._ws_queue:
        with contextlib.suppress(StopIteration):
            drive(path._ws_next()).send(None)
        path._ws_burst = 0
    elif operation == "send":
        return path._ws_send_now(argument, None)
    elif operation == "put":
        return path._ws_put(argument, 300)
    elif operation == "write":
        return path._ws_write_out(argument)
    elif operation == "write last":
        return path._ws_write_last(argument)
    elif operation == "drainers":
        path._ws_write_waiters = deque() if argument else None
    elif operation == "uncork":
        return path._ws_take_corked()
    return None


@given(st.lists(OPERATIONS, max_size=30))
def test_twins_do_the_same(plan: list[tuple[str, Any]]) -> None:
    async def compare() -> None:
        paths = [make(twin) for twin in PATHS.values()]
        for operation, argument in plan:
            answers = [apply(path, operation, argument) for path in paths]
            assert answers.count(answers[0]) == len(answers)
            for look in (
                lambda p: list(p._ws_queue),
                lambda p: p._ws_corked,
                lambda p: b"".join(p.transport.data),
                lambda p: p.asked,
            ):
                seen = [look(path) for path in paths]
                assert seen.count(seen[0]) == len(seen)

    asyncio.run(compare())


@virtual
@every_twin
async def test_without_a_turn_of_the_loop_nothing_is_held_back(twin: Twin) -> None:
    class Loop:
        def call_soon(self, *arguments: object) -> None:
            raise MemoryError

    path = make(twin)
    path.loop = Loop()
    path._ws_queue.append("question")
    for _ in range(2):
        path._ws_send_now("a", None)
    assert (path.transport.data, path._ws_corked) == ([b"\x81\x01a", b"\x81\x01a"], 0)


@virtual
@every_twin
async def test_compressing_that_fails_ends_the_connection(twin: Twin) -> None:
    """What was compressed, and what refers to it, is out of step."""

    def fail(head: int, payload: bytes) -> tuple[int, bytes]:
        raise LookupError

    path = make(twin)
    path._ws_pack = fail
    with pytest.raises(LookupError):
        path._ws_send_now("text", None)
    assert "tear" in path.asked or path._ws_torn
    assert path.transport.data == []


# ---------------------------------------------------------------------------------------------------------- compiled


@virtual
@compiled_twin
@pytest.mark.parametrize(("name", "value"), [("_ws_queue", []), ("_ws_receiver", 1), ("_ws_buffer", bytearray(3))])
async def test_what_the_compiled_twin_relies_on_has_the_right_type(twin: Twin, name: str, value: object) -> None:
    with pytest.raises(TypeError, match="expected"):
        setattr(make(twin), name, value)


@virtual
@compiled_twin
async def test_a_decoder_that_is_not_compiled_takes_the_detour(twin: Twin) -> None:
    path = make(twin)
    path._ws_decoder = PATHS["python"].decoder(True, 0, -1, -1, True)
    assert path._ws_decoder is None
    read(path, text("a"))
    assert path.asked == [f"data {text('a').hex()}"]


@virtual
@compiled_twin
async def test_bytes_that_cannot_have_been_read(twin: Twin) -> None:
    path = make(twin)
    for size in (-1, 2**18 + 1):
        with pytest.raises(ValueError, match="can't have been read"):
            path.buffer_updated(size)
    with pytest.raises(TypeError):
        path.buffer_updated("x")


@virtual
@every_twin
async def test_nothing_is_written_once_the_connection_is_over(twin: Twin) -> None:
    for lost, closing in ((True, False), (False, True)):
        path = make(twin)
        path._ws_write_out(b"before")
        path._ws_lost, path.transport.closing = lost, closing
        path._ws_write_out(b"after")
        assert path.transport.data == [b"before"]
        assert path._ws_bytes_sent == 6


@virtual
@compiled_twin
async def test_only_bytes_are_written(twin: Twin) -> None:
    with pytest.raises(TypeError, match="what is written must be bytes, not str"):
        make(twin)._ws_write_out("text")
    with pytest.raises(TypeError):
        make(twin)._ws_write_last("text")


@virtual
@compiled_twin
async def test_a_compiled_fast_path_that_nobody_prepared(twin: Twin) -> None:
    path = twin.path()
    assert (path._ws_queue, path._ws_decoder, path._ws_receiver, path._ws_write_waiters) == (None, None, None, None)
    with pytest.raises(RuntimeError, match="_ws_buffer isn't set"):
        path.get_buffer(-1)
    with pytest.raises(ValueError, match="can't have been read"):
        path.buffer_updated(1)
    assert path._ws_send_now("a", None) == _readable.SLOW
    assert path._ws_take_corked() == b""
    assert path._ws_deliver() is None
    with pytest.raises(AttributeError):
        await path._ws_next()
    with pytest.raises(TypeError):
        twin.messages("no path")


# Whatever asks an object for its buffer may run Python, from 3.12 on.
buffers_run_python = pytest.mark.skipif(sys.version_info < (3, 12), reason="classes in Python have no buffers")


@virtual
@compiled_twin
@buffers_run_python
async def test_a_buffer_that_takes_the_decoder_away(twin: Twin) -> None:
    class Data:
        def __buffer__(self, flags: int) -> memoryview:
            path._ws_decoder = None
            return memoryview(text("a"))

    path = make(twin)
    with pytest.raises(RuntimeError, match="_ws_decoder or _ws_queue isn't set"):
        path.data_received(Data())
    # Another decoder may be there by then.
    path = make(twin)
    meter(path, 0, 0)
    decoder = path._ws_metered

    class Swaps:
        def __buffer__(self, flags: int) -> memoryview:
            path._ws_decoder, path._ws_metered = decoder, None
            return memoryview(text("a"))

    path.data_received(Swaps())
    assert (list(path._ws_queue), path.asked) == (["a"], [])


@virtual
@compiled_twin
@buffers_run_python
async def test_a_buffer_that_ends_the_connection(twin: Twin) -> None:
    class Data(bytearray):
        def __buffer__(self, flags: int) -> memoryview:
            path._ws_plain = False
            return super().__buffer__(flags)

    for pack in (None, lambda head, payload: (head, payload)):
        path = make(twin)
        path._ws_pack = pack
        assert path._ws_send_now(Data(b"a"), None) == _readable.SLOW
        assert path.transport.data == []


@virtual
@compiled_twin
async def test_packing_that_ends_the_connection(twin: Twin) -> None:
    class Head:
        def __index__(self) -> int:
            path._ws_plain = False
            return 0x82

    path = make(twin)
    path._ws_pack = lambda head, payload: (Head(), payload)
    assert path._ws_send_now(b"a", None) == _readable.SLOW
    assert path.transport.data == []


@virtual
@every_twin
async def test_a_fast_path_in_a_cycle_is_collected(twin: Twin) -> None:
    path = make(twin)
    path.protocol.path = path
    path._ws_receiver = twin.waiter(path.loop)
    seen = weakref.ref(path)
    del path
    gc.collect()
    assert seen() is None
