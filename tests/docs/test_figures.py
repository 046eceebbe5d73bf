"""The figures of the front page are those of the page about performance."""

from __future__ import annotations

import re

import make_figures


def test_committed_figures_are_fresh() -> None:
    page = (make_figures.DOCS / "index.md").read_text("utf-8")
    assert make_figures.REGION.renewed(page) == page, "run: python docs/make_figures.py --write"


def test_committed_picture_is_fresh() -> None:
    assert make_figures.PICTURE.read_text("utf-8") == make_figures.picture(), "run: python docs/make_figures.py --write"


def test_cells() -> None:
    section = "\n| | ours | other 1.0 |\n| --- | --- | --- |\n| a | 1 (1.00) | 2 (2.00) |\n| b | 3 | 4 |\n"
    assert make_figures.rows(section, "b") == (["", "ours", "other 1.0"], ["b", "3", "4"])


def test_longest_bar_is_the_largest_value() -> None:
    bars = re.findall(r'width="([\d.]+)" height="16".*\n.*>([\d.]+)</text>', make_figures.picture())
    assert len(bars) == len(make_figures.FIGURES) * len(make_figures.SHOWN)
    for start in range(0, len(bars), len(make_figures.SHOWN)):
        group = bars[start : start + len(make_figures.SHOWN)]
        assert sorted(group, key=lambda bar: float(bar[0])) == sorted(group, key=lambda bar: float(bar[1]))
