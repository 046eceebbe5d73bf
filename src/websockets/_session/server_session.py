"""The session of a server's connection: the state of its request, of the response and of its handler.

May know: the protocol of a server, whether the handler runs. Must not know: the server and its options; how to make a
response, see :mod:`.answering`; how to run a handler.
"""

from __future__ import annotations

import enum
from typing import Final

from .._rules.lifecycle import State
from .._rules.statistics import GONE, TIMEOUT, TLS
from ..exceptions import ConnectionClosed
from ..server import ServerProtocol, unanswered_request, unopened_reason
from .session import Session

__all__ = ["HandlerState", "ServerSession"]


class HandlerState(enum.Enum):
    """The state of a connection's handler."""

    ABSENT = enum.auto()  # no request has arrived
    RUNNING = enum.auto()
    OVER = enum.auto()


# As constants of this module, because access to them is faster.
ABSENT: Final = HandlerState.ABSENT
RUNNING: Final = HandlerState.RUNNING


class ServerSession(Session):
    """The session of a server's connection; parameters as for :class:`~.session.Session`.

    Attributes:
        handler: state of the handler. It begins with the request, and first calls the hooks that choose the response.
        asking: whether a hook that chooses the response is running.
        over_capacity: whether there was no room for the connection when it was accepted.
        tls_failed: whether the TLS handshake failed, if the front-end does it for a connection that is registered.
    """

    protocol: ServerProtocol
    handler: HandlerState = ABSENT
    asking: bool = False
    over_capacity: bool = False
    tls_failed: bool = False

    @property
    def answerable(self) -> bool:
        """Whether a response can be sent: none was sent, the client hasn't gone, and the handshake hasn't failed."""
        protocol = self.protocol
        return protocol.state is State.CONNECTING and not protocol.close_expected()

    @property
    def answered(self) -> bool:
        """Whether no request is waiting for a response."""
        return unanswered_request(self.protocol) is None

    @property
    def finished(self) -> bool:
        """Whether the TCP connection and the handler have ended, so that the connection no longer counts."""
        return self._lost and self.handler is not RUNNING

    def unopened_reason(self) -> str:
        """Return the reason why the connection ended without a response, in a word for the statistics."""
        exc = self.protocol.handshake_exc
        if self.tls_failed:
            return TLS
        if isinstance(self.cause, TimeoutError):
            return TIMEOUT
        if exc is None or isinstance(exc.__cause__, EOFError):
            return GONE
        return unopened_reason(self.protocol)

    def ended_by(self, exc: BaseException) -> bool:
        """Return whether an exception of the handler reports the end of this connection, and not of another one.

        This is also true for a group with only such exceptions, from a handler with several tasks.

        Parameters:
            exc: exception of the handler.
        """
        if isinstance(exc, BaseExceptionGroup):
            return all(map(self.ended_by, exc.exceptions))
        protocol = self.protocol
        return (
            self._lost
            and isinstance(exc, ConnectionClosed)
            and exc.rcvd is protocol.close_rcvd
            and exc.sent is protocol.close_sent
        )
