"""The future that is resumed inside a read: to tasks, it must look like any other; and tests of the cork."""

from __future__ import annotations

import asyncio
import contextvars
from typing import Any, cast

import pytest

from _kit import idle, steps, virtual, wire
from _kit.ends import open_end
from websockets.asyncio._fastpath import Waiter
from websockets.exceptions import ConnectionClosedOK
from websockets.protocol import Side

variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable", default="unset")


async def wait(waiter: Any) -> str:
    await waiter
    return "done"


@virtual
async def test_it_looks_like_a_future() -> None:
    waiter = Waiter(asyncio.get_running_loop())
    assert asyncio.isfuture(waiter)
    assert waiter.get_loop() is asyncio.get_running_loop()
    assert not waiter.done()
    assert not waiter.cancelled()
    with pytest.raises(asyncio.InvalidStateError):
        waiter.result()
    waiter.wake()
    waiter.wake()
    assert waiter.done()
    assert waiter.exception() is None
    assert not waiter.cancel()
    await waiter


@virtual
async def test_a_comparison_that_sets_another_callback() -> None:
    """Only the callback that was compared is forgotten."""

    class Callback:
        def __call__(self, waiter: Any) -> None:
            raise AssertionError

        def __eq__(self, other: object) -> bool:
            waiter.add_done_callback(seen.append)
            return True

        __hash__ = None  # type: ignore[assignment]

    seen: list[Any] = []
    waiter = Waiter(asyncio.get_running_loop())
    waiter.add_done_callback(Callback())
    waiter.remove_done_callback(cast(Any, object()))
    waiter.wake()
    await steps(1)
    assert seen == [waiter]


@virtual
async def test_wake_is_the_next_turn() -> None:
    waiter = Waiter(asyncio.get_running_loop())
    task = asyncio.create_task(wait(waiter))
    await steps(1)
    waiter.wake()
    assert not task.done()
    await steps(2)
    assert task.done()


@virtual
async def test_resume_is_now() -> None:
    loop = asyncio.get_running_loop()
    waiter = Waiter(loop)
    task = asyncio.create_task(wait(waiter))
    await steps(1)
    seen: list[bool] = []

    def read() -> None:
        waiter.resume()
        seen.append(task.done())
        waiter.resume()

    loop.call_soon(read)
    assert await task == "done"
    assert seen == [True]


@virtual
async def test_resume_inside_a_task_is_the_next_turn() -> None:
    waiter = Waiter(asyncio.get_running_loop())
    task = asyncio.create_task(wait(waiter))
    await steps(1)
    waiter.resume()
    assert not task.done()
    assert await task == "done"


@virtual
async def test_resume_before_anybody_waits() -> None:
    waiter = Waiter(asyncio.get_running_loop())
    waiter.resume()
    assert await wait(waiter) == "done"


@virtual
async def test_callbacks_can_be_added_late_and_removed() -> None:
    waiter = Waiter(asyncio.get_running_loop())
    called: list[Waiter] = []
    waiter.add_done_callback(called.append)
    assert waiter.remove_done_callback(called.append) == 1
    assert waiter.remove_done_callback(called.append) == 0
    waiter.wake()
    waiter.add_done_callback(called.append)
    assert called == []
    await idle()
    assert called == [waiter]


@pytest.mark.parametrize("message", [None, "why"])
@virtual
async def test_cancelling(message: str | None) -> None:
    waiter = Waiter(asyncio.get_running_loop())
    task = asyncio.create_task(wait(waiter))
    await steps(1)
    task.cancel(message)
    with pytest.raises(asyncio.CancelledError) as caught:
        await task
    assert caught.value.args == (() if message is None else (message,))
    assert waiter.cancelled()
    waiter.resume()


# -------------------------------------------------------------------------------------------------- in a connection


async def timeout(connection: Any) -> Any:
    async with asyncio.timeout(5):
        return await connection.recv()


async def group(connection: Any) -> Any:
    async with asyncio.TaskGroup() as tasks:
        task = tasks.create_task(connection.recv())
        tasks.create_task(asyncio.sleep(1))
    return task.result()


WAYS = {
    "plain": lambda connection: connection.recv(),
    "wait_for": lambda connection: asyncio.wait_for(connection.recv(), 5),
    "timeout": timeout,
    "TaskGroup": group,
    "gather": lambda connection: asyncio.gather(connection.recv(), asyncio.sleep(1)),
    "shield": lambda connection: asyncio.shield(asyncio.ensure_future(connection.recv())),
}


