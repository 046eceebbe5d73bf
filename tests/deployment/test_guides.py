"""The guides to deployment are followed word for word, as by a new user, each in a fresh folder.

What a guide says to save is saved; its blocks of ``sh`` are run one after the other in one shell; where it says "It
prints", what it shows must have been printed. Packages are installed as the guide says, but this library is built from
this very source. Only the ports are others, so that guides don't meet anybody.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from deployment.programs import ROOT, free_port

GUIDES = ROOT / "docs" / "howto"
NAMES = (
    *("apache", "asgi", "autoreload", "caddy", "capacity", "containers", "haproxy", "lighttpd", "logging-tracing"),
    *("nginx", "processes", "proxies", "redis", "supervisors", "systemd", "tls", "unix-sockets", "varnish"),
)

# Ports that guides use, and that are replaced.
PORTS = ("1080", "2019", "6081", "6379", "8000", "8443", "8765", "8766", "8888")

# Our package is built from these.
SOURCES = ("src", "pyproject.toml", "setup.py", "README.md", "LICENSE")

# Seconds for one block of commands, installation included, and for programs in the background to listen.
BLOCK_TIMEOUT = 300
LISTEN_TIMEOUT = 30


@dataclass
class Block:
    """A block of a guide.

    Parameters:
        lead: the paragraph before it.
        language: of the block.
        text: of the block.
    """

    lead: str
    language: str
    text: str

    @property
    def file(self) -> str | None:
        """The file that the reader shall make of it."""
        found = re.search(r"Save\s+this\s+as `([\w.]+)`", self.lead)
        return found and found[1]

    @property
    def shown(self) -> bool:
        """Whether it is what the commands before it print."""
        return self.language == "text" and "t prints" in self.lead


def blocks(text: str) -> Iterator[Block]:
    """The blocks of a guide."""
    text = re.sub(r"^<!-- .* -->\n", "", text, flags=re.M)
    end = 0
    for found in re.finditer(r"^```(\w+)\n(.*?)^```$", text, re.M | re.S):
        before = text[end : found.start()].strip()
        yield Block(before.rpartition("\n\n")[2], found[1], found[2])
        end = found.end()


def listening(ports: set[int], folder: Path) -> int:
    """How many sockets listen at some ports, or have a file in a folder."""
    count = 0
    for name in ("tcp", "tcp6"):
        for line in Path("/proc/net", name).read_text().splitlines()[1:]:
            fields = line.split()
            count += fields[3] == "0A" and int(fields[1].rpartition(":")[2], 16) in ports
    return count + len(list(folder.glob("*.sock")))


class Reader:
    """Somebody who follows a guide, in a folder and a shell of their own.

    Parameters:
        folder: the folder.
        ports: the ports of the guides, and those that are used.
        env: environment variables.
    """

    def __init__(self, folder: Path, ports: dict[str, int], env: dict[str, str]) -> None:
        self.folder = folder
        self.ports = ports
        self.printed = ""
        self.log = tempfile.TemporaryFile("a+", encoding="utf-8")  # noqa: SIM115  # closed in close()
        self.shell = subprocess.Popen(
            ["bash", "-em"],
            stdin=subprocess.PIPE,
            stdout=self.log,
            stderr=self.log,
            cwd=folder,
            env=env,
            text=True,
            start_new_session=True,
        )

    def adapt(self, text: str) -> str:
        """The text with other ports."""
        return re.sub(rf"\b({'|'.join(self.ports)})\b", lambda found: str(self.ports[found[1]]), text)

    def follow(self, guide: str) -> None:
        """Do what the guide says."""
        for block in blocks(self.adapt(guide)):
            if block.file:
                (self.folder / block.file).write_text(block.text, "utf-8")
            elif block.language == "sh":
                self.run(block.text)
            elif block.shown:
                wanted = re.escape(block.text).replace(re.escape("..."), ".*")
                assert re.search(wanted, self.printed), f"{block.text}\nwas expected, not\n{self.printed}"

    def run(self, commands: str) -> None:
        """Run a block of commands; if some go on in the background, wait until they listen."""
        used = set(self.ports.values())
        before = listening(used, self.folder)
        start = self.output()
        done = self.folder / ".done"
        done.unlink(missing_ok=True)
        assert self.shell.stdin is not None
        print(commands, "touch .done", sep="\n", file=self.shell.stdin, flush=True)
        self.wait(done.exists, commands, BLOCK_TIMEOUT)
        servers = [line for line in commands.splitlines() if line.endswith(" &") and " --expect " not in line]
        if servers:
            self.wait(lambda: listening(used, self.folder) >= before + len(servers), commands, LISTEN_TIMEOUT)
        self.printed = self.output()[len(start) :]

    def output(self) -> str:
        self.log.seek(0)
        return self.log.read()

    def wait(self, ready: Callable[[], bool], commands: str, seconds: float) -> None:
        deadline = time.monotonic() + seconds
        while not ready():
            if self.shell.poll() is not None or time.monotonic() > deadline:
                pytest.fail(f"{commands}\n{self.output()}", pytrace=False)
            time.sleep(0.02)

    def close(self) -> None:
        """End the shell and everything that it has started: with job control, each in a process group of its own."""
        for pid in session(self.shell.pid):
            os.kill(pid, signal.SIGKILL)
        self.shell.communicate()
        self.log.close()


def session(leader: int) -> Iterator[int]:
    """The processes of a session."""
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[3]) == leader and fields[0] != "Z":
            yield int(stat.parent.name)


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Build this library; return the variables that let pip install it, and nothing else of this name."""
    folder = tmp_path_factory.mktemp("wheel")
    # A copy, because building leaves files behind.
    source = folder / "source"
    source.mkdir()
    for name in SOURCES:
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
        copy(ROOT / name, source / name)
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", folder, source]
    subprocess.run([*map(str, command)], stdin=subprocess.DEVNULL, timeout=BLOCK_TIMEOUT, check=True)
    (wheel,) = folder.glob("websockets-*.whl")
    constraints = folder / "constraints.txt"
    constraints.write_text(f"websockets=={wheel.name.split('-')[1]}\n")
    own = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "VIRTUAL_ENV"))}
    # "python3" is the interpreter of these tests, outside of its environment.
    python = Path(sys.base_prefix) / "bin"
    return {
        **own,
        "PATH": f"{python}:{own['PATH']}:/usr/sbin",
        "PYTHONUNBUFFERED": "1",
        "PIP_FIND_LINKS": str(folder),
        "PIP_CONSTRAINT": str(constraints),
        "PIP_QUIET": "1",
        "PIP_DISABLE_PIP_VERSION_CHECK": "1",
    }


def test_every_guide_about_deployment_is_followed() -> None:
    """Those that tell what to save, and what to run."""
    pages = {path.stem: [*blocks(path.read_text("utf-8"))] for path in GUIDES.glob("*.md")}
    assert {
        name
        for name, found in pages.items()
        if any(b.file for b in found) and any(b.language == "sh" and "pip install" in b.text for b in found)
    } == {*NAMES}


@pytest.mark.parametrize("name", NAMES)
def test_guide(name: str, environment: dict[str, str], tmp_path: Path) -> None:
    ports = {port: free_port() for port in PORTS}
    reader = Reader(tmp_path, ports, environment)
    try:
        reader.follow((GUIDES / f"{name}.md").read_text("utf-8"))
    finally:
        reader.close()
