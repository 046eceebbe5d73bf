"""A session on a socket: who calls the socket when, and what follows from it.

May know: the socket, the lock, the role of the reader, the steward; the session, TLS. Must not know: messages of users,
frames, timeouts: the session knows them.

The lock of a connection guards its session, its outbox and its roles. It is held for moments only: nobody waits, calls
the socket, or runs code of users while holding it. So all changes look alike. Under the lock, tell the session, and
call :meth:`SessionSocket._ws_process_events`, which puts its output into the outbox. Then, without the lock, call
:meth:`SessionSocket._ws_flush`, which writes what the socket takes.

A thread that waits for something, such as the end of the connection, reads from the socket itself if nobody else does;
see :meth:`SessionSocket._ws_wait_until`. Otherwise it waits for a change.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final, NoReturn

from .._rules.deadlines import Entry
from .._rules.lifecycle import Sending, Side, State
from .._session.client_session import ClientSession
from .._session.intake import Flow
from .._session.options import connection_settings
from .._session.outbox import Outbox
from .._session.session import TOO_FAST, Session
from ..exceptions import InvalidState
from ..frames import CloseCode
from ..protocol import Protocol
from ..typing import LoggerLike
from ._bridge import bridge, needs_bridge
from ._roles import Step, after
from ._secured import SecuredSocket
from ._sending import FREE, TAKEN, WATCHED, SendingSocket
from ._steward import Steward, steward_of
from ._system import READ, current
from ._wire import address_of, is_passing, wire_for

if TYPE_CHECKING:
    from .._session.tls import TLSChannel
    from .._session.tls_in_tls import NestedChannel

__all__ = ["SessionSocket"]

# In bytes. While more than this waits to be sent, a connection is slow.
WRITE_LIMIT: Final = 2**15


class SessionSocket(SendingSocket):
    """A session on a socket; :class:`~.connection.Connection` adds methods for users, and documents the parameters."""

    recv_bufsize = 65536
    """Bytes that one read from the socket may bring."""

    # Set on the instance only when they are needed, so that an idle connection stays small.
    _ws_make_session: type[Session] = Session
    _ws_logger: LoggerLike | None = None
    _ws_entry: Entry[Any] | None = None
    _ws_addresses: tuple[Any, Any] | None = None
    _ws_ending: bool = False  # whether the end of the stream has arrived
    _ws_foreign: bool = False
    _ws_nested: int = 0  # signal handlers that read while they interrupt the reader
    _ws_mask: int = 0  # what the selector of the steward watches for
    _ws_closed_socket: bool = False
    _ws_seen: int = -1  # what _ws_epoch was at the last look of the steward
    _ws_saved_sent: int = 0

    if TYPE_CHECKING:

        def _ws_take_read(self, got: list[bytes], error: OSError | None, watching: bool, begun: list[bool]) -> None: ...
        # What the steward does is in _stewarded.
        def _ws_handle_timeout(self, now: float) -> None: ...
        def _ws_look(self) -> bool: ...
        def _ws_attend(self, selector: Any) -> Any: ...
        def _ws_unwatch(self) -> None: ...
        def _ws_be_ready(self, mask: int) -> None: ...
        def _ws_break_off(self, exc: Exception) -> None: ...
        def _ws_disown(self) -> None: ...

    def __init__(
        self,
        sock: Any,
        protocol: Protocol,
        *,
        ping_interval: float | None = 20,
        ping_timeout: float | None = 20,
        close_timeout: float | None = 10,
        max_queue: int | tuple[int | None, int | None] | None = 16,
        idle_timeout: float | None = None,
    ) -> None:
        timing, queue, _ = connection_settings(
            ping_interval, ping_timeout, close_timeout, max_queue, WRITE_LIMIT, idle_timeout
        )
        self.protocol = protocol
        self.socket = sock
        self._ws_system = system = current()
        self._ws_lock = system.lock()
        self._ws_ident = system.get_ident
        self._ws_wire = wire_for(bridge(sock, system) if needs_bridge(sock, system) else sock, system)
        make = ClientSession if protocol.side is Side.CLIENT else self._ws_make_session
        self._ws_session = session = make(protocol, timing, queue)
        session.runner = "threads"
        self._ws_queue = session.inbox.items
        self._ws_life, self._ws_may_send = session.port.life, Sending.OPEN
        self._ws_client = protocol.side is Side.CLIENT
        self._ws_outbox = Outbox(WRITE_LIMIT, gathers=self._ws_wire.gathers)
        if protocol.logger.isEnabledFor(logging.INFO):
            # At higher levels the protocol logs nothing that has to refer to the connection.
            protocol.logger = self.logger
        self._ws_steward: Steward = steward_of(system)
        self._ws_steward.know(self)
        if protocol.state is State.OPEN:
            # A program did the opening handshake itself.
            with self._ws_lock:
                self._ws_process_events()
                self._ws_entrust_reading()

    def _ws_adopt(self, channel: TLSChannel | NestedChannel | None = None, received: bytes = b"") -> None:
        """Go on where the opening of the TCP connection ended; called before anything else.

        Parameters:
            channel: TLS; None without it. Its handshake may be complete, or has not begun yet.
            received: data that was received too early.
        """
        with self._ws_lock:
            self._ws_channel = channel
            self._ws_choose_path()
            if channel is not None:
                # The log names a peer that leaves during the handshake.
                self._ws_address("peername")
                self.socket = SecuredSocket(self.socket, channel.ssl_object, self._ws_lock)
                self._ws_outbox.gathers = False
                channel.start()
                self._ws_receive_channel(channel)
            if received:
                self._ws_receive_bytes(received)
        self._ws_flush()

    # ---------------------------------------------------------------------------------------------------- what is known

    def _ws_address(self, name: str) -> Any:
        if self._ws_addresses is None:
            self._ws_addresses = address_of(self.socket, "getsockname"), address_of(self.socket, "getpeername")
        return self._ws_addresses[name == "peername"]

    def _ws_set_time(self, name: str, seconds: float | None) -> None:
        if not hasattr(self, "_ws_lock"):
            return  # a subclass sets it before __init__(), which sets it again
        with self._ws_lock:
            self._ws_session.set_time(name, seconds, self._ws_system.now())
            self._ws_schedule()

    def _ws_wait_until(self, goal: Callable[[], bool], deadline: float | None = None) -> bool:
        """Wait until a goal is reached or the connection is over; read from the socket if nobody else does.

        Parameters:
            goal: function that returns whether it is reached; called under the lock.
            deadline: the time when to give up; None for never.

        Returns:
            Whether the goal is reached.
        """
        while True:
            with self._ws_lock:
                self._ws_check_broken()
                if goal():
                    return True
                if self._ws_lost:
                    return False
                # Usually the steward handles timeouts. But while the interpreter ends, it doesn't run any more.
                until = min(self._ws_session.wake_at, math.inf if deadline is None else deadline)
                limit = None if until == math.inf else until
                mine = self._ws_claim_reading()
                in_time = mine or self._ws_wait_change(limit, claims=True)
            if mine:
                in_time = self._ws_read(limit)
            if not in_time and until == deadline:
                with self._ws_lock:
                    # Who has left the role of the reader may have left it to this thread.
                    self._ws_list()
                    return goal()
            if not in_time:
                self._ws_handle_timeout(max(until, self._ws_system.now()))

    # ---------------------------------------------------------------------------------------------------------- reading

    def _ws_claim_reading(self) -> bool:
        """Take the role of the reader, if possible; called under the lock."""
        if self._ws_ending or self._ws_session.intake.limited:
            # There is nothing more to read, and the end comes when everything is sent; or it isn't time to read on.
            return False
        me = self._ws_ident()
        if self._ws_reader is TAKEN:
            # A signal handler may read while the thread that it interrupts waits to do so.
            nested = self._ws_reading_thread == me
            self._ws_nested += nested
            return nested
        self._ws_reader, self._ws_reading_thread = after(self._ws_reader, Step.CLAIM), me
        return True

    def _ws_leave_reading(self, watching: bool = False) -> None:
        """Leave the role of the reader, unless the steward goes on watching; called under the lock."""
        if self._ws_nested:
            self._ws_nested -= 1
            return
        step = Step.ENTRUST if watching and not self._ws_claimants and not self._ws_lost else Step.LEAVE
        self._ws_reader, self._ws_reading_thread = after(self._ws_reader, step), 0
        self._ws_left_reading()

    def _ws_left_reading(self) -> None:
        """Do what follows when the reader has left; called under the lock."""
        self._ws_close_unused()
        self._ws_list()
        self._ws_notify()

    def _ws_list(self) -> None:
        """Have the steward look whether somebody goes on reading, if nobody does now; called under the lock."""
        if self._ws_reader is FREE and not (self._ws_claimants or self._ws_listed or self._ws_lost):
            self._ws_listed, self._ws_seen = True, -1
            self._ws_steward.look_at(self)

    def _ws_read(self, deadline: float | None, watching: bool = False) -> bool:
        """Wait for data and process it; then leave the role of the reader, which the caller took.

        Parameters:
            deadline: the time when to give up; None for never.
            watching: whether the steward is the caller, which goes on watching.

        Returns:
            False if the deadline passed before.
        """
        wire, size = self._ws_wire, self.recv_bufsize
        got: list[bytes] = []
        begun: list[bool] = []
        error: OSError | None = None
        in_time = True
        try:
            if deadline is None:
                wire.receive(got, size)
            elif in_time := wire.wait(READ, deadline - self._ws_system.now()):
                wire.receive_now(got, size)
        except OSError as exc:
            error = exc
        except MemoryError as exc:
            self._ws_interrupted(exc)  # perhaps it was wanting for what was read
            raise
        finally:
            try:
                self._ws_take_read(got, error, watching, begun)
            except BaseException as exc:
                if not begun:
                    # A signal handler came first, or there was no room for the call, as perhaps for the next one.
                    if got:
                        self._ws_broken = self._ws_owing = True
                    self._ws_miss_read(got, exc)
                raise
        self._ws_flush()
        return in_time

    def _ws_miss_read(self, got: list[bytes], cause: BaseException) -> None:
        """Leave the role of the reader, because an exception came before what was read could be processed."""
        with self._ws_lock:
            if self._ws_nested:
                self._ws_nested -= 1
            else:
                self._ws_reader, self._ws_reading_thread = after(self._ws_reader, Step.LEAVE), 0
            if got:
                self._ws_interrupted(cause)
            self._ws_left_reading()

    def _ws_received(self, data: bytes | None, error: OSError | None) -> None:
        """Process what a call of the socket brought: data, nothing, the end of the stream, or an error."""
        if self._ws_lost:
            return
        if error is not None and not is_passing(error):
            self._ws_lose(error)
        elif data:
            self._ws_receive_bytes(data)
        elif data is not None:
            self._ws_receive_eof()

    def _ws_receive_bytes(self, data: bytes) -> None:
        """Process bytes from the socket; a subclass may look at them first."""
        channel = self._ws_channel
        if channel is None:
            self._ws_receive_data(data)
        else:
            channel.receive_data(data)
            self._ws_receive_channel(channel)

    def _ws_receive_channel(self, channel: TLSChannel | NestedChannel) -> None:
        """Process what TLS has: plaintext, ciphertext to send, its end."""
        while not self._ws_lost and (data := channel.read()):
            self._ws_receive_data(data)
        if pieces := channel.data_to_send():
            self._ws_outbox.add(pieces)
            self._ws_owing = True
        if channel.failure is not None:
            # There may be an alert to send.
            self._ws_doom = channel.failure
        elif channel.ended:
            self._ws_receive_eof()
        elif not self._ws_plain:
            # TLS may have become possible.
            self._ws_choose_path()

    def _ws_receive_data(self, data: bytes) -> None:
        self._ws_bytes_received += len(data)
        session, intake = self._ws_session, self._ws_session.intake
        for part in intake.slices(data):
            if session.receive_data(part):
                self._ws_process_events()
            elif self._ws_decoder is None:
                self._ws_choose_path()
            if self._ws_queue:
                self._ws_steer(intake.check_full(self._ws_receiver != 0))
            if intake.metered and session.spends(len(part)):
                self._ws_meter()
        self._ws_steer(intake.after_read())

    def _ws_meter(self) -> None:
        """Compare what was received with the limits of rates; beyond them, close, or wait. Called under the lock."""
        wait = self._ws_session.meter(self._ws_system.now())
        if wait and self._ws_session.intake.limited:
            self._ws_schedule()
        elif wait:
            self._ws_begin_closing(*TOO_FAST)

    def _ws_limit_over(self, now: float) -> None:
        """Read on after the wait for a limit of a rate; called under the lock."""
        self._ws_steer(self._ws_session.limit_over(now))
        self._ws_schedule()
        self._ws_notify()

    def _ws_steer(self, flow: Flow) -> None:
        """Apply a decision of the intake; called under the lock."""
        if flow is Flow.STAY:
            return
        intake = self._ws_session.intake
        if self._ws_lost:
            intake.end()
            return
        if flow is Flow.YIELD:
            # Each connection has a thread of its own, and so all have their turn.
            flow = intake.turn_over()
        if flow is Flow.READ and intake.rest:
            rest = intake.take_rest()
            self._ws_bytes_received -= len(rest)  # these bytes were counted when they were read
            self._ws_receive_data(rest)
        self._ws_choose_path()
        if self._ws_reader is WATCHED:
            self._ws_ask_steward()
        else:
            self._ws_list()

    def _ws_ask_steward(self) -> None:
        """Have the steward update what it watches for, soon."""
        self._ws_steward.ask(self)

    def _ws_receive_eof(self) -> None:
        """Process the end of the stream."""
        if self._ws_ending:
            return
        self._ws_ending = True
        self._ws_take_last()
        self._ws_session.receive_eof()
        self._ws_process_events()
        self._ws_check_end()

    def _ws_take_last(self) -> None:
        """Process the rest of what was read, because no more data will come."""
        if rest := self._ws_session.intake.take_rest():
            self._ws_session.receive_data(rest)

    def _ws_choose_path(self) -> None:
        """Choose which messages take the fast path; called after every event except a message."""
        protocol, session, channel = self.protocol, self._ws_session, self._ws_channel
        over = self._ws_lost or self._ws_broken or self._ws_doom is not None
        quick = not over and (channel is None or channel.handshake_complete)
        self._ws_plain = quick and not protocol.debug and not protocol.extensions
        # While reading is paused, each message that is taken must have it checked whether there is room again.
        self._ws_decoder = session.intake.direct_decoder() if quick and not session.intake.paused else None

    def _ws_check_reading(self) -> None:
        """Read on for the end of the stream, if nothing else matters and the peer reads; called under the lock."""
        self._ws_steer(self._ws_session.intake.check_end())

    def _ws_pause_reading(self, pause: bool) -> None:
        """Pause or resume reading; called under the lock."""
        intake = self._ws_session.intake
        self._ws_steer(intake.pause() if pause else intake.resume())

    def _ws_entrust_reading(self) -> None:
        """Have the steward watch the socket at once, unless a thread is reading; called under the lock."""
        if self._ws_reader is not TAKEN and not self._ws_lost:
            if self._ws_queue:
                self._ws_steer(self._ws_session.intake.check_full(False))
            self._ws_reader = after(self._ws_reader, Step.ENTRUST)
            self._ws_ask_steward()

    # -------------------------------------------------------------------------------------------------- what follows

    def _ws_process_events(self) -> None:
        """Apply the effects of an event: output, pongs that somebody waits for, the next timeout; under the lock."""
        session = self._ws_session
        for waiter, _ in session.process_events(self._ws_system.now()):
            waiter.event.set()
        if self.protocol.writes:
            self._ws_put(self.protocol.data_to_send())
        if not self._ws_lost:
            self._ws_schedule()
        if session.intake.paused or session.intake.limited:
            self._ws_steer(session.intake.check_end())
        self._ws_choose_path()
        self._ws_notify()

    def _ws_schedule(self) -> None:
        """Have the steward handle the next timeout of the session."""
        if not self._ws_lost:
            self._ws_steward.move(self, self._ws_session.wake_at)

    def _ws_start_closing(
        self, code: int | None, reason: str = "", timeout: float | None = None, *, waits: bool = False
    ) -> None:
        """Begin the closing handshake, if it hasn't begun; don't wait for it.

        Parameters:
            code, reason, timeout: as for ``close()``.
            waits: whether this thread is going to wait for the end; otherwise the steward reads at once.
        """
        with self._ws_lock:
            self._ws_begin_closing(code, reason, timeout, waits)
        self._ws_flush()

    def _ws_begin_closing(
        self, code: int | None, reason: str, timeout: float | None = None, waits: bool = False
    ) -> None:
        """Begin the closing handshake; called under the lock."""
        session = self._ws_session
        session.close(code, reason)
        if self._ws_lost:
            return
        if timeout is not None:
            session.limit_closing(timeout, self._ws_system.now())
        self._ws_choose_path()
        # The Close frame of the peer must be read even if nobody receives any more.
        self._ws_steer(session.intake.resume())
        if session.intake.limited:
            self._ws_limit_over(self._ws_system.now())
        self._ws_process_events()
        if not waits:
            self._ws_entrust_reading()

    def _ws_fail(self, code: int, reason: str, cause: Exception) -> None:
        """Fail the connection."""
        with self._ws_lock:
            self._ws_session.fail(code, reason, cause)
            self._ws_process_events()
            self._ws_entrust_reading()
        self._ws_flush()

    def _ws_raise_closed(self) -> NoReturn:
        """Wait until the connection is closed and the reason is known, then raise it.

        Raises:
            ConnectionClosed: the opening handshake is over.
            InvalidState: the opening handshake isn't over.
        """
        if self.protocol.state is State.CONNECTING:
            raise InvalidState("connection is connecting")
        self._ws_wait_until(self._ws_is_lost)
        raise self._ws_session.close_exc()

    def _ws_is_lost(self) -> bool:
        return self._ws_lost

    # ---------------------------------------------------------------------------------------------------------- the end

    def abort(self) -> None:
        """End the TCP connection at once, without a closing handshake (RFC 6455 section 7.1.7).

        Data in the write buffer is discarded. Messages that were received can still be read. Both ends see a lost
        connection: the close code is 1006. Threads that wait in a method of the connection go on. Aborting a closed
        connection has no effect. It may be called in any thread, and in a signal handler.
        """
        if self._ws_foreign:
            self._ws_abandon()
            return
        with self._ws_lock:
            if not self._ws_lost:
                self._ws_session.fail(CloseCode.ABNORMAL_CLOSURE, "", ConnectionAbortedError("connection was aborted"))
                self._ws_abort()

    def _ws_abort(self) -> None:
        """End the TCP connection; called under the lock."""
        if not self._ws_lost:
            if self.protocol.debug:
                self.logger.debug("x closing TCP connection")
            self._ws_lose(None)

    def _ws_check_end(self) -> None:
        """End the connection if the peer has ended the stream, and everything was sent."""
        outbox = self._ws_outbox
        if self._ws_ending and not outbox and not outbox.at_end:
            self._ws_lose(None)

    def _ws_lose(self, exc: Exception | None) -> None:
        """Note that the TCP connection is over; called under the lock.

        Parameters:
            exc: the cause; None if there is none.
        """
        if self._ws_lost:
            return
        exc = exc or self._ws_write_error
        if exc is not None and self.protocol.debug:
            self.logger.debug("! error while receiving data", exc_info=exc)
        self._ws_take_last()
        waiters = self._ws_session.connection_lost(exc)
        self._ws_lost = True
        self._ws_address("sockname")  # the socket won't know its addresses much longer
        self._ws_outbox.tear()
        self._ws_owing = True  # so that no thread takes the fast path
        self._ws_steward.forget(self)
        self._ws_process_events()
        for waiter in waiters:
            if waiter.ack_on_close:
                waiter.event.set()
        if self._ws_reader is TAKEN or self._ws_writer is TAKEN:
            self._ws_wire.cut()
        self._ws_close_unused()
        self._ws_ended()
        self._ws_notify()

    def _ws_ended(self) -> None:
        """Do what follows from the end of the connection; called once, under the lock, and made for subclasses."""

    def _ws_close_unused(self) -> None:
        """Close the socket if the connection is over and nobody uses its descriptor any more; called under the lock."""
        if not self._ws_lost or self._ws_closed_socket:
            return
        if self._ws_mask:
            self._ws_ask_steward()
        elif (self._ws_reader is not TAKEN and self._ws_writer is not TAKEN) or self._ws_wire.gone:
            self._ws_closed_socket = True
            self._ws_wire.close()
            self._ws_notify()

    def _ws_abandon(self) -> None:
        """Close the descriptor of a connection that another process has opened, which goes on using it."""
        self._ws_wire.close()
