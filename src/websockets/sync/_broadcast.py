"""Broadcasts: send one message to many connections, without waiting.

May know: connections of this front-end. Must not know: which connections are left out, and the log lines about them:
``_session.broadcast`` decides that.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable
from typing import Any, Literal

from .._session.broadcast import TOO_SLOW, Broadcast
from ..protocol._prepared import PreparedMessage
from ..typing import DataLike
from .connection import Connection

__all__ = ["broadcast"]


def broadcast(
    connections: Iterable[Connection],
    message: DataLike | PreparedMessage,
    *,
    text: bool | None = None,
    raise_exceptions: bool = False,
    on_slow: Literal["send", "skip", "close"] = "send",
    max_buffered: int | None = None,
    **kwargs: Any,
) -> None:
    """Send a message to several connections, without waiting for any of them.

    What a socket doesn't take at once is sent later, in the background. Connections that aren't open are left out.
    Connections in the middle of a fragmented message, and connections to which writing fails, are also left out, with a
    line in the log at WARNING.

    Data that a slow peer doesn't read waits in memory. ``on_slow`` decides what happens to a connection with more than
    ``max_buffered`` bytes in its write buffer.

    Parameters:
        connections: the connections to send to.
        message: a ``str``, sent as text, or bytes, sent as binary; or a :class:`~websockets.PreparedMessage`.
        text: True to send bytes as text, False to send a ``str`` as binary; None to go by the type.
        raise_exceptions: True to raise errors at the end in a group, instead of logging them.
        on_slow: ``"send"`` to send to slow connections, too; ``"skip"`` to leave them out, which is counted in
            ``statistics.skipped`` and logged at WARNING, the first time and each time that the count has doubled;
            ``"close"`` to close them with code 1008 and the reason "too slow", which is logged at INFO.
        max_buffered: limit for the ``buffered_amount`` of a connection, in bytes; None for 32 KiB.
        **kwargs: arguments for a thread pool, which aren't needed any more.

    Raises:
        TypeError: the message has a type that can't be sent in one frame.
        ValueError: ``on_slow`` is none of the three values, or ``max_buffered`` is negative.
        ExceptionGroup: with ``raise_exceptions``, the errors of connections that were left out.
    """
    if kwargs:
        names = ", ".join(sorted(kwargs))
        warnings.warn(f"broadcast() needs no threads any more; ignored: {names}", DeprecationWarning, stacklevel=2)
    plan = Broadcast(message, text, raise_exceptions, on_slow, max_buffered)
    connection: Any  # a program may assign to buffered_amount, so this isn't a Recipient for strict checkers
    for connection in connections:
        try:
            closes = _give(connection, plan)
            if closes:
                connection._ws_start_closing(*TOO_SLOW)
            else:
                connection._ws_flush()
        except Exception as exc:
            plan.failed(exc, connection)
    plan.finish()


def _give(connection: Any, plan: Broadcast) -> bool:
    """Put the message into the outbox of a connection; return whether to close the connection, because it is slow."""
    with connection._ws_lock:
        if plan.watches and plan.is_slow(connection, connection._ws_life, connection._ws_outbox.full):
            return plan.leave_out(connection)
        in_line = connection._ws_fragmenting != 0
        frame = plan.frame(connection.protocol, connection._ws_life, in_line)
        if frame is not None:
            connection._ws_put_message(frame, plan.size)
    return False
