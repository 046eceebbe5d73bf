"""A session on a transport: what the loop calls, and what follows.

May know: the loop, the transport, futures. Must not know: messages, frames, or what is due when: that is
the session's.

Every way into this file, a read, a timer, a call of the user, ends the same way: tell the session, then, if it has
work, :meth:`SessionTransport._process_events`: write what it has to say and wake whom it concerns.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, NoReturn, cast

from .._rules.deadlines import Entry
from .._rules.lifecycle import Sending, Side, State
from .._session.client_session import ClientSession
from .._session.intake import Flow
from .._session.options import connection_settings
from .._session.outbox import arrange, is_torn, take_end
from .._session.properties import ConnectionProperties
from .._session.session import Session
from ..exceptions import InvalidState
from ..frames import CloseCode
from ..protocol import Protocol
from ..typing import BytesLike, LoggerLike
from ._fastpath import FastPath
from ._internals import brings_bytes, end_socket, socket_behind, takes_pieces, waiting_bytes
from ._loops import HasTimeout, loop_state

__all__ = ["SessionTransport"]

# While reading is like this, reads take the detour by way of the intake.
_DETOURS = (Flow.YIELD, Flow.LISTEN)

# Where the methods are that no program has put in the place of ours.
_OURS = __name__.partition(".")[0] + "."


class SessionTransport(ConnectionProperties, FastPath, asyncio.BufferedProtocol, asyncio.Protocol):
    """A session on a transport; :class:`~.connection.Connection` adds what users call, and documents the options."""

    # Made when something needs them; an idle connection stays small.
    _logger: LoggerLike | None = None
    _entry: Entry[HasTimeout] | None = None
    _closing: asyncio.Future[None] | None = None
    _lost_waiter: asyncio.Future[None] | None = None
    _senders: int = 0
    _write_error: Exception | None = None
    _make_session: type[Session] = Session
    _addresses: tuple[Any, Any] | None = None  # ours and the peer's, once the transport can't be asked any more

    def __init__(
        self,
        protocol: Protocol,
        *,
        ping_interval: float | None = 20,
        ping_timeout: float | None = 20,
        close_timeout: float | None = 10,
        max_queue: int | tuple[int | None, int | None] | None = 16,
        write_limit: int | tuple[int, int | None] = 2**15,
        idle_timeout: float | None = None,
    ) -> None:
        self.protocol = protocol
        self.loop = asyncio.get_running_loop()
        self._shared = loop_state(self.loop)
        timing, queue, self._write_limit = connection_settings(
            ping_interval, ping_timeout, close_timeout, max_queue, write_limit, idle_timeout
        )
        make = ClientSession if protocol.side is Side.CLIENT else self._make_session
        self._session = make(protocol, timing, queue)
        self._queue = self._session.inbox.items
        self._buffer = self._shared.buffer
        self._client = protocol.side is Side.CLIENT
        self._life, self._may_send = self._session.port.life, Sending.OPEN
        if (high := self._session.inbox.high) is not None:
            self._high = high
        if protocol.logger.isEnabledFor(logging.INFO):
            # Otherwise the protocol has nothing to say that needs to lead to the connection.
            protocol.logger = self.logger

    def _address(self, name: str) -> Any:
        if self._addresses is None:
            return self.transport.get_extra_info(name)
        return self._addresses[name == "peername"]

    def _keep_addresses(self) -> None:
        if self._addresses is None:
            ask = self.transport.get_extra_info
            self._addresses = ask("sockname"), ask("peername")

    def _set_time(self, name: str, seconds: float | None) -> None:
        self._session.set_time(name, seconds, self.loop.time())
        if not self._lost:
            self._schedule()

    # ---------------------------------------------------------------------------------------------------------- closing

    def _start_closing(self, code: int | None, reason: str = "", timeout: float | None = None) -> None:
        try:
            self._session.close(code, reason)
            if self._lost:
                return
            if timeout is not None:
                self._session.limit_closing(timeout, self.loop.time())
            self._choose_path()
            # The Close of the peer must be seen, also when nobody reads messages any more.
            self._resume_reading()
            self._process_events()
        except MemoryError:
            # There may be no Close on its way, and no limit: then it ends at once.
            self._abort()
            raise

    def abort(self) -> None:
        """End the TCP connection at once, without a closing handshake (RFC 6455 section 7.1.7).

        What waits to be sent is thrown away. Messages that were received can still be read. To the peer it looks like a
        lost connection, and so it does here: the close code is 1006. It has no effect on a connection that is closed.
        """
        if not self._lost:
            try:
                self._session.fail(CloseCode.ABNORMAL_CLOSURE, "", ConnectionAbortedError("connection was aborted"))
            finally:
                self._abort()
            self._process_events()

    def _fail(self, code: int, reason: str, cause: Exception) -> None:
        """Give up on the connection."""
        try:
            self._session.fail(code, reason, cause)
            self._process_events()
        except MemoryError:
            self._abort()
            raise

    async def wait_closed(self) -> None:
        """Wait until the connection is closed: the closing handshake is over and the TCP connection too."""
        if self._lost:
            return
        if self._closing is None:
            self._closing = self.loop.create_future()
        # Many may wait; one that is cancelled must not wake the others.
        await asyncio.shield(self._closing)

    @property
    def connection_lost_waiter(self) -> asyncio.Future[None]:
        """A future that is done when the TCP connection is over; :meth:`wait_closed` waits for the same.

        Whoever is cancelled while waiting for a future cancels it, for all who have it; :func:`asyncio.shield` prevents
        that.
        """
        waiter = self._lost_waiter
        if waiter is None or waiter.cancelled():
            waiter = self._lost_waiter = self.loop.create_future()
            if self._lost:
                waiter.set_result(None)
        return waiter

    async def _raise_closed(self) -> NoReturn:
        """Tell the user that the connection is closed, once it is and the reason is known.

        Raises:
            ConnectionClosed: always, but while the connection isn't open yet.
            InvalidState: the opening handshake isn't over.
        """
        if self.protocol.state is State.CONNECTING:
            raise InvalidState("connection is connecting")
        await self.wait_closed()
        raise self._session.close_exc()

    def _abort(self) -> None:
        # A transport isn't touched once it said that it is over.
        if not self._lost:
            if self.protocol.debug:
                self.logger.debug("x closing TCP connection")
            self.transport.abort()

    # ---------------------------------------------------------------------------------------- what the transport calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Called by the loop."""
        # Other loops have transports of their own, which keep the contract without the base class.
        self.transport = transport = cast(asyncio.Transport, transport)
        self._socket, self._gathers = socket_behind(transport), takes_pieces(transport)
        if brings_bytes(transport):
            transport.set_protocol(cast(asyncio.BaseProtocol, _Stream(self)))
        transport.set_write_buffer_limits(*self._write_limit)
        if self._socket is None and transport.get_extra_info("sslcontext") is not None:
            # TLS has left the socket by the time it tells that the connection is over.
            self._keep_addresses()

    def _receive_data(self, data: BytesLike) -> None:
        """Take in what a read gave; whoever waits for a message goes on before this returns."""
        self._bytes_received += len(data)
        intake = self._session.intake
        for part in intake.slices(data):
            self._take_in(part)
        self._steer(intake.after_read())

    def _take_in(self, data: BytesLike) -> None:
        if self._session.receive_data(data):
            self._process_events()
        elif self._decoder is None:
            self._choose_path()
        self._deliver()

    def _receive_rest(self, frames: list[Any]) -> None:
        """Take in the frames of a read from the first on that wasn't a message."""
        if self._session.receive_frames(frames):
            self._process_events()
        self._deliver()

    def _hold_rest(self, rest: bytes) -> None:
        """Keep what was read and can't be taken in yet."""
        self._steer(self._session.intake.keep(rest))

    def _pause_if_full(self) -> None:
        """Called when messages wait after a read."""
        intake = self._session.intake
        if (high := intake.direct_messages()) is not None:
            self._high = high
        self._steer(intake.check_full(self._receiver is not None))

    def _drained(self) -> None:
        """A message was read while reading pauses."""
        self._steer(self._session.intake.check_drained())

    def _pause_reading(self, reading_paused: bool) -> None:
        """Stop reading, or read again."""
        intake = self._session.intake
        self._steer(intake.pause() if reading_paused else intake.resume())

    def _resume_reading(self) -> None:
        if self._reading_paused and not self._lost:
            self._steer(self._session.intake.resume())

    def _turn_over(self) -> None:
        """Others had their turn."""
        self._steer(self._session.intake.turn_over())

    def _steer(self, flow: Flow) -> None:
        """Do with the transport what the intake says."""
        if flow is Flow.STAY:
            return
        intake = self._session.intake
        self._reading_paused = intake.paused
        if self._lost:
            intake.end()
            return
        if flow is Flow.YIELD:
            self.loop.call_soon(self._turn_over)
        if flow in _DETOURS:
            self._choose_path()
        elif flow is Flow.READ and intake.rest:
            self._take_in_rest(intake.take_rest())
        flow = intake.flow
        if not self._lost and not self.transport.is_closing():
            if flow is Flow.PAUSE:
                self.transport.pause_reading()
            else:
                self.transport.resume_reading()

    def _take_in_rest(self, rest: bytes) -> None:
        self._choose_path()
        self._bytes_received -= len(rest)  # they were counted
        # A class has seen it already.
        super().data_received(rest)

    def _take_rest(self) -> None:
        """Take in what is left of the last read at once: nothing will come after it."""
        rest = self._session.intake.take_rest()
        if rest:
            self._session.receive_data(rest)

    def _choose_path(self) -> None:
        """Say what may go the straight way from now on; asked again whenever something happens but messages."""
        protocol, session = self.protocol, self._session
        deflate = session.port.deflate
        self._plain = not protocol.debug and (deflate is not None or not protocol.extensions)
        self._quick = not self._lost and not session.port.failure_held
        # A class may want to see what is read.
        straight = not self._lost and type(self).data_received is FastPath.data_received
        self._decoder = session.intake.direct_decoder() if straight else None
        if deflate is not None:
            self._pack, self._inflate = deflate.pack, session.port.inflate

    def eof_received(self) -> None:
        """Called by the loop: the peer will send no more. The transport closes when what waits has been sent."""
        self._take_rest()
        self._session.receive_eof()
        if self._session.has_work:
            self._process_events()

    def connection_lost(self, exc: Exception | None) -> None:
        """Called by the loop: the TCP connection is over."""
        # Some loops tell of the end of a connection that they never told of.
        if self._socket is None and hasattr(self, "transport"):
            # Not asyncio's transport for sockets: it ends them, and knows their addresses for good.
            end_socket(self.transport)
            self._keep_addresses()
        # The transport heard nothing of a write that failed, but that it is over.
        exc = exc or self._write_error
        if exc is not None and self.protocol.debug:
            self.logger.debug("! error while receiving data", exc_info=exc)
        self._take_rest()
        waiters = self._session.connection_lost(exc)
        self._lost = True
        if self._entry is not None:
            self._shared.cancel(self._entry)
            self._entry = None
        if self._session.has_work:
            self._process_events()
        else:
            self._choose_path()
        for waiter in waiters:
            _reject(waiter, self._session.close_exc())
        self._wake_write_waiters()
        for future in (self._closing, self._lost_waiter):
            if future is not None and not future.done():
                future.set_result(None)
        if self._receiver is not None:
            # A class may have more to do before tasks see that the connection is over.
            if (type(self).connection_lost.__module__ or "").startswith(_OURS):
                self._receiver.resume()
            else:
                self._receiver.wake()

    def pause_writing(self) -> None:
        """Called by the loop: too much waits to be sent."""
        self._write_waiters = deque()
        self._session.writing(possible=False)

    def resume_writing(self) -> None:
        """Called by the loop: little enough waits to be sent."""
        self._wake_write_waiters()
        self._session.writing(possible=True)
        self._flush()
        self._steer(self._session.intake.check_end())

    def _wake_write_waiters(self) -> None:
        waiters, self._write_waiters = self._write_waiters, None
        for waiter in waiters or ():
            if not waiter.done():
                waiter.set_result(None)

    @property
    def buffered_amount(self) -> int:
        """Bytes of frames that wait to be sent: accepted, and not yet given to the operating system."""
        return 0 if self._lost else self._corked + waiting_bytes(self.transport)

    # -------------------------------------------------------------------------------------------------- what follows

    def _process_events(self) -> None:
        """Do what follows from what the session was told."""
        for waiter, latency in self._session.process_events(self.loop.time()):
            if not waiter.done():
                waiter.set_result(latency)
        try:
            if self.protocol.writes or self._corked:
                self._flush()
        finally:
            if not self._lost:
                self._schedule()
        if self._reading_paused:
            self._steer(self._session.intake.check_end())
        self._choose_path()

    def _flush(self) -> None:
        """Write what was held back, and what the session has to say."""
        # What was held back counts as sent already.
        promised = self._corked > 0
        try:
            self._write_owed()
        except BaseException as exc:
            if is_torn(exc, promised):
                self._tear()
            raise

    def _write_owed(self) -> None:
        writes = self.protocol.data_to_send()
        if self._corked:
            writes.insert(0, self._take_corked())
        ends = take_end(writes)
        if len(writes) == 1:
            self._write_out(writes[0])
        elif writes and not self._lost and not self.transport.is_closing():
            self._write_all(writes)
        if ends and not self._lost and not self.transport.is_closing():
            self._half_close()

    def _write_pieces(self, header: bytes, payload: BytesLike) -> None:
        """Write a large frame."""
        if self._corked:
            self._flush()
        if not self._lost and not self.transport.is_closing():
            self._write_all([header, payload])

    def _write_all(self, writes: Sequence[BytesLike]) -> None:
        self._bytes_sent += sum(map(len, writes))
        pieces = arrange(writes, gathers=self.transport.get_extra_info("sslcontext") is None)
        if len(pieces) == 1:
            self._give(self.transport.write, pieces[0])
            return
        self._give(self.transport.writelines, pieces)
        if self._write_waiters is None and self.transport.get_write_buffer_size():
            # Some releases of asyncio forget to look at the limits after writelines(); setting them makes them look.
            self.transport.set_write_buffer_limits(*self._write_limit)

    def _give(self, write: Callable[[Any], None], data: object) -> None:
        """Have the transport write. If that fails, nothing may follow what may be a part of a frame."""
        if self._torn:
            self.transport.abort()
            return
        try:
            write(data)
        except BaseException as exc:
            # Messages that are compressed refer to each other.
            if is_torn(exc, promised=self._pack is not None):
                self._tear()
            raise

    def _tear(self) -> None:
        """End the connection: what should be on the wire isn't, or not whole, so nothing may follow."""
        self._torn = True
        if not self._lost:
            self.transport.abort()

    def _half_close(self) -> None:
        """End the sending side; where that can't be done alone, as with TLS, end the connection."""
        if self.transport.can_write_eof():
            if self.protocol.debug:
                self.logger.debug("x half-closing TCP connection")
            # A reset that nobody noticed yet is news for connection_lost(), not for whoever closes.
            with contextlib.suppress(OSError):
                self.transport.write_eof()
        else:
            if self.protocol.debug:
                self.logger.debug("x closing TCP connection")
            self.transport.close()

    def _schedule(self) -> None:
        """See to it that the session's alarm rings; an alarm that rings too early looks again."""
        self._entry = self._shared.move(self._entry, self._session.next_timeout, self)

    def _handle_timeout(self, now: float) -> None:
        self._entry = None
        session = self._session
        session.taken = self._bytes_sent - self.buffered_amount
        idle_check = now >= session.idle_at
        if now < session.next_timeout:
            self._schedule()
        elif session.handle_timeout(now, session.traffic(self._counted(), self.buffered_amount) if idle_check else ()):
            self._end_now()
        else:
            self._process_events()
            if self._reading_paused:
                # The session may listen for a sign of life from now on, or no longer.
                self._steer(self._session.intake.flow)

    def _end_now(self) -> None:
        """Abort the TCP connection; a last Close goes to the network if there is room for it."""
        try:
            if self._session.has_work:
                self._process_events()
        finally:
            self._abort()

    def _uncork(self) -> None:
        self._backstop = False
        self._flush()


class _Stream:
    """What asyncio's TLS calls in place of a connection: to fill our buffer costs it more than to bring its own.

    Parameters:
        link: the connection.
    """

    __slots__ = ("connection_lost", "data_received", "eof_received", "pause_writing", "resume_writing")

    def __init__(self, link: SessionTransport) -> None:
        self.data_received, self.eof_received = link.data_received, link.eof_received
        self.connection_lost = link.connection_lost
        self.pause_writing, self.resume_writing = link.pause_writing, link.resume_writing


def _reject(waiter: asyncio.Future[Any], exc: Exception) -> None:
    """Give up on a future; nobody need know if nobody waits for it."""
    if not waiter.done():
        waiter.set_exception(exc)
        waiter.exception()  # marks it as seen
