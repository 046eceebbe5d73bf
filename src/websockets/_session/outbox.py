"""What is still to be sent on a connection, in which pieces, and when the end of the stream follows.

May know: bytes, their number, and how a write failed. Must not know: frames, messages, TLS, sockets, transports, or how
senders wait.

A front-end whose network tells how many bytes it took, as a socket does, keeps an :class:`Outbox`. The front-end for
asyncio has none: a transport keeps what it can't send, with marks of its own, so a second buffer would hold nothing and
cost memory on each connection. It holds frames back in ``_fastpath``, where that is compiled. So what both have to
decide is in functions here: where the stream ends (:func:`take_end`), how writes are joined (:func:`arrange`), and what
a failure means (:func:`is_torn`).

A batch is frames that are held back so that they share a write. There are two reasons for one, and one place where the
frames wait, with one limit, :data:`BATCH_LIMIT`:

- Answers: while messages that were received wait to be read, more answers will follow. Whoever reads the last of them
  writes the batch, or else the next turn of the event loop does.
- Broadcasts: while one follows another, frames are held back for all connections of an event loop.
  :class:`BroadcastPace` says when they are written.

The two don't share the call that ends them. Answers are held back for one connection, by compiled code, which asks for
a turn of the loop only if nobody has asked before. To enter each connection in a set of the loop would cost more.
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

# From this size on, copying a payload behind its header costs more than writing two pieces at once. In bytes.
GATHER_FROM: Final = 2**15

# A batch of more bytes than this is written, even if more frames may follow.
BATCH_LIMIT: Final = 2**16

# Pieces that the kernel takes in one call, at most. Linux and macOS take 1,024; POSIX promises 16.
MAX_PIECES: Final = 16

# How long frames of broadcasts are held back, in seconds: at least, at most.
LEAST_HOLD: Final = 0.001
MOST_HOLD: Final = 0.01


# ----------------------------------------------------------------------------------------- decisions without a buffer


def take_end(writes: list[bytes]) -> bool:
    """Take the end of the stream off the writes of a protocol, where it is the last; return whether it was there."""
    ends = bool(writes) and not writes[-1]
    if ends:
        del writes[-1]
    return ends


def arrange(writes: Sequence[_Piece], gathers: bool) -> list[_Piece | bytes]:
    """Decide in which pieces writes are given to the network: small ones that follow each other are joined.

    Parameters:
        writes: at least one.
        gathers: whether the network takes several pieces at once. If not, all are joined. So it is with TLS, where each
            piece becomes a record.
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
    """Whether nothing may follow a write that failed, as a part of a frame may be on the wire, or bytes are missing.

    Parameters:
        exc: what the write raised. ``RuntimeError`` means that nothing was taken.
        promised: whether none of the bytes may be missing: their senders were told that they are sent, or later
            messages refer to them, as with compression.
    """
    return promised or not isinstance(exc, RuntimeError)


# ---------------------------------------------------------------------------------------------------------- the buffer


