"""Limits of rates: token buckets, and what they may be."""

from __future__ import annotations

from typing import Any

import pytest

from websockets._rules.option_checks import Unfit
from websockets._rules.rates import Rates, RatesInUse, action, rate


def test_as_many_as_may_come_at_once() -> None:
    limits = RatesInUse(Rates((10, 5), None, False))
    assert limits.take(5, 1000, 100) == 0
    assert limits.take(6, 0, 100) == pytest.approx(0.1)
    # The time has passed: what was too much is paid for.
    assert limits.take(6, 0, 100.2) == 0
    assert limits.take(8, 0, 100.2) == pytest.approx(0.1)


def test_a_pause_allows_no_more_than_at_once() -> None:
    limits = RatesInUse(Rates((10, 5), None, False))
    limits.take(5, 0, 0)
    assert limits.take(10, 0, 1000) == 0
    assert limits.take(12, 0, 1000) == pytest.approx(0.2)


def test_bytes_and_messages() -> None:
    limits = RatesInUse(Rates((10, 5), (100, 200), True))
    assert limits.closes
    assert limits.take(1, 300, 0) == pytest.approx(1)
    assert limits.take(26, 0, 1) == pytest.approx(1.1, abs=2)


def test_bytes_alone() -> None:
    limits = RatesInUse(Rates(None, (100, 200), False))
    assert limits.take(10**6, 200, 0) == 0
    assert limits.take(10**6, 50, 0) == 0.5


def received(limits: RatesInUse, arrivals: list[float]) -> list[float]:
    """At which of these times somebody had to wait; nobody looks at the clock before what was granted is spent."""
    waits = []
    for number, now in enumerate(arrivals, 1):
        if number > limits.messages_granted and limits.take(number, 0, now):
            waits.append(now)
    return waits


def test_a_part_is_granted() -> None:
    limits = RatesInUse(Rates((10, 80), (1000, 4000), False))
    assert (limits.messages_granted, limits.bytes_granted) == (0, 0)
    assert limits.take(1, 100, 0) == 0
    assert (limits.messages_granted, limits.bytes_granted) == (1 + 10, 500)
    # What is left, if that is less; nothing beyond a limit.
    assert limits.take(1 + 74, 3700, 0) == 0
    assert (limits.messages_granted, limits.bytes_granted) == (75 + 5, 200)
    assert limits.take(75 + 6, 0, 0) == pytest.approx(0.1)
    assert limits.messages_granted == 81


def test_no_limit_grants_everything() -> None:
    limits = RatesInUse(Rates((10, 80), None, False))
    limits.take(1, 100, 0)
    assert limits.bytes_granted > 2**60
    limits = RatesInUse(Rates(None, (10, 80), False))
    limits.take(1, 100, 0)
    assert limits.messages_granted > 2**60


@pytest.mark.parametrize("burst", [1, 7, 8, 100, 500])
def test_who_stays_below_never_waits(burst: int) -> None:
    rate = 64
    # As fast as allowed; with pauses; all at once after a pause.
    steady = [number / rate for number in range(5 * burst)]
    at_once = [30.0 * burst * turn for turn in range(1, 5) for _ in range(burst)]
    slow = [burst * 1000.0 + number / 8 for number in range(burst // 2)]
    again = [burst * 2000.0] * burst
    assert received(RatesInUse(Rates((rate, burst), None, False)), steady + at_once + slow + again) == []


@pytest.mark.parametrize("burst", [1, 7, 8, 100, 500])
def test_who_sends_more_waits(burst: int) -> None:
    limits = RatesInUse(Rates((1, burst), None, False))
    early = [0.0] * (burst // 8 + 1)
    # After a pause, as many at once as may come, and an eighth more, but not one more than that.
    late = [10_000.0] * (burst + burst // 8 + 1)
    assert received(limits, early) == []
    waits = received(RatesInUse(Rates((1, burst), None, False)), early + late)
    assert 1 <= len(waits) <= burst // 8 + 1


@pytest.mark.parametrize("value", [(1, 1), (0.5, 10**9), [10, 2.0]])
def test_rates(value: Any) -> None:
    assert rate(value) == tuple(value)


@pytest.mark.parametrize(
    "value",
    [5, "ab", None, (1,), (1, 2, 3), (0, 1), (-1, 1), (1, 0), (1, 1.5), (True, 1), (1, True), (float("inf"), 1)],
)
def test_no_rates(value: Any) -> None:
    with pytest.raises(Unfit):
        rate(value)


def test_actions() -> None:
    assert [action("wait"), action("close")] == ["wait", "close"]
    for value in ("stop", 5):
        with pytest.raises(Unfit):
            action(value)
