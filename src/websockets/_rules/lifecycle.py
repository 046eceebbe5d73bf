"""The life of a connection as tables: RFC 6455 sections 4.1, 4.2, 5.5.1 and 7.1.

May know: what happened on each half of a connection, and what follows from it.
Must not know: bytes, frames, codes, time.

A connection is two half-machines: what we may still receive, and what we may still send. Neither alone is "the state";
the public :class:`State` is a projection of both. What must be done without being asked ("the peer closed and we have
not: send Close") is a row too: the reactions, applied until none fits. Nothing outside this file assigns state; an
illegal event raises and changes nothing.
"""

from __future__ import annotations

import enum
from typing import Final

from .._codec import SendingHalf
from ..exceptions import InvalidState

__all__ = ["Lifecycle", "Reaction", "Receive", "Receiving", "Send", "Sending", "Side", "State"]


class Side(enum.IntEnum):
    """Which end of the connection this is."""

    SERVER, CLIENT = range(2)


class State(enum.IntEnum):
    """State of a connection as RFC 6455 section 4.1 and 7.1 name it."""

    CONNECTING, OPEN, CLOSING, CLOSED = range(4)


class Receiving(enum.IntEnum):
    """What we may still receive: the opening handshake; frames; nothing that counts; nothing at all.

    REFUSED and DEAF both discard input until the end of the stream. They differ in what came before: REFUSED is an
    opening handshake that failed, DEAF a connection that was open.
    """

    OPENING, OPEN, REFUSED, DEAF, ENDED = range(5)


class Sending(enum.IntEnum):
    """What we may still send: the opening handshake; frames; only control frames, as Close went out; nothing."""

    OPENING, OPEN, SHUT, ENDED = range(4)


class Receive(enum.Enum):
    """What can happen to the receiving half."""

    OPENED = "opening handshake"
    REFUSAL = "refusal"
    DATA = "data"
    CLOSE = "Close"
    VIOLATION = "violation"
    EOF = "EOF"

    # There is one object for each, and the hash of its name would be computed in Python.
    __hash__ = object.__hash__


class Send(enum.Enum):
    """What can happen to the sending half."""

    OPENED = "opening handshake"
    DATA = "data"
    CONTROL = "ping or pong"
    CLOSE = "Close"
    EOF = "EOF"

    __hash__ = object.__hash__


class Reaction(enum.Enum):
    """What a connection owes its peer without being asked."""

    CLOSE = "send Close"
    EOF = "send EOF"


# ------------------------------------------------------------------------------------------------------ the tables

# "violation" is a broken rule of the peer, or our own wish to give up on the connection.
RECEIVING: Final = {
    #                    opening handshake  refusal  data  Close  violation  EOF
    Receiving.OPENING: ("OPEN",            "REFUSED", None, None,  "REFUSED", "ENDED"),
    Receiving.OPEN:    (None,               None,  "OPEN", "DEAF", "DEAF",   "ENDED"),
    Receiving.REFUSED: (None,               None, "REFUSED", "REFUSED", "REFUSED", "ENDED"),
    Receiving.DEAF:    (None,               None,  "DEAF", "DEAF", "DEAF",   "ENDED"),
    Receiving.ENDED:   (None,              "ENDED", None,  None,   "ENDED",   None),
}  # fmt: skip

SENDING: Final = {
    #                  opening handshake  data  ping or pong  Close  EOF
    Sending.OPENING: ("OPEN",             None,   None,       None,  "ENDED"),
    Sending.OPEN:    (None,              "OPEN", "OPEN",     "SHUT", "ENDED"),
    Sending.SHUT:    (None,               None,  "SHUT",      None,  "ENDED"),
    Sending.ENDED:   (None,               None,   None,       None,   None),
}  # fmt: skip

