"""Checks of the values of options, for front-ends where handlers and hooks are called in threads.

May know: values, the checks that all front-ends share. Must not know: the table of options, threads, I/O.
"""

from __future__ import annotations

import inspect
from typing import Any

from .option_checks import Unfit, _called, _closed, _takes, _yields, function, shown

__all__ = ["blocking_function", "blocking_handler", "executor", "not_awaitable"]


def blocking_function(value: Any) -> Any:
    """Accept a callable that isn't async, also as an object with ``__call__()``: it is called in a thread."""
    called = _called(function(value))
    if inspect.iscoroutinefunction(called) or inspect.isasyncgenfunction(called):
        raise Unfit(TypeError)
    return value


def executor(value: Any) -> Any:
    """Accept an executor, by its method, because there are executors beside those of the standard library."""
    if isinstance(value, type) or not callable(getattr(value, "submit", None)):
        raise Unfit(TypeError)
    return value


def blocking_handler(value: Any) -> Any:
    """Accept a connection handler that isn't async: a callable that takes a connection."""
    if _yields(_called(blocking_function(value))):
        raise Unfit(TypeError, "a function with yield does nothing when it is called")
    if not _takes(value, 1):
        raise Unfit(TypeError, "it can't be called with a connection alone")
    return value


def not_awaitable(hook: object, given: Any) -> Any:
    """Return the result of a handler or hook, which nobody would await.

    Raises:
        TypeError: it is awaitable.
    """
    if inspect.isawaitable(given):
        name = _closed(given) if inspect.iscoroutine(given) else type(given).__name__
        raise TypeError(f"{shown(hook)} returned something to await, of {name}, and threads don't await")
    return given
