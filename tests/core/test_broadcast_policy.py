"""To whom a broadcast goes, who is left out, and what is said about that; without a loop."""

from __future__ import annotations

import logging
from typing import Any

import pytest

from websockets import PreparedMessage
from websockets._session.broadcast import ALONE_FROM, TOO_SLOW, Broadcast
from websockets.exceptions import ConcurrencyError
from websockets.extensions.permessage_deflate import PerMessageDeflate
from websockets.protocol import Protocol, Side, State
from websockets.typing import LoggerLike

LOGGER = logging.getLogger("websockets.server")


class Connection:
    """What a broadcast asks of a connection; it notes whether it was asked for its logger."""

    def __init__(self, side: Side = Side.SERVER, state: State = State.OPEN, buffered_amount: int = 0) -> None:
        self.protocol = Protocol(side, state=state)
        self.buffered_amount = buffered_amount
        self.loggers = 0

    @property
    def logger(self) -> LoggerLike:
        self.loggers += 1
        return LOGGER


def frame(broadcast: Broadcast, protocol: Protocol, in_line: bool = False) -> bytes | None:
    """What a broadcast says to send on the connection of a protocol."""
    return broadcast.frame(protocol, protocol._life, in_line)


def plan(message: Any = "hello", **options: Any) -> Broadcast:
    defaults = {"text": None, "raise_exceptions": False, "on_slow": "send", "max_buffered": None}
    return Broadcast(message, **{**defaults, **options})


# ------------------------------------------------------------------------------------------------------------- options


@pytest.mark.parametrize("message", [None, 5, ["a"], {"a": "b"}, iter("a")])
def test_what_cannot_be_broadcast(message: Any) -> None:
    with pytest.raises(TypeError, match=r"^data must be str or bytes$"):
        plan(message)


@pytest.mark.parametrize(
    ("options", "error", "text"),
    [
        ({"on_slow": "wait"}, ValueError, "on_slow must be 'send', 'skip' or 'close', not 'wait'"),
        ({"max_buffered": -1}, ValueError, "max_buffered must be a number of bytes, 0 or more, or None, not -1"),
        ({"max_buffered": "1"}, TypeError, "max_buffered must be a number of bytes, 0 or more, or None, not '1'"),
    ],
)
def test_wrong_options(options: dict[str, Any], error: type[Exception], text: str) -> None:
    with pytest.raises(error, match=f"^{text}"):
        plan(**options)


@pytest.mark.parametrize(("on_slow", "watches"), [("send", False), ("skip", True), ("close", True)])
def test_who_looks_for_slow_connections(on_slow: str, watches: bool) -> None:
    assert plan(on_slow=on_slow).watches is watches


# -------------------------------------------------------------------------------------------------------------- frames


@pytest.mark.parametrize(
    ("message", "options", "sent"),
    [
        ("caf\xe9", {}, b"\x81\x05caf\xc3\xa9"),
        (b"\xff", {}, b"\x82\x01\xff"),
        (b"a", {"text": True}, b"\x81\x01a"),
        ("a", {"text": False}, b"\x82\x01a"),
        (PreparedMessage("a"), {}, b"\x81\x01a"),
    ],
    ids=range(5),
)
def test_frame(message: Any, options: dict[str, Any], sent: bytes) -> None:
    broadcast = plan(message, **options)
    assert frame(broadcast, Protocol(Side.SERVER)) == sent
    assert broadcast.size == len(sent) - 2


def test_connections_that_encode_alike_share_a_frame() -> None:
    broadcast = plan()
    one, two, client = (frame(broadcast, Protocol(side)) for side in (Side.SERVER, Side.SERVER, Side.CLIENT))
    assert one is two
    assert client is not None
    assert client[1] & 0x80


@pytest.mark.parametrize(("size", "shared"), [(ALONE_FROM - 1, False), (ALONE_FROM, True)])
def test_from_which_size_on_a_compressed_message_is_shared(size: int, shared: bool) -> None:
    broadcast, frames = plan("x" * size), []
    for _ in range(2):
        protocol = Protocol(Side.SERVER)
        protocol.extensions = [PerMessageDeflate(False, False, 15, 15)]
        frames.append(frame(broadcast, protocol))
    assert (frames[0] is frames[1]) is shared


