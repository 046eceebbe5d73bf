"""Reading a message in fragments while it arrives (RFC 6455 section 5.4), with one receiver at a time.

May know: the receive queue; receivers, as objects of any type. Must not know: tasks, threads, how to wait.

Only one receiver is allowed at a time. A fragmented message may be read piece by piece, and its reader may leave in the
middle without a notice. Then the next receiver takes over, and gets the next message.
"""

from __future__ import annotations

import enum
import sys
from collections.abc import Callable
from typing import Any, Final

from .._rules.messages import Assembly, Inbox, fragment_converter
from ..exceptions import ConcurrencyError
from ..frames import CloseCode
from ..typing import Data

__all__ = ["COUNTS_REFERENCES", "Progress", "Reading", "second_receiver", "undecodable"]

#: Whether Python collects an object as soon as the last reference to it is gone, such as an iteration that was left.
COUNTS_REFERENCES: Final = sys.implementation.name == "cpython"


class Progress(enum.Enum):
    """A result in place of a piece of a message."""

    WAIT = "the next piece hasn't arrived"
    END = "the message is over"


class Reading:
    """A message that is read piece by piece.

    Parameters:
        inbox: the receive queue; its first message is read.
        decode: as for ``recv_streaming(decode=...)``.
        reader: the task or the thread that reads.

    Attributes:
        reader: the task or the thread that read the last piece.
    """

    __slots__ = ("_assembly", "_convert", "_decode", "_given_up", "_inbox", "_over", "reader")

    def __init__(self, inbox: Inbox, decode: bool | None, reader: object) -> None:
        self.reader: Any = reader
        self._inbox = inbox
        self._decode = decode
        self._assembly: Assembly | None = None
        self._convert: Callable[[bytes, bool], Data] = fragment_converter(False, False)
        self._over = self._given_up = False

    @property
    def fragmented(self) -> bool:
        """Whether the message has several frames; if not, it is returned whole and must be converted by the caller."""
        return self._assembly is not None

    def take(self) -> Data | Progress:
        """Return the next piece of the message; or WAIT if there is none yet, or END after the last one.

        Raises:
            UnicodeDecodeError: ``decode`` is True, and a binary message isn't UTF-8.
        """
        if self._over:
            return Progress.END
        if self._assembly is None:
            if not self._inbox.items:
                return Progress.WAIT
            first = self._inbox.items[0]
            if not isinstance(first, Assembly):
                self._over = True
                self._inbox.items.popleft()
                return first
            self._assembly = first
            self._convert = fragment_converter(self._decode, first.text)
        return self._take_piece(self._assembly)

    def _take_piece(self, assembly: Assembly) -> Data | Progress:
        piece = self._inbox.take(assembly)
        if piece is None:
            return Progress.END if assembly.complete else Progress.WAIT
        return self._convert(piece, assembly.complete and not assembly.waiting)

    def go_on(self, reader: object) -> None:
        """Note the task or the thread that asks for the next piece.

        Raises:
            ConcurrencyError: another receiver took over.
        """
        if self._given_up:
            raise ConcurrencyError("cannot go on with recv_streaming after another call of recv or recv_streaming")
        self.reader = reader

    def is_left(self, who: object, is_over: Callable[[Any], bool]) -> bool:
        """Return whether the reader has left the message, so that another receiver may take over.

        Parameters:
            who: the new receiver. If it is the reader itself, it has left the message.
            is_over: function that returns whether a reader has ended.
        """
        return self.reader is None or self.reader is who or is_over(self.reader)

    def give_up(self) -> None:
        """Leave the message; its missing fragments will be discarded."""
        self._given_up = True
        if self._assembly is not None:
            self._inbox.release(self._assembly)


def second_receiver(name: str, kind: str) -> ConcurrencyError:
    """Return the exception for a call while another receiver waits.

    Parameters:
        name: name of the method that was called, ``"recv"`` or ``"recv_streaming"``.
        kind: the kind of receiver of the front-end: ``"coroutine"`` or ``"thread"``.
    """
    return ConcurrencyError(f"cannot call {name} while another {kind} is already running recv or recv_streaming")


def undecodable(exc: UnicodeDecodeError) -> tuple[CloseCode, str]:
    """Return the close code and the reason for a binary message that isn't UTF-8, with ``decode=True``.

    Text messages are checked when they arrive, so only a binary message can fail.
    """
    return CloseCode.INVALID_DATA, f"{exc.reason} at position {exc.start}"
