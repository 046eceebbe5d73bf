"""Tests that are coroutine functions run twice here: on an ordinary event loop, and on one with a virtual clock."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping

import pytest

from websockets.testing import VirtualClockLoop


def pytest_asyncio_loop_factories(
    config: pytest.Config, item: pytest.Item
) -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    """The loops to choose from."""
    return {"real": asyncio.new_event_loop, "virtual": VirtualClockLoop}
