"""What a server counts, and the snapshot of it that users get.

May know: numbers, and the words for why a connection was refused. Must not know: connections, except how many.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

__all__ = ["APPLICATION", "FAILURE", "GONE", "TIMEOUT", "ServerStatistics", "ServerTally"]

# Why a connection was refused, or never asked for: beside the words of the protocol for what is wrong with a request.
APPLICATION = "application"
FAILURE = "failure"
GONE = "client gone"
TIMEOUT = "timeout"


@dataclasses.dataclass(frozen=True, slots=True)
class ServerStatistics:
    """The numbers of a server at one moment.

    Attributes:
        open: connections that are open.
        counted: connections that ``max_connections`` counts: also those that are opening, and those that are over while
            their handlers aren't.
        opened: connections that were opened since the server was made.
        refused: connections that were not, by reason: ``"too many connections"``, ``"invalid origin"``,
            ``"no valid HTTP request"``... ``"application"`` stands for an answer of ``process_request`` or
            ``process_response``, ``"failure"`` for one of them that failed, ``"timeout"`` for ``open_timeout``, and
            ``"client gone"`` for clients that left before they had an answer.
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
