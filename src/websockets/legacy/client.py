"""Clients of the legacy API, on top of the asyncio API.

May know: connecting, its hooks and its options before 14.0, and what replaces each of them. Must not know: the rules
for a response, which belong to the protocol; how to connect, reconnect and follow redirects, which belongs to
:mod:`websockets.asyncio.client`.
"""

from __future__ import annotations

import functools
import os
import weakref
from collections.abc import AsyncIterator, Callable, Generator, Iterator, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any, cast

from .. import client as _client
from .._compat.deprecated import deprecated_names
from .._session.options import LEGACY_CLIENT, check_client
from .._session.redirects import MAX_REDIRECTS, redirect_location, resolve_location
from ..asyncio.client import ClientConnection
from ..asyncio.client import connect as _connect
from ..client import ClientProtocol
from ..datastructures import Headers, HeadersLike
from ..exceptions import InvalidHeader, InvalidMessage, InvalidStatus, InvalidURI
from ..extensions.base import ClientExtensionFactory, Extension
from ..http11 import USER_AGENT, Request, ResponseHeadParser
from ..typing import LoggerLike, Origin, Subprotocol
from ..uri import WebSocketURI
from .exceptions import InvalidStatusCode, RedirectHandshake
from .protocol import (
    WebSocketCommonProtocol,
    chosen_class,
    closing_time,
    headers_received,
    headers_to_send,
    legacy_options,
)

__all__ = ["WebSocketClientProtocol", "connect", "unix_connect"]

# Options that are passed to each connection.
OF_CONNECTIONS = (
    "ping_interval", "ping_timeout", "close_timeout", "max_size", "max_queue", "read_limit", "write_limit",
    "extra_headers", "user_agent_header",
)  # fmt: skip

# Options that are passed to the asyncio API under the same name.
OF_CONNECT = (
    "origin", "extensions", "subprotocols", "compression", "user_agent_header", "open_timeout", "max_size",
    "max_queue", "logger",
)  # fmt: skip

NOWHERE = WebSocketURI(secure=False, host="localhost", port=80, path="", query="")


class _Negotiation(ClientProtocol):
    """A protocol that calls the methods of the connection which programs may override."""

    connection: Callable[[], WebSocketClientProtocol | None]

    @property
    def _hooks(self) -> WebSocketClientProtocol:
        connection = self.connection()
        assert connection is not None
        return connection

    def process_extensions(self, headers: Headers) -> list[Extension]:
        return self._hooks.process_extensions(headers, self.available_extensions)

    def process_subprotocol(self, headers: Headers) -> Subprotocol | None:
        return self._hooks.process_subprotocol(headers, self.available_subprotocols)


