"""asyncio's loops as Windows has them, on another system: a proactor that is made of a selector.

The loop and the transports are asyncio's own: :mod:`asyncio.proactor_events`. What is missing elsewhere is the
proactor, which in CPython is written for I/O completion ports. This one tries each operation, and if it would have to
wait, waits until the selector says that it wouldn't. An operation that is over is told in ``select()``, as there.

Charter: knows asyncio and sockets. It is imported as ``asyncio.unix_events``; see :mod:`sitecustomize`.
"""

from __future__ import annotations

import asyncio
import errno
import os
import selectors
import socket
import subprocess
import sys
import threading
from asyncio import base_subprocess, events, proactor_events, selector_events
from collections.abc import Callable
from typing import Any

READ, WRITE = selectors.EVENT_READ, selectors.EVENT_WRITE

# What a socket says when an operation would have to wait.
WAIT = (BlockingIOError, InterruptedError)


class Operation(asyncio.Future[Any]):
    """The future of an operation that has begun.

    Parameters:
        proactor: where it goes on.
        sock: a socket, or what else has a descriptor.
        event: what it waits for.
        step: goes on with it; returns the result, or raises that it would have to wait.
    """

    def __init__(self, proactor: Proactor, sock: Any, event: int, step: Callable[[], object]) -> None:
        super().__init__(loop=proactor.loop)
        self.proactor, self.number, self.event, self.step = proactor, sock.fileno(), event, step
        # Keeps the descriptor from being closed by the garbage collector, and given away again.
        self.sock = sock

    def go_on(self) -> bool:
        """Try once more; return whether it is over."""
        try:
            result = self.step()
        except WAIT:
            return False
        except BrokenPipeError as exc:
            # Windows knows no such error of a connection that is gone.
            self.set_exception(ConnectionResetError(errno.ECONNRESET, str(exc)))
        except OSError as exc:
            self.set_exception(exc)
        else:
            self.set_result(result)
        return True

    def cancel(self, msg: Any = None) -> bool:
        """Give up the operation."""
        self.proactor.forget(self)
        return super().cancel(msg)


class Proactor:
    """Carries out operations on sockets and pipes, and tells when they are over."""

    loop: asyncio.AbstractEventLoop

    def __init__(self) -> None:
        self.selector: selectors.BaseSelector = selectors.DefaultSelector()
        # By descriptor and event.
        self.pending: dict[tuple[int, int], Operation] = {}
        self.over: list[Operation] = []

    # What the loop calls.

    def set_loop(self, loop: asyncio.AbstractEventLoop) -> None:
        """Called once, first of all."""
        self.loop = loop

    def select(self, timeout: float | None = None) -> list[Operation]:
        """Wait until an operation is over, and return those that are."""
        if not self.over:
            for key, events in self.selector.select(timeout):
                for event in (READ, WRITE):
                    operation = self.pending.get((key.fd, event))
                    if operation is not None and event & events and operation.go_on():
                        self.forget(operation)
                        self.over.append(operation)
        over, self.over = self.over, []
        return over

    def close(self) -> None:
        """Give everything up."""
        for operation in list(self.pending.values()):
            operation.cancel()
        self.selector.close()

    def _stop_serving(self, sock: socket.socket) -> None:
        operation = self.pending.get((sock.fileno(), READ))
        if operation is not None:
            operation.cancel()

    # What operations call.

    def begin(self, sock: Any, event: int, step: Callable[[], object]) -> Operation:
        """Begin an operation. It may be over at once."""
        operation = Operation(self, sock, event, step)
        if not operation.go_on():
            key = operation.number, event
            assert key not in self.pending, f"two operations at once: {self.pending[key]!r}"
            self.pending[key] = operation
            self.watch(operation.number)
        return operation

    def forget(self, operation: Operation) -> None:
        """An operation is over, or given up."""
        key = operation.number, operation.event
        if self.pending.get(key) is operation:
            del self.pending[key]
            self.watch(operation.number)

    def watch(self, number: int) -> None:
        """Have the selector watch for what operations on a descriptor wait for."""
        events = sum(event for event in (READ, WRITE) if (number, event) in self.pending)
        known = self.selector.get_map().get(number)
        if known is None and events:
            self.selector.register(number, events)
        elif known is not None and events:
            self.selector.modify(number, events)
        elif known is not None:
            self.selector.unregister(number)

    # The operations.

    def recv(self, sock: Any, size: int, flags: int = 0) -> Operation:
        """Receive bytes."""
        if isinstance(sock, socket.socket):
            return self.begin(sock, READ, lambda: sock.recv(size, flags))
        return self.begin(sock, READ, lambda: os.read(sock.fileno(), size))

    def recv_into(self, sock: Any, buffer: Any, flags: int = 0) -> Operation:
        """Receive bytes into a buffer; the result is their number."""
        if isinstance(sock, socket.socket):
            return self.begin(sock, READ, lambda: sock.recv_into(buffer, flags=flags))
        return self.begin(sock, READ, lambda: os.readv(sock.fileno(), [buffer]))

    def recvfrom(self, sock: socket.socket, size: int, flags: int = 0) -> Operation:
        """Receive a datagram."""
        return self.begin(sock, READ, lambda: sock.recvfrom(size, flags))

    def sendto(self, sock: socket.socket, data: bytes, flags: int = 0, addr: Any = None) -> Operation:
        """Send a datagram."""
        return self.begin(sock, WRITE, lambda: sock.sendto(data, flags, addr))

    def send(self, sock: Any, data: bytes, flags: int = 0) -> Operation:
        """Send all of some bytes; the result is their number."""
        rest = memoryview(data)

        def step() -> int:
            nonlocal rest
            while rest:
                sent = sock.send(rest, flags) if isinstance(sock, socket.socket) else os.write(sock.fileno(), rest)
                rest = rest[sent:]
            return len(data)

        return self.begin(sock, WRITE, step)

    def accept(self, listening: socket.socket) -> Operation:
        """Accept a connection."""

        def step() -> tuple[socket.socket, Any]:
            sock, _ = listening.accept()
            try:
                sock.settimeout(listening.gettimeout())
                # Of a connection that was reset meanwhile there is none: the operation fails.
                return sock, sock.getpeername()
            except OSError:
                sock.close()
                raise

        return self.begin(listening, READ, step)

    def connect(self, sock: socket.socket, address: Any) -> Operation:
        """Connect."""
        begun = False

        def step() -> socket.socket:
            nonlocal begun
            code = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) if begun else sock.connect_ex(address)
            if code == errno.EINPROGRESS:
                begun = True
                raise BlockingIOError
            if code:
                raise OSError(code, os.strerror(code))
            return sock

        return self.begin(sock, WRITE, step)


