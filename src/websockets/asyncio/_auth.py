"""Basic authentication of requests, in as far as it waits: RFC 7617.

May know: that a user's check of credentials may be a coroutine. Must not know: headers, credentials: those are below.
"""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable
from http import HTTPStatus
from typing import TYPE_CHECKING

from .._rules.option_table import BASIC_AUTH, check_all
from .._session.basic_auth import CheckCredentials, Credentials, Unauthorized, challenge, claimed, credentials_checker
from ..headers import build_www_authenticate_basic
from ..http11 import Request, Response

if TYPE_CHECKING:
    from .server import ServerConnection

__all__ = ["basic_auth"]


def basic_auth(
    realm: str = "",
    credentials: Credentials | None = None,
    check_credentials: CheckCredentials | None = None,
) -> Callable[[ServerConnection, Request], Awaitable[Response | None]]:
    """Make a ``process_request`` that lets in only who authenticates with a user name and a password (RFC 7617).

    The handler finds the name in :attr:`~websockets.asyncio.server.ServerConnection.username`. Others are refused with
    401. Without TLS, whoever sees the traffic sees the passwords.

    Parameters:
        realm: what the credentials are for, in ISO-8859-1; browsers show it.
        credentials: the user and the password, or an iterable of such pairs.
        check_credentials: instead, ``f(user, password) -> bool``, a function or a coroutine function: whether they are
            right. Bytes that aren't UTF-8 are lone surrogates in both, as ``surrogateescape`` makes them.

    Raises:
        ValueError: there must be either ``credentials`` or ``check_credentials``; or the realm can't be sent.
        TypeError: ``credentials`` is neither a pair of strings nor made of such pairs.
    """
    check_all(locals(), BASIC_AUTH)
    authenticate = build_www_authenticate_basic(realm)
    check = credentials_checker(credentials, check_credentials)

    async def process_request(connection: ServerConnection, request: Request) -> Response | None:
        try:
            username, password = claimed(request.headers)
            valid = check(username, password)
            if inspect.isawaitable(valid):
                valid = await valid
            if not valid:
                raise Unauthorized("Invalid credentials\n")
        except Unauthorized as exc:
            return challenge(connection.respond(HTTPStatus.UNAUTHORIZED, exc.what), authenticate)
        connection.username = username
        return None

    return process_request
