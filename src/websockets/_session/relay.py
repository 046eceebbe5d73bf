"""Rooms over a broker: what is published there, what arrives from there, who is in a room of another process.

May know: rooms by their names, members by an id and what is said of them, ``now`` as an argument. Must not know:
connections, brokers, how to wait.

Each process numbers the messages that it publishes in a room. So the others see what they have already, which they
drop, and what is missing, which they count. A broker may get the same message twice, when nobody knows whether the
first one reached it. A process that was silent for :data:`SILENCE` heartbeats has no members any more.

A message on a channel has a head of 21 bytes: its kind, the process, its epoch, and the number of its last message in
the room. A process that has forgotten its number of a room begins a new epoch with number 1.

When the broker was away, whoever connects first waits with its messages until the processes that it knows have said
something, since they are subscribed then; at most about twice as long as the broker was away, and :data:`HOLD` seconds.
A process that appears for the first time may have published before others were subscribed again, after the broker had
been away. So it also tells when it published what had to wait; see :attr:`Relay._late`.

Whoever reaches the broker can publish anything. What a message can cost has limits, in each room: :data:`PROCESSES`,
:data:`MEMBERS`, :data:`LARGEST`.
"""

from __future__ import annotations

import dataclasses
import json
import math
import struct
from collections import OrderedDict, deque
from collections.abc import Iterable, Mapping
from typing import Any, Final

from .._codec.header import OPCODE_BINARY, OPCODE_TEXT
from ..typing import BytesLike

__all__ = ["News", "Relay"]

HEAD: Final = struct.Struct("!c8sIQ")
TEXT, BINARY, PRESENCE, ASK = b"t", b"b", b"p", b"?"
KIND_OF: Final = {OPCODE_TEXT: TEXT, OPCODE_BINARY: BINARY}
OPCODE_OF: Final = {kind: opcode for opcode, kind in KIND_OF.items()}

# In heartbeats: after so many, a process has no members any more; after so many, nothing of it is known.
SILENCE: Final = 3
OBLIVION: Final = 360

# At most so many messages, and about so many bytes, are with the broker before it has confirmed them. More would take a
# slow broker longer than it may take, again and again.
BATCH: Final = 256
BATCH_BYTES: Final = 2**18

# In each room, as many other processes, and members in them, are known at most.
PROCESSES: Final = 1000
MEMBERS: Final = 100_000

# In bytes: of what is said about a member, of a part of the list of all members, of a message about members.
MAX_INFO: Final = 2**12
PART: Final = 2**16
LARGEST: Final = 2**17

# In bytes: as much of what is told about members and numbers waits for the broker at most.
MAX_TOLD: Final = 2**24

# In seconds. After the broker was away, messages wait at most so long for processes that aren't subscribed yet. Their
# delays are random, and double: none is much longer than twice the time for which the broker was away.
HOLD: Final = 11.0
LEAST_HOLD: Final = 0.5

# So many messages that had to wait are remembered with their times, for so many heartbeats and so many seconds.
LATE: Final = 1000
LATE_HEARTBEATS: Final = 3
LATE_SECONDS: Final = 30.0

# So many rooms keep the number of their last message. A room without a number begins a new epoch. Until then, it tells
# the epoch that was begun last in any room, which is earlier.
NUMBERED: Final = 10_000

# The members of a process in a room, by their ids.
Members = dict[str, Any]


@dataclasses.dataclass(slots=True)
class News:
    """What a message from the broker tells.

    Attributes:
        room: the room.
        message: opcode and payload of a message to its members; None for no message.
        missed: number of messages that were published before this one and never arrived.
        joined, left: members of other processes that came and went.
    """

    room: str
    message: tuple[int, bytes] | None = None
    missed: int = 0
    joined: Members = dataclasses.field(default_factory=dict)
    left: Members = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(slots=True)
