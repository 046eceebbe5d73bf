"""Rooms: who is in which one, and the last messages of each.

May know: names of rooms, members, prepared messages. Must not know: connections beyond their identity, how a message
is sent.
"""

from __future__ import annotations

import dataclasses
from collections import deque
from collections.abc import Iterable, Iterator
from typing import Any, Generic, TypeVar

from ..protocol._prepared import PreparedMessage

__all__ = ["HubStatistics", "Member", "Presence", "Room", "Rooms"]

C = TypeVar("C")


@dataclasses.dataclass(frozen=True, slots=True)
class Member:
    """A member of a room.

    Attributes:
        id: the member's id, which nobody else has, in any process.
        info: what was given to ``join``.
        connection: its connection; None if that is in another process.
    """

    id: str
    info: Any = None
    connection: Any = None


@dataclasses.dataclass(frozen=True, slots=True)
class Presence:
    """A member came or went.

    Attributes:
        room: the room.
        member: the member.
        joined: True if it came, False if it went.
    """

    room: str
    member: Member
    joined: bool


@dataclasses.dataclass(frozen=True, slots=True)
class HubStatistics:
    """What a hub has counted, in this process.

    Attributes:
        rooms: rooms that there are.
        members: members in this process; a connection counts in each of its rooms.
        published: messages that were published here.
        received: messages of other processes that arrived.
        lost: messages published here that never reached the broker.
        missed: messages of other processes that never arrived.
        duplicates: messages of other processes that arrived once more, and were dropped.
        malformed: messages from the broker that no hub has published.
        waiting: messages that the broker hasn't confirmed.
        connections: how many times the broker was connected to.
    """

    rooms: int
    members: int
    published: int
    received: int = 0
    lost: int = 0
    missed: int = 0
    duplicates: int = 0
    malformed: int = 0
    waiting: int = 0
    connections: int = 0


class Room(Generic[C]):
    """A room.

    Parameters:
        history: number of messages to keep.

    Attributes:
        members: its members in this process, by their connections.
        kept: whether it stays when nobody is in it.
        history: its last messages.
    """

    __slots__ = ("history", "kept", "members")

    def __init__(self, history: int) -> None:
        self.members: dict[C, Member] = {}
        self.kept = False
        self.history: deque[PreparedMessage] = deque(maxlen=history)

    @property
    def over(self) -> bool:
        """Whether nobody needs it."""
        return not self.members and not self.kept

    def recipients(self, exclude: Iterable[C]) -> list[C]:
        """Return the connections of its members, without some."""
        excluded = frozenset(exclude)
        if not excluded:
            return [*self.members]
        return [connection for connection in self.members if connection not in excluded]


class Rooms(Generic[C]):
    """The rooms of a process, which are there as long as they have a member or are kept.

    Parameters:
        history: number of messages that each room keeps.

    Attributes:
        published: number of messages that were published.
    """

    def __init__(self, history: int) -> None:
        self.published = 0
        self._history = history
        self._rooms: dict[str, Room[C]] = {}
        self._rooms_of: dict[C, set[str]] = {}

    @property
    def occupied(self) -> bool:
        """Whether there is any member."""
        return bool(self._rooms_of)

    def __iter__(self) -> Iterator[str]:
        return iter(self._rooms)

    def get(self, name: str) -> Room[C] | None:
        """Return a room; None if there is none of this name."""
        return self._rooms.get(name)

    def open(self, name: str) -> tuple[Room[C], bool]:
        """Return a room, and whether it is new."""
        room = self._rooms.get(name)
        if room is not None:
            return room, False
        room = self._rooms[name] = Room(self._history)
        return room, True

    def close_if_over(self, name: str) -> bool:
        """Remove a room that nobody needs; return whether it was one."""
        room = self._rooms.get(name)
        if room is None or not room.over:
            return False
        del self._rooms[name]
        return True

    def enter(self, name: str, member: Member) -> bool:
        """Add a member to a room that is there; return whether it is the first room of its connection."""
        self._rooms[name].members[member.connection] = member
        rooms = self._rooms_of.setdefault(member.connection, set())
        rooms.add(name)
        return len(rooms) == 1

    def exit(self, name: str, connection: C) -> Member | None:
        """Remove a member from a room; return None if it wasn't there."""
        room = self._rooms.get(name)
        member = None if room is None else room.members.pop(connection, None)
        if member is not None:
            rooms = self._rooms_of[connection]
            rooms.discard(name)
            if not rooms:
                del self._rooms_of[connection]
        return member

    def has(self, connection: C) -> bool:
        """Return whether a connection is in any room."""
        return connection in self._rooms_of

    def of(self, connection: C) -> list[str]:
        """Return the rooms of a connection."""
        return sorted(self._rooms_of.get(connection, ()))

    def statistics(self, **more: int) -> HubStatistics:
        """Return the statistics."""
        members = sum(len(room.members) for room in self._rooms.values())
        return HubStatistics(len(self._rooms), members, self.published, **more)
