"""State tables for the life of a connection: RFC 6455 sections 4.1, 4.2, 5.5.1 and 7.1.

May know: the events on each half of a connection, and their consequences.
Must not know: bytes, frames, codes, time.

A connection is two state machines: one for what it may still receive, one for what it may still send. The public
:class:`State` is a projection of both. Automatic answers are rows too, for example "the peer sent Close, but we did
not: send Close". These reactions are applied until no row matches. Only this file assigns state. An illegal event
raises and changes nothing.
"""

from __future__ import annotations

import enum
from typing import Final

from .._codec import SendingHalf
from ..exceptions import InvalidState

__all__ = ["Lifecycle", "Reaction", "Receive", "Receiving", "Send", "Sending", "Side", "State"]


class Side(enum.IntEnum):
    """The end of the connection: server or client."""

    SERVER, CLIENT = range(2)


class State(enum.IntEnum):
    """State of a connection, with the names of RFC 6455 sections 4.1 and 7.1."""

    CONNECTING, OPEN, CLOSING, CLOSED = range(4)


class Receiving(enum.IntEnum):
    """State of the receiving half: the opening handshake, frames, input that is discarded, or the end of the stream.

    REFUSED and DEAF both discard input until the end of the stream. REFUSED follows an opening handshake that failed,
    DEAF follows a connection that was open.
    """

    OPENING, OPEN, REFUSED, DEAF, ENDED = range(5)


class Sending(enum.IntEnum):
    """State of the sending half: the opening handshake, frames, only control frames after a Close, or nothing."""

    OPENING, OPEN, SHUT, ENDED = range(4)


class Receive(enum.Enum):
    """An event of the receiving half."""

    OPENED = "opening handshake"
    REFUSAL = "refusal"
    DATA = "data"
    CLOSE = "Close"
    VIOLATION = "violation"
    EOF = "EOF"

    # Each member is a single object, so its identity is a valid hash. Enum's own hash is slower Python code.
    __hash__ = object.__hash__


class Send(enum.Enum):
    """An event of the sending half."""

    OPENED = "opening handshake"
    DATA = "data"
    CONTROL = "ping or pong"
    CLOSE = "Close"
    EOF = "EOF"

    __hash__ = object.__hash__


class Reaction(enum.Enum):
    """An automatic answer to the peer."""

    CLOSE = "send Close"
    EOF = "send EOF"


# ------------------------------------------------------------------------------------------------------ the tables

# "violation" means that the peer broke a rule, or that this side fails the connection for another reason.
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

# A refused opening handshake ends without Close frames, because the connection was never open. A client that answered
# Close with Close waits until the server ends the stream (RFC 6455 section 7.1.1).
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

# The first matching row counts; None matches anything. A refused handshake stays CONNECTING until the stream ends.
PROJECTION: Final = (
    (Receiving.ENDED,   None,            State.CLOSED),
    (Receiving.OPENING, None,            State.CONNECTING),
    (Receiving.REFUSED, None,            State.CONNECTING),
    (Receiving.OPEN,    Sending.OPENING, State.CONNECTING),
    (Receiving.OPEN,    Sending.OPEN,    State.OPEN),
    (None,              None,            State.CLOSING),
)  # fmt: skip

# The initial halves of a connection, for each initial state that a program may choose.
BEGINNING: Final = {
    State.CONNECTING: (Receiving.OPENING, Sending.OPENING),
    State.OPEN: (Receiving.OPEN, Sending.OPEN),
    State.CLOSING: (Receiving.OPEN, Sending.SHUT),
    State.CLOSED: (Receiving.ENDED, Sending.ENDED),
}

# ------------------------------------------------------------------------------------------------------- the engine


def project(receiving: Receiving, sending: Sending) -> State:
    """Return the public state of a connection, from its two halves."""
    return next(state for r, s, state in PROJECTION if r in (receiving, None) and s in (sending, None))


def _next_receiving(half: Receiving, event: Receive) -> Receiving | None:
    name = dict(zip(Receive, RECEIVING[half], strict=True))[event]
    return None if name is None else Receiving[name]


def _next_sending(half: Sending, event: Send) -> Sending | None:
    name = dict(zip(Send, SENDING[half], strict=True))[event]
    return None if name is None else Sending[name]


# The same tables in the form that the engine uses: one look-up for each event.
_RECEIVING: Final = {(half, event): _next_receiving(half, event) for half in Receiving for event in Receive}
_SENDING: Final = {(half, event): _next_sending(half, event) for half in Sending for event in Send}
_STATE: Final = {(receiving, sending): project(receiving, sending) for receiving in Receiving for sending in Sending}


class Lifecycle(SendingHalf):
    """Both halves of one connection.

    Parameters:
        side: which end this is.
        state: the initial state; CONNECTING by default.
    """

    __slots__ = ("receiving", "side", "state")

    sending: Sending

    def __init__(self, side: Side, state: State = State.CONNECTING) -> None:
        self.side = side
        self.receiving, self.sending = BEGINNING[state]
        self.state = state
        self.continuing = False

    def received(self, event: Receive) -> None:
        """Apply an event of the receiving half.

        Raises:
            InvalidState: the event is illegal in this state, which doesn't change.
        """
        after = _RECEIVING[self.receiving, event]
        if after is None:
            raise InvalidState(f"connection is {self.state.name.lower()}")
        self.receiving = after
        self.state = _STATE[after, self.sending]

    def sent(self, event: Send) -> None:
        """Apply an event of the sending half.

        Raises:
            InvalidState: the event is illegal in this state, which doesn't change.
        """
        after = _SENDING[self.sending, event]
        if after is None:
            raise InvalidState(f"connection is {self.state.name.lower()}")
        self.sending = after
        self.state = _STATE[self.receiving, after]

    def reaction(self) -> Reaction | None:
        """Return the automatic answer that is due now, None if there is none; ask again after it is sent."""
        row = REACTIONS.get((self.receiving, self.sending))
        return row[self.side] if row else None
