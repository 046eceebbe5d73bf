"""Threads that take turns, on a virtual clock, with sockets in memory: the system of ``websockets.sync`` in tests.

Only one thread runs at a time. It goes on until it waits for something: a lock, a socket, another thread, the time.
Then the next thread that can go on has its turn. When none can, the clock jumps to the next moment at which one can. So
tests of threads are exact and the same each time, and a test that would hang raises :exc:`Deadlock`.

At the points where the system could switch between real threads, before locks and before calls of sockets, a test may
choose who goes on: :func:`every_order` tries all orders, with a limit for the number of switches that nothing asks for.

May know: the link of :mod:`websockets.testing`, and the interface of the system. Must not know: connections.
"""

from __future__ import annotations

import contextlib
import errno
import heapq
import itertools
import os
import selectors
import socket
import threading
import traceback
from collections import deque
from collections.abc import Callable, Iterator
from typing import Any, ClassVar, TypeVar

from websockets.sync import _steward
from websockets.sync._system import DONTWAIT, READ, WRITE, System, using
from websockets.testing._addresses import sockname
from websockets.testing._link import Link, MemorySocket
from websockets.testing._loop import START, Deadlock
from websockets.testing._network import BaseNetwork, Place

__all__ = ["Deadlock", "VirtualSocket", "VirtualSystem", "every_order", "run_threads", "stop_steward"]

_T = TypeVar("_T")

#: Real seconds that a thread waits for its turn: more than a healthy test needs.
PATIENCE = 60

#: Virtual seconds after which a test is given up.
HORIZON = 24 * 3600.0

#: Turns without a move of the clock after which a test is given up.
SPINS = 20_000


class Stopped(BaseException):
    """Ends a thread that a test stops while it waits."""


class _Worker:
    """A real thread that strands run on, one after the other: starting one costs more than most strands do.

    It knows no system. A strand that never ends keeps its worker, which no other strand then gets.
    """

    _free: ClassVar[list[_Worker]] = []

    def __init__(self) -> None:
        self._task: Callable[[], None] | None = None
        self._given = _closed_gate()
        threading.Thread(target=self._run, name="strand", daemon=True).start()

    @classmethod
    def give(cls, task: Callable[[], None]) -> None:
        """Have a free worker, or a new one, call a function."""
        worker = cls._free.pop() if cls._free else cls()
        worker._task = task
        worker._given.release()

    def _run(self) -> None:
        while True:
            self._given.acquire()
            task, self._task = self._task, None
            assert task is not None
            task()
            # What it held must not wait for the next one.
            del task
            self._free.append(self)


# A child has no thread but one.
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_Worker._free.clear)


def _closed_gate() -> threading.Lock:
    """A lock that one thread waits for, and another one releases. It is cheaper than a semaphore."""
    gate = threading.Lock()
    gate.acquire()
    return gate


class Strand:
    """A thread that takes turns.

    Attributes:
        ready: whether it can go on; None if nothing keeps it.
        deadline: the time when it goes on anyway.
        idling: whether it goes on when nobody else can.
        stopping: whether it is to end at once.
        limit: a time that a scenario has set for what it waits for.
    """

    def __init__(self, name: str, system: VirtualSystem) -> None:
        self.name = name
        self.turn = _closed_gate()
        self.ready: Callable[[], bool] | None = None
        self.deadline: float | None = None
        self.idling = self.over = self.stopping = False
        self.failure: BaseException | None = None
        self.limit: float | None = None
        self._system = system

    def join(self, timeout: float | None = None) -> None:
        self._system.block(lambda: self.over, timeout)

    def is_alive(self) -> bool:
        return not self.over

    def can_go_on(self, now: float) -> bool:
        if self.ready is None or self.stopping:
            return not self.idling
        return self.ready() or (self.deadline is not None and now >= self.deadline)


class _Call:
    """A call that comes later."""

    def __init__(self, callback: Callable[[], object]) -> None:
        self.callback: Callable[[], object] | None = callback

    def cancel(self) -> None:
        self.callback = None


class _Lock:
    """A reentrant lock."""

    def __init__(self, system: VirtualSystem) -> None:
        self._system = system
        self.owner: Strand | None = None
        self.count = 0

    def __enter__(self) -> None:
        me = self._system.running
        if self.owner is not me:
            self._system.point()
            self._system.block(lambda: self.owner is None)
            self.owner = me
        self.count += 1

    def __exit__(self, *exc_info: object) -> None:
        assert self.owner is self._system.running
        self.count -= 1
        if not self.count:
            self.owner = None


