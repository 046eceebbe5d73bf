"""Our client and our server against other implementations, each in a program of its own.

Charter: says which peers there are and what they cannot do. The programs are in ``peers``, what they do in
``scenarios``.
"""

from __future__ import annotations

import pytest

import websockets.version
from interop.conversation import conversation
from interop.programs import running
from interop.scenarios import SCENARIOS

SERVERS = ("websockets", "aiohttp", "picows", "picows.websockets", "wsproto", "ws")
CLIENTS = (*SERVERS, "chromium")

# What some peers lack: the core of picows has no compression, and the page in a browser cannot send pings.
NO_DEFLATE = {"picows"}
NO_PING = {"chromium"}


def playable(peer: str) -> list[str]:
    """Return the names of the scenarios that a peer can play."""
    return [
        name
        for name, scenario in SCENARIOS.items()
        if not (scenario.deflate and peer in NO_DEFLATE) and not (scenario.ping and peer in NO_PING)
    ]


# Our front-ends, each in a program of its own.
OURS = ("ours", "ours in threads", "ours on trio")


@pytest.mark.parametrize("ours", OURS)
@pytest.mark.parametrize("peer", CLIENTS)
def test_server(peer: str, ours: str, subtests: pytest.Subtests) -> None:
    with conversation(server=ours, client=peer) as talk:
        for name in playable(peer):
            with subtests.test(name):
                talk.check(name)


@pytest.mark.parametrize("ours", OURS)
@pytest.mark.parametrize("peer", SERVERS)
def test_client(peer: str, ours: str, subtests: pytest.Subtests) -> None:
    with conversation(server=peer, client=ours) as talk:
        for name in playable(peer):
            with subtests.test(name):
                talk.check(name)


@pytest.mark.parametrize("peer", ["aiohttp", "ws", "chromium", "websockets", "picows.websockets"])
def test_prepared_messages(peer: str, subtests: pytest.Subtests) -> None:
    """Every second message was compressed without regard to those before it, and peers keep their contexts."""
    with conversation(server="ours", client=peer, server_options=["--prepare"]) as talk:
        for name in SCENARIOS:
            if name.startswith(("text", "binary", "mebibyte", "compressed")):
                with subtests.test(name):
                    talk.check(name)


@pytest.mark.parametrize(("peer", "same"), [("ours", True), ("websockets", False)])
def test_identity(peer: str, same: bool) -> None:
    """The reference implementation has our import name: neither may stand in for the other."""
    with running(peer, "server") as program:
        assert (program.hello["library"] == f"websockets {websockets.version.version}") is same
