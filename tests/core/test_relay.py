"""Rooms over a broker, without one: numbers, losses, members of other processes, what waits."""

from __future__ import annotations

import json
from typing import Any

import pytest

from websockets._codec.header import OPCODE_BINARY, OPCODE_TEXT
from websockets._session import relay as module
from websockets._session.relay import (
    BATCH,
    BATCH_BYTES,
    HEAD,
    HOLD,
    LARGEST,
    LATE,
    LATE_SECONDS,
    NUMBERED,
    OBLIVION,
    PROCESSES,
    SILENCE,
    News,
    Relay,
)

ROOM = "room"
INTERVAL = 10.0


def relay(name: bytes, **options: Any) -> Relay:
    """A process that listens to the room, and has told the others."""
    made = Relay(name.rjust(8), INTERVAL, options.get("max_waiting", 10_000))
    made.connected(0)
    made.open(ROOM, 0)
    made.subscribed(made.channels()[0])
    return made


def pass_on(source: Relay, *targets: Relay, now: float = 0, drop: int = 0) -> list[News]:
    """Take what a process publishes to the others, without the first few messages."""
    batch = source.take(now, None)
    source.confirmed()
    received = [target.receive(room, data, now) for room, data in batch[drop:] for target in targets]
    return [news for news in received if news is not None]


def settle(*relays: Relay, now: float = 0) -> None:
    """Pass on until nobody has anything to say."""
    while any(each.has_work for each in relays):
        for each in relays:
            each.unsubscribed(each.channels()[1])
            pass_on(each, *(other for other in relays if other is not each), now=now)


def pair(**options: Any) -> tuple[Relay, Relay]:
    """Two processes that know each other."""
    relays = relay(b"a", **options), relay(b"b")
    settle(*relays)
    return relays


def messages(found: list[News]) -> list[bytes]:
    return [news.message[1] for news in found if news.message is not None]


def test_messages_arrive_once_and_in_order() -> None:
    a, b = pair()
    a.publish(ROOM, OPCODE_TEXT, b"one", 0)
    a.publish(ROOM, OPCODE_BINARY, b"two", 0)
    assert a.waiting == 2
    # The broker didn't confirm: nobody knows whether it has them.
    batch = a.take(0, None)
    first = [b.receive(room, data, 0) for room, data in batch]
    assert [news.message for news in first if news] == [(OPCODE_TEXT, b"one"), (OPCODE_BINARY, b"two")]
    a.connected(1)
    assert a.take(1, None) == batch
    assert [b.receive(room, data, 1) for room, data in batch] == [None, None]
    assert (b.received, b.duplicates, b.missed, a.lost) == (2, 2, 0, 0)


def test_own_messages_and_other_rooms_are_nothing_new() -> None:
    a, b = pair()
    a.publish(ROOM, OPCODE_TEXT, b"one", 0)
    ((_, data),) = a.take(0, None)
    assert a.receive(ROOM, data, 0) is None
    assert b.receive("other", data, 0) is None


def test_missing_messages_are_counted_with_the_next_one() -> None:
    a, b = pair()
    for number in range(5):
        a.publish(ROOM, OPCODE_TEXT, b"%d" % number, 0)
    (news,) = pass_on(a, b, drop=4)
    assert (news.missed, b.missed, messages([news])) == (4, 4, [b"4"])


def test_missing_messages_are_counted_with_the_next_heartbeat() -> None:
    a, b = pair()
    a.publish(ROOM, OPCODE_TEXT, b"one", 0)
    pass_on(a)
    assert b.missed == 0
    assert a.take(INTERVAL - 1, None) == []
    assert a.next_heartbeat == INTERVAL
    (news,) = pass_on(a, b, now=INTERVAL)
    assert (news.missed, b.missed) == (1, 1)
    assert [each.missed for each in pass_on(a, b, now=2 * INTERVAL)] == [0]


def test_what_was_published_before_is_not_missing() -> None:
    a = relay(b"a")
    a.publish(ROOM, OPCODE_TEXT, b"one", 0)
    pass_on(a)
    b = relay(b"b")
    a.publish(ROOM, OPCODE_TEXT, b"two", 0)
    assert messages(pass_on(a, b)) == [b"two"]
    assert b.missed == 0


def test_oldest_messages_are_lost_when_too_much_waits() -> None:
    a, b = pair(max_waiting=100)
    for number in range(10):
        a.publish(ROOM, OPCODE_TEXT, b"%d" % number, 0)
    assert (a.lost, a.waiting) == (6, 4)
    assert messages(pass_on(a, b)) == [b"6", b"7", b"8", b"9"]
    assert b.missed == a.lost