class _Condition:
    """A condition of a lock."""

    def __init__(self, system: VirtualSystem, lock: _Lock) -> None:
        self._system, self._lock = system, lock
        self._waiting: list[list[bool]] = []

    def wait(self, timeout: float | None = None) -> bool:
        notified = [False]
        self._waiting.append(notified)
        lock, me = self._lock, self._system.running
        assert lock.owner is me
        count, lock.count, lock.owner = lock.count, 0, None
        try:
            in_time = self._system.block(lambda: notified[0], timeout)
        finally:
            # Others may have a turn before this thread has the lock again, and notify it in vain.
            self._system.point()
            # Two of them may be equal.
            self._waiting = [each for each in self._waiting if each is not notified]
            self._system.block(lambda: lock.owner is None)
            lock.owner, lock.count = me, count
        return in_time

    def notify_all(self) -> None:
        assert self._lock.owner is self._system.running
        for notified in self._waiting:
            notified[0] = True


class _Event(threading.Event):
    """An event."""

    def __init__(self, system: VirtualSystem) -> None:
        super().__init__()
        self._system = system

    def wait(self, timeout: float | None = None) -> bool:
        return self._system.block(self.is_set, timeout)


class _Waker:
    """Ends the wait of a selector."""

    def __init__(self) -> None:
        self.socket = self
        self.awake = self.closed = False

    def wake(self) -> None:
        assert not self.closed
        self.awake = True

    def clear(self) -> None:
        self.awake = False

    def close(self) -> None:
        self.closed = True

    def readiness(self) -> int:
        return READ if self.awake else 0

    def fileno(self) -> int:
        return 1


class VirtualSelector:
    """Waits for several sockets.

    Attributes:
        keys: what is registered, by descriptor.
    """

    def __init__(self, system: VirtualSystem) -> None:
        self._system = system
        self.keys: dict[int, selectors.SelectorKey] = {}

    def register(self, sock: Any, mask: int, data: Any = None) -> None:
        assert sock.fileno() not in self.keys
        assert sock.fileno() > 0
        self.modify(sock, mask, data)

    def modify(self, sock: Any, mask: int, data: Any = None) -> None:
        self.keys[sock.fileno()] = selectors.SelectorKey(sock, sock.fileno(), mask, data)

    def get_map(self) -> dict[int, selectors.SelectorKey]:
        return self.keys

    def unregister(self, sock: Any) -> selectors.SelectorKey:
        return self.keys.pop(sock.fileno())

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        self._system.point()
        self._system.block(lambda: bool(self._ready()), timeout)
        return self._ready()

    def _ready(self) -> list[tuple[selectors.SelectorKey, int]]:
        found = [(key, key.fileobj.readiness() & key.events) for key in self.keys.values()]  # type: ignore[union-attr]
        return [(key, mask) for key, mask in found if mask]

    def close(self) -> None:
        self.keys.clear()

    def __enter__(self) -> VirtualSelector:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()


class VirtualSocket:
    """A socket whose calls wait, on one end of a link.

    Parameters:
        system: the system.
        end: the end of the link.

    Attributes:
        calls: how many threads are in a call of it.
    """

    _numbers = itertools.count(3)

    end: Any  # of the link; None while it isn't connected

    def __init__(self, system: VirtualSystem, end: MemorySocket | None = None) -> None:
        self._system, self.end = system, end
        self._number = next(self._numbers)
        self._timeout: float | None = None
        self._cut = False
        self.calls = 0
        self.closed = False

    def readiness(self) -> int:
        end = self.end
        return (READ if end.readable or self._cut else 0) | (WRITE if end.writable or self._cut else 0)

    def _call(self, mask: int, flags: int, call: Callable[[], _T]) -> _T:
        assert not self.closed, "a closed socket was used"
        self.calls += 1
        try:
            self._system.point()
            waits = not flags & DONTWAIT and self._timeout != 0
            if waits and not self._system.block(lambda: bool(self.readiness() & mask), self._timeout):
                raise TimeoutError("timed out")
            return call()
        finally:
            self.calls -= 1

    def recv(self, size: int, flags: int = 0) -> bytes:
        def call() -> bytes:
            try:
                data: bytes = self.end.recv(size)
            except BlockingIOError:
                if self._cut:
                    return b""
                raise
            return data

        return self._call(READ, flags, call)

    def send(self, data: Any, flags: int = 0) -> int:
        return self.sendmsg([data], (), flags)

    def sendmsg(self, pieces: Any, ancillary: Any = (), flags: int = 0) -> int:
        taken: int = self._call(WRITE, flags, lambda: self.end.sendmsg(pieces))
        return taken

    def shutdown(self, how: int) -> None:
        if how == socket.SHUT_RDWR:
            self._cut = True
        self.end.shutdown()

    def close(self) -> None:
        assert not self.calls, "a socket was closed while a thread was using it"
        assert not self.closed, "a socket was closed twice"
        self.closed = True
        self.end.close()

    def fileno(self) -> int:
        return -1 if self.closed else self._number

    def settimeout(self, seconds: float | None) -> None:
        self._timeout = seconds

    def setblocking(self, blocking: bool) -> None:
        self._timeout = None if blocking else 0.0

    def setsockopt(self, *option: Any) -> None:
        """Nothing."""

    def sendall(self, data: bytes) -> None:
        view, deadline = memoryview(data), None if self._timeout is None else self._system.now() + self._timeout
        while view:
            if deadline is not None and self._system.now() >= deadline:
                raise TimeoutError("timed out")
            view = view[self.send(view) :]

    def getsockname(self) -> Any:
        return self.end.getsockname()

    def getpeername(self) -> Any:
        return self.end.getpeername()


