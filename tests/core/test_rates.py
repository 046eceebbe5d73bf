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
