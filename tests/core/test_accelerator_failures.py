"""What the compiled twin does with arguments that make no sense, and when what it calls fails; and without memory.

The readable twin leaves all this to the interpreter.
"""

from __future__ import annotations

import asyncio
import contextvars
import importlib.util
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from _kit import virtual
from core._twins import TWINS
from websockets._rules.lifecycle import Sending
from websockets.asyncio._fastpath._readable import SLOW
from websockets.asyncio._internals import PLAIN_LOOPS, RUNNING_TASKS, current_task

# Whether it must be there is for test_accelerator_choice to say.
pytestmark = pytest.mark.skipif("native" not in TWINS, reason="this is about the compiled twin")

native: Any = TWINS.get("native")

# For CPython's own tests: the n-th allocation fails.
FAILING_MEMORY = Path(__file__).with_name("failing_memory.py")


class Odd:
    """Something of which nothing works."""

    def fail(self, *arguments: object) -> Any:
        raise LookupError("no way")

    __eq__ = __bool__ = __index__ = fail
    __hash__ = None  # type: ignore[assignment]


class Transport:
    """A transport that does what a test wants when it is written to."""

    def __init__(self) -> None:
        self.data: list[bytes] = []
        self.on_write: Callable[[], object] | None = None
        self.aborted = 0

    def is_closing(self) -> bool:
        return False

    def abort(self) -> None:
        self.aborted += 1

    def write(self, data: bytes) -> None:
        self.data.append(bytes(data))
        if self.on_write is not None:
            self.on_write()


def broken(*arguments: object) -> Any:
    raise LookupError("no way")


def loaded_again() -> Any:
    """The compiled twin, loaded once more: what it looks up only once, it hasn't looked up yet."""
    spec = importlib.util.find_spec(native.__name__)
    assert spec is not None
    assert spec.loader is not None
    twin = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(twin)
    return twin


def make(twin: Any = native, **attributes: Any) -> Any:
    """The fast path of an open connection of a server; its class has none of the methods that C calls."""

    class Path(twin.FastPath):  # type: ignore[misc]
        pass

    path = Path()
    path.loop = asyncio.get_running_loop()
    path.transport = Transport()
    path.protocol, path._ws_life = object(), twin.SendingHalf()
    path._ws_life.sending = path._ws_may_send = Sending.OPEN
    path._ws_queue = twin.Queue()
    path._ws_buffer = twin.read_buffer(2**16)
    path._ws_decoder = twin.FrameDecoder(False, 0, -1, -1, True)
    path._ws_quick = path._ws_plain = True
    for name, value in attributes.items():
        setattr(path, name, value)
    return path


def hold(path: Any, payload: bytes) -> None:
    """Have a fast path hold a message back."""
    path._ws_hold(native.build_frame(0x82, payload, None), len(payload))


def waiting(*messages: str) -> Any:
    """A queue in which these messages wait."""
    queue = native.Queue()
    for message in messages:
        queue.append(message)
    return queue


