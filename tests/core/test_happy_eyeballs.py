"""Happy eyeballs: the order of addresses, when attempts begin, and what is said when all have failed."""

from __future__ import annotations

import errno
import itertools
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from websockets._rules.happy_eyeballs import ATTEMPT_DELAY, Pace, Race, address_order, combined, naming, with_zone

V6, V4 = "IPv6", "IPv4"
A, B, C = (V6, "a"), (V6, "b"), (V6, "c")
X, Y = (V4, "x"), (V4, "y")


@pytest.mark.parametrize(
    ("found", "first", "order"),
    [
        ([A, B, C, X, Y], 1, [A, X, B, Y, C]),
        ([A, B, C, X, Y], 2, [A, B, X, C, Y]),
        ([A, B, C, X, Y], 9, [A, B, C, X, Y]),
        ([A, B, C, X, Y], 0, [A, B, C, X, Y]),
        ([X, A, B], 1, [X, A, B]),
        ([X, Y, A], 1, [X, A, Y]),
        ([A, B], 1, [A, B]),
        ([A, X, A, X], 1, [A, X]),
        ([A, A], 0, [A]),
        ([], 1, []),
    ],
)
def test_order(found: Any, first: int, order: Any) -> None:
    assert address_order(found, first) == order


@given(st.lists(st.tuples(st.sampled_from([V6, V4, "other"]), st.integers(0, 9))), st.integers(0, 5))
def test_order_keeps_every_address_and_each_family_in_its_order(found: list[tuple[str, int]], first: int) -> None:
    order = address_order(found, first)
    assert sorted(order) == sorted(set(found))
    for family, of_it in itertools.groupby(sorted(order, key=lambda address: address[0]), lambda address: address[0]):
        assert list(of_it) == list(dict.fromkeys(address for address in found if address[0] == family))


@pytest.mark.parametrize(
    ("arguments", "pace"),
    [
        ({}, Pace(0.25, 1, False)),
        ({"happy_eyeballs_delay": None}, Pace(None, 0, False)),
        ({"happy_eyeballs_delay": 0}, Pace(0, 1, False)),
        ({"happy_eyeballs_delay": None, "interleave": 2}, Pace(None, 2, False)),
        ({"interleave": 0, "all_errors": True}, Pace(0.25, 0, True)),
    ],
)
def test_pace_from_arguments_of_asyncio(arguments: dict[str, Any], pace: Pace) -> None:
    arguments["family"] = 0
    assert Pace.taken_from(arguments) == pace
    assert arguments == {"family": 0}


def failure(text: str = "refused", number: int = errno.ECONNREFUSED) -> OSError:
    return OSError(number, text)


def test_attempts_begin_one_after_the_other() -> None:
    race = Race([A, B, X], Pace())
    assert list(race.due(100.0)) == [A]
    assert race.next_timeout == 100.0 + ATTEMPT_DELAY
    assert list(race.due(100.24)) == []
    assert list(race.due(100.26)) == [X]
    assert race.next_timeout == 100.26 + ATTEMPT_DELAY
    assert list(race.due(200.0)) == [B]
    # Nothing is left to begin.
    assert race.next_timeout == math.inf
    assert not race.lost


def test_after_a_failure_the_next_attempt_is_due_at_once() -> None:
    race = Race([A, X, B], Pace())
    assert list(race.due(100.0)) == [A]
    race.failed(failure())
    assert not race.lost
    assert list(race.due(100.01)) == [X]
    # And the one after it has its delay again.
    assert race.next_timeout == 100.01 + ATTEMPT_DELAY
    race.failed(failure())
    assert list(race.due(100.02)) == [B]
    assert not race.lost
    race.failed(failure())
    assert race.lost
    assert race.next_timeout == math.inf
    assert list(race.due(100.03)) == []


def test_a_failure_while_others_run_brings_the_next() -> None:
    race = Race([A, X, B], Pace())
    assert list(race.due(100.0)) == [A]
    assert list(race.due(100.25)) == [X]
    race.failed(failure())  # the first or the second, all the same
    assert list(race.due(100.3)) == [B]
    race.failed(failure())
    assert not race.lost
    race.failed(failure())
    assert race.lost


def test_without_a_delay_all_begin_at_once() -> None:
    assert list(Race([A, B, X], Pace(delay=0)).due(100.0)) == [A, X, B]


def test_one_at_a_time() -> None:
    race = Race([A, B, X], Pace(delay=None, first=0))
    for address in (A, B, X):
        assert list(race.due(100.0)) == [address]
        assert race.next_timeout == math.inf
        assert list(race.due(10**9)) == []
        race.failed(failure())
    assert race.lost


def test_error_of_one_attempt() -> None:
    race = Race([A], Pace())
    assert list(race.due(0)) == [A]
    error = failure()
    race.failed(error)
    assert race.error() is error


def test_group_of_errors() -> None:
    race = Race([A, X], Pace(all_errors=True))
    errors = [failure("one"), failure("two")]
    for error in errors:
        assert len(list(race.due(0))) == 1
        race.failed(error)
    group = race.error()
    assert isinstance(group, ExceptionGroup)
    assert group.message == "create_connection failed"
    assert list(group.exceptions) == errors


REFUSED, UNREACHABLE = failure("Connect call failed A"), failure("Connect call failed B", errno.ENETUNREACH)


@pytest.mark.parametrize(
    ("errors", "kind", "number", "text"),
    [
        ([REFUSED], ConnectionRefusedError, errno.ECONNREFUSED, str(REFUSED)),
        ([REFUSED, failure("Connect call failed A")], ConnectionRefusedError, errno.ECONNREFUSED, str(REFUSED)),
        (
            [REFUSED, failure("Connect call failed X")],
            ConnectionRefusedError,
            errno.ECONNREFUSED,
            f"[Errno {errno.ECONNREFUSED}] Multiple exceptions: {REFUSED}, "
            f"[Errno {errno.ECONNREFUSED}] Connect call failed X",
        ),
        ([REFUSED, UNREACHABLE], OSError, None, f"Multiple exceptions: {REFUSED}, {UNREACHABLE}"),
        ([OSError("one"), OSError("two")], OSError, None, "Multiple exceptions: one, two"),
    ],
)
def test_one_error_for_several(errors: list[OSError], kind: type[OSError], number: int | None, text: str) -> None:
    error = combined(errors)
    assert (type(error), error.errno, str(error)) == (kind, number, text)


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (failure("Connect call failed ('::1', 80, 0, 0)"), "Connect call failed ('::1', 80, 0, 0)"),
        (failure("Network is unreachable"), "Connect call failed ('::1', 80, 0, 0): Network is unreachable"),
        (OSError("no local address"), "Connect call failed ('::1', 80, 0, 0): no local address"),
    ],
)
def test_error_with_the_address(error: OSError, text: str) -> None:
    named = naming(error, ("::1", 80, 0, 0))
    assert str(named) == (f"[Errno {error.errno}] {text}" if error.errno else text)
    assert (type(named), named.errno) == (type(error), error.errno)


@pytest.mark.parametrize(
    ("address", "result"),
    [
        (("1.2.3.4", 80), ("1.2.3.4", 80)),
        (("::1", 80, 0, 0), ("::1", 80, 0, 0)),
        (("fe80::1", 80, 7, 3), ("fe80::1%3", 80, 7, 3)),
        (("fe80::1%eth0", 80, 0, 3), ("fe80::1%eth0", 80, 0, 3)),
    ],
)
def test_zone_of_an_address(address: tuple[Any, ...], result: tuple[Any, ...]) -> None:
    assert with_zone(address) == result
