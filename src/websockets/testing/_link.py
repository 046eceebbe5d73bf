"""A connection in memory: two sockets, the kernel's buffers between them, and the faults of a network.

It plays the part of the kernel and of the wire. It keeps the rules of TCP that a program can see (RFC 9293): buffers
are finite, the end of the stream comes after the data, closing with unread data resets the connection, writing to a
closed socket is answered with a reset, lost data is sent again until TCP gives up.

Nothing here waits. Sockets are non-blocking, and :meth:`MemorySocket.add_reader` says when to try again. Time and later
calls come from a :class:`~._scheduler.Scheduler`; on a virtual clock delays cost nothing.

May know: schedulers, conditions, the shape of an address. Must not know: asyncio or any other event loop, transports,
who listens where, WebSocket.
"""

from __future__ import annotations

import enum
import errno
import random
from collections import deque
from collections.abc import Callable, Collection, Iterable

from ._addresses import Address, FakeSocket
from ._conditions import CAPACITY, Chunk, Delay, check_conditions, draw_delay, draw_retransmissions, limit_read
from ._scheduler import RESOLUTION, Call, Scheduler, Watcher

__all__ = ["Direction", "Link", "MemorySocket", "break_blocked"]


class _Signal(enum.Enum):
    """An event that travels behind the data: the end of the stream, a reset, or that TCP has given up."""

    FIN = enum.auto()
    RST = enum.auto()
    GIVEN_UP = enum.auto()


