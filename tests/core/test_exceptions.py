"""The tree of exceptions: who descends from whom, and what each of them says."""

from __future__ import annotations

import ast
import copy
import pickle
import re
import warnings

import pytest
from hypothesis import given
from hypothesis import strategies as st

from websockets import exceptions
from websockets.datastructures import Headers
from websockets.exceptions import (
    ConcurrencyError,
    ConnectionClosed,
    ConnectionClosedError,
    ConnectionClosedOK,
    DuplicateParameter,
    InvalidHeader,
    InvalidHeaderFormat,
    InvalidHeaderValue,
    InvalidMessage,
    InvalidMethod,
    InvalidOrigin,
    InvalidParameterName,
    InvalidParameterValue,
    InvalidProtocol,
    InvalidProxy,
    InvalidProxyStatus,
    InvalidState,
    InvalidStatus,
    InvalidUpgrade,
    InvalidURI,
    PayloadTooBig,
    ProtocolError,
    TooManyFragments,
    WebSocketException,
    printable,
)
from websockets.frames import Close
from websockets.http11 import Response

BASES = {
    "WebSocketException": "Exception",
    "ConnectionClosed": "WebSocketException",
    "ConnectionClosedOK": "ConnectionClosed",
    "ConnectionClosedError": "ConnectionClosed",
    "InvalidURI": "WebSocketException",
    "InvalidProxy": "WebSocketException",
    "InvalidHandshake": "WebSocketException",
    "SecurityError": "InvalidHandshake",
    "RequestLineTooLong": "SecurityError",
    "StatusLineTooLong": "SecurityError",
    "HeaderLineTooLong": "SecurityError",
    "TooManyHeaders": "SecurityError",
    "ProxyError": "InvalidHandshake",
    "InvalidProxyMessage": "ProxyError",
    "InvalidProxyStatus": "ProxyError",
    "InvalidMessage": "InvalidHandshake",
    "InvalidMethod": "InvalidHandshake",
    "InvalidProtocol": "InvalidHandshake",
    "InvalidStatus": "InvalidHandshake",
    "InvalidHeader": "InvalidHandshake",
    "InvalidHeaderFormat": "InvalidHeader",
    "InvalidHeaderValue": "InvalidHeader",
    "InvalidOrigin": "InvalidHeader",
    "InvalidUpgrade": "InvalidHeader",
    "NegotiationError": "InvalidHandshake",
    "DuplicateParameter": "NegotiationError",
    "InvalidParameterName": "NegotiationError",
    "InvalidParameterValue": "NegotiationError",
    "ProtocolError": "WebSocketException",
    "PayloadTooBig": "WebSocketException",
    "TooManyFragments": "WebSocketException",
    "InvalidState": "WebSocketException AssertionError",
    "ConcurrencyError": "WebSocketException RuntimeError",
}

CLOSE = Close(1000, "")
BOO = Close(1011, "boo")
REFUSAL = Response(404, "Not Found", Headers())

