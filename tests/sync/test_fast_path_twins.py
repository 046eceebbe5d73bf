"""The path of a message between a socket and a thread, in both of its twins: what it does is written down and compared.

The rest of a connection is a record of what it was asked for.
"""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable
from typing import Any, NamedTuple

import pytest

from _kit import wire
from core._twins import TWINS
from websockets._rules.lifecycle import Sending
from websockets.sync._fastpath import _readable
from websockets.sync._roles import Role
from websockets.sync._system import DONTWAIT


class Twin(NamedTuple):
    """One twin of everything that the path needs."""

    path: Any
    queue: Any
    decoder: Any
    half: Any


PATHS = {
    name: Twin(
        _readable.SocketPath if name == "python" else twin.SocketPath, twin.Queue, twin.FrameDecoder, twin.SendingHalf
    )
    for name, twin in TWINS.items()
}
if "native" in TWINS:
    # The library tells only the twin that it uses.
    TWINS["native"].know_roles(Role.FREE, Role.TAKEN, DONTWAIT)

# Whether the compiled twin must be there is for tests/core/test_accelerator_choice.py to say.
absent = pytest.mark.skipif("native" not in PATHS, reason="the compiled twin wasn't built")
every_twin = pytest.mark.parametrize("twin", PATHS.values(), ids=PATHS)
compiled_twin = pytest.mark.parametrize("twin", [pytest.param(PATHS.get("native"), id="native", marks=absent)])


class Interrupted(BaseException):
    """What a signal handler raises."""


class Lock:
    """A lock that writes down who takes it, and fails when it is told to.

    Attributes:
        entering, leaving: numbers of the calls that raise an exception; the lock is left all the same.
    """

    def __init__(self, record: list[Any]) -> None:
        self.record = record
        self.held = self.entered = self.left = 0
        self.entering: set[int] = set()
        self.leaving: set[int] = set()

    def __enter__(self) -> None:
        self.entered += 1
        if self.entered in self.entering:
            raise Interrupted
        self.held += 1

    def __exit__(self, *exc_info: object) -> None:
        self.held -= 1
        assert self.held >= 0
        self.left += 1
        if self.left in self.leaving:
            raise Interrupted


class Wire:
    """The calls of a socket: what each does is an entry of a list."""

    def __init__(self, path: Any) -> None:
        self.path = path
        self.reads: list[Any] = []
        self.writes: list[Any] = []

    def kernel_receive(self, size: int) -> Any:
        assert not self.path.lock.held
        assert self.path._ws_reader is Role.TAKEN
        assert self.path._ws_reading_thread == self.path._ws_receiver == threading.get_ident()
        return self.step(self.reads, size)

    def kernel_send(self, frame: bytes, flags: int) -> Any:
        assert not self.path.lock.held
        assert flags == DONTWAIT
        assert self.path._ws_writer is Role.TAKEN
        assert self.path._ws_writing_thread == threading.get_ident()
        assert self.path._ws_bypassing == len(frame)
        return self.step(self.writes, frame)

    def step(self, steps: list[Any], argument: Any) -> Any:
        self.path.record.append(argument)
        found = steps.pop(0)
        if isinstance(found, BaseException):
            raise found
        return found(argument) if callable(found) else found


class Channel:
    """TLS that decrypts as it is told."""

    def __init__(self, plaintext: Any) -> None:
        self.plaintext = plaintext

    def decrypt(self, data: bytes) -> Any:
        if isinstance(self.plaintext, BaseException):
            raise self.plaintext
        return self.plaintext

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Channel)

    __hash__ = None  # type: ignore[assignment]


# What the methods of a connection return.
RESULTS = {"_ws_receive": "slowly", "_ws_go_on": "later", "_ws_read_nothing": "nothing", "_ws_encrypt": b"ciphertext"}
METHODS = (
    *("_ws_list", "_ws_left_reading", "_ws_give_up_turn", "_ws_received", "_ws_receive_others", "_ws_receive_data"),
    *("_ws_keep_message", "_ws_receive_channel", "_ws_after_send", "_ws_interrupted", *RESULTS),
)


