"""The server's side of the opening handshake, without I/O: RFC 6455 section 4.2.

May know: the rules for a request, the response of each refusal. Must not know: sockets, time, the handler.
"""

from __future__ import annotations

import logging
import re
import warnings
from collections.abc import Callable, Sequence
from http import HTTPStatus as Status
from typing import TYPE_CHECKING, Any, Final, Self, cast

from ._codec.proxy_protocol import UnexpectedProxyHeader
from ._compat.deprecated import deprecated_names
from ._compat.layout import share_names
from ._rules.carrier import Carrier
from ._rules.carrier_http11 import HTTP11
from ._rules.handshake import HostNames, log_headers, origin_matches, single_value
from ._rules.lifecycle import Receive, Send, Sending, State
from ._rules.option_table import SERVER_PROTOCOL, check_all
from ._rules.refusals import Unavailable, WrongHost, refusal_of, refusal_reason
from ._rules.rejection import rejection
from ._rules.statistics import APPLICATION, FAILURE
from .datastructures import Headers, HeadersLike
from .datastructures._shortcuts import values_by_name
from .exceptions import (
    HeaderLineTooLong,
    InvalidHandshake,
    InvalidHeader,
    InvalidMessage,
    InvalidOrigin,
    InvalidState,
    NegotiationError,
    RequestLineTooLong,
    TooManyHeaders,
    printable,
)
from .extensions.base import Extension, ServerExtensionFactory
from .headers import build_extension, parse_extension, parse_subprotocol
from .http11 import Request, RequestParser, Response
from .protocol import Protocol, Side
from .typing import BytesLike, ExtensionHeader, HostsLike, LoggerLike, Origin, StatusLike, Subprotocol

__all__ = ["ServerProtocol"]

FAILURE_TEXT: Final = "Failed to open a WebSocket connection.\nSee server log for more information.\n"

# The log line for an opening handshake that failed through no fault of the client.
HANDSHAKE_FAILED: Final = "opening handshake failed"


