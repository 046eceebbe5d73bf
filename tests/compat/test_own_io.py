"""The protocol without I/O, as frameworks with I/O of their own use it beyond its documentation."""

from __future__ import annotations

import pytest

from websockets.exceptions import ConnectionClosedError, InvalidState
from websockets.frames import Close
from websockets.protocol import Protocol, Side, State
from websockets.server import ServerProtocol

both_sides = pytest.mark.parametrize("side", [Side.SERVER, Side.CLIENT], ids=["server", "client"])


@both_sides
@pytest.mark.parametrize("state", State)
def test_assigning_closed_tells_that_the_connection_is_lost(side: Side, state: State) -> None:
    connection = Protocol(side, state=state)
    connection.state = State.CLOSED
    assert connection.state is State.CLOSED
    assert connection.close_code == 1006
    # Nothing is sent any more, whatever was owed.
    connection.data_to_send()
    connection.state = State.CLOSED
    assert connection.data_to_send() == []
    with pytest.raises(InvalidState, match="^connection is closed$"):
        connection.send_text(b"too late")


def test_assigning_closed_to_a_server_that_is_opening() -> None:
    connection = ServerProtocol()
    connection.state = State.CLOSED
    assert str(connection.handshake_exc) == "did not receive a valid HTTP request"


@pytest.mark.parametrize("state", State)
def test_assigning_the_state_that_it_has(state: State) -> None:
    connection = Protocol(Side.SERVER, state=state)
    connection.state = state
    assert connection.state is state


@pytest.mark.parametrize("state", [State.CONNECTING, State.CLOSING])
def test_assigning_another_state(state: State) -> None:
    connection = Protocol(Side.SERVER)
    with pytest.raises(InvalidState, match=f"^connection is open; it cannot be made {state.name.lower()}$"):
        connection.state = state
    assert connection.state is State.OPEN


@both_sides
def test_failing_with_1006_sends_no_close(side: Side) -> None:
    connection = Protocol(side)
    connection.fail(1006, "lost")
    assert connection.data_to_send() == [b""]
    assert connection.close_expected()
    connection.fail(1006)
    assert connection.data_to_send() == []
    connection.receive_eof()
    assert type(connection.close_exc) is ConnectionClosedError
    assert str(connection.close_exc) == "no close frame received or sent"


def test_failing_with_1006_after_a_close() -> None:
    connection = Protocol(Side.CLIENT)
    connection.send_close(1000)
    connection.data_to_send()
    connection.fail(1006)
    assert connection.data_to_send() == [b""]
    assert connection.close_sent == Close(1000, "")
