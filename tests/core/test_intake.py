"""How much of a read is taken in, how much is kept, when reading pauses and goes on. Without a loop or a transport."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from _kit import examples, wire
from websockets._rules.messages import Inbox
from websockets._session.intake import FIRST_SLICE, FRAMES_A_TURN, METERED_SLICE, SPARE_BYTES, SPARE_READS, Flow, Intake
from websockets.extensions.base import Extension
from websockets.frames import Frame
from websockets.protocol import Protocol, Side, State
from websockets.protocol._port import Port


class FrontEnd:
    """A front-end with a transport that only notes whether it reads."""

    def __init__(self, high: int | None = 2, low: int = 1) -> None:
        self.protocol = Protocol(Side.CLIENT)
        self.inbox = Inbox(high, low)
        self.port = Port(self.protocol, self.inbox)
        self.intake = Intake(self.inbox, self.port)
        self.reads, self.turns, self.sizes = True, 0, list[int]()

    def steer(self, flow: Flow) -> Flow:
        """Carry out what the intake says, as every front-end does."""
        if flow is Flow.YIELD:
            self.turns += 1
        elif flow is Flow.READ and (rest := self.intake.take_rest()):
            self.read(rest)
        if flow is not Flow.STAY:
            self.reads = self.intake.flow is not Flow.PAUSE
        return flow

    def read(self, data: bytes, waited_for: bool = False) -> Flow:
        """Take in what a read gave."""
        for part in self.intake.slices(data):
            self.sizes.append(len(part))
            self.protocol.receive_data(part)
            self.steer(self.intake.check_full(waited_for))
        return self.steer(self.intake.after_read())

    def run_turns(self) -> None:
        """Let others run for as long as the intake wants it."""
        while self.turns:
            self.turns -= 1
            self.steer(self.intake.turn_over())

    def take(self) -> Any:
        """Take the next message, as an application does."""
        message = self.inbox.get()
        if self.intake.paused:
            self.steer(self.intake.check_drained())
        return message


# ---------------------------------------------------------------------------------------------------- a read, in slices


def test_a_limit_of_a_rate() -> None:
    intake = FrontEnd().intake
    intake.metered = True
    assert intake.direct_decoder() is None
    slices = intake.slices(bytes(3000))
    assert [len(next(slices)), len(next(slices))] == [METERED_SLICE] * 2
    intake.limited = True
    assert [*slices] == []
    assert (len(intake.rest), intake.flow) == (3000 - 2 * METERED_SLICE, Flow.PAUSE)
    assert (intake.after_read(), intake.turn_over()) == (Flow.YIELD, Flow.STAY)
    # With TLS, data may arrive although reading is paused.
    assert [*intake.slices(b"more")] == []
    assert intake.limit_over() is Flow.READ
    assert intake.take_rest().endswith(b"more")


def test_slices_grow() -> None:
    end = FrontEnd(None)
    data = wire.binary(bytes(998)) * 100
    assert end.read(data) is Flow.STAY
    assert end.sizes[:3] == [FIRST_SLICE, FIRST_SLICE * 4, FIRST_SLICE * 16]
    assert sum(end.sizes) == len(data)
    assert [end.take() for _ in range(100)] == [bytes(998)] * 100


def test_a_frame_is_one_slice() -> None:
    """Or as much of it as a read has. The slices after it are no larger than without it."""
    end = FrontEnd(None)
    end.read(wire.binary(b"decoder"))
    frame = wire.binary(bytes(100_000))
    end.read(frame[:50_000])
    assert end.read(frame[50_000:] + wire.binary(b"x") * 10_000) is Flow.YIELD
    assert end.sizes[1:] == [50_000, len(frame) - 50_000, FIRST_SLICE * 4]
    end.run_turns()
    end.sizes.clear()
    assert end.read(frame) is Flow.STAY
    assert end.sizes == [len(frame)]


def test_the_length_in_half_a_header_is_unknown() -> None:
    end = FrontEnd(None)
    end.read(wire.binary(b"decoder") + b"\x82")
    data = b"\x7e" + (50_000).to_bytes(2, "big") + bytes(50_000)
    assert end.read(data) is Flow.STAY
    assert end.sizes[1:] == [FIRST_SLICE, len(data) - FIRST_SLICE]


@pytest.mark.parametrize("size", [1, FIRST_SLICE])
def test_a_small_read_is_one_slice_and_no_copy(size: int) -> None:
    data = bytearray(size)
    (part,) = FrontEnd().intake.slices(data)
    assert part is data


def test_after_many_frames_others_have_their_turn() -> None:
    end, count = FrontEnd(None), FIRST_SLICE * 3
    data = wire.frame(wire.PONG) * count
    assert end.read(data) is Flow.YIELD
    assert end.sizes == [FIRST_SLICE]
    assert (end.intake.yielding, end.reads) == (True, False)
    # What comes all the same waits behind it, and asks for no turn of its own.
    assert end.read(b"\x81\x04last") is Flow.STAY
    assert end.turns == 1
    turns = 0
    while end.turns:
        turns += 1
        end.turns -= 1
        end.steer(end.intake.turn_over())
    assert turns > 1
    assert end.reads
    assert (end.intake.rest, end.intake.yielding, end.inbox.get()) == (b"", False, "last")


def test_few_frames_need_no_turn() -> None:
    end = FrontEnd(None)
    size = FIRST_SLICE // FRAMES_A_TURN
    assert end.read(wire.binary(bytes(size)) * (FIRST_SLICE // (size + 2) + 2)) is Flow.STAY
    assert end.reads


def test_what_a_front_end_left_is_kept() -> None:
    end = FrontEnd(None)
    assert end.steer(end.intake.keep(b"\x81\x01x")) is Flow.YIELD
    assert not end.reads
    end.run_turns()
    assert end.reads
    assert end.take() == "x"


def test_the_end_of_a_connection_leaves_nothing() -> None:
    end = FrontEnd(None)
    end.intake.keep(b"\x81\x01x")
    end.intake.end()
    assert (end.intake.rest, end.intake.yielding, end.intake.take_rest()) == (b"", False, b"")


# --------------------------------------------------------------------------------------------------- pause and go on


def test_reading_pauses_while_too_many_wait() -> None:
    end = FrontEnd(high=2, low=1)
    end.read(wire.text("1") + wire.text("2"))
    assert end.reads
    end.read(wire.text("3"))
    assert (end.intake.paused, end.reads) == (True, False)
    # It pauses once.
    assert end.intake.check_full(waited_for=False) is Flow.STAY
    assert end.take() == "1"
    assert not end.reads
    assert end.take() == "2"
    assert (end.intake.paused, end.reads) == (False, True)


def test_what_is_kept_comes_before_what_is_read_next() -> None:
    end = FrontEnd(high=2, low=0)
    texts = [str(number) for number in range(5000, 9000)]
    end.read(b"".join(map(wire.text, texts)))
    assert end.intake.rest
    # TLS brings more although reading pauses.
    end.read(wire.text("more"))
    got = []
    while end.inbox.items:
        got.append(end.take())
        end.run_turns()
    assert got == [*texts, "more"]
    assert end.reads


def test_while_others_have_their_turn_nobody_goes_on() -> None:
    end = FrontEnd(high=2, low=0)
    end.read(wire.text("x") * FIRST_SLICE)
    assert (end.intake.paused, end.intake.yielding) == (True, True)
    assert end.intake.resume() is Flow.PAUSE
    assert end.steer(end.intake.pause()) is Flow.PAUSE
    # When others had their turn, somebody must still ask for messages.
    assert end.steer(end.intake.turn_over()) is Flow.STAY
    assert not end.reads
    assert end.intake.resume() is Flow.READ
    assert end.intake.resume() is Flow.STAY


def test_who_waits_for_a_message_gets_the_rest_of_it() -> None:
    end = FrontEnd(high=2, low=0)
    fragments = wire.frame(wire.TEXT, b"1", fin=False) + wire.frame(wire.CONT, b"2", fin=False) * 5
    end.read(fragments, waited_for=True)
    assert end.reads
    end.read(wire.frame(wire.CONT, b"3"), waited_for=True)
    assert not end.reads
    other = FrontEnd(high=2, low=0)
    other.read(fragments)
    assert not other.reads


def test_who_discards_does_not_pause() -> None:
    end = FrontEnd(high=2, low=0)
    end.inbox.discarding = True
    end.read(wire.text("x") * 3)
    assert end.reads


def test_the_end_must_be_seen() -> None:
    """After the peer's Close nothing is kept, and reading goes on, unless it takes no answer."""
    end = FrontEnd(high=2, low=0)
    end.read(wire.text("x") * 3)
    assert end.intake.check_end() is Flow.STAY
    end.port.hold_pongs()
    end.protocol.receive_data(wire.frame(wire.CLOSE, b"\x03\xe8"))
    assert end.intake.check_end() is Flow.STAY
    end.port.release_pong()
    assert end.steer(end.intake.check_end()) is Flow.READ
    assert end.reads
    # Nobody need read them any more.
    assert end.intake.check_full(waited_for=False) is Flow.STAY


