"""Flow control of received data: how much of a read is processed at once, and when reading pauses and resumes.

May know: the number of frames in a read and in the receive queue, how long a frame is, the lifecycle of the connection.
Must not know: transports, time, receivers that wait.

Reading pauses while the receive queue is full. A read may contain tens of thousands of tiny frames. So it is processed
in slices, and after a slice with many frames other connections have their turn. The rest of the read is kept until
then. Each method that may pause or resume reading returns a :class:`Flow`, which the front-end applies.
"""

from __future__ import annotations

import enum
from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

from .._codec.header import frame_length
from .._rules.lifecycle import Receiving
from .._rules.messages import Inbox
from ..typing import BytesLike

if TYPE_CHECKING:
    from .._codec import FrameDecoder
    from ..protocol._port import Port

__all__ = ["Flow", "Intake"]

# Number of bytes in the first slice of a read. Each further slice is four times as large. A slice that begins with a
# longer frame, or with the rest of one, has all of it.
FIRST_SLICE: Final = 2**12

# The size of each slice where rates are limited: a slice with more messages than are allowed is taken in all the same.
METERED_SLICE: Final = 2**10

# After a slice with more frames than this, other connections have their turn.
FRAMES_A_TURN: Final = 500

# While reading is paused, a little data is read between a keepalive ping and its pong, to check that the peer is alive.
# This data must not pile up. At most this many reads with messages are processed. After them there is one read for each
# ping, and its bytes are kept unprocessed, up to this number of bytes. Then reading stops.
SPARE_READS: Final = 4
SPARE_BYTES: Final = 2**18

_OPEN: Final = Receiving.OPEN


class Flow(enum.Enum):
    """The action that a front-end must apply to its transport."""

    STAY = "leave it as it is"
    READ = "take in what was kept, then read"
    LISTEN = "read; what was kept stays so"
    PAUSE = "don't read"
    YIELD = "let others run, then call Intake.turn_over(); until then, what Intake.flow says"