class _Process:
    """Another process in a room.

    Attributes:
        epoch, number: of its last message that arrived; its epoch is 0 before the first one.
        before: number of messages before the first one that arrived, until it is known whether they are missing; else
            -1.
        version: of its members; -1 if they aren't known.
        members: its members.
        part, parts: the part of the list of all members that comes next, and the parts that came.
        heard: when something of it arrived last.
    """

    heard: float
    epoch: int = 0
    number: int = 0
    before: int = -1
    version: int = -1
    members: Members = dataclasses.field(default_factory=dict)
    part: tuple[int, int] = (-1, 0)
    parts: Members = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(slots=True)
class _Room:
    """A room that this process listens to.

    Parameters:
        opened: when it was opened.

    Attributes:
        members: the members in this process.
        version: incremented with each change of the members that was published.
        joined, left: changes that weren't published yet.
        whole: whether all members are to be published, instead of changes.
        asks: whether other processes are to be asked for their members.
        processes: the other processes.
        full_until: until when to refuse other processes without looking, because there are too many.
    """

    opened: float
    members: Members = dataclasses.field(default_factory=dict)
    version: int = 0
    joined: Members = dataclasses.field(default_factory=dict)
    left: list[str] = dataclasses.field(default_factory=list)
    whole: bool = False
    asks: bool = False
    processes: dict[bytes, _Process] = dataclasses.field(default_factory=dict)
    full_until: float = 0.0


@dataclasses.dataclass(slots=True)
class _Entry:
    room: str
    data: bytes
    epoch: int = 0
    number: int = 0  # 0 for what is told


