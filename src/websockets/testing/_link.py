"""A connection inside one process: two sockets, the kernel's buffers between them, and the faults of a network.

It plays the part of the kernel and of the wire for what is above it. It may know an event loop, to be called later; it
must not know protocols, transports, addresses in use, or WebSocket. It keeps the rules of TCP that a program can see
(RFC 9293): buffers are finite, FIN comes after the data, closing with unread data resets, writing to a closed socket
gets a reset, what is lost is sent again (RFC 6298), until TCP gives up.

The loop may be any asyncio loop. Delays are timers of that loop, so on a virtual loop they cost nothing.
"""

from __future__ import annotations

import asyncio
import contextvars
import enum
import errno
import random
import socket
from collections import deque
from collections.abc import Callable, Collection, Iterable
from typing import Any

__all__ = [
    "CAPACITY",
    "Address",
    "Chunk",
    "Delay",
    "Direction",
    "FakeSocket",
    "Link",
    "MemorySocket",
    "check_conditions",
    "draw",
]

#: Bytes that fit into one direction of a link, the sender's and the receiver's kernel buffers taken together.
CAPACITY = 64 * 1024

#: What ``getsockname()`` gives: a tuple for IPv4 and IPv6, a path for a Unix socket.
Address = tuple[str, int] | tuple[str, int, int, int] | str

# Windows has Unix sockets, but not in Python; its number of the family is the same.
_UNIX: int = getattr(socket, "AF_UNIX", 1)

#: Seconds by which a loop may be early.
_RESOLUTION = 1e-9

#: How many bytes a read gives at most: a number, two numbers between which to draw one each time, or a function of the
#: number of bytes available; None for no limit.
Chunk = int | tuple[int, int] | Callable[[int], int] | None

#: Seconds that a write travels: a number, or two numbers between which to draw one each time.
Delay = float | tuple[float, float]

#: Seconds after which TCP sends again what was lost; each time it waits twice as long, but never longer than the second
#: number. So many times it tries, before it gives up. These are Linux's.
_RETRANSMIT, _LONGEST, _RETRIES = 0.2, 120.0, 15


class _Signal(enum.Enum):
    """What travels behind the data: an orderly end, a reset, or nothing ever again, since TCP has given up."""

    FIN = enum.auto()
    RST = enum.auto()
    GIVEN_UP = enum.auto()


class _Watcher:
    """Interest in readiness, level-triggered: what ``loop.add_reader`` is for a real file descriptor.

    The callback runs in the context in which the interest was declared, not in that of the task on the other side that
    happened to cause it: contexts do not travel over a network.
    """

    def __init__(
        self, loop: asyncio.AbstractEventLoop, ready: Callable[[], bool], callback: Callable[[], None]
    ) -> None:
        self._loop, self._ready, self._callback = loop, ready, callback
        self._context = contextvars.copy_context()
        self._handle: asyncio.Handle | None = None
        self._cancelled = False
        self.poll()

    def poll(self) -> None:
        """Schedule the callback if there is reason to; called after each change that may be one."""
        if self._handle is None and not self._cancelled and self._ready():
            self._handle = self._loop.call_soon(self._fire, context=self._context)

    def cancel(self) -> None:
        """Forget the interest, and the callback that was already scheduled."""
        self._cancelled = True
        if self._handle is not None:
            self._handle.cancel()

    def _fire(self) -> None:
        # The handle stays set while the callback runs, so that a change made inside it does not schedule a second one.
        try:
            self._callback()
        finally:
            self._handle = None
            self.poll()


class FakeSocket:
    """The part of a socket that ``get_extra_info("socket")`` and ``server.sockets`` expose.

    Attributes:
        family: ``AF_INET``, ``AF_INET6``, or ``AF_UNIX``, which is 1 where Python has no such name.
        options: what ``setsockopt`` was told, by level and name.
    """

    type = socket.SOCK_STREAM
    proto = 0

    def __init__(self, sockname: Address, peername: Address | None = None) -> None:
        self.family = _family(sockname)
        self.options: dict[tuple[int, int], Any] = {}
        self._sockname, self._peername = sockname, peername

    def getsockname(self) -> Address:
        """Return the address of this end."""
        return self._sockname

    def getpeername(self) -> Address:
        """Return the address of the other end.

        Raises:
            OSError: there is no other end.
        """
        if self._peername is None:
            raise OSError("not connected")
        return self._peername

    def fileno(self) -> int:
        """Return -1, as a closed socket does: there is no file descriptor."""
        return -1

    def setsockopt(self, level: int, name: int, value: Any) -> None:
        """Remember an option; it has no effect."""
        self.options[level, name] = value

    def getsockopt(self, level: int, name: int) -> Any:
        """Return an option that was set, or 0."""
        return self.options.get((level, name), 0)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self._sockname!r} -> {self._peername!r}>"


