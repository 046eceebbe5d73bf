"""What a connection does between two waits: RFC 6455 sections 5.5, 7.1 and 7.2, as seen by whoever holds the socket.

May know: the protocol, the messages that wait to be read, pings and their answers, what is due when. Must not know: how
waiting is done. ``now`` is an argument, in seconds of any clock that doesn't go back.

A front-end tells the news from the network (:meth:`Session.receive_data`, :meth:`Session.connection_lost`), or the
wishes of the application (``ping``, ``close``). Then, if anything happened beyond messages arriving, it calls
:meth:`Session.process_events`, and collects: bytes to write, messages, pings that were answered, and the time at which
:meth:`Session.handle_timeout` must be called.
"""

from __future__ import annotations

import math
import secrets
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from .._rules.deadlines import Alarm
from .._rules.lifecycle import State
from .._rules.messages import Inbox
from .._rules.statistics import Statistics
from ..datastructures import Headers
from ..datastructures._shortcuts import drop_index
from ..exceptions import ConcurrencyError, ConnectionClosed, InvalidState
from ..frames import CloseCode, Frame, Opcode, check_close, serialize_close
from ..http11 import Request, Response
from ..protocol._port import Port
from ..typing import BytesLike
from .intake import Intake

if TYPE_CHECKING:
    from .._codec.proxy_protocol import Addresses
    from ..protocol import Protocol

__all__ = ["Answered", "Session", "Timing"]


# How often an idle connection is looked at in the time after which it is closed: so much later than that it may be.
IDLE_CHECKS: Final = 4

# A look that comes so much too late, in seconds, or by the time between two looks, tells that the loop stood still.
STALLED_AFTER: Final = 0.1

# Seconds that a round trip takes at least, as it is told.
LEAST_LATENCY: Final = 1e-6


class Timing(NamedTuple):
    """The times of a connection in seconds, None for "never"; one object serves all connections of a server."""

    ping_interval: float | None = 20
    ping_timeout: float | None = 20
    close_timeout: float | None = 10
    idle_timeout: float | None = None


class Answered(NamedTuple):
    """A ping that was answered: whoever waits for it, and the time that it took in seconds."""

    waiter: Any
    latency: float


class _Ping(NamedTuple):
    waiter: Any  # None for a keepalive ping: nobody waits
    sent_at: float


