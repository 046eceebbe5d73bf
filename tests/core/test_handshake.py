"""What both sides of the opening handshake share: the accept key, the upgrade, single headers, and the log."""

from __future__ import annotations

import logging

import pytest
from hypothesis import given
from hypothesis import strategies as st

from _kit import wire
from websockets._handshake import (
    SECRET_HEADERS,
    VERSION,
    accept_key,
    check_upgrade,
    log_headers,
    single_value,
)
from websockets.datastructures import Headers
from websockets.exceptions import InvalidHeader, InvalidHeaderFormat, InvalidUpgrade


def test_version() -> None:
    assert VERSION == "13"


def test_accept_key_of_the_rfc() -> None:
    # RFC 6455 section 1.3.
    assert accept_key("dGhlIHNhbXBsZSBub25jZQ==") == "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="


@given(st.text(alphabet=st.characters(max_codepoint=0x7F), max_size=30))
def test_accept_key_is_what_the_kit_says(key: str) -> None:
    assert accept_key(key) == wire.accept_key(key)


# -------------------------------------------------------------------------------------------------------- single values


def test_single_value() -> None:
    assert single_value(Headers([("Host", "a"), ("X", "b")]), "host") == "a"
    assert single_value(Headers(X=""), "X") == ""


@pytest.mark.parametrize(
    ("values", "error", "value"),
    [([], "missing X header", None), (["a", "a"], "invalid X header: multiple values", "multiple values")],
)
def test_single_value_is_not_there_once(values: list[str], error: str, value: str | None) -> None:
    with pytest.raises(InvalidHeader) as caught:
        single_value(Headers([("X", each) for each in values]), "X")
    assert str(caught.value) == error
    assert (caught.value.name, caught.value.value) == ("X", value)


# -------------------------------------------------------------------------------------------------------------- upgrade

GOOD_UPGRADES: list[tuple[list[str], list[str]]] = [
    (["Upgrade"], ["websocket"]),
    (["upgrade"], ["WebSocket"]),
    (["keep-alive, UPGRADE"], ["websocket"]),
    (["keep-alive", "Upgrade"], ["WEBSOCKET"]),
]


@pytest.mark.parametrize(("connection", "upgrade"), GOOD_UPGRADES)
def test_upgrade(connection: list[str], upgrade: list[str]) -> None:
    check_upgrade(upgrade_headers(connection, upgrade))


def upgrade_headers(connection: list[str], upgrade: list[str]) -> Headers:
    return Headers([*(("Connection", value) for value in connection), *(("Upgrade", value) for value in upgrade)])


BAD_UPGRADES: list[tuple[list[str], list[str], str]] = [
    ([], ["websocket"], "missing Connection header"),
    (["close"], ["websocket"], "invalid Connection header: close"),
    (["keep-alive", "close"], ["websocket"], "invalid Connection header: keep-alive, close"),
    (["upgraded"], ["websocket"], "invalid Connection header: upgraded"),
    (["Upgrade"], [], "missing Upgrade header"),
    (["Upgrade"], ["h2c"], "invalid Upgrade header: h2c"),
    (["Upgrade"], ["websocket, h2c"], "invalid Upgrade header: websocket, h2c"),
    (["Upgrade"], ["websocket", "websocket"], "invalid Upgrade header: websocket, websocket"),
    (["Upgrade"], ["websocket/13"], "invalid Upgrade header: websocket/13"),
]


@pytest.mark.parametrize(("connection", "upgrade", "error"), BAD_UPGRADES)
def test_something_else_than_an_upgrade(connection: list[str], upgrade: list[str], error: str) -> None:
    with pytest.raises(InvalidUpgrade) as caught:
        check_upgrade(upgrade_headers(connection, upgrade))
    assert str(caught.value) == error


@pytest.mark.parametrize(("connection", "upgrade"), [([""], ["websocket"]), (["Upgrade"], ["web socket"])])
def test_malformed_upgrade(connection: list[str], upgrade: list[str]) -> None:
    with pytest.raises(InvalidHeaderFormat):
        check_upgrade(upgrade_headers(connection, upgrade))


# -------------------------------------------------------------------------------------------------------------- the log


def logged(headers: Headers, caplog: pytest.LogCaptureFixture) -> list[str]:
    logger = logging.getLogger("tests.handshake")
    caplog.set_level(logging.DEBUG, logger.name)
    log_headers(logger, "<", headers)
    assert {record.levelname for record in caplog.records} <= {"DEBUG"}
    return [record.getMessage() for record in caplog.records]


def test_headers_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    headers = Headers([("Host", "localhost"), ("X", "1"), ("x", "2")])
    assert logged(headers, caplog) == ["< Host: localhost", "< X: 1", "< x: 2"]


@pytest.mark.parametrize("name", ["Authorization", "PROXY-Authorization", "cookie", "Set-Cookie"])
def test_secrets_stay_out_of_the_log(name: str, caplog: pytest.LogCaptureFixture) -> None:
    assert name.lower() in SECRET_HEADERS
    assert logged(Headers([(name, "s3cret"), ("X", "y")]), caplog) == [f"< {name}: [redacted]", "< X: y"]


def test_control_characters_stay_out_of_the_log(caplog: pytest.LogCaptureFixture) -> None:
    (line,) = logged(Headers(X="a\x9b31m\tb"), caplog)
    assert line == "< X: a\\x9b31m\\tb"
