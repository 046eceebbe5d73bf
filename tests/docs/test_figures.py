"""The figures of the front page, and the summary, are those of the tables on the page about performance."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import make_figures
from regions import Region


@pytest.mark.parametrize("region", make_figures.REGIONS, ids=lambda region: region.page)
def test_committed_figures_are_fresh(region: Region) -> None:
    page = (make_figures.DOCS / region.page).read_text("utf-8")
    assert region.renewed(page) == page, "run: python docs/make_figures.py --write"


@pytest.mark.parametrize("path", make_figures.PICTURES, ids=lambda path: path.name)
def test_committed_pictures_are_fresh(path: Path) -> None:
    made = make_figures.picture(*make_figures.PICTURES[path])
    assert path.read_text("utf-8") == made, "run: python docs/make_figures.py --write"


def test_cells() -> None:
    section = "\n| | ours | other 1.0 |\n| --- | --- | --- |\n| a | 1 (1.00) | 2 (2.00) |\n| b | 3 | 4 |\n"
    assert make_figures.rows(section, "b") == (["", "ours", "other 1.0"], ["b", "3", "4"])


@pytest.mark.parametrize(("figures", "columns"), make_figures.PICTURES.values())
def test_longest_bar_is_the_largest_value(figures: tuple[make_figures.Figure, ...], columns: int) -> None:
    bars = re.findall(r'width="([\d.]+)" height="16".*\n.*>([\d.]+)</text>', make_figures.picture(figures, columns))
    assert len(bars) == len(figures) * len(make_figures.SHOWN)
    for start in range(0, len(bars), len(make_figures.SHOWN)):
        group = bars[start : start + len(make_figures.SHOWN)]
        assert sorted(group, key=lambda bar: float(bar[0])) == sorted(group, key=lambda bar: float(bar[1]))
