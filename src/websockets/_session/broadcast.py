"""One message to many connections: who gets it, who is left out, and what is said about that.

May know: protocols, the message, loggers. Must not know: how frames are written, or what connections are used for.

A front-end goes through the connections and writes::

    broadcast = Broadcast(message, text, raise_exceptions, on_slow, max_buffered)
    for connection in connections:
        try:
            if broadcast.watches and broadcast.is_slow(connection, life, full):
                if broadcast.leave_out(connection):
                    ...  # close the connection with TOO_SLOW
            elif (frame := broadcast.frame(connection.protocol, life, in_line)) is not None:
                ...  # write the frame; its message has broadcast.size bytes
        except Exception as exc:
            broadcast.failed(exc, connection)
    broadcast.finish()
"""

from __future__ import annotations

import traceback
import typing
from typing import Final

from .._rules.lifecycle import Lifecycle, State
from .._rules.option_table import BROADCAST, check
from ..exceptions import ConcurrencyError
from ..frames import CloseCode
from ..protocol import Protocol
from ..protocol._prepared import PreparedMessage, frame_for, prepare, size_of
from ..typing import DataLike, LoggerLike

__all__ = ["TOO_SLOW", "Broadcast", "Recipient"]

# From this size on, a message is compressed alone, once for all connections that can share it. A smaller one would then
# take a lot more bytes than one that may refer to those before it: of JSON, 37 % instead of 27 % at 1 KB, 28 % instead
# of 24 % at 4 KB. In bytes.
ALONE_FROM: Final = 2**11

# What a connection that is too slow is closed with: code and reason.
TOO_SLOW: Final = (CloseCode.POLICY_VIOLATION, "too slow")

_OPEN: Final = State.OPEN


class Recipient(typing.Protocol):
    """A connection, as a broadcast sees it."""

    protocol: Protocol

    @property
    def logger(self) -> LoggerLike:
        """Where to log; it may be made when it is asked for."""

    @property
    def buffered_amount(self) -> int:
        """Number of bytes that wait to be sent."""


class Broadcast:
    """One message on its way to many connections.

    Parameters:
        message: a ``str``, bytes, or a prepared message.
        text: True to send bytes as text, False to send a ``str`` as binary.
        raise_exceptions: whether to raise at the end what went wrong, instead of logging it.
        on_slow: what becomes of slow connections: ``"send"``, ``"skip"`` or ``"close"``.
        max_buffered: bytes that may wait on a connection that isn't slow; None to go by its ``write_limit``.

    Raises:
        TypeError: the message has no type that can be sent in one frame.
        ValueError: ``on_slow`` is none of the three, or ``max_buffered`` is negative.

    Attributes:
        message: the message, prepared.
        size: bytes of the message.
        watches: whether slow connections are treated in another way.
        max_buffered: as the parameter.
    """

    __slots__ = ("_closes", "_failures", "_raises", "max_buffered", "message", "size", "watches")

    def __init__(
        self,
        message: DataLike | PreparedMessage,
        text: bool | None,
        raise_exceptions: bool,
        on_slow: str,
        max_buffered: int | None,
    ) -> None:
        prepared = prepare(message, text, ALONE_FROM)
        if prepared is None:
            raise TypeError("data must be str or bytes")
        if on_slow not in ("send", "skip", "close"):
            raise ValueError(f"on_slow must be 'send', 'skip' or 'close', not {on_slow!r}")
        self.max_buffered = None if max_buffered is None else check("max_buffered", max_buffered, BROADCAST)
        self.message, self.size = prepared, size_of(prepared)
        self.watches = on_slow != "send"
        self._closes = on_slow == "close"
        self._raises = raise_exceptions
        self._failures: list[Exception] = []

    def is_slow(self, connection: Recipient, life: Lifecycle, full: bool) -> bool:
        """Whether a connection is open and too slow.

        Bytes that the front-end only holds back, so that frames share a write, are no sign of slowness. If there are
        any, and :attr:`max_buffered` is a number, it writes them before it asks.

        Parameters:
            connection: the connection.
            life: the life of the connection.
            full: whether more than its ``write_limit`` waits to be sent, so that senders wait.
        """
        if life.state is not _OPEN:
            return False
        return full if self.max_buffered is None else connection.buffered_amount > self.max_buffered

    def leave_out(self, connection: Recipient) -> bool:
        """Leave out a connection that is too slow: count that, if it isn't to be closed, and log it.

        Returns:
            Whether to close the connection, with :data:`TOO_SLOW`.
        """
        if self._closes:
            connection.logger.info("closing connection: too slow, %d bytes wait", connection.buffered_amount)
            return True
        tally = connection.protocol._count()
        tally.skipped += 1
        # A line for each of thousands of messages to each of thousands of peers would be too many.
        if not tally.skipped & (tally.skipped - 1):
            connection.logger.warning(
                "skipped broadcast: too slow, %d bytes wait; %d skipped until now",
                connection.buffered_amount,
                tally.skipped,
            )
        return False

    def frame(self, protocol: Protocol, life: Lifecycle, in_line: bool) -> bytes | None:
        """Return the frame for a connection, which must be sent; None to leave it out, as it isn't open.

        Parameters:
            protocol: of the connection.
            life: the life of the connection.
            in_line: whether senders wait for the end of a fragmented message.

        Raises:
            ConcurrencyError: a fragmented message is under way.
        """
        if life.state is not _OPEN:
            return None
        if life.continuing or in_line:
            raise ConcurrencyError("sending a fragmented message")
        return frame_for(protocol, self.message)

    def failed(self, exc: Exception, connection: Recipient) -> None:
        """Leave out a connection for which something went wrong: keep the exception, or log it in one line."""
        concurrent = isinstance(exc, ConcurrencyError)
        if self._raises:
            self._failures.append(exc if concurrent else _unwritten(exc))
        elif concurrent:
            connection.logger.warning("skipped broadcast: %s", exc)
        else:
            connection.logger.warning("skipped broadcast: failed to write message: %s", _in_one_line(exc))

    def finish(self) -> None:
        """End the broadcast.

        Raises:
            ExceptionGroup: with ``raise_exceptions``, what went wrong with connections that were left out.
        """
        if self._failures:
            raise ExceptionGroup("skipped broadcast", self._failures)


def _unwritten(cause: Exception) -> RuntimeError:
    exc = RuntimeError("failed to write message")
    exc.__cause__ = cause
    return exc


def _in_one_line(exc: Exception) -> str:
    """An exception without its traceback: with thousands of connections nobody wants as many of them."""
    return traceback.format_exception_only(exc)[-1].strip()
