"""``Hub``: rooms in one process.

May know: connections of asyncio, broadcasts. Must not know: brokers.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import os
from collections.abc import Callable, Iterable
from types import TracebackType
from typing import Any, Final, Literal, Self

from .._rules.option_table import BROADCAST, check
from .._session.rooms import HubStatistics, Member, Presence, Rooms
from ..asyncio.connection import Connection
from ..asyncio.server import broadcast
from ..protocol._prepared import PreparedMessage
from ..typing import DataLike, LoggerLike

__all__ = ["Hub", "OnSlow", "running_loop"]

OnSlow = Literal["send", "skip", "close"]

ANOTHER_LOOP: Final = (
    "a hub belongs to the event loop of its connections; "
    "elsewhere, use loop.call_soon_threadsafe(hub.publish, room, message)"
)


class Hub:
    """Rooms in one process.

    A room is there as long as it has a member, or is kept by :meth:`keep`. A connection may be in several rooms, and
    leaves them by itself when it is closed. No method waits for a member. All calls must come from the thread of the
    event loop.

    Parameters:
        history: number of messages of each room that a newcomer gets.
        presence: function that is called with a :class:`Presence` when a member has come or gone. If it returns a
            message, the members of the room in this process get it, except for the newcomer; None for no message.
        on_slow: what happens to members with more than ``max_buffered`` bytes in their write buffers: ``"close"`` to
            close them with code 1008, so that they learn that they miss something; ``"skip"`` to leave them out;
            ``"send"`` to send to them all the same.
        max_buffered: limit for the ``buffered_amount`` of a connection, in bytes; None for its ``write_limit``.
        logger: logger for errors of ``presence``; ``websockets.rooms`` by default.

    Raises:
        ValueError: ``history`` or ``max_buffered`` is negative, or ``on_slow`` is none of the three values.
    """

    def __init__(
        self,
        *,
        history: int = 0,
        presence: Callable[[Presence], DataLike | None] | None = None,
        on_slow: OnSlow = "close",
        max_buffered: int | None = 2**20,
        logger: LoggerLike | None = None,
    ) -> None:
        if not isinstance(history, int) or history < 0:
            raise ValueError(f"history must be a number of messages, 0 or more, not {history!r}")
        if presence is not None and not callable(presence):
            raise TypeError(f"presence must be a function, not {presence!r}")
        if on_slow not in ("send", "skip", "close"):
            raise ValueError(f"on_slow must be 'send', 'skip' or 'close', not {on_slow!r}")
        self.logger: LoggerLike = logging.getLogger("websockets.rooms") if logger is None else logger
        self._max_buffered = None if max_buffered is None else check("max_buffered", max_buffered, BROADCAST)
        self._history, self._presence = history, presence
        self._on_slow: OnSlow = on_slow
        self._rooms: Rooms[Connection] = Rooms(history)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._origin = os.urandom(8)
        self._ids = itertools.count(1)
        # What a connection in any room calls when it is closed.
        self._watches: dict[Connection, Callable[[asyncio.Future[None]], None]] = {}

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """End the hub: all members leave their rooms; their connections stay open."""
        for room in self.rooms:
            for member in self._here(room):
                self.leave(room, member.connection)
            self.forget(room)

    async def flush(self) -> None:
        """Wait until what was published has reached the broker; here, there is none."""

    # ------------------------------------------------------------------------------------------------------------ ask

    @property
    def rooms(self) -> list[str]:
        """The rooms that there are in this process."""
        return [*self._rooms]

    def rooms_of(self, connection: Connection) -> list[str]:
        """Return the rooms that a connection is in."""
        return self._rooms.of(connection)

    def members(self, room: str) -> list[Member]:
        """Return the members of a room, in the order in which they came; none if there is no such room."""
        return self._here(room)

    @property
    def statistics(self) -> HubStatistics:
        """What was counted; a new snapshot each time."""
        return self._rooms.statistics()

    def _here(self, room: str) -> list[Member]:
        found = self._rooms.get(room)
        return [] if found is None else [*found.members.values()]

    # ----------------------------------------------------------------------------------------------------- come and go

    def join(self, room: str, connection: Connection, info: Any = None) -> Member:
        """Add a connection to a room. It gets the last messages at once, and all later ones.

        Parameters:
            room: name of the room; a room is made if there is none of this name.
            connection: the connection; if it is a member already, nothing changes.
            info: what other members may know of it, such as a name; over a broker, what JSON can express.

        Returns:
            The member.

        Raises:
            TypeError: ``room`` isn't a ``str``, ``connection`` isn't one of ``websockets.asyncio``, or ``info``
                can't be sent to other processes.
            ValueError: the broker doesn't take this name, or so large an ``info``.
            RuntimeError: this isn't the event loop of the hub and of the connection.
        """
        self._check_name(room)
        self._check_info(info)
        if not isinstance(connection, Connection):
            raise TypeError(f"connection must be one of websockets.asyncio, not {connection!r}")
        self._check_loop()
        if not self._in_use:
            self._loop = connection.loop
        if connection.loop is not self._loop or connection.loop is not running_loop():
            raise RuntimeError(ANOTHER_LOOP)
        found = self._rooms.get(room)
        if found is not None and connection in found.members:
            return found.members[connection]
        found = self._open(room)
        member = Member(f"{self._origin.hex()}-{next(self._ids)}", info, connection)
        if self._rooms.enter(room, member):
            self._watch(connection)
        for message in [*found.history]:
            broadcast([connection], message)
        self._came(room, member)
        self._announce(Presence(room, member, joined=True))
        return member

    def leave(self, room: str, connection: Connection) -> None:
        """Remove a connection from a room; no effect if it isn't a member.

        Raises:
            RuntimeError: this isn't the event loop of the hub.
        """
        self._check_loop()
        member = self._rooms.exit(room, connection)
        if member is not None:
            if not self._rooms.has(connection):
                connection.connection_lost_waiter.remove_done_callback(self._watches.pop(connection))
            self._went(room, member)
            self._announce(Presence(room, member, joined=False))
            self._close_if_over(room)

    def keep(self, room: str) -> None:
        """Keep a room and its last messages even when nobody is in it, until :meth:`forget`."""
        self._check_name(room)
        self._open(room).kept = True

    def forget(self, room: str) -> None:
        """Don't keep a room any more when nobody is in it."""
        found = self._rooms.get(room)
        if found is not None:
            found.kept = False
            self._close_if_over(room)

    @property
    def _in_use(self) -> bool:
        """Whether there is anything that belongs to an event loop."""
        return self._rooms.occupied

    def _check_loop(self) -> None:
        """Raise ``RuntimeError`` in a thread whose calls could spoil the connections."""
        if self._in_use and running_loop() is not self._loop:
            raise RuntimeError(ANOTHER_LOOP)

    def _open(self, name: str) -> Any:
        room, new = self._rooms.open(name)
        if new:
            self._opened(name)
        return room

    def _close_if_over(self, room: str) -> None:
        if self._rooms.close_if_over(room):
            self._shut(room)

    def _watch(self, connection: Connection) -> None:
        """Let a connection leave all rooms when it is closed."""

        def lost(waiter: asyncio.Future[None]) -> None:
            if self._watches.get(connection) is not lost:
                # It has left all rooms before this is called; if it has joined one again, there is another function.
                return
            if waiter.cancelled():
                # Somebody's task was cancelled while it waited for this future.
                connection.connection_lost_waiter.add_done_callback(lost)
                return
            for room in self.rooms_of(connection):
                self.leave(room, connection)

        self._watches[connection] = lost
        connection.connection_lost_waiter.add_done_callback(lost)

    def _announce(self, event: Presence) -> None:
        """Tell the program that a member came or went, and the members what it says."""
        if self._presence is None:
            return
        try:
            message = self._presence(event)
            if message is not None:
                self._send(event.room, message, [event.member.connection])
        except Exception:
            self.logger.exception("presence of room %r failed", event.room)

    # ---------------------------------------------------------------------------------------------------------- publish

    def publish(
        self,
        room: str,
        message: DataLike | PreparedMessage,
        *,
        exclude: Connection | Iterable[Connection] = (),
        text: bool | None = None,
        on_slow: OnSlow | None = None,
        max_buffered: int | None = None,
    ) -> None:
        """Send a message to all members of a room, without waiting for any of them.

        Parameters:
            room: name of the room.
            message: as for :func:`~websockets.asyncio.server.broadcast`.
            exclude: a connection that doesn't get it, or several.
            text: True to send bytes as text, False to send a ``str`` as binary; None to go by the type.
            on_slow: as for the hub, for this message and this process; None for what the hub does.
            max_buffered: likewise.

        Raises:
            TypeError: the message has a type that can't be sent in one frame, or ``room`` isn't a ``str``.
            ValueError: ``on_slow`` is none of the three values, or ``max_buffered`` is negative; the broker doesn't
                take this name.
            RuntimeError: this isn't the event loop of the hub.
        """
        self._check_name(room)
        self._check_loop()
        excluded = (exclude,) if isinstance(exclude, Connection) else exclude
        kept = self._keepable(message, text)
        if isinstance(kept, PreparedMessage):
            text = None
        self._send(room, kept, excluded, text, on_slow, max_buffered)
        self._rooms.published += 1
        self._remember(room, kept)
        self._pass_on(room, kept)

    def _keepable(self, message: Any, text: bool | None) -> Any:
        """Return a message that may be needed later as a prepared one: what it was made of may change."""
        if not self._history or isinstance(message, PreparedMessage):
            return message
        return PreparedMessage(message, text=text)

    def _remember(self, room: str, message: Any) -> None:
        found = self._rooms.get(room)
        if found is not None and self._history:
            found.history.append(message)

    def _send(
        self,
        room: str,
        message: Any,
        exclude: Iterable[Any] = (),
        text: bool | None = None,
        on_slow: OnSlow | None = None,
        max_buffered: int | None = None,
    ) -> None:
        found = self._rooms.get(room)
        broadcast(
            [] if found is None else found.recipients(exclude),
            message,
            text=text,
            on_slow=self._on_slow if on_slow is None else on_slow,
            max_buffered=self._max_buffered if max_buffered is None else max_buffered,
        )

    # ----------------------------------------------------------------------------------- what a hub over a broker does

    def _check_name(self, room: str) -> None:
        if not isinstance(room, str):
            raise TypeError(f"room must be a str, not {room!r}")

    def _check_info(self, info: Any) -> None:
        pass

    def _opened(self, room: str) -> None:
        pass

    def _shut(self, room: str) -> None:
        pass

    def _came(self, room: str, member: Member) -> None:
        pass

    def _went(self, room: str, member: Member) -> None:
        pass

    def _pass_on(self, room: str, message: Any) -> None:
        pass


def running_loop() -> asyncio.AbstractEventLoop | None:
    """Return the event loop that runs in this thread; None if there is none."""
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None
