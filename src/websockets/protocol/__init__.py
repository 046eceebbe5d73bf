"""The WebSocket protocol after the opening handshake, without I/O: RFC 6455 sections 5 to 8.

May know: frames, extensions, the lifecycle; what the bytes of the peer mean and which bytes answer them. Must not know:
sockets, time, who reads messages, the opening handshake (that is for :mod:`.client` and :mod:`.server`).

Methods are of four kinds. Ask, without effect: ``state``, ``close_expected()``... Tell the news from the network:
``receive_data()``, ``receive_eof()``. Tell the wishes of the application: ``send_...()``, ``fail()``. Then collect:
``data_to_send()``, ``events_received()``.
"""

from __future__ import annotations

import logging
import uuid
from typing import TYPE_CHECKING, Any, Final

from .._codec import FrameDecoder, build_frame, new_mask
from .._codec.header import CONTROL_BIT, FIN, MAX_CONTROL_PAYLOAD, OPCODE_CONT, OPCODE_MASK, RSV1, RSV_MASK, WHOLE
from .._compat.deprecated import deprecated_names
from .._rules.decompressed import DecompressedMessage
from .._rules.failures import as_exception, close_for, closed
from .._rules.lifecycle import Lifecycle, Reaction, Receive, Receiving, Send, Sending, Side, State
from .._rules.messages import Limits, as_limit
from .._rules.option_table import CLIENT_PROTOCOL, check_all
from .._rules.statistics import Tally
from ..exceptions import ConnectionClosed, InvalidState, PayloadTooBig, ProtocolError, TooManyFragments
from ..extensions.base import Extension, decode_through, encode_through
from ..extensions.permessage_deflate import PerMessageDeflate
from ..frames import Close, CloseCode, Frame, Opcode, check_close, serialize_close
from ..http11 import Request, Response
from ..typing import BytesLike, Data, LoggerLike, Origin, Subprotocol
from ._prepared import PreparedMessage, frame_for, size_of

if TYPE_CHECKING:
    from ._port import Receiver

__all__ = ["SEND_EOF", "Protocol", "Side", "State"]

Event = Request | Response | Frame
"""What :meth:`Protocol.events_received` gives."""

SEND_EOF: Final = b""
"""In :meth:`Protocol.data_to_send`: close the sending side of the TCP connection."""

# What every message asks for: the attribute of an enumeration costs more than the name of a module.
_OPEN: Final = State.OPEN
_RECEIVING: Final = Receiving.OPEN
_SENDING: Final = Sending.OPEN
_CLIENT: Final = Side.CLIENT