MISUSES: dict[str, tuple[Callable[[], object], type[Exception]]] = {
    "decoder: no arguments": (lambda: native.FrameDecoder(), TypeError),
    "decoder: odd bits": (lambda: native.FrameDecoder(True, 0x20, -1, -1, False), ValueError),
    "decoder: odd limit": (lambda: native.FrameDecoder(True, 0, None, -1, False), TypeError),
    "feed: text": (lambda: native.FrameDecoder(True, 0, -1, -1, False).feed("text"), TypeError),
    "mask: short": (lambda: native.apply_mask(b"data", b"abc"), ValueError),
    "mask: text": (lambda: native.apply_mask("data", b"abcd"), TypeError),
    "frame: two arguments": (lambda: native.build_frame(0x81, b""), TypeError),
    "frame: no number": (lambda: native.build_frame("x", b"", None), TypeError),
    "frame: no byte": (lambda: native.build_frame(256, b"", None), ValueError),
    "frame: text": (lambda: native.build_frame(0x81, "text", None), TypeError),
    "frame: short mask": (lambda: native.build_frame(0x81, b"", b"abc"), ValueError),
    "frame: no mask": (lambda: native.build_frame(0x81, b"", 5), TypeError),
    "header: negative": (lambda: native.build_header(0x81, -1), ValueError),
    "buffer: negative": (lambda: native.read_buffer(-1), ValueError),
    "tasks: no dict": (lambda: native.know_tasks(print, ()), TypeError),
    "buffer: text": (lambda: native.read_buffer("all"), TypeError),
    "queue: index": (lambda: native.Queue()[0], IndexError),
    "queue: fragment without a payload": (lambda: native.Queue().add_fragment(0x01), TypeError),
    "queue: fragment without a number": (lambda: native.Queue().add_fragment("x", b""), TypeError),
    "queue: fragment beyond a byte": (lambda: native.Queue().add_fragment(256, b""), TypeError),
    "queue: fragment of text": (lambda: native.Queue().add_fragment(0x01, "x"), TypeError),
    "queue: current": (lambda: setattr(native.Queue(), "current", b""), TypeError),
    "assembly: no arguments": (lambda: native.Assembly(), TypeError),
    "assembly: text": (lambda: native.Assembly(True).add("x"), TypeError),
    "waiter: no loop": (lambda: native.Waiter(), TypeError),
    "waiter: callbacks": (lambda: native.Waiter(None).add_done_callback(), TypeError),
    "waiter: keyword": (lambda: native.Waiter(None).add_done_callback(print, ctx=None), TypeError),
    "waiter: cancel": (lambda: native.Waiter(None).cancel(text=""), TypeError),
    "messages: no path": (lambda: native.Messages(None), TypeError),
}


@pytest.mark.parametrize(("call", "error"), MISUSES.values(), ids=MISUSES)
def test_arguments_that_make_no_sense(call: Callable[[], object], error: type[Exception]) -> None:
    with pytest.raises(error):
        call()


WRONG_CALLS: dict[str, tuple[Callable[[Any], object], type[Exception]]] = {
    "one argument": (lambda path: path._ws_send_now("text"), TypeError),
    "text or not": (lambda path: path._ws_send_now(b"data", Odd()), LookupError),
    "put: text": (lambda path: path._ws_put("text", 4), TypeError),
    "put: no size": (lambda path: path._ws_put(b"\x82\x00"), TypeError),
    "hold: text": (lambda path: path._ws_hold("text", 4), TypeError),
    "hold: odd size": (lambda path: path._ws_hold(b"\x82\x00", None), TypeError),
    "hold: half a header": (lambda path: path._ws_hold(b"\x82", 0), ValueError),
    "hold: no whole header": (lambda path: path._ws_hold(b"\x82\x7f", 0), ValueError),
    "receive": (lambda path: path.data_received("text"), TypeError),
}


@pytest.mark.parametrize(("call", "error"), WRONG_CALLS.values(), ids=WRONG_CALLS)
@virtual
async def test_wrong_arguments_of_a_fast_path(call: Callable[[Any], object], error: type[Exception]) -> None:
    path = make()
    with pytest.raises(error):
        call(path)
    assert path.transport.data == []


# ----------------------------------------------------------------------------------------------------------- what fails


@pytest.mark.parametrize(("drawn", "error"), [(b"short", RuntimeError), (None, RuntimeError)])
def test_masks_are_random_or_none(drawn: object, error: type[Exception], monkeypatch: pytest.MonkeyPatch) -> None:
    native.forget_masks()
    monkeypatch.setattr(os, "urandom", lambda size: drawn)
    with pytest.raises(error, match=r"os.urandom\(\) didn't return what it was asked for"):
        native.new_mask()
    monkeypatch.undo()
    assert len(native.new_mask()) == 4


@virtual
async def test_nothing_is_sent_without_a_mask(monkeypatch: pytest.MonkeyPatch) -> None:
    path = make(_ws_client=True)
    native.forget_masks()
    monkeypatch.setattr(os, "urandom", broken)
    with pytest.raises(LookupError):
        path._ws_send_now("text", None)
    assert path.transport.data == []
    monkeypatch.undo()
    path._ws_send_now("text", None)
    assert len(path.transport.data) == 1


class ClosedLoop:
    """A loop that takes no more calls."""

    def call_soon(self, *arguments: object, context: object = None) -> Any:
        raise LookupError("no way")


ENDINGS = ["wake", "resume", "cancel"]


