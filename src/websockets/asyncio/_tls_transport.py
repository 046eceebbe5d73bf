"""A transport with TLS for asyncio, over a plain transport of any event loop: TLS runs in memory.

May know: transports, protocols and futures of asyncio, the TLS channel. Must not know: who chose this transport, how
connections are made, WebSocket.

:class:`TLSTransport` stands between two others. For the plain transport it is a protocol; for the protocol above it is
a transport, which answers and behaves as that of asyncio's own TLS does. In contrast to that one, a connection has no
buffer for reading of its own, ciphertext goes to the network at once, and a peer that fails gets an alert.

The plain transport has the only write buffer. So its limits are those that the protocol above has set, with an
allowance for what TLS adds to each record. Answers of TLS itself, which a peer can ask for, wait in the channel while
the network takes nothing; when too many wait, reading stops.

Plaintext goes up in as few calls as possible, and only after all ciphertext of the read was taken out of the shared
buffer: whatever the protocol above does, the buffer may be used again.
"""

from __future__ import annotations

import asyncio
import weakref
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Final, TypeAlias, cast

from .._session.tls import Incoming, TLSChannel
from ._internals import end_socket, read_rest

if TYPE_CHECKING:
    import ssl

    from ._handshakes import Handshakes

__all__ = ["TLSTransport"]

# In bytes: of the shared buffer for ciphertext, and of what a protocol without a buffer gets at once.
READ_SIZE: Final = 2**18

# In bytes: what a record of TLS adds to its plaintext, at most 2**14 bytes.
RECORD: Final = 2**14
OVERHEAD: Final = 2**7

# Copying so many pieces of ciphertext into one costs less than writing several at once.
JOINED: Final = 4

# In seconds; the same as in asyncio.
HANDSHAKE_TIMEOUT: Final = 60.0
SHUTDOWN_TIMEOUT: Final = 30.0

# The buffers for ciphertext of each event loop: one, and with TLS in TLS another one for each layer.
_Buffer: TypeAlias = tuple[bytearray, memoryview]
_buffers: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, list[_Buffer]] = weakref.WeakKeyDictionary()


def _buffer(loop: asyncio.AbstractEventLoop, layer: int) -> _Buffer:
    buffers = _buffers.setdefault(loop, [])
    while len(buffers) <= layer:
        buffer = bytearray(READ_SIZE)
        buffers.append((buffer, memoryview(buffer)))
    return buffers[layer]


