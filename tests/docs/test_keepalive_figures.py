"""How long a peer may be gone before the program knows: pages say the sum of the defaults, and all of them the same.

That the library keeps to it is seen in ``test_half_open_connection_is_dropped`` in tests/scenarios/test_keepalive.py.
"""

from __future__ import annotations

import inspect
import re
from pathlib import Path

import pytest

from websockets.asyncio.client import ClientConnection, connect
from websockets.asyncio.connection import Connection
from websockets.asyncio.server import ServerConnection, serve

DOCS = Path(__file__).parents[2] / "docs"
PAGES = (
    "robustness.md",
    "howto/haproxy.md",
    "howto/limits.md",
    "howto/nginx.md",
    "howto/reconnection.md",
    "howto/testing.md",
)


def defaults(call: object) -> tuple[int, int]:
    parameters = inspect.signature(call).parameters  # type: ignore[arg-type]
    return parameters["ping_interval"].default, parameters["ping_timeout"].default


INTERVAL, TIMEOUT = defaults(Connection)


@pytest.mark.parametrize("call", [connect, serve, ClientConnection, ServerConnection], ids=lambda call: call.__name__)
def test_defaults_agree(call: object) -> None:
    assert defaults(call) == (INTERVAL, TIMEOUT)


@pytest.mark.parametrize("page", PAGES)
def test_pages_say_when_silence_is_noticed(page: str) -> None:
    text = (DOCS / page).read_text("utf-8")
    sums = re.findall(r"(\d+) \+ (\d+) = (\d+) s", text)
    assert set(sums) == {(str(INTERVAL), str(TIMEOUT), str(INTERVAL + TIMEOUT))}


def test_no_page_adds_without_the_result() -> None:
    """So that a figure can't be changed on one page and forgotten on another."""
    alone = re.compile(rf"\b{INTERVAL} \+ {TIMEOUT} s\b")
    assert [page.name for page in DOCS.rglob("*.md") if alone.search(page.read_text("utf-8"))] == []