def test_messages_that_are_too_large_for_the_broker_are_lost() -> None:
    a, b = pair()
    a.publish(ROOM, OPCODE_TEXT, bytes(100), 0)
    a.publish(ROOM, OPCODE_TEXT, b"small", 0)
    batch = a.take(0, HEAD.size + 99)
    assert a.lost == 1
    news = b.receive(*batch[0], 0)
    assert news is not None
    assert (news.missed, len(batch)) == (1, 1)


def test_no_more_than_a_batch_is_on_its_way() -> None:
    a, b = pair()
    for _ in range(BATCH + 1):
        a.publish(ROOM, OPCODE_TEXT, b"", 0)
    assert len(pass_on(a, b)) == BATCH
    assert a.has_work
    assert len(pass_on(a, b)) == 1
    assert not a.has_work


def test_giving_up() -> None:
    a, _ = pair()
    for _ in range(BATCH + 1):
        a.publish(ROOM, OPCODE_TEXT, b"", 0)
    a.take(0, None)
    a.give_up()
    assert (a.lost, a.waiting, a.has_work) == (BATCH + 1, 0, False)


def test_numbers_of_many_rooms_are_forgotten_and_begin_anew() -> None:
    a, b = pair(max_waiting=10**6)
    for text in (b"one", b"two"):
        a.publish(ROOM, OPCODE_TEXT, text, 0)
    old = a.take(0, None)[0]
    pass_on(a, b)
    for number in range(NUMBERED):
        a.publish(f"{number}", OPCODE_TEXT, b"", 0)
    a.give_up()
    for text in (b"three", b"four"):
        a.publish(ROOM, OPCODE_TEXT, text, 0)
    found = pass_on(a, b, drop=1)
    # The first message of the new epoch is missing; one of the old epoch comes too late.
    assert (found[0].missed, messages(found)) == (1, [b"four"])
    assert b.receive(*old, 0) is None


# ------------------------------------------------------------------------------------------------------------- members


def test_members_come_and_go() -> None:
    a, b = pair()
    a.join(ROOM, "a1", {"name": "Ada"})
    a.join(ROOM, "a2", None)
    (news,) = pass_on(a, b)
    assert news.joined == {"a1": {"name": "Ada"}, "a2": None}
    assert b.members(ROOM) == news.joined
    a.leave(ROOM, "a1")
    (news,) = pass_on(a, b)
    assert (news.joined, news.left) == ({}, {"a1": {"name": "Ada"}})
    a.shut(ROOM)
    (news,) = pass_on(a, b)
    assert news.left == {"a2": None}
    assert (b.members(ROOM), b.members("other")) == ({}, {})


def test_who_comes_and_goes_at_once_was_never_there() -> None:
    a, b = pair()
    a.join(ROOM, "a1", None)
    a.leave(ROOM, "a1")
    assert pass_on(a, b) == []


def test_members_that_were_there_before() -> None:
    a = relay(b"a")
    a.join(ROOM, "a1", None)
    pass_on(a)
    b = relay(b"b")
    settle(a, b)
    assert b.members(ROOM) == {"a1": None}


def test_changes_that_were_missed_are_asked_for() -> None:
    a, b = pair()
    a.join(ROOM, "a1", None)
    pass_on(a)
    a.join(ROOM, "a2", None)
    pass_on(a, b)
    assert b.members(ROOM) == {}
    settle(a, b)
    assert b.members(ROOM) == {"a1": None, "a2": None}


def test_changes_that_were_missed_show_with_the_next_heartbeat() -> None:
    a, b = pair()
    a.join(ROOM, "a1", None)
    pass_on(a)
    pass_on(a, b, now=INTERVAL)
    settle(a, b, now=INTERVAL)
    assert b.members(ROOM) == {"a1": None}


def test_changes_that_come_twice_count_once() -> None:
    a, b = pair()
    a.join(ROOM, "a1", None)
    ((room, data),) = a.take(0, None)
    for expected in ({"a1": None}, {}):
        news = b.receive(room, data, 0)
        assert news is not None
        assert news.joined == expected
    assert not b.has_work


