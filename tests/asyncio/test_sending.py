"""Sending on asyncio: iterables of both kinds, transports that close, frames that are held back or torn."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any
from unittest import mock

import pytest

from _kit import idle, virtual, wire
from _kit.ends import open_end
from websockets import PreparedMessage
from websockets.asyncio.connection import Connection
from websockets.exceptions import ConnectionClosedError, ConnectionClosedOK, ProtocolError
from websockets.protocol import Side, State
from websockets.testing import connected_pair

both_sides = pytest.mark.parametrize("side", [Side.SERVER, Side.CLIENT])


class Items:
    """An iterator, sync or async, that notes what is asked of it."""

    def __init__(self, *items: Any) -> None:
        self.asked: list[str] = []
        self._items = list(items)

    def _next(self, end: type[Exception]) -> Any:
        self.asked.append("next")
        item = self._items.pop(0) if self._items else end
        if isinstance(item, type) and issubclass(item, BaseException):
            raise item("of the user")
        return item


class Each(Items):
    def __iter__(self) -> Each:
        self.asked.append("iter")
        return self

    def __next__(self) -> Any:
        return self._next(StopIteration)


class AsyncEach(Items):
    def __aiter__(self) -> AsyncEach:
        self.asked.append("iter")
        return self

    async def __anext__(self) -> Any:
        await asyncio.sleep(0)
        return self._next(StopAsyncIteration)


@both_sides
@pytest.mark.parametrize("cls", [Each, AsyncEach])
@pytest.mark.parametrize("item", [ZeroDivisionError, asyncio.CancelledError, 1, None, ["nested"]], ids=str)
@virtual
async def test_what_fails_before_its_first_item_has_begun_nothing(side: Side, cls: Any, item: Any) -> None:
    async with open_end(side) as (connection, peer):
        expected = item if isinstance(item, type) else TypeError
        with pytest.raises(expected, match="^(of the user$|iterable must contain bytes or str\\n)"):
            await connection.send(cls(item))
        await connection.send(cls("int", "act"))
        assert [(await peer.frame()).payload for _ in range(3)] == [b"int", b"act", b""]


@both_sides
@pytest.mark.parametrize("cls", [Each, AsyncEach])
@virtual
async def test_a_closed_connection_asks_nothing_of_an_iterable(side: Side, cls: Any) -> None:
    async with open_end(side) as (connection, peer):
        closing = asyncio.create_task(connection.close())
        await peer.expect_close(1000)
        items = cls("a", "b")
        early = asyncio.create_task(connection.send(items))
        await idle()
        assert not early.done()
        await peer.finish(1000)
        await closing
        for sending in (early, connection.send(items)):
            with pytest.raises(ConnectionClosedOK):
                await sending
        assert "next" not in items.asked


@virtual
async def test_a_large_message_does_not_overtake_answers_that_are_held_back() -> None:
    async with open_end(Side.SERVER) as (connection, peer):
        await peer.text("question")
        await peer.text("another")
        await idle()
        await connection.recv()
        await connection.send("answer")
        assert connection._ws_corked
        await connection.send(bytes(300_000))
        await peer.expect(wire.TEXT, b"answer")
        await peer.expect(wire.BINARY, bytes(300_000))


PREPARED = PreparedMessage("text")

SENDERS: dict[str, Callable[[Connection], Awaitable[object]]] = {
    "text": lambda connection: connection.send("text"),
    "large": lambda connection: connection.send(bytes(300_000)),
    "prepared": lambda connection: connection.send(PREPARED),
    "compressed": lambda connection: connection.send("text", compress=True),
    "fragments": lambda connection: connection.send(["one", "two"]),
    "ping": lambda connection: connection.ping(),
    "pong": lambda connection: connection.pong(),
}


@pytest.mark.parametrize("closing", ["abort", "close"])
@pytest.mark.parametrize("sender", SENDERS)
@both_sides
@virtual
async def test_whoever_only_sends_hears_of_the_end(side: Side, sender: str, closing: str) -> None:
    """The transport tells of it in another turn of the event loop, which a loop that sends must let come."""
    async with open_end(side) as (connection, peer):
        getattr(connection.transport, closing)()

        async def send() -> None:
            for _ in range(5):
                await SENDERS[sender](connection)

        with pytest.raises(ConnectionClosedError):
            await send()
        assert await peer.raw.read_until_eof() == b""


@virtual
async def test_a_transport_that_takes_its_time_to_close() -> None:
    """Each message waits for one turn of the event loop, and no longer."""
    async with open_end(Side.SERVER) as (connection, _):
        turns: list[int] = []
        loop = asyncio.get_running_loop()
        with mock.patch.object(type(connection.transport), "is_closing", return_value=True):
            for number in range(5):
                loop.call_soon(turns.append, number)
                await connection.send("text")
            # Two writes in one turn, as of a broadcast and an answer.
            connection._ws_write_out(b"late")
            connection._ws_write_out(b"late")
        assert turns[:4] == [0, 1, 2, 3]
        connection.transport.abort()


@virtual
async def test_nothing_is_written_once_the_connection_is_over() -> None:
    async with open_end(Side.SERVER) as (connection, peer):
        sent = connection.statistics.bytes_sent
        connection.transport.abort()
        await connection.wait_closed()
        connection._ws_write_out(b"late")
        connection._ws_write_pieces(b"header", bytes(300_000))
        assert connection.statistics.bytes_sent == sent
        assert await peer.raw.read_until_eof() == b""


@virtual
async def test_a_message_inside_one_that_the_protocol_was_told_of() -> None:
    async with open_end(Side.SERVER) as (connection, peer):
        connection.protocol.send_text(b"first", fin=False)
        with pytest.raises(ProtocolError, match="^expected a continuation frame$"):
            await connection.send("another")
        connection.protocol.send_continuation(b" and last", fin=True)
        await connection.pong()
        await connection.send("another")
        rows = [await peer.frame() for _ in range(4)]
        assert [row.payload for row in rows] == [b"first", b" and last", b"", b"another"]


@virtual
async def test_a_pong_for_which_nobody_waits_any_more() -> None:
    async with open_end(Side.SERVER) as (connection, peer):
        given_up = asyncio.ensure_future(await connection.ping(b"1"))
        waiter = await connection.ping(b"2")
        given_up.cancel()
        await peer.send(wire.PONG, b"2")
        assert 0.0 < await waiter <= 1e-6
        assert given_up.cancelled()


@virtual
async def test_a_connection_is_lost_while_nobody_waits_for_a_pong_any_more() -> None:
    async with open_end(Side.SERVER) as (connection, _):
        given_up = asyncio.ensure_future(await connection.ping(b"1"))
        waiter = await connection.ping(b"2")
        given_up.cancel()
        connection.transport.abort()
        with pytest.raises(ConnectionClosedError):
            await waiter
        assert given_up.cancelled()


@virtual
async def test_random_payloads_of_pings_differ(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn = iter([b"same", b"same", b"same", b"diff"])
    monkeypatch.setattr("websockets._session.session.secrets.token_bytes", lambda size: next(drawn))
    async with open_end(Side.SERVER) as (connection, peer):
        await connection.ping()
        await connection.ping()
        await peer.expect(wire.PING, b"same")
        await peer.expect(wire.PING, b"diff")


@both_sides
@virtual
async def test_frames_that_are_held_back_count(side: Side) -> None:
    async with open_end(side) as (connection, peer):
        await peer.raw.send(wire.text("a", mask=peer.mask) * 3)
        await connection.recv()
        await connection.send("bc")
        assert connection.buffered_amount == len(wire.text("bc", mask=side is Side.CLIENT))
        assert peer.raw.unread == b""
        await idle()
        assert connection.buffered_amount == 0


@both_sides
@virtual
async def test_there_is_no_line_once_nobody_waits_in_it(side: Side) -> None:
    async with open_end(side) as (connection, peer):
        gate = asyncio.Event()

        async def slowly() -> AsyncIterator[str]:
            yield "first"
            await gate.wait()

        sending = [asyncio.create_task(connection.send(message)) for message in (slowly(), "waiting")]
        await idle()
        assert connection._ws_send_lock is not None
        gate.set()
        await asyncio.gather(*sending)
        assert connection._ws_send_lock is None
        assert [(await peer.frame()).payload for _ in range(3)] == [b"first", b"", b"waiting"]


# ------------------------------------------------------------------------------------------- what happens in between


class Ending:
    """A value whose truth ends the connection."""

    def __init__(self, connection: Any) -> None:
        self.connection = connection

    def __bool__(self) -> bool:
        self.connection._ws_start_closing(1000)
        return True


@pytest.mark.parametrize("message", ["late", b"late"])
@both_sides
@virtual
async def test_nothing_follows_a_close_that_an_argument_sends(side: Side, message: Any) -> None:
    async with open_end(side) as (connection, peer):
        ending: Any = Ending(connection)
        sending = asyncio.create_task(connection.send(message, text=ending))
        await peer.expect_close(1000)
        await peer.close(1000)
        with pytest.raises(ConnectionClosedOK):
            await sending


@pytest.mark.parametrize("end", [0, 1])
@virtual
async def test_nothing_follows_a_close_that_compressing_sends(end: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """As out of a signal handler."""
    async with connected_pair(compression="deflate") as pair:
        connection, peer = pair[end], pair[1 - end]
        deflate: Any = connection.protocol.extensions[0]
        pack = type(deflate).pack

        def close_and_pack(self: Any, *arguments: Any) -> Any:
            if connection.state is State.OPEN:
                connection._ws_start_closing(1000)
            return pack(self, *arguments)

        monkeypatch.setattr(type(deflate), "pack", close_and_pack)
        connection._ws_choose_path()
        with pytest.raises(ConnectionClosedOK):
            await connection.send("late" * 100)
        with pytest.raises(ConnectionClosedOK):
            await peer.recv()
        assert peer.protocol.parser_exc is None


@both_sides
@virtual
async def test_a_last_fragment_that_is_not_written(side: Side, monkeypatch: pytest.MonkeyPatch) -> None:
    """An interruption, such as a signal handler that raises, lets no other message come first."""
    async with open_end(side) as (connection, peer):
        flushed = 0
        flush_and_drain = connection._ws_flush_and_drain

        async def interrupted() -> None:
            nonlocal flushed
            flushed += 1
            if flushed == 3:
                raise InterruptedError
            await flush_and_drain()

        monkeypatch.setattr(connection, "_ws_flush_and_drain", interrupted, raising=False)
        with pytest.raises(InterruptedError):
            await connection.send(["one", "two"])
        assert connection.state is State.CLOSING
        assert [(await peer.frame()).payload for _ in range(3)] == [b"one", b"two", b""]
        await peer.expect_close(1011, "error in fragmented message")


@both_sides
@virtual
async def test_a_connection_that_is_lost_with_fragmented_messages_in_line(side: Side) -> None:
    """Both learn that the connection is closed: the second isn't told that the first is under way."""
    async with open_end(side) as (connection, peer):
        go = asyncio.Event()

        async def pieces() -> AsyncIterator[str]:
            yield "one"
            await go.wait()
            yield "two"

        sending = [asyncio.create_task(connection.send(message)) for message in (pieces(), ["in", "line"])]
        assert (await peer.frame()).payload == b"one"
        connection.abort()
        await connection.wait_closed()
        go.set()
        for task in sending:
            with pytest.raises(ConnectionClosedError):
                await task


@virtual
async def test_nothing_follows_a_frame_that_is_torn() -> None:
    """As often as aborting fails, the next write tries again; once the connection is over there is nothing to do."""
    async with connected_pair() as (client, server):
        client._ws_torn = True
        await client.send("text")
        await client.wait_closed()
        client._ws_tear()
        with pytest.raises(ConnectionClosedError):
            await server.recv()
        server._ws_torn = True
        server._ws_write_all([b"late"])


@virtual
async def test_a_large_frame_that_follows_one_that_is_torn() -> None:
    async with connected_pair() as (client, server):
        server._ws_torn = True
        server._ws_write_all([b"header", bytes(2**20)])
        with pytest.raises(ConnectionClosedError):
            await client.recv()
