"""The network in memory for trio: sockets of trio's kind, and a task for what comes later.

May know: trio, the network in memory. Must not know: WebSocket, asyncio.
"""

from __future__ import annotations

import contextlib
import heapq
import itertools
import math
import socket
from collections import deque
from collections.abc import Callable
from typing import Any

import trio

from ._addresses import WILDCARDS, sockname
from ._conditions import CAPACITY, Chunk, Delay
from ._link import Link, MemorySocket
from ._network import BaseNetwork, Place

__all__ = ["Network", "StreamSocket"]

_UNIX = getattr(socket, "AF_UNIX", 1)


class _Call:
    """A call that comes later."""

    def __init__(self, callback: Callable[[], object]) -> None:
        self.callback: Callable[[], object] | None = callback

    def cancel(self) -> None:
        self.callback = None


class _Scheduler:
    """Calls that come later, in their order, in a system task, which begins with the first call of a run."""

    def __init__(self) -> None:
        self._calls: list[tuple[float, int, _Call]] = []
        self._count = itertools.count()
        self._changed = trio.Event()
        self._token: trio.lowlevel.TrioToken | None = None

    def time(self) -> float:
        return trio.current_time()

    def call_soon(self, callback: Callable[[], object], /) -> _Call:
        return self.call_at(self.time(), callback)

    def call_at(self, when: float, callback: Callable[[], object], /) -> _Call:
        self.start()
        call = _Call(callback)
        heapq.heappush(self._calls, (when, next(self._count), call))
        self._changed.set()
        return call

    def start(self) -> None:
        """Start the task, unless it runs in this run of trio."""
        if self._token is not (token := trio.lowlevel.current_trio_token()):
            # Nothing that another run has left comes later.
            self._token, self._calls = token, []
            trio.lowlevel.spawn_system_task(self._run, name="network in memory")

    async def _run(self) -> None:
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
    """Return the descriptor of a socket that is always writable, and one that never is."""
    ends = [*socket.socketpair(), *socket.socketpair()]
    ends[2].setblocking(False)
    with contextlib.suppress(BlockingIOError):
        while True:
            ends[2].send(bytes(65536))
    # They stay open to the end of the program.
    numbers = [end.detach() for end in ends]
    return numbers[0], numbers[2]


class StreamSocket(trio.socket.SocketType):
    """A socket of trio's kind, in memory.

    Attributes:
        end: its end of a link; None before it is connected.
    """

    _descriptors: tuple[int, int] | None = None

    def __init__(self, network: Network, family: int = socket.AF_INET, end: MemorySocket | None = None) -> None:
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
        #: Of a listener: the links of all its connections.
        self.links: list[Link] = []

    @property
    def family(self) -> Any:
        """Address family."""
        return self._family

    @property
    def type(self) -> Any:
        """Type of the socket."""
        return socket.SOCK_STREAM

    @property
    def proto(self) -> int:
        """Protocol."""
        return 0

    def fileno(self) -> int:
        """Return a descriptor that is writable if this is; for those that poll it."""
        if self._closed:
            return -1
        cls = type(self)
        cls._descriptors = cls._descriptors or _descriptors()
        return cls._descriptors[0 if self.end is not None and self.end.writable else 1]

    def setsockopt(self, level: int, optname: int, value: Any, optlen: int | None = None) -> None:
        """Do nothing: there is no kernel."""

    def getsockopt(self, level: int, optname: int, buflen: int | None = None) -> Any:
        """Return whether this listens, which is what trio asks."""
        return int(self._listens)

    def getsockname(self) -> Any:
        """Return the address of this end."""
        return self._bound if self.end is None else self.end.getsockname()

    def getpeername(self) -> Any:
        """Return the address of the other end."""
        if self.end is None:
            raise OSError("not connected")
        return self.end.getpeername()

    # Connecting.

    async def bind(self, address: Any) -> None:
        """Choose the address of this end."""
        await trio.lowlevel.checkpoint()
        self._bound = address

    def listen(self, backlog: int = 0) -> None:
        """Listen at the address."""
        bind = self._network._bind_unix if self._family == _UNIX else self._network._bind
        place: Any = (self._bound,) if self._family == _UNIX else ([self._bound[0]], self._bound[1], self._family)
        self._bound = bind(self, *place)[0].getsockname()
        self._listens = True

    def is_serving(self) -> bool:
        """Return whether connections are accepted; the network calls this."""
        return self._listens

    async def connect(self, address: Any) -> None:
        """Connect to an address."""
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
        """Take a new connection, from the network; or wait for one, without a parameter."""
        if sock is None:
            return self._accept()
        self.links.append(sock.link)
        self._accepted.append(sock)
        self._wake()
        return None

    async def _accept(self) -> tuple[StreamSocket, Any]:
        await trio.lowlevel.checkpoint()
        while not self._accepted:
            self._check_open()
            await self._wait()
        end = self._accepted.popleft()
        return StreamSocket(self._network, self._family, end), end.getpeername()

    # Data.

    async def recv(self, bufsize: int, flags: int = 0) -> bytes:
        """Receive data."""
        data: bytes = await self._attempt(lambda end: end.recv(bufsize), lambda end: end.add_reader, "remove_reader")
        return data

    async def send(self, data: Any, flags: int = 0) -> int:
        """Send data; return the number of bytes taken."""
        return await self.sendmsg([data])

    async def sendmsg(self, buffers: Any, *args: Any) -> int:
        """Send the data of several buffers; return the number of bytes taken."""
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
        """Whether sending is over."""
        return self._shut

    def shutdown(self, flag: int) -> None:
        """End sending."""
        assert self.end is not None
        self._shut = True
        self.end.shutdown()

    def close(self) -> None:
        """Close the socket; whoever waits for it gets an error."""
        self._closed = True
        self._listens = False
        if self.end is not None:
            self.end.close()
        elif self._bound is not None:
            self._network._unbind(self)
        self._wake()