@pytest.mark.parametrize("ending", ENDINGS)
def test_a_loop_that_is_closed(ending: str) -> None:
    waiter = native.Waiter(ClosedLoop())
    waiter.add_done_callback(print)
    for _ in range(2):
        with pytest.raises(LookupError):
            getattr(waiter, ending)()
        # The task that waits can still be told.
        assert not waiter.done()
        assert not waiter.cancelled()


@pytest.mark.parametrize("attributes", [{"loop": ClosedLoop()}, {}], ids=["closed", "gone"])
@virtual
async def test_what_the_loop_does_not_see_to_is_written_at_once(attributes: dict[str, Any]) -> None:
    path = make(_ws_queue=waiting("a"), **attributes)
    if not attributes:
        del path.loop
    path._ws_send_now("text", None)
    path._ws_send_now("more", None)
    assert path.transport.data == [b"\x81\x04text", b"\x81\x04more"]


def test_callbacks_that_cannot_be_compared() -> None:
    waiter = native.Waiter(None)
    waiter.add_done_callback(Odd())
    with pytest.raises(LookupError):
        waiter.remove_done_callback(print)


def test_a_callback_that_goes_while_it_is_compared() -> None:
    class Going:
        def __eq__(self, other: object) -> bool:
            waiter.add_done_callback(print)
            return True

    waiter = native.Waiter(None)
    waiter.add_done_callback(Going())
    assert waiter.remove_done_callback(id) == 1


async def suspended(path: Any) -> Any:
    """Something that waits for a message of a fast path, in a task; gives the task."""

    async def wait() -> object:
        return await path._ws_next()

    task = asyncio.create_task(wait())
    await asyncio.sleep(0)
    return task


@virtual
async def test_a_loop_that_nobody_knows() -> None:
    """Nothing is resumed inside a read unless it is known that the loop runs nothing else."""
    called: list[object] = []

    class Unhashable:
        __hash__ = None  # type: ignore[assignment]

    class Loop:
        run_until_complete = Unhashable()

        def call_soon(self, callback: object, *arguments: object, context: object) -> None:
            called.append(callback)

    path = make()
    for loop in (Loop(), type("Other", (), {"call_soon": Loop.call_soon})()):
        waiter = path._ws_receiver = native.Waiter(loop)
        waiter.add_done_callback(broken, context=contextvars.copy_context())
        path.data_received(b"\x81\x01a")
    assert called == [broken, broken]


@virtual
async def test_a_loop_that_cannot_tell_its_task() -> None:
    """Then the wait isn't over."""
    twin = loaded_again()
    called: list[object] = []
    twin.know_plain_loops(PLAIN_LOOPS)
    path = make(twin)
    waiter = path._ws_receiver = twin.Waiter(path.loop)
    waiter.add_done_callback(called.append, context=contextvars.copy_context())
    twin.know_tasks(broken, {})
    with pytest.raises(LookupError, match="no way"):
        path.data_received(b"\x81\x01a")
    assert called == []
    assert not waiter.done()


@virtual
async def test_tasks_that_nobody_told_of() -> None:
    """Then the wait is over in the next turn of the loop."""
    twin = loaded_again()
    called: list[object] = []
    twin.know_plain_loops(PLAIN_LOOPS)
    path = make(twin)
    waiter = path._ws_receiver = twin.Waiter(path.loop)
    waiter.add_done_callback(called.append, context=contextvars.copy_context())
    path.data_received(b"\x81\x01a")
    assert called == []
    await asyncio.sleep(0)
    assert called == [waiter]


@virtual
async def test_a_task_that_fails_in_a_read() -> None:
    """An exception of a callback goes to the caller that read."""
    twin = loaded_again()
    twin.know_plain_loops(PLAIN_LOOPS)
    twin.know_tasks(current_task, RUNNING_TASKS)
    path = make(twin)
    waiter = twin.Waiter(path.loop)
    waiter.add_done_callback(broken, context=contextvars.copy_context())
    path._ws_receiver = waiter
    raised: list[LookupError] = []

    def read() -> None:
        try:
            path.data_received(b"\x81\x01a")
        except LookupError as exc:
            raised.append(exc)

    path.loop.call_soon(read)
    await asyncio.sleep(0)
    assert len(raised) == 1
    assert list(path._ws_queue) == ["a"]


