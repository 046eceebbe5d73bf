"""A connection inside one process: two sockets, the kernel's buffers between them, and the faults of a network.

It plays the part of the kernel and of the wire for :mod:`.transport` and :mod:`.peer`. It may know an event loop, to be
called later; it must not know protocols, transports, addresses in use, or WebSocket. It keeps the rules of TCP that a
program can see (RFC 9293): buffers are finite, FIN comes after the data, closing with unread data resets, writing to a
closed socket gets a reset.

The loop may be any asyncio loop. Delays are timers of that loop, so on a virtual loop they cost nothing.
"""

from __future__ import annotations

import asyncio
import contextvars
import enum
import errno
import socket
from collections import deque
from collections.abc import Callable, Collection, Iterable
from typing import Any

__all__ = ["CAPACITY", "Address", "Chunk", "Direction", "FakeSocket", "Link", "MemorySocket"]

#: Bytes that fit into one direction of a link, the sender's and the receiver's kernel buffers taken together.
CAPACITY = 64 * 1024

#: What ``getsockname()`` gives: a tuple for IPv4 and IPv6, a path for a Unix socket.
Address = tuple[str, int] | tuple[str, int, int, int] | str

#: Seconds by which a loop may be early.
_RESOLUTION = 1e-9

#: How many bytes a read may give: a number, or a function of the number available; None for no limit.
Chunk = int | Callable[[int], int] | None


class _Signal(enum.Enum):
    """What travels behind the data: an orderly end, or a reset."""

    FIN = enum.auto()
    RST = enum.auto()


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
        family: ``AF_INET``, ``AF_INET6`` or ``AF_UNIX``.
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


def _family(address: Address) -> socket.AddressFamily:
    """Tell the family from the shape of an address; Windows has no AF_UNIX, so it is looked up only when needed."""
    if isinstance(address, str):
        return socket.AF_UNIX
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
        self._broken = False  # a reset arrived
        self._reset_unreported = False
        self._shut = False  # we sent FIN

    # Interest in readiness.

    @property
    def readable(self) -> bool:
        """Whether ``recv`` has something to say: data, an end, or an error."""
        return not self.closed and not self._frozen and self.incoming.has_news

    @property
    def writable(self) -> bool:
        """Whether ``send`` would take a byte or raise an error."""
        return not self.closed and (self._broken or self.outgoing.room > 0)

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
        """
        if data := self.incoming.take(limit):
            return data
        if self._reset_unreported:
            self._reset_unreported = False
            raise ConnectionResetError("Connection reset by peer")
        if not self.incoming.ended:
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
            BrokenPipeError: the connection was reset, or this end sent its end of stream.
        """
        if self._reset_unreported:
            self._reset_unreported = False
            raise ConnectionResetError("Connection reset by peer")
        if self._shut or self._broken or self.closed:
            raise BrokenPipeError("Broken pipe")
        accepted = _gather(buffers, self.outgoing.room)
        if not accepted and any(buffers):
            raise BlockingIOError("buffers are full")
        # One item on the wire, however many buffers: a reset that the first provokes must not meet the second.
        self.outgoing.send(accepted)
        return len(accepted)

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
            self.outgoing.send(_Signal.FIN)

    def close(self) -> None:
        """Close this end: an end of stream for the other one, or a reset if data was left unread here."""
        if not self.closed:
            if self.incoming.clear():
                self._reset()
            self._finish()
            self._close()

    def reset(self) -> None:
        """Close this end with a reset, as a program does that sets ``SO_LINGER`` to 0."""
        if not self.closed:
            self.incoming.clear()
            self._reset()
            self._close()

    def _reset(self) -> None:
        """Send a reset instead of an end of stream."""
        self._shut = True
        self.outgoing.send(_Signal.RST)

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
                self._reset_unreported = True
        elif self.closed and isinstance(item, bytes):
            self.outgoing.send(_Signal.RST)
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
    """One way of a link: what one end has written and the other has not read, and what the network does to it.

    Attributes:
        delay: seconds that a byte travels. A change applies to what is written from then on; order is always kept.
        chunk: limit of bytes a read; see :data:`Chunk`.
        capacity: bytes that fit in, on the way and arrived together; beyond, the writer has to wait.
    """

    def __init__(self, link: Link, delay: float, chunk: Chunk, capacity: int) -> None:
        self.delay, self.chunk, self.capacity = delay, chunk, capacity
        self._loop = link.loop
        self._travelling: deque[tuple[float, bytes | _Signal]] = deque()
        self._buffer = bytearray()
        self._size = 0  # bytes travelling and arrived
        self._timer: asyncio.TimerHandle | None = None
        self._held = self._lost = False
        self.ended = False

    def attach(self, writer: MemorySocket, reader: MemorySocket) -> None:
        """Connect the two ends."""
        self._writer, self._reader = writer, reader
        writer.outgoing = reader.incoming = self

    # Faults.

    def hold(self) -> None:
        """Let nothing pass until :meth:`release`: data, ends and resets all wait, and the writer's buffers fill up."""
        self._held = True

    def release(self) -> None:
        """Undo :meth:`hold`; what waited arrives at once, or when its delay is over."""
        self._held = False
        self._deliver()

    def drop(self) -> None:
        """Lose all that has not arrived, now and for ever. The writer is not told, and never has to wait."""
        self._lost = True
        self._stop()
        self._size = len(self._buffer)
        self._writer.poll()

    # The writer's end.

    @property
    def room(self) -> int:
        """Bytes that can be written now."""
        return self.capacity if self._lost else max(0, self.capacity - self._size)

    def send(self, item: bytes | _Signal) -> None:
        """Put data or a signal on the wire; the caller has looked at :attr:`room`."""
        if self._lost:
            return
        # Nothing overtakes: a delay that shrinks does not reorder the stream.
        earliest = self._travelling[-1][0] if self._travelling else 0.0
        self._travelling.append((max(earliest, self._loop.time() + self.delay), item))
        self._size += len(item) if isinstance(item, bytes) else 0
        self._deliver()

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
        had_ended = self.ended
        if isinstance(item, _Signal):
            self.ended = True
        elif self._reader.closed:
            self._size -= len(item)
            self._writer.poll()
        else:
            self._buffer += item
        self._reader.arrived(item, had_ended=had_ended)

    # The reader's end.

    @property
    def has_news(self) -> bool:
        """Whether the reader would learn something."""
        return bool(self._buffer) or self.ended

    def take(self, limit: int) -> bytes:
        """Remove and return up to ``limit`` bytes that have arrived."""
        count = min(limit, len(self._buffer))
        if self.chunk is not None:
            size = self.chunk(count) if callable(self.chunk) else self.chunk
            count = min(count, max(1, size))
        data = bytes(self._buffer[:count])
        del self._buffer[:count]
        self._size -= count
        self._writer.poll()
        return data

    def clear(self) -> int:
        """Throw away what has arrived; return how much that was."""
        count = len(self._buffer)
        self._buffer.clear()
        self._size -= count
        self._writer.poll()
        return count

    def cut(self) -> None:
        """Throw away everything and deliver a reset, whatever the faults say."""
        self._stop()
        self._buffer.clear()
        self._size = 0
        self._held = self._lost = False
        self.ended = False
        self._arrive(_Signal.RST)


