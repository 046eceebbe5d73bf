"""The garbage of tests: who collects it, and who hears its complaints.

Futures that nobody asked and sockets that nobody closed complain when they are collected, so tests collect what they
leave. With tens of thousands of objects of the test runner around, a collection costs a hundred times what the garbage
itself would: so whatever was there before is frozen, that is taken out of the collector's sight.

Knows the collector, and nothing else.
"""

from __future__ import annotations

import contextlib
import gc
from collections.abc import Iterator

__all__ = ["own_garbage", "settle"]

# PyPy has nothing to freeze.
_freeze = getattr(gc, "freeze", int)


def settle() -> None:
    """Collect what can be collected, and freeze the rest."""
    gc.collect()
    _freeze()


@contextlib.contextmanager
def own_garbage() -> Iterator[None]:
    """Collect what the body left, so that it complains now and not in a later test.

    What was there before stays frozen: its complaints cannot land here. ``gc.unfreeze()`` gives it back to the
    collector; tests/conftest.py does so in the end.
    """
    _freeze()
    yield
    gc.collect()
