"""From single measurements to the figures of a table.

Charter: arithmetic. Must not know where the numbers come from.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Measurement:
    """What one round of one case gave.

    Parameters:
        cost: in the unit of the case.
        round_trip: median, in microseconds, if there is one.
        rate: how many a second.
        busy: share of the time in which the process that is measured used the CPU, from 0 to 1.
        load_busy: the same of the process at the other end.
    """

    cost: float
    round_trip: float | None = None
    rate: float | None = None
    busy: float | None = None
    load_busy: float | None = None


@dataclass(frozen=True)
class Summary:
    """What the rounds of one case come to: medians.

    Parameters:
        cost: in the unit of the case.
        spread: how far rounds are apart: largest less smallest cost, as a share of the median.
        rounds: how many there were.
    """

    cost: float
    spread: float
    rounds: int
    round_trip: float | None = None
    rate: float | None = None
    busy: float | None = None
    load_busy: float | None = None


def median(values: Sequence[float | None]) -> float | None:
    """The median of the values that are there."""
    there = [value for value in values if value is not None]
    return statistics.median(there) if there else None


def summary(measurements: Sequence[Measurement]) -> Summary:
    """Medians over rounds, of which there is at least one."""
    costs = [measurement.cost for measurement in measurements]
    middle = statistics.median(costs)
    return Summary(
        cost=middle,
        spread=(max(costs) - min(costs)) / middle if middle else 0.0,
        rounds=len(costs),
        round_trip=median([m.round_trip for m in measurements]),
        rate=median([m.rate for m in measurements]),
        busy=median([m.busy for m in measurements]),
        load_busy=median([m.load_busy for m in measurements]),
    )
