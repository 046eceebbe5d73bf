"""The members of a connection that do not wait, the same for every front-end.

May know: the session and its protocol. Must not know: how to wait, or where addresses come from; it asks the front-end
for them.
"""

from __future__ import annotations

import contextlib
import uuid
import weakref
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final, Generic, NoReturn, Self, TypeVar, overload

from .._rules.addresses import shown_address
from .._rules.lifecycle import State
from .._rules.option_table import check
from .._rules.statistics import Statistics
from ..http11 import Request, Response
from ..typing import LoggerLike, Subprotocol
from .log_lines import ConnectionLogger

if TYPE_CHECKING:
    from ..exceptions import ConnectionClosed
    from ..protocol import Protocol
    from .session import Session

__all__ = ["ConnectionProperties", "assignable", "later"]

# The ends of a connection, and what transports and sockets call them.
ENDS: Final = {"local": "sockname", "remote": "peername"}


T = TypeVar("T")


class assignable(Generic[T]):
    """A read-only property that a program may replace on an object by assigning a value, which nothing else uses.

    Parameters:
        fget: the method that gets the value of the property.
    """

    def __init__(self, fget: Callable[[Any], T]) -> None:
        self.fget = fget
        self.__doc__ = fget.__doc__

    @overload
    def __get__(self, instance: None, owner: type) -> Self: ...
    @overload
    def __get__(self, instance: object, owner: type | None = None) -> T: ...

    def __get__(self, instance: object, owner: type | None = None) -> Self | T:
        return self if instance is None else self.fget(instance)


class later:
    """An attribute that something sets later on an object; whoever reads it before that is told what.

    Parameters:
        advice: what sets the attribute.
    """

    def __init__(self, advice: str) -> None:
        self._advice = advice

    def __set_name__(self, owner: type, name: str) -> None:
        self._name = name

    def __get__(self, instance: object, owner: type) -> NoReturn:
        raise AttributeError(f"{owner.__name__!r} object has no attribute {self._name!r}: {self._advice}")


class changeable(assignable[float | None]):
    """A time limit, with the name of the option that sets it at first; a new value is checked as that option is."""

    def __set__(self, instance: ConnectionProperties, seconds: float | None) -> None:
        name = self.fget.__name__
        instance._ws_set_time(name, check(name, seconds))


