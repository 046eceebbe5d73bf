"""From fragments to messages and back: RFC 6455 sections 5.4 and 5.6.

May know: what a message is made of, how large it may be, how many may wait, how an iterable becomes fragments. Must not
know: the wire, closing, time, or who waits for a message.

An :class:`Inbox` holds what was received and not yet asked for. A message in one frame is kept as it is, a ``str`` or
``bytes``; only a fragmented one becomes an :class:`Assembly`, which takes its place in the queue with its first
fragment, so that somebody may read it while the rest arrives.
"""

from __future__ import annotations

import codecs
import os
from collections import deque
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Final

from .._codec import Queue
from .._codec.header import FIN, MAX_PAYLOAD, OPCODE_BINARY, OPCODE_CONT, OPCODE_MASK, OPCODE_TEXT
from ..exceptions import TooManyFragments
from ..typing import BytesLike, Data

if TYPE_CHECKING:
    from .._codec import FrameDecoder

__all__ = [
    "MISSING",
    "Assembly",
    "Decode",
    "Inbox",
    "Limits",
    "Missing",
    "as_limit",
    "converter",
    "encode_item",
    "encode_message",
]

# Memory bounds what fragments cost; their number is limited only where somebody wants it to be.
MAX_FRAGMENTS: Final = int(os.environ["WEBSOCKETS_MAX_FRAGMENTS"]) if "WEBSOCKETS_MAX_FRAGMENTS" in os.environ else None

# Fragments are joined once this many wait: a flood of tiny ones then costs little more than its bytes.
MERGE_AFTER = 64


class Missing:
    """The type of :data:`MISSING`: no whole message is there."""


MISSING: Final = Missing()


class Assembly:
    """A fragmented message under way.

    Parameters:
        text: whether it is a text message; its bytes were checked to be UTF-8.

    Attributes:
        complete: whether its last fragment arrived.
        waiting: how many fragments arrived and were not taken.
    """

    __slots__ = ("_merged", "_pieces", "complete", "text", "waiting")

    def __init__(self, text: bool) -> None:
        self.text = text
        self.complete = False
        self.waiting = 0
        self._merged = bytearray()
        self._pieces: deque[bytes] = deque()

    def add(self, piece: bytes) -> None:
        """Add the payload of the next fragment."""
        self.waiting += 1
        self._pieces.append(piece)
        if len(self._pieces) >= MERGE_AFTER:
            self._merged += b"".join(self._pieces)
            self._pieces.clear()

    def take(self) -> bytes | None:
        """The next fragment, or several joined; None when all that arrived was taken."""
        if self._merged:
            piece = bytes(self._merged)
            self._merged = bytearray()
            self.waiting = len(self._pieces)
            return piece
        if self._pieces:
            self.waiting -= 1
            return self._pieces.popleft()
        self.waiting = 0
        return None

    def whole(self) -> Data:
        """Everything that arrived and was not taken, as one message."""
        payload = b"".join((self._merged, *self._pieces))
        return payload.decode() if self.text else payload


class Inbox:
    """Messages in the order of their arrival, with the marks between which reading pauses and resumes.

    Parameters:
        high: number of frames waiting above which reading should pause; None for no limit.
        low: number of frames at or below which reading should resume.
    """

    __slots__ = ("_current", "_extra", "discarding", "high", "items", "low")

    def __init__(self, high: int | None = None, low: int = 0) -> None:
        self.high = high
        self.low = low
        self.items: Queue[Data | Assembly] = Queue()
        # Once nobody is going to ask for more, what exceeds the limit is thrown away instead of holding up the Close.
        self.discarding = False
        self._current: Assembly | None = None
        # Fragments waiting in assemblies, beyond the one entry that each takes in the queue.
        self._extra = 0

    @property
    def keep(self) -> Callable[[Data], None]:
        """The function that takes in a message in one frame."""
        return self.items.append

    def put(self, head: int, payload: Data) -> None:
        """Take in a data frame: its first byte, and its payload; ``str`` for a whole text message."""
        if self.discarding and self.full:
            self._drop()
        elif head & FIN and head & OPCODE_MASK != OPCODE_CONT:
            # Unfragmented and not a continuation: the message as it is.
            self.items.append(payload)
        else:
            assert isinstance(payload, bytes)
            self._put_fragment(head, payload)

    def _put_fragment(self, head: int, payload: bytes) -> None:
        if head & OPCODE_MASK != OPCODE_CONT:
            self._current = Assembly(head & OPCODE_MASK == OPCODE_TEXT)
            self.items.append(self._current)
        elif self._current is None:  # the rest of a message that somebody stopped reading, or that was discarded
            return
        elif self._current.waiting:
            self._extra += 1
        self._current.add(payload)
        if MAX_FRAGMENTS is not None and self._current.waiting > MAX_FRAGMENTS:
            raise TooManyFragments(MAX_FRAGMENTS)
        if head & FIN:
            self._current.complete = True
            self._current = None

    def _drop(self) -> None:
        """Leave out a frame, and with it the whole message that it belongs to."""
        if self._current is not None:
            self.items.pop()
            self._extra -= max(self._current.waiting - 1, 0)
            self._current = None

    def holds(self) -> bool:
        """Whether a whole message waits to be read."""
        return any(not isinstance(item, Assembly) or item.complete for item in self.items)

    @property
    def count(self) -> int:
        """How many frames wait."""
        return len(self.items) + self._extra

    @property
    def full(self) -> bool:
        """Whether reading should pause."""
        return self.high is not None and len(self.items) + self._extra > self.high

    @property
    def ready(self) -> bool:
        """Whether the next message is whole."""
        first = self.items[0] if self.items else None
        return first is not None and (not isinstance(first, Assembly) or first.complete)

    @property
    def drained(self) -> bool:
        """Whether reading should resume."""
        return len(self.items) + self._extra <= self.low

    def get(self) -> Data | Missing:
        """The next message, or :data:`MISSING` while it isn't whole."""
        items = self.items
        if not items:
            return MISSING
        first = items[0]
        if not isinstance(first, Assembly):
            items.popleft()
            return first
        if not first.complete:
            return MISSING
        items.popleft()
        self._extra -= max(first.waiting - 1, 0)
        return first.whole()

    # A reader of fragments takes the assembly at the head of the queue apart, and must release it in the end.

    def take(self, assembly: Assembly) -> bytes | None:
        """The next fragment of the assembly at the head of the queue; None when there is none yet."""
        before = assembly.waiting
        piece = assembly.take()
        if self._leads(assembly):
            self._extra -= max(before - 1, 0) - max(assembly.waiting - 1, 0)
        return piece

    def release(self, assembly: Assembly) -> None:
        """Be done with the assembly at the head of the queue; what is missing of it will be ignored."""
        if self._leads(assembly):
            self.items.popleft()
            self._extra -= max(assembly.waiting - 1, 0)
        if self._current is assembly:
            self._current = None

    def _leads(self, assembly: Assembly) -> bool:
        """Whether the assembly is still at the head of the queue: while it was read, it may have been thrown away."""
        return bool(self.items) and self.items[0] is assembly


