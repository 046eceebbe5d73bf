"""Typed programs are checked as their authors check them: by mypy, with all its rules, against the package's own types.

Pyright checks the same files with the rest of the tests.
"""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

import websockets

ROOT = Path(__file__).parents[2]
PROGRAMS = sorted(Path(__file__).parent.glob("typing_*.py"))
LIMIT = 300


def test_package_says_that_it_is_typed() -> None:
    assert websockets.__file__ is not None
    assert (Path(websockets.__file__).parent / "py.typed").read_bytes() == b""


def test_there_are_programs() -> None:
    assert [path.stem for path in PROGRAMS] == [
        "typing_client",
        "typing_protocol",
        "typing_server",
        "typing_threads_client",
        "typing_threads_server",
    ]


@pytest.mark.skipif(importlib.util.find_spec("mypy") is None, reason="mypy is a tool of development")
def test_mypy(tmp_path: Path) -> None:
    command = [
        sys.executable,
        "-m",
        "mypy",
        "--strict",
        "--config-file=",
        f"--cache-dir={tmp_path}",
        *map(str, PROGRAMS),
    ]
    environment = {**os.environ, "MYPYPATH": str(ROOT / "src")}
    done = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True, timeout=LIMIT)
    assert done.returncode == 0, done.stdout + done.stderr
