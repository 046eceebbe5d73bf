"""Make the figures of the front page and the summary of the page about performance, with pictures, from its tables.

``python docs/make_figures.py`` prints them; with ``--write`` they are written to ``index.md`` and ``performance.md``,
between two marks each. The pictures are always written. ``tests/docs/test_figures.py`` fails if anything differs.

May know: the tables, and which rows are shown. Must not know: how anything was measured.
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from regions import Region

DOCS = Path(__file__).parent

# Whom the pictures show: the columns of the tables without their releases.
SHOWN = ("ours", "websockets", "aiohttp", "picows")


class Figure(NamedTuple):
    """A row of a table.

    Attributes:
        section: the heading above the table.
        row: the first cell of the row.
        title: the title in the picture.
        unit: the unit.
        sentence: what the front page says, with a place for the name of each column.
    """

    section: str
    row: str
    title: str
    unit: str
    sentence: str = ""


FIGURES = (
    Figure(
        "Server, asyncio",
        "256 B, 64 in flight",
        "Echo a message",
        "µs of CPU",
        "A server takes **{ours} µs** of CPU to receive and send back a message of 256 bytes, with 64 in flight; with"
        " websockets 17.4 it took {websockets} µs.",
    ),
    Figure(
        "Connections, asyncio",
        "broadcast of 256 B to 1000",
        "Broadcast to a client",
        "µs of CPU",
        "A broadcast to 1,000 clients takes **{ours} µs** for each of them, instead of {websockets} µs.",
    ),
    Figure(
        "Connections, asyncio",
        "idle connection",
        "Keep a connection open",
        "KiB of memory",
        "A connection that is idle takes **{ours} KiB** of memory, instead of {websockets} KiB.",
    ),
)

# What the summary shows, by the names that its sentences use.
SUMMARY = {
    "alone": Figure("Server, asyncio", "256 B, 1 in flight", "Echo a lone message", "µs of CPU"),
    "burst": Figure("Server, asyncio", "256 B, 64 in flight", "Echo in a burst", "µs of CPU"),
    "idle": Figure("Connections, asyncio", "idle connection", "Idle connection", "KiB of memory"),
    "opened": Figure(
        "Connections, asyncio",
        "opening and closing, server, 20 at a time",
        "Open and close it",
        "µs of CPU",
    ),
}
SENTENCES = (
    "A small message that comes alone costs **{alone[ours]} µs** of CPU, of which the kernel and the event loop take"
    " {alone[bare]} µs with any library.",
    "In a burst it costs **{burst[ours]} µs**, instead of {burst[websockets]} µs with websockets 17.4, and"
    " {burst[picows]} µs with picows, the fastest of the others.",
    "An idle connection takes **{idle[ours]} KiB** of memory, instead of {idle[websockets]} KiB with websockets 17.4;"
    " opening and closing one costs {opened[ours]} µs, instead of {opened[websockets]} µs, but {opened[picows]} µs with"
    " picows, which starts no task for it.",
)


def measured(figure: Figure) -> dict[str, tuple[str, str]]:
    """Return the cells of a row, by the first words of the columns' names: the whole name, and the value."""
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


def values(figure: Figure) -> dict[str, str]:
    """Return the values of a row by the first words of the columns' names."""
    return {name: value for name, (_, value) in measured(figure).items()}


def sentences() -> list[str]:
    """Return the figures of the front page as a list."""
    return ["\n".join(_item(figure.sentence.format_map(values(figure))) for figure in FIGURES)]


def summary() -> list[str]:
    """Return the summary of the page about performance as a list."""
    found = {name: values(figure) for name, figure in SUMMARY.items()}
    return ["\n".join(_item(sentence.format_map(found)) for sentence in SENTENCES)]


def _item(text: str) -> str:
    return "\n".join(textwrap.wrap(text, 120, initial_indent="- ", subsequent_indent="  "))


# ------------------------------------------------------------------------------------------------------------ pictures

WIDTH, LEFT, RIGHT, BAR, GAP, TITLE = 760, 130, 60, 16, 6, 30

# The files, what each shows, and in how many columns.
PICTURES = {
    DOCS / "figures.svg": (FIGURES, 1),
    DOCS / "performance.svg": (tuple(SUMMARY.values()), 2),
}


def picture(figures: Sequence[Figure], columns: int) -> str:
    """Return a picture: for each figure some bars, the shorter the better. Its paper is white on dark pages, too."""
    drawn: list[str] = []
    width, height = WIDTH / columns, TITLE + len(SHOWN) * (BAR + GAP) + 8
    for number, figure in enumerate(figures):
        row, column = divmod(number, columns)
        left, top = column * width + LEFT, row * height
        drawn.append(f'<text x="{left:g}" y="{top + 20:g}" font-weight="bold">{figure.title}, {figure.unit}</text>')
        drawn += bars(figure, left, top + TITLE, width - LEFT - RIGHT)
    whole = -(-len(figures) // columns) * height
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {whole:g}"'
    style = 'font-family="sans-serif" font-size="13">'
    paper = f'<rect width="{WIDTH}" height="{whole:g}" fill="white"/>'
    return "\n".join([head, style, paper, *drawn, "</svg>", ""])


def bars(figure: Figure, left: float, top: float, room: float) -> Iterator[str]:
    cells = measured(figure)
    longest = max(float(cells[name][1]) for name in SHOWN)
    for number, name in enumerate(SHOWN):
        label, value = cells[name]
        y = top + number * (BAR + GAP)
        width = room * float(value) / longest
        color = "#1a6fb5" if name == "ours" else "#b8c4ce"
        label = "this library" if name == "ours" else label
        yield f'<text x="{left - 8:g}" y="{y + 13:g}" text-anchor="end">{label}</text>'
        yield f'<rect x="{left:g}" y="{y:g}" width="{width:.1f}" height="{BAR}" fill="{color}"/>'
        yield f'<text x="{left + width + 6:.1f}" y="{y + 13:g}">{value}</text>'


REGIONS = (Region("index.md", "figures", sentences), Region("performance.md", "summary", summary))

if __name__ == "__main__":
    for region in REGIONS:
        region.main()
    # A picture can't be printed; written again, it is the same unless the tables have changed.
    for path, (figures, columns) in PICTURES.items():
        path.write_text(picture(figures, columns), "utf-8")