class VirtualListener:
    """A listening socket.

    Attributes:
        waiting: the ends of connections that nobody has accepted.
    """

    def __init__(self, system: VirtualSystem) -> None:
        self._system = system
        self._number = next(VirtualSocket._numbers)
        self.waiting: deque[MemorySocket] = deque()
        self.name: Any = None
        self.closed = False

    def is_serving(self) -> bool:
        return not self.closed

    def readiness(self) -> int:
        return READ if self.waiting else 0

    def accept(self, sock: MemorySocket | None = None) -> Any:
        """Take note of a new connection, which the network gives; or return one, to whoever accepts."""
        if sock is not None:
            self.waiting.append(sock)
            return None
        if not self.waiting:
            raise BlockingIOError
        accepted = VirtualSocket(self._system, self.waiting.popleft())
        return accepted, accepted.getpeername()

    def wait(self) -> MemorySocket:
        """Wait for a connection, and return its end."""
        self._system.block(lambda: bool(self.waiting))
        return self.waiting.popleft()

    def fileno(self) -> int:
        return -1 if self.closed else self._number

    def setblocking(self, blocking: bool) -> None:
        """Nothing: it never blocks."""

    def getsockname(self) -> Any:
        return self.name

    def close(self) -> None:
        self.closed = True
        self._system.network._unbind(self)
        for end in self.waiting:
            end.reset()


class UnconnectedSocket(VirtualSocket):
    """A socket that may be connected."""

    def __init__(self, system: VirtualSystem, family: int) -> None:
        super().__init__(system)
        self._family = family
        self._local: Any = None
        self._done = False
        self._error = 0

    def bind(self, address: Any) -> None:
        self._local = address

    def readiness(self) -> int:
        return super().readiness() if self.end is not None else WRITE if self._done else 0

    def connect_ex(self, address: Any) -> int:
        network = self._system.network
        self._system.call_at(self._system.now() + network._round_trip(), lambda: self._connect(address))
        return errno.EINPROGRESS

    def _connect(self, address: Any) -> None:
        network = self._system.network
        try:
            place = Place(socket.AddressFamily(self._family), *address[:2])
            self.end = network._connect(self._system, place, self._local)
            self._done = self.end is not None
        except OSError as exc:
            self._error, self._done = exc.errno or errno.EIO, True

    def getsockopt(self, level: int, option: int) -> int:
        return self._error

    def close(self) -> None:
        if self.end is None:
            self.closed = True
        else:
            super().close()


class VirtualNetwork(BaseNetwork):
    """The network of a system."""

    def __init__(self, system: VirtualSystem) -> None:
        super().__init__()
        self._system = system

    def socket(self, family: int) -> UnconnectedSocket:
        return UnconnectedSocket(self._system, family)

    def listen(self, host: str | list[str], port: int) -> VirtualListener:
        listener = VirtualListener(self._system)
        hosts = [host] if isinstance(host, str) else host
        listener.name = self._bind(listener, hosts, port)[0].getsockname()
        return listener

    def reach(self, host: str, port: int, local_addr: Any = None) -> MemorySocket:
        """Connect, and return the end."""
        place = self._places(host, port)[0]
        end = self._connect(self._system, place, local_addr)
        assert end is not None
        return end