class ServerProtocol(Protocol):
    """Sans-I/O WebSocket server connection.

    Parameters:
        origins: values of the ``Origin`` header to accept: strings, compiled patterns that must match in full, None
            for a missing header. None instead of a sequence accepts any value.
        hosts: values of the ``Host`` header to accept: strings without a port, compiled patterns that must match in
            full; upper and lower case are equal. None accepts any value.
        extensions: extensions supported, in the order to try them.
        subprotocols: subprotocols supported, in order of preference.
        select_subprotocol: ``f(protocol, offered) -> subprotocol or None``, instead of the default choice.
        state: initial state of the connection.
        max_size: maximum size of incoming messages in bytes; None for no limit; or a tuple of the limits of a message
            and of a fragment.
        logger: where to log; ``websockets.server`` by default.

    Raises:
        TypeError: an option has a wrong type.
        ValueError: an option has a wrong value.
    """

    def __init__(
        self,
        *,
        origins: Sequence[Origin | re.Pattern[str] | None] | None = None,
        extensions: Sequence[ServerExtensionFactory] | None = None,
        subprotocols: Sequence[Subprotocol] | None = None,
        select_subprotocol: Callable[[ServerProtocol, Sequence[Subprotocol]], Subprotocol | None] | None = None,
        state: State = State.CONNECTING,
        max_size: int | tuple[int | None, int | None] | None = 2**20,
        logger: LoggerLike | None = None,
        hosts: HostsLike | None = None,
    ) -> None:
        given: dict[str, Any] = {"origins": origins, "hosts": hosts, "extensions": extensions}
        given |= {"subprotocols": subprotocols, "select_subprotocol": select_subprotocol, "state": state}
        given |= {"max_size": max_size, "logger": logger}
        check_all(given, SERVER_PROTOCOL)
        self._set_up(**given)

    @classmethod
    def _of(cls, options: dict[str, Any]) -> Self:
        """Make a protocol from options that have been checked."""
        self = cls.__new__(cls)
        self._set_up(**options)
        return self

    def _set_up(
        self,
        origins: Sequence[Origin | re.Pattern[str] | None] | None,
        extensions: Sequence[ServerExtensionFactory] | None,
        subprotocols: Sequence[Subprotocol] | None,
        max_size: int | tuple[int | None, int | None] | None,
        logger: LoggerLike | None,
        hosts: HostNames | None = None,
        select_subprotocol: Callable[[ServerProtocol, Sequence[Subprotocol]], Subprotocol | None] | None = None,
        state: State = State.CONNECTING,
    ) -> None:
        Protocol.__init__(self, Side.SERVER, state=state, max_size=max_size, logger=logger)
        self.origins = origins
        self.available_extensions = extensions
        self.available_subprotocols = subprotocols
        self._select = select_subprotocol
        if hosts is not None:
            self.hosts = hosts

    hosts: HostNames | None = None
    _carrier: Carrier = HTTP11
    _parser: RequestParser | None = None
    _requested: bool = False
    _unanswered: Request | None = None
    _method: str = "GET"
    _early: bytearray | None = None
    _logged_open: bool = False  # whether the log has the line about its beginning, which its end needs
    _failure: Exception | None = None  # an exception that isn't the client's fault, whatever its class
    _offered: Sequence[Subprotocol] | None = None  # the client's offer, if the choice of a subprotocol was deferred

    # ---------------------------------------------------------------------------------------------- tell: the network

    def _receive_opening(self, data: BytesLike) -> None:
        if self._requested:
            # The client doesn't wait for the response: keep its frames until the connection is open.
            self._early = self._early or bytearray()
            self._early += data
            return
        parser = self._parser or RequestParser()
        try:
            request = parser.feed(data)
        except (RequestLineTooLong, HeaderLineTooLong, TooManyHeaders) as exc:
            self._refuse_malformed(exc)
        except Exception as exc:
            self._refuse_malformed(_invalid_message(exc))
        else:
            if request is not None:
                self._take_request(request, parser.rest)
            else:
                self._parser = parser

    def _take_request(self, request: Request, rest: bytes) -> None:
        self._requested, self._unanswered = True, request
        if self._parser is not None:
            self._parser = None
        if rest:
            self._early = bytearray(rest)
        if request.method != "GET":
            self._method = request.method
        if self.debug:
            self.logger.debug("< %s %s %s", request.method, printable(request.path), request.protocol)
            log_headers(self.logger, "<", request.headers)
        self.events.append(request)

    def _receive_opening_eof(self) -> None:
        if not self._requested:
            try:
                (self._parser or RequestParser()).eof()
            except EOFError as exc:
                self.handshake_exc = _invalid_message(exc)
            self._parser = None
            if self.debug:
                self.logger.debug("! no valid HTTP request", exc_info=self.handshake_exc)

    def _refuse_malformed(self, exc: Exception) -> None:
        """Refuse a malformed request at once, because the server never gets a request to answer."""
        self._parser = None
        if isinstance(exc.__cause__, UnexpectedProxyHeader):
            # Log the error, because only a proxy sees the response, and its clients can't correct the error.
            self.logger.info("opening handshake failed: %s", exc.__cause__)
        self.send_response(self._refuse_request(exc))

    # ------------------------------------------------------------------------------------------ tell: the application

    def accept(self, request: Request) -> Response:
        """Make the response to a request; :meth:`send_response` then opens the connection.

        Parameters:
            request: request from :meth:`events_received`.

        Returns:
            101 if the request is a valid opening handshake, else a refusal; :attr:`handshake_exc` has the reason.
        """
        try:
            accept_header, extensions_header, protocol_header = self.process_request(request)
        except Exception as exc:
            return refuse_or_fail(self, exc)
        try:
            return opening_response(self, accept_header, extensions_header, protocol_header)
        except Exception as exc:
            # The subprotocol that the server chose can't be sent: this is an error of the server.
            return fail(self, exc, HANDSHAKE_FAILED, self.logger)

    def _refuse_request(self, exc: Exception) -> Response:
        self.handshake_exc = exc
        refusal = refusal_of(exc)
        assert refusal is not None
        if self.debug:
            self.logger.debug(f"! {refusal.reason}", exc_info=exc)
        # For errors of HTTP syntax, the details are in the cause.
        what = f"{exc}: {exc.__cause__}" if exc.__cause__ is not None else str(exc)
        response = self.reject(refusal.status, f"Failed to open a WebSocket connection: {what}{refusal.ending}")
        for name, value in refusal.headers.items():
            response.headers[name] = value
        return response

    def process_request(self, request: Request) -> tuple[str, str | None, str | None]:
        """Check a request and negotiate (RFC 6455 section 4.2.1). May be overridden.

        Parameters:
            request: request of the client.

        Returns:
            The values of ``Sec-WebSocket-Accept``, ``Sec-WebSocket-Extensions`` and ``Sec-WebSocket-Protocol``; None
            for a header to leave out.

        Raises:
            InvalidHandshake: the request isn't a valid opening handshake.
        """
        headers = request.headers
        accept_header = self._carrier.check_request(request)
        self.process_host(headers)
        self.origin = self.process_origin(headers)
        extensions_header, self.extensions = self.process_extensions(headers)
        protocol_header = self.subprotocol = self.process_subprotocol(headers)
        return accept_header, extensions_header, protocol_header

    def process_host(self, headers: Headers) -> None:
        """Check the ``Host`` header (RFC 9110 section 7.4). May be overridden.

        Parameters:
            headers: headers of the request.

        Raises:
            InvalidHeader: ``Host`` is missing or repeated, or isn't among ``hosts``.
        """
        if self.hosts is not None:
            host = single_value(headers, "Host")
            if host not in self.hosts:
                raise WrongHost("Host", host)

    def process_origin(self, headers: Headers) -> Origin | None:
        """Check the origin (RFC 6455 section 10.2). May be overridden.

        Parameters:
            headers: headers of the request.

        Returns:
            The origin; None if there is none.

        Raises:
            InvalidOrigin: the origin isn't accepted.
            InvalidHeader: there are several ``Origin`` headers.
        """
        origin = values_by_name(headers).get("origin")
        if isinstance(origin, list):
            raise InvalidHeader("Origin", "multiple values")
        if self.origins is not None and not any(origin_matches(allowed, origin) for allowed in self.origins):
            raise InvalidOrigin(origin)
        return cast("Origin | None", origin)

    def process_extensions(self, headers: Headers) -> tuple[str | None, list[Extension]]:
        """Choose extensions among those offered (RFC 6455 section 9.1). May be overridden.

        An offer that isn't supported is declined, and the next one is tried.

        Parameters:
            headers: headers of the request.

        Returns:
            The value of ``Sec-WebSocket-Extensions``, None to leave it out, and the extensions.

        Raises:
            InvalidHandshake: the header is malformed.
        """
        chosen: list[ExtensionHeader] = []
        accepted: list[Extension] = []
        values = headers.get_all("Sec-WebSocket-Extensions")
        if values and self.available_extensions:
            offers = [offer for value in values for offer in parse_extension(value)]
            for name, params in offers:
                for factory in self.available_extensions:
                    if factory.name != name:
                        continue
                    try:
                        answer, extension = factory.process_request_params(params, accepted)
                    except NegotiationError:
                        continue
                    chosen.append((name, answer))
                    accepted.append(extension)
                    break
        return (build_extension(chosen) if chosen else None), accepted

    def process_subprotocol(self, headers: Headers) -> Subprotocol | None:
        """Choose a subprotocol among those offered (RFC 6455 section 4.2.2). May be overridden.

        Parameters:
            headers: headers of the request.

        Returns:
            The subprotocol; None for no subprotocol.

        Raises:
            InvalidHandshake: the header is malformed, or the client offers no acceptable subprotocol.
        """
        values = headers.get_all("Sec-WebSocket-Protocol")
        return self.select_subprotocol([subprotocol for value in values for subprotocol in parse_subprotocol(value)])

    def select_subprotocol(self, subprotocols: Sequence[Subprotocol]) -> Subprotocol | None:
        """Choose the subprotocol that the server prefers. May be overridden.

        Parameters:
            subprotocols: subprotocols that the client offers.

        Returns:
            The subprotocol; None if the server supports none.

        Raises:
            NegotiationError: the client offers none, or none that the server supports.
        """
        if self._select is not None:
            return self._select(self, subprotocols)
        if not self.available_subprotocols:
            return None
        if not subprotocols:
            raise NegotiationError("missing subprotocol")
        for subprotocol in self.available_subprotocols:
            if subprotocol in subprotocols:
                return subprotocol
        raise NegotiationError(f"invalid subprotocol; expected one of {', '.join(self.available_subprotocols)}")

    def reject(self, status: StatusLike, text: str | BytesLike, *, headers: HeadersLike | None = None) -> Response:
        """Make a response that doesn't open the connection: a refusal, a page, a health check.

        Parameters:
            status: HTTP status.
            text: body; a ``str`` is sent in UTF-8, as ``text/plain``, and bytes as ``application/octet-stream``.
            headers: headers to add; they replace the default ones, such as ``Content-Type``.

        Returns:
            The response, with ``Connection: close``; its headers may be changed.

        Raises:
            ValueError: the status is unknown, or ``headers`` has ``Connection``, ``Content-Length`` or
                ``Transfer-Encoding``, which follow from the body and the connection.
            TypeError: ``text`` is neither ``str`` nor bytes.
        """
        return rejection(status, text, headers, self._carrier.closing)

    def send_response(self, response: Response) -> None:
        """Send the response: 101 opens the connection, any other status ends it.

        Parameters:
            response: result of :meth:`accept` or :meth:`reject`.

        Raises:
            InvalidState: a response was sent before, or the connection is closed.
            ValueError: the response isn't valid HTTP.
        """
        if self._life.sending is not Sending.OPENING:
            raise InvalidState(f"connection is {self.state.name.lower()}")
        if self._method == "HEAD" and response.body:
            # RFC 9110 section 9.3.2: the response to HEAD has the same headers as for GET, and no content.
            response = Response(response.status_code, response.reason_phrase, response.headers)
        # Serialize before anything changes, because it may raise.
        data = self._carrier.serialize_response(response)
        if self.debug:
            self.logger.debug("> %s %d %s", self._carrier.version, response.status_code, response.reason_phrase)
            log_headers(self.logger, ">", response.headers)
            if response.body:
                self.logger.debug("> [body] (%d bytes)", len(response.body))
        if data:
            self.writes.append(data)
        self._unanswered = None
        if opens(self, response):
            self._open()
        else:
            self._rejected(response)

    def _open(self) -> None:
        self._life.received(Receive.OPENED)
        self._life.sent(Send.OPENED)
        if self.debug:
            self._log_state()
        if self.logger.isEnabledFor(logging.INFO):
            self._logged_open = True
            self.logger.info("connection open")
        if self._early is not None:
            early, self._early = self._early, None
            self.receive_data(early)

    def _rejected(self, response: Response) -> None:
        if self.logger.isEnabledFor(logging.INFO):
            line = "HTTP response sent (%d %s)" if self.handshake_exc is None else "connection rejected (%d %s)"
            self.logger.info(line, response.status_code, response.reason_phrase)
        self._early = None
        self._life.received(Receive.REFUSAL)
        self._react()

    def _closed(self) -> None:
        super()._closed()
        # A client that never opened a connection has its own line, or has said nothing.
        if self._logged_open:
            self.logger.info("connection closed")


