"""Two of our connections on trio without an opening handshake, over streams of each kind; cancellation at a step.

May know: the trio front-end's connection and its streams, the network in memory. Must not know: any test.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Mapping
from typing import Any

import pytest
import trio
import trio.testing

from websockets.client import ClientProtocol
from websockets.extensions.permessage_deflate import PerMessageDeflate
from websockets.protocol import Protocol, Side, State
from websockets.testing._link import Link
from websockets.trio._wire import start_tls
from websockets.trio.connection import Connection
from websockets.uri import parse_uri

from .tls import usual
from .trio_network import TrioNetwork, TrioSocket

__all__ = ["KINDS", "CancelAtStep", "every_kind", "open_pair", "secured", "socket_pair", "stream_pair"]

#: The kinds of streams: how a connection writes to each is different.
KINDS = ("socket", "TLS", "TLS in TLS", "other")

every_kind = pytest.mark.parametrize("kind", KINDS)


def socket_pair(network: TrioNetwork) -> tuple[trio.SocketStream, trio.SocketStream, Link]:
    """Two sockets that are connected in memory, and the link between them."""
    link = Link(network.scheduler)
    client, server = (TrioSocket(network, 2, end) for end in (link.client, link.server))
    return trio.SocketStream(client), trio.SocketStream(server), link


async def stream_pair(network: TrioNetwork, kind: str) -> tuple[Any, Any, Link | None]:
    """Two streams of a kind; the link if they are sockets."""
    if kind == "other":
        return *trio.testing.lockstep_stream_pair(), None
    client: Any
    server: Any
    client, server, link = socket_pair(network)
    for _ in range(("socket", "TLS", "TLS in TLS").index(kind)):
        client, server = await secured(client, server)
    return client, server, link


async def secured(client: Any, server: Any) -> tuple[Any, Any]:
    """Two streams with TLS, over two that are connected."""
    streams: dict[bool, Any] = {}

    async def secure(stream: Any, server_side: bool) -> None:
        context, name = (usual("server"), None) if server_side else (usual("client"), "localhost")
        streams[server_side] = await start_tls(stream, context, server_side=server_side, server_hostname=name)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(secure, client, False)
        nursery.start_soon(secure, server, True)
    return streams[False], streams[True]


@contextlib.asynccontextmanager
async def open_pair(
    streams: tuple[Any, Any], *, deflate: bool = False, of_server: Mapping[str, Any] | None = None, **options: Any
) -> AsyncIterator[tuple[Connection, Connection]]:
    """A client and a server that are open; aborted at the end of the block.

    Parameters:
        streams: of the client, and of the server.
        deflate: whether they compress.
        of_server: options of the server.
        options: of both.
    """
    protocols: list[Protocol] = [
        ClientProtocol(parse_uri("ws://localhost/"), state=State.OPEN),
        Protocol(Side.SERVER, state=State.OPEN),
    ]
    async with trio.open_nursery() as nursery:
        ends = []
        for stream, protocol in zip(streams, protocols, strict=True):
            if deflate:
                protocol.extensions = [PerMessageDeflate(False, False, 15, 15)]
            given = {**options, **(of_server or {} if protocol.side is Side.SERVER else {})}
            connection = Connection(nursery, stream, protocol, **given)
            connection._ws_start()
            ends.append(connection)
        try:
            yield ends[0], ends[1]
        finally:
            for connection in ends:
                connection.abort()


class CancelAtStep(trio.abc.Instrument):
    """Cancels a task after a number of its steps: that is, at one of its checkpoints.

    Parameters:
        step: the number of steps.

    Attributes:
        reached: whether the task had so many steps.
    """

    def __init__(self, step: int) -> None:
        self.scope = trio.CancelScope()
        self.reached = False
        self._left = step
        self._task: trio.lowlevel.Task | None = None

    @contextlib.contextmanager
    def __call__(self) -> Any:
        """Be in effect for the running task, in this block; the cancellation ends it."""
        self._task = trio.lowlevel.current_task()
        trio.lowlevel.add_instrument(self)
        try:
            with self.scope:
                yield
        finally:
            trio.lowlevel.remove_instrument(self)

    def after_task_step(self, task: trio.lowlevel.Task) -> None:
        """Count; trio calls this."""
        if task is self._task:
            self._left -= 1
            if self._left == 0:
                self.reached = True
                self.scope.cancel()
