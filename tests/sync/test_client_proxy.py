"""Clients for threads behind a proxy: HTTP, TLS to the proxy and inside of that, SOCKS; and each way in which it fails.

Over real sockets, with scripted proxies.
"""

from __future__ import annotations

import contextlib
import itertools
import logging
import selectors
import socket
import ssl
import sys
from typing import Any, NoReturn

import pytest
from python_socks import ProxyError as SocksError

from _kit.certificates import Certificate, client_context, server_context
from _kit.scripted import PATIENCE, Script, echo, read_until, scripted, secured
from websockets.exceptions import (
    InvalidMessage,
    InvalidProxy,
    InvalidProxyMessage,
    InvalidProxyStatus,
    InvalidStatus,
    ProxyError,
)
from websockets.http11 import USER_AGENT
from websockets.proxy import ASKING, OPENING, REACHING, REACHING_SOCKS, SECURING
from websockets.sync import _proxy
from websockets.sync._line import Line
from websockets.sync._system import System
from websockets.sync.client import connect, reconnect

OPEN = b"HTTP/1.1 200 OK\r\nVia: proxy\r\n\r\n"

# Seconds that a silent peer has, of real time; one that answers may need some of them on a busy machine.
LATE = 0.05
SOON = 1.0


@pytest.fixture(autouse=True)
def no_proxy_of_the_system(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("urllib.request.getproxies", dict)
    for name in ("ws_proxy", "http_proxy", "https_proxy", "socks_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """A clock that stands still: only a wait for a peer takes too long, and each may take all the time that is left."""
    monkeypatch.setattr(System, "now", lambda system: 1000.0)


def fails(kind: type[BaseException], port: int, stage: str, scheme: str = "http", **options: Any) -> Any:
    """Connect to example.com through a proxy; return the error, which names the proxy."""
    proxy = f"{scheme}://127.0.0.1:{port}"
    with pytest.raises(kind) as raised:
        connect(**{"uri": "ws://example.com/", "proxy": proxy, **options})
    end = "443" if str(options.get("uri")).startswith("wss") else "80"
    note = f"The connection to example.com port {end} goes through the proxy {proxy}; it failed {stage}"
    # A refusal has a note of its own before.
    assert raised.value.__notes__[-1] == note
    assert len(raised.value.__notes__) == 1 + isinstance(raised.value, InvalidStatus)
    return raised.value


def forward(port: int, answer: bytes = OPEN) -> Script:
    """A proxy that works, in one thread: TLS sockets aren't for two."""

    def play(sock: Any) -> None:
        read_until(sock)
        with socket.create_connection(("127.0.0.1", port)) as end, selectors.DefaultSelector() as selector:
            sock.sendall(answer)
            selector.register(sock, selectors.EVENT_READ, end)
            selector.register(end, selectors.EVENT_READ, sock)
            with contextlib.suppress(OSError):
                while all(carry(key.fileobj, key.data) for key, _ in selector.select(PATIENCE)):
                    pass

    return play


def carry(source: Any, target: Any) -> bool:
    """Carry the bytes that are there; return whether more may follow."""
    data = source.recv(2**16)
    while data and isinstance(source, ssl.SSLSocket) and (pending := source.pending()):
        data += source.recv(pending)
    target.sendall(data)
    return bool(data)


def answering(data: bytes, then: Script | None = None) -> Script:
    """A proxy that sends this after the request."""

    def play(sock: Any) -> None:
        read_until(sock)
        sock.sendall(data)
        if then is not None:
            then(sock)
        else:
            silent(sock)

    return play


def silent(sock: Any) -> None:
    with contextlib.suppress(OSError):
        while sock.recv(2**16):
            pass


# ----------------------------------------------------------------------------------------------------------- the tunnel

both_ways = pytest.mark.parametrize("secure_proxy", [False, True], ids=["http proxy", "https proxy"])
to_both = pytest.mark.parametrize("secure", [False, True], ids=["ws", "wss"])


@both_ways
@to_both
def test_layers(secure_proxy: bool, secure: bool) -> None:
    options: dict[str, Any] = {}
    server: Script = echo
    if secure:
        server, options["ssl"] = secured(server_context(), echo), client_context()
    with scripted(server) as port:
        proxy = forward(port)
        if secure_proxy:
            proxy, options["proxy_ssl"] = secured(server_context(), proxy), client_context()
        with scripted(proxy) as proxy_port:
            options["proxy"] = f"{'https' if secure_proxy else 'http'}://localhost:{proxy_port}"
            uri = f"{'wss' if secure else 'ws'}://localhost:{port}/"
            with connect(uri, open_timeout=PATIENCE, **options) as websocket:
                for message in ("text", b"binary", "x" * 200_000):
                    websocket.send(message)
                    assert websocket.recv() == message
            assert websocket.close_code == 1000


def test_request() -> None:
    asked = []

    def look(sock: socket.socket) -> None:
        asked.append(read_until(sock))
        sock.sendall(b"HTTP/1.0 407 No\r\n\r\n")

    with scripted(look) as port:
        with pytest.raises(InvalidProxyStatus) as raised:
            connect("ws://example.com:8765/", proxy=f"http://user:secret@127.0.0.1:{port}")
    assert asked == [
        b"CONNECT example.com:8765 HTTP/1.1\r\nHost: example.com:8765\r\n"
        b"User-Agent: " + USER_AGENT.encode() + b"\r\nProxy-Authorization: Basic dXNlcjpzZWNyZXQ=\r\n\r\n"
    ]
    assert raised.value.response.status_code == 407
    assert "secret" not in "".join(raised.value.__notes__)


def test_another_address_and_options_of_the_tcp_connection() -> None:
    asked = []

    def look(sock: socket.socket) -> None:
        asked.append((read_until(sock).split(b"\r\n")[0], sock.getpeername()[0]))
        sock.sendall(b"HTTP/1.1 403 No\r\n\r\n")

    options: dict[str, Any] = {"address": ("elsewhere", 81), "source_address": ("127.0.0.1", 0), "timeout": PATIENCE}
    with scripted(look) as port, pytest.raises(InvalidProxyStatus):
        connect("ws://example.com/", proxy=f"http://127.0.0.1:{port}", **options)
    assert asked == [(b"CONNECT elsewhere:81 HTTP/1.1", "127.0.0.1")]


def test_proxy_of_the_system(monkeypatch: pytest.MonkeyPatch) -> None:
    with scripted(answering(b"HTTP/1.1 403 No\r\n\r\n")) as port:
        monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{port}")
        with pytest.raises(InvalidProxyStatus):
            connect("ws://example.com/")
    monkeypatch.setenv("http_proxy", "gopher://localhost")
    with pytest.raises(InvalidProxy, match="http_proxy"):
        connect("ws://example.com/")


def test_no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    with scripted(echo, echo) as port:
        for uri, options in [("127.0.0.1", {}), ("example.com", {"proxy": None, "address": ("127.0.0.1", port)})]:
            with connect(f"ws://{uri}:{port}/", proxy_ssl=client_context(), **options):  # type: ignore[arg-type]
                pass


@pytest.mark.parametrize("split", [0, 1, 10])
def test_a_refusal_behind_the_answer(split: int) -> None:
    """As of a server that refuses before it was asked."""
    refusal = b"HTTP/1.1 503 x\r\nContent-Length: 4\r\n\r\nbody"

    def play(sock: socket.socket) -> None:
        read_until(sock)
        sock.sendall(OPEN + refusal[:split])
        assert read_until(sock).startswith(b"GET / HTTP/1.1\r\n")
        sock.sendall(refusal[split:])
        silent(sock)

    with scripted(play) as port:
        exc = fails(InvalidStatus, port, OPENING)
    assert (exc.response.status_code, exc.response.body) == (503, b"body")


def test_data_behind_the_answer_of_a_proxy_with_tls() -> None:
    refusal = b"HTTP/1.1 503 x\r\nContent-Length: 4\r\n\r\nbody"
    with scripted(secured(server_context(), answering(OPEN + refusal))) as port:
        with pytest.raises(InvalidStatus):
            connect("ws://example.com/", proxy=f"https://localhost:{port}", proxy_ssl=client_context())


# ------------------------------------------------------------------------------------------------------------- failures


def test_nobody_listens() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
    fails(ConnectionRefusedError, port, REACHING)


@pytest.mark.usefixtures("clock")
def test_a_silent_proxy() -> None:
    with scripted(silent) as port:
        exc = fails(TimeoutError, port, ASKING, open_timeout=LATE)
    assert str(exc) == "timed out while connecting to HTTP proxy"
    exc = fails(TimeoutError, 1, REACHING, open_timeout=0)
    assert str(exc) == "timed out while connecting to HTTP proxy"


@pytest.mark.usefixtures("clock")
def test_a_proxy_that_is_silent_about_tls() -> None:
    with scripted(silent) as port:
        exc = fails(TimeoutError, port, REACHING, "https", open_timeout=LATE)
    assert str(exc) == "timed out while connecting to HTTP proxy"


@pytest.mark.usefixtures("clock")
def test_a_server_that_is_silent_about_tls() -> None:
    with scripted(answering(OPEN)) as port:
        exc = fails(TimeoutError, port, SECURING, uri="wss://example.com/", ssl=client_context(), open_timeout=SOON)
    assert str(exc) == "timed out during the TLS handshake"


@pytest.mark.usefixtures("clock")
def test_a_silent_server() -> None:
    with scripted(answering(OPEN)) as port:
        exc = fails(TimeoutError, port, OPENING, open_timeout=SOON)
    assert str(exc) == "timed out while waiting for handshake response"


def hang_up(sock: Any) -> None:
    pass


def reset(sock: socket.socket) -> None:
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")


@pytest.mark.parametrize("data", [b"", b"HTTP/1.1 200", b"hello\r\n\r\n"])
def test_no_http(data: bytes) -> None:
    with scripted(answering(data, hang_up)) as port:
        exc = fails(InvalidProxyMessage, port, ASKING)
    assert str(exc) == "did not receive a valid HTTP response from proxy"
    assert exc.__cause__ is not None


def test_a_reset() -> None:
    with scripted(answering(b"", reset)) as port:
        exc = fails(InvalidProxyMessage, port, ASKING)
    assert isinstance(exc.__cause__, EOFError)
    assert isinstance(exc.__cause__.__cause__, ConnectionResetError)


def test_a_proxy_speaks_for_the_server() -> None:
    with scripted(answering(OPEN + b"hello")) as port:
        exc = fails(ProxyError, port, SECURING, uri="wss://example.com/", ssl=client_context())
    assert str(exc) == "proxy sent 5 bytes before the TLS handshake"


def test_a_server_that_hangs_up() -> None:
    with scripted(answering(OPEN, hang_up)) as port:
        fails(InvalidMessage, port, OPENING)


def test_certificates() -> None:
    def quietly(sock: Any) -> None:
        with contextlib.suppress(OSError):
            secured(server_context(Certificate("elsewhere")), silent)(sock)

    with scripted(quietly) as port:
        fails(ssl.SSLCertVerificationError, port, REACHING, "https", proxy_ssl=client_context())
    with scripted(answering(OPEN, quietly)) as port:
        fails(ssl.SSLCertVerificationError, port, SECURING, uri="wss://example.com/", ssl=client_context())
    inside = secured(server_context(), answering(OPEN, lambda sock: inner(sock, server_context(Certificate("other")))))
    with scripted(inside) as port:
        with pytest.raises(ssl.SSLCertVerificationError):
            connect(
                "wss://example.com/",
                ssl=client_context(),
                proxy=f"https://localhost:{port}",
                proxy_ssl=client_context(),
            )


def inner(sock: Any, context: ssl.SSLContext) -> None:
    """Do a handshake inside of TLS, as far as it goes."""
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    tls = context.wrap_bio(incoming, outgoing, server_side=True)
    with contextlib.suppress(OSError):
        while True:
            with contextlib.suppress(ssl.SSLWantReadError):
                tls.do_handshake()
            sock.sendall(outgoing.read())
            data = sock.recv(2**16)
            if not data:
                return
            incoming.write(data)


@pytest.mark.parametrize(
    ("proxy", "options", "text"),
    [
        ("http://proxy", {"proxy_ssl": True}, "proxy_ssl argument is incompatible with an http:// proxy"),
        ("socks5://proxy", {"proxy_ssl": True}, "proxy_ssl argument is incompatible with a socks5:// proxy"),
    ],
)
def test_tls_that_contradicts_the_proxy(proxy: str, options: dict[str, Any], text: str) -> None:
    with pytest.raises(ValueError, match=text):
        connect("ws://example.com/", proxy=proxy, **options)


def test_a_name_that_is_not_needed() -> None:
    with scripted(answering(b"HTTP/1.1 403 No\r\n\r\n")) as port:
        fails(InvalidProxyStatus, port, ASKING, proxy_server_hostname="elsewhere")


@pytest.mark.parametrize("step", ["send", "receive"])
def test_interrupted(step: str, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[socket.socket] = []

    class Recording(Line):
        def __init__(self, sock: socket.socket, deadline: float | None) -> None:
            super().__init__(sock, deadline)
            made.append(sock)

    def interrupt(*_: Any, **__: Any) -> NoReturn:
        raise KeyboardInterrupt

    monkeypatch.setattr(_proxy, "Line", Recording)
    monkeypatch.setattr(Recording, step, interrupt)
    with scripted(silent) as port:
        fails(KeyboardInterrupt, port, ASKING)
    assert [sock.fileno() for sock in made] == [-1]


# ---------------------------------------------------------------------------------------------------------------- SOCKS


def reply(code: int) -> list[bytes]:
    """Reply to a request (RFC 1928 section 6)."""
    return [b"\x05\x00", bytes([5, code, 0, 1, 0, 0, 0, 0, 0, 0])]


def socks(answers: list[bytes], then: Script = hang_up) -> Script:
    """A SOCKS proxy that answers with these."""

    def play(sock: socket.socket) -> None:
        for answer in answers:
            sock.recv(1000)
            sock.sendall(answer)
        then(sock)

    return play


@pytest.mark.parametrize("scheme", ["socks5h", "socks5", "socks4", "socks4a"])
def test_socks(scheme: str) -> None:
    answers = reply(0) if "5" in scheme else [bytes([0, 0x5A, 0, 0, 0, 0, 0, 0])]

    def look(sock: socket.socket) -> None:
        assert sock.getpeername()[0] == "127.0.0.1"
        echo(sock)

    with scripted(socks(answers, look)) as port:
        proxy = f"{scheme}://127.0.0.1:{port}"
        with connect("ws://127.0.0.1:81/", proxy=proxy, source_address=("127.0.0.1", 0)) as websocket:
            assert websocket.socket.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
            assert websocket.socket.gettimeout() is None
            websocket.send("hello")
            assert websocket.recv() == "hello"


def test_socks_and_tls() -> None:
    inside = socks(reply(0), secured(server_context(), echo))
    with scripted(inside) as port:
        uri, proxy = "wss://localhost/", f"socks5h://127.0.0.1:{port}"
        with connect(uri, proxy=proxy, ssl=client_context(), open_timeout=None) as websocket:
            websocket.send("hello")
            assert websocket.recv() == "hello"


def test_socks_refuses() -> None:
    with scripted(socks(reply(2))) as port:
        exc = fails(ProxyError, port, REACHING_SOCKS, "socks5h")
    assert str(exc) == "failed to connect to SOCKS proxy"
    assert isinstance(exc.__cause__, SocksError)


def test_no_socks_proxy_listens() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
    exc = fails(OSError, port, REACHING_SOCKS, "socks5")
    assert not isinstance(exc, TimeoutError)


@pytest.mark.usefixtures("clock")
def test_socks_is_silent() -> None:
    with scripted(silent) as port:
        exc = fails(TimeoutError, port, REACHING_SOCKS, "socks5", open_timeout=LATE)
    assert str(exc) == "timed out while connecting to SOCKS proxy"
    exc = fails(TimeoutError, 1, REACHING_SOCKS, "socks5", open_timeout=0)
    assert str(exc) == "timed out while connecting to SOCKS proxy"


def test_without_python_socks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "python_socks", None)
    with pytest.raises(ImportError) as raised:
        connect("ws://example.com/", proxy="socks5h://proxy")
    assert str(raised.value) == "connecting through a SOCKS proxy requires python-socks"


def test_socket_that_refuses_options(monkeypatch: pytest.MonkeyPatch) -> None:
    """As some systems do when the peer is gone."""

    class Gone:
        def setsockopt(self, *_: int) -> NoReturn:
            raise OSError("gone")

        def settimeout(self, timeout: float | None) -> None: ...

        def close(self) -> None: ...

    class Client:
        def __init__(self, *_: Any) -> None: ...

        def connect(self, *_: Any, **__: Any) -> Gone:
            return Gone()

    monkeypatch.setattr("python_socks.sync.Proxy", Client)
    with pytest.raises(LookupError):
        connect("ws://example.com/", proxy="socks5h://proxy", create_connection=look_up_nothing)


def look_up_nothing(*_: Any, **__: Any) -> NoReturn:
    raise LookupError


def test_reconnecting_through_a_proxy(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "websockets.client")
    with scripted(socks([b""]), socks(reply(1)), socks(reply(2))) as port:
        proxy = f"socks5h://user:secret@127.0.0.1:{port}"
        with pytest.raises(ProxyError) as raised:
            for _ in reconnect("ws://example.com/", proxy=proxy, reconnect_delays=lambda: itertools.repeat(0.0)):
                pass
    assert isinstance(raised.value.__cause__, SocksError)
    assert [record.getMessage() for record in caplog.records] == [
        "connect failed; reconnecting in 0.0 seconds:"
        " websockets.exceptions.ProxyError: failed to connect to SOCKS proxy"
        f" (The connection to example.com port 80 goes through the proxy socks5h://127.0.0.1:{port};"
        " it failed while reaching the proxy or waiting for its reply)"
    ] * 2
