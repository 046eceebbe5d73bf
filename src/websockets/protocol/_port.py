"""The port between a protocol and the session above it: calls that a session may make beyond the public API.

May know: the private attributes of :class:`~websockets.protocol.Protocol` for receiving, and whether a message may be
sent. Must not know: how a session uses them, time, waiters.

The protocol passes messages to a :class:`Receiver`. The session keeps the :class:`Port`. The protocol doesn't refer to
the port: without a cycle, a connection is freed as soon as the last reference to it is gone.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any
from typing import Protocol as Interface

from .._rules.lifecycle import Lifecycle, Sending
from .._rules.statistics import NOTHING, Tally
from ..typing import Data

if TYPE_CHECKING:
    from .._codec import FrameDecoder
    from ..extensions.permessage_deflate import PerMessageDeflate
    from . import Protocol

__all__ = ["Port", "Receiver", "check_sending", "in_fragments"]


class Receiver(Interface):
    """The receiver of messages, in place of :meth:`~websockets.protocol.Protocol.events_received`."""

    @property
    def keep(self) -> Callable[[Data], object]:
        """Return the function that stores a message in one frame, when nothing else has to see it."""
        ...

    def put(self, head: int, payload: Data) -> None:
        """Process a data frame: its first byte, and its payload; ``str`` for a whole text message."""

    def holds(self) -> bool:
        """Whether a whole message waits to be read; an error of the peer is held back until it is read."""
        ...


class Port:
    """The calls from a session to a protocol about receiving.

    Parameters:
        protocol: the protocol, before its first frame.
        receiver: the receiver of messages.

    Attributes:
        life: the lifecycle of the connection.
    """

    __slots__ = ("_protocol", "life")

    def __init__(self, protocol: Protocol, receiver: Receiver) -> None:
        self._protocol = protocol
        self.life: Lifecycle = protocol._life
        protocol._receiver, protocol._keeps = receiver, True

    # ------------------------------------------------------------------------------------------------------------ ask

    @property
    def decoder(self) -> FrameDecoder | None:
        """The decoder of frames; None before the first frame and after the end of the stream."""
        return self._protocol._decoder

    @property
    def deflate(self) -> PerMessageDeflate | None:
        """The extension permessage-deflate, if it is the only one; None otherwise."""
        protocol = self._protocol
        if protocol._deflate is None and protocol.extensions:
            protocol._find_deflate()
        return protocol._deflate

    @property
    def keeps(self) -> bool:
        """Whether messages in one frame go straight to the receiver, because no log and no extension needs them."""
        return self._protocol._keeps

    @property
    def frames(self) -> int:
        """The number of frames in the last data processed."""
        return self._protocol._frames

    @property
    def failure_held(self) -> bool:
        """Whether an error of the peer is held back until the messages before it are read."""
        return self._protocol._held is not None

    @property
    def pongs_held(self) -> bool:
        """Whether pongs are held back, because the write buffer is full."""
        return self._protocol._hold_pongs

    @property
    def tally(self) -> Tally:
        """The counters for everything except whole messages."""
        return self._protocol._tally or NOTHING

    @property
    def received(self) -> tuple[int, int]:
        """The number of messages received, and the bytes of their payloads on the wire."""
        decoder = self._protocol._decoder
        return self._protocol._received if decoder is None else (decoder.messages, decoder.payload_bytes)

    def heard(self) -> bool:
        """Return whether any data arrived since the last call."""
        decoder = self._protocol._decoder
        if decoder is None or not decoder.heard:
            return False
        decoder.heard = False
        return True

    # ----------------------------------------------------------------------------------------------------------- tell

    def receive_frames(self, frames: list[Any]) -> None:
        """Process frames that a front-end decoded: a list of first byte, payload, first byte, payload..."""
        self._protocol._take_frames(frames)

    def inflate(self, head: int, payload: bytes) -> Data | None:
        """Decode a compressed message in one frame, for a front-end that stores it.

        Returns:
            The message; None if it fails the connection.
        """
        return self._protocol._inflate_whole(head, payload)

    def stop_keeping(self) -> None:
        """Pass every message to :meth:`Receiver.put`, which may discard it."""
        self._protocol._keeps = False

    def hold_pongs(self) -> None:
        """Stop sending pongs; of the pending ones, only the last will be sent."""
        self._protocol._hold_pongs = True

    def release_pong(self) -> None:
        """Send pongs again, first for the last ping that wasn't answered (RFC 6455 section 5.5.3)."""
        protocol = self._protocol
        protocol._hold_pongs = False
        owed, protocol._pong_owed = protocol._pong_owed, None
        if owed is not None and self.life.sending in (Sending.OPEN, Sending.SHUT):
            protocol.send_pong(owed)


def check_sending(protocol: Protocol) -> None:
    """Do nothing if a message may be sent.

    Raises:
        InvalidState: the connection isn't open.
        ProtocolError: a fragmented message has begun and not ended.
    """
    protocol._check_sending()


def in_fragments(protocol: Protocol) -> bool:
    """Return whether a fragmented message is being sent."""
    return protocol._life.continuing
