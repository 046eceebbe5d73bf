"""A server on a real socket that plays a script for each connection, in a thread; and TLS for it.

May know: sockets, threads, ``ssl``. Must not know: the library.
"""

from __future__ import annotations

import contextlib
import queue
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from typing import Any, TypeAlias

__all__ = ["PATIENCE", "Script", "read_until", "scripted", "secured"]

# Seconds for which a script waits for bytes, or a test for a thread: more than a healthy run needs.
PATIENCE = 30

#: What a server does with one connection; the socket is closed afterwards.
Script: TypeAlias = Callable[[Any], None]


@contextlib.contextmanager
def scripted(*scripts: Script, path: str | None = None) -> Iterator[int]:
    """Play scripts, one for each connection; give the port, or 0 for a Unix socket.

    Every script must have been played at the end of the block. What a script raises, the block raises.
    """
    with _listen(path) as listening:
        listening.settimeout(PATIENCE)
        outcome: queue.Queue[BaseException | None] = queue.Queue()

        def play() -> None:
            try:
                for script in scripts:
                    sock, _ = listening.accept()
                    sock.settimeout(PATIENCE)
                    with sock:
                        script(sock)
            except BaseException as exc:
                outcome.put(exc)
            else:
                outcome.put(None)

        thread = threading.Thread(target=play, name="scripted server")
        thread.start()
        try:
            yield 0 if path else listening.getsockname()[1]
        finally:
            exc = outcome.get(timeout=2 * PATIENCE)
            thread.join()
            if exc is not None:
                raise exc


def _listen(path: str | None) -> socket.socket:
    if path is None:
        return socket.create_server(("127.0.0.1", 0))
    listening = socket.socket(socket.AF_UNIX)
    listening.bind(path)
    listening.listen()
    return listening


def secured(context: ssl.SSLContext, script: Script) -> Script:
    """Play a script in TLS."""

    def play(sock: socket.socket) -> None:
        with context.wrap_socket(sock, server_side=True) as inside:
            script(inside)

    return play


def read_until(sock: Any, separator: bytes = b"\r\n\r\n") -> bytes:
    """Return all bytes up to the end of ``separator``, and what came with them."""
    data = b""
    while separator not in data:
        piece = sock.recv(4096)
        if not piece:
            raise EOFError(f"the stream ended after {data!r}")
        data += piece
    return data
