"""Basic authentication of requests, as far as it waits: RFC 7617.

May know: that a user's check of credentials may be a coroutine function. Must not know: headers, credentials: those are
below.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

from .._session.basic_auth import BasicAuth, CheckCredentials, Credentials
from ..http11 import Request, Response
from ._hooks import carry_out

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
    authenticate = BasicAuth(realm, credentials, check_credentials).steps

    async def process_request(connection: ServerConnection, request: Request) -> Response | None:
        return await carry_out(authenticate(connection, request))

    return process_request
