"""The lifecycle: every state with every event, the rows as they were agreed on, and what follows from them."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import pytest

from websockets._rules.lifecycle import (
    BEGINNING,
    Lifecycle,
    Reaction,
    Receive,
    Receiving,
    Send,
    Sending,
    Side,
    State,
    project,
)
from websockets.exceptions import InvalidState

HALVES = list(itertools.product(Side, Receiving, Sending))

# The rows once more, in words. The first three lines of each table are those of frames, the others of the opening
# handshake; "-" is what can't happen.
RECEIVING_ROWS = """
            data      Close     violation  EOF    opening-handshake  refusal
OPEN        OPEN      DEAF      DEAF       ENDED  -                  -
DEAF        DEAF      DEAF      DEAF       ENDED  -                  -
ENDED       -         -         ENDED      -      -                  ENDED
OPENING     -         -         REFUSED    ENDED  OPEN               REFUSED
REFUSED     REFUSED   REFUSED   REFUSED    ENDED  -                  -
"""
SENDING_ROWS = """
            data      ping-or-pong  Close  EOF    opening-handshake
OPEN        OPEN      OPEN          SHUT   ENDED  -
SHUT        -         SHUT          -      ENDED  -
ENDED       -         -             -      -      -
OPENING     -         -             -      ENDED  OPEN
"""
REACTION_ROWS = """
                 client      server
DEAF/OPEN        send-Close  send-Close
DEAF/SHUT        -           send-EOF
ENDED/OPEN       send-EOF    send-EOF
ENDED/SHUT       send-EOF    send-EOF
ENDED/OPENING    send-EOF    send-EOF
REFUSED/OPENING  send-EOF    send-EOF
REFUSED/OPEN     send-EOF    send-EOF
"""
PROJECTION_ROWS = """
            OPENING     OPEN        SHUT        ENDED
