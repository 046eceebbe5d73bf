"""Event loops that the Autobahn programs can run on, and trio.

Charter: knows how to make a loop and run a coroutine on it, or on trio; knows nothing of WebSocket.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any


def new_uvloop() -> asyncio.AbstractEventLoop:
    """Make a uvloop event loop; imported late because uvloop is optional."""
    import uvloop

    return uvloop.new_event_loop()


LOOPS: dict[str, Callable[[], asyncio.AbstractEventLoop]] = {
    "asyncio": asyncio.new_event_loop,
    "uvloop": new_uvloop,
}


def on_trio(main: Callable[..., Awaitable[None]], *arguments: Any) -> None:
    """Run ``main`` to its end on trio; imported late because trio is optional."""
    import trio

    trio.run(main, *arguments)


def run(main: Coroutine[Any, Any, None], loop: str) -> None:
    """Run ``main`` to its end on the event loop named ``loop``, a key of ``LOOPS``."""
    with asyncio.Runner(loop_factory=LOOPS[loop]) as runner:
        runner.run(main)
