"""ASGI 3 for WebSocket: the scope of a request, which messages an application may send when, and what they mean.

May know: requests, responses, headers, Close frames. Must not know: connections, event loops, how an application runs,
which server serves it.

An application gets a scope and two functions, ``receive`` and ``send``. It answers the request by one of three
messages; after that, the table :data:`EXPECTED` says which messages may follow.
"""

from __future__ import annotations

import dataclasses
import enum
import http
import re
from collections.abc import Iterable, Mapping, MutableMapping
from typing import Any, Final, NamedTuple
from urllib.parse import quote, unquote

from ..datastructures import Headers, is_token
from ..frames import Close
from ..headers import parse_subprotocol
from ..http11 import Request, Response
from ..typing import Data, Subprotocol

__all__ = [
    "ACCEPT",
    "CLOSE",
    "CONNECT",
    "EXPECTED",
    "RECEIVE",
    "RESPONSE_START",
    "SEND",
    "Event",
    "Head",
    "Message",
    "Pairs",
    "Phase",
    "Place",
    "accepted",
    "body_of",
    "check_type",
    "close_of",
    "disconnect",
    "full_response",
    "head_of",
    "last_chunk",
    "make_scope",
    "payload_of",
    "piece_of_body",
    "shown_client",
    "shown_path",
    "streamed_response",
    "subprotocol_of",
    "text_response",
]

Message = Mapping[str, Any]
Event = MutableMapping[str, Any]
Pairs = Iterable[tuple[bytes, bytes]]

CONNECT: Final = "websocket.connect"
RECEIVE: Final = "websocket.receive"
DISCONNECT: Final = "websocket.disconnect"
ACCEPT: Final = "websocket.accept"
SEND: Final = "websocket.send"
CLOSE: Final = "websocket.close"
RESPONSE_START: Final = "websocket.http.response.start"
RESPONSE_BODY: Final = "websocket.http.response.body"


_BYTES: Final = (bytes, bytearray, memoryview)


class Phase(enum.Enum):
    """How far an application has come, in the messages that it sent."""

    ABSENT = "there is no request yet"
    ASKED = "the request waits for its answer"
    OPEN = "the connection was accepted"
    HEAD = "the head of an HTTP response is there, and is sent with the first piece of the body"
    BODY = "a part of the body was sent"
    OVER = "the application closed the connection, or refused the request"
    REFUSED = "the server refused the request before the application answered"


EXPECTED: Final[Mapping[Phase, tuple[str, ...]]] = {
    Phase.ABSENT: (),
    Phase.ASKED: (ACCEPT, CLOSE, RESPONSE_START),
    Phase.OPEN: (SEND, CLOSE),
    Phase.HEAD: (RESPONSE_BODY,),
    Phase.BODY: (RESPONSE_BODY,),
    Phase.OVER: (),
    Phase.REFUSED: (),
}
"""The messages that an application may send in each phase."""


class Place(NamedTuple):
    """What a scope says about the server, beyond the request.

    Attributes:
        version: version of ASGI, such as "3.0".
        root_path: path under which the application is mounted.
        secure: whether the connection has TLS.
        server, client: addresses of both ends, as transports give them.
    """

    version: str
    root_path: str
    secure: bool
    server: Any
    client: Any


@dataclasses.dataclass(slots=True)
class Head:
    """The head of an HTTP response of an application.

    Attributes:
        status: the status.
        headers: the headers.
        left: number of bytes of the body that are still to come; None if the application didn't announce it.
    """

    status: int
    headers: Headers
    left: int | None = None

    def take(self, size: int, more: bool) -> None:
        """Count a piece of the body; if it raises, nothing has changed.

        Parameters:
            size: number of bytes.
            more: whether more follow.

        Raises:
            RuntimeError: the body isn't as long as its Content-Length says.
        """
        if self.left is None:
            return
        left = self.left - size
        if left < 0:
            raise RuntimeError("Response content longer than Content-Length")
        if left and not more:
            raise RuntimeError("Response content shorter than Content-Length")
        self.left = left


