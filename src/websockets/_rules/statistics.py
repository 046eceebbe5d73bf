"""Statistics of connections and servers: the values that users get, and the counters for rare events.

May know: numbers, and the words for why a connection was refused. Must not know: which code counts, or why.
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

# Reasons why a connection was not opened, in addition to the protocol's reasons for refusing a request.
APPLICATION = "application"
FAILURE = "failure"
GONE = "client gone"
PROXY_HEADER = "invalid PROXY header"
TIMEOUT = "timeout"
TLS = "TLS handshake failed"


@dataclasses.dataclass(frozen=True, slots=True)
class Statistics:
    """Numbers of what a connection sent and received so far.

    Sizes are in bytes; text counts as UTF-8. A message sent counts when it is written to the transport or to its
    buffer. A message received counts when it has arrived completely, even if the program has not read it yet.

    Attributes:
        messages_sent, messages_received: number of messages.
        payload_sent, payload_received: size of the messages before compression.
        encoded_sent, encoded_received: size of the messages on the wire, compressed or not, without frame headers.
        bytes_sent, bytes_received: bytes written to the transport and read from it: frames of every kind, and the
            opening handshake. The overhead of TLS isn't included.
        pings_sent, pings_received: number of pings, including those for keepalive.
        latency: round trip of the last ping that was answered, in seconds; 0.0 before the first.
        limited: how many times ``max_rate`` or ``max_bytes_rate`` was exceeded.
        skipped: number of broadcast messages that were left out because the peer was too slow.
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
    limited: int = 0

    @property
    def ratio_sent(self) -> float:
        """Size on the wire divided by size before compression, for messages sent; 1.0 without compression."""
        return self.encoded_sent / self.payload_sent if self.payload_sent else 1.0

    @property
    def ratio_received(self) -> float:
        """Size on the wire divided by size after decompression, for messages received; 1.0 without compression."""
        return self.encoded_received / self.payload_received if self.payload_received else 1.0


class Tally:
    """Counters of rare events, created with the first such event."""

    __slots__ = (
        *("expanded", "limited", "messages_sent", "payload_sent"),
        *("pings_received", "pings_sent", "saved_sent", "skipped"),
    )

    def __init__(self) -> None:
        self.messages_sent = self.payload_sent = self.saved_sent = 0
        self.expanded = 0  # bytes that decompression added to the payloads received
        self.pings_sent = self.pings_received = self.skipped = self.limited = 0

    def sent(self, frame: bytes, size: int, fin: bool) -> bytes:
        """Count a frame with ``size`` bytes of a message; return the frame."""
        payload = payload_length(frame)
        self.messages_sent += fin
        self.payload_sent += payload
        self.saved_sent += size - payload
        return frame


NOTHING = Tally()


@dataclasses.dataclass(frozen=True, slots=True)
class ServerStatistics:
    """Numbers of a server at one moment.

    Attributes:
        open: number of open connections.
        counted: number of connections that count for ``max_connections``: the open ones, those that are opening, those
            that are closed while their handlers still run, and those that wait for the header of ``proxy_protocol``.
        opened: number of connections opened since the server was created.
        refused: number of connections that were not opened, by reason: ``"too many connections"``,
            ``"invalid origin"``, ``"no valid HTTP request"``... ``"application"`` means a response from
            ``process_request`` or ``process_response``, ``"failure"`` an exception in one of them, ``"timeout"`` the
            end of ``open_timeout``, ``"client gone"`` a client that left before the response,
            ``"not a trusted proxy"`` and ``"invalid PROXY header"`` a connection that ``proxy_protocol`` doesn't
            allow, and ``"TLS handshake failed"`` a failure of TLS after such a header.
        handler_failures: number of handlers that raised an exception.
    """

    open: int
    counted: int
    opened: int
    refused: Mapping[str, int]
    handler_failures: int


class ServerTally:
    """Counters of a server that only increase.

    Attributes:
        opened, refused, handler_failures: as in :class:`ServerStatistics`.
    """

    def __init__(self) -> None:
        self.opened = 0
        self.refused: dict[str, int] = {}
        self.handler_failures = 0

    def refuse(self, reason: str) -> None:
        """Count a connection that was refused, or ended before it was opened."""
        self.refused[reason] = self.refused.get(reason, 0) + 1

    def snapshot(self, open: int, counted: int) -> ServerStatistics:
        """Return the statistics, from these counters and the numbers that only the server knows."""
        return ServerStatistics(open, counted, self.opened, self.refused.copy(), self.handler_failures)