def test_members_of_a_silent_process_have_left() -> None:
    a, b = pair()
    a.join(ROOM, "a1", None)
    pass_on(a, b)
    assert b.expire(SILENCE * INTERVAL - 1) == []
    (news,) = b.expire(SILENCE * INTERVAL)
    assert (news.room, news.left, b.members(ROOM)) == (ROOM, {"a1": None}, {})
    assert b.expire(SILENCE * INTERVAL) == []
    # It comes back, and what it published in the meantime is missing.
    a.publish(ROOM, OPCODE_TEXT, b"", 0)
    pass_on(a)
    pass_on(a, b, now=SILENCE * INTERVAL)
    settle(a, b)
    assert (b.members(ROOM), b.missed) == ({"a1": None}, 1)


def test_all_rooms_are_looked_at_now_and_then() -> None:
    """And not for each message that is published."""
    a, b = pair()
    a.join(ROOM, "a1", None)
    settle(a, b)
    assert b.expire(SILENCE * INTERVAL - 0.1) == []
    assert b.expire(SILENCE * INTERVAL) == []
    assert [news.left for news in b.expire(SILENCE * INTERVAL + 1)] == [{"a1": None}]


def test_a_process_that_is_silent_for_very_long_is_forgotten() -> None:
    a, b = pair()
    b.expire(OBLIVION * INTERVAL)
    a.publish(ROOM, OPCODE_TEXT, b"", 0)
    pass_on(a)
    pass_on(a, b, now=OBLIVION * INTERVAL)
    assert b.missed == 0


def test_nobody_is_silent_while_the_broker_is_away() -> None:
    a, b = pair()
    a.join(ROOM, "a1", None)
    pass_on(a, b)
    b.connected(100 * INTERVAL)
    assert b.expire(100 * INTERVAL + SILENCE * INTERVAL - 1) == []
    assert len(b.expire(100 * INTERVAL + SILENCE * INTERVAL)) == 1


def test_a_process_without_the_room_has_no_members_to_ask_for() -> None:
    a, b = pair()
    a.shut(ROOM)
    settle(a, b)
    a.publish(ROOM, OPCODE_TEXT, b"", 0)
    assert len(pass_on(a, b, now=INTERVAL)) == 2
    assert not b.has_work
    # Only rooms in which something was said since the last heartbeat have one.
    assert pass_on(a, b, now=2 * INTERVAL) == []


# ------------------------------------------------------------------------------------------------------- subscriptions


def test_subscriptions_follow_the_rooms() -> None:
    a = Relay(bytes(8), INTERVAL, 1000)
    a.connected(0)
    a.open("x", 0)
    a.shut("x")
    assert a.channels() == ([], [])
    a.open("x", 0)
    assert a.channels() == (["x"], [])
    a.shut("x")
    # The broker confirms a subscription that nobody needs any more.
    a.subscribed(["x"])
    assert a.channels() == ([], ["x"])
    a.open("x", 0)
    assert a.channels() == ([], [])
    a.shut("x")
    a.open("y", 0)
    a.subscribed(["y"])
    a.open("x", 0)
    a.unsubscribed(["x"])
    assert a.channels() == (["x"], [])
    a.connected(0)
    assert a.channels() == (["y", "x"], [])
    a.unsubscribed(["z"])
    assert a.channels() == (["y", "x"], [])


# ------------------------------------------------------------------------------------- the broker was away for a while


def outage(a: Relay, b: Relay | None, *, opened: float = 0.0) -> tuple[Relay, list[News]]:
    """A process publishes while the broker is away, and is connected again before the other one is.

    Parameters:
        a: the process, which publishes five messages at 100 to 104.
        b: the other one; None for one that has never heard of it.
        opened: when that one opened the room.
    """
    if b is None:
        b = Relay(b"b".rjust(8), INTERVAL, 10_000)
        b.connected(0)
        b.open(ROOM, opened)
        if not opened:
            b.subscribed([ROOM])
            b.take(0, None)
            b.confirmed()
    a.disconnected(100)
    b.disconnected(100)
    for number in range(5):
        a.publish(ROOM, OPCODE_TEXT, b"%d" % number, 100.0 + number)
    a.connected(110)
    # Nobody hears this.
    a.subscribed(a.channels()[0])
    pass_on(a, now=110)
    b.connected(115)
    b.subscribed(b.channels()[0])
    found = []
    for _ in range(3):
        found += pass_on(a, b, now=115)
        pass_on(b, a, now=115)
    return b, found


def test_messages_before_others_are_subscribed_again_are_missing() -> None:
    a, b = pair()
    _, found = outage(a, b)
    assert (b.missed, sum(news.missed for news in found)) == (5, 5)


