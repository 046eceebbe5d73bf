"""A run of the suite by itself, as the README has it, is to take little time. What it leaves out, .ci/run has in full.

May know: the environment, and of pytest what a test's parameters are. Must not know: any test.
"""

from __future__ import annotations

import heapq
import itertools
import os
from collections.abc import Hashable, Iterable, Mapping

__all__ = ["BRIEF", "every_pair"]

#: Whether this is a run of the suite by itself. With a profile, as in .ci/run, each peer that misbehaves meets each
#: front-end, and tests have all combinations of their parameters. Without one misbehaving peers meet asyncio's, the
#: front-ends meet all other scenarios, and tests have every pair of values: see tests/conftest.py.
BRIEF = "HYPOTHESIS_PROFILE" not in os.environ

_Pair = tuple[tuple[str, Hashable], ...]


def every_pair(combinations: Iterable[Mapping[str, Hashable]]) -> list[int]:
    """Choose combinations in which all pairs of values meet that meet in any: few faults need three values.

    Parameters:
        combinations: the values of each parameter, by its name. What isn't a product keeps all: each row of a table
            has pairs of its own, and so has each combination of two parameters.

    Returns:
        The places of the chosen ones, in order: always the same ones for the same combinations. Those with the most
        new pairs are chosen first, so that each value meets others in turn.
    """
    pairs = [set(itertools.combinations(sorted(one.items()), min(2, len(one)) or 1)) for one in combinations]
    waiting = [(-len(mine), place) for place, mine in enumerate(pairs)]
    heapq.heapify(waiting)
    met: set[_Pair] = set()
    chosen = []
    while waiting:
        promised, place = heapq.heappop(waiting)
        new = len(pairs[place] - met)
        if new == -promised:
            met |= pairs[place]
            chosen.append(place)
        elif new:
            # It has fewer new ones than when it was looked at last, and others may have more.
            heapq.heappush(waiting, (-new, place))
    return sorted(chosen)
