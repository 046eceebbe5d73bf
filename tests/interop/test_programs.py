"""The same program with our package and with the published one: both must print the same.

Charter: runs the programs in ``tests/compat``; knows which interpreter has which package, not what they do.
"""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from interop.programs import command as command_of
from interop.programs import environment

COMPAT = Path(__file__).resolve().parents[1] / "compat"

# What the programs in each folder were written for.
PEERS = {"programs": "websockets", "legacy_programs": "websockets 13.1"}
PROGRAMS = [path for folder in PEERS for path in sorted((COMPAT / folder).glob("*.py"))]

# No program runs for more than a moment; the limit is for one that hangs.
LIMIT = 60


def run(peer: str, program: Path) -> str:
    """Return what a program prints, which must end well and complain of nothing but its age."""
    # Our own is the package that runs this test; the command of a peer begins with its interpreter.
    command = [command_of(peer)[0], "-W", "ignore::DeprecationWarning", str(program)]
    done = subprocess.run(command, env=environment(peer), capture_output=True, encoding="utf-8", timeout=LIMIT)
    assert (done.stderr, done.returncode) == ("", 0)
    return done.stdout


@pytest.mark.parametrize("program", PROGRAMS, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_program(program: Path) -> None:
    assert run("ours", program) == run(PEERS[program.parent.name], program)
