"""Bytes between a connection and a stream of trio: reading, writing with known progress, TLS over memory.

May know: streams and sockets of trio, write buffers, TLS channels. Must not know: frames, sessions, who waits for a
write, time limits.

A cancelled write must not leave a part of a frame on the wire with nobody to write the rest. A socket tells the number
of bytes that it took, so the rest stays in the write buffer, in plaintext and in ciphertext. ``send_all()`` of any
other stream doesn't tell. If it is cancelled, the write buffer is torn, and the connection has to be aborted.
"""

from __future__ import annotations

import contextlib
import select
import socket
from typing import Any, Final

import trio

from .._session.outbox import Outbox
from .._session.tls import OUTGOING_LIMIT, TLSChannel
from .._session.tls_in_tls import Channel, NestedChannel
from ..typing import BytesLike

__all__ = ["TLSStream", "Wire", "close_now", "socket_of", "start_tls", "wire_for"]

# In bytes.
READ_SIZE: Final = 2**16

# In bytes: how much is still read when writing has failed.
REST_SIZE: Final = 2**18

# Members of an SSLObject that a stream with TLS has, too: those of trio.SSLStream.
OF_SSL_OBJECTS: Final = (
    *("cipher", "compression", "context", "get_channel_binding", "getpeercert", "pending", "selected_alpn_protocol"),
    *("server_hostname", "server_side", "session", "session_reused", "shared_ciphers", "version"),
)

# Seconds for a write that should not wait. A socket that said that it takes data may refuse it after all.
GRACE: Final = 0.001


class Wire:
    """A stream of any kind.

    Parameters:
        stream: the stream.

    Attributes:
        stream: as the parameter.
        outbox: the write buffer.
        wants_data: whether :meth:`receive` may be called now.
        bypasses: whether a frame may be written without the write buffer, while that is empty.
    """

    wants_data: bool = True
    bypasses: bool = False

    def __init__(self, stream: Any) -> None:
        self.stream = stream
        self.outbox = Outbox()

    @property
    def pending(self) -> bool:
        """Whether there is something to write: bytes, or the end of the stream."""
        return bool(self.outbox) or self.outbox.at_end

    @property
    def sent(self) -> int:
        """Number of bytes of the write buffer that were written."""
        return self.outbox.sent

    @property
    def buffered_amount(self) -> int:
        """Number of bytes that wait to be written."""
        return self.outbox.buffered_amount

    def ready(self) -> bool:
        """Return whether :meth:`write` will not wait; False if that isn't known."""
        return False

    async def receive(self) -> BytesLike | None:
        """Read from the network.

        Returns:
            Bytes; none at the end of the stream; or None if there are none yet, but perhaps something to write.

        Raises:
            Exception: the stream is broken.
        """
        data: BytesLike = await self.stream.receive_some(READ_SIZE)
        return data

    async def write_frame(self, frame: bytes) -> bool:
        """Write some of a frame, for which :meth:`Outbox.bypass` was called; only if :attr:`bypasses`.

        Returns:
            Whether it was written whole, and there is nothing else to write.

        Raises:
            Exception: the stream is broken.
        """
        raise NotImplementedError

    async def write(self) -> None:
        """Write some of the write buffer, or the end of the stream; only one task may do so at a time.

        Raises:
            Exception: the stream is broken.
        """
        outbox = self.outbox
        if outbox:
            data = b"".join(outbox.next_pieces())
            try:
                await self.stream.send_all(data)
            except BaseException:
                outbox.tear()
                raise
            outbox.taken(len(data))
            return
        outbox.end_sent()
        if isinstance(self.stream, trio.abc.HalfCloseableStream):
            await self.stream.send_eof()
        else:
            await self.stream.aclose()

    def receive_rest(self) -> BytesLike:
        """Return what has arrived and can still be read when writing has failed. Other streams don't tell."""
        return b""

    async def write_alert(self) -> None:
        """After an error, write what TLS has to say about it, without waiting; nobody else may write."""

    def abort(self) -> None:
        """Discard the write buffer, and close the stream if that takes no wait; then call :meth:`aclose`."""
        self.outbox.tear()

    async def aclose(self) -> None:
        """Close the stream, without ceremony."""
        await close_now(self.stream)


