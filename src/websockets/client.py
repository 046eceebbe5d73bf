"""The client's side of the opening handshake, without I/O (RFC 6455 section 4.1), and the delays between attempts.

May know: the request, the rules for its response, the failures after which to try again, and the delays. Must not know:
sockets, time, redirects, how to reach a proxy.
"""

from __future__ import annotations

import random
import sys
import warnings
from collections.abc import Generator, Sequence
from typing import TYPE_CHECKING, Any, Final, Self

from ._compat.deprecated import deprecated_names
from ._compat.environment import number
from ._compat.layout import share_names
from ._rules.carrier import Carrier
from ._rules.carrier_http11 import HTTP11
from ._rules.handshake import VERSION, log_headers
from ._rules.lifecycle import Receive, Receiving, Send, State
from ._rules.option_table import CLIENT_PROTOCOL, check_all
from .datastructures import Headers
from .datastructures._shortcuts import add_lines, headers_from_lines
from .exceptions import (
    InvalidHandshake,
    InvalidHeader,
    InvalidMessage,
    InvalidProxyMessage,
    InvalidProxyStatus,
    InvalidStatus,
    NegotiationError,
    ProxyError,
    StatusLineTooLong,
    printable,
)
from .extensions.base import ClientExtensionFactory, Extension
from .headers import (
    build_authorization_basic,
    build_extension,
    build_host,
    build_subprotocol,
    parse_extension,
    parse_subprotocol,
)
from .http11 import Request, Response, ResponseParser
from .protocol import Protocol, Side
from .typing import BytesLike, ExtensionName, ExtensionParameter, LoggerLike, Origin, Subprotocol
from .uri import WebSocketURI

__all__ = ["ClientProtocol"]

VERSION_LINE: Final = f"Sec-WebSocket-Version: {VERSION}\r\n"


