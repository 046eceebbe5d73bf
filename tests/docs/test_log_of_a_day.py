"""The log of a normal day on the page about logging is what servers write."""

from __future__ import annotations

import contextlib
import http
import logging
import queue
import re
import socket
import ssl
import struct
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from _kit.sockets import anonymous_tls
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.http11 import Request, Response
from websockets.sync.client import connect
from websockets.sync.server import ServerConnection, basic_auth, serve
from websockets.typing import Origin

PAGE = Path(__file__).parents[2] / "docs" / "logging.md"

# Seconds to wait for a line of the log.
PATIENCE = 30

# What differs from day to day.
VARIABLE = (
    (r"\b[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}\b", "ID"),
    (r"\b(?:127\.0\.0\.1|10\.0\.0\.9):\d+", "PEER"),
    (r"\[Errno \d+\] Connection reset by peer", "RESET"),
    (r"\b\d+\.\d s\b", "TIME"),
    (r"\(_ssl\.c:\d+\)", "PLACE"),
)


def alike(line: str) -> str:
    """A line of a log without what differs from day to day."""
    for pattern, name in VARIABLE:
        line = re.sub(pattern, name, line)
    return line


class Kept(logging.Handler):
    """Keeps the lines of the log."""

    def __init__(self) -> None:
        super().__init__(logging.INFO)
        self.lines = queue.SimpleQueue[str]()

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.put(f"{record.levelname} {record.getMessage()}")

    def take(self, count: int) -> list[str]:
        return sorted(alike(self.lines.get(timeout=PATIENCE)) for _ in range(count))


@pytest.fixture
def log() -> Iterator[Kept]:
    logger, kept = logging.getLogger("websockets.server"), Kept()
    before = logger.level
    logger.setLevel(logging.INFO)
    logger.addHandler(kept)
    yield kept
    logger.removeHandler(kept)
    logger.setLevel(before)


def handler(connection: ServerConnection) -> None:
    for message in connection:
        if message == "fail":
            raise LookupError("no such user")
        connection.send(message)


def process_request(connection: ServerConnection, request: Request) -> Response | None:
    if request.path == "/health":
        return connection.respond(http.HTTPStatus.OK, "OK\n")
    if request.path == "/old":
        return connection.respond(http.HTTPStatus.MOVED_PERMANENTLY, "", headers={"Location": "/chat"})
    if request.path == "/private":
        return basic_auth("private", ("me", "secret"))(connection, request)
    return None


def knock(port: int, data: bytes = b"") -> None:
    """Connect, send something, and leave when the server does."""
    with socket.create_connection(("127.0.0.1", port)) as sock:
        sock.sendall(data)
        if data:
            with contextlib.suppress(ConnectionResetError):
                while sock.recv(4096):
                    pass


def chat(port: int, path: str, *messages: str, origin: str | None = None) -> None:
    sent = None if origin is None else Origin(origin)
    with connect(f"ws://127.0.0.1:{port}{path}", proxy=None, origin=sent) as connection:
        for message in messages:
            connection.send(message)
            connection.recv()


def refused(port: int, path: str, origin: str | None = None) -> None:
    with pytest.raises(InvalidStatus):
        chat(port, path, origin=origin)


def cut_off(port: int, path: str, *messages: str) -> None:
    with pytest.raises(ConnectionClosed):
        chat(port, path, *messages)


def vanish(port: int) -> None:
    connection = connect(f"ws://127.0.0.1:{port}/chat", proxy=None)
    with connection:
        connection.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        connection.abort()


def distrust(port: int) -> None:
    with socket.create_connection(("127.0.0.1", port)) as sock, contextlib.suppress(OSError):
        ssl.create_default_context().wrap_socket(sock, server_hostname="localhost")


# What happens, and how many lines tell of it.
DAY: list[tuple[Callable[[int], None], int]] = [
    (knock, 0),
    (lambda port: knock(port, b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n"), 1),
    (lambda port: knock(port, b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"), 1),
    (lambda port: knock(port, b"\x16\x03\x01\x02\x00\r\n\r\n"), 1),
    (lambda port: chat(port, "/chat", "one", "two"), 2),
    (lambda port: chat(port, "/old"), 3),
    (lambda port: refused(port, "/private"), 1),
    (lambda port: refused(port, "/chat", origin="https://elsewhere.example"), 1),
    (vanish, 3),
    (lambda port: cut_off(port, "/chat", "x" * 2_000_000), 3),
    (lambda port: cut_off(port, "/chat", "fail"), 3),
]


def written(log: Kept) -> Iterator[str]:
    """What two servers write on a normal day, one without TLS and one with it."""
    trusted, _ = anonymous_tls()
    origins = [None, Origin("https://chat.example")]
    with serve(handler, "127.0.0.1", 0, process_request=process_request, origins=origins) as server:
        serving = threading.Thread(target=server.serve_forever)
        serving.start()
        yield from log.take(1)
        for happens, count in DAY:
            happens(server.socket.getsockname()[1])
            yield from log.take(count)
        server.shutdown()
        serving.join()
        yield from log.take(2)
    with serve(handler, "127.0.0.1", 0, ssl=trusted) as server:
        serving = threading.Thread(target=server.serve_forever)
        serving.start()
        log.take(1)
        for happens in (knock, lambda port: knock(port, b"GET / HTTP/1.1\r\n\r\n")):
            happens(server.socket.getsockname()[1])
            yield from log.take(1)
        server.shutdown()
        serving.join()


def test_the_log_of_a_normal_day(log: Kept) -> None:
    lines = list(written(log))
    page = PAGE.read_text("utf-8").partition("\n## A normal day\n")[2]
    shown = re.findall(r"^.* websockets\.server (\w+ .*)$", page.partition("\n## ")[0], re.MULTILINE)
    assert sorted(map(alike, shown)) == sorted(lines)
