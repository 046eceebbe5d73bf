"""What a network does to what travels on it: delay, loss, pieces, limits, breaks; and that a seed decides it all."""

from __future__ import annotations

import asyncio
import itertools
import random
from typing import Any

import pytest

from _kit import advance, idle, virtual
from websockets.asyncio.connection import Connection
from websockets.exceptions import ConnectionClosedError
from websockets.protocol import State
from websockets.testing import Link, Network, connected_pair, link_of, run


def now() -> float:
    return asyncio.get_running_loop().time()


def link(**conditions: Any) -> Link:
    return Link(asyncio.get_running_loop(), **conditions)


async def arrivals(ends: Link, writes: int) -> list[float]:
    """When each of so many bytes arrives that are written at once, in seconds from now."""
    began = now()
    seen = []

    def read() -> None:
        seen.extend([now() - began] * len(ends.server.recv(1000)))

    ends.server.add_reader(read)
    for _ in range(writes):
        ends.client.send(b"x")
    await advance(1000)
    return seen


# Delay.


@virtual
async def test_a_range_of_delays() -> None:
    firsts = [(await arrivals(link(delay=(1, 3), seed=number), 1))[0] for number in range(50)]
    assert 1 <= min(firsts) < 1.5 < 2.5 < max(firsts) <= 3
    # Whatever is drawn, nothing overtakes.
    seen = await arrivals(link(delay=(1, 3)), 50)
    assert seen == sorted(seen)
    assert len(set(seen)) > 2


@virtual
async def test_connecting_takes_a_round_trip_of_a_range() -> None:
    network = Network(delay=(1, 2))
    async with connected_pair(network=network):
        # Two to connect, and two for the opening handshake.
        assert 4 <= now() - 1000 <= 8


@virtual
async def test_latency_is_what_the_network_takes() -> None:
    async with connected_pair(network=Network(delay=0.25)) as (client, _):
        assert await (await client.ping()) == 0.5


# Loss.


class Script(random.Random):
    """Chance that is written down: False for each write that is lost."""

    def __init__(self, *arrives: bool) -> None:
        super().__init__()
        self.left = list(arrives)

    def random(self) -> float:
        return 0.9 if self.left.pop(0) else 0.1


@virtual
async def test_what_is_lost_is_sent_again_later_and_later_and_holds_up_what_follows() -> None:
    ends = link(loss=0.5, delay=1)
    ends.to_server._random = Script(True, False, False, False, True, True, False, True)
    # The second takes 0.2 + 0.4 + 0.8 seconds more, and those after it wait for it.
    assert await arrivals(ends, 4) == pytest.approx([1, 2.4, 2.4, 2.4])


@virtual
async def test_loss_is_as_frequent_as_it_is_said_to_be() -> None:
    lost = 0
    for number in range(2000):
        ends = link(loss=0.25, seed=number)
        ends.client.send(b"x")
        lost += not ends.server.readable
        ends.reset()
    assert 450 < lost < 550


@virtual
async def test_in_the_end_tcp_gives_up() -> None:
    ends = link(loss=1.0)
    ends.client.send(b"x")
    # 0.2 + 0.4 + ... + 102.4 seconds, and then six times 120.
    await advance(204.6 + 5 * 120 + 119)
    assert not ends.client.readable
    assert not ends.blocked
    await advance(1)
    assert ends.client.readable
    assert ends.blocked
    with pytest.raises(TimeoutError, match="Connection timed out"):
        ends.client.send(b"x")
    with pytest.raises(BrokenPipeError):
        ends.client.send(b"x")
    assert not ends.server.readable


@virtual
async def test_a_reader_hears_that_tcp_has_given_up() -> None:
    ends = link(loss=1.0)
    ends.client.shutdown()
    await advance(1000)
    with pytest.raises(TimeoutError, match="Connection timed out"):
        ends.client.recv(1)
    with pytest.raises(BlockingIOError):
        ends.client.recv(1)


@virtual
async def test_a_connection_on_which_tcp_has_given_up() -> None:
    async with connected_pair(ping_interval=None) as (client, server):
        link_of(client).to_server.loss = 1.0
        await client.send("Hello!")
        with pytest.raises(ConnectionClosedError) as raised:
            await client.recv()
        assert isinstance(raised.value.__cause__, TimeoutError)
        assert server.state is State.OPEN


@virtual
async def test_messages_arrive_in_spite_of_losses() -> None:
    messages = [f"message {number}" for number in range(100)]
    async with connected_pair(network=Network(loss=0.3, delay=(0.01, 0.1))) as (client, server):
        for message in messages:
            await client.send(message)
        assert [await server.recv() for _ in messages] == messages
        assert now() - 1000 > 2


# Pieces.


@virtual
async def test_reads_of_a_random_size() -> None:
    ends = link(chunk=(2, 4))
    ends.client.send(b"x" * 1000)
    sizes = [len(ends.server.recv(100)) for _ in range(200)]
    assert set(sizes) == {2, 3, 4}


