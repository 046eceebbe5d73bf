"""Examples with a page serve it, and nothing else, beside their WebSocket; and a page needs nothing from elsewhere."""

from __future__ import annotations

import functools
import re
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest
from chat import chat
from counter import counter
from drawing import drawing
from upload_server import upload_server

from _kit import virtual
from examples.visits import fetch, uri
from websockets.asyncio.client import connect
from websockets.asyncio.server import Server
from websockets.exceptions import InvalidStatus

EXAMPLES = Path(__file__).parents[2] / "examples"
APPS = {
    "chat": chat,
    "counter": counter,
    "drawing": drawing,
    "upload": functools.partial(upload_server, Path(tempfile.gettempdir())),
}

every_app = pytest.mark.parametrize(("name", "app"), [*APPS.items()])
every_page = pytest.mark.parametrize("page", sorted(EXAMPLES.rglob("*.html")), ids=lambda page: page.name)


@every_app
@virtual
async def test_page_is_served(name: str, app: Callable[[str, int], Server]) -> None:
    async with app("127.0.0.1", 0) as server:
        page = await fetch(server, "/")
    assert page.status == 200
    assert page.headers["Content-Type"] == "text/html; charset=utf-8"
    assert page.text == (EXAMPLES / name / f"{name}.html").read_text("utf-8")


@every_app
@virtual
async def test_nothing_else_is_served(name: str, app: Callable[[str, int], Server]) -> None:
    async with app("127.0.0.1", 0) as server:
        assert (await fetch(server, "/other")).status == 404
        assert (await fetch(server, f"/{name}")).status == 426
        with pytest.raises(InvalidStatus, match="404"):
            await connect(uri(server, "/other"))


@every_page
def test_page_needs_nothing_from_elsewhere(page: Path) -> None:
    sources = re.findall(r'(?:src|href)="([^"]*)"|url\(([^)]*)\)|@import', page.read_text("utf-8"))
    assert sources == [("data:,", "")]


@every_page
def test_page_shows_what_others_wrote_as_text_only(page: Path) -> None:
    assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval\(", page.read_text("utf-8"))
