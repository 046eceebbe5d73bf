"""Tests on the library's virtual clock: how to run them, checks for leftovers, and a limit for their time.

The clock and the network are those of :mod:`websockets.testing`. May know: that module, and nothing else of the
library.
"""

from __future__ import annotations

import asyncio
import functools
import inspect
from collections.abc import Callable, Coroutine
from typing import Any, ParamSpec, TypeVar, overload

from websockets.testing import VirtualClockLoop, idle
from websockets.testing._loop import START, describe_task

from .garbage import own_garbage
from .network import Network

__all__ = ["START", "VirtualLoop", "advance", "idle", "run_virtual", "steps", "virtual"]

_P = ParamSpec("_P")
_T = TypeVar("_T")


class VirtualLoop(VirtualClockLoop):
    """A loop with a virtual clock whose network has scripted peers too.

    Attributes:
        network: where streams of this loop connect; its ``links`` take faults.
        errors: what was passed to ``call_exception_handler``; :func:`virtual` fails a test that leaves any here.
    """

    network: Network

    def __init__(self) -> None:
        self.errors: list[dict[str, Any]] = []
        super().__init__(network=Network())
        self.set_exception_handler(lambda loop, context: self.errors.append(context))

    def stall(self, seconds: float) -> None:
        """Move the clock without running anything, as when a callback computes for that long."""
        self._clock.move(seconds)

    def give_up(self, *, after: float | None = None, spins: int | None = None) -> None:
        """Change when the loop takes a test for endless.

        Parameters:
            after: seconds from now; at first, a day from the start.
            spins: iterations without a move of the clock; at first, a million.
        """
        self._clock.horizon = self._clock.horizon if after is None else self._clock.now + after
        self._clock.spin_limit = self._clock.spin_limit if spins is None else spins


async def advance(seconds: float) -> None:
    """Let virtual time pass, run the timers due in it, and then all that they made ready.

    Parameters:
        seconds: how far the clock moves; not negative.

    Raises:
        ValueError: ``seconds`` is negative.
    """
    if seconds < 0:
        raise ValueError(f"time cannot go back by {-seconds} seconds")
    await asyncio.sleep(seconds)
    await idle()


async def steps(count: int) -> None:
    """Let the running loop, of any kind, go through ``count`` iterations."""
    for _ in range(count):
        await asyncio.sleep(0)


# Running tests.


class _Audit:
    """What a test must not leave behind."""

    def __init__(self, loop: VirtualLoop) -> None:
        self._loop = loop
        self._pending: list[str] = []

    async def watch(self, main: Coroutine[Any, Any, _T]) -> _T:
        """Run the test, let it settle, and note which tasks are still there."""
        result = await main
        await self._loop.idle()
        mine = asyncio.current_task()
        self._pending = sorted(describe_task(task) for task in asyncio.all_tasks() if task is not mine)
        return result

    def complaints(self) -> list[str]:
        """Return a line for each thing left behind."""
        lines = [f"pending task: {task}" for task in self._pending]
        for context in self._loop.errors:
            lines.append(f"reported to the loop: {context.get('message')}: {context.get('exception')!r}")
        return lines

    def verify(self) -> None:
        """Fail if anything was left behind; the first exception reported becomes the cause."""
        if lines := self.complaints():
            causes = (context["exception"] for context in self._loop.errors if "exception" in context)
            raise AssertionError("\n".join(["the test left things behind", *lines])) from next(causes, None)


def run_virtual(main: Coroutine[Any, Any, _T], *, debug: bool | None = None) -> _T:
    """Run a coroutine to its end in a new virtual loop.

    Parameters:
        main: the coroutine.
        debug: asyncio's debug mode; None leaves it as the environment says.

    Returns:
        What the coroutine returns.

    Raises:
        AssertionError: it left a pending task, or something was reported to the loop's exception handler, such as an
            exception that was never retrieved.
        RuntimeError: it waited for what can never come; the message begins with "deadlock" or "livelock".
    """
    loop = VirtualLoop()
    audit = _Audit(loop)
    try:
        with own_garbage(), asyncio.Runner(debug=debug, loop_factory=lambda: loop) as runner:
            result = runner.run(audit.watch(main))
    except BaseException as exc:
        for line in audit.complaints():
            exc.add_note(line)
        raise
    audit.verify()
    return result


@overload
def virtual(test: Callable[_P, Coroutine[Any, Any, _T]], /) -> Callable[_P, _T]: ...


@overload
def virtual(*, debug: bool | None = None) -> Callable[[Callable[_P, Coroutine[Any, Any, _T]]], Callable[_P, _T]]: ...


def virtual(test: Callable[..., Any] | None = None, /, *, debug: bool | None = None) -> Callable[..., Any]:
    """Turn a coroutine function into a plain function that runs it with :func:`run_virtual`.

    Fixtures, parametrization and ``hypothesis.given`` see the signature of the coroutine function. Use it bare, or with
    options.

    Parameters:
        test: the coroutine function.
        debug: asyncio's debug mode; None leaves it as the environment says.

    Raises:
        TypeError: ``test`` is not a coroutine function.
    """
    if test is None:
        return functools.partial(virtual, debug=debug)
    if not inspect.iscoroutinefunction(test):
        raise TypeError(f"{test!r} is not a coroutine function")

    @functools.wraps(test)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        return run_virtual(test(*args, **kwargs), debug=debug)

    return wrapper
