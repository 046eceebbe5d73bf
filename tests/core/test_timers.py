"""Deadlines: an agenda beside a list that is sorted each time, cancelled entries, and when to wake up."""

from __future__ import annotations

import gc
import weakref
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test

from _kit import examples
from websockets._rules.deadlines import GRANULARITY, Agenda, Alarm, Deadlines, Entry

# Few times, so that many are equal.
TIMES = st.integers(0, 20).map(float)


class AgendaMachine(RuleBasedStateMachine):
    """An agenda beside a plain list of time, order and item."""

    def __init__(self) -> None:
        super().__init__()
        self.agenda: Agenda[str] = Agenda()
        self.model: list[tuple[float, int, str]] = []
        self.entries: list[Entry[str]] = []

    @rule(when=TIMES, count=st.sampled_from([1, 1, 1, 50]))
    def add(self, when: float, count: int) -> None:
        for _ in range(count):
            order = len(self.entries)
            entry = self.agenda.add(when, f"item {order}")
            assert (entry.when, entry.item) == (when, f"item {order}")
            self.entries.append(entry)
            self.model.append((when, order, f"item {order}"))

    @rule(data=st.data(), count=st.sampled_from([1, 1, 40]))
    @precondition(lambda self: self.entries)
    def cancel(self, data: st.DataObject, count: int) -> None:
        """Entries that may be due or cancelled already."""
        first = data.draw(st.integers(0, len(self.entries) - 1))
        for order in range(first, min(first + count, len(self.entries))):
            self.agenda.cancel(self.entries[order])
            self.model = [row for row in self.model if row[1] != order]
            assert self.entries[order].item is None

    @rule(now=TIMES)
    def due(self, now: float) -> None:
        expected = [item for when, _, item in sorted(self.model) if when <= now]
        assert self.agenda.due(now) == expected
        self.model = [row for row in self.model if row[0] > now]

    @rule()
    def next(self) -> None:
        assert self.agenda.next() == min((when for when, _, _ in self.model), default=None)

    @invariant()
    def length(self) -> None:
        assert len(self.agenda) == len(self.model)


def test_agenda_is_a_sorted_list() -> None:
    run_state_machine_as_test(AgendaMachine, settings=examples(40, steps=30))


def test_equal_times_keep_their_order() -> None:
    agenda: Agenda[str] = Agenda()
    for item in "badc":
        agenda.add(1.0, item)
    agenda.add(0.5, "first")
    assert agenda.next() == 0.5
    assert agenda.due(1.0) == ["first", "b", "a", "d", "c"]
    assert agenda.due(1.0) == []
    assert agenda.next() is None


def test_items_need_no_order() -> None:
    agenda: Agenda[Any] = Agenda()
    items = [object(), {}, object()]
    for item in items:
        agenda.add(0.0, item)
    assert agenda.due(0.0) == items


def test_due_at_the_very_moment() -> None:
    agenda: Agenda[str] = Agenda()
    agenda.add(2.0, "x")
    assert agenda.due(1.999) == []
    assert agenda.due(2.0) == ["x"]


class Item:
    """Something that can be seen to be let go of."""


def test_cancelled_items_are_let_go_at_once() -> None:
    agenda: Agenda[Item] = Agenda()
    item = Item()
    entry, gone = agenda.add(1.0, item), weakref.ref(item)
    del item
    agenda.cancel(entry)
    assert gone() is None
    assert len(agenda) == 0
    assert agenda.next() is None


def test_due_items_are_let_go() -> None:
    agenda: Agenda[Item] = Agenda()
    entry = agenda.add(1.0, Item())
    gone = weakref.ref(agenda.due(1.0)[0])
    assert gone() is None
    # Too late: it neither fails nor counts.
    agenda.cancel(entry)
    assert len(agenda) == 0


def entries_in_memory() -> int:
    return sum(type(thing) is Entry for thing in gc.get_objects())


def test_cancelled_entries_do_not_pile_up() -> None:
    agenda: Agenda[str] = Agenda()
    agenda.add(1e9, "stays")
    before = entries_in_memory()
    for number in range(10_000):
        agenda.cancel(agenda.add(1e6 + number, "goes"))
    assert entries_in_memory() - before < 2 * Agenda.SWEEP_FROM
    assert len(agenda) == 1
    assert agenda.next() == 1e9


