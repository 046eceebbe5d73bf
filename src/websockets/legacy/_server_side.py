"""The server's end of a connection in the legacy API, on top of the asyncio API.

May know: the handler and the hooks of an opening handshake before 14.0, and what replaces each of them.
Must not know: the rules for a request and the text of a refusal, which belong to the protocol; the accepting server.
"""

from __future__ import annotations

import asyncio
import inspect
import warnings
import weakref
from collections.abc import Awaitable, Callable, Sequence
from http import HTTPStatus
from typing import Any, NamedTuple, cast

from .._awaiting.hooks import carry_out
from .._rules.option_checks import awaited
from .._session.answering import SHUTTING_DOWN, Answering
from .._session.options import ServerOptions, shows_path
from .._session.registry import Registry
from ..asyncio._serving import answering_of, connected, forget, send_response, start_handler
from ..asyncio.connection import Connection
from ..asyncio.server import Server, ServerConnection
from ..datastructures import Headers, HeadersLike
from ..exceptions import InvalidHandshake, InvalidHeaderValue
from ..extensions.base import Extension, ServerExtensionFactory
from ..frames import CloseCode
from ..http11 import SERVER, Request, Response
from ..protocol import State
from ..server import ServerProtocol, deferred_offer, opening_response, refuse_or_fail
from ..typing import LoggerLike, Origin, StatusLike, Subprotocol
from .exceptions import AbortHandshake
from .protocol import WebSocketCommonProtocol, headers_received, headers_to_send

__all__ = [
    "HTTPResponse",
    "Handler",
    "HeadersLikeOrCallable",
    "ProcessRequest",
    "SelectSubprotocol",
    "WebSocketServerProtocol",
]

HTTPResponse = tuple[StatusLike, HeadersLike, bytes]
"""Status, headers and body, which ``process_request`` returns in order to refuse the connection."""

HeadersLikeOrCallable = HeadersLike | Callable[[str, Headers], HeadersLike]
"""Headers to add to a response, or ``f(path, request_headers)`` that returns them."""

Handler = (
    Callable[["WebSocketServerProtocol"], Awaitable[Any]] | Callable[["WebSocketServerProtocol", str], Awaitable[Any]]
)
ProcessRequest = Callable[[str, Headers], Awaitable[HTTPResponse | None]]
SelectSubprotocol = Callable[[Sequence[Subprotocol], Sequence[Subprotocol]], Subprotocol | None]

# Maximum number of bytes that a client may send before it gets its response; then reading pauses.
EARLY_LIMIT = 2**16

# For connections that somebody else accepted: there are no options, and nobody looks at what is counted.
_UNCOUNTED = Answering(ServerOptions(), Registry())


class _Negotiation(ServerProtocol):
    """A protocol that calls the methods of the connection which programs may override."""

    connection: Callable[[], WebSocketServerProtocol | None]

    @property
    def _hooks(self) -> WebSocketServerProtocol:
        connection = self.connection()
        assert connection is not None
        return connection

    def process_origin(self, headers: Headers) -> Origin | None:
        hooks = self._hooks
        hooks.origin = hooks.process_origin(headers, cast("Sequence[Origin | None] | None", self.origins))
        return hooks.origin

    def process_extensions(self, headers: Headers) -> tuple[str | None, list[Extension]]:
        return self._hooks.process_extensions(headers, self.available_extensions)

    def process_subprotocol(self, headers: Headers) -> Subprotocol | None:
        if (select := self._hooks._ws_server_select()) is not None:
            self._select = select
            return super().process_subprotocol(headers)
        return self._hooks.process_subprotocol(headers, self.available_subprotocols)

    def _receive_opening(self, data: Any) -> None:
        super()._receive_opening(data)
        if self._early is not None and len(self._early) > EARLY_LIMIT:
            self._hooks._ws_wait_with_reading()


class _AsyncioServer(NamedTuple):
    """A server of the asyncio API that creates legacy connections, with the interface that they expect."""

    server: Server
    protocol: ServerProtocol  # created by the server, with its options

    def register(self, connection: WebSocketServerProtocol) -> None:
        connected(self.server, connection)

    def unregister(self, connection: WebSocketServerProtocol) -> None:
        forget(self.server, connection)

    def is_serving(self) -> bool:
        return not answering_of(self.server).registry.closing


