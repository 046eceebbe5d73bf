"""Sockets that a program brings, which aren't those of the system: TLS of ``ssl.SSLSocket``, tunnels, other objects.

May know: sockets, threads. Must not know: WebSocket, connections.

A connection reads in one thread while it writes in another one, doesn't wait when it says so, and watches many sockets
at once. ``ssl.SSLSocket`` can't be used by two threads, and other objects may only have ``recv`` and ``sendall``.
So a connection gets one end of a pair of sockets of the system. A thread or two carry all bytes between the other end
and the object. It costs threads and copies: ``ssl=`` of ``connect()`` and ``serve()`` needs neither.

If the program closes its object itself, nothing wakes a thread that waits for it. So a thread looks now and then
whether the object still has a descriptor, and ends the connection otherwise. Of objects that never had one, nobody can
know.
"""

from __future__ import annotations

import contextlib
import socket
from typing import Any, Final

from ._system import LONG_SLICE, READ, WRITE, System

__all__ = ["bridge", "needs_bridge"]

# Bytes that are carried at once.
PIECE: Final = 2**16


def needs_bridge(sock: Any, system: System) -> bool:
    """Return whether a connection can't use a socket itself."""
    if system.heeds_flags(sock):
        return False
    # Sockets with TLS keep data that they have decrypted, and so their descriptor doesn't tell whether there is any.
    return is_gone(sock) or hasattr(sock, "pending")


def bridge(sock: Any, system: System) -> Any:
    """Return a socket of the system that leads to another object.

    Parameters:
        sock: an ``ssl.SSLSocket``, or an object with ``recv``, ``sendall`` and ``close``; it is closed in the end.
        system: the system.
    """
    near, far = system.socketpair()
    if hasattr(sock, "pending") and isinstance(sock, socket.socket):
        carrier = _TLSCarrier(sock, far, system)
        system.start_thread(carrier.run, name="websockets TLS of a socket")
    else:
        # A thread of its own waits for each, however long nothing comes.
        for end in (far, sock):
            if hasattr(end, "settimeout"):
                end.settimeout(None)
        has_descriptor = not is_gone(sock)
        system.start_thread(lambda: _carry(sock, far), name="websockets bridge, receiving")
        system.start_thread(lambda: _carry_back(far, sock, has_descriptor, system), name="websockets bridge, sending")
    return near


def is_gone(sock: Any) -> bool:
    """Return whether an object has no descriptor: it was closed, or never had one."""
    try:
        return bool(sock.fileno() < 0)
    except (AttributeError, OSError, ValueError):
        return True


def _carry(sock: Any, far: socket.socket) -> None:
    """Carry what arrives to the connection, until the end."""
    with contextlib.suppress(OSError):
        while data := _received(sock):
            far.sendall(data)
    with contextlib.suppress(OSError):
        far.shutdown(socket.SHUT_WR)


def _received(sock: Any) -> bytes:
    """Wait for data, and return it, or nothing at the end."""
    while True:
        # The object may have a timeout of its own.
        with contextlib.suppress(TimeoutError):
            data: bytes = sock.recv(PIECE)
            return data


def _carry_back(far: socket.socket, sock: Any, watched: bool, system: System) -> None:
    """Carry what the connection sends, until the end; then the connection is over, or about to be.

    Parameters:
        far: the socket that leads to the connection.
        sock: the object.
        watched: whether the loss of its descriptor is the end, too.
        system: the system.
    """
    with contextlib.suppress(OSError):
        while not (watched and is_gone(sock)):
            if system.wait(far, READ, LONG_SLICE):
                if not (data := far.recv(PIECE)):
                    break
                sock.sendall(data)
    for end in (lambda: sock.shutdown(socket.SHUT_RDWR), sock.close, far.close):
        # That of TLS in other packages takes no argument.
        with contextlib.suppress(OSError, AttributeError, TypeError):
            end()


class _TLSCarrier:
    """Carries all bytes between a socket with TLS and a connection, in one thread, as two can't use that socket.

    Parameters:
        tls: the ``ssl.SSLSocket``.
        far: the socket that leads to the connection.
        system: the system.
    """

    def __init__(self, tls: Any, far: socket.socket, system: System) -> None:
        self._tls, self._far = tls, far
        self._selector = system.selector()
        tls.setblocking(False)
        far.setblocking(False)
        self._inward = self._outward = b""
        self._reading = self._writing = True  # whether more may come from the peer, and from the connection

    def run(self) -> None:
        """Carry until both directions have ended, or one can't go on."""
        # Import ssl only here, because some interpreters don't have it; whoever gets here has it.
        import ssl

        self._again = (ssl.SSLWantReadError, ssl.SSLWantWriteError, BlockingIOError)
        with contextlib.suppress(OSError, ValueError):
            wanted = self._carry_inward() | self._carry_outward()
            while (self._reading or self._inward or self._writing or self._outward) and not is_gone(self._tls):
                self._wait(wanted)
                wanted = self._carry_inward() | self._carry_outward()
        for sock in (self._selector, self._tls, self._far):
            with contextlib.suppress(OSError):
                sock.close()

    def _carry_inward(self) -> int:
        """Carry from the peer to the connection; return what to wait for on the side of the peer."""
        try:
            if not self._inward and self._reading:
                self._inward = self._tls.recv(PIECE)
                self._reading = bool(self._inward)
                if not self._reading:
                    self._far.shutdown(socket.SHUT_WR)
        except self._again:
            return READ
        with contextlib.suppress(BlockingIOError):
            if self._inward:
                self._inward = self._inward[self._far.send(self._inward) :]
        return 0 if self._inward else READ

    def _carry_outward(self) -> int:
        """Carry from the connection to the peer; return what to wait for on the side of the peer."""
        with contextlib.suppress(BlockingIOError):
            if not self._outward and self._writing:
                self._outward = self._far.recv(PIECE)
                self._writing = bool(self._outward)
                if not self._writing:
                    # Not that of ssl.SSLSocket, after which it would return ciphertext.
                    socket.socket.shutdown(self._tls, socket.SHUT_WR)
        try:
            if self._outward:
                self._outward = self._outward[self._tls.send(self._outward) :]
        except self._again:
            pass
        return WRITE if self._outward else 0

    def _wait(self, wanted: int) -> None:
        """Wait until something can be carried."""
        near = (WRITE if self._inward else 0) | (READ if self._writing and not self._outward else 0)
        for sock, mask in ((self._tls, wanted if self._reading else wanted & WRITE), (self._far, near)):
            if mask:
                self._selector.register(sock, mask)
        self._selector.select(LONG_SLICE)
        for sock in [key.fileobj for key in self._selector.get_map().values()]:
            self._selector.unregister(sock)
