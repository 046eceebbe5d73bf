"""Decisions that depend on the user's hooks, run as in a front-end for threads, which just calls the hooks."""

from __future__ import annotations

from typing import TypeVar

from websockets._session.hooks import Steps

__all__ = ["call_hooks"]

T = TypeVar("T")


def call_hooks(steps: Steps[T]) -> T:
    """Call each hook that a decision asks for, and return the decision."""
    try:
        step = next(steps)
        while True:
            try:
                given = step.hook(*step.arguments)
            except Exception as exc:
                step = steps.throw(exc)
            else:
                step = steps.send(given)
    except StopIteration as end:
        decision: T = end.value
        return decision