class WebSocketServerProtocol(WebSocketCommonProtocol, ServerConnection):
    """Server connection of the legacy API; replaced by :class:`~websockets.asyncio.server.ServerConnection`.

    This class, or one derived from it, may be the ``create_protocol`` of ``serve``, here and in the asyncio API.

    Parameters:
        ws_handler: coroutine function that is called with the connection; if it takes two parameters, with the
            connection and the path of the request.
        ws_server: registry of connections, with the methods ``register``, ``unregister`` and ``is_serving``.
        logger: where to log; ``websockets.server`` by default.
        origins: acceptable origins; None in the list accepts requests without ``Origin``, and so does "", which is
            deprecated.
        extensions: extensions supported, in the order to try them.
        subprotocols: subprotocols supported, in the order of preference.
        extra_headers: headers to add to the response, or a function that returns them.
        server_header: value of the ``Server`` header; None to leave it out.
        process_request: see :meth:`process_request`.
        select_subprotocol: see :meth:`select_subprotocol`.
        open_timeout: seconds that the opening handshake may take; None for no limit.
        **kwargs: as for :class:`~websockets.legacy.protocol.WebSocketCommonProtocol`.
    """

    is_client = False
    side = "server"

    ws_server: Any
    origin: Origin | None = None

    def __init__(
        self,
        ws_handler: Handler,
        ws_server: Any,
        *,
        logger: LoggerLike | None = None,
        origins: Sequence[Origin | None] | None = None,
        extensions: Sequence[ServerExtensionFactory] | None = None,
        subprotocols: Sequence[Subprotocol] | None = None,
        extra_headers: HeadersLikeOrCallable | None = None,
        server_header: str | None = SERVER,
        process_request: ProcessRequest | None = None,
        select_subprotocol: SelectSubprotocol | None = None,
        open_timeout: float | None = 10,
        **kwargs: Any,
    ) -> None:
        # Set these before calling methods that programs may override, because the overrides may read them.
        self.ws_handler: Callable[..., Awaitable[Any]] = ws_handler
        self.ws_server = ws_server
        self.origins = accepted_origins(origins)
        self.available_extensions = extensions
        self.available_subprotocols = subprotocols
        self.extra_headers = extra_headers
        self.server_header = server_header
        self._ws_process_request = process_request
        self._ws_select_subprotocol = select_subprotocol
        self.open_timeout = open_timeout
        if isinstance(ws_handler, ServerProtocol) and isinstance(ws_server, Server):
            logger, kwargs["max_size"] = self._ws_adopt(ws_handler, ws_server)
        self._ws_takes_path = shows_path(self.ws_handler)
        if self._ws_takes_path and not isinstance(ws_server, Server):
            # Functions such as serve() warn only once for all connections.
            warnings.warn("remove second argument of ws_handler", DeprecationWarning, stacklevel=2)
        super().__init__(logger=logger, **kwargs)

    def _ws_adopt(self, protocol: ServerProtocol, server: Server) -> tuple[LoggerLike, Any]:
        """Take over the options of a server of the asyncio API, which creates this connection."""
        options = answering_of(server).options
        self.ws_handler = cast("Callable[..., Awaitable[Any]]", server.handler)
        self.ws_server = _AsyncioServer(server, protocol)
        self.origins = cast("Sequence[Origin | None] | None", protocol.origins)
        self.available_extensions = protocol.available_extensions
        self.available_subprotocols = protocol.available_subprotocols
        self.server_header, self.open_timeout = options.server_header, options.open_timeout
        return protocol.logger, (protocol.max_message_size, protocol.max_fragment_size)

    def _ws_make_protocol(self, max_size: Any, logger: LoggerLike | None) -> ServerProtocol:
        protocol = _Negotiation(max_size=max_size, logger=logger)
        protocol.connection = weakref.ref(self)
        return protocol

    def _ws_server_select(self) -> Callable[[ServerProtocol, Sequence[Subprotocol]], Subprotocol | None] | None:
        return self.ws_server.protocol._select if isinstance(self.ws_server, _AsyncioServer) else None

    # ------------------------------------------------------------------------------------------------------------- life

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin the connection; the event loop calls this method."""
        # Don't call super(): the asyncio API expects a Server, but another object may have accepted the connection.
        Connection.connection_made(self, transport)
        self._ws_session.start_opening(self.open_timeout, self.loop.time())
        self._ws_schedule()
        self.ws_server.register(self)

    def _ws_answer(self, request: Request) -> None:
        # Reading goes on: programs expect to learn of a client that leaves while they think about its request.
        if not isinstance(self.ws_server, _AsyncioServer):
            request.headers = headers_received(request.headers)
        start_handler(self, self.handler())

    def _ws_wait_with_reading(self) -> None:
        self._ws_pause_reading(True)
        self.transport.pause_reading()

    def _ws_half_close(self) -> None:
        if self._ws_session.asking or self.protocol.state is State.CONNECTING:
            # Nothing was opened, so nothing is left to wait for. Frameworks write answers of their own, at any time: a
            # transport that is closing ignores them, and one that is half-closed raises.
            self.transport.close()
        else:
            super()._ws_half_close()

    def _ws_forget(self) -> None:
        self.ws_server.unregister(self)

    @property
    def _ws_answering(self) -> Answering:
        server = self.ws_server.server if isinstance(self.ws_server, _AsyncioServer) else self.ws_server
        return answering_of(server) if isinstance(server, Server) else _UNCOUNTED

    @property
    def handler_task(self) -> asyncio.Task[None] | None:
        """Task that runs the handler; None before there is a request."""
        return self._ws_task

    async def handler(self) -> None:
        """Do the opening handshake, run the handler, and close the connection. May be overridden."""
        # Until the request is answered, this ends with the TCP connection, whatever it waits for.
        self._ws_session.asking = True
        try:
            path = await self.handshake(
                origins=self.origins,
                available_extensions=self.available_extensions,
                available_subprotocols=self.available_subprotocols,
                extra_headers=self.extra_headers,
            )
        except Exception as exc:
            self._ws_session.asking = False
            await self._ws_refuse(exc)
        else:
            self._ws_session.asking = False
            await self._ws_handle(path)
        await self.wait_closed()

    async def _ws_handle(self, path: str) -> None:
        failed = False
        try:
            await awaited(self.ws_handler, self.ws_handler(self, *([path] if self._ws_takes_path else [])))
        except Exception as exc:
            failed = self._ws_answering.handler_failed(self, self._ws_session, exc)
        if failed:
            await self.close(CloseCode.INTERNAL_ERROR)
        else:
            await self.close()

    async def handshake(  # type: ignore[override]
        self,
        origins: Sequence[Origin | None] | None = None,
        available_extensions: Sequence[ServerExtensionFactory] | None = None,
        available_subprotocols: Sequence[Subprotocol] | None = None,
        extra_headers: HeadersLikeOrCallable | None = None,
    ) -> str:
        """Do the opening handshake (RFC 6455 section 4.2). May be overridden.

        Parameters:
            origins, available_extensions, available_subprotocols, extra_headers: as for the class.

        Returns:
            The path of the request, with its query.

        Raises:
            InvalidHandshake: the connection must not be opened; :exc:`AbortHandshake` has the response to send.
        """
        self._ws_check_server()
        path, request_headers = await self.read_http_request()
        early: Any = self.process_request(path, request_headers)
        if inspect.isawaitable(early):
            early = await early
        else:
            warnings.warn("declare process_request as a coroutine", DeprecationWarning, stacklevel=1)
        if early is not None:
            raise AbortHandshake(*early)
        await self._ws_call_process_request(self._ws_session.request)
        protocol = cast(_Negotiation, self.protocol)
        protocol.origins = origins
        protocol.available_extensions = available_extensions
        protocol.available_subprotocols = available_subprotocols
        accept, extensions, subprotocol = await self._ws_negotiate(protocol)
        try:
            response = opening_response(protocol, accept, extensions, subprotocol)
            add_headers(response.headers, extra_headers, path, request_headers)
        except InvalidHeaderValue as exc:
            # The program chose it, so the client isn't to blame.
            raise ValueError("the response can't be sent") from exc
        self._ws_check_server()
        await self._ws_respond(response)
        if self.protocol.state is State.CONNECTING:
            raise InvalidHandshake("the opening handshake ended without a connection")
        self.connection_open()
        return path

    def _ws_check_server(self) -> None:
        if not self.ws_server.is_serving():
            raise AbortHandshake(HTTPStatus.SERVICE_UNAVAILABLE, {}, SHUTTING_DOWN.encode())

    async def _ws_call_process_request(self, request: Request | None) -> None:
        """Call the ``process_request`` of a server of the asyncio API."""
        answering = self._ws_answering
        hook = answering.options.process_request
        response = await carry_out(answering.ask("process_request", hook, self, self._ws_session, request))
        self._ws_session.asking = True
        if response is not None:
            raise AbortHandshake(response.status_code, response.headers, response.body)

    async def _ws_negotiate(self, protocol: ServerProtocol) -> tuple[str, str | None, Subprotocol | None]:
        assert self._ws_session.request is not None
        accept, extensions, subprotocol = protocol.process_request(self._ws_session.request)
        offered = deferred_offer(protocol)
        if offered is not None:
            choice: Any = self._ws_answering.options.select_subprotocol(self, offered)
            subprotocol = protocol.subprotocol = await choice if inspect.isawaitable(choice) else choice
        return accept, extensions, cast("Subprotocol | None", subprotocol)

    async def _ws_respond(self, response: Response) -> None:
        if self.server_header is not None and "Server" not in response.headers:
            response.headers["Server"] = self.server_header
        answering, session = self._ws_answering, self._ws_session
        hook = answering.options.process_response
        steps = answering.ask("process_response", hook, self, session, session.request, response)
        changed = await carry_out(steps)
        response = changed or response
        if session.answerable and not self.transport.is_closing():
            self.write_http_response(HTTPStatus(response.status_code), response.headers, response.body)

    async def _ws_refuse(self, exc: Exception) -> None:
        """Send the response for an exception that prevents the connection from opening."""
        if self.protocol.state is State.OPEN:
            # A derived class raised after the response was sent, so it is too late for another response.
            self.logger.error("opening handshake failed", exc_info=exc)
            await self.close(CloseCode.INTERNAL_ERROR)
            return
        if not self._ws_session.answerable:
            return
        try:
            response = (
                aborted(exc, self.protocol) if isinstance(exc, AbortHandshake) else refuse_or_fail(self.protocol, exc)
            )
        except Exception as error:
            response = refuse_or_fail(self.protocol, error)
        await self._ws_respond(response)

    async def read_http_request(self) -> tuple[str, Headers]:
        """Return the target and the headers of the request. May be overridden.

        Returns:
            The target, with its query, and the headers.
        """
        request = self._ws_session.request
        assert request is not None
        self.path = request.path
        self.request_headers = request.headers
        return self.path, request.headers

    def write_http_response(self, status: StatusLike, headers: Headers, body: bytes | None = None) -> None:
        """Send the response: status 101 opens the connection, any other status ends it. May be overridden.

        Parameters:
            status: HTTP status.
            headers: headers of the response.
            body: body of the response; None (the default) for none.
        """
        status = HTTPStatus(status)
        self.response_headers = headers
        if not isinstance(self.ws_server, _AsyncioServer):
            headers = headers_to_send(headers)
        send_response(self, Response(status.value, status.phrase, headers, body or b""))

    # ------------------------------------------------------------------------------------------------------------ hooks

    async def process_request(self, path: str, request_headers: Headers) -> HTTPResponse | None:
        """Accept or refuse a request; called for every request. May be overridden.

        Parameters:
            path: target of the request, with its query.
            request_headers: headers of the request.

        Returns:
            None to continue; or status, headers and body of the response to send instead of opening the connection.
        """
        if self._ws_process_request is None:
            return None
        response: Any = self._ws_process_request(path, request_headers)
        if not inspect.isawaitable(response):
            warnings.warn("declare process_request as a coroutine", DeprecationWarning, stacklevel=1)
            return cast("HTTPResponse | None", response)
        return cast("HTTPResponse | None", await response)

    @staticmethod
    def process_origin(headers: Headers, origins: Sequence[Origin | None] | None = None) -> Origin | None:
        """Check the origin (RFC 6455 section 10.2). May be overridden.

        Parameters:
            headers: headers of the request.
            origins: acceptable origins; None (the default) for any.

        Returns:
            The origin, None if there is none.

        Raises:
            InvalidOrigin: the origin isn't acceptable.
            InvalidHeader: there are several origins.
        """
        return ServerProtocol(origins=origins).process_origin(headers)

    @staticmethod
    def process_extensions(
        headers: Headers, available_extensions: Sequence[ServerExtensionFactory] | None
    ) -> tuple[str | None, list[Extension]]:
        """Choose extensions among those offered (RFC 6455 section 9.1). May be overridden.

        Parameters:
            headers: headers of the request.
            available_extensions: extensions supported, in the order to try them.

        Returns:
            The value of ``Sec-WebSocket-Extensions``, None for none, and the extensions.

        Raises:
            InvalidHandshake: the header is malformed.
        """
        return ServerProtocol(extensions=available_extensions).process_extensions(headers)

    def process_subprotocol(
        self, headers: Headers, available_subprotocols: Sequence[Subprotocol] | None
    ) -> Subprotocol | None:
        """Choose a subprotocol among those offered (RFC 6455 section 4.2.2). May be overridden.

        Parameters:
            headers: headers of the request.
            available_subprotocols: subprotocols supported, in the order of preference.

        Returns:
            The subprotocol, None for none.

        Raises:
            InvalidHandshake: the header is malformed.
        """
        if not available_subprotocols:
            return None

        def select(_: ServerProtocol, offered: Sequence[Subprotocol]) -> Subprotocol | None:
            return self.select_subprotocol(offered, available_subprotocols) if offered else None

        return ServerProtocol(select_subprotocol=select).process_subprotocol(headers)

    def select_subprotocol(
        self, client_subprotocols: Sequence[Subprotocol], server_subprotocols: Sequence[Subprotocol]
    ) -> Subprotocol | None:
        """Choose a subprotocol that both sides support; by default, by the preferences of both. May be overridden.

        Parameters:
            client_subprotocols: subprotocols that the client offers.
            server_subprotocols: subprotocols that the server supports.

        Returns:
            The subprotocol; None to continue without one.
        """
        if self._ws_select_subprotocol is not None:
            return self._ws_select_subprotocol(client_subprotocols, server_subprotocols)
        common = [subprotocol for subprotocol in server_subprotocols if subprotocol in client_subprotocols]
        if not common:
            return None
        return min(common, key=lambda each: client_subprotocols.index(each) + server_subprotocols.index(each))


def accepted_origins(origins: Sequence[Origin | None] | None) -> Sequence[Origin | None] | None:
    """Return ``origins`` with None in place of "", which earlier meant no ``Origin`` header."""
    if origins is None or "" not in origins:
        return origins
    warnings.warn("use None instead of '' in origins", DeprecationWarning, stacklevel=3)
    return [origin or None for origin in origins]


def add_headers(headers: Headers, extra: HeadersLikeOrCallable | None, path: str, request_headers: Headers) -> None:
    """Add the program's headers to a response; a header that may occur only once replaces ours."""
    if callable(extra):
        extra = extra(path, request_headers)
    if extra is None:
        return
    extra = Headers(extra)
    for name in ("Date", "Server"):
        if name in extra and name in headers:
            del headers[name]
    headers.update(extra)


def aborted(exc: AbortHandshake, protocol: ServerProtocol) -> Response:
    """Return the response that a program asks for, with missing headers added."""
    response = protocol.reject(exc.status, "")
    headers = Headers(exc.headers)
    usual = dict(response.headers.raw_items())
    lacking = {**usual, "Content-Length": str(len(exc.body)), "Content-Type": "text/plain"}
    for name, value in lacking.items():
        if name not in headers:
            headers[name] = value
    return Response(response.status_code, response.reason_phrase, headers, exc.body)
