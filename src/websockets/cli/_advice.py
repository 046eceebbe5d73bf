"""Why there is no connection, or none any more, in words for humans; and what to do about it.

May know: exceptions, responses, close codes, the options of the command by name. Must not know: connections, terminals.
Nothing here is escaped for a terminal: :mod:`websockets.cli._format` does that.
"""

from __future__ import annotations

import re
import ssl
from collections.abc import Callable, Iterable
from typing import Final, NamedTuple

from ..exceptions import (
    ConnectionClosed,
    InvalidHandshake,
    InvalidMessage,
    InvalidProxyStatus,
    InvalidStatus,
    InvalidURI,
    ProxyError,
    SecurityError,
)
from ..frames import OK_CLOSE_CODES, CloseCode
from ..http11 import Response

__all__ = ["Advice", "End", "completed_uri", "error_line", "of_end", "of_failure"]

# Characters of the body of a response that are shown.
EXCERPT: Final = 300

# Headers of a refusal that say what to do.
TELLING: Final = ("WWW-Authenticate", "Proxy-Authenticate", "Retry-After", "Location", "Sec-WebSocket-Version")

# A host and a port without a scheme: what people type first.
match_place = re.compile(r"(?:\[[^\[\]/?#@]+\]|[^\[\]/?#@:]*):[0-9]+(?=$|[/?#])").match
match_scheme = re.compile(r"(?:[A-Za-z][A-Za-z0-9+.\-]*:)?//").match

# The schemes of web pages, and those of WebSocket.
SCHEMES: Final = {"http:": "ws:", "https:": "wss:"}


class Advice(NamedTuple):
    """What is known about a failure.

    Parameters:
        text: what happened, without a full stop.
        details: more lines, such as the body of a response.
        hint: what to do; empty if nobody knows.
    """

    text: str
    details: tuple[str, ...] = ()
    hint: str = ""


def completed_uri(text: str) -> str:
    """Return the URI that the user means: ``ws://`` comes before a host and a port that stand alone."""
    if text.startswith(":") and match_place(text):
        return f"ws://localhost{text}"
    return f"ws://{text}" if match_place(text) else text


def error_line(exc: BaseException) -> str:
    """Return the text of an exception, or its name if there is no text."""
    return str(exc) or type(exc).__name__


# ------------------------------------------------------------------------------------------------------- no connection


def of_failure(uri: str, exc: BaseException) -> Advice:
    """Return why there is no connection.

    Parameters:
        uri: the URI of the attempt, without credentials.
        exc: the exception of the attempt.
    """
    text, details = error_line(exc), tuple[str, ...]()
    if isinstance(exc, InvalidStatus | InvalidProxyStatus):
        text, details = _refusal(text, exc.response)
    elif isinstance(exc, InvalidMessage | ProxyError) and exc.__cause__ is not None:
        text = f"{text}: {error_line(exc.__cause__)}"
    elif type(exc) is ConnectionResetError and not exc.args:
        # The text of asyncio, which has none.
        text = "the server ended the connection"
    notes = getattr(exc, "__notes__", ())
    # The response itself says more than the first note about it.
    details = (*(note for note in notes if not note.startswith("the response has ")), *details)
    hints = (advise(uri, exc) for advise in ADVISERS)
    return Advice(text, details, next(filter(None, hints), ""))


def _refusal(text: str, response: Response) -> tuple[str, tuple[str, ...]]:
    """Return the text for a response that isn't the wanted one, and lines with what the server says."""
    reason = response.reason_phrase
    status = f"HTTP {response.status_code:d}"
    if reason and f"{status} {reason}" not in text:
        text = text.replace(status, f"{status} {reason}", 1)
    headers = [f"{name}: {value}" for name in TELLING for value in response.headers.get_all(name)]
    return text, (*headers, *_excerpt(response))


def _excerpt(response: Response) -> Iterable[str]:
    """Return the first lines of the body, unless it isn't text."""
    body = response.body.decode(errors="replace").strip()
    if "\0" in body:
        return
    shown = body[:EXCERPT].rstrip()
    yield from (line.rstrip() for line in shown.splitlines() if line.strip())
    if len(body) > EXCERPT:
        yield "..."


# Each returns a hint, or an empty text if it knows nothing about the exception.


def _on_scheme(uri: str, exc: BaseException) -> str:
    if not isinstance(exc, InvalidURI):
        return ""
    for wrong, right in SCHEMES.items():
        if uri.lower().startswith(wrong):
            return f"did you mean {right}{uri[len(wrong) :]}?"
    if uri and not match_scheme(uri) and ":" not in uri.partition("/")[0]:
        return f"did you mean wss://{uri}, or ws://{uri}?"
    return ""


def _on_tls(uri: str, exc: BaseException) -> str:
    if isinstance(exc, ssl.SSLCertVerificationError):
        return "trust the server's certificate with --ca FILE, or don't verify it with --insecure"
    if isinstance(exc, ConnectionResetError) and uri.lower().startswith("wss:"):
        return f"does the server speak TLS here? If not, try ws:{uri.partition(':')[2]}"
    if isinstance(exc, ssl.SSLError) and exc.reason in ("WRONG_VERSION_NUMBER", "HTTP_REQUEST", "RECORD_LAYER_FAILURE"):
        return f"the server doesn't speak TLS here; try ws:{uri.partition(':')[2]}"
    return ""


