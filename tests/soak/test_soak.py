"""What the soak measures and counts; the soak itself takes too long for the suite."""

from __future__ import annotations

import asyncio
import socket
from typing import Any

import pytest

from _kit.clock import VirtualLoop, virtual
from soak.ledger import Channel, Ledger, make_message, number_of
from soak.meters import LIMITS, Heart, Sample, growth, least_squares, take_sample


def samples(rss: Any) -> list[Sample]:
    """Forty samples, one a minute, of which only the memory changes."""
    return [Sample(minute, rss(minute), 50, 10, 30_000) for minute in range(40)]


def verdicts(taken: list[Sample]) -> dict[str, bool]:
    return {row.name: row.flat for row in growth(taken)}


def test_a_line_through_points() -> None:
    assert least_squares([0, 1, 2], [5, 7, 9]) == pytest.approx(2)
    assert least_squares([0, 1, 2, 3], [1, 0, 1, 0]) == pytest.approx(-0.2)
    assert least_squares([1], [5]) == 0


def test_what_is_flat() -> None:
    assert all(verdicts(samples(lambda minute: 80_000)).values())
    assert verdicts(samples(lambda minute: 80_000 + minute % 3 * 3000))["rss"]
    # Caches fill at the beginning.
    assert verdicts(samples(lambda minute: 80_000 + 5000 * min(minute, 9)))["rss"]


def test_what_grows() -> None:
    assert not verdicts(samples(lambda minute: 80_000 + 600 * minute))["rss"]
    assert verdicts(samples(lambda minute: 80_000 + 600 * minute))["tasks"]


@pytest.mark.parametrize("name", LIMITS)
def test_one_leak_shows(name: str) -> None:
    slope = LIMITS[name][0]
    grown = [row._replace(**{name: getattr(row, name) + row.minutes * slope * 2}) for row in samples(lambda _: 80_000)]
    assert [found for found, flat in verdicts(grown).items() if not flat] == [name]


async def test_a_sample_counts_what_there_is() -> None:
    before = take_sample(0)
    tasks = [asyncio.ensure_future(asyncio.sleep(60)) for _ in range(3)]
    kept = socket.socketpair()
    after = take_sample(1)
    assert (after.tasks - before.tasks, after.descriptors - before.descriptors) == (3, 2)
    assert after.objects > before.objects
    assert after.rss > 1000
    for end in kept:
        end.close()
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)


@virtual
async def test_a_heart_that_stood_still() -> None:
    loop = asyncio.get_running_loop()
    assert isinstance(loop, VirtualLoop)
    heart = Heart()
    begun = loop.time()
    await asyncio.sleep(5)
    assert not heart.stalled_since(begun)
    loop.stall(2)
    assert heart.stalled_since(begun)
    await asyncio.sleep(1)
    assert heart.stalled_since(begun)
    assert not heart.stalled_since(loop.time())
    assert 1.9 < heart.longest < 2.1
    heart.stop()


def test_messages_have_numbers() -> None:
    messages = [make_message(number) for number in range(200)]
    assert [number_of(message) for message in messages] == [*range(200)]
    assert {type(message) for message in messages} == {str, bytes}
    assert max(map(len, messages)) > 65_535


def test_what_arrives_in_order_is_not_lost() -> None:
    ledger = Ledger()
    channel = Channel(ledger)
    for message in [channel.send() for _ in range(5)]:
        channel.receive(message)
    assert (ledger.sent, ledger.received, ledger.lost, ledger.wrong) == (5, 5, 0, [])


def test_what_is_lost_and_what_is_out_of_order() -> None:
    ledger = Ledger()
    channel = Channel(ledger)
    first, second, _ = [channel.send() for _ in range(3)]
    channel.receive(second)
    channel.receive(first)
    assert ledger.lost == 1
    assert len(ledger.wrong) == 2
