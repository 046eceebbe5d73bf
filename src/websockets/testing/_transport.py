"""An asyncio transport over one end of a :class:`~._link.Link`.

It keeps the contract of asyncio's stream transports (see "Transports and Protocols" in the Python documentation), and
calls a protocol in the same order; ``tests/kit/test_transport.py`` runs the same tests with it and with a real socket.

May know: asyncio, links. Must not know: names, servers, WebSocket.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Protocol, cast

from ._conditions import CAPACITY, Chunk, Delay
from ._link import Link, MemorySocket

__all__ = ["MemoryTransport", "TransportOwner", "transport_pair"]

#: Most bytes that one read passes to ``data_received``, as on asyncio's selector loops.
_READ_LIMIT = 256 * 1024

_HIGH_WATER = 64 * 1024


class TransportOwner(Protocol):
    """An object that is told when transports begin and end, such as a server."""

    def attach(self, transport: MemoryTransport) -> None:
        """Take note of a new transport."""

    def detach(self, transport: MemoryTransport) -> None:
        """Take note of the end of a transport."""


class MemoryTransport(asyncio.Transport):
    """A stream transport that reads and writes a :class:`~._link.MemorySocket`.

    Parameters:
        loop: the loop that calls the protocol.
        sock: the end of a link; the transport closes it.
        protocol: receives ``connection_made`` in the next iteration of the loop.
        waiter: a future resolved after ``connection_made``.
        extra: more values for :meth:`get_extra_info`, beside ``socket``, ``sockname`` and ``peername``.
        owner: told when this transport begins and ends.
    """

    # loop.start_tls() checks this attribute; with it, TLS runs over memory too.
    _start_tls_compatible = True

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        sock: MemorySocket,
        protocol: asyncio.BaseProtocol,
        *,
        waiter: asyncio.Future[None] | None = None,
        extra: Mapping[str, Any] | None = None,
        owner: TransportOwner | None = None,
    ) -> None:
        names = {"socket": sock, "sockname": sock.getsockname(), "peername": sock.getpeername()}
        super().__init__({**names, **(extra or {})})
        self._loop, self._sock, self._protocol, self._owner = loop, sock, protocol, owner
        self._buffer: deque[memoryview] = deque()
        self._low, self._high = _water_marks(None, None)
        self._closing = self._lost = self._read_paused = self._write_paused = self._eof_written = False
        if owner is not None:
            owner.attach(self)
        loop.call_soon(protocol.connection_made, self)
        loop.call_soon(self._watch)
        if waiter is not None:
            loop.call_soon(_resolve, waiter)

    def __repr__(self) -> str:
        state = "closing" if self._closing else "open"
        return f"<MemoryTransport {state} {self._sock!r} write buffer {self.get_write_buffer_size()}>"

    # State and protocol.

    def is_closing(self) -> bool:
        """Return whether the transport is closing or closed."""
        return self._closing

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        """Call another protocol from now on."""
        self._protocol = protocol

    def get_protocol(self) -> asyncio.BaseProtocol:
        """Return the current protocol."""
        return self._protocol

    # Reading.

    def is_reading(self) -> bool:
        """Return whether received data reaches the protocol."""
        return not self._closing and not self._read_paused

    def pause_reading(self) -> None:
        """Stop calling the protocol with data; data that arrives stays in the kernel's buffer."""
        if self.is_reading():
            self._read_paused = True
            self._sock.remove_reader()

    def resume_reading(self) -> None:
        """Undo :meth:`pause_reading`."""
        if self._read_paused and not self._closing:
            self._read_paused = False
            self._watch()

    def _watch(self) -> None:
        if self.is_reading():
            self._sock.add_reader(self._read_ready)

    def _read_ready(self) -> None:
        # asyncio makes the same test: a class that has the methods of both kinds counts as a BufferedProtocol.
        if isinstance(self._protocol, asyncio.BufferedProtocol):
            self._read_into(self._protocol)
        else:
            self._read_bytes(cast("asyncio.Protocol", self._protocol))

    def _read_bytes(self, protocol: asyncio.Protocol) -> None:
        data = self._recv(_READ_LIMIT)
        if data:
            with self._fatal("Fatal error: protocol.data_received() call failed."):
                protocol.data_received(data)
        elif data is not None:
            self._read_eof(protocol)

    def _read_into(self, protocol: asyncio.BufferedProtocol) -> None:
        """Read into the protocol's buffer, at most as much as fits."""
        data = None
        fatal = self._fatal("Fatal error: protocol.get_buffer() call failed.")
        with fatal, memoryview(protocol.get_buffer(-1)).cast("B") as view:
            if not view:
                raise RuntimeError("get_buffer() returned an empty buffer")
            data = self._recv(len(view))
            view[: len(data or b"")] = data or b""
        if data:
            with self._fatal("Fatal error: protocol.buffer_updated() call failed."):
                protocol.buffer_updated(len(data))
        elif data is not None:
            self._read_eof(protocol)

    def _recv(self, limit: int) -> bytes | None:
        """Read the socket; return ``b""`` at the end of the stream, None if there is nothing to deliver."""
        with self._fatal("Fatal read error on socket transport"), contextlib.suppress(BlockingIOError):
            return self._sock.recv(limit)
        return None

    def _read_eof(self, protocol: asyncio.Protocol | asyncio.BufferedProtocol) -> None:
        with self._fatal("Fatal error: protocol.eof_received() call failed."):
            if protocol.eof_received():
                # Only reading ends. The protocol goes on writing, and closes the transport itself.
                self._sock.remove_reader()
            else:
                self.close()

    # Writing.

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Write data; buffer the part that the kernel does not accept now.

        Raises:
            TypeError: ``data`` is not bytes-like.
            RuntimeError: :meth:`write_eof` was called before.
        """
        self.writelines([data])

    def writelines(self, list_of_data: Iterable[bytes | bytearray | memoryview]) -> None:
        """Write several pieces, with one call of the kernel if it accepts them."""
        pieces = [_view(data) for data in list_of_data]
        if self._eof_written:
            raise RuntimeError("Cannot write after write_eof()")
        if self._lost:
            return
        was_empty = not self._buffer
        # No copy is made. A program must not change a buffer that it has written, and a test notices if it does.
        self._buffer.extend(piece for piece in pieces if piece)
        if was_empty and self._buffer and self._flush():
            self._sock.add_writer(self._write_ready)
        self._check_high_water()

    def can_write_eof(self) -> bool:
        """Return True: TCP can close one direction."""
        return True

    def write_eof(self) -> None:
        """End the stream after the data that is buffered; reading goes on.

        Raises:
            OSError: the connection was reset, and no call has raised this yet.
        """
        if not self._closing and not self._eof_written:
            self._eof_written = True
            if not self._buffer:
                self._sock.shutdown()

    def _flush(self) -> bool:
        """Write as much as the kernel accepts; return whether data is left for later."""
        with self._fatal("Fatal write error on socket transport"), contextlib.suppress(BlockingIOError):
            sent = self._sock.sendmsg(self._buffer)
            while sent:
                piece = self._buffer.popleft()
                if len(piece) > sent:
                    self._buffer.appendleft(piece[sent:])
                sent -= min(sent, len(piece))
        return bool(self._buffer)

    def _write_ready(self) -> None:
        self._flush()
        if self._lost:
            return
        self._check_low_water()
        # resume_writing() may have written more, or aborted.
        if self._buffer or self._lost:
            return
        self._sock.remove_writer()
        if self._closing:
            self._schedule_lost(None)
        elif self._eof_written:
            self._sock.shutdown()

    # Flow control.

    def get_write_buffer_size(self) -> int:
        """Return the number of bytes that the kernel has not accepted yet."""
        return sum(map(len, self._buffer))

    def get_write_buffer_limits(self) -> tuple[int, int]:
        """Return the low and the high water mark, in bytes."""
        return self._low, self._high

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """Set the water marks, in bytes: above ``high`` the protocol is paused, at ``low`` it resumes.

        Raises:
            ValueError: not ``high >= low >= 0``.
        """
        self._low, self._high = _water_marks(high, low)
        self._check_high_water()

    def _check_high_water(self) -> None:
        if not self._write_paused and self.get_write_buffer_size() > self._high:
            self._write_paused = True
            self._notify("pause_writing")

    def _check_low_water(self) -> None:
        if self._write_paused and self.get_write_buffer_size() <= self._low:
            self._write_paused = False
            self._notify("resume_writing")

    def _notify(self, method: str) -> None:
        """Call a method of the protocol for flow control. An exception is reported; the connection goes on."""
        try:
            getattr(self._protocol, method)()
        except (SystemExit, KeyboardInterrupt):
            raise
        except BaseException as exc:
            self._report(f"protocol.{method}() failed", exc)

    # Closing.

    def close(self) -> None:
        """Stop reading, write the data that is buffered, then call ``connection_lost(None)``."""
        if not self._closing:
            self._closing = True
            self._sock.remove_reader()
            if not self._buffer:
                self._schedule_lost(None)

    def abort(self) -> None:
        """Close without writing the data that is buffered; ``connection_lost(None)`` follows."""
        self._force_close(None)

    @contextlib.contextmanager
    def _fatal(self, message: str) -> Iterator[None]:
        """End the connection when there is an exception; report it, too, if it is not one of the network."""
        try:
            yield
        except (SystemExit, KeyboardInterrupt):
            raise
        except BaseException as exc:
            if not isinstance(exc, OSError):
                self._report(message, exc)
            self._force_close(exc)

    def _report(self, message: str, exc: BaseException) -> None:
        context = {"message": message, "exception": exc, "transport": self, "protocol": self._protocol}
        self._loop.call_exception_handler(context)

    def _force_close(self, exc: BaseException | None) -> None:
        if not self._lost:
            self._closing = True
            self._buffer.clear()
            self._schedule_lost(exc)

    def _schedule_lost(self, exc: BaseException | None) -> None:
        """Call ``connection_lost``, once and later: never inside a call that the protocol made itself."""
        self._lost = True
        self._sock.remove_reader()
        self._sock.remove_writer()
        self._loop.call_soon(self._connection_lost, exc)

    def _connection_lost(self, exc: BaseException | None) -> None:
        try:
            self._protocol.connection_lost(cast("Exception | None", exc))
        finally:
            # As in asyncio, a transport that has ended keeps no protocol alive.
            self._protocol = asyncio.Protocol()
            self._sock.close()
            if self._owner is not None:
                self._owner.detach(self)


def _resolve(waiter: asyncio.Future[None]) -> None:
    if not waiter.done():
        waiter.set_result(None)


def _view(data: bytes | bytearray | memoryview) -> memoryview:
    if not isinstance(data, bytes | bytearray | memoryview):
        raise TypeError(f"data argument must be a bytes-like object, not {type(data).__name__!r}")
    return memoryview(data).cast("B")


def _water_marks(high: int | None, low: int | None) -> tuple[int, int]:
    """Complete and check the limits as asyncio does: high is 64 KiB or four times low, low is a quarter of high."""
    if high is None:
        high = _HIGH_WATER if low is None else 4 * low
    if low is None:
        low = high // 4
    if not high >= low >= 0:
        raise ValueError(f"high ({high!r}) must be >= low ({low!r}) must be >= 0")
    return low, high


def transport_pair(
    client: asyncio.BaseProtocol,
    server: asyncio.BaseProtocol,
    *,
    loop: asyncio.AbstractEventLoop | None = None,
    delay: Delay = 0.0,
    chunk: Chunk = None,
    capacity: int = CAPACITY,
) -> tuple[MemoryTransport, MemoryTransport, Link]:
    """Connect two protocols to each other, without addresses or servers.

    Parameters:
        client: protocol of the end that connected.
        server: protocol of the end that accepted.
        loop: the loop of both; None means the running one.
        delay: seconds that a byte travels, in each direction.
        chunk: most bytes that one read gives, in each direction.
        capacity: bytes that fit into each direction.

    Returns:
        The client's transport, the server's, and the link between them.
    """
    loop = loop or asyncio.get_running_loop()
    link = Link(loop, delay=delay, chunk=chunk, capacity=capacity)
    return MemoryTransport(loop, link.client, client), MemoryTransport(loop, link.server, server), link
