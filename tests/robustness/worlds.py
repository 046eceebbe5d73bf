"""What the tests of robustness share: servers that must survive, violations that must be refused, real loops.

Knows the public asyncio API, the kit, and both twins of the accelerator. Must not know any scenario.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import inspect
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from hypothesis import settings

import websockets._codec as accelerator
from _kit import USUAL, own_garbage, wire
from _kit.asking import Answered, answered
from _kit.site import Asked
from core._twins import TWINS
from scenarios._asyncio import AsyncioWorld
from scenarios._threads import ThreadWorld
from scenarios._world import End, Peer, World
from websockets.asyncio.client import connect
from websockets.asyncio.server import Server
from websockets.protocol import Side

__all__ = [
    "DEFLATE",
    "LOOPS",
    "VICTIMS",
    "RealPeer",
    "Victim",
    "ask",
    "both_sides",
    "deflated_end",
    "each_loop",
    "each_twin",
    "echo",
    "flood",
    "greet",
    "longest_greeting",
    "needs_proc",
    "now",
    "port_of",
    "real_client",
    "refused",
    "running",
    "swapped",
    "until",
    "victim",
    "welcome",
]

both_sides = pytest.mark.parametrize("side", [Side.SERVER, Side.CLIENT], ids=["server", "client"])

#: Both in CI's profile. Otherwise the twin that is in use: tests/core compares the two with each other, and an oracle.
EACH_TWIN = list(TWINS) if settings().max_examples >= USUAL else [accelerator.TWIN]
each_twin = pytest.mark.parametrize("twin", EACH_TWIN, indirect=True)

#: Event loops to run over real sockets, by name; uvloop where it is installed.
LOOPS: dict[str, Callable[[], asyncio.AbstractEventLoop]] = {"asyncio": asyncio.new_event_loop}
with contextlib.suppress(ImportError):
    import uvloop

    LOOPS["uvloop"] = uvloop.new_event_loop

#: What servers in processes of their own run on: an event loop, or threads.
VICTIMS = [*LOOPS, "threads"]

DEFLATE = {"Sec-WebSocket-Extensions": "permessage-deflate"}


# Twins.


# What can't be swapped while the library is loaded: queues and buffers belong to the class of all connections. The
# suite runs with WEBSOCKETS_ACCELERATOR=python too, where that is the readable one.
FIXED = {"ACCELERATOR", "Assembly", "FINGERPRINT", "TWIN", "Queue", "load_native", "read_buffer", "tell"}


def swapped(twin: str) -> Iterator[tuple[ModuleType, str, Any]]:
    """Every name in the library that stands for a part of the accelerator, and what it is in a twin."""
    parts = {id(getattr(accelerator, name)): name for name in accelerator.__all__ if name not in FIXED}
    for module_name, module in list(sys.modules.items()):
        if module_name.startswith("websockets.") and not module_name.startswith("websockets._codec._"):
            # Most modules have none.
            if parts.keys().isdisjoint(map(id, vars(module).values())):
                continue
            for name, value in list(vars(module).items()):
                if id(value) in parts:
                    yield module, name, getattr(TWINS[twin], parts[id(value)])


# In memory, in virtual time: in any world, or on asyncio.


def now() -> float:
    """The time of the running loop, in seconds."""
    return asyncio.get_running_loop().time()


async def echo(connection: Any) -> None:
    """A handler, for any world."""
    async for message in connection:
        await connection.send(message)


def port_of(server: Server) -> int:
    """The port on which a server listens."""
    port: int = next(iter(server.sockets)).getsockname()[1]
    return port


async def greet(uri: str) -> None:
    """The server at this URI lives: an echo comes back."""
    async with connect(uri, proxy=None) as client:
        await client.send("hello")
        assert await client.recv() == "hello"


async def welcome(world: World, server: Any, user_info: str = "") -> None:
    """The server of a world lives: an echo comes back."""
    async with world.connect(world.uri(server, user_info=user_info), proxy=None) as client:
        await client.send("hello")
        assert await client.recv() == "hello"


def running(world: World) -> int:
    """How many tasks or threads there are; 0 on trio, where each connection has a task from the beginning."""
    if isinstance(world, ThreadWorld):
        return sum(not strand.over for strand in world._system.strands)
    return len(asyncio.all_tasks()) if isinstance(world, AsyncioWorld) else 0


async def ask(world: World, server: Any, data: bytes) -> Answered:
    """Send bytes, and read what a server answers before it ends the connection."""
    peer = await world.reach(server)
    await peer.write(data)
    answer = await peer.read_until_eof()
    peer.hang_up()
    return answered(answer)


async def refused(world: World, data: bytes, status: int, **options: Any) -> Answered:
    """The answer of a server to bytes that it must refuse: it ends the connection, and serves the next one."""
    async with world.serve(echo, **options) as server:
        answer = await ask(world, server, data)
        await welcome(world, server)
    assert answer.status.startswith(f"{status} "), answer
    assert answer.headers["Connection"] == ["close"]
    assert answer.headers["Content-Length"] == [str(len(answer.body))]
    return answer


@contextlib.asynccontextmanager
async def deflated_end(
    world: World, side: Side, parameters: str = "", **options: Any
) -> AsyncIterator[tuple[End, Peer]]:
    """One of our connections with permessage-deflate, and its peer. In the end the peer breaks what is still there.

    Parameters:
        world: where.
        side: which end is ours.
        parameters: what the peer adds to its offer, or to its answer: ``"; name=value"``.
        options: for ``serve`` or ``connect``.
    """
    headers = {"Sec-WebSocket-Extensions": "permessage-deflate" + parameters}
    if side is Side.SERVER:
        opened: list[End] = []
        running = world.gate()

        async def handler(connection: End) -> None:
            opened.append(connection)
            running.open()
            await connection.wait_closed()

        async with world.serve(handler, **options) as server:
            peer = await world.reach(server)
            await peer.write(wire.request("/", headers))
            assert b"permessage-deflate" in await peer.read_until()
            await running.wait()
            yield opened[0], peer
            peer.reset()
    else:
        peers: list[Peer] = []
        over = world.gate()

        async def answer(peer: Peer, asked: Asked) -> None:
            peers.append(peer)
            await peer.write(wire.response(101, headers, key=asked.headers["Sec-WebSocket-Key"][0]))
            await over.wait()

        async with world.site([answer]) as web:
            connection = await world.connect(web.uri(), **options)
            yield connection, peers[0]
            peers[0].reset()
            over.open()
            await connection.wait_closed()


# On a real loop.


def each_loop(test: Callable[..., Coroutine[Any, Any, None]]) -> Callable[..., None]:
    """Turn a coroutine function into a test that runs on each event loop, over real sockets.

    It fails if a task is left pending, or if anything is reported to the loop.
    """

    @functools.wraps(test)
    def wrapper(*args: Any, loop: str, **kwargs: Any) -> None:
        reported: list[dict[str, Any]] = []
        with asyncio.Runner(loop_factory=LOOPS[loop]) as runner, own_garbage():
            runner.get_loop().set_exception_handler(lambda _, context: reported.append(context))
            runner.run(_leaving_nothing(test(*args, **kwargs)))
        assert reported == []

    signature = inspect.signature(test)
    parameter = inspect.Parameter("loop", inspect.Parameter.KEYWORD_ONLY)
    wrapper.__signature__ = signature.replace(  # type: ignore[attr-defined]
        parameters=[*signature.parameters.values(), parameter]
    )
    on_each: Callable[..., None] = pytest.mark.parametrize("loop", LOOPS)(wrapper)
    return on_each


async def _leaving_nothing(test: Awaitable[None]) -> None:
    await test
    for _ in range(10):
        await asyncio.sleep(0)
    left = asyncio.all_tasks() - {asyncio.current_task()}
    assert not left, left


async def until(condition: Callable[[], object], seconds: float = 10) -> None:
    """Wait until something is so, for a time that no healthy run needs."""
    async with asyncio.timeout(seconds):
        while not condition():  # noqa: ASYNC110  # what it waits for has no event
            await asyncio.sleep(0.001)


class RealPeer:
    """A client over a real socket, in the hands of a test, byte by byte.

    Parameters:
        reader: where its bytes come from.
        writer: where they go.
    """

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    def send(self, data: bytes) -> None:
        """Send bytes, without waiting."""
        self.writer.write(data)

    async def head(self) -> bytes:
        """The head of the answer."""
        return await self.reader.readuntil(b"\r\n\r\n")

    async def frame(self) -> wire.Row:
        """The next frame."""
        data = await self.reader.readexactly(2)
        extended = {126: 2, 127: 8}.get(data[1] & 0x7F, 0)
        length_field = await self.reader.readexactly(extended)
        size = int.from_bytes(length_field) if extended else data[1] & 0x7F
        found = wire.parse_one(data + length_field + await self.reader.readexactly(size))
        assert found is not None
        return found[0]

    async def rest(self) -> bytes:
        """Everything up to the end of the stream."""
        return await self.reader.read()

    async def discard(self) -> None:
        """Read to the end of the stream, and keep nothing."""
        while await self.reader.read(2**16):
            pass

    def abort(self) -> None:
        """Break the connection."""
        self.writer.transport.abort()


@contextlib.asynccontextmanager
async def real_client(
    port: int, head: bytes | None = None, *, headers: wire.Headers | None = None, limit: int = 2**16
) -> AsyncIterator[RealPeer]:
    """A raw client of a server over a real socket; its connection is broken in the end.

    Parameters:
        port: where to connect.
        head: what to send first; if None, a request is sent and its answer read.
        headers: changes to the headers of a request.
        limit: bytes to take in while the test doesn't read, about half of it.
    """
    peer = RealPeer(*await asyncio.open_connection("127.0.0.1", port, limit=limit))
    try:
        if head is None:
            peer.send(wire.request(headers=headers))
            assert (await peer.head()).startswith(b"HTTP/1.1 101 ")
        else:
            peer.send(head)
        yield peer
    finally:
        peer.abort()
        with contextlib.suppress(OSError):
            await peer.writer.wait_closed()


async def flood(port: int, data: bytes, size: int, patience: float = 0.3) -> int:
    """Send a flood to a server, and don't read.

    Parameters:
        port: where the server listens.
        data: what to send over and over.
        size: bytes after which it is enough.
        patience: seconds in which something must move.

    Returns:
        How much went out, until that size or until nothing moved.
    """
    sent = 0
    async with real_client(port, wire.request(), limit=1) as peer:
        with contextlib.suppress(TimeoutError, ConnectionError):
            while sent < size:
                peer.send(data)
                sent += len(data)
                async with asyncio.timeout(patience):
                    await peer.writer.drain()
    return sent


#: Seconds after which nobody waits any longer.
PATIENCE = 60


async def longest_greeting(process: Victim, start: bytes, data: bytes, count: int = 3, **options: Any) -> float:
    """How long a client is kept waiting by connections that flood a server, in its seconds of CPU.

    So a machine that is busy with other things makes no difference. It tries once, and in the longer profiles of
    hypothesis more often.

    Parameters:
        process: the server.
        start: what a noisy connection sends first.
        data: what it sends then, over and over.
        count: how many noisy connections there are.
        options: for the request that opens them.
    """

    async def make_noise() -> None:
        async with real_client(process.port, wire.request(**options)) as peer:
            reading = asyncio.create_task(peer.discard())
            peer.send(start)
            try:
                while not reading.done():
                    peer.send(data)
                    await peer.writer.drain()
                    # As long as the server keeps up, that was no wait.
                    await asyncio.sleep(0)
            finally:
                reading.cancel()
                await asyncio.wait([reading])

    noise = [asyncio.create_task(make_noise()) for _ in range(count)]
    longest = 0.0
    for _ in range(max(1, 3 * settings().max_examples // USUAL)):
        begin = process.processor_time()
        async with asyncio.timeout(PATIENCE):
            await greet(f"ws://127.0.0.1:{process.port}/")
        longest = max(longest, process.processor_time() - begin)
    assert not any(task.done() for task in noise), "the noise stopped"
    for task in noise:
        task.cancel()
    await asyncio.wait(noise)
    return longest


# In another process.


class Victim:
    """A server in a process of its own.

    Attributes:
        port: where it listens.
    """

    def __init__(self, loop: str, **options: int) -> None:
        command = [sys.executable, str(Path(__file__).with_name("victim.py")), loop]
        command += [f"{name}={number}" for name, number in options.items()]
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
        self._process = subprocess.Popen(
            command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        assert self._process.stdout is not None
        self.port = int(self._process.stdout.readline())

    def status(self, name: str) -> int:
        """A number that the kernel tells: ``VmRSS``, or ``VmHWM``, the most that it ever was, in KiB."""
        text = Path(f"/proc/{self._process.pid}/status").read_text("ascii")
        return int(text.partition(f"{name}:")[2].split()[0])

    def files(self) -> int:
        """How many file descriptors it has."""
        return len(os.listdir(f"/proc/{self._process.pid}/fd"))

    def processor_time(self) -> float:
        """How long it has run, in seconds."""
        fields = Path(f"/proc/{self._process.pid}/stat").read_text("ascii").rpartition(") ")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def end(self) -> str:
        """End it, and return what it complained of."""
        _, complaints = self._process.communicate(timeout=10)
        assert self._process.returncode == 0, complaints
        return complaints


@contextlib.contextmanager
def victim(loop: str, **options: int) -> Iterator[Victim]:
    """A server in a process of its own, which must have nothing to complain of."""
    process = Victim(loop, **options)
    try:
        yield process
    finally:
        complaints = process.end()
    assert not complaints, complaints


#: For tests that look at a process from outside.
needs_proc = pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="only Linux tells this of processes")
