"""Figures as text: for a terminal while they are measured, and as Markdown for the documentation.

Charter: makes strings from results. Must not measure.
"""

from __future__ import annotations

from collections.abc import Sequence

from bench.cases import Case
from bench.results import Results, Row

BEGIN = "<!-- measured:begin -->"
END = "<!-- measured:end -->"

TITLES = {
    "server": "Server",
    "client": "Client",
    "connections": "Connections",
}
MEANINGS = {
    "server": "CPU microseconds a message in an echo server",
    "client": "CPU microseconds a message in a client of an echo server",
    "connections": "CPU microseconds a recipient or a connection; memory in KiB a connection",
}


def number(value: float | None) -> str:
    """A figure with about three digits that count."""
    if value is None:
        return "–"
    if value < 10:
        return f"{value:.2f}"
    return f"{value:.1f}" if value < 100 else f"{value:,.0f}"


# ------------------------------------------------------------------------------------------------------------- terminal


def heading(rows: Sequence[Row]) -> str:
    """The first line of a table about one case."""
    first = rows[0]
    return f"{first.case.role}: {first.case.title}" if first.case.kind == "echo" else first.case.title


def table(results: Results, rows: Sequence[Row]) -> str:
    """What everybody needs for one case on one loop, as text.

    Parameters:
        results: all that was measured, ours included.
        rows: the rows of that case and loop, of which there is at least one.
    """
    unit = rows[0].case.unit
    memory = unit.startswith("KiB")
    columns = [unit if memory else f"CPU {unit}", "ratio to ours", "spread"]
    if not memory:
        columns += ["round trip µs", "per second"]
    lines = [f"{heading(rows)}  [{rows[0].case.name}, {rows[0].loop}]", "  ".join([" " * 26, *columns])]
    for row in rows:
        cells = figures(results, row, memory)
        texts = [cell.rjust(len(column)) for cell, column in zip(cells, columns, strict=False)]
        lines.append("  ".join([f"  {row.label:24}", *texts]) if cells else f"  {row.label:24}  {row.error}")
    if slow := [row.label for row in rows if load_was_slower(row)]:
        lines.append(f"  (the other side was busier than what is measured: {', '.join(slow)})")
    return "\n".join(lines)


def figures(results: Results, row: Row, memory: bool) -> list[str]:
    """The cells of a row, none if it failed."""
    summary = row.summary
    if summary is None:
        return []
    cells = [number(summary.cost), number(results.ratio(row)), f"{summary.spread:.0%}" if summary.rounds > 1 else "–"]
    return cells if memory else [*cells, number(summary.round_trip), f"{summary.rate or 0:,.0f}"]


def load_was_slower(row: Row) -> bool:
    """Whether the other side had more to do although much was in flight: then what was measured had to wait for it."""
    summary = row.summary
    if summary is None or summary.busy is None or summary.load_busy is None:
        return False
    return row.case.connections * row.case.depth > 1 and summary.load_busy > summary.busy


# ------------------------------------------------------------------------------------------------------------- Markdown


def markdown(results: Results) -> str:
    """All figures as Markdown: a table for each loop and side, a line for each case, a column for each contender."""
    parts = [about(results)]
    for loop, group in results.tables():
        labels = results.contenders(loop, group)
        cases = results.cases(loop, group)
        parts.append(f"### {TITLES[group]}, {loop}\n\n{MEANINGS[group]}, and in parentheses the ratio to ours.\n")
        costs = [(case, [cost_cell(results, case, loop, name) for name in labels]) for case in cases]
        parts.append(grid(labels, costs))
        trips = [(case, [trip_cell(results, case, loop, name) for name in labels]) for case in cases]
        trips = [line for line in trips if line[0].kind == "echo" and {*line[1]} != {"–"}]
        if trips:
            parts.append(f"Median round trips of the same, in microseconds:\n\n{grid(labels, trips)}")
    return "\n".join(parts)


def about(results: Results) -> str:
    """The circumstances as a list."""
    return "".join(f"- {name}: {value}\n" for name, value in results.about.items())


def grid(labels: dict[str, str], lines: Sequence[tuple[Case, Sequence[str]]]) -> str:
    """A table in Markdown."""
    rows = [["", *labels.values()], ["---", *("---:" for _ in labels)]]
    rows += [[case.title, *cells] for case, cells in lines]
    return "".join(f"| {' | '.join(cells)} |\n".replace("|  |", "| |") for cells in rows)


def cost_cell(results: Results, case: Case, loop: str, name: str) -> str:
    row = results.find(case.name, loop, name)
    if row is None or row.summary is None:
        return "–" if row is None else "failed"
    ratio = results.ratio(row)
    return number(row.summary.cost) + (f" ({number(ratio)})" if ratio is not None else "")


def trip_cell(results: Results, case: Case, loop: str, name: str) -> str:
    row = results.find(case.name, loop, name)
    return number(None if row is None or row.summary is None else row.summary.round_trip)


def replace_section(page: str, text: str) -> str:
    """A page with another text between its markers.

    Raises:
        ValueError: the page has no markers.
    """
    before, begin, rest = page.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"there is no {BEGIN} followed by {END}")
    return f"{before}{BEGIN}\n\n{text.strip()}\n\n{END}{after}"
