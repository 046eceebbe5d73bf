"""The WebSocket protocol after the opening handshake, without I/O: RFC 6455 sections 5 to 8.

May know: frames, extensions, the lifecycle; the meaning of the peer's bytes, and the bytes that answer them. Must not
know: sockets, time, the readers of messages, the opening handshake (see :mod:`.client` and :mod:`.server`).

There are four kinds of methods. Queries have no effect: ``state``, ``close_expected()``... Events of the network:
``receive_data()``, ``receive_eof()``. Requests of the application: ``send_...()``, ``fail()``. After an event or a
request, collect the results: ``data_to_send()``, ``events_received()``.
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
from ..exceptions import ConnectionClosed, InvalidState, PayloadTooBig, ProtocolError, TooManyFragments, advised
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
"""An item in the result of :meth:`Protocol.events_received`."""

SEND_EOF: Final = b""
"""An item in the result of :meth:`Protocol.data_to_send`: close the sending side of the TCP connection."""

# Every message needs these constants, and a global name is faster than an attribute of an enumeration.
_OPEN: Final = State.OPEN
_RECEIVING: Final = Receiving.OPEN
_SENDING: Final = Sending.OPEN
_CLIENT: Final = Side.CLIENT


class Protocol(Limits):
    """Sans-I/O WebSocket connection.

    Parameters:
        side: the side of the connection, client or server.
        state: initial state; OPEN if the opening handshake was done elsewhere.
        max_size: maximum size of incoming messages in bytes; None for no limit; or a tuple of the limits of a message
            and of a fragment.
        logger: where to log; ``websockets.client`` or ``websockets.server`` by default.
    """

    # Rarely used attributes have their defaults in the class, so that an idle connection stays small.
    logger: LoggerLike
    origin: Origin | None = None  #: The origin that the client sent.
    subprotocol: Subprotocol | None = None  #: The subprotocol that was negotiated.
    close_rcvd: Close | None = None  #: The Close frame received.
    close_sent: Close | None = None  #: The Close frame sent.
    close_rcvd_then_sent: bool | None = None  #: Whether the peer closed first; None until one side closes.
    handshake_exc: Exception | None = None  #: Why the opening handshake failed; None if it didn't.
    parser_exc: Exception | None = None  #: The error of the peer after the opening handshake; None if there was none.
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
            # The protocols of client and server check all of their options themselves.
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
    # Receiving: the decoder, and the counters that it can't keep when extensions change the payload.
    _decoder: FrameDecoder | None = None
    _deflate: PerMessageDeflate | None = None
    _account: DecompressedMessage | None = None
    _frames: int = 0  # number of frames in the last read
    # A port sets these before the first frame: the receiver of data frames in place of ``events``, and whether messages
    # in one frame go to it directly.
    _receiver: Receiver | None = None
    _keeps: bool = False
    _held: tuple[Exception, int, str] | None = None
    _hold_pongs: bool = False
    _pong_owed: bytes | None = None
    # Statistics, once there is something to count; and the number of messages and bytes of a decoder that is gone.
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
        # Frameworks with their own I/O assign CLOSED to report that the TCP connection is lost.
        if state is State.CLOSED:
            self.receive_eof()
        elif state is not self._life.state:
            raise InvalidState(f"connection is {self._life.state.name.lower()}; it cannot be made {state.name.lower()}")

    @property
    def close_code(self) -> int | None:
        """Close code received; 1005 if the Close frame had none, 1006 without a Close frame, None until CLOSED.

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
        """The exception that calls raise after the connection closed; a new object each time.

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
        """Process data from the network.

        Then call :meth:`data_to_send` and :meth:`events_received`. Errors of the peer don't raise: they fail the
        connection, and :attr:`parser_exc` has the exception.

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
        # REFUSED and DEAF: further data is ignored.

    def receive_eof(self) -> None:
        """Process the end of the stream: the peer will send no more data. Calling this again has no effect."""
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
        """Process data of the opening handshake; client and server define this."""
        raise InvalidState("connection is connecting")

    def _receive_opening_eof(self) -> None:
        """Process the end of the stream during the opening handshake."""

    def _receive_frames(self, data: BytesLike) -> None:
        """Decode data into frames and pass these on; this is the hot path."""
        # Data after an error that is held back is ignored.
        if self._held is None:
            self._take_frames((self._decoder or self._start_decoder()).feed(data))

    def _take_frames(self, frames: list[Any]) -> None:
        """Process frames from the decoder: a list of first byte, payload, first byte, payload..."""
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
        """Make the decoder when the first frame arrives, because the extensions are known by then."""
        self._find_deflate()
        # Messages that aren't compressed go straight to the receiver even if others are compressed.
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
        """Find out whether permessage-deflate is the only extension: then :class:`Frame` objects aren't needed."""
        if len(self.extensions) == 1 and type(self.extensions[0]) is PerMessageDeflate:
            self._deflate = self.extensions[0]

    def _receive_frame(self, head: int, payload: Any) -> None:
        """Process a frame that isn't a whole message, or that extensions may have changed, or that must be logged."""
        if self._life.receiving is not Receiving.OPEN:
            return
        if self.extensions and self._deflate is None:
            head, payload = self._decode(Frame.from_head(head, payload))
        elif head & CONTROL_BIT == 0 and self._deflate is not None:
            head, payload = self._inflate(head, payload)
        if self.debug:
            # Log the payload after the extensions: compressed bytes aren't readable.
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
        # Only the last of several pings needs a pong (RFC 6455 section 5.5.3). While the peer doesn't read, keep only
        # that one.
        if self._hold_pongs:
            self._pong_owed = payload
        else:
            self.send_pong(payload)

    def _inflate(self, head: int, payload: Any) -> tuple[int, Data]:
        """Decode a data frame of a connection that negotiated only permessage-deflate."""
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
        """Decode a compressed message in one frame, for a front-end; return None if it fails the connection."""
        try:
            _, message = self._inflate(head, payload)
        except Exception as exc:
            self._fail_for(exc)
            return None
        return message

    def _decode(self, frame: Frame) -> tuple[int, Data]:
        """Decode a frame of a connection with arbitrary extensions, through their public interface."""
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
        """Fail the connection because of an error in the peer's data."""
        if not isinstance(exc, (ProtocolError, PayloadTooBig, TooManyFragments, UnicodeDecodeError)):
            # A bug of this library or of an extension: the peer gets no details, the log has them.
            self.logger.error("parser failed", exc_info=exc)
        code, reason = close_for(exc)
        # After our Close frame, no receiver waits for the messages that came before the failure.
        if self._receiver is not None and self._life.sending is _SENDING and self._receiver.holds():
            self._held = exc, code, reason
            return
        self.parser_exc = exc
        self.fail(code, reason)

    def release_failure(self) -> None:
        """Fail the connection because of the error that was held back."""
        if self._held is not None:
            (self.parser_exc, code, reason), self._held = self._held, None
            self.fail(code, reason)

    # ------------------------------------------------------------------------------ tell: wishes of the application

    def send_continuation(self, data: BytesLike, fin: bool) -> None:
        """Send another fragment of the current message (RFC 6455 section 5.4).

        Parameters:
            data: payload.
            fin: True for the last fragment.

        Raises:
            ProtocolError: no fragmented message has begun.
            InvalidState: the connection isn't open.
        """
        if not self._life.continuing and self._life.sending is Sending.OPEN:
            raise ProtocolError("unexpected continuation frame")
        self._send_data(Opcode.CONT, data, fin)

    def send_text(self, data: BytesLike, fin: bool = True, *, compress: bool | None = None) -> None:
        """Send a text message, or its first fragment (RFC 6455 section 5.6).

        Parameters:
            data: payload, encoded as UTF-8.
            fin: True if the message has no more fragments.
            compress: whether to compress it, if permessage-deflate was negotiated; None to decide by its size.

        Raises:
            ProtocolError: a fragmented message has begun and not ended.
            InvalidState: the connection isn't open.
        """
        self._send_first(Opcode.TEXT, data, fin, compress)

    def send_binary(self, data: BytesLike, fin: bool = True, *, compress: bool | None = None) -> None:
        """Send a binary message, or its first fragment (RFC 6455 section 5.6).

        Parameters:
            data: payload.
            fin: True if the message has no more fragments.
            compress: as for :meth:`send_text`.

        Raises:
            ProtocolError: a fragmented message has begun and not ended.
            InvalidState: the connection isn't open.
        """
        self._send_first(Opcode.BINARY, data, fin, compress)

    def send_prepared(self, message: PreparedMessage) -> None:
        """Send a message that was prepared for several connections.

        Parameters:
            message: the message.

        Raises:
            ProtocolError: a fragmented message has begun and not ended.
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
        """Return a message in one frame and count it, for a front-end that writes it itself.

        Raises:
            ProtocolError: a fragmented message has begun and not ended.
            InvalidState: the connection isn't open.
        """
        self._check_sending()
        if self.extensions or self.debug:
            return self._encode(opcode, data, True, compress)
        return build_frame(opcode | FIN, data, new_mask() if self.side is _CLIENT else None)

    def _check_sending(self) -> None:
        """Raise the exceptions of :meth:`_frame_message`, unless a message may be sent."""
        if self._life.sending is not _SENDING:
            raise InvalidState(f"connection is {self._life.state.name.lower()}")
        if self._life.continuing:
            raise ProtocolError("expected a continuation frame")

    def _encode(self, opcode: int, data: BytesLike, fin: bool = True, compress: bool | None = None) -> bytes:
        """Return one frame in bytes, after the extensions have encoded it."""
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
        """Reset compression, because a message that may be in its window won't be sent."""
        if self._deflate is not None:
            self._deflate._start_anew()

    def send_close(self, code: int | None = None, reason: str = "") -> None:
        """Start the closing handshake (RFC 6455 section 7.1.2), or answer the peer's Close frame.

        Parameters:
            code: close code; None to send none.
            reason: text for humans, at most 123 bytes in UTF-8.

        Raises:
            ProtocolError: the code may not be sent, the reason is too long, or there is a reason without a code.
            TypeError: the code isn't an ``int``, or the reason isn't a ``str``.
            InvalidState: a Close frame was sent before, or the connection isn't open.
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
        """Send a pong (RFC 6455 section 5.5.3). Pings of the peer are answered automatically.

        Parameters:
            data: payload, at most 125 bytes.

        Raises:
            ProtocolError: the payload is too long.
            InvalidState: the connection isn't open or closing.
        """
        self._send_control(Opcode.PONG, data)

    def _send_control(self, opcode: Opcode, data: BytesLike) -> None:
        if len(data) > MAX_CONTROL_PAYLOAD:
            advice = f"the payload of a ping or pong has {len(data)} bytes; at most {MAX_CONTROL_PAYLOAD} can be sent"
            raise advised(ProtocolError("control frame too long"), advice)
        self._life.sent(Send.CONTROL)
        if opcode is Opcode.PING:
            self._count().pings_sent += 1
        self.writes.append(self._encode(opcode, data))

    def fail(self, code: int, reason: str = "") -> None:
        """Fail the connection (RFC 6455 section 7.1.7): send a Close frame if possible, and ignore further data.

        Parameters:
            code: close code; 1006 to send only the end of the stream.
            reason: text for humans; truncated to 123 bytes.

        Raises:
            ProtocolError: the code may not be sent.
            TypeError: the code isn't an ``int``, or the reason isn't a ``str``.
        """
        reason = check_close(code, reason)
        life = self._life
        if code == CloseCode.ABNORMAL_CLOSURE and life.sending in (Sending.OPEN, Sending.SHUT):
            # Code 1006 is never sent: the TCP connection is lost, or will be aborted.
            self._send_eof()
        if life.sending is Sending.OPEN and life.receiving is Receiving.OPEN:
            # The reason may come from an exception, so truncate it to fit into a control frame.
            close = Close(code, reason.encode()[: MAX_CONTROL_PAYLOAD - 2].decode(errors="ignore"))
            payload = close.serialize()
            life.received(Receive.VIOLATION)
            self._send_close(close, payload)
        elif life.receiving is not Receiving.ENDED:
            life.received(Receive.VIOLATION)
        self._react()

    # -------------------------------------------------------------------------------------------------------- collect

    def events_received(self) -> list[Event]:
        """Return the events since the last call: the request or the response, then frames."""
        events, self.events = self.events, []
        return events

    def data_to_send(self) -> list[bytes]:
        """Return the data to send now, in order; :data:`SEND_EOF` means that the sending side must be closed."""
        writes, self.writes = self.writes, []
        return writes

    # ------------------------------------------------------------------------------------------------------ reactions

    def _react(self) -> None:
        """Send the automatic answers, until none is left."""
        life = self._life
        while (reaction := life.reaction()) is not None:
            if reaction is Reaction.CLOSE:
                assert self.close_rcvd is not None
                self._echo_close(self.close_rcvd)
            else:
                self._send_eof()

    def _echo_close(self, close: Close) -> None:
        # The answer to an empty Close frame is an empty one: code 1005 is never sent.
        empty = close.code == CloseCode.NO_STATUS_RCVD
        self._send_close(close, b"" if empty else close.serialize())

    def _send_eof(self) -> None:
        self._life.sent(Send.EOF)
        if self.debug:
            self.logger.debug("> EOF")
        self.writes.append(SEND_EOF)

    def _closed(self) -> None:
        """Free the objects that a closed connection doesn't need."""
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
