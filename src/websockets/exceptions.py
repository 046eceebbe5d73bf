"""Every exception of the package, as one tree.

May know: the texts, and the attributes with which a caller decides what to do next.
Must not know: anything else of this package at run time. ``Close`` and ``Response`` are only printed.

The right column says who is at fault; "either" means that the text tells which side::

    WebSocketException
     |- ConnectionClosed                        either: the text says who closed, with which code
     |   |- ConnectionClosedOK                  nobody: 1000, 1001 or no code, sent and received
     |   `- ConnectionClosedError               either: anything else, a lost connection included
     |- InvalidURI                              the caller
     |- InvalidProxy                            the caller, or the proxy settings of the system
     |- InvalidHandshake                        the opening handshake failed:
     |   |- SecurityError                       the peer: a limit or a rule of safety was broken
     |   |   |- RequestLineTooLong              the client
     |   |   |- StatusLineTooLong               the server
     |   |   |- HeaderLineTooLong               the peer
     |   |   `- TooManyHeaders                  the peer
     |   |- ProxyError                          the proxy
     |   |   |- InvalidProxyMessage             the proxy: not HTTP
     |   |   `- InvalidProxyStatus              the proxy: it refused
     |   |- InvalidMessage                      the peer: not HTTP
     |   |- InvalidMethod                       the client
     |   |- InvalidProtocol                     the client: not HTTP/1.1
     |   |- InvalidStatus                       the server: it refused
     |   |- InvalidHeader                       the peer, or the caller for a header it sets
     |   |   |- InvalidHeaderFormat             against the grammar
     |   |   |- InvalidHeaderValue              against the protocol
     |   |   |- InvalidOrigin                   the client
     |   |   `- InvalidUpgrade                  the peer
     |   `- NegotiationError                    the peer: extensions or subprotocols do not match
     |       |- DuplicateParameter
     |       |- InvalidParameterName
     |       `- InvalidParameterValue
     |- ProtocolError                           the peer; the caller when raised by a method that sends
     |- PayloadTooBig                           the peer
     |- TooManyFragments                        the peer
     |- InvalidState (AssertionError)           the caller
     `- ConcurrencyError (RuntimeError)         the caller

A deadline that passes raises the built-in :exc:`TimeoutError`, a failing network :exc:`OSError`.
"""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, TypeVar

from ._compat.deprecated import deprecated_names

if TYPE_CHECKING:
    from .frames import Close
    from .http11 import Response

__all__ = [
    "ConcurrencyError",
    "ConnectionClosed",
    "ConnectionClosedError",
    "ConnectionClosedOK",
    "DuplicateParameter",
    "HeaderLineTooLong",
    "InvalidHandshake",
    "InvalidHeader",
    "InvalidHeaderFormat",
    "InvalidHeaderValue",
    "InvalidMessage",
    "InvalidMethod",
    "InvalidOrigin",
    "InvalidParameterName",
    "InvalidParameterValue",
    "InvalidProtocol",
    "InvalidProxy",
    "InvalidProxyMessage",
    "InvalidProxyStatus",
    "InvalidState",
    "InvalidStatus",
    "InvalidURI",
    "InvalidUpgrade",
    "NegotiationError",
    "PayloadTooBig",
    "ProtocolError",
    "ProxyError",
    "RequestLineTooLong",
    "SecurityError",
    "StatusLineTooLong",
    "TooManyFragments",
    "TooManyHeaders",
    "WebSocketException",
]

# Bytes of the body of a refusal that a note of the exception shows.
_EXCERPT = 200

E = TypeVar("E", bound=Exception)

# Texts appear in logs, terminals and responses, and often quote values from the network. Therefore characters that
# could move a cursor or start a new line are shown as escapes. The attributes keep the original value.


def printable(text: str) -> str:
    """Return *text* with each unprintable character replaced by its Python escape."""
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else repr(char)[1:-1] for char in text)


def advised(error: E, advice: str) -> E:
    """Return an exception with a note for the programmer (:pep:`678`); its text stays what programs may compare."""
    error.add_note(advice)
    return error


