"""Tests without a network: servers and clients in memory, faults on demand, and a virtual clock.

Test a whole app, on any event loop, with any test framework for asyncio::

    from websockets.testing import serve_in_memory

    async def test_echo():
        async with serve_in_memory(handler) as server:
            async with server.connect("/chat?room=1") as websocket:
                await websocket.send("Hello!")
                assert await websocket.recv() == "Hello!"

``handler`` may also be the object that ``serve(...)`` or ``route(...)`` returned. Opening handshakes, compression,
limits and closing are real, but no socket is opened. Where no app is needed, make the two ends of one connection::

    async def test_too_long():
        async with connected_pair(max_size=1000) as (client, server):
            await client.send("x" * 1001)
            with pytest.raises(ConnectionClosedError):
                await server.recv()

A connection runs on a :class:`Link`, which has faults. A :class:`Network` gives all its connections the same delay,
losses and limits. They are random, but with the same seed they are the same each time::

    network = Network(delay=(0.02, 0.08), loss=0.01, chunk=(1, 100), seed=42)
    async with serve_in_memory(handler, network=network) as server: ...

    link_of(websocket).hold()               # half-open: nothing passes until release()
    link_of(websocket).to_server.drop()     # data of the client is lost, and nobody is told
    link_of(websocket).reset()              # both ends get ConnectionResetError

On a :class:`VirtualClockLoop` waiting takes no time: when there is nothing to do, the clock jumps to the next timer. A
program that would wait for ever ends with :exc:`Deadlock`. All servers and clients meet in the
:attr:`~VirtualClockLoop.network` of the loop, so a program that calls ``serve()`` and ``connect()`` itself runs as it
is::

    from websockets.testing import run

    async def main():
        async with connected_pair(ping_interval=20, ping_timeout=20) as (client, server):
            await asyncio.sleep(3 * 3600)       # takes milliseconds
            link_of(client).drop()
            with pytest.raises(ConnectionClosedError):
                await client.recv()             # keepalive fails, within a virtual minute

    def test_keepalive():
        run(main())

It is a loop factory for :class:`asyncio.Runner`, :class:`unittest.IsolatedAsyncioTestCase` and others. With
pytest-asyncio, in ``conftest.py``::

    def pytest_asyncio_loop_factories(config, item):
        return {"virtual": VirtualClockLoop}

Link and network know no event loop: they get the time and later calls from a scheduler, and every front-end can use
them. The modules on top of them are for asyncio.

May know: the public API for asyncio, and where that gets its streams. Only tests import it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ._asyncio_network import Network
from ._in_memory import InMemoryServer, connected_pair, link_of, serve_in_memory
from ._link import Direction, Link
from ._loop import Deadlock, VirtualClockLoop, idle, run
from ._transport import MemoryTransport

__all__ = [
    "Deadlock",
    "Direction",
    "InMemoryServer",
    "Link",
    "MemoryTransport",
    "Network",
    "VirtualClockLoop",
    "connected_pair",
    "idle",
    "link_of",
    "run",
    "serve_in_memory",
]

if TYPE_CHECKING:
    from . import threads as threads
    from . import trio as trio
else:

    def __getattr__(name):
        if name in ("threads", "trio"):
            from importlib import import_module

            return import_module(f".{name}", __name__)
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
