"""Who receives, and a message that is read while it arrives: RFC 6455 section 5.4.

May know: the messages that wait to be read; who asks for one, as an object of any kind. Must not know: tasks, threads,
how waiting is done.

One may receive at a time. A message in fragments may be read piece by piece, and its reader may leave in the middle
without saying so. Then whoever receives next takes over, and gets the next message.
"""

from __future__ import annotations

import enum
from collections.abc import Callable
from typing import Any

from .._rules.messages import Assembly, Inbox, fragment_converter
from ..exceptions import ConcurrencyError
from ..frames import CloseCode
from ..typing import Data

__all__ = ["Progress", "Reading", "second_receiver", "undecodable"]


class Progress(enum.Enum):
    """What there is in place of a piece of a message."""

    WAIT = "the next piece hasn't arrived"
    END = "the message is over"


class Reading:
    """A message that is read piece by piece.

    Parameters:
        inbox: the messages that wait to be read; the next of them is read.
        decode: as for ``recv_streaming(decode=...)``.
        reader: who reads: a task, or a thread.

    Attributes:
        reader: who read from it last.
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
        """Whether the message came in several frames. If not, it is given as it is, and must yet be converted."""
        return self._assembly is not None

    def take(self) -> Data | Progress:
        """The next piece of the message; or that there is none yet, or none any more.

        Raises:
            UnicodeDecodeError: a binary message is no text, although ``decode`` is True.
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
        """Take in who asks for the next piece.

        Raises:
            ConcurrencyError: somebody else took over.
        """
        if self._given_up:
            raise ConcurrencyError("cannot go on with recv_streaming after another call of recv or recv_streaming")
        self.reader = reader

    def is_left(self, who: object, is_over: Callable[[Any], bool]) -> bool:
        """Whether nobody goes on with the message, so that ``who`` may take over.

        Parameters:
            who: who wants to receive. If it is the reader itself, it left the message.
            is_over: tells whether a reader has ended.
        """
        return self.reader is None or self.reader is who or is_over(self.reader)

    def give_up(self) -> None:
        """Be done with the message; what is missing of it will be ignored."""
        self._given_up = True
        if self._assembly is not None:
            self._inbox.release(self._assembly)


def second_receiver(name: str, kind: str) -> ConcurrencyError:
    """The exception for a call while somebody else receives.

    Parameters:
        name: what was called, ``"recv"`` or ``"recv_streaming"``.
        kind: what receives, in the words of the front-end: ``"coroutine"`` or ``"thread"``.
    """
    return ConcurrencyError(f"cannot call {name} while another {kind} is already running recv or recv_streaming")


def undecodable(exc: UnicodeDecodeError) -> tuple[CloseCode, str]:
    """The close code and the reason for a binary message that ``decode=True`` takes for text.

    Text was checked when it arrived, so only a binary message can fail.
    """
    return CloseCode.INVALID_DATA, f"{exc.reason} at position {exc.start}"