def _family(address: Address) -> int:
    """Tell the family from the shape of an address."""
    if isinstance(address, str):
        return _UNIX
    return socket.AF_INET if len(address) == 2 else socket.AF_INET6


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
        self._reader: _Watcher | None = None
        self._writer: _Watcher | None = None
        self._frozen = False  # the program at this end does not read
        self._broken = False  # a reset arrived, or TCP gave up
        self._unreported: OSError | None = None  # why, until somebody was told
        self._shut = False  # we sent FIN

    # Interest in readiness.

    @property
    def readable(self) -> bool:
        """Whether ``recv`` has something to say: data, an end, or an error."""
        return not self.closed and not self._frozen and (self.incoming._has_news or self._unreported is not None)

    @property
    def writable(self) -> bool:
        """Whether ``send`` would take a byte or raise an error."""
        return not self.closed and (self._broken or self.outgoing._room > 0)

    def add_reader(self, callback: Callable[[], None]) -> None:
        """Call ``callback`` once an iteration of the loop for as long as the socket is readable."""
        self.remove_reader()
        self._reader = _Watcher(self.link.loop, lambda: self.readable, callback)

    def remove_reader(self) -> None:
        """Stop calling the reader."""
        if self._reader is not None:
            self._reader.cancel()
            self._reader = None

    def add_writer(self, callback: Callable[[], None]) -> None:
        """Call ``callback`` once an iteration of the loop for as long as the socket is writable."""
        self.remove_writer()
        self._writer = _Watcher(self.link.loop, lambda: self.writable, callback)

    def remove_writer(self) -> None:
        """Stop calling the writer."""
        if self._writer is not None:
            self._writer.cancel()
            self._writer = None

    def poll(self) -> None:
        """Look again whether the reader or the writer is due."""
        for watcher in (self._reader, self._writer):
            if watcher is not None:
                watcher.poll()

    # The calls of a program.

    def recv(self, limit: int) -> bytes:
        """Take up to ``limit`` bytes.

        Returns:
            Data, or ``b""`` at the end of the stream.

        Raises:
            BlockingIOError: nothing has arrived.
            ConnectionResetError: the other end reset the connection; what arrived before is given first.
            TimeoutError: what this end sent was lost again and again.
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
            ConnectionResetError: the connection was reset and nobody was told yet.
            TimeoutError: what this end sent was lost again and again, and nobody was told yet.
            BrokenPipeError: the connection is broken, or this end sent its end of stream.
        """
        self._report()
        if self._shut or self._broken or self.closed:
            raise BrokenPipeError("Broken pipe")
        accepted = _gather(buffers, self.outgoing._room)
        if not accepted and any(buffers):
            raise BlockingIOError("buffers are full")
        # One item on the wire, however many buffers: a reset that the first provokes must not meet the second.
        self.outgoing._send(accepted)
        return len(accepted)

    def _report(self) -> None:
        """Tell why the connection is broken, once."""
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
        """Close this end: an end of stream for the other one, or a reset if data was left unread here."""
        if not self.closed:
            if self.incoming._clear():
                self._reset()
            self._finish()
            self._close()

    def reset(self) -> None:
        """Close this end with a reset, as a program does that sets ``SO_LINGER`` to 0."""
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
        """Freeze the reading side of the program at this end: what arrives stays in the buffers, which fill up."""
        self._frozen = True

    def resume_reading(self) -> None:
        """Undo :meth:`stop_reading`."""
        self._frozen = False
        self.poll()

    # News from the wire.

    def arrived(self, item: bytes | _Signal, *, had_ended: bool) -> None:
        """Take what the wire delivers; called by the incoming direction only."""
        if item is _Signal.RST:
            self._broken = True
            # After an orderly end the reader still sees that end, and only a writer notices the reset.
            if not had_ended:
                self._unreported = ConnectionResetError(errno.ECONNRESET, "Connection reset by peer")
        elif self.closed and isinstance(item, bytes):
            self.outgoing._send(_Signal.RST)
        self.poll()

    def gave_up(self) -> None:
        """Take the news that what this end sent will never arrive; called by the outgoing direction only."""
        self._broken = True
        self._unreported = TimeoutError(errno.ETIMEDOUT, "Connection timed out")
        self.poll()