class MemorySocket(FakeSocket):
    """One end of a link, non-blocking: where a kernel would say EAGAIN, calls raise ``BlockingIOError``.

    Attributes:
        link: the link this is an end of.
        incoming: the direction that this end reads.
        outgoing: the direction that this end writes.
        closed: whether this end was closed.
    """

    incoming: Direction
    outgoing: Direction

    def __init__(self, link: Link, sockname: Address, peername: Address) -> None:
        super().__init__(sockname, peername)
        self.link = link
        self.closed = False
        self._reader: Watcher | None = None
        self._writer: Watcher | None = None
        self._frozen = False  # stop_reading() was called
        self._broken = False  # a reset arrived, or TCP gave up
        self._unreported: OSError | None = None  # the reason, until a call has raised it
        self._shut = False  # the end of the stream, or a reset, was sent

    # Interest in readiness.

    @property
    def readable(self) -> bool:
        """Whether ``recv`` would return data or the end of the stream, or raise an error of the connection."""
        return not self.closed and not self._frozen and (self.incoming._has_news or self._unreported is not None)

    @property
    def writable(self) -> bool:
        """Whether ``send`` would accept a byte, or raise an error of the connection."""
        return not self.closed and (self._broken or self.outgoing._room > 0)

    def add_reader(self, callback: Callable[[], None]) -> None:
        """Call ``callback`` when the socket is readable, and again and again for as long as it is."""
        self.remove_reader()
        self._reader = Watcher(self.link.loop, lambda: self.readable, callback)

    def remove_reader(self) -> None:
        """Stop calling the reader."""
        if self._reader is not None:
            self._reader.cancel()
            self._reader = None

    def add_writer(self, callback: Callable[[], None]) -> None:
        """Call ``callback`` when the socket is writable, and again and again for as long as it is."""
        self.remove_writer()
        self._writer = Watcher(self.link.loop, lambda: self.writable, callback)

    def remove_writer(self) -> None:
        """Stop calling the writer."""
        if self._writer is not None:
            self._writer.cancel()
            self._writer = None

    def poll(self) -> None:
        """Check again whether the reader or the writer has to be called; called after each change."""
        for watcher in (self._reader, self._writer):
            if watcher is not None:
                watcher.poll()

    # What a program calls.

    def recv(self, limit: int) -> bytes:
        """Receive up to ``limit`` bytes.

        Returns:
            Data, or ``b""`` at the end of the stream.

        Raises:
            BlockingIOError: nothing has arrived.
            ConnectionResetError: the other end reset the connection; data that arrived before is returned first.
            TimeoutError: TCP gave up sending the data of this end.
        """
        if data := self.incoming._take(limit):
            return data
        self._report()
        if not self.incoming._ended:
            raise BlockingIOError("nothing to read")
        return b""

    def send(self, data: bytes | memoryview) -> int:
        """Accept as much of ``data`` as the kernel's buffers hold; see :meth:`sendmsg`."""
        return self.sendmsg([data])

    def sendmsg(self, buffers: Collection[bytes | memoryview]) -> int:
        """Accept as much of the data as the kernel's buffers hold.

        Returns:
            The number of bytes accepted, at least 1 unless there is no data.

        Raises:
            BlockingIOError: the buffers are full.
            ConnectionResetError: the connection was reset, and no call has raised this yet.
            TimeoutError: TCP gave up sending the data of this end, and no call has raised this yet.
            BrokenPipeError: the connection is broken, or this end sent its end of stream.
        """
        self._report()
        if self._shut or self._broken or self.closed:
            raise BrokenPipeError("Broken pipe")
        accepted = _gather(buffers, self.outgoing._room)
        if not accepted and any(buffers):
            raise BlockingIOError("buffers are full")
        # All buffers make one item on the wire: if the first of several caused a reset, the second would meet it.
        self.outgoing._send(accepted)
        return len(accepted)

    def _report(self) -> None:
        """Raise the reason why the connection is broken, once."""
        error, self._unreported = self._unreported, None
        if error is not None:
            raise error

    def shutdown(self) -> None:
        """Send the end of the stream; reading goes on.

        Raises:
            OSError: the connection was reset.
        """
        if self._broken:
            raise OSError(errno.ENOTCONN, "Transport endpoint is not connected")
        self._finish()

    def _finish(self) -> None:
        if not self._shut:
            self._shut = True
            self.outgoing._send(_Signal.FIN)

    def close(self) -> None:
        """Close this end. The other one gets the end of the stream, or a reset if data was left unread here."""
        if not self.closed:
            if self.incoming._clear():
                self._reset()
            self._finish()
            self._close()

    def reset(self) -> None:
        """Close this end with a reset, like a program that sets ``SO_LINGER`` to 0."""
        if not self.closed:
            self.incoming._clear()
            self._reset()
            self._close()

    def _reset(self) -> None:
        """Send a reset instead of an end of stream."""
        self._shut = True
        self.outgoing._send(_Signal.RST)

    def _close(self) -> None:
        self.closed = True
        self.remove_reader()
        self.remove_writer()

    # Faults.

    def stop_reading(self) -> None:
        """Let the program at this end read nothing: data stays in the buffers, and they fill up."""
        self._frozen = True

    def resume_reading(self) -> None:
        """Undo :meth:`stop_reading`."""
        self._frozen = False
        self.poll()

    # News from the wire.

    def arrived(self, item: bytes | _Signal, *, had_ended: bool) -> None:
        """Take an item from the wire; called by the incoming direction only."""
        if item is _Signal.RST:
            self._broken = True
            # After an orderly end the reader still sees that end, and only a writer notices the reset.
            if not had_ended:
                self._unreported = ConnectionResetError(errno.ECONNRESET, "Connection reset by peer")
        elif self.closed and isinstance(item, bytes):
            self.outgoing._send(_Signal.RST)
        self.poll()

    def gave_up(self) -> None:
        """Learn that the data of this end will never arrive; called by the outgoing direction only."""
        self._broken = True
        self._unreported = TimeoutError(errno.ETIMEDOUT, "Connection timed out")
        self.poll()


def _gather(buffers: Iterable[bytes | memoryview], limit: int) -> bytes:
    """Join buffers up to a number of bytes; buffers after that are not read."""
    parts = bytearray()
    for buffer in buffers:
        if len(parts) == limit:
            break
        parts += buffer[: limit - len(parts)]
    return bytes(parts)


