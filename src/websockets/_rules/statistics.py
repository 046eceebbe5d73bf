"""What is counted, on a connection and by a server: what users get, and counters off the path of every message.

May know: numbers, frames as bytes, and the words for why a connection was refused. Must not know: who counts, or why.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

from .._codec.header import payload_length

__all__ = [
    "APPLICATION",
    "FAILURE",
    "GONE",
    "PROXY_HEADER",
    "TIMEOUT",
    "TLS",
    "ServerStatistics",
    "ServerTally",
    "Statistics",
    "Tally",
]

# Why a connection was refused, or never asked for: beside the words of the protocol for what is wrong with a request.
APPLICATION = "application"
FAILURE = "failure"
GONE = "client gone"
PROXY_HEADER = "invalid PROXY header"
TIMEOUT = "timeout"
TLS = "TLS handshake failed"


@dataclasses.dataclass(frozen=True, slots=True)
class Statistics:
    """What a connection sent and received until now.

    Sizes are in bytes; text counts as UTF-8. A message that is sent counts when it is given to the transport or to what
    is going to be; one that is received counts when it has arrived whole, whether or not it has been read.

    Attributes:
        messages_sent, messages_received: messages.
        payload_sent, payload_received: what the messages contain, before compression.
        encoded_sent, encoded_received: the same as it travels, compressed or not, without the headers of frames.
        bytes_sent, bytes_received: all that was written to the transport and read from it: frames of every kind, and
            the opening handshake. TLS encrypts after that, and adds some bytes of its own.
        pings_sent, pings_received: pings, those for keepalive included.
        latency: round trip of the last ping that was answered, in seconds; 0.0 before the first.
        skipped: messages of broadcasts that were left out as the peer was too slow.
    """

    messages_sent: int = 0
    messages_received: int = 0
    payload_sent: int = 0
    payload_received: int = 0
    encoded_sent: int = 0
    encoded_received: int = 0
    bytes_sent: int = 0
    bytes_received: int = 0
    pings_sent: int = 0
    pings_received: int = 0
    latency: float = 0.0
    skipped: int = 0

    @property
    def ratio_sent(self) -> float:
        """Bytes that a byte of what was sent took, without headers: 1.0 without compression, less if it saves any."""
        return self.encoded_sent / self.payload_sent if self.payload_sent else 1.0

    @property
    def ratio_received(self) -> float:
        """As :attr:`ratio_sent`, of what was received."""
        return self.encoded_received / self.payload_received if self.payload_received else 1.0


class Tally:
    """What is counted off the path of a message; made when there is something to count."""

    __slots__ = ("expanded", "messages_sent", "payload_sent", "pings_received", "pings_sent", "saved_sent", "skipped")

    def __init__(self) -> None:
        self.messages_sent = self.payload_sent = self.saved_sent = 0
        self.expanded = 0  # bytes that inflating what was received added
        self.pings_sent = self.pings_received = self.skipped = 0

    def sent(self, frame: bytes, size: int, fin: bool) -> bytes:
        """Count a frame that has ``size`` bytes of a message, which it may end; return it."""
        payload = payload_length(frame)
        self.messages_sent += fin
        self.payload_sent += payload
        self.saved_sent += size - payload
        return frame


NOTHING = Tally()


@dataclasses.dataclass(frozen=True, slots=True)
class ServerStatistics:
    """The numbers of a server at one moment.

    Attributes:
        open: connections that are open.
        counted: connections that ``max_connections`` counts: also those that are opening, and those that are over while
            their handlers aren't; with ``proxy_protocol``, those whose header isn't there yet, too.
        opened: connections that were opened since the server was made.
        refused: connections that were not, by reason: ``"too many connections"``, ``"invalid origin"``,
            ``"no valid HTTP request"``... ``"application"`` stands for an answer of ``process_request`` or
            ``process_response``, ``"failure"`` for one of them that failed, ``"timeout"`` for ``open_timeout``,
            ``"client gone"`` for clients that left before they had an answer, ``"not a trusted proxy"`` and
            ``"invalid PROXY header"`` for connections that ``proxy_protocol`` doesn't allow, and
            ``"TLS handshake failed"`` for TLS that fails behind such a header.
        handler_failures: handlers that raised.
    """

    open: int
    counted: int
    opened: int
    refused: Mapping[str, int]
    handler_failures: int


class ServerTally:
    """The numbers that only go up.

    Attributes:
        opened, refused, handler_failures: as in :class:`ServerStatistics`.
    """

    def __init__(self) -> None:
        self.opened = 0
        self.refused: dict[str, int] = {}
        self.handler_failures = 0

    def refuse(self, reason: str) -> None:
        """A connection was refused, or it ended before it was opened."""
        self.refused[reason] = self.refused.get(reason, 0) + 1

    def snapshot(self, open: int, counted: int) -> ServerStatistics:
        """The numbers as they are now, together with those that only the server knows."""
        return ServerStatistics(open, counted, self.opened, self.refused.copy(), self.handler_failures)
