"""Closing on asyncio: the closing handshake from either end, deadlines, back-pressure, what everybody is told."""

from __future__ import annotations

import asyncio
import gc
import logging
import weakref
from collections.abc import Callable
from typing import Any, ClassVar

import pytest

from _kit import idle, steps, virtual, wire
from _kit.ends import open_end
from websockets.asyncio.connection import Connection
from websockets.asyncio.server import ServerConnection
from websockets.exceptions import ConnectionClosedError, ConnectionClosedOK, PayloadTooBig, ProtocolError
from websockets.protocol import Side, State
from websockets.testing import connected_pair

both_sides = pytest.mark.parametrize("side", [Side.SERVER, Side.CLIENT])


def now() -> float:
    return asyncio.get_running_loop().time()


@both_sides
@virtual
async def test_close(side: Side) -> None:
    async with open_end(side) as (connection, peer):
        task = asyncio.create_task(connection.close(1001, "bye"))
        await peer.expect_close(1001, "bye")
        assert connection.state.name == "CLOSING"
        await peer.finish(1001)
        await task
        assert connection.state.name == "CLOSED"
        assert (connection.close_code, connection.close_reason) == (1001, "")
        await connection.close(1002)
        await connection.wait_closed()
        with pytest.raises(ConnectionClosedOK, match="^sent 1001 .going away. bye; then received 1001 .going away.$"):
            await connection.recv()


@virtual
async def test_server_ends_the_tcp_connection_first() -> None:
    async with open_end(Side.SERVER) as (connection, peer):
        await peer.close(1000)
        await peer.expect_close(1000)
        assert await peer.raw.read_until_eof() == b""
        await idle()
        assert connection.state is State.CLOSING  # until the client ends it too
        peer.raw.close()
        await connection.wait_closed()


@virtual
async def test_client_waits_for_the_server_to_end_the_tcp_connection() -> None:
    async with open_end(Side.CLIENT) as (connection, peer):
        await peer.close(1000)
        await peer.expect_close(1000)
        await asyncio.sleep(5)
        assert peer.raw.ended is None
        peer.raw.eof()
        await connection.wait_closed()
        assert peer.raw.ended == "eof"


class Remembering(ServerConnection):
    """A class of the application that has something to do when the connection is over."""

    order: ClassVar[list[str]] = []

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self.order.append("connection_lost")


class Nameless(Remembering):
    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)


# As of a function that was made by exec().
Nameless.connection_lost.__module__ = None  # type: ignore[assignment]


@pytest.mark.parametrize(
    ("cls", "expected"),
    [
        pytest.param(ServerConnection, ["recv", "after the call"], id="at once"),
        pytest.param(Remembering, ["connection_lost", "after the call", "recv"], id="not before a class of the user"),
        pytest.param(Nameless, ["connection_lost", "after the call", "recv"], id="nor before one without a module"),
    ],
)
@virtual
async def test_who_waits_for_a_message_goes_on_when_the_connection_ends(
    cls: type[ServerConnection], expected: list[str]
) -> None:
    order = Remembering.order
    order.clear()

    async def receive(connection: Connection) -> None:
        with pytest.raises(ConnectionClosedError):
            await connection.recv()
        order.append("recv")

    def end(connection: Connection) -> None:
        connection.connection_lost(None)
        order.append("after the call")

    async with open_end(Side.SERVER, create_connection=cls) as (connection, _):
        task = asyncio.create_task(receive(connection))
        await idle()
        asyncio.get_running_loop().call_soon(end, connection)
        await task
        assert order == expected


@pytest.mark.scenario(63, 77)
@both_sides
@pytest.mark.parametrize("close_timeout", [2, 10])
@virtual
async def test_peer_never_answers(side: Side, close_timeout: float) -> None:
    async with open_end(side, close_timeout=close_timeout) as (connection, _):
        start = now()
        await connection.close()
        assert now() - start == pytest.approx(close_timeout, abs=0.02)
        assert connection.close_code == 1006
        with pytest.raises(ConnectionClosedError, match="^sent 1000 .OK.; no close frame received$") as caught:
            await connection.send("late")
        assert str(caught.value.__cause__) == "timed out while closing connection"
        assert isinstance(caught.value.__cause__, TimeoutError)


