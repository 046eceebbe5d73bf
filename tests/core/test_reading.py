"""Which reader receives, and a message that is read piece by piece. Without a loop: any object with a name reads."""

from __future__ import annotations

from typing import Any

import pytest

from _kit import wire
from websockets._rules.messages import Inbox
from websockets._session.reading import Progress, Reading, second_receiver, undecodable
from websockets.exceptions import ConcurrencyError

FIRST, MORE, LAST = wire.TEXT, wire.CONT, 0x80 | wire.CONT
WHOLE, BINARY = 0x80 | wire.TEXT, wire.BINARY


def inbox_of(*frames: tuple[int, Any]) -> Inbox:
    inbox = Inbox()
    put(inbox, *frames)
    return inbox


def put(inbox: Inbox, *frames: tuple[int, Any]) -> None:
    for head, payload in frames:
        inbox.put(head, payload)


def is_over(reader: str) -> bool:
    return reader.endswith("that ended")


# ------------------------------------------------------------------------------------------------------ piece by piece


def test_a_message_in_one_frame_is_one_piece() -> None:
    inbox = inbox_of()
    reading = Reading(inbox, None, "reader")
    assert reading.take() is Progress.WAIT
    put(inbox, (WHOLE, "whole"), (WHOLE, "next"))
    assert (reading.take(), reading.fragmented) == ("whole", False)
    assert reading.take() is Progress.END
    reading.give_up()
    assert inbox.get() == "next"


@pytest.mark.parametrize("decode", [None, True, False])
def test_fragments_are_pieces(decode: bool | None) -> None:
    inbox = inbox_of((FIRST, "€".encode()[:1]))
    reading = Reading(inbox, decode, "reader")
    pieces = [reading.take(), reading.take()]
    put(inbox, (MORE, "€".encode()[1:] + b"1"), (LAST, b"2"), (WHOLE, "next"))
    pieces += [reading.take() for _ in range(3)]
    text = [b"\xe2", Progress.WAIT, b"\x82\xac1", b"2"] if decode is False else ["", Progress.WAIT, "€1", "2"]
    assert pieces == [*text, Progress.END]
    assert reading.fragmented
    reading.give_up()
    assert inbox.get() == "next"


def test_binary_fragments_that_are_no_text() -> None:
    reading = Reading(inbox_of((BINARY, b"ok"), (LAST, b"\xff")), True, "reader")
    assert reading.take() == "ok"
    with pytest.raises(UnicodeDecodeError):
        reading.take()


def test_why_bytes_are_no_text() -> None:
    with pytest.raises(UnicodeDecodeError) as raised:
        b"abc\xff".decode()
    assert undecodable(raised.value) == (1007, "invalid start byte at position 3")


# ------------------------------------------------------------------------------------------------------- who receives


@pytest.mark.parametrize(
    ("reader", "left"), [(None, True), ("me", True), ("another that ended", True), ("another", False)]
)
def test_who_may_take_over(reader: str | None, left: bool) -> None:
    reading = Reading(inbox_of((FIRST, b"1")), None, reader)
    assert reading.is_left("me", is_over) is left


def test_the_reader_is_who_asked_last() -> None:
    reading = Reading(inbox_of((FIRST, b"1")), None, "first")
    reading.go_on("second")
    assert (reading.is_left("first", is_over), reading.is_left("second", is_over)) == (False, True)


@pytest.mark.parametrize("taken", [0, 1, 2])
def test_whoever_takes_over_gets_the_next_message(taken: int) -> None:
    inbox = inbox_of((FIRST, b"1"), (MORE, b"2"))
    reading = Reading(inbox, None, "left")
    for _ in range(taken):
        reading.take()
    reading.give_up()
    # The message is given up only if its reading began.
    put(inbox, (LAST, b"3"), (WHOLE, "next"))
    assert inbox.get() == ("next" if taken else "123")
    text = "^cannot go on with recv_streaming after another call of recv or recv_streaming$"
    with pytest.raises(ConcurrencyError, match=text):
        reading.go_on("left")


@pytest.mark.parametrize("kind", ["coroutine", "thread"])
@pytest.mark.parametrize("name", ["recv", "recv_streaming"])
def test_what_a_second_receiver_hears(name: str, kind: str) -> None:
    exc = second_receiver(name, kind)
    assert isinstance(exc, ConcurrencyError)
    assert str(exc) == f"cannot call {name} while another {kind} is already running recv or recv_streaming"
