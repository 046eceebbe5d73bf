"""Basic authentication of a request, without the waiting: RFC 7617.

May know: the headers with credentials, how to compare them, the text of each refusal. Must not know: front-ends, and
how to call the user's check or wait for it; see :mod:`.hooks`.
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
    """The request has no credentials, or wrong ones.

    Parameters:
        what: the reason, as text for the body of the response.
    """

    def __init__(self, what: str) -> None:
        self.what = what


class Requested(Protocol):
    """A connection, as far as authentication needs it."""

    username: str

    def respond(self, status: HTTPStatus, text: str) -> Response:
        """Make a response."""
        ...


class BasicAuth:
    """Requires authentication with a user name and a password.

    Parameters:
        realm: name of the protected area.
        credentials: the user name and the password, or an iterable of such pairs.
        check_credentials: instead of ``credentials``, ``f(user, password)``, which returns whether they are valid.
        taker: name of ``basic_auth()`` of the front-end in the table of options.

    Raises:
        ValueError: neither ``credentials`` nor ``check_credentials`` is given, or both are; or the realm can't be sent.
        TypeError: ``credentials`` is neither a pair of strings nor made of such pairs.
    """

    def __init__(
        self,
        realm: str,
        credentials: Credentials | None,
        check_credentials: CheckCredentials | None,
        taker: str = BASIC_AUTH,
    ) -> None:
        given = {"realm": realm, "credentials": credentials, "check_credentials": check_credentials}
        check_all(given, taker)
        self._authenticate = build_www_authenticate_basic(realm)
        self._check = credentials_checker(credentials, check_credentials)

    def steps(self, connection: Requested, request: Request) -> Steps[Response | None]:
        """Check the credentials of a request.

        Parameters:
            connection: its connection, which gets ``username``.
            request: the request.

        Returns:
            None if they are valid; else the response, which asks for credentials.
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
    """Return the user name and the password in a request, before they are checked (RFC 7617 section 2).

    Parameters:
        headers: headers of the request.

    Raises:
        Unauthorized: the request has no credentials, or none for Basic authentication.
    """
    try:
        authorization = headers.get("Authorization")
        if authorization is None:
            raise Unauthorized("Missing credentials\n")
        return parse_authorization_basic(authorization)
    except (InvalidHeader, MultipleValuesError) as exc:
        raise Unauthorized("Unsupported credentials\n") from exc


def challenge(response: Response, authenticate: str) -> Response:
    """Add to a response the header that asks for credentials (RFC 9110 section 11.6.1).

    Parameters:
        response: response with status 401.
        authenticate: result of :func:`~websockets.headers.build_www_authenticate_basic`.
    """
    response.headers["WWW-Authenticate"] = authenticate
    return response


def credentials_checker(
    credentials: Credentials | None, check_credentials: CheckCredentials | None
) -> CheckCredentials:
    """Return a function that checks credentials, from the two alternative options.

    Parameters:
        credentials: the user and the password, or several such pairs.
        check_credentials: ``f(user, password)``, which returns whether they are right.

    Raises:
        ValueError: both options are given, or none.
        TypeError: ``credentials`` is neither a pair of strings nor made of such pairs.
    """
    if (credentials is None) is (check_credentials is None):
        raise ValueError("provide either credentials or check_credentials")
    return check_credentials or _Known(_pairs(credentials))


def _pairs(credentials: Any) -> dict[str, str]:
    """Return the password of each user."""
    if _is_pair(credentials):
        return dict([credentials])
    # An iterator can be read only once, so its items are kept.
    pairs = list(credentials) if isinstance(credentials, Iterable) else [credentials]
    if not all(_is_pair(pair) for pair in pairs):
        # The error doesn't show the value, because passwords must not appear in logs.
        raise TypeError(f"invalid credentials argument: {type(credentials).__name__}; expected (user, password) pairs")
    return dict(pairs)


def _is_pair(value: Any) -> TypeGuard[tuple[str, str]]:
    return isinstance(value, tuple | list) and len(value) == 2 and all(isinstance(item, str) for item in value)


class _Known:
    """Checks credentials against those of all users, in the same time whether the user or the password is wrong."""

    def __init__(self, passwords: dict[str, str]) -> None:
        self._credentials = [(_bytes(user), _bytes(password)) for user, password in passwords.items()]

    def __call__(self, username: str, password: str) -> bool:
        user, word = _bytes(username), _bytes(password)
        # Always make all comparisons, so that the time doesn't depend on their results.
        found = [
            hmac.compare_digest(user, known_user) & hmac.compare_digest(word, known_word)
            for known_user, known_word in self._credentials
        ]
        return any(found)


def _bytes(text: str) -> bytes:
    # Bytes of a request that aren't UTF-8 were decoded to lone surrogates.
    return text.encode("utf-8", "surrogateescape")
