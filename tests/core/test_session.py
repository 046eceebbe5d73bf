"""Decisions of a session between two waits: what it listens to, when it gives up, what it refuses. Without a loop."""

from __future__ import annotations

import logging
from typing import Any

import pytest

from _kit import wire
from websockets._session.intake import SPARE_BYTES, SPARE_READS
from websockets._session.session import Session, Timing
from websockets.exceptions import ConcurrencyError, InvalidState, PayloadTooBig, ProtocolError
from websockets.frames import CloseCode, Opcode
from websockets.protocol import Protocol, Side, State

both_sides = pytest.mark.parametrize("side", [Side.SERVER, Side.CLIENT])


class End:
    """A session, and what its peer sends and sees."""

    def __init__(self, side: Side, **options: Any) -> None:
        self.mask = side is Side.SERVER
        self.protocol = Protocol(side, **options)
        self.session = Session(self.protocol, Timing(20, 20, 10), (2, 0))
        self.session.process_events(0)

    def receive(self, *frames: tuple[int, bytes]) -> None:
        data = b"".join(wire.frame(opcode, payload, mask=self.mask) for opcode, payload in frames)
        self.session.receive_data(data)

    def sent(self) -> list[tuple[int, bytes]]:
        rows, rest = wire.parse(b"".join(self.protocol.data_to_send()))
        assert rest == b""
        return [(row.opcode, row.payload) for row in rows]


# -------------------------------------------------------------------------------------- keepalive while nobody reads


def reading_paused(side: Side, *, texts: int = 3) -> tuple[End, bytes]:
    """An end whose queue is full, and the payload of its keepalive ping."""
    end = End(side)
    end.receive(*[(wire.TEXT, b"x")] * texts)
    end.session.intake.pause()
    assert not end.session.intake.listening
    assert not end.session.handle_timeout(20)
    [(opcode, payload)] = end.sent()
    assert opcode == wire.PING
    return end, payload


def overhears(session: Session, size: int, kept: bytes = b"") -> bool:
    """Have a read give ``size`` bytes, while others are kept; tell whether they are to be taken in."""
    session.intake.rest = kept
    return bool(list(session.intake.slices(bytes(size))))


@both_sides
def test_a_ping_makes_a_session_listen_although_reading_is_paused(side: Side) -> None:
    end, payload = reading_paused(side)
    session = end.session
    assert session.intake.listening
    # What waited in the kernel comes before the pong.
    assert overhears(session, 6)
    end.receive((wire.TEXT, b"x"))
    assert session.intake.listening
    assert overhears(session, 6)
    end.receive((wire.PONG, payload))
    session.process_events(21.5)
    assert not session.intake.listening
    assert session.latency == 1.5
    assert session.next_timeout == 40
    assert not session.handle_timeout(40)
    assert session.intake.listening
    assert session.intake._kept == 0


@both_sides
def test_no_round_trip_takes_no_time(side: Side) -> None:
    """A clock may say so: that of Windows ticks 64 times a second. But 0.0 stands for no pong yet."""
    end, _ = reading_paused(side)
    session = end.session
    assert session.latency == 0.0
    session.ping(b"own", "waiter", 20)
    end.receive((wire.PONG, b"own"))
    (answered,) = session.process_events(20)
    assert 0.0 < session.latency <= 1e-6
    assert answered == ("waiter", session.latency)


@both_sides
def test_silence_is_noticed_although_reading_is_paused(side: Side) -> None:
    end, _ = reading_paused(side)
    assert end.session.next_timeout == 40
    assert end.session.handle_timeout(40)
    [(opcode, payload)] = end.sent()
    assert (opcode, payload) == (wire.CLOSE, b"\x03\xf3keepalive ping timeout")
    assert isinstance(end.session.cause, TimeoutError)


@both_sides
def test_bytes_that_are_kept_as_they_came_are_a_sign_of_life(side: Side) -> None:
    end, _ = reading_paused(side)
    assert not overhears(end.session, 6, kept=b"before")
    # Neither would a pong be seen.
    assert not end.session.intake.listening
    assert not end.session.handle_timeout(40)
    assert end.sent() == []
    assert end.session.alarm_at == 40
    # The next ping begins anew.
    assert not end.session.handle_timeout(40)
    assert [opcode for opcode, _ in end.sent()] == [wire.PING]
    assert end.session.handle_timeout(60)
    assert [opcode for opcode, _ in end.sent()] == [wire.CLOSE]


@both_sides
def test_what_is_overheard_does_not_pile_up(side: Side) -> None:
    end, _ = reading_paused(side)
    session = end.session
    for size in range(SPARE_READS):
        assert overhears(session, 1)
        # However many messages one brings; and what brings none isn't counted.
        end.receive(*[(wire.TEXT, b"x")] * 10**size)
        if size:
            session.inbox.get()
        else:
            assert overhears(session, 1)
            end.receive((wire.PONG, b""))
    assert not overhears(session, SPARE_BYTES - 1)
    session.handle_timeout(40)
    session.handle_timeout(40)
    assert session.intake.listening
    assert not overhears(session, 1, kept=b"before")
    for now in (60, 60, 80, 80, 100):
        session.handle_timeout(now)
        assert not session.intake.listening
    assert CloseCode.INTERNAL_ERROR not in {opcode for opcode, _ in end.sent()}
    assert end.protocol.state is State.OPEN
    # When reading goes on, all of that is over.
    session.intake.resume()
    session.intake.pause()
    session.handle_timeout(120)
    session.handle_timeout(120)
    assert session.intake.listening


