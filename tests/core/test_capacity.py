"""How many connections a server takes: who is let in, who is kept outside, who comes from one host."""

from __future__ import annotations

import itertools
import random
from typing import Any

import pytest

from websockets._rules.capacity import FULL, FULL_FOR_HOST, WAITING_LIMIT, Capacity, host_of

HERE = ("127.0.0.1", 50000)
THERE = ("10.0.0.1", 50000)


def entered(capacity: Capacity[int], address: Any = HERE, guests: range = range(3)) -> list[bool]:
    """Whether each of some new guests is inside."""
    assert all(capacity.enter(guest, address) for guest in guests)
    return [capacity.is_inside(guest) for guest in guests]


def test_total() -> None:
    capacity = Capacity[int](2, None)
    assert entered(capacity) == [True, True, False]
    assert len(capacity) == 2
    assert [capacity.refusal(guest) for guest in range(3)] == [None, None, FULL]
    capacity.leave(0)
    # A client that waited is let in if there is room when its request comes.
    assert capacity.refusal(2) is None
    assert capacity.is_inside(2)
    assert len(capacity) == 2
    for guest in (1, 2):
        capacity.leave(guest)
    assert len(capacity) == 0


def test_leaving_from_outside_makes_no_room() -> None:
    capacity = Capacity[int](2, None)
    entered(capacity)
    capacity.leave(2)
    assert len(capacity) == 2
    capacity.enter(3, HERE)
    assert capacity.refusal(3) == FULL


def test_per_host() -> None:
    capacity = Capacity[int](None, 2)
    assert entered(capacity, HERE) == [True, True, False]
    assert entered(capacity, THERE, range(3, 5)) == [True, True]
    assert capacity.refusal(2) == FULL_FOR_HOST
    capacity.leave(3)
    assert capacity.refusal(2) == FULL_FOR_HOST
    capacity.leave(0)
    assert capacity.refusal(2) is None
    for guest in (1, 2, 4):
        capacity.leave(guest)
    # Nothing is remembered of hosts that nobody comes from any more.
    assert (capacity._of_host, capacity._homes, capacity._outside) == ({}, {}, {})


def test_both() -> None:
    capacity = Capacity[int](3, 2)
    assert entered(capacity, HERE) == [True, True, False]
    assert entered(capacity, THERE, range(3, 5)) == [True, False]
    assert capacity.refusal(2) == FULL
    capacity.leave(3)
    assert capacity.refusal(2) == FULL_FOR_HOST


def test_unix_sockets_have_no_host() -> None:
    assert entered(Capacity[int](None, 1), "") == [True, True, True]
    assert entered(Capacity[int](1, 1), "/run/server") == [True, False, False]


def test_those_outside_have_a_limit_too() -> None:
    capacity = Capacity[int](1, None)
    assert entered(capacity, HERE, range(WAITING_LIMIT + 1)) == [True] + [False] * WAITING_LIMIT
    assert not capacity.enter(-1, HERE)
    capacity.leave(5)
    assert capacity.enter(-1, HERE)
    assert capacity.refusal(-1) == FULL


def test_account_is_right_after_any_history() -> None:
    """Against a list of who is inside, in the order of coming."""
    chance = random.Random(1)
    capacity, inside, outside = Capacity[int](6, 3), dict[int, int](), dict[int, int]()

    def room(host: int) -> bool:
        return len(inside) < 6 and list(inside.values()).count(host) < 3

    for guest in itertools.takewhile(lambda guest: guest < 2000, itertools.count()):
        host = chance.randrange(4)
        assert capacity.enter(guest, (str(host), 1))
        (inside if room(host) else outside)[guest] = host
        for other in list(outside):
            if chance.random() < 0.3:
                assert (capacity.refusal(other) is None) is room(outside[other])
                if room(outside[other]):
                    inside[other] = outside.pop(other)
        for other in list(inside | outside):
            if chance.random() < 0.2:
                capacity.leave(other)
                inside.pop(other, None)
                outside.pop(other, None)
        assert len(capacity) == len(inside)
        assert [capacity.is_inside(other) for other in (*inside, *outside)] == [True] * len(inside) + [False] * len(
            outside
        )


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        (("10.0.0.1", 1), ("10.0.0.1", 2), True),
        (("10.0.0.1", 1), ("10.0.0.2", 1), False),
        (("2001:db8::1", 1, 0, 0), ("2001:db8::ffff:2", 2, 0, 0), True),
        (("2001:db8::1", 1, 0, 0), ("2001:db8:0:0:1::1", 1, 0, 0), True),
        (("2001:db8::1", 1, 0, 0), ("2001:db8:0:1::1", 1, 0, 0), False),
        # How a socket for both families sees IPv4.
        (("::ffff:10.0.0.1", 1, 0, 0), ("::ffff:10.0.0.2", 1, 0, 0), False),
        (("::ffff:10.0.0.1", 1, 0, 0), ("10.0.0.1", 1), True),
        (("fe80::1%eth0", 1, 0, 2), ("fe80::2", 1, 0, 3), True),
        (("::1", 1, 0, 0), ("127.0.0.1", 1), False),
        (("no:address", 1), ("no:address", 2), True),
        ((3, 1), (3, 2), True),
        ((3, 1), (4, 1), False),
    ],
)
def test_same_host(one: Any, other: Any, same: bool) -> None:
    assert (host_of(one) == host_of(other)) is same
    assert host_of(one) is not None


@pytest.mark.parametrize("address", ["", "/run/server", b"\0abstract", None, ()])
def test_no_host(address: Any) -> None:
    assert host_of(address) is None
