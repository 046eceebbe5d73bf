"""Runs programs, each in a fork of one process that has imported what they need: an import takes most of their time.

May know: how an interpreter runs a program. Must not know: what programs do.

``python tests/compat/_forks.py SECONDS MODULE...`` imports the modules. Then it reads paths of programs, one a line,
and writes a line of JSON for each: output, errors, and exit status. A program that takes more seconds is killed.
"""

from __future__ import annotations

import importlib
import json
import os
import runpy
import signal
import sys
import tempfile
from pathlib import Path
from typing import IO


def run(path: str, limit: int, output: IO[bytes], errors: IO[bytes]) -> int:
    """Run a program; return its exit status. In the fork this raises, to end as an interpreter ends."""
    pid = os.fork()
    if pid:
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    signal.alarm(limit)
    with open(os.devnull, "rb") as null:
        for source, target in ((null, 0), (output, 1), (errors, 2)):
            os.dup2(source.fileno(), target)
    output.close()
    errors.close()
    sys.argv = [path]
    sys.path[0] = str(Path(path).parent)
    runpy.run_path(path, run_name="__main__")
    sys.exit()


def main(limit: int, modules: list[str]) -> None:
    for module in modules:
        importlib.import_module(module)
    for line in sys.stdin:
        with tempfile.TemporaryFile() as output, tempfile.TemporaryFile() as errors:
            status = run(line.rstrip("\n"), limit, output, errors)
            texts = []
            for file in (output, errors):
                file.seek(0)
                texts.append(file.read().decode())
        print(json.dumps([*texts, status]), flush=True)


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2:])
