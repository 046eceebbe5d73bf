"""The codec of permessage-deflate: RFC 7692 section 7.2.

May know: frames, zlib. Must not know: which library takes its place, connections, how the parameters were negotiated,
the length of a message beyond the limit given with each frame.

A connection has two zlib streams. Each is created with the first compressed message in its direction, so an idle
connection has none.

The end of a compressed message is the difficult part. The sender removes ``00 00 ff ff``, and the receiver adds it
again. There are three cases that zlib doesn't report by itself:

- The message is cut off inside a block. zlib waits for the rest, and would take it from the next message. Therefore
  empty blocks are fed after the end of a message. Between two blocks they have no effect; inside a block they are
  invalid, and cause an error, output, or the end of the stream.
- A block has BFINAL set (section 7.2.3.4). This ends the stream for zlib, but not for RFC 7692: the next block starts
  at the next byte, in the same message or in the next one, and may refer to earlier output. A new stream continues,
  with the last 2**bits bytes of output as its dictionary. zlib doesn't give access to them, so they are kept here, but
  only while the peer sets BFINAL in every message: a peer that flushes in this way does so from its first message on.
  Most of these peers begin a new stream afterwards, as zlib does after ``Z_FINISH``. Other connections have no cost.
- The output of a message has no limit. Each call of zlib gets a limit of one byte more than is allowed. Less output
  than that means that all input was used, so nothing is ever left in ``unconsumed_tail``.
"""

from __future__ import annotations

import sys
import zlib
from collections.abc import Mapping
from typing import Any

from .._codec.header import CONTROL_BIT, FIN, OPCODE_CONT, OPCODE_MASK, RSV1
from ..exceptions import PayloadTooBig, ProtocolError
from ..frames import CONT, CTRL_OPCODES, Frame
from ..typing import BytesLike, ExtensionName
from ._libraries import ERRORS, LARGE_FROM, inflater, large_compressor
from .base import Extension

__all__ = ["PerMessageDeflate"]

NAME = ExtensionName("permessage-deflate")

# Window sizes, as powers of two of bytes (RFC 7692 section 7.1.2).
MIN_BITS, MAX_BITS = 8, 15

# The smallest window that zlib offers. Its output also fits a window of 8 bits: zlib never uses the farthest 262 bytes
# of a window, which it needs for the longest match and the next search. So it uses 250 of 512 bytes, fewer than 256.
MIN_ZLIB_BITS = 9


def check_bits(name: str, bits: int | None) -> None:
    """Raise ``ValueError`` if a window is out of range."""
    if bits is not None and not MIN_BITS <= bits <= MAX_BITS:
        raise ValueError(f"{name} must be between {MIN_BITS} and {MAX_BITS}, not {bits}")


def check_settings(settings: Mapping[str, Any] | None, bits_name: str) -> None:
    """Raise ``ValueError`` if settings for zlib include one that a parameter of the extension determines."""
    if settings is not None and "wbits" in settings:
        raise ValueError(f"compress_settings must not include wbits, set {bits_name} instead")


def check_threshold(threshold: int | None) -> None:
    """Raise ``ValueError`` if the size from which messages are compressed is negative."""
    if threshold is not None and threshold < 0:
        raise ValueError(f"threshold must not be negative, not {threshold}")


# The end of each flush: the two length fields of an empty block without compression. The sender removes it from the end
# of a message.
TAIL = b"\x00\x00\xff\xff"
# Empty blocks that show whether a message ended between two blocks, see above. If the message is cut in the header of
# a block with dynamic codes, zlib needs the most of them to find the error: up to 23 for headers that zlib writes. Of
# messages cut at random, one in 100,000 isn't noticed, because some of these bytes complete its block, and the rest
# are empty blocks. That message is then wrong, but none after it.
PROBE = b"\x00\x00\x00\xff\xff" * 32
MESSAGE_END = TAIL + PROBE

