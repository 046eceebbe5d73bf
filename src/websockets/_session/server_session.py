"""A server's end of a connection between two waits: what is known of its request, of its answer and of its handler.

May know: the protocol of a server, whether the handler runs. Must not know: the server and its options; how an answer
is made, which is for :mod:`.answering`; how a handler is run.
"""

from __future__ import annotations

import enum
from typing import Final

from .._rules.lifecycle import State
from .._rules.refusals import refusal_reason
from .._rules.statistics import FAILURE, GONE, TIMEOUT
from ..exceptions import ConnectionClosed
from ..server import ServerProtocol, unanswered_request
from .session import Session

__all__ = ["HandlerState", "ServerSession"]


class HandlerState(enum.Enum):
    """How far the handler of a connection is."""

    ABSENT = enum.auto()  # nothing called for it yet
    RUNNING = enum.auto()
    OVER = enum.auto()


# Constants of this module are found faster.
ABSENT: Final = HandlerState.ABSENT
RUNNING: Final = HandlerState.RUNNING


class ServerSession(Session):
    """A server's end of a connection; parameters as for :class:`~.session.Session`.

    Attributes:
        handler: how far the handler is. It begins with the request, and asks hooks for the answer first.
        asking: whether a hook of the user is called, on which the answer depends.
        over_capacity: whether there was no room for the connection when it was accepted.
    """

    protocol: ServerProtocol
    handler: HandlerState = ABSENT
    asking: bool = False
    over_capacity: bool = False

    @property
    def answerable(self) -> bool:
        """Whether an answer can be sent: none was, and the client is neither gone nor given up on."""
        protocol = self.protocol
        return protocol.state is State.CONNECTING and not protocol.close_expected()

    @property
    def answered(self) -> bool:
        """Whether no request waits for an answer."""
        return unanswered_request(self.protocol) is None

    @property
    def finished(self) -> bool:
        """Whether the TCP connection is over and the handler too, so that the server counts it no more."""
        return self._lost and self.handler is not RUNNING

    def unopened_reason(self) -> str:
        """Return why the connection is over without an answer to a request, in a word for the statistics."""
        exc = self.protocol.handshake_exc
        if isinstance(self.cause, TimeoutError):
            return TIMEOUT
        if exc is None or isinstance(exc.__cause__, EOFError):
            return GONE
        return refusal_reason(exc) or FAILURE

    def ended_by(self, exc: BaseException) -> bool:
        """Return whether an exception of the handler tells the end of this connection, and not of another one.

        So does a group that has nothing but such exceptions, as a handler with several tasks raises it.

        Parameters:
            exc: what ended the handler.
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
