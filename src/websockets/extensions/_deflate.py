"""The codec of permessage-deflate: RFC 7692 section 7.2.

May know: frames, zlib. Must not know: connections, how the parameters were agreed, the length of a message beyond the
limit given with each frame.

Two zlib streams, each made when the first compressed message passes in its direction, so that a silent connection holds
none.

The end of a compressed message is the hard part. The sender removes ``00 00 ff ff``, the receiver puts it back. Three
things may then be wrong, or only unusual, and zlib tells none of them by itself:

- The message is cut off inside a block. zlib waits for the rest and would take it from the next message. So empty
  blocks are fed behind the end of a message: between two blocks they do nothing, inside one they are nonsense and give
  an error, data, or an end of the stream.
- A block has BFINAL set (section 7.2.3.4). For zlib the stream is over, for RFC 7692 it isn't: the next block starts at
  the next byte, in the same message or in the next one, and may refer to what came before. A new stream takes over,
  with the last 2**bits bytes of output as its dictionary. zlib doesn't hand these out, so they are kept here, yet only
  as long as the peer sets BFINAL in every message: one that flushes in this way does so from its first message on. Most
  of these start afresh behind it, as zlib does after ``Z_FINISH``. Connections with any other peer pay nothing for it.
- Nothing bounds what a message inflates to. Each call of zlib is bounded, by one byte more than the limit: less output
  than that means that all input was used, and so nothing is ever left in ``unconsumed_tail``.
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
from .base import Extension

__all__ = ["PerMessageDeflate"]

NAME = ExtensionName("permessage-deflate")

# Window sizes, as powers of two of bytes (RFC 7692 section 7.1.2).
MIN_BITS, MAX_BITS = 8, 15

# The least that zlib makes. It compresses for a window of 8 bits all the same: of any window it leaves the last 262
# bytes alone, where a longest match and the search for the next one must fit. Of 512 bytes it uses 250, and 256 do.
MIN_ZLIB_BITS = 9


def check_bits(name: str, bits: int | None) -> None:
    """Raise ``ValueError`` if a window is out of range."""
    if bits is not None and not MIN_BITS <= bits <= MAX_BITS:
        raise ValueError(f"{name} must be between {MIN_BITS} and {MAX_BITS}, not {bits}")


def check_settings(settings: Mapping[str, Any] | None, bits_name: str) -> None:
    """Raise ``ValueError`` if settings for zlib say what a parameter of the extension says."""
    if settings is not None and "wbits" in settings:
        raise ValueError(f"compress_settings must not include wbits, set {bits_name} instead")


def check_threshold(threshold: int | None) -> None:
    """Raise ``ValueError`` if the size from which messages are compressed is negative."""
    if threshold is not None and threshold < 0:
        raise ValueError(f"threshold must not be negative, not {threshold}")


# What ends each flush, and doesn't travel at the end of a message: the end of an empty block without compression.
TAIL = b"\x00\x00\xff\xff"
# What shows that a message ended between two blocks, see above. zlib waits longest in the header of a block with
# dynamic codes: of those that it writes itself, none outlasted 23 of these. Cut at random, one in a hundred thousand
# takes some of them for its own end, and the rest for what they are; that message is wrong, but none that follows.
PROBE = b"\x00\x00\x00\xff\xff" * 32
MESSAGE_END = TAIL + PROBE

# Behind a block with BFINAL, this many bytes are tried, then twice as many, until the next such block. Trying all of
# them would copy all of them again for each block.
FIRST_STEP = 64

# From here on a limit is beyond what zlib can be told, and beyond any memory.
NO_LIMIT = sys.maxsize


class TruncatedMessage(ProtocolError):
    """A compressed message ends in the middle of a block (RFC 7692 section 7.2.2)."""

    close_code = 1007

    def __init__(self) -> None:
        super().__init__("compressed message is cut off in the middle of a block")


def _max_length(max_size: int | None) -> int:
    """The bound for a call of zlib, which takes 0 for none: a byte beyond the limit tells that it is exceeded."""
    if max_size is None or max_size >= NO_LIMIT:
        return 0
    return max_size + 1 if max_size > 0 else 1


class PerMessageDeflate(Extension):
    """permessage-deflate in use on one connection (RFC 7692 section 7).

    :meth:`encode` and :meth:`decode` change frames, as any extension does. :meth:`compress` and :meth:`decompress`
    below them are for callers that take care of RSV1, of the threshold, and of the order of frames themselves.

    Parameters:
        remote_no_context_takeover: whether the peer forgets, after each message, what it compressed.
        local_no_context_takeover: whether this side does.
        remote_max_window_bits: the peer's window, 8 to 15, as a power of two of bytes.
        local_max_window_bits: the window of this side, 8 to 15.
        compress_settings: keyword arguments of :func:`zlib.compressobj`, without ``wbits``; None for its defaults.
        threshold: messages of fewer bytes are sent as they are, unless they are sent in fragments; 0 by default.

    Raises:
        ValueError: a window or the threshold is out of range, or ``compress_settings`` includes ``wbits``.
    """

    __slots__ = (
        "_compressed",
        "_compressor",
        "_decompressor",
        "_finished",
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
        # Whether the message that is being sent in fragments is compressed.
        self._packing = True
        # For decode(): whether the message that is being received is compressed.
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
        """Forget all that was compressed and inflated, and free the memory. To be called when the connection closes."""
        self._compressor: zlib._Compress | None = None
        self._made = 0  # how often anything was made of it, or of another compressor
        self._decompressor: zlib._Decompress | None = None
        # Whether the message that is being received has bytes after which its tail belongs.
        self._pending = False
        # Whether it had a block with BFINAL.
        self._finished = False
        # The end of what was inflated, while there may be use for it.
        self._window: bytearray | None = None

    # Frames.

    def encode(self, frame: Frame) -> Frame:
        """Compress a data frame; leave a control frame and a small message as they are (RFC 7692 section 6.1).

        Parameters:
            frame: a frame; the fragments of a message in their order.

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
        """Do what :meth:`encode` does, for a caller that has no need of a :class:`Frame`.

        Parameters:
            head: the first byte of a frame; the fragments of a message in their order.
            data: its payload.
            compress: whether to compress the message, as told with its first frame; None to go by the threshold.

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
            # How long the rest is, a first fragment doesn't tell.
            self._packing = compress is not False
        if not self._packing:
            return head, data
        return head | RSV1 if first else head, self.compress(data, head & FIN != 0)

    def _compresses(self, size: int, compress: bool | None) -> bool:
        """Whether a message of ``size`` bytes in one frame is to be compressed."""
        return size >= self.threshold if compress is None else compress

    # One message for many connections. Compressed alone, without regard to what came before it, it can be inflated by
    # any peer whose window is large enough. But it enters that peer's window, and no other compressor knows.

    @property
    def _kind(self) -> tuple[object, ...]:
        """Equal for connections for which a message compressed alone is the same bytes."""
        if self._kind_known is None:
            self._kind_known = self.local_max_window_bits, *sorted(self.compress_settings.items())
        return self._kind_known

    def _pack_alone(self, head: int, data: BytesLike) -> tuple[int, BytesLike]:
        """Compress an unfragmented message so that any connection of this kind may send it."""
        compressor = self._new_compressor()
        start = compressor.compress(data)
        return head | RSV1, start + compressor.flush(zlib.Z_SYNC_FLUSH)[: -len(TAIL)]

    def _start_anew(self) -> None:
        """What is compressed next must not refer to what came before it.

        As after a message that was compressed alone, or after one that was compressed and can't be sent.
        """
        self._compressor = None
        self._made += 1

    def decode(self, frame: Frame, *, max_size: int | None = None) -> Frame:
        """Inflate a data frame of a compressed message; leave any other frame as it is (RFC 7692 section 6.2).

        Parameters:
            frame: a frame; the fragments of a message in their order.
            max_size: limit of the inflated payload, in bytes; None for no limit.

        Returns:
            The frame to deliver.

        Raises:
            PayloadTooBig: the inflated payload would exceed ``max_size``.
            ProtocolError: the payload can't be inflated, or RSV1 is set on a frame that continues a message.
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
            fin: whether the message ends here.

        Returns:
            The payload to send.
        """
        # The compressor is taken away while it works. If it fails, it doesn't come back: it has seen what the peer will
        # never see. If a signal handler sends something in the meantime, the peer gets that first: all is made anew.
        while True:
            made, compressor, self._compressor = self._made, self._compressor or self._new_compressor(), None
            start, end = compressor.compress(data), compressor.flush(zlib.Z_SYNC_FLUSH)
            if made == self._made:
                break
        self._made += 1
        if not fin or not self.local_no_context_takeover:
            self._compressor = compressor
        if not fin:
            return start + end
        # The flush gives the whole tail: what came before needn't be copied to cut it off. There is one even if nothing
        # came since the flush before: an empty message is a byte (section 7.2.3.6).
        return start + end[: -len(TAIL)]

    def decompress(self, data: BytesLike, fin: bool = True, max_size: int | None = None) -> bytes:
        """Inflate a compressed message, or a fragment of one (RFC 7692 section 7.2.2).

        Parameters:
            data: the payload received.
            fin: whether the message ends here.
            max_size: limit of the content, in bytes, beyond which nothing is inflated; None for no limit.

        Returns:
            The content of the message or of the fragment.

        Raises:
            PayloadTooBig: the content would exceed ``max_size``.
            ProtocolError: the payload can't be inflated. If the message is cut off, the exception has a ``close_code``,
                which is 1007.
        """
        stream = self._decompressor
        try:
            if stream is None or not data or not fin or self._window is not None:
                return self._decompress(data, fin, max_size)
            # The path of nearly every message: it ends here, in a stream that is under way, and no BFINAL is to be
            # reckoned with. This is what _decompress() does, without its calls.
            bound = max_size + 1 if max_size is not None and 0 < max_size < NO_LIMIT else _max_length(max_size)
            payload = stream.decompress(data, bound)
            if stream.eof or (max_size is not None and len(payload) > max_size):
                payload = self._take(stream, payload, max_size)
                self._end_message()
                return payload
            self._pending = False
            try:
                excess = stream.decompress(MESSAGE_END, 1)
            except zlib.error as exc:
                raise TruncatedMessage from exc
            if excess or stream.eof:
                self._end_block(stream, excess)
                self._end_message()
            return payload
        except zlib.error as exc:
            self.release()
            raise ProtocolError("decompression failed") from exc
        except Exception:
            self.release()
            payload = b""  # the traceback would keep what was refused
            raise

    def _decompress(self, data: BytesLike, fin: bool, max_size: int | None) -> bytes:
        payload = b""
        # By the letter an empty message takes a byte (section 7.2.3.6), and not every peer knows.
        if data:
            stream = self._decompressor or self._new_decompressor()
            payload = self._take(stream, stream.decompress(data, _max_length(max_size)), max_size)
        if fin:
            self._end_message()
        return payload

    def _take(self, stream: zlib._Decompress, payload: bytes, max_size: int | None) -> bytes:
        """What a payload inflates to, given what its first stream made of it."""
        self._pending = True
        if stream.eof:
            payload = self._inflate_rest(payload, self._end_stream(stream, payload), max_size)
        elif self._window is not None:
            self._remember(payload)
        if max_size is not None and len(payload) > max_size:
            del payload  # the traceback, which lives as long as the connection, would keep it
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
        """Put back what the sender removed, and make sure that the message ends where a block does."""
        stream = self._decompressor
        assert stream is not None, "bytes are pending, so there is a stream that they were fed to"
        self._pending = False
        try:
            excess = stream.decompress(MESSAGE_END, 1)
        except zlib.error as exc:
            raise TruncatedMessage from exc
        self._end_block(stream, excess)

    def _end_block(self, stream: zlib._Decompress, excess: bytes) -> None:
        """Look at what came of the end of a message: nothing, unless its last block is one with BFINAL too."""
        if excess or (stream.eof and self._end_stream(stream, b"") != PROBE):
            raise TruncatedMessage

    # Blocks with BFINAL, see above.

    def _new_compressor(self) -> zlib._Compress:
        return zlib.compressobj(wbits=-max(self.local_max_window_bits, MIN_ZLIB_BITS), **self.compress_settings)

    def _new_decompressor(self) -> zlib._Decompress:
        # Some peers use 9 bits when told 8, as zlib itself once did.
        bits = max(self.remote_max_window_bits, MIN_ZLIB_BITS)
        if self._window:
            self._decompressor = zlib.decompressobj(-bits, self._window)
        else:
            self._window = bytearray()
            self._decompressor = zlib.decompressobj(-bits)
        return self._decompressor

    def _remember(self, payload: bytes) -> None:
        size = 1 << max(self.remote_max_window_bits, MIN_ZLIB_BITS)
        if self._window is None:
            self._window = bytearray()
        self._window += payload[-size:]
        # Cutting it each time would copy it for every few bytes.
        if len(self._window) > 2 * size:
            del self._window[:-size]

    def _end_stream(self, decompressor: zlib._Decompress, payload: bytes) -> bytes:
        """Let go of a stream that BFINAL ended with this payload; return what follows it."""
        self._remember(payload)
        self._decompressor = None
        self._pending = False
        self._finished = True
        return decompressor.unused_data

    def _inflate_rest(self, start: bytes, rest: bytes, max_size: int | None) -> bytes:
        """Inflate what follows a block with BFINAL, in linear time however many such blocks there are."""
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
