"""Messages that are encoded once for many connections (RFC 6455 section 5, RFC 7692 section 7.2.1).

May know: how a protocol makes a frame, and which protocols make the same one. Must not know: the connections, and how
they send the frame.

Frames of a server aren't masked, so connections with the same encoding can share one. A message that is compressed
alone, without a reference to earlier ones, can be decompressed by any peer whose window is large enough.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Final

from .._codec import Encoded, build_frame, new_mask
from .._codec.header import FIN, OPCODE_TEXT
from .._rules.lifecycle import Side
from .._rules.messages import encode_message
from ..typing import BytesLike, DataLike

if TYPE_CHECKING:
    from ..extensions.permessage_deflate import PerMessageDeflate
    from . import Protocol

__all__ = ["PreparedMessage", "content_of", "frame_for", "frame_of", "prepare", "size_of"]

# Types of messages in one piece.
_IN_ONE_PIECE: Final = (str, bytes, bytearray, memoryview)


class PreparedMessage(Encoded):
    """A message that is encoded and compressed once for several connections.

    ``send()`` and ``broadcast()`` accept it as a message. With compression, it is compressed without reference to
    earlier messages, and so is the next message on the connection. This takes more bytes, and less time.

    Parameters:
        data: a ``str``, sent as text, or bytes, sent as binary.
        text: True to send bytes as text, False to send a ``str`` as binary; None to go by the type.

    Raises:
        TypeError: ``data`` is neither ``str`` nor bytes.
    """

    __slots__ = ("_alone_from", "_compressed", "_opcode", "_payload")

    def __init__(self, data: DataLike, *, text: bool | None = None) -> None:
        encoded = encode_message(data, text)
        if encoded is None:
            raise TypeError("data must be str or bytes")
        opcode, payload = encoded
        self._opcode = opcode
        # Copy data that may change later. For bytes, calling bytes() would only take time.
        self._payload: BytesLike = payload if type(payload) is bytes else bytes(payload)
        self._size = len(self._payload)
        # In bytes: connections with context takeover compress smaller messages each for itself, with references to
        # earlier messages.
        self._alone_from = 0
        self._plain = None
        self._compressed: dict[object, tuple[int, BytesLike, bytes]] = {}

    def __repr__(self) -> str:
        kind = "text" if self._opcode == OPCODE_TEXT else "binary"
        return f"<PreparedMessage: {kind}, {self._size} bytes>"


def prepare(message: object, text: bool | None, alone_from: int = sys.maxsize) -> PreparedMessage | None:
    """Return a message in one piece as a prepared message; None if it isn't in one piece.

    Parameters:
        message: the message to send.
        text: whether to send it as text; None to go by its type.
        alone_from: size in bytes; connections with context takeover compress a smaller message each for itself, unless
            the user has prepared it.

    Raises:
        TypeError: ``text`` is given for a prepared message.
    """
    if isinstance(message, PreparedMessage):
        if text is not None:
            raise TypeError("text must be given to PreparedMessage, not with it")
        return message
    if not isinstance(message, _IN_ONE_PIECE):
        return None
    # Most calls don't set text, and a keyword argument takes longer.
    prepared = PreparedMessage(message) if text is None else PreparedMessage(message, text=text)
    prepared._alone_from = alone_from
    return prepared


def frame_for(protocol: Protocol, message: PreparedMessage, compress: bool | None = None) -> bytes:
    """Return the frame of a message for a connection, which must be sent.

    Parameters:
        protocol: protocol of the connection.
        message: the message.
        compress: whether to compress it; None to go by the threshold of the connection.

    Raises:
        ProtocolError: a fragmented message has begun and not ended.
        InvalidState: the connection isn't open.
    """
    if protocol.extensions and protocol._deflate is None:
        protocol._find_deflate()
    deflate = protocol._deflate
    if protocol.debug or (deflate is None and protocol.extensions):
        return protocol._frame_message(message._opcode, message._payload, compress)
    if deflate is not None and deflate._compresses(message._size, compress):
        return _compressed_frame(protocol, message, deflate)
    if protocol.side is Side.CLIENT:
        return protocol._frame_message(message._opcode, message._payload, compress)
    protocol._check_sending()
    if message._plain is None:
        message._plain = build_frame(message._opcode | FIN, message._payload, None)
    return message._plain


def frame_of(protocol: Protocol, message: object, text: bool | None, compress: bool | None) -> tuple[bytes, int] | None:
    """Return the frame of a message in one piece for one connection, which must be sent, and the size of the message.

    Parameters:
        protocol: protocol of the connection.
        message: the message to send; it may be prepared.
        text: whether to send it as text; None to go by its type.
        compress: as for :func:`frame_for`.

    Returns:
        The frame and the size in bytes; None if the message isn't in one piece.

    Raises:
        TypeError: ``text`` is given for a prepared message.
        ProtocolError, InvalidState: as for :func:`frame_for`.
    """
    encoded = encode_message(message, text)
    if encoded is not None:
        return protocol._frame_message(encoded[0], encoded[1], compress), len(encoded[1])
    prepared = prepare(message, text)
    return None if prepared is None else (frame_for(protocol, prepared, compress), prepared._size)


def _compressed_frame(protocol: Protocol, message: PreparedMessage, deflate: PerMessageDeflate) -> bytes:
    if message._size < message._alone_from and not deflate.local_no_context_takeover:
        return protocol._frame_message(message._opcode, message._payload, True)
    protocol._check_sending()
    made = message._compressed.get(deflate._kind)
    if made is None:
        head, payload = deflate._pack_alone(message._opcode | FIN, message._payload)
        made = message._compressed[deflate._kind] = head, payload, build_frame(head, payload, None)
    deflate._start_anew()
    head, payload, frame = made
    return build_frame(head, payload, new_mask()) if protocol.side is Side.CLIENT else frame


def size_of(message: PreparedMessage) -> int:
    """Return the size of a message in bytes before compression."""
    return message._size


def content_of(message: PreparedMessage) -> tuple[int, BytesLike]:
    """Return the opcode and the payload of a message."""
    return message._opcode, message._payload
