"""Settings of the whole suite.

Hypothesis runs the same examples each time, so that a red test stays red.
``HYPOTHESIS_PROFILE=long`` looks for new ones.

Tests that are marked ``scenario`` are counted by the numbers of their scenarios, in the last lines of a run.
"""

from __future__ import annotations

import os

import pytest
from hypothesis import settings

settings.register_profile("suite", derandomize=True, deadline=None, max_examples=50, database=None)
settings.register_profile("long", derandomize=False, deadline=None, max_examples=5000)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "suite"))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Have the report of a test tell its scenarios."""
    for item in items:
        for mark in item.iter_markers("scenario"):
            item.user_properties += [("scenario", number) for number in mark.args]


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Tell how many scenarios passed: those with a test that passed, and none that did not; with -v, test by test."""
    counts: dict[int, list[int]] = {}
    for outcome in ("passed", "failed", "error"):
        for report in terminalreporter.getreports(outcome):
            for name, number in getattr(report, "user_properties", ()):
                if name == "scenario":
                    counts.setdefault(int(str(number)), [0, 0])[outcome != "passed"] += 1
    if counts:
        good = [number for number, (passed, failed) in counts.items() if passed and not failed]
        terminalreporter.section("scenarios of docs/robustness.md")
        if config.get_verbosity() > 0:
            for number, (passed, failed) in sorted(counts.items()):
                terminalreporter.line(f"{number:2}: {passed} passed, {failed} failed")
        for number in sorted(set(counts) - set(good)):
            terminalreporter.line(f"scenario {number} does not hold")
        terminalreporter.line(f"{len(good)} of {len(counts)} passed")