def _gather(buffers: Iterable[bytes | memoryview], limit: int) -> bytes:
    """Join buffers, up to a number of bytes, without a look at those beyond it."""
    parts = bytearray()
    for buffer in buffers:
        if len(parts) == limit:
            break
        parts += buffer[: limit - len(parts)]
    return bytes(parts)


class Direction:
    """One way of a connection: what one end has written and the other has not read, and what the network does to it.

    Attributes:
        delay, loss, chunk, capacity: as for :class:`Network`. A change applies to what is written from then on; order
            is always kept.
    """

    def __init__(
        self, loop: asyncio.AbstractEventLoop, delay: Delay, loss: float, chunk: Chunk, capacity: int, seed: str
    ) -> None:
        self.delay, self.loss, self.chunk, self.capacity = delay, loss, chunk, capacity
        self._loop = loop
        self._random = random.Random(seed)
        self._travelling: deque[tuple[float, bytes | _Signal]] = deque()
        self._buffer = bytearray()
        self._size = 0  # bytes travelling and arrived
        self._timer: asyncio.TimerHandle | None = None
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
        """Undo :meth:`hold`; what waited arrives at once and in one piece, or when its delay is over."""
        self._held = False
        self._deliver()

    def drop(self) -> None:
        """Lose all that has not arrived, now and for ever. The writer is not told, and never has to wait."""
        self._lost = True
        self._stop()
        self._size = len(self._buffer)
        self._writer.poll()

    @property
    def blocked(self) -> bool:
        """Whether nothing passes at present, after :meth:`hold` or :meth:`drop` or because TCP has given up."""
        return self._held or self._lost

    # The writer's end.

    @property
    def _room(self) -> int:
        """Bytes that can be written now."""
        return self.capacity if self._lost else max(0, self.capacity - self._size)

    def _send(self, item: bytes | _Signal) -> None:
        """Put data or a signal on the wire; the caller has looked at :attr:`_room`."""
        if self._lost:
            return
        now = self._loop.time()
        stall, given_up = self._retransmissions()
        # Nothing overtakes: a delay that shrinks does not reorder the stream, and a lost write holds up what follows.
        earliest = self._travelling[-1][0] if self._travelling else 0.0
        due = max(earliest, now + stall + draw(self._random, self.delay))
        self._travelling.append((due, _Signal.GIVEN_UP if given_up else item))
        self._size += len(item) if isinstance(item, bytes) else 0
        self._deliver()

    def _retransmissions(self) -> tuple[float, bool]:
        """How many seconds TCP spends on sending a write again, and whether it gives up in the end."""
        stall, pause = 0.0, _RETRANSMIT
        # A link that loses nothing draws nothing: the order of what is drawn is part of what a seed promises.
        for _ in range(_RETRIES + 1 if self.loss else 0):
            if self._random.random() >= self.loss:
                return stall, False
            stall += pause
            pause = min(2 * pause, _LONGEST)
        return stall, self.loss > 0

    # The wire.

    def _deliver(self) -> None:
        """Hand over what is due, and come back for the rest."""
        self._stop_timer()
        now = self._loop.time()
        while self._travelling and not self._held:
            due, item = self._travelling[0]
            # asyncio's timers ring up to a nanosecond early; on a virtual clock, sleeping again would be for ever.
            if due - now > _RESOLUTION:
                self._timer = self._loop.call_at(due, self._deliver)
                break
            self._travelling.popleft()
            self._arrive(item)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _stop(self) -> None:
        """Forget what is on the way."""
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
        """Whether the reader would learn something."""
        return bool(self._buffer) or self._ended

    def _take(self, limit: int) -> bytes:
        """Remove and return up to ``limit`` bytes that have arrived."""
        count = min(limit, len(self._buffer))
        if self.chunk is not None:
            count = min(count, max(1, self._piece(self.chunk, count)))
        data = bytes(self._buffer[:count])
        del self._buffer[:count]
        self._size -= count
        self._writer.poll()
        return data

    def _piece(self, chunk: int | tuple[int, int] | Callable[[int], int], available: int) -> int:
        if isinstance(chunk, tuple):
            return self._random.randint(*chunk)
        return chunk(available) if callable(chunk) else chunk

    def _clear(self) -> int:
        """Throw away what has arrived; return how much that was."""
        count = len(self._buffer)
        self._buffer.clear()
        self._size -= count
        self._writer.poll()
        return count

    def _cut(self) -> None:
        """Throw away everything and deliver a reset, whatever the faults say."""
        self._stop()
        self._buffer.clear()
        self._size = 0
        self._held = self._lost = False
        self._ended = False
        self._arrive(_Signal.RST)


