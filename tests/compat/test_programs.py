"""Programs written as users write them: each prints what it prints with the published package.

Those in ``programs`` are for release 17.4. Those in ``legacy_programs`` are as the documentation of 8.x to 10.x had
them, and for release 13.1, the last before that API was deprecated. The files in ``expected`` are what they print;
``tests/interop`` runs them with both, as they are; here most of them run in forks, which is quicker.
"""

from __future__ import annotations

import contextlib
import functools
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from _kit.platforms import needs_signals, needs_unix_sockets

ROOT = Path(__file__).parents[2]
FOLDERS = [Path(__file__).parent / name for name in ("programs", "legacy_programs")]
PROGRAMS = [path for folder in FOLDERS for path in sorted(folder.glob("*.py"))]

ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT / "src"), "PYTHONUTF8": "1"}

FORKS = Path(__file__).parent / "_forks.py"

# No program runs for more than a moment; the limit is for one that hangs.
LIMIT = 60


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda path: path.name)
def test_every_program_has_its_output(folder: Path) -> None:
    names = sorted(path.stem for path in folder.glob("*.py"))
    assert len(names) >= 11
    assert sorted(path.stem for path in folder.glob("expected/*.txt")) == names


# Runs a program: what it prints, its errors, and its exit status.
Run = Callable[[Path], tuple[str, str, int]]


def interpreter(folder: str) -> list[str]:
    """The command that runs programs of a folder: a mistake that only shows as a warning must show."""
    # A connection left open is such a mistake.
    lenient = ["-W", "ignore::DeprecationWarning"] if folder == "legacy_programs" else []
    return [sys.executable, "-W", "error", *lenient]


def alone(program: Path) -> tuple[str, str, int]:
    """Run a program in an interpreter of its own; what it prints, its errors, and its exit status."""
    command = [*interpreter(program.parent.name), str(program)]
    done = subprocess.run(command, env=ENVIRONMENT, capture_output=True, encoding="utf-8", timeout=LIMIT)
    return done.stdout, done.stderr, done.returncode


# What most programs of a folder import first.
MODULES = {
    "programs": ["websockets.asyncio.client", "websockets.asyncio.server"],
    "legacy_programs": ["websockets.legacy.client", "websockets.legacy.server"],
}


@pytest.fixture(scope="module")
def run() -> Iterator[Run]:
    """What runs a program: a fork of one process for each folder, where there are forks."""
    with contextlib.ExitStack() as stack:

        @functools.cache
        def parent(folder: str) -> subprocess.Popen[str]:
            command = [*interpreter(folder), str(FORKS), str(LIMIT), *MODULES[folder]]
            pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "encoding": "utf-8"}
            return stack.enter_context(subprocess.Popen(command, env=ENVIRONMENT, **pipes))  # type: ignore[call-overload]

        def forked(program: Path) -> tuple[str, str, int]:
            process = parent(program.parent.name)
            assert process.stdin is not None
            assert process.stdout is not None
            print(program, file=process.stdin, flush=True)
            output, errors, status = json.loads(process.stdout.readline())
            return output, errors, status

        yield forked if hasattr(os, "fork") else alone


# What a program needs that not every system has.
NEEDS = {"graceful_shutdown": needs_signals, "unix_socket": needs_unix_sockets}


# It leaves a file open.
TELLING = """
import pathlib, sys
file = open(__file__)
print(pathlib.Path(__file__).name, __name__, sys.argv == [__file__])
print("é", file=sys.stderr)
"""


@pytest.mark.parametrize("status", [0, 3])
def test_what_runs_them_tells_everything(status: int, run: Run, tmp_path: Path) -> None:
    folder = tmp_path / "programs"
    folder.mkdir()
    program = folder / "program.py"
    program.write_text(f"{TELLING}sys.exit({status})\n", "utf-8")
    for results in (run(program), alone(program)):
        assert results[0] == "program.py __main__ True\n"
        assert results[1].startswith("é\n")
        assert "ResourceWarning" in results[1]
        assert results[2] == status


@pytest.mark.parametrize(
    "program",
    [
        pytest.param(path, id=f"{path.parent.name}-{path.stem}", marks=[NEEDS[path.stem]] if path.stem in NEEDS else [])
        for path in PROGRAMS
    ],
)
def test_program(program: Path, run: Run) -> None:
    output, errors, status = run(program)
    assert (errors, status) == ("", 0)
    assert output == (program.parent / "expected" / f"{program.stem}.txt").read_text("utf-8")