class Protocol(Limits):
    """Sans-I/O WebSocket connection.

    Parameters:
        side: which end this is.
        state: where to begin; OPEN after an opening handshake that was done elsewhere.
        max_size: limit of incoming messages in bytes, None for no limit, or a tuple of the limits of a message and of
            a fragment.
        logger: where to log; ``websockets.client`` or ``websockets.server`` by default.
    """

    # Rarely set attributes live in the class until they are: an idle connection stays small.
    logger: LoggerLike
    origin: Origin | None = None  #: The origin that the client sent.
    subprotocol: Subprotocol | None = None  #: The subprotocol that was agreed on.
    close_rcvd: Close | None = None  #: The Close received.
    close_sent: Close | None = None  #: The Close sent.
    close_rcvd_then_sent: bool | None = None  #: Whether the peer closed first; None until one side did.
    handshake_exc: Exception | None = None  #: Why the opening handshake failed; None if it didn't.
    parser_exc: Exception | None = None  #: What the peer did wrong after the opening handshake; None if nothing.
    extensions: list[Extension]  #: Extensions in use.

    def __init__(
        self,
        side: Side,
        *,
        state: State = State.OPEN,
        max_size: int | tuple[int | None, int | None] | None = 2**20,
        logger: LoggerLike | None = None,
    ) -> None:
        if type(self) is Protocol:
            # Those of the two sides check all of their options.
            check_all({"state": state, "max_size": max_size, "logger": logger}, CLIENT_PROTOCOL)
        if logger is None:
            logger = logging.getLogger(f"websockets.{side.name.lower()}")
        self.logger = logger
        self.debug = logger.isEnabledFor(logging.DEBUG)
        self.side = side
        self._max_message_size, self._max_fragment_size = max_size if isinstance(max_size, tuple) else (max_size, None)
        self.extensions = []
        self.events: list[Event] = []
        self.writes: list[bytes] = []
        self._life = Lifecycle(side, state)
        if self.debug:
            self._log_state()

    _id: uuid.UUID | None = None
    # Receiving: the decoder and, when extensions hide the payload from it, what it can't keep account of.
    _decoder: FrameDecoder | None = None
    _deflate: PerMessageDeflate | None = None
    _account: DecompressedMessage | None = None
    _frames: int = 0  # how many there were in the last read
    # What a port sets, before the first frame: where data frames go instead of ``events``, and whether messages in one
    # frame go there without anything else having to see them.
    _receiver: Receiver | None = None
    _keeps: bool = False
    _held: tuple[Exception, int, str] | None = None
    _hold_pongs: bool = False
    _pong_owed: bytes | None = None
    # For statistics, once there is something to count; and, from the decoder that was, messages and their bytes.
    _tally: Tally | None = None
    _received: tuple[int, int] = (0, 0)

    # ------------------------------------------------------------------------------------------------------------ ask

    @property
    def id(self) -> uuid.UUID:
        """Unique identifier of the connection, for logs."""
        if self._id is None:
            self._id = uuid.uuid4()
        return self._id

    @property
    def state(self) -> State:
        """State of the connection (RFC 6455 sections 4.1 and 7.1)."""
        return self._life.state

    @state.setter
    def state(self, state: State) -> None:
        # Frameworks that bring their own I/O say that the TCP connection is lost by assigning CLOSED.
        if state is State.CLOSED:
            self.receive_eof()
        elif state is not self._life.state:
            raise InvalidState(f"connection is {self._life.state.name.lower()}; it cannot be made {state.name.lower()}")

    @property
    def close_code(self) -> int | None:
        """Close code received; 1005 if the Close frame had none, 1006 if there was none, None until CLOSED.

        RFC 6455 section 7.1.5.
        """
        if self._life.state is not State.CLOSED:
            return None
        return CloseCode.ABNORMAL_CLOSURE if self.close_rcvd is None else self.close_rcvd.code

    @property
    def close_reason(self) -> str | None:
        """Reason received with the close code, "" if there was none, None until CLOSED (RFC 6455 section 7.1.6)."""
        if self._life.state is not State.CLOSED:
            return None
        return "" if self.close_rcvd is None else self.close_rcvd.reason

    @property
    def close_exc(self) -> ConnectionClosed:
        """The exception for whoever uses the connection after it closed; a new one each time.

        Raises:
            AssertionError: the connection isn't closed yet.
        """
        if self._life.state is not State.CLOSED:
            raise AssertionError("connection isn't closed yet")
        exc = closed(self.close_rcvd, self.close_sent, self.close_rcvd_then_sent)
        exc.__cause__ = self.parser_exc
        return exc

    def close_expected(self) -> bool:
        """Whether the TCP connection should be over soon, so that waiting for it should have a limit.

        True in the CLOSING state, and from the end of an opening handshake that failed.
        """
        life = self._life
        if life.receiving is Receiving.REFUSED:
            return True
        return life.state is State.CLOSING

    # ------------------------------------------------------------------------------------ tell: news from the network

    def receive_data(self, data: BytesLike) -> None:
        """Take in what a read from the network gave.

        Then call :meth:`data_to_send` and :meth:`events_received`. Errors of the peer don't raise: they close the
        connection, and :attr:`parser_exc` has them.

        Raises:
            EOFError: the end of the stream was received before.
        """
        receiving = self._life.receiving
        if receiving is _RECEIVING:
            self._receive_frames(data)
        elif receiving is Receiving.OPENING:
            self._receive_opening(data)
        elif receiving is Receiving.ENDED:
            raise EOFError("stream ended")
        # REFUSED and DEAF: whatever comes doesn't count any more.

    def receive_eof(self) -> None:
        """Take in the end of the stream: the peer will send no more. Calling it again has no effect."""
        life = self._life
        if life.receiving is Receiving.ENDED:
            return
        if self._held is not None:
            self.release_failure()
        if self.debug:
            self.logger.debug("< EOF")
        if life.receiving is Receiving.OPENING:
            self._receive_opening_eof()
        elif life.receiving is Receiving.OPEN:
            self.parser_exc = EOFError("unexpected end of stream")
        life.received(Receive.EOF)
        self._react()
        self._closed()

    def _receive_opening(self, data: BytesLike) -> None:
        """Data that arrives in the opening handshake; for the client and the server to say."""
        raise InvalidState("connection is connecting")

    def _receive_opening_eof(self) -> None:
        """The end of the stream in the opening handshake."""

    def _receive_frames(self, data: BytesLike) -> None:
        """The hot path: what a read gave, to frames, to whom they concern."""
        # After an error that is held back, nothing counts.
        if self._held is None:
            self._take_frames((self._decoder or self._start_decoder()).feed(data))

    def _take_frames(self, frames: list[Any]) -> None:
        """Take in frames as the decoder gives them: first byte, payload, and so on."""
        self._frames = len(frames) >> 1
        keep = self._receiver.keep if self._keeps and self._receiver is not None else None
        try:
            for index in range(0, len(frames), 2):
                head = frames[index]
                if keep is not None and head in WHOLE:
                    keep(frames[index + 1])
                else:
                    self._receive_frame(head, frames[index + 1])
            self._check_decoder()
        except Exception as exc:
            self._fail_for(exc)
        if self._life.state is not _OPEN:
            self._react()

    def _check_decoder(self) -> None:
        decoder = self._decoder
        if decoder is not None and decoder.failure is not None and self._life.receiving is _RECEIVING:
            self._fail_for(as_exception(*decoder.failure))

    def _start_decoder(self) -> FrameDecoder:
        """The decoder, made when the first frame arrives, when the extensions are known."""
        self._find_deflate()
        # A message that isn't compressed needs none of what follows, whether or not others are.
        if self.debug or (self.extensions and self._deflate is None):
            self._keeps = False
        reserved = 0 if not self.extensions else RSV_MASK if self._deflate is None else RSV1
        self._decoder = FrameDecoder(
            self.side is Side.SERVER,
            reserved,
            as_limit(self._max_fragment_size),
            as_limit(self._max_message_size),
            self._receiver is not None,
        )
        return self._decoder

    def _find_deflate(self) -> None:
        """Whether permessage-deflate is the only extension: then frames need no detour through :class:`Frame`."""
        if len(self.extensions) == 1 and type(self.extensions[0]) is PerMessageDeflate:
            self._deflate = self.extensions[0]

    def _receive_frame(self, head: int, payload: Any) -> None:
        """A frame that isn't a whole message, or may have been changed by extensions, or must be logged."""
        if self._life.receiving is not Receiving.OPEN:
            return
        if self.extensions and self._deflate is None:
            head, payload = self._decode(Frame.from_head(head, payload))
        elif head & CONTROL_BIT == 0 and self._deflate is not None:
            head, payload = self._inflate(head, payload)
        if self.debug:
            # As it is after the extensions: compressed bytes tell nobody anything.
            self._log_frame("<", head, payload)
        if head & CONTROL_BIT:
            self._receive_control(head, payload)
        elif self._receiver is not None:
            self._receiver.put(head, payload)
        else:
            self.events.append(Frame.from_head(head, payload))

    def _receive_control(self, head: int, payload: bytes) -> None:
        opcode = head & OPCODE_MASK
        if opcode == Opcode.PING:
            self._count().pings_received += 1
            self._answer_ping(payload)
        elif opcode == Opcode.CLOSE:
            self.close_rcvd = Close.parse(payload)
            if self.close_sent is not None:
                self.close_rcvd_then_sent = False
            self._life.received(Receive.CLOSE)
        self.events.append(Frame.from_head(head, payload))

    def _answer_ping(self, payload: bytes) -> None:
        # Of several pings only the last needs a pong (RFC 6455 section 5.5.3): one is all that waits while the peer
        # doesn't read.
        if self._hold_pongs:
            self._pong_owed = payload
        else:
            self.send_pong(payload)

    def _inflate(self, head: int, payload: Any) -> tuple[int, Data]:
        """Decode a data frame of a connection that negotiated permessage-deflate and nothing else."""
        assert self._deflate is not None
        account = self._account = self._account or DecompressedMessage()
        if head & OPCODE_MASK != OPCODE_CONT:
            account.opcode = head & (RSV1 | OPCODE_MASK)
        if not account.opcode & RSV1:
            return head, payload
        room = self._max_message_size
        if room is not None:
            room -= account.size
        if self._max_fragment_size is not None:
            room = self._max_fragment_size if room is None else min(room, self._max_fragment_size)
        try:
            content = self._deflate.decompress(payload, head & FIN != 0, room)
        except PayloadTooBig as exc:
            exc.set_current_size(account.size or None)
            raise
        self._count().expanded += len(content) - len(payload)
        return head & ~RSV1, account.check(head, content, self._receiver is not None)

    def _inflate_whole(self, head: int, payload: bytes) -> Data | None:
        """Decode a compressed message in one frame, for a front-end that keeps it; None if it fails the connection."""
        try:
            _, message = self._inflate(head, payload)
        except Exception as exc:
            self._fail_for(exc)
            return None
        return message

    def _decode(self, frame: Frame) -> tuple[int, Data]:
        """Decode a frame of a connection with extensions of which we know nothing but their interface."""
        account = self._account = self._account or DecompressedMessage()
        limit = self._max_message_size
        room = None if limit is None else limit - account.size
        frame = decode_through(self.extensions, frame, room)
        head = frame.head
        payload = bytes(frame.data)
        if head & CONTROL_BIT:
            return head, payload
        if head & OPCODE_MASK != OPCODE_CONT:
            account.opcode = head & OPCODE_MASK
        if room is not None and len(payload) > room:
            raise PayloadTooBig(len(payload), room, account.size or None)
        return head, account.check(head, payload, self._receiver is not None)

    # ------------------------------------------------------------------------------------------------------- failures

    def _fail_for(self, exc: Exception) -> None:
        """Fail the connection for an error that was found in what the peer sent."""
        if not isinstance(exc, (ProtocolError, PayloadTooBig, TooManyFragments, UnicodeDecodeError)):
            # A bug of ours or of an extension: the peer learns that there was one, the log learns which.
            self.logger.error("parser failed", exc_info=exc)
        code, reason = close_for(exc)
        # Once our Close is out, nobody waits for messages that came before the failure.
        if self._receiver is not None and self._life.sending is _SENDING and self._receiver.holds():
            self._held = exc, code, reason
            return
        self.parser_exc = exc
        self.fail(code, reason)

    def release_failure(self) -> None:
        """Fail the connection for the error that was held back."""
        if self._held is not None:
            (self.parser_exc, code, reason), self._held = self._held, None
            self.fail(code, reason)

    # ------------------------------------------------------------------------------ tell: wishes of the application

    def send_continuation(self, data: BytesLike, fin: bool) -> None:
        """Send another fragment of the message under way (RFC 6455 section 5.4).

        Parameters:
            data: payload.
            fin: whether this is the last fragment.

        Raises:
            ProtocolError: no fragmented message is under way.
            InvalidState: the connection isn't open.
        """
        if not self._life.continuing and self._life.sending is Sending.OPEN:
            raise ProtocolError("unexpected continuation frame")
        self._send_data(Opcode.CONT, data, fin)

    def send_text(self, data: BytesLike, fin: bool = True, *, compress: bool | None = None) -> None:
        """Send a text message, or its first fragment (RFC 6455 section 5.6).

        Parameters:
            data: payload, encoded as UTF-8.
            fin: whether the message has no more fragments.
            compress: whether to compress it, where permessage-deflate was negotiated; None to go by its size.

        Raises:
            ProtocolError: a fragmented message is under way.
            InvalidState: the connection isn't open.
        """
        self._send_first(Opcode.TEXT, data, fin, compress)

    def send_binary(self, data: BytesLike, fin: bool = True, *, compress: bool | None = None) -> None:
        """Send a binary message, or its first fragment (RFC 6455 section 5.6).

        Parameters:
            data: payload.
            fin: whether the message has no more fragments.
            compress: as for :meth:`send_text`.

        Raises:
            ProtocolError: a fragmented message is under way.
            InvalidState: the connection isn't open.
        """
        self._send_first(Opcode.BINARY, data, fin, compress)

    def send_prepared(self, message: PreparedMessage) -> None:
        """Send a message that was prepared for several connections.

        Parameters:
            message: the message.

        Raises:
            ProtocolError: a fragmented message is under way.
            InvalidState: the connection isn't open.
        """
        self.writes.append(self._count().sent(frame_for(self, message), size_of(message), True))

    def _send_first(self, opcode: Opcode, data: BytesLike, fin: bool, compress: bool | None = None) -> None:
        if self._life.continuing:
            raise ProtocolError("expected a continuation frame")
        self._send_data(opcode, data, fin, compress)

    def _send_data(self, opcode: Opcode, data: BytesLike, fin: bool, compress: bool | None = None) -> None:
        if self._life.sending is not _SENDING:
            raise InvalidState(f"connection is {self._life.state.name.lower()}")
        frame = self._encode(opcode, data, fin, compress)
        try:
            self.writes.append(self._count().sent(frame, len(data), fin))
        except BaseException:
            self._lose_message()
            raise
        self._life.continuing = not fin

    def _count(self) -> Tally:
        if self._tally is None:
            self._tally = Tally()
        return self._tally

    def _frame_message(self, opcode: int, data: BytesLike, compress: bool | None = None) -> bytes:
        """A message in one frame, for a front-end that writes it itself, and counts it.

        Raises:
            ProtocolError: a fragmented message is under way.
            InvalidState: the connection isn't open.
        """
        self._check_sending()
        if self.extensions or self.debug:
            return self._encode(opcode, data, True, compress)
        return build_frame(opcode | FIN, data, new_mask() if self.side is _CLIENT else None)

    def _check_sending(self) -> None:
        """Raise what :meth:`_frame_message` does, unless a message may be sent."""
        if self._life.sending is not _SENDING:
            raise InvalidState(f"connection is {self._life.state.name.lower()}")
        if self._life.continuing:
            raise ProtocolError("expected a continuation frame")

    def _encode(self, opcode: int, data: BytesLike, fin: bool = True, compress: bool | None = None) -> bytes:
        """One frame in bytes, through the extensions."""
        if isinstance(data, str):
            raise TypeError("a bytes-like object is required, not 'str'")
        head = opcode | FIN if fin else opcode
        if self.debug:
            self._log_frame(">", head, data)
        if self.extensions and self._deflate is None:
            self._find_deflate()
        try:
            if self._deflate is not None:
                head, data = self._deflate.pack(head, data, compress)
            elif self.extensions:
                frame = encode_through(self.extensions, Frame.from_head(head, data))
                head, data = frame.head, frame.data
            return build_frame(head, data, new_mask() if self.side is _CLIENT else None)
        except BaseException:
            self._lose_message()
            raise

    def _lose_message(self) -> None:
        """What may have been compressed won't be sent: nothing may refer to it."""
        if self._deflate is not None:
            self._deflate._start_anew()

    def send_close(self, code: int | None = None, reason: str = "") -> None:
        """Start the closing handshake (RFC 6455 section 7.1.2), or give the peer's Close its answer.

        Parameters:
            code: close code; None to send none.
            reason: text for humans, at most 123 bytes in UTF-8.

        Raises:
            ProtocolError: the code may not be sent, the reason is too long, or there is a reason without a code.
            TypeError: the code isn't an ``int``, or the reason isn't a ``str``.
            InvalidState: a Close was sent before, or the connection isn't open.
        """
        self._send_close(*serialize_close(code, reason))

    def _send_close(self, close: Close, payload: bytes) -> None:
        self._life.sent(Send.CLOSE)
        self.close_sent = close
        self._life.continuing = False
        if self.close_rcvd is not None:
            self.close_rcvd_then_sent = True
        self.writes.append(self._encode(Opcode.CLOSE, payload))
        if self.debug:
            self._log_state()
        self.release_failure()

    def send_ping(self, data: BytesLike) -> None:
        """Send a ping (RFC 6455 section 5.5.2).

        Parameters:
            data: payload, at most 125 bytes.

        Raises:
            ProtocolError: the payload is too long.
            InvalidState: the connection isn't open or closing.
        """
        self._send_control(Opcode.PING, data)

    def send_pong(self, data: BytesLike) -> None:
        """Send a pong (RFC 6455 section 5.5.3). Pings of the peer are answered without being asked.

        Parameters:
            data: payload, at most 125 bytes.

        Raises:
            ProtocolError: the payload is too long.
            InvalidState: the connection isn't open or closing.
        """
        self._send_control(Opcode.PONG, data)

    def _send_control(self, opcode: Opcode, data: BytesLike) -> None:
        if len(data) > MAX_CONTROL_PAYLOAD:
            raise ProtocolError("control frame too long")
        self._life.sent(Send.CONTROL)
        if opcode is Opcode.PING:
            self._count().pings_sent += 1
        self.writes.append(self._encode(opcode, data))

    def fail(self, code: int, reason: str = "") -> None:
        """Fail the connection (RFC 6455 section 7.1.7): send Close if that is still possible, and hear no more.

        Parameters:
            code: close code; 1006 to send nothing but the end of the stream.
            reason: text for humans; what is beyond 123 bytes is cut off.

        Raises:
            ProtocolError: the code may not be sent.
            TypeError: the code isn't an ``int``, or the reason isn't a ``str``.
        """
        reason = check_close(code, reason)
        life = self._life
        if code == CloseCode.ABNORMAL_CLOSURE and life.sending in (Sending.OPEN, Sending.SHUT):
            # A code that never travels: the TCP connection is lost, or about to be cut.
            self._send_eof()
        if life.sending is Sending.OPEN and life.receiving is Receiving.OPEN:
            # The reason may come from an exception: it must fit a control frame whatever it says.
            close = Close(code, reason.encode()[: MAX_CONTROL_PAYLOAD - 2].decode(errors="ignore"))
            payload = close.serialize()
            life.received(Receive.VIOLATION)
            self._send_close(close, payload)
        elif life.receiving is not Receiving.ENDED:
            life.received(Receive.VIOLATION)
        self._react()

    # -------------------------------------------------------------------------------------------------------- collect

    def events_received(self) -> list[Event]:
        """What was received since the last call: the request or the response, then frames."""
        events, self.events = self.events, []
        return events

    def data_to_send(self) -> list[bytes]:
        """What must be sent now, in this order; :data:`SEND_EOF` in it means "close the sending side"."""
        writes, self.writes = self.writes, []
        return writes

    # ------------------------------------------------------------------------------------------------------ reactions

    def _react(self) -> None:
        """Send what is owed, until nothing is."""
        life = self._life
        while (reaction := life.reaction()) is not None:
            if reaction is Reaction.CLOSE:
                assert self.close_rcvd is not None
                self._echo_close(self.close_rcvd)
            else:
                self._send_eof()

    def _echo_close(self, close: Close) -> None:
        # An empty Close is answered by an empty one: 1005 never travels.
        empty = close.code == CloseCode.NO_STATUS_RCVD
        self._send_close(close, b"" if empty else close.serialize())

    def _send_eof(self) -> None:
        self._life.sent(Send.EOF)
        if self.debug:
            self.logger.debug("> EOF")
        self.writes.append(SEND_EOF)

    def _closed(self) -> None:
        """Let go of what a closed connection has no use for."""
        if self.debug:
            self._log_state()
        if self._deflate is not None:
            self._deflate.release()
        if self._decoder is not None:
            self._received = self._decoder.messages, self._decoder.payload_bytes
            self._decoder = None

    def _log_state(self) -> None:
        self.logger.debug("= connection is %s", self._life.state.name)

    def _log_frame(self, arrow: str, head: int, payload: Any) -> None:
        data = payload.encode() if isinstance(payload, str) else payload
        self.logger.debug("%s %s", arrow, Frame.from_head(head, data))


# Names from earlier releases.
if not TYPE_CHECKING:
    __getattr__ = deprecated_names(__name__)