class Network(BaseNetwork, trio.abc.SocketFactory, trio.abc.HostnameResolver):
    """A network in memory for trio; parameters and attributes are those of :class:`websockets.testing.Network`."""

    def __init__(
        self,
        *,
        delay: Delay = 0.0,
        loss: float = 0.0,
        chunk: Chunk = None,
        capacity: int = CAPACITY,
        seed: int | str = 0,
    ) -> None:
        super().__init__(delay=delay, loss=loss, chunk=chunk, capacity=capacity, seed=seed)
        self.scheduler = _Scheduler()

    def socket(self, family: Any = socket.AF_INET, type: Any = 0, proto: int = 0) -> StreamSocket:
        """Make a socket; trio calls this."""
        return StreamSocket(self, family)

    async def getaddrinfo(
        self, host: Any, port: Any, family: int = 0, type: int = 0, proto: int = 0, flags: int = 0
    ) -> Any:
        """Look up a name; trio calls this."""
        await trio.lowlevel.checkpoint()
        names = list(WILDCARDS) if host is None else [host.decode() if isinstance(host, bytes) else host]
        found = [ip for name in names for ip in self._resolve(name, family)]
        return [(sockname(ip, 0)[0], socket.SOCK_STREAM, 6, "", sockname(ip, int(port))[1]) for ip in found]

    async def getnameinfo(self, sockaddr: Any, flags: int) -> tuple[str, str]:
        """Return an address as it is; trio calls this."""
        return sockaddr[0], str(sockaddr[1])

    async def open_tcp_stream(
        self, host: str, port: int, *, happy_eyeballs_delay: float | None = None, local_address: str | None = None
    ) -> trio.SocketStream:
        """Connect to a name or an address; if it has several addresses, one after the other.

        Parameters:
            host: name or IP address.
            port: port.
            happy_eyeballs_delay: has no effect; for that, use trio's function in :func:`run`.
            local_address: address of this end.

        Raises:
            ConnectionRefusedError: nobody listens there.
            socket.gaierror: the name has no address.
        """
        failure: OSError | None = None
        for place in self._places(host, port):
            sock = StreamSocket(self, place.family)
            if local_address is not None:
                await sock.bind((local_address, 0))
            try:
                await sock.connect((place.ip, place.port))
            except OSError as exc:
                failure = exc
            else:
                return trio.SocketStream(sock)
        assert failure is not None
        raise failure

    async def open_unix_socket(self, path: Any) -> trio.SocketStream:
        """Connect to a Unix socket.

        Raises:
            FileNotFoundError: there is no such path.
            ConnectionRefusedError: nobody listens there.
        """
        sock = StreamSocket(self, _UNIX)
        await sock.connect(path)
        return trio.SocketStream(sock)

    async def open_listener(self, host: str, port: int = 0) -> trio.SocketListener:
        """Listen at an address; port 0 chooses a free one.

        Raises:
            OSError: the address is in use.
        """
        sock = StreamSocket(self)
        await sock.bind((host, port))
        sock.listen()
        return trio.SocketListener(sock)
