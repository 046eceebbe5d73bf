"""What is still to be sent: pieces, batches, marks, the end of the stream, and writes that fail; without a loop."""

from __future__ import annotations

import contextlib
import random
import socket
import threading
from typing import Any

import pytest

from _kit.tls import opened
from websockets._session.outbox import (
    BATCH_LIMIT,
    GATHER_FROM,
    LEAST_HOLD,
    MAX_PIECES,
    MOST_HOLD,
    BroadcastPace,
    Outbox,
    arrange,
    is_torn,
    take_end,
)
from websockets.exceptions import InvalidState

LARGE = b"L" * GATHER_FROM

needs_sendmsg = pytest.mark.skipif(not hasattr(socket.socket, "sendmsg"), reason="Windows has no sendmsg()")


class Network:
    """A socket that takes as many bytes of a send as it likes."""

    def __init__(self, *takes: int) -> None:
        self.takes = iter(takes)
        self.received = b""
        self.sends = 0

    def send(self, data: memoryview) -> int:
        assert len(data) > 0
        count = min(next(self.takes, len(data)), len(data))
        self.received += data[:count]
        self.sends += 1
        return count


def write(outbox: Outbox, network: Network | socket.socket) -> None:
    """The loop that the docstring shows."""
    while outbox:
        outbox.taken(network.send(outbox.next_piece()))


# -------------------------------------------------------------------------------------------------------- arrangement


@pytest.mark.parametrize(
    ("writes", "left", "ends"),
    [
        ([], [], False),
        ([b"a"], [b"a"], False),
        ([b""], [], True),
        ([b"a", b"b", b""], [b"a", b"b"], True),
    ],
)
def test_the_end_of_the_stream_is_the_last_write(writes: list[bytes], left: list[bytes], ends: bool) -> None:
    assert take_end(writes) is ends
    assert writes == left


ARRANGED: list[tuple[list[Any], list[Any]]] = [
    ([b"a"], [b"a"]),
    ([b"a", b"b"], [b"ab"]),
    ([LARGE], [LARGE]),
    ([b"a", LARGE], [b"a", LARGE]),
    ([b"a", b"b", LARGE, b"c", b"d"], [b"ab", LARGE, b"cd"]),
    ([LARGE, LARGE[1:], b"a"], [LARGE, LARGE[1:] + b"a"]),
    ([b"a", memoryview(LARGE)], [b"a", LARGE]),
]


@pytest.mark.parametrize(("writes", "pieces"), ARRANGED, ids=range(len(ARRANGED)))
def test_small_writes_are_joined_and_large_ones_gathered(writes: list[Any], pieces: list[Any]) -> None:
    assert arrange(writes, gathers=True) == pieces
    assert arrange(writes, gathers=False) == [b"".join(writes)]


def test_large_writes_are_not_copied() -> None:
    pieces = arrange([b"a", LARGE, b"b"], gathers=True)
    assert pieces[1] is LARGE
    alone = b"alone"
    assert arrange([alone], gathers=True)[0] is alone


@pytest.mark.parametrize(
    ("exc", "promised", "torn"),
    [
        (RuntimeError("no"), False, False),
        (RuntimeError("no"), True, True),
        (OSError("no"), False, True),
        (OSError("no"), True, True),
        (KeyboardInterrupt(), False, True),
        (MemoryError(), False, True),
    ],
)
def test_what_a_write_that_failed_means(exc: BaseException, promised: bool, torn: bool) -> None:
    assert is_torn(exc, promised) is torn


# ------------------------------------------------------------------------------------------------------------- outbox


def test_an_empty_outbox() -> None:
    outbox = Outbox()
    assert not outbox
    assert (bytes(outbox.next_piece()), outbox.next_pieces()) == (b"", [])
    assert (outbox.buffered_amount, outbox.full, outbox.drained, outbox.at_end) == (0, False, True, False)
    outbox.taken(0)