def back(a: Relay, b: Relay, *, after: float = 10.0) -> None:
    """Both process have just heard of each other, the broker goes, and the first one is back with a message."""
    for each in (a, b):
        each.next_heartbeat = 0
    settle(a, b, now=95)
    pass_on(a, b, now=95)
    pass_on(b, a, now=95)
    a.disconnected(100)
    a.disconnected(105)
    b.disconnected(100)
    a.publish(ROOM, OPCODE_TEXT, b"while away", 101)
    a.connected(100 + after)
    a.subscribed(a.channels()[0])


def test_messages_wait_for_processes_that_are_known() -> None:
    a, b = pair()
    back(a, b)
    assert messages(pass_on(a, b, now=110)) == []
    assert (a.has_work, a.waiting) == (False, 1)
    a.publish(ROOM, OPCODE_TEXT, b"now", 111)
    assert pass_on(a, b, now=111) == []
    b.connected(112)
    b.subscribed(b.channels()[0])
    pass_on(b, a, now=112)
    assert a.has_work
    assert messages(pass_on(a, b, now=112)) == [b"while away", b"now"]
    assert (b.missed, b.duplicates, a.waiting) == (0, 0, 0)


def test_messages_that_the_broker_did_not_confirm_wait_as_well() -> None:
    a, b = pair()
    a.publish(ROOM, OPCODE_TEXT, b"unconfirmed", 1)
    a.join(ROOM, "a1", None)
    a.take(1, None)
    a.disconnected(2)
    b.disconnected(2)
    a.connected(5)
    a.subscribed(a.channels()[0])
    assert messages(pass_on(a, now=5)) == []
    b.connected(6)
    b.subscribed(b.channels()[0])
    settle(a, b, now=6)
    assert (b.received, b.missed, b.duplicates, a.waiting) == (1, 0, 0, 0)
    assert b.members(ROOM) == {"a1": None}


@pytest.mark.parametrize(("after", "until"), [(3, 103 + 6.5), (1000, 1100 + HOLD)])
def test_messages_do_not_wait_for_ever(after: float, until: float) -> None:
    """A process that needs longer counts what it missed."""
    a, b = pair()
    back(a, b, after=after)
    pass_on(a, now=100 + after)
    assert a.wake_at == pytest.approx(min(until, a.next_heartbeat))
    pass_on(a, now=until - 0.1)
    assert a.waiting == 1
    pass_on(a, now=until)
    assert a.waiting == 0
    b.connected(until + 1)
    b.subscribed(b.channels()[0])
    settle(a, b, now=until + 1)
    assert b.missed == 1


def test_messages_wait_for_nobody_at_the_end() -> None:
    a, b = pair()
    back(a, b)
    assert messages(pass_on(a, b, now=110)) == []
    a.release()
    assert messages(pass_on(a, b, now=110)) == [b"while away"]


def test_what_was_lost_while_messages_waited_is_missing() -> None:
    """What is told overtakes them, and must not make them duplicates."""
    a, b = pair(max_waiting=200)
    back(a, b)
    for number in range(50):
        a.publish(ROOM, OPCODE_TEXT, b"%d" % number, 110)
    b.connected(111)
    b.subscribed(b.channels()[0])
    settle(a, b, now=111)
    assert (b.received, b.missed, b.duplicates) == (51 - a.lost, a.lost, 0)
    assert a.lost > 40


def test_numbers_that_were_taken_are_forgotten() -> None:
    a, _ = pair(max_waiting=10**7)
    for number in range(2 * NUMBERED):
        a.publish(f"{number}", OPCODE_TEXT, b"", 0)
    while a.has_work:
        pass_on(a)
    assert len(a._taken) <= NUMBERED


def test_numbers_that_were_taken_are_forgotten_while_the_broker_is_away() -> None:
    a, _ = pair(max_waiting=1000)
    a.disconnected(0)
    for number in range(5 * NUMBERED):
        a.publish(f"{number}", OPCODE_TEXT, b"", 0)
    assert a.lost > 4 * NUMBERED
    assert max(len(a._taken), len(a._spoken), len(a._numbers)) <= 2 * NUMBERED