@pytest.mark.scenario(63, 77)
@both_sides
@virtual
async def test_peer_closes_and_never_ends_the_tcp_connection(side: Side) -> None:
    async with open_end(side, close_timeout=2) as (connection, peer):
        start = now()
        await peer.close(1000)
        await connection.wait_closed()
        assert now() - start == pytest.approx(2, abs=0.02)
        # The closing handshake was complete: that is what counts.
        assert connection.close_code == 1000


@both_sides
@virtual
async def test_no_close_timeout(side: Side) -> None:
    async with open_end(side, close_timeout=None) as (connection, peer):
        task = asyncio.create_task(connection.close())
        await asyncio.sleep(1000)
        assert not task.done()
        await peer.finish()
        await task


@pytest.mark.scenario(63, 77)
@both_sides
@virtual
async def test_peer_that_never_stops_sending(side: Side) -> None:
    async with open_end(side, close_timeout=2) as (connection, peer):

        async def flood() -> None:
            while True:
                await peer.text("more")
                await asyncio.sleep(0.1)

        flooding = asyncio.create_task(flood())
        start = now()
        await connection.close()
        assert now() - start == pytest.approx(2, abs=0.02)
        flooding.cancel()
        await asyncio.wait([flooding])


@pytest.mark.scenario(63)
@both_sides
@virtual
async def test_peer_that_stopped_reading(side: Side) -> None:
    """The Close can't even be sent: the deadline holds all the same."""
    async with open_end(side, close_timeout=2) as (connection, peer):
        peer.raw.stop_reading()
        sending = asyncio.create_task(connection.send(bytes(10**6)))
        await steps(5)
        start = now()
        await connection.close()
        assert now() - start == pytest.approx(2, abs=0.02)
        with pytest.raises(ConnectionClosedError):
            await sending


@both_sides
@virtual
async def test_closing_with_a_full_queue_takes_a_round_trip(side: Side) -> None:
    async with open_end(side, max_queue=4) as (connection, peer):
        for index in range(100):
            await peer.text(str(index))
        await idle()
        assert not connection.transport.is_reading()
        start = now()
        task = asyncio.create_task(connection.close())
        await peer.expect_close(1000)
        await peer.finish()
        await task
        assert now() == start
        assert connection.close_code == 1000
        # What was kept can be read; what came beyond the limit is gone.
        got = [await connection.recv() for _ in range(5)]
        assert got == ["0", "1", "2", "3", "4"]


@both_sides
@pytest.mark.parametrize("fragmented", [False, True], ids=["whole", "fragments"])
@pytest.mark.parametrize("size", [1, 3000], ids=["tiny", "larger"])
@virtual
async def test_what_comes_after_our_close_is_not_kept_without_a_limit(side: Side, fragmented: bool, size: int) -> None:
    """Nobody is going to read it, and reading goes on for the sake of the Close."""
    async with open_end(side, max_queue=4) as (connection, peer):
        await peer.text("before")
        await idle()
        task = asyncio.create_task(connection.close())
        await peer.expect_close(1000)
        for _ in range(200):
            await peer.text("x" * size, fin=not fragmented)
            if fragmented:
                await peer.send(wire.CONT, b"y")
        await idle()
        assert connection._session.inbox.count <= 6
        await peer.finish()
        await task
        assert connection.close_code == 1000
        assert await connection.recv() == "before"


@pytest.mark.scenario(80)
@both_sides
@virtual
async def test_many_close_and_wait(side: Side) -> None:
    async with open_end(side) as (connection, peer):
        closing = [asyncio.create_task(connection.close()) for _ in range(3)]
        waiting = [asyncio.create_task(connection.wait_closed()) for _ in range(3)]
        receiving = asyncio.create_task(connection.recv())
        await steps(3)
        for task in (closing[0], waiting[1]):
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
        await peer.finish()
        await asyncio.gather(*closing[1:], waiting[0], waiting[2])
        with pytest.raises(ConnectionClosedOK):
            await receiving


@pytest.mark.scenario(80)
@both_sides
@virtual
async def test_both_close_at_once(side: Side) -> None:
    async with open_end(side) as (connection, peer):
        peer.link.slow(1)
        await peer.close(1001)
        task = asyncio.create_task(connection.close(1000))
        await peer.expect_close(1000)
        if side is Side.SERVER:
            await peer.raw.read_until_eof()
        peer.raw.close()
        await task
        assert connection.close_code == 1001
        assert str(connection.protocol.close_exc) == "sent 1000 (OK); then received 1001 (going away)"