def test_bytes_leave_in_order_however_few_are_taken() -> None:
    outbox, network = Outbox(), Network(1, 2, 0, 4)
    outbox.add([b"one", b"two"])
    outbox.add([b"three"])
    assert outbox.buffered_amount == 11
    write(outbox, network)
    assert network.received == b"onetwothree"
    assert (outbox.accepted, outbox.sent, outbox.buffered_amount) == (11, 11, 0)


def test_small_writes_share_a_send_and_large_ones_have_their_own() -> None:
    outbox = Outbox()
    outbox.add([b"a", b"b", LARGE, b"c"])
    outbox.add([b"d"])
    assert list(map(bytes, outbox.next_pieces())) == [b"ab", LARGE, b"cd"]
    assert bytes(outbox.next_piece()) == b"ab"
    network = Network()
    write(outbox, network)
    assert (network.sends, network.received) == (3, b"ab" + LARGE + b"cd")


def test_a_network_that_does_not_gather_gets_one_piece() -> None:
    outbox = Outbox(gathers=False)
    outbox.add([b"a", LARGE, b"b"])
    assert outbox.next_pieces() == [b"a" + LARGE + b"b"]


def test_pieces_for_one_call_are_limited() -> None:
    outbox = Outbox()
    outbox.add([LARGE] * (MAX_PIECES + 1))
    assert len(outbox.next_pieces()) == MAX_PIECES
    outbox.taken(MAX_PIECES * len(LARGE))
    assert outbox.next_pieces() == [LARGE]


def test_a_part_of_several_pieces_is_taken() -> None:
    outbox = Outbox()
    outbox.add([b"head", LARGE, b"tail"])
    outbox.next_pieces()
    outbox.taken(4 + len(LARGE) - 1)
    assert list(map(bytes, outbox.next_pieces())) == [b"L", b"tail"]
    outbox.taken(3)
    assert bytes(outbox.next_piece()) == b"il"
    assert outbox.buffered_amount == 2


@pytest.mark.parametrize("count", [-1, 4])
def test_no_more_is_taken_than_was_offered(count: int) -> None:
    outbox = Outbox()
    outbox.add([b"one"])
    outbox.next_piece()
    outbox.add([b"two"])
    with pytest.raises(ValueError, match=rf"^{count} bytes of 3 can't have been taken$"):
        outbox.taken(count)
    outbox.taken(3)
    assert bytes(outbox.next_piece()) == b"two"


def test_others_add_while_a_piece_is_being_sent() -> None:
    """A front-end for threads doesn't hold its lock while it sends."""
    outbox = Outbox()
    outbox.add([b"one"])
    piece = outbox.next_piece()
    outbox.add([b"two"])
    outbox.hold(b"three")
    assert bytes(piece) == b"one"
    outbox.taken(2)
    assert bytes(outbox.next_piece()) == b"e"
    outbox.taken(1)
    assert bytes(outbox.next_piece()) == b"two"


def test_a_sender_waits_until_its_bytes_are_out() -> None:
    outbox = Outbox()
    outbox.add([b"one"])
    mark = outbox.accepted
    outbox.add([b"two"])
    outbox.next_piece()
    outbox.taken(2)
    assert outbox.sent < mark
    outbox.taken(1)
    assert outbox.sent >= mark
    assert outbox.buffered_amount == 3


@pytest.mark.parametrize(("options", "low"), [({"high": 8}, 2), ({"high": 8, "low": 5}, 5), ({}, 2**13)])
def test_marks_between_which_senders_wait(options: dict[str, Any], low: int) -> None:
    outbox = Outbox(**options)
    assert outbox.low == low
    outbox.add([bytes(outbox.high)])
    assert not outbox.full
    assert not outbox.drained
    outbox.add([b"x"])
    assert outbox.full
    outbox.next_piece()
    outbox.taken(outbox.high - low)
    assert (outbox.full, outbox.drained) == (False, False)
    outbox.taken(1)
    assert outbox.drained


