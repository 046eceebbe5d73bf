"""Tests without a network: servers and clients that meet in memory, faults on demand, and time that jumps.

A whole app, on any event loop, with any test framework for asyncio::

    from websockets.testing import serve_in_memory

    async def test_echo():
        async with serve_in_memory(handler) as server:
            async with server.connect("/chat?room=1") as websocket:
                await websocket.send("Hello!")
                assert await websocket.recv() == "Hello!"

``handler`` may also be what ``serve(...)`` or ``route(...)`` returned. Opening handshakes, compression, limits and
closing are real; sockets there are none. For what needs no app, two ends of one connection::

    async def test_too_long():
        async with connected_pair(max_size=1000) as (client, server):
            await client.send("x" * 1001)
            with pytest.raises(ConnectionClosedError):
                await server.recv()

A connection runs on a :class:`Link`, which has faults; a :class:`Network` gives all its connections the same delay,
losses and limits, by chance that is the same each time::

    network = Network(delay=(0.02, 0.08), loss=0.01, chunk=(1, 100), seed=42)
    async with serve_in_memory(handler, network=network) as server: ...

    link_of(websocket).hold()               # half-open: nothing passes until release()
    link_of(websocket).to_server.drop()     # what the client sends vanishes, without anybody noticing
    link_of(websocket).reset()              # both ends get ConnectionResetError

On a :class:`VirtualClockLoop` nobody waits: when there is nothing to do, time jumps to the next timer. What waits for
ever raises :exc:`Deadlock`. All servers and clients meet in the :attr:`~VirtualClockLoop.network` of the loop, so a
program that calls ``serve()`` and ``connect()`` itself runs as it is::

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

May know: the public API for asyncio, and where it takes its streams from. Nothing imports it but tests.
"""

from __future__ import annotations

from ._ends import InMemoryServer, connected_pair, link_of, serve_in_memory
from ._link import Direction, Link
from ._loop import Deadlock, VirtualClockLoop, idle, run
from ._network import Network
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
