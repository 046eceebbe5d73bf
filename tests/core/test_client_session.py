"""What a client's connection decides while it is opened."""

from __future__ import annotations

from typing import Any

import pytest

from websockets._session.client_session import ClientSession
from websockets._session.session import Timing
from websockets.client import ClientProtocol
from websockets.exceptions import InvalidMessage, InvalidStatus
from websockets.http11 import ResponseHeadParser
from websockets.protocol import State
from websockets.server import ServerProtocol
from websockets.uri import parse_uri


def new_session() -> ClientSession:
    return ClientSession(ClientProtocol(parse_uri("ws://example.com/")), Timing(), (None, 0))


def asked() -> ClientSession:
    """A session that has sent its request."""
    session = new_session()
    session.send_request(session.make_request(None, None))
    return session


@pytest.mark.parametrize(
    ("headers", "user_agent", "expected"),
    [
        (None, None, {}),
        (None, "", {}),
        (None, "me", {"User-Agent": "me"}),
        ({"X": "1"}, "me", {"X": "1", "User-Agent": "me"}),
        ([("user-agent", "you")], "me", {"User-Agent": "you"}),
    ],
)
def test_request(headers: Any, user_agent: str | None, expected: dict[str, str]) -> None:
    request = new_session().make_request(headers, user_agent)
    assert {name: request.headers.get(name) for name in ("X", "User-Agent")} == {
        "X": None,
        "User-Agent": None,
    } | expected
    assert request.headers["Host"] == "example.com"


def test_opened() -> None:
    session = new_session()
    request = session.make_request(None, None)
    session.send_request(request)
    assert session.opening
    assert session.request is request
    server = ServerProtocol()
    for data in session.protocol.data_to_send():
        server.receive_data(data)
    server.send_response(server.accept(server.events_received()[0]))  # type: ignore[arg-type]
    for data in server.data_to_send():
        session.receive_data(data)
    assert (session.opening, session.protocol.state) == (False, State.OPEN)
    session.check_opened()
    assert session.stop_opening() is None


def test_refused() -> None:
    session = asked()
    session.receive_data(b"HTTP/1.1 404 No\r\nContent-Length: 0\r\n\r\n")
    assert not session.opening
    with pytest.raises(InvalidStatus, match="HTTP 404"):
        session.check_opened()


def test_body_of_a_redirect_is_not_waited_for() -> None:
    head = b"HTTP/1.1 %s\r\nContent-Length: 9\r\n%s\r\n"
    for status, more, opening in ((b"302 X", b"Location: /\r\n", False), (b"302 X", b"", True), (b"404 X", b"", True)):
        session = asked()
        session.receive_data(head % (status, more))
        assert session.opening is opening


def test_parser_of_a_front_end() -> None:
    session = new_session()
    session.send_request(session.make_request(None, None), ResponseHeadParser())
    session.receive_data(b"HTTP/1.1 404 X\r\nContent-Length: 9\r\n\r\n")
    assert not session.opening


def test_waiting_no_longer() -> None:
    session = asked()
    assert session.stop_opening() is None
    session.receive_data(b"HTTP/1.1 404 X\r\nContent-Length: 9\r\n\r\nabc")
    assert session.opening
    refusal = session.stop_opening()
    assert isinstance(refusal, InvalidStatus)
    assert (refusal.response.body, session.opening) == (b"abc", False)


@pytest.mark.parametrize("exc", [None, ConnectionResetError("reset")])
def test_connection_lost(exc: Exception | None) -> None:
    session = asked()
    assert session.connection_lost(exc) == []
    with pytest.raises(InvalidMessage) as caught:
        session.check_opened()
    assert isinstance(caught.value.__cause__, EOFError)
    assert caught.value.__cause__.__cause__ is exc


def test_connection_lost_after_a_refusal() -> None:
    session = asked()
    session.receive_data(b"HTTP/1.1 404 No\r\nContent-Length: 0\r\n\r\n")
    session.connection_lost(OSError())
    with pytest.raises(InvalidStatus) as caught:
        session.check_opened()
    assert caught.value.__cause__ is None