# ---------------------------------------------------------------------------------------------------------- the scope

# The beginning of a URI: its scheme and its host.
_ORIGIN: Final = re.compile(r"^[^:/?]+://[^/?]*")


def make_scope(request: Request, place: Place, state: dict[str, Any]) -> dict[str, Any]:
    """Make the scope of a connection.

    Parameters:
        request: a valid opening handshake.
        place: where the application runs.
        state: what the application's lifespan left; the scope gets a shallow copy.
    """
    # The target may be a whole URI (RFC 9112 section 3.2.2).
    raw_path, _, query = _ORIGIN.sub("", request.path).partition("?")
    raw_path = raw_path or "/"
    headers = request.headers
    offered = [name for value in headers.get_all("Sec-WebSocket-Protocol") for name in parse_subprotocol(value)]
    return {
        "type": "websocket",
        "asgi": {"version": place.version, "spec_version": "2.4"},
        "http_version": "1.1",
        "scheme": "wss" if place.secure else "ws",
        "server": _server_address(place.server),
        "client": _host_and_port(place.client),
        "root_path": place.root_path,
        "path": place.root_path + unquote(raw_path),
        "raw_path": (quote(place.root_path) + raw_path).encode("iso-8859-1"),
        "query_string": query.encode("iso-8859-1"),
        "headers": [
            (name.lower().encode("iso-8859-1"), value.encode("iso-8859-1")) for name, value in headers.raw_items()
        ],
        "subprotocols": offered,
        "state": state.copy(),
        "extensions": {"websocket.http.response": {}},
    }


def _host_and_port(address: Any) -> tuple[str, int] | None:
    """Return the address of an end of a TCP connection; None for any other address."""
    return (str(address[0]), int(address[1])) if isinstance(address, tuple | list) else None


def _server_address(address: Any) -> tuple[str, int | None] | None:
    """Return the address of the server; with a Unix socket, its path and None."""
    return (address, None) if address and isinstance(address, str) else _host_and_port(address)


def shown_client(scope: Message) -> str:
    """Return the address of the client for the log; empty if there is none. Middleware may have changed it."""
    client = scope.get("client")
    return f"{client[0]}:{client[1]}" if client else ""


def shown_path(scope: Message) -> str:
    """Return the path and the query for the log."""
    query = scope["query_string"].decode("iso-8859-1")
    path = quote(scope["path"])
    return f"{path}?{query}" if query else path


# ------------------------------------------------------------------------------------ what the application receives


def disconnect(rcvd: Close | None, sent: Close | None, rcvd_first: bool | None) -> Event:
    """Return the event of the end of a connection.

    Parameters:
        rcvd: the Close frame received; None if there was none.
        sent: the Close frame sent; None if there was none.
        rcvd_first: whether the peer closed first.

    Returns:
        The event, with the code of who closed first; 1006 without a Close frame.
    """
    if rcvd is not None and rcvd_first:
        return {"type": DISCONNECT, "code": int(rcvd.code), "reason": rcvd.reason}
    if sent is None:
        return {"type": DISCONNECT, "code": 1006}
    event = {"type": DISCONNECT, "code": int(sent.code)}
    return {**event, "reason": sent.reason} if sent.reason else event


# --------------------------------------------------------------------------------------- what the application sends


def check_type(phase: Phase, message: Message) -> str:
    """Check that a message may be sent in a phase.

    Parameters:
        phase: the phase.
        message: the message of the application.

    Returns:
        The type of the message.

    Raises:
        RuntimeError: the message isn't expected.
        TypeError: it isn't a message.
    """
    kind = message.get("type") if isinstance(message, Mapping) else None
    if not isinstance(kind, str):
        raise TypeError(f"an ASGI message is a dict with a str as its type, not {message!r}")
    expected = EXPECTED[phase]
    if kind in expected:
        return kind
    if not expected:
        raise RuntimeError(f"Unexpected ASGI message '{kind}': the application has already closed or responded.")
    names = " or ".join(f"'{name}'" for name in expected)
    raise RuntimeError(f"Expected ASGI message {names} but got '{kind}'.")