TEXTS = [
    (ConnectionClosed(None, None, None), "no close frame received or sent"),
    (ConnectionClosed(None, None), "no close frame received or sent"),
    (ConnectionClosed(CLOSE, None), "received 1000 (OK); no close frame sent"),
    (ConnectionClosedError(None, BOO, None), "sent 1011 (internal error) boo; no close frame received"),
    (ConnectionClosedOK(CLOSE, CLOSE, True), "received 1000 (OK); then sent 1000 (OK)"),
    (ConnectionClosedError(BOO, CLOSE, False), "sent 1000 (OK); then received 1011 (internal error) boo"),
    (
        ConnectionClosedError(Close(4000, "a\x1b\nb"), None),
        r"received 4000 (private use) a\x1b\nb; no close frame sent",
    ),
    (InvalidURI("ws://", "no host"), "ws:// isn't a valid URI: no host"),
    (InvalidProxy("p://", "no host"), "p:// isn't a valid proxy: no host"),
    (InvalidMessage("did not receive HTTP"), "did not receive HTTP"),
    (InvalidStatus(REFUSAL), "server rejected WebSocket connection: HTTP 404"),
    (InvalidProxyStatus(REFUSAL), "proxy rejected connection: HTTP 404"),
    (InvalidMethod("PUT"), "unsupported HTTP method: PUT"),
    (InvalidProtocol("HTTP/1.0"), "unsupported HTTP version: HTTP/1.0"),
    (InvalidHeader("Name"), "missing Name header"),
    (InvalidHeader("Name", None), "missing Name header"),
    (InvalidHeader("Name", ""), "empty Name header"),
    (InvalidHeader("Name", "value"), "invalid Name header: value"),
    (InvalidHeaderValue("Name", "\r\nvalue"), r"invalid Name header: \r\nvalue"),
    (InvalidHeaderFormat("Name", "expected token", "a=|", 2), "invalid Name header: expected token at 2 in a=|"),
    (InvalidOrigin(None), "missing Origin header"),
    (InvalidOrigin(""), "empty Origin header"),
    (InvalidOrigin("http://evil"), "invalid Origin header: http://evil"),
    (InvalidUpgrade("Upgrade"), "missing Upgrade header"),
    (InvalidUpgrade("Connection", "close"), "invalid Connection header: close"),
    (DuplicateParameter("a"), "duplicate parameter: a"),
    (InvalidParameterName("a"), "invalid parameter name: a"),
    (InvalidParameterValue("a", None), "missing value for parameter a"),
    (InvalidParameterValue("a", ""), "empty value for parameter a"),
    (InvalidParameterValue("a", "1"), "invalid value for parameter a: 1"),
    (ProtocolError("invalid opcode"), "invalid opcode"),
    (PayloadTooBig(11, 10), "frame with 11 bytes exceeds limit of 10 bytes"),
    (PayloadTooBig(10, 0, 100), "frame with 10 bytes after reading 100 bytes exceeds limit of 100 bytes"),
    (PayloadTooBig(1, 2, 0), "frame with 1 bytes after reading 0 bytes exceeds limit of 2 bytes"),
    (PayloadTooBig(None, 2), "frame exceeds limit of 2 bytes"),
    (PayloadTooBig(None, 2, 3), "frame after reading 3 bytes exceeds limit of 5 bytes"),
    (TooManyFragments(4096), "fragmented message exceeds limit of 4096 frames"),
    (InvalidState("connection is OPEN"), "connection is OPEN"),
    (ConcurrencyError("cannot call recv twice"), "cannot call recv twice"),
]


def test_tree_is_complete() -> None:
    assert set(exceptions.__all__) == set(BASES)


@pytest.mark.parametrize(("name", "bases"), BASES.items())
def test_bases(name: str, bases: str) -> None:
    assert " ".join(base.__name__ for base in getattr(exceptions, name).__bases__) == bases


