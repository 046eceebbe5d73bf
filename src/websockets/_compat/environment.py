"""Reads environment variables: each is checked when the module that it belongs to is imported.

May know: how a number, or one of a few words, is written in a variable. Must not know: what a variable is for, and what
its default is.
"""

from __future__ import annotations

import math
import os
from collections.abc import Collection
from typing import TypeVar

__all__ = ["WrongVariable", "chosen", "number", "whole_number"]


class WrongVariable(ValueError):
    """An environment variable has a value that isn't allowed."""


Default = TypeVar("Default", int, None)


def whole_number(name: str, default: Default) -> int | Default:
    """Return the whole number in a variable, 0 or more; ``default`` if the variable isn't set.

    Raises:
        WrongVariable: it is something else.
    """
    text = os.environ.get(name)
    if text is None:
        return default
    try:
        value = int(text)
    except ValueError:
        value = -1
    if value < 0:
        raise WrongVariable(f"{name} must be a whole number, 0 or more, not {text!r}")
    return value


def number(name: str, default: float) -> float:
    """Return the finite number in a variable, 0 or more; ``default`` if the variable isn't set.

    Raises:
        WrongVariable: it is something else.
    """
    text = os.environ.get(name)
    if text is None:
        return default
    try:
        value = float(text)
    except ValueError:
        value = -1
    if value < 0 or not math.isfinite(value):
        raise WrongVariable(f"{name} must be a number, 0 or more, not {text!r}")
    return value


def chosen(name: str, words: Collection[str]) -> str:
    """Return the word in a variable; an empty one if the variable isn't set, or is empty.

    Raises:
        WrongVariable: it is a word that isn't in ``words``.
    """
    text = os.environ.get(name, "")
    if text and text not in words:
        *others, last = words
        allowed = f"{', '.join(others)} or {last}" if others else last
        raise WrongVariable(f"{name} must be {allowed}, not {text!r}")
    return text
