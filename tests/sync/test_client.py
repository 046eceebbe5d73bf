"""Clients for threads: connecting, its deadline, redirects, every way in which it fails, and what is left behind.

The servers are scripted, over real sockets.
"""

from __future__ import annotations

import contextlib
import inspect
import logging
import math
import signal
import socket
import ssl
import sys
import threading
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NoReturn

import pytest

from _kit import wire
from _kit.certificates import Certificate, client_context, server_context
from _kit.platforms import needs_signals, needs_unix_sockets
from _kit.scripted import PATIENCE, Script, Visitor, echo, let_in, read_until, refuse, scripted, secured
from websockets._rules import option_table as allowed
from websockets.client import backoff, process_exception
from websockets.exceptions import (
    ConnectionClosedError,
    InvalidMessage,
    InvalidStatus,
    InvalidURI,
    NegotiationError,
    SecurityError,
)
from websockets.extensions.permessage_deflate import ClientPerMessageDeflateFactory
from websockets.http11 import USER_AGENT
from websockets.protocol import State
from websockets.sync import client
from websockets.sync._line import Line
from websockets.sync._system import System
from websockets.sync.client import ClientConnection, connect, reconnect, unix_connect, unix_reconnect
from websockets.sync.connection import Connection
from websockets.typing import Origin, Subprotocol

# Seconds that a silent peer has, of real time; one that answers may need some of them on a busy machine.
LATE = 0.05
SOON = 1.0


