"""Reconnection: the delay before the next attempt to connect, when to give up, and the log lines.

May know: errors, delays, responses with ``Retry-After``. Must not know: how to connect and to wait; ``now`` is an
argument.
"""

from __future__ import annotations

import contextlib
import datetime
import email.utils
import traceback
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Protocol

from ..exceptions import InvalidProxyStatus, InvalidStatus, printable
from ..typing import LoggerLike

if TYPE_CHECKING:
    from .session import Session

__all__ = ["Backoff", "GiveUp", "Reconnection", "describe", "retry_after"]


class Reconnecting(Protocol):
    """The members of ``connect`` that :class:`Reconnection` needs; they are read again each time."""

    process_exception: Callable[[Exception], Exception | None]
    reconnect_delays: Callable[[], Iterator[float]]
    logger: LoggerLike


class Reconnection:
    """The decisions between the connections of one iteration over ``connect``.

    A front-end runs each step of the iteration inside :meth:`step`. It reports when a connection is open, when it is
    closed, and when an attempt failed, and then sleeps for the time that is returned.

    Parameters:
        connecting: the ``connect`` object, which has the hooks.

    Attributes:
        ended: whether the iteration is over; the front-end sets it.
    """

    def __init__(self, connecting: Reconnecting) -> None:
        self.ended = False
        self._connecting = connecting
        self._delays = Backoff(connecting.reconnect_delays)
        self._opened = 0.0
        self._busy = False

    @contextlib.contextmanager
    def step(self, busy: str) -> Iterator[None]:
        """Allow only one step of the iteration at a time.

        Parameters:
            busy: text of the error if another step is running.

        Raises:
            RuntimeError: another step is running.
        """
        if self._busy:
            raise RuntimeError(busy)
        self._busy = True
        try:
            yield
        finally:
            self._busy = False

    def connected(self, now: float) -> None:
        """Note that a connection is open.

        Parameters:
            now: seconds of any monotonic clock.
        """
        self._opened = now

    def after_connection(self, session: Session, now: float) -> float:
        """Return the seconds to wait after a connection is closed; 0 if it was open for long enough.

        Parameters:
            session: session of the connection.
            now: seconds of the same clock as for :meth:`connected`.

        Raises:
            ConnectionClosed: there are no more delays.
        """
        try:
            delay = self._delays.after_connection(now - self._opened)
        except GiveUp:
            closed = session.close_exc()
            raise closed from closed.__cause__
        if delay:
            closed = session.close_exc()
            self._connecting.logger.info("connection closed early; reconnecting in %.1f seconds: %s", delay, closed)
        return delay

    def after_failure(self, exc: Exception, now: float) -> float:
        """Return the seconds to wait after a failed attempt; call this while ``exc`` is handled.

        Parameters:
            exc: exception of the attempt.
            now: seconds since the epoch, as a server may name a date.

        Raises:
            Exception: the result of ``process_exception``, caused by ``exc`` unless it is ``exc``; or ``exc``, if there
                are no more delays.
        """
        try:
            fatal = self._connecting.process_exception(exc)
        except Exception as raised:
            fatal = raised
        if fatal is exc:
            raise exc
        if fatal is not None:
            raise fatal from exc
        try:
            delay = self._delays.after_failure(retry_after(exc, now))
        except GiveUp:
            raise exc from exc.__cause__
        self._connecting.logger.info("connect failed; reconnecting in %.1f seconds: %s", delay, describe(exc))
        return delay


# ---------------------------------------------------------------------------------------------------------- the delays


class GiveUp(Exception):
    """The error that there are no more delays: the last error is final."""


class Backoff:
    """The delay before each attempt to connect.

    The delays start over when a connection was open longer than the delay before it. So a server that accepts and
    closes connections at once isn't called again and again without a pause.

    Parameters:
        delays: function that returns a new iterator over delays in seconds.
    """

    def __init__(self, delays: Callable[[], Iterator[float]]) -> None:
        self._delays = delays
        self._series: Iterator[float] | None = None
        self._waited = 0.0

    def after_failure(self, at_least: float = 0) -> float:
        """Return the delay after a failed attempt, in seconds.

        Parameters:
            at_least: seconds that the server asked for.

        Raises:
            GiveUp: there are no more delays.
        """
        self._waited = max(self._next(), at_least)
        return self._waited

    def after_connection(self, lifetime: float) -> float:
        """Return the delay in seconds after a connection was open for ``lifetime`` seconds; 0 if that was long enough.

        Raises:
            GiveUp: there are no more delays.
        """
        # If there was no delay before the connection, compare its lifetime with the next delay.
        enough = self._waited or self._next()
        if lifetime > enough:
            self._series, self._waited = None, 0.0
            return 0
        self._waited = self._next() if self._waited else enough
        return self._waited

    def _next(self) -> float:
        if self._series is None:
            self._series = self._delays()
        delay = next(self._series, None)
        if delay is None:
            raise GiveUp
        return delay


# --------------------------------------------------------------------------------------------------- what an error says


def retry_after(exc: Exception, now: float) -> float:
    """Return the seconds to wait in ``Retry-After`` of a server or a proxy (RFC 9110 section 10.2.3), else 0.

    Parameters:
        exc: exception of the attempt.
        now: seconds since the epoch, as the header may give a date.
    """
    if not isinstance(exc, (InvalidStatus, InvalidProxyStatus)) or exc.response.status_code not in (429, 503):
        return 0
    values = exc.response.headers.get_all("Retry-After")
    if len(values) != 1:
        return 0
    if values[0].isascii() and values[0].isdigit():
        # Converting a huge number of digits would take a long time.
        return float(values[0][:9])
    try:
        date = email.utils.parsedate_to_datetime(values[0])
        # One of the three date formats of HTTP has no time zone, and all mean UTC (RFC 9110 section 5.6.7).
        if date.tzinfo is None:
            date = date.replace(tzinfo=datetime.UTC)
        return max(date.timestamp() - now, 0)
    except (ValueError, OverflowError):
        return 0


def describe(exc: BaseException) -> str:
    """Return the class, the text and the notes of an exception, on one line, for the log."""
    # Many network errors have no text, or a text that isn't clear without the class.
    text = traceback.format_exception_only(exc)[0].strip()
    return printable(" ".join([text, *(f"({note})" for note in getattr(exc, "__notes__", ()))]))
