"""Signals that end the command: the first in good order, the second immediately.

May know: signals, the task that they cancel. Must not know: the work of the task.
"""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import asyncio

__all__ = ["ENDING", "Interruption", "handled", "heeded", "loading"]

# A terminal sends SIGINT for Ctrl-C, and SIGHUP when it is closed.
ENDING = ("SIGINT", "SIGTERM", "SIGHUP")

# When a terminal is closed, the kernel and the shell may both send SIGHUP.
ONCE = frozenset({"SIGHUP"})


def heeded(names: Iterable[str]) -> list[signal.Signals]:
    """Return the signals that exist on this system, except those ignored since the start, as with ``nohup``."""
    found: list[signal.Signals] = [getattr(signal, name) for name in names if hasattr(signal, name)]
    return [number for number in found if signal.getsignal(number) is not signal.SIG_IGN]


@contextlib.contextmanager
def loading() -> Iterator[None]:
    """During a ``with`` block that imports modules, let Ctrl-C end the process at once.

    An exception would show a traceback. Or it would get lost, as in a callback of a weak reference, which imports use.
    """
    ours = signal.getsignal(signal.SIGINT) is signal.default_int_handler
    with contextlib.ExitStack() as stack:
        if ours:
            with contextlib.suppress(ValueError):  # only the main thread may set handlers
                signal.signal(signal.SIGINT, signal.SIG_DFL)
                stack.callback(signal.signal, signal.SIGINT, signal.default_int_handler)
        yield


@contextlib.contextmanager
def handled(handler: Callable[[int, Any], None]) -> Iterator[None]:
    """During a ``with`` block, handle the signals that end the command by a function, where that is possible."""
    before: dict[int, Any] = {}
    try:
        with contextlib.suppress(ValueError):  # only the main thread may set handlers
            for number in heeded(ENDING):
                before[number] = signal.signal(number, handler)
        yield
    finally:
        for name, former in before.items():
            signal.signal(name, former or signal.SIG_DFL)


class Interruption:
    """Cancels a task at the first signal and at the second; the third signal interrupts the running code.

    The first two raise nothing in the running code, because an orderly end must not stop half done.

    Parameters:
        once: names of signals that count only once, even if they are repeated.
    """

    def __init__(self, once: frozenset[str] = ONCE) -> None:
        self._once = once
        self._count = 0
        self._task: asyncio.Task[Any] | None = None

    def __call__(self, number: int, frame: object) -> None:
        """Handle a signal.

        Raises:
            KeyboardInterrupt: this is the third signal.
        """
        if self._count and signal.Signals(number).name in self._once:
            return
        self._count += 1
        if self._count > 2:
            raise KeyboardInterrupt
        self._cancel()

    def begin(self, task: asyncio.Task[Any] | None) -> None:
        """Set the task to cancel; cancel it at once if a signal has arrived before."""
        self._task = task
        if self._count:
            self._cancel()

    def _cancel(self) -> None:
        if self._task is not None:
            with contextlib.suppress(RuntimeError):  # the loop is closed
                self._task.get_loop().call_soon_threadsafe(self._task.cancel)