class TLSTransport(asyncio.Transport, asyncio.BufferedProtocol):
    """A transport with TLS, and the protocol of the plain transport below it.

    Parameters:
        loop: the event loop.
        protocol: the protocol above; its ``connection_made()`` is called after the handshake.
        context: the TLS context.
        server_side: whether this end is the server.
        server_hostname: the name to check and to send; empty for no check. Clients only.
        handshake_timeout: seconds that the handshake may take; None for a minute.
        shutdown_timeout: seconds that closing may take; None for half a minute.
        waiter: future that is done when the handshake has succeeded, or gets the error; None if nobody waits.
        introduces: whether to call ``connection_made()``; False if another transport did before.
        handshakes: for a server, those of its clients.

    Raises:
        ValueError: a timeout isn't positive.
    """

    __slots__ = ("__weakref__", "_at_eof", "_buffered", "_channel", "_choked", "_closing", "_end_told", "_error",
                 "_given", "_handshakes", "_introduces", "_layer", "_loop", "_lost", "_made", "_protocol",
                 "_reading_paused", "_shaking", "_shutdown_timeout", "_source", "_source_view", "_timeout", "_timer",
                 "_told_paused", "_transport", "_waiter", "_writing_paused")  # fmt: skip

    _protocol: asyncio.Protocol

    # loop.start_tls() of asyncio looks at it.
    _start_tls_compatible = True

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        protocol: asyncio.BaseProtocol,
        context: ssl.SSLContext,
        *,
        server_side: bool = False,
        server_hostname: str | None = None,
        handshake_timeout: float | None = None,
        shutdown_timeout: float | None = None,
        waiter: asyncio.Future[None] | None = None,
        introduces: bool = True,
        handshakes: Handshakes | None = None,
    ) -> None:
        for name, timeout in (("handshake", handshake_timeout), ("shutdown", shutdown_timeout)):
            if timeout is not None and timeout <= 0:
                raise ValueError(f"ssl_{name}_timeout should be a positive number, got {timeout}")
        super().__init__({"sslcontext": context})
        self._loop, self._waiter, self._introduces, self._handshakes = loop, waiter, introduces, handshakes
        self._given: dict[str, Any] | None = {
            "context": context,
            "server_side": server_side,
            "server_hostname": server_hostname or None,
            "needs_name": False,
        }
        self._timeout = HANDSHAKE_TIMEOUT if handshake_timeout is None else handshake_timeout
        self._shutdown_timeout = SHUTDOWN_TIMEOUT if shutdown_timeout is None else shutdown_timeout
        self._timer: asyncio.TimerHandle | None = None
        self._error: Exception | None = None
        self._shaking = True  # until the handshake is complete, or has failed
        self._made = False  # whether the protocol above uses this transport
        self._closing = self._lost = self._at_eof = self._end_told = False
        self._reading_paused = self._writing_paused = self._told_paused = self._choked = False
        self.set_protocol(protocol)

    def __repr__(self) -> str:
        state = "handshake" if self._shaking else "closing" if self._closing else "open"
        return f"<{type(self).__name__} {state} over {getattr(self, '_transport', None)!r}>"

    # ------------------------------------------------------------------------------ what the plain transport calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin the handshake; the plain transport calls this."""
        # Other event loops have transports of their own, which have the same methods but not the base class.
        self._transport = transport = cast(asyncio.Transport, transport)
        if self._lost:
            transport.abort()
            return
        self._layer: int = transport._layer + 1 if isinstance(transport, TLSTransport) else 0
        self._source, self._source_view = _buffer(self._loop, self._layer)
        given, self._given = self._given or {}, None
        if self._handshakes is not None:
            self._handshakes.begin(self)
        self._timer = self._loop.call_later(self._timeout, self._handshake_takes_too_long)
        try:
            self._channel = TLSChannel(**given)
            self._channel.start()
        except Exception as exc:
            self._handshake_failed(exc)
            return
        self._shake_hands()

    def get_buffer(self, sizehint: int) -> bytearray:
        """Return the buffer for ciphertext; the plain transport calls this."""
        return self._source

    def buffer_updated(self, nbytes: int) -> None:
        """Decrypt a read, and pass it on; the plain transport calls this."""
        channel, data = self._channel, self._source_view[:nbytes]
        if self._shaking:
            if not self._closing:
                channel.receive_data(data)
                self._shake_hands()
        elif self._closing or not self._buffered or self._reading_paused:
            channel.receive_data(data)
            self._go_on()
        else:
            protocol = cast(asyncio.BufferedProtocol, self._protocol)
            filled, quiet = channel.decrypt_into(data, memoryview(protocol.get_buffer(-1)))
            if filled:
                protocol.buffer_updated(filled)
            if not quiet:
                self._go_on()

    def eof_received(self) -> bool:
        """Process the end of the stream; the plain transport calls this."""
        self._at_eof = True
        if self._shaking:
            self._handshake_failed(ConnectionResetError("the peer ended the connection during the TLS handshake"))
        else:
            self._channel.receive_eof()
            self._go_on()
        # This object closes the plain transport, when everything is delivered.
        return True

    def connection_lost(self, exc: Exception | None) -> None:
        """Process the end of the connection; the plain transport calls this."""
        try:
            self._deliver_rest()
        finally:
            self._end_of_connection(exc)

    def _end_of_connection(self, exc: Exception | None) -> None:
        self._lost = self._closing = True
        self._stop_timer()
        end_socket(self._transport)
        if self._shaking:
            self._handshake_failed(exc or ConnectionResetError("connection lost during the TLS handshake"))
        if self._made or not self._introduces:
            protocol, self._protocol = self.get_protocol(), asyncio.Protocol()
            protocol.connection_lost(self._error or exc)

    def pause_writing(self) -> None:
        """Pass on that the write buffer is full; the plain transport calls this."""
        self._writing_paused = True
        if self._made and not self._lost and not self._told_paused:
            self._told_paused = True
            self._protocol.pause_writing()

    def resume_writing(self) -> None:
        """Pass on that the write buffer has room; the plain transport calls this."""
        self._writing_paused = False
        if not self._made or self._lost:
            return
        self._flush()
        if self._writing_paused:
            # The answers of TLS have filled the buffer again.
            return
        if self._choked:
            self._choked = False
            self._go_on_later()
        self._told_paused = False
        self._protocol.resume_writing()

    # ------------------------------------------------------------------------------------------------- the handshake

    def _shake_hands(self) -> None:
        """Send what the handshake has to send, and end it when it is complete or has failed."""
        channel = self._channel
        self._flush()
        if channel.failure is not None:
            self._handshake_failed(channel.failure)
        elif channel.incoming is not Incoming.HANDSHAKE:
            self._handshake_complete()

    def _handshake_complete(self) -> None:
        channel, tls = self._channel, self._channel.ssl_object
        self._shaking, self._made = False, True
        self._stop_timer()
        if self._handshakes is not None:
            self._handshakes.end(self)
        extra = cast("dict[str, Any]", self._extra)  # type: ignore[attr-defined]
        extra.update(peercert=tls.getpeercert(), cipher=tls.cipher(), compression=tls.compression(), ssl_object=tls)
        try:
            if self._introduces:
                self._protocol.connection_made(self)
            if self._writing_paused and not self._told_paused:
                self._told_paused = True
                self._protocol.pause_writing()
        finally:
            if self._waiter is not None and not self._waiter.done():
                self._waiter.set_result(None)
            self._waiter = None
        if not channel.quiet:
            # Data that came with the end of the handshake.
            self._go_on()

    def _handshake_failed(self, exc: Exception) -> None:
        self._shaking, self._closing = False, True
        self._error = self._error or exc
        self._stop_timer()
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_exception(exc)
            self._waiter.exception()  # marks the exception as retrieved: the waiting task may have been cancelled
        if self._handshakes is not None:
            self._handshakes.end(self, exc)
        if not self._lost:
            # The peer gets the alert, if there is one and it reads it in time.
            self._timer = self._loop.call_later(self._shutdown_timeout, self._transport.abort)
            self._transport.close()

    def _handshake_takes_too_long(self) -> None:
        text = f"SSL handshake is taking longer than {self._timeout} seconds: aborting the connection"
        self._handshake_failed(ConnectionAbortedError(text))
        self._transport.abort()

    # ----------------------------------------------------------------------------------------------------- receiving

    def _go_on(self) -> None:
        """Pass on all plaintext that may be read now, then process what follows it: an alert, a failure, the end."""
        channel = self._channel
        while not self._reading_paused or self._closing:
            data = channel.read(READ_SIZE)
            if not data:
                break
            if not self._closing:
                self._deliver(data)
        self._answer()
        if channel.ended and not self._lost:
            self._end()

    def _go_on_later(self) -> None:
        if not self._lost:
            self._loop.call_soon(self._resume)

    def _resume(self) -> None:
        if not self._lost:
            self._go_on()
            self._steer()

    def _deliver_rest(self) -> None:
        """Pass on all that the peer had sent before it broke off, even if reading is paused: there is no later."""
        if self._shaking or self._closing:
            return
        if not self._at_eof and (size := read_rest(self._transport, self._source)):
            self._channel.receive_data(self._source_view[:size])
        more = True
        while more and not self._closing:
            # Nobody takes the answers of TLS any more; if they waited, nothing more would be decrypted.
            more = bool(self._channel.data_to_send())
            if data := self._channel.read(READ_SIZE):
                more, self._reading_paused = True, False
                self._deliver(data)

    def _deliver(self, data: bytes) -> None:
        """Pass plaintext to the protocol."""
        if not self._buffered:
            self._protocol.data_received(data)
            return
        rest = memoryview(data)
        while rest and not self._closing:
            if self._reading_paused:
                self._channel.unread(bytes(rest))
                return
            if not self._buffered:
                # There is another protocol now.
                self._protocol.data_received(bytes(rest))
                return
            protocol = cast(asyncio.BufferedProtocol, self._protocol)
            view = memoryview(protocol.get_buffer(-1)).cast("B")
            size = min(len(view), len(rest))
            if not size:
                raise RuntimeError("get_buffer() returned an empty buffer")
            view[:size] = rest[:size]
            rest = rest[size:]
            protocol.buffer_updated(size)

    def _end(self) -> None:
        """Process the end of what can be received: close_notify, the end of the stream, or a failure."""
        channel = self._channel
        if channel.failure is not None:
            self._error = self._error or channel.failure
        elif not self._end_told and not self._closing:
            self._end_told = True
            self._protocol.eof_received()
        self.close()
        self._transport.close()

    def _answer(self) -> None:
        """Send what TLS itself has to send, such as answers to key updates, unless too much waits for the network."""
        if not self._writing_paused or self._channel.ended:
            self._flush()
        elif not self._channel.wants_data and not self._channel.ended:
            self._choked = True
            self._steer()

    def _steer(self) -> None:
        """Read from the network or don't, as the protocol above and the channel want."""
        if self._lost or self._at_eof:
            return
        if self._choked or (self._reading_paused and not self._closing):
            self._transport.pause_reading()
        else:
            self._transport.resume_reading()

    # ------------------------------------------------------------------------------------------------------- sending

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Encrypt and write data.

        Raises:
            TypeError: ``data`` isn't bytes-like.
        """
        channel = self._channel
        if type(data) is bytes:
            ciphertext = None if self._closing else channel.encrypt(data)
            if ciphertext:
                self._transport.write(ciphertext)
                return
        elif not isinstance(data, bytes | bytearray | memoryview):
            raise TypeError(f"data: expecting a bytes-like instance, got {type(data).__name__}")
        if data and not self._closing:
            view = memoryview(data)
            self._give(channel.encrypt_all(view.cast("B") if view.c_contiguous else memoryview(view.tobytes())))
            if channel.failure is not None:
                self._error = channel.failure
                self.abort()

    def writelines(self, list_of_data: Iterable[bytes | bytearray | memoryview]) -> None:
        """Encrypt and write several pieces as one."""
        self.write(b"".join(list_of_data))

    def _flush(self) -> None:
        """Send all ciphertext that there is."""
        if self._channel.unsent:
            self._give(self._channel.data_to_send())

    def _give(self, pieces: list[bytes]) -> None:
        if not pieces:
            return
        transport = self._transport
        if len(pieces) <= JOINED or transport.is_closing():
            # In Python 3.12, writelines() after the connection is lost makes asyncio watch a socket that gets closed:
            # the next connection with its number would be disturbed.
            transport.write(pieces[0] if len(pieces) == 1 else b"".join(pieces))
            return
        transport.writelines(pieces)
        if not self._writing_paused and transport.get_write_buffer_size():
            # Some releases of asyncio don't check the limits after writelines(); setting the limits makes them check.
            low, high = transport.get_write_buffer_limits()
            transport.set_write_buffer_limits(high, low)

    def can_write_eof(self) -> bool:
        """Return False: the end of TLS is that of both directions."""
        return False

    def write_eof(self) -> None:
        """Refuse to end one direction.

        Raises:
            NotImplementedError: always.
        """
        raise NotImplementedError("TLS can't close one direction")

    def get_write_buffer_size(self) -> int:
        """Return the number of bytes that wait for the network, as ciphertext."""
        return self._transport.get_write_buffer_size() + self._channel.unsent

    def get_write_buffer_limits(self) -> tuple[int, int]:
        """Return the low and the high water mark of the plain transport, in bytes."""
        return self._transport.get_write_buffer_limits()

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """Set the water marks for what was written, in bytes: above ``high`` writing pauses, at ``low`` it resumes.

        Raises:
            ValueError: not ``high >= low >= 0``.
        """
        if high is not None and low is not None and high < low:
            raise ValueError(f"high ({high}) must be at least low ({low})")
        if not self._lost:
            # uvloop refuses to set those of a transport that is closed.
            self._transport.set_write_buffer_limits(_with_overhead(high), low)

    # ------------------------------------------------------------------------------------------------ asking, steering

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        """Return what is known about TLS, or about the plain transport."""
        extra = cast("dict[str, Any]", self._extra)  # type: ignore[attr-defined]
        return extra[name] if name in extra else self._transport.get_extra_info(name, default)

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        """Set the protocol that gets what arrives."""
        # A buffered one has the same methods, but for two.
        self._protocol = cast(asyncio.Protocol, protocol)
        self._buffered = isinstance(protocol, asyncio.BufferedProtocol)

    def get_protocol(self) -> asyncio.BaseProtocol:
        """Return the protocol."""
        return self._protocol

    def is_closing(self) -> bool:
        """Return whether the transport is closing or closed."""
        return self._closing or self._transport.is_closing()

    def is_reading(self) -> bool:
        """Return whether what arrives is passed to the protocol."""
        return not self._reading_paused and not self._closing

    def pause_reading(self) -> None:
        """Stop passing on what arrives, and stop reading from the network."""
        self._reading_paused = True
        self._steer()

    def resume_reading(self) -> None:
        """Go on with reading, in the next turn of the loop if something waits already."""
        if self._reading_paused:
            self._reading_paused = False
            if not self._channel.quiet and not self._shaking:
                self._go_on_later()
            self._steer()

    def close(self) -> None:
        """Send close_notify after all data, and end the connection when the peer has sent its own, or in time."""
        if self._closing:
            return
        self._closing = True
        self._channel.close()
        self._flush()
        self._stop_timer()
        self._timer = self._loop.call_later(self._shutdown_timeout, self._shutdown_takes_too_long)
        if self._channel.ended:
            self._transport.close()
        else:
            # What was received and not read is of no interest any more; but the end has to be seen.
            self._choked = False
            self._go_on_later()

    def _shutdown_takes_too_long(self) -> None:
        self._error = self._error or TimeoutError("SSL shutdown timed out")
        self._transport.abort()

    def abort(self) -> None:
        """End the connection at once."""
        self._closing = True
        self._transport.abort()

    def _force_close(self, exc: Exception | None) -> None:
        """End the connection at once for a reason; asyncio's TLS calls this where it runs over this transport."""
        self._error = self._error or exc
        self.abort()

    def give_up(self) -> None:
        """End before a connection was made. Some loops call ``connection_lost()`` then, and some don't."""
        self._shaking, self._closing, self._lost = False, True, True
        self._stop_timer()

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


def _with_overhead(limit: int | None) -> int | None:
    """Return how many bytes of ciphertext, at most, a number of bytes of plaintext becomes in records that are full."""
    return limit if not limit else limit + (limit // RECORD + 1) * OVERHEAD