class Clock:
    """A clock that stands still: only a wait for a peer takes too long, and each may take all the time that is left."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.time = 1000.0
        monkeypatch.setattr(System, "now", lambda system: self.time)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock(monkeypatch)


@pytest.fixture(autouse=True)
def no_proxy_of_the_system(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("urllib.request.getproxies", dict)
    for name in ("ws_proxy", "http_proxy", "https_proxy", "socks_proxy", "all_proxy"):
        monkeypatch.delenv(name, raising=False)


class Watched(socket.socket):
    """A socket that tells when it is closed."""

    def __init__(self, *arguments: int) -> None:
        super().__init__(*arguments)
        self.closed = threading.Event()

    def close(self) -> None:
        super().close()
        self.closed.set()


@pytest.fixture(autouse=True)
def sockets(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Watched]]:
    """The sockets of clients; none of them may be open at the end of a test."""
    made: list[Watched] = []

    def recording(self: System, *arguments: int) -> socket.socket:
        made.append(Watched(*arguments))
        return made[-1]

    monkeypatch.setattr(System, "socket", recording)
    yield made
    # The steward may have to stop watching one before it is closed.
    for sock in made:
        assert sock.closed.wait(PATIENCE)
        assert sock.fileno() == -1


def at(port: int, path: str = "/", scheme: str = "ws") -> str:
    return f"{scheme}://127.0.0.1:{port}{path}"


def fails(kind: type[BaseException], port: int, text: str | None = None, **options: Any) -> Any:
    """Connect, and return the error."""
    with pytest.raises(kind, match=text) as raised:
        connect(at(port), **options)
    return raised.value


# ----------------------------------------------------------------------------------------------------------- connecting


def test_messages() -> None:
    with scripted(echo) as port:
        with connect(at(port), compression=None) as websocket:
            assert type(websocket) is ClientConnection
            assert websocket.state is State.OPEN
            websocket.send("hello")
            assert websocket.recv() == "hello"
            websocket.send(b"hello")
            assert websocket.recv() == b"hello"
            assert websocket.remote_address == ("127.0.0.1", port)
            assert websocket.response is not None
            assert websocket.response.status_code == 101
        assert (websocket.close_code, websocket.state) == (1000, State.CLOSED)


def test_request() -> None:
    asked = []

    def look(sock: socket.socket) -> None:
        visitor = Visitor(sock)
        asked.append(visitor.asked)
        visitor.accept({"Sec-WebSocket-Protocol": "chat"})
        visitor.part()

    with scripted(look) as port:
        with connect(
            f"ws://user:secret@127.0.0.1:{port}/path?query",
            origin=Origin("https://example.com"),
            subprotocols=[Subprotocol("chat"), Subprotocol("other")],
            additional_headers={"X-One": "1"},
        ) as websocket:
            assert websocket.subprotocol == "chat"
            assert websocket.request is not None
            assert websocket.request.headers["X-One"] == "1"
    (request,) = asked
    assert request.target == "/path?query"
    assert [name for name, _ in request.headers] == [
        "Host",
        "Authorization",
        "Origin",
        "Upgrade",
        "Connection",
        "Sec-WebSocket-Key",
        "Sec-WebSocket-Version",
        "Sec-WebSocket-Extensions",
        "Sec-WebSocket-Protocol",
        "X-One",
        "User-Agent",
    ]
    assert request["Host"] == [f"127.0.0.1:{port}"]
    assert request["User-Agent"] == [USER_AGENT]
    assert request["Sec-WebSocket-Extensions"] == ["permessage-deflate; client_max_window_bits"]


def test_no_headers_that_may_be_left_out() -> None:
    def look(sock: socket.socket) -> None:
        visitor = Visitor(sock)
        assert not visitor.asked["User-Agent"]
        assert not visitor.asked["Sec-WebSocket-Extensions"]
        visitor.accept()
        visitor.part()

    with scripted(look) as port, connect(at(port), user_agent_header=None, compression=None):
        pass


def test_compression() -> None:
    def compressed(sock: socket.socket) -> None:
        visitor = Visitor(sock)
        visitor.accept({"Sec-WebSocket-Extensions": "permessage-deflate"})
        row = visitor.read_frame()
        assert row.rsv == 4
        sock.sendall(wire.frame(wire.TEXT, row.payload, rsv=4))
        visitor.part()

    with scripted(compressed) as port, connect(at(port), max_size=2000) as websocket:
        websocket.send("hello " * 100)
        assert websocket.recv() == "hello " * 100


def test_extensions_of_the_user() -> None:
    def look(sock: socket.socket) -> None:
        visitor = Visitor(sock)
        assert visitor.asked["Sec-WebSocket-Extensions"] == ["permessage-deflate; server_max_window_bits=9"]
        visitor.accept()
        visitor.part()

    mine = ClientPerMessageDeflateFactory(server_max_window_bits=9, client_max_window_bits=None)
    with scripted(look) as port, connect(at(port), extensions=[mine]):
        pass


def test_data_behind_the_response() -> None:
    def eager(sock: socket.socket) -> None:
        visitor = Visitor(sock)
        visitor.accept(more=wire.text("first") + wire.text("second"))
        visitor.part()

    with scripted(eager) as port, connect(at(port)) as websocket:
        assert websocket.recv() == "first"
        assert websocket.recv() == "second"


def test_left_by_an_exception() -> None:
    codes = []

    def look(sock: socket.socket) -> None:
        visitor = Visitor(sock)
        visitor.accept()
        codes.append(visitor.part())

    with scripted(look) as port:
        with pytest.raises(LookupError), connect(at(port)):
            raise LookupError
    assert codes == [1011]


def test_limits_of_the_connection() -> None:
    def large(sock: socket.socket) -> None:
        visitor = Visitor(sock)
        visitor.accept(more=wire.text("too large"))
        visitor.part()

    options: dict[str, Any] = {
        "max_size": 5,
        "max_queue": (8, 2),
        "ping_interval": None,
        "ping_timeout": 3,
        "close_timeout": 4,
    }
    with scripted(large) as port, connect(at(port), idle_timeout=100, **options) as websocket:
        assert (websocket.ping_interval, websocket.ping_timeout, websocket.close_timeout) == (None, 3, 4)
        assert websocket._ws_session.timing.idle_timeout == 100
        with pytest.raises(ConnectionClosedError):
            websocket.recv()
        assert websocket.protocol.close_sent is not None
        assert websocket.protocol.close_sent.code == 1009


def test_elsewhere() -> None:
    def look(sock: socket.socket) -> None:
        visitor = Visitor(sock)
        assert visitor.asked["Host"] == ["example.com"]
        visitor.accept()
        visitor.part()

    with scripted(look) as port:
        options: dict[str, Any] = {"address": ("127.0.0.1", port), "source_address": ("127.0.0.1", 0), "timeout": 30}
        with connect("ws://example.com/", **options) as websocket:
            assert websocket.remote_address == ("127.0.0.1", port)


def test_several_addresses() -> None:
    with scripted(let_in) as port:
        options: dict[str, Any] = {"happy_eyeballs_delay": 5, "interleave": 1, "all_errors": True}
        with connect(f"ws://localhost:{port}/", **options):
            pass


def test_logger(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    with scripted(let_in, let_in) as port:
        with connect(at(port)) as websocket:
            pass
        records = [record for record in caplog.records if record.name == "websockets.client"]
        assert records[-1].websocket == websocket  # type: ignore[attr-defined]
        assert "> GET / HTTP/1.1" in [record.getMessage() for record in records]
        caplog.clear()
        with connect(at(port), logger=logging.getLogger("mine")):
            pass
    assert {record.name for record in caplog.records} == {"mine"}


# ---------------------------------------------------------------------------------------------- classes and factories


def test_factory() -> None:
    told: list[Any] = []

    def make(sock: socket.socket, protocol: Any, **options: Any) -> ClientConnection:
        told.append((sock, protocol, options))
        return ClientConnection(sock, protocol, **options)

    with scripted(let_in, let_in) as port:
        options: dict[str, Any]
        for more in {}, {"idle_timeout": 7}:
            options = {"create_connection": make, "ping_interval": 1, "ping_timeout": 2, **more}
            with connect(at(port), **options) as websocket:
                sock, protocol, options = told.pop()
                assert sock is websocket.socket
                assert sock.gettimeout() is None
                assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
                assert protocol is websocket.protocol
                times = {"ping_interval": 1, "ping_timeout": 2, "close_timeout": 10, "max_queue": 16}
                assert options == {**times, **more}


def test_class_with_a_handshake_of_its_own() -> None:
    class Mine(ClientConnection):
        def handshake(self, additional_headers: Any = None, user_agent_header: Any = None, timeout: Any = None) -> None:
            assert (additional_headers, user_agent_header) == ({"X": "1"}, "me")
            assert 0 < timeout <= 10
            super().handshake({"X": "2"}, timeout=timeout)

    def look(sock: socket.socket) -> None:
        visitor = Visitor(sock)
        assert visitor.asked["X"] == ["2"]
        assert visitor.asked["User-Agent"] == [USER_AGENT]
        visitor.accept()
        visitor.part()

    with scripted(look) as port:
        options: dict[str, Any] = {"additional_headers": {"X": "1"}, "user_agent_header": "me"}
        with connect(at(port), create_connection=Mine, **options) as websocket:
            assert type(websocket) is Mine


def fail(*_: Any, **__: Any) -> NoReturn:
    raise LookupError("broken")


@pytest.mark.parametrize("make", [fail, lambda *_, **__: None])
def test_factory_that_fails(make: Any) -> None:
    with scripted(lambda sock: None) as port:
        fails((LookupError, AttributeError), port, create_connection=make)  # type: ignore[arg-type]


# ------------------------------------------------------------------------------------------- with a block and without

USES: dict[str, Callable[[ClientConnection], Any]] = {
    "send": lambda websocket: websocket.send("hello"),
    "recv": lambda websocket: websocket.recv(timeout=30),
    "recv_streaming": lambda websocket: websocket.recv_streaming(),
    "ping": lambda websocket: websocket.ping(),
    "pong": lambda websocket: websocket.pong(),
    "close": lambda websocket: websocket.close(),
    "iter": iter,
}


def talk(sock: socket.socket) -> None:
    """Say something, and close."""
    visitor = Visitor(sock)
    visitor.accept(more=wire.text("hello") + wire.text("again"))
    while visitor.read_frame().opcode != wire.CLOSE:
        pass
    sock.sendall(wire.close(1000))


@pytest.mark.parametrize("use", USES)
def test_first_use_without_a_block(use: str) -> None:
    with scripted(talk) as port:
        websocket = connect(at(port))
        assert (websocket.state, websocket.close_code) == (State.OPEN, None)
        assert not websocket.wait_closed(timeout=0)
        line = sys._getframe().f_lineno + 2
        with pytest.warns(DeprecationWarning, match="as a context manager") as warned:
            USES[use](websocket)
        (warning,) = warned
        assert str(warning.message) == (
            "connect() must be used as a context manager: with connect(...) as websocket: ...; "
            "alternatively, use websocket = connect(..., legacy=True) to connect directly"
        )
        if use == "iter":
            assert (warning.filename, warning.lineno) == (__file__, line)
        else:
            assert warning.filename == __file__
        # Once is enough, and nothing is left of it.
        assert not set(USES) & set(vars(websocket))
        websocket.close()


@pytest.mark.parametrize("use", ["send", "recv", "close"])
def test_use_without_a_block(use: str) -> None:
    with scripted(talk) as port:
        websocket = connect(at(port), legacy=True)
        USES[use](websocket)
        websocket.close()


@pytest.mark.parametrize("legacy", [None, True])
def test_use_in_a_block(legacy: Any) -> None:
    with scripted(talk) as port, connect(at(port), legacy=legacy) as websocket:
        websocket.send("hello")
        assert next(iter(websocket)) == "hello"
        assert websocket.recv() == "again"


def test_a_method_that_was_taken_before() -> None:
    with scripted(talk) as port:
        websocket = connect(at(port))
        send, receive = websocket.send, websocket.recv
        with pytest.warns(DeprecationWarning, match="as a context manager"):
            send("hello")
        assert receive() == "hello"
        send("hello")
        websocket.close()


def test_not_connected_yet() -> None:
    with scripted(talk) as port:
        connecting = connect(at(port), legacy=False)
        assert type(connecting) is reconnect
        with connecting as websocket:
            assert websocket.recv() == "hello"


@pytest.mark.parametrize("legacy", ["yes", 1.5])
def test_legacy_that_is_nothing(legacy: Any) -> None:
    with pytest.raises(TypeError, match=r"^legacy must be True, False or None, not "):
        connect("ws://localhost/", legacy=legacy)


# ------------------------------------------------------------------------------------------------------ sockets and TLS


def test_a_socket_of_the_user() -> None:
    with scripted(let_in, let_in) as port:
        sock = socket.create_connection(("127.0.0.1", port), timeout=7)
        with connect("ws://example.com/", sock=sock) as websocket:
            assert websocket.socket is sock
        assert sock.fileno() == -1
        with connect("ws://example.com/", sock=socket.create_connection(("127.0.0.1", port)), proxy="http://nowhere"):
            pass


def test_a_socket_of_the_user_that_leads_nowhere() -> None:
    with scripted(refuse(404)) as port:
        sock = socket.create_connection(("127.0.0.1", port))
        with pytest.raises(InvalidStatus):
            connect("ws://example.com/", sock=sock)
        assert sock.fileno() == -1


def test_tls() -> None:
    with scripted(*[secured(server_context(), echo)] * 2) as port:
        with connect(f"wss://localhost:{port}/", ssl=client_context()) as websocket:
            websocket.send("x" * 100_000)
            assert websocket.recv() == "x" * 100_000
        sock = socket.create_connection(("127.0.0.1", port))
        with connect("wss://localhost/", ssl=client_context(), sock=sock, proxy=None) as websocket:
            websocket.send("hello")
            assert websocket.recv() == "hello"


@pytest.mark.scenario(75)
def test_tls_by_default(monkeypatch: pytest.MonkeyPatch) -> None:
    context = client_context()
    monkeypatch.setattr(ssl, "create_default_context", lambda: context)
    with scripted(secured(server_context(), let_in)) as port, connect(f"wss://localhost:{port}/"):
        pass


@pytest.mark.scenario(75)
def test_another_name() -> None:
    elsewhere = secured(server_context(Certificate("elsewhere")), let_in)
    with scripted(elsewhere) as port:
        with connect(f"wss://localhost:{port}/", ssl=client_context(), server_hostname="elsewhere"):
            pass


def quietly(script: Script) -> Script:
    """Play a script that may break at any time, as its client does."""

    def play(sock: Any) -> None:
        with contextlib.suppress(OSError, EOFError):
            script(sock)

    return play


@pytest.mark.scenario(75)
def test_a_certificate_of_somebody_else(sockets: list[socket.socket]) -> None:
    script = quietly(secured(server_context(Certificate("elsewhere")), let_in))
    with scripted(script) as port, pytest.raises(ssl.SSLCertVerificationError):
        connect(f"wss://localhost:{port}/", ssl=client_context())
    assert sockets


def test_a_server_without_tls() -> None:
    def speak(sock: socket.socket) -> None:
        sock.recv(2**16)
        sock.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        read_until_end(sock)

    with scripted(speak) as port, pytest.raises(ssl.SSLError):
        connect(f"wss://localhost:{port}/", ssl=client_context())


def read_until_end(sock: socket.socket) -> None:
    with contextlib.suppress(ConnectionError):
        while sock.recv(2**16):
            pass


def test_ssl_that_contradicts_the_uri() -> None:
    with pytest.raises(ValueError, match=r"^ssl argument is incompatible with a ws:// URI$"):
        connect("ws://localhost/", ssl=client_context())
    with pytest.raises(ValueError, match=r"^ssl=False is incompatible with a wss:// URI$"):
        connect("wss://localhost/", ssl=False)  # type: ignore[call-overload]


@pytest.mark.parametrize("call", [connect, reconnect])
def test_the_old_name_of_ssl(call: Any) -> None:
    with pytest.warns(DeprecationWarning, match="^ssl_context was renamed to ssl$"):
        with pytest.raises(ValueError, match=r"^ssl argument is incompatible with a ws:// URI$"):
            call("ws://localhost/", ssl_context=client_context())


@needs_unix_sockets
class TestUnixSockets:
    def test_connect(self, tmp_path: Path) -> None:
        path = tmp_path / "server"

        def look(sock: socket.socket) -> None:
            visitor = Visitor(sock)
            assert visitor.asked["Host"] == ["localhost"]
            visitor.accept()
            visitor.part()

        with scripted(look, look, path=str(path)):
            with unix_connect(path, proxy="http://nowhere") as websocket:
                assert websocket.remote_address == str(path)
            with unix_connect(bytes(path), timeout=30, legacy=True):
                pass

    def test_tls(self, tmp_path: Path) -> None:
        path = str(tmp_path / "server")
        with scripted(secured(server_context(), let_in), path=path), unix_connect(path, ssl=client_context()):
            pass

    def test_other_uri(self, tmp_path: Path) -> None:
        path = str(tmp_path / "server")

        def look(sock: socket.socket) -> None:
            visitor = Visitor(sock)
            assert visitor.asked["Host"] == ["example.com"]
            assert visitor.asked.target == "/here"
            visitor.accept()
            visitor.part()

        with scripted(look, look, path=path):
            with unix_connect(path, "ws://example.com/here"):
                pass
            for websocket in unix_reconnect(path, "ws://example.com/here"):
                assert websocket.remote_address == path
                break

    def test_not_connected_yet(self, tmp_path: Path) -> None:
        connecting = unix_connect(tmp_path / "server", legacy=False)
        with pytest.raises(FileNotFoundError), connecting:
            pass

    def test_a_socket(self) -> None:
        ours, theirs = socket.socketpair()

        def play() -> None:
            with theirs:
                let_in(theirs)

        thread = threading.Thread(target=play)
        thread.start()
        with unix_connect(sock=ours):
            pass
        thread.join()


@pytest.mark.parametrize("call", [unix_connect, unix_reconnect])
def test_no_path(call: Any) -> None:
    with pytest.raises(ValueError, match=r"^missing path argument$"):
        call()
    with socket.socket() as sock, pytest.raises(ValueError, match=r"^path is incompatible with sock$"):
        call("/run/server", sock=sock)


# ------------------------------------------------------------------------------------------------------------- failures


def test_invalid_uri() -> None:
    with pytest.raises(InvalidURI):
        connect("http://localhost/")


def test_nobody_listens() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
    fails(ConnectionRefusedError, port)
    exc = fails(ExceptionGroup, port, all_errors=True)
    assert exc.message == "create_connection failed"


def test_a_name_that_is_unknown(monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(*_: Any, **__: Any) -> NoReturn:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    with pytest.raises(socket.gaierror):
        connect("ws://example.com/")


def test_refused() -> None:
    with scripted(refuse(404, {"X": "1"}, b"not here")) as port:
        exc = fails(InvalidStatus, port)
    assert (exc.response.status_code, exc.response.headers["X"], exc.response.body) == (404, "1", b"not here")


@pytest.mark.parametrize("data", [b"", b"HTTP/1.1 101 Switch", b"hello world\r\n\r\n"])
def test_no_http(data: bytes) -> None:
    def speak(sock: socket.socket) -> None:
        read_until(sock)
        sock.sendall(data)

    with scripted(speak) as port:
        fails(InvalidMessage, port, "^did not receive a valid HTTP response$")


def test_a_reset() -> None:
    def reset(sock: socket.socket) -> None:
        read_until(sock)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")

    with scripted(reset) as port:
        exc = fails(InvalidMessage, port)
    assert isinstance(exc.__cause__, EOFError)
    assert isinstance(exc.__cause__.__cause__, ConnectionResetError)


def test_a_subprotocol_that_was_not_offered() -> None:
    def speak(sock: socket.socket) -> None:
        visitor = Visitor(sock)
        visitor.accept({"Sec-WebSocket-Protocol": "chat"})
        visitor.wait_for_end()

    with scripted(speak) as port:
        fails(NegotiationError, port)


def hang_up(sock: socket.socket) -> None:
    """Close after the request, without an answer."""
    read_until(sock)


FAILURES: dict[str, tuple[Script | None, type[Exception]]] = {
    "nobody listens": (None, ConnectionRefusedError),
    "end of stream": (hang_up, InvalidMessage),
    "no HTTP": (lambda sock: sock.sendall(b"SSH-2.0-OpenSSH_9.6\r\n\r\n"), InvalidMessage),
    "refusal": (refuse(404), InvalidStatus),
    "no TLS": (lambda sock: sock.sendall(b"no TLS here\r\n"), OSError),
}


@pytest.mark.parametrize("again", [False, True], ids=["connect", "reconnect"])
@pytest.mark.parametrize("name", FAILURES)
def test_a_failure_is_known_at_once(name: str, again: bool) -> None:
    """Nobody waits for ``open_timeout``, and no thread is left that does."""
    script, kind = FAILURES[name]
    threads = set(threading.enumerate())
    with contextlib.ExitStack() as stack:
        if script is None:
            with socket.create_server(("127.0.0.1", 0)) as listening:
                port = listening.getsockname()[1]
        else:
            port = stack.enter_context(scripted(script))
        uri = at(port, scheme="wss" if name == "no TLS" else "ws")
        # Longer than the alarm of the tests.
        options: dict[str, Any] = {"open_timeout": 3600, "close_timeout": 3600}
        attempts = iter(reconnect(uri, process_exception=lambda exc: exc, **options))
        with pytest.raises(kind):
            next(attempts) if again else connect(uri, **options)
    left = {thread for thread in set(threading.enumerate()) - threads if thread.name != "websockets steward"}
    assert not left


def silent(sock: socket.socket) -> None:
    read_until_end(sock)


@pytest.mark.usefixtures("clock")
def test_a_silent_server() -> None:
    with scripted(silent) as port:
        fails(TimeoutError, port, "^timed out while waiting for handshake response$", open_timeout=LATE)


@pytest.mark.usefixtures("clock")
def test_a_server_that_is_silent_about_tls() -> None:
    with scripted(silent) as port:
        with pytest.raises(TimeoutError, match="^timed out during the TLS handshake$"):
            connect(f"wss://localhost:{port}/", ssl=client_context(), open_timeout=LATE)


def test_no_time_at_all() -> None:
    with pytest.raises(TimeoutError, match="^timed out while connecting$"):
        connect("ws://127.0.0.1:1/", open_timeout=0)


def test_no_time_for_the_request() -> None:
    """Whatever took it: here, the factory."""
    times = [0.0, 0.0, 0.0, 100.0]
    here = threading.current_thread()

    class Slow(System):
        def now(self) -> float:
            # The steward asks, too.
            return times.pop(0) if len(times) > 1 and threading.current_thread() is here else times[0]

    with scripted(silent) as port, pytest.MonkeyPatch.context() as patching:
        patching.setattr("websockets.sync._system._current", Slow())
        sock = socket.create_connection(("127.0.0.1", port))
        with pytest.raises(TimeoutError):
            connect(at(port), sock=sock, open_timeout=50)
        assert sock.fileno() == -1


@pytest.mark.parametrize("timeout", [None, 10**9, math.inf])
def test_all_the_time_in_the_world(timeout: float | None) -> None:
    with scripted(let_in) as port, connect(at(port), open_timeout=timeout):
        pass


@pytest.mark.usefixtures("clock")
def test_a_refusal_that_never_ends() -> None:
    def play(sock: socket.socket) -> None:
        visitor = Visitor(sock)
        sock.sendall(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 100\r\n\r\nbecause")
        visitor.wait_for_end()

    with scripted(play) as port:
        exc = fails(InvalidStatus, port, open_timeout=SOON)
    assert exc.response.status_code == 403


@pytest.mark.parametrize("step", ["dial", "send", "receive", "adopt", "wait", "make"])
def test_interrupted(step: str, monkeypatch: pytest.MonkeyPatch, sockets: list[socket.socket]) -> None:
    """Ctrl-C leaves no socket behind, whatever happens at that moment."""

    def interrupt(*_: Any, **__: Any) -> NoReturn:
        raise KeyboardInterrupt

    options: dict[str, Any] = {}
    match step:
        case "dial":
            monkeypatch.setattr("websockets.sync._dial._Attempts.outcomes", interrupt)
        case "send":
            monkeypatch.setattr(Line, "_send_all", interrupt)
        case "receive":
            monkeypatch.setattr(Line, "_receive_some", interrupt)
        case "adopt":
            monkeypatch.setattr(ClientConnection, "_ws_adopt", interrupt)
        case "wait":
            monkeypatch.setattr(ClientConnection, "_ws_wait_until", interrupt)
        case "make":
            options["create_connection"] = interrupt
    with scripted(quietly(secured(server_context(), silent))) as port:
        with pytest.raises(KeyboardInterrupt):
            connect("wss://localhost/", address=("127.0.0.1", port), ssl=client_context(), **options)
    assert sockets


@contextlib.contextmanager
def control_c() -> Iterator[Callable[[], None]]:
    """Interrupt the main thread when the function is called first, as Ctrl-C does.

    A signal that comes just before a call of the kernel doesn't end it, and Python doesn't know before it ends: so the
    function must be called again.
    """
    pressed = False

    def interrupt(*_: Any) -> None:
        nonlocal pressed
        if not pressed:
            pressed = True
            raise KeyboardInterrupt

    before = signal.signal(signal.SIGUSR1, interrupt)
    try:
        yield lambda: signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGUSR1)
    finally:
        signal.signal(signal.SIGUSR1, before)


@pytest.mark.scenario(78)
@needs_signals
@pytest.mark.parametrize("stage", ["TLS", "proxy", "response"])
def test_interrupted_by_a_signal(stage: str, sockets: list[socket.socket]) -> None:
    """While it waits for a server that has got something, and says nothing."""
    with control_c() as press:

        def play(sock: socket.socket) -> None:
            sock.recv(2**16)
            sock.settimeout(0.01)
            ended = False
            while not ended:
                press()
                with contextlib.suppress(TimeoutError):
                    ended = not sock.recv(2**16)

        with scripted(play) as port:
            options: dict[str, Any] = {"open_timeout": None}
            match stage:
                case "TLS":
                    options |= {"uri": f"wss://localhost:{port}/", "ssl": client_context()}
                case "proxy":
                    options |= {"uri": "ws://example.com/", "proxy": f"http://127.0.0.1:{port}"}
                case _:
                    options |= {"uri": at(port)}
            with pytest.raises(KeyboardInterrupt):
                connect(**options)
    assert sockets


# ------------------------------------------------------------------------------------------------------------ redirects


def to(location: str, status: int = 302) -> Script:
    return refuse(status, {"Location": location})


def asked_with(headers: dict[str, list[str]], target: str) -> Script:
    def look(sock: socket.socket) -> None:
        visitor = Visitor(sock)
        assert visitor.asked.target == target
        assert {name: visitor.asked[name] for name in headers} == headers
        visitor.accept()
        visitor.part()

    return look


@pytest.mark.parametrize("status", [300, 301, 302, 303, 307, 308])
def test_redirect(status: int) -> None:
    headers = {"Cookie": ["a=b"], "Authorization": ["secret"], "X": ["1"]}
    with scripted(to("/there", status), asked_with(headers, "/there")) as port:
        given = {"Cookie": "a=b", "Authorization": "secret", "X": "1"}
        with connect(at(port), additional_headers=given) as websocket:
            assert websocket.response is not None


def test_redirect_to_another_server() -> None:
    headers: dict[str, list[str]] = {"Cookie": [], "Authorization": [], "X": ["1"]}
    with scripted(asked_with(headers, "/there")) as other, scripted(to(at(other, "/there"))) as port:
        given = {"Cookie": "a=b", "Authorization": "secret", "X": "1"}
        with connect(at(port), additional_headers=given) as websocket:
            assert websocket.remote_address == ("127.0.0.1", other)


@pytest.mark.parametrize("options", [{"address": True}, {"sock": True}])
def test_redirect_that_cannot_be_followed(options: Any) -> None:
    with scripted(to("ws://example.com/")) as port:
        if "address" in options:
            options, text = {"address": ("127.0.0.1", port)}, "with an explicit address"
        else:
            options, text = {"sock": socket.create_connection(("127.0.0.1", port))}, "with a preexisting socket"
        fails(ValueError, port, text, **options)


@pytest.mark.scenario(72)
def test_redirect_without_tls() -> None:
    with scripted(secured(server_context(), to("ws://localhost/"))) as port:
        with pytest.raises(SecurityError, match="cannot follow redirect to non-secure URI"):
            connect(f"wss://localhost:{port}/", ssl=client_context())


@pytest.mark.scenario(72)
def test_redirects_without_end() -> None:
    with scripted(*[to("/")] * 10) as port:
        fails(SecurityError, port, "^more than 10 redirects\nRedirected: ")


def test_redirects_share_the_deadline(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    once = client._connect_once

    def slowly(*arguments: Any) -> ClientConnection:
        try:
            return once(*arguments)
        finally:
            clock.time += 60

    monkeypatch.setattr(client, "_connect_once", slowly)
    with scripted(to("/there"), silent) as port:
        fails(TimeoutError, port, "^timed out while waiting for handshake response\n", open_timeout=60 + LATE)
    with scripted(to("/there")) as port:
        fails(TimeoutError, port, "^timed out while connecting\n", open_timeout=60)


class Failover(reconnect):
    asked: list[Exception]
    other = ""

    def process_redirect(self, exc: Exception) -> Exception | str:
        self.asked.append(exc)
        return self.other if isinstance(exc, InvalidStatus) and exc.response.status_code == 503 else exc


def test_hook_for_redirects() -> None:
    with scripted(let_in) as other, scripted(refuse(503), refuse(404)) as port:
        connecting = Failover(at(port))
        connecting.asked, connecting.other = [], at(other)
        with connecting as websocket:
            assert websocket.remote_address == ("127.0.0.1", other)
        with pytest.raises(InvalidStatus):
            connecting.connect()
    assert [type(exc) for exc in connecting.asked] == [InvalidStatus, InvalidStatus]


@pytest.mark.usefixtures("clock")
def test_hook_for_redirects_is_not_asked_about_the_deadline() -> None:
    with scripted(silent) as port:
        connecting = Failover(at(port), open_timeout=LATE)
        connecting.asked = []
        with pytest.raises(TimeoutError):
            connecting.connect()
    assert connecting.asked == []


# -------------------------------------------------------------------------------------------- signatures and the table


def parameters(function: Any) -> dict[str, Any]:
    found = inspect.signature(function).parameters.values()
    return {parameter.name: parameter.default for parameter in found if parameter.kind is not parameter.VAR_KEYWORD}


def test_every_parameter_is_in_the_table() -> None:
    named = parameters(reconnect)
    # The usual functions stand for None.
    usual = {"process_exception": process_exception, "reconnect_delays": backoff}
    table = allowed.table(allowed.SYNC_CONNECT)
    assert set(named) == set(table)
    for name, option in table.items():
        if option.default not in (allowed.REQUIRED, allowed.UNSET):
            assert named[name] == usual.get(name, option.default), name
    assert parameters(connect) == {
        **{name: default for name, default in named.items() if name not in usual},
        "legacy": None,
    }
    assert parameters(ClientConnection).items() >= parameters(Connection).items()


def test_keywords_that_go_on_are_those_of_the_standard_library() -> None:
    names = set(inspect.signature(socket.create_connection).parameters)
    ours = {"unix", "happy_eyeballs_delay", "interleave"}
    assert set(allowed.table(allowed.SYNC_TCP_CLIENT)) - ours == names


def test_names() -> None:
    assert client.__all__ == ["ClientConnection", "connect", "reconnect", "unix_connect", "unix_reconnect"]
    assert not [warning for warning in warnings.filters if warning[0] == "never"]