def test_drawing_shows_the_tree() -> None:
    rows = re.findall(r"^ {4}([ |`-]*)(\w+)", exceptions.__doc__ or "", re.MULTILINE)
    drawn: dict[str, str] = {}
    path: list[str] = []
    for indent, name in rows:
        path[(len(indent) + 1) // 4 :] = [name]
        drawn[name] = path[-2] if len(path) > 1 else "Exception"
    assert drawn == {name: bases.split()[0] for name, bases in BASES.items()}


@pytest.mark.parametrize(("exc", "text"), TEXTS)
def test_text(exc: WebSocketException, text: str) -> None:
    assert str(exc) == text


@pytest.mark.parametrize("exc", [exc for exc, _ in TEXTS])
def test_copies_and_pickles_say_the_same(exc: WebSocketException) -> None:
    for twin in (copy.copy(exc), pickle.loads(pickle.dumps(exc))):
        assert type(twin) is type(exc)
        assert str(twin) == str(exc)
        assert vars(twin) == vars(exc)


def test_connection_closed_keeps_both_close_frames() -> None:
    exc = ConnectionClosed(CLOSE, BOO, False)
    assert (exc.rcvd, exc.sent, exc.rcvd_then_sent) == (CLOSE, BOO, False)


def deprecated(name: str) -> str:
    """The warning about a deprecated attribute."""
    text = f"ConnectionClosed.{name} is deprecated; use Protocol.close_{name} or ConnectionClosed.rcvd.{name}"
    return f"^{re.escape(text)}$"


@pytest.mark.parametrize(("rcvd", "code", "reason"), [(BOO, 1011, "boo"), (None, 1006, "")])
def test_code_and_reason_are_deprecated(rcvd: Close | None, code: int, reason: str) -> None:
    exc = ConnectionClosed(rcvd, CLOSE)
    with pytest.warns(DeprecationWarning, match=deprecated("code")) as caught:
        assert exc.code == code
    assert caught[0].filename == __file__
    with pytest.warns(DeprecationWarning, match=deprecated("reason")) as caught:
        assert exc.reason == reason
    assert caught[0].filename == __file__


def test_header_exceptions_keep_name_and_value() -> None:
    assert vars(InvalidHeaderFormat("Name", "error", "value", 3)) == {"name": "Name", "value": "error at 3 in value"}
    assert vars(InvalidOrigin("null")) == {"name": "Origin", "value": "null"}


def test_payload_too_big_adds_earlier_frames_once_known() -> None:
    exc = PayloadTooBig(None, 2)
    exc.set_current_size(None)
    assert (exc.size, exc.max_size, exc.current_size) == (None, 2, None)
    exc.set_current_size(3)
    assert (exc.size, exc.max_size, exc.current_size) == (None, 5, 3)
    exc.set_current_size(4)
    assert str(exc) == "frame after reading 4 bytes exceeds limit of 6 bytes"


def test_payload_too_big_accepts_a_text_and_warns() -> None:
    text = "PayloadTooBig(message) is deprecated; change to PayloadTooBig(size, max_size)"
    with pytest.warns(DeprecationWarning, match=f"^{re.escape(text)}$") as caught:
        exc = PayloadTooBig("over the top")
    assert caught[0].filename == __file__
    exc.set_current_size(3)
    assert str(exc) == exc.message == "over the top"
    assert exc.size is exc.max_size is exc.current_size is None


def test_payload_too_big_requires_a_limit() -> None:
    with pytest.raises(TypeError, match="max_size is required"):
        PayloadTooBig(1)


def test_too_many_fragments_keeps_the_limit() -> None:
    assert TooManyFragments(16).max_fragments == 16


@given(st.text())
def test_printable_is_printable_and_can_be_read_back(text: str) -> None:
    shown = printable(text)
    assert shown.isprintable()
    if text.isprintable():
        assert shown == text
    elif "\\" not in text:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            assert ast.literal_eval('"' + shown.replace('"', r"\"") + '"') == text


@pytest.mark.parametrize(
    ("reason", "body", "notes"),
    [
        ("", b"", []),
        ("Forbidden", b"", ["the response has 'Forbidden': HTTP 403"]),
        ("", b"Log in\x1b[31m first\n", [r"the response has a body that begins with 'Log in\x1b[31m first': HTTP 403"]),
        ("No", b"x" * 300, [f"the response has 'No' and a body that begins with '{'x' * 200}': HTTP 403"]),
        ("No", b"\xff", ["the response has 'No' and a body that begins with '\ufffd': HTTP 403"]),
    ],
)
def test_a_note_says_what_a_refusal_says(reason: str, body: bytes, notes: list[str]) -> None:
    error = InvalidStatus(Response(403, reason, Headers(), body))
    assert str(error) == "server rejected WebSocket connection: HTTP 403"
    assert getattr(error, "__notes__", []) == notes
    # As tests of programs do; pytest looks at notes, too.
    with pytest.raises(InvalidStatus, match=r"HTTP 403$"):
        raise error
