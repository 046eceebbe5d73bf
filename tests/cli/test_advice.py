"""Why there is no connection, or none any more, and what the command advises."""

from __future__ import annotations

import errno
import ssl
from typing import Any

import pytest

from websockets.cli._advice import Advice, End, completed_uri, of_end, of_failure
from websockets.datastructures import Headers
from websockets.exceptions import (
    ConnectionClosed,
    ConnectionClosedError,
    InvalidHeader,
    InvalidMessage,
    InvalidProxyStatus,
    InvalidStatus,
    InvalidURI,
    ProxyError,
    SecurityError,
)
from websockets.frames import Close
from websockets.http11 import Response

VERBOSE = "see request and response with --verbose"


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("localhost:8765", "ws://localhost:8765"),
        ("localhost:8765/path?query", "ws://localhost:8765/path?query"),
        ("[::1]:8765", "ws://[::1]:8765"),
        (":8765", "ws://localhost:8765"),
        ("ws://localhost:8765", "ws://localhost:8765"),
        ("http://localhost:8765", "http://localhost:8765"),
        ("mailto:8765", "ws://mailto:8765"),
        ("user:8765@host", "user:8765@host"),
        ("host:port", "host:port"),
        ("example.com", "example.com"),
        ("", ""),
    ],
)
def test_completed_uri(typed: str, meant: str) -> None:
    assert completed_uri(typed) == meant


def refusal(status: int, reason: str = "", body: bytes = b"", **headers: str) -> InvalidStatus:
    return InvalidStatus(Response(status, reason, Headers({k.replace("_", "-"): v for k, v in headers.items()}), body))


def ssl_error(text: str, kind: type[ssl.SSLError] = ssl.SSLError) -> ssl.SSLError:
    error = kind(1, f"[SSL: {text}] words")
    error.reason = text
    return error


def caused(error: Any, cause: BaseException) -> Any:
    error.__cause__ = cause
    return error


def noted(error: Exception, note: str) -> Exception:
    error.add_note(note)
    return error


TEXT = "server rejected WebSocket connection: HTTP"