def make(twin: Twin, *, masked: bool = True) -> Any:
    """A path on an open connection of a server."""

    class Path(twin.path):  # type: ignore[misc, name-defined]
        recv_bufsize = 65536

        def __init__(self) -> None:
            self.record: list[Any] = []
            self.errors: dict[str, BaseException] = {}
            self.results: dict[str, Any] = dict(RESULTS)

    def method(name: str) -> Any:
        def call(self: Any, *arguments: Any) -> Any:
            shown = [type(each) if isinstance(each, BaseException) else each for each in arguments]
            self.record.append((name, *shown))
            if name in self.errors:
                raise self.errors[name]
            return self.results.get(name)

        return call

    for name in METHODS:
        setattr(Path, name, method(name))
    path = Path()
    path.lock = path._ws_lock = Lock(path.record)
    path._ws_ident = threading.get_ident
    path.wire = path._ws_wire = Wire(path)
    path._ws_queue = twin.queue()
    path._ws_decoder = twin.decoder(masked, 0, -1, 100_000, True)
    path._ws_life, path._ws_may_send = twin.half(), Sending.OPEN
    path._ws_life.sending, path._ws_life.continuing = Sending.OPEN, False
    path._ws_listed = path._ws_plain = True
    return path


def state(path: Any) -> list[Any]:
    """What is left of a call."""
    names = ["reader", "writer", "reading_thread", "writing_thread", "receiver", "bypassing", "bypassed", "epoch"]
    names += ("bytes_received", "bytes_sent", "messages_sent", "payload_sent")
    return [path.lock.held, len(path._ws_queue), *(getattr(path, f"_ws_{name}") for name in names)]


TEXT = wire.text("text", mask=b"abcd")
PING = wire.ping(b"ping", mask=b"abcd")


def set_all(path: Any, **attributes: Any) -> Any:
    for name, value in attributes.items():
        setattr(path, f"_ws_{name}", value)
    return path


def waiting(path: Any, *items: Any, **attributes: Any) -> Any:
    for item in items:
        path._ws_queue.append(item)
    return set_all(path, **attributes)


def reading(path: Any, *reads: Any, **attributes: Any) -> Any:
    path.wire.reads += reads
    return set_all(path, **attributes)


def then(change: Callable[[Any], object], result: Any) -> Callable[[Any], Callable[[Any], Any]]:
    """A call of a socket in which something else changes the connection."""

    def bind(path: Any) -> Callable[[Any], Any]:
        def call(argument: Any) -> Any:
            change(path)
            return len(argument) if result is None else result

        return call

    return bind


RECEIVING: dict[str, Callable[[Any], object]] = {
    "a text waits": lambda path: waiting(path, "a", "b"),
    "bytes wait": lambda path: waiting(path, b"a"),
    "a message waits, and nobody looks": lambda path: waiting(path, "a", listed=False),
    "a message waits, and looking fails": lambda path: (
        waiting(path, "a", listed=False),
        path.errors.update(_ws_list=Interrupted()),
    ),
    "a message waits, and a signal handler takes it": lambda path: (
        waiting(path, "a", listed=False),
        set_all(path, list=path._ws_queue.popleft),
    ),
    "a message waits, and a signal handler begins to receive": lambda path: (
        waiting(path, "a", listed=False),
        set_all(path, list=lambda: set_all(path, receiver=5)),
    ),
    "fragments wait": lambda path: waiting(path, object()),
    "a second receiver": lambda path: waiting(path, "a", receiver=5),
    "fragments are read": lambda path: waiting(path, "a", stream=object()),
    "no decoder": lambda path: waiting(path, "a", decoder=None),
    "somebody else reads": lambda path: set_all(path, reader=Role.TAKEN),
    "the steward watches": lambda path: reading(path, TEXT, reader=Role.WATCHED),
    "no call of the kernel": lambda path: setattr(path.wire, "kernel_receive", None),
    "no number of the thread": lambda path: set_all(path, ident=lambda: 1 / 0),
    "one message": lambda path: reading(path, TEXT),
    "several messages": lambda path: reading(path, TEXT * 3),
    "one message, and nobody looks": lambda path: reading(path, TEXT, listed=False),
    "one message, and somebody waits": lambda path: reading(path, TEXT, waiting=1),
    "one message, and the end": lambda path: reading(path, TEXT, lost=True),
    "leaving fails": lambda path: (
        reading(path, TEXT, listed=False),
        path.errors.update(_ws_left_reading=Interrupted()),
    ),
    "a part": lambda path: reading(path, TEXT[:3]),
    "a ping": lambda path: reading(path, PING),
    "a ping fails": lambda path: (reading(path, PING), path.errors.update(_ws_receive_others=Interrupted())),
    "a refused frame": lambda path: reading(path, b"\x83\x80abcd"),
    "a part of a frame, and others": lambda path: reading(path, PING + TEXT[:3]),
    "the end of the stream": lambda path: reading(path, b""),
    "an error": lambda path: reading(path, OSError()),
    "an interruption": lambda path: reading(path, Interrupted()),
    "no memory for what was read": lambda path: reading(path, MemoryError()),
    "another decoder": lambda path: reading(path, then(lambda path: set_all(path, decoder=None), TEXT)(path)),
    "another decoder fails": lambda path: (
        reading(path, then(lambda path: set_all(path, decoder=None), TEXT)(path)),
        path.errors.update(_ws_received=Interrupted()),
    ),
    "ciphertext": lambda path: reading(path, b"???", channel=Channel(TEXT)),
    "ciphertext of a part": lambda path: reading(path, b"???", channel=Channel(b"")),
    "an alert": lambda path: reading(path, b"???", channel=Channel(None)),
    "an alert fails": lambda path: (
        reading(path, b"???", channel=Channel(None)),
        path.errors.update(_ws_receive_channel=Interrupted()),
    ),
    "ciphertext fails": lambda path: reading(path, b"???", channel=Channel(Interrupted())),
    "the lock isn't to be had": lambda path: path.lock.entering.add(1),
    "an interruption behind the lock": lambda path: (reading(path), path.lock.leaving.add(1)),
    "an interruption behind the queue": lambda path: (waiting(path, "a"), path.lock.leaving.add(1)),
    "an interruption behind the queue, and another": lambda path: (
        waiting(path, "a"),
        path.lock.leaving.add(1),
        path.errors.update(_ws_keep_message=Interrupted()),
    ),
    "an interruption behind the last lock": lambda path: (reading(path, TEXT), path.lock.leaving.add(2)),
    "giving up fails": lambda path: (
        reading(path, Interrupted()),
        path.errors.update(_ws_give_up_turn=Interrupted()),
    ),
}


