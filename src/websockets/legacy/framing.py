"""Frames for programs that read or write them directly, as before 14.0: RFC 6455 section 5.

May know: frames and their bytes. Must not know: connections. Nothing in this package uses this module.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any, NamedTuple

from .. import frames
from .._codec import apply_mask
from .._codec.header import LENGTH_16, LENGTH_MASK, MASK_BIT, MAX_CONTROL_PAYLOAD, MAX_LENGTH_7, is_control
from .._session.session import control_payload
from ..exceptions import PayloadTooBig, ProtocolError
from ..extensions.base import Extension, decode_through
from ..frames import Close, Opcode
from ..typing import BytesLike, DataLike

# Nothing is exported, because programs import each name explicitly.
__all__: list[str] = []


class Frame(NamedTuple):
    """A frame; replaced by :class:`websockets.frames.Frame`.

    Parameters:
        fin: whether it is the last frame of its message.
        opcode: type of the frame.
        data: payload.
        rsv1, rsv2, rsv3: reserved bits, which extensions use; False by default.
    """

    fin: bool
    opcode: Opcode
    data: BytesLike
    rsv1: bool = False
    rsv2: bool = False
    rsv3: bool = False

    @property
    def new_frame(self) -> frames.Frame:
        """Return the same frame as a :class:`websockets.frames.Frame`."""
        return frames.Frame(Opcode(self.opcode), self.data, self.fin, self.rsv1, self.rsv2, self.rsv3)

    @classmethod
    def _of(cls, frame: frames.Frame) -> Frame:
        return cls(frame.fin, frame.opcode, frame.data, frame.rsv1, frame.rsv2, frame.rsv3)

    def __str__(self) -> str:
        return str(self.new_frame)

    def check(self) -> None:
        """Check the reserved bits, the opcode, and the size of a control frame (RFC 6455 section 5.2).

        Raises:
            ProtocolError: one of them is wrong.
        """
        try:
            frame = self.new_frame
        except ValueError as exc:
            raise ProtocolError("invalid opcode") from exc
        frame.check()

    @classmethod
    async def read(
        cls,
        reader: Callable[[int], Awaitable[bytes]],
        *,
        mask: bool,
        max_size: int | None = None,
        extensions: Sequence[Extension] | None = None,
    ) -> Frame:
        """Read one frame, and no byte after it (RFC 6455 section 5.2).

        Parameters:
            reader: coroutine function that reads a given number of bytes, such as ``StreamReader.readexactly``.
            mask: True if the frame must be masked, as those of clients are; False if it must not.
            max_size: limit of the payload in bytes; None (the default) for no limit.
            extensions: extensions that decode the frame, from the last to the first; None (the default) for none.

        Raises:
            ProtocolError: the frame breaks a rule.
            PayloadTooBig: the payload is too large.
        """
        head, size = await reader(2)
        if bool(size & MASK_BIT) is not mask:
            raise ProtocolError("incorrect masking")
        size &= LENGTH_MASK
        if is_control(head) and size > MAX_CONTROL_PAYLOAD:
            raise ProtocolError("control frame too long")
        if size > MAX_LENGTH_7:
            size = int.from_bytes(await reader(2 if size == LENGTH_16 else 8), "big")
        if max_size is not None and size > max_size:
            raise PayloadTooBig(size, max_size)
        key = await reader(4) if mask else None
        data = await reader(size)
        if key is not None:
            data = apply_mask(data, key)
        try:
            frame = frames.Frame.from_head(head, data)
        except ValueError as exc:
            raise ProtocolError("invalid opcode") from exc
        return cls._of(decode_through(extensions or (), frame, max_size))

    def write(
        self, write: Callable[[bytes], Any], *, mask: bool, extensions: Sequence[Extension] | None = None
    ) -> None:
        """Write the frame (RFC 6455 section 5.2).

        Parameters:
            write: function that writes bytes.
            mask: whether to mask the frame, as clients do.
            extensions: extensions that encode the frame, from the first to the last; None (the default) for none.

        Raises:
            ProtocolError: the frame breaks a rule.
        """
        self.check()
        write(self.new_frame.serialize(mask=mask, extensions=extensions))


def prepare_data(data: DataLike) -> tuple[int, BytesLike]:
    """Return the opcode and the payload of a message.

    Parameters:
        data: the message: a ``str``, or bytes.

    Raises:
        TypeError: the message is neither.
    """
    if isinstance(data, str):
        return Opcode.TEXT, data.encode()
    if isinstance(data, bytes | bytearray | memoryview):
        return Opcode.BINARY, data
    raise TypeError("data must be str or bytes-like")


def prepare_ctrl(data: DataLike) -> bytes:
    """Return the payload of a ping or a pong as bytes.

    Parameters:
        data: the payload: a ``str``, or bytes.

    Raises:
        TypeError: the payload is neither.
    """
    return control_payload(data)


encode_data = prepare_ctrl


def parse_close(data: bytes) -> tuple[int, str]:
    """Read the payload of a Close (RFC 6455 section 5.5.1).

    Parameters:
        data: the payload.

    Returns:
        The close code and the reason.

    Raises:
        ProtocolError: the payload is too short, or the code must not be sent.
        UnicodeDecodeError: the reason isn't UTF-8.
    """
    close = Close.parse(data)
    return close.code, close.reason


def serialize_close(code: int, reason: str) -> bytes:
    """Return the payload of a Close (RFC 6455 section 5.5.1).

    Parameters:
        code: the close code.
        reason: text for humans.

    Raises:
        ProtocolError: the code must not be sent.
    """
    return Close(code, reason).serialize()
