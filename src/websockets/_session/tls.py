"""TLS without a socket: ciphertext in, plaintext out; plaintext in, ciphertext out (RFC 8446, RFC 5246).

May know: the ``ssl`` module's memory BIOs, which are buffers and never wait. Must not know: sockets, event loops,
threads, time, and the meaning of the plaintext. It imports ``ssl``, so it is imported only for connections with TLS.

A front-end reports events of the network (:meth:`TLSChannel.receive_data`, :meth:`TLSChannel.receive_eof`) or requests
of the application (:meth:`TLSChannel.send`, :meth:`TLSChannel.close`). Then it collects plaintext
(:meth:`TLSChannel.read`) and ciphertext (:meth:`TLSChannel.data_to_send`). Reading may produce ciphertext, such as an
alert or the answer to a key update, so ciphertext is collected last. Time limits belong to the front-end. A channel
isn't thread-safe: a front-end for threads holds its lock around each call.

Errors of the peer never raise here. A failure is kept in :attr:`TLSChannel.failure`, because an alert still has to be
sent before the front-end raises it.

Memory is bounded. Plaintext isn't buffered: received data stays encrypted until ``read()`` asks for it, and ``send()``
takes only as much as there is room for. Front-ends read from the network only while :attr:`TLSChannel.wants_data` is
true. Each key update must be answered; if a peer sends many and doesn't read the answers, reading stops at
``OUTGOING_LIMIT``. The memory BIOs never shrink, so they get one slice at a time; the rest waits in buffers that do
shrink.

Computing is bounded, too. A key update has 27 bytes and costs more time than a message. So a flood of key updates, or
of other records without plaintext, fails after ``SILENT_LIMIT`` bytes.

The context of the user is never changed. Two rules apply, whatever its options are:

- Renegotiation, which only TLS 1.2 and older versions have, is refused: it would let a peer change its identity, or
  cost computing time, in the middle of a connection. If the context sets ``OP_NO_RENEGOTIATION``, OpenSSL would refuse
  with an alert and continue; if not, OpenSSL may accept. Here the channel fails in both cases. It recognizes a request
  by the type of its record, which isn't encrypted in these versions.
- The end of the stream without close_notify is distinguished from an orderly end, although contexts of Python set
  ``OP_IGNORE_UNEXPECTED_EOF``: OpenSSL never learns of the end of the stream.
"""

from __future__ import annotations

import ssl
from typing import Any, Final

from ..exceptions import InvalidState
from ..typing import BytesLike
from .tls_records import RecordTypes, last_boundary, missing_bytes
from .tls_states import Event, Incoming, Outgoing, after

__all__ = ["INCOMING_LIMIT", "OUTGOING_LIMIT", "Incoming", "Outgoing", "TLSChannel"]

# Bytes of ciphertext that wait to be decrypted, above which reading from the network should pause.
INCOMING_LIMIT: Final = 2**16

# Bytes of ciphertext that wait to be sent, above which no plaintext is taken and nothing more is decrypted.
OUTGOING_LIMIT: Final = 2**16

# Maximum number of bytes received without any plaintext. Session tickets, a few key updates and part of a record need
# fewer.
SILENT_LIMIT: Final = 2**17

# Maximum number of bytes of plaintext in a record (RFC 8446 section 5.1).
RECORD: Final = 2**14

# Bytes of plaintext that OpenSSL encrypts at once: two records.
CHUNK: Final = 2 * RECORD

# Maximum number of bytes that encrypt() takes: a full record, and the rest of a message that just doesn't fit into one.
# Memory BIOs don't shrink, so this bounds the memory of each connection.
DIRECT: Final = RECORD + RECORD // 2

# Bytes that OpenSSL gets at once: a whole record with its header and padding.
SLICE: Final = RECORD + 2**11

# Maximum number of bytes of ciphertext in one piece for the network. It must fit into the empty outer channel, for TLS
# in TLS.
PIECE: Final = 2**15


# The usual states as constants, because code that runs for each record uses them.
_READABLE: Final = Incoming.OPEN
_WRITABLE: Final = Outgoing.OPEN


