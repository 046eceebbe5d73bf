"""Broadcasts: send one message to many connections, without waiting.

May know: connections of this front-end. Must not know: which connections are left out, and the log lines about them:
``_session.broadcast`` decides that.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Literal

from .._session.broadcast import TOO_SLOW, Broadcast
from ..protocol._prepared import PreparedMessage
from ..typing import DataLike
from ._loops import LoopState
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
) -> None:
    """Send a message to several connections, without waiting for any of them.

    The message is written at once. If broadcasts follow each other closely, several messages to a connection share one
    write, and wait for it a few milliseconds at most.

    Connections that aren't open are left out. Connections in the middle of a fragmented message, and connections to
    which writing fails, are also left out, with a line in the log at WARNING.

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
        max_buffered: limit for the ``buffered_amount`` of a connection, in bytes; None for its ``write_limit``.

    Raises:
        TypeError: the message has a type that can't be sent in one frame.
        ValueError: ``on_slow`` is none of the three values, or ``max_buffered`` is negative.
        ExceptionGroup: with ``raise_exceptions``, the errors of connections that were left out.
    """
    plan = Broadcast(message, text, raise_exceptions, on_slow, max_buffered)
    prepared, size, watches = plan.message, plan.size, plan.watches
    shared: LoopState | None = None
    held: set[Any] | None = None  # the connections with frames held back; None to write at once
    straight = False
    for connection in connections:
        if shared is not connection._ws_shared:
            shared = connection._ws_shared
            held = shared.begin_broadcast()
            straight = held is None and not watches
        try:
            # The fast path, as in ``send()``. SLOW is 0: the message wasn't sent.
            if straight and connection._ws_send_now(prepared, None):
                continue
            if watches:
                if _is_slow(connection, plan):
                    if plan.leave_out(connection):
                        connection._ws_start_closing(*TOO_SLOW)
                    continue
                if held is None and connection._ws_send_now(prepared, None):
                    continue
            in_line = connection._ws_send_lock is not None
            frame = plan.frame(connection.protocol, connection._ws_life, in_line)
            if frame is None:
                continue
            if held is None:
                connection._ws_put(frame, size)
            else:
                connection._ws_hold(frame, size)
                held.add(connection)
        except Exception as exc:
            plan.failed(exc, connection)
    plan.finish()


def _is_slow(connection: Connection, plan: Broadcast) -> bool:
    limit = plan.max_buffered
    quiet = connection._ws_write_waiters is None and not connection._ws_corked
    if quiet and (limit is None or limit >= connection._ws_write_limit[0]):
        # The transport has less than the write limit of the connection, so it need not be asked how much.
        return False
    if limit is not None and connection._ws_corked and connection.buffered_amount > limit:
        connection._ws_flush()
    return plan.is_slow(connection, connection._ws_life, connection._ws_write_waiters is not None)
