"""TLS inside of TLS, without a socket: a channel whose ciphertext goes through another one (RFC 8446).

May know: the channels of :mod:`websockets._session.tls`. Must not know: sockets, event loops, threads, time, and the
meaning of the plaintext.

A connection to a server through a proxy with TLS has two handshakes: with the proxy, and inside of that with the
server. :class:`NestedChannel` looks like one channel, so that a front-end needn't know.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeAlias

from ..typing import BytesLike
from .tls import INCOMING_LIMIT, Incoming, Outgoing, TLSChannel

if TYPE_CHECKING:
    import ssl

__all__ = ["Channel", "NestedChannel", "relay"]


class NestedChannel:
    """A channel inside of another one, with the interface of :class:`~websockets._session.tls.TLSChannel`.

    Parameters:
        inner: the channel for the server, before its handshake.
        outer: the channel for the proxy, after its handshake.
    """

    def __init__(self, inner: TLSChannel, outer: TLSChannel) -> None:
        self._inner, self._outer = inner, outer
        self._closing = False

    # ------------------------------------------------------------------------------------------------------------ ask

    @property
    def ssl_object(self) -> ssl.SSLObject:
        """The ``ssl.SSLObject`` of TLS with the server, to get information only."""
        return self._inner.ssl_object

    @property
    def handshake_complete(self) -> bool:
        """Whether the handshake with the server succeeded."""
        return self._inner.handshake_complete

    @property
    def incoming(self) -> Incoming:
        """State of the receiving half."""
        return self._inner.incoming

    @property
    def outgoing(self) -> Outgoing:
        """State of the sending half."""
        return self._inner.outgoing if self._outer.failure is None else Outgoing.FAILED

    @property
    def failure(self) -> ssl.SSLError | None:
        """Why TLS failed, with the proxy or with the server."""
        return self._outer.failure or self._inner.failure

    @property
    def ended(self) -> bool:
        """Whether ``read()`` has returned all plaintext that will ever come; :attr:`incoming` says how it ended."""
        return self._inner.ended

    @property
    def wants_data(self) -> bool:
        """Whether ciphertext should be read from the network now."""
        return not self._inner.ended and self._outer.wants_data

    @property
    def unsent(self) -> int:
        """Number of bytes of ciphertext that wait to be sent, on both floors; 0 only if there are none."""
        return self._inner.unsent + self._outer.unsent

    @property
    def room(self) -> int:
        """Number of bytes of plaintext that ``send()`` takes now."""
        return self._inner.room if self.outgoing is Outgoing.OPEN else 0

    def version(self) -> str | None:
        """Return the version of TLS with the server; None before the handshake is complete."""
        return self._inner.version()

    def cipher(self) -> tuple[str, str, int] | None:
        """Return the cipher for the server; None before there is one."""
        return self._inner.cipher()

    def selected_alpn_protocol(self) -> str | None:
        """Return the protocol that was negotiated with the server by ALPN (RFC 7301), or None."""
        return self._inner.selected_alpn_protocol()

    def getpeercert(self, binary_form: bool = False) -> Any:
        """Return the certificate of the server, as ``ssl.SSLSocket.getpeercert()`` does."""
        return self._inner.getpeercert(binary_form)

    # --------------------------------------------------------------------------------------------------- tell and wish

    def receive_data(self, data: BytesLike) -> None:
        """Take ciphertext from the network."""
        self._outer.receive_data(data)
        relay(self._inner, self._outer)

    def decrypt(self, data: bytes) -> bytes | None:
        """Take ciphertext from the network; as of one channel, but no case is usual here."""
        self.receive_data(data)
        return None

    def encrypt(self, data: bytes) -> bytes | None:
        """Do nothing; see :meth:`decrypt`."""
        return None

    def receive_eof(self) -> None:
        """Report the end of the stream."""
        self._outer.receive_eof()
        relay(self._inner, self._outer)

    def start(self) -> None:
        """Begin the handshake with the server."""
        self._inner.start()
        relay(self._inner, self._outer)

    def send(self, data: BytesLike) -> int:
        """Encrypt as much plaintext as there is :attr:`room` for; return the number of bytes taken."""
        taken = self._inner.send(data)
        relay(self._inner, self._outer)
        return taken

    def close(self) -> None:
        """Close our half: send close_notify to the server, and then to the proxy."""
        self._inner.close()
        self._closing = True
        self._carry()

    # -------------------------------------------------------------------------------------------------------- collect

    def read(self, size: int = INCOMING_LIMIT) -> bytes:
        """Decrypt and return plaintext; none if there is none yet, or if there will be no more."""
        data = self._inner.read(size)
        # Reading makes room for ciphertext, which may be what is missing of a record.
        while relay(self._inner, self._outer) and not data:
            data = self._inner.read(size)
        return data

    def unread(self, data: bytes) -> None:
        """Give back plaintext that was read too early: the next reads return it first."""
        self._inner.unread(data)

    def read_into(self, buffer: bytearray | memoryview) -> int:
        """Decrypt plaintext into a buffer; return the number of bytes written."""
        filled = self._inner.read_into(buffer)
        while relay(self._inner, self._outer) and not filled:
            filled = self._inner.read_into(buffer)
        return filled

    def data_to_send(self, limit: int | None = None) -> list[bytes]:
        """Return ciphertext for the network.

        Parameters:
            limit: maximum number of bytes to return; pieces aren't divided. None (the default) for all.
        """
        self._carry()
        pieces = self._outer.data_to_send(limit)
        self._carry()
        while limit is None and self._outer.unsent:
            pieces += self._outer.data_to_send()
            self._carry()
        return pieces

    def _carry(self) -> None:
        """Carry ciphertext; when the last of it is in the outer channel, close that one too if we close."""
        relay(self._inner, self._outer)
        if self._closing and not self._inner.unsent:
            self._outer.close()


def relay(inner: TLSChannel, outer: TLSChannel) -> bool:
    """Carry the ciphertext of one channel through another, in both directions, for TLS in TLS.

    Call it after each event or request for either channel, and after reading from ``inner``. Then send the ciphertext
    of ``outer``, and read plaintext from ``inner``. If ``outer`` has failed, its ``failure`` is the reason; ``inner``
    only gets the end of its stream.

    Parameters:
        inner: the channel whose ciphertext is the plaintext of the other.
        outer: the channel that is nearer to the network.

    Returns:
        Whether ``inner`` received anything.
    """
    received, moving = False, True
    while moving:
        moving = False
        while pieces := inner.data_to_send(outer.room):
            # Join the pieces, because each call adds the overhead of a record.
            outer.send(b"".join(pieces))
            moving = True
        if inner.wants_data and (data := outer.read()):
            inner.receive_data(data)
            received = moving = True
    if outer.ended and not inner.ended:
        inner.receive_eof()
    return received


Channel: TypeAlias = TLSChannel | NestedChannel
