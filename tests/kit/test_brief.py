"""What a run of the suite by itself leaves out, and that it leaves out no more."""

from __future__ import annotations

import itertools
import os
from collections import Counter
from collections.abc import Hashable, Iterable, Mapping
from pathlib import Path
from typing import Any

import pytest

from _kit.brief import every_pair


def product(**values: Iterable[Hashable]) -> list[Mapping[str, Hashable]]:
    """All combinations."""
    return [dict(zip(values, row, strict=True)) for row in itertools.product(*values.values())]


def pairs(combinations: Iterable[Mapping[str, Hashable]]) -> set[object]:
    """All pairs of values that meet in these combinations."""
    return {pair for one in combinations for pair in itertools.permutations(one.items(), 2)}


@pytest.mark.parametrize(
    ("combinations", "at_most"),
    [
        (product(a=range(2), b=range(2), c=range(2)), 6),
        (product(a=range(3), b=range(4), c=range(5)), 24),
        (product(a=range(2), b=range(2), c=range(2), d=range(2), e=range(2)), 10),
        # Not a whole product: a value that has a meaning only beside some others.
        ([one for one in product(a=range(3), b=range(3), c=range(3)) if one["a"] != one["b"]], 12),
        # Not of one kind: some have a parameter that others haven't.
        ([*product(a=range(3), b=range(2)), *product(a=range(3), b=range(2), c=range(2))], 12),
    ],
    ids=["2 by 2 by 2", "3 by 4 by 5", "2 five times", "with a gap", "of two kinds"],
)
def test_every_pair_of_values_meets(combinations: list[Mapping[str, Hashable]], at_most: int) -> None:
    chosen = every_pair(combinations)
    assert pairs(combinations[place] for place in chosen) == pairs(combinations)
    assert len(chosen) <= at_most
    assert chosen == sorted(set(chosen)) == every_pair(combinations)


@pytest.mark.parametrize(
    "combinations",
    [[], [{}], [{}, {}], product(a=range(5)), product(a=range(3), b=range(4)), product(a=range(9), b=[1], c=[2])],
    ids=["none", "no parameter", "no parameters", "one table", "two tables", "tables with a single row"],
)
def test_nothing_else_is_left_out(combinations: list[Mapping[str, Hashable]]) -> None:
    assert every_pair(combinations) == list(range(len(combinations)))


SUITE = """
import pytest

@pytest.mark.parametrize("a", [1, 2, 3])
@pytest.mark.parametrize(("b", "c"), [(1, 1), (1, 2), (2, 1), (2, 2)])
@pytest.mark.parametrize("d", [[1], [2]])
def test_product(a, b, c, d):
    pass

@pytest.mark.parametrize(("a", "b", "c"), [(a, b, c) for a in (1, 2) for b in (1, 2) for c in (1, 2)])
def test_table(a, b, c):
    pass

@pytest.mark.parametrize("a", [1, 2])
@pytest.mark.parametrize("b", [1, 2])
def test_two(a, b):
    pass

def test_none():
    pass
"""


class Collected:
    """Has the suite's hook choose from what another run collects, and remembers what that has left."""

    def __init__(self, conftest: Any) -> None:
        self.conftest = conftest
        self.counts: Counter[str] = Counter()
        self.left_out = 0

    def pytest_collection_modifyitems(self, config: pytest.Config, items: list[pytest.Item]) -> None:
        self.conftest.pytest_collection_modifyitems(config, items)

    def pytest_deselected(self, items: list[pytest.Item]) -> None:
        self.left_out += len(items)

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        self.counts.update(item.name.partition("[")[0] for item in session.items)


@pytest.mark.parametrize(("brief", "left"), [(True, 12), (False, 24)], ids=["by itself", "with a profile"])
def test_the_suite_has_all_with_a_profile(
    brief: bool, left: int, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Rows of a table all stay, also where they look like a product. What is left out is counted as deselected."""
    conftest = request.config.pluginmanager.get_plugin(str(Path(__file__).parents[1] / "conftest.py"))
    monkeypatch.setattr(conftest, "BRIEF", brief)
    (tmp_path / "test_it.py").write_text(SUITE)
    collected = Collected(conftest)
    options = ["--collect-only", "-qq", "-c", os.devnull, "--rootdir", str(tmp_path), "--disable-plugin-autoload"]
    # The run in which this is a test has an alarm, and bytecode of its own.
    options += ["-p", "no:faulthandler", "-p", "no:cacheprovider", "--import-mode=importlib"]
    assert pytest.main([*options, str(tmp_path)], plugins=[collected]) == 0
    assert collected.counts == {"test_product": left, "test_table": 8, "test_two": 4, "test_none": 1}
    assert collected.left_out == 24 - left