class WebSocketClientProtocol(WebSocketCommonProtocol, ClientConnection):
    """Client connection of the legacy API; replaced by :class:`~websockets.asyncio.client.ClientConnection`.

    This class, or one derived from it, may be the ``create_protocol`` of ``connect``, here and in the asyncio API.

    Parameters:
        protocol: sans-I/O connection, from the ``connect`` of the asyncio API.
        logger: where to log; ``websockets.client`` by default.
        origin: value of the ``Origin`` header; None to send none.
        extensions: extensions to offer, in the order of preference.
        subprotocols: subprotocols to offer, in the order of preference.
        extra_headers: headers to add to the request.
        user_agent_header: value of the ``User-Agent`` header; None to leave it out.
        **kwargs: as for :class:`~websockets.legacy.protocol.WebSocketCommonProtocol`.
    """

    is_client = True
    side = "client"

    _ws_given_headers: HeadersLike | None = None

    def __init__(
        self,
        protocol: ClientProtocol | None = None,
        *,
        logger: LoggerLike | None = None,
        origin: Origin | None = None,
        extensions: Sequence[ClientExtensionFactory] | None = None,
        subprotocols: Sequence[Subprotocol] | None = None,
        extra_headers: HeadersLike | None = None,
        user_agent_header: str | None = USER_AGENT,
        **kwargs: Any,
    ) -> None:
        self._ws_uri = NOWHERE
        self._asyncio_api = protocol is not None
        if protocol is not None:
            logger, self._ws_uri, origin = protocol.logger, protocol.uri, protocol.origin
            extensions, subprotocols = protocol.available_extensions, protocol.available_subprotocols
            kwargs["max_size"] = (protocol.max_message_size, protocol.max_fragment_size)
        self.origin = origin
        self.available_extensions = extensions
        self.available_subprotocols = subprotocols
        self.extra_headers = extra_headers
        self.user_agent_header = user_agent_header
        super().__init__(logger=logger, **kwargs)

    def _ws_make_protocol(self, max_size: Any, logger: LoggerLike | None) -> ClientProtocol:
        protocol = _Negotiation(self._ws_uri, max_size=max_size, logger=logger)
        protocol.connection = weakref.ref(self)
        return protocol

    async def _ws_opening_handshake(
        self, additional_headers: HeadersLike | None, user_agent_header: str | None
    ) -> None:
        if self._asyncio_api:
            self.user_agent_header = user_agent_header
        # A derived class may use other headers than it was given, and a redirect may have removed some.
        replaced = self._asyncio_api or self.extra_headers is self._ws_given_headers
        if replaced and additional_headers is not None:
            self.extra_headers = additional_headers
        try:
            await self.handshake(
                self._ws_uri,
                origin=self.origin,
                available_extensions=self.available_extensions,
                available_subprotocols=self.available_subprotocols,
                extra_headers=self.extra_headers,
            )
        except (InvalidStatusCode, RedirectHandshake) as exc:
            # A program that uses the connect() of the asyncio API expects the exceptions of that API.
            raise (self.protocol.handshake_exc if self._asyncio_api else None) or exc from None

    async def handshake(  # type: ignore[override]
        self,
        wsuri: WebSocketURI,
        origin: Origin | None = None,
        available_extensions: Sequence[ClientExtensionFactory] | None = None,
        available_subprotocols: Sequence[Subprotocol] | None = None,
        extra_headers: HeadersLike | None = None,
    ) -> None:
        """Do the opening handshake (RFC 6455 section 4.1). May be overridden.

        Parameters:
            wsuri: URI of the request.
            origin, available_extensions, available_subprotocols, extra_headers: as for the class.

        Raises:
            InvalidStatusCode: the server refused the connection.
            RedirectHandshake: the server redirects the client.
            InvalidHandshake: the response isn't a valid opening handshake.
        """
        protocol = self.protocol
        protocol.uri = wsuri
        protocol.origin = origin
        protocol.available_extensions = available_extensions
        protocol.available_subprotocols = available_subprotocols
        request = protocol.connect()
        if extra_headers is not None:
            request.headers.update(extra_headers)
        if self.user_agent_header and "User-Agent" not in request.headers:
            request.headers["User-Agent"] = self.user_agent_header
        self.write_http_request(request.path, request.headers)
        await self.read_http_response()
        if protocol.handshake_exc is not None:
            raise _legacy_exception(protocol.handshake_exc)
        self.connection_open()

    def write_http_request(self, path: str, headers: Headers) -> None:
        """Send the request of the opening handshake. May be overridden.

        Parameters:
            path: target of the request.
            headers: headers of the request.
        """
        self.path = path
        self.request_headers = headers
        request = Request(path, headers if self._asyncio_api else headers_to_send(headers))
        # The exceptions of the legacy API have no body; waiting for one would only delay them.
        self._ws_session.send_request(request, None if self._asyncio_api else ResponseHeadParser())
        self._ws_process_events()

    async def read_http_response(self) -> tuple[int, Headers]:
        """Wait for the response to the request. May be overridden.

        Returns:
            The status and the headers of the response.

        Raises:
            InvalidMessage: no valid response arrived.
        """
        await self._ws_opening_response()
        response = self._ws_session.response
        if response is None:
            raise self.protocol.handshake_exc or InvalidMessage("did not receive a valid HTTP response")
        headers = response.headers
        self.response_headers = headers if self._asyncio_api else headers_received(headers)
        return response.status_code, self.response_headers

    # ------------------------------------------------------------------------------------------------------------ hooks

    @staticmethod
    def process_extensions(
        headers: Headers, available_extensions: Sequence[ClientExtensionFactory] | None
    ) -> list[Extension]:
        """Return the extensions that the server accepted (RFC 6455 section 9.1). May be overridden.

        Parameters:
            headers: headers of the response.
            available_extensions: extensions that were offered.

        Returns:
            The extensions, in the order to apply them.

        Raises:
            NegotiationError: the server accepted an extension that wasn't offered.
        """
        return ClientProtocol(NOWHERE, extensions=available_extensions).process_extensions(headers)

    @staticmethod
    def process_subprotocol(
        headers: Headers, available_subprotocols: Sequence[Subprotocol] | None
    ) -> Subprotocol | None:
        """Return the subprotocol that the server chose (RFC 6455 section 4.1). May be overridden.

        Parameters:
            headers: headers of the response.
            available_subprotocols: subprotocols that were offered.

        Returns:
            The subprotocol, None if the server chose none.

        Raises:
            NegotiationError: the server chose a subprotocol that wasn't offered.
            InvalidHeader: the server chose several.
        """
        return ClientProtocol(NOWHERE, subprotocols=available_subprotocols).process_subprotocol(headers)