OPENING     CONNECTING  CONNECTING  CONNECTING  CONNECTING
REFUSED     CONNECTING  CONNECTING  CONNECTING  CONNECTING
OPEN        CONNECTING  OPEN        CLOSING     CLOSING
DEAF        CLOSING     CLOSING     CLOSING     CLOSING
ENDED       CLOSED      CLOSED      CLOSED      CLOSED
"""


def cells(table: str) -> Iterator[tuple[str, str, str]]:
    """Row, column and what is written there."""
    head, *rows = (line.split() for line in table.strip("\n").splitlines())
    for row, *values in rows:
        for column, value in zip(head, values, strict=True):
            yield row, column.replace("-", " "), value.replace("-", " ").strip()


RECEIVING = {(Receiving[row], Receive(column)): value for row, column, value in cells(RECEIVING_ROWS)}
SENDING = {(Sending[row], Send(column)): value for row, column, value in cells(SENDING_ROWS)}
REACTIONS = {(row, column): value for row, column, value in cells(REACTION_ROWS)}
PROJECTION = {(Receiving[row], Sending[column]): value for row, column, value in cells(PROJECTION_ROWS)}


def lifecycle(side: Side, receiving: Receiving, sending: Sending) -> Lifecycle:
    """A lifecycle in any state, reachable or not."""
    life = Lifecycle(side)
    life.receiving, life.sending, life.state = receiving, sending, project(receiving, sending)
    return life


def halves(life: Lifecycle) -> tuple[Receiving, Sending, State]:
    return life.receiving, life.sending, life.state


def happen(life: Lifecycle, event: Receive | Send) -> None:
    if isinstance(event, Receive):
        life.received(event)
    else:
        life.sent(event)


def react(life: Lifecycle) -> list[Reaction]:
    """Do what is owed, until nothing is."""
    done: list[Reaction] = []
    while (reaction := life.reaction()) is not None:
        assert len(done) < 2
        life.sent(Send.CLOSE if reaction is Reaction.CLOSE else Send.EOF)
        done.append(reaction)
    return done


# ------------------------------------------------------------------------------------------------------ every state


def test_the_rows_are_complete() -> None:
    assert set(RECEIVING) == set(itertools.product(Receiving, Receive))
    assert set(SENDING) == set(itertools.product(Sending, Send))
    assert set(PROJECTION) == set(itertools.product(Receiving, Sending))


@pytest.mark.parametrize(("side", "receiving", "sending"), HALVES)
def test_every_event_received(side: Side, receiving: Receiving, sending: Sending) -> None:
    for event in Receive:
        life = lifecycle(side, receiving, sending)
        before, after = halves(life), RECEIVING[receiving, event]
        if after:
            life.received(event)
            assert halves(life) == (Receiving[after], sending, State[PROJECTION[Receiving[after], sending]])
        else:
            with pytest.raises(InvalidState, match=f"^connection is {before[2].name.lower()}$"):
                life.received(event)
            assert halves(life) == before
        assert life.side is side


@pytest.mark.parametrize(("side", "receiving", "sending"), HALVES)
def test_every_event_sent(side: Side, receiving: Receiving, sending: Sending) -> None:
    for event in Send:
        life = lifecycle(side, receiving, sending)
        before, after = halves(life), SENDING[sending, event]
        if after:
            life.sent(event)
            assert halves(life) == (receiving, Sending[after], State[PROJECTION[receiving, Sending[after]]])
        else:
            with pytest.raises(InvalidState, match=f"^connection is {before[2].name.lower()}$"):
                life.sent(event)
            assert halves(life) == before
        assert life.side is side


@pytest.mark.parametrize(("receiving", "sending"), PROJECTION)
def test_projection(receiving: Receiving, sending: Sending) -> None:
    assert project(receiving, sending) is State[PROJECTION[receiving, sending]]


# -------------------------------------------------------------------------------------------------------- reactions


@pytest.mark.parametrize(("side", "receiving", "sending"), HALVES)
def test_reaction_of_every_state(side: Side, receiving: Receiving, sending: Sending) -> None:
    expected = REACTIONS.get((f"{receiving.name}/{sending.name}", side.name.lower()), "")
    reaction = lifecycle(side, receiving, sending).reaction()
    assert (reaction.value if reaction else "") == expected


@pytest.mark.parametrize(("side", "receiving", "sending"), HALVES)
def test_reactions_reach_a_fixpoint(side: Side, receiving: Receiving, sending: Sending) -> None:
    life = lifecycle(side, receiving, sending)
    react(life)
    assert life.reaction() is None
    assert life.receiving is receiving


# The steps of a handshake that concern both halves happen together, as the protocol enters them.
STEPS: list[tuple[Receive | Send, ...]] = [
    (Receive.OPENED, Send.OPENED),
    *((event,) for event in Receive if event is not Receive.OPENED),
    *((event,) for event in Send if event is not Send.OPENED),
]


def reachable(side: Side) -> set[tuple[Receiving, Sending]]:
    """The states that a connection can be in, reactions done, wherever it began."""
    found: set[tuple[Receiving, Sending]] = set()
    new = set(BEGINNING.values())
    while new:
        found |= new
        new = {after for before in new for step in STEPS if (after := follow(side, before, step))} - found
    return found


def follow(
    side: Side, before: tuple[Receiving, Sending], step: tuple[Receive | Send, ...]
) -> tuple[Receiving, Sending] | None:
    life = lifecycle(side, *before)
    try:
        for event in step:
            happen(life, event)
    except InvalidState:
        return None
    react(life)
    return life.receiving, life.sending


@pytest.mark.parametrize("side", Side)
def test_every_end_of_stream_closes(side: Side) -> None:
    for receiving, sending in reachable(side) - {(Receiving.ENDED, Sending.ENDED)}:
        life = lifecycle(side, receiving, sending)
        life.received(Receive.EOF)
        react(life)
        assert halves(life) == (Receiving.ENDED, Sending.ENDED, State.CLOSED)


@pytest.mark.parametrize("side", Side)
def test_whatever_is_over_gets_an_end_of_stream(side: Side) -> None:
    # A server ends the stream once it hears no more; a client leaves that to the server (RFC 6455 section 7.1.1).
    for receiving, sending in reachable(side):
        if receiving in (Receiving.REFUSED, Receiving.DEAF):
            patient = side is Side.CLIENT and receiving is Receiving.DEAF
            assert sending in ((Sending.SHUT, Sending.ENDED) if patient else (Sending.ENDED,))


# ------------------------------------------------------------------------------------------------------------ stories


@pytest.mark.parametrize("side", Side)
@pytest.mark.parametrize("state", State)
def test_begin_anywhere(side: Side, state: State) -> None:
    life = Lifecycle(side, state)
    assert life.state is state
    assert life.side is side
    assert life.reaction() is None


def test_begin_with_the_opening_handshake() -> None:
    assert halves(Lifecycle(Side.CLIENT)) == (Receiving.OPENING, Sending.OPENING, State.CONNECTING)


EOF, CLOSE = Reaction.EOF, Reaction.CLOSE

# What happens after the opening handshake, what is owed at each step, and where that ends.
STORIES: list[tuple[Side, list[tuple[Receive | Send, list[Reaction]]], State]] = [
    (Side.SERVER, [(Receive.CLOSE, [CLOSE, EOF]), (Receive.EOF, [])], State.CLOSED),
    (Side.CLIENT, [(Receive.CLOSE, [CLOSE]), (Receive.DATA, []), (Receive.EOF, [EOF])], State.CLOSED),
    (Side.SERVER, [(Send.CLOSE, []), (Receive.DATA, []), (Receive.CLOSE, [EOF]), (Receive.EOF, [])], State.CLOSED),
    (Side.CLIENT, [(Send.CLOSE, []), (Send.CONTROL, []), (Receive.CLOSE, []), (Receive.EOF, [EOF])], State.CLOSED),
    (Side.CLIENT, [(Send.CLOSE, []), (Receive.CLOSE, [])], State.CLOSING),
    (Side.SERVER, [(Receive.EOF, [EOF])], State.CLOSED),
    (Side.CLIENT, [(Receive.EOF, [EOF])], State.CLOSED),
    (Side.SERVER, [(Send.CLOSE, []), (Receive.VIOLATION, [EOF])], State.CLOSING),
]


@pytest.mark.parametrize(("side", "steps", "end"), STORIES)
def test_story(side: Side, steps: list[tuple[Receive | Send, list[Reaction]]], end: State) -> None:
    life = Lifecycle(side)
    happen(life, Receive.OPENED)
    happen(life, Send.OPENED)
    assert life.state is State.OPEN
    for event, owed in steps:
        happen(life, event)
        assert react(life) == owed
    assert life.state is end


@pytest.mark.parametrize("side", Side)
def test_refused_opening_handshake(side: Side) -> None:
    life = Lifecycle(side)
    life.received(Receive.REFUSAL)
    assert react(life) == [Reaction.EOF]
    assert halves(life) == (Receiving.REFUSED, Sending.ENDED, State.CONNECTING)
    life.received(Receive.DATA)
    assert halves(life) == (Receiving.REFUSED, Sending.ENDED, State.CONNECTING)
    life.received(Receive.EOF)
    assert halves(life) == (Receiving.ENDED, Sending.ENDED, State.CLOSED)
