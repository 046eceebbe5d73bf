"""Bytes to and from a peer before there is a connection: deadlines and their texts, TLS, TLS in TLS, failures.

Over real sockets; the time, where it matters, is that of a fake clock.
"""

from __future__ import annotations

import contextlib
import errno
import math
import socket
import ssl
from collections.abc import Iterator
from typing import Any, NoReturn

import pytest

from _kit.certificates import Certificate, Version, client_context, server_context
from _kit.scripted import PATIENCE, Script, scripted, secured
from _kit.tls import every_version
from websockets._session.tls import TLSChannel
from websockets.sync._line import Line, is_late, seconds_until, step
from websockets.sync._system import System, using

# More than a channel takes at once.
BIG = bytes(range(256)) * 512


@contextlib.contextmanager
def line_to(script: Script, deadline: float | None = None) -> Iterator[Line]:
    """A line to a peer that follows a script."""
    with scripted(script) as port:
        line = Line(socket.create_connection(("127.0.0.1", port)), deadline)
        try:
            yield line
        finally:
            line.close()


def echo(sock: Any) -> None:
    """Send back what comes, until the end."""
    while data := sock.recv(2**16):
        sock.sendall(data)


def receive(line: Line, size: int) -> bytes:
    data = b""
    while len(data) < size:
        piece = line.receive("late")
        assert piece
        data += piece
    return data


def exchange(line: Line, data: bytes = b"hello") -> None:
    """Send something to an echo, and receive it."""
    line.send(data, "late")
    assert receive(line, len(data)) == data


class Late(System):
    """The time is up when somebody asks again."""

    asked = 0

    def now(self) -> float:
        self.asked += 1
        return 0.0 if self.asked < 2 else 100.0


# ------------------------------------------------------------------------------------------------------- without TLS


@pytest.mark.parametrize("deadline", [None, math.inf, System().now() + 3600])
def test_bytes(deadline: float | None) -> None:
    with line_to(echo, deadline) as line:
        exchange(line)
        assert line.channel is None
        assert line.release() is line.sock
        assert line.sock.gettimeout() is None


def test_the_end() -> None:
    with line_to(lambda sock: None) as line:
        assert line.receive("late") == b""


def test_no_time_left() -> None:
    with line_to(lambda sock: None, System().now()) as line:
        for call in (line.receive, lambda text: line.send(b"hello", text)):
            with pytest.raises(TimeoutError, match=r"^late$") as raised:
                call("late")
            assert is_late(raised.value)
            assert raised.value.__suppress_context__ or raised.value.__context__ is None


class Strange(socket.socket):
    """A socket that fails as it is told."""

    error: BaseException

    def recv(self, *_: Any) -> NoReturn:
        raise self.error

    sendall = recv


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (TimeoutError("timed out"), "^late$"),
        (TimeoutError(errno.ETIMEDOUT, "Connection timed out"), "Connection timed out"),
        (ConnectionResetError(errno.ECONNRESET, "reset"), "reset"),
    ],
)
def test_errors_of_the_socket(error: OSError, text: str) -> None:
    with Strange() as sock:
        sock.error = error
        line = Line(sock, System().now() + 3600)
        with pytest.raises(type(error), match=text):
            line.receive("late")
        with pytest.raises(type(error), match=text):
            line.send(b"", "late")
        assert 0 < (sock.gettimeout() or 0) <= 3600


def test_seconds() -> None:
    now = System().now()
    assert seconds_until(None, "late") == seconds_until(now + 10**8, "late") == math.inf
    assert 0 < seconds_until(now + 60, "late") <= 60
    with pytest.raises(TimeoutError, match=r"^late$"):
        seconds_until(now, "late")


def test_steps() -> None:
    with pytest.raises(OSError, match=r"^other$"), step("late"):
        raise OSError("other")
    assert not is_late(OSError("other"))


# ---------------------------------------------------------------------------------------------------------- with TLS


@every_version
def test_tls(version: Version) -> None:
    with line_to(secured(server_context(version=version), echo)) as line:
        line.start_tls("late", ssl=client_context(version=version), server_hostname="localhost")
        assert isinstance(line.channel, TLSChannel)
        assert line.channel.version() == version.replace("_", ".")
        exchange(line)
        exchange(line, BIG)