class ClientProtocol(Protocol):
    """Sans-I/O WebSocket client connection.

    Parameters:
        uri: URI of the server, from :func:`~websockets.uri.parse_uri`.
        origin: value of the ``Origin`` header; None to send none.
        extensions: extensions to offer, in order of preference.
        subprotocols: subprotocols to offer, in order of preference.
        state: initial state of the connection.
        max_size: maximum size of incoming messages in bytes; None for no limit; or a tuple of the limits of a message
            and of a fragment.
        logger: where to log; ``websockets.client`` by default.

    Raises:
        TypeError: an option has a wrong type.
        ValueError: an option has a wrong value.
    """

    def __init__(
        self,
        uri: WebSocketURI,
        *,
        origin: Origin | None = None,
        extensions: Sequence[ClientExtensionFactory] | None = None,
        subprotocols: Sequence[Subprotocol] | None = None,
        state: State = State.CONNECTING,
        max_size: int | tuple[int | None, int | None] | None = 2**20,
        logger: LoggerLike | None = None,
    ) -> None:
        given: dict[str, Any] = {"origin": origin, "extensions": extensions, "subprotocols": subprotocols}
        given |= {"state": state, "max_size": max_size, "logger": logger}
        check_all(given, CLIENT_PROTOCOL)
        self._set_up(uri, **given)

    @classmethod
    def _of(cls, uri: WebSocketURI, options: dict[str, Any]) -> Self:
        """Make a protocol from options that have been checked."""
        self = cls.__new__(cls)
        self._set_up(uri, **options)
        return self

    def _set_up(
        self,
        uri: WebSocketURI,
        origin: Origin | None,
        extensions: Sequence[ClientExtensionFactory] | None,
        subprotocols: Sequence[Subprotocol] | None,
        max_size: int | tuple[int | None, int | None] | None,
        logger: LoggerLike | None,
        state: State = State.CONNECTING,
    ) -> None:
        Protocol.__init__(self, Side.CLIENT, state=state, max_size=max_size, logger=logger)
        self.uri = uri
        self.origin = origin
        self.available_extensions = extensions
        self.available_subprotocols = subprotocols
        self.key = self._carrier.new_key()

    _carrier: Carrier = HTTP11
    _parser: ResponseParser | None = None

    # ------------------------------------------------------------------------------------------ tell: the application

    def connect(self) -> Request:
        """Make the request of the opening handshake.

        Returns:
            The request; more headers may be added before it is sent.
        """
        uri = self.uri
        # Keep the headers as they will be sent, because that takes less memory.
        headers = headers_from_lines("")
        headers["Host"] = build_host(uri.host, uri.port, uri.secure)
        if uri.user_info is not None:
            headers["Authorization"] = build_authorization_basic(*uri.user_info)
        if self.origin is not None:
            headers["Origin"] = self.origin
        request = self._carrier.request(uri.resource_name, headers, self.key)
        add_lines(headers, VERSION_LINE)
        if self.available_extensions:
            offers: list[tuple[ExtensionName, list[ExtensionParameter]]] = [
                (factory.name, list(factory.get_request_params())) for factory in self.available_extensions
            ]
            headers["Sec-WebSocket-Extensions"] = build_extension(offers)
        if self.available_subprotocols:
            headers["Sec-WebSocket-Protocol"] = build_subprotocol(self.available_subprotocols)
        return request

    def send_request(self, request: Request) -> None:
        """Send the request of the opening handshake.

        Parameters:
            request: result of :meth:`connect`.
        """
        if self.debug:
            self.logger.debug("> %s %s %s", request.method, request.path, request.protocol)
            log_headers(self.logger, ">", request.headers)
        data = self._carrier.serialize_request(request)
        if data:
            self.writes.append(data)

    def read_response_with(self, parser: ResponseParser) -> None:
        """Set the parser of the response; the default is a :class:`~websockets.http11.ResponseParser`.

        Parameters:
            parser: a new parser; it must be set before anything is received.
        """
        self._parser = parser

    def take_cut_response(self) -> Exception | None:
        """Accept a response with an incomplete body, because the timeout has passed.

        Returns:
            The error of the opening handshake; None if there is no such response, and then nothing changes.
        """
        response = None if self._parser is None else self._parser.cut()
        if response is None:
            return None
        self._take_response(response)
        return self.handshake_exc

    def fail(self, code: int, reason: str = "") -> None:
        """Fail the connection; during the opening handshake, this also sets :attr:`handshake_exc`.

        Parameters:
            code: close code; it has no effect before the connection is open.
            reason: text for humans.

        Raises:
            ProtocolError: the code may not be sent.
        """
        opening = self._life.receiving is Receiving.OPENING
        super().fail(code, reason)
        if opening:
            self._parser = None
            self.handshake_exc = _invalid_message(InvalidHandshake("opening handshake was given up"))

    # ---------------------------------------------------------------------------------------------- tell: the network

    def _receive_opening(self, data: BytesLike) -> None:
        parser = self._parser = self._parser or ResponseParser()
        seen = parser.interim
        try:
            response = parser.feed(data)
        except Exception as exc:
            self._log_interim(parser, seen)
            self._take_incomplete(parser.cut(), exc)
        else:
            self._log_interim(parser, seen)
            if response is not None:
                self._take_response(response)
                if parser.rest:
                    self.receive_data(parser.rest)

    def _receive_opening_eof(self) -> None:
        parser = self._parser or ResponseParser()
        try:
            # The end of the stream ends a body without Content-Length.
            response = parser.eof()
        except EOFError as exc:
            self._take_incomplete(parser.cut(), exc)
        else:
            self._take_response(response)

    def _take_incomplete(self, response: Response | None, problem: Exception) -> None:
        """Accept a response whose body is incomplete; without one, fail the opening handshake."""
        if response is not None:
            self._take_response(response, problem)
        elif isinstance(problem, StatusLineTooLong):
            self._fail_opening(problem)
        else:
            self._fail_opening(_invalid_message(problem))

    def _take_response(self, response: Response, problem: Exception | None = None) -> None:
        self._parser = None
        if self.debug:
            self._log_response(response)
        self.events.append(response)
        try:
            self.process_response(response)
        except Exception as exc:
            # The program that opens the connection gets this error about the server's response.
            response._exception = exc
            if problem is not None:
                # A traceback would keep another copy of the body in memory.
                exc.__cause__ = problem.with_traceback(None)
            self._fail_opening(exc)
        else:
            self._life.received(Receive.OPENED)
            self._life.sent(Send.OPENED)
            if self.debug:
                self._log_state()

    def _log_interim(self, parser: ResponseParser, seen: tuple[Response, ...]) -> None:
        if self.debug:
            for response in parser.interim[len(seen) :]:
                self._log_response(response)

    def _log_response(self, response: Response) -> None:
        reason = printable(response.reason_phrase)
        self.logger.debug("< %s %d %s", response._protocol, response.status_code, reason)
        log_headers(self.logger, "<", response.headers)
        if response.body:
            self.logger.debug("< [body] (%d bytes)", len(response.body))

    def _fail_opening(self, exc: Exception) -> None:
        self.handshake_exc = exc
        self._parser = None
        self._life.received(Receive.REFUSAL)
        self._react()

    def process_response(self, response: Response) -> None:
        """Check a response and what it negotiated (RFC 6455 section 4.1). May be overridden.

        Parameters:
            response: response of the server.

        Raises:
            InvalidStatus: the status isn't 101: the server refused, or isn't a WebSocket server.
            InvalidHandshake: the response isn't a valid end of the opening handshake.
        """
        self._carrier.check_response(response, self.key)
        headers = response.headers
        self.extensions = self.process_extensions(headers)
        self.subprotocol = self.process_subprotocol(headers)

    def process_extensions(self, headers: Headers) -> list[Extension]:
        """Set up the extensions that the server accepted (RFC 6455 section 9.1). May be overridden.

        Parameters:
            headers: headers of the response.

        Returns:
            The extensions, in the order to apply them.

        Raises:
            NegotiationError: the server accepted an extension that wasn't offered.
        """
        accepted: list[Extension] = []
        values = headers.get_all("Sec-WebSocket-Extensions")
        if values and not self.available_extensions:
            raise NegotiationError("no extensions supported")
        for value in values:
            for name, params in parse_extension(value):
                accepted.append(self._accept_extension(name, params, accepted))
        return accepted

    def _accept_extension(
        self, name: ExtensionName, params: Sequence[ExtensionParameter], accepted: Sequence[Extension]
    ) -> Extension:
        for factory in self.available_extensions or ():
            if factory.name != name:
                continue
            try:
                return factory.process_response_params(params, accepted)
            except NegotiationError:
                continue
        raise NegotiationError(f"Unsupported extension: name = {name}, params = {params}")

    def process_subprotocol(self, headers: Headers) -> Subprotocol | None:
        """Return the subprotocol that the server chose (RFC 6455 section 4.1). May be overridden.

        Parameters:
            headers: headers of the response.

        Returns:
            The subprotocol; None if the server chose none.

        Raises:
            NegotiationError: the server chose a subprotocol that wasn't offered.
            InvalidHeader: the server chose several.
        """
        chosen = [choice for value in headers.get_all("Sec-WebSocket-Protocol") for choice in parse_subprotocol(value)]
        if not chosen:
            return None
        if not self.available_subprotocols:
            raise NegotiationError("no subprotocols supported")
        if len(chosen) > 1:
            raise InvalidHeader("Sec-WebSocket-Protocol", f"multiple values: {', '.join(chosen)}")
        if chosen[0] not in self.available_subprotocols:
            raise NegotiationError(f"unsupported subprotocol: {chosen[0]}")
        return chosen[0]


