"""An HTTP proxy and a SOCKS proxy in threads, for the command: each serves one client.

May know: sockets, the formats of both requests. Must not know: the library.
"""

from __future__ import annotations

import contextlib
import socket
import ssl
import struct
import threading
from collections.abc import Callable, Iterator

__all__ = ["http_proxy", "socks_proxy"]


def _carry(source: socket.socket, target: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(2**16):
            target.sendall(data)
        target.shutdown(socket.SHUT_WR)


def _ask_http(client: socket.socket) -> tuple[str, int]:
    head = b""
    while b"\r\n\r\n" not in head:
        head += client.recv(2**12)
    host, _, port = head.split()[1].decode().rpartition(":")
    return host, int(port)


def _ask_socks(client: socket.socket) -> tuple[str, int]:
    """Read a request (RFC 1928) with a name or an IPv4 address, and without authentication."""
    client.recv(2**12)
    client.sendall(b"\x05\x00")
    request = client.recv(2**12)
    host = request[5:-2].decode() if request[3] == 3 else socket.inet_ntoa(request[4:8])
    return host, struct.unpack("!H", request[-2:])[0]


@contextlib.contextmanager
def _proxy(ask: Callable[[socket.socket], tuple[str, int]], answer: bytes, tls: ssl.SSLContext | None) -> Iterator[int]:
    listening = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        with listening, contextlib.suppress(OSError):
            client = listening.accept()[0]
            if tls is not None:
                client = tls.wrap_socket(client, server_side=True)
            with client, socket.create_connection(ask(client)) as server:
                client.sendall(answer)
                back = threading.Thread(target=_carry, args=(server, client))
                back.start()
                _carry(client, server)
                back.join()

    thread = threading.Thread(target=serve)
    thread.start()
    yield listening.getsockname()[1]
    thread.join()


def http_proxy(answer: bytes, tls: ssl.SSLContext | None = None) -> contextlib.AbstractContextManager[int]:
    """Run an HTTP proxy that opens a tunnel and gives this answer; it returns its port."""
    return _proxy(_ask_http, answer, tls)


def socks_proxy() -> contextlib.AbstractContextManager[int]:
    """Run a SOCKS proxy that opens a tunnel; it returns its port."""
    return _proxy(_ask_socks, b"\x05\x00\x00\x01\x00\x00\x00\x00\x00\x00", None)