# ------------------------------------------------------------------------------------------ a sign of life in a pause


def paused(high: int = 2) -> FrontEnd:
    """A front-end that reads no more, and then listens."""
    end = FrontEnd(high)
    end.read(wire.text("x") * (high + 1))
    assert not end.reads
    end.intake.heard()
    end.intake.listen()
    end.steer(end.intake.flow)
    return end


def test_listening_reads_although_reading_is_paused() -> None:
    end = paused()
    assert (end.intake.flow, end.reads) == (Flow.LISTEN, True)
    assert not end.intake.heard()
    assert end.read(wire.frame(wire.PONG, b"p")) is Flow.LISTEN
    assert end.intake.heard()
    assert not end.intake.heard()
    assert len(end.protocol.events_received()) == 1


def test_listening_takes_in_few_reads() -> None:
    end = paused()
    flows = [end.read(wire.text("more")) for _ in range(SPARE_READS + 1)]
    assert flows == [Flow.LISTEN] * SPARE_READS + [Flow.PAUSE]
    assert end.intake.rest == wire.text("more")
    assert end.inbox.count == 3 + SPARE_READS
    # A later ping has one read, kept as it came; and after so many bytes none.
    for number in range(2, 5):
        end.intake.listen()
        assert end.intake.listening
        assert end.read(wire.text("more")) is Flow.PAUSE
        assert end.intake.rest == wire.text("more") * number
    end.intake.listen()
    end.read(bytes(SPARE_BYTES))
    end.intake.listen()
    assert end.intake.flow is Flow.PAUSE


