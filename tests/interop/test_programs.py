"""The same program with our package and with the published one: both must print the same.

Charter: runs the programs in ``tests/compat/programs``; knows which interpreter has which package, not what they do.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from interop.programs import environment, setting

PROGRAMS = Path(__file__).resolve().parents[1] / "compat" / "programs"

# No program runs for more than a moment; the limit is for one that hangs.
LIMIT = 60


def run(python: str, peer: str, program: Path) -> str:
    """Return what a program prints, which must end well and complain of nothing."""
    done = subprocess.run(
        [python, program], env=environment(peer), capture_output=True, encoding="utf-8", timeout=LIMIT
    )
    assert (done.stderr, done.returncode) == ("", 0)
    return done.stdout


@pytest.mark.parametrize("program", sorted(PROGRAMS.glob("*.py")), ids=lambda path: path.stem)
def test_program(program: Path) -> None:
    assert run(sys.executable, "ours", program) == run(setting("INTEROP_PYTHON"), "websockets", program)
