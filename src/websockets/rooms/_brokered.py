"""``BrokeredHub``: rooms over a broker: the task that connects, subscribes and publishes, as far as it waits.

May know: brokers by the interface below, time, tasks. Must not know: Redis, NATS; what is said on a channel:
``_session.relay`` knows it.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Protocol, Self

from .._codec.header import OPCODE_TEXT
from .._session.reconnection import Backoff, describe
from .._session.relay import MAX_INFO, News, Relay
from .._session.rooms import HubStatistics, Member, Presence
from ..protocol._prepared import PreparedMessage, content_of
from ..typing import DataLike
from ._hub import Hub, running_loop

__all__ = ["Broker", "BrokeredHub"]

# In seconds.
FIRST_DELAY, MAX_DELAY = 0.1, 10.0

# Of a room's name, in bytes: brokers have limits for the names of channels.
MAX_NAME = 512


class Broker(Protocol):
    """One connection to a broker. Its methods raise any exception when the connection is lost.

    Attributes:
        max_size: the largest message that it takes, in bytes; None for no limit.
    """

    max_size: int | None

    async def connect(self, receive: Callable[[str, bytes], None]) -> None:
        """Connect.

        Parameters:
            receive: function to call with room and content of each message that arrives.
        """
        ...

    async def run(self) -> None:
        """Receive messages until the connection is lost; raise what ended it."""
        ...

    async def subscribe(self, rooms: Sequence[str]) -> None:
        """Subscribe to rooms; return when their messages arrive."""
        ...

    async def unsubscribe(self, rooms: Sequence[str]) -> None:
        """Unsubscribe from rooms."""
        ...

    async def publish(self, batch: Sequence[tuple[str, bytes]]) -> None:
        """Publish messages in their order; return when the broker has all of them."""
        ...

    async def close(self) -> None:
        """End the connection."""
        ...


def _delays() -> Iterator[float]:
    delay = FIRST_DELAY
    while True:
        yield delay * random.uniform(0.5, 1)
        delay = min(delay * 2, MAX_DELAY)


class BrokeredHub(Hub):
    """Rooms in several processes, over a broker.

    It is an async context manager. On entry it connects to the broker; if that fails, it tries again in the background,
    with growing delays of at most ten seconds, as it does whenever the connection is lost. While the broker is away,
    members stay, and hear what is published in their own process.

    Each member gets the messages of one process in their order, and none twice. Messages that the others should get
    wait while the broker is away, up to ``max_waiting`` bytes. Beyond that, the oldest are lost: ``statistics.lost``
    counts them. A process that missed messages of another one counts them in ``statistics.missed``, with the next
    message or heartbeat at the latest. Both are logged at WARNING.

    Parameters:
        on_missed: function that is called with a room and the number of messages of another process that never arrived
            there. If it returns a message, the members of the room in this process get it; None for no message.
        prefix: beginning of the names of channels; hubs with the same prefix belong together.
        interval: seconds between heartbeats. Members of a process that was silent for three of them have left.
        timeout: seconds that the broker may take to answer, before it is connected to again.
        max_waiting: bytes that may wait for the broker.
        **options: as for :class:`Hub`.

    Raises:
        ValueError: one of the numbers is out of range.
    """

    def __init__(
        self,
        *,
        on_missed: Callable[[str, int], DataLike | None] | None = None,
        prefix: str = "websockets",
        interval: float = 10,
        timeout: float = 10,
        max_waiting: int = 2**24,
        **options: Any,
    ) -> None:
        super().__init__(**options)
        if on_missed is not None and not callable(on_missed):
            raise TypeError(f"on_missed must be a function, not {on_missed!r}")
        for name, value in {"interval": interval, "timeout": timeout, "max_waiting": max_waiting}.items():
            if not value > 0:
                raise ValueError(f"{name} must be a number above 0, not {value!r}")
        self._on_missed, self._prefix, self._timeout, self._interval = on_missed, prefix, timeout, interval
        self._relay = Relay(self._origin, interval, max_waiting)
        self._task: asyncio.Task[None] | None = None
        self._tried = asyncio.Event()
        self._wake, self._idle = asyncio.Event(), asyncio.Event()
        self._connected = self._ending = False
        self._connections = 0
        self._reported = 0

    def _make_broker(self) -> Broker:
        """Return a new connection to the broker, which isn't open yet."""
        raise NotImplementedError

    # ---------------------------------------------------------------------------------------------------- begin and end

    async def __aenter__(self) -> Self:
        if self._task is not None:
            raise RuntimeError("the hub is running already")
        self._check_loop()
        self._loop = asyncio.get_running_loop()
        self._ending = False
        self._tried.clear()
        self._task = task = asyncio.create_task(self._run())
        # A task that fails never tries.
        task.add_done_callback(lambda _: self._tried.set())
        try:
            await self._tried.wait()
            if task.done():
                task.result()
        except BaseException:
            # The block isn't entered, so nobody else ends the hub.
            await self.aclose()
            raise
        return self

    async def aclose(self) -> None:
        """End the hub: all members leave their rooms, and what waits is published if the broker takes it in time."""
        await super().aclose()
        task, self._task = self._task, None
        if task is not None:
            self._relay.release()
            if self._connected:
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._flushed(), self._timeout)
            # If the broker fails at this moment, the failure hides the cancellation.
            self._ending = True
            task.cancel()
            await asyncio.wait([task])
        self._relay.give_up()
        self._report()
        self._idle.set()

    async def flush(self) -> None:
        """Wait until the broker has what was published, as back-pressure for whoever publishes much.

        It waits while the broker is away, too.

        Raises:
            RuntimeError: the hub isn't running.
        """
        if self._task is None:
            raise RuntimeError("the hub isn't running: use it in async with")
        await self._flushed()

    async def _flushed(self) -> None:
        self._idle.clear()
        self._wake.set()
        await self._idle.wait()

    # ------------------------------------------------------------------------------------------------------------ ask

    @property
    def connected(self) -> bool:
        """Whether the broker is connected to."""
        return self._connected

    def members(self, room: str) -> list[Member]:
        """Return the members of a room, in all processes; none if there is no such room in this process."""
        elsewhere = self._relay.members(room)
        return [*super().members(room), *(Member(member, info) for member, info in elsewhere.items())]

    @property
    def statistics(self) -> HubStatistics:
        """What was counted in this process; a new snapshot each time."""
        relay = self._relay
        return self._rooms.statistics(
            received=relay.received,
            lost=relay.lost,
            missed=relay.missed,
            duplicates=relay.duplicates,
            malformed=relay.malformed,
            waiting=relay.waiting,
            connections=self._connections,
        )

    # ---------------------------------------------------------------------------------------- from the hub to the relay

    def _check_name(self, room: str) -> None:
        super()._check_name(room)
        if not 0 < len(room.encode()) <= MAX_NAME:
            raise ValueError(f"the name of a room has 1 to {MAX_NAME} bytes over a broker, not {len(room.encode())}")

    def _check_info(self, info: Any) -> None:
        if len(json.dumps(info)) > MAX_INFO:
            raise ValueError(f"info must be at most {MAX_INFO} bytes of JSON over a broker")

    @property
    def _in_use(self) -> bool:
        return super()._in_use or self._task is not None

    def _opened(self, room: str) -> None:
        self._relay.open(room, _now())
        self._wake.set()

    def _shut(self, room: str) -> None:
        self._relay.shut(room)
        self._wake.set()

    def _came(self, room: str, member: Member) -> None:
        # A copy: a program may change its object, and then it may be nothing that JSON can express.
        self._relay.join(room, member.id, json.loads(json.dumps(member.info)))
        self._wake.set()

    def _went(self, room: str, member: Member) -> None:
        self._relay.leave(room, member.id)
        self._wake.set()

    def _keepable(self, message: Any, text: bool | None) -> Any:
        return message if isinstance(message, PreparedMessage) else PreparedMessage(message, text=text)

    def _pass_on(self, room: str, message: Any) -> None:
        self._relay.publish(room, *content_of(message), _now())
        self._wake.set()

    # ---------------------------------------------------------------------------------------- from the relay to the hub

    def _receive(self, room: str, data: bytes) -> None:
        """Process what arrives from the broker."""
        try:
            news = self._relay.receive(room, data, asyncio.get_running_loop().time())
        except ValueError as exc:
            count = self._relay.malformed
            if count & (count - 1) == 0:
                # The first time, and each time that the number has doubled: somebody may send them without an end.
                self.logger.warning("room %r: %s; %d of them so far", room, exc, count)
            return
        if news is not None:
            self._tell(news)
        if self._relay.has_work:
            self._wake.set()

    def _tell(self, news: News) -> None:
        if news.missed:
            self._tell_missed(news.room, news.missed)
        for members, joined in ((news.left, False), (news.joined, True)):
            for member, info in members.items():
                self._announce(Presence(news.room, Member(member, info), joined))
        if news.message is not None:
            opcode, payload = news.message
            message = PreparedMessage(payload, text=opcode == OPCODE_TEXT)
            self._send(news.room, message)
            self._remember(news.room, message)

    def _tell_missed(self, room: str, count: int) -> None:
        self.logger.warning("room %r: %d messages of another process are missing", room, count)
        if self._on_missed is None:
            return
        try:
            message = self._on_missed(room, count)
            if message is not None:
                self._send(room, message)
        except Exception:
            self.logger.exception("on_missed of room %r failed", room)

    def _report(self) -> None:
        """Log the messages that were lost since the last report."""
        lost = self._relay.lost - self._reported
        if lost:
            self._reported += lost
            self.logger.warning("%d messages were lost before they reached the broker", lost)

    # --------------------------------------------------------------------------------------------- the task that waits

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        backoff = Backoff(_delays)
        while not self._ending:
            opened, delay = None, 0.0
            broker = self._make_broker()
            try:
                async with asyncio.timeout(self._timeout):
                    await broker.connect(self._receive)
                opened = loop.time()
                await self._use(broker, opened)
            except Exception as exc:
                delay = backoff.after_failure() if opened is None else backoff.after_connection(loop.time() - opened)
                self.logger.warning("broker is away; reconnecting in %.1f seconds: %s", delay, describe(_first(exc)))
            finally:
                self._connected = False
                self._relay.disconnected(loop.time())
                self._tried.set()
                with contextlib.suppress(Exception):
                    async with asyncio.timeout(self._timeout):
                        await broker.close()
            if not self._ending:
                await asyncio.sleep(delay)

    async def _use(self, broker: Broker, now: float) -> None:
        """Publish and receive until the connection is lost; raise what ended it."""
        self._connected = True
        self._connections += 1
        self._relay.connected(now)
        self._report()
        async with asyncio.TaskGroup() as group:
            group.create_task(broker.run())
            group.create_task(self._publish(broker))

    async def _publish(self, broker: Broker) -> None:
        loop, relay, due = asyncio.get_running_loop(), self._relay, 0.0
        while True:
            self._wake.clear()
            async with asyncio.timeout(self._timeout):
                await self._subscribe(broker)
                # A timer may go off a little early, and what it was set for is due all the same.
                batch = relay.take(max(loop.time(), due), broker.max_size)
                if batch:
                    await broker.publish(batch)
            relay.confirmed()
            self._report()
            for news in relay.expire(loop.time()):
                self._tell(news)
            if not batch and not relay.has_work:
                self._tried.set()
                if not relay.waiting:
                    self._idle.set()
                wake_at = relay.wake_at
                try:
                    async with asyncio.timeout_at(wake_at):
                        await self._wake.wait()
                except TimeoutError:
                    due = wake_at

    async def _subscribe(self, broker: Broker) -> None:
        new, old = self._relay.channels()
        if old:
            await broker.unsubscribe(old)
            self._relay.unsubscribed(old)
        if new:
            await broker.subscribe(new)
            self._relay.subscribed(new)


def _now() -> float:
    loop = running_loop()
    # Without a loop, no hub runs; what is published waits for it.
    return time.monotonic() if loop is None else loop.time()


def _first(exc: Exception) -> BaseException:
    """Return the error itself instead of a group with it."""
    while isinstance(exc, ExceptionGroup):
        exc = exc.exceptions[0]
    return exc
