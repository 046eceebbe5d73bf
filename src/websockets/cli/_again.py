"""One connection after the other: connect again after the end, with the lines that weren't sent yet.

May know: when to try again, lines that go on. Must not know: argparse, terminals.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Self

from ..asyncio.client import ClientConnection, process_exception
from ..client import backoff
from ._format import Display
from ._talk import Lines, Talk, nothing_more, on_connection
from ._target import Target

__all__ = ["KeptLines", "again_and_again"]


class KeptLines:
    """Lines for several connections: a line that one of them waits for goes to the next.

    Parameters:
        lines: gives the lines.
    """

    def __init__(self, lines: Lines) -> None:
        self._lines, self._iterator = lines, aiter(lines)
        self._next: asyncio.Task[str | None] | None = None

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> str:
        if self._next is None:
            self._next = asyncio.create_task(self._take())
        # Cancelling ends only this wait.
        line = await asyncio.shield(self._next)
        if line is None:
            raise StopAsyncIteration
        self._next = None
        return line

    async def _take(self) -> str | None:
        return await anext(self._iterator, None)

    async def aclose(self) -> None:
        """Do nothing, because the lines are for the next connection, too."""

    async def end(self) -> None:
        """End the lines."""
        if self._next is not None:
            self._next.cancel()
            await asyncio.gather(self._next, return_exceptions=True)
        await self._lines.aclose()


async def again_and_again(
    target: Target, display: Display, work: Talk, *, opened: Callable[[ClientConnection], None] = nothing_more
) -> int:
    """Do some work on one connection after the other, until it is complete or connecting makes no sense.

    Parameters:
        target: the server.
        display: where to report.
        work: what to do.
        opened: reports more about a connection when it is open; nothing by default.

    Returns:
        The status of the last connection.
    """
    delays = backoff()
    while True:
        failures: list[BaseException] = []
        status = await on_connection(target, display, work, opened=opened, failures=failures)
        if not failures:
            delays = backoff()
        if not (_passes(failures[0]) if failures else work.lost):
            return status
        delay = next(delays)
        display.note(f"Connecting again in {delay:.1f} seconds.")
        await asyncio.sleep(delay)


def _passes(exc: BaseException) -> bool:
    """Return whether a failure may pass by itself."""
    return isinstance(exc, Exception) and process_exception(exc) is None