# What type checkers know of it isn't all.
_ProactorLoop: Any = proactor_events.BaseProactorEventLoop


class ProactorEventLoop(_ProactorLoop):  # type: ignore[misc]
    """asyncio's loop for a proactor."""

    _self_reading_future: Any

    def __init__(self, proactor: Proactor | None = None) -> None:
        super().__init__(Proactor() if proactor is None else proactor)

    def run_forever(self) -> None:
        """Run; what another thread calls wakes the loop meanwhile."""
        assert self._self_reading_future is None
        self.call_soon(self._loop_self_reading)
        try:
            super().run_forever()
        finally:
            if self._self_reading_future is not None:
                self._self_reading_future.cancel()
                self._self_reading_future = None

    async def _make_subprocess_transport(
        self, protocol: Any, args: Any, shell: bool, stdin: Any, stdout: Any, stderr: Any, bufsize: int, **more: Any
    ) -> Any:
        waiter = self.create_future()
        transport = SubprocessTransport(self, protocol, args, shell, stdin, stdout, stderr, bufsize, waiter, **more)
        await waiter
        return transport


class SubprocessTransport(base_subprocess.BaseSubprocessTransport):
    """The transport of a process; a thread waits for its end."""

    def _start(
        self, args: Any, shell: bool, stdin: Any, stdout: Any, stderr: Any, bufsize: int, **options: Any
    ) -> None:
        self._proc = process = subprocess.Popen(
            args, shell=shell, stdin=stdin, stdout=stdout, stderr=stderr, bufsize=bufsize, **options
        )
        for pipe in (process.stdin, process.stdout, process.stderr):
            if pipe is not None:
                os.set_blocking(pipe.fileno(), False)
        threading.Thread(target=self._await_end, args=(process,), daemon=True).start()

    def _await_end(self, process: subprocess.Popen[Any]) -> None:
        self._loop.call_soon_threadsafe(self._process_exited, process.wait())


class _WindowsSelectorEventLoop(selector_events.BaseSelectorEventLoop):
    """asyncio's loop for a selector, which Windows has too."""


SelectorEventLoop = _WindowsSelectorEventLoop


_POLICY: Any = getattr(events, "_BaseDefaultEventLoopPolicy", None) or events.BaseDefaultEventLoopPolicy


class WindowsSelectorEventLoopPolicy(_POLICY):  # type: ignore[misc]
    """Chooses the loop for a selector."""

    _loop_factory = SelectorEventLoop


class WindowsProactorEventLoopPolicy(_POLICY):  # type: ignore[misc]
    """Chooses the loop for a proactor, as Windows does."""

    _loop_factory = ProactorEventLoop


DefaultEventLoopPolicy = _DefaultEventLoopPolicy = WindowsProactorEventLoopPolicy
EventLoop = ProactorEventLoop
IocpProactor = Proactor

# As asyncio has them, in each version.
_NAMES = ["SelectorEventLoop", "ProactorEventLoop", "IocpProactor"]
_NAMES += ["WindowsSelectorEventLoopPolicy", "WindowsProactorEventLoopPolicy"]
_NAMES += ["EventLoop"] if sys.version_info >= (3, 13) else []
_NAMES += ["_DefaultEventLoopPolicy"] if sys.version_info >= (3, 14) else ["DefaultEventLoopPolicy"]
__all__ = tuple(_NAMES)