def outcome(act: Callable[[], Any]) -> Any:
    try:
        return act()
    except BaseException as exc:
        return type(exc)


def both(act: Callable[[Any], Any], prepare: Callable[[Any], object]) -> list[Any]:
    """Do something with each twin; return what came of it."""
    found = []
    for twin in PATHS.values():
        path = make(twin)
        prepare(path)
        found.append((outcome(functools.partial(act, path)), path.record, state(path)))
    return found


@pytest.mark.parametrize("timeout", [None, 1.5])
@pytest.mark.parametrize("prepare", RECEIVING.values(), ids=RECEIVING)
def test_receiving(prepare: Callable[[Any], object], timeout: float | None) -> None:
    first, *others = both(lambda path: path._ws_next(timeout), prepare)
    assert all(other == first for other in others)
    # Nobody keeps the lock, or the role of the reader without a reason.
    assert first[2][0] == 0


@every_twin
@pytest.mark.parametrize("read", [False, True])
def test_a_message_that_cannot_be_returned(twin: Twin, read: bool) -> None:
    """It isn't lost."""
    path = make(twin)
    if read:
        path.wire.reads.append(TEXT)
    else:
        path._ws_queue.append("text")
    path.lock.leaving.add(2 if read else 1)
    with pytest.raises(Interrupted):
        path._ws_next_message  # noqa: B018
    assert ("_ws_keep_message", "text") in path.record
    assert path._ws_receiver == 0


@every_twin
def test_what_is_received(twin: Twin) -> None:
    path = make(twin)
    path.wire.reads += [TEXT * 2, wire.binary(b"bytes", mask=b"abcd"), TEXT + PING, wire.text("é" * 9, mask=b"abcd")]
    assert [path._ws_next(None) for _ in range(4)] == ["text", "text", b"bytes", "later"]
    path._ws_receiver = 0
    assert path._ws_next(None) == "text"
    # A message that arrives with something else stays in the queue until that is done.
    assert [entry[0] for entry in path.record if isinstance(entry, tuple)] == ["_ws_receive_others", "_ws_go_on"]
    assert path._ws_next(None) == "é" * 9
    assert path._ws_bytes_received == 3 * len(TEXT) + len(PING) + 11 + 24


@compiled_twin
def test_a_crowd_of_frames(twin: Twin) -> None:
    """The rest of a read is processed by slices."""
    path = make(twin)
    path.wire.reads.append(PING * 501 + TEXT)
    assert path._ws_next(None) == "later"
    name, frames, rest = path.record[1]
    assert (name, len(frames), rest) == ("_ws_receive_others", 1000, PING + TEXT)


