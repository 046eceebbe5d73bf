"""Run by test_accelerator_failures, in a process of its own: what the compiled twin does when memory runs out.

Each case is run again and again; the first time the first allocation fails, then the second, until none does. Each
time it must end as it should or raise MemoryError, and leave its object so that it can be let go of. Prints how many
failures each case survived.
"""

from __future__ import annotations

import _testcapi  # type: ignore[import-not-found]
import asyncio
import contextlib
import contextvars
import gc
import importlib
import operator
from collections.abc import Callable
from typing import Any

native: Any = importlib.import_module("websockets._codec._native")
native.know_roles("free", "taken", 64)

# More allocations than any case has.
MOST = 200

MASK = b"\x01\x02\x03\x04"


class Protocol:
    pass


class Life(native.SendingHalf):  # type: ignore[misc]
    def __init__(self) -> None:
        self.sending, self.continuing = None, False


class Transport:
    def is_closing(self) -> bool:
        return False

    def write(self, data: bytes) -> None:
        pass

    def abort(self) -> None:
        pass


class Talkative(Transport):
    """A transport that sends something when it is aborted."""

    path: Any = None

    def abort(self) -> None:
        path, self.path = self.path, None
        if path is not None:
            path._ws_send_now(b"farewell" * 75, None)


def talkative() -> Any:
    path = make(messages=2, corked=bytes(5000))
    path.transport = Talkative()
    path.transport.path = path
    return path


class Loop:
    def call_soon(self, *arguments: object, context: object = None) -> None:
        pass


class Path(native.FastPath):  # type: ignore[misc]
    def _ws_receive_rest(self, frames: list[Any]) -> None:
        pass

    def _ws_hold_rest(self, rest: bytes) -> None:
        pass

    def _ws_write_pieces(self, header: bytes, payload: bytes) -> None:
        pass

    def _ws_uncork(self) -> None:
        pass

    def _ws_receive_slowly(self, iterating: bool) -> Any:
        return iter(())


class Unlocked:
    def __enter__(self) -> None:
        pass

    def __exit__(self, *exc_info: object) -> None:
        pass


class Wire:
    def __init__(self, data: bytes) -> None:
        self.data = data

    def kernel_receive(self, size: int) -> bytes:
        return self.data

    def kernel_send(self, frame: bytes, flags: int) -> int:
        return len(frame) if len(frame) < 1000 else 1000


class Socket(native.SocketPath):  # type: ignore[misc]
    recv_bufsize = 65536

    def _ws_receive(self, timeout: object) -> None:
        pass

    def _ws_receive_others(self, frames: object, rest: object) -> None:
        pass

    def _ws_after_send(self, *arguments: object) -> None:
        pass

    def _ws_list(self) -> None:
        pass

    def _ws_give_up_turn(self) -> None:
        pass

    def _ws_keep_message(self, message: object) -> None:
        pass

    def _ws_interrupted(self, cause: BaseException) -> None:
        pass

    _ws_left_reading = _ws_give_up_turn
    _ws_go_on = _ws_receive

    def _ws_encrypt(self, data: bytes) -> bytes:
        return data


class Channel:
    decrypt = Socket._ws_encrypt


def make_socket(data: bytes = b"", *, client: bool = False, messages: int = 0, tls: bool = False) -> Any:
    """A path between a socket and a thread."""
    path = Socket()
    path._ws_lock, path._ws_ident, path._ws_wire, path._ws_life = Unlocked(), lambda: 2**40, Wire(data), Life()
    path._ws_may_send = None
    path._ws_queue, path._ws_decoder = native.Queue(), decoder()
    path._ws_client, path._ws_plain, path._ws_channel = client, True, Channel() if tls else None
    for number in range(messages):
        path._ws_queue.append(f"message {number}")
    return path


def frame(payload: bytes) -> Any:
    return native.build_frame(0x82, payload, None)


def make(*, client: bool = False, reading_paused: bool = False, messages: int = 0, corked: bytes = b"") -> Any:
    """A path whose surroundings do nothing."""
    path = Path()
    path.loop, path.transport, path.protocol, path._ws_life = Loop(), Transport(), Protocol(), Life()
    path._ws_may_send = None
    path._ws_queue = native.Queue()
    path._ws_buffer = native.read_buffer(2**16)
    path._ws_decoder = decoder()
    path._ws_client, path._ws_reading_paused = client, reading_paused
    path._ws_quick = path._ws_plain = True
    for number in range(messages):
        path._ws_queue.append(f"message {number}")
    if corked:
        path._ws_hold(frame(corked), len(corked))
    return path


