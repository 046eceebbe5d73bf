"""A socket of a connection: calls that wait, calls that don't, and its end.

May know: sockets, how to wait for them. Must not know: TLS, WebSocket, who calls and when.

There are two kinds. With a socket of the kernel on POSIX, a single system call receives, and waits if it has to; a flag
tells it not to wait. With other sockets, such as those of gevent or those of Windows, one has to wait first and call
then. A connection reads in one thread and writes in another one, so nothing here needs a lock.

A thread that waits for a socket is woken by :meth:`Wire.cut`. A descriptor is closed only when no thread uses it,
because the system gives its number to the next socket. If a program closes or detaches the socket itself, nothing can
wake a thread that waits for it: the thread looks now and then. Each call asks the socket object for the number of its
descriptor, and so none reaches the next socket with that number.
"""

from __future__ import annotations

import contextlib
import socket
import struct
from collections.abc import Sequence
from typing import Any, Final

from ..typing import BytesLike
from ._system import DONTWAIT, LONG_SLICE, READ, WRITE, System

__all__ = ["NOW", "KernelWire", "Wire", "address_of", "is_passing", "wire_for"]

# The flags of a call that must not wait.
NOW: Final = (DONTWAIT,)

# A time for the kernel: a ``timeval``.
SLICE: Final = struct.pack("@ll", int(LONG_SLICE), 0)


class Wire:
    """A socket for which one has to wait before each call.

    Parameters:
        sock: the socket.
        system: the system to wait with.

    Attributes:
        sock: the same.
        gathers: whether a call gives several pieces to the kernel at once.
        kernel_receive, kernel_send: the calls of the kernel, for whom nothing more of this class is needed; None if one
            has to wait first.
    """

    __slots__ = ("_system", "kernel_receive", "kernel_send", "sock")

    gathers = False
    kernel_receive: Any
    kernel_send: Any

    def __init__(self, sock: Any, system: System) -> None:
        self.sock = sock
        self.kernel_receive = self.kernel_send = None
        self._system = system
        # Without the flag, only a socket that never waits has calls that don't wait.
        sock.settimeout(None if DONTWAIT else 0.0)
        if getattr(sock, "family", None) in (socket.AF_INET, socket.AF_INET6):
            # A message doesn't wait for the acknowledgement of the one before it. Some systems refuse this after the
            # peer is gone; a later call will report that.
            with contextlib.suppress(OSError):
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def wait(self, mask: int, timeout: float | None) -> bool:
        """Wait until the socket may be ready; see :meth:`~._system.System.wait`."""
        return self._system.wait(self.sock, mask, None if timeout is None else max(timeout, 0.0))

    def receive(self, got: list[bytes], size: int) -> None:
        """Wait for data, and append it to a list; nothing at the end of the stream.

        Parameters:
            got: the list. A signal handler may raise an exception just after a call of the kernel, and what the call
                returned would be lost, if the kernel's answer weren't stored in the same step.
            size: the most bytes to receive.
        """
        while not got:
            self.wait(READ, None)
            self.receive_now(got, size)

    def receive_now(self, got: list[bytes], size: int) -> None:
        """Append the data that is there to a list, or nothing at the end of the stream; see :meth:`receive`."""
        if self.wait(READ, 0):
            with contextlib.suppress(BlockingIOError):
                got.append(self.sock.recv(size))

    def send_now(self, taken: list[int], pieces: Sequence[BytesLike]) -> None:
        """Send as much as there is room for, and append the number of bytes to a list, if there was any room.

        Parameters:
            taken: the list; see :meth:`receive`.
            pieces: what to send.
        """
        if self.wait(WRITE, 0):
            with contextlib.suppress(BlockingIOError):
                taken.append(self.sock.send(pieces[0]))

    def end_sending(self) -> None:
        """Send the end of the stream, behind all data."""
        with contextlib.suppress(OSError):
            self.sock.shutdown(socket.SHUT_WR)

    def cut(self) -> None:
        """End the connection in both directions, so that all threads that wait for the socket go on."""
        with contextlib.suppress(OSError):
            self.sock.shutdown(socket.SHUT_RDWR)

    @property
    def gone(self) -> bool:
        """Whether the program has closed or detached the socket."""
        return bool(self.sock.fileno() < 0)

    def close(self) -> None:
        """Close the socket; no other thread may be using it."""
        self.sock.close()


class KernelWire(Wire):
    """A socket whose calls are those of the kernel: they wait, or a flag tells them not to; parameters as for Wire.

    A call that receives raises :exc:`BlockingIOError` when nothing has arrived for :data:`LONG_SLICE` seconds. This is
    an option of the kernel's socket, so it costs no system call for a message.
    """

    __slots__ = ()

    gathers = True

    def __init__(self, sock: Any, system: System) -> None:
        super().__init__(sock, system)
        self.kernel_receive, self.kernel_send = sock.recv, sock.send
        # Without this option, only closing the socket behind our back is noticed late.
        with contextlib.suppress(OSError):
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, SLICE)

    # map() calls the kernel and list.extend() stores its answer without a step of Python in between, in which a signal
    # handler could run.

    def receive(self, got: list[bytes], size: int) -> None:
        """Wait for data, or return in vain after a while; see :meth:`Wire.receive`."""
        try:
            got.extend(map(self.kernel_receive, (size,)))
        except (BlockingIOError, TimeoutError):
            if self.sock.gettimeout() is not None:
                # The program has set a timeout, perhaps of 0: asking again and again would take all processor time.
                self.wait(READ, LONG_SLICE)
            raise

    def receive_now(self, got: list[bytes], size: int) -> None:
        """Receive the data that is there; see :meth:`Wire.receive_now`."""
        with contextlib.suppress(BlockingIOError):
            got.extend(map(self.kernel_receive, (size,), NOW))

    def send_now(self, taken: list[int], pieces: Sequence[BytesLike]) -> None:
        """Send as much as there is room for; see :meth:`Wire.send_now`."""
        # suppress() would cost more than all else here.
        try:
            if len(pieces) == 1:
                taken.extend(map(self.kernel_send, pieces, NOW))
            else:
                taken.extend(map(self.sock.sendmsg, (pieces,), ((),), NOW))
        except BlockingIOError:
            return


def is_passing(error: OSError) -> bool:
    """Return whether a call of a socket had no time, so that it may be made again.

    Some programs set a timeout on the socket. It doesn't end the connection; a timeout of the kernel does.
    """
    return isinstance(error, BlockingIOError) or (isinstance(error, TimeoutError) and error.errno is None)


def address_of(sock: Any, name: str) -> Any:
    """Return an address of a socket; None if it knows none any more."""
    try:
        return getattr(sock, name)()
    except (OSError, AttributeError):
        return None


def wire_for(sock: Any, system: System) -> Wire:
    """Return the wire for a socket.

    Parameters:
        sock: the socket; it stays open until the wire is closed.
        system: the system to wait with.
    """
    return KernelWire(sock, system) if system.heeds_flags(sock) else Wire(sock, system)
