"""Measure how much of the library its tests pass through, and fail if it isn't enough.

    python .ci/covered.py FOLDER [readable] [compiled]

``readable`` runs the whole suite with the readable twin, most of it under coverage.py, also in the processes that tests
start; and a part of it with the compiled twin, which calls some methods that the other doesn't. Each line and each
branch of the package must have been passed through. ``compiled`` runs what concerns the compiled twin, built for gcov
in FOLDER: 95 % of all its lines, and 90 % of those of each file. What is missing there is for what can't be brought
about, such as an interpreter without the module ``asyncio``. Without a word, both.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

from sanitized import ROOT, TESTS, build

PYTEST = ["-m", "pytest", "-q", "-p", "no:cacheprovider"]

# What need not pass through everything: it would take a multiple of its time under coverage.py, and adds nothing to it.
UNMEASURED = [f"tests/{name}" for name in ("docs", "examples", "robustness", "bench_tests", "fuzz", "soak")]
UNMEASURED += [
    "tests/asyncio/test_memory.py",  # memory would run out in what measures
    "tests/compat/test_rules.py::test_rule_04_a_million_fragments_of_a_byte_arrive",
    "tests/compat/test_rules.py::test_rule_04_fragments_cost_little_more_than_their_bytes",
]
NATIVE_TOO = [f"tests/asyncio/test_{name}.py" for name in ("pump", "receiving", "floods")]
NATIVE_TOO += ["tests/scenarios/test_receiving.py"]

# In percent.
BRANCHES, LINES, LINES_OF_FILE = 100, 95, 90

# Without optimizations, which would merge lines.
FLAGS = ["--coverage", "-O0", "-g"]


def readable(folder: Path) -> int:
    """The suite, in part under coverage.py; the status for the shell."""
    environment = {**os.environ, "COVERAGE_FILE": str(folder / "coverage")}
    coverage = ["-m", "coverage"]
    # Each line is passed with few examples, too.
    environment["HYPOTHESIS_PROFILE"] = "brief"
    commands = [
        ("native", [*coverage, "run", *PYTEST, *NATIVE_TOO]),
        ("python", [*coverage, "run", *PYTEST, *(f"--deselect={path}" for path in UNMEASURED)]),
        ("python", [*coverage, "combine", "--quiet"]),
        ("python", [*coverage, "report", f"--fail-under={BRANCHES}"]),
        ("python", [*PYTEST, *UNMEASURED]),
    ]
    status = 0
    for twin, command in commands:
        environment["WEBSOCKETS_ACCELERATOR"] = twin
        status = subprocess.run([sys.executable, *command], env=environment, cwd=ROOT, check=False).returncode or status
    return status


def compiled(folder: Path) -> int:
    """The tests of the compiled twin, and what gcov says; the status for the shell."""
    notes_folder = build(folder / "compiled", FLAGS)
    environment = {**os.environ, "PYTHONPATH": str(folder / "compiled"), "WEBSOCKETS_REQUIRE_NATIVE": "1"}
    environment.pop("WEBSOCKETS_ACCELERATOR", None)
    status = subprocess.run([sys.executable, *PYTEST, *TESTS], env=environment, cwd=ROOT, check=False).returncode
    lines, passed = 0, 0.0
    for source in sorted((folder / "compiled").rglob("*.c")):
        (notes,) = notes_folder.glob(f"*-{source.stem}.gcno")
        gcov = ["gcov", "--object-file", str(notes), source.name]
        done = subprocess.run(gcov, cwd=notes_folder, check=True, capture_output=True, text=True)
        found = re.search(rf"File '\S*{source.name}'\nLines executed:([\d.]+)% of (\d+)", done.stdout)
        assert found is not None, done.stdout
        report = (notes_folder / f"{source.name}.gcov").read_text()
        missed = re.findall(r"^ *#####: *(\d+):", report, re.MULTILINE)
        print(f"{source.name}: {found[1]} % of {found[2]} lines; not {', '.join(missed)}")
        lines += int(found[2])
        passed += float(found[1]) * int(found[2])
        if float(found[1]) < LINES_OF_FILE:
            status = status or 1
    print(f"together: {passed / lines:.2f} % of {lines} lines")
    if passed < LINES * lines:
        status = status or 1
    return status


PARTS = {"readable": readable, "compiled": compiled}


def main() -> int:
    folder = Path(sys.argv[1]).resolve()
    folder.mkdir(parents=True, exist_ok=True)
    return max([PARTS[name](folder) for name in sys.argv[2:] or PARTS])


if __name__ == "__main__":
    sys.exit(main())
