"""Our client and our server on each event loop, over TCP, TLS and Unix sockets.

Charter: the same scenarios as between peers, with ourselves on both sides and real transports below.
"""

from __future__ import annotations

import asyncio
import itertools
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
import uvloop

from interop.conversation import conversation
from interop.scenarios import SCENARIOS
from websockets.protocol import State
from websockets.testing import Network, connected_pair, link_of

# A certificate that is its own authority. The extensions are those that strict verification asks for.
OPENSSL = """
    openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=localhost
    -addext subjectAltName=DNS:localhost -addext keyUsage=critical,digitalSignature,keyCertSign
    -keyout key.pem -out certificate.pem
"""


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make a certificate for localhost; return the folder with ``key.pem`` and ``certificate.pem``."""
    folder = tmp_path_factory.mktemp("certificates")
    subprocess.run(OPENSSL.split(), cwd=folder, stdin=subprocess.DEVNULL, capture_output=True, timeout=30, check=True)
    return folder


@dataclass(frozen=True)
class Loops:
    """The event loops of a server and a client, and the means to report on each scenario."""

    server: str
    client: str
    subtests: pytest.Subtests

    def check(self, uri: str, server_options: list[str], client_options: list[str]) -> None:
        """Play all scenarios."""
        server = ["--loop", self.server, *server_options]
        client = ["--loop", self.client, *client_options]
        with conversation("ours", "ours", server, client, uri) as talk:
            for name in SCENARIOS:
                with self.subtests.test(name):
                    talk.check(name)


LOOP_PAIRS = list(itertools.product(("asyncio", "uvloop"), repeat=2))


@pytest.fixture(params=LOOP_PAIRS, ids=[f"{server} server, {client} client" for server, client in LOOP_PAIRS])
def loops(request: pytest.FixtureRequest, subtests: pytest.Subtests) -> Loops:
    """Give each pair of event loops."""
    server, client = request.param
    return Loops(server, client, subtests)


def test_tcp(loops: Loops) -> None:
    loops.check("ws://localhost:{port}", [], [])


def test_tls(loops: Loops, certificates: Path) -> None:
    certificate = ["--certificate", str(certificates / "certificate.pem")]
    key = ["--key", str(certificates / "key.pem")]
    loops.check("wss://localhost:{port}", [*certificate, *key], certificate)


def test_unix(loops: Loops, tmp_path: Path) -> None:
    socket = ["--unix", str(tmp_path / "socket")]
    loops.check("ws://localhost", socket, socket)


async def talk_in_memory() -> None:
    """Open, use and close a connection of :mod:`websockets.testing`, and break another."""
    async with connected_pair(network=Network(delay=0.001, chunk=(1, 10))) as (client, server):
        await client.send("Hello!")
        await server.send(await server.recv())
        assert await client.recv() == "Hello!"
        link_of(client).hold()
    assert client.state is server.state is State.CLOSED


@pytest.mark.parametrize("factory", [asyncio.new_event_loop, uvloop.new_event_loop])
def test_in_memory(factory: Callable[[], asyncio.AbstractEventLoop]) -> None:
    with asyncio.Runner(loop_factory=factory) as runner:
        runner.run(talk_in_memory())