def test_cancelled_entries_are_swept_from_among_others() -> None:
    agenda: Agenda[str] = Agenda()
    before = entries_in_memory()
    entries = [agenda.add(float(number), "x") for number in range(1000)]
    while len(entries) > 400:
        agenda.cancel(entries.pop())
    assert entries_in_memory() - before < 800
    assert len(agenda) == 400


@given(st.permutations(range(100)), st.sets(st.integers(0, 99), min_size=60))
def test_order_survives_a_sweep(times: list[int], cancelled: set[int]) -> None:
    agenda: Agenda[int] = Agenda()
    entries = [agenda.add(float(when), when) for when in times]
    for entry in entries:
        if entry.item in cancelled:
            agenda.cancel(entry)
    assert agenda.due(100.0) == sorted(set(times) - cancelled)


def test_few_cancelled_entries_wait_for_their_turn() -> None:
    agenda: Agenda[str] = Agenda()
    entries = [agenda.add(float(number), f"{number}") for number in range(Agenda.SWEEP_FROM - 1)]
    for entry in entries[:-1]:
        agenda.cancel(entry)
    assert len(agenda) == 1
    assert agenda.next() == float(Agenda.SWEEP_FROM - 2)
    assert agenda.due(1e9) == [f"{Agenda.SWEEP_FROM - 2}"]


def test_alarms_are_distinct() -> None:
    assert {alarm.name for alarm in Alarm} == {"OPENING", "PING", "PONG", "FAILURE", "CLOSING"}


# ------------------------------------------------------------------------------------------------------ when to wake up

NEVER = float("inf")


def test_nobody_wakes_up_for_nothing() -> None:
    deadlines: Deadlines[str] = Deadlines()
    assert deadlines.wake_at() is None
    assert deadlines.move(None, NEVER, "never") is None
    assert deadlines.wake_at() is None
    entry = deadlines.move(None, 5.0, "x")
    assert entry is not None
    assert deadlines.wake_at() == 5.0
    deadlines.cancel(entry)
    assert deadlines.wake_at() is None
    assert deadlines.wake_at(4.0) is None


def test_who_sleeps_until_too_early_may_go_on_sleeping() -> None:
    deadlines: Deadlines[str] = Deadlines()
    deadlines.move(None, 5.0, "x")
    assert deadlines.wake_at(sleeping_until=6.0) == 5.0
    assert deadlines.wake_at(sleeping_until=4.0) == 4.0
    assert deadlines.due(4.0) == []
    assert deadlines.wake_at() == 5.0


def test_an_earlier_deadline_replaces_a_later_one() -> None:
    deadlines: Deadlines[str] = Deadlines()
    late = deadlines.move(None, 5.0, "x")
    # The item is called on at 5, and asks again.
    assert deadlines.move(late, 7.0, "x") is late
    early = deadlines.move(late, 3.0, "x")
    assert early is not late
    assert early is not None
    assert (early.when, deadlines.due(10.0)) == (3.0, ["x"])


def test_never_again() -> None:
    deadlines: Deadlines[str] = Deadlines()
    entry = deadlines.move(None, 5.0, "x")
    # It stays, and does no harm: who is called on too early asks again.
    assert deadlines.move(entry, NEVER, "x") is entry


def test_deadlines_that_are_close_share_a_wake_up() -> None:
    deadlines: Deadlines[int] = Deadlines()
    for number in range(100):
        deadlines.move(None, 1 + number * GRANULARITY / 10, number)
    now, wake_ups, seen = 0.0, 0, list[int]()
    while (wake_at := deadlines.wake_at()) is not None:
        assert wake_at >= now
        now, wake_ups = wake_at, wake_ups + 1
        seen += deadlines.due(now)
    assert seen == list(range(100))
    assert 10 <= wake_ups <= 12
    # Nobody is called on late by more than that.
    assert now <= 1 + 100 * GRANULARITY / 10 + GRANULARITY
