"""Programs that the tests of deployments run: servers of the examples, proxies, Redis.

Charter: starts programs and waits until they listen; makes certificates and adapted copies of configuration. Knows
nothing of what they are for.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import IO

import pytest

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = ROOT / "examples"

# How long a program may take to listen, or to end. Only failures ever wait that long.
TIMEOUT = 30

OPENSSL = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2"


def program(name: str) -> str:
    """Return the path of a program of Debian."""
    path = shutil.which(name) or shutil.which(name, path="/usr/sbin")
    if path is None:
        pytest.fail(f"{name} is not installed: see tests/deployment/debian-packages.txt", pytrace=False)
    return path


def packages() -> dict[str, str]:
    """Return the environment in which programs find what examples need from PyPI."""
    try:
        return {"PYTHONPATH": os.environ["DEPLOYMENT_PACKAGES"]}
    except KeyError:
        pytest.fail("DEPLOYMENT_PACKAGES is not set: see tests/interop/install_peers.py", pytrace=False)


def free_port() -> int:
    """Return a port that nobody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as sock:
        port: int = sock.getsockname()[1]
        return port


class Running:
    """A program that runs.

    Parameters:
        process: the program.
        output: where it writes.
    """

    def __init__(self, process: subprocess.Popen[bytes], output: IO[str]) -> None:
        self.process = process
        self._output = output

    @property
    def output(self) -> str:
        """What it has written until now, on standard output and standard error."""
        self._output.seek(0)
        return self._output.read()

    def wait_until(self, ready: Callable[[], bool]) -> None:
        """Wait until something is true of the program; fail the test if it ends before, or never is."""
        deadline = time.monotonic() + TIMEOUT
        while not ready():
            if self.process.poll() is not None or time.monotonic() > deadline:
                pytest.fail(f"{self.process.args!r} isn't ready\n{self.output}", pytrace=False)
            time.sleep(0.01)

    def stop(self) -> int:
        """End the program in order; return its status."""
        self.process.terminate()
        return self.process.wait(TIMEOUT)


def listens(port: int) -> bool:
    """Whether a port accepts connections."""
    with contextlib.suppress(OSError):
        socket.create_connection(("127.0.0.1", port), timeout=TIMEOUT).close()
        return True
    return False


@contextlib.contextmanager
def running(
    *command: str | Path,
    port: int | None = None,
    cwd: Path | None = None,
    env: Mapping[str, str] | None = None,
    pass_fds: tuple[int, ...] = (),
) -> Iterator[Running]:
    """Run a program during a ``with`` block, beginning when it listens at its port, if it has one."""
    environment = {**os.environ, "PYTHONUNBUFFERED": "1", **(env or {})}
    with (
        tempfile.TemporaryFile("a+", encoding="utf-8", errors="replace") as output,
        subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            cwd=cwd,
            env=environment,
            pass_fds=pass_fds,
            start_new_session=True,
        ) as process,
    ):
        run = Running(process, output)
        try:
            if port is not None:
                run.wait_until(lambda: listens(port))
            yield run
        finally:
            # With what it has started.
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, 9)


@contextlib.contextmanager
def example(name: str, *arguments: str, port: int, env: Mapping[str, str] | None = None) -> Iterator[Running]:
    """Run a program of the examples."""
    with running(sys.executable, EXAMPLES / name, *arguments, port=port, env=env) as run:
        yield run


def adapted(name: str, folder: Path, **replaced: object) -> Path:
    """Copy a file of the examples, with some words replaced, each of which must be there; return the copy.

    Parameters:
        name: path below the examples.
        folder: where to put the copy.
        **replaced: the replacements; a name such as ``_8765`` stands for what follows the underscore.
    """
    text = (EXAMPLES / name).read_text("utf-8")
    for old, new in replaced.items():
        word = rf"(?<![\w.]){re.escape(old.removeprefix('_'))}(?!\w)"
        text, count = re.subn(word, str(new), text)
        assert count, old
    copy = folder / Path(name).name
    copy.write_text(text, "utf-8")
    return copy


def certificate(folder: Path, name: str = "localhost", stem: str = "") -> Path:
    """Make a certificate for a name and ``127.0.0.1``: ``cert.pem``, ``key.pem`` and ``both.pem`` in a folder."""
    cert, key = folder / f"{stem}cert.pem", folder / f"{stem}key.pem"
    subject = ["-subj", f"/CN={name}", "-addext", f"subjectAltName=DNS:{name},IP:127.0.0.1"]
    command: list[str | Path] = [*OPENSSL.split(), "-keyout", key, "-out", cert, *subject]
    subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, timeout=TIMEOUT, check=True)
    (folder / f"{stem}both.pem").write_bytes(cert.read_bytes() + key.read_bytes())
    return cert


async def until(true: Callable[[], bool]) -> None:
    """Wait until something is true, which is a matter of other processes."""
    async with asyncio.timeout(TIMEOUT):
        while not true():  # noqa: ASYNC110  # no event comes from there
            await asyncio.sleep(0.01)