@pytest.mark.parametrize("side", [Side.SERVER, Side.CLIENT])
@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
@pytest.mark.parametrize("debug", [False, True])
def test_ways_to_wait(side: Side, way: Any, debug: bool) -> None:
    @virtual(debug=debug)
    async def run() -> None:
        async with open_end(side) as (connection, peer):
            for _ in range(3):
                task = asyncio.ensure_future(way(connection))
                await steps(5)
                await peer.text("message")
                result = await task
                assert result in ("message", ["message", None])
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(connection.recv(), 5)

    run()


@virtual
async def test_the_context_is_that_of_the_task() -> None:
    async with open_end(Side.SERVER) as (connection, peer):
        seen: list[str] = []

        async def receive(name: str) -> None:
            variable.set(name)
            for _ in range(3):
                await connection.recv()
                seen.append(variable.get())

        task = asyncio.create_task(receive("mine"))
        for _ in range(3):
            await steps(3)
            await peer.text("message")
        await task
        assert seen == ["mine"] * 3
        assert variable.get() == "unset"


@virtual
async def test_the_task_may_do_anything_inside_the_read() -> None:
    """It closes the connection, or starts to receive again, while the read that resumed it isn't over."""
    async with open_end(Side.SERVER) as (connection, peer):

        async def receive() -> None:
            assert await connection.recv() == "one"
            assert await connection.recv() == "two"
            await connection.close()

        task = asyncio.create_task(receive())
        await steps(2)
        await peer.raw.send(wire.text("one", mask=True) + wire.text("two", mask=True) + wire.text("three", mask=True))
        await peer.expect_close(1000)
        await peer.finish()
        await task
        assert await connection.recv() == "three"
        with pytest.raises(ConnectionClosedOK):
            await connection.recv()


# ------------------------------------------------------------------------------------------------------------- the cork


class CountingTransport:
    """A transport, and how often it was written to."""

    def __init__(self, transport: Any) -> None:
        self._transport = transport
        self.writes = 0

    def write(self, data: bytes) -> None:
        self.writes += 1
        self._transport.write(data)

    def writelines(self, data: list[bytes]) -> None:
        self.writes += 1
        self._transport.writelines(data)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)


async def echo(connection: Any, delay: int = 0) -> None:
    async for message in connection:
        for _ in range(delay):
            await asyncio.sleep(0)
        await connection.send(message)


async def corked(connection: Any, peer: Any, messages: list[bytes], delay: int = 0) -> int:
    """Send messages in one read; check the answers; return the number of writes that they took."""
    connection.transport = counting = CountingTransport(connection.transport)
    task = asyncio.create_task(echo(connection, delay))
    await steps(2)
    await peer.raw.send(b"".join(wire.binary(message, mask=peer.mask) for message in messages))
    for message in messages:
        await peer.expect(wire.BINARY, message)
    await idle()
    writes = counting.writes
    peer.raw.reset()
    with pytest.raises(Exception, match="no close frame"):
        await task
    return writes


@pytest.mark.parametrize("side", [Side.SERVER, Side.CLIENT])
@pytest.mark.parametrize("count", [1, 2, 100])
@virtual
async def test_answers_to_one_read_share_a_write(side: Side, count: int) -> None:
    async with open_end(side, max_queue=None) as (connection, peer):
        assert await corked(connection, peer, [b"x"] * count) == 1


@virtual
async def test_nothing_waits_for_a_handler_that_waits() -> None:
    """A handler that waits between messages gets each answer out within a turn of the loop."""
    async with open_end(Side.SERVER) as (connection, peer):
        assert await corked(connection, peer, [b"x"] * 10, delay=3) == 10


@virtual
async def test_much_is_not_held_back() -> None:
    async with open_end(Side.SERVER) as (connection, peer):
        writes = await corked(connection, peer, [bytes(20_000)] * 10)
        assert 3 <= writes <= 10


@virtual
async def test_order_is_kept() -> None:
    """Pings, pongs, broadcasts and Close don't overtake what is held back."""
    async with open_end(Side.SERVER) as (connection, peer):

        async def handler() -> None:
            for _ in range(2):
                await connection.send(await connection.recv())
            await connection.ping(b"p")
            await connection.send("after")
            await connection.close()

        task = asyncio.create_task(handler())
        await steps(2)
        await peer.raw.send(b"".join(wire.text(str(index), mask=True) for index in range(10)))
        await peer.expect(wire.TEXT, b"0")
        await peer.expect(wire.TEXT, b"1")
        await peer.expect(wire.PING, b"p")
        await peer.expect(wire.TEXT, b"after")
        await peer.expect_close(1000)
        await peer.finish()
        await task