class SocketWire(Wire):
    """A stream that is a socket; parameters as for :class:`Wire`."""

    bypasses = True

    def __init__(self, stream: trio.SocketStream) -> None:
        super().__init__(stream)
        self._socket = stream.socket
        self.outbox.gathers = hasattr(self._socket, "sendmsg")

    def ready(self) -> bool:
        """Return whether :meth:`write` will not wait."""
        return _takes_data(self._socket)

    async def receive(self) -> BytesLike | None:
        """Read from the network; see :meth:`Wire.receive`."""
        return await self._socket.recv(READ_SIZE)

    def receive_rest(self) -> BytesLike:
        """Return what has arrived; see :meth:`Wire.receive_rest`."""
        return _received(self._socket)

    async def write_frame(self, frame: bytes) -> bool:
        """Write some of a frame; see :meth:`Wire.write_frame`."""
        outbox, taken = self.outbox, 0
        try:
            taken = await self._socket.send(frame)
        finally:
            outbox.bypassed(frame, taken)
        return outbox.sent == outbox.accepted and not outbox.at_end

    async def write(self) -> None:
        """Write some of the write buffer, or the end of the stream; see :meth:`Wire.write`."""
        outbox = self.outbox
        if outbox:
            outbox.taken(await _send(self._socket, outbox))
        else:
            outbox.end_sent()
            _shut_down(self._socket)

    def abort(self) -> None:
        """Discard the write buffer, and close the socket; whoever reads or writes gets an error."""
        super().abort()
        self._socket.close()


class TLSStream(trio.abc.Stream):
    """A stream with TLS over a socket, with known progress; :func:`start_tls` makes it.

    Parameters:
        transport_stream: the stream below: a socket, or another stream of this class for TLS in TLS.
        channel: our end of TLS, before the handshake.

    Attributes:
        transport_stream: as the parameter.
        socket: the socket below all TLS.
        ssl_object: the :class:`ssl.SSLObject`, to get information only.
        channel: our end of TLS, with the TLS below it.
        ciphertext: what must be written to the socket.
    """

    def __init__(self, transport_stream: trio.SocketStream | TLSStream, channel: TLSChannel) -> None:
        self.transport_stream = transport_stream
        self.socket: trio.socket.SocketType = transport_stream.socket
        self.ssl_object = channel.ssl_object
        self.channel: Channel = channel
        if isinstance(transport_stream, TLSStream):
            outer = transport_stream.channel
            if not isinstance(outer, TLSChannel):
                raise ValueError("there is TLS in TLS already")
            self.channel = NestedChannel(channel, outer)
        self.ciphertext = Outbox(gathers=False)

    def __getattr__(self, name: str) -> Any:
        if name in OF_SSL_OBJECTS:
            return getattr(self.ssl_object, name)
        raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")

    async def receive(self, size: int = READ_SIZE) -> bytes | None:
        """Read from the network, and decrypt; see :meth:`Wire.receive`.

        Raises:
            ssl.SSLError: TLS failed.
        """
        channel = self.channel
        data = channel.read(size)
        if not data and not channel.ended:
            await self._read_ciphertext()
            data = channel.read(size)
        self.collect()
        if not data and channel.failure is not None:
            raise channel.failure
        return data if data or channel.ended else None

    def receive_rest(self) -> bytes:
        """Return the plaintext of what has arrived; see :meth:`Wire.receive_rest`."""
        channel, pieces = self.channel, []
        if not channel.ended and (ciphertext := _received(self.socket)):
            channel.receive_data(ciphertext)
        # Nobody takes the answers of TLS any more; if they waited, nothing more would be decrypted.
        while (piece := channel.read()) or channel.data_to_send():
            pieces.append(piece)
        return b"".join(pieces)

    async def _read_ciphertext(self) -> None:
        if ciphertext := await self.socket.recv(READ_SIZE):
            self.channel.receive_data(ciphertext)
        else:
            self.channel.receive_eof()

    def collect(self) -> None:
        """Collect what must be written to the socket."""
        if self.ciphertext.buffered_amount < OUTGOING_LIMIT:
            self.ciphertext.add(self.channel.data_to_send())

    async def write(self) -> None:
        """Write some ciphertext."""
        self.ciphertext.taken(await _send(self.socket, self.ciphertext))

    def abort(self) -> None:
        """Discard ciphertext, and close the socket."""
        self.ciphertext.tear()
        self.socket.close()

    async def do_handshake(self) -> None:
        """Do the TLS handshake.

        Raises:
            ssl.SSLError: it failed.
            OSError: the TCP connection is broken.
        """
        channel = self.channel
        channel.start()
        await self._write_all()
        while not channel.handshake_complete:
            await self._read_ciphertext()
            # If the handshake failed, the peer gets an alert.
            await self._write_all()
            if channel.failure is not None:
                raise channel.failure

    async def write_at_once(self) -> None:
        """Write as much ciphertext as the socket takes, without waiting."""
        self.collect()
        with trio.CancelScope(shield=True, deadline=trio.current_time() + GRACE), contextlib.suppress(OSError):
            while self.ciphertext and _takes_data(self.socket):
                await self.write()

    async def _write_all(self) -> None:
        self.collect()
        while self.ciphertext:
            await self.write()
            self.collect()

    # ------------------------------------------------------------------------------------------------ a stream of trio

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        """Receive plaintext."""
        while (data := await self.receive(READ_SIZE if max_bytes is None else max_bytes)) is None:
            await self._write_all()
        return data

    async def send_all(self, data: BytesLike) -> None:
        """Send plaintext; if this is cancelled, some may be sent and some not."""
        await trio.lowlevel.checkpoint_if_cancelled()
        with memoryview(data) as view:
            start = 0
            while start < len(view):
                start += self.channel.send(view[start:])
                await self._write_all()

    async def wait_send_all_might_not_block(self) -> None:
        """Wait until the socket takes data."""
        await self.transport_stream.wait_send_all_might_not_block()

    async def aclose(self) -> None:
        """Close the stream; the peer gets close_notify if that takes no wait (RFC 8446 section 6.1)."""
        self.channel.close()
        await self.write_at_once()
        self.abort()
        await trio.lowlevel.checkpoint()


