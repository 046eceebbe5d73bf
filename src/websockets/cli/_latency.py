"""Statistics of round trips, in constant memory: percentiles, a histogram, and their text.

May know: numbers and strings. Must not know: the source of the times, the use of the text.
"""

from __future__ import annotations

import bisect
import collections
import dataclasses
import itertools
import math
from collections.abc import Iterable

__all__ = [
    "Bin",
    "Latencies",
    "bar",
    "drawn",
    "edges",
    "histogram",
    "milliseconds",
    "nice_step",
    "number_of",
    "summary",
    "table",
]

# Neighbouring classes differ by two per cent, so the error of each time is at most one per cent.
GROWTH = 1.02

# A clock may measure zero, but a logarithm needs a positive number: one nanosecond.
SHORTEST = 1e-9

# If the 99th percentile is more than this multiple of the minimum, the bins of a histogram get wider and wider...
WIDE = 8

# ...with these bounds, times powers of ten.
SERIES = (1, 1.5, 2, 3, 5, 7)

EIGHTHS = " ▏▎▍▌▋▊▉"


@dataclasses.dataclass
class Latencies:
    """Times in seconds. Only the number in each class is kept; sum, minimum and maximum are exact."""

    count: int = 0
    total: float = 0.0
    least: float = math.inf
    most: float = 0.0
    classes: collections.Counter[int] = dataclasses.field(default_factory=collections.Counter)

    def add(self, seconds: float) -> None:
        """Add one time."""
        seconds = max(seconds, SHORTEST)
        self.count += 1
        self.total += seconds
        self.least = min(self.least, seconds)
        self.most = max(self.most, seconds)
        self.classes[round(math.log(seconds) / math.log(GROWTH))] += 1

    def extend(self, times: Iterable[float]) -> None:
        """Add several times."""
        for seconds in times:
            self.add(seconds)

    @property
    def mean(self) -> float:
        """Return the arithmetic mean; 0.0 if there are no times."""
        return self.total / self.count if self.count else 0.0

    def percentile(self, percent: float) -> float:
        """Return a percentile, with an error of at most one per cent; 0.0 if there are no times."""
        rank = max(1, math.ceil(self.count * percent / 100))
        if rank == self.count:
            return self.most
        for seconds, times in self.values():
            rank -= times
            if rank <= 0:
                return seconds
        return 0.0

    def values(self) -> list[tuple[float, int]]:
        """Return for each class its representative time and the number of times in it."""
        return [
            (min(max(GROWTH**number, self.least), self.most), times) for number, times in sorted(self.classes.items())
        ]


# -------------------------------------------------------------------------------------------------------------- numbers


def milliseconds(seconds: float) -> str:
    """Return a time in milliseconds as text for humans, with about three digits."""
    value = seconds * 1000
    digits = 0 if value >= 99.95 else 1 if value >= 9.995 else 2 if value >= 0.9995 else 3
    return f"{value:.{digits}f}"


def number_of(count: int, noun: str) -> str:
    """Return a number with a noun, in the plural if necessary."""
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"


PERCENTILES = {"p50": 50, "p90": 90, "p99": 99, "p99.9": 99.9}


def summary(times: Latencies, percentiles: Iterable[str] = PERCENTILES) -> dict[str, float]:
    """Return the usual statistics of times, in seconds, by name."""
    if not times.count:
        return {}
    middle = {name: times.percentile(PERCENTILES[name]) for name in percentiles}
    return {"min": times.least, "mean": times.mean, **middle, "max": times.most}


def table(seconds: dict[str, float]) -> str:
    """Return a summary as one line of text."""
    return "  ".join(f"{name} {milliseconds(value)}" for name, value in seconds.items()) + " ms"


# ------------------------------------------------------------------------------------------------------------ histogram


@dataclasses.dataclass(frozen=True)
class Bin:
    """The number of times that are at least ``low`` and less than ``high``, in seconds."""

    low: float
    high: float
    count: int


def nice_step(span: float, parts: int) -> float:
    """Return a round width for about *parts* parts of a span: 1, 2 or 5, times a power of ten."""
    rough = max(span, SHORTEST) / parts
    power = 10.0 ** math.floor(math.log10(rough))
    return next((power * factor for factor in (1, 2, 5) if power * factor >= rough), power * 10)


def edges(low: float, high: float, parts: int = 10) -> list[float]:
    """Return round times, from one not above ``low`` to one above ``high``.

    There are about *parts* of them at equal distances. If nearly all times would then be in the first bin, with a long
    tail after it, each is about one and a half times the one before.
    """
    if high <= WIDE * low:
        step = nice_step(high - low, parts)
        return [index * step for index in range(math.floor(low / step), math.floor(high / step) + 2)]
    powers = range(math.floor(math.log10(low)), math.floor(math.log10(high)) + 2)
    series = [factor * 10.0**power for power in powers for factor in SERIES]
    return series[bisect.bisect_right(series, low) - 1 : bisect.bisect_right(series, high) + 1]


def histogram(times: Latencies) -> list[Bin]:
    """Return bins with round bounds up to the 99th percentile, and one for longer times, if there are any."""
    if not times.count:
        return []
    bounds = edges(times.least, times.percentile(99))
    counts: collections.Counter[int] = collections.Counter()
    for seconds, number in times.values():
        counts[bisect.bisect_right(bounds, seconds)] += number
    bins = [Bin(low, high, counts[index]) for index, (low, high) in enumerate(itertools.pairwise(bounds), 1)]
    beyond = counts[len(bounds)]
    return [*bins, Bin(bounds[-1], math.inf, beyond)] if beyond else bins


def bar(share: float, width: int, blocks: bool = True) -> str:
    """Return a bar that fills a share of a width; with block characters, exact to an eighth of a column."""
    if not blocks:
        return "#" * round(share * width)
    full, eighths = divmod(round(share * width * 8), 8)
    return "█" * full + EIGHTHS[eighths].strip()


def drawn(bins: list[Bin], width: int = 40, blocks: bool = True) -> list[str]:
    """Return a histogram as lines of text: bounds in milliseconds, a bar, a share."""
    most = max((each.count for each in bins), default=0)
    total = sum(each.count for each in bins)
    lows = [_bound(each.low) for each in bins]
    highs = [" or more" if each.high == math.inf else f" - {_bound(each.high)}" for each in bins]
    left, right = max(map(len, lows), default=0), max(map(len, highs), default=0)
    return [
        f"{low:>{left}}{high:<{right}} ms  {bar(each.count / most, width, blocks):<{width}} {each.count / total:6.1%}"
        for low, high, each in zip(lows, highs, bins, strict=True)
    ]


def _bound(seconds: float) -> str:
    """Return a round time in milliseconds, without digits from the binary representation."""
    return f"{seconds * 1000:.6g}"
