"""Calls of the user's hooks, which may be coroutine functions.

May know: how to wait. Must not know: the purpose of the hooks, and the effect of their results: ``_session`` decides
that.
"""

from __future__ import annotations

import inspect
from typing import TypeVar

from .._session.hooks import Steps

__all__ = ["carry_out"]

T = TypeVar("T")


async def carry_out(steps: Steps[T]) -> T:
    """Call the hooks that a decision asks for, await their results if needed, and return the decision.

    Parameters:
        steps: the decision, a generator as in :mod:`.._session.hooks`.

    Returns:
        The result of the generator.
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
        # If this task is cancelled, close the generator without a decision.
        steps.close()
