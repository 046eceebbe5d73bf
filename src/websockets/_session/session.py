"""The session of a connection: all that it does between two waits (RFC 6455 sections 5.5, 7.1 and 7.2).

May know: the protocol, the receive queue, pings and pongs, timeouts. Must not know: how to wait, sockets. ``now`` is an
argument, in seconds of any monotonic clock.

A front-end reports events of the network (:meth:`Session.receive_data`, :meth:`Session.connection_lost`) or requests of
the application (``ping``, ``close``). Then, unless only messages arrived, it calls :meth:`Session.process_events`, and
collects the results: bytes to write, messages, answered pings, and the time to call :meth:`Session.handle_timeout`.
"""

from __future__ import annotations

import math
import secrets
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from .._rules.deadlines import Alarm
from .._rules.lifecycle import Receiving, Sending, State
from .._rules.messages import Inbox
from .._rules.rates import Rates, RatesInUse
from .._rules.statistics import Statistics
from ..datastructures import Headers
from ..datastructures._shortcuts import drop_index
from ..exceptions import ConcurrencyError, ConnectionClosed, InvalidState
from ..frames import CloseCode, Frame, Opcode, check_close, serialize_close
from ..http11 import Request, Response
from ..protocol._port import Port
from ..typing import BytesLike
from .intake import Flow, Intake

if TYPE_CHECKING:
    from .._codec.proxy_protocol import Addresses
    from ..protocol import Protocol

__all__ = ["TOO_FAST", "Answered", "Session", "Timing"]

# Code and reason for closing a connection that exceeds a limit of a rate.
TOO_FAST: Final = (CloseCode.POLICY_VIOLATION, "too fast")

# Number of checks during an idle timeout. So an idle connection may be closed a quarter of the timeout too late.
IDLE_CHECKS: Final = 4

# A check this late, in seconds, or late by the time between two checks, means that the front-end stalled.
STALLED_AFTER: Final = 0.1

# The least latency that is reported, in seconds.
LEAST_LATENCY: Final = 1e-6


class Timing(NamedTuple):
    """The timeouts of a connection in seconds, None for never; all connections of a server share one object."""

    ping_interval: float | None = 20
    ping_timeout: float | None = 20
    close_timeout: float | None = 10
    idle_timeout: float | None = None


class Answered(NamedTuple):
    """An answered ping: its waiter, and the round-trip time in seconds."""

    waiter: Any
    latency: float


class _Ping(NamedTuple):
    waiter: Any  # None for a keepalive ping, which has no waiter
    sent_at: float