@virtual
async def test_writes_are_joined_while_they_are_held() -> None:
    ends = link()
    reads = []
    ends.server.add_reader(lambda: reads.append(ends.server.recv(100)))
    for data in (b"a", b"b"):
        ends.client.send(data)
        await idle()
    ends.hold()
    for data in (b"c", b"d"):
        ends.client.send(data)
        await idle()
    ends.release()
    await idle()
    assert reads == [b"a", b"b", b"cd"]


@virtual
async def test_frames_in_pieces_are_messages() -> None:
    message = "Some text, and some more text. " * 20
    async with connected_pair(network=Network(chunk=(1, 5))) as (client, server):
        await client.send(message)
        await server.send(message)
        assert (await client.recv(), await server.recv()) == (message, message)


# Limits.


@virtual
async def test_a_small_buffer_makes_writers_wait() -> None:
    options: dict[str, Any] = {"compression": None, "max_queue": 1, "write_limit": 1000}
    async with connected_pair(network=Network(capacity=1000), **options) as (client, server):
        sent = 0

        async def flood() -> None:
            nonlocal sent
            while True:
                await client.send("x" * 500)
                sent += 1

        flooding = asyncio.create_task(flood())
        await idle()
        before = sent
        assert 2 < before < 12
        for _ in range(before):
            await server.recv()
        await idle()
        assert sent >= 2 * before - 2
        flooding.cancel()


# Breaks.


@virtual
async def test_half_open() -> None:
    async with connected_pair() as (client, server):
        link_of(client).hold()
        assert link_of(client).blocked
        await client.send("Hello!")
        await advance(5)
        assert (client.state, server.state) == (State.OPEN, State.OPEN)
        link_of(client).release()
        assert not link_of(client).blocked
        assert await server.recv() == "Hello!"
        link_of(server).to_client.hold()
        await advance(100)
        # The client hears no pong, and says so; that arrives, but the answer doesn't.
        assert (client.close_code, server.close_code) == (1006, 1011)


@virtual
async def test_reset() -> None:
    async with connected_pair() as (client, server):
        link_of(client).reset()
        for end in (client, server):
            with pytest.raises(ConnectionClosedError) as raised:
                await end.recv()
            assert isinstance(raised.value.__cause__, ConnectionResetError)


# Chance.


async def history(seed: int) -> list[tuple[float, str, str]]:
    """What happens when, on a bad network: who received what, and when it was over."""
    network = Network(delay=(0.01, 0.5), loss=0.2, chunk=(1, 30), seed=seed)
    seen = []

    async def listen(name: str, connection: Connection) -> None:
        async for message in connection:
            seen.append((now(), name, str(message)))

    async with (
        connected_pair(network=network) as (a, b),
        connected_pair(network=network) as (c, d),
        asyncio.TaskGroup() as group,
    ):
        for name, connection in zip("abcd", (a, b, c, d), strict=True):
            group.create_task(listen(name, connection))
        for number, connection in itertools.product(range(20), (a, b, c, d)):
            await connection.send(f"{number}" * number)
            await asyncio.sleep(0.01)
        await a.close()
        await d.close()
    return [*seen, (now(), "all", "closed")]


def test_a_seed_decides_what_happens() -> None:
    first, again, other = run(history(1)), run(history(1)), run(history(2))
    assert first == again
    assert [event[0] for event in first] != [event[0] for event in other]
    assert len(first) == 81


@virtual
async def test_a_connection_does_not_depend_on_what_others_do() -> None:
    async def delays(network: Network, others: int) -> list[float]:
        async with connected_pair(network=network, ping_interval=None) as (client, _):
            async with connected_pair(network=network) as (noise, _):
                for _ in range(others):
                    await noise.send("noise")
                return [await (await client.ping()) for _ in range(10)]

    def network() -> Network:
        return Network(delay=(0.1, 1), seed=7)

    assert await delays(network(), 0) == pytest.approx(await delays(network(), 100))


@pytest.mark.parametrize(
    ("conditions", "complaint"),
    [
        ({"delay": -1}, "delay must be positive or zero, or a range of such numbers: -1"),
        ({"delay": (2, 1)}, r"delay .*: \(2, 1\)"),
        ({"loss": 1.5}, "loss must be a probability from 0 to 1: 1.5"),
        ({"loss": -0.1}, "loss must be"),
        ({"chunk": 0}, "chunk must be positive, or a range of positive numbers: 0"),
        ({"chunk": (0, 3)}, "chunk must be"),
        ({"chunk": (3, 2)}, "chunk must be"),
        ({"capacity": 0}, "capacity must be positive: 0"),
    ],
)
@virtual
async def test_conditions_that_make_no_sense(conditions: dict[str, Any], complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        Network(**conditions)
    with pytest.raises(ValueError, match=complaint):
        link(**conditions)
