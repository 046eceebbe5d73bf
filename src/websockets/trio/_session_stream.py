"""A session on a stream of trio: the task of a connection, who writes, and what follows from events.

May know: tasks, cancel scopes, the wire. Must not know: messages, frames, which time limits there are: the session
knows them.

A connection has one task. It waits for data, or for a receiver while the receive queue is full, in a cancel scope whose
deadline is the next timeout of the session. So all time limits are on trio's clock.

Everybody writes. What is to be sent goes into the write buffer, and the task that finds no writer writes. The others
wait for their bytes. A writer leaves when its own bytes are written, or when it is cancelled; then it hands over to the
next one that waits. If nobody waits, a second task writes the rest, for as long as there is one. The task of the
connection itself never waits for a write, because it must go on reading.
"""

from __future__ import annotations

import contextlib
import logging
import math
from collections import deque
from collections.abc import Callable
from typing import Any, Final, NoReturn

import trio

from .._codec import FrameDecoder
from .._codec.header import WHOLE
from .._rules.lifecycle import Receiving, Side, State
from .._session.client_session import ClientSession
from .._session.intake import FIRST_SLICE, Flow
from .._session.options import connection_settings
from .._session.properties import ConnectionProperties
from .._session.session import TOO_FAST, Session
from ..exceptions import ConnectionClosed, InvalidState
from ..frames import CloseCode
from ..protocol import Protocol
from ..typing import BytesLike, LoggerLike
from ._wire import GRACE, Wire, socket_of, wire_for

__all__ = ["SessionStream"]

# In bytes. A larger frame goes through the write buffer.
WRITE_LIMIT: Final = 2**15

# What streams raise when they are broken, or closed by somebody else.
BROKEN: Final = (OSError, trio.BrokenResourceError, trio.ClosedResourceError)


class _Sender:
    """A task that waits until its bytes are written.

    Attributes:
        mark: the number of bytes written then.
        task: the task.
        writes: whether it has become the writer.
    """

    __slots__ = ("mark", "task", "writes")

    def __init__(self, mark: float) -> None:
        self.mark = mark
        self.task = trio.lowlevel.current_task()
        self.writes = False