def test_rooms_without_messages_leave_nothing() -> None:
    a, b = pair()
    for number in range(100):
        room = f"{number}"
        a.open(room, 0)
        a.subscribed(a.channels()[0])
        a.join(room, "member", None)
        settle(a, b)
        a.leave(room, "member")
        a.shut(room)
        settle(a, b)
    a.take(INTERVAL, None)
    assert (len(a._numbers), len(a._taken), len(a._spoken)) == (0, 0, 0)
    # Nobody has lost anything, and the first messages are counted as ever.
    a.confirmed()
    settle(a, b)
    for text in (b"one", b"two"):
        a.publish(ROOM, OPCODE_TEXT, text, 0)
    assert messages(pass_on(a, b, drop=1)) == [b"two"]
    assert b.missed == 1


def test_rooms_between_messages_take_no_numbers_away() -> None:
    a, b = pair()
    a.publish(ROOM, OPCODE_TEXT, b"one", 0)
    settle(a, b)
    for number in range(NUMBERED + 1):
        a.open(f"{number}", 0)
        a.shut(f"{number}")
        a.take(0, None)
        a.confirmed()
    a.publish(ROOM, OPCODE_TEXT, b"two", 0)
    a.publish(ROOM, OPCODE_TEXT, b"three", 0)
    assert messages(pass_on(a, b, drop=1)) == [b"three"]
    assert (b.missed, b.duplicates) == (1, 0)


def test_messages_of_a_process_that_nobody_knew_are_missing() -> None:
    b, found = outage(relay(b"a"), None)
    assert (b.missed, sum(news.missed for news in found)) == (5, 5)


def test_messages_before_a_room_was_opened_are_not_missing() -> None:
    """The room was opened while the broker was away, after some of them."""
    b, _ = outage(relay(b"a"), None, opened=102.5)
    assert b.missed == 2


def test_messages_of_a_process_without_the_room_are_missing() -> None:
    """Nobody can ask it, so the next heartbeat tells; a message that comes before that doesn't hide them."""
    a = Relay(b"a".rjust(8), INTERVAL, 10_000)
    a.connected(0)
    b, _ = outage(a, None)
    assert b.missed == 0
    a.publish(ROOM, OPCODE_TEXT, b"next", 116)
    assert messages(pass_on(a, b, now=116)) == [b"next"]
    assert b.missed == 0
    pass_on(a, b, now=120)
    assert b.missed == 5
    pass_on(a, b, now=130)
    assert b.missed == 5


def test_times_of_messages_are_kept_for_a_while_and_not_for_all() -> None:
    a = relay(b"a")
    a.disconnected(100)
    for _ in range(LATE + 5):
        a.publish(ROOM, OPCODE_TEXT, b"", 1)
    assert a._late_count == LATE
    a.connected(10)
    pass_on(a, now=10 + LATE_SECONDS - 1)
    assert a._late
    pass_on(a, now=10 + LATE_SECONDS)
    assert not a._late
    assert a._late_count == 0


# ------------------------------------------------------------------------------------------------------- large numbers


def test_all_members_of_a_large_room_come_in_parts() -> None:
    a, b = pair()
    for number in range(3000):
        a.join(ROOM, f"a{number}", {"name": "x" * 50})
    found = pass_on(a, b)
    assert len(found) > 3
    assert len(b.members(ROOM)) == 3000
    # The members appear at once, when the last part is there.
    assert [len(news.joined) for news in found] == [0] * (len(found) - 1) + [3000]
    for number in range(1500):
        a.leave(ROOM, f"a{number}")
    settle(a, b)
    assert b.members(ROOM) == {f"a{number}": {"name": "x" * 50} for number in range(1500, 3000)}


def test_a_part_that_is_missing_is_asked_for() -> None:
    a, b = pair()
    for number in range(3000):
        a.join(ROOM, f"a{number}", {"name": "x" * 50})
    batch = a.take(0, None)
    a.confirmed()
    for number, (room, data) in enumerate(batch):
        if number != 1:
            b.receive(room, data, 0)
    assert not b.members(ROOM)
    settle(a, b)
    assert len(b.members(ROOM)) == 3000


