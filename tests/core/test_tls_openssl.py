"""The TLS channel against others: Python's SSLSocket, and OpenSSL's own programs, over real sockets."""

from __future__ import annotations

import contextlib
import shutil
import socket
import ssl
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import get_args

import pytest

from _kit.certificates import AUTHORITY, Certificate, Version, client_context, server_context
from websockets._session import tls
from websockets._session.tls import OUTGOING_LIMIT, Incoming, TLSChannel

# Seconds for which a test waits for its peer: more than a healthy run needs.
PATIENCE = 30

DATA = bytes(range(256)) * 2000  # 512,000 bytes

every_version = pytest.mark.parametrize("version", get_args(Version))
programs = pytest.mark.skipif(shutil.which("openssl") is None, reason="there is no openssl command")


class Front:
    """The smallest front-end: a channel on a blocking socket."""

    def __init__(self, sock: socket.socket, channel: TLSChannel) -> None:
        sock.settimeout(PATIENCE)
        self.sock, self.channel = sock, channel
        channel.start()
        self.flush()

    def flush(self) -> None:
        for piece in self.channel.data_to_send():
            self.sock.sendall(piece)

    def receive(self) -> None:
        if data := self.sock.recv(2**16):
            self.channel.receive_data(data)
        else:
            self.channel.receive_eof()

    def shake_hands(self) -> None:
        while self.channel.incoming is Incoming.HANDSHAKE:
            self.receive()
            self.flush()

    def send(self, data: bytes) -> None:
        view = memoryview(data)
        while view:
            view = view[self.channel.send(view) :]
            self.flush()

    def read(self) -> bytes:
        """Some more plaintext; nothing at its end."""
        while not (data := self.channel.read()) and not self.channel.ended:
            self.flush()
            self.receive()
        self.flush()
        return data

    def read_until(self, end: bytes) -> bytes:
        data = bytearray()
        while not data.endswith(end) and (piece := self.read()):
            data += piece
        return bytes(data)

    def read_all(self) -> bytes:
        data = bytearray()
        while piece := self.read():
            data += piece
        return bytes(data)


def client(sock: socket.socket, version: Version | None = None) -> Front:
    return Front(sock, TLSChannel(client_context(version=version), server_side=False, server_hostname="localhost"))


def server(sock: socket.socket, version: Version | None = None) -> Front:
    return Front(sock, TLSChannel(server_context(version=version), server_side=True))


# ----------------------------------------------------------------------------------------------------- Python's sockets


@contextlib.contextmanager
def beside(peer: Callable[[socket.socket], None]) -> Iterator[socket.socket]:
    """A socket whose other end is in the hands of a thread; errors there are raised here."""
    errors: list[BaseException] = []
    ours, theirs = socket.socketpair()
    theirs.settimeout(PATIENCE)

    def run() -> None:
        try:
            with theirs:
                peer(theirs)
        except BaseException as exc:
            errors.append(exc)

    thread = threading.Thread(target=run)
    with ours:
        thread.start()
        try:
            yield ours
        finally:
            ours.close()
            thread.join(PATIENCE)
    assert not thread.is_alive()
    if errors:
        raise errors[0]


def receive_exactly(sock: ssl.SSLSocket, size: int) -> bytes:
    data = bytearray()
    while len(data) < size and (piece := sock.recv(2**16)):
        data += piece
    return bytes(data)


@every_version
@pytest.mark.parametrize("server_side", [True, False])
def test_an_sslsocket(version: Version, server_side: bool) -> None:
    """Both ends say something, and close in good order."""

    def echo(sock: socket.socket) -> None:
        context = server_context(version=version) if server_side else client_context(version=version)
        hostname = None if server_side else "localhost"
        with context.wrap_socket(sock, server_side=server_side, server_hostname=hostname) as secure:
            secure.sendall(receive_exactly(secure, len(DATA)))
            # Waits for our close_notify.
            secure.unwrap().close()

    with beside(echo) as sock:
        front = client(sock, version) if server_side else server(sock, version)
        front.shake_hands()
        assert front.channel.version() == version.replace("_", ".")
        front.send(DATA)
        assert front.read_all() == DATA
        assert front.channel.incoming is Incoming.CLOSED
        front.channel.close()
        front.flush()


