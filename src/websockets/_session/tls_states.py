"""The states of a TLS channel as tables: what may still be received and sent, and what each event changes.

May know: events and their order (RFC 8446 section 6.1). Must not know: ciphertext, ``ssl``, how an event is noticed.
"""

from __future__ import annotations

import enum
from typing import Final

from ..exceptions import InvalidState

__all__ = ["INCOMING", "OUTGOING", "Event", "Incoming", "Outgoing", "after"]


class Incoming(enum.Enum):
    """State of the receiving half; once nothing more can be received, the reason."""

    HANDSHAKE = "the handshake isn't complete"
    OPEN = "plaintext may follow"
    CLOSED = "the peer sent close_notify: nothing is missing"
    TRUNCATED = "the stream ended without close_notify: data may be missing"
    ABANDONED = "we closed before the handshake was complete"
    FAILED = "TLS failed: see the failure"


class Outgoing(enum.Enum):
    """State of the sending half."""

    HANDSHAKE = "the handshake isn't complete"
    OPEN = "plaintext is accepted"
    CLOSED = "we closed"
    FAILED = "TLS failed: see the failure"


class Event(enum.Enum):
    """An event of a channel."""

    COMPLETE = "the handshake is complete"
    CLOSE_NOTIFY = "the peer sent close_notify"
    EOF = "the stream ended"
    CLOSE = "we close"
    FAILURE = "TLS failed"


# None means that the event can't happen. After a half has ended, its state never changes. The peer's close_notify
# leaves our half open, also in TLS 1.2, where RFC 5246 section 7.2.1 requires an answer at once: the front-end decides.
INCOMING: Final = {
    #                    COMPLETE CLOSE_NOTIFY EOF        CLOSE        FAILURE
    Incoming.HANDSHAKE: ("OPEN",  None,     None,        "ABANDONED", "FAILED"),
    Incoming.OPEN:      (None,    "CLOSED", "TRUNCATED", "OPEN",      "FAILED"),
    Incoming.CLOSED:    (None,    None,     None,        "CLOSED",    "CLOSED"),
    Incoming.TRUNCATED: (None,    None,     None,        "TRUNCATED", "TRUNCATED"),
    Incoming.ABANDONED: (None,    None,     None,        None,        None),
    Incoming.FAILED:    (None,    None,     None,        None,        None),
}  # fmt: skip

OUTGOING: Final = {
    #                    COMPLETE CLOSE_NOTIFY EOF      CLOSE     FAILURE
    Outgoing.HANDSHAKE: ("OPEN",  None,       None,     "CLOSED", "FAILED"),
    Outgoing.OPEN:      (None,    "OPEN",     "OPEN",   "CLOSED", "FAILED"),
    Outgoing.CLOSED:    (None,    "CLOSED",   "CLOSED", None,     "CLOSED"),
    Outgoing.FAILED:    (None,    None,       None,     None,     None),
}  # fmt: skip


def after(incoming: Incoming, outgoing: Outgoing, event: Event) -> tuple[Incoming, Outgoing]:
    """Return the states of both halves after an event.

    Raises:
        InvalidState: the event can't happen in these states.
    """
    column = list(Event).index(event)
    names = INCOMING[incoming][column], OUTGOING[outgoing][column]
    if names[0] is None or names[1] is None:
        raise InvalidState(f"{event.value}, but {incoming.value} and {outgoing.value}")
    return Incoming[names[0]], Outgoing[names[1]]
