"""The network in memory for threads: a system for ``websockets.sync`` whose sockets are in memory, and real time.

A thread that waits for a socket waits for one condition, which all connections of a network share. Links need calls
that come later. There is no thread for them: whoever waits, or uses a socket, makes those that are due first. So
nothing happens behind the back of a program, and nothing has to be stopped.

May know: the system of the front-end for threads, its steward, the network in memory. Must not know: WebSocket, TLS.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import heapq
import itertools
import math
import os
import selectors
import socket
import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import Any, Final, TypeVar

from ..sync._steward import Steward
from ..sync._system import DONTWAIT, LONGEST_WAIT, READ, WRITE, System
from ._addresses import sockname
from ._conditions import CAPACITY, Chunk, Delay
from ._link import Direction, Link, MemorySocket
from ._network import BaseNetwork, Place
from ._scheduler import Scheduler

__all__ = ["MemorySystem", "Network", "ThreadSocket"]

_T = TypeVar("_T")

# Windows has Unix sockets, but Python does not offer them there; the family has the same number.
_UNIX: Final[int] = getattr(socket, "AF_UNIX", 1)

# The numbers of sockets begin far above those of descriptors, so that none is taken for one.
_FIRST_NUMBER: Final = 1 << 40


class _Call:
    """A call that comes later."""

    def __init__(self, callback: Callable[[], object]) -> None:
        self.callback: Callable[[], object] | None = callback

    def cancel(self) -> None:
        """Take the call back."""
        self.callback = None


class MemorySystem(System):
    """The system of the interpreter, with a network in memory in place of the real one; it is a scheduler of links.

    Parameters:
        network: the network.
    """

    def __init__(self, network: Network) -> None:
        self.network = network
        # One lock for all links and sockets. It is held for a moment, and nothing outside is called meanwhile.
        self._changed = threading.Condition(threading.RLock())
        self._calls: list[tuple[float, int, _Call]] = []
        self._count = itertools.count()
        self._users = 0

    @contextlib.contextmanager
    def used(self) -> Iterator[None]:
        """Have a steward during the block; several threads may do so at once."""
        with self._changed:
            self._users += 1
            if self._users == 1:
                self.steward = Steward(self)
        try:
            yield
        finally:
            with self._changed:
                self._users -= 1
                steward = None if self._users else self.steward
            if steward is not None:
                steward.stop()

    # The scheduler.

    def time(self) -> float:
        """Return the time, in seconds."""
        return self.now()

    def call_soon(self, callback: Callable[[], object], /) -> _Call:
        """Make a call as soon as the lock is released."""
        return self.call_at(-math.inf, callback)

    def call_at(self, when: float, callback: Callable[[], object], /) -> _Call:
        """Make a call at a time."""
        call = _Call(callback)
        heapq.heappush(self._calls, (when, next(self._count), call))
        return call

    # Changing and waiting.

    @contextlib.contextmanager
    def changing(self) -> Iterator[None]:
        """Hold the lock; then make the calls that are due, and wake all threads that wait."""
        with self._changed:
            try:
                yield
            finally:
                self._make_calls()
                self._changed.notify_all()

    def _make_calls(self) -> None:
        while self._calls and self._calls[0][0] <= self.now():
            callback = heapq.heappop(self._calls)[2].callback
            if callback is not None:
                callback()
                self._changed.notify_all()

    def block(self, ready: Callable[[], object], timeout: float | None) -> bool:
        """Wait until a function returns what is true; return False if the timeout passed, in seconds.

        The function is called under the lock, which must be held only once.
        """
        until = math.inf if timeout is None else self.now() + timeout
        while True:
            self._make_calls()
            if ready():
                return True
            now = self.now()
            if now >= until:
                return False
            first = min(until, self._calls[0][0] if self._calls else math.inf)
            self._changed.wait(None if first == math.inf else min(first - now, LONGEST_WAIT))

    # What the front-end asks for.

    def heeds_flags(self, sock: Any) -> bool:
        """Return whether flags of calls count.

        Raises:
            TypeError: the socket isn't in memory.
        """
        if not isinstance(sock, ThreadSocket):
            raise TypeError(f"{sock!r} isn't in memory, and so it can't be used in this network")
        return bool(DONTWAIT)

    def wait(self, sock: Any, mask: int, timeout: float | None) -> bool:
        """Wait until a socket may be ready."""
        with self._changed:
            return self.block(lambda: sock.readiness() & mask, timeout)

    def selector(self) -> Any:
        """Return a new selector, for sockets in memory."""
        return _Selector(self)

    def waker(self) -> Any:
        """Return a new waker."""
        return _Waker(self)

    def getaddrinfo(self, host: Any, port: Any, **hints: Any) -> list[Any]:
        """Look up a name."""
        with self._changed:
            places = self.network._places(host, port)
        return [
            (place.family, socket.SOCK_STREAM, 0, "", sockname(place.ip, place.port)[1])  # as socket.getaddrinfo()
            for place in places
        ]

    def socket(self, family: int, kind: int, proto: int = 0) -> Any:
        """Return a new socket."""
        return ThreadSocket(self, family)

    def create_server(self, address: Any, **options: Any) -> Any:
        """Return a socket that listens; the options, such as its backlog, have no effect."""
        sock = ThreadSocket(self, socket.AF_INET6 if ":" in address[0] else socket.AF_INET)
        sock.bind(address)
        sock.listen()
        return sock


class _Waker:
    """Ends the wait of a selector."""

    def __init__(self, system: MemorySystem) -> None:
        self.socket = self
        self._system = system
        self._awake = False

    def wake(self) -> None:
        with self._system.changing():
            self._awake = True

    def clear(self) -> None:
        self._awake = False

    def close(self) -> None:
        """Do nothing: there is nothing to release."""

    def readiness(self) -> int:
        return READ if self._awake else 0

    def fileno(self) -> int:
        return 0


class _Selector:
    """Waits for several sockets in memory. It has the methods that this library calls."""

    def __init__(self, system: MemorySystem) -> None:
        self._system = system
        self._keys: dict[int, selectors.SelectorKey] = {}

    def __enter__(self) -> _Selector:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def register(self, sock: Any, mask: int, data: Any = None) -> None:
        if not hasattr(sock, "readiness"):
            raise TypeError(f"{sock!r} isn't in memory, and so it can't be used in this network")
        self._keys[sock.fileno()] = selectors.SelectorKey(sock, sock.fileno(), mask, data)

    modify = register

    def unregister(self, sock: Any) -> selectors.SelectorKey:
        # Who closed a socket can't tell its number any more.
        number = next((number for number, key in self._keys.items() if key.fileobj is sock), sock.fileno())
        return self._keys.pop(number)

    def get_map(self) -> dict[int, selectors.SelectorKey]:
        return self._keys

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        with self._system._changed:
            self._system.block(self._ready, timeout)
            return self._ready()

    def _ready(self) -> list[tuple[selectors.SelectorKey, int]]:
        keys: list[Any] = list(self._keys.values())
        return [(key, mask) for key in keys if (mask := key.fileobj.readiness() & key.events)]

    def close(self) -> None:
        self._keys.clear()


class ThreadSocket:
    """A socket in memory whose calls wait, like those of the ``socket`` module.

    Attributes:
        family, type, proto: as of any socket.
        end: its end of a link; None before it is connected.
        links: of a socket that listens: the links of all its connections.
    """

    type = socket.SOCK_STREAM
    proto = 0

    _numbers = itertools.count(_FIRST_NUMBER)

    def __init__(self, system: MemorySystem, family: int = socket.AF_INET, end: MemorySocket | None = None) -> None:
        self.family = family
        self.end = end
        self.links: list[Link] = []
        self._system = system
        self._number = next(self._numbers)
        self._timeout: float | None = None
        self._bound: Any = None
        self._cut = self._closed = self._listens = False
        self._accepted: deque[MemorySocket] = deque()
        # Of an attempt to connect: what came of it; None before that.
        self._outcome: int | None = None

    # What it is.

    def fileno(self) -> int:
        """Return a number, which isn't that of a descriptor; -1 after :meth:`close`."""
        return -1 if self._closed else self._number

    def settimeout(self, seconds: float | None) -> None:
        """Set the time that calls wait, in seconds; None for no limit."""
        self._timeout = seconds

    def setblocking(self, blocking: bool) -> None:
        """Set whether calls wait."""
        self._timeout = None if blocking else 0.0

    def setsockopt(self, *option: Any) -> None:
        """Do nothing: there is no kernel."""

    def getsockopt(self, level: int, option: int) -> int:
        """Return what came of an attempt to connect: 0, or the number of an error."""
        return self._outcome or 0

    def getsockname(self) -> Any:
        """Return the address of this end."""
        return self._bound if self.end is None else self.end.getsockname()

    def getpeername(self) -> Any:
        """Return the address of the other end."""
        if self.end is None:
            raise OSError(errno.ENOTCONN, os.strerror(errno.ENOTCONN))
        return self.end.getpeername()

    def readiness(self) -> int:
        """Return for which calls this is ready, :data:`READ` or :data:`WRITE` or both; an error is a reason, too."""
        if self._closed or self._cut:
            return READ | WRITE
        if self.end is None:
            return READ if self._accepted else WRITE if self._outcome else 0
        return (READ if self.end.readable else 0) | (WRITE if self.end.writable else 0)

    # Connecting.

    def bind(self, address: Any) -> None:
        """Choose the address of this end."""
        self._bound = address

    def listen(self, backlog: int = 0) -> None:
        """Listen at the address."""
        network = self._system.network
        with self._system.changing():
            if self.family == _UNIX:
                self._bound = network._bind_unix(self, self._bound)[0].getsockname()
            else:
                host, port = self._bound[:2]
                self._bound = network._bind(self, [host] if host else ["0.0.0.0", "::"], port)[0].getsockname()
            self._listens = True

    def is_serving(self) -> bool:
        """Return whether connections are accepted; the network asks."""
        return self._listens

    def accept(self, sock: MemorySocket | None = None) -> Any:
        """Take a new connection, from the network; or return one, without a parameter.

        Raises:
            BlockingIOError: nobody has connected.
        """
        if sock is not None:
            self.links.append(sock.link)
            self._accepted.append(sock)
            return None
        return self._call(READ, 0, self._accept)

    def _accept(self) -> tuple[ThreadSocket, Any]:
        if not self._accepted:
            raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))
        end = self._accepted.popleft()
        return ThreadSocket(self._system, self.family, end), end.getpeername()

    def connect(self, address: Any) -> None:
        """Connect to an address, and wait for that.

        Raises:
            OSError: nobody listens there.
            TimeoutError: it takes longer than the timeout of this socket.
        """
        self.connect_ex(address)
        self._call(WRITE, 0, int)
        if self._outcome:
            raise OSError(self._outcome, os.strerror(self._outcome))

    def connect_ex(self, address: Any) -> int:
        """Begin to connect to an address."""
        system = self._system
        with system.changing():
            when = system.now() + system.network._round_trip()
            system.call_at(when, functools.partial(self._connect, address))
        return errno.EINPROGRESS

    def _connect(self, address: Any) -> None:
        if self._closed:
            return
        network = self._system.network
        try:
            if self.family == _UNIX:
                self.end = network._connect_unix(self._system, address)
            else:
                place = Place(socket.AddressFamily(self.family), address[0], address[1])
                self.end = network._connect(self._system, place, None if self._bound is None else self._bound[:2])
        except OSError as exc:
            self._outcome = exc.errno

    # Data.

    def _call(self, mask: int, flags: int, call: Callable[[], _T]) -> _T:
        """Make a call: wait until it needn't wait, unless it mustn't."""
        with self._system.changing():
            if not flags & DONTWAIT and self._timeout != 0:
                if not self._system.block(lambda: self.readiness() & mask, self._timeout):
                    raise TimeoutError("timed out")
            else:
                self._system._make_calls()
            if self._closed:
                raise OSError(errno.EBADF, os.strerror(errno.EBADF))
            return call()

    def _connected(self) -> MemorySocket:
        if self.end is None:
            raise OSError(errno.ENOTCONN, os.strerror(errno.ENOTCONN))
        return self.end

    def recv(self, size: int, flags: int = 0) -> bytes:
        """Receive data; nothing at the end of the stream."""

        def receive() -> bytes:
            try:
                return self._connected().recv(size)
            except BlockingIOError:
                if self._cut:
                    return b""
                raise

        return self._call(READ, flags, receive)

    def send(self, data: Any, flags: int = 0) -> int:
        """Send data; return the number of bytes taken."""
        return self.sendmsg([data], (), flags)

    def sendmsg(self, buffers: Any, ancillary: Any = (), flags: int = 0) -> int:
        """Send the data of several buffers; return the number of bytes taken."""
        return self._call(WRITE, flags, lambda: self._connected().sendmsg(list(buffers)))

    def sendall(self, data: Any) -> None:
        """Send all of the data; the timeout is that of each step."""
        view = memoryview(data)
        while view:
            view = view[self.send(view) :]

    def shutdown(self, how: int) -> None:
        """End sending; with ``SHUT_RDWR`` receiving, too."""
        with self._system.changing():
            self._cut = self._cut or how == socket.SHUT_RDWR
            self._connected().shutdown()

    def close(self) -> None:
        """Close the socket. Calls that wait for it end with an error."""
        with self._system.changing():
            self._closed, self._listens = True, False
            if self.end is not None:
                self.end.close()
            self._system.network._unbind(self)
            for end in self._accepted:
                end.link.reset()
            self._accepted.clear()


# -------------------------------------------------------------------------------------------------------------- faults


def _changing(scheduler: Scheduler) -> AbstractContextManager[None]:
    """Hold the lock of a scheduler, because any thread may cause a fault."""
    assert isinstance(scheduler, MemorySystem)
    return scheduler.changing()


class _ThreadDirection(Direction):
    """A direction whose faults any thread may cause."""

    def hold(self) -> None:
        with _changing(self._loop):
            super().hold()

    def release(self) -> None:
        with _changing(self._loop):
            super().release()

    def drop(self) -> None:
        with _changing(self._loop):
            super().drop()


class _ThreadLink(Link):
    """A link whose faults any thread may cause."""

    _direction = _ThreadDirection

    def reset(self) -> None:
        with _changing(self.loop):
            super().reset()


class Network(BaseNetwork):
    """A network in memory for threads; parameters and attributes are those of :class:`websockets.testing.Network`.

    Delays take real time.
    """

    _link = _ThreadLink

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
        self._system = MemorySystem(self)