class Intake:
    """The flow control of received data on one connection.

    Parameters:
        inbox: the receive queue.
        port: the port of the protocol.

    Attributes:
        rest: bytes that were read and not processed yet.
        paused: whether reading is paused, because the receive queue is full.
        yielding: whether other connections have their turn before :attr:`rest`.
        metered: whether the rate of what is received is limited.
        limited: whether reading has to wait because of such a limit; the session sets it.
        listening: whether to read a little although reading is paused, to check that the peer is alive.
    """

    __slots__ = (
        *("_crowded", "_grown", "_heard", "_inbox", "_kept", "_port", "_waiting"),
        *("limited", "listening", "metered", "paused", "rest", "yielding"),
    )

    def __init__(self, inbox: Inbox, port: Port) -> None:
        self._inbox = inbox
        self._port = port
        self.rest = b""
        self.paused = self.yielding = self.listening = self.limited = self.metered = False
        self._crowded = False  # whether the last read was interrupted, so that other connections have their turn
        self._heard = False  # whether data arrived while listening
        # While reading is paused: number of frames in the queue before the last read, number of reads with messages,
        # number of bytes kept unprocessed.
        self._waiting = self._grown = self._kept = 0

    # ------------------------------------------------------------------------------------------------------------ ask

    @property
    def flow(self) -> Flow:
        """The current action for the transport: READ, LISTEN or PAUSE."""
        if self.limited:
            return Flow.PAUSE
        if self.paused:
            return Flow.LISTEN if self.listening else Flow.PAUSE
        return Flow.PAUSE if self.yielding else Flow.READ

    def direct_decoder(self) -> FrameDecoder | None:
        """Return the decoder that a front-end may feed directly; None if reads must go through this object."""
        return None if self.metered else self._fit_decoder()

    def metered_decoder(self) -> FrameDecoder | None:
        """Return the decoder that a front-end may feed as far as was granted; only where rates are limited."""
        return None if self.limited else self._fit_decoder()

    def _fit_decoder(self) -> FrameDecoder | None:
        port = self._port
        decoder = port.decoder
        if decoder is None or self.rest or self.listening:
            return None
        direct = port.keeps and port.life.receiving is _OPEN and not port.failure_held
        return decoder if direct else None

    def direct_messages(self) -> int | None:
        """Return the number of frames in the queue above which a front-end must ask this object; None for no limit."""
        return self._inbox.high

    # --------------------------------------------------------------------------------------------------------- a read

    def slices(self, data: BytesLike) -> Iterator[BytesLike]:
        """Yield the slices of a read to process now; the rest is kept. Then call :meth:`after_read`.

        Parameters:
            data: data from a read.
        """
        if self.limited:
            # With TLS, data may arrive although reading is paused.
            self.rest += data
            return
        if self.paused and self.listening:
            if not self._overhear(len(data)):
                self.rest += data
                return
        elif self.rest:
            # With TLS, data may arrive although reading is paused.
            self.rest += data
            return
        size, end = METERED_SLICE if self.metered else FIRST_SLICE, len(data)
        if end <= size:
            yield data
            return
        data, start = bytes(data), 0
        while start < end:
            stop = start + size
            if stop < end and not self.metered:
                stop = max(stop, self._end_of_frame(data, start))
            yield data[start:stop]
            start = stop
            if start < end and (self.paused or self.limited or self._port.frames > FRAMES_A_TURN):
                self.rest, self._crowded = data[start:], True
                return
            if not self.metered:
                size *= 4

    def _end_of_frame(self, data: bytes, start: int) -> int:
        """Return where the frame ends with which a slice begins: as one frame, it may be decoded at once."""
        decoder = self._port.decoder
        missing = -1 if decoder is None else decoder.missing
        if missing == 0:
            return start + frame_length(data, start)
        # In the middle of a header, the length isn't known.
        return start + max(missing, 0)

    def _overhear(self, size: int) -> bool:
        """Note a read of ``size`` bytes while reading is paused: the peer is alive. Return whether to process it."""
        self._heard = True
        before, self._waiting = self._waiting, self._inbox.count
        self._grown += self._waiting > before
        # Several reads may come before the pong; but a pong can't be found in bytes that are kept unprocessed.
        self.listening = not self.rest and self._grown < SPARE_READS
        if not self.listening:
            self._kept += size
        return self.listening

    def after_read(self) -> Flow:
        """Return the action after all slices of a read were processed."""
        if self._crowded:
            self._crowded = False
            return self._yield()
        return self.flow if self.paused else Flow.STAY

    def keep(self, rest: bytes) -> Flow:
        """Keep the rest of a read with many frames, from a front-end that feeds the decoder."""
        self.rest = rest
        return self._yield()

    def _yield(self) -> Flow:
        self.yielding = True
        return Flow.YIELD

    def turn_over(self) -> Flow:
        """Continue after other connections had their turn."""
        self.yielding = False
        return Flow.STAY if self.paused or self.limited else Flow.READ

    def limit_over(self) -> Flow:
        """Continue after the time for which a limit of a rate has paused reading."""
        self.limited = False
        return self.flow

    def end(self) -> None:
        """Process the end of the connection: discard the rest, and wait for no other connection."""
        self.rest, self.yielding, self.limited = b"", False, False

    def take_rest(self) -> bytes:
        """Return the bytes that were kept, and remove them."""
        rest, self.rest = self.rest, b""
        return rest

    # ------------------------------------------------------------------------------------------------ pause and go on

    def check_full(self, waited_for: bool) -> Flow:
        """Pause if the receive queue is full.

        Parameters:
            waited_for: whether a receiver waits. If no message is complete, it needs more data.
        """
        inbox = self._inbox
        if self.paused or inbox.discarding or not inbox.full or self._port.life.receiving is not _OPEN:
            return Flow.STAY
        if waited_for and not inbox.ready:
            return Flow.STAY
        return self.pause()

    def check_drained(self) -> Flow:
        """Resume if the receive queue has room."""
        return self.resume() if self._inbox.drained else Flow.STAY

    def check_end(self) -> Flow:
        """Resume after our Close frame was sent, if messages are ignored and only the end of the stream matters."""
        port = self._port
        # A peer that doesn't read won't answer our Close frame.
        if port.life.receiving is not Receiving.DEAF or port.pongs_held:
            return Flow.STAY
        limited, self.limited = self.limited, False
        flow = self.resume()
        return self.flow if limited else flow

    def pause(self) -> Flow:
        """Pause reading, because the receive queue is full."""
        self._set_paused(True)
        return Flow.PAUSE

    def resume(self) -> Flow:
        """Resume reading, because a receiver asks for messages, or the end of the stream must be read."""
        if not self.paused:
            return Flow.STAY
        self._set_paused(False)
        return self.flow

    def _set_paused(self, paused: bool) -> None:
        self.paused, self.listening = paused, False
        self._waiting, self._grown, self._kept = self._inbox.count, 0, 0

    # ------------------------------------------------------------------------------------------------------ keepalive

    def listen(self) -> None:
        """Read a little after a keepalive ping, if reading is paused, to check that the peer is alive."""
        # If the write buffer is full, the ping doesn't reach the peer either.
        self.listening = self.paused and not self._port.pongs_held and self._kept < SPARE_BYTES

    def heard(self) -> bool:
        """Return whether any data arrived since the last call."""
        overheard, self._heard = self._heard, False
        return self._port.heard() or overheard