def _legacy_exception(exc: Exception) -> Exception:
    """Return the exception of the legacy API for an exception of the asyncio API."""
    if not isinstance(exc, InvalidStatus):
        return exc
    location = redirect_location(exc, "")
    if location is not None:
        return RedirectHandshake(location)
    return InvalidStatusCode(exc.response.status_code, headers_received(exc.response.headers))


class Connect(_connect):
    """Connect to a WebSocket server.

    Await it for a connection. Use it in ``async with`` for a connection that is closed at the end of the block. Use it
    in ``async for`` to reconnect: it gives a new connection when the one before is closed, for any reason.

    Replaced by :class:`websockets.asyncio.client.connect`.

    Parameters:
        uri: URI of the server, with ``ws://`` or ``wss://``.
        create_protocol: class or factory of connections, called like :class:`WebSocketClientProtocol`.
        logger: where to log; ``websockets.client`` by default.
        compression: "deflate" for permessage-deflate (RFC 7692), None for none.
        origin: value of the ``Origin`` header; None to send none.
        extensions: extensions to offer, in the order of preference.
        subprotocols: subprotocols to offer, in the order of preference.
        extra_headers: headers to add to the request.
        user_agent_header: value of the ``User-Agent`` header; None to leave it out.
        open_timeout: seconds that connecting may take, redirects included; None for no limit.
        ping_interval, ping_timeout, close_timeout, max_size, max_queue, read_limit, write_limit: as for
            :class:`~websockets.legacy.protocol.WebSocketCommonProtocol`.
        **kwargs: passed to :meth:`asyncio.loop.create_connection`: ``ssl``, ``server_hostname``, ``sock``... And the
            deprecated ``klass`` for ``create_protocol``, ``timeout`` for ``close_timeout``, ``legacy_recv`` and
            ``loop``.

    Raises:
        InvalidURI: ``uri`` isn't a WebSocket URI.
        OSError: the TCP connection fails.
        InvalidHandshake: the opening handshake fails.
        TimeoutError: connecting takes more than ``open_timeout`` seconds.
        TypeError: an option is unknown or has a wrong type.
        ValueError: an option has a wrong value, or options contradict each other or the URI.
    """

    MAX_REDIRECTS_ALLOWED: int = MAX_REDIRECTS
    BACKOFF_INITIAL: float = _client.BACKOFF_INITIAL_DELAY
    BACKOFF_MIN: float = _client.BACKOFF_MIN_DELAY
    BACKOFF_MAX: float = _client.BACKOFF_MAX_DELAY
    BACKOFF_FACTOR: float = _client.BACKOFF_FACTOR

    def __init__(
        self,
        uri: str,
        *,
        create_protocol: Callable[..., WebSocketClientProtocol] | None = None,
        logger: LoggerLike | None = None,
        compression: str | None = "deflate",
        origin: Origin | None = None,
        extensions: Sequence[ClientExtensionFactory] | None = None,
        subprotocols: Sequence[Subprotocol] | None = None,
        extra_headers: HeadersLike | None = None,
        user_agent_header: str | None = USER_AGENT,
        open_timeout: float | None = 10,
        ping_interval: float | None = 20,
        ping_timeout: float | None = 20,
        close_timeout: float | None = None,
        max_size: int | None = 2**20,
        max_queue: int | None = 2**5,
        read_limit: int = 2**16,
        write_limit: int = 2**16,
        **kwargs: Any,
    ) -> None:
        close_timeout = closing_time(close_timeout, kwargs.pop("timeout", None))
        create_protocol = chosen_class(create_protocol, kwargs) or WebSocketClientProtocol
        legacy_recv = legacy_options(kwargs)
        given = dict(locals())
        check_client("connect", given, LEGACY_CLIENT)
        # The legacy API doesn't use the proxy of the system.
        kwargs.setdefault("proxy", None)
        super().__init__(
            uri,
            additional_headers=given["extra_headers"],
            process_exception=self.process_exception,
            reconnect_delays=self.reconnect_delays,
            # Pass the checked values, because an iterator among the arguments has been read already.
            **{name: given[name] for name in OF_CONNECT},
            **kwargs,
        )
        connection_options = {name: given[name] for name in OF_CONNECTIONS} | legacy_recv
        self._ws_connector_state.make_connection = functools.partial(
            _make_connection, create_protocol, connection_options
        )

    # A derived class may call __init__() as late as in its __await__(), so defaults are in the class.

    @staticmethod
    def process_exception(exc: Exception) -> None:
        """Return None: in the legacy API, an ``async for`` retries after every exception."""

    def reconnect_delays(self) -> Iterator[float]:
        """Yield the delays between attempts to reconnect, in seconds, from the ``BACKOFF_`` attributes of the class."""
        return _client.backoff(self.BACKOFF_INITIAL, self.BACKOFF_MIN, self.BACKOFF_MAX, self.BACKOFF_FACTOR)

    def process_redirect(self, exc: Exception) -> Exception | str:
        """Return the URI of a redirect to follow, or the exception to raise.

        Parameters:
            exc: exception of the attempt to connect to ``uri``.

        Returns:
            The URI of the next attempt; or the exception to raise.
        """
        if not isinstance(exc, RedirectHandshake):
            return exc
        try:
            return resolve_location(exc.uri, self.uri)
        except (InvalidURI, InvalidHeader) as error:
            return error

    protocol: WebSocketClientProtocol
    """The connection, after connecting."""

    async def connect(self) -> WebSocketClientProtocol:
        """Connect, and follow redirects; the class documents the exceptions."""
        # A derived class may change the attribute at any time before this call.
        self._ws_connector_state.max_redirects = self.MAX_REDIRECTS_ALLOWED
        connection = await super().connect()
        return cast(WebSocketClientProtocol, connection)

    def __await__(self) -> Generator[Any, None, WebSocketClientProtocol]:
        # Derived classes override one of these two methods.
        return self.__await_impl__().__await__()

    async def __await_impl__(self) -> WebSocketClientProtocol:
        """Connect; a class with its own ``__await__`` may call this method."""
        self.protocol = await self.connect()
        return self.protocol

    async def __aenter__(self) -> WebSocketClientProtocol:
        return await self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        # In the legacy API, the close code doesn't depend on an exception in the block.
        await self.protocol.close()

    if TYPE_CHECKING:
        # The same method as in the asyncio API, but with a legacy connection.
        def __aiter__(self) -> AsyncIterator[WebSocketClientProtocol]: ...


