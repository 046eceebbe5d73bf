"""Listening sockets of servers for threads: making them, accepting connections, closing them.

May know: sockets, files of Unix sockets, the system. Must not know: connections, servers, TLS.

While the system has no descriptor or no memory for another connection, accepting would fail again and again, and use
all of a processor. So it pauses for a second, and the log says so once until it works again.
"""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import stat
from collections.abc import Callable, Mapping
from typing import Any, Final

from ..typing import LoggerLike
from ._system import READ, System, Waker, current

__all__ = ["BACKLOG", "Listener", "listen"]

# Default number of connections that the system keeps until they are accepted, as for asyncio.
BACKLOG: Final = 100

# Number of connections that are accepted in a row, before the thread looks whether it has to stop.
ACCEPTED_AT_ONCE: Final = 100

# Seconds for which nothing is accepted after the system had no resources for another connection.
RETRY_DELAY: Final = 1.0
OUT_OF_RESOURCES: Final = {errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM}

# Errors of a single client, which has gone before it was accepted; Linux also reports errors of the network here.
GONE: Final = {
    getattr(errno, name, errno.ECONNABORTED)
    for name in (
        "ECONNABORTED", "ECONNRESET", "EPERM", "EPROTO", "ENETDOWN", "ENOPROTOOPT", "EHOSTDOWN", "ENONET",
        "EHOSTUNREACH", "EOPNOTSUPP", "ENETUNREACH",
    )
}  # fmt: skip


class Listener:
    """A listening socket, and the thread that accepts connections there.

    Parameters:
        sock: the socket; it becomes non-blocking.
        path: path of a Unix socket whose file was made here; None if there is none.
    """

    def __init__(self, sock: socket.socket, path: str | bytes | None = None) -> None:
        sock.setblocking(False)
        self.socket = sock
        self._path = path
        # A process that was forked must not remove the file.
        self._owner = None if path is None else (os.getpid(), _identity(path))
        self._waker: Waker | None = None
        self._failing = False

    def accept_until(
        self,
        stopped: Callable[[], bool],
        accepted: Callable[[socket.socket, Any], None],
        logger: LoggerLike,
        look_every: float | None = None,
    ) -> None:
        """Accept connections in this thread.

        Parameters:
            stopped: returns whether to stop; it is asked again after :meth:`wake`.
            accepted: takes the socket of a new connection, and the address of its client.
            logger: where the server logs.
            look_every: seconds after which to look for signals that arrived at a bad moment; None for never.

        Raises:
            OSError: the socket is closed, or isn't a listening socket.
        """
        system = current()
        with contextlib.ExitStack() as exits:
            selector = exits.enter_context(system.selector())
            waker = system.waker()
            exits.callback(waker.close)
            self._waker = waker
            exits.callback(self._forget_waker)
            selector.register(waker.socket, READ)
            selector.register(self.socket, READ)
            while not stopped():
                selector.select(look_every)
                waker.clear()
                if not self._accept_some(stopped, accepted, logger):
                    self._pause(system, selector, waker, stopped)

    def _forget_waker(self) -> None:
        self._waker = None

    def _accept_some(
        self, stopped: Callable[[], bool], accepted: Callable[[socket.socket, Any], None], logger: LoggerLike
    ) -> bool:
        """Accept the connections that wait, up to a limit; return whether the system has resources for more."""
        for _ in range(ACCEPTED_AT_ONCE):
            if stopped():
                break
            try:
                sock, address = self.socket.accept()
            except BlockingIOError:
                break
            except OSError as exc:
                if exc.errno in OUT_OF_RESOURCES:
                    self._log_failure(exc, logger)
                    return False
                if exc.errno not in GONE:
                    raise
            else:
                self._failing = False
                accepted(sock, address)
        return True

    def _log_failure(self, exc: OSError, logger: LoggerLike) -> None:
        if not self._failing:
            logger.error("accepting connections failed; trying again every %g s: %s", RETRY_DELAY, exc)
        self._failing = True

    def _pause(self, system: System, selector: Any, waker: Waker, stopped: Callable[[], bool]) -> None:
        """Accept nothing for a while, unless the thread has to stop."""
        selector.unregister(self.socket)
        until = system.now() + RETRY_DELAY
        while not stopped() and system.now() < until:
            selector.select(max(until - system.now(), 0))
            waker.clear()
        selector.register(self.socket, READ)

    def wake(self) -> None:
        """Let the thread that accepts connections ask whether to stop; signal handlers may call this."""
        waker = self._waker
        if waker is not None:
            waker.wake()

    def disown(self) -> None:
        """Forget the thread that accepts connections, which is in the parent of this process."""
        self._waker = None

    def close(self) -> None:
        """Stop listening, and remove the file of a Unix socket that was made here."""
        if self._path is not None and self._owner == (os.getpid(), _identity(self._path)):
            with contextlib.suppress(OSError):
                os.unlink(self._path)
        self.socket.close()


def listen(arguments: Mapping[str, Any]) -> Listener:
    """Make a listening socket.

    Parameters:
        arguments: arguments of ``serve()``: ``sock``; or ``path`` and ``backlog``; or ``host``, ``port``, ``family``,
            ``backlog``, ``reuse_port``, ``dualstack_ipv6``.

    Raises:
        OSError: the address can't be used.
    """
    rest = dict(arguments)
    sock = rest.pop("sock", None)
    if sock is not None:
        return Listener(sock)
    rest.setdefault("backlog", BACKLOG)
    system = current()
    if "path" in rest:
        path = rest.pop("path")
        made = _listen_at(path, rest["backlog"], system)
        # An abstract socket has no file.
        return Listener(made, path if path[:1] not in ("\0", b"\0") else None)
    host, port = rest.pop("host"), rest.pop("port") or 0
    return Listener(system.create_server((host or "", port), **_families(host, rest)))


def _families(host: str | None, arguments: dict[str, Any]) -> dict[str, Any]:
    """Return the arguments of a TCP server, with the family that fits the host."""
    if "family" not in arguments and "dualstack_ipv6" not in arguments:
        if host:
            arguments["family"] = socket.AF_INET6 if ":" in host else socket.AF_INET
        elif socket.has_dualstack_ipv6():
            arguments |= {"family": socket.AF_INET6, "dualstack_ipv6": True}
    return arguments


def _identity(path: str | bytes) -> tuple[int, int] | None:
    """Return what distinguishes a file from another one of the same name; None if there is none."""
    try:
        status = os.stat(path)
    except OSError:
        return None
    return status.st_dev, status.st_ino


def _listen_at(path: str | bytes, backlog: int, system: System) -> socket.socket:
    """Return a Unix socket that listens at a path."""
    _remove_stale(path, system)
    sock: socket.socket = system.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        sock.bind(path)
        sock.listen(backlog)
    except BaseException:
        sock.close()
        raise
    return sock


def _remove_stale(path: str | bytes, system: System) -> None:
    """Remove the file of a Unix socket at which nobody listens any more, such as that of a process that was killed."""
    try:
        is_socket = stat.S_ISSOCK(os.stat(path).st_mode)
    except (OSError, ValueError):
        # There is no such file, or there can't be one, as for an abstract socket.
        return
    if is_socket:
        with contextlib.closing(system.socket(socket.AF_UNIX, socket.SOCK_STREAM)) as probe:
            probe.setblocking(False)
            if probe.connect_ex(path) == errno.ECONNREFUSED:
                os.unlink(path)
