"""Rooms over a broker: what is published there, what arrives from there, who is in a room of another process.

May know: rooms by their names, members by an id and what is said of them, ``now`` as an argument. Must not know:
connections, brokers, how to wait.

Each process numbers the messages that it publishes in a room. So the others see what they have already, which they
drop, and what is missing, which they count. A broker may get the same message twice, when nobody knows whether the
first one reached it. A process that was silent for :data:`SILENCE` heartbeats has no members any more.

A message on a channel has a head of 21 bytes: its kind, the process, its epoch, and the number of its last message in
the room. A process that has forgotten its number of a room begins a new epoch with number 1.
"""

from __future__ import annotations

import dataclasses
import json
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

# At most so many messages are with the broker before it has confirmed them.
BATCH: Final = 256

# So many rooms keep the number of their last message. A room without a number begins a new epoch.
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
        version: of its members; -1 if they aren't known.
        members: its members.
        heard: when something of it arrived last.
    """

    heard: float
    epoch: int = 0
    number: int = 0
    version: int = -1
    members: Members = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(slots=True)
class _Room:
    """A room that this process listens to.

    Attributes:
        members: the members in this process.
        version: incremented with each change of the members that was published.
        joined, left: changes that weren't published yet.
        whole: whether all members are to be published, instead of changes.
        asks: whether other processes are to be asked for their members.
        processes: the other processes.
    """

    members: Members = dataclasses.field(default_factory=dict)
    version: int = 0
    joined: Members = dataclasses.field(default_factory=dict)
    left: list[str] = dataclasses.field(default_factory=list)
    whole: bool = False
    asks: bool = False
    processes: dict[bytes, _Process] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(slots=True)
class _Entry:
    room: str
    data: bytes
    counts: bool


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
        self._epoch = 0
        self._spoken: set[str] = set()  # rooms with messages since the last heartbeat
        self._waiting: deque[_Entry] = deque()
        self._waiting_bytes = 0
        self._uncertain: list[_Entry] = []
        self._connected_at = 0.0

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
        return sum(entry.counts for entry in (*self._uncertain, *self._waiting))

    @property
    def has_work(self) -> bool:
        """Whether something is to be subscribed to, to be unsubscribed from, or to be published."""
        return bool(self._waiting or self._uncertain or self._dirty or self._to_open or self._to_shut)

    def channels(self) -> tuple[list[str], list[str]]:
        """Return the rooms to subscribe to, and those to unsubscribe from."""
        return [*self._to_open], [*self._to_shut]

    # ------------------------------------------------------------------------------------------- what the program does

    def open(self, room: str) -> None:
        """Listen to a room."""
        listening = room in self._listening
        self._rooms[room] = _Room(whole=listening, asks=listening)
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

    def publish(self, room: str, opcode: int, payload: BytesLike) -> None:
        """Publish a message to the other processes."""
        epoch, number = self._number(room)
        self._numbers[room] = epoch, number + 1
        self._numbers.move_to_end(room)
        if len(self._numbers) > NUMBERED:
            self._numbers.popitem(last=False)
        self._spoken.add(room)
        self._put(room, HEAD.pack(KIND_OF[opcode], self._origin, epoch, number + 1) + payload, counts=True)

    def _number(self, room: str) -> tuple[int, int]:
        if room not in self._numbers:
            self._epoch += 1
            self._numbers[room] = self._epoch, 0
        return self._numbers[room]

    def _put(self, room: str, data: bytes, counts: bool = False) -> None:
        self._waiting.append(_Entry(room, data, counts))
        self._waiting_bytes += len(data)
        while self._waiting_bytes > self._max_waiting:
            self._lose(self._waiting.popleft())

    def _lose(self, entry: _Entry) -> None:
        self._waiting_bytes -= len(entry.data)
        self.lost += entry.counts

    # ------------------------------------------------------------------------------------------------------- the broker

    def connected(self, now: float) -> None:
        """Note that the broker is there: it knows of no subscription."""
        self._connected_at = now
        self.next_heartbeat = now + self._interval
        self._listening.clear()
        self._to_shut.clear()
        self._to_open = dict.fromkeys(self._rooms)

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
            while self._waiting and len(self._uncertain) < BATCH:
                entry = self._waiting.popleft()
                if max_size is not None and len(entry.data) > max_size:
                    self._lose(entry)
                else:
                    self._waiting_bytes -= len(entry.data)
                    self._uncertain.append(entry)
        return [(entry.room, entry.data) for entry in self._uncertain]

    def confirmed(self) -> None:
        """Note that the broker has what :meth:`take` returned."""
        self._uncertain.clear()

    def give_up(self) -> None:
        """Count what still waits as lost, because the program doesn't wait for the broker any longer."""
        self.lost += self.waiting
        self._waiting.clear()
        self._uncertain.clear()
        self._waiting_bytes = 0

    def _tell(self, now: float) -> None:
        """Add what other processes must know of our members and numbers."""
        for room in self._dirty:
            self._tell_of(room, self._rooms[room])
        self._dirty.clear()
        if now >= self.next_heartbeat:
            self.next_heartbeat = now + self._interval
            for room in self._rooms.keys() | self._spoken:
                self._put(room, self._presence(room, {}))
            self._spoken.clear()

    def _tell_of(self, room: str, here: _Room) -> None:
        if here.asks:
            self._put(room, HEAD.pack(ASK, self._origin, *self._number(room)))
        if here.joined or here.left:
            here.version += 1
        if here.whole:
            self._put(room, self._presence(room, {"all": here.members}))
        elif here.joined or here.left:
            self._put(room, self._presence(room, {"joined": here.joined, "left": here.left}))
        here.whole = here.asks = False
        here.joined, here.left = {}, []

    def _presence(self, room: str, said: Mapping[str, Any]) -> bytes:
        head = HEAD.pack(PRESENCE, self._origin, *self._number(room))
        # A process without the room has no members that others might ask for.
        version = self._rooms[room].version if room in self._rooms else -1
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
        process = here.processes.get(origin) or _Process(now)
        if kind == PRESENCE:
            self._learn_members(room, here, process, said, news)
        here.processes[origin] = process
        process.heard = now
        if kind == ASK:
            here.whole = True
            self._dirty[room] = None
        new = self._count(process, epoch, number, kind in OPCODE_OF, news)
        if kind in OPCODE_OF:
            if not new:
                self.duplicates += 1
                return None
            self.received += 1
            news.message = OPCODE_OF[kind], data[HEAD.size :]
        self.missed += news.missed
        return news

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
        before = process.members
        if said.get("end"):
            process.members, process.version = {}, -1
        elif "all" in said:
            process.members, process.version = {} | said["all"], version
        elif "joined" in said and version == process.version + 1 and process.version >= 0:
            gone = frozenset(said["left"])
            kept = {member: info for member, info in before.items() if member not in gone}
            process.members, process.version = kept | said["joined"], version
        elif version > process.version or ("joined" not in said and version != process.version):
            # Something is missing. Only a change that is known already needs no answer.
            here.asks = True
            self._dirty[room] = None
        news.joined = {member: process.members[member] for member in process.members.keys() - before.keys()}
        news.left = {member: before[member] for member in before.keys() - process.members.keys()}

    def expire(self, now: float) -> list[News]:
        """Return the members of processes that are silent; they have left. Call it while the broker is there."""
        found = []
        for room, here in self._rooms.items():
            for origin, process in [*here.processes.items()]:
                silent = (now - max(process.heard, self._connected_at)) / self._interval
                if silent >= SILENCE and process.members:
                    found.append(News(room, left=process.members))
                    process.members, process.version = {}, -1
                if silent >= OBLIVION:
                    del here.processes[origin]
        return found
