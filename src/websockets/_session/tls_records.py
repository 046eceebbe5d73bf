"""Where the records of TLS begin and end in a stream of ciphertext (RFC 8446 section 5.1, RFC 5246 section 6.2.1).

May know: the header of a record, which isn't encrypted. Must not know: what is in a record, channels, ``ssl``.
"""

from __future__ import annotations

from typing import Final

from ..typing import BytesLike

__all__ = ["RecordTypes", "last_boundary", "missing_bytes"]

# The type of a record with handshake messages, and the length of a record's header (RFC 5246 section 6.2.1).
HANDSHAKE_RECORD: Final = 22
HEADER: Final = 5

# Maximum number of bytes after the header in TLS 1.3 (RFC 8446 section 5.2), and the first byte of every version.
LONGEST: Final = 2**14 + 256
MAJOR: Final = 3


class RecordTypes:
    """Finds handshake records in the ciphertext of TLS 1.2, however it is divided (RFC 5246 section 6.2.1)."""

    def __init__(self) -> None:
        self._header = b""  # the beginning of a header that isn't complete
        self._skip = 0  # bytes left of the record that isn't complete

    def find(self, data: BytesLike) -> int:
        """Return the index in *data* at which the first handshake record begins; -1 if there is none."""
        position = self._skip
        if self._header:
            position = HEADER - len(self._header)
            self._header += data[:position]
            if len(self._header) < HEADER:
                return -1
            position += int.from_bytes(self._header[3:5], "big")
            self._header = b""
        size = len(data)
        while position < size:
            if data[position] == HANDSHAKE_RECORD:
                return position
            if position + HEADER > size:
                self._header = bytes(data[position:])
                break
            position += HEADER + (data[position + 3] << 8 | data[position + 4])
        self._skip = max(position - size, 0)
        return -1


def last_boundary(data: bytes | memoryview, start: int, limit: int) -> int:
    """Return the index at which the last complete record ends; ``start`` if none is complete.

    A header that no record of TLS 1.3 has makes the result the end of *data*: nobody should wait for more before
    OpenSSL sees it and fails.

    Parameters:
        data: ciphertext.
        start: the index at which a record begins.
        limit: number of bytes of complete records to look for; the first record may have more.
    """
    end, size, limit = start, len(data), start + limit
    while end + HEADER <= size:
        following = end + HEADER + (data[end + 3] << 8 | data[end + 4])
        if following > size:
            return size if following - end > HEADER + LONGEST or data[end + 1] != MAJOR else end
        if following > limit and end > start:
            break
        end = following
    return end


def missing_bytes(begun: bytes, data: memoryview) -> int:
    """Return the number of bytes at the beginning of *data* that belong to a record which isn't complete.

    Parameters:
        begun: the beginning of the record; it needn't have the whole header.
        data: the ciphertext after it.
    """
    header = begun[:HEADER] + data[: max(HEADER - len(begun), 0)]
    if len(header) < HEADER:
        return len(data)
    return min(HEADER + (header[3] << 8 | header[4]) - len(begun), len(data))