BAD_CLOSES: list[tuple[tuple[Any, ...], str]] = [
    ((999,), "^invalid status code$"),
    ((1006,), "^invalid status code$"),
    ((1000, "x" * 124), "^control frame too long$"),
    ((None, "x"), "^cannot send a reason without a code$"),
]

CLOSES_OF_WRONG_TYPES: list[tuple[tuple[Any, ...], str]] = [
    (("1000",), "^code must be an int, not str: '1000'$"),
    ((1000.0,), "^code must be an int, not float: 1000.0$"),
    ((True,), "^code must be an int, not bool: True$"),
    ((b"\x03\xe8",), "^code must be an int, not bytes: "),
    ((1000, b"x"), "^reason must be a str, not bytes: b'x'$"),
    ((1000, 5), "^reason must be a str, not int: 5$"),
    ((None, b""), "^reason must be a str, not bytes: b''$"),
]


@both_sides
@pytest.mark.parametrize(("arguments", "text"), [*BAD_CLOSES, *CLOSES_OF_WRONG_TYPES])
@virtual
async def test_bad_close(side: Side, arguments: Any, text: str) -> None:
    """It leaves the connection as it was, both ways."""
    async with open_end(side, max_queue=1) as (connection, peer):
        with pytest.raises((ProtocolError, TypeError), match=text):
            await connection.close(*arguments)
        await connection.send("intact")
        await peer.expect(wire.TEXT, b"intact")
        for index in range(5):
            await peer.text(str(index))
        await idle()
        assert [await connection.recv() for _ in range(5)] == ["0", "1", "2", "3", "4"]


@pytest.mark.parametrize(("arguments", "text"), CLOSES_OF_WRONG_TYPES)
@virtual
async def test_closing_with_wrong_types_fails_in_any_state(arguments: Any, text: str) -> None:
    async with open_end(Side.SERVER) as (connection, peer):
        closing = asyncio.create_task(connection.close())
        await peer.expect_close(1000)
        for _ in range(2):
            with pytest.raises(TypeError, match=text):
                await connection.close(*arguments)
            await peer.finish(1000) if not closing.done() else None
            await closing
        # What can't be sent matters to nobody any more.
        await connection.close(999)


@both_sides
@pytest.mark.parametrize(
    ("arguments", "payload"),
    [((1000, None), b"\x03\xe8"), ((None,), b""), ((None, None), b""), ((None, ""), b"")],
)
@virtual
async def test_close_without_a_reason_or_a_code(side: Side, arguments: Any, payload: bytes) -> None:
    async with open_end(side) as (connection, peer):
        closing = asyncio.create_task(connection.close(*arguments))
        await peer.expect(wire.CLOSE, payload)
        await peer.finish(1000)
        await closing


@both_sides
@pytest.mark.parametrize("raised", [None, ZeroDivisionError("of the user")])
@virtual
async def test_leaving_the_context(side: Side, raised: Exception | None) -> None:
    async with open_end(side) as (connection, peer):

        async def use() -> None:
            async with connection:
                if raised is not None:
                    raise raised

        task = asyncio.create_task(use())
        await peer.expect_close(1000 if raised is None else 1011)
        await peer.finish()
        if raised is None:
            await task
        else:
            with pytest.raises(ZeroDivisionError):
                await task


VIOLATIONS: dict[str, tuple[int, bytes, type[Exception]]] = {
    "code that never travels": (wire.CLOSE, b"\x03\xed", ProtocolError),
    "invalid opcode": (3, b"", ProtocolError),
    "text that isn't UTF-8": (wire.TEXT, b"\xff", ProtocolError),
    "too big": (wire.BINARY, bytes(101), PayloadTooBig),
}