def _make_connection(
    create_protocol: Callable[..., WebSocketClientProtocol], options: dict[str, Any], protocol: ClientProtocol
) -> WebSocketClientProtocol:
    """Return a connection, from options in the protocol of the asyncio API, and others."""
    uri = protocol.uri
    connection = create_protocol(
        logger=protocol.logger,
        origin=protocol.origin,
        extensions=protocol.available_extensions,
        subprotocols=protocol.available_subprotocols,
        host=uri.host,
        port=uri.port,
        secure=uri.secure,
        **options,
    )
    connection._ws_uri = uri
    connection._ws_given_headers = options["extra_headers"]
    return connection


connect = Connect


def unix_connect(
    path: str | bytes | os.PathLike[str] | None = None, uri: str = "ws://localhost/", **kwargs: Any
) -> Connect:
    """Connect to a WebSocket server on a Unix socket; otherwise like :class:`connect`.

    Parameters:
        path: path of the socket; None if ``sock`` is given.
        uri: URI for the request.
        **kwargs: as for :class:`connect`; the rest is passed to :meth:`asyncio.loop.create_unix_connection`.
    """
    return connect(uri=uri, unix=True, path=path, **kwargs)


# Names from earlier releases.
if not TYPE_CHECKING:
    __getattr__ = deprecated_names(__name__)
