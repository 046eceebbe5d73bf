"""``RedisHub``: rooms over the channels of Redis.

May know: redis-py, when a hub is made. Must not know: connections, members.
"""

# pyright: reportMissingImports=false

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

from ._brokered import Broker, BrokeredHub

__all__ = ["RedisHub"]


class RedisHub(BrokeredHub):
    """Rooms in several processes, over channels of Redis.

    Use it in ``async with``. If the broker can't be reached at first, or is lost later, the hub connects to it in the
    background, with delays of at most ten seconds. Members stay in the meantime, and hear what is published in their
    own process. Messages to other processes wait, up to ``max_waiting`` bytes; beyond that, the oldest are lost, which
    ``statistics.lost`` counts. ``statistics.missed`` counts the messages of others that never arrived.

    Parameters:
        url: where Redis is: ``redis://``, ``rediss://`` or ``unix://``, with user and password if needed.
        **options: as for :class:`Hub`; and ``on_missed``, a function that is called with a room and the number of
            messages of another process that never arrived there, and may return a message to the members of the room
            in this process; ``prefix`` of the names of channels, ``"websockets"`` by default; ``interval``, seconds
            between heartbeats, 10 by default: members of a process that was silent for three of them have left;
            ``timeout``, seconds that the broker may take to answer, 10 by default; ``max_waiting``, bytes that may
            wait for the broker, 16 MiB by default.

    Raises:
        ImportError: the package ``redis`` isn't installed.
        ValueError: the URL has another scheme, or a number is out of range.
    """

    def __init__(self, url: str, **options: Any) -> None:
        super().__init__(**options)
        library = _library()
        # This hub connects again by itself, and must know that it has to. Redis is asked when something is to be
        # published, so the client needs no health checks.
        retry = library.asyncio.retry.Retry(library.backoff.NoBackoff(), 0)
        self._make: Callable[[], Any] = lambda: library.asyncio.Redis.from_url(
            url, retry=retry, health_check_interval=0, decode_responses=False, socket_timeout=None
        )
        self._make()

    def _make_broker(self) -> Broker:
        return _Redis(self._make(), f"{self._prefix}:")


def _library() -> Any:
    try:
        import redis.asyncio  # type: ignore[import-not-found, unused-ignore]
        import redis.backoff  # type: ignore[import-not-found, unused-ignore]
    except ImportError as exc:
        raise ImportError('RedisHub needs redis: pip install "websockets[redis]"') from exc
    return redis


class _Redis:
    """One connection for channels, and one for publishing.

    Parameters:
        client: the client of redis-py.
        prefix: beginning of the names of channels.
    """

    max_size: int | None = None

    def __init__(self, client: Any, prefix: str) -> None:
        self._client, self._prefix = client, prefix
        self._channels = client.pubsub()
        self._confirmed: dict[str, asyncio.Event] = {}

    async def connect(self, receive: Callable[[str, bytes], None]) -> None:
        self._receive = receive
        await self._client.ping()
        # A channel of its own keeps the connection when there is no room.
        await self._channels.subscribe(self._prefix.encode())

    async def run(self) -> None:
        start = len(self._prefix.encode())
        while True:
            kind, channel, *rest = await self._channels.parse_response(block=True)
            room = channel[start:].decode(errors="replace")
            if kind == b"message":
                self._receive(room, rest[0])
            elif kind == b"subscribe" and room in self._confirmed:
                self._confirmed[room].set()
            elif kind == b"unsubscribe":
                # Otherwise the client keeps the name of each channel that there ever was.
                await self._channels.handle_message([kind, channel, *rest])

    async def subscribe(self, rooms: Sequence[str]) -> None:
        waiting = {room: asyncio.Event() for room in rooms}
        self._confirmed |= waiting
        await self._channels.subscribe(*(self._channel(room) for room in rooms))
        for room, confirmed in waiting.items():
            await confirmed.wait()
            del self._confirmed[room]

    async def unsubscribe(self, rooms: Sequence[str]) -> None:
        await self._channels.unsubscribe(*(self._channel(room) for room in rooms))

    async def publish(self, batch: Sequence[tuple[str, bytes]]) -> None:
        pipeline = self._client.pipeline(transaction=False)
        for room, data in batch:
            pipeline.publish(self._channel(room), data)
        await pipeline.execute()

    async def close(self) -> None:
        await self._channels.aclose()
        await self._client.aclose()

    def _channel(self, room: str) -> bytes:
        return (self._prefix + room).encode()
