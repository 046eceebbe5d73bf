"""The world outside of the front-end for threads: clock, locks, threads, and waiting for sockets.

May know: the modules ``threading``, ``signal``, ``select``, ``selectors``, ``socket`` and ``time``. Must not know:
connections, TLS, WebSocket.

All other modules of this front-end ask :func:`current` for what they need. There are two reasons. A test replaces the
system by one whose clock is virtual and whose threads take turns. And each function is looked up when it is called, so
that the patches of gevent apply, whenever they are made.

Locks and sockets are objects of the system, which are used directly: so a message pays nothing for this module.
"""

from __future__ import annotations

import contextlib
import math
import select
import selectors
import signal
import socket
import threading
import time
import types
from collections.abc import Callable, Iterator
from typing import Any, Final, Protocol

__all__ = [
    "DONTWAIT",
    "LONGEST_WAIT",
    "LONG_SLICE",
    "READ",
    "WRITE",
    "Condition",
    "Lock",
    "System",
    "Thread",
    "Waker",
    "current",
    "using",
    "using_here",
]

# What to wait for; both may be combined.
READ: Final = selectors.EVENT_READ
WRITE: Final = selectors.EVENT_WRITE

# The flag for a call that must not wait; Windows has none.
DONTWAIT: Final = getattr(socket, "MSG_DONTWAIT", 0)

# In seconds. poll(), selectors and conditions can't wait longer than about 24 days. Whoever waits longer looks now and
# then.
LONGEST_WAIT: Final = 1e6

# In seconds. Closing a socket may not end the wait of another thread, which has to look now and then. Without poll(),
# it has to look more often.
SLICE: Final = 0.1
LONG_SLICE: Final = 1.0


class Lock(Protocol):
    """A reentrant lock."""

    def __enter__(self) -> Any: ...
    def __exit__(self, exc_type: Any, exc: Any, traceback: Any, /) -> Any: ...


class Condition(Protocol):
    """A condition of a lock, which is held during each call."""

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until notified; return False if the timeout passed, in seconds."""
        ...

    def notify_all(self) -> None:
        """Notify all threads that wait."""
        ...


class Thread(Protocol):
    """A thread that was started."""

    def join(self, timeout: float | None = None) -> None:
        """Wait until it has ended, for at most ``timeout`` seconds."""
        ...

    def is_alive(self) -> bool:
        """Return whether it hasn't ended."""
        ...


class Waker:
    """Ends the wait of a thread that waits for several sockets, from another thread.

    Attributes:
        socket: the socket to wait for.
    """

    def __init__(self) -> None:
        self.socket, self._other = socket.socketpair()
        self.socket.setblocking(False)
        self._other.setblocking(False)

    def wake(self) -> None:
        """End the wait, or the next one."""
        # If the buffer is full, a wake-up is pending anyway. After close(), nobody waits.
        with contextlib.suppress(OSError):
            self._other.send(b"\0")

    def clear(self) -> None:
        """Forget the wake-ups so far."""
        with contextlib.suppress(OSError):
            self.socket.recv(4096)

    def close(self) -> None:
        """Close both sockets."""
        self.socket.close()
        self._other.close()