def test_the_end_of_the_stream_comes_last() -> None:
    outbox, network = Outbox(), Network(2)
    outbox.hold(b"answer")
    outbox.add([b"close", b""])
    assert not outbox.at_end
    write(outbox, network)
    assert network.received == b"answerclose"
    assert outbox.at_end
    outbox.end_sent()
    assert not outbox.at_end
    for late in (lambda: outbox.add([b"late"]), lambda: outbox.hold(b"late")):
        with pytest.raises(InvalidState, match=r"^nothing can be sent after the end of the stream$"):
            late()
    assert outbox.buffered_amount == 0


def test_the_end_of_the_stream_alone() -> None:
    outbox = Outbox()
    outbox.add([b""])
    assert outbox.at_end
    assert not outbox


def test_nothing_follows_a_write_that_failed_in_its_middle() -> None:
    outbox = Outbox(high=1)
    outbox.add([b"frame", LARGE])
    outbox.next_piece()
    outbox.taken(2)
    outbox.add([b"another"])
    outbox.hold(b"answer")
    outbox.tear()
    assert (bool(outbox), outbox.at_end, outbox.full, outbox.buffered_amount, outbox.sent) == (
        False,
        False,
        False,
        0,
        2,
    )
    outbox.taken(3)  # the writer comes back
    outbox.add([b"late"])
    assert not outbox.hold(b"late")
    outbox.release()
    assert (bool(outbox), bytes(outbox.next_piece()), outbox.buffered_amount, outbox.held) == (False, b"", 0, 0)


# ------------------------------------------------------------------------------------------------------------ batches


def test_frames_that_are_held_back_share_a_write() -> None:
    outbox, network = Outbox(), Network()
    assert outbox.hold(b"one")
    assert outbox.hold(b"two")
    assert not outbox
    assert (outbox.held, outbox.buffered_amount) == (6, 6)
    outbox.release()
    assert outbox.held == 0
    write(outbox, network)
    assert (network.sends, network.received) == (1, b"onetwo")


def test_what_is_held_back_goes_before_what_is_added() -> None:
    outbox, network = Outbox(), Network()
    outbox.hold(b"one")
    outbox.add([b"two"])
    outbox.hold(b"three")
    write(outbox, network)
    assert (network.received, outbox.held) == (b"onetwo", 5)


def test_a_batch_has_a_limit() -> None:
    outbox = Outbox()
    assert outbox.hold(bytes(BATCH_LIMIT))
    assert not outbox.hold(b"x")
    assert outbox
    assert outbox.held == 0


@pytest.mark.parametrize("seed", range(10))
def test_any_course_of_events_keeps_the_order(seed: int) -> None:
    """The stream is what was added, whatever is held back, and however little the network takes."""
    chance = random.Random(seed)
    outbox, wire, expected = Outbox(gathers=chance.random() < 0.7), bytearray(), bytearray()
    for number in range(300):
        data = str(number).encode() * chance.choice([1, 10, 1000, 20_000])
        match chance.choice(["add", "hold", "release", "send", "send many"]):
            case "add":
                outbox.add([data, data])
                expected += data + data
            case "hold":
                outbox.hold(data)
                expected += data
            case "release":
                outbox.release()
            case how:
                views = outbox.next_pieces() if how == "send many" else [outbox.next_piece()]
                offered = b"".join(views)
                count = chance.randint(0, len(offered))
                wire += offered[:count]
                outbox.taken(count)
        assert outbox.buffered_amount == len(expected) - len(wire)
    outbox.add([b""])
    while outbox:
        wire += outbox.next_piece()
        outbox.taken(len(outbox.next_piece()))
    assert wire == expected
    assert outbox.at_end


# ----------------------------------------------------------------------------------------- sockets and TLS channels


@pytest.mark.parametrize("gathers", [False, pytest.param(True, marks=needs_sendmsg)])
def test_with_a_blocking_socket(gathers: bool) -> None:
    ours, theirs = socket.socketpair()
    received: list[bytes] = []

    def receive() -> None:
        while data := theirs.recv(2**16):
            received.append(data)

    reader = threading.Thread(target=receive)
    with ours, theirs:
        reader.start()
        outbox = Outbox()
        outbox.add([b"small", bytes(2**20), b"small", b""])
        while outbox:
            outbox.taken(ours.sendmsg(outbox.next_pieces()) if gathers else ours.send(outbox.next_piece()))
        assert outbox.at_end
        ours.shutdown(socket.SHUT_WR)
        outbox.end_sent()
        reader.join(30)
    assert b"".join(received) == b"small" + bytes(2**20) + b"small"


