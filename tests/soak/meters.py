"""What is measured between two rounds, when all is quiet, and whether it grows.

May know: the operating system, the garbage collector, arithmetic. Must not know: the library, what the load is.
"""

from __future__ import annotations

import asyncio
import gc
import os
from collections.abc import Sequence
from typing import NamedTuple

__all__ = ["LIMITS", "Growth", "Heart", "Sample", "growth", "take_sample"]

# Of all samples, the share at the beginning that doesn't count: caches fill, and the allocator finds its size.
WARM_UP = 0.25


class Heart:
    """Beats, and notices when it beats late: the machine did something else, and so timeouts may have passed.

    Attributes:
        loop: the loop that it beats in.
        longest: seconds of the longest time for which the loop stood still.
    """

    # Seconds between two beats, and by which one may be late.
    PERIOD, LATE = 0.05, 0.3

    def __init__(self) -> None:
        self.loop = asyncio.get_running_loop()
        self.longest = 0.0
        self._late_at = -1.0
        self._due = self.loop.time()
        self._beat()

    def _beat(self) -> None:
        now = self.loop.time()
        if now - self._due > self.LATE:
            self._late_at = now
        self.longest = max(self.longest, now - self._due)
        self._due = now + self.PERIOD
        self._next = self.loop.call_at(self._due, self._beat)

    def stop(self) -> None:
        """Beat no more."""
        self._next.cancel()

    def stalled_since(self, time: float) -> bool:
        """Whether the loop stood still after a time, or does so now."""
        return self._late_at > time or self.loop.time() - self._due > self.LATE


class Sample(NamedTuple):
    """What there was at one time.

    Attributes:
        minutes: since the beginning.
        rss: KiB of memory in use.
        descriptors: open files and sockets.
        tasks: tasks of the loop that aren't done.
        objects: objects that the garbage collector knows.
    """

    minutes: float
    rss: float
    descriptors: int
    tasks: int
    objects: int


# What is flat: a line through the samples that rises by no more than this a minute, or over the whole run by no more
# than what samples differ anyway.
LIMITS = {"rss": (512.0, 8192.0), "descriptors": (0.2, 1.0), "tasks": (0.2, 1.0), "objects": (100.0, 1000.0)}


class Growth(NamedTuple):
    """How one thing changed: its first and last value after the warm-up, and the line through all of those.

    Attributes:
        name: the field of the samples.
        first: value of the first sample.
        last: value of the last sample.
        slope: rise a minute, by least squares.
        rise: rise of that line from the first sample to the last.
    """

    name: str
    first: float
    last: float
    slope: float
    rise: float

    @property
    def flat(self) -> bool:
        """Whether it stays within its limits."""
        slope, rise = LIMITS[self.name]
        return self.slope <= slope or self.rise <= rise


def take_sample(minutes: float) -> Sample:
    """Count what there is now."""
    gc.collect()
    with open("/proc/self/statm", encoding="ascii") as file:
        pages = int(file.read().split()[1])
    descriptors = len(os.listdir("/proc/self/fd"))
    rss = pages * os.sysconf("SC_PAGE_SIZE") / 1024
    return Sample(minutes, rss, descriptors, len(asyncio.all_tasks()), len(gc.get_objects()))


def growth(samples: Sequence[Sample]) -> list[Growth]:
    """How everything changed, after the warm-up."""
    counted = samples[max(int(len(samples) * WARM_UP), min(1, len(samples) - 1)) :]
    times = [sample.minutes for sample in counted]
    grown = []
    for name in LIMITS:
        values = [float(getattr(sample, name)) for sample in counted]
        slope = least_squares(times, values)
        grown.append(Growth(name, values[0], values[-1], slope, slope * (times[-1] - times[0])))
    return grown


def least_squares(times: Sequence[float], values: Sequence[float]) -> float:
    """The slope of the line with the least squares; 0 for fewer than two times."""
    middle, mean = sum(times) / len(times), sum(values) / len(values)
    spread = sum((time - middle) ** 2 for time in times)
    if spread == 0:
        return 0.0
    return sum((time - middle) * (value - mean) for time, value in zip(times, values, strict=True)) / spread
