"""The write buffer of a connection: its pieces, batches of frames, and the end of the stream.

May know: bytes, their number, and how a write failed. Must not know: frames, messages, TLS, sockets, transports, or how
senders wait.

A front-end whose network returns the number of bytes it took, as a socket does, uses an :class:`Outbox`. The front-end
for asyncio doesn't: a transport has its own write buffer with limits, so a second one would only cost memory. It holds
frames back in ``_fastpath``, which may be compiled. The decisions that both need are functions here: the end of the
stream (:func:`take_end`), joining writes (:func:`arrange`), and the effect of a failure (:func:`is_torn`).

A batch is a list of frames that are held back so that they share a write. There are two reasons for a batch. The frames
are held back in the same place, with the same limit, :data:`BATCH_LIMIT`:

- Answers: while the receive queue has messages, more answers will follow. The call that receives the last message
  writes the batch, or else the next turn of the event loop.
- Broadcasts: while one follows another, frames are held back for all connections of an event loop.
  :class:`BroadcastPace` decides when they are written.

Different calls end the two. Answers are held back for one connection, by compiled code, which schedules a call in the
next turn of the loop only if there is none yet. Adding each connection to a set of the loop would cost more.
"""

from __future__ import annotations

import enum
from collections import deque
from collections.abc import Iterable, Sequence
from itertools import islice
from typing import Final, TypeVar

from ..exceptions import InvalidState
from ..typing import BytesLike

__all__ = ["BATCH_LIMIT", "GATHER_FROM", "BroadcastPace", "Outbox", "arrange", "is_torn", "take_end"]

_Piece = TypeVar("_Piece", bound=BytesLike)

# In bytes. From this size on, copying a payload behind its header costs more than writing two pieces at once.
GATHER_FROM: Final = 2**15

# In bytes. A larger batch is written even if more frames may follow.
BATCH_LIMIT: Final = 2**16

# Maximum number of pieces for one call of the kernel. Linux and macOS take 1,024; POSIX guarantees 16.
MAX_PIECES: Final = 16

# Minimum and maximum time that frames of broadcasts are held back, in seconds.
LEAST_HOLD: Final = 0.001
MOST_HOLD: Final = 0.01


# ----------------------------------------------------------------------------------------- decisions without a buffer


def take_end(writes: list[bytes]) -> bool:
    """Remove the end of the stream from the end of a protocol's writes; return whether it was there."""
    ends = bool(writes) and not writes[-1]
    if ends:
        del writes[-1]
    return ends


def arrange(writes: Sequence[_Piece], gathers: bool) -> list[_Piece | bytes]:
    """Arrange writes into pieces for the network: adjacent small ones are joined.

    Parameters:
        writes: the writes, at least one.
        gathers: whether the network takes several pieces at once. If not, all are joined. For TLS it is False, because
            each piece becomes a record.

    Returns:
        The pieces.
    """
    if not gathers:
        return [b"".join(writes)]
    pieces: list[_Piece | bytes] = []
    small: list[_Piece] = []
    for write in writes:
        if len(write) < GATHER_FROM:
            small.append(write)
            continue
        if small:
            pieces.append(b"".join(small))
            small = []
        pieces.append(write)
    if small:
        pieces.append(b"".join(small))
    return pieces


def is_torn(exc: BaseException, promised: bool) -> bool:
    """Return whether nothing may follow a failed write, because a frame may be incomplete, or bytes are missing.

    Parameters:
        exc: exception of the write. ``RuntimeError`` means that no byte was taken.
        promised: whether no byte may be missing, because ``send()`` has returned for them, or because later messages
            refer to them, as with compression.
    """
    return promised or not isinstance(exc, RuntimeError)


# ---------------------------------------------------------------------------------------------------------- the buffer


