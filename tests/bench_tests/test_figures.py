"""From measurements to tables: medians, ratios, JSON, text, Markdown."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from bench.measure import measurement
from bench.report import BEGIN, END, markdown, number, replace_section, table
from bench.results import Results, Row
from bench.stats import Measurement, summary

from .samples import BURST, ECHO, results, timed


def rows_of(found: Results, name: str, loop: str = "asyncio") -> list[Row]:
    return [row for row in found.rows if (row.case.name, row.loop) == (name, loop)]


# ----------------------------------------------------------------------------------------------------------- statistics


def test_measurement() -> None:
    outcome = {"count": 1000, "seconds": 0.5, "round_trip_us": 40.0}
    expected = Measurement(cost=20.0, round_trip=40.0, rate=2000.0, busy=0.04, load_busy=0.1)
    assert measurement(outcome, 0.02, 0.05) == expected


def test_summary_takes_medians() -> None:
    found = summary([Measurement(10, 30, 5, 0.5), Measurement(90, 31, 7, 0.7), Measurement(11, 99, 6, 0.6)])
    assert (found.cost, found.round_trip, found.rate, found.busy, found.load_busy) == (11, 31, 6, 0.6, None)
    assert found.rounds == 3
    assert found.spread == pytest.approx(80 / 11)


def test_summary_of_one_round() -> None:
    found = summary([Measurement(7.25)])
    assert (found.cost, found.spread, found.rounds, found.round_trip) == (7.25, 0, 1, None)


def test_summary_of_nothing_used() -> None:
    assert summary([Measurement(0), Measurement(0)]).spread == 0


# -------------------------------------------------------------------------------------------------------------- results


def test_ratio_is_to_ours_on_the_same_loop() -> None:
    found = results()
    for loop in ("asyncio", "uvloop"):
        assert found.ratio(rows_of(found, "server-echo-256B", loop)[1]) == pytest.approx(2.0)


def test_ratio_is_to_the_readable_twin_where_there_is_no_other() -> None:
    costs = {"ours-python": 5, "bare": 3}
    rows = [Row(ECHO, "asyncio", name, name, summary([timed(cost)])) for name, cost in costs.items()]
    assert Results({}, rows).ratio(rows[1]) == pytest.approx(0.6)


def test_no_ratio_without_ours() -> None:
    row = Row(ECHO, "asyncio", "aiohttp", "aiohttp", summary([timed(20)]))
    ours = Row(ECHO, "asyncio", "ours", "ours", error="it failed")
    assert Results({}, [row, ours]).ratio(row) is None


def test_json_is_complete() -> None:
    found = results()
    assert Results.from_json(found.to_json()) == found


def test_json_has_the_ratios() -> None:
    rows = json.loads(results().to_json())["rows"]
    assert [row["ratio"] for row in rows if row["contender"] == "aiohttp"] == [pytest.approx(2.0)] * 5


# ----------------------------------------------------------------------------------------------------------------- text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "–"),
        (0.5, "0.50"),
        (9.994, "9.99"),
        (10.04, "10.0"),
        (99.94, "99.9"),
        (100.4, "100"),
        (12345.6, "12,346"),
    ],
)
def test_number(value: float | None, text: str) -> None:
    assert number(value) == text


def test_table() -> None:
    found = results()
    expected = """
server: 256 B, 64 in flight  [server-echo-256B-x64, asyncio]
                            CPU µs/message  ratio to ours  spread  round trip µs  per second
  ours                                11.0           1.00     18%           33.0      91,667
  aiohttp 3.14.5                      22.0           2.00       –           66.0      45,455
  picows <2>                it ended with status 1
"""
    assert table(found, rows_of(found, "server-echo-256B-x64")) == expected.strip()


def test_table_about_memory() -> None:
    found = results()
    expected = """
idle connection  [idle, asyncio]
                            KiB/connection  ratio to ours  spread
  ours                                7.25           1.00       –
  aiohttp 3.14.5                      14.5           2.00       –
"""
    assert table(found, rows_of(found, "idle")) == expected.strip()


def test_table_tells_when_the_load_was_slower() -> None:
    slow = summary([replace(timed(10), load_busy=0.95)])
    warning = "(the other side was busier than what is measured: ours)"
    burst = [Row(BURST, "asyncio", "ours", "ours", slow)]
    assert table(Results({}, burst), burst).splitlines()[-1].strip() == warning
    # With one message in flight they take turns, so neither can hold up the other.
    alone = [Row(ECHO, "asyncio", "ours", "ours", slow)]
    assert warning not in table(Results({}, alone), alone)


def test_markdown() -> None:
    found = results()
    found.rows = [row for row in found.rows if row.loop == "asyncio"]
    assert markdown(found) == MARKDOWN.lstrip()


MARKDOWN = """
- ours: websockets 18.0
- Python: CPython 3.12.1
- system: Linux x86_64, 2 processors
- rounds: medians of 2 rounds

### Server, asyncio

CPU microseconds a message in an echo server, and in parentheses the ratio to ours.

| | ours | aiohttp 3.14.5 | picows <2> |
| --- | ---: | ---: | ---: |
| 256 B, 1 in flight | 11.0 (1.00) | 22.0 (2.00) | – |
| 256 B, 64 in flight | 11.0 (1.00) | 22.0 (2.00) | failed |

Median round trips of the same, in microseconds:

| | ours | aiohttp 3.14.5 | picows <2> |
| --- | ---: | ---: | ---: |
| 256 B, 1 in flight | 33.0 | 66.0 | – |
| 256 B, 64 in flight | 33.0 | 66.0 | – |

### Connections, asyncio

CPU microseconds a recipient or a connection; memory in KiB a connection, and in parentheses the ratio to ours.

| | ours | aiohttp 3.14.5 |
| --- | ---: | ---: |
| idle connection | 7.25 (1.00) | 14.5 (2.00) |
"""


def test_replace_section() -> None:
    page = f"before\n\n{BEGIN}\n\nold\n\n{END}\n\nafter\n"
    replaced = replace_section(page, "\nnew\n\n")
    assert replaced == f"before\n\n{BEGIN}\n\nnew\n\n{END}\n\nafter\n"
    assert replace_section(replaced, "new") == replaced


@pytest.mark.parametrize("page", ["", BEGIN, END, f"{END} {BEGIN}"])
def test_page_without_markers_is_left_alone(page: str) -> None:
    with pytest.raises(ValueError, match="there is no <!-- measured:begin --> followed by <!-- measured:end -->"):
        replace_section(page, "new")
