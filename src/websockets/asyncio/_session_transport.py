"""A session on a transport: the methods that the event loop calls, and their effects.

May know: the event loop, the transport, futures. Must not know: messages, frames, timeouts: the session knows them.

All entry points of this file (a read, a timer, a call from the program) work alike. They tell the session. Then, if the
session has work, :meth:`SessionTransport._ws_process_events` writes its output and wakes the tasks that wait for it.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import weakref
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, NoReturn, cast

from .._rules.deadlines import Entry
from .._rules.lifecycle import Receiving, Sending, Side, State
from .._session.client_session import ClientSession
from .._session.intake import Flow
from .._session.options import connection_settings
from .._session.outbox import arrange, is_torn, take_end
from .._session.properties import ConnectionProperties
from .._session.session import TOO_FAST, Session
from ..exceptions import InvalidState
from ..frames import CloseCode
from ..protocol import Protocol
from ..typing import BytesLike, LoggerLike
from ._fastpath import SLOW, FastPath
from ._internals import end_socket, is_tls_of_loop, read_rest, socket_behind, takes_pieces, waiting_bytes
from ._loops import HasTimeout, check_loop, loop_state, watched

__all__ = ["SessionTransport"]

# In these states of reading, reads go through the intake and not through the fast path.
_DETOURS = (Flow.YIELD, Flow.LISTEN)

# Methods that look for the right event loop in the debug mode of asyncio. Otherwise this costs nothing.
_WATCHED = ("_ws_send_now", "_ws_next")

# Messages that may be sent without a turn of the event loop, on transports that hide their end.
_SENDS = 256

# The prefix of our modules: a method from another module was overridden by a program.
_OURS = __name__.partition(".")[0] + "."


class SessionTransport(ConnectionProperties, FastPath, asyncio.BufferedProtocol, asyncio.Protocol):
    """A session on a transport; :class:`~.connection.Connection` adds methods for users, and documents the options."""

    # Set on the instance only when they are needed, so that an idle connection stays small.
    _ws_logger: LoggerLike | None = None
    _ws_limit_timer: asyncio.TimerHandle | None = None  # ends the wait for a limit of a rate
    _ws_entry: Entry[HasTimeout] | None = None
    _ws_closing: asyncio.Future[None] | None = None
    _ws_lost_waiter: asyncio.Future[None] | None = None
    _ws_senders: int = 0
    _ws_takes_turns: bool = False  # whether sending slowly waits for a turn of the event loop
    _ws_write_error: Exception | None = None
    _ws_make_session: type[Session] = Session
    _ws_addresses: tuple[Any, Any] | None = None  # local and remote; kept for when the transport no longer knows them

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
        self._ws_shared = loop_state(self.loop)
        timing, queue, self._ws_write_limit = connection_settings(
            ping_interval, ping_timeout, close_timeout, max_queue, write_limit, idle_timeout
        )
        self._ws_client = client = protocol.side is Side.CLIENT
        make = ClientSession if client else self._ws_make_session
        self._ws_session = make(protocol, timing, queue)
        self._ws_queue = self._ws_session.inbox.items
        self._ws_buffer = self._ws_shared.buffer
        self._ws_life, self._ws_may_send = self._ws_session.port.life, Sending.OPEN
        if (high := self._ws_session.inbox.high) is not None:
            self._ws_high = high
        if protocol.logger.isEnabledFor(logging.INFO):
            # At higher levels the protocol logs nothing that has to refer to the connection.
            protocol.logger = self.logger
        if self.loop.get_debug():
            for name in _WATCHED:
                setattr(self, name, watched(self, name))

    def _ws_check_loop(self) -> None:
        """Check in the debug mode of asyncio that another loop doesn't use the connection."""
        if self.loop.get_debug():
            check_loop(self.loop)

    def _ws_address(self, name: str) -> Any:
        if self._ws_addresses is None:
            return self.transport.get_extra_info(name)
        return self._ws_addresses[name == "peername"]

    def _ws_keep_addresses(self) -> None:
        if self._ws_addresses is None:
            ask = self.transport.get_extra_info
            self._ws_addresses = ask("sockname"), ask("peername")

    def _ws_set_time(self, name: str, seconds: float | None) -> None:
        self._ws_session.set_time(name, seconds, self.loop.time())
        if not self._ws_lost:
            self._ws_schedule()

    # ---------------------------------------------------------------------------------------------------------- closing

    def _ws_start_closing(self, code: int | None, reason: str = "", timeout: float | None = None) -> None:
        try:
            self._ws_session.close(code, reason)
            if self._ws_lost:
                return
            if timeout is not None:
                self._ws_session.limit_closing(timeout, self.loop.time())
            # From now on, the session must see every message, as it may discard it.
            self._ws_decoder = self._ws_metered = None
            # The Close frame of the peer must be read even if no task receives messages any more.
            self._ws_resume_reading()
            if self._ws_session.intake.limited:
                self._ws_limit_over()
            self._ws_process_events()
        except MemoryError:
            # There may be no Close frame on its way and no timeout: abort, or closing may never end.
            self._ws_abort()
            raise

    def abort(self) -> None:
        """End the TCP connection at once, without a closing handshake (RFC 6455 section 7.1.7).

        Data in the write buffer is discarded. Messages that were received can still be read. Both ends see a lost
        connection: the close code is 1006. Aborting a closed connection has no effect.
        """
        if not self._ws_lost:
            try:
                self._ws_session.fail(CloseCode.ABNORMAL_CLOSURE, "", ConnectionAbortedError("connection was aborted"))
            finally:
                self._ws_abort()
            self._ws_process_events()

    def _ws_fail(self, code: int, reason: str, cause: Exception) -> None:
        """Fail the connection."""
        try:
            self._ws_session.fail(code, reason, cause)
            self._ws_process_events()
        except MemoryError:
            self._ws_abort()
            raise

    async def wait_closed(self) -> None:
        """Wait until the closing handshake and the TCP connection are over."""
        if self._ws_lost:
            return
        if self._ws_closing is None:
            self._ws_closing = self.loop.create_future()
        # Several tasks may wait; cancelling one of them must not cancel the future of the others.
        await asyncio.shield(self._ws_closing)

    @property
    def connection_lost_waiter(self) -> asyncio.Future[None]:
        """A future that is done when the TCP connection is over; :meth:`wait_closed` waits for the same event.

        Cancelling a task that waits for a future also cancels the future, for all tasks that wait for it. Wrap the
        future in :func:`asyncio.shield` to prevent that.
        """
        waiter = self._ws_lost_waiter
        if waiter is None or waiter.cancelled():
            waiter = self._ws_lost_waiter = self.loop.create_future()
            if self._ws_lost:
                waiter.set_result(None)
        return waiter

    async def _ws_raise_closed(self) -> NoReturn:
        """Wait until the connection is closed and the reason is known, then raise it.

        Raises:
            ConnectionClosed: the opening handshake is over.
            InvalidState: the opening handshake isn't over.
        """
        if self.protocol.state is State.CONNECTING:
            raise InvalidState("connection is connecting")
        await self.wait_closed()
        raise self._ws_session.close_exc()

    def _ws_abort(self) -> None:
        # A transport isn't used after it called connection_lost().
        if not self._ws_lost:
            if self.protocol.debug:
                self.logger.debug("x closing TCP connection")
            self.transport.abort()

    # ---------------------------------------------------------------------------------------- what the transport calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin to use a transport; the event loop calls this."""
        # Other event loops have transports of their own, which have the same methods but not the base class.
        self.transport = transport = cast(asyncio.Transport, transport)
        self._ws_socket = socket_behind(transport)
        if self._ws_socket is None:
            self._ws_adapt_to(transport)
        transport.set_write_buffer_limits(*self._ws_write_limit)

    def _ws_adapt_to(self, transport: asyncio.Transport) -> None:
        """Adapt to a transport other than asyncio's own for sockets without TLS."""
        self._ws_gathers = takes_pieces(transport)
        if is_tls_of_loop(transport):
            self._ws_takes_turns = True
            vars(self)["_ws_send_now"] = _with_turns(self)
            transport.set_protocol(cast(asyncio.BaseProtocol, _StandIn(self)))
        if transport.get_extra_info("sslcontext") is not None:
            # A TLS transport no longer has its socket when it calls connection_lost().
            self._ws_keep_addresses()
            if self.protocol.debug:
                made = type(transport)
                self.logger.debug("= TLS by %s.%s", made.__module__, made.__qualname__)

    def _ws_receive_data(self, data: BytesLike) -> None:
        """Process data from a read; a task that waits for a message may resume before this returns."""
        self._ws_bytes_received += len(data)
        intake = self._ws_session.intake
        for part in intake.slices(data):
            self._ws_take_in(part)
            if intake.metered and self._ws_session.spends(len(part)):
                self._ws_meter()
        self._ws_steer(intake.after_read())

    def _ws_look(self, rest: bytes | None) -> None:
        """Look at the clock, because more was taken in than granted; then process the rest of the read."""
        self._ws_meter()
        if rest is not None:
            self._ws_bytes_received -= len(rest)  # these bytes were counted when they were read
            self._ws_receive_data(rest)

    def _ws_meter(self) -> None:
        """Compare what was received with the limits of rates; beyond them, close, or wait."""
        wait = self._ws_session.meter(self.loop.time())
        if wait and self._ws_session.intake.limited:
            self._ws_steer(Flow.PAUSE)
            self._ws_choose_path()
            self._ws_limit_timer = self.loop.call_later(wait, self._ws_limit_over)
        elif wait:
            self._ws_start_closing(*TOO_FAST)

    def _ws_limit_over(self) -> None:
        self._ws_steer(self._ws_session.limit_over(self.loop.time()))
        self._ws_schedule()
        self._ws_choose_path()

    def _ws_take_in(self, data: BytesLike) -> None:
        if self._ws_session.receive_data(data):
            self._ws_process_events()
        elif self._ws_decoder is None and self._ws_metered is None:
            self._ws_choose_path()
        self._ws_deliver()

    def _ws_receive_rest(self, frames: list[Any]) -> None:
        """Process the frames of a read, from the first frame that wasn't a complete message."""
        if self._ws_session.receive_frames(frames):
            self._ws_process_events()
        self._ws_deliver()

    def _ws_hold_rest(self, rest: bytes) -> None:
        """Keep data that was read and can't be processed yet."""
        self._ws_steer(self._ws_session.intake.keep(rest))

    def _ws_pause_if_full(self) -> None:
        """Pause reading if the receive queue is full; called when messages are in it after a read."""
        intake = self._ws_session.intake
        if (high := intake.direct_messages()) is not None:
            self._ws_high = high
        self._ws_steer(intake.check_full(self._ws_receiver is not None))

    def _ws_drained(self) -> None:
        """Resume reading if the receive queue has room; called when a message was taken while reading was paused."""
        self._ws_steer(self._ws_session.intake.check_drained())

    def _ws_pause_reading(self, reading_paused: bool) -> None:
        """Pause or resume reading."""
        intake = self._ws_session.intake
        self._ws_steer(intake.pause() if reading_paused else intake.resume())

    def _ws_resume_reading(self) -> None:
        if self._ws_reading_paused and not self._ws_lost:
            self._ws_steer(self._ws_session.intake.resume())

    def _ws_turn_over(self) -> None:
        """Continue after other connections had their turn."""
        self._ws_steer(self._ws_session.intake.turn_over())

    def _ws_steer(self, flow: Flow) -> None:
        """Apply a decision of the intake to the transport."""
        if flow is Flow.STAY:
            return
        intake = self._ws_session.intake
        self._ws_reading_paused = intake.paused
        if self._ws_lost:
            intake.end()
            return
        if flow is Flow.YIELD:
            self.loop.call_soon(self._ws_turn_over)
        if flow in _DETOURS:
            self._ws_choose_path()
        elif flow is Flow.READ and intake.rest:
            self._ws_take_in_rest(intake.take_rest())
        flow = intake.flow
        if not self._ws_lost and not self.transport.is_closing():
            if flow is Flow.PAUSE:
                self.transport.pause_reading()
            else:
                self.transport.resume_reading()

    def _ws_take_in_rest(self, rest: bytes) -> None:
        self._ws_choose_path()
        self._ws_bytes_received -= len(rest)  # these bytes were counted when they were read
        # An override of data_received() has seen them already.
        super().data_received(rest)

    def _ws_take_rest(self) -> None:
        """Process the rest of the last read at once, because no more data will come."""
        rest = self._ws_session.intake.take_rest()
        if rest:
            self._ws_session.receive_data(rest)

    def _ws_choose_path(self) -> None:
        """Choose which messages take the fast path; called after every event except a message."""
        if self._ws_lost:
            self._ws_quick, self._ws_decoder, self._ws_metered = False, None, None
            return
        protocol, session = self.protocol, self._ws_session
        deflate = session.port.deflate
        self._ws_plain = not protocol.debug and (deflate is not None or not protocol.extensions)
        self._ws_quick = not session.port.failure_held
        # An override of data_received() must see all data.
        straight = type(self).data_received is FastPath.data_received
        self._ws_decoder = session.intake.direct_decoder() if straight else None
        if session.intake.metered:
            self._ws_metered = session.intake.metered_decoder() if straight else None
        if deflate is not None:
            self._ws_pack, self._ws_inflate = deflate.pack, session.port.inflate

    def eof_received(self) -> None:
        """Process the end of the stream; the event loop calls this, and closes the transport after flushing it."""
        self._ws_take_rest()
        self._ws_session.receive_eof()
        if self._ws_session.has_work:
            self._ws_process_events()

    def connection_lost(self, exc: Exception | None) -> None:
        """Process the end of the TCP connection; the event loop calls this."""
        try:
            self._ws_read_rest()
        finally:
            self._ws_process_loss(exc)

    def _ws_process_loss(self, exc: Exception | None) -> None:
        # Some event loops call this without having called connection_made().
        if self._ws_socket is None and hasattr(self, "transport"):
            # Only for other transports than asyncio's own for sockets, which closes its socket and keeps the addresses.
            end_socket(self.transport)
            self._ws_keep_addresses()
        # After a write that failed outside the transport, the transport itself knows no cause.
        exc = exc or self._ws_write_error
        if exc is not None and self.protocol.debug:
            self.logger.debug("! error while receiving data", exc_info=exc)
        self._ws_take_rest()
        waiters = self._ws_session.connection_lost(exc)
        self._ws_lost = True
        if self._ws_limit_timer is not None:
            # It may be far away, and would keep this object.
            self._ws_limit_timer.cancel()
        if self._ws_entry is not None:
            self._ws_shared.cancel(self._ws_entry)
            self._ws_entry = None
        if self._ws_session.has_work:
            self._ws_process_events()
        else:
            self._ws_choose_path()
        for waiter in waiters:
            _reject(waiter, self._ws_session.close_exc())
        self._ws_wake_write_waiters()
        for future in (self._ws_closing, self._ws_lost_waiter):
            if future is not None and not future.done():
                future.set_result(None)
        if self._ws_receiver is not None:
            # An override of connection_lost() may have more to do before tasks see that the connection is over.
            if (type(self).connection_lost.__module__ or "").startswith(_OURS):
                self._ws_receiver.resume()
            else:
                self._ws_receiver.wake()

    def _ws_read_rest(self) -> None:
        """Process what the peer had sent before it broke off, if a failing write has noticed that before a read."""
        if self._ws_life.receiving is Receiving.OPEN and (size := read_rest(self.transport, self._ws_buffer)):
            self.data_received(bytes(self._ws_buffer[:size]))

    def pause_writing(self) -> None:
        """Make senders wait, because the write buffer is full; the event loop calls this."""
        self._ws_write_waiters = deque()
        self._ws_session.writing(possible=False)

    def resume_writing(self) -> None:
        """Let senders continue, because the write buffer has room; the event loop calls this."""
        self._ws_wake_write_waiters()
        self._ws_session.writing(possible=True)
        self._ws_flush()
        self._ws_steer(self._ws_session.intake.check_end())

    def _ws_wake_write_waiters(self) -> None:
        waiters, self._ws_write_waiters = self._ws_write_waiters, None
        for waiter in waiters or ():
            if not waiter.done():
                waiter.set_result(None)

    def _ws_refuse_writing(self) -> None:
        """Make senders wait for the next turn of the event loop, because the transport is closing and takes nothing.

        A loop of ``send()`` would go on forever otherwise: the transport calls connection_lost() in a turn of the loop.
        """
        if self._ws_write_waiters is None:
            self._ws_write_waiters = deque()
            self.loop.call_soon(self._ws_wake_write_waiters)

    @property
    def buffered_amount(self) -> int:
        """Bytes of frames in the write buffer: accepted, and not yet passed to the operating system."""
        return 0 if self._ws_lost else self._ws_corked + waiting_bytes(self.transport)

    # -------------------------------------------------------------------------------------------------- what follows

    def _ws_process_events(self) -> None:
        """Apply the effects of an event: wake waiters of pings, write output, set the timer."""
        for waiter, latency in self._ws_session.process_events(self.loop.time()):
            if not waiter.done():
                waiter.set_result(latency)
        try:
            if self.protocol.writes or self._ws_corked:
                self._ws_flush()
        finally:
            if not self._ws_lost:
                self._ws_schedule()
        if self._ws_reading_paused or self._ws_session.intake.limited:
            self._ws_steer(self._ws_session.intake.check_end())
        self._ws_choose_path()

    def _ws_flush(self) -> None:
        """Write the frames that were held back, then the output of the session."""
        # send() has already returned for the frames that were held back.
        promised = self._ws_corked > 0
        try:
            self._ws_write_owed()
        except BaseException as exc:
            if is_torn(exc, promised):
                self._ws_tear()
            raise

    def _ws_write_owed(self) -> None:
        writes = self.protocol.data_to_send()
        if self._ws_corked:
            writes.insert(0, self._ws_take_corked())
        ends = take_end(writes)
        if len(writes) == 1:
            (self._ws_write_last if ends else self._ws_write_out)(writes[0])
        elif writes and not self._ws_lost:
            self._ws_write_all(writes)
        if ends and not self._ws_lost and not self.transport.is_closing():
            self._ws_half_close()

    def _ws_write_pieces(self, header: bytes, payload: BytesLike) -> None:
        """Write a large frame without joining its header and its payload."""
        if self._ws_corked:
            self._ws_flush()
        if not self._ws_lost:
            self._ws_write_all([header, payload])

    def _ws_write_all(self, writes: Sequence[BytesLike]) -> None:
        if self.transport.is_closing():
            self._ws_refuse_writing()
            return
        self._ws_bytes_sent += sum(map(len, writes))
        pieces = arrange(writes, gathers=self.transport.get_extra_info("sslcontext") is None)
        if len(pieces) == 1:
            self._ws_give(self.transport.write, pieces[0])
            return
        self._ws_give(self.transport.writelines, pieces)
        if self._ws_write_waiters is None and self.transport.get_write_buffer_size():
            # Some releases of asyncio don't check the limits after writelines(); setting the limits makes them check.
            self.transport.set_write_buffer_limits(*self._ws_write_limit)

    def _ws_give(self, write: Callable[[Any], None], data: object) -> None:
        """Pass data to the transport; if that fails, nothing may follow, as a part of a frame may have been sent."""
        if self._ws_torn:
            self.transport.abort()
            return
        try:
            write(data)
        except BaseException as exc:
            # The peer can't decompress a message if one before it is missing.
            if is_torn(exc, promised=self._ws_pack is not None):
                self._ws_tear()
            raise

    def _ws_tear(self) -> None:
        """Abort the connection: a frame is missing or incomplete on the wire, so nothing may follow it."""
        self._ws_torn = True
        if not self._ws_lost:
            self.transport.abort()

    def _ws_half_close(self) -> None:
        """Close the sending side; on transports that can't do that, such as TLS, close the connection."""
        if self.transport.can_write_eof():
            if self.protocol.debug:
                self.logger.debug("x half-closing TCP connection")
            # If the peer has reset the connection, connection_lost() reports it; closing must not raise here.
            with contextlib.suppress(OSError):
                self.transport.write_eof()
        else:
            if self.protocol.debug:
                self.logger.debug("x closing TCP connection")
            self.transport.close()

    def _ws_schedule(self) -> None:
        """Set the timer for the session's next timeout; a timer that fires too early is set again."""
        entry, when = self._ws_entry, self._ws_session.next_timeout
        if entry is None or when < entry.when:
            self._ws_entry = self._ws_shared.move(entry, when, self)

    def _ws_handle_timeout(self, now: float) -> None:
        self._ws_entry = None
        session = self._ws_session
        session.taken = self._ws_bytes_sent - self.buffered_amount
        idle_check = now >= session.idle_at
        if now < session.next_timeout:
            self._ws_schedule()
        elif session.handle_timeout(
            now, session.traffic(self._ws_counted(), self.buffered_amount) if idle_check else ()
        ):
            self._ws_end_now()
        else:
            self._ws_process_events()
            if self._ws_reading_paused:
                # The session may have begun or stopped to listen for data from the peer.
                self._ws_steer(self._ws_session.intake.flow)

    def _ws_end_now(self) -> None:
        """Abort the TCP connection, after an attempt to write a last Close frame."""
        try:
            if self._ws_session.has_work:
                self._ws_process_events()
        finally:
            self._ws_abort()

    def _ws_uncork(self) -> None:
        self._ws_backstop = False
        self._ws_flush()


