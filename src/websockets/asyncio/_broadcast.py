"""One message to many connections: encoded once, given to each without waiting.

May know: connections of this front-end. Must not know: what they are used for.
"""

from __future__ import annotations

import traceback
from collections.abc import Iterable

from .._accelerator import build_frame
from .._lifecycle import State
from .._messages import encode_message
from ..exceptions import ConcurrencyError
from ..protocol import FIN
from ..typing import BytesLike, DataLike
from ._loops import LoopState
from .connection import Connection

__all__ = ["broadcast"]

FRAGMENTED = "sending a fragmented message"

_OPEN = State.OPEN

# From so many bytes on, a message is compressed once for all connections that can share it. Compressed alone, a smaller
# one would take a lot more bytes than one that may refer to those before it: of JSON, 37 % instead of 27 % at 1 KB,
# 28 % instead of 24 % at 4 KB.
SHARE_FROM = 2**11


def broadcast(
    connections: Iterable[Connection], message: DataLike, *, text: bool | None = None, raise_exceptions: bool = False
) -> None:
    """Send a message to several connections, without waiting for any of them.

    A message is written at once; but when broadcasts follow each other closely, those to a connection share writes, for
    which they wait a few milliseconds at most.

    Connections that aren't open are left out. So are those in the middle of a fragmented message, and those that can't
    be written to, with a line at WARNING.

    Parameters:
        connections: to whom.
        message: a ``str``, sent as text, or bytes, sent as binary.
        text: True to send bytes as text, False to send a ``str`` as binary.
        raise_exceptions: whether to raise at the end what went wrong, instead of logging it.

    Raises:
        TypeError: the message has no type that can be sent in one frame.
        ExceptionGroup: with ``raise_exceptions``, what went wrong with connections that were left out.
    """
    encoded = encode_message(message, text)
    if encoded is None:
        raise TypeError("data must be str or bytes")
    frames = _Frames(*encoded)
    failures: list[Exception] = []
    shared: LoopState | None = None
    hold = False
    for connection in connections:
        if connection._life.state is not _OPEN:
            continue
        try:
            if connection.protocol._continuing:
                raise ConcurrencyError(FRAGMENTED)
            frame = frames.frame(connection)
            if shared is not connection._shared:
                shared = connection._shared
                hold = shared.begin_broadcast()
            if hold:
                connection._shared.hold(connection, frame)
            else:
                connection._put(frame)
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


class _Frames:
    """A message as frames, each made once for all connections that can share it: those of a server aren't masked.

    Parameters:
        opcode: opcode of the message.
        payload: payload of the message.
    """

    def __init__(self, opcode: int, payload: BytesLike) -> None:
        self._opcode = opcode
        self._payload = payload
        self._plain: bytes | None = None
        self._compressed: dict[object, bytes] = {}

    def frame(self, connection: Connection) -> bytes:
        """The frame for a connection, which must be sent."""
        if not connection._plain or connection._client:
            return connection.protocol._frame_message(self._opcode, self._payload)
        deflate = connection.protocol._deflate
        if deflate is None:
            if self._plain is None:
                self._plain = build_frame(self._opcode | FIN, self._payload, None)
            return self._plain
        if len(self._payload) < SHARE_FROM and not deflate.local_no_context_takeover:
            return connection.protocol._frame_message(self._opcode, self._payload)
        deflate._sent_alone()
        kind = deflate._kind
        frame = self._compressed.get(kind)
        if frame is None:
            frame = self._compressed[kind] = build_frame(*deflate._pack_alone(self._opcode | FIN, self._payload), None)
        return frame


def _unwritten(cause: Exception) -> RuntimeError:
    exc = RuntimeError("failed to write message")
    exc.__cause__ = cause
    return exc


def _described(exc: Exception) -> str:
    """An exception in one line; with thousands of connections nobody wants as many tracebacks."""
    return traceback.format_exception_only(exc)[-1].strip()
