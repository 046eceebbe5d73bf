"""Brokers in memory, with the parts of the interfaces of redis-py and nats-py that the library uses.

May know: these interfaces. Must not know: the library. ``tests/deployment/test_rooms.py`` runs the real ones.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from types import ModuleType
from typing import Any

import pytest

__all__ = ["Exchange", "install"]


class Exchange:
    """A broker that passes on what is published, and that can be stopped.

    Attributes:
        up: whether it accepts connections.
        stuck: whether it has stopped to answer, until ``freed`` is set.
        log: channels of what was published.
        max_payload: the largest message, as NATS announces it.
    """

    def __init__(self) -> None:
        self.up, self.stuck, self.max_payload = True, False, 10_000
        self.freed = asyncio.Event()
        self.log: list[str] = []
        self.connections: list[Any] = []

    def stop(self) -> None:
        """End all connections, and accept no more."""
        self.up = False
        for connection in self.connections:
            connection.lose()
        self.connections.clear()

    async def answer(self) -> None:
        """Answer a request."""
        if self.stuck:
            await self.freed.wait()
        if not self.up:
            raise ConnectionError("nobody is there")

    def publish(self, channel: str, data: bytes) -> None:
        """Pass on a message."""
        self.log.append(channel)
        for connection in [*self.connections]:
            connection.arrived(channel, data)


class _PubSub:
    def __init__(self, exchange: Exchange) -> None:
        self._exchange, self._channels = exchange, set[str]()
        # As in redis-py: what was subscribed to, until it has seen the answer to unsubscribing.
        self.channels = set[bytes]()
        self._responses: asyncio.Queue[Any] = asyncio.Queue()

    async def subscribe(self, *channels: bytes) -> None:
        await self._exchange.answer()
        if self not in self._exchange.connections:
            self._exchange.connections.append(self)
        for channel in channels:
            self._channels.add(channel.decode())
            self.channels.add(channel)
            self._responses.put_nowait([b"subscribe", channel, 1])

    async def unsubscribe(self, *channels: bytes) -> None:
        for channel in channels:
            self._channels.discard(channel.decode())
            self._responses.put_nowait([b"unsubscribe", channel, 1])

    async def parse_response(self, block: bool) -> Any:
        response = await self._responses.get()
        if response is None:
            raise ConnectionError("connection was lost")
        return response

    async def handle_message(self, response: Any) -> None:
        kind, channel, _ = response
        if kind == b"unsubscribe" and channel.decode() not in self._channels:
            self.channels.discard(channel)

    async def aclose(self) -> None:
        self._exchange.connections = [each for each in self._exchange.connections if each is not self]

    def arrived(self, channel: str, data: bytes) -> None:
        if channel in self._channels:
            self._responses.put_nowait([b"message", channel.encode(), data])

    def lose(self) -> None:
        self._responses.put_nowait(None)


class _Pipeline:
    def __init__(self, exchange: Exchange) -> None:
        self._exchange, self._commands = exchange, list[tuple[str, bytes]]()

    def publish(self, channel: bytes, data: bytes) -> None:
        self._commands.append((channel.decode(), data))

    async def execute(self) -> None:
        await self._exchange.answer()
        for command in self._commands:
            self._exchange.publish(*command)


class _Redis:
    def __init__(self, exchange: Exchange) -> None:
        self._exchange = exchange

    async def ping(self) -> None:
        await self._exchange.answer()

    def pubsub(self) -> _PubSub:
        return _PubSub(self._exchange)

    def pipeline(self, transaction: bool) -> _Pipeline:
        return _Pipeline(self._exchange)

    async def aclose(self) -> None:
        pass


class _Subscription:
    def __init__(self, client: _Client, subject: str) -> None:
        self._client, self._subject = client, subject

    async def unsubscribe(self) -> None:
        del self._client.callbacks[self._subject]


class _Message:
    def __init__(self, data: bytes) -> None:
        self.data = data


class _Client:
    def __init__(self, exchange: Exchange) -> None:
        self._exchange = exchange
        self.callbacks: dict[str, Callable[[_Message], Any]] = {}
        self._tasks: set[asyncio.Future[Any]] = set()

    async def connect(self, url: str, **options: Any) -> None:
        self._options = options
        try:
            await self._exchange.answer()
        except ConnectionError as exc:
            await options["error_cb"](exc)
            raise
        self._exchange.connections.append(self)
        self.max_payload = self._exchange.max_payload

    async def subscribe(self, subject: str, cb: Callable[[_Message], Any]) -> _Subscription:
        self.callbacks[subject] = cb
        return _Subscription(self, subject)

    async def publish(self, subject: str, data: bytes) -> None:
        await self._exchange.answer()
        self._exchange.publish(subject, data)

    async def flush(self, timeout: float) -> None:
        await self._exchange.answer()

    async def close(self) -> None:
        self._exchange.connections = [each for each in self._exchange.connections if each is not self]

    def arrived(self, channel: str, data: bytes) -> None:
        if channel in self.callbacks:
            self._start(self.callbacks[channel](_Message(data)))

    def lose(self) -> None:
        for name in ("disconnected_cb", "closed_cb"):
            self._start(self._options[name]())

    def _start(self, coroutine: Any) -> None:
        task = asyncio.ensure_future(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def _module(name: str, **members: Any) -> ModuleType:
    module = ModuleType(name)
    for member, value in members.items():
        setattr(module, member, value)
    return module


def install(monkeypatch: pytest.MonkeyPatch, exchange: Exchange) -> None:
    """Let ``import redis`` and ``import nats`` find this broker."""

    class Redis:
        @staticmethod
        def from_url(url: str, **options: Any) -> _Redis:
            if not url.startswith("redis://"):
                raise ValueError("Redis URL must specify one of the following schemes")
            return _Redis(exchange)

    backoff = _module("redis.backoff", NoBackoff=object)
    retry = _module("redis.asyncio.retry", Retry=lambda backoff, retries: None)
    redis = _module("redis.asyncio", Redis=Redis, retry=retry)
    client = _module("nats.aio.client", Client=lambda: _Client(exchange))
    aio = _module("nats.aio", client=client)
    modules = [_module("redis", asyncio=redis, backoff=backoff), redis, backoff, _module("nats", aio=aio), aio, client]
    for module in modules:
        monkeypatch.setitem(__import__("sys").modules, module.__name__, module)