class System:
    """The system that the interpreter runs on; tests have another one.

    Attributes:
        steward: the thread that serves all connections; None until there is one.
    """

    steward: Any = None

    # -------------------------------------------------------------------------------------------------- time, threads

    def now(self) -> float:
        """Return the time of a monotonic clock, in seconds."""
        return time.monotonic()

    def date(self) -> float:
        """Return the seconds since the epoch, for dates that a peer names."""
        return time.time()

    def sleep(self, seconds: float) -> None:
        """Wait for some time."""
        time.sleep(seconds)

    def lock(self) -> Lock:
        """Return a new reentrant lock: a signal handler may use the connection that it interrupts."""
        return threading.RLock()

    def condition(self, lock: Any) -> Condition:
        """Return a new condition of a lock."""
        return threading.Condition(lock)

    def event(self) -> threading.Event:
        """Return a new event, which isn't set."""
        return threading.Event()

    def thread_id(self) -> int:
        """Return a number that identifies the running thread."""
        return self.get_ident()

    @property
    def get_ident(self) -> Callable[[], int]:
        """The function that returns a number which identifies the running thread."""
        return threading.get_ident

    def runs_signal_handlers(self) -> bool:
        """Return whether signal handlers run in this thread, as they do in the main thread alone.

        A signal that arrives just before this thread begins to wait doesn't end the wait: the interpreter has noted it,
        and the system doesn't know. So whoever waits for long should look now and then.
        """
        return threading.current_thread() is threading.main_thread()

    def in_subinterpreter(self) -> bool:
        """Return whether this is the main thread of a subinterpreter.

        The documented sign is that signal handlers can be set in the main thread of the main interpreter alone. Here,
        none changes.
        """
        if threading.current_thread() is not threading.main_thread():
            return False
        with contextlib.suppress(ValueError):
            with contextlib.suppress(TypeError):  # the handler isn't one of Python's
                signal.signal(signal.SIGTERM, signal.getsignal(signal.SIGTERM))
            return False
        return True

    def start_thread(self, function: Callable[[], object], *, name: str, daemon: bool = True) -> Thread:
        """Start a thread.

        Parameters:
            function: what it runs.
            name: its name, for debuggers.
            daemon: whether the program may end before the thread does.

        Raises:
            RuntimeError: the system has no room for another thread.
        """
        thread = threading.Thread(target=function, name=name, daemon=daemon)
        thread.start()
        return thread

    def current_thread(self) -> Any:
        """Return an object for the running thread, with ``is_alive()``."""
        return threading.current_thread()

    # --------------------------------------------------------------------------------------------------------- sockets

    def heeds_flags(self, sock: Any) -> bool:
        """Return whether ``recv`` and ``send`` of a socket are the calls of the kernel, which heed :data:`DONTWAIT`.

        The sockets of gevent wait by other means, whatever the flags, and those of ``ssl`` take no flags.
        """
        kind = type(sock)
        return DONTWAIT != 0 and all(
            isinstance(getattr(kind, name, None), types.MethodDescriptorType) for name in ("recv", "send")
        )

    def wait(self, sock: Any, mask: int, timeout: float | None) -> bool:
        """Wait until a socket may be ready.

        Parameters:
            sock: the socket.
            mask: what to wait for, :data:`READ` or :data:`WRITE` or both.
            timeout: seconds to wait, at least 0; None for no limit.

        Returns:
            False if the timeout passed. True if it is time to try again, even if that may still be in vain.
        """
        if sock.fileno() < 0:
            return True
        if not hasattr(select, "poll"):
            return self._wait_without_poll(sock, mask, timeout)
        poller = select.poll()
        poller.register(sock, (select.POLLIN if mask & READ else 0) | (select.POLLOUT if mask & WRITE else 0))
        left = math.inf if timeout is None else timeout
        while left > LONG_SLICE and not poller.poll(LONG_SLICE * 1000):
            left -= LONG_SLICE
            if sock.fileno() < 0:
                return True
        return left > LONG_SLICE or bool(poller.poll(math.ceil(left * 1000)))

    def _wait_without_poll(self, sock: Any, mask: int, timeout: float | None) -> bool:
        whole = timeout is None or timeout > SLICE
        # Windows reports a failure to connect in the third list.
        writing = [sock] if mask & WRITE else []
        ready = select.select([sock] if mask & READ else [], writing, writing, SLICE if whole else timeout)
        return whole or any(ready)

    def selector(self) -> selectors.BaseSelector:
        """Return a new selector, to wait for many sockets."""
        return selectors.DefaultSelector()

    def waker(self) -> Waker:
        """Return a new waker."""
        return Waker()

    # ----------------------------------------------------------------------------------------------- opening sockets

    def getaddrinfo(self, host: Any, port: Any, **hints: Any) -> list[Any]:
        """Look up a name; see :func:`socket.getaddrinfo`. Nothing can interrupt it."""
        return socket.getaddrinfo(host, port, **hints)

    def socket(self, family: int, kind: int, proto: int = 0) -> Any:
        """Return a new socket; see :class:`socket.socket`."""
        return socket.socket(family, kind, proto)

    def socketpair(self) -> tuple[Any, Any]:
        """Return two sockets that are connected; see :func:`socket.socketpair`."""
        return socket.socketpair()

    def create_server(self, address: Any, **options: Any) -> Any:
        """Return a socket that listens; see :func:`socket.create_server`."""
        return socket.create_server(address, **options)


_current: System = System()


class _Here(threading.local):
    """The system of a thread alone."""

    system: System | None = None


_here = _Here()


def current() -> System:
    """Return the system to use; each connection keeps the one that it began with."""
    return _here.system or _current


@contextlib.contextmanager
def using(system: System) -> Iterator[None]:
    """Use another system for what begins in the block; for tests."""
    global _current
    before, _current = _current, system
    try:
        yield
    finally:
        _current = before


@contextlib.contextmanager
def using_here(system: System) -> Iterator[None]:
    """Use another system for what begins in the block in this thread, and in no other one; for tests."""
    before, _here.system = _here.system, system
    try:
        yield
    finally:
        _here.system = before