class _StandIn:
    """The protocol that the TLS of asyncio or uvloop calls in place of a connection; for a connection it reads slowly.

    It derives from none of asyncio's classes, so asyncio calls ``data_received()``, and uvloop fills our buffer.

    Parameters:
        link: the connection.
    """

    __slots__ = ("buffer_updated", "connection_lost", "data_received", "eof_received", "get_buffer", "pause_writing",
                 "resume_writing")  # fmt: skip

    def __init__(self, link: SessionTransport) -> None:
        self.get_buffer, self.buffer_updated = link.get_buffer, link.buffer_updated
        self.data_received, self.eof_received = link.data_received, link.eof_received
        self.connection_lost = link.connection_lost
        self.pause_writing, self.resume_writing = link.pause_writing, link.resume_writing


def _reject(waiter: asyncio.Future[Any], exc: Exception) -> None:
    """Set an exception on a future, without a warning from asyncio if it is never awaited."""
    if not waiter.done():
        waiter.set_exception(exc)
        waiter.exception()  # marks the exception as retrieved


def _with_turns(connection: Any) -> Callable[[object, bool | None], int]:
    """Return a ``_ws_send_now`` that now and then leaves a message to ``_ws_send_slowly``, which waits for a turn.

    It is for transports that take messages although writing has failed, and tell of it in the next turn of the loop: a
    task that does nothing but send would never let it come.
    """
    checked, reference = vars(connection).get("_ws_send_now"), weakref.ref(connection)
    method = type(connection)._ws_send_now
    left = _SENDS

    def send_now(message: object, text: bool | None) -> int:
        nonlocal left
        left -= 1
        if left < 0:
            left = _SENDS
            return SLOW
        sent: int = method(reference(), message, text) if checked is None else checked(message, text)
        return sent

    return send_now
