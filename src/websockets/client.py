"""The client's side of the opening handshake, without I/O: RFC 6455 section 4.1. And when to try again.

May know: what a request says, what its response must say, which failures are worth another attempt and after how long.
Must not know: sockets, time, redirects, how to reach a proxy.
"""

from __future__ import annotations

import base64
import os
import random
import secrets
import sys
import warnings
from collections.abc import Generator, Sequence
from typing import TYPE_CHECKING, Any, Final, Self

from ._compat.deprecated import deprecated_names
from ._compat.layout import share_names
from ._rules.handshake import VERSION, accept_key, check_upgrade, log_headers, single_value
from ._rules.lifecycle import Receive, Receiving, Send, State
from ._rules.option_table import CLIENT_PROTOCOL, check_all
from .datastructures import Headers
from .datastructures._shortcuts import headers_from_lines
from .exceptions import (
    InvalidHandshake,
    InvalidHeader,
    InvalidHeaderValue,
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


class ClientProtocol(Protocol):
    """Sans-I/O WebSocket client connection.

    Parameters:
        uri: where to connect, as :func:`~websockets.uri.parse_uri` gives it.
        origin: value of the ``Origin`` header; None to send none.
        extensions: extensions to offer, in the order of preference.
        subprotocols: subprotocols to offer, in the order of preference.
        state: where to begin.
        max_size: limit of incoming messages in bytes, None for no limit, or a tuple of the limits of a message and of
            a fragment.
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
        """A protocol with options that were checked already."""
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
        self.key = base64.b64encode(secrets.token_bytes(16)).decode()

    _parser: ResponseParser | None = None

    # ------------------------------------------------------------------------------------------ tell: the application

    def connect(self) -> Request:
        """Make the request of the opening handshake.

        Returns:
            The request; more headers may be added before it is sent.
        """
        uri = self.uri
        # Kept as it will be sent, which takes less room.
        headers = headers_from_lines("")
        headers["Host"] = build_host(uri.host, uri.port, uri.secure)
        if uri.user_info is not None:
            headers["Authorization"] = build_authorization_basic(*uri.user_info)
        if self.origin is not None:
            headers["Origin"] = self.origin
        headers["Upgrade"] = "websocket"
        headers["Connection"] = "Upgrade"
        headers["Sec-WebSocket-Key"] = self.key
        headers["Sec-WebSocket-Version"] = VERSION
        if self.available_extensions:
            offers: list[tuple[ExtensionName, list[ExtensionParameter]]] = [
                (factory.name, list(factory.get_request_params())) for factory in self.available_extensions
            ]
            headers["Sec-WebSocket-Extensions"] = build_extension(offers)
        if self.available_subprotocols:
            headers["Sec-WebSocket-Protocol"] = build_subprotocol(self.available_subprotocols)
        return Request(uri.resource_name, headers)

    def send_request(self, request: Request) -> None:
        """Send the request of the opening handshake.

        Parameters:
            request: what :meth:`connect` made.
        """
        if self.debug:
            self.logger.debug("> %s %s %s", request.method, request.path, request.protocol)
            log_headers(self.logger, ">", request.headers)
        self.writes.append(request.serialize())

    def read_response_with(self, parser: ResponseParser) -> None:
        """Choose what reads the response; by default it is a :class:`~websockets.http11.ResponseParser`.

        Parameters:
            parser: a new one, given before anything is received.
        """
        self._parser = parser

    def take_cut_response(self) -> Exception | None:
        """Take a response whose body isn't complete as it is, when there is no more time for it.

        Returns:
            Why the opening handshake failed; None if no such response was there, and nothing has changed.
        """
        response = None if self._parser is None else self._parser.cut()
        if response is None:
            return None
        self._take_response(response)
        return self.handshake_exc

    def fail(self, code: int, reason: str = "") -> None:
        """Fail the connection; while it is being opened, :attr:`handshake_exc` says so from then on.

        Parameters:
            code: close code, which a connection that isn't open has no use for.
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
            self._break_off(parser.cut(), exc)
        else:
            self._log_interim(parser, seen)
            if response is not None:
                self._take_response(response)
                if parser.rest:
                    self.receive_data(parser.rest)

    def _receive_opening_eof(self) -> None:
        parser = self._parser or ResponseParser()
        try:
            # The end of the stream is the end of a body that didn't say how long it is.
            response = parser.eof()
        except EOFError as exc:
            self._break_off(parser.cut(), exc)
        else:
            self._take_response(response)

    def _break_off(self, response: Response | None, problem: Exception) -> None:
        """Take a response with what there is of its body, where that is the problem, or give up if there is none."""
        if response is not None:
            self._take_response(response, problem)
        elif isinstance(problem, StatusLineTooLong):
            self._give_up(problem)
        else:
            self._give_up(_invalid_message(problem))

    def _take_response(self, response: Response, problem: Exception | None = None) -> None:
        self._parser = None
        if self.debug:
            self._log_response(response)
        self.events.append(response)
        try:
            self.process_response(response)
        except Exception as exc:
            # Whatever is wrong with the response is the server's, and reaches whoever asked for a connection.
            response._exception = exc
            if problem is not None:
                # Its traceback would keep the body a second time.
                exc.__cause__ = problem.with_traceback(None)
            self._give_up(exc)
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

    def _give_up(self, exc: Exception) -> None:
        self.handshake_exc = exc
        self._parser = None
        self._life.received(Receive.REFUSAL)
        self._react()

    def process_response(self, response: Response) -> None:
        """Check a response and what it negotiated (RFC 6455 section 4.1). May be overridden.

        Parameters:
            response: what the server sent.

        Raises:
            InvalidStatus: the server refused, or answered something else.
            InvalidHandshake: the response isn't the end of a good opening handshake.
        """
        if response.status_code != 101:
            raise InvalidStatus(response)
        headers = response.headers
        check_upgrade(headers)
        accept = single_value(headers, "Sec-WebSocket-Accept")
        if accept != accept_key(self.key):
            raise InvalidHeaderValue("Sec-WebSocket-Accept", accept)
        self.extensions = self.process_extensions(headers)
        self.subprotocol = self.process_subprotocol(headers)

    def process_extensions(self, headers: Headers) -> list[Extension]:
        """Take up the extensions that the server accepted (RFC 6455 section 9.1). May be overridden.

        Parameters:
            headers: headers of the response.

        Returns:
            The extensions, in the order to apply them.

        Raises:
            NegotiationError: the server accepted what wasn't offered.
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
        """Take up the subprotocol that the server chose (RFC 6455 section 4.1). May be overridden.

        Parameters:
            headers: headers of the response.

        Returns:
            The subprotocol, None if the server chose none.

        Raises:
            NegotiationError: the server chose what wasn't offered.
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
    # Made with the protocol.
    "logger", "debug", "side", "_max_message_size", "_max_fragment_size", "extensions", "events", "writes", "_life",
    "uri", "origin", "available_extensions", "available_subprotocols", "key", "_receiver", "_keeps",
    # While it is open.
    "_parser", "subprotocol", "_decoder", "_deflate", "_account", "_frames",
    # When it closes.
    "close_rcvd", "close_sent", "close_rcvd_then_sent", "_tally", "_received",
)
# fmt: on


