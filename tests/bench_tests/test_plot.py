"""The picture: well-formed, complete, to scale, and inside its frame."""

from __future__ import annotations

import re
from collections.abc import Iterator
from xml.etree import ElementTree

import pytest

from bench.plot import COLOURS, FIGURES, LONGEST, MARGIN, NAMES, WIDTH, plot
from bench.results import Results, Row
from bench.stats import summary

from .samples import ECHO, IDLE, results, timed

SVG = "{http://www.w3.org/2000/svg}"


def drawn(found: Results) -> ElementTree.Element:
    return ElementTree.fromstring(plot(found))


def texts(root: ElementTree.Element) -> list[str]:
    return [node.text or "" for node in root.iter(f"{SVG}text")]


def bars(root: ElementTree.Element) -> Iterator[tuple[str, float, float]]:
    """Tip, left edge and width of each bar."""
    for node in root.iter(f"{SVG}rect"):
        tip = node.find(f"{SVG}title")
        if tip is not None:
            yield tip.text or "", float(node.attrib["x"]), float(node.attrib["width"])


def compared(ratio: float) -> Results:
    """Ours, and another one which needs so many times as much."""
    costs = {"ours": 10, "aiohttp": 10 * ratio}
    rows = [Row(ECHO, "asyncio", name, name, summary([timed(cost)])) for name, cost in costs.items()]
    return Results({}, rows)


def test_each_figure_has_a_bar() -> None:
    tips = [tip for tip, _, _ in bars(drawn(results()))]
    assert tips[:2] == ["ours: 11.0 µs/message, 1.00 times ours", "aiohttp 3.14.5: 22.0 µs/message, 2.00 times ours"]
    assert len(tips) == 10


def test_what_failed_has_none() -> None:
    assert "picows" not in plot(results())


def test_each_table_has_a_panel() -> None:
    found = texts(drawn(results()))
    assert [text for text in found if ", asyncio" in text or ", uvloop" in text] == [
        "Server, asyncio",
        "Server, uvloop",
        "Connections, asyncio",
    ]


def test_words_say_what_is_seen() -> None:
    found = texts(drawn(results()))
    assert found[0] == "What messages and connections cost, in relation to ours"
    assert "Ours: websockets 18.0; CPython 3.12.1; Linux x86_64, 2 processors; medians of 2 rounds" in found
    for words in ("ours", "aiohttp 3.14.5", ECHO.title, IDLE.title, "11.0 µs", "22.0 µs, 2.00×", "14.5 KiB, 2.00×"):
        assert words in found


@pytest.mark.parametrize("ratio", [0.1, 0.5, 1.5, 3.0, 5.9])
def test_bars_are_to_scale(ratio: float) -> None:
    (_, left, ours), (_, same, other) = bars(drawn(compared(ratio)))
    assert left == same == MARGIN + NAMES
    assert other / ours == pytest.approx(ratio, rel=0.01)


def test_the_longest_bar_leaves_room_for_its_figure() -> None:
    for ratio in (0.1, 1.0, 4.0, 100.0):
        longest = max(left + width for _, left, width in bars(drawn(compared(ratio))))
        assert longest == pytest.approx(WIDTH - MARGIN - FIGURES, abs=0.2)


def test_a_bar_that_is_cut_off_shows_it() -> None:
    whole, cut = plot(compared(LONGEST)), plot(compared(LONGEST + 1))
    assert whole.count('stroke="#fff"') == 0
    assert cut.count('stroke="#fff"') == 1
    assert "70.0 µs, 7.00×" in cut


def test_nothing_is_outside() -> None:
    root = drawn(results())
    width, height = float(root.attrib["width"]), float(root.attrib["height"])
    assert root.attrib["viewBox"] == f"0 0 {width:.0f} {height:.0f}"
    for node in root.iter(f"{SVG}text"):
        assert 0 < float(node.attrib["x"]) < width
        assert 0 < float(node.attrib["y"]) < height


def test_legend_wraps() -> None:
    rows = [
        Row(ECHO, "asyncio", name, f"{name}, which has a long name", summary([timed(10)])) for name in COLOURS
    ]  # fmt: skip
    root = drawn(Results({}, rows))
    lines = {node.attrib["y"] for node in root.iter(f"{SVG}text") if "long name" in (node.text or "")}
    assert len(lines) > 1


def test_without_figures_there_is_still_a_picture() -> None:
    assert [*bars(drawn(Results()))] == []


def test_colours_differ() -> None:
    assert len({*COLOURS.values()}) == len(COLOURS)
    assert all(re.fullmatch("#[0-9a-f]{6}", colour) for colour in COLOURS.values())
