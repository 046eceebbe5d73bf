"""The sending half of a session on a socket: who writes the outbox to the socket, and who waits until it is written.

May know: the socket, the lock, the role of the writer, the steward; the outbox, TLS. Must not know: frames, messages,
what arrives.

What is to be sent goes into the outbox, under the lock. Whoever put it there then writes as much as the socket takes,
if nobody else is writing; the rest is left to the steward. So threads that receive never wait for a peer that doesn't
read. Only a thread that sends a message waits, until the socket has taken all of that message. It writes itself, or
another thread that sends does it. If it has no time left, the steward goes on, and so a timeout tears no frame.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final, NoReturn

from .._session.outbox import Outbox, take_end
from .._session.properties import ConnectionProperties, assignable
from ._fastpath import SocketPath
from ._roles import Role, Step, after
from ._system import LONGEST_WAIT, WRITE, Condition, System
from ._wire import is_passing

if TYPE_CHECKING:
    from .._session.tls import TLSChannel
    from .._session.tls_in_tls import NestedChannel

__all__ = ["FREE", "TAKEN", "WATCHED", "SendingSocket"]

# As constants of this module, because access to them is faster.
FREE: Final = Role.FREE
TAKEN: Final = Role.TAKEN
WATCHED: Final = Role.WATCHED


class SendingSocket(SocketPath, ConnectionProperties):
    """The sending half of a :class:`~._session_socket.SessionSocket`, which makes the objects that both halves need."""

    # Set on the instance only when they are needed, so that an idle connection stays small.
    _ws_changed: Condition | None = None
    _ws_claimants: int = 0  # threads that wait for a change because they wait for the role of the reader
    _ws_senders: int = 0  # threads that wait for it until their bytes are sent
    _ws_doom: Exception | None = None  # why the connection ends after a last attempt to write
    _ws_write_error: Exception | None = None
    _ws_deferred: Sequence[list[bytes]] = ()  # what is still to be encrypted
    _ws_cutting: bool = False  # whether the socket was cut, so that only what arrived before can be read
    _ws_full: bool = False  # whether the socket had no room for all that is to be sent

    if TYPE_CHECKING:
        _ws_system: System
        _ws_outbox: Outbox

        def _ws_process_events(self) -> None: ...
        def _ws_ask_steward(self) -> None: ...
        def _ws_check_reading(self) -> None: ...
        def _ws_entrust_reading(self) -> None: ...
        def _ws_check_end(self) -> None: ...
        def _ws_lose(self, exc: Exception | None) -> None: ...
        def _ws_close_unused(self) -> None: ...
        def _ws_raise_closed(self) -> NoReturn: ...

    @assignable
    def buffered_amount(self) -> int:
        """Bytes of frames in the write buffer: accepted, and not yet passed to the operating system."""
        return self._ws_outbox.buffered_amount + self._ws_bypassing

    # ---------------------------------------------------------------------------------------- who waits for a change

    def _ws_notify(self) -> None:
        """Have the threads that wait look whether it happened what they wait for; called under the lock."""
        if self._ws_waiting and self._ws_changed is not None:
            self._ws_changed.notify_all()

    def _ws_wait_change(self, deadline: float | None, claims: bool = False) -> bool:
        """Wait for a change, under the lock, which is free meanwhile.

        Parameters:
            deadline: the time when to give up; None for never.
            claims: whether the thread waits for the role of the reader.

        Returns:
            False if the deadline passed before.
        """
        if self._ws_changed is None:
            self._ws_changed = self._ws_system.condition(self._ws_lock)
        timeout = None if deadline is None else deadline - self._ws_system.now()
        if timeout is not None and timeout <= 0:
            return False
        self._ws_waiting += 1
        self._ws_claimants += claims
        try:
            if timeout is not None and timeout > LONGEST_WAIT:
                return self._ws_changed.wait(LONGEST_WAIT) or True
            return self._ws_changed.wait(timeout)
        finally:
            self._ws_waiting -= 1
            self._ws_claimants -= claims

    # ---------------------------------------------------------------------------------------------------------- writing

    def _ws_put(self, writes: list[bytes]) -> None:
        """Put bytes into the outbox; nothing is the end of the stream. Called under the lock.

        Records of TLS must be sent in the order in which they were encrypted. So what a signal handler sends, while it
        interrupts this, is encrypted later.
        """
        if self._ws_lost:
            return
        self._ws_owing = True
        if self._ws_sealing:
            self._ws_deferred = [*self._ws_deferred, writes]
            return
        self._ws_bytes_sent += sum(map(len, writes))
        channel, outbox = self._ws_channel, self._ws_outbox
        if channel is None:
            outbox.add(writes)
            return
        ends = take_end(writes)
        if writes and not channel.handshake_complete:
            # Nothing can be said before TLS is there.
            self._ws_doom = ConnectionAbortedError("TLS handshake isn't complete")
            return
        try:
            self._ws_sealing = True
            for write in writes:
                outbox.add(self._ws_seal(channel, write))
            if ends:
                channel.close()
                outbox.add([*channel.data_to_send(), b""])
            self._ws_sealing = False
        except BaseException as exc:
            # Something was encrypted that won't be sent.
            self._ws_sealing = False
            self._ws_interrupted(exc)
            raise
        while self._ws_deferred and not self._ws_lost:
            writes, *self._ws_deferred = self._ws_deferred
            self._ws_put(writes)

    @property
    def _ws_mark(self) -> int:
        """The number of bytes that are sent when all is sent that there is now; under the lock."""
        return self._ws_outbox.accepted + self._ws_bypassing

    def _ws_seal(self, channel: TLSChannel | NestedChannel, write: bytes) -> list[bytes]:
        """Encrypt bytes, and return all ciphertext that is to be sent now; called under the lock."""
        ciphertext = channel.encrypt(write)
        taken, size = 0 if ciphertext is None else len(write), len(write)
        pieces = [ciphertext] if ciphertext else []
        while taken < size and channel.failure is None:
            taken += channel.send(memoryview(write)[taken:])
            pieces += channel.data_to_send()
        if channel.failure is not None:
            self._ws_doom = self._ws_doom or channel.failure
            self._ws_owing = True
        return pieces

    def _ws_encrypt(self, frame: bytes) -> bytes:
        """Encrypt a frame for the fast path; called under the lock."""
        channel = self._ws_channel
        assert channel is not None
        pieces = self._ws_seal(channel, frame)
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def _ws_interrupted(self, cause: BaseException) -> None:
        """End the connection: an exception came in the middle of reading or writing, and so bytes may be missing.

        A signal handler may raise at any moment, memory may run out, and calls may be nested too deeply. Nothing is
        missed while a thread waits; this is for the few steps after the system has given or taken bytes.

        Parameters:
            cause: the exception.
        """
        with self._ws_lock:
            self._ws_broken = self._ws_owing = True
            self._ws_bypassing = 0
            if isinstance(cause, RecursionError):
                # There may be no room for the calls that are needed; the steward has it.
                self._ws_ask_steward()
                return
            self._ws_outbox.tear()
            self._ws_session.intake.end()
            kept = cause if isinstance(cause, Exception) else None
            self._ws_lose(kept or ConnectionAbortedError(f"interrupted by {type(cause).__name__}"))

    def _ws_check_broken(self) -> None:
        """End a connection that was interrupted, if there was no room for calls then; called under the lock."""
        if self._ws_broken and not self._ws_lost:
            self._ws_interrupted(ConnectionAbortedError("calls were nested too deeply"))

    def _ws_note_level(self, blocked: bool) -> None:
        """Tell the session when the socket has no room, and when all is sent; called under the lock.

        Parameters:
            blocked: whether the socket has just taken less than it was offered.
        """
        if blocked is not self._ws_full and (blocked or not self._ws_outbox):
            self._ws_full = blocked
            self._ws_session.writing(possible=not blocked)
            if self.protocol.writes:
                # The pong that was held back.
                self._ws_process_events()
            self._ws_check_reading()

    def _ws_flush(self) -> None:
        """Write what the socket takes at once, and leave the rest to the steward; called without the lock."""
        if self._ws_owing:
            mine = False
            try:
                with self._ws_lock:
                    mine = self._ws_writer is FREE
                    if mine:
                        self._ws_claim_writing()
                if mine:
                    self._ws_write(None, None)
            except BaseException:
                if mine and self._ws_writer is TAKEN and self._ws_writing_thread == self._ws_ident():
                    # First, as there may be no room for another call.
                    self._ws_writer, self._ws_writing_thread = FREE, 0
                    self._ws_gave_up_writing()
                raise
        if self._ws_doom is not None:
            with self._ws_lock:
                self._ws_lose(self._ws_doom)

    def _ws_claim_writing(self) -> None:
        """Take the role of the writer, which is free; called under the lock."""
        self._ws_writing_thread = self._ws_ident()
        self._ws_writer = after(self._ws_writer, Step.CLAIM)

    def _ws_gave_up_writing(self) -> None:
        """Do what follows when an exception has ended a call that had the role of the writer.

        A signal handler may have raised the exception at any moment, but a call in such a handler must not leave the
        role that the call which it interrupted has taken. So the callers know whether they took it.
        """
        with self._ws_lock:
            if self._ws_owing and self._ws_writer is FREE and not self._ws_senders and not self._ws_lost:
                self._ws_writer = after(self._ws_writer, Step.ENTRUST)
                self._ws_ask_steward()
            self._ws_close_unused()
            self._ws_notify()

    def _ws_leave_writing(self, entrusts: bool = True) -> None:
        """Leave the role of the writer, called under the lock.

        Parameters:
            entrusts: whether the steward goes on, if there are bytes left and no thread waits to write them.
        """
        entrusts = entrusts and self._ws_owing and not self._ws_senders and not self._ws_lost
        self._ws_writer, self._ws_writing_thread = after(self._ws_writer, Step.ENTRUST if entrusts else Step.LEAVE), 0
        if entrusts:
            self._ws_ask_steward()
        self._ws_close_unused()
        self._ws_notify()

    def _ws_write(self, mark: int | None, deadline: float | None) -> bool:
        """Write what is in the outbox; then leave the role of the writer, which the caller took.

        Parameters:
            mark: number of bytes that must be sent before this returns; None to write only what the socket takes now.
            deadline: the time when to give up; None for never.

        Returns:
            False if the deadline passed before.
        """
        in_time, blocked = True, False
        try:
            while in_time:
                with self._ws_lock:
                    pieces = self._ws_next_pieces(mark, blocked)
                if not pieces:
                    break
                if blocked:
                    left = None if deadline is None else deadline - self._ws_system.now()
                    in_time = self._ws_wire.wait(WRITE, left)
                if in_time:
                    blocked = self._ws_write_some(pieces)
        finally:
            with self._ws_lock:
                self._ws_leave_writing()
        return in_time

    def _ws_next_pieces(self, mark: int | None, blocked: bool) -> list[memoryview]:
        """Return what the writer writes next; nothing if it is to leave. Called under the lock."""
        outbox = self._ws_outbox
        self._ws_check_broken()
        if outbox.at_end and not self._ws_lost:
            self._ws_end_sending()
        done = mark is None or outbox.sent >= mark
        # If the socket has no room, only those wait who must. Those who wait for other bytes write them themselves.
        if done and (blocked or self._ws_senders):
            return []
        pieces = outbox.next_pieces()
        self._ws_owing = bool(pieces) or self._ws_lost
        return pieces

    def _ws_write_some(self, pieces: list[memoryview]) -> bool:
        """Call the socket once; return whether it has no room for more."""
        taken: list[int] = []
        error: OSError | None = None
        known = False  # whether the outbox knows what the socket has taken
        try:
            self._ws_wire.send_now(taken, pieces)
        except OSError as exc:
            error = None if is_passing(exc) else exc
        except MemoryError as exc:
            # Perhaps it was wanting for the number of bytes that the socket took.
            self._ws_interrupted(exc)
            raise
        finally:
            try:
                count = taken[0] if taken else 0
                blocked = error is None and count < sum(map(len, pieces))
                with self._ws_lock:
                    if error is not None:
                        self._ws_write_failed(error)
                    else:
                        self._ws_outbox.taken(count)
                        known = True
                        self._ws_note_level(blocked)
            except BaseException as exc:
                if not known:
                    self._ws_broken = self._ws_owing = True  # first, as there may be no room for a call
                    self._ws_interrupted(exc)
                raise
        return blocked

    def _ws_write_failed(self, error: OSError) -> None:
        """Note that nothing more can be sent. What has arrived can still be read, and then the connection is over."""
        self._ws_outbox.tear()
        self._ws_write_error = self._ws_write_error or error
        if self._ws_wire.gone:
            # Nothing can be read any more.
            self._ws_lose(error)
            return
        self._ws_cutting = True
        self._ws_wire.cut()
        self._ws_entrust_reading()
        # The end of the stream may have arrived already, and was waiting for ours to be sent.
        self._ws_check_end()

    def _ws_end_sending(self) -> None:
        if self.protocol.debug:
            self.logger.debug("x half-closing TCP connection")
        self._ws_wire.end_sending()
        self._ws_outbox.end_sent()
        self._ws_check_end()

    def _ws_write_until(self, mark: int, deadline: float | None) -> bool:
        """Wait until a number of bytes are sent; write them if nobody else does.

        Returns:
            False if the deadline passed before; the steward goes on writing.

        Raises:
            ConnectionClosed: they can't be sent any more.
        """
        in_time = True
        if self._ws_doom is not None:
            self._ws_flush()
            self._ws_raise_closed()
        while in_time:
            mine = False
            try:
                with self._ws_lock:
                    outbox = self._ws_outbox
                    if outbox.sent >= mark:
                        return True
                    if outbox.torn:
                        break
                    if self._ws_writer is WATCHED:
                        self._ws_writer = after(self._ws_writer, Step.DISMISS)
                    mine = self._ws_writer is FREE
                    if mine:
                        self._ws_claim_writing()
                    elif self._ws_writing_thread == self._ws_ident():
                        # A signal handler has interrupted the writer, which goes on later.
                        return True
                    else:
                        in_time = self._ws_wait_as_sender(deadline)
                if mine:
                    in_time = self._ws_write(mark, deadline)
            except BaseException:
                if mine and self._ws_writer is TAKEN and self._ws_writing_thread == self._ws_ident():
                    # First, as there may be no room for another call.
                    self._ws_writer, self._ws_writing_thread = FREE, 0
                    self._ws_gave_up_writing()
                raise
        if in_time:
            self._ws_raise_closed()
        return self._ws_outbox.sent >= mark

    def _ws_wait_as_sender(self, deadline: float | None) -> bool:
        """Wait until another thread has written; called under the lock."""
        self._ws_senders += 1
        try:
            return self._ws_wait_change(deadline)
        finally:
            self._ws_senders -= 1
            if self._ws_writer is FREE and self._ws_owing and not self._ws_senders and not self._ws_lost:
                # The writer left its role to this thread, which may have no time left for it.
                self._ws_writer = after(self._ws_writer, Step.ENTRUST)
                self._ws_ask_steward()