def payload_of(message: Message) -> Data:
    """Return what ``websocket.send`` sends.

    Raises:
        TypeError: it has neither text nor bytes, or of a wrong type.
    """
    text = message.get("text")
    if text is not None:
        if not isinstance(text, str):
            raise TypeError(f"text of {SEND} must be str, not {type(text).__name__}")
        return text
    data = message.get("bytes")
    if data is None:
        raise TypeError(f"{SEND} needs text or bytes")
    if not isinstance(data, _BYTES):
        raise TypeError(f"bytes of {SEND} must be bytes, not {type(data).__name__}")
    return data  # type: ignore[return-value]


def close_of(message: Message) -> tuple[int, str]:
    """Return the code and the reason of ``websocket.close``; 1000 and no reason by default."""
    code = message.get("code")
    return (1000 if code is None else code), message.get("reason") or ""


# Headers of the opening handshake that aren't for the application to set, and those that end an HTTP message.
_OF_HANDSHAKE: Final = frozenset(
    (
        *("connection", "upgrade", "content-length", "transfer-encoding"),
        *("sec-websocket-accept", "sec-websocket-extensions", "sec-websocket-protocol"),
    )
)
# Headers of a response that say how the connection goes on: it ends.
_OF_CONNECTION: Final = ("Connection", "Transfer-Encoding", "Upgrade")
# Of a Content-Length; more than any body has.
MAX_DIGITS: Final = 18

# Statuses whose responses have no body: RFC 9110 section 6.4.1.
_WITHOUT_BODY: Final = (204, 304)


def _decoded(kind: str, pairs: Any) -> list[tuple[str, str]]:
    """Return headers of the application as text.

    Raises:
        TypeError: they aren't pairs of bytes.
    """
    decoded = []
    for pair in pairs or ():
        if not (isinstance(pair, tuple | list) and [isinstance(part, bytes) for part in pair] == [True, True]):
            raise TypeError(f"headers of {kind} must be pairs of bytes, not {pair!r}")
        name, value = (part.decode("iso-8859-1") for part in pair)
        decoded.append((name, value))
    return decoded


def accepted(opening: Response, message: Message, defaults: Pairs) -> Response:
    """Return the response that accepts a connection.

    Parameters:
        opening: the response of the protocol; it stays as it is.
        message: ``websocket.accept``.
        defaults: headers that the server adds to all responses.

    Raises:
        TypeError: a header isn't a pair of bytes, or the subprotocol isn't a ``str``.
        ValueError: a header belongs to the handshake, or the subprotocol isn't a token.
        InvalidHeader: a header can't be sent.
    """
    given = _decoded(ACCEPT, message.get("headers"))
    for name, value in given:
        if name.lower() in _OF_HANDSHAKE:
            hint = "; use subprotocol" if name.lower() == "sec-websocket-protocol" else ""
            raise ValueError(f"headers of {ACCEPT} must not set {name}: {value}{hint}")
    headers = opening.headers.copy()
    del headers["Date"]  # the server decides whether there is one
    headers.update(_decoded(ACCEPT, defaults))
    headers.update(given)
    subprotocol = subprotocol_of(message)
    if subprotocol is not None:
        headers["Sec-WebSocket-Protocol"] = subprotocol
    return Response(opening.status_code, opening.reason_phrase, headers)


def subprotocol_of(message: Message) -> Subprotocol | None:
    """Return the subprotocol of ``websocket.accept``; None if there is none.

    Raises:
        TypeError: it isn't a ``str``.
        ValueError: it isn't a token.
    """
    subprotocol = message.get("subprotocol")
    if not subprotocol:
        return None
    if not isinstance(subprotocol, str):
        raise TypeError(f"subprotocol of {ACCEPT} must be str, not {type(subprotocol).__name__}")
    if not is_token(subprotocol):
        raise ValueError(f"subprotocol of {ACCEPT} is not a token: {subprotocol!r}")
    return Subprotocol(subprotocol)


