"""Opening a TCP connection in a thread: look up a name, try its addresses concurrently, before a deadline.

May know: the system's sockets, selectors and clock. Must not know: WebSocket, TLS, proxies; the order and the times of
attempts, and the meaning of failures: :mod:`websockets._rules.happy_eyeballs` decides that.

Looking up a name is the one step that no deadline can end: the system does it, and nothing can interrupt it.
"""

from __future__ import annotations

import contextlib
import errno
import math
import os
import socket
from collections.abc import Iterator
from typing import Any, Final

from .._rules.addresses import naming_path
from .._rules.happy_eyeballs import Pace, Race, naming
from ._line import seconds_until, step
from ._system import LONGEST_WAIT, WRITE, System, current

__all__ = ["open_connection", "open_unix_connection"]

# The text of the error when the deadline passes.
CONNECTING: Final = "timed out while connecting"

# What connect_ex() returns for an attempt that goes on, on POSIX and on Windows.
UNDER_WAY: Final = frozenset((0, errno.EINPROGRESS, getattr(errno, "WSAEWOULDBLOCK", errno.EINPROGRESS)))

# A result of getaddrinfo(): family, type, protocol, canonical name, and the address itself.
_Info = tuple[Any, ...]


def open_connection(
    host: Any, port: Any, deadline: float | None, *, text: str = CONNECTING, **arguments: Any
) -> socket.socket:
    """Connect to the first address of a host that answers.

    Parameters:
        host: name or address.
        port: port, or name of a service.
        deadline: the time until which to try; None for no limit.
        text: text of the error when the deadline passes.
        **arguments: ``timeout``, seconds for each attempt; ``source_address``, a local address for the socket;
            ``happy_eyeballs_delay``, ``interleave`` and ``all_errors``, as in asyncio.

    Returns:
        A socket in blocking mode.

    Raises:
        OSError: the name can't be resolved, or none of its addresses can be reached.
        ExceptionGroup: with ``all_errors``, if none of its addresses can be reached.
        TimeoutError: the deadline has passed.
    """
    system, pace = current(), Pace.taken_from(arguments)
    seconds_until(deadline, text)
    found = system.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    if not found:
        raise OSError(f"{host} has no address")
    with contextlib.closing(_Attempts(system, **arguments)) as attempts:
        return _race(Race(found, pace), attempts, deadline, text)


def open_unix_connection(path: str | bytes, deadline: float | None, timeout: float | None = None) -> socket.socket:
    """Connect to a Unix socket.

    Parameters:
        path: path of the socket.
        deadline: the time until which to try; None for no limit.
        timeout: seconds for the attempt; None for no limit.

    Raises:
        OSError: nobody listens there.
        TimeoutError: the deadline has passed, or the timeout.
    """
    wait = min(seconds_until(deadline, CONNECTING), math.inf if timeout is None else timeout)
    sock: socket.socket = current().socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        sock.settimeout(None if wait > LONGEST_WAIT else wait)
        with step(CONNECTING), naming_path(path):
            sock.connect(path)
    except BaseException:
        sock.close()
        raise
    return sock


# ------------------------------------------------------------------------------------------------------------- the race


def _race(contest: Race[_Info], attempts: _Attempts, deadline: float | None, text: str) -> socket.socket:
    """Return the first socket that is connected."""
    while not contest.lost:
        for info in contest.due(now := attempts.system.now()):
            if (error := attempts.begin(info, now)) is not None:
                contest.failed(error)
        wait = min(contest.next_timeout - now, attempts.next_timeout - now, seconds_until(deadline, text))
        for outcome in attempts.outcomes(wait):
            if not isinstance(outcome, OSError):
                return outcome
            contest.failed(outcome)
    raise contest.error()


class _Attempts:
    """The attempts to connect that are under way.

    Parameters:
        system: the system.
        timeout: seconds for each attempt; None for no limit.
        source_address: local address of each socket; None for any.
    """

    def __init__(self, system: System, timeout: float | None = None, source_address: Any = None) -> None:
        self.system = system
        self._timeout = math.inf if timeout is None else timeout
        self._source_address = source_address
        self._selector = system.selector()
        # The time when each is given up, the earliest first.
        self._until: dict[socket.socket, float] = {}

    @property
    def next_timeout(self) -> float:
        """The time when the first attempt is given up; infinity for never."""
        return next(iter(self._until.values()), math.inf)

    def begin(self, info: _Info, now: float) -> OSError | None:
        """Begin to connect to an address; return the error if that fails at once."""
        family, kind, proto, _, address = info
        try:
            sock = self.system.socket(family, kind, proto)
            try:
                self._start(sock, address)
            except BaseException:
                sock.close()
                raise
        except OSError as exc:
            return naming(exc, address)
        self._until[sock] = now + self._timeout
        self._selector.register(sock, WRITE, address)
        return None

    def _start(self, sock: socket.socket, address: tuple[Any, ...]) -> None:
        sock.setblocking(False)
        # So that a message doesn't wait for the acknowledgement of the previous one.
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if self._source_address is not None:
            sock.bind(self._source_address)
        code = sock.connect_ex(address)
        if code not in UNDER_WAY:
            raise OSError(code, os.strerror(code))

    def outcomes(self, wait: float) -> Iterator[socket.socket | OSError]:
        """Wait until attempts end; yield a socket in blocking mode for each success, and an error for each failure.

        Parameters:
            wait: seconds to wait at most; infinity for no limit.
        """
        # Not every system can wait for no socket at all, and there is nothing to wait for.
        ready = self._selector.select(None if wait > LONGEST_WAIT else max(wait, 0)) if self._until else ()
        for key, _ in ready:
            sock: Any = key.fileobj
            if code := sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
                yield self._failed(sock, OSError(code, os.strerror(code)))
            else:
                sock.setblocking(True)
                self._forget(sock)
                yield sock
        now = self.system.now()
        for sock in [sock for sock, until in self._until.items() if until <= now]:
            yield self._failed(sock, TimeoutError(errno.ETIMEDOUT, "timed out"))

    def _failed(self, sock: socket.socket, error: OSError) -> OSError:
        """Close a socket; return the error with its address."""
        address = self._forget(sock)
        sock.close()
        return naming(error, address)

    def _forget(self, sock: socket.socket) -> tuple[Any, ...]:
        address: tuple[Any, ...] = self._selector.unregister(sock).data
        del self._until[sock]
        return address

    def close(self) -> None:
        """Give up all attempts."""
        self._selector.close()
        for sock in self._until:
            sock.close()