METERED: dict[str, Any] = {
    "_ws_decoder": None,
    "_ws_metered": native and native.FrameDecoder(False, 0, -1, -1, True),
}

CALLED: dict[str, tuple[dict[str, Any], Callable[[Any], Any]]] = {
    "_ws_pause_if_full": ({"_ws_high": 0}, lambda path: path.data_received(b"\x81\x01a")),
    "_ws_receive_rest": ({}, lambda path: path.data_received(b"\x89\x00")),
    "_ws_receive_data": ({"_ws_decoder": None}, lambda path: path.data_received(b"\x89\x00")),
    "data_received": ({"_ws_decoder": None}, lambda path: path.buffer_updated(2)),
    "_ws_look": (METERED, lambda path: path.data_received(b"\x81\x01a")),
    "_ws_drained": ({"_ws_queue": ("a",), "_ws_reading_paused": True}, lambda path: next(path._ws_next().__await__())),
    "_ws_receive_slowly": ({"_ws_reading_paused": True}, lambda path: next(path._ws_next().__await__())),
    "_ws_write_pieces": ({}, lambda path: path._ws_send_now(bytes(2**18), None)),
    "_ws_pack": ({}, lambda path: path._ws_send_now("text", None)),
}


@pytest.mark.parametrize("name", CALLED)
@virtual
async def test_what_the_class_raises_is_raised(name: str) -> None:
    attributes, call = CALLED[name]
    path = make()
    for key, value in attributes.items():
        setattr(path, key, waiting(*value) if key == "_ws_queue" else value)
    if name == "_ws_pack":
        path._ws_pack = broken
    else:
        setattr(type(path), name, broken)
    with pytest.raises(LookupError):
        call(path)
    assert path.transport.data == []


@pytest.mark.parametrize("packed", [None, (0x81,), (0x81, "text")])
@virtual
async def test_what_compresses_must_give_a_frame(packed: object) -> None:
    path = make(_ws_pack=lambda head, data: packed)
    with pytest.raises(TypeError, match="^_ws_pack must return"):
        path._ws_send_now("text", None)
    assert path.transport.data == []


@virtual
async def test_what_compresses_must_give_a_number() -> None:
    path = make(_ws_pack=lambda head, data: ("head", b"data"))
    with pytest.raises(TypeError):
        path._ws_send_now("text", None)
    assert path.transport.data == []


@virtual
async def test_a_life_that_does_not_tell() -> None:
    """Nothing is sent at once; the slow path will complain, if there is a reason."""
    for life in (object(), native.SendingHalf()):
        path = make(_ws_life=life)
        assert path._ws_send_now("text", None) == SLOW
    assert path.transport.data == []


@virtual
async def test_a_transport_that_fails() -> None:
    """What was held back counts as sent: without it, nothing may follow."""
    path = make(_ws_queue=waiting("a"))
    path.transport.on_write = broken
    hold(path, bytes(2**16 - 4))
    with pytest.raises(LookupError):
        hold(path, b"y")
    assert path.transport.aborted == 1
    path.transport.on_write = None
    written = len(path.transport.data)
    path._ws_queue.popleft()
    path._ws_put(b"\x82\x00", 0)
    assert (path.transport.aborted, len(path.transport.data)) == (2, written)
    path.transport.is_closing = broken
    with pytest.raises(LookupError):
        path._ws_put(b"\x82\x00", 0)


@pytest.mark.parametrize(
    ("error", "aborted"), [(RuntimeError, 0), (MemoryError, 1), (OSError, 1), (KeyboardInterrupt, 1)]
)
@virtual
async def test_a_transport_that_refuses_a_frame(error: type[BaseException], aborted: int) -> None:
    """With RuntimeError transports say that they took nothing; after anything else, a part of the frame may be out."""

    def fail() -> None:
        raise error

    path = make()
    path.transport.on_write = fail
    with pytest.raises(error):
        path._ws_send_now("text", None)
    assert (path.transport.aborted, path._ws_torn) == (aborted, bool(aborted))
    path.transport.on_write = None
    path.transport.data.clear()
    if not aborted:
        path._ws_send_now("more", None)
        assert path.transport.data == [b"\x81\x04more"]


