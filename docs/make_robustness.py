"""Make the table of scenarios from their descriptions, and from the tests that are marked with their numbers.

``python docs/make_robustness.py`` prints the table; with ``--write`` it is written to ``robustness.md`` in the same
folder, between the two marks. ``tests/docs/test_robustness_page.py`` fails if the page differs.

May know: the descriptions in ``tests/robustness/scenarios.py``, the marks of tests, the marks in the page. Must not
know: the contents of the tests. They are read, not imported.
"""

from __future__ import annotations

import ast
import functools
import importlib.util
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from regions import Region

TESTS = Path(__file__).parents[1] / "tests"

# The file of tests that are expected to fail until the library is changed.
OPEN = "test_open_findings.py"


class Test(NamedTuple):
    """A test of scenarios.

    Attributes:
        path: file of the test.
        name: name of the test.
        numbers: numbers of the scenarios that it covers.
    """

    path: Path
    name: str
    numbers: tuple[int, ...]


def sections() -> dict[str, dict[int, Any]]:
    """Return the scenarios of each section, by their numbers."""
    spec = importlib.util.spec_from_file_location("scenarios", TESTS / "robustness" / "scenarios.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    found: dict[str, dict[int, Any]] = module.SECTIONS
    return found


@functools.cache
def tests() -> tuple[Test, ...]:
    """Return all tests in the order of the files, those of the folder about robustness first."""
    return tuple(_tests())


def _tests() -> Iterator[Test]:
    for path in sorted(TESTS.rglob("test_*.py"), key=lambda path: (path.parent.name != "robustness", path)):
        source = path.read_text("utf-8")
        if "scenario(" in source:
            for node in ast.walk(ast.parse(source)):
                if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and (numbers := marked_with(node)):
                    yield Test(path, node.name, numbers)


def marked_with(function: ast.FunctionDef | ast.AsyncFunctionDef) -> tuple[int, ...]:
    """Return the numbers in the marks of a test: ``@scenario(1)`` or ``@pytest.mark.scenario(1, 2)``."""
    return tuple(
        ast.literal_eval(argument)
        for decorator in function.decorator_list
        if isinstance(decorator, ast.Call) and ast.unparse(decorator.func) in ("scenario", "pytest.mark.scenario")
        for argument in decorator.args
    )


def table() -> list[str]:
    """Return a table for each section."""
    shown = tests()
    parts = []
    for title, scenarios in sections().items():
        lines = [f"### {title}", "", "| | scenario | defence | tests |", "| --- | --- | --- | --- |"]
        for number, scenario in scenarios.items():
            names = "<br>".join(_link(test) for test in shown if number in test.numbers)
            lines.append(f"| {number} | {scenario.what} | {scenario.defence} | {names} |")
        parts.append("\n".join(lines))
    return parts


def _link(test: Test) -> str:
    link = f"[`{test.name}`](../{test.path.relative_to(TESTS.parent).as_posix()})"
    return f"**fails:** {link}" if test.path.name == OPEN else link


REGION = Region("robustness.md", "scenarios", table)

if __name__ == "__main__":
    REGION.main()