class Link:
    """A connection with its two ends, its two directions, and its faults.

    Parameters:
        loop: the loop that calls readers and writers.
        client: address of the end that connected.
        server: address of the end that accepted.
        delay: seconds that a byte travels, in each direction.
        chunk: limit of bytes a read, in each direction; see :data:`Chunk`.
        capacity: bytes that fit into each direction.

    Attributes:
        client: the end that connected.
        server: the end that accepted.
        to_server: what the client writes.
        to_client: what the server writes.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        client: Address = ("127.0.0.1", 50000),
        server: Address = ("127.0.0.1", 80),
        *,
        delay: float = 0.0,
        chunk: Chunk = None,
        capacity: int = CAPACITY,
    ) -> None:
        self.loop = loop
        self.client = MemorySocket(self, client, server)
        self.server = MemorySocket(self, server, client)
        self.to_server = Direction(self, delay, chunk, capacity)
        self.to_client = Direction(self, delay, chunk, capacity)
        self.to_server.attach(self.client, self.server)
        self.to_client.attach(self.server, self.client)

    @property
    def closed(self) -> bool:
        """Whether both ends were closed."""
        return self.client.closed and self.server.closed

    def hold(self) -> None:
        """Let nothing pass in either direction: to each end, the other looks half-open."""
        self.to_server.hold()
        self.to_client.hold()

    def release(self) -> None:
        """Undo :meth:`hold`."""
        self.to_server.release()
        self.to_client.release()

    def drop(self) -> None:
        """Lose everything in both directions from now on."""
        self.to_server.drop()
        self.to_client.drop()

    def reset(self) -> None:
        """Break the connection at once: both ends get ``ConnectionResetError``, and unread data is gone.

        As with a real socket, a transport that has paused reading learns of it at its next write, or when it resumes.
        """
        self.to_server.cut()
        self.to_client.cut()

    def slow(self, delay: float) -> None:
        """Set the delay of both directions, in seconds."""
        self.to_server.delay = self.to_client.delay = delay

    def __repr__(self) -> str:
        return f"<Link {self.client.getsockname()!r} -> {self.server.getsockname()!r}>"