class Outbox:
    """A write buffer for a network that returns the number of bytes it took.

    With a blocking socket::

        outbox.add(protocol.data_to_send())
        while outbox:
            outbox.taken(sock.send(outbox.next_piece()))
        if outbox.at_end:
            sock.shutdown(socket.SHUT_WR)
            outbox.end_sent()

    With TLS there are two. The network of the first one is the TLS channel, whose ``send()`` returns the number of
    bytes it took. The channel's ciphertext is added to the second one.

    There is one writer at a time. The result of :meth:`next_piece` or :meth:`next_pieces` stays valid, and next to
    send, until :meth:`taken`; others may add bytes before that. So a front-end for threads holds its lock around each
    call, but not while it sends. If a send is cancelled or times out, the rest stays here; nothing has to be undone.

    A sender that waits until its bytes are sent stores :attr:`accepted`, and continues when :attr:`sent` reaches it. A
    sender that waits only while the buffer is full checks :attr:`full` and :attr:`drained`.

    Parameters:
        high: bytes in the buffer above which senders wait.
        low: bytes in the buffer at which they continue; a quarter of ``high`` if None.
        gathers: whether the network takes several pieces at once, as with ``sendmsg()``; if not, large pieces are
            joined, too.

    Attributes:
        high, low, gathers: as the parameters.
        accepted: number of bytes that were added.
        sent: number of bytes that the network took.
        torn: whether nothing may follow, because a write failed in the middle of a frame.
    """

    __slots__ = ("_batch", "_end", "_new", "_offset", "_pieces", "accepted", "gathers", "held", "high", "low", "sent",
                 "torn")  # fmt: skip

    def __init__(self, high: int = 2**15, low: int | None = None, *, gathers: bool = True) -> None:
        self.high = high
        self.low = high // 4 if low is None else low
        self.gathers = gathers
        self.accepted = self.sent = self.held = 0
        self.torn = False
        self._batch: list[bytes] = []  # frames that are held back, of ``held`` bytes
        self._new: list[bytes] = []  # writes that have not been arranged into pieces
        self._pieces: deque[bytes] = deque()
        self._offset = 0  # bytes of the first piece that were taken
        self._end = _End.OPEN

    # ------------------------------------------------------------------------------------------------------------ ask

    def __bool__(self) -> bool:
        """Return whether there are bytes to write now; those of a batch don't count."""
        return bool(self._pieces or self._new)

    @property
    def buffered_amount(self) -> int:
        """Number of bytes that were added and not taken, including those of a batch."""
        return self.accepted - self.sent

    @property
    def full(self) -> bool:
        """Whether senders must wait."""
        return self.buffered_amount > self.high

    @property
    def drained(self) -> bool:
        """Whether waiting senders may continue."""
        return self.buffered_amount <= self.low

    @property
    def at_end(self) -> bool:
        """Whether all bytes were taken and the end of the stream must be sent now."""
        return self._end is _End.DUE and not self

    # ----------------------------------------------------------------------------------------------------------- tell

    def add(self, writes: Iterable[bytes]) -> None:
        """Add bytes to write now, after the batch; an empty write is the end of the stream.

        Nothing is added if it is :attr:`torn`.

        Raises:
            InvalidState: the end of the stream was added before.
        """
        self.release()
        for write in writes:
            if self._admits(write):
                self._new.append(write)

    def hold(self, frame: bytes) -> bool:
        """Add a frame to the batch.

        Returns:
            Whether frames are held back now, so that the caller must arrange a call of :meth:`release`. False if the
            batch became too large, or if it is :attr:`torn`.

        Raises:
            InvalidState: the end of the stream was added before.
        """
        if self._admits(frame):
            self._batch.append(frame)
            self.held += len(frame)
            if self.held > BATCH_LIMIT:
                self.release()
        return bool(self._batch)

    def release(self) -> None:
        """End the batch: its bytes must be written now."""
        self._new += self._batch
        self._batch, self.held = [], 0

    def _admits(self, write: bytes) -> bool:
        """Count a write; return whether its bytes must be kept."""
        if self.torn:
            return False
        if self._end is not _End.OPEN:
            raise InvalidState("nothing can be sent after the end of the stream")
        if not write:
            self._end = _End.DUE
        self.accepted += len(write)
        return bool(write)

    def taken(self, count: int) -> None:
        """Note the number of bytes that the network took of the last piece or pieces.

        Raises:
            ValueError: the last piece or pieces had fewer bytes.
        """
        if self.torn:
            return
        offered = sum(map(len, islice(self._pieces, MAX_PIECES))) - self._offset
        if not 0 <= count <= offered:
            raise ValueError(f"{count} bytes of {offered} can't have been taken")
        self.sent += count
        self._offset += count
        while self._pieces and self._offset >= len(self._pieces[0]):
            self._offset -= len(self._pieces.popleft())

    def bypass(self, frame: bytes) -> int:
        """Count a frame that the front-end gives to the network by itself, because nothing waits to be written.

        Call :meth:`bypassed` after that; the front-end doesn't write anything else before. What others add meanwhile
        comes later.

        Returns:
            The value of :attr:`accepted`.
        """
        self.accepted += len(frame)
        return self.accepted

    def bypassed(self, frame: bytes, count: int) -> None:
        """Note the number of bytes that the network took of such a frame; the rest is what to write next."""
        if not self.torn:
            self.sent += count
            if count < len(frame):
                self._pieces.appendleft(frame)
                self._offset = count

    def end_sent(self) -> None:
        """Note that the end of the stream was sent."""
        self._end = _End.SENT

    def tear(self) -> None:
        """Discard all bytes, and accept no more.

        A front-end calls this when a write failed and can't be repeated, or was cancelled on a stream that doesn't
        return the number of bytes it took (:func:`is_torn`). Then it aborts the connection.
        """
        self.torn, self._end = True, _End.SENT
        self.accepted = self.sent
        self.held = self._offset = 0
        for pieces in (self._batch, self._new, self._pieces):
            pieces.clear()

    # -------------------------------------------------------------------------------------------------------- collect

    def next_piece(self) -> memoryview:
        """Return the next piece, for a network that takes one piece at a time; empty if there is nothing to write."""
        views = self._offer(1)
        return views[0] if views else memoryview(b"")

    def next_pieces(self) -> list[memoryview]:
        """Return the next pieces, at most :data:`MAX_PIECES`, for a network that takes several pieces at once."""
        return self._offer(MAX_PIECES)

    def _offer(self, count: int) -> list[memoryview]:
        if self._new:
            self._pieces += arrange(self._new, self.gathers)
            self._new.clear()
        views = [memoryview(piece) for piece in islice(self._pieces, count)]
        if views:
            views[0] = views[0][self._offset :]
        return views


