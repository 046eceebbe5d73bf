"""How much of what arrives is taken in, and when reading pauses and goes on.

May know: how many frames a read had, how many messages wait, the life of the connection. Must not know: transports,
time, who waits for a message.

Reading pauses while more messages wait than the application asks for. And a read may hold tens of thousands of tiny
frames: it is taken in by slices, and after a slice with many frames other connections have their turn first. The rest
of the read is kept until then. So each method that may change whether to read answers with a :class:`Flow`, which the
front-end carries out.
"""

from __future__ import annotations

import enum
from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

from .._rules.lifecycle import Receiving
from .._rules.messages import Inbox
from ..typing import BytesLike

if TYPE_CHECKING:
    from .._codec import FrameDecoder
    from ..protocol._port import Port

__all__ = ["Flow", "Intake"]

# How many bytes of a read are taken in at first. Each further slice is four times as large.
FIRST_SLICE: Final = 2**12

# After a slice with more frames than this, other connections have their turn.
FRAMES_A_TURN: Final = 500

# While reading is paused, a little is read between a keepalive ping and its pong, to see whether the peer lives. It
# must not pile up. This many reads that bring messages are taken in. After them there is one read for each ping, kept
# as it came, up to this many bytes. Then nothing is read any more.
SPARE_READS: Final = 4
SPARE_BYTES: Final = 2**18

_OPEN: Final = Receiving.OPEN


class Flow(enum.Enum):
    """What a front-end must do with its transport."""

    STAY = "leave it as it is"
    READ = "take in what was kept, then read"
    LISTEN = "read; what was kept stays so"
    PAUSE = "don't read"
    YIELD = "let others run, then call Intake.turn_over(); until then, what Intake.flow says"