# A refused opening handshake ends without Close frames: those belong to connections that were open. A client that
# answered Close with Close waits for the server to end the stream first (RFC 6455 section 7.1.1).
REACTIONS: Final = {
    #    receiving          sending            server           client
    (Receiving.REFUSED, Sending.OPENING): (Reaction.EOF,   Reaction.EOF),
    (Receiving.REFUSED, Sending.OPEN):    (Reaction.EOF,   Reaction.EOF),
    (Receiving.DEAF,    Sending.OPEN):    (Reaction.CLOSE, Reaction.CLOSE),
    (Receiving.DEAF,    Sending.SHUT):    (Reaction.EOF,   None),
    (Receiving.ENDED,   Sending.OPENING): (Reaction.EOF,   Reaction.EOF),
    (Receiving.ENDED,   Sending.OPEN):    (Reaction.EOF,   Reaction.EOF),
    (Receiving.ENDED,   Sending.SHUT):    (Reaction.EOF,   Reaction.EOF),
}  # fmt: skip

# The first row that fits, with None for "any". A refused handshake stays CONNECTING until the stream ends.
PROJECTION: Final = (
    (Receiving.ENDED,   None,            State.CLOSED),
    (Receiving.OPENING, None,            State.CONNECTING),
    (Receiving.REFUSED, None,            State.CONNECTING),
    (Receiving.OPEN,    Sending.OPENING, State.CONNECTING),
    (Receiving.OPEN,    Sending.OPEN,    State.OPEN),
    (None,              None,            State.CLOSING),
)  # fmt: skip

# Where a connection begins, for each state that a program may ask for.
BEGINNING: Final = {
    State.CONNECTING: (Receiving.OPENING, Sending.OPENING),
    State.OPEN: (Receiving.OPEN, Sending.OPEN),
    State.CLOSING: (Receiving.OPEN, Sending.SHUT),
    State.CLOSED: (Receiving.ENDED, Sending.ENDED),
}

# ------------------------------------------------------------------------------------------------------- the engine


def project(receiving: Receiving, sending: Sending) -> State:
    """The public state of a connection, from its two halves."""
    return next(state for r, s, state in PROJECTION if r in (receiving, None) and s in (sending, None))


def _next_receiving(half: Receiving, event: Receive) -> Receiving | None:
    name = dict(zip(Receive, RECEIVING[half], strict=True))[event]
    return None if name is None else Receiving[name]


def _next_sending(half: Sending, event: Send) -> Sending | None:
    name = dict(zip(Send, SENDING[half], strict=True))[event]
    return None if name is None else Sending[name]


# The same tables, as the engine reads them: one look-up an event.
_RECEIVING: Final = {(half, event): _next_receiving(half, event) for half in Receiving for event in Receive}
_SENDING: Final = {(half, event): _next_sending(half, event) for half in Sending for event in Send}
_STATE: Final = {(receiving, sending): project(receiving, sending) for receiving in Receiving for sending in Sending}


class Lifecycle(SendingHalf):
    """Both halves of one connection.

    Parameters:
        side: which end this is.
        state: where to begin.
    """

    __slots__ = ("receiving", "side", "state")

    sending: Sending

    def __init__(self, side: Side, state: State = State.CONNECTING) -> None:
        self.side = side
        self.receiving, self.sending = BEGINNING[state]
        self.state = state
        self.continuing = False

    def received(self, event: Receive) -> None:
        """Enter what happened to the receiving half.

        Raises:
            InvalidState: it can't happen in this state, which stays as it was.
        """
        after = _RECEIVING[self.receiving, event]
        if after is None:
            raise InvalidState(f"connection is {self.state.name.lower()}")
        self.receiving = after
        self.state = _STATE[after, self.sending]

    def sent(self, event: Send) -> None:
        """Enter what is being sent.

        Raises:
            InvalidState: it can't be sent in this state, which stays as it was.
        """
        after = _SENDING[self.sending, event]
        if after is None:
            raise InvalidState(f"connection is {self.state.name.lower()}")
        self.sending = after
        self.state = _STATE[self.receiving, after]

    def reaction(self) -> Reaction | None:
        """What must be sent now without being asked; ask again when it is sent."""
        row = REACTIONS.get((self.receiving, self.sending))
        return row[self.side] if row else None
