"""Statistics of round trips: percentiles against sorted lists, round bounds, how it all looks."""

from __future__ import annotations

import itertools
import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from websockets.cli._latency import (
    Bin,
    Latencies,
    bar,
    drawn,
    edges,
    histogram,
    milliseconds,
    nice_step,
    number_of,
    summary,
    table,
)

times = st.lists(st.floats(min_value=1e-7, max_value=1e4), min_size=1, max_size=200)


def latencies(*seconds: float) -> Latencies:
    result = Latencies()
    result.extend(seconds)
    return result


@given(seconds=times, percent=st.sampled_from([0, 1, 50, 90, 99, 99.9, 100]))
def test_percentiles_are_those_of_a_sorted_list(seconds: list[float], percent: float) -> None:
    exact = sorted(seconds)[max(math.ceil(len(seconds) * percent / 100), 1) - 1]
    assert latencies(*seconds).percentile(percent) == pytest.approx(exact, rel=0.011)


@given(seconds=times)
def test_count_mean_and_extremes_are_exact(seconds: list[float]) -> None:
    found = latencies(*seconds)
    assert (found.count, found.least, found.most) == (len(seconds), min(seconds), max(seconds))
    assert found.mean == pytest.approx(sum(seconds) / len(seconds))
    assert found.least <= found.percentile(0) <= found.percentile(100) <= found.most


def test_memory_does_not_grow_with_the_number_of_times() -> None:
    source = random.Random(1)
    found = latencies(*(source.uniform(1e-4, 1e-2) for _ in range(20_000)))
    assert len(found.classes) < 250


def test_nothing_was_measured() -> None:
    assert (Latencies().mean, Latencies().percentile(50)) == (0.0, 0.0)
    assert summary(Latencies()) == {}
    assert histogram(Latencies()) == []
    assert drawn([]) == []


def test_a_clock_that_stands_still() -> None:
    found = latencies(0.0, 0.0)
    assert found.percentile(50) == pytest.approx(0.0, abs=1e-8)
    assert sum(each.count for each in histogram(found)) == 2


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.0, "0.000"),
        (0.0001234, "0.123"),
        (0.00099949, "0.999"),
        (0.0009996, "1.00"),
        (0.0012345, "1.23"),
        (0.0099951, "10.0"),
        (0.01234, "12.3"),
        (0.09996, "100"),
        (12.3456, "12346"),
    ],
)
def test_milliseconds(seconds: float, text: str) -> None:
    assert milliseconds(seconds) == text


@pytest.mark.parametrize(
    ("count", "text"), [(0, "0 pings"), (1, "1 ping"), (2, "2 pings"), (1234567, "1,234,567 pings")]
)
def test_numbers_of_things(count: int, text: str) -> None:
    assert number_of(count, "ping") == text


def test_summary() -> None:
    seconds = summary(latencies(*(number / 1000 for number in range(1, 101))), ["p50", "p99"])
    assert seconds == pytest.approx({"min": 0.001, "mean": 0.0505, "p50": 0.05, "p99": 0.099, "max": 0.1}, rel=0.011)
    assert table({"min": 0.001, "max": 0.1}) == "min 1.00  max 100 ms"


# ------------------------------------------------------------------------------------------------------------ histogram


@pytest.mark.parametrize(
    ("span", "parts", "step"),
    [(10, 10, 1), (9.9, 10, 1), (11, 10, 2), (25, 10, 5), (51, 10, 10), (0.003, 10, 0.0005), (0, 10, 1e-10)],
)
def test_steps_are_round(span: float, parts: int, step: float) -> None:
    assert nice_step(span, parts) == pytest.approx(step)


def test_edges_at_the_same_distance() -> None:
    assert edges(0.0102, 0.0198) == pytest.approx([0.010 + 0.001 * index for index in range(11)])


def test_edges_of_a_long_tail() -> None:
    assert edges(0.00012, 0.0021) == pytest.approx(
        [0.0001, 0.00015, 0.0002, 0.0003, 0.0005, 0.0007, 0.001, 0.0015, 0.002, 0.003]
    )


@given(seconds=times)
def test_every_time_is_in_its_bin(seconds: list[float]) -> None:
    found = latencies(*seconds)
    bins = histogram(found)
    assert sum(each.count for each in bins) == len(seconds)
    assert all(one.high == other.low for one, other in itertools.pairwise(bins))
    assert bins[0].low <= found.least * 1.011
    assert len(bins) < 90
    for each in bins:
        inside = sum(each.low * 1.011 <= time < each.high * 0.989 for time in seconds)
        near = sum(each.low * 0.989 <= time < each.high * 1.011 for time in seconds)
        assert inside <= each.count <= near


def test_bars() -> None:
    assert [bar(share, 4) for share in (0, 0.01, 0.125, 0.5, 0.7, 1)] == ["", "", "▌", "██", "██▊", "████"]
    assert [bar(share, 4, blocks=False) for share in (0, 0.5, 1)] == ["", "##", "####"]


def test_picture() -> None:
    bins = [Bin(0.0007, 0.001, 1), Bin(0.001, 0.0015, 4), Bin(0.0015, math.inf, 3)]
    assert drawn(bins, 8, blocks=False) == [
        "0.7 - 1     ms  ##        12.5%",
        "  1 - 1.5   ms  ########  50.0%",
        "1.5 or more ms  ######    37.5%",
    ]
