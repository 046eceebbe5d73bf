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
import re
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
        threads: whether it runs in threads; None if it needs no front-end, because all of them share what it tests.
    """

    path: Path
    name: str
    numbers: tuple[int, ...]
    threads: bool | None


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
                    yield Test(path, node.name, numbers, in_threads(path, node))


def in_threads(path: Path, function: ast.FunctionDef | ast.AsyncFunctionDef) -> bool | None:
    """Return whether a test runs in threads; None if no front-end takes part."""
    if path.parent.name == "core":
        return None
    if path.parent.name == "sync" or path.name == "test_threads.py":
        return True
    decorators = [ast.unparse(decorator) for decorator in function.decorator_list]
    if path.parent.name == "robustness" and isinstance(function, ast.FunctionDef):
        # A server in a process of its own, whose kind is a parameter, or of a fixture.
        on_loops = any("LOOPS" in decorator for decorator in decorators)
        victims = any("VICTIMS" in decorator for decorator in decorators) or "hardy" in ast.unparse(function.args)
        return victims or (False if on_loops else None)
    needs = [found for decorator in decorators for found in re.findall(r"^in_every_world\((.*)\)$", decorator)]
    return bool(needs) and not lacked_by_threads() & set(re.findall(r"Capability\.(\w+)", needs[0]))


@functools.cache
def lacked_by_threads() -> frozenset[str]:
    """Return the capabilities of scenarios that threads don't have."""
    source = (TESTS / "scenarios" / "_threads.py").read_text("utf-8")
    block = source.partition("    lacks:")[2].partition("\n    }")[0]
    return frozenset(re.findall(r"^ +Capability\.(\w+):", block, re.MULTILINE))


def on_threads(number: int, scenario: Any) -> str:
    """Return what the table says of a scenario and threads; nothing if no test shows it there."""
    kinds = {test.threads for test in tests() if number in test.numbers}
    if True in kinds:
        return f"shown; {scenario.threads}" if scenario.threads else "shown"
    return "the same code" if None in kinds else str(scenario.threads)


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
        head = ["| | scenario | defence | in threads | tests |", "| --- | --- | --- | --- | --- |"]
        lines = [f"### {title}", "", *head]
        for number, scenario in scenarios.items():
            names = "<br>".join(_link(test) for test in shown if number in test.numbers)
            threads = on_threads(number, scenario)
            lines.append(f"| {number} | {scenario.what} | {scenario.defence} | {threads} | {names} |")
        parts.append("\n".join(lines))
    return parts


def _link(test: Test) -> str:
    link = f"[`{test.name}`](../{test.path.relative_to(TESTS.parent).as_posix()})"
    return f"**fails:** {link}" if test.path.name == OPEN else link


REGION = Region("robustness.md", "scenarios", table)

if __name__ == "__main__":
    REGION.main()
