"""Receiving on asyncio: cancellation at every step, bursts and turns of the loop, streams that nobody finishes."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from _kit import idle, steps, virtual, wire
from _kit.ends import open_end
from websockets.asyncio._fastpath._readable import BURST
from websockets.exceptions import ConcurrencyError
from websockets.protocol import Side
from websockets.testing import connected_pair

both_sides = pytest.mark.parametrize("side", [Side.SERVER, Side.CLIENT])


async def _leave_by_aclose(connection: Any) -> None:
    fragments = connection.recv_streaming()
    await anext(fragments)
    await fragments.aclose()


@both_sides
@virtual
async def test_the_rest_of_a_message_that_was_left_is_not_kept(side: Side) -> None:
    """It neither takes memory nor counts for ``max_queue``, however long it is."""
    async with open_end(side, max_queue=4) as (connection, peer):
        await peer.text("one", fin=False)
        await idle()
        await _leave_by_aclose(connection)
        for _ in range(50):
            await peer.send(wire.CONT, b"x" * 1000, fin=False)
        await idle()
        assert connection.transport.is_reading()
        assert (connection._ws_session.inbox.count, connection._ws_session.inbox.items.current) == (0, None)
        await peer.send(wire.CONT, b"end")
        await peer.text("next")
        assert await connection.recv() == "next"


@pytest.mark.scenario(78)
@both_sides
@pytest.mark.parametrize("k", range(12))
@virtual
async def test_cancelling_recv_never_loses_a_message(side: Side, k: int) -> None:
    """recv() is cancelled k steps after its start, again and again, while messages keep arriving."""
    async with open_end(side) as (connection, peer):
        messages = [f"message {index}" for index in range(20)]

        async def send_all() -> None:
            for index, message in enumerate(messages):
                if index % 3 == 2:
                    await peer.text(message[:3], fin=False)
                    await steps(index % 4)
                    await peer.send(wire.CONT, message[3:].encode())
                else:
                    await peer.text(message)
                await steps(index % 5)

        sending = asyncio.create_task(send_all())
        got = []
        for _ in range(1000):
            task = asyncio.create_task(connection.recv())
            await steps(k)
            task.cancel()
            try:
                got.append(await task)
            except asyncio.CancelledError:
                await steps(1)
            if len(got) == len(messages):
                break
            if k < 4:  # too early to ever succeed: let something through
                task = asyncio.create_task(connection.recv())
                await steps(k + 4)
                if task.done():
                    got.append(task.result())
                else:
                    task.cancel()
                    await asyncio.wait([task])
                    if not task.cancelled():
                        got.append(task.result())
        await sending
        assert got == messages


RECEIVING: dict[str, Any] = {
    "recv": lambda connection: connection.recv(),
    "recv as bytes": lambda connection: connection.recv(decode=False),
    "iteration": lambda connection: anext(aiter(connection)),
    "recv_streaming": lambda connection: anext(connection.recv_streaming()),
}
each_receiver = pytest.mark.parametrize(("name", "receive"), RECEIVING.items(), ids=RECEIVING)


def refusal(name: str) -> str:
    """What a second receiver is told."""
    called = name if name == "recv_streaming" else "recv"
    return f"^cannot call {called} while another coroutine is already running recv or recv_streaming$"


@pytest.mark.parametrize("known", [True, False])
@virtual
async def test_a_stream_that_was_left_where_references_are_not_counted(
    known: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another task receives: what nobody knows any more is collected, what somebody may go on with is not."""
    monkeypatch.setattr("websockets.asyncio.connection.COUNTS_REFERENCES", False)
    async with open_end(Side.CLIENT) as (connection, peer):
        await peer.text("one", fin=False)
        fragments: Any = connection.recv_streaming()
        cycle: list[Any] = [fragments]
        cycle.append(cycle)
        assert await anext(fragments) == "one"
        await peer.send(wire.CONT, b"two")
        await peer.text("next")
        await idle()
        if not known:
            del fragments, cycle
            assert await asyncio.create_task(connection.recv()) == "next"
            return
        receiving = asyncio.create_task(connection.recv())
        with pytest.raises(ConcurrencyError):
            await receiving
        assert await anext(fragments) == "two"
        await fragments.aclose()
        assert await connection.recv() == "next"


@pytest.mark.scenario(79)
@each_receiver
@pytest.mark.parametrize("more", [0, 1, 44, 344])
@both_sides
@virtual
async def test_nobody_else_receives_in_the_pause_after_a_burst(side: Side, more: int, name: str, receive: Any) -> None:
    """Other tasks have their turn, but the task that receives goes on, and gets the messages in order."""
    texts = [str(number) for number in range(BURST + more)]
    async with open_end(side, max_queue=None) as (connection, peer):
        await peer.raw.send(b"".join(wire.text(text, mask=peer.mask) for text in texts))
        await idle()
        got: list[Any] = []

        async def read() -> None:
            while True:
                got.append(await connection.recv())

        reading = asyncio.create_task(read())
        second = asyncio.ensure_future(receive(connection))
        await steps(0 if got else 1)
        assert got == texts[:BURST]
        with pytest.raises(ConcurrencyError, match=refusal(name)):
            await second
        await idle()
        assert got == texts
        # What arrives now is for the one who waited.
        await peer.text("next")
        await idle()
        assert got == [*texts, "next"]
        reading.cancel()
        await asyncio.wait([reading])


@both_sides
@virtual
async def test_a_read_in_the_pause_after_a_burst_resumes_nobody(side: Side) -> None:
    async with open_end(side, max_queue=None) as (connection, peer):
        for number in range(BURST):
            await peer.text(str(number))
        await idle()
        for number in range(BURST):
            assert await connection.recv() == str(number)
        receiving = asyncio.create_task(connection.recv())
        await steps(1)
        await peer.text("next")
        assert await receiving == "next"


# ------------------------------------------------------------------------------------------------------------ fairness


@both_sides
@virtual
async def test_others_have_one_turn_after_each_burst(side: Side) -> None:
    async with open_end(side, max_queue=None) as (connection, peer):
        count = 4 * BURST
        await peer.raw.send(wire.text("x", mask=peer.mask) * count)
        await idle()
        turns = 0

        async def other() -> None:
            nonlocal turns
            while True:
                turns += 1
                await asyncio.sleep(0)

        task = asyncio.create_task(other())
        turns = 0  # an eager task has begun
        for _ in range(count):
            await connection.recv()
        assert turns == 3
        task.cancel()


@pytest.mark.scenario(58)
@virtual
async def test_a_flood_does_not_starve_others() -> None:
    async with connected_pair(server={"max_queue": None}, client={"compression": None}) as (client, server):
        for _ in range(3000):
            await client.send(b"")
        await asyncio.sleep(1)
        turns = 0

        async def other() -> None:
            nonlocal turns
            while True:
                turns += 1
                await asyncio.sleep(0)

        task = asyncio.create_task(other())
        for _ in range(3000):
            await server.recv()
        task.cancel()
        assert turns >= 10