class Session:
    """The session of one connection.

    Parameters:
        protocol: the sans-I/O protocol, in the initial state of the connection.
        timing: keepalive and closing.
        max_queue: number of frames in the receive queue above which reading pauses, and the number at which it resumes.
    """

    def __init__(self, protocol: Protocol, timing: Timing, max_queue: tuple[int | None, int]) -> None:
        self.protocol = protocol
        self.timing = timing
        self.inbox = Inbox(*max_queue)
        # The protocol refers to the inbox and not to the session: without a cycle, connections are freed at once.
        self.port = Port(protocol, self.inbox)
        self.intake = Intake(self.inbox, self.port)

    rates: RatesInUse | None = None  # limits for what is received
    limit_at: float = math.inf  # when reading may go on after a limit of a rate
    request: Request | None = None
    response: Response | None = None
    latency: float = 0.0
    cause: Exception | None = None  # why the connection ended, if the protocol doesn't know
    alarm: Alarm | None = None
    alarm_at: float = math.inf
    _pings: dict[bytes, _Ping] | None = None
    taken: int = 0  # bytes passed to the network; the front-end sets this before handle_timeout()
    _taken_before: int = 0  # when the last keepalive ping was sent
    _known: State | None = None
    _keepalive_started: float | None = None
    # The time of the next idle check, the counters at the last check, and the last time at which data passed. Messages
    # cost no extra work: the check compares counters that exist anyway.
    idle_at: float = math.inf
    _traffic: tuple[int, ...] | None = None
    _active_at: float = 0.0
    _lost: bool = False  # whether the TCP connection is over
    runner: str = "event loop"  # what stalled if a check comes late, for the log; a front-end may have no event loop
    proxied: Addresses | None = None  # both addresses from the header of the PROXY protocol

    def limit(self, rates: Rates) -> None:
        """Limit what is received in a second."""
        self.rates = RatesInUse(rates)
        self.intake.metered = True

    def spends(self, size: int) -> bool:
        """Count a slice of a read of ``size`` bytes; return whether :meth:`meter` must look at the clock now."""
        decoder = self.port.decoder
        if decoder is None:
            # The opening handshake isn't limited.
            return False
        decoder.bytes_granted -= size
        return decoder.spent

    def meter(self, now: float) -> float:
        """Compare what was received with the limits; return the seconds until reading may go on, 0 to go on at once.

        Parameters:
            now: seconds of any monotonic clock.
        """
        rates, decoder = self.rates, self.port.decoder
        # When the connection is being closed, nothing is received but the end.
        if self.port.life.receiving is not Receiving.OPEN or self.port.life.sending is not Sending.OPEN:
            return 0
        assert rates is not None
        assert decoder is not None
        wait = rates.take(decoder.messages, rates.bytes_granted - decoder.bytes_granted, now)
        decoder.messages_granted, decoder.bytes_granted = rates.messages_granted, rates.bytes_granted
        if wait:
            self.protocol._count().limited += 1
            if not rates.closes:
                self.intake.limited, self.limit_at = True, now + wait
        return wait

    def limit_over(self, now: float) -> Flow:
        """Go on after the time for which a limit of a rate has stopped reading.

        A pong may have waited behind the data that wasn't read, so the peer gets the whole time for it once more.

        Parameters:
            now: seconds of any monotonic clock.
        """
        if self.intake.limited and self.alarm is Alarm.PONG:
            self._wait(Alarm.PONG, self.timing.ping_timeout, now)
        self.limit_at = math.inf
        return self.intake.limit_over()

    # ------------------------------------------------------------------------------------------------------------ ask

    @property
    def closed(self) -> bool:
        """Whether the connection is over."""
        return self.protocol.state is State.CLOSED

    @property
    def has_work(self) -> bool:
        """Whether :meth:`process_events` must be called, because something other than a message arrived."""
        protocol, port = self.protocol, self.port
        return bool(protocol.events or protocol.writes or port.life.state is not self._known or port.failure_held)

    @property
    def next_timeout(self) -> float:
        """The time to call :meth:`handle_timeout`; infinity for never."""
        return min(self.alarm_at, self.idle_at)

    @property
    def wake_at(self) -> float:
        """The time of the next timeout, or of the end of a wait for a limit of a rate, if that is earlier.

        For front-ends that have one timer for both.
        """
        return min(self.alarm_at, self.idle_at, self.limit_at)

    def close_exc(self) -> ConnectionClosed:
        """Return the exception that later calls raise, with its cause."""
        exc = self.protocol.close_exc
        if self.cause is not None:
            exc.__cause__ = self.cause
        return exc

    # ------------------------------------------------------------------------------------ tell: news from the network

    def receive_data(self, data: BytesLike) -> bool:
        """Process data from a read; ``data`` isn't kept.

        Returns:
            The value of :attr:`has_work`.
        """
        self.protocol.receive_data(data)
        return self.has_work

    def receive_frames(self, frames: list[Any]) -> bool:
        """Process frames that a front-end has already decoded; otherwise like :meth:`receive_data`."""
        self.port.receive_frames(frames)
        return self.has_work

    def receive_eof(self) -> None:
        """Process the end of the stream."""
        self.protocol.receive_eof()
        if self.alarm is Alarm.CLOSING:
            # The state changed, but the closing handshake keeps its deadline.
            self._known = self.port.life.state

    def connection_lost(self, exc: Exception | None) -> list[Any]:
        """Process the end of the TCP connection.

        Parameters:
            exc: the cause; None if there is none.

        Returns:
            The waiters of pings that were not answered.
        """
        # An earlier error of the peer is the reason, rather than how the TCP connection ended after it.
        if exc is not None and self.cause is None and self.protocol.parser_exc is None:
            self.cause = exc
        self.protocol.receive_eof()
        self._lost = True
        self.alarm, self.alarm_at, self.idle_at, self.limit_at = None, math.inf, math.inf, math.inf
        pings, self._pings = self._pings or {}, None
        return [ping.waiter for ping in pings.values() if ping.waiter is not None]

    def writing(self, possible: bool) -> None:
        """Report whether the write buffer has room; while it is full, at most one pong is pending."""
        if possible:
            self.port.release_pong()
        else:
            self.port.hold_pongs()

    # ------------------------------------------------------------------------------ tell: wishes of the application

    def set_time(self, name: str, seconds: float | None, now: float) -> None:
        """Change one of the timeouts of the connection; :attr:`next_timeout` may be earlier afterwards.

        The next keepalive ping is due one interval from now; the new timeout of a pending pong counts from its ping. A
        closing handshake that has begun keeps its deadline.

        Parameters:
            name: ``ping_interval``, ``ping_timeout`` or ``close_timeout``.
            seconds: the new value; None for never.
            now: the current time in seconds.
        """
        before, self.timing = self.timing.ping_timeout, self.timing._replace(**{name: seconds})
        if name == "ping_interval" and self._known is State.OPEN and self.alarm in (None, Alarm.PING):
            self._wait(Alarm.PING, seconds, now)
        elif name == "ping_timeout" and self.alarm is Alarm.PONG and before is not None:
            sent_at = self.alarm_at - before
            if seconds is None:
                self._expect_no_pong(sent_at, now)
            else:
                self.alarm_at = sent_at + seconds

    def ping(self, data: BytesLike | str | None, waiter: Any, now: float) -> None:
        """Send a ping; later :meth:`process_events` or :meth:`connection_lost` returns its waiter.

        Raises:
            ConcurrencyError: another ping with this payload is waiting for its pong.
            ProtocolError: the payload is too long.
            TypeError: the payload is neither text nor bytes.
            InvalidState: the connection isn't open, or a Close frame was sent.
        """
        payload = None if data is None else control_payload(data)
        self._check_open()
        pings = self._pings = self._pings if self._pings is not None else {}
        if payload in pings:
            raise ConcurrencyError("already waiting for a pong with the same data")
        while payload is None or payload in pings:
            payload = secrets.token_bytes(4)
        self.protocol.send_ping(payload)
        pings[payload] = _Ping(waiter, now)

    def pong(self, data: BytesLike | str) -> None:
        """Send an unsolicited pong.

        Raises:
            ProtocolError: the payload is too long.
            TypeError: the payload is neither text nor bytes.
            InvalidState: the connection isn't open, or a Close frame was sent.
        """
        payload = control_payload(data)
        self._check_open()
        self.protocol.send_pong(payload)

    def _check_open(self) -> None:
        """Refuse pings and pongs after a Close frame: the protocol could send them, but no answer would come."""
        state = self.protocol.state
        if state is not State.OPEN:
            raise InvalidState(f"connection is {state.name.lower()}")

    def close(self, code: int | None, reason: str) -> None:
        """Start the closing handshake unless it has begun; from then on the receive queue discards excess messages.

        Raises:
            ProtocolError: the code or the reason can't be sent; nothing changes in this case.
            TypeError: the code isn't an ``int``, or the reason isn't a ``str``; this is checked in any state.
        """
        protocol = self.protocol
        reason = check_close(CloseCode.NO_STATUS_RCVD if code is None else code, reason)
        if self._lost:
            return
        if protocol.state is State.OPEN:
            serialize_close(code, reason)
        self.inbox.discarding = True
        self.port.stop_keeping()
        protocol.release_failure()
        if protocol.state is State.CONNECTING:
            protocol.fail(CloseCode.NORMAL_CLOSURE)
        elif protocol.state is State.OPEN and self.port.life.continuing:
            # The peer waits for the rest of the message, so tell it why the rest won't come.
            protocol.fail(CloseCode.INTERNAL_ERROR, "close during fragmented message")
        elif protocol.state is State.OPEN:
            protocol.send_close(code, reason)

    def limit_closing(self, timeout: float, now: float) -> None:
        """Limit closing to ``timeout`` seconds from now; an earlier deadline stays."""
        self.timing = self.timing._replace(close_timeout=timeout)
        if self.alarm is Alarm.CLOSING:
            self.alarm_at = min(self.alarm_at, now + timeout)

    def fail(self, code: int, reason: str, cause: Exception | None = None) -> None:
        """Fail the connection (RFC 6455 section 7.1.7)."""
        if self.cause is None and not self.closed:
            self.cause = cause
        self.protocol.fail(code, reason)

    def drained(self) -> None:
        """Apply a failure that was held back: the receive queue is empty, and a receiver asks for more."""
        self.protocol.release_failure()

    # -------------------------------------------------------------------------------------------------------- collect

    def process_events(self, now: float) -> list[Answered]:
        """Process everything except messages.

        Returns:
            The answered pings that have a waiter.
        """
        answered: list[Answered] = []
        for event in self.protocol.events_received() if self.protocol.events else ():
            if isinstance(event, Frame):
                if event.opcode is Opcode.PONG:
                    answered += self._acknowledge(bytes(event.data), now)
            elif isinstance(event, Request):
                self.request = event
            else:
                self.response = event
        self._set_alarm(now)
        return answered

    def _acknowledge(self, payload: bytes, now: float) -> list[Answered]:
        """Process a pong: it answers the ping with the same payload, and all pings before that."""
        pings = self._pings
        if pings is None or payload not in pings:
            return []
        # A coarse clock, such as that of Windows, may show no difference; but 0.0 means that no pong has arrived yet.
        self.latency = max(now - pings[payload].sent_at, LEAST_LATENCY)
        answered: list[Answered] = []
        earlier: bytes | None = None
        while earlier != payload:
            earlier = next(iter(pings))
            ping = pings.pop(earlier)
            if ping.waiter is None:
                self._log("% received keepalive pong")
                self._expect_no_pong(ping.sent_at, now)
            else:
                answered.append(Answered(ping.waiter, max(now - ping.sent_at, LEAST_LATENCY)))
        return answered

    # ------------------------------------------------------------------------------------------------ what is due when

    def start_opening(self, timeout: float | None, now: float) -> None:
        """Begin to wait for the opening handshake, for at most ``timeout`` seconds."""
        if timeout is not None:
            self.alarm, self.alarm_at = Alarm.OPENING, now + timeout

    def _set_alarm(self, now: float) -> None:
        """Set the alarm that belongs to the state of the connection."""
        state = self._known = self.port.life.state
        if self._lost or self.alarm is Alarm.CLOSING:
            return  # no other alarm can follow
        # After a peer has ended the stream, data may be left in the write buffer that it will never read.
        if state is State.CLOSED or self.protocol.close_expected():
            self._wait(Alarm.CLOSING, self.timing.close_timeout, now)
        elif self.port.failure_held:
            if self.alarm is not Alarm.FAILURE:
                self._wait(Alarm.FAILURE, self.timing.close_timeout, now)
        elif state is State.OPEN and self.alarm in (None, Alarm.OPENING) and self._keepalive_started is None:
            self._keepalive_started = now
            for message in (self.request, self.response):
                # The headers of a response from the user may have any type.
                if message is not None and isinstance(message.headers, Headers):
                    drop_index(message.headers)
            self._wait(Alarm.PING, self.timing.ping_interval, now)
            if self.timing.idle_timeout is not None:
                self._active_at, self.idle_at = now, now + self.timing.idle_timeout / IDLE_CHECKS

    def _wait(self, alarm: Alarm, timeout: float | None, since: float) -> None:
        if timeout is None:
            self.alarm, self.alarm_at = None, math.inf
        else:
            self.alarm, self.alarm_at = alarm, since + timeout

    def handle_timeout(self, now: float, traffic: tuple[int, ...] = ()) -> bool:
        """Handle the timeout that :attr:`alarm` names, or check whether the connection is idle.

        Parameters:
            now: the current time in seconds.
            traffic: the result of :meth:`traffic` if :attr:`idle_at` has come.

        Returns:
            Whether the TCP connection must be aborted, after an attempt to write the output.
        """
        if now >= self.idle_at:
            self._check_idle(now, traffic)
        if now < self.alarm_at:
            return False
        match self.alarm:
            case Alarm.PING:
                self._send_keepalive(now)
            case Alarm.PONG:
                return self._check_keepalive(now)
            case Alarm.FAILURE:
                self.protocol.release_failure()
            case Alarm.CLOSING:
                self._time_out("timed out while closing connection")
                return True
            case _:  # OPENING, the only other alarm that can be due
                self._time_out("timed out during opening handshake")
                return True
        return False

    def traffic(self, seen: Statistics, buffered: int) -> tuple[int, ...]:
        """Return numbers that change when data is sent or received, for :meth:`handle_timeout`.

        Parameters:
            seen: the statistics of the connection.
            buffered: bytes in the write buffer.
        """
        decoder = self.port.decoder
        return (
            *(seen.messages_sent, seen.messages_received, seen.encoded_sent, seen.encoded_received),
            # While a large frame is arriving, all bytes received belong to it.
            seen.bytes_received if decoder is not None and decoder.missing > 0 else 0,
            # A large message is still leaving. In KiB, so that pings in the write buffer make no difference.
            buffered >> 10,
        )

    def _time_out(self, text: str) -> None:
        self.alarm, self.alarm_at = None, math.inf
        if self.cause is None and self.protocol.parser_exc is None:
            self.cause = TimeoutError(text)

    def _check_idle(self, now: float, traffic: tuple[int, ...]) -> None:
        """Close the connection if no data passed for the idle timeout; otherwise set the next check."""
        timeout = self.timing.idle_timeout
        assert timeout is not None
        if self.protocol.state is not State.OPEN:
            self.idle_at = math.inf
            return
        before, self._traffic = self._traffic, traffic
        # If the receive queue has messages, the application is slow; the connection isn't idle.
        if self.inbox.items or self.intake.limited or (any(traffic) if before is None else traffic != before):
            self._active_at = now
        end = self._active_at + timeout
        stalled = now - self.idle_at > max(timeout / IDLE_CHECKS, STALLED_AFTER)
        if now < end or stalled:
            # Data that arrived while the front-end was stalled hasn't been read yet.
            self.idle_at = now + timeout / IDLE_CHECKS if stalled else min(now + timeout / IDLE_CHECKS, end)
        else:
            self.idle_at = math.inf
            self._close_idle(timeout)

    def _close_idle(self, timeout: float) -> None:
        self.protocol.logger.info("no data for %g seconds; closing connection", timeout)
        if self.port.life.continuing:
            # Discard a message of which the last fragments are missing: they won't arrive.
            self.fail(CloseCode.GOING_AWAY, "idle timeout")
        else:
            self.close(CloseCode.GOING_AWAY, "idle timeout")

    def _send_keepalive(self, now: float) -> None:
        # From here on any byte shows that the peer is alive. Forget the bytes that came before the ping.
        self.intake.heard()
        try:
            self.ping(None, None, now)
        except InvalidState:  # the program ended the connection through its protocol
            self._set_alarm(now)
            return
        self._log("% sent keepalive ping")
        self._taken_before = self.taken
        if self.timing.ping_timeout is None:
            self._wait(Alarm.PING, self.timing.ping_interval, now)
        else:
            self._wait(Alarm.PONG, self.timing.ping_timeout, now)
            self.intake.listen()

    def _check_keepalive(self, now: float) -> bool:
        """Fail the connection because no pong came in time, unless the peer sent data, or reading was paused.

        Returns:
            Whether the connection failed. Then it is useless to wait for the peer's Close frame.
        """
        timeout, paused = self.timing.ping_timeout, self.intake.paused
        assert timeout is not None
        late = now - self.alarm_at
        if self.intake.heard():
            self._spare("% received data since keepalive ping", timeout, now)
        elif paused and self.port.pongs_held and self.taken > self._taken_before:
            # The peer reads our data slowly, and may not have read the ping yet.
            self._spare("% sent data since keepalive ping", timeout, now)
        elif paused and not self.intake.listening and not self.port.pongs_held:
            # While our reading is paused, missing data proves nothing, unless the peer doesn't read either.
            self._spare("% reading is paused; not waiting for keepalive pong", timeout, now)
        elif self.intake.limited:
            self._spare("% reading is paused by a limit of a rate; not waiting for keepalive pong", timeout, now)
        elif late > timeout:
            line = "%s stalled for %.1f seconds; waiting longer for keepalive pong"
            self.protocol.logger.info(line, self.runner, late)
            self._wait(Alarm.PONG, timeout, now)
        else:
            self._log("- timed out waiting for keepalive pong")
            cause = TimeoutError("timed out while waiting for keepalive pong")
            self.fail(CloseCode.INTERNAL_ERROR, "keepalive ping timeout", cause)
            return True
        return False

    def _spare(self, why: str, timeout: float, now: float) -> None:
        """Stop waiting for the pong; forget the ping, so that unanswered pings don't pile up."""
        self._log(why)
        for payload in [payload for payload, ping in (self._pings or {}).items() if ping.waiter is None]:
            assert self._pings is not None
            del self._pings[payload]
        self._expect_no_pong(self.alarm_at - timeout, now)

    def _log(self, line: str) -> None:
        if self.protocol.debug:
            self.protocol.logger.debug(line)

    def _expect_no_pong(self, sent_at: float, now: float) -> None:
        """Stop waiting for the pong to the ping of ``sent_at``; the next ping is due one interval after that."""
        self.intake.listening = False
        if self.alarm is Alarm.PONG:
            self._wait(Alarm.PING, self.timing.ping_interval, sent_at)
            self.alarm_at = max(self.alarm_at, now)


def control_payload(data: BytesLike | str) -> bytes:
    """Return the payload of a ping or pong as bytes.

    Raises:
        TypeError: ``data`` is neither text nor bytes.
    """
    if isinstance(data, str):
        return data.encode()
    if isinstance(data, bytes | bytearray | memoryview):
        return bytes(data)
    raise TypeError("data must be str or bytes-like")