@both_sides
@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("how", ["close", "shutdown", "idle"])
@pytest.mark.parametrize(("opcode", "payload", "kind"), VIOLATIONS.values(), ids=VIOLATIONS)
@virtual
async def test_a_violation_after_our_close_ends_it_at_once(
    side: Side, when: str, how: str, opcode: int, payload: bytes, kind: type[Exception]
) -> None:
    """Nobody waits for the messages before it any more, read or not."""
    options = {"max_size": 100, "close_timeout": None, "ping_interval": None}
    if how == "idle":
        options["idle_timeout"] = 60
    async with open_end(side, **options) as (connection, peer):
        if when == "before" and how != "idle":
            await peer.text("unread")
            await idle()
        if how == "idle":
            await asyncio.sleep(90)
            closing = asyncio.create_task(connection.wait_closed())
        elif how == "shutdown" and side is Side.SERVER:
            connection.server.close()  # type: ignore[attr-defined]
            closing = asyncio.create_task(connection.wait_closed())
        else:
            closing = asyncio.create_task(connection.close())
        assert (await peer.frame()).opcode == wire.CLOSE
        start = now()
        if when == "after" or how == "idle":
            await peer.text("unread")
        await peer.send(opcode, payload)
        if side is Side.SERVER:
            assert await peer.raw.read_until_eof() == b""
        else:
            await idle()
            assert isinstance(connection.protocol.parser_exc, kind)
        peer.raw.close()
        await closing
        assert now() == start
        assert await connection.recv() == "unread"
        with pytest.raises(ConnectionClosedError) as caught:
            await connection.recv()
        assert isinstance(caught.value.__cause__, kind)


@both_sides
@virtual
async def test_giving_up_while_reading_is_paused(side: Side) -> None:
    """The end of the peer must be seen, though nobody asks for messages."""
    async with open_end(side, max_queue=1) as (connection, peer):
        for index in range(4):
            await peer.text(str(index))
        await idle()
        assert not connection.transport.is_reading()
        start = now()
        with pytest.raises(TypeError):
            await connection.send(["first", 2])  # type: ignore[list-item]
        assert (await peer.frame()).payload == b"first"
        await peer.expect_close(1011, "error in fragmented message")
        await peer.finish(1011)
        await connection.wait_closed()
        assert now() == start


@both_sides
@virtual
async def test_the_end_of_the_peer_is_seen_while_reading_is_paused(side: Side) -> None:
    """A full queue holds up messages, of which there are no more after a Close."""
    async with open_end(side, max_queue=1) as (connection, peer):
        start = now()
        await peer.raw.send(b"".join(wire.text(str(index), mask=peer.mask) for index in range(4)))
        await peer.finish(1000)
        await connection.wait_closed()
        assert now() == start
        assert [await connection.recv() for _ in range(4)] == ["0", "1", "2", "3"]


@both_sides
@virtual
async def test_half_open(side: Side) -> None:
    """The peer ends the stream without a Close: what it sent is kept, and it gets our end of the stream."""
    async with open_end(side) as (connection, peer):
        await peer.text("last words")
        peer.raw.eof()
        await connection.wait_closed()
        assert peer.raw.ended == "eof"
        assert await connection.recv() == "last words"
        with pytest.raises(ConnectionClosedError, match="^no close frame received or sent$"):
            await connection.recv()


@pytest.mark.scenario(63)
@both_sides
@virtual
async def test_peer_that_ends_the_stream_and_does_not_read(side: Side) -> None:
    """What waits to be written would keep the TCP connection for ever, and whoever waits for room."""
    async with open_end(side, close_timeout=2) as (connection, peer):
        peer.raw.stop_reading()
        sending = asyncio.create_task(connection.send(bytes(10**6)))
        await steps(5)
        start = now()
        peer.raw.eof()
        await connection.wait_closed()
        assert now() - start == pytest.approx(2, abs=0.02)
        with pytest.raises(ConnectionClosedError, match="^no close frame received or sent$"):
            await sending


@both_sides
@virtual
async def test_a_peer_that_ends_the_stream_and_reads_gets_everything(side: Side) -> None:
    async with open_end(side, close_timeout=2) as (connection, peer):
        peer.raw.stop_reading()
        sending = asyncio.create_task(connection.send(bytes(10**5)))
        await steps(5)
        peer.raw.eof()
        await asyncio.sleep(1.5)
        peer.raw.resume_reading()
        await connection.wait_closed()
        assert (await peer.frame()).payload == bytes(10**5)
        assert await peer.raw.read_until_eof() == b""
        await asyncio.wait([sending])


@virtual
async def test_half_closing_where_the_transport_cannot(caplog: pytest.LogCaptureFixture) -> None:
    """As with TLS: the end of what is sent is the end of the connection."""
    caplog.set_level(logging.DEBUG, "websockets")
    async with open_end(Side.SERVER) as (connection, peer):
        connection.transport.can_write_eof = lambda: False  # type: ignore[method-assign]
        await peer.close(1000)
        await connection.wait_closed()
        assert peer.raw.ended == "eof"
    assert "x closing TCP connection" in caplog.messages
    assert "x half-closing TCP connection" not in caplog.messages


