"""Basic authentication of requests, as far as it waits: RFC 7617.

May know: that a user's check of credentials may be a coroutine function. Must not know: headers, credentials:
``_session`` knows them.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from .._session.basic_auth import BasicAuth, CheckCredentials, Credentials
from ..http11 import Request, Response
from .hooks import carry_out

__all__ = ["basic_auth"]


def basic_auth(
    realm: str = "",
    credentials: Credentials | None = None,
    check_credentials: CheckCredentials | None = None,
) -> Callable[[Any, Request], Awaitable[Response | None]]:
    """Return a ``process_request`` that requires authentication with a user name and a password (RFC 7617).

    It is for servers on asyncio and on trio. Handlers find the name in the attribute ``username`` of the connection.
    Requests without valid credentials are refused with 401. Use TLS: without it, passwords can be read on the network.

    Parameters:
        realm: name of the protected area, in ISO-8859-1; browsers show it.
        credentials: the user name and the password, or an iterable of such pairs.
        check_credentials: instead of ``credentials``, ``f(user, password) -> bool``, a function or a coroutine function
            that returns whether they are valid. Bytes that aren't UTF-8 become lone surrogates (``surrogateescape``).

    Returns:
        The function for ``process_request``.

    Raises:
        ValueError: neither ``credentials`` nor ``check_credentials`` is given, or both are; or the realm can't be sent.
        TypeError: ``credentials`` is neither a pair of strings nor an iterable of such pairs.
    """
    authenticate = BasicAuth(realm, credentials, check_credentials).steps

    async def process_request(connection: Any, request: Request) -> Response | None:
        return await carry_out(authenticate(connection, request))

    return process_request