class Session:
    """One connection, without the waiting.

    Parameters:
        protocol: the sans-I/O protocol, in the state in which the connection begins.
        timing: keepalive and closing.
        max_queue: number of frames waiting above which reading should pause and at which it should resume.
    """

    def __init__(self, protocol: Protocol, timing: Timing, max_queue: tuple[int | None, int]) -> None:
        self.protocol = protocol
        self.timing = timing
        self.inbox = Inbox(*max_queue)
        # The protocol refers to the inbox, not to the session: a connection that is let go of is collected at once.
        self.port = Port(protocol, self.inbox)
        self.intake = Intake(self.inbox, self.port)

    request: Request | None = None
    response: Response | None = None
    latency: float = 0.0
    cause: Exception | None = None  # why the connection ended, where the protocol can't know
    alarm: Alarm | None = None
    alarm_at: float = math.inf
    _pings: dict[bytes, _Ping] | None = None
    taken: int = 0  # bytes that the network took, as the front-end tells before it rings
    _taken_before: int = 0  # when the last keepalive ping was sent
    _known: State | None = None
    _keepalive_started: float | None = None
    # When to look whether data passed, what there was then, and when it is known to have passed. Nothing happens on the
    # path of a message: numbers that are counted anyway are compared.
    idle_at: float = math.inf
    _traffic: tuple[int, ...] | None = None
    _active_at: float = 0.0
    _lost: bool = False  # whether the TCP connection is over
    proxied: Addresses | None = None  # both ends of the connection that a proxy passes on

    # ------------------------------------------------------------------------------------------------------------ ask

    @property
    def closed(self) -> bool:
        """Whether the connection is over."""
        return self.protocol.state is State.CLOSED

    @property
    def has_work(self) -> bool:
        """Whether anything happened beyond messages arriving, so that :meth:`process_events` must be called."""
        protocol, port = self.protocol, self.port
        return bool(protocol.events or protocol.writes) or port.failure_held or port.life.state is not self._known

    @property
    def next_timeout(self) -> float:
        """When :meth:`handle_timeout` must be called; infinity for never."""
        return min(self.alarm_at, self.idle_at)

    def close_exc(self) -> ConnectionClosed:
        """The exception for whoever uses the connection after it closed, with what caused it."""
        exc = self.protocol.close_exc
        if self.cause is not None:
            exc.__cause__ = self.cause
        return exc

    # ------------------------------------------------------------------------------------ tell: news from the network

    def receive_data(self, data: BytesLike) -> bool:
        """Take in what a read gave; nothing refers to ``data`` afterwards.

        Returns:
            Whether it is :attr:`has_work` now.
        """
        self.protocol.receive_data(data)
        return self.has_work

    def receive_frames(self, frames: list[Any]) -> bool:
        """As :meth:`receive_data`, for a read that went through the decoder already."""
        self.port.receive_frames(frames)
        return self.has_work

    def receive_eof(self) -> None:
        """Take in the end of the stream."""
        self.protocol.receive_eof()
        if self.alarm is Alarm.CLOSING:
            # It goes on as before, in the time that it has left.
            self._known = self.port.life.state

    def connection_lost(self, exc: Exception | None) -> list[Any]:
        """Take in that the TCP connection is over, for a cause if there is one.

        Returns:
            Whoever waits for an answer to a ping.
        """
        # What the peer did wrong before is the reason, not how the TCP connection ended after that.
        if exc is not None and self.cause is None and self.protocol.parser_exc is None:
            self.cause = exc
        self.protocol.receive_eof()
        self._lost = True
        self.alarm, self.alarm_at, self.idle_at = None, math.inf, math.inf
        pings, self._pings = self._pings or {}, None
        return [ping.waiter for ping in pings.values() if ping.waiter is not None]

    def writing(self, possible: bool) -> None:
        """Take in whether the network takes more; while it doesn't, the pongs that are owed are one at most."""
        if possible:
            self.port.release_pong()
        else:
            self.port.hold_pongs()

    # ------------------------------------------------------------------------------ tell: wishes of the application

    def set_time(self, name: str, seconds: float | None, now: float) -> None:
        """Change one of the times of the connection; :attr:`next_timeout` may be earlier afterwards.

        The next keepalive ping is due an interval from now, and the pong that is waited for has the new time since its
        ping. A closing handshake that began goes on in the time that it was given.

        Parameters:
            name: which one of :class:`Timing`: ``ping_interval``, ``ping_timeout`` or ``close_timeout``.
            seconds: the time; None for "never".
            now: the time now.
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
        """Send a ping; :meth:`process_events` returns its waiter with the answer, or :meth:`connection_lost` does.

        Raises:
            ConcurrencyError: a ping with this payload waits for its pong.
            ProtocolError: the payload is too long.
            TypeError: it is neither text nor bytes.
            InvalidState: the connection isn't open, or a Close was sent.
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
        """Send a pong that nobody asked for.

        Raises:
            ProtocolError: the payload is too long.
            TypeError: it is neither text nor bytes.
            InvalidState: the connection isn't open, or a Close was sent.
        """
        payload = control_payload(data)
        self._check_open()
        self.protocol.send_pong(payload)

    def _check_open(self) -> None:
        """The protocol could send pings and pongs after a Close; whoever waits for an answer would wait in vain."""
        state = self.protocol.state
        if state is not State.OPEN:
            raise InvalidState(f"connection is {state.name.lower()}")

    def close(self, code: int | None, reason: str) -> None:
        """Start the closing handshake unless it has begun; messages that nobody will read stop being kept.

        Raises:
            ProtocolError: the code or the reason can't be sent; nothing has changed then.
            TypeError: the code isn't an ``int``, or the reason isn't a ``str``; likewise, and in any state.
        """
        protocol = self.protocol
        reason = check_close(CloseCode.NO_STATUS_RCVD if code is None else code, reason)
        if protocol.state is State.OPEN:
            serialize_close(code, reason)
        self.inbox.discarding = True
        self.port.stop_keeping()
        protocol.release_failure()
        if protocol.state is State.CONNECTING:
            protocol.fail(CloseCode.NORMAL_CLOSURE)
        elif protocol.state is State.OPEN and self.port.life.continuing:
            # The peer would wait for the rest of the message: a Close that says why is better.
            protocol.fail(CloseCode.INTERNAL_ERROR, "close during fragmented message")
        elif protocol.state is State.OPEN:
            protocol.send_close(code, reason)

    def limit_closing(self, timeout: float, now: float) -> None:
        """Give closing ``timeout`` seconds from now on; if it has begun, no more than it has left."""
        self.timing = self.timing._replace(close_timeout=timeout)
        if self.alarm is Alarm.CLOSING:
            self.alarm_at = min(self.alarm_at, now + timeout)

    def fail(self, code: int, reason: str, cause: Exception | None = None) -> None:
        """Give up on the connection."""
        if self.cause is None and not self.closed:
            self.cause = cause
        self.protocol.fail(code, reason)

    def drained(self) -> None:
        """Take in that everything received was read and somebody asks for more: a failure held back takes effect."""
        self.protocol.release_failure()

    # -------------------------------------------------------------------------------------------------------- collect

    def process_events(self, now: float) -> list[Answered]:
        """Deal with what isn't a message.

        Returns:
            The pings that were answered and that somebody waits for.
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
        """A pong answers the ping with its payload and all those before it."""
        pings = self._pings
        if pings is None or payload not in pings:
            return []
        # A coarse clock, as that of Windows, may say that no time has passed; but 0.0 stands for no pong yet.
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
        """Begin to wait for the opening handshake, ``timeout`` seconds at most."""
        if timeout is not None:
            self.alarm, self.alarm_at = Alarm.OPENING, now + timeout

    def _set_alarm(self, now: float) -> None:
        """Wait for what the state calls for."""
        protocol = self.protocol
        state = self._known = self.port.life.state
        # A peer that ends the stream may have left something to be written that it will never read.
        if not self._lost if state is State.CLOSED else protocol.close_expected():
            if self.alarm is not Alarm.CLOSING:
                self._wait(Alarm.CLOSING, self.timing.close_timeout, now)
        elif self.port.failure_held:
            if self.alarm is not Alarm.FAILURE:
                self._wait(Alarm.FAILURE, self.timing.close_timeout, now)
        elif state is State.OPEN and self.alarm in (None, Alarm.OPENING) and self._keepalive_started is None:
            self._keepalive_started = now
            for message in (self.request, self.response):
                # A response of the user may have headers of any kind.
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
        """What :attr:`alarm` announced is due, or it is time to look whether the connection is idle.

        Parameters:
            now: the time.
            traffic: if it is :attr:`idle_at`, what :meth:`traffic` gives.

        Returns:
            Whether the TCP connection must be aborted. What is to be written is offered to the network before that.
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
            case _:  # OPENING, the only other one that is ever due
                self._time_out("timed out during opening handshake")
                return True
        return False

    def traffic(self, seen: Statistics, buffered: int) -> tuple[int, ...]:
        """Numbers that change when data pass, either way, for :meth:`handle_timeout`.

        Parameters:
            seen: what was counted until now.
            buffered: bytes that wait to be sent.
        """
        decoder = self.port.decoder
        return (
            *(seen.messages_sent, seen.messages_received, seen.encoded_sent, seen.encoded_received),
            # A large frame that is still arriving: no other can be in between.
            seen.bytes_received if decoder is not None and decoder.under_way else 0,
            # A large message that is still leaving. To the KiB: pings that wait make no difference.
            buffered >> 10,
        )

    def _time_out(self, text: str) -> None:
        self.alarm, self.alarm_at = None, math.inf
        if self.cause is None and self.protocol.parser_exc is None:
            self.cause = TimeoutError(text)

    def _check_idle(self, now: float, traffic: tuple[int, ...]) -> None:
        """Close the connection if no data passed for long enough; else look again later."""
        timeout = self.timing.idle_timeout
        assert timeout is not None
        if self.protocol.state is not State.OPEN:
            self.idle_at = math.inf
            return
        before, self._traffic = self._traffic, traffic
        # While messages wait to be read, it is the application that is slow, and not the connection that is idle.
        if self.inbox.items or (any(traffic) if before is None else traffic != before):
            self._active_at = now
        end = self._active_at + timeout
        stalled = now - self.idle_at > max(timeout / IDLE_CHECKS, STALLED_AFTER)
        if now < end or stalled:
            # What arrived while the loop stood still has yet to be read.
            self.idle_at = now + timeout / IDLE_CHECKS if stalled else min(now + timeout / IDLE_CHECKS, end)
        else:
            self.idle_at = math.inf
            self._close_idle(timeout)

    def _close_idle(self, timeout: float) -> None:
        self.protocol.logger.info("no data for %g seconds; closing connection", timeout)
        if self.port.life.continuing:
            # No more will come of a message that stopped in its middle.
            self.fail(CloseCode.GOING_AWAY, "idle timeout")
        else:
            self.close(CloseCode.GOING_AWAY, "idle timeout")

    def _send_keepalive(self, now: float) -> None:
        # Any byte counts as life, whatever it says: no clock is needed to know that it came after the ping.
        self.intake.heard()
        try:
            self.ping(None, None, now)
        except InvalidState:  # somebody ended the connection through its protocol
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
        """No pong in time: dead, unless the peer was heard of since, or we were the ones who didn't listen.

        Returns:
            Whether it is dead. Then waiting for it to answer our Close would gain nothing.
        """
        timeout, paused = self.timing.ping_timeout, self.intake.paused
        assert timeout is not None
        late = now - self.alarm_at
        if self.intake.heard():
            self._spare("% received data since keepalive ping", timeout, now)
        elif paused and self.port.pongs_held and self.taken > self._taken_before:
            # It takes what we send, slowly, and may not have come to the ping yet.
            self._spare("% sent data since keepalive ping", timeout, now)
        elif paused and not self.intake.listening and not self.port.pongs_held:
            # Who doesn't listen can't complain of silence, unless the other one doesn't either.
            self._spare("% reading is paused; not waiting for keepalive pong", timeout, now)
        elif late > timeout:
            self.protocol.logger.info("event loop stalled for %.1f seconds; waiting longer for keepalive pong", late)
            self._wait(Alarm.PONG, timeout, now)
        else:
            self._log("- timed out waiting for keepalive pong")
            cause = TimeoutError("timed out while waiting for keepalive pong")
            self.fail(CloseCode.INTERNAL_ERROR, "keepalive ping timeout", cause)
            return True
        return False

    def _spare(self, why: str, timeout: float, now: float) -> None:
        """Go on without the pong that is due; pings that will never be answered must not pile up."""
        self._log(why)
        for payload in [payload for payload, ping in (self._pings or {}).items() if ping.waiter is None]:
            assert self._pings is not None
            del self._pings[payload]
        self._expect_no_pong(self.alarm_at - timeout, now)

    def _log(self, line: str) -> None:
        if self.protocol.debug:
            self.protocol.logger.debug(line)

    def _expect_no_pong(self, sent_at: float, now: float) -> None:
        """The pong to the ping of ``sent_at`` isn't waited for any more: the next ping is due an interval later."""
        self.intake.listening = False
        if self.alarm is Alarm.PONG:
            self._wait(Alarm.PING, self.timing.ping_interval, sent_at)
            self.alarm_at = max(self.alarm_at, now)


def control_payload(data: BytesLike | str) -> bytes:
    """The payload of a ping or pong as bytes.

    Raises:
        TypeError: ``data`` is neither text nor bytes.
    """
    if isinstance(data, str):
        return data.encode()
    if isinstance(data, bytes | bytearray | memoryview):
        return bytes(data)
    raise TypeError("data must be str or bytes-like")
