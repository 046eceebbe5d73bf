"""From fragments to messages and back: RFC 6455 sections 5.4 and 5.6.

May know: the parts of a message, limits of size, the receive queue, how an iterable becomes fragments. Must not know:
the wire, closing, time, receivers that wait.

An :class:`Inbox` is the receive queue. A message in one frame is stored as it is, a ``str`` or ``bytes``. A fragmented
message is stored as an :class:`Assembly`. It enters the queue with its first fragment, so that it can be read while the
rest arrives.
"""

from __future__ import annotations

import codecs
from collections.abc import Callable, Iterator, Mapping
from itertools import islice
from typing import TYPE_CHECKING, Final

from .._codec import Assembly, Queue
from .._codec.header import FIN, MAX_PAYLOAD, OPCODE_BINARY, OPCODE_CONT, OPCODE_MASK, OPCODE_TEXT
from .._compat.environment import whole_number
from ..exceptions import TooManyFragments, advised
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

# The limit of a message's size also limits its fragments. The environment may set a limit for their number.
MAX_FRAGMENTS: Final = whole_number("WEBSOCKETS_MAX_FRAGMENTS", None)


class Missing:
    """The type of :data:`MISSING`: there is no complete message."""


MISSING: Final = Missing()


class Inbox:
    """The receive queue: messages in order of arrival, and the limits at which reading pauses and resumes.

    Parameters:
        high: number of frames in the queue above which reading should pause; None for no limit.
        low: number of frames at or below which reading should resume.
    """

    __slots__ = ("discarding", "high", "items", "low")

    def __init__(self, high: int | None = None, low: int = 0) -> None:
        self.high = high
        self.low = low
        self.items: Queue[Data | Assembly] = Queue()
        # Set when closing: frames above the limit are then discarded, so that the peer's Close frame can be read.
        self.discarding = False
        # A limit for the number of fragments is checked here, and only here.
        self.items.assembles = MAX_FRAGMENTS is None

    @property
    def keep(self) -> Callable[[Data], None]:
        """Return the function that stores a message in one frame."""
        return self.items.append

    def put(self, head: int, payload: Data) -> None:
        """Store a data frame: its first byte, and its payload; ``str`` for a whole text message."""
        if self.discarding and self.full:
            self._drop()
        elif head & FIN and head & OPCODE_MASK != OPCODE_CONT:
            # A message in one frame is stored as it is.
            self.items.append(payload)
        else:
            assert isinstance(payload, bytes)
            self._put_fragment(head, payload)

    def _put_fragment(self, head: int, payload: bytes) -> None:
        if MAX_FRAGMENTS is not None:
            current = None if head & OPCODE_MASK != OPCODE_CONT else self.items.current
            if (0 if current is None else current.waiting) >= MAX_FRAGMENTS:
                raise TooManyFragments(MAX_FRAGMENTS)
        self.items.add_fragment(head, payload)

    def _drop(self) -> None:
        """Discard a frame, the whole message that it belongs to, and all that comes later: a receiver sees no gap."""
        self.high = -1
        current = self.items.current
        if current is not None:
            self.items.pop()
            self.items.extra -= max(current.waiting - 1, 0)
            self.items.current = None

    def holds(self) -> bool:
        """Return whether a complete message is in the queue."""
        return any(not isinstance(item, Assembly) or item.complete for item in self.items)

    @property
    def count(self) -> int:
        """The number of frames in the queue."""
        return len(self.items) + self.items.extra

    @property
    def full(self) -> bool:
        """Whether reading should pause."""
        return self.high is not None and len(self.items) + self.items.extra > self.high

    @property
    def ready(self) -> bool:
        """Whether the next message is complete."""
        first = self.items[0] if self.items else None
        return first is not None and (not isinstance(first, Assembly) or first.complete)

    @property
    def drained(self) -> bool:
        """Whether reading should resume."""
        return len(self.items) + self.items.extra <= self.low

    def get(self) -> Data | Missing:
        """Return the next message, or :data:`MISSING` while it isn't complete."""
        message = self.items.take()
        return MISSING if message is None else message

    def next_message(self) -> Iterator[Data]:
        """Return an iterator over the next message, or over nothing while it isn't complete: see :meth:`get`.

        The message is taken when it is asked for. So a list can take and store it in a single step.
        """
        return islice(iter(self.items.take, None), 1)

    # A reader of fragments takes them from the assembly at the head of the queue, and releases it at the end.

    def take(self, assembly: Assembly) -> bytes | None:
        """Return the next fragment of the assembly at the head of the queue; None if there is none yet."""
        before = assembly.waiting
        piece = assembly.take()
        if self._leads(assembly):
            self.items.extra -= max(before - 1, 0) - max(assembly.waiting - 1, 0)
        return piece

    def release(self, assembly: Assembly) -> None:
        """Remove the assembly at the head of the queue; its missing fragments will be discarded."""
        if self._leads(assembly):
            self.items.popleft()
            self.items.extra -= max(assembly.waiting - 1, 0)
        if self.items.current is assembly:
            self.items.current = None

    def _leads(self, assembly: Assembly) -> bool:
        """Return whether the assembly is still at the head of the queue; it may have been discarded during the read."""
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
    """Return the function that converts a complete message for ``recv(decode=...)``."""
    return _CONVERTERS[decode]


