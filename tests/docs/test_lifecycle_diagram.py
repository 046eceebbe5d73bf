"""The drawing of the lifecycle in the docs is complete, and fresh."""

from __future__ import annotations

import re
from pathlib import Path

import make_lifecycle
from websockets._rules.lifecycle import PROJECTION, REACTIONS, RECEIVING, SENDING, Receive, Send

DOCS = Path(__file__).parents[2] / "docs"


def test_committed_drawing_is_fresh() -> None:
    page = (DOCS / "architecture.md").read_text("utf-8")
    assert make_lifecycle.REGION.renewed(page) == page, "run: python docs/make_lifecycle.py --write"


def test_every_transition_is_drawn() -> None:
    drawing = make_lifecycle.REGION.text()
    drawn = [
        {
            (before, event, after)
            for before, after, events in re.findall(r"^    (\w+) --> (\w+): (.+)$", diagram, re.MULTILINE)
            for event in events.split(", ")
        }
        for diagram in re.findall(r"^```mermaid\nstateDiagram-v2\n(.*?)^```$", drawing, re.M | re.S)
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
    rows = re.findall(r"^\| (.+) \|$", make_lifecycle.REGION.text(), re.MULTILINE)
    titles = 2 * 2
    assert len(rows) == titles + len(REACTIONS) + len(PROJECTION)
    assert "DEAF | SHUT | send EOF | –" in rows
    assert "any | any | CLOSING" in rows