class ClientConnection(ClientProtocol):
    """The name that :class:`ClientProtocol` had once, with the same parameters; making one warns."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        warnings.warn("ClientConnection was renamed to ClientProtocol", DeprecationWarning, stacklevel=2)
        super().__init__(*args, **kwargs)


def _invalid_message(cause: Exception) -> InvalidMessage:
    exc = InvalidMessage("did not receive a valid HTTP response")
    exc.__cause__ = cause
    return exc


# --------------------------------------------------------------------------------------------------- when to try again

BACKOFF_INITIAL_DELAY: Final = float(os.environ.get("WEBSOCKETS_BACKOFF_INITIAL_DELAY", "5"))
BACKOFF_MIN_DELAY: Final = float(os.environ.get("WEBSOCKETS_BACKOFF_MIN_DELAY", "3.1"))
BACKOFF_MAX_DELAY: Final = float(os.environ.get("WEBSOCKETS_BACKOFF_MAX_DELAY", "90.0"))
BACKOFF_FACTOR: Final = float(os.environ.get("WEBSOCKETS_BACKOFF_FACTOR", "1.618"))

# Refusals that a server may take back: too many requests, or trouble of its own or of what stands in front of it.
RETRIED_STATUSES: Final = frozenset({429, 500, 502, 503, 504})

# Replies of a SOCKS proxy that may be others later: general failure, network or host unreachable, connection refused,
# time to live expired (RFC 1928 section 6); and the only one that SOCKS 4 has for all of these.
RETRIED_REPLIES: Final = frozenset({1, 3, 4, 5, 6, 91})

# What python-socks says when the proxy closes the connection; each of its releases has another class for it.
SOCKS_ENDED: Final = "Connection closed unexpectedly"


def backoff(
    initial_delay: float = BACKOFF_INITIAL_DELAY,
    min_delay: float = BACKOFF_MIN_DELAY,
    max_delay: float = BACKOFF_MAX_DELAY,
    factor: float = BACKOFF_FACTOR,
) -> Generator[float, None, None]:
    """Delays between attempts to connect, in seconds: a random one first, then exponentially growing ones.

    The first is random so that the clients of a server that restarts don't come back all at once.

    Parameters:
        initial_delay: upper bound of the first delay.
        min_delay: the second delay.
        max_delay: upper bound of all others.
        factor: how much a delay is longer than the one before.
    """
    yield random.random() * initial_delay
    delay = min_delay
    while delay < max_delay:
        yield delay
        delay *= factor
    while True:
        yield max_delay


def process_exception(exc: Exception) -> Exception | None:
    """Whether to try again after a failed attempt to connect; the default of ``connect(process_exception=...)``.

    Network errors, timeouts and refusals that may pass are worth another attempt; a certificate that isn't trusted, or
    a refusal that will be repeated, isn't. The same holds for a proxy.

    Parameters:
        exc: what ended the attempt.

    Returns:
        None to try again, an exception to raise instead.
    """
    # Without TLS there is no such error, and perhaps no such module.
    if isinstance(exc, getattr(sys.modules.get("ssl"), "SSLCertVerificationError", ())):
        return exc
    if isinstance(exc, OSError):  # TimeoutError is one
        return None
    if isinstance(exc, (InvalidMessage, InvalidProxyMessage)) and isinstance(exc.__cause__, EOFError):
        return None
    if isinstance(exc, (InvalidStatus, InvalidProxyStatus)) and exc.response.status_code in RETRIED_STATUSES:
        return None
    if isinstance(exc, ProxyError) and _may_pass(exc.__cause__):
        return None
    return exc


def _may_pass(exc: BaseException | None) -> bool:
    """Whether python-socks, which isn't needed for this, failed as the proxy closed the connection or has trouble."""
    return getattr(exc, "error_code", None) in RETRIED_REPLIES or str(exc) == SOCKS_ENDED


# Names from earlier releases. Type checkers must not take this for a promise that any name exists.
if not TYPE_CHECKING:
    __getattr__ = deprecated_names(__name__)
