"""The connections of a server: who is there, who counts, and who is told what when the server closes.

May know: capacity, statistics, the state of each connection. Must not know: how connections are told; tasks, timers,
and how anybody waits for the end.

A connection counts from the moment at which it is accepted until it is over and its handler too. One of which a proxy
has yet to say whose it is (the PROXY protocol) is an arrival until then.

A server closes in stages. At first it says farewell: those who have not asked are refused, those that are open are
closed, arrivals are sent away. If there is a limit and it has passed, who is left is cut off, :data:`CANCELLATIONS`
times, with :data:`PATIENCE` to end each time. At last, who still goes on is given up.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping
from typing import TYPE_CHECKING, Any, Final, Generic, NamedTuple, Protocol, Self, TypeVar

from .._rules.capacity import CROWDED, Capacity
from .._rules.lifecycle import State
from .._rules.refusals import refusal_reason
from .._rules.statistics import APPLICATION, FAILURE, ServerStatistics, ServerTally
from ..frames import CloseCode
from ..typing import LoggerLike

if TYPE_CHECKING:
    from .server_session import ServerSession

__all__ = ["CANCELLATIONS", "GRACE", "PATIENCE", "TLS_HANDSHAKE", "Farewell", "Grace", "Registry"]

# A shutdown with a limit cancels handlers so often, and waits so many seconds each time: one may need a moment to clean
# up, or may take a cancellation for something else.
CANCELLATIONS: Final = 2
PATIENCE: Final = 1.0

# Seconds for which a listening server is waited for once no connection of ours is left.
GRACE: Final = 1.0
# Seconds that a client may take for TLS, unless somebody said otherwise. Until then it is no connection of ours.
TLS_HANDSHAKE: Final = 60.0


class Member(Protocol):
    """What is asked of a connection."""

    @property
    def state(self) -> State:
        """State of the connection."""

    @property
    def remote_address(self) -> Any:
        """Address of the client."""

    @property
    def logger(self) -> LoggerLike:
        """Where the connection logs."""


C = TypeVar("C", bound=Member)
A = TypeVar("A", bound=Hashable)


class Farewell(NamedTuple, Generic[C, A]):
    """Who is told what when a server closes.

    Attributes:
        refused: connections that are not open; who has not asked yet is refused.
        closed: open connections that are closed.
        arriving: arrivals, which are sent away.
    """

    refused: list[C]
    closed: list[C]
    arriving: list[A]


class Registry(Generic[C, A]):
    """The connections of a server.

    Parameters:
        capacity: what keeps the server to its limits; None if there are none.

    Attributes:
        all: every connection, from the first byte to the end of its handler.
        arriving: those that a proxy may have passed on, as long as that isn't known; they count, for no host.
        tally: numbers that only go up.
        closing: whether the server closes, or is closed.
        code, reason: what connections are told when the server closes.
    """

    def __init__(self, capacity: Capacity[Any] | None = None) -> None:
        self.all: set[C] = set()
        self.arriving: set[A] = set()
        self.tally = ServerTally()
        self.closing = False
        self.code: int | None = CloseCode.GOING_AWAY
        self.reason = ""
        self._capacity = capacity

    # ------------------------------------------------------------------------------------------------------------- ask

    @property
    def empty(self) -> bool:
        """Whether everything is over: no connection is left, and no handler."""
        return not self.all

    def open_connections(self) -> set[C]:
        """Return the connections that are open now."""
        return {connection for connection in self.all if connection.state is State.OPEN}

    def opened_connections(self) -> set[C]:
        """Return the connections that were opened, from then to the end of the handler."""
        return {connection for connection in self.all if connection.state is not State.CONNECTING}

    def statistics(self) -> ServerStatistics:
        """Return the numbers of the server as they are now."""
        counted = len(self.all) if self._capacity is None else len(self._capacity)
        return self.tally.snapshot(len(self.open_connections()), counted)

    def refusal(self, session: ServerSession) -> str | None:
        """Return why there is no room for a connection that came when there was none; None if there is by now.

        Parameters:
            session: session of the connection.
        """
        return None if self._capacity is None else self._capacity.refusal(session)

    # ------------------------------------------------------------------------------------------------------------ tell

    def arrive(self, arrival: A) -> bool:
        """Find a place for somebody of whom nothing is known yet.

        Parameters:
            arrival: who it is.

        Returns:
            Whether there is one.
        """
        if self._capacity is not None and not self._capacity.enter(arrival, None):
            return False
        self.arriving.add(arrival)
        return True

    def arrived(self, arrival: A) -> bool:
        """Free the place of somebody who is a connection from now on, or gone.

        Parameters:
            arrival: who it is.

        Returns:
            Whether there was such a place.
        """
        if arrival not in self.arriving:
            return False
        self.arriving.discard(arrival)
        if self._capacity is not None:
            self._capacity.leave(arrival)
        return True

    def enter(self, connection: C, session: ServerSession) -> bool:
        """Take in a connection that was accepted.

        Parameters:
            connection: the connection.
            session: its session, which is told if it is over capacity.

        Returns:
            Whether it may stay; else it must be aborted, as too many wait for a refusal already.
        """
        capacity = self._capacity
        if capacity is not None:
            if not capacity.enter(session, connection.remote_address):
                self.tally.refuse(CROWDED)
                return False
            if not capacity.is_inside(session):
                session.over_capacity = True
        self.all.add(connection)
        return True

    def leave(self, connection: C, session: ServerSession) -> None:
        """Forget a connection that is over, and its handler too; it has no effect on one that isn't there.

        Parameters:
            connection: the connection.
            session: its session.
        """
        if connection not in self.all:
            return
        self.all.discard(connection)
        # Here a connection and its handler are over: what it counted itself would be added to the tally.
        if session.response is None:
            self.tally.refuse(session.unopened_reason())
        if self._capacity is not None:
            self._capacity.leave(session)

    def count_answer(self, opened: bool, exc: Exception | None) -> None:
        """Count the answer to a request.

        Parameters:
            opened: whether it opened a connection.
            exc: otherwise, what is wrong with the request, or what failed; None for a refusal by the application.
        """
        if opened:
            self.tally.opened += 1
        else:
            self.tally.refuse(APPLICATION if exc is None else refusal_reason(exc) or FAILURE)

    # -------------------------------------------------------------------------------------------------------- shutdown

    def say_farewell(self, code: int | None, reason: str, *, close_connections: bool) -> Farewell[C, A]:
        """Begin to close.

        Parameters:
            code: close code for connections.
            reason: reason for them.
            close_connections: whether open connections are closed; else they end with their handlers.
        """
        self.closing, self.code, self.reason = True, code, reason
        members = list(self.all)
        return Farewell(
            [connection for connection in members if connection.state is State.CONNECTING],
            [connection for connection in members if close_connections and connection.state is State.OPEN],
            list(self.arriving),
        )

    def give_up(self) -> list[C]:
        """Say of all who still go on that the server closes without them.

        Returns:
            Who that is; the front-end forgets them.
        """
        left = list(self.all)
        for connection in left:
            connection.logger.error(
                "connection handler still runs after it was cancelled; the server closes without it"
            )
        return left


class Grace:
    """How long a client may be busy with TLS before it is a connection of ours.

    Parameters:
        limit: seconds that a client may take for TLS; 0.0 without TLS, None if that isn't known.
    """

    def __init__(self, limit: float | None = None) -> None:
        self._limit = limit
        self._accepted_at = -math.inf

    @classmethod
    def of(cls, listening: Mapping[str, Any]) -> Self:
        """Return the time for a listening server.

        Parameters:
            listening: arguments that the server was made with.
        """
        limit = listening.get("ssl_handshake_timeout")
        return cls(0.0 if listening.get("ssl") is None else TLS_HANDSHAKE if limit is None else limit)

    def accepted(self, now: float) -> None:
        """Take in that a client was accepted.

        Parameters:
            now: the time, in seconds.
        """
        self._accepted_at = now

    def left(self, now: float) -> float:
        """Return for how many seconds a client may still be busy, and some more.

        Parameters:
            now: the time, in seconds.
        """
        if self._limit is None:
            return GRACE + TLS_HANDSHAKE
        return GRACE + max(self._accepted_at + self._limit - now, 0.0)
