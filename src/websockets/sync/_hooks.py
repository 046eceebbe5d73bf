"""Calls of the user's hooks, which may block their thread.

May know: that a hook is called in the thread of its connection, without a lock. Must not know: the purpose of the
hooks, and the effect of their results: ``_session`` decides that.
"""

from __future__ import annotations

import contextlib
from contextlib import AbstractContextManager
from typing import Any, Final, TypeVar

from .._rules.thread_checks import not_awaitable
from .._session.hooks import Steps

__all__ = ["carry_out"]

T = TypeVar("T")

NO_LOCK: Final = contextlib.nullcontext()


def carry_out(
    steps: Steps[T],
    lock: AbstractContextManager[Any] = NO_LOCK,
    inner_lock: AbstractContextManager[Any] = NO_LOCK,
) -> T:
    """Call the hooks that a decision asks for, in this thread, and return the decision.

    Parameters:
        steps: the decision, a generator as in :mod:`.._session.hooks`.
        lock, inner_lock: locks that are held while the decision runs, and not while a hook runs.

    Returns:
        The result of the generator.
    """
    try:
        with lock, inner_lock:
            step = next(steps)
        while True:
            try:
                given = not_awaitable(step.hook, step.hook(*step.arguments))
            except Exception as exc:
                with lock, inner_lock:
                    step = steps.throw(exc)
            else:
                with lock, inner_lock:
                    step = steps.send(given)
    except StopIteration as end:
        decision: T = end.value
        return decision
    finally:
        # If a hook ends the thread, for instance by SystemExit, close the generator without a decision.
        steps.close()