def test_a_batch_is_small_enough_for_a_slow_broker() -> None:
    a, _ = pair(max_waiting=10**7)
    for _ in range(20):
        a.publish(ROOM, OPCODE_BINARY, bytes(BATCH_BYTES // 4), 0)
    sizes = []
    while batch := a.take(0, None):
        sizes.append(len(batch))
        a.confirmed()
    assert sizes == [4] * 5


def test_what_is_told_takes_no_place_of_messages() -> None:
    a, _ = pair(max_waiting=100)
    a.publish(ROOM, OPCODE_TEXT, b"x" * 50, 0)
    a.join(ROOM, "a1", "y" * 200)
    a.take(0, None)
    assert (a.lost, a.waiting) == (0, 1)


def test_what_is_told_has_a_limit_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_TOLD", 1000)
    a, _ = pair()
    a.disconnected(100)
    for number in range(1000):
        a.open(f"{number}", 0)
        a.shut(f"{number}")
    assert len(a.take(0, None)) < 30


# ------------------------------------------------------------------------------------------------------------ nonsense


def forged(origin: int, kind: bytes = b"p", said: bytes = b'{"version":1}', number: int = 0) -> bytes:
    return HEAD.pack(kind, origin.to_bytes(8, "big"), 1, number) + said


@pytest.mark.parametrize("kind", [b"p", b"t", b"?"])
def test_forged_processes_have_a_limit(kind: bytes) -> None:
    a, b = pair()
    for number in range(1, PROCESSES):
        b.receive(ROOM, forged(number, kind), 1)
    for number in range(5000, 5100):
        with pytest.raises(ValueError, match=f"more than {PROCESSES} processes"):
            b.receive(ROOM, forged(number, kind), 1)
    assert b.malformed == 100
    # Who was there before is heard.
    a.publish(ROOM, OPCODE_TEXT, b"hello", 1)
    assert messages(pass_on(a, b, now=1)) == [b"hello"]
    # After a while, there is room again, as those say nothing more.
    later = 2 + SILENCE * INTERVAL
    b.expire(later)
    pass_on(a, b, now=later)
    b.receive(ROOM, forged(6000, kind), later)
    a.publish(ROOM, OPCODE_TEXT, b"hello", later)
    assert messages(pass_on(a, b, now=later)) == [b"hello"]


def test_forged_members_have_a_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MEMBERS", 100)
    a, b = pair()
    some = json.dumps({f"{number}": None for number in range(60)}).encode()
    b.receive(ROOM, forged(1, said=b'{"version":1,"all":%b,"part":0,"parts":1}' % some), 0)
    for said in (
        b'{"version":1,"all":%b,"part":0,"parts":1}' % some,
        b'{"version":1,"all":%b,"part":0,"parts":9}' % some,
    ):
        with pytest.raises(ValueError, match="more than 100 members"):
            b.receive(ROOM, forged(2, said=said), 0)
    b.receive(ROOM, forged(3, said=b'{"version":1,"all":{},"part":0,"parts":1}'), 0)
    with pytest.raises(ValueError, match="more than 100 members"):
        b.receive(ROOM, forged(3, said=b'{"version":2,"joined":%b,"left":[]}' % some), 0)
    assert len(b.members(ROOM)) == 60
    with pytest.raises(ValueError, match="too large"):
        b.receive(ROOM, forged(4, said=b" " * LARGEST), 0)
    a.join(ROOM, "a1", None)
    settle(a, b)
    assert len(b.members(ROOM)) == 61


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        (b"x", b""),
        (b"p", b"no JSON"),
        (b"p", b"[]"),
        (b"p", b"{}"),
        (b"p", b'{"version":null}'),
        (b"p", b'{"version":1,"all":5}'),
        (b"p", b'{"version":1,"joined":5,"left":[]}'),
        (b"p", b'{"version":1,"joined":{},"left":[[]]}'),
        (b"p", b'{"version":Infinity,"joined":{},"left":[]}'),
        (b"p", b"[" * 100_000),
        (b"p", b'{"version":1,"all":[[1,2]],"part":0,"parts":1}'),
        (b"p", b'{"version":1,"all":{}}'),
        (b"p", b'{"version":1,"all":{},"part":0,"parts":null}'),
        (b"p", b'{"version":1,"late":5}'),
        (b"p", b'{"version":1,"late":[[1]]}'),
        (b"p", b'{"version":1,"late":[[1,"x"]]}'),
        (b"t", b"\xff"),
    ],
)
def test_malformed_messages_leave_no_trace(kind: bytes, said: bytes) -> None:
    a, b = pair()
    data = HEAD.pack(kind, b"a".rjust(8), 1, 0) + said
    with pytest.raises(ValueError, match="^malformed message: "):
        b.receive(ROOM, data, 0)
    assert (b.malformed, b.members(ROOM), b.missed) == (1, {}, 0)
    a.join(ROOM, "a1", None)
    settle(a, b)
    assert b.members(ROOM) == {"a1": None}


def test_message_without_a_head() -> None:
    with pytest.raises(ValueError, match="malformed"):
        relay(b"b").receive(ROOM, json.dumps("hello").encode(), 0)
