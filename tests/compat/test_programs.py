"""Programs written as users of release 17.4 write them: each prints what it printed with that release.

The files in ``programs/expected`` are what the programs print with the published package; ``tests/interop`` runs them
with both.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PROGRAMS = Path(__file__).parent / "programs"
EXPECTED = PROGRAMS / "expected"

ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT / "src"), "PYTHONUTF8": "1"}

# No program runs for more than a moment; the limit is for one that hangs.
LIMIT = 60


def test_every_program_has_its_output() -> None:
    names = sorted(path.stem for path in PROGRAMS.glob("*.py"))
    assert len(names) == 10
    assert sorted(path.stem for path in EXPECTED.glob("*.txt")) == names


@pytest.mark.parametrize("program", sorted(PROGRAMS.glob("*.py")), ids=lambda path: path.stem)
def test_program(program: Path) -> None:
    # A mistake that only shows as a warning, such as a connection left open, must show.
    command = [sys.executable, "-W", "error", str(program)]
    done = subprocess.run(command, env=ENVIRONMENT, capture_output=True, encoding="utf-8", timeout=LIMIT)
    assert (done.stderr, done.returncode) == ("", 0)
    assert done.stdout == (EXPECTED / f"{program.stem}.txt").read_text("utf-8")
