"""Event loops that the Autobahn programs can run on.

Charter: knows how to make a loop and run a coroutine on it; knows nothing of WebSocket.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any


def new_uvloop() -> asyncio.AbstractEventLoop:
    """Make a uvloop event loop; imported late because uvloop is optional."""
    import uvloop

    return uvloop.new_event_loop()


LOOPS: dict[str, Callable[[], asyncio.AbstractEventLoop]] = {
    "asyncio": asyncio.new_event_loop,
    "uvloop": new_uvloop,
}


def run(main: Coroutine[Any, Any, None], loop: str) -> None:
    """Run ``main`` to its end on the event loop named ``loop``, a key of ``LOOPS``."""
    with asyncio.Runner(loop_factory=LOOPS[loop]) as runner:
        runner.run(main)