def _lacking(value: str | None) -> str:
    """Return the word for what is wrong with *value*: missing, empty or invalid."""
    return "invalid" if value else "missing" if value is None else "empty"


class WebSocketException(Exception):
    """Base class of every exception that this package defines."""


# Connections that ended.


class ConnectionClosed(WebSocketException):
    """The connection is closed, so the operation is impossible.

    ``__cause__`` is the root cause, if there is one: a protocol error, an :exc:`OSError`, a timeout.

    Parameters:
        rcvd: the Close frame received, or ``None``.
        sent: the Close frame sent, or ``None``.
        rcvd_then_sent: whether the Close was received before one was sent; ``None`` unless both happened.

    See RFC 6455 section 7.1.
    """

    def __init__(self, rcvd: Close | None, sent: Close | None, rcvd_then_sent: bool | None = None) -> None:
        self.rcvd = rcvd
        self.sent = sent
        self.rcvd_then_sent = rcvd_then_sent

    def __str__(self) -> str:
        return printable(self._story())

    def _story(self) -> str:
        """Return a text that says who closed first, and how the other side answered."""
        if self.rcvd is None and self.sent is None:
            return "no close frame received or sent"
        if self.rcvd is None:
            return f"sent {self.sent}; no close frame received"
        if self.sent is None:
            return f"received {self.rcvd}; no close frame sent"
        if self.rcvd_then_sent:
            return f"received {self.rcvd}; then sent {self.sent}"
        return f"sent {self.sent}; then received {self.rcvd}"

    @property
    def code(self) -> int:
        """Close code received, 1006 if there was none. Deprecated: see ``rcvd``."""
        self._warn("code")
        return 1006 if self.rcvd is None else self.rcvd.code

    @property
    def reason(self) -> str:
        """Close reason received, empty if there was none. Deprecated: see ``rcvd``."""
        self._warn("reason")
        return "" if self.rcvd is None else self.rcvd.reason

    @staticmethod
    def _warn(name: str) -> None:
        text = f"ConnectionClosed.{name} is deprecated; use Protocol.close_{name} or ConnectionClosed.rcvd.{name}"
        warnings.warn(text, DeprecationWarning, stacklevel=3)


class ConnectionClosedOK(ConnectionClosed):
    """The connection closed normally: a Close was sent and received, each with 1000, 1001 or no code."""


class ConnectionClosedError(ConnectionClosed):
    """The connection closed abnormally: another code was sent or received, or the closing handshake is incomplete."""


# Invalid addresses.


class InvalidURI(WebSocketException):
    """The URI is not a WebSocket URI (RFC 6455 section 3).

    Parameters:
        uri: the URI, without credentials.
        msg: the mistake in the URI.
    """

    def __init__(self, uri: str, msg: str) -> None:
        self.uri = uri
        self.msg = msg

    def __str__(self) -> str:
        return f"{printable(self.uri)} isn't a valid URI: {printable(self.msg)}"


class InvalidProxy(WebSocketException):
    """The address of the proxy cannot be used.

    Parameters:
        proxy: the address, without credentials.
        msg: the mistake in the address.
    """

    def __init__(self, proxy: str, msg: str) -> None:
        self.proxy = proxy
        self.msg = msg

    def __str__(self) -> str:
        return f"{printable(self.proxy)} isn't a valid proxy: {printable(self.msg)}"


# The opening handshake: RFC 6455 section 4.


class InvalidHandshake(WebSocketException):
    """Base class of the failures of the opening handshake (RFC 6455 section 4)."""


class SecurityError(InvalidHandshake):
    """A limit that protects this side was exceeded, or a redirect leads to a forbidden target."""


class RequestLineTooLong(SecurityError):
    """The request line is longer than ``WEBSOCKETS_MAX_LINE_LENGTH`` bytes; answered with 414."""


class StatusLineTooLong(SecurityError):
    """The status line is longer than ``WEBSOCKETS_MAX_LINE_LENGTH`` bytes."""


class HeaderLineTooLong(SecurityError):
    """A header line is longer than ``WEBSOCKETS_MAX_LINE_LENGTH`` bytes; answered with 431 (RFC 6585 section 5)."""