def test_what_takes_nothing_is_not_listened_to() -> None:
    end = paused()
    end.intake.listening = False
    end.port.hold_pongs()
    end.intake.listen()
    assert end.intake.flow is Flow.PAUSE


def test_who_reads_need_not_listen() -> None:
    end = FrontEnd()
    end.intake.listen()
    assert (end.intake.listening, end.intake.flow) == (False, Flow.READ)


# ----------------------------------------------------------------------------------------------------- straight paths


def test_when_reads_may_go_straight_to_the_decoder() -> None:
    end = FrontEnd(None)
    intake = end.intake
    assert intake.direct_decoder() is None  # there is none yet
    end.read(wire.text("x"))
    decoder = intake.direct_decoder()
    assert decoder is not None
    intake.rest = b"rest"
    assert intake.direct_decoder() is None
    intake.rest = b""
    intake.pause()
    assert intake.direct_decoder() is decoder
    intake.listen()
    assert intake.direct_decoder() is None
    intake.resume()
    assert intake.direct_decoder() is decoder
    end.read(wire.frame(3))
    assert end.port.failure_held
    assert intake.direct_decoder() is None


@pytest.mark.parametrize("state", [State.CLOSING, State.CLOSED])
def test_after_the_end_nothing_goes_straight(state: State) -> None:
    end = FrontEnd(None)
    end.read(wire.text("x") + wire.frame(wire.CLOSE))
    if state is State.CLOSED:
        end.protocol.receive_eof()
    assert end.protocol.state is state
    assert end.intake.direct_decoder() is None


def test_what_an_extension_must_see_does_not_go_straight() -> None:
    class Other(Extension):
        def encode(self, frame: Frame) -> Frame:
            return frame

        def decode(self, frame: Frame, *, max_size: int | None = None) -> Frame:
            return frame

    end = FrontEnd(None)
    end.protocol.extensions = [Other()]
    end.read(wire.text("x"))
    assert end.inbox.get() == "x"
    assert end.port.decoder is not None
    assert end.intake.direct_decoder() is None


def test_how_many_frames_need_no_question() -> None:
    assert FrontEnd(None).intake.direct_messages() is None
    end = FrontEnd(high=7)
    assert end.intake.direct_messages() == 7
    end.read(wire.frame(wire.TEXT, b"1", fin=False))
    assert end.intake.direct_messages() == 7


# ---------------------------------------------------------------------------------------------------------- everything


@examples(25)
@given(data=st.data())
def test_nothing_is_lost_or_reordered(data: st.DataObject) -> None:
    """Whatever sizes the reads have, and whenever turns, pings and receivers come."""
    end = FrontEnd(high=data.draw(st.integers(0, 5)), low=0)
    count = data.draw(st.integers(1, 2000))
    texts = [str(number) for number in range(count)]
    stream = b"".join(map(wire.text, texts))
    got: list[Any] = []
    while len(got) < count:
        match data.draw(st.sampled_from(["read", "turn", "listen", "take"])):
            case "read" if end.reads and stream:
                size = data.draw(st.integers(1, 20_000))
                end.read(stream[:size])
                stream = stream[size:]
            case "turn":
                end.run_turns()
            case "listen" if end.intake.paused:
                end.intake.listen()
                end.steer(end.intake.flow)
            case _:
                while end.inbox.items:
                    got.append(end.take())
                end.run_turns()
                if not end.inbox.items:
                    end.steer(end.intake.resume())
                    assert end.reads
    assert got == texts