class VirtualSystem(System):
    """A system whose threads take turns.

    Parameters:
        choose: function that chooses who goes on, by its number among those who can; the one that runs is the first. At
            a point it may go on itself; the second argument is False when it can't.
        kernel: whether sockets are like those of the kernel, and not like those of gevent.
        look_every: seconds between two looks of the steward.
    """

    def __init__(
        self, choose: Callable[[int, bool], int] | None = None, *, kernel: bool = True, look_every: float = 0.001
    ) -> None:
        self.time_now = START
        self.running = Strand("main", self)
        self.strands = [self.running]
        self._main = self.running
        self._choose = choose
        self._kernel = kernel
        self._timers: list[tuple[float, int, _Call]] = []
        self._order = itertools.count()
        self._soon: deque[_Call] = deque()
        self._spins = 0
        self._broken: Deadlock | None = None
        self.steward = _steward.Steward(self, look_every)
        self.network = VirtualNetwork(self)

    # The clock of links.

    def time(self) -> float:
        return self.time_now

    def call_soon(self, callback: Callable[[], object], /) -> _Call:
        call = _Call(callback)
        self._soon.append(call)
        return call

    def call_at(self, when: float, callback: Callable[[], object], /) -> _Call:
        call = _Call(callback)
        heapq.heappush(self._timers, (when, next(self._order), call))
        return call

    # Turns.

    def point(self) -> None:
        """Let the test choose who goes on, where real threads may be switched."""
        if self._choose is not None:
            self._switch()

    def block(self, ready: Callable[[], bool], timeout: float | None = None) -> bool:
        """Wait until a function returns True; return False if the timeout passed."""
        me = self.running
        if me.stopping:
            raise Stopped
        if ready():
            return True
        if timeout is not None and timeout <= 0:
            return False
        me.ready, me.deadline = ready, None if timeout is None else self._after(timeout)
        try:
            self._switch()
        finally:
            me.ready = me.deadline = None
        if me.stopping:
            raise Stopped
        return ready()

    def _after(self, timeout: float) -> float:
        """Return when a timeout passes; rounded, unless that would be now, and whoever waits would ask for ever."""
        when = self.time_now + timeout
        rounded = round(when, 9)
        return rounded if rounded > self.time_now else when

    def idle(self) -> None:
        """Wait until nobody can go on unless time passes."""
        me = self.running
        me.idling = True
        try:
            self._switch()
        finally:
            me.idling = False

    def _switch(self) -> None:
        me = self.running
        following = self._next()
        if following is not me:
            self.running = following
            following.turn.release()
            if not me.over:
                self._wait_for_turn(me)
        if self._broken is not None and me is self._main:
            broken, self._broken = self._broken, None
            raise broken

    def _wait_for_turn(self, me: Strand) -> None:
        if not me.turn.acquire(timeout=PATIENCE):
            raise Deadlock(f"{me.name} had no turn for {PATIENCE} real seconds")

    def _next(self) -> Strand:
        """Return who goes on."""
        while True:
            while self._soon:
                callback = self._soon.popleft().callback
                if callback is not None:
                    callback()
            me = self.running
            ready = [strand for strand in self.strands if not strand.over and strand.can_go_on(self.time_now)]
            self._spins += 1
            if self._spins > SPINS:
                return self._give_up("livelock")
            if ready:
                if me in ready:
                    ready.remove(me)
                    ready.insert(0, me)
                if self._choose is None or len(ready) == 1:
                    return ready[0]
                return ready[self._choose(len(ready), ready[0] is me)]
            idlers = [strand for strand in self.strands if strand.idling]
            if idlers:
                return idlers[0]
            if not self._advance():
                return self._give_up("deadlock")

    def _advance(self) -> bool:
        """Move the clock to the next moment at which something happens."""
        while self._timers and self._timers[0][2].callback is None:
            heapq.heappop(self._timers)
        times = [strand.deadline for strand in self.strands if not strand.over and strand.deadline is not None]
        times += [self._timers[0][0]] if self._timers else []
        if not times or min(times) > START + HORIZON:
            return False
        self.time_now = max(self.time_now, min(times))
        self._spins = 0
        while self._timers and self._timers[0][0] <= self.time_now:
            self._soon.append(heapq.heappop(self._timers)[2])
        return True

    def _give_up(self, how: str) -> Strand:
        names = ", ".join(strand.name for strand in self.strands if not strand.over)
        stack = " > ".join(f"{frame.name}:{frame.lineno}" for frame in traceback.extract_stack()[-12:-4])
        text = f"{how} at {self.time_now}; there are: {names}; {self.running.name} is in {stack}"
        self._broken, self._spins = Deadlock(text), 0
        self._main.ready = None
        return self._main

    # The system.

    def now(self) -> float:
        return self.time_now

    def sleep(self, seconds: float) -> None:
        self.block(lambda: False, seconds)

    def lock(self) -> Any:
        return _Lock(self)

    def condition(self, lock: Any) -> Any:
        return _Condition(self, lock)

    def event(self) -> threading.Event:
        return _Event(self)

    def current_thread(self) -> Any:
        return self.running

    def start_thread(self, function: Callable[[], object], *, name: str, daemon: bool = True) -> Strand:
        strand = Strand(name, self)

        def run() -> None:
            self._wait_for_turn(strand)
            try:
                function()
            except Stopped:
                pass
            except BaseException as exc:
                strand.failure = exc
            strand.over = True
            self._switch()

        self.strands.append(strand)
        _Worker.give(run)
        return strand

    def heeds_flags(self, sock: Any) -> bool:
        return self._kernel

    def wait(self, sock: Any, mask: int, timeout: float | None) -> bool:
        self.point()
        sock.calls += 1
        try:
            return self.block(lambda: bool(sock.readiness() & mask), timeout)
        finally:
            sock.calls -= 1

    def selector(self) -> Any:
        return VirtualSelector(self)

    def waker(self) -> Any:
        return _Waker()

    def date(self) -> float:
        return 1.7e9 + self.time_now

    def getaddrinfo(self, host: Any, port: Any, **hints: Any) -> list[Any]:
        return [
            (place.family, socket.SOCK_STREAM, 0, "", sockname(place.ip, place.port)[1])
            for place in self.network._places(host, port)
        ]

    def socket(self, family: int, kind: int, proto: int = 0) -> Any:
        return self.network.socket(family)

    def runs_signal_handlers(self) -> bool:
        return False

    def create_server(self, address: Any, **options: Any) -> Any:
        host, port = address
        return self.network.listen([host] if host else ["0.0.0.0", "::"], port)

    def link(self, **conditions: Any) -> tuple[VirtualSocket, VirtualSocket]:
        """Return the two ends of a new connection: the client's, the server's."""
        link = Link(self, **conditions)
        return VirtualSocket(self, link.client), VirtualSocket(self, link.server)

    def finish(self) -> None:
        """Stop the steward; fail if a thread is left, or ended with an exception."""
        self._choose = None
        self.steward.stop()
        self.idle()
        left = [strand.name for strand in self.strands[1:] if not strand.over]
        failures = [strand.failure for strand in self.strands if strand.failure is not None]
        if failures:
            raise failures[0]
        assert not left, f"threads are left: {left}"

    def abandon(self) -> None:
        """End the threads of a test that has failed; otherwise they would complain during another test."""
        self._choose, self.steward._stopped = None, True
        for strand in self.strands[1:]:
            strand.stopping = True
        with contextlib.suppress(Deadlock):
            self.idle()


