"""Hypothesis strategies, in a module of their own so that the rest of the kit needs no package.

May know: hypothesis, bytes.
"""

from __future__ import annotations

from hypothesis import settings
from hypothesis import strategies as st

__all__ = ["examples", "splits"]

#: How many examples a test has that doesn't say, in the profile of the suite: see tests/conftest.py.
USUAL = 40


def examples(count: int, *, steps: int = 50) -> settings:
    """The settings of a test that needs another number of examples than usual; longer profiles multiply it, too.

    Parameters:
        count: how many there are in the profile of the suite.
        steps: how many steps a run of a state machine has at most.
    """
    return settings(max_examples=count * settings().max_examples // USUAL, stateful_step_count=steps)


def splits(data: bytes) -> st.SearchStrategy[list[bytes]]:
    """Generate any way to cut ``data`` into reads, none of them empty; it shrinks toward a single read.

    Parameters:
        data: the bytes to cut. Empty data gives no reads at all.

    Returns:
        A strategy of lists of chunks that give ``data`` when joined.
    """
    if len(data) < 2:
        return st.just([data] if data else [])
    cuts = st.lists(st.integers(1, len(data) - 1), unique=True).map(sorted)
    return cuts.map(lambda at: [data[a:b] for a, b in zip([0, *at], [*at, len(data)], strict=True)])