class Direction:
    """One direction of a connection: the data that one end has written and the other has not read, and its faults.

    Attributes:
        delay, loss, chunk, capacity: as for :class:`Network`. A change applies to data written from then on; data
            always arrives in order.
    """

    def __init__(self, loop: Scheduler, delay: Delay, loss: float, chunk: Chunk, capacity: int, seed: str) -> None:
        self.delay, self.loss, self.chunk, self.capacity = delay, loss, chunk, capacity
        self._loop = loop
        self._random = random.Random(seed)
        self._travelling: deque[tuple[float, bytes | _Signal]] = deque()
        self._buffer = bytearray()
        self._size = 0  # bytes travelling and arrived
        self._timer: Call | None = None
        self._held = self._lost = False
        self._ended = False  # the end of the stream has arrived, or a reset

    def _attach(self, writer: MemorySocket, reader: MemorySocket) -> None:
        """Connect the two ends; called by the link only."""
        self._writer, self._reader = writer, reader
        writer.outgoing = reader.incoming = self

    # Faults.

    def hold(self) -> None:
        """Let nothing pass until :meth:`release`: data, ends and resets all wait, and the writer's buffers fill up."""
        self._held = True

    def release(self) -> None:
        """Undo :meth:`hold`: the data that waited arrives at once and in one piece, or when its delay is over."""
        self._held = False
        self._deliver()

    def drop(self) -> None:
        """Lose all data that has not arrived, now and for ever. The writer is not told, and never has to wait."""
        self._lost = True
        self._stop()
        self._size = len(self._buffer)
        self._writer.poll()

    @property
    def blocked(self) -> bool:
        """Whether nothing passes now: after :meth:`hold` or :meth:`drop`, or because TCP has given up."""
        return self._held or self._lost

    # The writer's end.

    @property
    def _room(self) -> int:
        """Bytes that can be written now."""
        return self.capacity if self._lost else max(0, self.capacity - self._size)

    def _send(self, item: bytes | _Signal) -> None:
        """Put data or a signal on the wire; the caller has made sure that there is :attr:`_room`."""
        if self._lost:
            return
        now = self._loop.time()
        stall, given_up = draw_retransmissions(self._random, self.loss)
        # The order is kept: a shorter delay does not let data overtake, and a write that is sent again delays the next.
        earliest = self._travelling[-1][0] if self._travelling else 0.0
        due = max(earliest, now + stall + draw_delay(self._random, self.delay))
        self._travelling.append((due, _Signal.GIVEN_UP if given_up else item))
        self._size += len(item) if isinstance(item, bytes) else 0
        self._deliver()

    # The wire.

    def _deliver(self) -> None:
        """Deliver the items that are due, and set a timer for the rest."""
        self._stop_timer()
        now = self._loop.time()
        while self._travelling and not self._held:
            due, item = self._travelling[0]
            # A timer may be early by the resolution. A new one for that rest would never move a virtual clock.
            if due - now > RESOLUTION:
                self._timer = self._loop.call_at(due, self._deliver)
                break
            self._travelling.popleft()
            self._arrive(item)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _stop(self) -> None:
        """Forget the items that are on the way."""
        self._stop_timer()
        self._travelling.clear()

    def _arrive(self, item: bytes | _Signal) -> None:
        had_ended = self._ended
        if item is _Signal.GIVEN_UP:
            self.drop()
            self._writer.gave_up()
            return
        if isinstance(item, _Signal):
            self._ended = True
        elif self._reader.closed:
            self._size -= len(item)
            self._writer.poll()
        else:
            self._buffer += item
        self._reader.arrived(item, had_ended=had_ended)

    # The reader's end.

    @property
    def _has_news(self) -> bool:
        """Whether there is data, or an end, for the reader."""
        return bool(self._buffer) or self._ended

    def _take(self, limit: int) -> bytes:
        """Remove and return up to ``limit`` bytes that have arrived."""
        count = limit_read(self._random, self.chunk, min(limit, len(self._buffer)))
        data = bytes(self._buffer[:count])
        del self._buffer[:count]
        self._size -= count
        self._writer.poll()
        return data

    def _clear(self) -> int:
        """Throw away the data that has arrived; return the number of bytes."""
        count = len(self._buffer)
        self._buffer.clear()
        self._size -= count
        self._writer.poll()
        return count

    def _cut(self) -> None:
        """Throw away everything and deliver a reset, despite all faults."""
        self._stop()
        self._buffer.clear()
        self._size = 0
        self._held = self._lost = False
        self._ended = False
        self._arrive(_Signal.RST)