@both_sides
def test_who_takes_nothing_any_more_is_not_listened_to(side: Side) -> None:
    """The ping doesn't reach it: silence is no wonder, and it isn't forgiven, either."""
    end = End(side)
    end.receive(*[(wire.TEXT, b"x")] * 3)
    end.session.intake.pause()
    end.session.writing(possible=False)
    end.session.handle_timeout(20)
    assert not end.session.intake.listening
    end.session.handle_timeout(40)
    assert [opcode for opcode, _ in end.sent()] == [wire.PING, wire.CLOSE]


@both_sides
def test_pings_without_a_deadline_need_no_listening(side: Side) -> None:
    end = End(side)
    end.session.timing = Timing(20, None, 10)
    end.session.intake.pause()
    end.session.handle_timeout(20)
    assert not end.session.intake.listening


def test_the_log_tells_of_pongs_only_if_they_came(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "websockets")
    end, payload = reading_paused(Side.CLIENT)
    caplog.clear()
    overhears(end.session, 6)
    end.receive((wire.PONG, payload))
    end.session.process_events(21)
    end.session.handle_timeout(40)
    overhears(end.session, 6, kept=b"before")
    end.session.handle_timeout(60)
    end.session.intake._kept = SPARE_BYTES
    end.session.handle_timeout(60)
    end.session.handle_timeout(80)
    assert [line for line in caplog.messages if line[0] in "%-"] == [
        "% received keepalive pong",
        "% sent keepalive ping",
        "% received data since keepalive ping",
        "% sent keepalive ping",
        "% reading is paused; not waiting for keepalive pong",
    ]


# ------------------------------------------------------------------------------------------------------------ closing


@both_sides
@pytest.mark.parametrize(
    ("opcode", "payload", "kind"),
    [
        (wire.CLOSE, b"\x03\xed", ProtocolError),
        (3, b"", ProtocolError),
        (wire.TEXT, b"\xff", ProtocolError),
        (wire.BINARY, bytes(101), PayloadTooBig),
    ],
)
def test_failures_are_held_back_until_our_close_is_out(
    side: Side, opcode: int, payload: bytes, kind: type[Exception]
) -> None:
    end = End(side, max_size=100)
    end.receive((wire.TEXT, b"unread"), (opcode, payload))
    assert end.protocol.parser_exc is None
    end.session.close(1000, "")
    assert isinstance(end.protocol.parser_exc, kind)

    end = End(side, max_size=100)
    end.receive((wire.TEXT, b"unread"))
    end.session.close(1000, "")
    end.receive((wire.TEXT, b"unread, too"), (opcode, payload))
    assert isinstance(end.protocol.parser_exc, kind)


@pytest.mark.parametrize("arguments", [("1000", ""), (1000, b""), (999, ""), (1000, "x" * 124), (None, "x")])
def test_a_close_that_cannot_be_sent_changes_nothing(arguments: Any) -> None:
    end = End(Side.SERVER)
    end.receive((wire.TEXT, b"unread"), (3, b""))
    with pytest.raises((TypeError, ProtocolError)):
        end.session.close(*arguments)
    assert not end.session.inbox.discarding
    assert end.session.port.keeps
    assert end.protocol.parser_exc is None
    assert end.sent() == []


# --------------------------------------------------------------------------------------------------------------- pings


@both_sides
def test_neither_pings_nor_pongs_after_our_close(side: Side) -> None:
    end = End(side)
    end.session.ping(b"early", None, 0)
    end.session.close(1000, "")
    for data in (b"late", b"early", bytes(126), None):
        with pytest.raises(InvalidState, match="^connection is closing$"):
            end.session.ping(data, None, 0)
    for data in (b"late", bytes(126)):
        with pytest.raises(InvalidState, match="^connection is closing$"):
            end.session.pong(data)
    wrong: Any = 5
    for method in (lambda data: end.session.ping(data, None, 0), end.session.pong):
        with pytest.raises(TypeError, match="^data must be str or bytes-like$"):
            method(wrong)
    assert end.sent() == [(wire.PING, b"early"), (wire.CLOSE, b"\x03\xe8")]
    # A program that has the protocol may; and answers are owed as long as the peer may ask.
    end.protocol.send_ping(b"still")
    end.receive((wire.PING, b"there?"))
    assert end.sent() == [(Opcode.PING, b"still"), (Opcode.PONG, b"there?")]


def test_pings_have_payloads_of_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    end = End(Side.CLIENT)
    end.session.ping(b"1234", None, 0)
    with pytest.raises(ConcurrencyError):
        end.session.ping("1234", None, 0)
    drawn = [b"1234", b"1234", b"5678"]
    monkeypatch.setattr("secrets.token_bytes", lambda size: drawn.pop(0))
    end.session.ping(None, None, 0)
    assert end.sent() == [(wire.PING, b"1234"), (wire.PING, b"5678")]
