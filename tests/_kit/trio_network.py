"""The network in memory for trio, whose other end may be a scripted peer.

:func:`run_on_network` runs a coroutine function on a virtual clock, with such a network in place of the real one.
So ``trio.open_tcp_stream()`` and ``trio.open_tcp_listeners()`` work as they are.

May know: :mod:`websockets.testing` for trio, and its core, :mod:`.peer`. Must not know: anything else of the library.
"""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable
from typing import Any

import trio

from websockets.testing._link import MemorySocket
from websockets.testing._trio_network import Network
from websockets.testing._trio_network import StreamSocket as TrioSocket
from websockets.testing.trio import run

from .ends import FramePeer
from .peer import RawPeer

__all__ = ["TrioFramePeer", "TrioListener", "TrioNetwork", "TrioPeer", "TrioSocket", "run_on_network"]


class TrioNetwork(Network):
    """A network in memory that has scripted peers."""

    async def open(self, host: str, port: int, local_addr: tuple[str, int] | None = None) -> MemorySocket:
        """Connect a socket that isn't of trio's kind."""
        (place,) = self._places(host, port)[:1]
        end = self._connect(self.scheduler, place, local_addr)
        assert end is not None
        return end

    async def connect(self, host: str = "localhost", port: int = 80) -> TrioPeer:
        """Connect a scripted peer."""
        return TrioPeer(await self.open(host, port))

    def listen(self, host: str = "localhost", port: int = 0) -> TrioListener:
        """Listen for connections that become scripted peers."""
        return TrioListener(self, host, port)


class TrioListener:
    """A listening socket whose connections become scripted peers."""

    def __init__(self, network: TrioNetwork, host: str, port: int) -> None:
        self._network = network
        self._give, self._take = trio.open_memory_channel[MemorySocket](math.inf)
        self._serving = True
        self.port: int = network._bind(self, [host], port)[0].getsockname()[1]  # type: ignore[assignment]

    def is_serving(self) -> bool:
        return self._serving

    def accept(self, sock: MemorySocket) -> None:
        self._give.send_nowait(sock)

    async def peer(self) -> TrioPeer:
        """Wait for the next connection and return its peer."""
        return TrioPeer(await self._take.receive())

    def close(self) -> None:
        """Stop listening; peers go on."""
        self._serving = False
        self._network._unbind(self)


class _Waiter:
    """What a peer waits for, with the interface of a future."""

    def __init__(self) -> None:
        self._event = trio.Event()
        self.done, self.wait = self._event.is_set, self._event.wait

    def set_result(self, _: None) -> None:
        self._event.set()


class TrioPeer(RawPeer):
    """A scripted peer whose methods wait as trio's do."""

    async def _news(self) -> None:
        waiter: Any = _Waiter()
        self._waiters.append(waiter)
        await waiter.wait()

    async def _writable(self) -> None:
        waiter: Any = _Waiter()
        self._waiters.append(waiter)
        self.sock.add_writer(self._wake)
        try:
            await waiter.wait()
        finally:
            self.sock.remove_writer()


class TrioFramePeer(FramePeer):
    """A scripted peer that knows frames, on trio."""

    async def pause(self, seconds: float) -> None:
        await trio.sleep(seconds)


def run_on_network(main: Callable[[TrioNetwork], Awaitable[None]], instruments: Any = ()) -> None:
    """Run a coroutine function on a virtual clock, with a network in memory.

    Parameters:
        main: is called with the network.
        instruments: of trio's run.
    """
    network = TrioNetwork()
    run(main, network, network=network, instruments=instruments)