class TooManyHeaders(SecurityError):
    """The number of headers exceeds ``WEBSOCKETS_MAX_NUM_HEADERS``; answered with 431 (RFC 6585 section 5)."""


class ProxyError(InvalidHandshake):
    """The connection to the server through the proxy failed."""


class InvalidProxyMessage(ProxyError):
    """The response of the proxy is not HTTP."""


class InvalidProxyStatus(ProxyError):
    """The proxy refused to connect to the server (RFC 9110 section 9.3.6).

    Parameters:
        response: the response of the proxy.
    """

    def __init__(self, response: Response) -> None:
        self.response = response

    def __str__(self) -> str:
        return f"proxy rejected connection: HTTP {self.response.status_code:d}"


class InvalidMessage(InvalidHandshake):
    """The request or the response is not HTTP, or ended too early; the cause is chained."""


class InvalidMethod(InvalidHandshake):
    """The method of the request is not GET; answered with 405 (RFC 6455 section 4.1).

    Parameters:
        method: the method.
    """

    def __init__(self, method: str) -> None:
        self.method = method

    def __str__(self) -> str:
        return f"unsupported HTTP method: {printable(self.method)}"


class InvalidProtocol(InvalidHandshake):
    """The version of HTTP is not 1.1; answered with 505 (RFC 6455 section 4.1).

    Parameters:
        protocol: the version, such as ``"HTTP/1.0"``.
    """

    def __init__(self, protocol: str) -> None:
        self.protocol = protocol

    def __str__(self) -> str:
        return f"unsupported HTTP version: {printable(self.protocol)}"


class InvalidStatus(InvalidHandshake):
    """The server did not answer with 101 (RFC 6455 section 4.1).

    Parameters:
        response: the response, with its body. If the body is incomplete, ``__cause__`` says why. A note has the reason
            phrase and the beginning of the body.
    """

    def __init__(self, response: Response) -> None:
        self.response = response
        if told := _told(response):
            self.add_note(told)

    def __str__(self) -> str:
        return f"server rejected WebSocket connection: HTTP {self.response.status_code:d}"


def _told(response: Response) -> str:
    """Return what a refusal says, with escapes, as it may come from anywhere; empty if it says nothing.

    It ends as the text of the exception does: pytest looks at notes, too, where programs expect ``match="403$"``.
    """
    body = bytes(response.body or b"")[:_EXCERPT].decode(errors="replace").strip()
    reason = repr(response.reason_phrase) if response.reason_phrase else ""
    told = " and ".join(text for text in (reason, f"a body that begins with {body!r}" if body else "") if text)
    return f"the response has {told}: HTTP {response.status_code:d}" if told else ""


class InvalidHeader(InvalidHandshake):
    """A header is missing, empty or wrong.

    Parameters:
        name: the name of the header.
        value: its value; ``None`` (the default) if the header is missing.
    """

    def __init__(self, name: str, value: str | None = None) -> None:
        self.name = name
        self.value = value

    def __str__(self) -> str:
        text = f"{_lacking(self.value)} {printable(self.name)} header"
        return f"{text}: {printable(self.value)}" if self.value else text


class InvalidHeaderFormat(InvalidHeader):
    """A header violates its grammar.

    Parameters:
        name: the name of the header.
        error: description of the error.
        header: the value of the header.
        pos: index of the error in the value, from 0.
    """

    def __init__(self, name: str, error: str, header: str, pos: int) -> None:
        super().__init__(name, f"{error} at {pos} in {header}")
        # The arguments of the constructor, so that the exception can be copied and pickled.
        self.args = (name, error, header, pos)


class InvalidHeaderValue(InvalidHeader):
    """A header is well-formed, but its value is not acceptable."""


class InvalidOrigin(InvalidHeader):
    """The origin is not allowed; answered with 403 (RFC 6455 section 10.2).

    Parameters:
        origin: the origin; ``None`` if the header is missing.
    """

    def __init__(self, origin: str | None) -> None:
        super().__init__("Origin", origin)
        self.args = (origin,)


