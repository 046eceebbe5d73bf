"""From the items of an iterable to the fragments of one message (RFC 6455 section 5.4).

May know: the protocol, the types of items, the first and the last frame, and the failure when the items end too early.
Must not know: how to wait for items, how frames are written.

A front-end iterates and waits::

    fragments = Fragmenter(protocol, first_item, text, compress)
    fragments.start()
    for item in items:
        fragments.add(item)
    fragments.finish()

After each step the front-end writes the output of the protocol. The last frame is empty, because items aren't held back
and an iterator doesn't tell which item is its last. The message begins with its first item. So an iterable without
items sends nothing, and a first item of a wrong type changes nothing.
"""

from __future__ import annotations

from collections.abc import AsyncIterable, Iterable
from typing import NamedTuple

from .._rules.messages import encode_item, refuse_mapping
from ..exceptions import advised
from ..frames import CloseCode
from ..protocol import Protocol
from ..protocol._port import check_sending, in_fragments

__all__ = ["Failure", "Fragmenter", "is_async"]


class Failure(NamedTuple):
    """How to fail a connection: the close code, the reason, and the cause."""

    code: int
    reason: str
    cause: Exception


def is_async(message: object, *, allowed: bool = True) -> bool:
    """Return whether the items of a message have to be awaited.

    Parameters:
        message: the message to send, which isn't a message in one piece.
        allowed: whether the front-end can await items.

    Raises:
        TypeError: ``message`` is a mapping, or not an iterable that the front-end can use.
    """
    refuse_mapping(message)
    if allowed and isinstance(message, AsyncIterable):
        return True
    if isinstance(message, Iterable):
        return False
    error = TypeError(f"data must be str, bytes, {'iterable, or async iterable' if allowed else 'or iterable'}")
    raise advised(error, f"it is of type {type(message).__name__}")


class Fragmenter:
    """One message in fragments.

    Parameters:
        protocol: protocol of the connection.
        first: the first item.
        text: True to send bytes as text, False to send a ``str`` as binary; None to go by the type of the first item.
        compress: whether to compress the message, if permessage-deflate was negotiated; None for the default.

    Raises:
        TypeError: the first item is neither ``str`` nor bytes.
    """

    __slots__ = ("_compress", "_is_str", "_payload", "_protocol", "_text")

    def __init__(self, protocol: Protocol, first: object, text: bool | None, compress: bool | None) -> None:
        self._protocol = protocol
        self._is_str, self._payload = encode_item(first, None)
        self._text = self._is_str if text is None else text
        self._compress = compress

    def start(self) -> None:
        """Send the first fragment.

        Raises:
            InvalidState: the connection isn't open.
            ProtocolError: another fragmented message has begun and not ended.
        """
        # Check this first, so that a connection that was lost during another message raises InvalidState.
        check_sending(self._protocol)
        send = self._protocol.send_text if self._text else self._protocol.send_binary
        payload, self._payload = self._payload, b""
        send(payload, False, compress=self._compress)

    def add(self, item: object) -> None:
        """Send the next fragment.

        Raises:
            TypeError: the item is neither ``str`` nor bytes, or doesn't have the type of the first item.
            InvalidState: the connection isn't open.
        """
        _, payload = encode_item(item, self._is_str)
        self._protocol.send_continuation(payload, False)

    def finish(self) -> None:
        """Send the last fragment, which is empty.

        Raises:
            InvalidState: the connection isn't open.
        """
        self._protocol.send_continuation(b"", True)

    def failure(self, exc: BaseException) -> Failure | None:
        """Return how the connection fails after sending was interrupted; None if it doesn't have to fail.

        A peer that received a part of a message can't process other messages, so the connection fails with code 1011.

        Parameters:
            exc: exception of the iterable, the front-end, or a cancellation.
        """
        # The message may have ended in the protocol, while its last fragment isn't written yet.
        if not (in_fragments(self._protocol) or self._protocol.writes):
            return None
        if not isinstance(exc, Exception):
            exc = ConnectionAbortedError("sending a fragmented message was cancelled")
        return Failure(CloseCode.INTERNAL_ERROR, "error in fragmented message", exc)
