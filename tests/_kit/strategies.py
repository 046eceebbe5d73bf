"""Hypothesis strategies of the kit, apart from the rest so that the kit itself needs no package.

It may know only hypothesis and bytes.
"""

from __future__ import annotations

from hypothesis import strategies as st

__all__ = ["splits"]


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