@compiled_twin
def test_a_read_that_is_no_bytes(twin: Twin) -> None:
    path = make(twin)
    path.wire.reads.append(bytearray(TEXT))
    assert path._ws_next(None) == "nothing"
    assert path.record[1:] == [("_ws_read_nothing", bytearray(TEXT), None, None)]


@compiled_twin
def test_an_interruption_before_what_was_read_is_processed(twin: Twin) -> None:
    """It isn't lost."""
    path = make(twin)
    path.wire.reads.append(TEXT)
    path.lock.entering |= {2, 3, 4}
    with pytest.raises(Interrupted):
        path._ws_next(None)
    path._ws_receiver = 0
    assert path._ws_next(None) == "text"


@compiled_twin
def test_a_lock_that_is_never_to_be_had(twin: Twin) -> None:
    path = make(twin)
    path.wire.reads.append(TEXT)
    path.wire.writes.append(len)
    path.lock.entering |= {*range(2, 100)}
    with pytest.raises(Interrupted):
        path._ws_next(None)
    # What was read can't be processed.
    assert ("_ws_interrupted", Interrupted) in path.record
    assert (path._ws_broken, path._ws_receiver, path._ws_reader) == (True, 0, Role.FREE)
    path = make(twin)
    path.wire.writes.append(len)
    path.lock.entering |= {*range(2, 100)}
    with pytest.raises(Interrupted):
        path._ws_send_now("x")
    assert path.record[-1][0] == "_ws_after_send"


SENDING: dict[str, Callable[[Any], object]] = {
    "all": lambda path: path.wire.writes.append(len),
    "a part": lambda path: path.wire.writes.append(1),
    "nothing": lambda path: path.wire.writes.append(0),
    "no room": lambda path: path.wire.writes.append(BlockingIOError()),
    "an error": lambda path: path.wire.writes.append(BrokenPipeError()),
    "an interruption": lambda path: path.wire.writes.append(Interrupted()),
    "no memory for the number": lambda path: path.wire.writes.append(MemoryError()),
    "going on fails": lambda path: (path.wire.writes.append(1), path.errors.update(_ws_after_send=LookupError())),
    "going on fails, too": lambda path: (
        path.wire.writes.append(Interrupted()),
        path.errors.update(_ws_after_send=Interrupted()),
    ),
    "something waits": lambda path: set_all(path, owing=True),
    "somebody writes": lambda path: set_all(path, writer=Role.TAKEN),
    "the steward watches": lambda path: set_all(path, writer=Role.WATCHED),
    "an extension": lambda path: set_all(path, plain=False),
    "no call of the kernel": lambda path: setattr(path.wire, "kernel_send", None),
    "a closed connection": lambda path: setattr(path._ws_life, "sending", Sending.SHUT),
    "fragments": lambda path: setattr(path._ws_life, "continuing", True),
    "something waits meanwhile": lambda path: path.wire.writes.append(
        then(lambda path: set_all(path, owing=True), None)(path)
    ),
    "TLS": lambda path: (set_all(path, channel=object()), path.wire.writes.append(len)),
    "TLS fails": lambda path: (set_all(path, channel=object()), path.errors.update(_ws_encrypt=Interrupted())),
    "TLS, a part": lambda path: (set_all(path, channel=object()), path.wire.writes.append(5)),
    "the lock isn't to be had": lambda path: path.lock.entering.add(1),
    "an interruption behind the lock": lambda path: path.lock.leaving.add(1),
    "an interruption behind the lock, and no room": lambda path: (
        set_all(path, owing=True),
        path.lock.leaving.add(1),
    ),
    "an interruption behind the last lock": lambda path: (path.wire.writes.append(len), path.lock.leaving.add(2)),
}


@pytest.mark.parametrize("message", ["text", b"bytes", "é", ""])
@pytest.mark.parametrize("prepare", SENDING.values(), ids=SENDING)
def test_sending(prepare: Callable[[Any], object], message: Any) -> None:
    first, *others = both(lambda path: path._ws_send_now(message), prepare)
    assert all(other == first for other in others)
    assert first[2][0] == 0


@pytest.mark.parametrize("message", [bytearray(b"x"), memoryview(b"x"), ["x"], 5, type("Text", (str,), {})("x")])
def test_what_takes_another_path(message: Any) -> None:
    for found, record, _ in both(lambda path: path._ws_send_now(message), lambda path: None):
        assert (found, record) == (False, [])