@every_version
def test_an_sslsocket_that_is_cut_off(version: Version) -> None:
    def leave(sock: socket.socket) -> None:
        with server_context(version=version).wrap_socket(sock, server_side=True) as secure:
            secure.sendall(b"last words")

    with beside(leave) as sock:
        front = client(sock, version)
        front.shake_hands()
        assert front.read_all() == b"last words"
        assert (front.channel.incoming, front.channel.failure) == (Incoming.TRUNCATED, None)


@every_version
def test_an_sslsocket_is_told_of_a_wrong_certificate(version: Version) -> None:
    def fail(sock: socket.socket) -> None:
        context = server_context(Certificate("example.com"), version)
        with pytest.raises(ssl.SSLError, match="ALERT"), context.wrap_socket(sock, server_side=True) as secure:
            secure.recv(1)

    with beside(fail) as sock:
        front = client(sock, version)
        front.shake_hands()
        assert isinstance(front.channel.failure, ssl.SSLCertVerificationError)


# ------------------------------------------------------------------------------------------------- OpenSSL's programs


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("certificates")
    (folder / "authority.pem").write_text(AUTHORITY.text, "ascii")
    Certificate("localhost").write(folder)
    return folder


class Program:
    """An ``openssl`` command and the pipes to it."""

    def __init__(self, *arguments: str | Path) -> None:
        self._process = subprocess.Popen(
            ["openssl", *arguments], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        )
        # Then its output ends, and the thread that waits for it goes on.
        self._limit = threading.Timer(PATIENCE, self._process.kill)
        self._limit.start()

    def __enter__(self) -> Program:
        return self

    def __exit__(self, *args: object) -> None:
        self._limit.cancel()
        self._process.kill()
        self._process.communicate()

    def type(self, text: str) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(text.encode())
        self._process.stdin.flush()

    def read_until(self, text: str) -> str:
        """Its output up to a text, or to its end."""
        assert self._process.stdout is not None
        output = b""
        while text.encode() not in output and (byte := self._process.stdout.read(1)):
            output += byte
        return output.decode()


@contextlib.contextmanager
def s_client(folder: Path, version: Version, *arguments: str) -> Iterator[tuple[Program, Front]]:
    """OpenSSL's client, connected to a channel."""
    flag = "-" + version.replace("TLSv", "tls")
    with socket.create_server(("127.0.0.1", 0)) as listening:
        listening.settimeout(PATIENCE)
        target = f"127.0.0.1:{listening.getsockname()[1]}"
        command = ("s_client", "-connect", target, "-CAfile", folder / "authority.pem", "-verify_return_error", flag)
        with Program(*command, "-servername", "localhost", *arguments) as program:
            sock, _ = listening.accept()
            with sock:
                front = server(sock, version)
                front.shake_hands()
                yield program, front


@contextlib.contextmanager
def s_server(folder: Path, version: Version, *arguments: str) -> Iterator[tuple[Program, Front]]:
    """OpenSSL's server, connected to a channel."""
    flag = "-" + version.replace("TLSv", "tls")
    certificate = folder / "certificate.pem"
    with Program("s_server", "-accept", "127.0.0.1:0", "-cert", certificate, flag, *arguments) as program:
        program.read_until("ACCEPT ")
        port = int(program.read_until("\n").strip().rpartition(":")[2])
        with socket.create_connection(("127.0.0.1", port), timeout=PATIENCE) as sock:
            front = client(sock, version)
            front.shake_hands()
            yield program, front