@pytest.mark.parametrize(
    ("uri", "error", "advice"),
    [
        (
            "http://h/x",
            InvalidURI("http://h/x", "no"),
            Advice("http://h/x isn't a valid URI: no", (), "did you mean ws://h/x?"),
        ),
        (
            "HTTPS://h",
            InvalidURI("HTTPS://h", "no"),
            Advice("HTTPS://h isn't a valid URI: no", (), "did you mean wss://h?"),
        ),
        (
            "h/x",
            InvalidURI("h/x", "no"),
            Advice("h/x isn't a valid URI: no", (), "did you mean wss://h/x, or ws://h/x?"),
        ),
        ("ws://h:x", InvalidURI("ws://h:x", "no"), Advice("ws://h:x isn't a valid URI: no")),
        ("a:b", InvalidURI("a:b", "no"), Advice("a:b isn't a valid URI: no")),
        ("", InvalidURI("", "no"), Advice(" isn't a valid URI: no")),
        (
            "wss://h",
            ssl_error("CERTIFICATE_VERIFY_FAILED", ssl.SSLCertVerificationError),
            Advice(
                "[SSL: CERTIFICATE_VERIFY_FAILED] words",
                (),
                "trust the server's certificate with --ca FILE, or don't verify it with --insecure",
            ),
        ),
        (
            "wss://h:1/x",
            ssl_error("WRONG_VERSION_NUMBER"),
            Advice("[SSL: WRONG_VERSION_NUMBER] words", (), "the server doesn't speak TLS here; try ws://h:1/x"),
        ),
        ("wss://h", ssl_error("NO_SHARED_CIPHER"), Advice("[SSL: NO_SHARED_CIPHER] words")),
        (
            "ws://h/x",
            caused(InvalidMessage("no HTTP"), EOFError("it ended")),
            Advice("no HTTP: it ended", (), "if the server uses TLS, try wss://h/x"),
        ),
        ("wss://h/x", caused(InvalidMessage("no HTTP"), EOFError()), Advice("no HTTP: EOFError", (), VERBOSE)),
        ("ws://h", InvalidMessage("no HTTP"), Advice("no HTTP", (), VERBOSE)),
        (
            "ws://h",
            SecurityError("more than 1 redirect; the next leads to ws://h/x"),
            Advice(
                "more than 1 redirect; the next leads to ws://h/x",
                (),
                "do the redirects ever end? --max-redirects N sets another limit",
            ),
        ),
        ("ws://h", SecurityError("more than 9 headers"), Advice("more than 9 headers", (), VERBOSE)),
        ("ws://h", ConnectionResetError("reset"), Advice("reset", (), "if the server uses TLS, try wss://h")),
        (
            "ws://h",
            refusal(400, "Bad Request", b"The plain HTTP request was sent to HTTPS port"),
            Advice(
                f"{TEXT} 400 Bad Request",
                ("The plain HTTP request was sent to HTTPS port",),
                "if the server uses TLS, try wss://h",
            ),
        ),
        ("ws://h", refusal(400, body=b"\n  one\r\n\r\n two \n"), Advice(f"{TEXT} 400", ("one", " two"), VERBOSE)),
        (
            "ws://h",
            refusal(401, "Unauthorized", b"\x00\x01", WWW_Authenticate='Basic realm="x"', Server="y"),
            Advice(
                f"{TEXT} 401 Unauthorized",
                ('WWW-Authenticate: Basic realm="x"',),
                "give a user and a password with --auth, or a token with --header",
            ),
        ),
        (
            "ws://h",
            refusal(404, "Not Found", b"x" * 301),
            Advice(f"{TEXT} 404 Not Found", ("x" * 300, "..."), "is the path right?"),
        ),
        ("ws://h", refusal(418, "Teapot"), Advice(f"{TEXT} 418 Teapot", (), VERBOSE)),
        (
            "ws://h",
            noted(InvalidProxyStatus(Response(407, "Auth", Headers(), b"")), "The connection goes through the proxy x"),
            Advice(
                "proxy rejected connection: HTTP 407 Auth",
                ("The connection goes through the proxy x",),
                "give the proxy's user and password in its URI",
            ),
        ),
        (
            "ws://h",
            InvalidProxyStatus(Response(502, "Bad", Headers(), b"")),
            Advice("proxy rejected connection: HTTP 502 Bad", (), VERBOSE),
        ),
        (
            "ws://h",
            noted(ConnectionRefusedError(errno.ECONNREFUSED, "refused"), "through the proxy x"),
            Advice(
                f"[Errno {errno.ECONNREFUSED}] refused",
                ("through the proxy x",),
                "is the proxy right? --no-proxy goes without one",
            ),
        ),
        ("ws://h", ConnectionRefusedError("refused"), Advice("refused", (), "is a server running there?")),
        (
            "ws://h",
            FileNotFoundError("none"),
            Advice("none", (), "is the path of --unix right, and the server running?"),
        ),
        (
            "ws://h",
            ImportError("python-socks is needed"),
            Advice("python-socks is needed", (), 'pip install "websockets[socks]"'),
        ),
        ("ws://h", ImportError("another"), Advice("another")),
        ("ws://h", InvalidHeader("Upgrade"), Advice("missing Upgrade header", (), VERBOSE)),
        (
            "ws://h",
            TimeoutError("timed out"),
            Advice("timed out", (), "there is no answer; is the port right? --timeout SEC waits longer"),
        ),
        (
            "wss://h",
            ConnectionResetError(),
            Advice("the server ended the connection", (), "does the server speak TLS here? If not, try ws://h"),
        ),
        (
            "ws://h",
            caused(InvalidMessage("no HTTP"), ValueError("SSH-2.0")),
            Advice("no HTTP: SSH-2.0", (), "is the port right? See the response with --verbose"),
        ),
        (
            "ws://h",
            noted(caused(ProxyError("no SOCKS"), ValueError("83")), "through the proxy x"),
            Advice("no SOCKS: 83", ("through the proxy x",), "is the proxy right? --no-proxy goes without one"),
        ),
    ],
)
def test_failure(uri: str, error: Exception, advice: Advice) -> None:
    assert of_failure(uri, error) == advice


@pytest.mark.parametrize(
    ("error", "end"),
    [
        (ConnectionClosed(Close(1000, ""), Close(1000, ""), False), End(1000, "", Advice("1000 (OK)"))),
        (
            ConnectionClosed(Close(4001, "bye"), Close(4001, "bye"), True),
            End(4001, "bye", Advice("4001 (private use) bye")),
        ),
        (ConnectionClosed(Close(4001, "bye"), None), End(4001, "bye", Advice("4001 (private use) bye"))),
        (
            ConnectionClosed(Close(1009, ""), Close(1009, ""), True),
            End(1009, "", Advice("1009 (message too big)", (), "the server takes no messages of this size")),
        ),
        (
            ConnectionClosed(Close(1000, ""), Close(1009, "limit"), False),
            End(
                1000,
                "",
                Advice(
                    "sent 1009 (message too big) limit; then received 1000 (OK)",
                    (),
                    "accept larger messages with --max-size",
                ),
            ),
        ),
        (
            ConnectionClosed(None, Close(1011, "keepalive ping timeout")),
            End(
                1006,
                "",
                Advice(
                    "sent 1011 (internal error) keepalive ping timeout; no close frame received",
                    (),
                    "the server didn't answer a ping; is it busy, or the network broken?",
                ),
            ),
        ),
        (
            ConnectionClosed(None, Close(1000, "")),
            End(1006, "", Advice("sent 1000 (OK); no close frame received")),
        ),
        (
            caused(ConnectionClosedError(None, None), ConnectionResetError("reset")),
            End(1006, "", Advice("no close frame received or sent: reset")),
        ),
        (ConnectionClosedError(None, None), End(1006, "", Advice("no close frame received or sent"))),
    ],
)
def test_end(error: ConnectionClosed, end: End) -> None:
    assert of_end(error) == end
