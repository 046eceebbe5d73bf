"""The port between a protocol and a session: messages go to a receiver of any kind, and what else a session may ask."""

from __future__ import annotations

import gc
import weakref
from typing import Any

import pytest

from _kit import wire
from websockets.exceptions import ProtocolError
from websockets.protocol import Protocol, Side, State
from websockets.protocol._port import Port


class Keeper:
    """A receiver that keeps what it gets, in the order in which it came."""

    def __init__(self, *, holds: bool = False) -> None:
        self.got: list[Any] = []
        self._holds = holds

    def keep(self, message: Any) -> None:
        self.got.append(message)

    def put(self, head: int, payload: Any) -> None:
        self.got.append((head, payload))

    def holds(self) -> bool:
        return self._holds


@pytest.fixture
def keeper() -> Keeper:
    return Keeper()


@pytest.fixture
def port(keeper: Keeper) -> Port:
    return Port(Protocol(Side.CLIENT), keeper)


def protocol_of(port: Port) -> Protocol:
    return port._protocol


def test_messages_go_to_the_receiver_and_the_rest_to_events(port: Port, keeper: Keeper) -> None:
    protocol = protocol_of(port)
    fragment = wire.frame(wire.TEXT, b"frag", fin=False)
    protocol.receive_data(wire.text("whole") + fragment + wire.frame(wire.PING, b"p") + wire.frame(wire.CONT, b"ment"))
    assert keeper.got == ["whole", (wire.TEXT, b"frag"), (0x80 | wire.CONT, b"ment")]
    assert [event.data for event in protocol.events_received()] == [b"p"]  # type: ignore[union-attr]
    assert port.frames == 4


def test_who_keeps_no_more_sees_every_message(port: Port, keeper: Keeper) -> None:
    assert port.keeps
    port.stop_keeping()
    assert not port.keeps
    protocol_of(port).receive_data(wire.text("whole"))
    assert keeper.got == [(0x80 | wire.TEXT, "whole")]


def test_frames_that_somebody_decoded(port: Port, keeper: Keeper) -> None:
    protocol_of(port).receive_data(wire.text("first"))
    decoder = port.decoder
    assert decoder is not None
    port.receive_frames(decoder.feed(wire.text("second") + wire.frame(wire.PING, b"p")))
    assert keeper.got == ["first", "second"]
    assert wire.parse(b"".join(protocol_of(port).data_to_send()))[0][0].opcode == wire.PONG
    assert port.received == (2, 11)
    assert port.tally.pings_received == 1
    protocol_of(port).receive_eof()
    assert (port.decoder, port.received) == (None, (2, 11))


def test_whether_anything_was_heard(port: Port) -> None:
    assert not port.heard()
    protocol_of(port).receive_data(b"\x81")
    assert [port.heard(), port.heard()] == [True, False]


@pytest.mark.parametrize("holds", [True, False])
def test_a_failure_is_held_back_for_as_long_as_the_receiver_wants(holds: bool) -> None:
    port = Port(Protocol(Side.CLIENT), Keeper(holds=holds))
    protocol = protocol_of(port)
    protocol.receive_data(wire.text("whole") + wire.frame(3))
    assert port.failure_held is holds
    assert isinstance(protocol.parser_exc, ProtocolError) is not holds
    protocol.release_failure()
    assert not port.failure_held
    assert isinstance(protocol.parser_exc, ProtocolError)


def test_of_the_pongs_that_are_owed_only_the_last_is_sent(port: Port) -> None:
    protocol = protocol_of(port)
    port.hold_pongs()
    assert port.pongs_held
    protocol.receive_data(wire.frame(wire.PING, b"1") + wire.frame(wire.PING, b"2"))
    assert protocol.data_to_send() == []
    port.release_pong()
    assert not port.pongs_held
    ((row,), _) = wire.parse(b"".join(protocol.data_to_send()))
    assert (row.opcode, row.payload) == (wire.PONG, b"2")
    port.release_pong()
    assert protocol.data_to_send() == []


def test_no_pong_is_owed_after_the_end(port: Port) -> None:
    protocol = protocol_of(port)
    port.hold_pongs()
    protocol.receive_data(wire.frame(wire.PING, b"1"))
    protocol.receive_eof()
    protocol.data_to_send()
    port.release_pong()
    assert protocol.data_to_send() == []
    assert port.life.state is State.CLOSED


def test_a_protocol_does_not_refer_to_its_port() -> None:
    gc.disable()
    try:
        port = Port(Protocol(Side.CLIENT), Keeper())
        reference = weakref.ref(port._protocol)
        del port
        assert reference() is None
    finally:
        gc.enable()