@both_sides
@pytest.mark.parametrize("reads", [False, True], ids=["afterwards", "at once"])
@virtual
async def test_why_a_connection_ended_is_not_how(side: Side, reads: bool) -> None:
    """What the peer did wrong is the cause, and not that it broke off then."""
    async with open_end(side) as (connection, peer):
        receiving = asyncio.create_task(connection.recv()) if reads else None
        await steps(2)
        await peer.send(0x3)
        await peer.expect_close(1002, "invalid opcode")
        peer.raw.reset()
        await connection.wait_closed()
        with pytest.raises(ConnectionClosedError) as caught:
            await (receiving or connection.recv())
        assert isinstance(caught.value.__cause__, ProtocolError)
        assert str(caught.value.__cause__) == "invalid opcode"


@both_sides
@virtual
async def test_who_gave_up_says_why_though_the_peer_breaks_off(side: Side) -> None:
    async with open_end(side, ping_interval=5, ping_timeout=5) as (connection, peer):
        assert (await peer.frame()).opcode == wire.PING
        await peer.expect_close(1011, "keepalive ping timeout")
        peer.raw.reset()
        with pytest.raises(ConnectionClosedError) as caught:
            await connection.recv()
        assert isinstance(caught.value.__cause__, TimeoutError)


@both_sides
@virtual
async def test_reset(side: Side) -> None:
    async with open_end(side) as (connection, peer):
        peer.raw.reset()
        await connection.wait_closed()
        with pytest.raises(ConnectionClosedError) as caught:
            await connection.send("late")
        assert isinstance(caught.value.__cause__, ConnectionResetError)


@pytest.mark.scenario(78)
@both_sides
@pytest.mark.parametrize("stage", ["before", "during"])
@virtual
async def test_cancelling_close(side: Side, stage: str) -> None:
    """Cancelled or not, a close() that began goes on, within its deadline."""
    async with open_end(side, close_timeout=2) as (connection, peer):
        # Never an eager task, which could not be cancelled before it begins.
        task = asyncio.Task(connection.close())
        await steps(0 if stage == "before" else 3)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        if stage == "before":
            assert connection.state is State.OPEN
            return
        await peer.expect_close(1000)
        await connection.wait_closed()


@virtual
async def test_a_closed_connection_is_let_go_of() -> None:
    """No cycle keeps it until the collector comes by."""
    gc.disable()
    try:
        async with connected_pair() as (client, server):
            references = [weakref.ref(end) for end in (client, client.protocol, client._session)]
            await client.send("hello")
            await server.recv()
            await client.ping()
            await client.close()
            del client, server
        await idle()
        assert [reference() for reference in references] == [None, None, None]
    finally:
        gc.enable()


# ---------------------------------------------------------------------------------------- a deadline of its own, abort


@both_sides
@pytest.mark.parametrize(("close_timeout", "timeout"), [(10, 3), (3, 10), (None, 3), (10, 0)])
@virtual
async def test_close_with_a_deadline_of_its_own(side: Side, close_timeout: float | None, timeout: float) -> None:
    async with open_end(side, close_timeout=close_timeout) as (connection, _):
        started = now()
        await connection.close(timeout=timeout)
        assert now() - started == pytest.approx(timeout, abs=0.02)
        assert connection.close_code == 1006


@both_sides
@virtual
async def test_a_deadline_may_become_shorter(side: Side) -> None:
    async with open_end(side, close_timeout=10) as (connection, _):
        started = now()
        closing = asyncio.create_task(connection.close(1000))
        await asyncio.sleep(2)
        await connection.close(timeout=1)
        await closing
        assert now() - started == pytest.approx(3, abs=0.02)


@both_sides
@virtual
async def test_a_deadline_does_not_become_longer(side: Side) -> None:
    async with open_end(side, close_timeout=10) as (connection, _):
        started = now()
        closing = asyncio.create_task(connection.close(1000))
        await asyncio.sleep(2)
        await connection.close(timeout=60)
        await closing
        assert now() - started == pytest.approx(10, abs=0.02)


@virtual
async def test_a_negative_deadline() -> None:
    async with open_end(Side.SERVER) as (connection, _):
        with pytest.raises(ValueError, match=r"^timeout must be a number of seconds, 0 or more, .*, not -1$"):
            await connection.close(timeout=-1)
        assert connection.state is State.OPEN


