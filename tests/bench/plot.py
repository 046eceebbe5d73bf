"""Figures as a picture: grouped bars in SVG, written by hand so that nothing need be installed.

Charter: makes a string from results. Must not measure.

Cases differ by orders of magnitude, so what a bar shows is the ratio to ours; the figure itself stands beside it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from xml.sax.saxutils import escape, quoteattr

from bench.cases import Case
from bench.report import TITLES, number
from bench.results import Results, Row

WIDTH = 960
MARGIN = 28
NAMES = 300  # width of the column with the names of cases
FIGURES = 150  # width at the end of the longest bar for its figure
BAR = 12
GAP = 3  # between bars
SPACE = 16  # between cases
HEAD = 34  # of a panel: its title
FOOT = 26  # of a panel: its scale

# Ratios above this are cut off: the bars are there to compare what can be compared.
LONGEST = 6.0

COLOURS = {
    "ours": "#0b5cad",
    "ours-python": "#8fbce6",
    "bare": "#b5b9bf",
    "websockets": "#d9722e",
    "picows": "#2f8f5b",
    "picows.websockets": "#93cfa8",
    "aiohttp": "#9a6fc4",
}
OTHER_COLOUR = "#555555"
INK = "#1c2128"
FAINT = "#5d666f"
LINE = "#d5d9de"

STYLE = f"""
text {{ font-family: system-ui, 'Segoe UI', 'Helvetica Neue', 'DejaVu Sans', sans-serif; font-size: 12px; fill: {INK} }}
.title {{ font-size: 20px; font-weight: 600 }}
.panel {{ font-size: 15px; font-weight: 600 }}
.figure {{ font-size: 11px; paint-order: stroke; stroke: #ffffff; stroke-width: 3px }}
.faint {{ fill: {FAINT} }}
"""


def text(x: float, y: float, words: str, kind: str = "", anchor: str = "start") -> str:
    """Some words, from, up to or around a point on their base line."""
    return f'<text x="{x:.1f}" y="{y:.1f}" class="{kind}" text-anchor="{anchor}">{escape(words)}</text>'


def rectangle(x: float, y: float, width: float, height: float, colour: str, tip: str = "") -> str:
    """A rectangle, and what a viewer shows when a pointer rests on it."""
    inner = f"<title>{escape(tip)}</title>" if tip else ""
    place = f'x="{x:.1f}" y="{y:.1f}" width="{max(width, 1):.1f}" height="{height:.1f}"'
    return f'<rect {place} fill="{colour}">{inner}</rect>'


def vertical(x: float, top: float, bottom: float, colour: str) -> str:
    """A vertical line."""
    return f'<path d="M{x:.1f} {top:.1f}V{bottom:.1f}" stroke="{colour}" fill="none"/>'


def plot(results: Results) -> str:
    """A picture of all results in SVG: a panel for each loop and side, a group of bars for each case."""
    parts: list[str] = []
    rows = [row for row in results.rows if results.ratio(row) is not None]
    y = float(MARGIN + 18)
    parts.append(text(MARGIN, y, "What messages and connections cost, in relation to ours", "title"))
    y += 22
    for line in ("Shorter is better. The line marks ours; the figures are CPU time or memory.", circumstances(results)):
        parts.append(text(MARGIN, y, line, "faint"))
        y += 18
    y = draw_legend(parts, rows, y + 8)
    for loop, group in results.tables():
        panel = [row for row in rows if (row.loop, row.case.group) == (loop, group)]
        if panel:
            parts.append(text(MARGIN, y + 22, f"{TITLES[group]}, {loop}", "panel"))
            y = draw_panel(parts, results, panel, y + HEAD)
    return document(parts, y + MARGIN / 2)


def circumstances(results: Results) -> str:
    """How it was measured, in a line."""
    about = dict(results.about)
    ours = [f"Ours: {about['ours']}"] if "ours" in about else []
    return "; ".join(ours + [about[name] for name in ("Python", "system", "rounds") if name in about])


def document(parts: Sequence[str], height: float) -> str:
    """The whole file."""
    label = quoteattr("Bar chart: cost of a message or a connection, in relation to this library")
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height:.0f}" '
            f'width="{WIDTH}" height="{height:.0f}" role="img" aria-label={label}>',
            f"<style>{STYLE}</style>",
            rectangle(0, 0, WIDTH, height, "#ffffff"),
            *parts,
            "</svg>\n",
        ]
    )


def draw_legend(parts: list[str], rows: Sequence[Row], y: float) -> float:
    """Which colour is whose; returns where it ends."""
    x = float(MARGIN)
    for name, label in {row.contender: row.label for row in rows}.items():
        width = 24 + 7.2 * len(label) + 18
        if x + width > WIDTH - MARGIN:
            x, y = float(MARGIN), y + 20
        parts.append(rectangle(x, y, 14, BAR, COLOURS.get(name, OTHER_COLOUR)))
        parts.append(text(x + 20, y + 10, label))
        x += width
    return y + 24


def draw_panel(parts: list[str], results: Results, rows: Sequence[Row], top: float) -> float:
    """The cases of one loop and side over a common scale; returns where they end."""
    left = MARGIN + NAMES
    ratios = [ratio for row in rows if (ratio := results.ratio(row)) is not None]
    longest = min(max(ratios), LONGEST)
    unit = (WIDTH - MARGIN - FIGURES - left) / longest
    cases = {row.case: None for row in rows}
    bars: list[str] = []
    y = top + SPACE / 2
    for case in cases:
        group = [row for row in rows if row.case == case]
        y = draw_case(bars, results, case, group, left, y, unit) + SPACE
    bottom = y - SPACE / 2
    parts += scale(left, top, bottom, unit, longest)
    parts.append(vertical(left + unit, top, bottom, COLOURS["ours"]))
    parts += bars
    return bottom + FOOT


def scale(left: float, top: float, bottom: float, unit: float, longest: float) -> Iterator[str]:
    """Lines and numbers below a panel."""
    for ratio in range(int(longest) + 1):
        x = left + unit * ratio
        yield vertical(x, top, bottom, FAINT if ratio == 0 else LINE)
        yield text(x, bottom + 15, f"{ratio}×", "faint figure", "middle")


def draw_case(
    parts: list[str], results: Results, case: Case, rows: Sequence[Row], left: float, y: float, unit: float
) -> float:
    """A group of bars; returns where it ends."""
    height = len(rows) * (BAR + GAP) - GAP
    parts.append(text(left - 10, y + height / 2 + 4, case.title, anchor="end"))
    for row in rows:
        ratio, cost = results.ratio(row) or 0.0, row.summary.cost if row.summary is not None else 0.0
        amount = f"{number(cost)} {case.unit.split('/')[0]}"
        tip = f"{row.label}: {number(cost)} {case.unit}, {number(ratio)} times ours"
        width = min(ratio, LONGEST) * unit
        parts.append(rectangle(left, y, width, BAR, COLOURS.get(row.contender, OTHER_COLOUR), tip))
        if ratio > LONGEST:
            # Cut through, so that nobody takes the bar for whole.
            parts.append(
                f'<path d="M{left + width - 12:.1f} {y + BAR + 1:.1f}l5 {-BAR - 2}" stroke="#fff" stroke-width="4"/>'
            )
        words = f"{amount}" if row.contender == "ours" else f"{amount}, {number(ratio)}×"
        parts.append(text(left + width + 5, y + 10, words, "figure"))
        y += BAR + GAP
    return y - GAP
