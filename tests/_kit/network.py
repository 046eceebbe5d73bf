"""The network in memory, with scripted peers.

May know: the network of :mod:`websockets.testing`, :mod:`.peer`, and nothing else of the library.
"""

from __future__ import annotations

import asyncio
import os

from websockets import testing
from websockets.testing._addresses import FakeSocket
from websockets.testing._link import MemorySocket

from .peer import RawPeer

__all__ = ["Network", "RawListener"]

_Path = str | os.PathLike[str]


class Network(testing.Network):
    """A network whose connections may end in a scripted peer."""

    async def connect(self, host: str = "localhost", port: int = 80) -> RawPeer:
        """Connect a scripted peer; see :meth:`open`."""
        return RawPeer(await self.open(host, port))

    async def connect_unix(self, path: _Path) -> RawPeer:
        """Connect a scripted peer to a path; see :meth:`open_unix`."""
        return RawPeer(await self.open_unix(path))

    def listen(self, host: str = "localhost", port: int = 0) -> RawListener:
        """Listen for connections that become scripted peers."""
        listener = RawListener(self)
        listener.sockets = self._bind(listener, [host], port, 0)
        return listener

    def listen_unix(self, path: _Path) -> RawListener:
        """Listen at a path for connections that become scripted peers."""
        listener = RawListener(self)
        listener.sockets = self._bind_unix(listener, path)
        return listener


class RawListener:
    """A listening socket whose connections become scripted peers.

    Attributes:
        sockets: the listening sockets.
    """

    sockets: list[FakeSocket]

    def __init__(self, network: Network) -> None:
        self._network = network
        self._accepted: asyncio.Queue[MemorySocket] = asyncio.Queue()
        self._serving = True

    @property
    def port(self) -> int:
        """The port."""
        name = self.sockets[0].getsockname()
        if isinstance(name, str):
            raise ValueError(f"a Unix socket, {name!r}, has no port")
        return name[1]

    def is_serving(self) -> bool:
        """Return whether connections are accepted."""
        return self._serving

    async def peer(self) -> RawPeer:
        """Wait for the next connection and return its peer."""
        return RawPeer(await self._accepted.get())

    def close(self) -> None:
        """Stop listening; peers go on."""
        self._serving = False
        self._network._unbind(self)

    def accept(self, sock: MemorySocket) -> None:
        """Take a new connection; called by the network only."""
        self._accepted.put_nowait(sock)