def decoder(*fed: bytes, text: bool = True, limit: int = -1) -> Any:
    made = native.FrameDecoder(False, 0, limit, limit, text)
    for data in fed:
        made.feed(data)
    return made


def assembly(number: int, piece: bytes = b"a", *, text: bool = True) -> Any:
    """A message of this number of fragments."""
    made = native.Assembly(text)
    for _ in range(number):
        made.add(piece)
    return made


def in_fragments() -> Any:
    """A path in whose queue a message in fragments is."""
    path = make()
    path.data_received(b"\x01\x01a\x80\x01c")
    return path


def queue_of_fragments() -> Any:
    queue = native.Queue()
    for head in (0x01, 0x00, 0x80):
        queue.add_fragment(head, b"payload")
    return queue


def take_or_keep(queue: Any) -> None:
    """Take a message, which must not be lost."""
    try:
        message = queue.take()
    except MemoryError:
        assert (len(queue), queue.extra) == (1, 2)
        raise
    assert message == "payload" * 3
    assert (len(queue), queue.extra) == (0, 0)


def waiter(*, suspended: bool = True) -> Any:
    made = native.Waiter(Loop())
    if suspended:
        made.add_done_callback(id, context=contextvars.copy_context())
    return made


def await_message(path: Any) -> None:
    with contextlib.suppress(StopIteration):
        path._ws_next().send(None)


def iterate(messages: Any) -> None:
    with contextlib.suppress(StopIteration):
        anext(messages).send(None)


FRAME = frame(bytes(500))
LARGE = b"\x82\x7f" + (2**20).to_bytes(8, "big")
GROWING = b"\x82\x7e\xff\xff" + bytes(4090)
WIDE_TEXT = b"\x81\x04" + "éé".encode()
FRAGMENTS = b"\x01\x01a\x00\x01b\x80\x01c\x89\x00"
REFUSED = (b"\x83\x00", b"\x82\x7f" + b"\xff" * 8, b"\x82\x7e\x00\x01", b"\x81\x01\xff", b"\x01\x01\xff")

