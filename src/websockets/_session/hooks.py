"""Decisions that depend on the user's hooks: they ask for a call of a hook, and continue with its result.

May know: functions of users, and their arguments. Must not know: how to call them. A front-end for asyncio or trio
awaits the result of a coroutine function; one for threads just calls the function.

Such a decision is a generator. It yields a :class:`CallHook`. The front-end calls the hook, and sends its result to the
generator, or throws its exception into it. The decision is the return value of the generator.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import Any, NamedTuple, TypeVar

__all__ = ["CallHook", "Steps"]

T = TypeVar("T")


class CallHook(NamedTuple):
    """The request to call a hook of the user, and to continue with its result or its exception.

    Attributes:
        hook: function of the user; on asyncio and trio it may be a coroutine function.
        arguments: arguments of the call.
    """

    hook: Callable[..., Any]
    arguments: tuple[Any, ...]


Steps = Generator[CallHook, Any, T]
