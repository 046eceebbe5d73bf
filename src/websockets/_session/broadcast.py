"""Broadcasts: choose the connections that get a message, and log those that are left out.

May know: protocols, the message, loggers. Must not know: how frames are written, the purpose of connections.

A front-end iterates over the connections and writes::

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

# In bytes. From this size on, a message is compressed alone, once for all connections that can share it. Smaller ones
# are compressed for each connection, because context takeover saves a lot more bytes: JSON is compressed to 37 % alone
# and to 27 % with context takeover at 1 KB, to 28 % and 24 % at 4 KB.
ALONE_FROM: Final = 2**11

# Code and reason for closing a connection that is too slow.
TOO_SLOW: Final = (CloseCode.POLICY_VIOLATION, "too slow")

_OPEN: Final = State.OPEN


class Recipient(typing.Protocol):
    """A connection, as far as a broadcast needs it."""

    protocol: Protocol

    @property
    def logger(self) -> LoggerLike:
        """The logger; it may be created at the first access."""
        ...

    @property
    def buffered_amount(self) -> int:
        """Number of bytes in the write buffer."""
        ...


class Broadcast:
    """One message to many connections.

    Parameters:
        message: a ``str``, bytes, or a prepared message.
        text: True to send bytes as text, False to send a ``str`` as binary.
        raise_exceptions: True to raise errors at the end in a group, instead of logging them.
        on_slow: ``"send"``, ``"skip"`` or ``"close"``, for slow connections.
        max_buffered: bytes in the write buffer above which a connection is slow; None for its ``write_limit``.

    Raises:
        TypeError: the message has a type that can't be sent in one frame.
        ValueError: ``on_slow`` is none of the three values, or ``max_buffered`` is negative.

    Attributes:
        message: the message, prepared.
        size: size of the message in bytes.
        watches: whether slow connections are treated differently.
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
        """Return whether a connection is open and too slow.

        Bytes that the front-end holds back, so that frames share a write, don't show that a connection is slow. If
        there are any, and :attr:`max_buffered` is a number, the front-end must write them before this call.

        Parameters:
            connection: the connection.
            life: the lifecycle of the connection.
            full: whether its write buffer is above its ``write_limit``.
        """
        if life.state is not _OPEN:
            return False
        return full if self.max_buffered is None else connection.buffered_amount > self.max_buffered

    def leave_out(self, connection: Recipient) -> bool:
        """Leave out a connection that is too slow: count it, unless it will be closed, and log it.

        Returns:
            Whether to close the connection, with :data:`TOO_SLOW`.
        """
        if self._closes:
            connection.logger.info("closing connection: too slow, %d bytes wait", connection.buffered_amount)
            return True
        tally = connection.protocol._count()
        tally.skipped += 1
        # Log only powers of two, because thousands of messages to thousands of peers would give too many lines.
        if not tally.skipped & (tally.skipped - 1):
            connection.logger.warning(
                "skipped broadcast: too slow, %d bytes wait; %d skipped until now",
                connection.buffered_amount,
                tally.skipped,
            )
        return False

    def frame(self, protocol: Protocol, life: Lifecycle, in_line: bool) -> bytes | None:
        """Return the frame for a connection, which must be sent; None to leave out a connection that isn't open.

        Parameters:
            protocol: protocol of the connection.
            life: the lifecycle of the connection.
            in_line: whether senders wait for the end of a fragmented message.

        Raises:
            ConcurrencyError: a fragmented message has begun and not ended.
        """
        if life.state is not _OPEN:
            return None
        if life.continuing or in_line:
            raise ConcurrencyError("sending a fragmented message")
        return frame_for(protocol, self.message)

    def failed(self, exc: Exception, connection: Recipient) -> None:
        """Leave out a connection after an exception: keep the exception, or log it in one line."""
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
            ExceptionGroup: with ``raise_exceptions``, the errors of connections that were left out.
        """
        if self._failures:
            raise ExceptionGroup("skipped broadcast", self._failures)


def _unwritten(cause: Exception) -> RuntimeError:
    exc = RuntimeError("failed to write message")
    exc.__cause__ = cause
    return exc


def _in_one_line(exc: Exception) -> str:
    """Return the text of an exception without its traceback, because there may be thousands of exceptions."""
    return traceback.format_exception_only(exc)[-1].strip()
