"""Programs written as users write them: each prints what it prints with the published package.

Those in ``programs`` are for release 17.4. Those in ``legacy_programs`` are as the documentation of 8.x to 10.x had
them, and for release 13.1, the last before that API was deprecated. The files in ``expected`` are what they print;
``tests/interop`` runs them with both.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from _kit.platforms import needs_signals, needs_unix_sockets

ROOT = Path(__file__).parents[2]
FOLDERS = [Path(__file__).parent / name for name in ("programs", "legacy_programs")]
PROGRAMS = [path for folder in FOLDERS for path in sorted(folder.glob("*.py"))]

ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT / "src"), "PYTHONUTF8": "1"}

# No program runs for more than a moment; the limit is for one that hangs.
LIMIT = 60


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda path: path.name)
def test_every_program_has_its_output(folder: Path) -> None:
    names = sorted(path.stem for path in folder.glob("*.py"))
    assert len(names) >= 11
    assert sorted(path.stem for path in folder.glob("expected/*.txt")) == names


# What a program needs that not every system has.
NEEDS = {"graceful_shutdown": needs_signals, "unix_socket": needs_unix_sockets}


@pytest.mark.parametrize(
    "program",
    [
        pytest.param(path, id=f"{path.parent.name}-{path.stem}", marks=[NEEDS[path.stem]] if path.stem in NEEDS else [])
        for path in PROGRAMS
    ],
)
def test_program(program: Path) -> None:
    # A mistake that only shows as a warning, such as a connection left open, must show.
    lenient = ["-W", "ignore::DeprecationWarning"] if program.parent.name == "legacy_programs" else []
    command = [sys.executable, "-W", "error", *lenient, str(program)]
    done = subprocess.run(command, env=ENVIRONMENT, capture_output=True, encoding="utf-8", timeout=LIMIT)
    assert (done.stderr, done.returncode) == ("", 0)
    assert done.stdout == (program.parent / "expected" / f"{program.stem}.txt").read_text("utf-8")
