"""The carrier of a WebSocket: what HTTP/1.1 asks and answers, and a second carrier that knows nothing of it."""

from __future__ import annotations

import base64
import logging
import re
from typing import Any

import pytest

from _kit import KEY, accept_key
from _kit.extended_connect import ExtendedConnect
from websockets._rules.carrier import check_version
from websockets._rules.carrier_http11 import HTTP11
from websockets._rules.refusals import UnsupportedVersion
from websockets.client import ClientProtocol, take_response, use_carrier
from websockets.datastructures import Headers
from websockets.datastructures._shortcuts import headers_from_lines
from websockets.exceptions import (
    InvalidHandshake,
    InvalidHeader,
    InvalidHeaderValue,
    InvalidMethod,
    InvalidProtocol,
    InvalidStatus,
    InvalidUpgrade,
    NegotiationError,
)
from websockets.extensions.permessage_deflate import (
    enable_client_permessage_deflate,
    enable_server_permessage_deflate,
)
from websockets.frames import Frame, Opcode
from websockets.http11 import Request, Response
from websockets.protocol import SEND_EOF, Protocol, State
from websockets.server import ServerProtocol, take_request
from websockets.uri import parse_uri

ASKED = {
    "Host": "localhost",
    "Upgrade": "websocket",
    "Connection": "Upgrade",
    "Sec-WebSocket-Key": KEY,
    "Sec-WebSocket-Version": "13",
}
GRANTED = {"Upgrade": "websocket", "Connection": "Upgrade", "Sec-WebSocket-Accept": accept_key(KEY)}


def changed(usual: dict[str, str], changes: dict[str, Any]) -> Headers:
    """Headers of which some are replaced, or removed by None."""
    return Headers({name: value for name, value in {**usual, **changes}.items() if value is not None})


# ------------------------------------------------------------------------------------------------ HTTP/1.1: the client


def test_new_keys() -> None:
    keys = {HTTP11.new_key() for _ in range(10)}
    assert len(keys) == 10
    assert {len(base64.b64decode(key, validate=True)) for key in keys} == {16}


@pytest.mark.parametrize("headers", [headers_from_lines("A: b\r\n"), Headers(A="b")], ids=["lines", "pairs"])
def test_request(headers: Headers) -> None:
    request = HTTP11.request("/a?b", headers, KEY)
    assert (request.method, request.path, request.protocol) == ("GET", "/a?b", "HTTP/1.1")
    assert HTTP11.serialize_request(request).decode() == (
        f"GET /a?b HTTP/1.1\r\nA: b\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Key: {KEY}\r\n\r\n"
    )


def test_key_that_cannot_be_sent() -> None:
    with pytest.raises(InvalidHeaderValue, match="Sec-WebSocket-Key"):
        HTTP11.request("/", headers_from_lines(""), "a\r\nb: c")


def test_response_that_opens() -> None:
    HTTP11.check_response(Response(101, "", Headers(GRANTED)), KEY)


WRONG_RESPONSES: list[tuple[int, dict[str, Any], type[InvalidHandshake], str]] = [
    (200, {}, InvalidStatus, "server rejected WebSocket connection: HTTP 200"),
    (201, {"Connection": None}, InvalidStatus, "server rejected WebSocket connection: HTTP 201"),
    (101, {"Connection": "close", "Upgrade": None}, InvalidUpgrade, "invalid Connection header: close"),
    (101, {"Upgrade": None, "Sec-WebSocket-Accept": None}, InvalidUpgrade, "missing Upgrade header"),
    (101, {"Sec-WebSocket-Accept": None}, InvalidHeader, "missing Sec-WebSocket-Accept header"),
    (101, {"Sec-WebSocket-Accept": KEY}, InvalidHeaderValue, f"invalid Sec-WebSocket-Accept header: {KEY}"),
]


@pytest.mark.parametrize(("status", "changes", "error", "text"), WRONG_RESPONSES)
def test_wrong_responses(status: int, changes: dict[str, Any], error: type[Exception], text: str) -> None:
    """In each row, what is reported comes before what else is wrong."""
    with pytest.raises(error, match=f"^{re.escape(text)}$") as caught:
        HTTP11.check_response(Response(status, "", changed(GRANTED, changes)), KEY)
    assert type(caught.value) is error


# ------------------------------------------------------------------------------------------------ HTTP/1.1: the server


@pytest.mark.parametrize("key", [KEY, "A" * 21 + "B=="], ids=["usual", "unused bits"])
def test_request_that_asks(key: str) -> None:
    request = Request("/", changed(ASKED, {"Sec-WebSocket-Key": key}))
    assert HTTP11.check_request(request) == accept_key(key)


