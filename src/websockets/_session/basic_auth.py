"""Basic authentication of a request, without the waiting: RFC 7617.

May know: which headers carry credentials, how to compare them, what each refusal says. Must not know: front-ends, and
how the user's check is called or waited for; see :mod:`.hooks`.
"""

from __future__ import annotations

import hmac
from collections.abc import Awaitable, Callable, Iterable
from http import HTTPStatus
from typing import Any, Protocol, TypeGuard

from .._rules.option_table import BASIC_AUTH, check_all
from ..datastructures import Headers, MultipleValuesError
from ..exceptions import InvalidHeader
from ..headers import build_www_authenticate_basic, parse_authorization_basic
from ..http11 import Request, Response
from .hooks import CallHook, Steps

__all__ = [
    "BasicAuth",
    "CheckCredentials",
    "Credentials",
    "Unauthorized",
    "challenge",
    "claimed",
    "credentials_checker",
]

Credentials = tuple[str, str] | Iterable[tuple[str, str]]
CheckCredentials = Callable[[str, str], Awaitable[bool] | bool]


class Unauthorized(Exception):
    """The request doesn't say who asks, or not truly.

    Parameters:
        what: what is wrong: the body of the response says so.
    """

    def __init__(self, what: str) -> None:
        self.what = what


class Requested(Protocol):
    """A connection, as far as authentication has to do with it."""

    username: str

    def respond(self, status: HTTPStatus, text: str) -> Response:
        """Make a response."""


class BasicAuth:
    """Lets in only who authenticates with a user name and a password.

    Parameters:
        realm: what the credentials are for.
        credentials: the user and the password, or an iterable of such pairs.
        check_credentials: instead, ``f(user, password)``, whether they are right.

    Raises:
        ValueError: there must be either ``credentials`` or ``check_credentials``; or the realm can't be sent.
        TypeError: ``credentials`` is neither a pair of strings nor made of such pairs.
    """

    def __init__(self, realm: str, credentials: Credentials | None, check_credentials: CheckCredentials | None) -> None:
        given = {"realm": realm, "credentials": credentials, "check_credentials": check_credentials}
        check_all(given, BASIC_AUTH)
        self._authenticate = build_www_authenticate_basic(realm)
        self._check = credentials_checker(credentials, check_credentials)

    def steps(self, connection: Requested, request: Request) -> Steps[Response | None]:
        """Judge a request.

        Parameters:
            connection: its connection, which gets ``username``.
            request: the request.

        Returns:
            None if it may go on; else the response, which asks for credentials.
        """
        try:
            username, password = claimed(request.headers)
            valid = yield CallHook(self._check, (username, password))
            if not valid:
                raise Unauthorized("Invalid credentials\n")
        except Unauthorized as exc:
            return challenge(connection.respond(HTTPStatus.UNAUTHORIZED, exc.what), self._authenticate)
        connection.username = username
        return None


def claimed(headers: Headers) -> tuple[str, str]:
    """The user and the password that a request claims to have.

    Parameters:
        headers: headers of the request.

    Raises:
        Unauthorized: there are none, or none that Basic authentication knows.
    """
    try:
        authorization = headers.get("Authorization")
        if authorization is None:
            raise Unauthorized("Missing credentials\n")
        return parse_authorization_basic(authorization)
    except (InvalidHeader, MultipleValuesError) as exc:
        raise Unauthorized("Unsupported credentials\n") from exc


def challenge(response: Response, authenticate: str) -> Response:
    """Turn a refusal into a question.

    Parameters:
        response: response with status 401.
        authenticate: what :func:`~websockets.headers.build_www_authenticate_basic` made.
    """
    response.headers["WWW-Authenticate"] = authenticate
    return response


def credentials_checker(
    credentials: Credentials | None, check_credentials: CheckCredentials | None
) -> CheckCredentials:
    """How to check credentials, from the two ways to say so.

    Parameters:
        credentials: the user and the password, or several such pairs.
        check_credentials: ``f(user, password)``, whether they are right.

    Raises:
        ValueError: both are given, or none.
        TypeError: ``credentials`` is neither a pair of strings nor made of such pairs.
    """
    if (credentials is None) is (check_credentials is None):
        raise ValueError("provide either credentials or check_credentials")
    return check_credentials or _Known(_pairs(credentials))


def _pairs(credentials: Any) -> dict[str, str]:
    """The passwords of all users."""
    if _is_pair(credentials):
        return dict([credentials])
    # An iterator is read once, and only here.
    pairs = list(credentials) if isinstance(credentials, Iterable) else [credentials]
    if not all(_is_pair(pair) for pair in pairs):
        # The value would put passwords into logs.
        raise TypeError(f"invalid credentials argument: {type(credentials).__name__}; expected (user, password) pairs")
    return dict(pairs)


def _is_pair(value: Any) -> TypeGuard[tuple[str, str]]:
    return isinstance(value, tuple | list) and len(value) == 2 and all(isinstance(item, str) for item in value)


class _Known:
    """Checks credentials against those of all users, in a time that doesn't tell which of them was right."""

    def __init__(self, passwords: dict[str, str]) -> None:
        self._credentials = [(_bytes(user), _bytes(password)) for user, password in passwords.items()]

    def __call__(self, username: str, password: str) -> bool:
        user, word = _bytes(username), _bytes(password)
        # No comparison is left out, whatever those before it gave.
        found = [
            hmac.compare_digest(user, known_user) & hmac.compare_digest(word, known_word)
            for known_user, known_word in self._credentials
        ]
        return any(found)


def _bytes(text: str) -> bytes:
    # What isn't UTF-8 in a request was decoded to lone surrogates.
    return text.encode("utf-8", "surrogateescape")
