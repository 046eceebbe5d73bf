"""Two TLS channels that are connected in memory, a client and a server, with a test that passes data between them."""

from __future__ import annotations

import functools
import ssl
from typing import Any, get_args

import pytest

from websockets._rules import tls_transports
from websockets._session.tls import Incoming, Outgoing, TLSChannel

from .certificates import Version, client_context, server_context

__all__ = ["BIG", "TLS_TRANSPORTS", "Pair", "both_ends", "every_version", "move", "opened", "transfer", "usual"]

#: The transports with which asyncio does TLS; that of aiofastnet where it is installed.
TLS_TRANSPORTS = [name for name in tls_transports.TRANSPORTS if name != tls_transports.AIOFASTNET]
if tls_transports.installed():
    TLS_TRANSPORTS.append(tls_transports.AIOFASTNET)

BIG = bytes(range(256)) * 1024  # 256 KiB

every_version = pytest.mark.parametrize("version", get_args(Version))
both_ends = pytest.mark.parametrize("end", ["client", "server"])


@functools.cache
def usual(end: str, version: Version | None = None) -> ssl.SSLContext:
    """A context that no test changes."""
    return client_context(version=version) if end == "client" else server_context(version=version)


class Pair:
    """A client and a server. What they have to send is carried only when a test says so."""

    def __init__(
        self,
        version: Version | None = None,
        client: ssl.SSLContext | None = None,
        server: ssl.SSLContext | None = None,
        hostname: str = "localhost",
    ) -> None:
        client, server = client or usual("client", version), server or usual("server", version)
        self.client = TLSChannel(client, server_side=False, server_hostname=hostname)
        self.server = TLSChannel(server, server_side=True)
        self.client.start()
        self.server.start()

    def ends(self, end: str) -> tuple[TLSChannel, TLSChannel]:
        """This end and the other."""
        return (self.client, self.server) if end == "client" else (self.server, self.client)

    def carry(self) -> None:
        """Carry ciphertext both ways until nothing moves."""
        while move(self.client, self.server) + move(self.server, self.client):
            pass


def move(source: TLSChannel, target: TLSChannel) -> int:
    """Carry ciphertext one way; returns how many bytes."""
    data = b"".join(source.data_to_send())
    target.receive_data(data)
    return len(data)


def opened(version: Version | None = None, **options: Any) -> Pair:
    """A pair after the handshake, including the tickets of TLS 1.3."""
    pair = Pair(version, **options)
    pair.carry()
    assert (pair.client.incoming, pair.server.outgoing) == (Incoming.OPEN, Outgoing.OPEN)
    assert pair.client.read() == pair.server.read() == b""
    return pair


def transfer(source: TLSChannel, target: TLSChannel, data: bytes) -> bytes:
    """Send all of this, however often that takes; returns what was received."""
    received = bytearray()
    view = memoryview(data)
    while view:
        view = view[source.send(view) :]
        move(source, target)
        while piece := target.read():
            received += piece
    return bytes(received)
