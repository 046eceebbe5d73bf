"""Fragments in the queue of received messages, in both twins: compared with a plain list, and with each other."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core._twins import TWINS
from websockets._codec._python import MERGE_AFTER

TEXT, BINARY, CONT, FIN = 0x01, 0x02, 0x00, 0x80

every_twin = pytest.mark.parametrize("twin", TWINS.values(), ids=TWINS)

PIECES = st.sampled_from([b"", b"a", b"bc", "é€😀".encode(), b"x" * 300])


def assembly(twin: Any, *pieces: bytes, text: bool = False) -> Any:
    made = twin.Assembly(text)
    for piece in pieces:
        made.add(piece)
    return made


def taken(made: Any) -> list[bytes]:
    """All that can be taken, piece by piece."""
    return list(iter(made.take, None))


@every_twin
@pytest.mark.parametrize("text", [False, True])
@pytest.mark.parametrize("number", [0, 1, 5, MERGE_AFTER - 1, MERGE_AFTER, 3 * MERGE_AFTER + 2])
def test_a_message_is_all_of_its_fragments(twin: Any, text: bool, number: int) -> None:
    for piece in (b"", b"ab", "é".encode()):
        made = assembly(twin, *[piece] * number, text=text)
        payload = piece * number
        assert made.whole() == (payload.decode() if text else payload)
        assert (made.waiting, made.complete, made.text) == (number, False, text)


@every_twin
def test_a_character_in_several_fragments(twin: Any) -> None:
    assert assembly(twin, b"a\xf0", b"\x9f", b"\x98", b"\x80b", text=True).whole() == "a😀b"
    with pytest.raises(UnicodeDecodeError):
        assembly(twin, b"a\xf0", text=True).whole()


@every_twin
def test_many_fragments_are_few_objects(twin: Any) -> None:
    made = assembly(twin, *[b"x"] * 50_000)
    pieces = taken(made)
    assert b"".join(pieces) == b"x" * 50_000
    assert len(pieces) <= MERGE_AFTER
    assert made.waiting == 0


@every_twin
def test_fragments_are_the_objects_that_were_added(twin: Any) -> None:
    pieces = [bytes([number]) * 100 for number in range(20)]
    made = assembly(twin, *pieces[:10])
    assert all(made.take() is piece for piece in pieces[:7])
    for piece in pieces[10:]:
        made.add(piece)
    assert made.waiting == 13
    assert all(made.take() is piece for piece in pieces[7:])
    assert made.take() is None


STEPS = st.lists(
    st.sampled_from(["take", "take", "piece", "give up", "whole message"])
    | st.tuples(st.sampled_from([TEXT, BINARY, CONT, CONT | FIN]), PIECES, st.sampled_from([1, 1, 2, 70])),
    max_size=60,
)


def follow(twin: Any, steps: list[Any]) -> list[Any]:
    """Take the steps; return what can be seen of them."""
    queue = twin.Queue()
    assert queue.assembles
    log: list[Any] = []
    for step in steps:
        result: Any = None
        if step == "take":
            result = queue.take()
        elif step == "whole message":
            queue.append("whole")
        elif step == "give up":
            queue.current = None
        elif step == "piece":
            first: Any = queue[0] if queue else None
            result = first.take() if isinstance(first, twin.Assembly) else first
        else:
            head, piece, times = step
            for number in range(times):
                queue.add_fragment(head if not number or head & 0x0F == CONT else CONT, piece)
        current = queue.current
        log.append((result, len(queue), queue.extra, current and (current.text, current.waiting, current.complete)))
    return log


@given(STEPS)
def test_twins_assemble_alike(steps: list[Any]) -> None:
    # Text that isn't valid never gets here, and a character may be cut only by taking a part of a message.
    steps = [(step[0] & ~TEXT | BINARY, *step[1:]) if step[0] == TEXT else step for step in steps]
    assert follow(TWINS.get("native", TWINS["python"]), steps) == follow(TWINS["python"], steps)


@every_twin
def test_messages_leave_a_queue_in_order(twin: Any) -> None:
    queue = twin.Queue()
    assert queue.take() is None
    queue.add_fragment(TEXT, b"a")
    queue.append("b")
    assert (queue.take(), queue.extra, len(queue)) == (None, 0, 2)
    queue.add_fragment(CONT, b"")
    queue.add_fragment(CONT | FIN, b"c")
    assert (queue.extra, queue.current) == (2, None)
    assert [queue.take() for _ in range(3)] == ["ac", "b", None]
    assert queue.extra == 0


@every_twin
def test_the_rest_of_a_message_that_nobody_wants_is_discarded(twin: Any) -> None:
    queue = twin.Queue()
    queue.add_fragment(BINARY, b"a")
    assert queue.pop() is queue.current
    queue.current = None
    queue.add_fragment(CONT, b"b")
    queue.add_fragment(CONT | FIN, b"c")
    assert (len(queue), queue.extra, queue.take()) == (0, 0, None)


@every_twin
@given(steps=st.lists(st.sampled_from(["append", "appendleft", "popleft"]), max_size=200))
def test_both_ends_of_a_queue(twin: Any, steps: list[str]) -> None:
    queue, model = twin.Queue(), list[int]()
    for number, step in enumerate(steps):
        if step == "append":
            queue.append(number)
            model.append(number)
        elif step == "appendleft":
            queue.appendleft(number)
            model.insert(0, number)
        elif model:
            assert queue.popleft() == model.pop(0)
    assert [queue[index] for index in range(len(queue))] == model
