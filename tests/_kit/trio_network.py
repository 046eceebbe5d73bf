"""The network in memory for trio: sockets of trio's kind whose other end may be a scripted peer.

:func:`run_on_network` runs a coroutine function on a virtual clock, with such a network in place of the real one.
So ``trio.open_tcp_stream()`` and ``trio.open_tcp_listeners()`` work as they are.

May know: the core of :mod:`websockets.testing`, trio, :mod:`.peer`. Must not know: anything else of the library.
"""

from __future__ import annotations

import contextlib
import heapq
import itertools
import math
import os
import socket
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Any

import trio
import trio.testing

from websockets.testing._addresses import WILDCARDS, sockname
from websockets.testing._link import MemorySocket
from websockets.testing._network import BaseNetwork, Place

from .ends import FramePeer
from .peer import RawPeer

__all__ = ["TrioFramePeer", "TrioListener", "TrioNetwork", "TrioPeer", "TrioSocket", "run_on_network"]


class _Call:
    """A call that comes later."""

    def __init__(self, callback: Callable[[], object]) -> None:
        self.callback: Callable[[], object] | None = callback

    def cancel(self) -> None:
        self.callback = None


class _Scheduler:
    """Calls that come later, in their order, in a task of trio's."""

    def __init__(self) -> None:
        self._calls: list[tuple[float, int, _Call]] = []
        self._count = itertools.count()
        self._changed = trio.Event()

    def time(self) -> float:
        return trio.current_time()

    def call_soon(self, callback: Callable[[], object], /) -> _Call:
        return self.call_at(self.time(), callback)

    def call_at(self, when: float, callback: Callable[[], object], /) -> _Call:
        call = _Call(callback)
        heapq.heappush(self._calls, (when, next(self._count), call))
        self._changed.set()
        return call

    async def run(self) -> None:
        """Make the calls, until this is cancelled."""
        while True:
            self._changed = trio.Event()
            now, due = self.time(), []
            while self._calls and self._calls[0][0] <= now:
                due.append(heapq.heappop(self._calls)[2])
            for call in due:
                if call.callback is not None:
                    call.callback()
            with trio.move_on_at(self._calls[0][0] if self._calls else math.inf):
                await self._changed.wait()


def _descriptors() -> tuple[int, int]:
    """Return a file descriptor that is always writable, and one that never is."""
    _, full = os.pipe()
    os.set_blocking(full, False)
    with contextlib.suppress(BlockingIOError):
        while True:
            os.write(full, bytes(65536))
    return os.open(os.devnull, os.O_WRONLY), full