# fmt: off
share_names(
    ClientProtocol,
    # Set when the protocol is created.
    "logger", "debug", "side", "_max_message_size", "_max_fragment_size", "extensions", "events", "writes", "_life",
    "uri", "origin", "available_extensions", "available_subprotocols", "key", "_receiver", "_keeps",
    # Set while the connection is open.
    "_parser", "subprotocol", "_decoder", "_deflate", "_account", "_frames",
    # Set when the connection closes.
    "close_rcvd", "close_sent", "close_rcvd_then_sent", "_tally", "_received",
)
# fmt: on


class ClientConnection(ClientProtocol):
    """The former name of :class:`ClientProtocol`, with the same parameters; creating one emits a warning."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        warnings.warn("ClientConnection was renamed to ClientProtocol", DeprecationWarning, stacklevel=2)
        super().__init__(*args, **kwargs)


# Functions for carriers whose heads don't travel as bytes on the stream below.


def use_carrier(protocol: ClientProtocol, carrier: Carrier) -> None:
    """Set what carries the connection, before the request is made; the default is HTTP/1.1.

    Parameters:
        protocol: protocol of the connection.
        carrier: the carrier.
    """
    protocol._carrier, protocol.key = carrier, carrier.new_key()


def take_response(protocol: ClientProtocol, response: Response) -> None:
    """Take a response that doesn't arrive as bytes, in place of :meth:`receive_data`.

    Parameters:
        protocol: protocol of the connection; nothing was received before.
        response: the response.
    """
    protocol._take_response(response)


def _invalid_message(cause: Exception) -> InvalidMessage:
    exc = InvalidMessage("did not receive a valid HTTP response")
    exc.__cause__ = cause
    return exc


# --------------------------------------------------------------------------------------------------- when to try again

BACKOFF_INITIAL_DELAY: Final = number("WEBSOCKETS_BACKOFF_INITIAL_DELAY", 5.0)
BACKOFF_MIN_DELAY: Final = number("WEBSOCKETS_BACKOFF_MIN_DELAY", 3.1)
BACKOFF_MAX_DELAY: Final = number("WEBSOCKETS_BACKOFF_MAX_DELAY", 90.0)
BACKOFF_FACTOR: Final = number("WEBSOCKETS_BACKOFF_FACTOR", 1.618)

# Statuses that may be temporary: too many requests, or errors of the server or of a proxy in front of it.
RETRIED_STATUSES: Final = frozenset({429, 500, 502, 503, 504})

# Replies of a SOCKS proxy that may be temporary: general failure, network or host unreachable, connection refused, time
# to live expired (RFC 1928 section 6); and the only reply that SOCKS 4 has for all of these.
RETRIED_REPLIES: Final = frozenset({1, 3, 4, 5, 6, 91})

# The text of python-socks when the proxy closes the connection; the class of the error differs between its releases.
SOCKS_ENDED: Final = "Connection closed unexpectedly"


def backoff(
    initial_delay: float = BACKOFF_INITIAL_DELAY,
    min_delay: float = BACKOFF_MIN_DELAY,
    max_delay: float = BACKOFF_MAX_DELAY,
    factor: float = BACKOFF_FACTOR,
) -> Generator[float, None, None]:
    """Yield delays between attempts to connect, in seconds: first a random one, then exponentially growing ones.

    The first delay is random so that the clients of a restarted server don't all reconnect at the same time.

    Parameters:
        initial_delay: maximum of the first delay, in seconds.
        min_delay: the second delay, in seconds.
        max_delay: maximum of all other delays, in seconds.
        factor: ratio of a delay to the one before.
    """
    yield random.random() * initial_delay
    delay = min_delay
    while delay < max_delay:
        yield delay
        delay *= factor
    while True:
        yield max_delay


def process_exception(exc: Exception) -> Exception | None:
    """Decide whether to try again after a failed attempt to connect; default of ``connect(process_exception=...)``.

    It tries again after network errors, timeouts and temporary refusals. It doesn't after permanent refusals, or if a
    certificate isn't trusted. The same applies to errors of a proxy.

    Parameters:
        exc: exception of the attempt.

    Returns:
        None to try again, or the exception to raise.
    """
    # The module may be missing, or may not have been imported.
    if isinstance(exc, getattr(sys.modules.get("ssl"), "SSLCertVerificationError", ())):
        return exc
    if isinstance(exc, OSError):  # includes TimeoutError
        return None
    if isinstance(exc, (InvalidMessage, InvalidProxyMessage)) and isinstance(exc.__cause__, EOFError):
        return None
    if isinstance(exc, (InvalidStatus, InvalidProxyStatus)) and exc.response.status_code in RETRIED_STATUSES:
        return None
    if isinstance(exc, ProxyError) and _may_pass(exc.__cause__):
        return None
    return exc


def _may_pass(exc: BaseException | None) -> bool:
    """Return whether an error of python-socks may be temporary; this works without python-socks."""
    return getattr(exc, "error_code", None) in RETRIED_REPLIES or str(exc) == SOCKS_ENDED


# Names from earlier releases. Hidden from type checkers, which would otherwise accept any name.
if not TYPE_CHECKING:
    __getattr__ = deprecated_names(__name__)
