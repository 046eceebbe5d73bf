"""Run a program, and run it again whenever a Python file below this folder has changed.

``python reload.py server.py ARGUMENT...``; needs nothing but Python.
"""

import contextlib
import signal
import subprocess
import sys
import time
from pathlib import Path

# Seconds between two looks at the files.
INTERVAL = 0.3

# Seconds that the program has to end, after which it is killed.
PATIENCE = 15


def versions() -> dict[Path, float]:
    """When each Python file changed last; folders such as .venv are left out."""
    found = {}
    for path in Path().rglob("*.py"):
        if not any(part.startswith(".") for part in path.parts):
            with contextlib.suppress(FileNotFoundError):
                found[path] = path.stat().st_mtime
    return found


def end(process: subprocess.Popen[bytes]) -> None:
    """End a program in order: SIGTERM lets a server close its connections with 1001."""
    process.terminate()
    try:
        process.wait(PATIENCE)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def main(command: list[str]) -> None:
    # Ctrl-C reaches the program, too: both end.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with contextlib.suppress(KeyboardInterrupt):
        while True:
            before = versions()
            process = subprocess.Popen([sys.executable, *command])
            try:
                while versions() == before:
                    time.sleep(INTERVAL)
                print("changed: starting again", flush=True)
            finally:
                end(process)


if __name__ == "__main__":
    main(sys.argv[1:])