class TrioSocket(trio.socket.SocketType):
    """A socket of trio's kind, in memory.

    Attributes:
        end: its end of a link; None before it is connected.
    """

    _descriptors: tuple[int, int] | None = None

    def __init__(self, network: TrioNetwork, family: int, end: MemorySocket | None = None) -> None:
        super().__init__()
        self._network = network
        self._family = family
        self.end = end
        self._bound: Any = None
        self._closed = False
        self._shut = False
        self._listens = False
        self._accepted: deque[MemorySocket] = deque()
        self._waiting: set[trio.Event] = set()

    @property
    def family(self) -> Any:
        return self._family

    @property
    def type(self) -> Any:
        return socket.SOCK_STREAM

    @property
    def proto(self) -> int:
        return 0

    def fileno(self) -> int:
        if self._closed:
            return -1
        cls = type(self)
        cls._descriptors = cls._descriptors or _descriptors()
        return cls._descriptors[0 if self.end is not None and self.end.writable else 1]

    def setsockopt(self, level: int, optname: int, value: Any, optlen: int | None = None) -> None:
        pass

    def getsockopt(self, level: int, optname: int, buflen: int | None = None) -> Any:
        return int(self._listens)

    def getsockname(self) -> Any:
        return self._bound if self.end is None else self.end.getsockname()

    def getpeername(self) -> Any:
        if self.end is None:
            raise OSError("not connected")
        return self.end.getpeername()

    # Connecting.

    async def bind(self, address: Any) -> None:
        await trio.lowlevel.checkpoint()
        self._bound = address

    def listen(self, backlog: int = 0) -> None:
        bind = self._network._bind_unix if self._family == _UNIX else self._network._bind
        place: Any = (self._bound,) if self._family == _UNIX else ([self._bound[0]], self._bound[1], self._family)
        self._bound = bind(self, *place)[0].getsockname()
        self._listens = True

    def is_serving(self) -> bool:
        return self._listens

    async def connect(self, address: Any) -> None:
        network = self._network
        await trio.sleep(network._round_trip())
        if self._family == _UNIX:
            self.end = network._connect_unix(network.scheduler, address)
            return
        family: Any = self._family
        place = Place(family, address[0], address[1])
        self.end = network._connect(network.scheduler, place, None if self._bound is None else self._bound[:2])
        if self.end is None:
            await trio.sleep_forever()

    # A listener: the network calls accept() with a socket, and trio without.

    def accept(self, sock: MemorySocket | None = None) -> Any:
        if sock is None:
            return self._accept()
        self._accepted.append(sock)
        self._wake()
        return None

    async def _accept(self) -> tuple[TrioSocket, Any]:
        await trio.lowlevel.checkpoint()
        while not self._accepted:
            self._check_open()
            await self._wait()
        end = self._accepted.popleft()
        return TrioSocket(self._network, self._family, end), end.getpeername()

    # Data.

    async def recv(self, bufsize: int, flags: int = 0) -> bytes:
        data: bytes = await self._attempt(lambda end: end.recv(bufsize), lambda end: end.add_reader, "remove_reader")
        return data

    async def send(self, data: Any, flags: int = 0) -> int:
        return await self.sendmsg([data])

    async def sendmsg(self, buffers: Any, *args: Any) -> int:
        count: int = await self._attempt(
            lambda end: end.sendmsg(list(buffers)), lambda end: end.add_writer, "remove_writer"
        )
        return count

    async def _attempt(
        self, function: Callable[[MemorySocket], Any], watch: Callable[[MemorySocket], Any], forget: str
    ) -> Any:
        """Call a function until it needn't wait, with the checkpoints of trio's sockets."""
        await trio.lowlevel.checkpoint_if_cancelled()
        self._check_open()
        end = self.end
        assert end is not None
        waited = False
        while True:
            try:
                result = function(end)
            except BlockingIOError:
                waited = True
                try:
                    await self._wait(watch(end))
                finally:
                    getattr(end, forget)()
                self._check_open()
            else:
                if not waited:
                    await trio.lowlevel.cancel_shielded_checkpoint()
                return result

    def _check_open(self) -> None:
        if self._closed:
            raise trio.ClosedResourceError("this socket was closed")

    async def _wait(self, watch: Callable[[Callable[[], None]], None] | None = None) -> None:
        event = trio.Event()
        self._waiting.add(event)
        if watch is not None:
            watch(event.set)
        try:
            await event.wait()
        finally:
            self._waiting.discard(event)

    def _wake(self) -> None:
        for event in self._waiting:
            event.set()

    @property
    def did_shutdown_SHUT_WR(self) -> bool:
        return self._shut

    def shutdown(self, flag: int) -> None:
        assert self.end is not None
        self._shut = True
        self.end.shutdown()

    def close(self) -> None:
        self._closed = True
        self._listens = False
        if self.end is not None:
            self.end.close()
        elif self._bound is not None:
            self._network._unbind(self)
        self._wake()


_UNIX = getattr(socket, "AF_UNIX", 1)


class TrioNetwork(BaseNetwork, trio.abc.SocketFactory, trio.abc.HostnameResolver):
    """A network in memory, in place of the one that trio's functions use."""

    def __init__(self) -> None:
        super().__init__()
        self.scheduler = _Scheduler()

    def socket(self, family: Any = socket.AF_INET, type: Any = 0, proto: int = 0) -> TrioSocket:
        """Make a socket; trio calls this."""
        return TrioSocket(self, family)

    async def getaddrinfo(
        self, host: Any, port: Any, family: int = 0, type: int = 0, proto: int = 0, flags: int = 0
    ) -> Any:
        """Look up a name; trio calls this."""
        await trio.lowlevel.checkpoint()
        names = list(WILDCARDS) if host is None else [host.decode() if isinstance(host, bytes) else host]
        found = [ip for name in names for ip in self._resolve(name, family)]
        return [(sockname(ip, 0)[0], socket.SOCK_STREAM, 6, "", sockname(ip, int(port))[1]) for ip in found]

    async def getnameinfo(self, sockaddr: Any, flags: int) -> tuple[str, str]:
        """Do what nobody needs."""
        raise NotImplementedError

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

    async def run() -> None:
        network = TrioNetwork()
        trio.socket.set_custom_socket_factory(network)
        trio.socket.set_custom_hostname_resolver(network)
        failure: Exception | None = None
        async with trio.open_nursery() as nursery:
            nursery.start_soon(network.scheduler.run)
            try:
                await main(network)
            except Exception as exc:
                failure = exc
            nursery.cancel_scope.cancel()
        if failure is not None:
            raise failure

    clock = trio.testing.MockClock(autojump_threshold=0)
    trio.run(run, clock=clock, instruments=instruments, strict_exception_groups=True)