@both_sides
@virtual
async def test_abort(side: Side) -> None:
    async with open_end(side) as (connection, peer):
        await peer.text("arrived before")
        await idle()
        connection.abort()
        connection.abort()
        assert await connection.recv() == "arrived before"
        with pytest.raises(ConnectionClosedError, match="no close frame received or sent") as raised:
            await connection.send("a")
        assert isinstance(raised.value.__cause__, ConnectionAbortedError)
        with pytest.raises(ConnectionClosedError):
            await connection.recv()
        assert (connection.state, connection.close_code) == (State.CLOSED, 1006)
        assert connection.buffered_amount == 0
        connection.abort()
        assert await peer.raw.read_until_eof() == b""


@both_sides
@virtual
async def test_abort_wakes_everybody(side: Side) -> None:
    async with open_end(side) as (connection, peer):
        peer.raw.stop_reading()
        waiting = [
            asyncio.create_task(connection.recv()),
            asyncio.ensure_future(await connection.ping()),
            asyncio.create_task(_send_for_ever(connection)),
            asyncio.create_task(connection.wait_closed()),
        ]
        await idle()
        assert connection.buffered_amount > 2**15
        connection.abort()
        results = await asyncio.gather(*waiting, return_exceptions=True)
        assert [type(result) for result in results] == [ConnectionClosedError] * 3 + [type(None)]


async def _send_for_ever(connection: Any) -> None:
    while True:
        await connection.send(bytes(1000))


@both_sides
@virtual
async def test_abort_while_closing(side: Side) -> None:
    async with open_end(side) as (connection, peer):
        started = now()
        closing = asyncio.create_task(connection.close())
        await peer.expect_close(1000)
        connection.abort()
        await closing
        assert now() == started
        assert connection.close_code == 1006


# --------------------------------------------------------------------------------------------- writes that are refused


def refuse_once(connection: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have the transport say, the next time, that it takes nothing."""
    write = connection.transport.write

    def refuse(data: bytes) -> None:
        monkeypatch.setattr(connection.transport, "write", write)
        raise RuntimeError("not now")

    monkeypatch.setattr(connection.transport, "write", refuse)


@both_sides
@virtual
async def test_a_close_that_the_transport_refuses(side: Side, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is lost, and the peer doesn't answer it; but closing that has begun has a limit."""
    async with open_end(side, close_timeout=2) as (connection, _):
        started = now()
        refuse_once(connection, monkeypatch)
        with pytest.raises(RuntimeError, match="not now"):
            await connection.close()
        await connection.wait_closed()
        assert now() == started + 2


@both_sides
@virtual
async def test_a_keepalive_ping_that_the_transport_refuses(side: Side, monkeypatch: pytest.MonkeyPatch) -> None:
    """A silent peer is noticed all the same."""
    async with open_end(side, ping_interval=1, ping_timeout=2, close_timeout=1) as (connection, _):
        loop = asyncio.get_running_loop()
        reported: list[Any] = []
        loop.set_exception_handler(lambda loop, context: reported.append(context["exception"]))
        refuse_once(connection, monkeypatch)
        await connection.wait_closed()
        assert [type(exc) for exc in reported] == [RuntimeError]
        with pytest.raises(ConnectionClosedError, match="keepalive ping timeout"):
            await connection.recv()


@both_sides
@virtual
async def test_abort_in_any_case(side: Side, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*arguments: object) -> None:
        raise MemoryError

    async with open_end(side) as (connection, _):
        monkeypatch.setattr(connection._session, "fail", fail, raising=False)
        with pytest.raises(MemoryError):
            connection.abort()
        await connection.wait_closed()


END: dict[str, Callable[[Any], None]] = {
    "close": lambda connection: connection._start_closing(1000),
    "fail": lambda connection: connection._fail(1011, "why", ConnectionAbortedError()),
}


@pytest.mark.parametrize("method", END)
@both_sides
@virtual
async def test_without_memory_closing_ends_at_once(side: Side, method: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """There may be no Close on its way then, and no limit."""

    def run_out(*arguments: object) -> None:
        raise MemoryError

    async with open_end(side, close_timeout=None) as (connection, _):
        monkeypatch.setattr(connection._session, method, run_out, raising=False)
        with pytest.raises(MemoryError):
            END[method](connection)
        monkeypatch.undo()
        await connection.wait_closed()
