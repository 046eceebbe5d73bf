"""Frames by themselves, as programs that read or write their own had them before 14.0: RFC 6455 section 5.

May know: frames and how they are written down. Must not know: connections. Nothing in this package uses it.
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

# Nothing is exported: programs import each by its name.
__all__: list[str] = []


class Frame(NamedTuple):
    """A frame; today :class:`websockets.frames.Frame`.

    Parameters:
        fin: whether it is the last one of its message.
        opcode: what it is.
        data: its payload.
        rsv1, rsv2, rsv3: reserved bits, which extensions use.
    """

    fin: bool
    opcode: Opcode
    data: BytesLike
    rsv1: bool = False
    rsv2: bool = False
    rsv3: bool = False

    @property
    def new_frame(self) -> frames.Frame:
        """The same as a frame of today."""
        return frames.Frame(Opcode(self.opcode), self.data, self.fin, self.rsv1, self.rsv2, self.rsv3)

    @classmethod
    def _of(cls, frame: frames.Frame) -> Frame:
        return cls(frame.fin, frame.opcode, frame.data, frame.rsv1, frame.rsv2, frame.rsv3)

    def __str__(self) -> str:
        return str(self.new_frame)

    def check(self) -> None:
        """Check the reserved bits, the opcode and, of a control frame, its size.

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
        """Read a frame, and nothing of what follows it.

        Parameters:
            reader: coroutine function that reads as many bytes as it is told, such as ``StreamReader.readexactly``.
            mask: whether the frame must be masked, as those of clients are, or must not be.
            max_size: limit of the payload in bytes; None for no limit.
            extensions: extensions to decode it with, from the last to the first.

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
        """Write the frame.

        Parameters:
            write: function that writes bytes.
            mask: whether to mask it, as clients do.
            extensions: extensions to encode it with, from the first to the last.

        Raises:
            ProtocolError: the frame breaks a rule.
        """
        self.check()
        write(self.new_frame.serialize(mask=mask, extensions=extensions))


def prepare_data(data: DataLike) -> tuple[int, BytesLike]:
    """Tell the opcode and the payload of a message.

    Parameters:
        data: the message: a ``str``, or bytes.

    Raises:
        TypeError: it is neither.
    """
    if isinstance(data, str):
        return Opcode.TEXT, data.encode()
    if isinstance(data, bytes | bytearray | memoryview):
        return Opcode.BINARY, data
    raise TypeError("data must be str or bytes-like")


def prepare_ctrl(data: DataLike) -> bytes:
    """Make the payload of a ping or a pong.

    Parameters:
        data: the payload: a ``str``, or bytes.

    Raises:
        TypeError: it is neither.
    """
    return control_payload(data)


encode_data = prepare_ctrl


def parse_close(data: bytes) -> tuple[int, str]:
    """Read the payload of a Close.

    Parameters:
        data: the payload.

    Returns:
        The close code and the reason.

    Raises:
        ProtocolError: it is too short, or the code isn't one that may be sent.
        UnicodeDecodeError: the reason isn't UTF-8.
    """
    close = Close.parse(data)
    return close.code, close.reason


def serialize_close(code: int, reason: str) -> bytes:
    """Make the payload of a Close.

    Parameters:
        code: the close code.
        reason: text for humans.

    Raises:
        ProtocolError: the code isn't one that may be sent.
    """
    return Close(code, reason).serialize()