class ConnectionProperties:
    """Properties of a connection that users may read at any time, and the time limits that they may change."""

    if TYPE_CHECKING:
        protocol: Protocol
        _ws_session: Session
        _ws_logger: LoggerLike | None
        _ws_bytes_received: int
        _ws_bytes_sent: int
        _ws_messages_sent: int
        _ws_payload_sent: int
        _ws_saved_sent: int

        def _ws_address(self, name: str) -> Any: ...
        def _ws_set_time(self, name: str, seconds: float | None) -> None: ...

    def __repr__(self) -> str:
        """Return the state, the addresses, the path and the id, as far as they are known; never credentials."""
        facts = [f"{type(self).__name__}"]
        # An object that isn't complete yet must have a text, too: debuggers show it.
        with contextlib.suppress(Exception):
            facts[0] += f" {self.state.name}"
            facts += [f"{name} {self._ws_shown_end(end)}" for name, end in ENDS.items()]
            if self.request is not None:
                facts.append(f"path {self.request.path!r}")
            facts.append(f"id {self.id}")
        return f"<{', '.join(facts)}>"

    def _ws_shown_end(self, name: str) -> str:
        try:
            return shown_address(self._ws_end(name)) or "unnamed"
        except Exception:
            return "unknown"

    @assignable
    def id(self) -> uuid.UUID:
        """Unique identifier of the connection, for logs."""
        return self.protocol.id

    @property
    def logger(self) -> LoggerLike:
        """Where the connection logs; its records carry the connection as ``record.websocket``."""
        if self._ws_logger is None:
            # The reference is weak, because the adapter and the connection would otherwise form a cycle.
            self._ws_logger = ConnectionLogger(self.protocol.logger, weakref.proxy(self))
        return self._ws_logger

    @logger.setter
    def logger(self, logger: LoggerLike) -> None:
        self._ws_logger = logger

    @assignable
    def request(self) -> Request | None:
        """The request of the opening handshake; None before there is one."""
        return self._ws_session.request

    @assignable
    def response(self) -> Response | None:
        """The response of the opening handshake; None before there is one."""
        return self._ws_session.response

    @assignable
    def latency(self) -> float:
        """Round trip of the last ping that was answered, in seconds; 0.0 before the first (RFC 6455 section 5.5.2)."""
        return self._ws_session.latency

    @assignable
    def statistics(self) -> Statistics:
        """Snapshot of the numbers of messages, bytes and pings sent and received so far."""
        return self._ws_counted()

    def _ws_counted(self) -> Statistics:
        tally = self._ws_session.port.tally
        messages, encoded = self._ws_session.port.received
        sent = self._ws_payload_sent + tally.payload_sent
        return Statistics(
            messages_sent=self._ws_messages_sent + tally.messages_sent,
            messages_received=messages,
            payload_sent=sent + self._ws_saved_sent + tally.saved_sent,
            payload_received=encoded + tally.expanded,
            encoded_sent=sent,
            encoded_received=encoded,
            bytes_sent=self._ws_bytes_sent,
            bytes_received=self._ws_bytes_received,
            pings_sent=tally.pings_sent,
            pings_received=tally.pings_received,
            latency=self._ws_session.latency,
            skipped=tally.skipped,
            limited=tally.limited,
        )

    @property
    def local_address(self) -> Any:
        """Address of this end: ``(host, port)`` for TCP over IPv4, four items over IPv6, a path for a Unix socket.

        It stays the same when the connection is closed.
        """
        return self._ws_end("sockname")

    @property
    def remote_address(self) -> Any:
        """Address of the other end, like :attr:`local_address`; with ``proxy_protocol``, the one from the proxy."""
        return self._ws_end("peername")

    def _ws_end(self, name: str) -> Any:
        """Return the address that a proxy reported, else the address of the socket."""
        told = getattr(self._ws_session.proxied, name, None)
        return self._ws_address(name) if told is None else told

    @property
    def state(self) -> State:
        """State of the connection (RFC 6455 sections 4.1 and 7.1)."""
        return self.protocol.state

    @property
    def subprotocol(self) -> Subprotocol | None:
        """Subprotocol negotiated in the opening handshake, None if there is none (RFC 6455 section 1.9)."""
        return self.protocol.subprotocol

    @property
    def close_code(self) -> int | None:
        """Close code received; 1005 for an empty Close frame, 1006 without one, None until the connection is closed.

        RFC 6455 section 7.1.5.
        """
        return self.protocol.close_code

    @property
    def close_reason(self) -> str | None:
        """Reason received with the close code, "" for none, None until closed (RFC 6455 section 7.1.6)."""
        return self.protocol.close_reason

    @changeable
    def ping_interval(self) -> float | None:
        """Seconds between keepalive pings, None for no keepalive. After a change, the next ping is due in that time.

        Raises:
            TypeError: the new value isn't a number or None.
            ValueError: the new value is negative.
        """
        return self._ws_session.timing.ping_interval

    @changeable
    def ping_timeout(self) -> float | None:
        """Seconds to wait for a pong or other data after a keepalive ping, None for no limit. It may change any time.

        Raises:
            TypeError: the new value isn't a number or None.
            ValueError: the new value is negative.
        """
        return self._ws_session.timing.ping_timeout

    @changeable
    def close_timeout(self) -> float | None:
        """Seconds that closing may take, None for no limit. It may change until closing begins.

        Raises:
            TypeError: the new value isn't a number or None.
            ValueError: the new value is negative.
        """
        return self._ws_session.timing.close_timeout

    @property
    def close_exc(self) -> ConnectionClosed:
        """The exception that later calls raise, with its cause chained; a new object each time.

        Raises:
            AssertionError: the connection isn't closed yet.
        """
        return self._ws_session.close_exc()
