"""The drawing of the lifecycle in the docs is complete, and fresh."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path
from types import ModuleType

import pytest

from websockets._lifecycle import PROJECTION, REACTIONS, RECEIVING, SENDING, Receive, Send

DOCS = Path(__file__).parents[2] / "docs"


def load(path: Path) -> ModuleType:
    """A module from its file; scripts are in no package."""
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


make_lifecycle = load(DOCS / "make_lifecycle.py")


def test_committed_drawing_is_fresh() -> None:
    page = (DOCS / "architecture.md").read_text("utf-8")
    assert make_lifecycle.renewed(page) == page, "run: python docs/make_lifecycle.py --write"


def test_every_transition_is_drawn() -> None:
    drawn = [
        {
            (before, event, after)
            for before, after, events in re.findall(r"^    (\w+) --> (\w+): (.+)$", diagram, re.MULTILINE)
            for event in events.split(", ")
        }
        for diagram in re.findall(r"^```mermaid\nstateDiagram-v2\n(.*?)^```$", make_lifecycle.region(), re.M | re.S)
    ]
    assert drawn == [
        {
            (half.name, event.value, after)
            for half, row in table.items()
            for event, after in zip(events, row, strict=True)
            if after is not None
        }
        for table, events in ((RECEIVING, Receive), (SENDING, Send))
    ]


def test_every_row_is_shown() -> None:
    rows = re.findall(r"^\| (.+) \|$", make_lifecycle.region(), re.MULTILINE)
    titles = 2 * 2
    assert len(rows) == titles + len(REACTIONS) + len(PROJECTION)
    assert "DEAF | SHUT | send EOF | –" in rows
    assert "any | any | CLOSING" in rows


def test_write_renews_a_stale_page(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("before\n<!-- lifecycle:begin -->\nstale\n<!-- lifecycle:end -->\nafter\n", encoding="utf-8")
    make_lifecycle.main(["--write"], page)
    assert page.read_text("utf-8") == f"before\n{make_lifecycle.region()}\nafter\n"


def test_print(capsys: pytest.CaptureFixture[str]) -> None:
    make_lifecycle.main([])
    assert capsys.readouterr().out == make_lifecycle.region() + "\n"


@pytest.mark.parametrize("page", ["", "<!-- lifecycle:begin -->", "<!-- lifecycle:end --><!-- lifecycle:begin -->"])
def test_page_without_marks(page: str) -> None:
    with pytest.raises(ValueError, match="must contain <!-- lifecycle:begin -->"):
        make_lifecycle.renewed(page)