class TLSWire(Wire):
    """A stream with TLS over memory; parameters as for :class:`Wire`."""

    stream: TLSStream

    def __init__(self, stream: TLSStream) -> None:
        super().__init__(stream)
        self._written = 0
        self._ending = False

    @property
    def wants_data(self) -> bool:  # type: ignore[override]
        """Whether :meth:`receive` may be called now; if not, ciphertext must be written first."""
        return self.stream.channel.wants_data or self.stream.channel.ended

    @property
    def pending(self) -> bool:
        """Whether there is something to write: plaintext, ciphertext, or the end of the stream."""
        return bool(self.outbox) or self.outbox.at_end or bool(self.stream.ciphertext) or self._ending

    @property
    def sent(self) -> int:
        """Number of bytes of the write buffer that were written, with all of their ciphertext."""
        return self._written

    @property
    def buffered_amount(self) -> int:
        """Number of bytes that wait to be written."""
        return self.outbox.buffered_amount + self.stream.ciphertext.buffered_amount

    def ready(self) -> bool:
        """Return whether :meth:`write` will not wait."""
        return _takes_data(self.stream.socket)

    async def receive(self) -> BytesLike | None:
        """Read from the network; see :meth:`Wire.receive`."""
        return await self.stream.receive()

    def receive_rest(self) -> BytesLike:
        """Return what has arrived; see :meth:`Wire.receive_rest`."""
        return self.stream.receive_rest()

    async def write(self) -> None:
        """Write some of the write buffer, or the end of the stream; see :meth:`Wire.write`."""
        outbox, stream = self.outbox, self.stream
        # Plaintext is encrypted only when no ciphertext waits, so that it is known which plaintext was written.
        if not stream.ciphertext:
            if outbox:
                outbox.taken(stream.channel.send(outbox.next_piece()))
            elif outbox.at_end:
                outbox.end_sent()
                stream.channel.close()
                self._ending = True
            stream.collect()
        if stream.ciphertext:
            await stream.write()
        if not stream.ciphertext:
            self._written = outbox.sent
            if self._ending:
                self._ending = False
                _shut_down(stream.socket)

    async def write_alert(self) -> None:
        """Write the alert of TLS; see :meth:`Wire.write_alert`."""
        if self.stream.channel.failure is not None:
            await self.stream.write_at_once()

    def abort(self) -> None:
        """Discard the write buffer, and close the socket; whoever reads or writes gets an error."""
        super().abort()
        self._ending = False
        self.stream.abort()

    async def aclose(self) -> None:
        """Close the socket."""
        self.stream.abort()