class Link:
    """A connection in memory with its two ends, its two directions, and its faults.

    A fault of one direction alone is a method of that direction: ``link.to_client.hold()``.

    Parameters:
        loop: the event loop of both ends; or any other scheduler, with ``time()``, ``call_soon()`` and ``call_at()``.
        client: address of the end that connected.
        server: address of the end that accepted.
        delay, loss, chunk, capacity: of both directions, as for :class:`Network`.
        seed: of the random numbers: the same seed and the same writes give the same delays, losses and chunks.

    Attributes:
        client: the end that connected, for a :class:`MemoryTransport`.
        server: the end that accepted.
        to_server: the :class:`Direction` of what the client writes.
        to_client: the :class:`Direction` of what the server writes.

    Raises:
        ValueError: a number makes no sense.
    """

    client: MemorySocket
    server: MemorySocket
    to_server: Direction
    to_client: Direction

    # Between threads, it is one that holds a lock.
    _direction = Direction

    def __init__(
        self,
        loop: Scheduler,
        client: Address = ("127.0.0.1", 50000),
        server: Address = ("127.0.0.1", 80),
        *,
        delay: Delay = 0.0,
        loss: float = 0.0,
        chunk: Chunk = None,
        capacity: int = CAPACITY,
        seed: int | str = 0,
    ) -> None:
        check_conditions(delay, loss, chunk, capacity)
        self.loop = loop
        self.client = MemorySocket(self, client, server)
        self.server = MemorySocket(self, server, client)
        self.to_server = self._direction(loop, delay, loss, chunk, capacity, f"{seed} to server")
        self.to_client = self._direction(loop, delay, loss, chunk, capacity, f"{seed} to client")
        self.to_server._attach(self.client, self.server)
        self.to_client._attach(self.server, self.client)

    @property
    def closed(self) -> bool:
        """Whether both ends were closed."""
        return self.client.closed and self.server.closed

    @property
    def blocked(self) -> bool:
        """Whether nothing passes now in one direction at least, after :meth:`hold` or :meth:`drop`."""
        return self.to_server.blocked or self.to_client.blocked

    def hold(self) -> None:
        """Let nothing pass in either direction: each end sees a connection that is half-open."""
        self.to_server.hold()
        self.to_client.hold()

    def release(self) -> None:
        """Undo :meth:`hold`: the data that waited arrives at once and in one piece, or when its delay is over."""
        self.to_server.release()
        self.to_client.release()

    def drop(self) -> None:
        """Lose everything in both directions from now on, without telling anybody: the connection is half-open."""
        self.to_server.drop()
        self.to_client.drop()

    def reset(self) -> None:
        """Break the connection at once, as if each end had reset it; data that was not read is lost.

        As with a real socket, a transport that has paused reading learns of it at its next write, or when it resumes.
        """
        self.to_server._cut()
        self.to_client._cut()

    def slow(self, delay: Delay) -> None:
        """Set the delay of both directions, in seconds."""
        self.to_server.delay = self.to_client.delay = delay

    def __repr__(self) -> str:
        return f"<Link {self.client.getsockname()!r} -> {self.server.getsockname()!r}>"


def break_blocked(links: Iterable[Link]) -> None:
    """Break the connections on which nothing passes: their closing handshakes would never end."""
    for link in links:
        if link.blocked and not link.closed:
            link.reset()
