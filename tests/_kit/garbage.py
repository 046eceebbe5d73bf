"""Garbage collection after tests, and the warnings that it causes.

Futures whose exception was never retrieved and sockets that were never closed cause warnings when they are collected.
So each test collects its garbage. The test runner has tens of thousands of objects, and a collection with them takes a
hundred times as long. So objects from before the test are frozen: the collector then ignores them.

May know: the garbage collector.
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