async def close_now(resource: trio.abc.AsyncResource) -> None:
    """Close a stream or a listener without ceremony, even if this is cancelled.

    An error is ignored: nothing can be done about it, and it must not replace the exception that the caller handles,
    or end the other connections of a server.

    Parameters:
        resource: the stream or the listener.
    """
    # Without the shield, the cancellation would replace the exception that the caller handles.
    with trio.CancelScope(shield=True), contextlib.suppress(Exception):
        await trio.aclose_forcefully(resource)


def wire_for(stream: Any) -> Wire:
    """Return the wire that suits a stream best."""
    if isinstance(stream, trio.SocketStream):
        return SocketWire(stream)
    return TLSWire(stream) if isinstance(stream, TLSStream) else Wire(stream)


async def start_tls(
    stream: Any, context: Any, *, server_side: bool = False, server_hostname: str | None = None
) -> trio.abc.Stream:
    """Start TLS on a stream, and do the handshake.

    Parameters:
        stream: the stream; after an exception, it is closed.
        context: the :class:`ssl.SSLContext`.
        server_side: whether our end is the server.
        server_hostname: the name for SNI (RFC 6066 section 3) and for checking the server's certificate.

    Returns:
        The stream with TLS.

    Raises:
        OSError: the handshake failed, or the TCP connection is broken; :exc:`ssl.SSLError` is one.
        trio.BrokenResourceError: the same, of a stream that isn't a socket.
        ValueError: ``server_hostname`` is missing, or can't be checked.
    """
    secured: TLSStream | trio.SSLStream[Any]
    try:
        if isinstance(stream, trio.SocketStream | TLSStream):
            channel = TLSChannel(context, server_side=server_side, server_hostname=server_hostname)
            secured = TLSStream(stream, channel)
        else:
            secured = trio.SSLStream(
                stream, context, server_side=server_side, server_hostname=server_hostname, https_compatible=True
            )
        await secured.do_handshake()
    except BaseException:
        await close_now(stream)
        raise
    return secured


def socket_of(stream: Any) -> Any:
    """Return the socket below a stream; None if there is none, or if it isn't known."""
    while not isinstance(stream, trio.SocketStream):
        stream = getattr(stream, "transport_stream", None)
        if stream is None:
            return None
    return stream.socket


async def _send(sock: trio.socket.SocketType, outbox: Outbox) -> int:
    """Send what comes next; return the number of bytes taken. If this is cancelled, none were taken."""
    pieces = outbox.next_pieces()
    return await (sock.send(pieces[0]) if len(pieces) == 1 else sock.sendmsg(pieces))


def _received(sock: trio.socket.SocketType) -> bytes:
    """Return what has arrived at a socket, at most ``REST_SIZE`` bytes of it, without waiting."""
    # trio's own method waits. In tests there may be no socket of the kernel.
    with contextlib.suppress(OSError), socket.fromfd(sock.fileno(), sock.family, sock.type) as ours:
        ours.settimeout(0)
        return ours.recv(REST_SIZE)
    return b""


def _shut_down(sock: trio.socket.SocketType) -> None:
    # If the peer has reset the connection, reading reports it.
    with contextlib.suppress(OSError):
        sock.shutdown(socket.SHUT_WR)


def _takes_data(sock: trio.socket.SocketType) -> bool:
    """Return whether a socket takes data at once, or reports an error."""
    if sock.fileno() < 0:
        return False
    if hasattr(select, "poll"):
        poll = select.poll()
        poll.register(sock, select.POLLOUT)
        return bool(poll.poll(0))
    return bool(select.select([], [sock], [], 0)[1])
