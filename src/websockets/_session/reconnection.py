"""Reconnection: how long to wait before another attempt to connect, when to give up, and what the log says of it.

May know: errors, delays, responses that name a time. Must not know: how connecting and waiting are done; ``now`` is an
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
    """What :class:`Reconnection` needs of the ``connect`` of a front-end; it is read anew each time."""

    process_exception: Callable[[Exception], Exception | None]
    reconnect_delays: Callable[[], Iterator[float]]
    logger: LoggerLike


class Reconnection:
    """What happens between the connections of one iteration over ``connect``.

    A front-end runs each step of the iteration inside :meth:`step`. It tells when a connection is open, when it is
    over, and when an attempt failed, and then sleeps as long as it is told.

    Parameters:
        connecting: the ``connect`` whose hooks decide.

    Attributes:
        ended: whether the iteration is over; whoever iterates sets it.
    """

    def __init__(self, connecting: Reconnecting) -> None:
        self.ended = False
        self._connecting = connecting
        self._delays = Backoff(connecting.reconnect_delays)
        self._opened = 0.0
        self._busy = False

    @contextlib.contextmanager
    def step(self, busy: str) -> Iterator[None]:
        """Keep the iteration to one step at a time.

        Parameters:
            busy: text of the error if another step goes on.

        Raises:
            RuntimeError: another step goes on.
        """
        if self._busy:
            raise RuntimeError(busy)
        self._busy = True
        try:
            yield
        finally:
            self._busy = False

    def connected(self, now: float) -> None:
        """Take in that a connection is open.

        Parameters:
            now: seconds of any clock that doesn't go back.
        """
        self._opened = now

    def after_connection(self, session: Session, now: float) -> float:
        """Return how many seconds to wait after a connection that is closed; 0 if it was open for long enough.

        Parameters:
            session: of the connection.
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
        """Return how many seconds to wait after a failed attempt. To be called while ``exc`` is handled.

        Parameters:
            exc: what ended the attempt.
            now: seconds since the epoch, as a server may name a date.

        Raises:
            Exception: what ``process_exception`` chose, caused by ``exc`` unless it is ``exc``; or ``exc``, if there
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
    """There are no more delays: the last error is final."""


class Backoff:
    """How long to wait before each attempt to connect.

    The delays start over once a connection outlived the delay before it: a server that accepts and closes at once isn't
    asked again and again without a pause.

    Parameters:
        delays: makes a new series of delays in seconds.
    """

    def __init__(self, delays: Callable[[], Iterator[float]]) -> None:
        self._delays = delays
        self._series: Iterator[float] | None = None
        self._waited = 0.0

    def after_failure(self, at_least: float = 0) -> float:
        """The delay after an attempt that failed.

        Parameters:
            at_least: what the server asked for.

        Raises:
            GiveUp: the series has ended.
        """
        self._waited = max(self._next(), at_least)
        return self._waited

    def after_connection(self, lifetime: float) -> float:
        """The delay after a connection that was open for ``lifetime`` seconds; 0 if that was long enough.

        Raises:
            GiveUp: the series has ended.
        """
        # Without a delay before it, the connection is measured by the one that would come next.
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
    """The seconds that a server or a proxy asks to wait in ``Retry-After`` (RFC 9110 section 10.2.3), else 0.

    Parameters:
        exc: what ended the attempt.
        now: seconds since the epoch, as the header may give a date.
    """
    if not isinstance(exc, (InvalidStatus, InvalidProxyStatus)) or exc.response.status_code not in (429, 503):
        return 0
    values = exc.response.headers.get_all("Retry-After")
    if len(values) != 1:
        return 0
    if values[0].isascii() and values[0].isdigit():
        # More digits than this are no delay but an attack on whoever converts them.
        return float(values[0][:9])
    try:
        date = email.utils.parsedate_to_datetime(values[0])
        # One of the three formats of HTTP names no time zone, and all mean UTC (RFC 9110 section 5.6.7).
        if date.tzinfo is None:
            date = date.replace(tzinfo=datetime.UTC)
        return max(date.timestamp() - now, 0)
    except (ValueError, OverflowError):
        return 0


def describe(exc: BaseException) -> str:
    """Return the class, the text and the notes of an exception, on one line, for the log."""
    # Many errors of the network have no text, or one that says nothing without the class.
    text = traceback.format_exception_only(exc)[0].strip()
    return printable(" ".join([text, *(f"({note})" for note in getattr(exc, "__notes__", ()))]))