class _End(enum.Enum):
    """The end of the stream."""

    OPEN = "bytes may follow"
    DUE = "it is to be sent behind what waits"
    SENT = "it was sent, or will never be"


# ------------------------------------------------------------------------------------------------ batches of broadcasts


class BroadcastPace:
    """The times at which frames of broadcasts are written, for the connections of one event loop.

    Writing costs more than the rest of a broadcast, so broadcasts that follow each other closely share writes. The
    first one is written at once. While one follows another, in the same turn of the event loop or in the next, frames
    are held back: until a turn without a broadcast, or for about the time that writing them takes. So no connection
    waits longer than with a write for each frame.

    Attributes:
        holding: whether the frames of a broadcast that begins now must be held back.
    """

    __slots__ = ("_due", "_hold_for", "_turns_left", "holding")

    def __init__(self) -> None:
        self.holding = False
        self._turns_left = 0  # number of turns of the event loop in which the last broadcast still counts
        self._due = 0.0
        self._hold_for = LEAST_HOLD

    def begin(self) -> None:
        """Note that a broadcast begins; while :attr:`holding`, :meth:`turn` must be called in each turn of the loop."""
        self.holding = True
        self._turns_left = 2

    def hold(self, now: float) -> None:
        """Note that the first frame of a batch is held back at ``now``, in seconds."""
        self._due = now + self._hold_for

    def turn(self) -> None:
        """Note that a turn of the event loop has passed."""
        self._turns_left -= 1
        self.holding = self._turns_left > 0

    def is_due(self, now: float) -> bool:
        """Return whether the frames held back must be written now."""
        return not self.holding or now >= self._due

    def written(self, seconds: float) -> None:
        """Note the time that writing took, in seconds: next time, frames are held back for that long."""
        self._hold_for = min(max(seconds, LEAST_HOLD), MOST_HOLD)