@pytest.mark.parametrize("state", [State.CONNECTING, State.CLOSING, State.CLOSED])
def test_connections_that_are_not_open_are_left_out(state: State) -> None:
    connection = Connection(state=State.CONNECTING if state is State.CONNECTING else State.OPEN, buffered_amount=100)
    if state is State.CLOSING:
        connection.protocol.send_close(1000)
    elif state is State.CLOSED:
        connection.protocol.receive_eof()
    assert connection.protocol.state is state
    broadcast = plan(on_slow="close", max_buffered=1)
    assert frame(broadcast, connection.protocol, True) is None
    # They aren't slow, whatever waits there: closing them again would say nothing new.
    assert not broadcast.is_slow(connection, connection.protocol._life, True)


@pytest.mark.parametrize("in_line", [True, False])
def test_connections_in_a_fragmented_message(in_line: bool) -> None:
    protocol = Protocol(Side.SERVER)
    if not in_line:
        protocol.send_text(b"one", False)
    with pytest.raises(ConcurrencyError, match=r"^sending a fragmented message$"):
        frame(plan(), protocol, in_line)


# ---------------------------------------------------------------------------------------------------- slow connections


@pytest.mark.parametrize(
    ("max_buffered", "full", "buffered_amount", "slow"),
    [
        (None, False, 10**9, False),
        (None, True, 0, True),
        (100, True, 100, False),
        (100, False, 101, True),
        (0, False, 0, False),
        (0, False, 1, True),
    ],
)
def test_which_connections_are_slow(max_buffered: int | None, full: bool, buffered_amount: int, slow: bool) -> None:
    connection = Connection(buffered_amount=buffered_amount)
    broadcast = plan(on_slow="skip", max_buffered=max_buffered)
    assert broadcast.is_slow(connection, connection.protocol._life, full) is slow


def test_slow_connections_are_skipped(caplog: pytest.LogCaptureFixture) -> None:
    connection = Connection(buffered_amount=70_000)
    for _ in range(10):
        assert not plan(on_slow="skip").leave_out(connection)
    # A line the first time, and each time that the count has doubled.
    assert [(record.levelname, record.getMessage()) for record in caplog.records] == [
        ("WARNING", f"skipped broadcast: too slow, 70000 bytes wait; {count} skipped until now")
        for count in (1, 2, 4, 8)
    ]
    assert connection.loggers == 4


def test_slow_connections_are_closed(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, LOGGER.name)
    assert plan(on_slow="close").leave_out(Connection(buffered_amount=70_000))
    (record,) = caplog.records
    assert (record.levelname, record.getMessage()) == ("INFO", "closing connection: too slow, 70000 bytes wait")
    assert TOO_SLOW == (1008, "too slow")


# ------------------------------------------------------------------------------------------------------------ failures


def test_failures_are_logged(caplog: pytest.LogCaptureFixture) -> None:
    broadcast = plan()
    for exc in (ConcurrencyError("sending a fragmented message"), LookupError("no way")):
        broadcast.failed(exc, Connection())
    assert [(record.levelname, record.getMessage(), record.exc_info) for record in caplog.records] == [
        ("WARNING", "skipped broadcast: sending a fragmented message", None),
        ("WARNING", "skipped broadcast: failed to write message: LookupError: no way", None),
    ]
    broadcast.finish()


def test_failures_are_raised_together(caplog: pytest.LogCaptureFixture) -> None:
    broadcast, connection = plan(raise_exceptions=True), Connection()
    concurrent, failure = ConcurrencyError("sending a fragmented message"), LookupError("no way")
    for exc in (concurrent, failure):
        broadcast.failed(exc, connection)
    with pytest.raises(ExceptionGroup, match=r"^skipped broadcast") as caught:
        broadcast.finish()
    first, second = caught.value.exceptions
    assert first is concurrent
    assert isinstance(second, RuntimeError)
    assert (str(second), second.__cause__) == ("failed to write message", failure)
    # A logger is made for each connection when it is asked for.
    assert (caplog.records, connection.loggers) == ([], 0)


def test_nothing_went_wrong() -> None:
    plan(raise_exceptions=True).finish()
