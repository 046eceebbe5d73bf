"""Inputs that are kept: a file of text for each target, an input a line.

May know: the files beside this one. Must not know: targets, engines.

Lines are Python's bytes literals, so that a change of them can be read; a line that begins with ``#`` tells what those
below it are about. ``corpus`` has what reaches much of the library in few bytes, ``regressions`` what once was wrong.
"""

from __future__ import annotations

import ast
from collections.abc import Iterable
from pathlib import Path

__all__ = ["corpus", "regressions", "write_corpus"]

HERE = Path(__file__).resolve().parent


def read(path: Path) -> list[bytes]:
    """The inputs in a file; none if there is no such file."""
    if not path.exists():
        return []
    lines = path.read_text("ascii").splitlines()
    return [bytes(ast.literal_eval(line)) for line in lines if line and not line.startswith("#")]


def corpus(name: str) -> list[bytes]:
    """The inputs to begin from."""
    return read(HERE / "corpus" / f"{name}.txt")


def regressions(name: str) -> list[bytes]:
    """The inputs that once broke the invariant of a target."""
    return read(HERE / "regressions" / f"{name}.txt")


def write_corpus(name: str, inputs: Iterable[bytes]) -> None:
    """Replace the inputs to begin from."""
    lines = sorted({repr(data) for data in inputs}, key=lambda line: (len(line), line))
    (HERE / "corpus" / f"{name}.txt").write_text("".join(f"{line}\n" for line in lines), "ascii")
