"""Run tests of the accelerator with its compiled twin built under AddressSanitizer and UndefinedBehaviorSanitizer.

    python .ci/sanitized.py FOLDER [PYTEST_ARGUMENT ...]

A copy of the package is made in FOLDER, which must not exist, and gcc compiles the twin there. The tests run with the
interpreter of this script; it ends at the first error that a sanitizer finds.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
FLAGS = ["-fsanitize=address,undefined", "-fno-sanitize-recover=all", "-fno-omit-frame-pointer", "-g", "-O1"]
TESTS = [
    "tests/core/test_accelerator.py",
    "tests/core/test_accelerator_failures.py",
    "tests/core/test_protocol.py",
    "tests/core/test_frames.py",
    "tests/core/test_messages.py",
    "tests/asyncio/test_fast_path_twins.py",
    "tests/asyncio/test_descriptor.py",
    "tests/asyncio/test_memory.py",
    "tests/asyncio/test_strangers.py",
    "tests/asyncio/test_tasks.py",
    "tests/asyncio/test_waiter.py",
    "tests/asyncio/test_receiving.py",
    "tests/sync/test_fast_path_twins.py",
    "tests/sync/test_connection.py",
    "tests/sync/test_over_sockets.py",
    "tests/asyncio/test_sending.py",
    "tests/asyncio/test_broadcast.py",
    "tests/asyncio/test_buffers.py",
    "tests/asyncio/test_closing.py",
    "tests/scenarios/test_receiving.py",
    "tests/scenarios/test_sending.py",
    "tests/scenarios/test_broadcast.py",
    "tests/scenarios/test_closing.py",
    "tests/fuzz/test_fuzz.py",
]


def build(folder: Path, flags: list[str]) -> Path:
    """Copy the package to a folder, and compile its twin there.

    Parameters:
        folder: the folder to create; it must not exist.
        flags: flags for gcc.

    Returns:
        The folder with the twin.
    """
    shutil.copytree(ROOT / "src", folder, ignore=shutil.ignore_patterns("*.so", "*.pyd", "*.egg-info", "__pycache__"))
    accelerator = folder / "websockets" / "_codec"
    target = accelerator / f"_native{sysconfig.get_config_var('EXT_SUFFIX')}"
    include = f"-I{sysconfig.get_path('include')}"
    warnings = ["-Wall", "-Wextra", "-Wno-missing-field-initializers", "-Wno-cast-function-type", "-Werror"]
    command = [
        "gcc",
        "-shared",
        "-fPIC",
        *flags,
        *warnings,
        include,
        *map(str, sorted(folder.rglob("*.c"))),
        "-o",
        str(target),
    ]
    subprocess.run(command, check=True, cwd=accelerator)
    return accelerator


def library(name: str) -> str:
    """Return the path of a library of gcc."""
    found = subprocess.run(["gcc", f"-print-file-name={name}"], check=True, capture_output=True, text=True)
    return found.stdout.strip()


def main() -> int:
    folder = Path(sys.argv[1])
    build(folder.resolve(), FLAGS)
    environment = {
        **os.environ,
        "PYTHONPATH": str(folder),
        "WEBSOCKETS_REQUIRE_NATIVE": "1",
        # The interpreter's memory pools would hide errors, so use malloc().
        "PYTHONMALLOC": "malloc",
        "LD_PRELOAD": library("libasan.so"),
        # The interpreter itself doesn't free all memory at its end.
        "ASAN_OPTIONS": "detect_leaks=0",
    }
    print(
        subprocess.run(
            [sys.executable, "-c", "from websockets._codec import _native; print(_native.__file__)"],
            env=environment,
            check=True,
            capture_output=True,
            text=True,
        ).stdout,
        end="",
    )
    tests = sys.argv[2:] or TESTS
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *tests]
    return subprocess.run(command, env=environment, cwd=ROOT, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
