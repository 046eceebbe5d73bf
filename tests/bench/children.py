"""The processes of a measurement: starting them, talking with them in lines of JSON, what they took, ending them.

Charter: processes, and where their CPU time and memory can be read. Must not know what they do.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import tempfile
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

# What Linux tells of its processes.
PROC = Path("/proc")

LIMIT = 120.0  # seconds for one line; it takes a fraction of this, unless something hangs


class ChildFailed(Exception):
    """A process ended, or fell silent, where it should have said something."""


class Child:
    """A process that prints lines of JSON.

    Parameters:
        command: what to run.
        environment: all of its environment variables.
        cpu: the processor to stay on; None for any.
    """

    def __init__(self, command: Sequence[str], environment: Mapping[str, str], cpu: int | None = None) -> None:
        # A file never fills up, as a pipe does that nobody reads.
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115  # closed in __exit__
        self._process = subprocess.Popen(
            command,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            text=True,
            encoding="utf-8",
        )
        if cpu is not None and hasattr(os, "sched_setaffinity"):
            os.sched_setaffinity(self._process.pid, {cpu})

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._process.kill()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                # What it was not told yet it need not know any more.
                with contextlib.suppress(OSError):
                    pipe.close()
        self._process.wait()
        self._errors.close()

    def tell(self, **order: object) -> None:
        """Send it a line."""
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):  # the answer that doesn't come says why
            self._process.stdin.write(json.dumps(order) + "\n")
            self._process.stdin.flush()

    def answer(self) -> dict[str, Any]:
        """The next line that it prints.

        Raises:
            ChildFailed: there is none.
        """
        assert self._process.stdout is not None
        watchdog = threading.Timer(LIMIT, self._process.kill)
        watchdog.start()
        try:
            line = self._process.stdout.readline()
        finally:
            watchdog.cancel()
        if not line:
            raise ChildFailed(self._last_words())
        try:
            found: dict[str, Any] = json.loads(line)
        except ValueError as exc:
            raise ChildFailed(f"it printed {line.strip()!r}") from exc
        return found

    def ask(self, **order: object) -> dict[str, Any]:
        """Send it a line and wait for its answer."""
        self.tell(**order)
        return self.answer()

    def _last_words(self) -> str:
        status = self._process.wait()
        return self._last_error() or f"it ended with status {status} and without a word"

    def _last_error(self) -> str:
        # Only after its end: until then the place to read from is the place where it writes.
        self._errors.seek(0)
        lines = self._errors.read().decode(errors="replace").strip().splitlines()
        return lines[-1] if lines else ""

    def end(self) -> str:
        """End it; returns the last error that it printed, if any."""
        self._process.kill()
        self._process.wait()
        return self._last_error()

    def cpu(self) -> float | None:
        """Seconds of CPU time that its main thread has used, from the kernel; None where the kernel doesn't tell."""
        try:
            schedstat = PROC / str(self._process.pid) / "schedstat"
            return int(schedstat.read_text("ascii").split()[0]) / 1e9
        except (OSError, ValueError, IndexError):
            return None

    def memory(self) -> float:
        """KiB of memory that it occupies.

        Raises:
            ChildFailed: this system doesn't tell.
        """
        status = PROC / str(self._process.pid) / "status"
        if status.exists():
            (line,) = (line for line in status.read_text("utf-8").splitlines() if line.startswith("VmRSS:"))
            return float(line.split()[1])
        try:
            done = subprocess.run(
                ["ps", "-o", "rss=", "-p", str(self._process.pid)], capture_output=True, text=True, check=True
            )  # fmt: skip
            return float(done.stdout)
        except (OSError, subprocess.CalledProcessError, ValueError) as exc:
            raise ChildFailed("this system does not tell how much memory a process occupies") from exc


def processors() -> tuple[int | None, int | None]:
    """Two processors to use, for what is measured and for the other side; None where they can't be chosen."""
    if not hasattr(os, "sched_getaffinity"):
        return None, None
    usable = sorted(os.sched_getaffinity(0))
    return (usable[0], usable[-1]) if len(usable) > 1 else (None, None)
