"""Event loops that a library can be measured on.

Charter: knows how to make a loop and run a coroutine on it; knows nothing of WebSocket.
"""

# pyright: reportMissingImports=false
# What is measured is installed where it runs, not where types are checked.

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any


def new_uvloop() -> asyncio.AbstractEventLoop:
    """A loop of uvloop; imported late because it is optional."""
    import uvloop

    return uvloop.new_event_loop()


def new_aiofastnet() -> asyncio.AbstractEventLoop:
    """asyncio's loop with the transports of aiofastnet; imported late because it is optional."""
    import aiofastnet

    loop: asyncio.AbstractEventLoop = aiofastnet.loop_factory()()
    return loop


LOOPS: dict[str, Callable[[], asyncio.AbstractEventLoop]] = {
    "asyncio": asyncio.new_event_loop,
    "uvloop": new_uvloop,
    "aiofastnet": new_aiofastnet,
}


def run(main: Coroutine[Any, Any, None], loop: str) -> None:
    """Run a coroutine to its end on the loop of that name, a key of ``LOOPS``."""
    with asyncio.Runner(loop_factory=LOOPS[loop]) as runner:
        runner.run(main)
