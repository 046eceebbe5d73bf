"""Lines of the log about a connection: who it is with, what it asked for, how it ended, how long it took.

May know: the connection's members that don't wait, and the clock of the log. Must not know: when a line is due.

The protocol writes these lines, and knows nothing of the network. So the logger of a connection completes them; this
costs nothing where the line isn't logged.
"""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Callable, MutableMapping
from typing import Any, Final

from .._rules.addresses import shown_address
from ..exceptions import ConnectionClosed

__all__ = ["ConnectionLogger"]


class ConnectionLogger(logging.LoggerAdapter[Any]):
    """The logger of a connection: its records have the connection as ``record.websocket``.

    Parameters:
        logger: where to log.
        connection: a weak proxy of the connection, as a reference would make a cycle.
    """

    # When the connection opened, on the clock of time.monotonic().
    _opened: float | None = None

    def __init__(self, logger: Any, connection: Any) -> None:
        super().__init__(logger, {"websocket": connection})
        self._connection = connection

    def process(self, msg: Any, kwargs: MutableMapping[str, Any]) -> tuple[Any, MutableMapping[str, Any]]:
        """Complete a line of the protocol about the connection; other lines stay as they are."""
        # An adapter of the program makes lines of its own from those that it knows.
        ours = isinstance(msg, str) and isinstance(self.logger, logging.Logger)
        complete = COMPLETED.get(msg) if ours else None
        if complete is not None:
            # Nobody may have the connection any more.
            with contextlib.suppress(ReferenceError):
                msg = complete(self, msg, self._connection)
        return super().process(msg, kwargs)

    def opened(self, line: str, connection: Any) -> str:
        """Complete the line about an opening handshake."""
        self._opened = time.monotonic()
        return f"{line}: {_peer(connection)} {connection.request.path}, id {connection.id}"

    def failed(self, line: str, connection: Any) -> str:
        """Complete the line about a handler that raised."""
        return f"{line}: {_peer(connection)} {connection.request.path}, id {connection.id}"

    def closed(self, line: str, connection: Any) -> str:
        """Complete the line about the end of a connection."""
        told = connection.statistics
        seconds = "" if self._opened is None else f", {time.monotonic() - self._opened:.1f} s"
        numbers = f"messages: {told.messages_received} received, {told.messages_sent} sent"
        return f"{line}: {_peer(connection)}, {_end(connection.close_exc)}{seconds}, {numbers}, id {connection.id}"

    def refused(self, line: str, connection: Any) -> str:
        """Complete the line about a request that was answered without opening a connection."""
        request = connection.request
        asked = "no valid request" if request is None else f"{request.method} {request.path}"
        # The line has arguments, so it is a format.
        return line + f": {_peer(connection)} {asked}, id {connection.id}".replace("%", "%%")


def _peer(connection: Any) -> str:
    address = connection.remote_address
    return shown_address(address) or "unix" if address is not None else "unknown"


def _end(exc: ConnectionClosed) -> str:
    """Return how a connection ended; without a Close frame, with what the network reported."""
    cause = exc.__cause__
    silent = exc.rcvd is None and exc.sent is None and cause is not None
    return f"{exc}: {str(cause) or type(cause).__name__}" if silent else str(exc)


# Texts of ServerProtocol.
COMPLETED: Final[dict[str, Callable[[ConnectionLogger, str, Any], str]]] = {
    "connection open": ConnectionLogger.opened,
    "connection closed": ConnectionLogger.closed,
    "connection rejected (%d %s)": ConnectionLogger.refused,
    "HTTP response sent (%d %s)": ConnectionLogger.refused,
    # Text of the answer to a handler that ended.
    "connection handler failed": ConnectionLogger.failed,
    # Texts of front-ends.
    "opening handshake failed: %s": ConnectionLogger.refused,
}