@every_twin
def test_a_message_that_cannot_be_encoded(twin: Twin) -> None:
    path = make(twin)
    with pytest.raises(UnicodeEncodeError):
        path._ws_send_now("\ud800")
    assert path.record == []


@every_twin
@pytest.mark.parametrize("client", [True, False])
def test_what_is_sent(twin: Twin, client: bool) -> None:
    path = make(twin)
    path._ws_client = client
    messages = ["text", b"bytes", "é", "x" * 200, bytes(70_000)]
    path.wire.writes += [len] * len(messages)
    assert all(path._ws_send_now(message) for message in messages)
    rows, rest = wire.parse(b"".join(path.record))
    assert not rest
    assert [row.payload for row in rows] == [m.encode() if isinstance(m, str) else m for m in messages]
    assert (path._ws_messages_sent, path._ws_payload_sent) == (5, 4 + 5 + 2 + 200 + 70_000)
    assert path._ws_bypassed == path._ws_bytes_sent == len(b"".join(path.record))


@every_twin
def test_tls_that_fails(twin: Twin) -> None:
    """Nobody becomes the writer."""
    path = make(twin)
    path._ws_channel = object()
    path.errors["_ws_encrypt"] = Interrupted()
    with pytest.raises(Interrupted):
        path._ws_send_now("x")
    assert (path._ws_writer, path.lock.held, path._ws_messages_sent) == (Role.FREE, 0, 0)


@every_twin
def test_an_interruption_before_the_writer_is_known(twin: Twin) -> None:
    path = make(twin)
    path._ws_channel = object()
    path._ws_ident = lambda: 1 // 0
    with pytest.raises(ZeroDivisionError):
        path._ws_send_now("x")
    assert (path._ws_writer, path.lock.held) == (Role.FREE, 0)


@compiled_twin
def test_what_makes_no_sense(twin: Twin) -> None:
    empty = twin.path()
    with pytest.raises(AttributeError):
        empty._ws_next(None)
    with pytest.raises(AttributeError):
        print(empty._ws_lock)
    empty._ws_plain = True
    with pytest.raises(AttributeError):
        empty._ws_send_now("x")
    with pytest.raises(AttributeError):
        empty._ws_lock = object()
    with pytest.raises(AttributeError):
        del empty._ws_lock
    empty._ws_queue = empty._ws_decoder = "neither"
    assert (empty._ws_queue, empty._ws_decoder) == (None, None)
    with pytest.raises(TypeError):
        TWINS["native"].know_roles(Role.FREE)
    path = make(twin)
    path._ws_channel = Channel("text")
    path.results.update(_ws_encrypt="text")
    with pytest.raises(TypeError):
        path._ws_send_now("x")
    path = make(twin)
    path._ws_channel = Channel("text")
    path.wire.reads.append(b"x")
    assert path._ws_next(None) == "later"
    path._ws_receiver, path._ws_ident = 0, lambda: 0
    with pytest.raises(RuntimeError):
        path._ws_next(None)
    with pytest.raises(RuntimeError):
        path._ws_send_now("x")
    path._ws_ident = lambda: "me"
    with pytest.raises(TypeError):
        path._ws_next(None)
    path._ws_life = object()
    assert path._ws_send_now("x") is False
    del path._ws_wire
    assert path._ws_next(None) == "slowly"


@compiled_twin
def test_a_socket_that_answers_nonsense(twin: Twin) -> None:
    path = make(twin)
    path.wire.writes.append("all")
    with pytest.raises(TypeError):
        path._ws_send_now("x")
    assert path.record[1][0] == "_ws_after_send"
    del type(path).recv_bufsize
    with pytest.raises(AttributeError):
        path._ws_next(None)
    assert path.record[-1] == ("_ws_give_up_turn",)


@compiled_twin
def test_a_queue_that_is_taken_away(twin: Twin) -> None:
    """The compiled twin must not use what it no longer has."""
    path = waiting(make(twin), "a", listed=False)
    path._ws_list = lambda: set_all(path, queue=None)
    assert path._ws_next(None) == "slowly"
    path = make(twin)
    channel = Channel(TEXT)
    path.wire.reads.append(b"???")
    path._ws_channel = channel
    channel.decrypt = lambda data: (set_all(path, queue=None), TEXT)[1]  # type: ignore[method-assign]
    with pytest.raises(AttributeError, match="^_ws_queue$"):
        path._ws_next(None)
