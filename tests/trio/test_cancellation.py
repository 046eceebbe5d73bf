"""A law: wherever a call is cancelled, the state, the wire and the next call agree.

Each call is made again and again, and cancelled at its first checkpoint, its second one, and so on, until it ends by
itself. The other end is one of ours, so it fails the connection if it gets half a frame, or half a message.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest
import trio
import trio.testing

from _kit.trio_ends import CancelAtStep, every_kind, open_pair, stream_pair
from _kit.trio_network import TrioNetwork, run_on_network
from websockets import PreparedMessage
from websockets.exceptions import ConnectionClosed
from websockets.protocol import State
from websockets.trio._broadcast import broadcast
from websockets.trio.connection import Connection

#: More checkpoints than any call has.
MANY = 200
BIG = bytes(range(256)) * 2000

Call = Callable[[Connection], Awaitable[object]]


async def pieces() -> AsyncIterator[bytes]:
    for number in range(3):
        await trio.lowlevel.checkpoint()
        yield bytes([number]) * 40_000


async def close(connection: Connection) -> None:
    await connection.aclose(1001, "bye")


async def block(connection: Connection) -> None:
    async with connection:
        await connection.send("in the block")
        await trio.sleep(5)


#: What is called, and the messages that the other end may get.
CALLS: dict[str, tuple[Call, list[Any]]] = {
    "send": (lambda connection: connection.send("small"), ["small"]),
    "send much": (lambda connection: connection.send(BIG), [BIG]),
    "send prepared": (lambda connection: connection.send(PreparedMessage("small")), ["small"]),
    "send in fragments": (
        lambda connection: connection.send(pieces()),
        [b"".join(bytes([number]) * 40_000 for number in range(3))],
    ),
    "ping": (lambda connection: connection.ping(), []),
    "pong": (lambda connection: connection.pong(b"x"), []),
    "broadcast": (lambda connection: broadcast([connection], BIG), [BIG]),
    "aclose": (close, []),
    "a block": (block, ["in the block"]),
}


async def collect(connection: Connection, go: trio.Event, messages: list[Any]) -> None:
    """Receive, late, until the end."""
    await go.wait()
    try:
        async for message in connection:
            messages.append(message)
    except ConnectionClosed:
        pass


async def cancelled_at(network: TrioNetwork, kind: str, name: str, step: int, peer_reads: bool) -> bool:
    """Make a call, and cancel it; return whether it had so many checkpoints."""
    call, expected = CALLS[name]
    client_stream, server_stream, _ = await stream_pair(network, kind)
    messages: list[Any] = []
    go = trio.Event()
    async with (
        open_pair((client_stream, server_stream), max_queue=(1, 0), close_timeout=2) as (client, server),
        trio.open_nursery() as nursery,
    ):
        nursery.start_soon(collect, server, go, messages)
        if peer_reads:
            go.set()
        else:
            await client.send("waits in the queue")
            await client.send("so reading is paused")
            expected = ["waits in the queue", "so reading is paused", *expected]
            await trio.testing.wait_all_tasks_blocked()
        cancel = CancelAtStep(step)
        with cancel():
            with trio.move_on_after(1):
                await call(client)
        start = trio.current_time()
        assert client.state in (State.OPEN, State.CLOSED) or name == "send in fragments"
        go.set()
        if client.state is State.OPEN:
            # Whatever was sent of the call was sent whole, or will be.
            await client.send("next")
            await trio.testing.wait_all_tasks_blocked()
            assert messages.pop() == "next"
            assert client._ws_wire.buffered_amount == 0
            await client.aclose()
            await trio.testing.wait_all_tasks_blocked()
            assert (client.close_code, server.close_code) == (1000, 1000)
        else:
            with pytest.raises(ConnectionClosed):
                await client.send("next")
            with pytest.raises(ConnectionClosed):
                await client.recv()
            await trio.testing.wait_all_tasks_blocked()
            # Closing takes a round trip at most.
            assert trio.current_time() == start
            assert client.close_exc.sent is not None or client.close_code == 1006
        assert messages == expected[: len(messages)]
        # Nobody is left who writes, or waits for that.
        assert not client._ws_writing
        assert not client._ws_senders
        assert client._ws_send_lock is None
    return cancel.reached


def at_each_step(play: Callable[[TrioNetwork, int], Awaitable[bool]]) -> None:
    """Run something that is cancelled at a step, for each step, until there are no more."""
    step = 0
    for step in range(1, MANY):
        reached: list[bool] = []

        async def run(network: TrioNetwork, step: int = step, reached: list[bool] = reached) -> None:
            reached.append(await play(network, step))

        run_on_network(run)
        if not reached[0]:
            break
    assert 1 < step < MANY - 1


@every_kind
@pytest.mark.parametrize("peer_reads", [True, False], ids=["reads", "doesn't read"])
@pytest.mark.parametrize("name", CALLS)
def test_sending_and_closing(kind: str, name: str, peer_reads: bool) -> None:
    at_each_step(lambda network, step: cancelled_at(network, kind, name, step, peer_reads))


async def receive(connection: Connection, got: list[Any]) -> None:
    while True:
        got.append(await connection.recv())


async def iterate(connection: Connection, got: list[Any]) -> None:
    async for message in connection:
        got.append(message)


@every_kind
@pytest.mark.parametrize("receive", [receive, iterate])
def test_receiving_loses_nothing(kind: str, receive: Callable[[Connection, list[Any]], Awaitable[None]]) -> None:
    async def play(network: TrioNetwork, step: int) -> bool:
        client_stream, server_stream, _ = await stream_pair(network, kind)
        got: list[Any] = []
        async with (
            open_pair((client_stream, server_stream), max_queue=(2, 1)) as (client, server),
            trio.open_nursery() as nursery,
        ):

            async def send() -> None:
                for number in range(10):
                    await server.send([str(number), "."])
                    await server.send(bytes(50_000))
                    await trio.sleep(0.01)
                await server.aclose()

            nursery.start_soon(send)
            cancel = CancelAtStep(step)
            with cancel(), contextlib.suppress(ConnectionClosed):
                await receive(client, got)
            with contextlib.suppress(ConnectionClosed):
                await receive(client, got)
        assert got == [message for number in range(10) for message in (f"{number}.", bytes(50_000))]
        return cancel.reached

    at_each_step(play)


@every_kind
def test_receiving_in_fragments(kind: str) -> None:
    """The rest of the message that is left is discarded, and no other message."""

    async def play(network: TrioNetwork, step: int) -> bool:
        client_stream, server_stream, _ = await stream_pair(network, kind)
        got: list[Any] = []
        async with (
            open_pair((client_stream, server_stream), max_queue=(2, 1)) as (client, server),
            trio.open_nursery() as nursery,
        ):

            async def send() -> None:
                for number in range(5):
                    await server.send([str(number), "a" * 50_000, "b"])
                await server.aclose()

            nursery.start_soon(send)
            cancel = CancelAtStep(step)
            with cancel():
                for _ in range(3):
                    async for piece in client.recv_streaming():
                        got.append(piece)
            whole = "".join(got)
            begun = len(set(whole) & set("0123456789"))
            rest = [message async for message in client]
        # One whose beginning was never seen is still there.
        assert rest == [f"{number}{'a' * 50_000}b" for number in range(begun, 5)]
        return cancel.reached

    at_each_step(play)