# fmt: off
share_names(
    ServerProtocol,
    # Set when the protocol is created.
    "logger", "debug", "side", "_max_message_size", "_max_fragment_size", "extensions", "events", "writes", "_life",
    "origins", "hosts", "available_extensions", "available_subprotocols", "_select", "_receiver", "_keeps",
    # Set while the connection is open.
    "_requested", "_unanswered", "_logged_open", "origin", "subprotocol", "_decoder", "_deflate", "_account", "_frames",
    # Set when the connection closes.
    "close_rcvd", "close_sent", "close_rcvd_then_sent", "_tally", "_received",
)
# fmt: on


class ServerConnection(ServerProtocol):
    """The former name of :class:`ServerProtocol`, with the same parameters; creating one emits a warning."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        warnings.warn("ServerConnection was renamed to ServerProtocol", DeprecationWarning, stacklevel=2)
        super().__init__(*args, **kwargs)


# Functions for the session of a server, beside the public methods.


def unanswered_request(protocol: ServerProtocol) -> Request | None:
    """Return the request that hasn't been answered yet; None if there is none.

    Parameters:
        protocol: protocol of the connection.
    """
    return protocol._unanswered


def take_request(protocol: ServerProtocol, request: Request, carrier: Carrier) -> None:
    """Take a request that doesn't arrive as bytes on the stream below, in place of :meth:`receive_data`.

    Parameters:
        protocol: protocol of the connection; nothing was received before.
        request: the request.
        carrier: what carries the connection.
    """
    protocol._carrier = carrier
    protocol._take_request(request, b"")


def opening_response(
    protocol: ServerProtocol, accept: str, extensions: str | None, subprotocol: str | None
) -> Response:
    """Make the response that opens the connection (RFC 6455 section 4.2.2).

    Parameters:
        protocol: protocol of the connection.
        accept, extensions, subprotocol: result of :meth:`ServerProtocol.process_request`.

    Raises:
        Exception: one of them can't be sent.
    """
    response = protocol._carrier.opening_response(accept)
    if extensions is not None:
        response.headers["Sec-WebSocket-Extensions"] = extensions
    if subprotocol is not None:
        response.headers["Sec-WebSocket-Protocol"] = subprotocol
    return response


def opens(protocol: ServerProtocol, response: Response) -> bool:
    """Return whether a response opens the connection.

    Parameters:
        protocol: protocol of the connection.
        response: the response.
    """
    return response.status_code in protocol._carrier.success


def unavailable(protocol: ServerProtocol, reason: str, text: str, headers: HeadersLike | None = None) -> Response:
    """Make the response, with status 503, to a request that the server can't accept now.

    Parameters:
        protocol: protocol of the connection.
        reason: reason in a few words, for statistics.
        text: body of the response.
        headers: headers to add.
    """
    protocol.handshake_exc = Unavailable(reason)
    return protocol.reject(Status.SERVICE_UNAVAILABLE, text, headers=headers)


def refuse_or_fail(protocol: ServerProtocol, exc: Exception) -> Response:
    """Make the response after an exception in checking a request: a refusal if the client is at fault, else a failure.

    Parameters:
        protocol: protocol of the connection.
        exc: the exception.
    """
    if isinstance(exc, InvalidHandshake):
        return protocol._refuse_request(exc)
    return fail(protocol, exc, HANDSHAKE_FAILED, protocol.logger)


def fail(protocol: ServerProtocol, exc: Exception, line: str, logger: LoggerLike) -> Response:
    """Make the response, with status 500, after a failure of ours or of the application; the log gets the details.

    Parameters:
        protocol: protocol of the connection.
        exc: the exception.
        line: text of the log line.
        logger: where to log.
    """
    protocol.handshake_exc = protocol._failure = exc
    logger.error(line, exc_info=exc)
    return protocol.reject(Status.INTERNAL_SERVER_ERROR, FAILURE_TEXT)


def unopened_reason(protocol: ServerProtocol) -> str:
    """Return in a few words why the response doesn't open the connection, for statistics.

    Parameters:
        protocol: protocol of the connection.
    """
    exc = protocol.handshake_exc
    if exc is None:
        return APPLICATION
    return FAILURE if exc is protocol._failure else refusal_reason(exc) or FAILURE


def has_selector(protocol: ServerProtocol) -> bool:
    """Return whether a function of the user chooses the subprotocol.

    Parameters:
        protocol: protocol of the connection.
    """
    return protocol._select is not None


def defer_subprotocol(protocol: ServerProtocol, offered: Sequence[Subprotocol]) -> None:
    """Defer the choice of a subprotocol; a ``select_subprotocol`` for front-ends that have to wait for the choice.

    The protocol makes a response without a subprotocol, and :func:`add_subprotocol` adds it.

    Parameters:
        protocol: protocol of the connection.
        offered: subprotocols that the client offers.
    """
    protocol._offered = offered


def deferred_offer(protocol: ServerProtocol) -> Sequence[Subprotocol] | None:
    """Return the client's offer if :func:`defer_subprotocol` deferred the choice; else None.

    Parameters:
        protocol: protocol of the connection.
    """
    return protocol._offered


def add_subprotocol(protocol: ServerProtocol, response: Response, subprotocol: Subprotocol | None) -> Response:
    """Add a subprotocol that was chosen later to the response.

    Parameters:
        protocol: protocol of the connection.
        response: result of :meth:`ServerProtocol.accept`.
        subprotocol: the choice; None for no subprotocol.

    Returns:
        The response; or an error response if the subprotocol can't be sent.
    """
    try:
        if subprotocol is not None:
            response.headers["Sec-WebSocket-Protocol"] = subprotocol
    except Exception as exc:
        return fail(protocol, exc, HANDSHAKE_FAILED, protocol.logger)
    protocol.subprotocol = subprotocol
    return response


def _invalid_message(cause: Exception) -> InvalidMessage:
    exc = InvalidMessage("did not receive a valid HTTP request")
    exc.__cause__ = cause
    return exc


# Names from earlier releases. Type checkers must not take this for a promise that any name exists.
if not TYPE_CHECKING:
    __getattr__ = deprecated_names(__name__)
