"""Socket activation: what systemd does, done by a parent process, and by systemd's own tool; and its unit files."""

from __future__ import annotations

import asyncio
import contextlib
import re
import shutil
import socket
import struct
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from deployment.programs import EXAMPLES, TIMEOUT, Running, adapted, free_port, program, running
from websockets.asyncio.client import ClientConnection, connect, unix_connect
from websockets.protocol import State

SERVER = EXAMPLES / "systemd" / "server.py"

# What systemd does between fork and exec: the sockets become the descriptors 3, 4... of this very process.
ACTIVATE = """
import os, sys
# First out of the way, so that none is overwritten before its turn.
copies = [os.dup(os.dup(int(number))) for number in sys.argv[1].split(",")]
for target, copy in enumerate(copies, start=3):
    os.dup2(copy, target)
os.environ.update(LISTEN_FDS=str(len(copies)), LISTEN_PID=str(os.getpid()))
os.execv(sys.executable, [sys.executable, *sys.argv[2:]])
"""

OPEN = 50
NEW = 200


class Activator:
    """In the place of systemd: holds listening sockets, starts servers on them, and hears what they say.

    Parameters:
        folder: where the Unix sockets are.
    """

    def __init__(self, folder: Path) -> None:
        self.tcp = socket.create_server(("127.0.0.1", 0), backlog=1024)
        self.unix = socket.socket(socket.AF_UNIX)
        self.path = folder / "echo.sock"
        self.unix.bind(str(self.path))
        self.unix.listen()
        self.ears = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.ears.bind(str(folder / "notify.sock"))
        self.ears.settimeout(TIMEOUT)
        self.uri = f"ws://127.0.0.1:{self.tcp.getsockname()[1]}"

    @contextlib.contextmanager
    def server(self) -> Iterator[Running]:
        """Run a server, beginning when it is ready."""
        numbers = self.tcp.fileno(), self.unix.fileno()
        command = [sys.executable, "-c", ACTIVATE, ",".join(map(str, numbers)), str(SERVER)]
        with running(*command, env={"NOTIFY_SOCKET": self.ears.getsockname()}, pass_fds=numbers) as run:
            assert self.ears.recv(100) == b"READY=1"
            yield run

    def close(self) -> None:
        for sock in (self.tcp, self.unix, self.ears):
            sock.close()


@pytest.fixture
def activator(tmp_path: Path) -> Iterator[Activator]:
    """Hold sockets."""
    with contextlib.closing(Activator(tmp_path)) as result:
        yield result


def length_of_queue(sock: socket.socket) -> int:
    """Return how many connections may wait in a listening socket; the kernel tells it in place of "sacked"."""
    length: int = struct.unpack_from("I", sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 104), 28)[0]
    return length


async def hello(client: ClientConnection) -> None:
    """Send a message and get it back."""
    await client.send("hello")
    assert await client.recv() == "hello"


async def test_restart(activator: Activator) -> None:
    """Those who are connected are told; those who come while there is no server wait, and nobody is refused."""
    with activator.server() as first:
        before = [await connect(activator.uri) for _ in range(OPEN)]
        await asyncio.gather(*(hello(client) for client in before))
        assert await asyncio.to_thread(first.stop) == 0
        assert activator.ears.recv(100) == b"STOPPING=1"
    await asyncio.gather(*(client.wait_closed() for client in before))
    assert {client.close_code for client in before} == {1001}

    # A TCP connection is made by the kernel; what follows waits for a server.
    coming = [socket.create_connection(activator.tcp.getsockname(), timeout=TIMEOUT) for _ in range(NEW)]
    with activator.server():
        async with asyncio.timeout(TIMEOUT):
            await asyncio.gather(*(open_then_hello(activator.uri, sock) for sock in coming))
    print(f"\nrestart: {OPEN} connections closed with 1001; {NEW} new ones meanwhile, none refused")


async def open_then_hello(uri: str, sock: socket.socket) -> None:
    sock.setblocking(False)
    async with connect(uri, sock=sock, open_timeout=TIMEOUT) as client:
        await hello(client)


def test_queue_is_as_long_as_in_the_unit(activator: Activator) -> None:
    """The server lengthens the queue after asyncio has shortened it."""
    wanted = re.search(r"^Backlog=(\d+)$", (EXAMPLES / "systemd" / "echo.socket").read_text(), re.MULTILINE)
    assert wanted is not None
    most = int(Path("/proc/sys/net/core/somaxconn").read_text())
    with activator.server():
        assert length_of_queue(activator.tcp) == min(int(wanted[1]), most)


async def test_unix_socket_outlives_the_server(activator: Activator) -> None:
    for _ in range(2):
        with activator.server() as server:
            async with unix_connect(str(activator.path)) as client:
                await hello(client)
            assert server.stop() == 0
            assert activator.ears.recv(100) == b"STOPPING=1"


async def test_socket_activate() -> None:
    """The tool of systemd listens, and starts the server when somebody connects."""
    port = free_port()
    with running(
        program("systemd-socket-activate"), "-l", f"127.0.0.1:{port}", sys.executable, SERVER, port=port
    ) as run:
        async with connect(f"ws://127.0.0.1:{port}") as client:
            await hello(client)
            assert client.state is State.OPEN
        # The tool has become the server.
        assert run.stop() == 0


def test_unit_files(tmp_path: Path) -> None:
    adapted("systemd/echo.service", tmp_path, **{"/opt/echo/.venv/bin/python": sys.executable})
    shutil.copy(EXAMPLES / "systemd" / "echo.socket", tmp_path)
    units = [tmp_path / "echo.service", tmp_path / "echo.socket"]
    done = subprocess.run(
        [program("systemd-analyze"), "verify", "--man=no", *units], capture_output=True, text=True, timeout=TIMEOUT
    )
    complaints = [line for line in done.stderr.splitlines() if "echo." in line]
    assert (done.returncode, complaints) == (0, [])
