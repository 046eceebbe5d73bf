"""WebSocket connections for threads: the methods that users call and that wait.

May know: threads, as far as one waits for another; messages. Must not know: the socket, frames, timeouts.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, Literal, NamedTuple, Self, overload

from .._codec.header import payload_length
from .._compat.deprecated import deprecated_names
from .._rules.lifecycle import Sending
from .._rules.messages import converter
from .._rules.option_table import CLOSE, check
from .._session.fragments import Fragmenter, is_async
from .._session.properties import assignable
from .._session.reading import Progress, Reading, undecodable
from ..exceptions import ConcurrencyError, ConnectionClosed, ConnectionClosedOK, InvalidState
from ..frames import CloseCode
from ..protocol._prepared import PreparedMessage, frame_for, prepare, size_of
from ..typing import Data, DataLike
from ._receiving import ReceivingSocket
from ._wire import is_passing

if TYPE_CHECKING:
    import ssl
    import threading

__all__ = ["Connection"]

# As constants of this module, because access to them is faster.
_OPEN: Final = Sending.OPEN

# Seconds that close() waits for other threads to leave the descriptor alone; they need no time.
PATIENCE: Final = 1.0


class Waiter(NamedTuple):
    """Who waits for a pong.

    Attributes:
        event: what is set when the pong arrives.
        ack_on_close: whether it is also set when the connection is closed before.
    """

    event: Any
    ack_on_close: bool


class Connection(ReceivingSocket):
    """A WebSocket connection whose methods wait, for programs with threads.

    :func:`~websockets.sync.client.connect` and :func:`~websockets.sync.server.serve` create it. It is a context manager
    that closes the connection with code 1000, or 1011 after an exception, and an iterator over the messages received.

    One thread at a time may receive. Any number of threads may send; whole messages are sent one after the other.
    ``ping``, ``pong``, ``close`` and ``abort`` may be called in any thread, at any time.

    Parameters:
        sock: the socket, which belongs to the connection from now on.
        protocol: sans-I/O connection.
        ping_interval: seconds between keepalive pings; None for no keepalive.
        ping_timeout: seconds to wait for any data after such a ping; None to wait forever. After that time a Close
            frame with code 1011 is sent, and the TCP connection is aborted.
        close_timeout: seconds that closing may take before the TCP connection is aborted; None for no limit.
        max_queue: number of frames in the receive queue above which reading pauses, or a tuple of that number and the
            number at which reading resumes; None for no limit.
        idle_timeout: seconds without data, sent or received, after which the connection is closed with code 1001; it
            may take up to a quarter longer. Pings and pongs don't count as data. None for no limit.
    """

    # The thread that sends a message in fragments.
    _ws_fragmenting: int = 0

    # ------------------------------------------------------------------------------------------------ context, iterator

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        try:
            # A subclass may define close() without parameters.
            if exc_type is None:
                self.close()
            else:
                self.close(CloseCode.INTERNAL_ERROR)
        except KeyboardInterrupt:
            # Whoever interrupts this, too, doesn't want to wait for the peer.
            self.abort()
            raise

    def __iter__(self) -> Iterator[Data]:
        """Iterate over messages until the connection closes normally.

        Raises:
            ConnectionClosedError: the connection closed with an error.
        """
        try:
            while True:
                yield self.recv()
        except ConnectionClosedOK:
            return

    # -------------------------------------------------------------------------------------------------------- receiving

    @overload
    def recv(self, timeout: float | None = None, *, decode: Literal[True]) -> str: ...
    @overload
    def recv(self, timeout: float | None = None, *, decode: Literal[False]) -> bytes: ...
    @overload
    def recv(self, timeout: float | None, decode: Literal[True]) -> str: ...
    @overload
    def recv(self, timeout: float | None, decode: Literal[False]) -> bytes: ...
    @overload
    def recv(self, timeout: float | None = None, decode: bool | None = None) -> Data: ...

    def recv(self, timeout: float | None = None, decode: bool | None = None) -> Data:
        """Receive the next message (RFC 6455 section 6.2). A timeout never loses a message, or a part of one.

        Parameters:
            timeout: seconds to wait for a message; 0 or less to look whether there is one, None to wait forever.
            decode: True to return ``str`` and False to return ``bytes`` for any type of message; None to return ``str``
                for a text message and ``bytes`` for a binary message.

        Returns:
            The message.

        Raises:
            ConnectionClosed: the connection is closed, and all messages received before that have been read.
            ConcurrencyError: another thread is already receiving.
            TimeoutError: no message has arrived in time.
        """
        # A signal handler may run just after a call, but not while the message has been taken and isn't stored yet.
        if timeout is None:
            message = self._ws_next_message
        else:
            (message,) = map(self._ws_next, (timeout,))
        if decode is None:
            return message
        try:
            return self._ws_convert(message, decode)
        except ConnectionClosed:
            raise
        except BaseException:
            self._ws_keep_message(message)
            raise

    @overload
    def recv_streaming(self, decode: Literal[True]) -> Iterator[str]: ...
    @overload
    def recv_streaming(self, decode: Literal[False]) -> Iterator[bytes]: ...
    @overload
    def recv_streaming(self, decode: bool | None = None) -> Iterator[Data]: ...

    def recv_streaming(self, decode: bool | None = None) -> Iterator[Data]:
        """Receive the next message in fragments, as they arrive (RFC 6455 section 5.4).

        Leaving the iteration early discards the rest of the message; the next ``recv`` returns the next message.

        Parameters:
            decode: as for :meth:`recv`.

        Returns:
            An iterator over fragments; adjacent fragments may be joined.

        Raises:
            ConnectionClosed: the connection closed before the message was complete.
            ConcurrencyError: another thread is already receiving.
        """
        thread = self._ws_system.current_thread
        with self._ws_lock:
            self._ws_epoch += 1
            if self._ws_receiver or self._ws_stream is not None:
                self._ws_take_turn("recv_streaming")
            reading = self._ws_stream = Reading(self._ws_session.inbox, decode, thread())
        try:
            while (piece := self._ws_take_piece(reading)) is not Progress.END:
                if reading.fragmented:
                    yield piece
                    reading.go_on(thread())
                else:
                    yield self._ws_convert(piece, decode)
        finally:
            with self._ws_lock:
                if self._ws_stream is reading:
                    self._ws_leave_stream(reading)

    def _ws_convert(self, message: Data, decode: bool | None) -> Data:
        try:
            return converter(decode)(message)
        except UnicodeDecodeError as exc:
            code, reason = undecodable(exc)
            self._ws_fail(code, reason, exc)
            self._ws_raise_closed()

    # ---------------------------------------------------------------------------------------------------------- sending

    def send(
        self,
        message: DataLike | Iterable[DataLike] | PreparedMessage,
        *,
        text: bool | None = None,
        timeout: float | None = None,
        compress: bool | None = None,
    ) -> None:
        """Send a message (RFC 6455 section 6.1); wait until the operating system has taken it (back-pressure).

        A ``str`` is sent as a text message, bytes as a binary message. The items of an iterable, all of the same type,
        are sent as the fragments of one message; after its first item, no other thread can send until it is complete.

        Parameters:
            message: the message; for a message to many connections, a :class:`~websockets.PreparedMessage`.
            text: True to send bytes as text, False to send a ``str`` as binary; None to go by the type.
            timeout: seconds to wait; None to wait as long as the connection lives.
            compress: True to compress the message, False not to compress it; None to compress it unless it is small.
                It has an effect only if permessage-deflate was negotiated.

        Raises:
            ConnectionClosed: the connection is closed; an iterable isn't iterated over in this case.
            ConcurrencyError: another thread is sending a message in fragments.
            TimeoutError: the peer doesn't read. The message isn't lost: it will be sent, before later ones. But an
                iterable isn't complete then, so the connection fails.
            TypeError: the message, or one of its items, has a type that can't be sent.
        """
        if compress is None and timeout is None and text is None and self._ws_send_now(message):
            return
        self._ws_send_slowly(message, text, timeout, compress)

    def _ws_after_send(self, frame: bytes, count: int, error: OSError | None, interrupted: bool) -> None:
        """Go on after the fast path has sent a frame past the outbox; it has left the role of the writer to this call.

        Parameters:
            frame: the frame.
            count: how many bytes of it the socket took.
            error: why the socket took no more, if nothing more can be sent.
            interrupted: whether an exception is on its way; then this thread won't wait until the frame is sent.
        """
        mine = True
        try:
            with self._ws_lock:
                mark = self._ws_outbox.sent + len(frame)
                done = self._ws_put_back(frame, count, error, interrupted)
                mine = False
                if self._ws_deferred:
                    self._ws_put([])
        except BaseException:
            if mine and self._ws_bypassing:
                # Nothing was noted yet. If this fails as well, the caller has the role still, and ends the connection.
                with self._ws_lock:
                    self._ws_put_back(frame, count, error, interrupted=True)
            raise
        if interrupted:
            return
        if done and self._ws_doom is None:
            self._ws_flush()
        else:
            self._ws_write_until(mark, None)

    def _ws_put_back(self, frame: bytes, count: int, error: OSError | None, interrupted: bool) -> bool:
        """Note that a frame was sent past the outbox, if not wholly; return whether it was sent. Under the lock."""
        outbox, self._ws_bypassing = self._ws_outbox, 0
        if not outbox.torn:
            outbox.bypass(frame)
            outbox.bypassed(frame, count)
            self._ws_owing = True
            failed = error is not None and not is_passing(error)
            if error is not None and failed:
                self._ws_write_failed(error)
            self._ws_note_level(not failed and count < len(frame))
        # Unless an exception is on its way, this thread is about to go on.
        self._ws_leave_writing(entrusts=interrupted)
        return count == len(frame)

    def _ws_send_slowly(self, message: object, text: bool | None, timeout: float | None, compress: bool | None) -> None:
        """Send a message, when the fast path can't."""
        deadline = None if timeout is None else self._ws_system.now() + timeout
        prepared = prepare(message, text)
        if prepared is None:
            is_async(message, allowed=False)
            in_time = self._ws_send_fragments(message, text, compress, deadline)
        else:
            try:
                with self._ws_lock:
                    self._ws_check_turn()
                    frame = frame_for(self.protocol, prepared, compress)
                    mark = self._ws_put_message(frame, size_of(prepared))
            except InvalidState:
                self._ws_raise_closed()
            in_time = self._ws_write_until(mark, deadline)
        if not in_time:
            raise TimeoutError(f"timed out in {timeout:.1f}s")

    def _ws_put_message(self, frame: bytes, size: int) -> int:
        """Put the frame of a message of ``size`` bytes into the outbox; return the mark of its end. Under the lock."""
        payload = payload_length(frame)
        self._ws_messages_sent += 1
        self._ws_payload_sent += payload
        self._ws_saved_sent += size - payload
        self._ws_put([frame])
        return self._ws_mark

    def _ws_check_turn(self) -> None:
        """Refuse to send while a message is sent in fragments; called under the lock.

        Raises:
            ConcurrencyError: there is such a message.
        """
        if self._ws_fragmenting and self._ws_life.sending is _OPEN:
            raise ConcurrencyError("cannot call send while another thread is already running send")

    def _ws_send_fragments(
        self, message: Any, text: bool | None, compress: bool | None, deadline: float | None
    ) -> bool:
        """Send the items of an iterable as one message; return False if the deadline passed before."""
        if self._ws_life.sending is not _OPEN:
            # Don't ask the iterable for items: it may wait forever.
            self._ws_raise_closed()
        items = iter(message)
        try:
            # The message begins with its first item; until then other messages can be sent.
            first = next(items)
        except StopIteration:
            return True
        fragments = Fragmenter(self.protocol, first, text, compress)
        with self._ws_lock:
            self._ws_check_turn()
            self._ws_fragmenting = self._ws_ident()
        try:
            self._ws_send_fragment(deadline, fragments.start)
            for item in items:
                self._ws_send_fragment(deadline, fragments.add, item)
            return self._ws_send_fragment(deadline, fragments.finish, last=True)
        except BaseException as exc:
            if (failure := fragments.failure(exc)) is not None:
                self._ws_fail(*failure)
            raise
        finally:
            self._ws_fragmenting = 0

    def _ws_send_fragment(
        self, deadline: float | None, send: Callable[..., None], *item: object, last: bool = False
    ) -> bool:
        try:
            with self._ws_lock:
                send(*item)
                self._ws_put(self.protocol.data_to_send())
                mark = self._ws_mark
        except InvalidState:
            self._ws_raise_closed()
        in_time = self._ws_write_until(mark, deadline)
        if not in_time and not last:
            raise TimeoutError("timed out while sending a fragmented message")
        return in_time

    def ping(self, data: DataLike | None = None, *, ack_on_close: bool = False) -> threading.Event:
        """Send a ping (RFC 6455 section 5.5.2).

        Parameters:
            data: payload, at most 125 bytes; random if None.
            ack_on_close: whether the event is also set if the connection is closed before the pong arrives.

        Returns:
            An event that is set when the pong arrives. Then :attr:`latency` is the round-trip time.

        Raises:
            ConnectionClosed: the connection is closed.
            ConcurrencyError: another ping with the same payload is waiting for its pong.
            ProtocolError: the payload is too long.
        """
        event = self._ws_system.event()
        waiter = Waiter(event, ack_on_close)
        self._ws_control(lambda: self._ws_session.ping(data, waiter, self._ws_system.now()))
        return event

    def pong(self, data: DataLike = b"") -> None:
        """Send an unsolicited pong (RFC 6455 section 5.5.3). Pings are answered automatically.

        Parameters:
            data: payload, at most 125 bytes.

        Raises:
            ConnectionClosed: the connection is closed.
            ProtocolError: the payload is too long.
        """
        self._ws_control(lambda: self._ws_session.pong(data))

    def _ws_control(self, send: Callable[[], None]) -> None:
        """Send a control frame; wait only while the write buffer is full."""
        try:
            with self._ws_lock:
                send()
                self._ws_process_events()
                # The answer must be read even if nobody receives.
                self._ws_entrust_reading()
                mark = self._ws_mark
        except InvalidState:
            self._ws_raise_closed()
        self._ws_flush()
        if self._ws_full:
            self._ws_write_until(mark, None)

    # ---------------------------------------------------------------------------------------------------------- closing

    def close(self, code: int = CloseCode.NORMAL_CLOSURE, reason: str = "", *, timeout: float | None = None) -> None:
        """Close the connection (RFC 6455 section 7.1.2), and wait until it is closed.

        If that takes longer than ``timeout``, or ``close_timeout`` if ``timeout`` is None, the TCP connection is
        aborted. Calling this again, or on a closed connection, only waits. A thread that receives or sends meanwhile
        goes on with :exc:`~websockets.exceptions.ConnectionClosed`.

        Parameters:
            code: close code.
            reason: text for humans, at most 123 bytes in UTF-8.
            timeout: seconds from now that closing may take; None for the ``close_timeout`` of the connection.

        Raises:
            ProtocolError: the code or the reason can't be sent; the connection stays open.
            TypeError: the code isn't an ``int``, the reason isn't a ``str``, or the timeout isn't a number.
            ValueError: the timeout is negative.
        """
        if self._ws_foreign:
            self._ws_abandon()
            return
        if timeout is not None:
            timeout = check("timeout", timeout, CLOSE)
        self._ws_start_closing(code, reason, timeout, waits=True)
        self._ws_wait_until(self._ws_is_lost)
        self._ws_wait_for_descriptor()

    def _ws_wait_for_descriptor(self) -> None:
        """Wait until the descriptor of a connection that is over is closed: others may be about to see the end."""
        deadline = self._ws_system.now() + PATIENCE
        with self._ws_lock:
            # A signal handler may have interrupted a call of the socket, which goes on later.
            mine = self._ws_ident() in (self._ws_reading_thread, self._ws_writing_thread)
            while not (self._ws_closed_socket or mine) and self._ws_wait_change(deadline):
                pass

    def wait_closed(self, timeout: float | None = None) -> bool:
        """Wait until the closing handshake and the TCP connection are over.

        Parameters:
            timeout: seconds to wait; None to wait forever.

        Returns:
            Whether they are over; False if the timeout passed before.
        """
        deadline = None if timeout is None else self._ws_system.now() + timeout
        with self._ws_lock:
            self._ws_entrust_reading()
            while not self._ws_lost:
                if not self._ws_wait_change(deadline):
                    break
            return self._ws_lost

    def close_socket(self) -> None:
        """End the TCP connection at once, and close the socket; :meth:`abort` also says why in errors."""
        if self._ws_foreign:
            self._ws_abandon()
            return
        with self._ws_lock:
            self._ws_abort()

    @assignable
    def ssl_object(self) -> ssl.SSLObject | None:
        """TLS, to ask it for the version or for the certificate of the peer; None without TLS.

        ``socket`` answers the same questions, such as ``getpeercert()``.
        """
        channel = self._ws_channel
        return None if channel is None else channel.ssl_object

    @assignable
    def debug(self) -> bool:
        """Whether frames are logged."""
        return self.protocol.debug


# Names from earlier releases.
if not TYPE_CHECKING:
    __getattr__ = deprecated_names(__name__)
