"""Signals that end the command: the first in good order, the second at once.

May know: signals, the task that they cancel. Must not know: what that does.
"""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import asyncio

__all__ = ["ENDING", "Interruption", "handled", "heeded"]

# A terminal sends SIGINT for Ctrl-C, and SIGHUP when it is closed.
ENDING = ("SIGINT", "SIGTERM", "SIGHUP")

# When a terminal is closed, SIGHUP may come twice, from the kernel and from the shell.
ONCE = frozenset({"SIGHUP"})


def heeded(names: Iterable[str]) -> list[signal.Signals]:
    """Return those signals that this system has and that we weren't started to ignore, as ``nohup`` starts programs."""
    found: list[signal.Signals] = [getattr(signal, name) for name in names if hasattr(signal, name)]
    return [number for number in found if signal.getsignal(number) is not signal.SIG_IGN]


@contextlib.contextmanager
def handled(handler: Callable[[int, Any], None]) -> Iterator[None]:
    """During a ``with`` block, have a function handle the signals that end the command, where that is possible."""
    before: dict[int, Any] = {}
    try:
        with contextlib.suppress(ValueError):  # only the main thread may
            for number in heeded(ENDING):
                before[number] = signal.signal(number, handler)
        yield
    finally:
        for name, former in before.items():
            signal.signal(name, former or signal.SIG_DFL)


class Interruption:
    """Cancels a task for the first signal and for the second; the third interrupts whatever runs.

    Nothing is raised where a signal happens to come: what is about to end in good order must not be left half done.

    Parameters:
        once: names of the signals that count once, however often they come.
    """

    def __init__(self, once: frozenset[str] = ONCE) -> None:
        self._once = once
        self._count = 0
        self._task: asyncio.Task[Any] | None = None

    def __call__(self, number: int, frame: object) -> None:
        """Handle a signal.

        Raises:
            KeyboardInterrupt: it is the third.
        """
        if self._count and signal.Signals(number).name in self._once:
            return
        self._count += 1
        if self._count > 2:
            raise KeyboardInterrupt
        self._cancel()

    def begin(self, task: asyncio.Task[Any] | None) -> None:
        """Cancel this task from now on; at once, if there was a signal before."""
        self._task = task
        if self._count:
            self._cancel()

    def _cancel(self) -> None:
        if self._task is not None:
            with contextlib.suppress(RuntimeError):  # the loop is closed
                self._task.get_loop().call_soon_threadsafe(self._task.cancel)