def test_with_a_socket_that_does_not_block() -> None:
    """What the kernel doesn't take stays; nothing has to be undone."""
    ours, theirs = socket.socketpair()
    outbox, received = Outbox(), b""
    with ours, theirs:
        ours.setblocking(False)
        # Some kernels would take all of it otherwise.
        ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 2**14)
        theirs.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2**14)
        outbox.add([bytes([number]) * 10_000 for number in range(200)])
        with pytest.raises(BlockingIOError):
            write(outbox, ours)
        assert outbox.buffered_amount == 2_000_000 - outbox.sent > 0
        while len(received) < 2_000_000:
            received += theirs.recv(2**16)
            with contextlib.suppress(BlockingIOError):
                write(outbox, ours)
    assert received == b"".join(bytes([number]) * 10_000 for number in range(200))
    assert not outbox


def test_with_a_tls_channel() -> None:
    """The channel is the network of one outbox, and its ciphertext goes to another."""
    pair = opened("TLSv1_3")
    plain, cipher, network, received = Outbox(gathers=False), Outbox(), Network(100, 0, 5000), b""
    messages = [b"a", bytes(200_000), b"b"]
    plain.add(messages)
    while plain or cipher:
        plain.taken(pair.client.send(plain.next_piece()))
        cipher.add(pair.client.data_to_send())
        before = len(network.received)
        write(cipher, network)
        pair.server.receive_data(network.received[before:])
        received += pair.server.read(2**20)
    assert received == b"".join(messages)


# ------------------------------------------------------------------------------------------------ pace of broadcasts


def run(turns: list[int]) -> list[int]:
    """In which turns of a loop something is written, where so many broadcasts are made in each."""
    pace, written, held = BroadcastPace(), [], False
    for number, count in enumerate(turns):
        if pace.holding:
            pace.turn()
            if held and pace.is_due(0.0):
                written.append(number)
                held = False
        for _ in range(count):
            if not pace.holding:
                written.append(number)
            elif not held:
                pace.hold(0.0)
                held = True
            pace.begin()
    return written


def test_a_broadcast_alone_is_written_at_once() -> None:
    assert run([1, 0, 0, 1, 0, 0, 1]) == [0, 3, 6]


def test_broadcasts_that_follow_each_other_share_writes() -> None:
    # The first is written, the others when a turn has passed without one.
    assert run([3, 0, 0, 0]) == [0, 2]
    assert run([1] * 10 + [0] * 4) == [0, 11]


@pytest.mark.parametrize(("seconds", "hold_for"), [(0.0, LEAST_HOLD), (0.004, 0.004), (5.0, MOST_HOLD)])
def test_frames_are_held_back_for_as_long_as_writing_takes(seconds: float, hold_for: float) -> None:
    pace = BroadcastPace()
    pace.begin()
    pace.written(seconds)
    for start in (100.0, 200.0):
        pace.hold(start)
        for now, due in [(start, False), (start + hold_for * 0.9, False), (start + hold_for, True)]:
            pace.begin()
            pace.turn()
            assert pace.is_due(now) is due


@pytest.mark.parametrize("count", [0, 3, 5])
def test_a_frame_that_was_sent_past_it(count: int) -> None:
    """Its rest is sent before what others have added meanwhile, and marks of others stay true."""
    outbox = Outbox()
    outbox.accepted += 5
    outbox.add([b"later"])
    mark = outbox.accepted
    assert outbox.buffered_amount == 10
    outbox.put_back(b"frame", count)
    assert outbox.buffered_amount == 10 - count
    data = b""
    while outbox:
        piece = bytes(outbox.next_piece())
        data += piece
        outbox.taken(len(piece))
    assert data == b"frame"[count:] + b"later"
    assert outbox.sent == mark == 10