# After a block with BFINAL, try this number of bytes, then twice as many, and so on, until the next such block. To try
# all bytes at once would copy all of them again for each block.
FIRST_STEP = 64

# Larger limits can't be passed to zlib, and exceed any memory.
NO_LIMIT = sys.maxsize


class TruncatedMessage(ProtocolError):
    """A compressed message ends in the middle of a block (RFC 7692 section 7.2.2)."""

    close_code = 1007

    def __init__(self) -> None:
        super().__init__("compressed message is cut off in the middle of a block")


def _max_length(max_size: int | None) -> int:
    """Return the limit for a call of zlib, 0 for none: one more byte than allowed shows that the limit is exceeded."""
    if max_size is None or max_size >= NO_LIMIT:
        return 0
    return max_size + 1 if max_size > 0 else 1


class PerMessageDeflate(Extension):
    """permessage-deflate in use on one connection (RFC 7692 section 7).

    :meth:`encode` and :meth:`decode` change frames, as every extension does. :meth:`compress` and :meth:`decompress`
    are for callers that handle RSV1, the threshold and the order of frames themselves.

    Parameters:
        remote_no_context_takeover: whether the peer compresses each message without reference to earlier ones.
        local_no_context_takeover: whether this side compresses each message without reference to earlier ones.
        remote_max_window_bits: the peer's window, 8 to 15, as a power of two of bytes.
        local_max_window_bits: the window of this side, 8 to 15.
        compress_settings: keyword arguments of :func:`zlib.compressobj`, without ``wbits``; None for its defaults.
        threshold: size in bytes from which messages are compressed; fragmented messages are always compressed; 0 by
            default.

    Raises:
        ValueError: a window or the threshold is out of range, or ``compress_settings`` includes ``wbits``.
    """

    __slots__ = (
        "_compressed",
        "_compressor",
        "_decompressor",
        "_finished",
        "_grown",
        "_kind_known",
        "_made",
        "_packing",
        "_pending",
        "_window",
        "compress_settings",
        "local_max_window_bits",
        "local_no_context_takeover",
        "remote_max_window_bits",
        "remote_no_context_takeover",
        "threshold",
    )

    name = NAME

    def __init__(
        self,
        remote_no_context_takeover: bool,
        local_no_context_takeover: bool,
        remote_max_window_bits: int,
        local_max_window_bits: int,
        compress_settings: dict[str, Any] | None = None,
        *,
        threshold: int = 0,
    ) -> None:
        check_bits("remote_max_window_bits", remote_max_window_bits)
        check_bits("local_max_window_bits", local_max_window_bits)
        check_settings(compress_settings, "local_max_window_bits")
        check_threshold(threshold)
        self.remote_no_context_takeover = remote_no_context_takeover
        self.local_no_context_takeover = local_no_context_takeover
        self.remote_max_window_bits = remote_max_window_bits
        self.local_max_window_bits = local_max_window_bits
        self.compress_settings = {} if compress_settings is None else compress_settings
        self.threshold = threshold
        self._kind_known: tuple[object, ...] | None = None
        # Whether the current fragmented message that is sent is compressed.
        self._packing = True
        # For decode(): whether the current message that is received is compressed.
        self._compressed = False
        self.release()

    def __repr__(self) -> str:
        return (
            f"PerMessageDeflate(remote_no_context_takeover={self.remote_no_context_takeover}, "
            f"local_no_context_takeover={self.local_no_context_takeover}, "
            f"remote_max_window_bits={self.remote_max_window_bits}, "
            f"local_max_window_bits={self.local_max_window_bits})"
        )

    def release(self) -> None:
        """Delete both streams and free their memory. Call it when the connection closes."""
        self._compressor: zlib._Compress | None = None
        # Whether the compressor isn't replaced for a large message: it is for large ones, or there is no better one.
        self._grown = False
        self._made = 0  # number of compressions so far, by this compressor or another one
        self._decompressor: zlib._Decompress | None = None
        # Whether the current message has bytes, so that the removed tail must be added at its end.
        self._pending = False
        # Whether the current message had a block with BFINAL.
        self._finished = False
        # The last bytes of output, as long as a new stream may need them.
        self._window: bytearray | None = None

    # Frames.

    def encode(self, frame: Frame) -> Frame:
        """Compress a data frame; leave a control frame and a small message as they are (RFC 7692 section 6.1).

        Parameters:
            frame: a frame; fragments of a message must come in order.

        Returns:
            The frame to send, with RSV1 set if it is the first of a compressed message.
        """
        if frame.opcode in CTRL_OPCODES:
            return frame
        if frame.fin and frame.opcode != CONT and len(frame.data) < self.threshold:
            return frame
        payload = self.compress(frame.data, frame.fin)
        return Frame(frame.opcode, payload, frame.fin, frame.opcode != CONT, frame.rsv2, frame.rsv3)

    def pack(self, head: int, data: BytesLike, compress: bool | None = None) -> tuple[int, BytesLike]:
        """Do what :meth:`encode` does, for a caller that doesn't use :class:`Frame`.

        Parameters:
            head: the first byte of a frame; fragments of a message must come in order.
            data: its payload.
            compress: whether to compress the message, decided with its first frame; None (the default) to let the
                threshold decide.

        Returns:
            The first byte and the payload to send.
        """
        if head & FIN and head & CONTROL_BIT == 0 and head & OPCODE_MASK != OPCODE_CONT:
            if self._compresses(len(data), compress):
                return head | RSV1, self.compress(data)
            return head, data
        return self._pack_fragment(head, data, compress)

    def _pack_fragment(self, head: int, data: BytesLike, compress: bool | None) -> tuple[int, BytesLike]:
        if head & CONTROL_BIT:
            return head, data
        first = head & OPCODE_MASK != OPCODE_CONT
        if first:
            # The first fragment doesn't tell the size of the message, so the threshold can't be applied.
            self._packing = compress is not False
        if not self._packing:
            return head, data
        return head | RSV1 if first else head, self.compress(data, head & FIN != 0)

    def _compresses(self, size: int, compress: bool | None) -> bool:
        """Return whether to compress a message of ``size`` bytes in one frame."""
        return size >= self.threshold if compress is None else compress

    # One message for many connections. If it is compressed without reference to earlier messages, any peer with a large
    # enough window can inflate it. But it enters that peer's window, and the connection's compressor doesn't know it.

    @property
    def _kind(self) -> tuple[object, ...]:
        """Settings of the compressor; connections with equal settings may share a message compressed alone."""
        if self._kind_known is None:
            self._kind_known = self.local_max_window_bits, *sorted(self.compress_settings.items())
        return self._kind_known

    def _pack_alone(self, head: int, data: BytesLike) -> tuple[int, BytesLike]:
        """Compress an unfragmented message alone, so that any connection of this kind may send it."""
        compressor, _ = self._fitting(None, len(data))
        start = compressor.compress(data)
        return head | RSV1, start + compressor.flush(zlib.Z_SYNC_FLUSH)[: -len(TAIL)]

    def _start_anew(self) -> None:
        """Start a new compressor, so that the next message doesn't refer to earlier ones.

        This is necessary after a message that was compressed alone, or that was compressed and can't be sent.
        """
        self._compressor = None
        self._made += 1

    def decode(self, frame: Frame, *, max_size: int | None = None) -> Frame:
        """Inflate a data frame of a compressed message; leave any other frame as it is (RFC 7692 section 6.2).

        Parameters:
            frame: a frame; fragments of a message must come in order.
            max_size: limit of the inflated payload, in bytes; None (the default) for no limit.

        Returns:
            The frame to deliver.

        Raises:
            PayloadTooBig: the inflated payload would exceed ``max_size``.
            ProtocolError: the payload can't be inflated, or RSV1 is set on a continuation frame.
        """
        if frame.opcode in CTRL_OPCODES:
            return frame
        if frame.opcode != CONT:
            self._compressed = frame.rsv1
        elif frame.rsv1:
            raise ProtocolError("reserved bits must be 0")
        if not self._compressed:
            return frame
        payload = self.decompress(frame.data, frame.fin, max_size)
        return Frame(frame.opcode, payload, frame.fin, False, frame.rsv2, frame.rsv3)

    # Payloads.

    def compress(self, data: BytesLike, fin: bool = True) -> bytes:
        """Compress a message, or a fragment of one (RFC 7692 section 7.2.1).

        Parameters:
            data: the content of the message or of the fragment.
            fin: whether the message ends here; True by default.

        Returns:
            The payload to send.
        """
        # The attribute is None while the compressor works. If compressing fails, this compressor isn't used again,
        # because it knows data that the peer will never get. A signal handler may send another message during the call.
        # The peer gets that message first, so this one is compressed again with a new compressor.
        while True:
            made, compressor, self._compressor = self._made, self._compressor, None
            if compressor is None or (len(data) >= LARGE_FROM and not self._grown):
                compressor, self._grown = self._fitting(compressor, len(data))
            start, end = compressor.compress(data), compressor.flush(zlib.Z_SYNC_FLUSH)
            if made == self._made:
                break
        self._made += 1
        if not fin or not self.local_no_context_takeover:
            self._compressor = compressor
        if not fin:
            return start + end
        # The flush returns the whole tail, so the start needn't be copied to remove it. A flush without new data also
        # returns a tail: an empty message is one byte (section 7.2.3.6).
        return start + end[: -len(TAIL)]

    def decompress(self, data: BytesLike, fin: bool = True, max_size: int | None = None) -> bytes:
        """Inflate a compressed message, or a fragment of one (RFC 7692 section 7.2.2).

        Parameters:
            data: the payload received.
            fin: whether the message ends here; True by default.
            max_size: limit of the content, in bytes; nothing beyond it is inflated. None (the default) for no limit.

        Returns:
            The content of the message or of the fragment.

        Raises:
            PayloadTooBig: the content would exceed ``max_size``.
            ProtocolError: the payload can't be inflated. If the message is cut off, the ``close_code`` of the exception
                is 1007.
        """
        stream = self._decompressor
        try:
            if stream is None or not data or not fin or self._window is not None:
                return self._decompress(data, fin, max_size)
            # The common case: the message ends here, its stream exists, and the peer doesn't use BFINAL. These lines do
            # what _decompress() does, without its function calls.
            bound = max_size + 1 if max_size is not None and 0 < max_size < NO_LIMIT else _max_length(max_size)
            payload = stream.decompress(data, bound)
            if stream.eof or (max_size is not None and len(payload) > max_size):
                payload = self._take(stream, payload, max_size)
                self._end_message()
                return payload
            self._pending = False
            try:
                excess = stream.decompress(MESSAGE_END, 1)
            except ERRORS as exc:
                raise TruncatedMessage from exc
            if excess or stream.eof:
                self._end_block(stream, excess)
                self._end_message()
            return payload
        except ERRORS as exc:
            self.release()
            raise ProtocolError("decompression failed") from exc
        except Exception:
            self.release()
            payload = b""  # else the traceback would keep the refused payload in memory
            raise

    def _decompress(self, data: BytesLike, fin: bool, max_size: int | None) -> bytes:
        payload = b""
        # Section 7.2.3.6 requires one byte for an empty message, but some peers send none.
        if data:
            stream = self._decompressor or self._new_decompressor()
            payload = self._take(stream, stream.decompress(data, _max_length(max_size)), max_size)
        if fin:
            self._end_message()
        return payload

    def _take(self, stream: zlib._Decompress, payload: bytes, max_size: int | None) -> bytes:
        """Return the whole inflated payload, given the output of its first stream."""
        self._pending = True
        if stream.eof:
            payload = self._inflate_rest(payload, self._end_stream(stream, payload), max_size)
        elif self._window is not None:
            self._remember(payload)
        if max_size is not None and len(payload) > max_size:
            del payload  # else the traceback would keep it in memory until the connection ends
            raise PayloadTooBig(None, max_size)
        return payload

    def _end_message(self) -> None:
        if self._pending:
            self._complete()
        if self.remote_no_context_takeover:
            self._decompressor = self._window = None
        elif not self._finished:
            self._window = None
        self._finished = False

    def _complete(self) -> None:
        """Add the tail that the sender removed, and check that the message ends at the end of a block."""
        stream = self._decompressor
        assert stream is not None, "bytes are pending, so there is a stream that they were fed to"
        self._pending = False
        try:
            excess = stream.decompress(MESSAGE_END, 1)
        except ERRORS as exc:
            raise TruncatedMessage from exc
        self._end_block(stream, excess)

    def _end_block(self, stream: zlib._Decompress, excess: bytes) -> None:
        """Check that the added tail had no effect, unless the last block of the message has BFINAL, too."""
        if excess or (stream.eof and self._end_stream(stream, b"") != PROBE):
            raise TruncatedMessage

    # Blocks with BFINAL, see above.

    def _fitting(self, compressor: zlib._Compress | None, size: int) -> tuple[zlib._Compress, bool]:
        """Return the compressor for a message of ``size`` bytes, and whether it stays for larger ones.

        A compressor that takes the place of another one, which happens once at most, doesn't know earlier messages.
        """
        large = large_compressor(self.local_max_window_bits, self.compress_settings) if size >= LARGE_FROM else None
        return large or compressor or self._new_compressor(), size >= LARGE_FROM

    def _new_compressor(self) -> zlib._Compress:
        return zlib.compressobj(wbits=-max(self.local_max_window_bits, MIN_ZLIB_BITS), **self.compress_settings)

    def _new_decompressor(self) -> zlib._Decompress:
        # Some peers use 9 bits when 8 were agreed, as zlib itself once did.
        bits = max(self.remote_max_window_bits, MIN_ZLIB_BITS)
        stream: zlib._Decompress = inflater(bits, self._window or b"")
        self._decompressor = stream
        if not self._window:
            self._window = bytearray()
        return stream

    def _remember(self, payload: bytes) -> None:
        size = 1 << max(self.remote_max_window_bits, MIN_ZLIB_BITS)
        if self._window is None:
            self._window = bytearray()
        self._window += payload[-size:]
        # Cutting it at each call would copy the whole window for a few new bytes.
        if len(self._window) > 2 * size:
            del self._window[:-size]

    def _end_stream(self, decompressor: zlib._Decompress, payload: bytes) -> bytes:
        """Delete a stream that BFINAL ended with this payload; return the input after its end."""
        self._remember(payload)
        self._decompressor = None
        self._pending = False
        self._finished = True
        return decompressor.unused_data

    def _inflate_rest(self, start: bytes, rest: bytes, max_size: int | None) -> bytes:
        """Inflate the input after a block with BFINAL, in linear time for any number of such blocks."""
        payload, view, step = bytearray(start), memoryview(rest), FIRST_STEP
        while view and (max_size is None or len(payload) <= max_size):
            decompressor = self._decompressor or self._new_decompressor()
            room = None if max_size is None else max_size - len(payload)
            piece = decompressor.decompress(view[:step], _max_length(room))
            payload += piece
            if decompressor.eof:
                left = len(view[step:]) + len(self._end_stream(decompressor, piece))
                view, step = view[len(view) - left :], FIRST_STEP
            else:
                self._remember(piece)
                self._pending = True
                view, step = view[step:], step * 2
        return bytes(payload)
