"""A decision on which hooks of the user have a say: it names the hook to call, and goes on with what that gave.

May know: functions of users, and their arguments. Must not know: how they are called. A front-end for asyncio or trio
awaits what a coroutine function gives; one for threads just calls.

A decision of this kind is a generator. It yields a :class:`CallHook`; the front-end calls the hook, and then either
sends what it returned, or throws the exception that it raised. What the generator returns is the decision.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import Any, NamedTuple, TypeVar

__all__ = ["CallHook", "Steps"]

T = TypeVar("T")


class CallHook(NamedTuple):
    """Call a hook of the user, and go on with what it returned or raised.

    Attributes:
        hook: function of the user; on asyncio and trio it may be a coroutine function.
        arguments: what to call it with.
    """

    hook: Callable[..., Any]
    arguments: tuple[Any, ...]


Steps = Generator[CallHook, Any, T]