class Relay:
    """The rooms of one process, as far as other processes are concerned.

    Parameters:
        origin: eight bytes that name this process.
        interval: seconds between heartbeats.
        max_waiting: bytes of messages that may wait for the broker; beyond that, the oldest ones are lost.

    Attributes:
        lost: number of messages that never reached the broker.
        missed: number of messages of others that never arrived.
        received: number of messages of others that arrived.
        duplicates: number of messages that arrived once more.
        malformed: number of messages on a channel that no process like this one has published.
        next_heartbeat: when :meth:`take` has something to say again.
    """

    def __init__(self, origin: bytes, interval: float, max_waiting: int) -> None:
        self.lost = self.missed = self.received = self.duplicates = self.malformed = 0
        self.next_heartbeat = 0.0
        self._origin, self._interval, self._max_waiting = origin, interval, max_waiting
        self._rooms: dict[str, _Room] = {}
        # What the broker knows of our rooms, and what it must be told; in the order in which the rooms were opened.
        self._listening: set[str] = set()
        self._to_open: dict[str, None] = {}
        self._to_shut: dict[str, None] = {}
        self._dirty: dict[str, None] = {}
        self._numbers: OrderedDict[str, tuple[int, int]] = OrderedDict()
        self._epoch = 1
        self._spoken: set[str] = set()  # rooms with messages since the last heartbeat
        # Messages; and what is told of members and numbers, which may overtake messages: it has the number of the last
        # one that was taken out.
        self._waiting: deque[_Entry] = deque()
        self._told: deque[_Entry] = deque()
        self._waiting_bytes = self._told_bytes = 0
        self._taken: dict[str, tuple[int, int]] = {}
        self._most_taken = NUMBERED
        self._awaited: set[bytes] = set()
        self._hold_until = 0.0
        self._uncertain: list[_Entry] = []
        self._connected_at = 0.0
        self._expire_at = 0.0
        # The messages that were published while the broker was away: their epoch, and the number and the time of each.
        # A few minutes later, nobody can ask for them.
        self._away, self._away_since = True, math.inf
        self._late: dict[str, tuple[int, list[tuple[int, float]]]] = {}
        self._late_count = 0
        self._late_until = 0.0

    # ------------------------------------------------------------------------------------------------------------ ask

    def members(self, room: str) -> Members:
        """Return the members of a room in other processes."""
        found: Members = {}
        if room in self._rooms:
            for process in self._rooms[room].processes.values():
                found |= process.members
        return found

    @property
    def waiting(self) -> int:
        """Number of messages that the broker hasn't confirmed."""
        return len(self._waiting) + sum(entry.number > 0 for entry in self._uncertain)

    @property
    def has_work(self) -> bool:
        """Whether something is to be subscribed to, to be unsubscribed from, or to be published."""
        told = self._told or self._uncertain or self._dirty or self._to_open or self._to_shut
        return bool(told or (self._waiting and not self._awaited))

    @property
    def wake_at(self) -> float:
        """When :meth:`take` may have something to publish, although nothing happens until then."""
        return min(self.next_heartbeat, self._hold_until) if self._awaited and self._waiting else self.next_heartbeat

    def channels(self) -> tuple[list[str], list[str]]:
        """Return the rooms to subscribe to, and those to unsubscribe from."""
        return [*self._to_open], [*self._to_shut]

    # ------------------------------------------------------------------------------------------- what the program does

    def open(self, room: str, now: float) -> None:
        """Listen to a room."""
        listening = room in self._listening
        self._rooms[room] = _Room(now, whole=listening, asks=listening)
        if listening:
            del self._to_shut[room]
            self._dirty[room] = None
        else:
            self._to_open[room] = None

    def shut(self, room: str) -> None:
        """Stop listening to a room."""
        self._put(room, self._presence(room, {"end": True}))
        del self._rooms[room]
        self._dirty.pop(room, None)
        if room in self._listening:
            self._to_shut[room] = None
        else:
            self._to_open.pop(room, None)

    def join(self, room: str, member: str, info: Any) -> None:
        """Publish that a member came."""
        here = self._rooms[room]
        here.members[member] = here.joined[member] = info
        self._dirty[room] = None

    def leave(self, room: str, member: str) -> None:
        """Publish that a member went."""
        here = self._rooms[room]
        del here.members[member]
        if member in here.joined:
            del here.joined[member]
        else:
            here.left.append(member)
        self._dirty[room] = None

    def publish(self, room: str, opcode: int, payload: BytesLike, now: float) -> None:
        """Publish a message to the other processes."""
        epoch, number = self._number(room)
        if self._away:
            self._note_late(room, epoch, number + 1, now)
        self._numbers[room] = epoch, number + 1
        self._numbers.move_to_end(room)
        if len(self._numbers) > NUMBERED:
            self._spoken.discard(self._numbers.popitem(last=False)[0])
        self._spoken.add(room)
        data = HEAD.pack(KIND_OF[opcode], self._origin, epoch, number + 1) + payload
        self._waiting.append(_Entry(room, data, epoch, number + 1))
        self._waiting_bytes += len(data)
        while self._waiting_bytes > self._max_waiting:
            self._pop_message()
            self.lost += 1

    def _note_late(self, room: str, epoch: int, number: int, now: float) -> None:
        known, messages = self._late.get(room, (epoch, []))
        if self._late_count < LATE and known == epoch:
            self._late_count += 1
            self._late[room] = epoch, [*messages, (number, now)]

    def _number(self, room: str) -> tuple[int, int]:
        if room not in self._numbers:
            self._epoch += 1
            self._numbers[room] = self._epoch, 0
        return self._numbers[room]

    def _put(self, room: str, data: bytes) -> None:
        # It takes no message's place. If it can't wait, others see from a later heartbeat what they must ask for.
        if self._told_bytes + len(data) <= MAX_TOLD:
            self._told_bytes += len(data)
            self._told.append(_Entry(room, data))

    def _pop_told(self) -> _Entry:
        entry = self._told.popleft()
        self._told_bytes -= len(entry.data)
        return entry

    def _pop_message(self) -> _Entry:
        entry = self._waiting.popleft()
        self._waiting_bytes -= len(entry.data)
        self._taken[entry.room] = entry.epoch, entry.number
        if len(self._taken) > (self._most_taken if self._waiting else NUMBERED):
            # Looking at all that waits takes its time, so the limit is twice what was needed the last time.
            needed = self._numbers.keys() | {waiting.room for waiting in self._waiting}
            self._taken = {room: taken for room, taken in self._taken.items() if room in needed}
            self._most_taken = max(NUMBERED, 2 * len(self._taken))
        return entry

    def _number_taken(self, room: str) -> tuple[int, int]:
        """Return the epoch and the number of the last message that was taken out, or was lost."""
        return self._taken.get(room) or (self._numbers.get(room, (self._epoch, 0))[0], 0)

    # ------------------------------------------------------------------------------------------------------- the broker

    def connected(self, now: float) -> None:
        """Note that the broker is there: it knows of no subscription."""
        if self._away_since < math.inf:
            self._hold_until = now + min(2 * (now - self._away_since) + LEAST_HOLD, HOLD)
            self._awaited = {
                origin
                for here in self._rooms.values()
                for origin, process in here.processes.items()
                if self._silence(process, self._away_since) < SILENCE
            }
        if self._awaited:
            self._take_back()
        self._away, self._away_since = False, math.inf
        self._late_until = now + max(LATE_SECONDS, LATE_HEARTBEATS * self._interval)
        self._connected_at = now
        self.next_heartbeat = now + self._interval
        self._listening.clear()
        self._to_shut.clear()
        self._to_open = dict.fromkeys(self._rooms)

    def _take_back(self) -> None:
        """Wait with what the broker didn't confirm, as with all other messages."""
        for entry in reversed(self._uncertain):
            if entry.number:
                self._waiting.appendleft(entry)
                self._waiting_bytes += len(entry.data)
                self._taken[entry.room] = entry.epoch, entry.number - 1
            else:
                self._told.appendleft(entry)
                self._told_bytes += len(entry.data)
        self._uncertain.clear()

    def disconnected(self, now: float) -> None:
        """Note that the broker is away."""
        if not self._away:
            self._away, self._away_since = True, now

    def release(self) -> None:
        """Don't wait with messages for other processes any longer."""
        self._awaited.clear()

    def subscribed(self, rooms: Iterable[str]) -> None:
        """Note that messages to these rooms arrive from now on."""
        for room in rooms:
            self._to_open.pop(room, None)
            self._listening.add(room)
            if room in self._rooms:
                here = self._rooms[room]
                here.whole = here.asks = True
                self._dirty[room] = None
            else:
                self._to_shut[room] = None

    def unsubscribed(self, rooms: Iterable[str]) -> None:
        """Note that messages to these rooms don't arrive any more."""
        for room in rooms:
            self._listening.discard(room)
            self._to_shut.pop(room, None)
            if room in self._rooms:
                self._to_open[room] = None

    def take(self, now: float, max_size: int | None) -> list[tuple[str, bytes]]:
        """Return what to publish now, as rooms and bytes; what wasn't confirmed comes first.

        Parameters:
            now: seconds of any monotonic clock.
            max_size: the largest size that the broker takes, in bytes; larger messages are lost.
        """
        if not self._uncertain:
            self._tell(now)
            if now >= self._hold_until:
                self._awaited.clear()
            size = 0
            while (self._told or (self._waiting and not self._awaited)) and (
                len(self._uncertain) < BATCH and size < BATCH_BYTES
            ):
                entry = self._pop_told() if self._told else self._pop_message()
                size += len(entry.data)
                if max_size is not None and len(entry.data) > max_size:
                    self.lost += entry.number > 0
                else:
                    self._uncertain.append(entry)
        return [(entry.room, entry.data) for entry in self._uncertain]

    def confirmed(self) -> None:
        """Note that the broker has what :meth:`take` returned."""
        self._uncertain.clear()

    def give_up(self) -> None:
        """Count what still waits as lost, because the program doesn't wait for the broker any longer."""
        self.lost += self.waiting
        self._waiting.clear()
        self._told.clear()
        self._uncertain.clear()
        self._waiting_bytes = self._told_bytes = 0

    def _tell(self, now: float) -> None:
        """Add what other processes must know of our members and numbers."""
        if now >= self._late_until and self._late:
            self._late.clear()
            self._late_count = 0
        for room in self._dirty:
            self._tell_of(room, self._rooms[room], now)
        self._dirty.clear()
        if now >= self.next_heartbeat:
            self.next_heartbeat = now + self._interval
            for room in self._rooms.keys() | self._spoken:
                self._put(room, self._presence(room, {}, now))
            self._spoken.clear()

    def _tell_of(self, room: str, here: _Room, now: float) -> None:
        if here.asks:
            self._put(room, HEAD.pack(ASK, self._origin, *self._number_taken(room)))
        if here.joined or here.left:
            here.version += 1
        changes = None
        if not here.whole and (here.joined or here.left):
            changes = self._presence(room, {"joined": here.joined, "left": here.left}, now)
        if changes is not None and len(changes) <= PART:
            self._put(room, changes)
        elif here.whole or changes is not None:
            parts = _split(here.members)
            for number, part in enumerate(parts):
                self._put(room, self._presence(room, {"all": part, "part": number, "parts": len(parts)}, now))
        here.whole = here.asks = False
        here.joined, here.left = {}, []

    def _presence(self, room: str, said: Mapping[str, Any], now: float | None = None) -> bytes:
        epoch, number = self._number_taken(room)
        head = HEAD.pack(PRESENCE, self._origin, epoch, number)
        # A process without the room has no members that others might ask for.
        version = self._rooms[room].version if room in self._rooms else -1
        late = self._late.get(room)
        if late is not None and now is not None and late[0] == epoch:
            said = {**said, "late": [(number, round(now - then, 3)) for number, then in late[1]]}
        return head + json.dumps({"version": version, **said}, separators=(",", ":")).encode()

    # ---------------------------------------------------------------------------------------------------- what arrives

    def receive(self, room: str, data: bytes, now: float) -> News | None:
        """Process a message from the broker; return None if there is nothing to do.

        Raises:
            ValueError: no process like this one has published it.
        """
        try:
            kind, origin, epoch, number = HEAD.unpack_from(data)
            if kind not in (TEXT, BINARY, PRESENCE, ASK):
                raise ValueError("unknown kind")
            if kind == PRESENCE and len(data) > LARGEST:
                raise ValueError("too large")
            said = json.loads(data[HEAD.size :]) if kind == PRESENCE else {}
            if kind == TEXT:
                # Members of the room would close their connections.
                data[HEAD.size :].decode()
            here = self._rooms.get(room)
            if here is None or origin == self._origin:
                return None
            return self._learn(room, here, (kind, origin, epoch, number), said, data, now)
        except (struct.error, ValueError, TypeError, KeyError, AttributeError, OverflowError, RecursionError) as exc:
            self.malformed += 1
            raise ValueError(f"malformed message: {exc}") from exc

    def _learn(
        self, room: str, here: _Room, head: tuple[bytes, bytes, int, int], said: Any, data: bytes, now: float
    ) -> News | None:
        kind, origin, epoch, number = head
        news = News(room)
        # What is malformed must leave no trace.
        late = [(int(its_number), float(age)) for its_number, age in said.get("late", ())]
        process = here.processes.get(origin)
        if process is None:
            self._check_room_for_one(here, now)
            process = _Process(now)
        if kind == PRESENCE:
            self._learn_members(room, here, process, said, news)
        here.processes[origin] = process
        process.heard = now
        self._awaited.discard(origin)
        if kind == ASK:
            here.whole = True
            self._dirty[room] = None
        if not process.epoch and here.opened < self._connected_at:
            # The room was waiting for the broker, perhaps while this process published.
            process.before = number - (kind in OPCODE_OF)
        new = self._count(process, epoch, number, kind in OPCODE_OF, news)
        if kind == PRESENCE and process.before >= 0:
            waited = now - here.opened
            news.missed += sum(its_number <= process.before and age <= waited for its_number, age in late)
            process.before = -1
        if kind in OPCODE_OF:
            if not new:
                self.duplicates += 1
                return None
            self.received += 1
            news.message = OPCODE_OF[kind], data[HEAD.size :]
        self.missed += news.missed
        return news

    def _check_room_for_one(self, here: _Room, now: float) -> None:
        """Make room for one more process, if there is none: the silent ones are forgotten.

        Raises:
            ValueError: there are too many.
        """
        if len(here.processes) < PROCESSES:
            return
        if now >= here.full_until:
            here.full_until = now + self._interval
            for origin, process in [*here.processes.items()]:
                if self._silence(process, now) >= SILENCE and not process.members:
                    del here.processes[origin]
        if len(here.processes) >= PROCESSES:
            raise ValueError(f"more than {PROCESSES} processes")

    def _silence(self, process: _Process, now: float) -> float:
        """For how many heartbeats a process has been silent."""
        return (now - max(process.heard, self._connected_at)) / self._interval

    def _count(self, process: _Process, epoch: int, number: int, counts: bool, news: News) -> bool:
        """Compare the number of a message with the last one of its process; return whether it is new."""
        if not process.epoch:
            # The first sign of a process: what it published earlier wasn't for us.
            expected = number
        elif epoch == process.epoch:
            expected = process.number + counts
        else:
            expected = int(counts)
        if epoch < process.epoch or (epoch == process.epoch and number < expected):
            return False
        news.missed = number - expected
        process.epoch, process.number = epoch, number
        return True

    def _learn_members(self, room: str, here: _Room, process: _Process, said: Any, news: News) -> None:
        version = int(said["version"])
        before = members = process.members
        if said.get("end"):
            members, process.version = {}, -1
        elif "all" in said:
            part, parts = int(said["part"]), int(said["parts"])
            known = ({} if part == 0 else process.parts) | said["all"]
            self._check_number(here, process, known)
            if part and process.part != (version, part):
                # A part is missing.
                here.asks = True
                self._dirty[room] = None
            elif part + 1 < parts:
                process.part, process.parts = (version, part + 1), known
            else:
                members, process.version = known, version
                process.part, process.parts = (-1, 0), {}
        elif "joined" in said and version == process.version + 1 and process.version >= 0:
            gone = frozenset(said["left"])
            members = {member: info for member, info in before.items() if member not in gone} | said["joined"]
            self._check_number(here, process, members)
            process.version = version
        elif version > process.version or ("joined" not in said and version != process.version):
            # Something is missing. Only a change that is known already needs no answer.
            here.asks = True
            self._dirty[room] = None
        process.members = members
        news.joined = {member: members[member] for member in members.keys() - before.keys()}
        news.left = {member: before[member] for member in before.keys() - members.keys()}

    def _check_number(self, here: _Room, process: _Process, members: Members) -> None:
        """Raise ``ValueError`` if there are too many members, once these are those of a process."""
        others = sum(len(other.members) + len(other.parts) for other in here.processes.values() if other is not process)
        if others + len(members) > MEMBERS:
            raise ValueError(f"more than {MEMBERS} members")

    def expire(self, now: float) -> list[News]:
        """Return the members of processes that are silent; they have left. Call it while the broker is there."""
        if now < self._expire_at:
            # Looking at all rooms takes its time.
            return []
        self._expire_at = now + self._interval / 10
        found = []
        for room, here in self._rooms.items():
            for origin, process in [*here.processes.items()]:
                silent = self._silence(process, now)
                if silent >= SILENCE and process.members:
                    found.append(News(room, left=process.members))
                    process.members, process.version = {}, -1
                if silent >= OBLIVION:
                    del here.processes[origin]
        return found


def _split(members: Members) -> list[Members]:
    """Return members in parts that are small enough for a message; one at least."""
    parts: list[Members] = [{}]
    size = 0
    for member, info in members.items():
        own = len(member) + len(json.dumps(info)) + 8
        if size + own > PART:
            parts.append({})
            size = 0
        parts[-1][member] = info
        size += own
    return parts