def draw(source: random.Random, value: Delay) -> float:
    """A delay in seconds."""
    return source.uniform(*value) if isinstance(value, tuple) else value


class Link:
    """A connection in memory with its two ends, its two directions, and its faults.

    Each direction has the faults too, for one that is to have them alone: ``link.to_client.hold()``.

    Parameters:
        loop: the loop that calls readers and writers.
        client: address of the end that connected.
        server: address of the end that accepted.
        delay, loss, chunk, capacity: of both directions, as for :class:`Network`.
        seed: what chance begins with: the same seed and the same writes give the same delays, losses and chunks.

    Attributes:
        client: the end that connected: what a :class:`MemoryTransport` needs.
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

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
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
        self.to_server = Direction(loop, delay, loss, chunk, capacity, f"{seed} to server")
        self.to_client = Direction(loop, delay, loss, chunk, capacity, f"{seed} to client")
        self.to_server._attach(self.client, self.server)
        self.to_client._attach(self.server, self.client)

    @property
    def closed(self) -> bool:
        """Whether both ends were closed."""
        return self.client.closed and self.server.closed

    @property
    def blocked(self) -> bool:
        """Whether nothing passes at present in one direction at least, after :meth:`hold` or :meth:`drop`."""
        return self.to_server.blocked or self.to_client.blocked

    def hold(self) -> None:
        """Let nothing pass in either direction: to each end, the other looks half-open."""
        self.to_server.hold()
        self.to_client.hold()

    def release(self) -> None:
        """Undo :meth:`hold`: what waited arrives at once and in one piece, or when its delay is over."""
        self.to_server.release()
        self.to_client.release()

    def drop(self) -> None:
        """Lose everything in both directions from now on, without telling anybody: the connection is half-open."""
        self.to_server.drop()
        self.to_client.drop()

    def reset(self) -> None:
        """Break the connection at once, as if each end had been reset by the other; what was not read is gone.

        As with a real socket, a transport that has paused reading learns of it at its next write, or when it resumes.
        """
        self.to_server._cut()
        self.to_client._cut()

    def slow(self, delay: Delay) -> None:
        """Set the delay of both directions, in seconds."""
        self.to_server.delay = self.to_client.delay = delay

    def __repr__(self) -> str:
        return f"<Link {self.client.getsockname()!r} -> {self.server.getsockname()!r}>"


def check_conditions(delay: Delay, loss: float, chunk: Chunk, capacity: int) -> None:
    """Check what a network is said to do.

    Raises:
        ValueError: a number makes no sense.
    """
    shortest, longest = delay if isinstance(delay, tuple) else (delay, delay)
    sizes = chunk if isinstance(chunk, tuple) else (1, 1) if chunk is None or callable(chunk) else (chunk, chunk)
    if not 0 <= shortest <= longest:
        raise ValueError(f"delay must be positive or zero, or a range of such numbers: {delay}")
    if not 0 <= loss <= 1:
        raise ValueError(f"loss must be a probability from 0 to 1: {loss}")
    if not 1 <= sizes[0] <= sizes[1]:
        raise ValueError(f"chunk must be positive, or a range of positive numbers: {chunk}")
    if capacity < 1:
        raise ValueError(f"capacity must be positive: {capacity}")