def test_the_end_of_tls() -> None:
    def end(sock: ssl.SSLSocket) -> None:
        with contextlib.suppress(OSError):
            sock.unwrap()

    for script in (end, lambda sock: None):
        with line_to(secured(server_context(), script)) as line:
            line.start_tls("late", ssl=client_context(), server_hostname="localhost")
            assert line.receive("late") == b""
            assert line.receive("late") == b""


def test_context_by_default(monkeypatch: pytest.MonkeyPatch) -> None:
    context = client_context()
    monkeypatch.setattr(ssl, "create_default_context", lambda: context)
    with line_to(secured(server_context(), echo)) as line:
        line.start_tls("late", ssl=True, server_hostname="localhost")
        exchange(line)


@pytest.mark.parametrize("name", [None, ""])
def test_no_name(name: str | None) -> None:
    unchecked = client_context()
    unchecked.check_hostname = False
    with line_to(secured(server_context(), echo)) as line:
        line.start_tls("late", ssl=unchecked, server_hostname=name)
        exchange(line)
    with line_to(lambda sock: None) as line:
        with pytest.raises(ValueError, match="server_hostname is needed"):
            line.start_tls("late", ssl=client_context(), server_hostname=name)


def expect_alert(alert: str) -> Script:
    def play(sock: socket.socket) -> None:
        with pytest.raises(ssl.SSLError, match=alert):
            server_context().wrap_socket(sock, server_side=True, do_handshake_on_connect=True).recv(1)

    return play


def test_a_certificate_that_is_not_trusted() -> None:
    with line_to(expect_alert("(?i)unknown[ _]ca")) as line:
        with pytest.raises(ssl.SSLCertVerificationError):
            line.start_tls("late", ssl=ssl.create_default_context(), server_hostname="localhost")
        assert line.channel is None


def test_an_alert_that_cannot_be_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    """The reason counts."""
    other = server_context(Certificate("elsewhere"))

    def shake(sock: socket.socket) -> None:
        with contextlib.suppress(OSError):
            other.wrap_socket(sock, server_side=True)

    with line_to(shake) as line:
        send = line._send_all
        sent: list[bytes] = []

        def once(data: bytes, text: str) -> None:
            if sent:
                raise ConnectionResetError("reset")
            sent.append(data)
            send(data, text)

        monkeypatch.setattr(line, "_send_all", once)
        with pytest.raises(ssl.SSLCertVerificationError):
            line.start_tls("late", ssl=client_context(), server_hostname="localhost")


def test_a_hello_that_cannot_be_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    with line_to(lambda sock: None) as line:

        def fail(data: bytes, text: str) -> NoReturn:
            raise ConnectionResetError("reset")

        monkeypatch.setattr(line, "_send_all", fail)
        with pytest.raises(ConnectionResetError):
            line.start_tls("late", ssl=client_context(), server_hostname="localhost")


def test_no_tls_there() -> None:
    def speak(sock: socket.socket) -> None:
        sock.recv(2**16)
        sock.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        while sock.recv(2**16):
            pass

    with line_to(speak) as line, pytest.raises(ssl.SSLError):
        line.start_tls("late", ssl=client_context(), server_hostname="localhost")


def test_a_peer_that_hangs_up() -> None:
    def hang_up(sock: socket.socket) -> None:
        sock.recv(2**16)

    with line_to(hang_up) as line:
        with pytest.raises(ssl.SSLEOFError, match="ended the connection during the TLS handshake"):
            line.start_tls("late", ssl=client_context(), server_hostname="localhost")


def test_a_silent_peer() -> None:
    def wait(sock: socket.socket) -> None:
        while sock.recv(2**16):
            pass

    with using(Late()), line_to(wait, 50.0) as line:
        with pytest.raises(TimeoutError, match=r"^late$"):
            line.start_tls("late", ssl=client_context(), server_hostname="localhost")


def test_records_that_are_broken() -> None:
    def break_it(sock: ssl.SSLSocket) -> None:
        with socket.socket(fileno=sock.detach()) as raw:
            raw.settimeout(PATIENCE)
            raw.sendall(b"\x17\x03\x03\x00\x20" + bytes(32))
            while raw.recv(2**16):
                pass

    with line_to(secured(server_context(), break_it)) as line:
        line.start_tls("late", ssl=client_context(), server_hostname="localhost")
        with pytest.raises(ssl.SSLError):
            line.receive("late")
