"""Make the figures of the front page, and their picture, from the tables on the page about performance.

``python docs/make_figures.py`` prints them; with ``--write`` the figures are written to ``index.md``, between the two
marks, and the picture to ``figures.svg``. ``tests/docs/test_figures.py`` fails if either differs.

May know: the tables, and which rows the front page shows. Must not know: how anything was measured.
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from regions import Region

DOCS = Path(__file__).parent
PICTURE = DOCS / "figures.svg"

# Whom the picture shows: the columns of the tables without their releases.
SHOWN = ("ours", "websockets", "aiohttp", "picows")


class Figure(NamedTuple):
    """A row of a table.

    Attributes:
        section: the heading above the table.
        row: the first cell of the row.
        title: the title in the picture.
        unit: the unit.
        sentence: what the front page says, with the places ``ours`` and ``before``, the release before this library.
    """

    section: str
    row: str
    title: str
    unit: str
    sentence: str


FIGURES = (
    Figure(
        "Server, asyncio",
        "256 B, 64 in flight",
        "Echo a message",
        "µs of CPU",
        "A server takes **{ours} µs** of CPU to receive and send back a message of 256 bytes, with 64 in flight; with"
        " websockets 17.4 it took {before} µs.",
    ),
    Figure(
        "Connections, asyncio",
        "broadcast of 256 B to 1000",
        "Broadcast to a client",
        "µs of CPU",
        "A broadcast to 1,000 clients takes **{ours} µs** for each of them, instead of {before} µs.",
    ),
    Figure(
        "Connections, asyncio",
        "idle connection",
        "Keep a connection open",
        "KiB of memory",
        "A connection that is idle takes **{ours} KiB** of memory, instead of {before} KiB.",
    ),
)


def measured(figure: Figure) -> dict[str, tuple[str, str]]:
    """Return the cells of a row, by the names of the columns: the whole name, and the value."""
    page = (DOCS / "performance.md").read_text("utf-8")
    section = page.partition(f"### {figure.section}\n")[2].partition("\n### ")[0]
    head, row = rows(section, figure.row)
    values = (cell.partition(" ")[0] for cell in row)
    return {name.partition(" ")[0]: (name, value) for name, value in zip(head, values, strict=True)}


def rows(section: str, first: str) -> tuple[list[str], list[str]]:
    """Return the cells of the head of a section's first table, and of its row that begins with a cell."""
    head, row = (
        next(line for line in section.splitlines() if line.startswith(start)) for start in ("| | ", f"| {first} | ")
    )
    return [cell.strip() for cell in head.split("|")[1:-1]], [cell.strip() for cell in row.split("|")[1:-1]]


def sentences() -> list[str]:
    """Return the figures as a list."""
    lines = []
    for figure in FIGURES:
        cells = measured(figure)
        text = figure.sentence.format(ours=cells["ours"][1], before=cells["websockets"][1])
        lines += textwrap.wrap(text, 120, initial_indent="- ", subsequent_indent="  ")
    return ["\n".join(lines)]


# ------------------------------------------------------------------------------------------------------------- picture

WIDTH, LEFT, RIGHT, BAR, GAP, TITLE = 760, 130, 60, 16, 6, 30


def picture() -> str:
    """Return the picture: for each figure some bars, the shorter the better."""
    drawn, top = [], 0.0
    for figure in FIGURES:
        drawn.append(f'<text x="{LEFT}" y="{top + 20:g}" font-weight="bold">{figure.title}, {figure.unit}</text>')
        drawn += bars(figure, top + TITLE)
        top += TITLE + len(SHOWN) * (BAR + GAP) + 8
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {top:g}"'
    style = 'font-family="sans-serif" font-size="13">'
    paper = f'<rect width="{WIDTH}" height="{top:g}" fill="white"/>'
    return "\n".join([head, style, paper, *drawn, "</svg>", ""])


def bars(figure: Figure, top: float) -> Iterator[str]:
    cells = measured(figure)
    longest = max(float(cells[name][1]) for name in SHOWN)
    for number, name in enumerate(SHOWN):
        label, value = cells[name]
        y = top + number * (BAR + GAP)
        width = (WIDTH - LEFT - RIGHT) * float(value) / longest
        color = "#1a6fb5" if name == "ours" else "#b8c4ce"
        label = "this library" if name == "ours" else label
        yield f'<text x="{LEFT - 8}" y="{y + 13:g}" text-anchor="end">{label}</text>'
        yield f'<rect x="{LEFT}" y="{y:g}" width="{width:.1f}" height="{BAR}" fill="{color}"/>'
        yield f'<text x="{LEFT + width + 6:.1f}" y="{y + 13:g}">{value}</text>'


REGION = Region("index.md", "figures", sentences)

if __name__ == "__main__":
    REGION.main()
    # A picture can't be printed; written again, it is the same unless the tables have changed.
    PICTURE.write_text(picture(), "utf-8")
