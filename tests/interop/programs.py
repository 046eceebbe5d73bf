"""Child processes that speak the contract of the interoperability tests.

Charter: starts peer programs, exchanges lines with them under a time limit, and sees to it that they end. Knows which
program belongs to which peer; knows nothing of what the lines mean.
"""

from __future__ import annotations

import contextlib
import json
import os
import queue
import shutil
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any, NoReturn

import pytest

PEERS = Path(__file__).resolve().parent / "peers"

# How long a program may take for its next line. Only failures ever wait that long.
LINE_TIMEOUT = 30
EXIT_TIMEOUT = 10


def setting(name: str) -> str:
    """Return an environment variable that install_peers.py tells to set."""
    try:
        return os.environ[name]
    except KeyError:
        pytest.fail(f"{name} is not set: export $(python tests/interop/install_peers.py FOLDER)", pytrace=False)


def chromium() -> str:
    """Return the path of Chromium, which is no package and may be missing."""
    return shutil.which("chromium") or pytest.skip("chromium is not installed")


def command(peer: str) -> list[str]:
    """Return the command that runs a peer program, without its arguments."""
    match peer:
        case "ours":
            return [sys.executable, str(PEERS / "peer_websockets.py")]
        case "ours in threads" | "ours on trio":
            return [sys.executable, str(PEERS / f"peer_{peer.rpartition(' ')[2]}.py")]
        case "websockets":
            return [setting("INTEROP_PYTHON"), str(PEERS / "peer_websockets.py")]
        case "websockets 13.1":
            return [setting("INTEROP_LEGACY_PYTHON"), str(PEERS / "peer_websockets.py")]
        case "picows.websockets":
            return [setting("INTEROP_PYTHON"), str(PEERS / "peer_websockets.py"), "--package", peer]
        case "chromium":
            return [sys.executable, str(PEERS / "peer_chromium.py"), "--chromium", chromium()]
        case "uvicorn" | "sanic":
            return [setting("INTEROP_FRAMEWORKS"), str(PEERS / f"peer_{peer}.py")]
        case "ws":
            return ["node", str(PEERS / "peer_ws.js")]
        case _:
            return [setting("INTEROP_PYTHON"), str(PEERS / f"peer_{peer}.py")]


def environment(peer: str) -> dict[str, str]:
    """Return the environment for a peer program. Only our own may be told where to find our modules."""
    if peer.startswith("ours"):
        return dict(os.environ)
    variables = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    return variables | ({"NODE_PATH": setting("INTEROP_NODE_PATH")} if peer == "ws" else {})


class Program:
    """A running peer program."""

    def __init__(self, name: str, process: subprocess.Popen[str], errors: IO[str]) -> None:
        self.name = name
        self.process = process
        self.errors = errors
        self.lines: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        self.reader = threading.Thread(target=self.read)
        self.reader.start()
        self.hello: dict[str, Any] = {}

    def read(self) -> None:
        """Queue what the program prints, and a ``None`` at its end."""
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.lines.put(line)
        self.lines.put(None)

    def tell(self, line: dict[str, Any]) -> None:
        """Write one line to the program. If it has ended, the next ``hear`` will say so."""
        assert self.process.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            print(json.dumps(line), file=self.process.stdin, flush=True)

    def hear(self) -> dict[str, Any]:
        """Return the next line of the program; fail the test if it has ended or takes too long."""
        try:
            line = self.lines.get(timeout=LINE_TIMEOUT)
        except queue.Empty:
            # Whatever is asked next would find it hanging too: wait only once.
            self.process.kill()
            self.fail(f"said nothing for {LINE_TIMEOUT} s")
        if line is None:
            self.lines.put(None)
            self.fail("has ended")
        answer: dict[str, Any] = json.loads(line)
        return answer

    def fail(self, problem: str) -> NoReturn:
        """Fail the test, with what the program wrote to standard error."""
        self.errors.seek(0)
        pytest.fail(f"{self.name} {problem}\n{self.errors.read()}", pytrace=False)

    def end(self) -> None:
        """End the program: by the end of its input, or else by force."""
        assert self.process.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            self.process.stdin.close()
        try:
            self.process.wait(EXIT_TIMEOUT)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.reader.join(EXIT_TIMEOUT)


@contextlib.contextmanager
def running(peer: str, *arguments: str) -> Iterator[Program]:
    """Run a peer program during a ``with`` block, beginning when it is ready."""
    with (
        tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as errors,
        subprocess.Popen(
            [*command(peer), *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            encoding="utf-8",
            env=environment(peer),
        ) as process,
    ):
        program = Program(peer, process, errors)
        try:
            program.hello = program.hear()
            yield program
        finally:
            program.end()