def _on_plain(uri: str, exc: BaseException) -> str:
    """A server that waits for TLS ends the connection at once, sends an alert, or says in plain HTTP what it wants."""
    if uri.lower().startswith("wss:"):
        return ""
    without_words = isinstance(exc, InvalidMessage) and isinstance(exc.__cause__, EOFError | ConnectionResetError)
    in_words = isinstance(exc, InvalidStatus) and exc.response.status_code == 400 and b"HTTPS" in exc.response.body
    if without_words or in_words or isinstance(exc, ConnectionResetError):
        return f"if the server uses TLS, try wss:{uri.partition(':')[2]}"
    return ""


def _on_status(uri: str, exc: BaseException) -> str:
    if isinstance(exc, InvalidProxyStatus):
        return "give the proxy's user and password in its URI" if exc.response.status_code == 407 else ""
    return STATUS_HINTS.get(int(exc.response.status_code), "") if isinstance(exc, InvalidStatus) else ""


def _on_network(uri: str, exc: BaseException) -> str:
    on_the_way = isinstance(exc, OSError | ProxyError) and not isinstance(exc, InvalidProxyStatus)
    if on_the_way and any("proxy" in note for note in getattr(exc, "__notes__", ())):
        return "is the proxy right? --no-proxy goes without one"
    if isinstance(exc, TimeoutError):
        return "there is no answer; is the port right? --timeout SEC waits longer"
    if isinstance(exc, FileNotFoundError):
        return "is the path of --unix right, and the server running?"
    return "is a server running there?" if isinstance(exc, ConnectionRefusedError) else ""


def _on_redirects(uri: str, exc: BaseException) -> str:
    limited = isinstance(exc, SecurityError) and re.match(r"more than \d+ redirect", str(exc))
    return "do the redirects ever end? --max-redirects N sets another limit" if limited else ""


def _on_extras(uri: str, exc: BaseException) -> str:
    if isinstance(exc, ImportError) and "python-socks" in str(exc):
        return 'pip install "websockets[socks]"'
    return ""


def _on_handshake(uri: str, exc: BaseException) -> str:
    if isinstance(exc, InvalidMessage) and isinstance(exc.__cause__, ValueError):
        return "is the port right? See the response with --verbose"
    return "see request and response with --verbose" if isinstance(exc, InvalidHandshake) else ""


STATUS_HINTS: Final = {
    200: "this is a web page; is the path the one of the WebSocket server?",
    400: "see request and response with --verbose",
    401: "give a user and a password with --auth, or a token with --header",
    403: "the server may want another --origin, or credentials: --auth, --header",
    404: "is the path right?",
    421: "the server doesn't know this host; is the name in the URI right?",
    426: "the server wants another protocol; see its response with --verbose",
    429: "the server counts requests; try again later",
    500: "the server failed; its log may say why",
    502: "a proxy in front of the server doesn't reach it; is the server running?",
    503: "try again later",
    504: "a proxy in front of the server gets no answer from it; is the server busy?",
}

ADVISERS: Final[tuple[Callable[[str, BaseException], str], ...]] = (
    _on_scheme,
    _on_tls,
    _on_plain,
    _on_status,
    _on_network,
    _on_extras,
    _on_redirects,
    _on_handshake,
)


# --------------------------------------------------------------------------------------------- the end of a connection


class End(NamedTuple):
    """The end of a connection.

    Parameters:
        code: close code that was received; 1006 without one (RFC 6455 section 7.1.5).
        reason: close reason that was received.
        advice: why it ended, and what to do.
    """

    code: int
    reason: str
    advice: Advice


def of_end(exc: ConnectionClosed) -> End:
    """Return how a connection ended.

    Parameters:
        exc: the exception that calls raise after the end, with its cause.
    """
    rcvd, sent = exc.rcvd, exc.sent
    if rcvd is not None and (sent is None or exc.rcvd_then_sent or sent.code in OK_CLOSE_CODES or sent == rcvd):
        # The other side closed, or answered: its own words are enough.
        return End(rcvd.code, rcvd.reason, Advice(str(rcvd), hint=RECEIVED_HINTS.get(rcvd.code, "")))
    text, hint = str(exc), SENT_HINTS.get(sent.code, "") if sent is not None else ""
    if sent is None and exc.__cause__ is not None:
        text = f"{text}: {error_line(exc.__cause__)}"
    return End(
        *((CloseCode.ABNORMAL_CLOSURE, "") if rcvd is None else (rcvd.code, rcvd.reason)), Advice(text, hint=hint)
    )


RECEIVED_HINTS: Final[dict[int, str]] = {
    CloseCode.MESSAGE_TOO_BIG: "the server takes no messages of this size",
    CloseCode.SERVICE_RESTART: "the server restarts; try again",
    CloseCode.TRY_AGAIN_LATER: "the server is overloaded; try again later",
}

SENT_HINTS: Final[dict[int, str]] = {
    CloseCode.MESSAGE_TOO_BIG: "accept larger messages with --max-size",
    CloseCode.INTERNAL_ERROR: "the server didn't answer a ping; is it busy, or the network broken?",
    CloseCode.PROTOCOL_ERROR: "the server breaks the protocol; see its frames with --verbose",
    CloseCode.INVALID_DATA: "the server sent text that isn't UTF-8",
}