def head_of(message: Message, defaults: Pairs) -> Head:
    """Return the head of ``websocket.http.response.start``.

    Parameters:
        message: the message.
        defaults: headers that the server adds to all responses, unless the application sets them.

    Raises:
        TypeError: the status isn't an ``int``, or a header isn't a pair of bytes.
        ValueError: the status isn't one from 200 to 599, or Content-Length isn't one number.
        InvalidHeader: a header can't be sent.
    """
    status = message.get("status")
    if not isinstance(status, int):
        raise TypeError(f"status of {RESPONSE_START} must be int, not {type(status).__name__}")
    if not 200 <= status <= 599:
        raise ValueError(f"status of {RESPONSE_START} must be from 200 to 599, not {status}")
    given = Headers()
    given.update(_decoded(RESPONSE_START, message.get("headers")))
    for name in _OF_CONNECTION:
        if name in given:
            del given[name]
    headers = Headers()
    headers.update((name, value) for name, value in _decoded(RESPONSE_START, defaults) if name not in given)
    headers["Connection"] = "close"
    headers.update(given.raw_items())
    if status in _WITHOUT_BODY:
        if status == 204:
            # RFC 9110 section 8.6; of a response with 304, it tells what another one would have.
            headers.pop("Content-Length", None)
        return Head(int(status), headers)
    return Head(int(status), headers, _announced(given.get_all("Content-Length")))


def _announced(lengths: list[str]) -> int | None:
    """Return the length of the body that the application announced; None if it didn't.

    Raises:
        ValueError: it isn't one number.
    """
    if not lengths:
        return None
    (length, *others) = lengths
    if others or not (length.isascii() and length.isdigit()) or len(length) > MAX_DIGITS:
        raise ValueError(f"Content-Length of {RESPONSE_START} must be one number, not {', '.join(lengths)}")
    return int(length)


def body_of(message: Message) -> tuple[bytes, bool]:
    """Return a piece of a body, and whether more follows.

    Raises:
        TypeError: the body isn't bytes.
    """
    body = message.get("body", b"")
    if not isinstance(body, _BYTES):
        raise TypeError(f"body of {RESPONSE_BODY} must be bytes, not {type(body).__name__}")
    return bytes(body), bool(message.get("more_body", False))


# ----------------------------------------------------------------------------------------------------------- responses


def text_response(status: int, text: str, defaults: Pairs) -> Response:
    """Return a response of the server, in place of one of the application."""
    head = {"status": status, "headers": [(b"Content-Type", b"text/plain; charset=utf-8")]}
    return full_response(head_of(head, defaults), text.encode())


def full_response(head: Head, body: bytes) -> Response:
    """Return a response whose body is complete."""
    if head.status in _WITHOUT_BODY:
        return _response(head, b"")
    if "Content-Length" not in head.headers:
        head.headers["Content-Length"] = str(len(body))
    return _response(head, body)


def streamed_response(head: Head, body: bytes) -> Response:
    """Return a response with the first piece of its body; see :func:`piece_of_body`."""
    if "Content-Length" not in head.headers and head.status not in _WITHOUT_BODY:
        head.headers["Transfer-Encoding"] = "chunked"
    return _response(head, piece_of_body(head, body))


def piece_of_body(head: Head, body: bytes) -> bytes:
    """Return the bytes of a piece of a body: a chunk, if the length wasn't announced (RFC 9112 section 7.1)."""
    if head.status in _WITHOUT_BODY:
        return b""
    return b"%x\r\n%b\r\n" % (len(body), body) if body and "Transfer-Encoding" in head.headers else body


def last_chunk(head: Head) -> bytes:
    """Return the bytes after the last piece of a body."""
    return b"0\r\n\r\n" if "Transfer-Encoding" in head.headers else b""


def _response(head: Head, body: bytes) -> Response:
    try:
        phrase = http.HTTPStatus(head.status).phrase
    except ValueError:
        phrase = ""
    return Response(head.status, phrase, head.headers, body)