def fragment_converter(decode: bool | None, text: bool) -> Callable[[bytes, bool], Data]:
    """Return the function that converts the fragments of one message for ``recv_streaming(decode=...)``.

    The function takes a fragment, and whether it is the last. It joins characters that are split between fragments.
    """
    if decode or (decode is None and text):
        return codecs.getincrementaldecoder("utf-8")().decode
    return lambda piece, final: piece


# ---------------------------------------------------------------------------------------------------- as the wire wants


def encode_message(message: object, text: bool | None) -> tuple[int, BytesLike] | None:
    """Return the opcode and the payload of a message in one piece; None if ``message`` isn't one.

    Parameters:
        message: the message to send.
        text: whether to send it as text; None to go by its type.
    """
    if isinstance(message, str):
        return (OPCODE_BINARY if text is False else OPCODE_TEXT), message.encode()
    # Every message takes this path, and isinstance() is faster with a tuple than with a union of types.
    if isinstance(message, (bytes, bytearray)):
        return (OPCODE_TEXT if text else OPCODE_BINARY), message
    if isinstance(message, memoryview):
        # A memoryview may have any shape, so make flat bytes.
        return (OPCODE_TEXT if text else OPCODE_BINARY), message.tobytes()
    return None


def refuse_mapping(message: object) -> None:
    """Refuse a mapping, because iterating over it would send its keys.

    Raises:
        TypeError: ``message`` is a mapping.
    """
    if isinstance(message, Mapping):
        raise advised(TypeError("data is a dict-like object"), "to send it as JSON, use json.dumps(data)")


def encode_item(item: object, first: bool | None) -> tuple[bool, bytes]:
    """Return whether the next item of an iterable is a ``str``, and its payload, which won't change any more.

    Parameters:
        item: the item.
        first: whether the first item was a ``str``; None if this is the first.

    Raises:
        TypeError: the item is neither ``str`` nor bytes, or doesn't have the type of the first item.
    """
    encoded = encode_message(item, None)
    if encoded is None:
        advice = f"one of its items is of type {type(item).__name__}"
        raise advised(TypeError("iterable must contain bytes or str"), advice)
    is_text = isinstance(item, str)
    if first is not None and is_text is not first:
        raise TypeError("iterable must contain uniform types")
    payload = encoded[1]
    return is_text, payload if type(payload) is bytes else bytes(payload)


def _checked(name: str, size: int | None) -> int | None:
    if size is not None and (isinstance(size, bool) or not isinstance(size, int)):
        raise TypeError(f"{name} must be a number of bytes, or None for no limit, not {size!r}")
    if size is not None and size < 0:
        raise ValueError(f"{name} must be a number of bytes, or None for no limit, not {size}")
    return size


def as_limit(size: int | None) -> int:
    """Return a limit in bytes for the decoder: -1 for no limit; limits above any payload are reduced."""
    return -1 if size is None else min(size, MAX_PAYLOAD)


class Limits:
    """The limits for incoming messages: two properties of a protocol, which may be changed at any time."""

    if TYPE_CHECKING:
        _decoder: FrameDecoder | None
        _max_message_size: int | None
        _max_fragment_size: int | None

    @property
    def max_message_size(self) -> int | None:
        """Maximum size of incoming messages in bytes, None for no limit; a change applies from the next frame on."""
        return self._max_message_size

    @max_message_size.setter
    def max_message_size(self, size: int | None) -> None:
        self._max_message_size = _checked("max_message_size", size)
        if self._decoder is not None:
            self._decoder.max_message = as_limit(size)

    @property
    def max_fragment_size(self) -> int | None:
        """Maximum size of the payload of an incoming frame in bytes, like :attr:`max_message_size`."""
        return self._max_fragment_size

    @max_fragment_size.setter
    def max_fragment_size(self, size: int | None) -> None:
        self._max_fragment_size = _checked("max_fragment_size", size)
        if self._decoder is not None:
            self._decoder.max_fragment = as_limit(size)
