"""The opening handshake as functions on headers, and the exceptions of the legacy API."""

from __future__ import annotations

import copy
import pickle
from http import HTTPStatus

import pytest

from websockets.datastructures import Headers
from websockets.exceptions import InvalidHandshake, InvalidHeader, InvalidHeaderValue, InvalidUpgrade
from websockets.legacy.exceptions import AbortHandshake, InvalidStatusCode, RedirectHandshake
from websockets.legacy.handshake import build_request, build_response, check_request, check_response


def asked() -> Headers:
    headers = Headers()
    build_request(headers)
    return headers


def test_both_sides_agree() -> None:
    request, response = Headers(), Headers()
    key = build_request(request)
    assert check_request(request) == key
    build_response(response, key)
    check_response(response, key)
    assert build_request(Headers()) != key


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("Upgrade", None, InvalidUpgrade),
        ("Connection", "close", InvalidUpgrade),
        ("Sec-WebSocket-Key", None, InvalidHeader),
        ("Sec-WebSocket-Key", "!", InvalidHeaderValue),
        ("Sec-WebSocket-Key", "AAAA", InvalidHeaderValue),
        ("Sec-WebSocket-Version", None, InvalidHeader),
        ("Sec-WebSocket-Version", "12", InvalidHeaderValue),
    ],
)
def test_requests_that_are_none(name: str, value: str | None, expected: type[Exception]) -> None:
    headers = asked()
    del headers[name]
    if value is not None:
        headers[name] = value
    with pytest.raises(expected):
        check_request(headers)


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("Upgrade", "other", InvalidUpgrade),
        ("Sec-WebSocket-Accept", None, InvalidHeader),
        ("Sec-WebSocket-Accept", "other", InvalidHeaderValue),
    ],
)
def test_responses_that_are_none(name: str, value: str | None, expected: type[Exception]) -> None:
    headers = Headers()
    build_response(headers, "key")
    del headers[name]
    if value is not None:
        headers[name] = value
    with pytest.raises(expected):
        check_response(headers, "key")


@pytest.mark.parametrize(
    ("exc", "text"),
    [
        (InvalidStatusCode(404, Headers()), "server rejected WebSocket connection: HTTP 404"),
        (AbortHandshake(HTTPStatus.OK, [("A", "b")], b"OK\n"), "HTTP 200, 1 headers, 3 bytes"),
        (AbortHandshake(404, {}), "HTTP 404, 0 headers, 0 bytes"),
        (RedirectHandshake("/\r\n"), r"redirect to /\r\n"),
    ],
)
def test_exceptions(exc: InvalidHandshake, text: str) -> None:
    assert str(exc) == text
    assert isinstance(exc, InvalidHandshake)
    for other in (copy.copy(exc), pickle.loads(pickle.dumps(exc))):
        assert (type(other), vars(other)) == (type(exc), vars(exc))