class Outbox:
    """Bytes that wait for a network which tells how many it took.

    With a blocking socket::

        outbox.add(protocol.data_to_send())
        while outbox:
            outbox.taken(sock.send(outbox.next_piece()))
        if outbox.at_end:
            sock.shutdown(socket.SHUT_WR)
            outbox.end_sent()

    With TLS there are two: the network of the first is the TLS channel, whose ``send()`` tells how many bytes it took,
    and the channel's ciphertext is added to the second.

    There is one writer at a time. What :meth:`next_piece` or :meth:`next_pieces` returned stays valid, and first in
    line, until :meth:`taken`: in between, others may add. So a front-end for threads holds its lock around each call,
    and not while it sends. A send that is cancelled, or times out, leaves the rest here; nothing has to be undone.

    A sender that waits until its bytes are out remembers :attr:`accepted`, and goes on when :attr:`sent` is as much.
    One that waits only while too much waits to be sent goes by :attr:`full` and :attr:`drained`.

    Parameters:
        high: bytes waiting above which senders wait.
        low: bytes waiting at which they go on; a quarter of ``high`` if None.
        gathers: whether the network takes several pieces at once, as with ``sendmsg()``; else large pieces are joined,
            too.

    Attributes:
        high, low, gathers: as the parameters.
        accepted: number of bytes that were added.
        sent: number of bytes that the network took.
        torn: whether nothing may follow, as a write failed in the middle.
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
        self._new: list[bytes] = []  # writes that are not arranged in pieces yet
        self._pieces: deque[bytes] = deque()
        self._offset = 0  # bytes of the first piece that were taken
        self._end = _End.OPEN

    # ------------------------------------------------------------------------------------------------------------ ask

    def __bool__(self) -> bool:
        """Whether there are bytes to be written now; those of a batch don't count."""
        return bool(self._pieces or self._new)

    @property
    def buffered_amount(self) -> int:
        """Number of bytes that were added and not taken, those of a batch included."""
        return self.accepted - self.sent

    @property
    def full(self) -> bool:
        """Whether senders must wait."""
        return self.buffered_amount > self.high

    @property
    def drained(self) -> bool:
        """Whether senders that wait may go on."""
        return self.buffered_amount <= self.low

    @property
    def at_end(self) -> bool:
        """Whether everything was taken, and the end of the stream is to be sent now."""
        return self._end is _End.DUE and not self

    # ----------------------------------------------------------------------------------------------------------- tell

    def add(self, writes: Iterable[bytes]) -> None:
        """Add what is to be written now, behind what is held back; an empty write is the end of the stream.

        Nothing is added once it is :attr:`torn`.

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
            Whether frames are held back now, so that somebody must call :meth:`release`. They aren't if the batch
            became too large, or if it is :attr:`torn`.

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
        """Let the batch be written."""
        self._new += self._batch
        self._batch, self.held = [], 0

    def _admits(self, write: bytes) -> bool:
        """Take note of a write; return whether its bytes are to be kept."""
        if self.torn:
            return False
        if self._end is not _End.OPEN:
            raise InvalidState("nothing can be sent after the end of the stream")
        if not write:
            self._end = _End.DUE
        self.accepted += len(write)
        return bool(write)

    def taken(self, count: int) -> None:
        """Note how many bytes the network took of those that it was offered last.

        Raises:
            ValueError: it wasn't offered that many.
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

    def end_sent(self) -> None:
        """Note that the end of the stream was sent."""
        self._end = _End.SENT

    def tear(self) -> None:
        """Give up: all that waits is dropped, and nothing may follow.

        A front-end calls it when a write failed that can't be repeated, or was cancelled on a stream that doesn't tell
        how much it took (:func:`is_torn`). Then it aborts the connection.
        """
        self.torn, self._end = True, _End.SENT
        self.accepted = self.sent
        self._batch, self.held, self._offset = [], 0, 0
        self._new.clear()
        self._pieces.clear()

    # -------------------------------------------------------------------------------------------------------- collect

    def next_piece(self) -> memoryview:
        """Return what to write next, for a network that takes one piece at a time; empty if there is nothing."""
        views = self._offer(1)
        return views[0] if views else memoryview(b"")

    def next_pieces(self) -> list[memoryview]:
        """Return what to write next, for a network that gathers: :data:`MAX_PIECES` at most."""
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
    """When the frames of broadcasts that follow each other are written: for the connections of one event loop.

    Writing costs more than everything else that a broadcast does for a connection, so broadcasts that follow each other
    closely share writes. The first is written at once. While one comes after another, in the same turn of the loop or
    in the next, frames are held back, until a turn passes without a broadcast, or for about as long as writing them
    takes: nobody waits longer than with a write for each.

    Attributes:
        holding: whether the frames of a broadcast that begins now are to be held back.
    """

    __slots__ = ("_due", "_hold_for", "_turns_left", "holding")

    def __init__(self) -> None:
        self.holding = False
        self._turns_left = 0  # turns of the loop for which the last broadcast counts
        self._due = 0.0
        self._hold_for = LEAST_HOLD

    def begin(self) -> None:
        """Note that a broadcast begins. While :attr:`holding`, :meth:`turn` must be called in each turn of the loop."""
        self.holding = True
        self._turns_left = 2

    def hold(self, now: float) -> None:
        """Note that the first frame of a batch is held back from now on; the time is in seconds."""
        self._due = now + self._hold_for

    def turn(self) -> None:
        """Note that a turn of the loop has passed."""
        self._turns_left -= 1
        self.holding = self._turns_left > 0

    def is_due(self, now: float) -> bool:
        """Whether what is held back is to be written now."""
        return not self.holding or now >= self._due

    def written(self, seconds: float) -> None:
        """Note how long writing took: frames are held back for that long next time."""
        self._hold_for = min(max(seconds, LEAST_HOLD), MOST_HOLD)
