"""One message to many connections: encoded once, given to each without waiting.

May know: connections of this front-end. Must not know: what they are used for.
"""

from __future__ import annotations

import traceback
from collections.abc import Callable, Iterable
from typing import Literal

from .._rules.lifecycle import State
from .._rules.option_table import BROADCAST, check
from .._session.prepared import PreparedMessage, prepare
from ..exceptions import ConcurrencyError
from ..frames import CloseCode
from ..typing import DataLike
from ._fastpath._readable import SLOW
from ._loops import LoopState
from .connection import Connection

__all__ = ["broadcast"]

FRAGMENTED = "sending a fragmented message"

_OPEN = State.OPEN

# From so many bytes on, a message is compressed alone, once for all connections that can share it. A smaller one would
# then take a lot more bytes than one that may refer to those before it: of JSON, 37 % instead of 27 % at 1 KB, 28 %
# instead of 24 % at 4 KB.
ALONE_FROM = 2**11


def broadcast(
    connections: Iterable[Connection],
    message: DataLike | PreparedMessage,
    *,
    text: bool | None = None,
    raise_exceptions: bool = False,
    on_slow: Literal["send", "skip", "close"] = "send",
    max_buffered: int | None = None,
) -> None:
    """Send a message to several connections, without waiting for any of them.

    A message is written at once; but when broadcasts follow each other closely, those to a connection share writes, for
    which they wait a few milliseconds at most.

    Connections that aren't open are left out. So are those in the middle of a fragmented message, and those that can't
    be written to, with a line at WARNING.

    What a peer doesn't take in time waits in memory. ``on_slow`` says what becomes of a connection for which more than
    ``max_buffered`` bytes wait already.

    Parameters:
        connections: to whom.
        message: a ``str``, sent as text, or bytes, sent as binary; or a :class:`~websockets.PreparedMessage`.
        text: True to send bytes as text, False to send a ``str`` as binary.
        raise_exceptions: whether to raise at the end what went wrong, instead of logging it.
        on_slow: ``"send"`` to send to slow connections as to others; ``"skip"`` to leave them out, which is counted in
            ``statistics.skipped`` and logged at WARNING, the first time and each time that the count has doubled;
            ``"close"`` to close them with code 1008 and the reason "too slow", which is logged at INFO.
        max_buffered: limit for the ``buffered_amount`` of a connection, in bytes; None for its ``write_limit``.

    Raises:
        TypeError: the message has no type that can be sent in one frame.
        ValueError: ``on_slow`` is none of the three, or ``max_buffered`` is negative.
        ExceptionGroup: with ``raise_exceptions``, what went wrong with connections that were left out.
    """
    prepared = prepare(message, text, ALONE_FROM)
    if prepared is None:
        raise TypeError("data must be str or bytes")
    if on_slow not in _WHEN_SLOW:
        raise ValueError(f"on_slow must be 'send', 'skip' or 'close', not {on_slow!r}")
    if max_buffered is not None:
        max_buffered = check("max_buffered", max_buffered, BROADCAST)
    when_slow, size = _WHEN_SLOW[on_slow], prepared._size
    failures: list[Exception] = []
    shared: LoopState | None = None
    hold = straight = False
    for connection in connections:
        if shared is not connection._shared:
            shared = connection._shared
            hold = shared.begin_broadcast()
            straight = not hold and when_slow is None
        try:
            if straight and connection._send_now(prepared, None):
                continue  # it isn't SLOW, which is 0
            if connection._life.state is not _OPEN:
                continue
            if when_slow is not None:
                if _is_slow(connection, max_buffered):
                    when_slow(connection)
                    continue
                if not hold and connection._send_now(prepared, None) != SLOW:
                    continue
            if connection._life.continuing or connection._send_lock is not None:
                raise ConcurrencyError(FRAGMENTED)
            frame = prepared._frame(connection.protocol)
            if hold:
                connection._shared.hold(connection, frame, size)
            else:
                connection._put(frame, size)
        except ConcurrencyError as exc:
            failures.append(exc)
            if not raise_exceptions:
                connection.logger.warning("skipped broadcast: %s", exc)
        except Exception as exc:
            failures.append(_unwritten(exc))
            if not raise_exceptions:
                connection.logger.warning("skipped broadcast: failed to write message: %s", _described(exc))
    if raise_exceptions and failures:
        raise ExceptionGroup("skipped broadcast", failures)


def _is_slow(connection: Connection, max_buffered: int | None) -> bool:
    if max_buffered is None:
        return connection._drainers is not None
    if connection.buffered_amount > max_buffered and connection._corked:
        # What was held back for the sake of fewer writes is no sign of slowness.
        connection._flush()
    return connection.buffered_amount > max_buffered


def _skip(connection: Connection) -> None:
    tally = connection.protocol._count()
    tally.skipped += 1
    # Each of thousands of messages to each of thousands of peers would be news to nobody.
    if not tally.skipped & (tally.skipped - 1):
        connection.logger.warning(
            "skipped broadcast: too slow, %d bytes wait; %d skipped until now",
            connection.buffered_amount,
            tally.skipped,
        )


def _close(connection: Connection) -> None:
    connection.logger.info("closing connection: too slow, %d bytes wait", connection.buffered_amount)
    connection._start_closing(CloseCode.POLICY_VIOLATION, "too slow")


_WHEN_SLOW: dict[str, Callable[[Connection], None] | None] = {"send": None, "skip": _skip, "close": _close}


def _unwritten(cause: Exception) -> RuntimeError:
    exc = RuntimeError("failed to write message")
    exc.__cause__ = cause
    return exc


def _described(exc: Exception) -> str:
    """An exception in one line; with thousands of connections nobody wants as many tracebacks."""
    return traceback.format_exception_only(exc)[-1].strip()