WRONG_REQUESTS: list[tuple[str, str, dict[str, Any], type[InvalidHandshake], str]] = [
    ("POST", "HTTP/1.0", {}, InvalidMethod, "unsupported HTTP method: POST"),
    ("GET", "HTTP/1.0", {"Connection": None}, InvalidProtocol, "unsupported HTTP version: HTTP/1.0"),
    ("GET", "HTTP/1.1", {"Connection": "close", "Host": None}, InvalidUpgrade, "invalid Connection header: close"),
    ("GET", "HTTP/1.1", {"Host": None, "Sec-WebSocket-Key": None}, InvalidHeader, "missing Host header"),
    (
        "GET",
        "HTTP/1.1",
        {"Sec-WebSocket-Key": None, "Sec-WebSocket-Version": "8"},
        InvalidHeader,
        "missing Sec-WebSocket-Key header",
    ),
    (
        "GET",
        "HTTP/1.1",
        {"Sec-WebSocket-Key": KEY + "=", "Sec-WebSocket-Version": "8"},
        InvalidHeaderValue,
        f"invalid Sec-WebSocket-Key header: {KEY}=",
    ),
    ("GET", "HTTP/1.1", {"Sec-WebSocket-Version": "8"}, UnsupportedVersion, "invalid Sec-WebSocket-Version header: 8"),
]


@pytest.mark.parametrize(("method", "version", "changes", "error", "text"), WRONG_REQUESTS)
def test_wrong_requests(method: str, version: str, changes: dict[str, Any], error: type[Exception], text: str) -> None:
    """In each row, what is reported comes before what else is wrong."""
    with pytest.raises(error, match=f"^{re.escape(text)}$") as caught:
        HTTP11.check_request(Request("/", changed(ASKED, changes), method, version))
    assert type(caught.value) is error


@pytest.mark.parametrize(
    ("values", "error"), [(["13"], None), (["8"], UnsupportedVersion), ([], InvalidHeader), (["13"] * 2, InvalidHeader)]
)
def test_versions(values: list[str], error: type[Exception] | None) -> None:
    headers = Headers([("Sec-WebSocket-Version", value) for value in values])
    if error is None:
        check_version(headers)
    else:
        with pytest.raises(error):
            check_version(headers)


