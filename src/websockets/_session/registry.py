"""The registry of a server's connections: which count for its limits, and the stages of its shutdown.

May know: capacity, statistics, the state of each connection. Must not know: how to refuse or close connections; tasks,
timers, how to wait for the end.

A connection counts from when it is accepted until the connection and its handler have ended. With the PROXY protocol,
it is an arrival until its header has arrived.

A server shuts down in stages. At first, connections without a request are refused, open connections are closed, and
arrivals are refused. If a timeout is set and has passed, the remaining connections are aborted and their handlers are
cancelled, :data:`CANCELLATIONS` times, with :data:`PATIENCE` seconds to end each time. Handlers that still run after
that are abandoned.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, Final, Generic, NamedTuple, Protocol, Self, TypeVar

from .._rules.addresses import shown_address
from .._rules.capacity import CROWDED, Capacity
from .._rules.lifecycle import State
from .._rules.statistics import ServerStatistics, ServerTally
from ..frames import CloseCode
from ..typing import LoggerLike

if TYPE_CHECKING:
    from .server_session import ServerSession

__all__ = ["CANCELLATIONS", "GRACE", "PATIENCE", "TLS_HANDSHAKE", "Farewell", "Grace", "Registry"]

# A shutdown with a timeout cancels handlers this many times, and waits this number of seconds each time. A handler may
# need a moment to clean up, or may mistake the first cancellation for another one, such as a timeout of its own.
CANCELLATIONS: Final = 2
PATIENCE: Final = 1.0

# What the log says of a handler that is abandoned.
CANCELLED: Final = "connection handler still runs after it was cancelled"

# Seconds to wait for a listening server after its last connection has ended.
GRACE: Final = 1.0
# Default timeout of the TLS handshake in seconds. Before its end, a client isn't in the registry.
TLS_HANDSHAKE: Final = 60.0


class Member(Protocol):
    """A connection, as far as the registry needs it."""

    @property
    def state(self) -> State:
        """State of the connection."""
        ...

    @property
    def remote_address(self) -> Any:
        """Address of the client."""
        ...

    @property
    def logger(self) -> LoggerLike:
        """The logger of the connection."""
        ...


C = TypeVar("C", bound=Member)
A = TypeVar("A", bound=Hashable)


class Farewell(NamedTuple, Generic[C, A]):
    """The first stage of a shutdown.

    Attributes:
        refused: connections that are not open; those without a request are refused.
        closed: open connections to close.
        arriving: arrivals to refuse.
    """

    refused: list[C]
    closed: list[C]
    arriving: list[A]


class Registry(Generic[C, A]):
    """The registry of a server's connections.

    Parameters:
        capacity: the limits for the number of connections; None if there are none.

    Attributes:
        all: all connections, from the TCP connection to the end of the handler.
        arriving: arrivals, whose header hasn't arrived; they count, but for no host.
        tally: counters that only increase.
        closing: whether the server closes, or is closed.
        code, reason: close code and reason of the shutdown.
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
        """Whether no connection and no handler is left."""
        return not self.all

    def shown(self, name: str, addresses: Iterable[Any]) -> str:
        """Return the text of a server for debuggers.

        Parameters:
            name: name of its class.
            addresses: addresses of its listening sockets; an empty one has no name.
        """
        places = " and ".join(shown_address(address) or "an unnamed socket" for address in addresses)
        where = f" at {places}" if places else ""
        number = len(self.all)
        state = ", closing" if self.closing else ""
        return f"<{name}{where}, {number} connection{'' if number == 1 else 's'}{state}>"

    def open_connections(self) -> set[C]:
        """Return the connections that are open now."""
        return {connection for connection in self.all if connection.state is State.OPEN}

    def opened_connections(self) -> set[C]:
        """Return the connections from the end of the opening handshake to the end of the handler."""
        return {connection for connection in self.all if connection.state is not State.CONNECTING}

    def statistics(self) -> ServerStatistics:
        """Return the current statistics of the server."""
        counted = len(self.all) if self._capacity is None else len(self._capacity)
        return self.tally.snapshot(len(self.open_connections()), counted)

    def refusal(self, session: ServerSession) -> str | None:
        """Return the reason to refuse a connection that was over capacity; None if there is now room for it.

        Parameters:
            session: session of the connection.
        """
        return None if self._capacity is None else self._capacity.refusal(session)

    # ------------------------------------------------------------------------------------------------------------ tell

    def arrive(self, arrival: A) -> bool:
        """Add an arrival, if there is room for it.

        Parameters:
            arrival: the arrival.

        Returns:
            Whether there is room.
        """
        if self._capacity is not None and not self._capacity.enter(arrival, None):
            return False
        self.arriving.add(arrival)
        return True

    def arrived(self, arrival: A) -> bool:
        """Remove an arrival, because it becomes a connection, or is over.

        Parameters:
            arrival: the arrival.

        Returns:
            Whether it was in the registry.
        """
        if arrival not in self.arriving:
            return False
        self.arriving.discard(arrival)
        if self._capacity is not None:
            self._capacity.leave(arrival)
        return True

    def enter(self, connection: C, session: ServerSession) -> bool:
        """Add a connection that was accepted.

        Parameters:
            connection: the connection.
            session: its session, which is marked if it is over capacity.

        Returns:
            Whether it may stay; if not, it must be aborted, because too many connections are waiting for a refusal.
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
        """Remove a connection, after the connection and its handler ended; without effect if it isn't registered.

        Parameters:
            connection: the connection.
            session: its session.
        """
        if connection not in self.all:
            return
        self.all.discard(connection)
        # The connection and its handler are over; its own counters could be added to the tally here.
        if session.response is None:
            self.tally.refuse(session.unopened_reason())
        if self._capacity is not None:
            self._capacity.leave(session)

    def count_answer(self, reason: str | None) -> None:
        """Count the response to a request.

        Parameters:
            reason: None if it opened the connection, else the reason why not, in a few words.
        """
        if reason is None:
            self.tally.opened += 1
        else:
            self.tally.refuse(reason)

    # -------------------------------------------------------------------------------------------------------- shutdown

    def say_farewell(self, code: int | None, reason: str, *, close_connections: bool) -> Farewell[C, A]:
        """Begin the shutdown.

        Parameters:
            code: close code for connections.
            reason: close reason for connections.
            close_connections: True to close open connections; False to let them end with their handlers.

        Returns:
            The connections to refuse and to close.
        """
        self.closing, self.code, self.reason = True, code, reason
        members = list(self.all)
        return Farewell(
            [connection for connection in members if connection.state is State.CONNECTING],
            [connection for connection in members if close_connections and connection.state is State.OPEN],
            list(self.arriving),
        )

    def give_up(self, still_runs: Callable[[C], str] | None = None) -> list[C]:
        """Abandon the connections that are left, and log this.

        Parameters:
            still_runs: what to log about a connection; None to log that its handler was cancelled.

        Returns:
            These connections; the front-end removes them.
        """
        left = list(self.all)
        for connection in left:
            why = CANCELLED if still_runs is None else still_runs(connection)
            connection.logger.error("%s; the server closes without it", why)
        return left


class Grace:
    """The time that clients may still take for the TLS handshake, before they are connections.

    Parameters:
        limit: timeout of the TLS handshake in seconds; 0.0 without TLS, None if it isn't known.
    """

    def __init__(self, limit: float | None = None) -> None:
        self._limit = limit
        self._accepted_at = -math.inf

    @classmethod
    def of(cls, listening: Mapping[str, Any]) -> Self:
        """Return the time for a listening server.

        Parameters:
            listening: arguments of the listening server.
        """
        limit = listening.get("ssl_handshake_timeout")
        return cls(0.0 if listening.get("ssl") is None else TLS_HANDSHAKE if limit is None else limit)

    def accepted(self, now: float) -> None:
        """Note that a client was accepted.

        Parameters:
            now: the current time in seconds.
        """
        self._accepted_at = now

    def shaking(self, now: float) -> bool:
        """Return whether a client may be in the TLS handshake.

        Parameters:
            now: the current time in seconds.
        """
        return self._limit is not None and self._accepted_at + self._limit > now

    def left(self, now: float) -> float:
        """Return the seconds that a TLS handshake may still take, with a margin.

        Parameters:
            now: the current time in seconds.
        """
        if self._limit is None:
            return GRACE + TLS_HANDSHAKE
        return GRACE + max(self._accepted_at + self._limit - now, 0.0)