class InvalidUpgrade(InvalidHeader):
    """``Upgrade`` or ``Connection`` does not ask for WebSocket; answered with 426 (RFC 6455 section 4.2.1)."""


class NegotiationError(InvalidHandshake):
    """Extensions or subprotocols cannot be agreed on (RFC 6455 sections 9.1 and 1.9)."""


class DuplicateParameter(NegotiationError):
    """A parameter of an extension is repeated.

    Parameters:
        name: the name of the parameter.
    """

    def __init__(self, name: str) -> None:
        self.name = name

    def __str__(self) -> str:
        return f"duplicate parameter: {printable(self.name)}"


class InvalidParameterName(NegotiationError):
    """A parameter of an extension is unknown.

    Parameters:
        name: the name of the parameter.
    """

    def __init__(self, name: str) -> None:
        self.name = name

    def __str__(self) -> str:
        return f"invalid parameter name: {printable(self.name)}"


class InvalidParameterValue(NegotiationError):
    """A parameter of an extension has an invalid value, or lacks a value.

    Parameters:
        name: the name of the parameter.
        value: its value; ``None`` if it has none.
    """

    def __init__(self, name: str, value: str | None) -> None:
        self.name = name
        self.value = value

    def __str__(self) -> str:
        text = f"{_lacking(self.value)} value for parameter {printable(self.name)}"
        return f"{text}: {printable(self.value)}" if self.value else text


# Open connections.


class ProtocolError(WebSocketException):
    """A frame violates RFC 6455: one received, which fails the connection with 1002, or one about to be sent."""


class PayloadTooBig(WebSocketException):
    """A message, or one of its frames, is larger than allowed; the connection fails with 1009.

    Parameters:
        size_or_message: bytes in the frame; ``None`` if unknown, as in a compressed message. A text is deprecated.
        max_size: bytes that were still allowed; ``None`` only together with a text.
        current_size: bytes of the message in earlier frames; ``None`` if unknown.

    The attribute ``max_size`` is the limit of the whole message: it includes the earlier frames.
    """

    def __init__(
        self,
        size_or_message: int | str | None,
        max_size: int | None = None,
        current_size: int | None = None,
    ) -> None:
        self.message: str | None = None
        self.size: int | None = None
        self.max_size = max_size
        self.current_size: int | None = None
        if isinstance(size_or_message, str):
            text = "PayloadTooBig(message) is deprecated; change to PayloadTooBig(size, max_size)"
            warnings.warn(text, DeprecationWarning, stacklevel=2)
            self.message = size_or_message
            return
        if max_size is None:
            raise TypeError("max_size is required, in bytes")
        self.size = size_or_message
        self.set_current_size(current_size)

    def set_current_size(self, current_size: int | None) -> None:
        """Add the size of the earlier frames, which the decoder of one frame doesn't know.

        Parameters:
            current_size: bytes of the message in earlier frames; ``None`` changes nothing.
        """
        if current_size is None or self.max_size is None:
            return
        self.max_size += current_size - (self.current_size or 0)
        self.current_size = current_size

    def __str__(self) -> str:
        if self.message is not None:
            return self.message
        size = "" if self.size is None else f"with {self.size} bytes "
        earlier = "" if self.current_size is None else f"after reading {self.current_size} bytes "
        return f"frame {size}{earlier}exceeds limit of {self.max_size} bytes"


class TooManyFragments(WebSocketException):
    """A message has more fragments than ``WEBSOCKETS_MAX_FRAGMENTS``; the connection fails with 1009.

    Parameters:
        max_fragments: the limit.
    """

    def __init__(self, max_fragments: int) -> None:
        self.max_fragments = max_fragments

    def __str__(self) -> str:
        return f"fragmented message exceeds limit of {self.max_fragments} frames"


# Mistakes of the caller.


class InvalidState(WebSocketException, AssertionError):
    """The operation is impossible in the current state of the connection."""


class ConcurrencyError(WebSocketException, RuntimeError):
    """Two tasks or threads call a method that only one may use at a time."""


# Names from earlier releases. Type checkers must not conclude that every name exists.
if not TYPE_CHECKING:
    __getattr__ = deprecated_names(__name__)
