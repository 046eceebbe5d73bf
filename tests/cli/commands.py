"""The command in a process of its own, as a shell would start it; and in this one, which is much quicker."""

from __future__ import annotations

import contextlib
import io
import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from unittest import mock

from websockets.cli import main

__all__ = ["ENVIRONMENT", "LIMIT", "PEM", "PROGRAM", "Serving", "call", "run", "serving"]

# A certificate for localhost, and its key.
PEM = str(Path(__file__).with_name("localhost.pem"))

# No command here runs for more than a moment; the limit is for one that hangs.
LIMIT = 60

PROGRAM = [sys.executable, "-W", "error", "-m", "websockets"]

ENVIRONMENT = {
    **{name: value for name, value in os.environ.items() if not name.lower().endswith("_proxy")},
    "PYTHONPATH": str(Path(__file__).parents[2] / "src"),
    # No test writes to the history of whoever runs it.
    "WEBSOCKETS_HISTORY": "",
    "PYTHONUTF8": "1",
    "PYTHONUNBUFFERED": "1",
}


def run(*arguments: str, stdin: str | bytes = b"", **environ: str) -> tuple[int, str, str]:
    """Status, standard output and standard error of the command.

    Parameters:
        arguments: on its command line.
        stdin: on its standard input, which then ends.
        environ: more variables.
    """
    done = subprocess.run(
        [*PROGRAM, *arguments],
        input=stdin.encode() if isinstance(stdin, str) else stdin,
        env={**ENVIRONMENT, **environ},
        capture_output=True,
        timeout=LIMIT,
    )
    return done.returncode, done.stdout.decode(), done.stderr.decode()


def call(*arguments: str, stdin: str | bytes = b"", **environ: str) -> tuple[int, str, str]:
    """The same as :func:`run`, in this process."""
    data = stdin.encode() if isinstance(stdin, str) else stdin
    status: object = 0
    with contextlib.ExitStack() as stack:
        stack.enter_context(mock.patch.dict(os.environ, {**ENVIRONMENT, **environ}, clear=True))
        stack.enter_context(mock.patch("sys.stdin", io.TextIOWrapper(io.BytesIO(data), "utf-8")))
        out, err = (io.TextIOWrapper(io.BytesIO(), "utf-8", write_through=True) for _ in range(2))
        stack.enter_context(mock.patch("sys.stdout", out))
        stack.enter_context(mock.patch("sys.stderr", err))
        try:
            main([*arguments])
        except SystemExit as exc:
            status = exc.code
        written = [stream.buffer.getvalue().decode() for stream in (out, err) if isinstance(stream.buffer, io.BytesIO)]
    assert isinstance(status, int)
    return status, written[0], written[1]


class Serving:
    """A server that runs.

    Parameters:
        process: its process.
        lines: what it has printed.
    """

    def __init__(self, process: subprocess.Popen[str], lines: list[str]) -> None:
        self.process = process
        self.lines = lines

    @property
    def uri(self) -> str:
        """Where it listens."""
        found = re.search(r"Listening on (\S+)", self.lines[0])
        assert found is not None, self.lines
        return found[1]

    def line(self) -> str:
        """The next line that it prints."""
        assert self.process.stdout is not None
        self.lines.append(self.process.stdout.readline())
        return self.lines[-1]

    def stop(self, number: int = signal.SIGTERM) -> tuple[int, str, str]:
        """Send a signal; gives the status, and the rest of what it prints."""
        self.process.send_signal(number)
        out, err = self.process.communicate()
        return self.process.returncode, out, err


@contextlib.contextmanager
def serving(*arguments: str, folder: Path | None = None, limit: float = LIMIT) -> Iterator[Serving]:
    """Run ``websockets serve``, until the block ends at the latest, and for so many seconds at most."""
    process = subprocess.Popen(
        [*PROGRAM, "serve", *arguments],
        env=ENVIRONMENT,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        encoding="utf-8",
        cwd=folder,
    )
    watchdog = threading.Timer(limit, process.kill)
    watchdog.start()
    try:
        server = Serving(process, [])
        server.line()
        yield server
    finally:
        watchdog.cancel()
        if process.poll() is None:
            process.terminate()
        with contextlib.suppress(ValueError):  # it was read to its end before
            process.communicate()
