"""Which proxy curl takes: whether the table that ours is compared with says the truth.

Charter: runs curl with each setting of ``tests/core/proxy_settings.py``, beside a proxy that notes what it is asked.
"""

from __future__ import annotations

import base64
import contextlib
import os
import shutil
import socket
import subprocess
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from types import TracebackType

import pytest

from core import proxy_settings

# Seconds for a step of an exchange. Only failures ever wait that long.
TIMEOUT = 10


class Listener:
    """A server that notes which proxy the first client takes it for, and refuses everything."""

    def __init__(self) -> None:
        self.sock = socket.create_server(("127.0.0.1", 0))
        self.port: int = self.sock.getsockname()[1]
        self.asked: list[str] = []
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> Listener:
        self._thread.start()
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        # Wakes up the thread, which would else wait for a client.
        self.sock.shutdown(socket.SHUT_RDWR)
        self._thread.join(TIMEOUT)
        self.sock.close()

    def _run(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self.sock.accept()
                with client:
                    client.settimeout(TIMEOUT)
                    self.asked.append(answer(client))


def answer(client: socket.socket) -> str:
    """Refuse what a client asks for; return which proxy it takes us for, as in the table."""
    data = client.recv(4096)
    if data.startswith(b"\x16"):  # a handshake of TLS
        return "https"
    if data.startswith(b"\x05"):
        return answer_socks5(client, data)
    if data.startswith(b"\x04"):
        client.sendall(b"\x00\x5b" + bytes(6))
        # An address that can't be one says that a name follows.
        return "socks4a" if data[4:7] == bytes(3) else "socks4"
    client.sendall(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
    values = [line.split()[-1] for line in data.split(b"\r\n") if line.lower().startswith(b"proxy-authorization:")]
    return " ".join(["http", *(base64.b64decode(value).decode() for value in values)])


def answer_socks5(client: socket.socket, greeting: bytes) -> str:
    """Do what :func:`answer` does for version 5 (RFC 1928, RFC 1929)."""
    credentials = []
    if 2 in greeting[2:]:
        client.sendall(b"\x05\x02")
        data = client.recv(4096)
        end = 2 + data[1]
        credentials = [f"{data[2:end].decode()}:{data[end + 1 :].decode()}"]
        client.sendall(b"\x01\x00")
    else:
        client.sendall(b"\x05\x00")
    request = client.recv(4096)
    client.sendall(b"\x05\x02\x00\x01" + bytes(6))
    return " ".join(["socks5h" if request[3] == 3 else "socks5", *credentials])


def ask_curl(environment: dict[str, str], target: str) -> str:
    """Return which proxy curl takes for a target."""
    with Listener() as proxy, Listener() as server:
        variables = {name: value.replace("HERE", f"localhost:{proxy.port}") for name, value in environment.items()}
        # Whatever isn't for the proxy ends at the server.
        command = ["curl", "-sSk", "-m", f"{TIMEOUT}", "--connect-to", f"::localhost:{server.port}", target]
        subprocess.run(command, env=variables | {"PATH": os.environ["PATH"]}, capture_output=True, check=False)
    return proxy.asked[0] if proxy.asked else "direct" if server.asked else "error"


def questions() -> Iterator[tuple[dict[str, str], str, str]]:
    """Give each environment, target, and outcome in the table."""
    for environment, _, curl, _ in proxy_settings.SETTINGS:
        yield environment, "http://example.com/", curl[0]
        yield environment, "https://example.com/", curl[1]
    for no_proxy, targets in proxy_settings.EXCEPTIONS:
        for target, letters in targets.items():
            outcome = {"D": "direct", "P": "http", "E": "error"}[letters[1]]
            uri = target if "://" in target else f"http://{target}"
            yield proxy_settings.environment(no_proxy), f"{uri}/", outcome


def test_curl() -> None:
    if shutil.which("curl") is None:
        pytest.skip("curl is not installed: see debian-packages.txt")
    rows = list(questions())
    with ThreadPoolExecutor(4) as pool:
        outcomes = list(pool.map(lambda row: ask_curl(row[0], row[1]), rows))
    wrong = [(row, outcome) for row, outcome in zip(rows, outcomes, strict=True) if row[2] != outcome]
    assert wrong == []
