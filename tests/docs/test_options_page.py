"""The page about options is fresh, and has a row for each."""

from __future__ import annotations

import re
from pathlib import Path

import make_options
from websockets._rules import option_table as allowed

DOCS = Path(__file__).parents[2] / "docs"


def test_committed_tables_are_fresh() -> None:
    page = (DOCS / "reference" / "options.md").read_text("utf-8")
    assert make_options.REGION.renewed(page) == page, "run: python docs/make_options.py --write"


def test_every_row_is_shown() -> None:
    names = re.findall(r"^\| `(\w+)` \| .+ \|$", make_options.REGION.text(), re.MULTILINE)
    assert sorted(names) == sorted(option.name for option in allowed.OPTIONS)


def test_everybody_who_takes_options_has_a_name() -> None:
    assert {taker for option in allowed.OPTIONS for taker in option.takers} == set(make_options.CALLED)
