"""Basic authentication in the legacy API: RFC 7617.

May know: the interface before 14.0. Must not know: headers, how credentials are compared; lower modules do that.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Awaitable, Callable
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, cast

from .._compat.deprecated import deprecated_names
from .._rules.option_table import LEGACY_BASIC_AUTH, check_all
from .._session.basic_auth import Credentials, Unauthorized, claimed, credentials_checker
from ..datastructures import Headers
from ..headers import build_www_authenticate_basic
from ._server_side import HTTPResponse, WebSocketServerProtocol

__all__ = ["BasicAuthWebSocketServerProtocol", "basic_auth_protocol_factory"]

CheckCredentials = Callable[[str, str], Awaitable[bool]]


class BasicAuthWebSocketServerProtocol(WebSocketServerProtocol):
    """Server connection that requires a user name and a password (RFC 7617).

    Replaced by :func:`websockets.asyncio.server.basic_auth`. The attribute ``username`` has the name of the user.

    Parameters:
        *args: as for :class:`~websockets.legacy.server.WebSocketServerProtocol`.
        realm: name of the protected area, in ISO-8859-1; the class attribute ``realm`` by default.
        check_credentials: replaces the method :meth:`check_credentials`.
        **kwargs: as for :class:`~websockets.legacy.server.WebSocketServerProtocol`.
    """

    realm: str = ""
    # None until the client has authenticated, although its type is str, as in earlier releases.
    username = cast(str, None)

    def __init__(
        self, *args: Any, realm: str | None = None, check_credentials: CheckCredentials | None = None, **kwargs: Any
    ) -> None:
        if realm is not None:
            self.realm = realm
        self._check_credentials = check_credentials
        super().__init__(*args, **kwargs)

    async def check_credentials(self, username: str, password: str) -> bool:
        """Return whether a user name and a password are right. May be overridden.

        Parameters:
            username: the user name.
            password: the password.
        """
        if self._check_credentials is None:
            return False
        valid: Any = self._check_credentials(username, password)
        return bool(await valid if inspect.isawaitable(valid) else valid)

    async def process_request(self, path: str, request_headers: Headers) -> HTTPResponse | None:
        """Refuse the request and ask for credentials, unless it has valid ones; see the base class."""
        try:
            username, password = claimed(request_headers)
            if not await self.check_credentials(username, password):
                raise Unauthorized("Invalid credentials\n")
        except Unauthorized as exc:
            challenge = {"WWW-Authenticate": build_www_authenticate_basic(self.realm)}
            return HTTPStatus.UNAUTHORIZED, challenge, exc.what.encode()
        self.username = username
        return await super().process_request(path, request_headers)


def basic_auth_protocol_factory(
    realm: str | None = None,
    credentials: Credentials | None = None,
    check_credentials: CheckCredentials | None = None,
    create_protocol: Callable[..., BasicAuthWebSocketServerProtocol] | None = None,
) -> Callable[..., BasicAuthWebSocketServerProtocol]:
    """Return a ``create_protocol`` for ``serve`` that requires Basic authentication (RFC 7617).

    Replaced by :func:`websockets.asyncio.server.basic_auth`. Without TLS, passwords are readable on the network.

    Parameters:
        realm: name of the protected area.
        credentials: the user and the password, or an iterable of such pairs.
        check_credentials: instead, a coroutine function ``f(user, password) -> bool``.
        create_protocol: class or factory of connections.

    Raises:
        ValueError: both of ``credentials`` and ``check_credentials`` are given, or neither.
        TypeError: ``credentials`` is neither a pair of strings nor made of such pairs.
    """
    check_all(locals(), LEGACY_BASIC_AUTH)
    check = cast(CheckCredentials, credentials_checker(credentials, check_credentials))
    return functools.partial(create_protocol or BasicAuthWebSocketServerProtocol, realm=realm, check_credentials=check)


# Names from earlier releases.
if not TYPE_CHECKING:
    __getattr__ = deprecated_names(__name__)
