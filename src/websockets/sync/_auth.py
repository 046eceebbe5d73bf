"""Basic authentication of requests, for threads: RFC 7617.

May know: that a user's check of credentials may block its thread. Must not know: headers, credentials: ``_session``
knows them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from .._rules.option_table import SYNC_BASIC_AUTH
from .._session.basic_auth import BasicAuth, Credentials
from ..http11 import Request, Response
from ._hooks import carry_out

if TYPE_CHECKING:
    from .server import ServerConnection

__all__ = ["basic_auth"]


def basic_auth(
    realm: str = "",
    credentials: Credentials | None = None,
    check_credentials: Callable[[str, str], bool] | None = None,
) -> Callable[[ServerConnection, Request], Response | None]:
    """Return a ``process_request`` that requires authentication with a user name and a password (RFC 7617).

    Handlers find the name in :attr:`~websockets.sync.server.ServerConnection.username`. Requests without valid
    credentials are refused with 401. Use TLS: without it, passwords can be read on the network.

    Parameters:
        realm: name of the protected area, in ISO-8859-1; browsers show it.
        credentials: the user name and the password, or an iterable of such pairs.
        check_credentials: instead of ``credentials``, ``f(user, password) -> bool``, a function that isn't async and
            returns whether they are valid. Bytes that aren't UTF-8 become lone surrogates (``surrogateescape``).

    Returns:
        The function for ``process_request``.

    Raises:
        ValueError: neither ``credentials`` nor ``check_credentials`` is given, or both are; or the realm can't be sent.
        TypeError: ``credentials`` is neither a pair of strings nor an iterable of such pairs, or ``check_credentials``
            is async.
    """
    authenticate = BasicAuth(realm, credentials, check_credentials, SYNC_BASIC_AUTH).steps

    def process_request(connection: ServerConnection, request: Request) -> Response | None:
        return carry_out(authenticate(connection, request))

    return process_request
