"""Tests on both libraries of anyio: asyncio and trio.

May know: anyio. Must not know: any test.
"""

from __future__ import annotations

from typing import Any

import anyio
import pytest

__all__ = ["echo", "on_both"]


def on_both(test: Any) -> Any:
    """Run a coroutine function on both libraries."""

    @pytest.mark.parametrize("library", ["asyncio", "trio"])
    def run(library: str) -> None:
        anyio.run(test, backend=library)

    return run


async def echo(websocket: Any) -> None:
    """Send back all messages."""
    async for message in websocket:
        await websocket.send(message)