CASES: dict[str, tuple[Callable[[], Any], Callable[[Any], object]]] = {
    "decoder": (lambda: None, lambda _: decoder()),
    "queue": (lambda: None, lambda _: native.Queue()),
    "fragments: one": (native.Queue, lambda queue: queue.add_fragment(0x01, b"payload")),
    "fragments: many": (
        lambda: native.Assembly(True),
        lambda assembly: [assembly.add(b"a") for _ in range(130)],
    ),
    "fragments: take": (lambda: assembly(130), lambda made: [made.take() for _ in range(5)]),
    "fragments: text": (lambda: assembly(70), lambda made: made.whole()),
    "fragments: beyond ASCII": (lambda: assembly(3, "\xe9".encode()), lambda made: made.whole()),
    "fragments: bytes": (lambda: assembly(70, text=False), lambda made: made.whole()),
    "fragments: read": (make, lambda path: path.data_received(b"\x01\x01a\x00\x01b\x80\x01c")),
    "fragments: recv": (in_fragments, await_message),
    "fragments: take them all": (queue_of_fragments, take_or_keep),
    "queue grows at the front": (lambda: make(messages=4)._ws_queue, lambda queue: queue.appendleft("first")),
    "queue grows": (lambda: make(messages=4)._ws_queue, lambda queue: queue.append("more")),
    "frame": (lambda: bytes(1000), lambda payload: native.build_frame(0x82, payload, MASK)),
    "header lines": (
        lambda: b"Ab: cd\r\nAB: ef\r\nab: gh\r\nI: jk\r\n\r\n",
        lambda data: native.read_fields(data, 0, 9),
    ),
    "header": (lambda: None, lambda _: native.build_header(0x82, 1000)),
    "mask": (lambda: native.forget_masks(), lambda _: native.new_mask()),
    "apply mask": (lambda: bytes(1000), lambda data: native.apply_mask(data, MASK)),
    "text": (decoder, lambda made: made.feed(b"\x81\x05" + b"ascii")),
    "wide text": (decoder, lambda made: made.feed(WIDE_TEXT)),
    "fragments": (decoder, lambda made: made.feed(FRAGMENTS)),
    "large": (decoder, lambda made: made.feed(LARGE + bytes(5000))),
    "large text": (decoder, lambda made: made.feed(b"\x81" + LARGE[1:] + bytes(5000))),
    "growing": (lambda: decoder(LARGE + bytes(4000)), lambda made: made.feed(bytes(10_000))),
    "growing text": (lambda: decoder(b"\x81" + LARGE[1:] + bytes(4000)), lambda made: made.feed(bytes(10_000))),
    "half a header": (decoder, lambda made: made.feed(b"\x82")),
    "too big": (lambda: decoder(limit=10), lambda made: made.feed(b"\x82\x7e\x01\x00")),
    "path": (lambda: None, lambda _: native.FastPath()),
    "waiter": (lambda: None, lambda _: native.Waiter(None)),
    "wake": (waiter, lambda made: made.wake()),
    "resume": (waiter, lambda made: made.resume()),
    "cancel": (waiter, lambda made: made.cancel("why")),
    "read": (make, lambda path: path.data_received(b"\x81\x05ascii" * 5)),
    "read what isn't a message": (make, lambda path: path.data_received(FRAGMENTS)),
    "read what is refused": (make, lambda path: path.data_received(b"\x83\x00")),
    "read a crowd": (make, lambda path: path.data_received(b"\x89\x00" * 600)),
    "take": (lambda: make(messages=1), await_message),
    "wait": (lambda: make(corked=b"corked"), await_message),
    "slowly": (lambda: make(reading_paused=True), await_message),
    "iterate": (lambda: native.Messages(make(messages=1)), iterate),
    "iterator": (make, lambda path: native.Messages(path)),
    "send": (make, lambda path: path._ws_send_now("text", None)),
    "send masked": (lambda: make(client=True), lambda path: path._ws_send_now(b"data", None)),
    "send wide text": (make, lambda path: path._ws_send_now("é", None)),
    "send a view": (make, lambda path: path._ws_send_now(memoryview(b"abcdef")[::2], None)),
    "send large": (lambda: (make(), "x" * 2**18), lambda given: given[0]._ws_send_now(given[1], None)),
    "a buffer": (lambda: None, lambda _: native.read_buffer(100)),
    "hold back": (lambda: make(messages=3), lambda path: [path._ws_send_now("text", None) for _ in range(9)]),
    "too much": (lambda: make(messages=1, corked=b"x" * 2**16), lambda path: path._ws_send_now("text", None)),
    "put": (lambda: make(messages=1), lambda path: path._ws_put(FRAME, 500)),
    "hold": (lambda: make(corked=b"corked"), lambda path: path._ws_hold(FRAME, 500)),
    "a cork that grows": (talkative, lambda path: path._ws_send_now(bytes(25_000), None)),
    "socket": (lambda: None, lambda _: native.SocketPath()),
    "socket: take": (lambda: make_socket(messages=1), lambda path: path._ws_next(None)),
    "socket: read": (lambda: make_socket(b"\x81\x05ascii" * 9), lambda path: path._ws_next(None)),
    "socket: read TLS": (lambda: make_socket(WIDE_TEXT, tls=True), lambda path: path._ws_next(None)),
    "socket: read others": (lambda: make_socket(b"\x89\x00" * 600), lambda path: path._ws_next(None)),
    "socket: send": (make_socket, lambda path: path._ws_send_now("text")),
    "socket: send masked": (lambda: make_socket(client=True), lambda path: path._ws_send_now("é")),
    "socket: send TLS": (lambda: make_socket(tls=True), lambda path: path._ws_send_now(b"data")),
    "socket: send a part": (make_socket, lambda path: path._ws_send_now(bytes(2000))),
    "take corked": (lambda: make(corked=b"corked"), lambda path: path._ws_take_corked()),
}
CASES |= {f"refused {data.hex()}": (decoder, operator.methodcaller("feed", data)) for data in REFUSED}


def fail_at(number: int, prepare: Callable[[], Any], act: Callable[[Any], object]) -> bool:
    """Run a case in which one allocation fails; return whether it was noticed."""
    prepared = prepare()
    noticed = False
    _testcapi.set_nomemory(number, number + 1)
    try:
        act(prepared)
    except MemoryError:
        noticed = True
    finally:
        _testcapi.remove_mem_hooks()
    del prepared
    return noticed


def main() -> None:
    asyncio.set_event_loop(None)
    for name, (prepare, act) in CASES.items():
        act(prepare())  # what is only made once is made now
        gc.disable()
        failures = sum(fail_at(number, prepare, act) for number in range(MOST))
        gc.enable()
        gc.collect()
        act(prepare())
        print(f"{name}: {failures}")


if __name__ == "__main__":
    main()