def test_opening_response(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 1_700_000_000.0
    monkeypatch.setattr("websockets._rules.date.time.time", lambda: now)
    dates = []
    for accept in (accept_key(KEY), "made by a program"):
        response = HTTP11.opening_response(accept)
        assert response.status_code in HTTP11.success
        name, date = next(response.headers.raw_items())
        assert HTTP11.serialize_response(response).decode() == (
            "HTTP/1.1 101 Switching Protocols\r\n"
            f"{name}: {date}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: {accept}\r\n\r\n"
        )
        dates.append(date)
        now += 1
    assert dates == ["Tue, 14 Nov 2023 22:13:20 GMT", "Tue, 14 Nov 2023 22:13:21 GMT"]


def test_accept_that_cannot_be_sent() -> None:
    with pytest.raises(InvalidHeaderValue, match="Sec-WebSocket-Accept"):
        HTTP11.opening_response("a\r\nb: c")


# ---------------------------------------------------------------------------------- another carrier, the same protocols


class Stream:
    """A client and a server on a stream of HTTP/2, and what carries their heads."""

    def __init__(self, client: dict[str, Any] | None = None, server: dict[str, Any] | None = None) -> None:
        self.ours, self.theirs = ExtendedConnect(), ExtendedConnect()
        self.client = ClientProtocol(parse_uri("ws://localhost:1234/a?b"), **client or {})
        self.server = ServerProtocol(**server or {})
        use_carrier(self.client, self.ours)

    def ask(self, **headers: str) -> Request:
        """Send a request, and return it as it arrives."""
        request = self.client.connect()
        request.headers.update(headers)
        self.client.send_request(request)
        (head,) = self.ours.heads
        assert isinstance(head, Request)
        assert self.client.data_to_send() == []
        take_request(self.server, head, self.theirs)
        assert self.server.events_received() == [head]
        return head

    def answer(self, response: Response) -> Response:
        """Send a response, and return it as it arrives, with its body."""
        self.server.send_response(response)
        (head,) = self.theirs.heads
        assert isinstance(head, Response)
        if self.server.state is not State.OPEN:
            *body, end = self.server.data_to_send()
            assert end == SEND_EOF
            head.body = b"".join(body)
        take_response(self.client, head)
        return head


def pass_on(end: Protocol, other: Protocol) -> None:
    """Give one end what the other one wrote to the stream below."""
    for data in end.data_to_send():
        if data == SEND_EOF:
            other.receive_eof()
        else:
            other.receive_data(data)


def test_another_carrier_opens_a_connection() -> None:
    options = {"subprotocols": ["b", "a"], "extensions": enable_client_permessage_deflate(None)}
    accepted = {"subprotocols": ["a"], "extensions": enable_server_permessage_deflate(None), "hosts": ["localhost"]}
    stream = Stream({**options, "origin": "http://a"}, {**accepted, "origins": ["http://a"]})
    request = stream.ask()
    assert (request.method, request.path, request.protocol) == ("CONNECT", "/a?b", "HTTP/2")
    assert dict(request.headers.raw_items()) == {
        "Host": "localhost:1234",
        "Origin": "http://a",
        "Sec-WebSocket-Version": "13",
        "Sec-WebSocket-Extensions": "permessage-deflate; client_max_window_bits",
        "Sec-WebSocket-Protocol": "b, a",
    }
    response = stream.answer(stream.server.accept(request))
    assert (response.status_code, [*response.headers]) == (200, ["sec-websocket-extensions", "sec-websocket-protocol"])
    for end in (stream.client, stream.server):
        assert (end.state, end.subprotocol, len(end.extensions)) == (State.OPEN, "a", 1)
    # The stream below carries frames, and nothing else.
    stream.client.send_text(b"Hello" * 100)
    (sent,) = stream.client.data_to_send()
    assert len(sent) < 100
    stream.server.receive_data(sent)
    assert stream.server.events_received() == [Frame(Opcode.TEXT, b"Hello" * 100)]
    stream.client.send_close(1000)
    pass_on(stream.client, stream.server)
    pass_on(stream.server, stream.client)
    pass_on(stream.client, stream.server)
    assert stream.client.state is stream.server.state is State.CLOSED
    assert stream.client.close_code == stream.server.close_code == 1000


def test_what_a_client_sends_early_waits_for_the_response_of_any_carrier() -> None:
    stream = Stream()
    request = stream.ask()
    stream.server.receive_data(b"\x81\x80\0\0\0\0")
    assert stream.server.events_received() == []
    stream.answer(stream.server.accept(request))
    assert stream.server.events_received() == [Frame(Opcode.TEXT, b"")]


REFUSED: list[tuple[dict[str, Any], dict[str, str], int, str]] = [
    ({"origins": ["http://a"]}, {}, 403, "missing Origin header"),
    ({"hosts": ["example.com"]}, {}, 421, "invalid Host header: localhost:1234"),
    ({"subprotocols": ["a"]}, {}, 400, "missing subprotocol"),
    ({}, {"Sec-WebSocket-Version": "8"}, 400, "invalid Sec-WebSocket-Version header: multiple values"),
]


@pytest.mark.parametrize(("options", "headers", "status", "text"), REFUSED)
def test_refusals_are_those_of_all_carriers(
    options: dict[str, Any], headers: dict[str, str], status: int, text: str
) -> None:
    stream = Stream(server=options)
    response = stream.answer(stream.server.accept(stream.ask(**headers)))
    assert (response.status_code, response.body.decode()) == (
        status,
        f"Failed to open a WebSocket connection: {text}.\n",
    )
    assert "Connection" not in response.headers
    assert isinstance(stream.client.handshake_exc, InvalidStatus)
    assert stream.client.handshake_exc.response is response
    assert stream.client.state is not State.OPEN


def test_a_response_that_a_program_wrote_for_http11() -> None:
    stream = Stream()
    stream.ask()
    response = stream.answer(Response(404, "Not Found", Headers(Connection="close", A="b"), b"body"))
    assert ([*response.headers.raw_items()], response.body) == ([("A", "b")], b"body")
    assert stream.server.state is not State.OPEN


def test_the_client_checks_what_was_negotiated_for_any_carrier() -> None:
    stream = Stream()
    stream.ask()
    stream.answer(Response(204, "", Headers({"Sec-WebSocket-Protocol": "a"})))
    assert stream.server.state is State.OPEN
    assert isinstance(stream.client.handshake_exc, NegotiationError)


def test_log(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    stream = Stream()
    stream.answer(stream.server.accept(stream.ask()))
    heads = [text for text in caplog.messages if "HTTP/2" in text]
    assert heads == ["> CONNECT /a?b HTTP/2", "< CONNECT /a?b HTTP/2", "> HTTP/2 200 "]
