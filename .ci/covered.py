"""Measure the coverage of the tests, and fail if it is too low.

    python .ci/covered.py FOLDER [readable] [compiled]

``readable`` runs the whole suite with the readable twin, most of it under coverage.py, also in the processes that tests
start. It also runs a part of the suite with the compiled twin, which calls some methods that the readable one doesn't.
All lines and branches of the package must be covered. ``compiled`` runs the tests of the compiled twin, built for gcov
in FOLDER: they must cover 95 % of all its lines, and 90 % of the lines of each file. The rest handles cases that tests
can't produce, such as an interpreter without the module ``asyncio``. By default, both run.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

from sanitized import ROOT, TESTS, build

PYTEST = ["-m", "pytest", "-q", "-p", "no:cacheprovider"]

# Tests that run without coverage.py, which would make them several times slower and find no more lines.
UNMEASURED = [f"tests/{name}" for name in ("docs", "examples", "robustness", "bench_tests", "fuzz", "soak")]
UNMEASURED += [
    "tests/asyncio/test_memory.py",  # coverage.py itself would need memory
    "tests/compat/test_rules.py::test_rule_04_a_million_fragments_of_a_byte_arrive",
    "tests/compat/test_rules.py::test_rule_04_fragments_cost_little_more_than_their_bytes",
]
NATIVE_TOO = [f"tests/asyncio/test_{name}.py" for name in ("fast_path_twins", "receiving", "floods")]
NATIVE_TOO += ["tests/scenarios/test_receiving.py"]

# In percent.
BRANCHES, LINES, LINES_OF_FILE = 100, 95, 90

# Optimizations would merge lines, so they are off.
FLAGS = ["--coverage", "-O0", "-g"]


def readable(folder: Path) -> int:
    """Run the suite, in part under coverage.py; return the status for the shell."""
    environment = {**os.environ, "COVERAGE_FILE": str(folder / "coverage")}
    coverage = ["-m", "coverage"]
    # A few examples are enough to reach every line.
    environment["HYPOTHESIS_PROFILE"] = "covered"
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
    """Run the tests of the compiled twin, and evaluate gcov's report; return the status for the shell."""
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
