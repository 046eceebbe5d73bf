"""Find or install ``wstest``, the program of the Autobahn testsuite.

Charter: knows how to get a ``wstest`` on a machine that has a Python 2.7, the last version the testsuite runs on;
knows nothing of WebSocket or of how ``wstest`` is used.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

TESTSUITE = "autobahntestsuite==25.10.1"

# The last release that can make environments for Python 2.7.
VIRTUALENV = "virtualenv==20.15.1"

# Compiling the C parts of the testsuite's dependencies is the slow step.
INSTALL_TIMEOUT = 600


def clean_environment() -> dict[str, str]:
    """Return our environment without the variables that would make Python 2.7 import modules for Python 3."""
    return {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "VIRTUAL_ENV"))}


def run(*command: str | Path, log: Path, **environment: str) -> None:
    """Run one step of the installation with its output going to ``log``; raise ``RuntimeError`` if it fails."""
    with log.open("ab") as output:
        result = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env=clean_environment() | environment,
            timeout=INSTALL_TIMEOUT,
            check=False,
        )
    if result.returncode != 0:
        raise RuntimeError(f"installing {TESTSUITE} failed; the end of {log}:\n{tail(log)}")


def tail(log: Path, lines: int = 30) -> str:
    """Return the last ``lines`` lines of a log."""
    return "\n".join(log.read_text(errors="replace").splitlines()[-lines:])


def query(*command: str, **environment: str) -> str | None:
    """Return what a command prints, or ``None`` if it is missing or fails."""
    try:
        result = subprocess.run(
            command, capture_output=True, text=True, env=clean_environment() | environment, timeout=60, check=False
        )
    except FileNotFoundError:
        return None
    return result.stdout.strip() if result.returncode == 0 else None


def pyenv_environments() -> Iterator[dict[str, str]]:
    """Give the environments in which pyenv's ``python2.7`` is each of the 2.7 releases that pyenv has."""
    versions = query("pyenv", "versions", "--bare") or ""
    for version in versions.split():
        if version.startswith("2.7"):
            yield {"PYENV_VERSION": version}


def find_python2() -> str:
    """Return the path of a Python 2.7; raise ``RuntimeError`` if there is none."""
    for environment in ({}, *pyenv_environments()):
        # A pyenv shim exists on the PATH even where the selected version does not provide the command: ask, don't look.
        path = query("python2.7", "-c", "import sys; print(sys.executable)", **environment)
        if path is not None:
            return path
    raise RuntimeError(f"{TESTSUITE} needs a python2.7 on the PATH or in pyenv; or pass --wstest PATH")


def install(folder: Path) -> None:
    """Make a Python 2.7 environment in ``folder``, which must not exist, and install the testsuite there."""
    python2 = find_python2()
    tools = folder / "virtualenv"
    log = folder / "install.log"
    folder.mkdir(parents=True)
    # Installed aside, so that the Python 2.7 of the machine stays as it was.
    run(python2, "-m", "pip", "install", "--target", tools, VIRTUALENV, log=log)
    run(python2, "-m", "virtualenv", folder / "env", log=log, PYTHONPATH=str(tools))
    run(folder / "env" / "bin" / "pip", "install", TESTSUITE, log=log)


def ensure_wstest(cache: Path) -> Path:
    """Return the path of a ``wstest`` below ``cache``, installing it there unless it is already."""
    folder = cache.resolve() / TESTSUITE.replace("==", "-")
    complete = folder / "complete"
    if not complete.exists():
        # A folder without the mark is what an interrupted installation left.
        shutil.rmtree(folder, ignore_errors=True)
        install(folder)
        complete.touch()
    return folder / "env" / "bin" / "wstest"


def main() -> None:
    """Install below the folder named on the command line, and print the path of ``wstest``."""
    if len(sys.argv) != 2:
        sys.exit(f"usage: {sys.argv[0]} FOLDER")
    print(ensure_wstest(Path(sys.argv[1])))


if __name__ == "__main__":
    main()