class Intake:
    """What is taken in of what arrives at one connection.

    Parameters:
        inbox: the messages that wait to be read.
        port: the port of the protocol.

    Attributes:
        rest: bytes that were read, and have not been taken in.
        paused: whether reading is paused, as nobody asks for what was received.
        yielding: whether others have their turn before :attr:`rest`.
        listening: whether to read although reading is paused, for a sign of life.
    """

    __slots__ = (
        *("_crowded", "_grown", "_heard", "_inbox", "_kept", "_port", "_waiting"),
        *("listening", "paused", "rest", "yielding"),
    )

    def __init__(self, inbox: Inbox, port: Port) -> None:
        self._inbox = inbox
        self._port = port
        self.rest = b""
        self.paused = self.yielding = self.listening = False
        self._crowded = False  # whether the last read was cut off, so that others have their turn
        self._heard = False  # whether listening gave a sign of life
        # While reading is paused: how many frames waited before the last read, how many reads brought messages, how
        # many bytes were kept as they came.
        self._waiting = self._grown = self._kept = 0

    # ------------------------------------------------------------------------------------------------------------ ask

    @property
    def flow(self) -> Flow:
        """What to do with the transport as things are: READ, LISTEN or PAUSE."""
        if self.paused:
            return Flow.LISTEN if self.listening else Flow.PAUSE
        return Flow.PAUSE if self.yielding else Flow.READ

    def direct_decoder(self) -> FrameDecoder | None:
        """The decoder to which a front-end may feed reads itself; None while there is more to it than that."""
        port = self._port
        direct = port.keeps and not self.rest and not self.listening and port.life.receiving is _OPEN
        return port.decoder if direct and not port.failure_held else None

    def direct_messages(self) -> int | None:
        """How many messages may wait before a front-end that counts only messages must ask; None for any number."""
        inbox = self._inbox
        return inbox.high if inbox.high is None or inbox.count == len(inbox.items) else 0

    # --------------------------------------------------------------------------------------------------------- a read

    def slices(self, data: BytesLike) -> Iterator[BytesLike]:
        """The parts of a read that are to be taken in now, one after the other; what must wait is kept.

        After the last, ask :meth:`after_read`.

        Parameters:
            data: what the read gave.
        """
        if self.paused and self.listening:
            if not self._overhear(len(data)):
                self.rest += data
                return
        elif self.rest:
            # With TLS, more may come although reading pauses.
            self.rest += data
            return
        size, end = FIRST_SLICE, len(data)
        if end <= size:
            yield data
            return
        data, start = bytes(data), 0
        while start < end:
            yield data[start : start + size]
            start += size
            if start < end and (self.paused or self._port.frames > FRAMES_A_TURN):
                self.rest, self._crowded = data[start:], True
                return
            size *= 4

    def _overhear(self, size: int) -> bool:
        """Note a read of ``size`` bytes although reading is paused: a sign of life. Return whether to take it in."""
        self._heard = True
        before, self._waiting = self._waiting, self._inbox.count
        self._grown += self._waiting > before
        # There may be more than one read before the pong; but in bytes that are kept as they came it can't be seen.
        self.listening = not self.rest and self._grown < SPARE_READS
        if not self.listening:
            self._kept += size
        return self.listening

    def after_read(self) -> Flow:
        """What to do once all slices of a read were taken in."""
        if self._crowded:
            self._crowded = False
            return self._yield()
        return self.flow if self.paused else Flow.STAY

    def keep(self, rest: bytes) -> Flow:
        """Keep what a front-end that feeds the decoder itself left of a read, as it had many frames."""
        self.rest = rest
        return self._yield()

    def _yield(self) -> Flow:
        self.yielding = True
        return Flow.YIELD

    def turn_over(self) -> Flow:
        """Take in that others had their turn."""
        self.yielding = False
        return Flow.STAY if self.paused else Flow.READ

    def end(self) -> None:
        """Take in that the connection is over: nothing is kept, and nobody's turn is waited for."""
        self.rest, self.yielding = b"", False

    def take_rest(self) -> bytes:
        """Take out what was kept."""
        rest, self.rest = self.rest, b""
        return rest

    # ------------------------------------------------------------------------------------------------ pause and go on

    def check_full(self, waited_for: bool) -> Flow:
        """Pause if too many frames wait.

        Parameters:
            waited_for: whether somebody waits for a message. If none is whole, the rest of it is needed.
        """
        inbox = self._inbox
        if self.paused or inbox.discarding or not inbox.full or self._port.life.receiving is not _OPEN:
            return Flow.STAY
        if waited_for and not inbox.ready:
            return Flow.STAY
        return self.pause()

    def check_drained(self) -> Flow:
        """Go on if few enough frames wait."""
        return self.resume() if self._inbox.drained else Flow.STAY

    def check_end(self) -> Flow:
        """Go on if nothing is kept any more and only the end of the stream matters, once our Close is on its way."""
        port = self._port
        # A peer that doesn't read our Close doesn't answer it.
        return self.resume() if port.life.receiving is Receiving.DEAF and not port.pongs_held else Flow.STAY

    def pause(self) -> Flow:
        """Stop reading: nobody asks for what was received."""
        self._set_paused(True)
        return Flow.PAUSE

    def resume(self) -> Flow:
        """Read again: somebody asks for messages, or the end of the stream must be seen."""
        if not self.paused:
            return Flow.STAY
        self._set_paused(False)
        return self.flow

    def _set_paused(self, paused: bool) -> None:
        self.paused, self.listening = paused, False
        self._waiting, self._grown, self._kept = self._inbox.count, 0, 0

    # ------------------------------------------------------------------------------------------------------ keepalive

    def listen(self) -> None:
        """Listen for a sign of life, if reading is paused, while a keepalive ping is on its way."""
        # If the peer takes nothing any more, the ping doesn't reach it, either.
        self.listening = self.paused and not self._port.pongs_held and self._kept < SPARE_BYTES

    def heard(self) -> bool:
        """Whether anything arrived since this was last called."""
        overheard, self._heard = self._heard, False
        return self._port.heard() or overheard
