"""Two worlds in which the laws of transports hold: the kit's memory, and asyncio over a loopback socket.

Protocols write down what happens to them, so that worlds can be compared.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import socket
import sys
from collections.abc import Callable, Coroutine
from typing import Any, Concatenate, ParamSpec

import pytest

from _kit import VirtualLoop, idle, run_virtual, steps, transport_pair

P = ParamSpec("P")
Pair = tuple[asyncio.Transport, asyncio.Transport]
Contexts = list[dict[str, Any]]

#: More than all buffers of a loopback connection hold.
HUGE = 16 * 1024 * 1024


# Protocols that write a diary.


class Diary:
    """What happened to a protocol, in order; data that comes in several pieces is joined.

    ``faults`` maps the name of a callback to what it raises.
    """

    def __init__(self, *, keep_open: bool = False, faults: dict[str, BaseException] | None = None) -> None:
        self.transport: asyncio.Transport
        self.events: list[object] = []
        self.pieces: list[int] = []
        self.received = bytearray()
        self.keep_open = keep_open
        self.faults = faults or {}

    def note(self, event: object, callback: str) -> None:
        self.events.append(event)
        if callback in self.faults:
            raise self.faults[callback]

    def take(self, data: bytes, callback: str) -> None:
        if not self.events or self.events[-1] != "data":
            self.events.append("data")
        self.pieces.append(len(data))
        self.received += data
        if callback in self.faults:
            raise self.faults[callback]

    def lost(self) -> object:
        """What connection_lost() got; "not yet" before, and an error if it was called twice."""
        reasons = [event[1] for event in self.events if isinstance(event, tuple)]
        assert len(reasons) <= 1
        return reasons[0] if reasons else "not yet"

    # Shared by Protocol and BufferedProtocol.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        self.note("made", "connection_made")

    def eof_received(self) -> bool:
        self.note("eof", "eof_received")
        return self.keep_open

    def pause_writing(self) -> None:
        self.note("pause", "pause_writing")

    def resume_writing(self) -> None:
        self.note("resume", "resume_writing")

    def connection_lost(self, exc: Exception | None) -> None:
        self.note(("lost", exc), "connection_lost")


class Plain(Diary, asyncio.Protocol):
    """A diary of a Protocol."""

    def data_received(self, data: bytes) -> None:
        assert type(data) is bytes
        self.take(data, "data_received")


class Buffered(Diary, asyncio.BufferedProtocol):
    """A diary of a BufferedProtocol, with a buffer of ``size`` bytes."""

    def __init__(
        self, *, size: int = 65536, keep_open: bool = False, faults: dict[str, BaseException] | None = None
    ) -> None:
        super().__init__(keep_open=keep_open, faults=faults)
        self.buffer = bytearray(size)

    def get_buffer(self, sizehint: int) -> bytearray:
        assert sizehint == -1
        if "get_buffer" in self.faults:
            raise self.faults["get_buffer"]
        return self.buffer

    def buffer_updated(self, nbytes: int) -> None:
        assert 0 < nbytes <= len(self.buffer)
        self.take(bytes(self.buffer[:nbytes]), "buffer_updated")


# Two worlds.


class World:
    """Somewhere to connect two protocols and to run a law."""

    def __init__(self) -> None:
        self.transports: list[asyncio.Transport] = []
        self.errors: Contexts = []

    async def connect(self, a: asyncio.BaseProtocol, b: asyncio.BaseProtocol) -> Pair:
        """Connect two protocols and remember their transports, to abort them in the end."""
        pair = await self.join(a, b)
        self.transports += pair
        return pair

    async def join(self, a: asyncio.BaseProtocol, b: asyncio.BaseProtocol) -> Pair:
        raise NotImplementedError

    def run(self, law: Coroutine[Any, Any, None]) -> None:
        raise NotImplementedError

    async def settle(self) -> None:
        """Let everything happen that can."""
        raise NotImplementedError

    async def watch(self, law: Coroutine[Any, Any, None]) -> None:
        """Run a law and clean up."""
        try:
            await law
        finally:
            for transport in self.transports:
                # asyncio's transports may fail so when they are closed already.
                with contextlib.suppress(AttributeError):
                    transport.abort()
            self.transports = []
            await steps(10)

    def reported(self) -> Contexts:
        """Take what was reported to the running loop."""
        taken = self.errors.copy()
        self.errors.clear()
        return taken


class Memory(World):
    """The kit."""

    async def join(self, a: asyncio.BaseProtocol, b: asyncio.BaseProtocol) -> Pair:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, VirtualLoop)
        self.errors = loop.errors
        left, right, _ = transport_pair(a, b)
        await steps(2)
        return left, right

    def run(self, law: Coroutine[Any, Any, None]) -> None:
        run_virtual(self.watch(law))

    async def settle(self) -> None:
        await idle()


class Kernel(World):
    """A selector loop and a TCP connection over the loopback interface."""

    async def join(self, a: asyncio.BaseProtocol, b: asyncio.BaseProtocol) -> Pair:
        loop = asyncio.get_running_loop()
        with socket.create_server(("127.0.0.1", 0)) as listener:
            ours = socket.create_connection(listener.getsockname())
            theirs, _ = listener.accept()
        left, _ = await loop.create_connection(lambda: a, sock=ours)
        right, _ = await loop.create_connection(lambda: b, sock=theirs)
        return left, right

    def run(self, law: Coroutine[Any, Any, None]) -> None:
        with asyncio.Runner(loop_factory=asyncio.SelectorEventLoop) as runner:
            runner.get_loop().set_exception_handler(lambda _, context: self.errors.append(context))
            runner.run(self.watch(law))
        assert self.reported() == []

    async def settle(self) -> None:
        """Wait until the kernel has delivered all, for as many iterations as callbacks may need after that."""
        quiet = 0
        for _ in range(200_000):
            quiet = quiet + 1 if self.delivered() else 0
            if quiet == 10:
                return
            await asyncio.sleep(0)
        raise AssertionError("the kernel never settled")

    def delivered(self) -> bool:
        socks = [transport.get_extra_info("socket") for transport in self.transports]
        return all(_delivered(sock, one_closed=any(s.fileno() == -1 for s in socks)) for sock in socks)


def _delivered(sock: socket.socket, *, one_closed: bool) -> bool:
    """Tell whether everything sent from a socket has arrived, and everything that the other end sent when it closed.

    Loopback delivers inside the call that sends, except when the kernel is busy. Only Linux can be asked.
    """
    if sys.platform != "linux" or sock.fileno() == -1:
        return True
    try:
        import fcntl
        import termios
    except ImportError:  # Windows, emulated on Linux: see tests/_windows
        return True
    established, fin_sent, fin_acknowledged, reset = 1, 4, 5, 7
    state = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)[0]
    underway = int.from_bytes(fcntl.ioctl(sock.fileno(), termios.TIOCOUTQ, bytes(4)), sys.byteorder)
    return state == reset or not (underway or (one_closed and state in (established, fin_sent, fin_acknowledged)))


WORLDS = [pytest.param(Memory(), id="memory"), pytest.param(Kernel(), id="kernel")]


def law(test: Callable[Concatenate[World, P], Coroutine[Any, Any, None]]) -> Callable[Concatenate[World, P], None]:
    """Turn a coroutine function into a test that runs in both worlds."""

    @functools.wraps(test)
    def wrapper(world: World, *args: P.args, **kwargs: P.kwargs) -> None:
        world.run(test(world, *args, **kwargs))

    parametrized: Callable[Concatenate[World, P], None] = pytest.mark.parametrize("world", WORLDS)(wrapper)
    return parametrized


async def until(condition: Callable[[], object]) -> None:
    """Let the loop run until something is true. Iterations are counted, so that a broken law ends."""
    for _ in range(200_000):
        if condition():
            return
        await asyncio.sleep(0)
    raise AssertionError("it never came true")


async def closed(*diaries: Diary) -> None:
    """Wait until both ends have heard of the end."""
    await until(lambda: all(diary.lost() != "not yet" for diary in diaries))


PROTOCOLS = pytest.mark.parametrize("protocol", [Plain, Buffered])
