"""The environment of the frameworks: they are installed with what they ask for, and our package over the published one.

Charter: makes the environment, and runs programs in it. Knows nothing of what they do.

It is kept below the folder in INTEROP_CACHE, if that is set. To play with it::

    INTEROP_CACHE=cache pytest tests/interop/test_frameworks.py
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import venv
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
REQUIREMENTS = HERE / "frameworks.txt"

# Our package is built from these.
SOURCES = ("src", "pyproject.toml", "setup.py", "README.md", "LICENSE")

INSTALL_TIMEOUT = 600


def run(*command: str | Path, timeout: float) -> str:
    """Run a program that must end well, without our modules in its path; return what it prints."""
    variables = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    done = subprocess.run(
        command, stdin=subprocess.DEVNULL, capture_output=True, env=variables, encoding="utf-8", timeout=timeout
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def frameworks_environment(cache: Path) -> Path:
    """Return the interpreter of an environment with the frameworks; make it unless it is there."""
    contents = hashlib.sha256(REQUIREMENTS.read_bytes() + sys.version.encode()).hexdigest()[:16]
    folder = cache / f"frameworks-{contents}"
    python, finished = folder / "bin" / "python", folder / "finished"
    if not finished.exists():
        venv.create(folder, with_pip=True, clear=True)
        run(python, "-m", "pip", "install", "--quiet", "--requirement", REQUIREMENTS, timeout=INSTALL_TIMEOUT)
        finished.touch()
    return python


def build_package(temporary: Path) -> Path:
    """Return a wheel of our package."""
    # A copy, because building leaves files behind.
    source = temporary / "source"
    source.mkdir()
    for name in SOURCES:
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
        copy(ROOT / name, source / name)
    pip = (sys.executable, "-m", "pip")
    run(*pip, "wheel", "--quiet", "--no-deps", "--wheel-dir", temporary / "dist", source, timeout=INSTALL_TIMEOUT)
    (wheel,) = (temporary / "dist").iterdir()
    return wheel


def install_frameworks(cache: Path, wheel: Path) -> Path:
    """Return the interpreter of an environment with the frameworks and our package."""
    python = frameworks_environment(cache)
    run(python, "-m", "pip", "install", "--quiet", "--no-deps", "--force-reinstall", wheel, timeout=INSTALL_TIMEOUT)
    return python


def unpack_package(wheel: Path, folder: Path) -> Path:
    """Install our package in a folder, to be put in front of what an environment has; return the folder."""
    pip = (sys.executable, "-m", "pip")
    run(*pip, "install", "--quiet", "--no-deps", "--target", folder, wheel, timeout=INSTALL_TIMEOUT)
    return folder
