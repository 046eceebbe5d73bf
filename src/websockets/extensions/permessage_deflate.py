"""Compression of messages: permessage-deflate, RFC 7692 section 7.

May know: frames, the parameters of an extension, zlib. Must not know: connections, the header that carries the
parameters, the length of a message beyond the limit given with each frame.

Two halves. The *codec* (section 7.2) is two zlib streams, each made when the first compressed message passes in its
direction, so that a silent connection holds none. *Negotiation* (section 7.1) is a truth table for each side: it says
what becomes of a parameter, given how this side is configured and what the other side said.

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
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NoReturn

from ..exceptions import (
    DuplicateParameter,
    InvalidParameterName,
    InvalidParameterValue,
    NegotiationError,
    PayloadTooBig,
    ProtocolError,
)
from ..frames import CONT, CTRL_OPCODES, Frame
from ..typing import BytesLike, ExtensionName, ExtensionParameter
from .base import ClientExtensionFactory, Extension, ServerExtensionFactory

__all__ = [
    "ClientPerMessageDeflateFactory",
    "PerMessageDeflate",
    "ServerPerMessageDeflateFactory",
    "enable_client_permessage_deflate",
    "enable_server_permessage_deflate",
]

NAME = ExtensionName("permessage-deflate")

# Window sizes, as powers of two of bytes. zlib inflates a window of 8 bits but can't compress with one.
MIN_PEER_BITS, MIN_OWN_BITS, MAX_BITS = 8, 9, 15


def _check_bits(name: str, bits: int | None, least: int) -> None:
    if bits is not None and not least <= bits <= MAX_BITS:
        raise ValueError(f"{name} must be between {least} and {MAX_BITS}, not {bits}")


def _check_settings(settings: Mapping[str, Any] | None, bits_name: str) -> None:
    if settings is not None and "wbits" in settings:
        raise ValueError(f"compress_settings must not include wbits, set {bits_name} instead")


# The codec: RFC 7692 section 7.2.

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


class TruncatedMessage(ProtocolError):
    """A compressed message ends in the middle of a block (RFC 7692 section 7.2.2)."""

    close_code = 1007

    def __init__(self) -> None:
        super().__init__("compressed message is cut off in the middle of a block")


def _max_length(max_size: int | None) -> int:
    """The bound for a call of zlib, which takes 0 for none: a byte beyond the limit tells that it is exceeded."""
    if max_size is None or max_size >= sys.maxsize:
        return 0
    return max_size + 1 if max_size > 0 else 1


class PerMessageDeflate(Extension):
    """permessage-deflate in use on one connection (RFC 7692 section 7).

    :meth:`encode` and :meth:`decode` change frames, as any extension does. :meth:`compress` and :meth:`decompress`
    below them are for callers that take care of RSV1 and of the order of frames themselves.

    Parameters:
        remote_no_context_takeover: whether the peer forgets, after each message, what it compressed.
        local_no_context_takeover: whether this side does.
        remote_max_window_bits: the peer's window, 8 to 15, as a power of two of bytes.
        local_max_window_bits: the window of this side, 9 to 15.
        compress_settings: keyword arguments of :func:`zlib.compressobj`, without ``wbits``; None for its defaults.

    Raises:
        ValueError: a window is out of range, or ``compress_settings`` includes ``wbits``.
    """

    __slots__ = (
        "_compressed",
        "_compressor",
        "_decompressor",
        "_finished",
        "_pending",
        "_window",
        "compress_settings",
        "local_max_window_bits",
        "local_no_context_takeover",
        "remote_max_window_bits",
        "remote_no_context_takeover",
    )

    name = NAME

    def __init__(
        self,
        remote_no_context_takeover: bool,
        local_no_context_takeover: bool,
        remote_max_window_bits: int,
        local_max_window_bits: int,
        compress_settings: dict[str, Any] | None = None,
    ) -> None:
        _check_bits("remote_max_window_bits", remote_max_window_bits, MIN_PEER_BITS)
        _check_bits("local_max_window_bits", local_max_window_bits, MIN_OWN_BITS)
        _check_settings(compress_settings, "local_max_window_bits")
        self.remote_no_context_takeover = remote_no_context_takeover
        self.local_no_context_takeover = local_no_context_takeover
        self.remote_max_window_bits = remote_max_window_bits
        self.local_max_window_bits = local_max_window_bits
        self.compress_settings = {} if compress_settings is None else compress_settings
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
        self._decompressor: zlib._Decompress | None = None
        # Whether the message that is being received has bytes after which its tail belongs.
        self._pending = False
        # Whether it had a block with BFINAL.
        self._finished = False
        # The end of what was inflated, while there may be use for it.
        self._window: bytearray | None = None

    # Frames.

    def encode(self, frame: Frame) -> Frame:
        """Compress a data frame; leave a control frame as it is (RFC 7692 section 6.1).

        Parameters:
            frame: a frame; the fragments of a message in their order.

        Returns:
            The frame to send, with RSV1 set if it is the first of its message.
        """
        if frame.opcode in CTRL_OPCODES:
            return frame
        payload = self.compress(frame.data, frame.fin)
        return Frame(frame.opcode, payload, frame.fin, frame.opcode != CONT, frame.rsv2, frame.rsv3)

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
        compressor = self._compressor
        if compressor is None:
            compressor = zlib.compressobj(wbits=-self.local_max_window_bits, **self.compress_settings)
            self._compressor = compressor
        start = compressor.compress(data)
        end = compressor.flush(zlib.Z_SYNC_FLUSH)
        if not fin:
            return start + end
        if self.local_no_context_takeover:
            self._compressor = None
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
        try:
            # By the letter an empty message takes a byte (section 7.2.3.6), and not every peer knows.
            payload = self._inflate(data, max_size) if data else b""
            if fin:
                self._end_message()
        except zlib.error as exc:
            self.release()
            raise ProtocolError("decompression failed") from exc
        except Exception:
            self.release()
            raise
        return payload

    def _inflate(self, data: BytesLike, max_size: int | None) -> bytes:
        decompressor = self._decompressor or self._new_decompressor()
        payload = decompressor.decompress(data, _max_length(max_size))
        self._pending = True
        if decompressor.eof:
            payload = self._inflate_rest(payload, self._end_stream(decompressor, payload), max_size)
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
        decompressor = self._decompressor
        assert decompressor is not None, "bytes are pending, so there is a stream that they were fed to"
        self._pending = False
        try:
            excess = decompressor.decompress(MESSAGE_END, 1)
        except zlib.error as exc:
            raise TruncatedMessage from exc
        # The block that the tail completes may be one with BFINAL too.
        if excess or (decompressor.eof and self._end_stream(decompressor, b"") != PROBE):
            raise TruncatedMessage

    # Blocks with BFINAL, see above.

    def _new_decompressor(self) -> zlib._Decompress:
        # Some peers use 9 bits when told 8, as zlib itself once did.
        bits = max(self.remote_max_window_bits, MIN_OWN_BITS)
        if self._window:
            self._decompressor = zlib.decompressobj(-bits, self._window)
        else:
            self._window = bytearray()
            self._decompressor = zlib.decompressobj(-bits)
        return self._decompressor

    def _remember(self, payload: bytes) -> None:
        size = 1 << max(self.remote_max_window_bits, MIN_OWN_BITS)
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


# Negotiation: RFC 7692 section 7.1.

# The parameters, in the order in which they are written.
SERVER_NO_CONTEXT = "server_no_context_takeover"
CLIENT_NO_CONTEXT = "client_no_context_takeover"
SERVER_BITS = "server_max_window_bits"
CLIENT_BITS = "client_max_window_bits"

# The value of a parameter is a number of bits, or one of these: not there, or there without a value.
ABSENT, PRESENT = 0, 1

# What may be said of each parameter. An offer may hold client_max_window_bits without a value: "it's yours to choose".
Grammar = Mapping[str, Mapping[str | None, int]]
_FLAG: dict[str | None, int] = {None: PRESENT}
_BITS: dict[str | None, int] = {str(bits): bits for bits in range(MIN_PEER_BITS, MAX_BITS + 1)}
RESPONSE: Grammar = {SERVER_NO_CONTEXT: _FLAG, CLIENT_NO_CONTEXT: _FLAG, SERVER_BITS: _BITS, CLIENT_BITS: _BITS}
REQUEST: Grammar = {**RESPONSE, CLIENT_BITS: _FLAG | _BITS}


def _read_params(params: Sequence[ExtensionParameter], grammar: Grammar) -> dict[str, int]:
    """The values of all parameters, if each of those there is known, well-formed and there once."""
    values = dict.fromkeys(grammar, ABSENT)
    for name, value in params:
        if name not in grammar:
            raise InvalidParameterName(name)
        if values[name] != ABSENT:
            raise DuplicateParameter(name)
        if value not in grammar[name]:
            raise InvalidParameterValue(name, value)
        values[name] = grammar[name][value]
    return values


def _write_params(values: Mapping[str, int]) -> list[ExtensionParameter]:
    return [(name, None if value == PRESENT else str(value)) for name, value in values.items() if value != ABSENT]


# A rule makes what is agreed of what this side is configured for and of what the other side said, or refuses.
Rule = Callable[[str, int, int], int]


def _nothing(name: str, ours: int, theirs: int) -> int:
    return ABSENT


def _ours(name: str, ours: int, theirs: int) -> int:
    return ours


def _theirs(name: str, ours: int, theirs: int) -> int:
    return theirs


def _lesser(name: str, ours: int, theirs: int) -> int:
    return min(ours, theirs)


def _within(name: str, ours: int, theirs: int) -> int:
    if theirs > ours:
        raise NegotiationError(f"unsupported {name} = {theirs}, use at most {ours}")
    return theirs


def _refuse(reason: str) -> Rule:
    def rule(name: str, ours: int, theirs: int) -> NoReturn:
        raise NegotiationError(reason.format(name=name, theirs=theirs))

    return rule


_expected, _unexpected, _required = (_refuse(f"{why} {{name}}") for why in ("expected", "unexpected", "required"))
_too_narrow = _refuse(f"unsupported {{name}} = {{theirs}}, use {MIN_OWN_BITS}")

# A row for each way in which the parameter is configured, a column for each thing that the other side may say, and
# there the rule. "bits" is any number of bits; where this side would compress with them, "8" is apart, as zlib can't.
# "must" is a server that requires client_max_window_bits.
Table = Mapping[str, Mapping[str, Mapping[str, Rule]]]

_EITHER = {
    "absent":  {"absent": _nothing,  "present": _theirs},
    "present": {"absent": _ours,     "present": _theirs},
}  # fmt: skip

SERVER_TABLE: Table = {
    SERVER_NO_CONTEXT: _EITHER,
    CLIENT_NO_CONTEXT: _EITHER,
    SERVER_BITS: {
        "absent":  {"absent": _nothing,  "8": _too_narrow,   "bits": _theirs},
        "bits":    {"absent": _ours,     "8": _too_narrow,   "bits": _lesser},
    },
    CLIENT_BITS: {
        "absent":  {"absent": _nothing,  "present": _nothing, "bits": _theirs},
        "bits":    {"absent": _nothing,  "present": _ours,    "bits": _lesser},
        "must":    {"absent": _required, "present": _ours,    "bits": _lesser},
    },
}  # fmt: skip

CLIENT_TABLE: Table = {
    SERVER_NO_CONTEXT: {
        "absent":  {"absent": _nothing,  "present": _theirs},
        "present": {"absent": _expected, "present": _theirs},
    },
    CLIENT_NO_CONTEXT: _EITHER,
    SERVER_BITS: {
        "absent":  {"absent": _nothing,  "bits": _theirs},
        "bits":    {"absent": _expected, "bits": _within},
    },
    CLIENT_BITS: {
        "absent":  {"absent": _nothing,  "8": _unexpected,    "bits": _unexpected},
        "present": {"absent": _nothing,  "8": _too_narrow,    "bits": _theirs},
        "bits":    {"absent": _ours,     "8": _too_narrow,    "bits": _within},
    },
}  # fmt: skip


def _kind(value: int, least: int) -> str:
    """What a value is called in the tables."""
    if value <= PRESENT:
        return "present" if value else "absent"
    return "bits" if value >= least else str(value)


class _Factory:
    """What both sides are configured with, and how they come to an agreement."""

    name = NAME
    table: Table
    own_bits: str
    require_client_max_window_bits = False

    def __init__(self, no_contexts: tuple[bool, bool], bits: tuple[int | None, int | None], settings: Any) -> None:
        self.server_no_context_takeover, self.client_no_context_takeover = no_contexts
        self.server_max_window_bits, self.client_max_window_bits = bits
        self.compress_settings: dict[str, Any] | None = settings
        _check_settings(settings, self.own_bits)
        try:
            # Better now than with the first message.
            zlib.compressobj(wbits=-MIN_OWN_BITS, **settings or {})
        except (TypeError, ValueError) as exc:
            raise ValueError(f"unsupported compress_settings {settings}: {exc}") from exc

    def configured(self) -> dict[str, int]:
        return {name: int(getattr(self, name) or ABSENT) for name in self.table}

    def agree(self, theirs: Mapping[str, int]) -> dict[str, int]:
        """Walk the table of this side."""
        agreed = {}
        for name, ours in self.configured().items():
            must = self.require_client_max_window_bits and name == CLIENT_BITS
            least = MIN_OWN_BITS if name == self.own_bits else MIN_PEER_BITS
            row = self.table[name]["must" if must else _kind(ours, MIN_PEER_BITS)]
            agreed[name] = row[_kind(theirs[name], least)](name, ours, theirs[name])
        return agreed


def _refuse_duplicate(accepted_extensions: Sequence[Extension], verb: str) -> None:
    if any(extension.name == NAME for extension in accepted_extensions):
        raise NegotiationError(f"{verb} duplicate {NAME}")


class ClientPerMessageDeflateFactory(_Factory, ClientExtensionFactory):
    """The client's part in negotiating permessage-deflate (RFC 7692 section 7.1).

    Parameters:
        server_no_context_takeover: have the server forget, after each message, what it compressed.
        client_no_context_takeover: forget, after each message, what was compressed. Less memory, worse compression.
        server_max_window_bits: limit of the server's window, 8 to 15, as a power of two of bytes; None for no limit.
        client_max_window_bits: limit of the client's window, 9 to 15; True (the default) to have the server choose it;
            None to rule out that the server does.
        compress_settings: keyword arguments of :func:`zlib.compressobj`, without ``wbits``; None for its defaults.

    Raises:
        ValueError: a window is out of range, or zlib doesn't support ``compress_settings``.
    """

    table = CLIENT_TABLE
    own_bits = CLIENT_BITS

    def __init__(
        self,
        server_no_context_takeover: bool = False,
        client_no_context_takeover: bool = False,
        server_max_window_bits: int | None = None,
        client_max_window_bits: int | None = True,
        compress_settings: dict[str, Any] | None = None,
    ) -> None:
        _check_bits(SERVER_BITS, server_max_window_bits, MIN_PEER_BITS)
        if client_max_window_bits is not True:
            _check_bits(CLIENT_BITS, client_max_window_bits, MIN_OWN_BITS)
        no_contexts = server_no_context_takeover, client_no_context_takeover
        super().__init__(no_contexts, (server_max_window_bits, client_max_window_bits), compress_settings)

    def get_request_params(self) -> Sequence[ExtensionParameter]:
        """Make an offer (RFC 7692 section 7.1); see :class:`ClientExtensionFactory`."""
        return _write_params(self.configured())

    def process_response_params(
        self, params: Sequence[ExtensionParameter], accepted_extensions: Sequence[Extension]
    ) -> PerMessageDeflate:
        """Read the answer of the server (RFC 7692 section 7.1); see :class:`ClientExtensionFactory`."""
        _refuse_duplicate(accepted_extensions, "received")
        agreed = self.agree(_read_params(params, RESPONSE))
        return PerMessageDeflate(
            remote_no_context_takeover=bool(agreed[SERVER_NO_CONTEXT]),
            local_no_context_takeover=bool(agreed[CLIENT_NO_CONTEXT]),
            remote_max_window_bits=agreed[SERVER_BITS] or MAX_BITS,
            local_max_window_bits=agreed[CLIENT_BITS] or MAX_BITS,
            compress_settings=self.compress_settings,
        )


class ServerPerMessageDeflateFactory(_Factory, ServerExtensionFactory):
    """The server's part in negotiating permessage-deflate (RFC 7692 section 7.1).

    Parameters:
        server_no_context_takeover: forget, after each message, what was compressed. Less memory, worse compression.
        client_no_context_takeover: have the client forget, after each message, what it compressed.
        server_max_window_bits: limit of the server's window, 9 to 15, as a power of two of bytes; None for no limit but
            the client's.
        client_max_window_bits: limit of the client's window, 8 to 15; None for no limit. Only a client that offers to
            heed one is given one.
        compress_settings: keyword arguments of :func:`zlib.compressobj`, without ``wbits``; None for its defaults.
        require_client_max_window_bits: decline the offers of clients that don't offer to heed a limit.

    Raises:
        ValueError: a window is out of range, zlib doesn't support ``compress_settings``, or a limit is required and
            none is configured.
    """

    table = SERVER_TABLE
    own_bits = SERVER_BITS

    def __init__(
        self,
        server_no_context_takeover: bool = False,
        client_no_context_takeover: bool = False,
        server_max_window_bits: int | None = None,
        client_max_window_bits: int | None = None,
        compress_settings: dict[str, Any] | None = None,
        require_client_max_window_bits: bool = False,
    ) -> None:
        _check_bits(SERVER_BITS, server_max_window_bits, MIN_OWN_BITS)
        _check_bits(CLIENT_BITS, client_max_window_bits, MIN_PEER_BITS)
        if require_client_max_window_bits and client_max_window_bits is None:
            raise ValueError("require_client_max_window_bits is enabled, but client_max_window_bits isn't configured")
        no_contexts = server_no_context_takeover, client_no_context_takeover
        super().__init__(no_contexts, (server_max_window_bits, client_max_window_bits), compress_settings)
        self.require_client_max_window_bits = require_client_max_window_bits

    def process_request_params(
        self, params: Sequence[ExtensionParameter], accepted_extensions: Sequence[Extension]
    ) -> tuple[list[ExtensionParameter], PerMessageDeflate]:
        """Answer an offer of the client (RFC 7692 section 7.1); see :class:`ServerExtensionFactory`."""
        _refuse_duplicate(accepted_extensions, "skipped")
        answer = self.agree(_read_params(params, REQUEST))
        return _write_params(answer), PerMessageDeflate(
            remote_no_context_takeover=bool(answer[CLIENT_NO_CONTEXT]),
            local_no_context_takeover=bool(answer[SERVER_NO_CONTEXT]),
            remote_max_window_bits=answer[CLIENT_BITS] or MAX_BITS,
            local_max_window_bits=answer[SERVER_BITS] or MAX_BITS,
            compress_settings=self.compress_settings,
        )


# The defaults. A window of 4 KiB and a smaller hash table cost little compression and save most of the memory.
DEFAULT_BITS = 12
DEFAULT_SETTINGS = {"memLevel": 5}


def enable_client_permessage_deflate(
    extensions: Sequence[ClientExtensionFactory] | None,
) -> Sequence[ClientExtensionFactory]:
    """Add permessage-deflate with its defaults to the extensions of a client: the server may limit its window.

    Parameters:
        extensions: the extensions so far; None for none.

    Returns:
        The extensions, with permessage-deflate last unless it was among them.
    """
    factories = list(extensions or ())
    if all(factory.name != NAME for factory in factories):
        factories.append(ClientPerMessageDeflateFactory(compress_settings=dict(DEFAULT_SETTINGS)))
    return factories


def enable_server_permessage_deflate(
    extensions: Sequence[ServerExtensionFactory] | None,
) -> Sequence[ServerExtensionFactory]:
    """Add permessage-deflate with its defaults to the extensions of a server: windows of 4 KiB on both sides.

    Parameters:
        extensions: the extensions so far; None for none.

    Returns:
        The extensions, with permessage-deflate last unless it was among them.
    """
    factories = list(extensions or ())
    if all(factory.name != NAME for factory in factories):
        settings = dict(DEFAULT_SETTINGS)
        factories.append(ServerPerMessageDeflateFactory(False, False, DEFAULT_BITS, DEFAULT_BITS, settings))
    return factories
