"""The table of scenarios in the docs is complete, and fresh; each scenario has a test."""

from __future__ import annotations

import re
from pathlib import Path

import make_robustness

DOCS = Path(__file__).parents[2] / "docs"
TESTS = list(make_robustness.tests())


def test_committed_table_is_fresh() -> None:
    page = (DOCS / "robustness.md").read_text("utf-8")
    assert make_robustness.REGION.renewed(page) == page, "run: python docs/make_robustness.py --write"


def test_scenarios_are_numbered_without_a_gap() -> None:
    numbers = [number for scenarios in make_robustness.sections().values() for number in scenarios]
    assert numbers == list(range(1, 88))


def test_every_scenario_has_a_test_and_every_number_is_a_scenario() -> None:
    shown = {number for test in TESTS if test.path.name != make_robustness.OPEN for number in test.numbers}
    assert shown == set(range(1, 88))


def test_names_of_tests_have_the_number_of_their_scenario() -> None:
    for path in (DOCS.parent / "tests" / "robustness").glob("test_*.py"):
        names = re.findall(r"^(?:async )?def (test_\w+)", path.read_text("utf-8"), re.MULTILINE)
        marked = {test.name: test.numbers for test in TESTS if test.path == path}
        assert names == list(marked), path
        for name, (number,) in marked.items():
            assert name.startswith(f"test_s{number:02}_"), name


def test_every_row_is_shown() -> None:
    rows = re.findall(r"^\| (\d+) \| [^|]+ \| [^|]+ \| [^|]+ \| [^|]+ \|$", make_robustness.REGION.text(), re.MULTILINE)
    assert rows == [str(number) for number in range(1, 88)]


def test_every_scenario_is_shown_in_threads_or_there_is_a_reason() -> None:
    scenarios = {number: row for rows in make_robustness.sections().values() for number, row in rows.items()}
    assert [number for number, row in scenarios.items() if not make_robustness.on_threads(number, row)] == []


def test_what_runs_in_threads() -> None:
    """Read from the tests: who is right is known for some of them."""
    kinds = {test.name: test.threads for test in TESTS}
    assert make_robustness.lacked_by_threads() == {"CANCELLATION", "ORDER", "STALL", "WRITE_LIMIT"}
    assert kinds["test_s55_pings_from_a_peer_that_does_not_read"] is True
    assert kinds["test_s58_noisy_connections_starve_nobody"] is True
    assert kinds["test_s29_wrong_masking"] is True
    assert kinds["test_other_messages_wait_for_a_fragmented_one"] is False
    assert kinds["test_s83_the_loop_ends_with_connections_open"] is False
    assert kinds["test_s26_refused_socket_closes"] is False
    assert kinds["test_thousands_of_offers_are_read_once"] is None
    assert kinds["test_s86_every_split_of_frames_gives_the_same"] is None