@virtual
async def test_a_compressed_message_that_cannot_be_sent() -> None:
    """Those that follow may refer to it: the connection ends, even if the transport took nothing."""
    path = make(_ws_pack=lambda head, payload: (head, payload))

    def refuse() -> None:
        raise RuntimeError

    path.transport.on_write = refuse
    with pytest.raises(RuntimeError):
        path._ws_send_now("text", None)
    assert (path.transport.aborted, path._ws_torn) == (1, True)


@virtual
async def test_a_transport_that_reads_while_it_is_written_to() -> None:
    """As one in memory might; what it brings isn't overlooked."""
    path = make()
    hold(path, b"answer")
    path.transport.on_write = lambda: path._ws_queue.append("question")

    async def slowly(self: Any, iterating: bool) -> Any:
        return f"slowly {self._ws_queue.popleft()}"

    type(path)._ws_receive_slowly = slowly
    assert await path._ws_next() == "slowly question"
    assert path.transport.data == [b"\x82\x06answer"]


@pytest.mark.parametrize("end", ["close", "throw"])
@virtual
async def test_what_is_awaited_is_closed_by_what_it_calls(end: str) -> None:
    """As out of a finaliser: what was closed stays so."""
    path = make(_ws_reading_paused=True)

    def slowly(self: Any, iterating: bool) -> Any:
        awaited.close()
        return iter([1])

    type(path)._ws_receive_slowly = slowly
    awaited = path._ws_next()
    with pytest.raises(RuntimeError, match="cannot reuse what was awaited"):
        awaited.send(None)
    if end == "close":
        awaited.close()
    else:
        with pytest.raises(ValueError, match="why"):
            awaited.throw(ValueError("why"))


@virtual
async def test_a_transport_that_closes_what_is_awaited() -> None:
    """Nobody waits then; the next task may wait."""
    path = make()
    hold(path, b"answer")
    awaited = path._ws_next()
    path.transport.on_write = lambda: awaited.close()
    with pytest.raises(RuntimeError, match="cannot reuse what was awaited"):
        awaited.send(None)
    assert path._ws_receiver is None
    assert path.transport.data == [b"\x82\x06answer"]


@virtual
async def test_a_decoder_that_is_fed_while_it_is_fed() -> None:
    """By what inflates a message: it is refused, and nothing is mixed up."""
    refused: list[str] = []

    def inflate(head: int, payload: bytes) -> str:
        try:
            path.data_received(b"\x81\x05inner")
        except RuntimeError as exc:
            refused.append(str(exc))
        return f"inflated {payload.decode()}"

    path = make(_ws_decoder=native.FrameDecoder(False, 0x40, -1, -1, True), _ws_inflate=inflate, _ws_high=9)
    path.data_received(b"\xc1\x01a" + b"\x81\x01b")
    assert [path._ws_queue.popleft() for _ in range(2)] == ["inflated a", "b"]
    assert refused == ["the decoder is being fed already"]


@virtual
async def test_a_prepared_message_without_its_frame() -> None:
    path = make(_ws_queue=waiting("a"))
    message = native.Encoded()
    message._plain = b""
    assert path._ws_send_now(message, None) != SLOW
    assert path._ws_send_now("text", None) != SLOW
    assert path.transport.data == [b"\x81\x04text"]


@virtual
async def test_compressing_that_ends_the_connection() -> None:
    def pack(head: int, payload: bytes) -> tuple[int, bytes]:
        path._ws_life.sending = Sending.SHUT
        return head, payload

    path = make(_ws_pack=pack)
    assert path._ws_send_now("text", None) == SLOW
    assert path.transport.data == []


# -------------------------------------------------------------------------------------------------------- out of memory


def test_out_of_memory() -> None:
    """Whichever allocation fails: MemoryError or nothing, no crash, and everything works afterwards."""
    pytest.importorskip("_testcapi", reason="this interpreter can't be told to fail")
    environment = {name: value for name, value in os.environ.items() if not name.startswith("COV")}
    done = subprocess.run(
        [sys.executable, "-X", "faulthandler", str(FAILING_MEMORY)],
        env={**environment, "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    survived = [int(line.rpartition(": ")[2]) for line in done.stdout.splitlines()]
    # Some cases find all that they need on the interpreter's own lists of what was let go of.
    assert len(survived) > 40
    assert sum(survived) > 100
