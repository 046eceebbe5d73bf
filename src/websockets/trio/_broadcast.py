"""Broadcasts: send one message to many connections, without waiting for the network.

May know: connections of this front-end. Must not know: which connections are left out, and the log lines about them:
``_session.broadcast`` decides that.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

import trio

from .._session.broadcast import TOO_SLOW, Broadcast
from ..protocol._prepared import PreparedMessage
from ..typing import DataLike
from .connection import Connection

__all__ = ["broadcast"]


async def broadcast(
    connections: Iterable[Connection],
    message: DataLike | PreparedMessage,
    *,
    raise_exceptions: bool = False,
    text: bool | None = None,
    on_slow: Literal["send", "skip", "close"] = "send",
    max_buffered: int | None = None,
) -> None:
    """Send a message to several connections, without waiting until any of them takes it.

    Each connection gets as much as it takes at once, and the rest later. If this is cancelled, the message is sent to
    all connections or to none.

    Connections that aren't open are left out. Connections in the middle of a fragmented message are also left out, with
    a line in the log at WARNING.

    Data that a slow peer doesn't read waits in memory. ``on_slow`` decides what happens to a connection with more than
    ``max_buffered`` bytes in its write buffer.

    Parameters:
        connections: the connections to send to.
        message: a ``str``, sent as text, or bytes, sent as binary; or a :class:`~websockets.PreparedMessage`.
        raise_exceptions: True to raise errors at the end in a group, instead of logging them.
        text: True to send bytes as text, False to send a ``str`` as binary; None to go by the type.
        on_slow: ``"send"`` to send to slow connections, too; ``"skip"`` to leave them out, which is counted in
            ``statistics.skipped`` and logged at WARNING, the first time and each time that the count has doubled;
            ``"close"`` to close them with code 1008 and the reason "too slow", which is logged at INFO.
        max_buffered: limit for the ``buffered_amount`` of a connection, in bytes; None for 32 KiB.

    Raises:
        TypeError: the message has a type that can't be sent in one frame.
        ValueError: ``on_slow`` is none of the three values, or ``max_buffered`` is negative.
        ExceptionGroup: with ``raise_exceptions``, the errors of connections that were left out.
    """
    plan = Broadcast(message, text, raise_exceptions, on_slow, max_buffered)
    await trio.lowlevel.checkpoint()
    reached = [connection for connection in connections if _give(connection, plan)]
    written = 0
    try:
        for connection in reached:
            await connection._ws_write_now()
            written += 1
    finally:
        for connection in reached[written:]:
            connection._ws_write_soon()
    plan.finish()


def _give(connection: Connection, plan: Broadcast) -> bool:
    """Put a message into the write buffer of a connection; return whether there is something to write."""
    life, wire = connection._ws_session.port.life, connection._ws_wire
    try:
        if plan.watches and plan.is_slow(connection, life, wire.outbox.full):
            closes = plan.leave_out(connection)
            if closes:
                connection._ws_begin_closing(*TOO_SLOW)
            return closes
        frame = plan.frame(connection.protocol, life, connection._ws_send_lock is not None)
        if frame is not None:
            connection._ws_count(frame, plan.size)
            connection._ws_put([frame])
    except Exception as exc:
        plan.failed(exc, connection)
        return False
    return frame is not None
