"""``NatsHub``: rooms over the subjects of NATS.

May know: nats-py, when a hub is made. Must not know: connections, members.
"""

# pyright: reportMissingImports=false

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

from ._brokered import Broker, BrokeredHub

__all__ = ["NatsHub"]

SCHEMES = ("nats", "tls", "ws", "wss")


class NatsHub(BrokeredHub):
    """Rooms in several processes, over subjects of NATS.

    Use it in ``async with``. If the broker can't be reached at first, or is lost later, the hub connects to it in the
    background, with delays of at most ten seconds. Members stay in the meantime, and hear what is published in their
    own process. Messages to other processes wait, up to ``max_waiting`` bytes; beyond that, the oldest are lost, which
    ``statistics.lost`` counts. ``statistics.missed`` counts the messages of others that never arrived.

    Parameters:
        url: where NATS is: ``nats://`` or ``tls://``, with user and password if needed.
        **options: as for :class:`Hub`; and ``on_missed``, a function that is called with a room and the number of
            messages of another process that never arrived there, and may return a message to the members of the room
            in this process; ``prefix`` of the names of channels, ``"websockets"`` by default; ``interval``, seconds
            between heartbeats, 10 by default: members of a process that was silent for three of them have left;
            ``timeout``, seconds that the broker may take to answer, 10 by default; ``max_waiting``, bytes that may
            wait for the broker, 16 MiB by default.

    Raises:
        ImportError: the package ``nats-py`` isn't installed.
        ValueError: the URL has another scheme, or a number is out of range.
    """

    def __init__(self, url: str, **options: Any) -> None:
        super().__init__(**options)
        library = _library()
        if url.partition("://")[0] not in SCHEMES:
            raise ValueError(f"the URL of NATS must begin with nats:// or tls://, not {url!r}")
        self._url = url
        self._make: Callable[[], Any] = library.aio.client.Client

    def _make_broker(self) -> Broker:
        return _Nats(self._make(), self._url, f"{self._prefix}.", self._timeout)


def _library() -> Any:
    try:
        import nats.aio.client  # type: ignore[import-not-found, unused-ignore]
    except ImportError as exc:
        raise ImportError('NatsHub needs nats-py: pip install "websockets[nats]"') from exc
    return nats


class _Nats:
    """One connection to NATS.

    Parameters:
        client: a client of nats-py, not connected.
        url: where NATS is.
        prefix: beginning of the subjects.
        timeout: seconds that NATS may take to answer.
    """

    max_size: int | None = None

    def __init__(self, client: Any, url: str, prefix: str, timeout: float) -> None:
        self._client, self._url, self._prefix, self._timeout = client, url, prefix, timeout
        self._lost = asyncio.Event()
        self._subscriptions: dict[str, Any] = {}

    async def connect(self, receive: Callable[[str, bytes], None]) -> None:
        self._receive = receive
        # This hub connects again by itself, and must know that it has to.
        await self._client.connect(
            self._url,
            allow_reconnect=False,
            error_cb=self._failed,
            closed_cb=self._closed,
            disconnected_cb=self._closed,
            connect_timeout=self._timeout,
            # Otherwise it tries many times by itself, before it says that nobody is there.
            max_reconnect_attempts=1,
            reconnect_time_wait=0,
        )
        self.max_size = self._client.max_payload

    async def run(self) -> None:
        await self._lost.wait()
        raise ConnectionResetError("connection to NATS was lost")

    async def subscribe(self, rooms: Sequence[str]) -> None:
        for room in rooms:

            async def received(message: Any, room: str = room) -> None:
                self._receive(room, message.data)

            self._subscriptions[room] = await self._client.subscribe(self._subject(room), cb=received)
        await self._client.flush(self._timeout)

    async def unsubscribe(self, rooms: Sequence[str]) -> None:
        for room in rooms:
            await self._subscriptions.pop(room).unsubscribe()

    async def publish(self, batch: Sequence[tuple[str, bytes]]) -> None:
        for room, data in batch:
            await self._client.publish(self._subject(room), data)
        await self._client.flush(self._timeout)

    async def close(self) -> None:
        await self._client.close()

    async def _failed(self, exc: Exception) -> None:
        # A subscription that can't follow has dropped messages, and so their numbers tell how many. All other errors
        # end the connection.
        pass

    async def _closed(self) -> None:
        self._lost.set()

    def _subject(self, room: str) -> str:
        # A name of a room may contain what means something in a subject.
        return self._prefix + room.encode().hex()