@programs
@every_version
def test_s_client(folder: Path, version: Version) -> None:
    with s_client(folder, version) as (program, front):
        program.type("hello\n")
        assert front.read() == b"hello\n"
        front.send(b"Good morning\n")
        assert "Good morning" in program.read_until("Good morning")
        # Q: end the connection.
        program.type("Q\n")
        assert front.read() == b""
        assert front.channel.incoming is Incoming.CLOSED


@programs
@every_version
def test_s_server(folder: Path, version: Version) -> None:
    with s_server(folder, version) as (program, front):
        front.send(b"hello\n")
        assert "hello" in program.read_until("hello")
        program.type("Good morning\n")
        assert front.read_until(b"\n") == b"Good morning\n"
        front.channel.close()
        front.flush()
        assert front.read() == b""
        assert front.channel.ended


@programs
def test_s_client_asks_for_renegotiation(folder: Path) -> None:
    with s_client(folder, "TLSv1_2") as (program, front):
        program.type("before\n")
        assert front.read() == b"before\n"
        program.type("R\n")
        assert front.read() == b""
        assert "the peer asked for renegotiation" in str(front.channel.failure)


@programs
def test_s_server_asks_for_renegotiation(folder: Path) -> None:
    with s_server(folder, "TLSv1_2") as (program, front):
        program.type("before\n")
        assert front.read_until(b"\n") == b"before\n"
        program.type("r\n")
        assert front.read() == b""
        assert "the peer asked for renegotiation" in str(front.channel.failure)


@programs
@pytest.mark.parametrize("command", ["k", "K"])
def test_s_client_updates_its_keys(folder: Path, command: str) -> None:
    """``k`` is an update; ``K`` asks for one of ours, too."""
    with s_client(folder, "TLSv1_3") as (program, front):
        for number in range(3):
            program.type(f"{command}\n")
            assert "KEYUPDATE" in program.read_until("KEYUPDATE")
            program.type(f"message {number}\n")
            assert front.read_until(b"\n") == f"message {number}\n".encode()
            front.send(f"answer {number}\n".encode())
            assert f"answer {number}" in program.read_until(f"answer {number}")


@programs
@pytest.mark.parametrize("command", ["k", "K"])
def test_s_server_updates_its_keys(folder: Path, command: str) -> None:
    with s_server(folder, "TLSv1_3") as (program, front):
        program.type("begin\n")
        assert front.read_until(b"\n") == b"begin\n"
        for number in range(3):
            # It takes all that it reads at once for one command, so the update has to be here first.
            program.type(f"{command}\n")
            front.receive()
            program.type(f"message {number}\n")
            assert front.read_until(b"\n") == f"message {number}\n".encode()
            front.send(f"answer {number}\n".encode())
            assert f"answer {number}" in program.read_until(f"answer {number}")


@programs
def test_flood_of_key_updates(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A peer that asks for updates and doesn't read our answers isn't read any more."""
    with s_client(folder, "TLSv1_3") as (program, front):
        channel = front.channel

        def ask() -> int:
            """Ask for an update; returns how many bytes our answer has, if it was made."""
            program.type("K\n")
            program.read_until("KEYUPDATE")
            front.receive()
            before = channel.unsent
            assert channel.read() == b""
            return channel.unsent - before

        # OpenSSL keeps the first answer for later.
        ask()
        sizes = {ask() for _ in range(30)}
        (size,) = sizes
        assert 0 < size < 100
        # The same as if there were many more.
        channel._pieces_size += OUTGOING_LIMIT
        assert ask() == 0
        assert not channel.wants_data
        assert channel._input.pending
        channel._pieces_size -= OUTGOING_LIMIT
        front.flush()
        assert channel.wants_data
        assert channel.read() == b""
        assert (channel.unsent, channel._input.pending) == (size, 0)
        # Data in between count as an excuse.
        monkeypatch.setattr(tls, "SILENT_LIMIT", channel._silent)
        program.type("data\n")
        assert front.read() == b"data\n"
        while not channel.ended:
            assert channel._silent <= tls.SILENT_LIMIT
            ask()
        assert str(channel.failure).startswith("the peer sent too many records without data")
        front.flush()