def stop_steward(system: System) -> None:
    """End the steward of a system, if there is one; a connection that is opened later gets a new one."""
    steward = vars(system).pop("steward", None)
    if steward is not None:
        steward.stop()


@contextlib.contextmanager
def _on(system: VirtualSystem) -> Iterator[VirtualSystem]:
    with using(system):
        try:
            yield system
        except BaseException:
            system.abandon()
            raise
        system.finish()


def run_threads(test: Callable[[VirtualSystem], _T], **options: Any) -> _T:
    """Run a test on a new system; fail if it leaves a thread."""
    with _on(VirtualSystem(**options)) as system:
        return test(system)


def every_order(test: Callable[[VirtualSystem], object], switches: int = 2, limit: int = 20_000, **options: Any) -> int:
    """Run a test again and again, until its threads have gone on in every order; return how many there were.

    Parameters:
        test: the test.
        switches: how often a thread may be interrupted although it could go on.
        limit: the number of orders after which the test fails.
        options: of the system.
    """
    script: list[tuple[int, int]] = []  # for each choice: the one taken, and the number of those that there were
    runs = 0
    while True:
        runs += 1
        assert runs <= limit, f"more than {limit} orders"
        taken: list[tuple[int, int]] = []
        interruptions = 0

        def choose(count: int, may_go_on: bool, script: Any = script, taken: Any = taken) -> int:
            nonlocal interruptions
            index = len(taken)
            if may_go_on and interruptions >= switches:
                count = 1
            choice = script[index][0] if index < len(script) else 0
            taken.append((choice, count))
            interruptions += may_go_on and choice > 0
            return choice

        try:
            run_threads(test, choose=choose, **options)
        except BaseException as exc:
            switched = {index: choice for index, (choice, _) in enumerate(taken) if choice}
            exc.add_note(f"order {runs}: {len(taken)} choices, of them {switched}")
            raise
        while taken and taken[-1][0] + 1 >= taken[-1][1]:
            taken.pop()
        if not taken:
            return runs
        script = [*taken[:-1], (taken[-1][0] + 1, taken[-1][1])]