class SessionStream(ConnectionProperties):
    """A session on a stream; :class:`~.connection.Connection` adds methods for users, and documents the options."""

    # Set on the instance only when they are needed, so that an idle connection stays small.
    _ws_logger: LoggerLike | None = None
    _ws_make_session: type[Session] = Session
    _ws_lost: bool = False
    _ws_started: bool = False
    _ws_writing: bool = False  # whether a task writes, or is about to
    _ws_owes: bool = False  # whether something may be pending for which nobody waits
    _ws_blocked: bool = False  # whether the network took no data, so that pongs are held back
    _ws_decoder: FrameDecoder | None = None  # for reads that may go past the session
    _ws_changed: trio.Event | None = None  # set when the session may have changed
    _ws_scope: trio.CancelScope | None = None  # its deadline is the next timeout
    _ws_parked: trio.lowlevel.Task | None = None  # the task of the connection, while it doesn't read
    _ws_awaits_writes: bool = False  # whether that task waits for progress of writing
    _ws_leaving: trio.Event | None = None  # set when a task that was cancelled has ended the connection
    _ws_receiver: trio.lowlevel.Task | None = None
    _ws_receiver_waits: bool = False
    _ws_streams: bool = False  # whether a message is read in fragments
    _ws_bytes_received: int = 0
    _ws_bytes_sent: int = 0
    _ws_messages_sent: int = 0
    _ws_payload_sent: int = 0
    _ws_saved_sent: int = 0
    _ws_token: trio.lowlevel.TrioToken | None = None  # of the run of trio in which it was opened

    def __init__(
        self,
        nursery: trio.Nursery,
        stream: trio.abc.Stream,
        protocol: Protocol,
        *,
        ping_interval: float | None = 20,
        ping_timeout: float | None = 20,
        close_timeout: float | None = 10,
        max_queue: int | tuple[int | None, int | None] | None = 16,
        idle_timeout: float | None = None,
    ) -> None:
        self.nursery = nursery
        self.stream = stream
        self.protocol = protocol
        timing, queue, _ = connection_settings(
            ping_interval, ping_timeout, close_timeout, max_queue, WRITE_LIMIT, idle_timeout
        )
        make = ClientSession if protocol.side is Side.CLIENT else self._ws_make_session
        self._ws_session = make(protocol, timing, queue)
        self._ws_inbox = self._ws_session.inbox
        self._ws_wire: Wire = wire_for(stream)
        self._ws_addresses = _addresses_of(socket_of(stream))
        self._ws_senders: deque[_Sender] = deque()
        self._ws_over = trio.Event()
        if protocol.logger.isEnabledFor(logging.INFO):
            # At higher levels the protocol logs nothing that has to refer to the connection.
            protocol.logger = self.logger

    def _ws_address(self, name: str) -> Any:
        return self._ws_addresses[name == "peername"]

    def _ws_set_time(self, name: str, seconds: float | None) -> None:
        self._ws_session.set_time(name, seconds, trio.current_time())
        self._ws_schedule()

    @property
    def buffered_amount(self) -> int:
        """Bytes in the write buffer: accepted, and not yet passed to the operating system."""
        return 0 if self._ws_lost else self._ws_wire.buffered_amount

    # ---------------------------------------------------------------------------------------- the task of a connection

    def _ws_start(self, open_timeout: float | None = None) -> None:
        """Start the task of the connection.

        Parameters:
            open_timeout: seconds that the opening handshake may take, for a server; None for no limit.
        """
        self._ws_token = trio.lowlevel.current_trio_token()
        self._ws_session.start_opening(open_timeout, trio.current_time())
        self._ws_started = True
        # The connection may be open already; then keepalive begins.
        self._ws_process_events()
        self.nursery.start_soon(self._ws_run, name=f"websockets {self.protocol.side.name.lower()}")

    def _ws_check_run(self) -> None:
        """Check that the connection is used in its own run of trio.

        Raises:
            RuntimeError: another run goes on in this thread, or none.
        """
        if self._ws_token is not None and trio.lowlevel.current_trio_token() is not self._ws_token:
            raise RuntimeError(
                "a connection belongs to the run of trio in which it was opened; from a thread, call "
                "trio.from_thread.run(connection.send, ...), or use websockets.sync"
            )

    async def _ws_run(self) -> None:
        try:
            await self._ws_live()
        except BROKEN as exc:
            if not self._ws_writing:
                await self._ws_wire.write_alert()
            self._ws_finish(None if isinstance(exc, trio.ClosedResourceError) else exc)
        except Exception as exc:
            self.logger.error("unexpected internal error", exc_info=True)
            self._ws_finish(exc)
        except BaseException:
            # The nursery was cancelled, and perhaps the program's part before it.
            await self._ws_leave(*self._ws_farewell)
            raise
        finally:
            self._ws_finish(None)
            try:
                # Even where the nursery was cancelled, and so this is.
                await self._ws_wire.aclose()
            finally:
                self._ws_over.set()

    async def _ws_live(self) -> None:
        """Read and handle timeouts, until the stream has ended."""
        while not self._ws_lost:
            # One scope serves many reads. Only a timeout needs another one.
            with trio.CancelScope(deadline=self._ws_session.wake_at) as self._ws_scope:
                await self._ws_read()
                return
            if not self._ws_lost:
                await self._ws_handle_timeout(trio.current_time())

    async def _ws_read(self) -> None:
        """Read and write until the end of the stream."""
        wire, intake = self._ws_wire, self._ws_session.intake
        while True:
            if self._ws_owes or not wire.bypasses:
                self._ws_owes = False
                if wire.pending:
                    await self._ws_write_now()
            if (intake.paused or intake.rest or intake.limited or not wire.wants_data) and await self._ws_detour():
                continue
            data = await wire.receive()
            if self._ws_lost:
                # Another task aborted the connection after the network had given data, before this task continued.
                return
            if data:
                self._ws_bytes_received += len(data)
                if self._ws_writing:
                    self._ws_check_blocked()
                self._ws_receive_data(data)
            elif data is not None:
                self._ws_receive_eof()
                await self._ws_write_rest()
                return

    async def _ws_detour(self) -> bool:
        """Do what comes before the next read; return whether there was anything."""
        intake = self._ws_session.intake
        if intake.yielding:
            await trio.lowlevel.checkpoint()
            intake.turn_over()
        elif intake.flow is Flow.PAUSE:
            await self._ws_park()
        elif not self._ws_wire.wants_data:
            await self._ws_park(for_writes=True)
        elif intake.rest and not intake.paused:
            self._ws_receive_data(intake.take_rest())
        else:
            return False
        return True

    async def _ws_park(self, for_writes: bool = False) -> None:
        """Wait until there may be something to read, or until something was written."""
        self._ws_parked, self._ws_awaits_writes = trio.lowlevel.current_task(), for_writes
        await trio.lowlevel.wait_task_rescheduled(self._ws_stop_parking)

    def _ws_stop_parking(self, _: Callable[[], NoReturn]) -> trio.lowlevel.Abort:
        self._ws_parked = None
        return trio.lowlevel.Abort.SUCCEEDED

    def _ws_unpark(self) -> None:
        task, self._ws_parked = self._ws_parked, None
        if task is not None:
            trio.lowlevel.reschedule(task)

    async def _ws_handle_timeout(self, now: float) -> None:
        session = self._ws_session
        if now >= session.limit_at:
            # What is read next depends on it.
            session.limit_over(now)
        session.taken = self._ws_wire.sent
        self._ws_check_blocked()
        seen = session.traffic(self._ws_counted(), self.buffered_amount) if now >= session.idle_at else ()
        ends = session.handle_timeout(now, seen)
        self._ws_process_events()
        if ends:
            await self._ws_write_now()
            self._ws_abort()

    # ------------------------------------------------------------------------------------------------------ receiving

    def _ws_receive_data(self, data: BytesLike) -> None:
        """Process data from a read."""
        session = self._ws_session
        intake = session.intake
        if len(data) > FIRST_SLICE or intake.paused or intake.rest or intake.metered:
            for part in intake.slices(data):
                self._ws_take_in(part)
                if intake.metered and session.spends(len(part)):
                    self._ws_meter()
            intake.after_read()
        else:
            self._ws_take_in(data)

    def _ws_meter(self) -> None:
        """Compare what was received with the limits of rates; beyond them, close, or wait."""
        wait = self._ws_session.meter(trio.current_time())
        if wait and self._ws_session.intake.limited:
            self._ws_schedule()
        elif wait:
            self._ws_begin_closing(*TOO_FAST)

    def _ws_take_in(self, data: BytesLike) -> None:
        session, decoder = self._ws_session, self._ws_decoder
        if decoder is None:
            if session.receive_data(data):
                self._ws_process_events()
            else:
                self._ws_decoder = session.intake.direct_decoder()
        else:
            frames = decoder.feed(data)
            if len(frames) == 2 and frames[0] in WHOLE and decoder.failure is None:
                self._ws_inbox.items.append(frames[1])
            elif session.receive_frames(frames):
                self._ws_process_events()
        if self._ws_inbox.items:
            self._ws_deliver()

    def _ws_deliver(self) -> None:
        """Resume the task that waits for a message, or pause reading if the receive queue is full."""
        inbox, receives = self._ws_inbox, self._ws_receiver_waits
        if receives and (self._ws_streams or inbox.ready):
            self._ws_wake_receiver()
        if inbox.full:
            self._ws_session.intake.check_full(receives)

    def _ws_wake_receiver(self) -> None:
        if self._ws_receiver_waits:
            self._ws_receiver_waits = False
            assert self._ws_receiver is not None
            trio.lowlevel.reschedule(self._ws_receiver)

    def _ws_receive_eof(self) -> None:
        self._ws_take_rest()
        self._ws_session.receive_eof()
        self._ws_process_events()

    def _ws_take_rest(self) -> None:
        """Process the rest of the last read at once, because no more data will come."""
        if rest := self._ws_session.intake.take_rest():
            self._ws_session.receive_data(rest)

    def _ws_pause_reading(self, reading_paused: bool) -> None:
        """Pause or resume reading."""
        intake = self._ws_session.intake
        if reading_paused:
            intake.pause()
        else:
            intake.resume()
            self._ws_unpark()

    def _ws_resume_reading(self) -> None:
        if self._ws_session.intake.resume() is not Flow.STAY:
            self._ws_unpark()

    # ---------------------------------------------------------------------------------------------------------- writing

    async def _ws_flush(self) -> None:
        """Process events, and wait until all output is written, or the connection is lost."""
        self._ws_process_events()
        with contextlib.suppress(ConnectionClosed):
            await self._ws_write_to(self._ws_wire.outbox.accepted)

    async def _ws_write_frame(self, frame: bytes) -> None:
        """Write a frame, and wait until it is written.

        Raises:
            ConnectionClosed: the connection was lost before that.
        """
        wire = self._ws_wire
        if self._ws_writing or not wire.bypasses or len(frame) > WRITE_LIMIT or wire.outbox:
            self._ws_put([frame])
            await self._ws_write_to(wire.outbox.accepted)
            return
        self._ws_writing = True
        self._ws_bytes_sent += len(frame)
        mark = wire.outbox.bypass(frame)
        alone = False
        try:
            alone = await wire.write_frame(frame)
        except BaseException as exc:
            self._ws_stop_writing(exc)
        if alone and not self._ws_blocked:
            self._ws_writing = False
            return
        self._ws_wrote()
        await self._ws_write(mark)
        if wire.outbox.sent < mark:
            raise self._ws_session.close_exc()

    async def _ws_write_to(self, mark: int) -> None:
        """Wait until the first ``mark`` bytes of the write buffer are written; write them if nobody does.

        Raises:
            ConnectionClosed: the connection was lost before that.
        """
        if not self._ws_writing:
            self._ws_writing = True
            await self._ws_write(mark)
        elif await self._ws_wait_in_line(mark):
            await self._ws_write(mark)
        if self._ws_wire.sent < mark:
            raise self._ws_session.close_exc()

    async def _ws_wait_in_line(self, mark: float) -> bool:
        """Wait until bytes are written; return whether the task has become the writer."""
        sender = _Sender(mark)
        self._ws_senders.append(sender)

        def leave(_: Callable[[], NoReturn]) -> trio.lowlevel.Abort:
            self._ws_senders.remove(sender)
            return trio.lowlevel.Abort.SUCCEEDED

        await trio.lowlevel.wait_task_rescheduled(leave)
        return sender.writes

    async def _ws_write(self, mark: float, waiting: bool = True) -> None:
        """Write as the only writer, until ``mark`` bytes are written; then hand over.

        Parameters:
            mark: a number of bytes of the write buffer; infinity for all that there is.
            waiting: whether the task may wait for the network.
        """
        wire = self._ws_wire
        try:
            while wire.pending and (wire.sent < mark or wire.outbox.at_end) and (waiting or wire.ready()):
                await wire.write()
                self._ws_wrote()
        except BaseException as exc:
            self._ws_stop_writing(exc)
        else:
            self._ws_hand_over()

    def _ws_stop_writing(self, exc: BaseException) -> None:
        """Stop writing because of an exception; the caller was the writer.

        Raises:
            BaseException: it was a cancellation. The rest is written by another task.
        """
        if isinstance(exc, Exception):
            self._ws_finish(None if isinstance(exc, trio.ClosedResourceError) else exc)
        elif self._ws_wire.outbox.torn and not self._ws_lost:
            self._ws_finish(ConnectionAbortedError("sending was cancelled in the middle of a frame"))
        self._ws_hand_over()
        if not isinstance(exc, Exception):
            raise exc

    def _ws_wrote(self) -> None:
        """Process progress: wake those whose bytes are written."""
        sent, senders = self._ws_wire.sent, self._ws_senders
        while senders and senders[0].mark <= sent:
            trio.lowlevel.reschedule(senders.popleft().task)
        if self._ws_blocked and self._ws_wire.outbox.drained:
            self._ws_blocked = False
            self._ws_session.writing(possible=True)
            self._ws_process_events()
        if self._ws_awaits_writes:
            self._ws_awaits_writes = False
            self._ws_unpark()

    def _ws_hand_over(self) -> None:
        """Let another task write what is left; the caller was the writer."""
        if not self._ws_wire.pending or self._ws_lost:
            self._ws_writing = False
        elif self._ws_senders:
            sender = self._ws_senders.popleft()
            sender.writes = True
            trio.lowlevel.reschedule(sender.task)
        else:
            self.nursery.start_soon(self._ws_write, math.inf)

    def _ws_write_soon(self) -> None:
        """Have output written without waiting for that."""
        if self._ws_wire.pending and not self._ws_writing:
            self._ws_writing = True
            self._ws_hand_over()

    async def _ws_write_now(self) -> None:
        """Write as much as the network takes at once; another task writes the rest."""
        if not self._ws_writing:
            self._ws_writing = True
            await self._ws_write(math.inf, waiting=False)

    async def _ws_write_own(self) -> None:
        """Write what there is, unless another task does."""
        if self._ws_wire.pending and not self._ws_writing:
            self._ws_writing = True
            await self._ws_write(self._ws_wire.outbox.accepted)

    async def _ws_write_rest(self) -> None:
        """Wait until everything is written, the end of the stream as well."""
        while self._ws_wire.pending:
            if self._ws_writing:
                await self._ws_park(for_writes=True)
            else:
                self._ws_writing = True
                await self._ws_write(math.inf)

    # ------------------------------------------------------------------------------------------------- what follows

    def _ws_process_events(self) -> None:
        """Apply the effects of an event; then something may be pending that a task must write."""
        session = self._ws_session
        for (answered, _), _ in session.process_events(trio.current_time()):
            answered.set()
        if not self._ws_lost:
            if self.protocol.writes:
                self._ws_put(self.protocol.data_to_send())
                self._ws_owes = True
            self._ws_schedule()
            intake = session.intake
            if (intake.paused or intake.limited) and intake.check_end() is not Flow.STAY:
                self._ws_unpark()
        self._ws_decoder = session.intake.direct_decoder()
        changed, self._ws_changed = self._ws_changed, None
        if changed is not None:
            changed.set()

    def _ws_put(self, writes: list[bytes]) -> None:
        """Add to the write buffer."""
        outbox = self._ws_wire.outbox
        before = outbox.accepted
        outbox.add(writes)
        self._ws_bytes_sent += outbox.accepted - before

    def _ws_check_blocked(self) -> None:
        """Tell the session if the peer doesn't read: pongs would pile up, and a ping wouldn't arrive."""
        if self._ws_wire.buffered_amount and not self._ws_wire.ready():
            self._ws_blocked = True
            self._ws_session.writing(possible=False)

    def _ws_schedule(self) -> None:
        """Set the deadline for the session's next timeout."""
        scope = self._ws_scope
        if scope is not None and scope.deadline != (deadline := self._ws_session.wake_at):
            scope.deadline = deadline

    async def _ws_until(self, condition: Callable[[], bool]) -> None:
        """Wait until a condition holds, or the connection is lost; it is checked whenever the session has changed."""
        while not condition() and not self._ws_lost:
            self._ws_changed = self._ws_changed or trio.Event()
            await self._ws_changed.wait()

    # ---------------------------------------------------------------------------------------------------------- closing

    def _ws_start_closing(self, code: int | None, reason: str = "", timeout: float | None = None) -> None:
        """Start closing, without waiting for anything."""
        self._ws_begin_closing(code, reason, timeout)
        self._ws_write_soon()

    def _ws_begin_closing(self, code: int | None, reason: str = "", timeout: float | None = None) -> None:
        """Start closing; the caller has the output written."""
        self._ws_session.close(code, reason)
        if self._ws_lost:
            return
        if timeout is not None:
            self._ws_session.limit_closing(timeout, trio.current_time())
        # The Close frame of the peer must be read even if no task receives messages any more.
        self._ws_resume_reading()
        if self._ws_session.intake.limited:
            self._ws_session.limit_over(trio.current_time())
            self._ws_unpark()
        self._ws_process_events()

    def _ws_fail(self, code: int, reason: str, cause: Exception) -> None:
        """Fail the connection."""
        self._ws_session.fail(code, reason, cause)
        self._ws_process_events()
        self._ws_write_soon()

    @property
    def _ws_farewell(self) -> tuple[int | None, str]:
        """The close code and the reason if the nursery is cancelled."""
        return CloseCode.GOING_AWAY, ""

    async def _ws_leave(self, code: int | None, reason: str = "") -> None:
        """End the connection because of a cancellation: try to write a Close frame without waiting, then abort."""
        if self._ws_lost:
            return
        if self._ws_leaving is not None:
            # Another task does it, and this one must not end the stream before it has.
            with trio.CancelScope(shield=True):
                await self._ws_leaving.wait()
            return
        self._ws_leaving = trio.Event()
        try:
            if self.protocol.state is State.OPEN:
                self._ws_begin_closing(code, reason)
            if not self._ws_writing and self._ws_wire.ready():
                with trio.CancelScope(shield=True, deadline=trio.current_time() + GRACE):
                    await self._ws_write_now()
        finally:
            self.abort()
            self._ws_leaving.set()

    def abort(self) -> None:
        """End the TCP connection at once, without a closing handshake (RFC 6455 section 7.1.7).

        Data in the write buffer is discarded. Messages that were received can still be read. Both ends see a lost
        connection: the close code is 1006. Aborting a closed connection has no effect.
        """
        if not self._ws_lost:
            self._ws_session.fail(CloseCode.ABNORMAL_CLOSURE, "", ConnectionAbortedError("connection was aborted"))
            self._ws_abort()

    def _ws_abort(self) -> None:
        """End the TCP connection."""
        self._ws_finish(None)

    def _ws_finish(self, exc: Exception | None) -> None:
        """End the TCP connection, and tell everybody; a second call has no effect."""
        if self._ws_lost:
            return
        if self.protocol.debug:
            if exc is not None:
                self.logger.debug("! error while receiving data", exc_info=exc)
            self.logger.debug("x closing TCP connection")
        try:
            # If it was a write that failed, what the peer had sent before may not be read yet.
            receives = exc is not None and self._ws_session.port.life.receiving is Receiving.OPEN
            if receives and (rest := self._ws_wire.receive_rest()):
                self._ws_bytes_received += len(rest)
                self._ws_receive_data(rest)
        finally:
            self._ws_wire.abort()
            self._ws_connection_lost(exc)
        if self._ws_scope is not None:
            self._ws_scope.cancel()
        if not self._ws_started:
            self._ws_over.set()

    def _ws_connection_lost(self, exc: Exception | None) -> None:
        """Process the end of the TCP connection; called once."""
        self._ws_take_rest()
        waiters = self._ws_session.connection_lost(exc)
        self._ws_lost = True
        self._ws_session.intake.end()
        self._ws_process_events()
        for event, on_close in waiters:
            if on_close:
                event.set()
        while self._ws_senders:
            trio.lowlevel.reschedule(self._ws_senders.popleft().task)
        self._ws_wake_receiver()

    async def wait_closed(self) -> None:
        """Wait until the closing handshake and the TCP connection are over."""
        await self._ws_over.wait()

    async def _ws_raise_closed(self) -> NoReturn:
        """Raise the exception for a call on a connection that isn't open, after it is closed."""
        if self.protocol.state is State.CONNECTING:
            raise InvalidState("connection is connecting")
        await self.wait_closed()
        raise self._ws_session.close_exc()


def _addresses_of(sock: Any) -> tuple[Any, Any]:
    """Return the addresses of both ends of a socket; None for what isn't known."""
    addresses = []
    for name in ("getsockname", "getpeername"):
        try:
            addresses.append(getattr(sock, name)())
        except (OSError, AttributeError):
            addresses.append(None)
    return addresses[0], addresses[1]
