"""Calling hooks of the user, which may be coroutine functions.

May know: how to wait. Must not know: what the hooks are for, and what follows from what they give: that is decided
further down.
"""

from __future__ import annotations

import inspect
from typing import TypeVar

from .._session.hooks import Steps

__all__ = ["carry_out"]

T = TypeVar("T")


async def carry_out(steps: Steps[T]) -> T:
    """Call the hooks that a decision asks for, wait for those that take their time, and return the decision.

    Parameters:
        steps: the decision, as :mod:`.._session.hooks` describes it.
    """
    try:
        step = next(steps)
        while True:
            try:
                given = step.hook(*step.arguments)
                if inspect.isawaitable(given):
                    given = await given
            except Exception as exc:
                step = steps.throw(exc)
            else:
                step = steps.send(given)
    except StopIteration as end:
        decision: T = end.value
        return decision
    finally:
        # If this task is cancelled, nothing is decided.
        steps.close()
