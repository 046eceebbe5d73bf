"""Basic authentication without the waiting: which credentials are claimed, which are right, what a refusal asks."""

from __future__ import annotations

import base64
import hmac
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from _kit.hook_calls import call_hooks
from websockets._session.basic_auth import BasicAuth, Unauthorized, challenge, claimed, credentials_checker
from websockets.datastructures import Headers
from websockets.headers import build_authorization_basic
from websockets.http11 import Request, Response
from websockets.server import ServerProtocol


def basic(credentials: bytes) -> str:
    return "Basic " + base64.b64encode(credentials).decode()


@pytest.mark.parametrize(
    ("values", "what"),
    [
        ([], "Missing credentials\n"),
        ([""], "Unsupported credentials\n"),
        (["Basic"], "Unsupported credentials\n"),
        (["Bearer abc"], "Unsupported credentials\n"),
        (["Basic %"], "Unsupported credentials\n"),
        (["Basic abc"], "Unsupported credentials\n"),
        ([basic(b"nobody")], "Unsupported credentials\n"),
        ([basic(b"a:b"), basic(b"a:b")], "Unsupported credentials\n"),
    ],
)
def test_no_credentials(values: list[str], what: str) -> None:
    with pytest.raises(Unauthorized) as raised:
        claimed(Headers([("Authorization", value) for value in values]))
    assert raised.value.what == what


@pytest.mark.parametrize(
    ("sent", "found"),
    [
        (b"user:password", ("user", "password")),
        (b":", ("", "")),
        (b"a:b:c", ("a", "b:c")),
        ("é:✓".encode(), ("é", "✓")),
        (b"\xe9:\xff", ("\udce9", "\udcff")),
    ],
)
def test_credentials(sent: bytes, found: tuple[str, str]) -> None:
    assert claimed(Headers(Authorization=basic(sent))) == found
    assert claimed(Headers(authorization=basic(sent).replace("Basic", "bAsIc"))) == found


def test_challenge() -> None:
    response = Response(401, "Unauthorized", Headers())
    assert challenge(response, "Basic realm=x") is response
    assert response.headers["WWW-Authenticate"] == "Basic realm=x"


PAIR = ("user", "password")


@pytest.mark.parametrize(
    "credentials",
    [
        PAIR,
        list(PAIR),
        [PAIR],
        (PAIR,),
        {PAIR},
        [("other", "x"), PAIR, ("more", "y")],
        iter([("other", "x"), PAIR]),
        [("user", "earlier"), PAIR],
        {PAIR: None},
    ],
    ids=repr,
)
def test_right_credentials(credentials: Any) -> None:
    check = credentials_checker(credentials, None)
    # An iterator is read once, however often there is something to check.
    assert [check(*PAIR), check(*PAIR)] == [True, True]
    for wrong in [("user", "passwor"), ("user", "password "), ("use", "password"), ("user", ""), ("", "")]:
        assert check(*wrong) is False


def test_nobody_is_known() -> None:
    assert credentials_checker([], None)("", "") is False


@pytest.mark.parametrize(
    ("credentials", "kind"),
    [
        (5, "int"),
        ("ab", "str"),
        (["user", "password", "more"], "list"),
        (("user", "password", "more"), "tuple"),
        (("user", 1), "tuple"),
        ([("user", "password"), "ab"], "list"),
        ({"user": "password"}, "dict"),
    ],
)
def test_bad_credentials(credentials: Any, kind: str) -> None:
    with pytest.raises(TypeError, match=rf"^invalid credentials argument: {kind}; expected \(user, password\) pairs$"):
        credentials_checker(credentials, None)


def test_either_credentials_or_a_check() -> None:
    def check(username: str, password: str) -> bool:
        raise AssertionError("never called")

    assert credentials_checker(None, check) is check
    for wrong in [(None, None), (PAIR, check)]:
        with pytest.raises(ValueError, match=r"^provide either credentials or check_credentials$"):
            credentials_checker(*wrong)


@pytest.mark.scenario(24)
def test_every_comparison_is_made(monkeypatch: pytest.MonkeyPatch) -> None:
    compared: list[tuple[bytes, bytes]] = []

    def compare_digest(first: bytes, second: bytes) -> bool:
        compared.append((first, second))
        return first == second

    monkeypatch.setattr(hmac, "compare_digest", compare_digest)
    check = credentials_checker([("a", "1"), ("b", "2")], None)
    expected = [(b"a", b"a"), (b"1", b"1"), (b"a", b"b"), (b"1", b"2")]
    assert check("a", "1")
    assert compared == expected
    compared.clear()
    assert not check("x", "y")
    assert [known for _, known in compared] == [known for _, known in expected]


# Any text that can be in a request: UTF-8, and the lone surrogates of what isn't.
texts = st.binary().map(lambda data: data.decode("utf-8", "surrogateescape"))


@given(texts.filter(lambda text: ":" not in text), texts)
def test_credentials_that_are_built_are_read(username: str, password: str) -> None:
    headers = Headers(Authorization=build_authorization_basic(username, password))
    assert claimed(headers) == (username, password)
    assert credentials_checker((username, password), None)(*claimed(headers)) is True


# ---------------------------------------------------------------------------------------------------- what is decided


class Connection:
    """As much of a connection as authentication needs."""

    username = ""

    def respond(self, status: int, text: str) -> Response:
        return ServerProtocol().reject(status, text)


def authenticate(auth: BasicAuth, **headers: str) -> tuple[Response | None, Connection]:
    connection = Connection()
    return call_hooks(auth.steps(connection, Request("/", Headers(**headers)))), connection


@pytest.mark.parametrize("auth", [
    BasicAuth("realm", ("user", "word"), None),
    BasicAuth("realm", None, lambda username, password: (username, password) == ("user", "word")),
], ids=["credentials", "check"])  # fmt: skip
def test_who_is_let_in(auth: BasicAuth) -> None:
    response, connection = authenticate(auth, Authorization=build_authorization_basic("user", "word"))
    assert (response, connection.username) == (None, "user")
    for headers, body in [
        ({}, b"Missing credentials\n"),
        ({"Authorization": "Bearer x"}, b"Unsupported credentials\n"),
        ({"Authorization": build_authorization_basic("user", "wrong")}, b"Invalid credentials\n"),
    ]:
        response, connection = authenticate(auth, **headers)
        assert response is not None
        assert (response.status_code, response.body, connection.username) == (401, body, "")
        assert response.headers["WWW-Authenticate"] == 'Basic realm="realm", charset="UTF-8"'


def test_a_check_that_fails_lets_nobody_in() -> None:
    def check(username: str, password: str) -> bool:
        raise ZeroDivisionError

    auth = BasicAuth("", None, check)
    with pytest.raises(ZeroDivisionError):
        authenticate(auth, Authorization=build_authorization_basic("user", "word"))


@pytest.mark.parametrize(
    ("options", "kind"),
    [(("", None, None), ValueError), (("", ("a", "b"), print), ValueError), ((1, ("a", "b"), None), TypeError)],
)
def test_options(options: Any, kind: type[Exception]) -> None:
    with pytest.raises(kind):
        BasicAuth(*options)