class TLSChannel:
    """One end of a TLS connection, without I/O.

    Parameters:
        context: the user's context; it isn't changed.
        server_side: whether this end is the server.
        server_hostname: the name for SNI (RFC 6066 section 3) and for checking the server's certificate; clients only.
        needs_name: whether a context that checks the name needs one; asyncio lets programs leave out the check.

    Raises:
        ValueError: ``server_hostname`` is missing although the context checks it, isn't a host name, or is given to
            a server.
    """

    incoming: Incoming = Incoming.HANDSHAKE
    outgoing: Outgoing = Outgoing.HANDSHAKE
    # Why TLS failed: an exception from ``ssl``, or an ``SSLError`` of ours. It has no traceback, which would keep other
    # objects in memory.
    failure: ssl.SSLError | None = None
    # The event after the waiting ciphertext: EOF, or FAILURE if the peer asked for renegotiation.
    _behind: Event | None = None
    _records: RecordTypes | None = None  # TLS 1.3 needs none
    _silent: int = 0  # bytes received since the last plaintext

    def __init__(
        self,
        context: ssl.SSLContext,
        *,
        server_side: bool,
        server_hostname: str | None = None,
        needs_name: bool = True,
    ) -> None:
        # wrap_socket() makes these checks. wrap_bio() would silently not check the name.
        if server_side and server_hostname is not None:
            raise ValueError("server_hostname is for clients")
        if needs_name and context.check_hostname and not server_side and not server_hostname:
            raise ValueError("the context checks the host name, so server_hostname is needed")
        self._input, self._output = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._input, self._output, server_side, server_hostname)
        self._waiting = bytearray()  # ciphertext that OpenSSL's input has no room for yet
        self._pieces: list[bytes] = []  # ciphertext taken from OpenSSL's output
        self._pieces_size = 0
        self._held = b""  # plaintext decrypted before a reader asked for it
        self._tail = b""  # the record that isn't complete, if OpenSSL gets complete ones only

    # ------------------------------------------------------------------------------------------------------------ ask

    @property
    def ssl_object(self) -> ssl.SSLObject:
        """The underlying ``ssl.SSLObject``, to get information only; reading or writing would break the channel."""
        return self._tls

    @property
    def handshake_complete(self) -> bool:
        """Whether the handshake succeeded."""
        return self._tls.version() is not None and self.outgoing is not Outgoing.HANDSHAKE

    @property
    def ended(self) -> bool:
        """Whether ``read()`` has returned all plaintext that will ever come; :attr:`incoming` says how it ended."""
        return self.incoming is not _READABLE and self.incoming is not Incoming.HANDSHAKE and not self._held

    @property
    def wants_data(self) -> bool:
        """Whether ciphertext should be read from the network now.

        While it is False, ``receive_data()`` still accepts data, but then the caller must limit the memory.
        """
        return (
            not self.ended
            and self._behind is None
            and len(self._waiting) + self._input.pending < INCOMING_LIMIT
            and self.unsent < OUTGOING_LIMIT
        )

    @property
    def quiet(self) -> bool:
        """Whether plaintext may follow, and there is nothing to do until more ciphertext arrives."""
        return (
            self.incoming is _READABLE
            and self.failure is None
            and self._behind is None
            and not (self._waiting or self._held or self._pieces)
            and not (self._input.pending or self._output.pending or self._tls.pending())
        )

    @property
    def unsent(self) -> int:
        """Number of bytes of ciphertext that ``data_to_send()`` would return."""
        return self._pieces_size + self._output.pending

    @property
    def room(self) -> int:
        """Number of bytes of plaintext that ``send()`` takes now."""
        return max(OUTGOING_LIMIT - self.unsent, 0) if self.outgoing is _WRITABLE else 0

    def version(self) -> str | None:
        """Return the version that was negotiated, such as ``"TLSv1.3"``; None before the handshake is complete."""
        return self._tls.version()

    def cipher(self) -> tuple[str, str, int] | None:
        """Return the cipher's name, the version that defines it, and its secret bits; None before there is one."""
        return self._tls.cipher()

    def selected_alpn_protocol(self) -> str | None:
        """Return the protocol that was negotiated by ALPN (RFC 7301), or None."""
        return self._tls.selected_alpn_protocol()

    def getpeercert(self, binary_form: bool = False) -> Any:
        """Return the peer's certificate, as ``ssl.SSLSocket.getpeercert()`` does.

        Raises:
            ValueError: the handshake isn't complete.
        """
        return self._tls.getpeercert(binary_form)

    # ----------------------------------------------------------------------------------------------------------- tell

    def receive_data(self, data: BytesLike) -> None:
        """Take ciphertext from the network, and carry on with the handshake until it is complete.

        Ciphertext that arrives after close_notify or after a failure is discarded (RFC 8446 section 6.1).

        Raises:
            InvalidState: the stream has ended.
        """
        if self.incoming is _READABLE:
            if self._behind is Event.EOF:
                raise InvalidState("data after the end of the stream")
            if self._tail:
                data, self._tail = self._tail + data, b""
            self._admit(data)
        elif self.incoming is Incoming.HANDSHAKE:
            self._waiting += data
            self._shake_hands()

    def receive_eof(self) -> None:
        """Report the end of the stream. Data received before it can still be read.

        During the handshake it is a failure; later, without close_notify, :attr:`incoming` becomes TRUNCATED.
        """
        if self.incoming is Incoming.HANDSHAKE:
            text = "the peer ended the connection during the TLS handshake"
            self._fail(ssl.SSLEOFError(ssl.SSL_ERROR_EOF, text))
        elif self.incoming is _READABLE:
            # A request for renegotiation came before the end of the stream, and counts first.
            self._behind = self._behind or Event.EOF
            self._settle()

    # ----------------------------------------------------------------------------------------------------------- wish

    def start(self) -> None:
        """Begin the handshake. After that, a client has data to send; a server waits for its peer."""
        if self.incoming is Incoming.HANDSHAKE:
            self._shake_hands()

    def send(self, data: BytesLike) -> int:
        """Encrypt as much plaintext as there is :attr:`room` for.

        Parameters:
            data: plaintext.

        Returns:
            The number of bytes taken: 0 before the handshake is complete, and while ``OUTGOING_LIMIT`` bytes wait to be
            sent. Send the rest later, after ``data_to_send()``.

        Raises:
            InvalidState: the channel was closed, or failed.
        """
        if self.outgoing is not _WRITABLE:
            if self.outgoing is Outgoing.HANDSHAKE:
                return 0
            raise InvalidState(f"can't send plaintext: {self.outgoing.value}") from self.failure
        view = memoryview(data)
        room = OUTGOING_LIMIT - self._pieces_size - self._output.pending
        if 0 < view.nbytes <= RECORD and view.nbytes <= room:
            return self._encrypt(data)
        # One record at a time, so that the output stays small.
        view, size, taken = view.cast("B"), min(view.nbytes, room), 0
        while taken < size and self.outgoing is _WRITABLE:
            taken += self._encrypt(view[taken : min(taken + RECORD, size)])
        return taken

    def encrypt(self, data: bytes) -> bytes | None:
        """Encrypt plaintext that isn't large: :meth:`send` and :meth:`data_to_send` in one, for the usual case.

        Returns:
            All ciphertext that is to be sent; None if nothing was done, because the case isn't usual.
        """
        if self.outgoing is not _WRITABLE or self._pieces or self._output.pending or not 0 < len(data) <= DIRECT:
            return None
        self._write(data)
        return self._output.read()

    def encrypt_all(self, data: memoryview) -> list[bytes]:
        """Encrypt plaintext of any size: :meth:`send` and :meth:`data_to_send` in one, without a limit.

        Returns:
            All ciphertext that is to be sent. If TLS fails, a part is missing, and :attr:`failure` is set.
        """
        pieces, start, size = self.data_to_send(), 0, len(data)
        try:
            while start < size and self.outgoing is _WRITABLE:
                start += self._tls.write(data[start : start + CHUNK])
                pieces.append(self._output.read())
        except ssl.SSLError as exc:
            self._fail(exc)
        except BaseException as exc:
            self._interrupted(exc)
            raise
        return pieces

    def close(self) -> None:
        """Close our half: send close_notify after all data that ``send()`` took. A second call has no effect.

        Data from the peer can still be read, until its own close_notify. A front-end may wait for that, until
        :attr:`ended` is true, or close the connection at once. Before the handshake is complete, no close_notify is
        sent, and the handshake is abandoned.
        """
        if self.outgoing is _WRITABLE:
            self._send_close_notify()
        if self.outgoing is _WRITABLE or self.outgoing is Outgoing.HANDSHAKE:
            self._apply(Event.CLOSE)

    # -------------------------------------------------------------------------------------------------------- collect

    def read(self, size: int = INCOMING_LIMIT) -> bytes:
        """Decrypt and return plaintext.

        Parameters:
            size: maximum number of bytes to return.

        Returns:
            Plaintext. It is empty if there is none yet, or if there will be no more; :attr:`ended` tells which.
        """
        if self._held:
            piece, self._held = self._held[:size], self._held[size:]
            return piece
        pieces: list[bytes] = []
        while size > 0 and self._has_input():
            if piece := self._decrypt(min(size, RECORD)):
                pieces.append(piece)
                size -= len(piece)
        if self._behind is not None:
            self._settle()
        return b"".join(pieces)  # a single one isn't copied

    def decrypt(self, data: bytes) -> bytes | None:
        """Take ciphertext and decrypt all of it: :meth:`receive_data` and :meth:`read` in one, for the usual case.

        Returns:
            Plaintext; empty if a record isn't complete. None if there is anything else to do: go on as after
            ``receive_data()``, and nothing was read.
        """
        source, size = self._input, len(data)
        usual = self._records is None and not (self._waiting or self._held or self._pieces or self._tail)
        if not usual or self.incoming is not _READABLE or self._behind is not None:
            self.receive_data(data)
            plaintext = self.read()
            if self.quiet:
                return plaintext
            self.unread(plaintext)
            return None
        if size > SLICE:
            plaintext = self._decrypt_slices(data)
        else:
            self._silent += size
            source.write(data)
            plaintext = self._decrypt(RECORD) or b""
            while source.pending and self.incoming is _READABLE:
                plaintext += self._decrypt(RECORD) or b""
        if self.incoming is _READABLE and not self._output.pending:
            return plaintext
        self._held = plaintext
        return None

    def _decrypt_slices(self, data: bytes) -> bytes:
        """Take a large piece of ciphertext, and decrypt all of it until there is something to answer."""
        source, pieces, start = self._input, [], 0
        with memoryview(data) as view:
            while start < len(data) and self.incoming is _READABLE:
                if self._output.pending:
                    self.receive_data(view[start:])
                    break
                source.write(view[start : start + SLICE])
                self._silent += min(SLICE, len(data) - start)
                start += SLICE
                while source.pending and self.incoming is _READABLE:
                    pieces.append(self._decrypt(RECORD) or b"")
        return b"".join(pieces)

    def unread(self, data: bytes) -> None:
        """Give back plaintext that was read too early: the next reads return it first."""
        self._held = data + self._held

    def read_into(self, buffer: bytearray | memoryview) -> int:
        """Decrypt plaintext into a buffer, without a copy.

        Parameters:
            buffer: where to write, from its beginning.

        Returns:
            The number of bytes written; 0 has the same meaning as an empty result of :meth:`read`.
        """
        view, filled = memoryview(buffer).cast("B"), 0
        if self._held:
            piece = self.read(len(view))
            view[: len(piece)] = piece
            return len(piece)
        while filled < len(view) and self._has_input():
            filled += self._decrypt(len(view) - filled, view[filled:]) or 0
        if self._behind is not None:
            self._settle()
        return filled

    def decrypt_into(self, data: memoryview, buffer: memoryview) -> tuple[int, bool]:
        """Take ciphertext and decrypt it into a buffer: :meth:`receive_data` and :meth:`read_into` in one.

        OpenSSL gets complete records only. So it never reports, at some cost, that the rest of a record is missing, and
        nothing is copied between. What the buffer has no room for can be read later.

        Parameters:
            data: ciphertext.
            buffer: where to write, from its beginning.

        Returns:
            The number of bytes written, and whether there is nothing to do until more ciphertext arrives.
        """
        if self._records is not None or self.incoming is not _READABLE:
            self.receive_data(data)
            return self.read_into(buffer), self.quiet
        filled, start, size, source, room = 0, 0, len(data), self._input, len(buffer)
        if self._tail:
            start = missing_bytes(self._tail, data)
            self._tail += data[:start]
            if last_boundary(self._tail, 0, 1):
                record, self._tail = self._tail, b""
                self._admit(record)
                filled = self.read_into(buffer)
        usual = self.quiet
        while start < size and self.incoming is _READABLE:
            end = last_boundary(data, start, 2 * SLICE)
            if end == start:
                self._tail = bytes(data[start:])
                break
            group, start = data[start:end], end
            if not usual:
                self._admit(group)
                filled += self.read_into(buffer[filled:])
                continue
            # The same in fewer calls.
            self._silent += len(group)
            source.write(group)
            try:
                while source.pending and filled < room:
                    count: Any = self._tls.read(RECORD, buffer[filled:])
                    if not count:
                        self._close_notify()
                        break
                    filled += count
                    self._silent = 0
            except BaseException as exc:
                self._not_decrypted(exc)
            usual = not source.pending
        return filled, self.quiet

    def data_to_send(self, limit: int | None = None) -> list[bytes]:
        """Return ciphertext for the network; the caller must send each piece once, in this order.

        Parameters:
            limit: maximum number of bytes to return; pieces aren't divided. None (the default) for all.
        """
        if self._output.pending:
            self._take_out()
        if limit is None or limit >= self._pieces_size:
            pieces, self._pieces, self._pieces_size = self._pieces, [], 0
            return pieces
        count, total = 0, 0
        while total + len(self._pieces[count]) <= limit:
            total += len(self._pieces[count])
            count += 1
        pieces = self._pieces[:count]
        del self._pieces[:count]
        self._pieces_size -= total
        return pieces

    # ------------------------------------------------------------------------------------------------------ internals

    def _apply(self, event: Event) -> None:
        self.incoming, self.outgoing = after(self.incoming, self.outgoing, event)

    def _fail(self, failure: ssl.SSLError) -> None:
        self.failure = failure.with_traceback(None)
        self._waiting.clear()
        self._apply(Event.FAILURE)

    def _interrupted(self, exc: BaseException) -> None:
        """Fail because a signal handler, or a callback of the context, raised in the middle of a call.

        OpenSSL may have decrypted or encrypted a record without returning it, so going on could lose or repeat data.
        """
        self._fail(ssl.SSLError(ssl.SSL_ERROR_SSL, f"TLS was interrupted by {type(exc).__name__}"))

    def _shake_hands(self) -> None:
        """Continue the handshake as far as the received ciphertext allows."""
        while not self.ended:
            self._feed()
            try:
                self._tls.do_handshake()
            except ssl.SSLWantReadError:
                if not self._waiting:
                    return
            except ssl.SSLError as exc:
                self._fail(exc)
            except BaseException as exc:
                self._interrupted(exc)
                raise
            else:
                self._apply(Event.COMPLETE)
                return self._admit_rest()

    def _admit_rest(self) -> None:
        """Check the ciphertext after the handshake again, because other rules apply to its records."""
        rest = self._input.read() + self._waiting
        self._waiting.clear()
        if self.version() == "TLSv1.3":
            end = last_boundary(rest, 0, len(rest))
            rest, self._tail = rest[:end], rest[end:]
        else:
            self._records = RecordTypes()
        self._admit(rest)

    def _admit(self, data: BytesLike) -> None:
        """Keep ciphertext until it is read; discard everything after a request for renegotiation."""
        if self._behind is not None:
            return
        if self._records is not None and (end := self._records.find(data)) >= 0:
            self._behind = Event.FAILURE
            data = data[:end]
        self._silent += len(data)
        if self._waiting or self._input.pending + len(data) > SLICE:
            self._waiting += data
        else:
            self._input.write(data)

    def _feed(self) -> None:
        """Give OpenSSL the next slice of the waiting ciphertext."""
        if self._waiting:
            with memoryview(self._waiting) as view:
                self._input.write(view[:SLICE])
            del self._waiting[:SLICE]

    def _has_input(self) -> bool:
        """Return whether decrypting may give plaintext, after providing input for OpenSSL."""
        if self.incoming is not _READABLE or self._pieces_size + self._output.pending >= OUTGOING_LIMIT:
            return False
        if self._input.pending:
            return True
        if self._waiting:
            self._feed()
            return True
        return self._tls.pending() > 0

    def _decrypt(self, size: int, buffer: memoryview | None = None) -> Any:
        """Read the rest of a record: return bytes, or with a buffer their number; falsy if there is no plaintext."""
        try:
            plaintext: Any = self._tls.read(size, buffer)
        except BaseException as exc:
            return self._not_decrypted(exc)
        self._silent = 0
        if not plaintext:
            self._close_notify()
        return plaintext

    def _not_decrypted(self, exc: BaseException) -> None:
        """Process an exception of OpenSSL's read."""
        if isinstance(exc, ssl.SSLWantReadError):
            # What OpenSSL hasn't seen yet may have data.
            if self._silent - len(self._waiting) > SILENT_LIMIT:
                self._refuse("the peer sent too many records without data")
        elif isinstance(exc, ssl.SSLZeroReturnError):
            self._close_notify()
        elif isinstance(exc, ssl.SSLError):
            self._fail(exc)
        else:
            self._interrupted(exc)
            raise exc

    def _close_notify(self) -> None:
        """Process close_notify: OpenSSL raises an error, or returns no bytes if ours was sent before."""
        self._silent = 0
        self._waiting.clear()
        self._apply(Event.CLOSE_NOTIFY)

    def _settle(self) -> None:
        """Apply the event after the waiting ciphertext, when all ciphertext is decrypted."""
        if self.incoming is not _READABLE or self._held or self._input.pending or self._waiting or self._tls.pending():
            return
        if self._behind is Event.EOF:
            self._apply(Event.EOF)
        else:
            self._refuse("the peer asked for renegotiation, which is refused")

    def _refuse(self, text: str) -> None:
        """Fail for a reason that OpenSSL doesn't know. It can't send an alert for it, so the peer gets close_notify."""
        if self.outgoing is _WRITABLE:
            self._send_close_notify()
        if self.failure is None:
            self._fail(ssl.SSLError(ssl.SSL_ERROR_SSL, text))

    def _encrypt(self, data: BytesLike) -> int:
        """Encrypt one record; return the number of bytes taken."""
        taken = self._write(data)
        if self._output.pending >= RECORD:
            self._take_out()
        return taken

    def _write(self, data: BytesLike) -> int:
        """Give plaintext to OpenSSL, which takes all of it unless it fails; return the number of bytes taken."""
        try:
            return self._tls.write(data)
        except ssl.SSLError as exc:
            self._fail(exc)
            return 0
        except BaseException as exc:
            self._interrupted(exc)
            raise

    def _take_out(self) -> None:
        """Move ciphertext from OpenSSL's output to the list of pieces."""
        while self._output.pending:
            piece = self._output.read(PIECE)
            self._pieces.append(piece)
            self._pieces_size += len(piece)

    def _send_close_notify(self) -> None:
        """Send close_notify, and prevent OpenSSL from waiting for the peer's.

        ``unwrap()`` looks for the peer's close_notify at once, and treats plaintext before it as an error. So the input
        is emptied before the call, and restored afterwards.
        """
        if pending := self._tls.pending():
            self._held += self._decrypt(pending) or b""
        rest = self._input.read()
        try:
            self._tls.unwrap()
        except ssl.SSLWantReadError:
            pass
        except ssl.SSLError as exc:
            self._fail(exc)
        except BaseException as exc:
            self._interrupted(exc)
            raise
        self._waiting[:0] = rest