# ------------------------------------------------------------------------------------------------- as the user wants it

Decode = Callable[[Data], Data]


def _as_is(data: Data) -> Data:
    return data


def _as_text(data: Data) -> Data:
    return data if isinstance(data, str) else data.decode()


def _as_bytes(data: Data) -> Data:
    return data.encode() if isinstance(data, str) else data


_CONVERTERS: Final[dict[bool | None, Decode]] = {None: _as_is, True: _as_text, False: _as_bytes}


def converter(decode: bool | None) -> Decode:
    """What turns a whole message into what ``recv(decode=...)`` promises."""
    return _CONVERTERS[decode]


def fragment_converter(decode: bool | None, text: bool) -> Callable[[bytes, bool], Data]:
    """What turns the fragments of one message into what ``recv_streaming(decode=...)`` promises.

    The function returned takes a fragment and whether it is the last; characters split between fragments are kept
    together.
    """
    if decode or (decode is None and text):
        return codecs.getincrementaldecoder("utf-8")().decode
    return lambda piece, final: piece


# ---------------------------------------------------------------------------------------------------- as the wire wants


def encode_message(message: object, text: bool | None) -> tuple[int, BytesLike] | None:
    """The opcode and the payload of a message given in one piece; None if ``message`` isn't one.

    Parameters:
        message: what the user wants to send.
        text: whether to send it as text; None to go by its type.
    """
    if isinstance(message, str):
        return (OPCODE_BINARY if text is False else OPCODE_TEXT), message.encode()
    # A tuple: this is on the path of every message, and a union of types takes longer to check.
    if isinstance(message, (bytes, bytearray)):
        return (OPCODE_TEXT if text else OPCODE_BINARY), message
    if isinstance(message, memoryview):
        # A view may have any shape; the wire has one.
        return (OPCODE_TEXT if text else OPCODE_BINARY), message.tobytes()
    return None


def refuse_mapping(message: object) -> None:
    """Iterating over a mapping sends its keys, which nobody means.

    Raises:
        TypeError: ``message`` is a mapping.
    """
    if isinstance(message, Mapping):
        raise TypeError("data is a dict-like object")


def encode_item(item: object, first: bool | None) -> tuple[bool, BytesLike]:
    """Whether the next item of an iterable is a ``str``, and its payload.

    Parameters:
        item: the item.
        first: whether the first item was a ``str``; None if this is the first.

    Raises:
        TypeError: the item is no piece of a message, or of another type than the first.
    """
    encoded = encode_message(item, None)
    if encoded is None:
        raise TypeError("iterable must contain bytes or str")
    is_text = isinstance(item, str)
    if first is not None and is_text is not first:
        raise TypeError("iterable must contain uniform types")
    return is_text, encoded[1]


def _checked(name: str, size: int | None) -> int | None:
    if size is not None and (isinstance(size, bool) or not isinstance(size, int)):
        raise TypeError(f"{name} must be a number of bytes, or None for no limit, not {size!r}")
    if size is not None and size < 0:
        raise ValueError(f"{name} must be a number of bytes, or None for no limit, not {size}")
    return size


def as_limit(size: int | None) -> int:
    """A limit in bytes as the decoder takes it: -1 for none; what is beyond any payload limits nothing."""
    return -1 if size is None else min(size, MAX_PAYLOAD)


class Limits:
    """How large incoming messages may be: two members of a protocol, which may be changed while it is in use."""

    if TYPE_CHECKING:
        _decoder: FrameDecoder | None
        _max_message_size: int | None
        _max_fragment_size: int | None

    @property
    def max_message_size(self) -> int | None:
        """Limit of incoming messages in bytes, None for no limit. When it is set, it counts from the next frame on."""
        return self._max_message_size

    @max_message_size.setter
    def max_message_size(self, size: int | None) -> None:
        self._max_message_size = _checked("max_message_size", size)
        if self._decoder is not None:
            self._decoder.max_message = as_limit(size)

    @property
    def max_fragment_size(self) -> int | None:
        """Limit of the payload of an incoming frame in bytes, as :attr:`max_message_size`."""
        return self._max_fragment_size

    @max_fragment_size.setter
    def max_fragment_size(self, size: int | None) -> None:
        self._max_fragment_size = _checked("max_fragment_size", size)
        if self._decoder is not None:
            self._decoder.max_fragment = as_limit(size)
