"""The world of scenarios on trio: a virtual clock, a network in memory, one task for each concurrent activity.

May know: the public trio API, the test kit; whether a connection reads, which isn't public. Must not know: any
scenario.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import AsyncIterator, Callable, Coroutine, Generator, Iterable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any, ClassVar, Generic, ParamSpec, TypeVar

import trio
import trio.testing

from _kit import CAPACITY, wire
from _kit.site import Asked, Site
from _kit.trio_network import TrioFramePeer, TrioListener, TrioNetwork, TrioPeer, run_on_network
from websockets._rules.option_table import CLOSE, check
from websockets.frames import serialize_close
from websockets.protocol import Side
from websockets.trio.client import ClientConnection, connect
from websockets.trio.connection import Connection
from websockets.trio.server import Server, ServerConnection, basic_auth, broadcast, serve
from websockets.uri import parse_uri

from ._world import Answer, Capability, Listener, Peer, Step, World

__all__ = ["TrioWorld", "run_on_trio"]

_P = ParamSpec("_P")
_T = TypeVar("_T")


class _Running(Generic[_T]):
    """A task, in a cancel scope of its own."""

    def __init__(self) -> None:
        self._scope = trio.CancelScope()
        self._over = trio.Event()
        self._result: list[_T] = []
        self._failure: BaseException | None = None
        self.seen = False

    async def run(self, function: Callable[..., Coroutine[Any, Any, _T]], *args: Any, **kwargs: Any) -> None:
        try:
            with self._scope:
                self._result.append(await function(*args, **kwargs))
        except Exception as exc:
            self._failure = exc
        finally:
            self._over.set()

    def done(self) -> bool:
        return self._over.is_set()

    async def result(self) -> _T:
        await self._over.wait()
        self.seen = True
        if self._failure is not None:
            raise self._failure
        return self._result[0]

    async def cancel(self) -> None:
        self.seen = True
        self._scope.cancel()
        await self._over.wait()

    stop = cancel

    def cancelled(self) -> bool:
        return self._scope.cancelled_caught

    @property
    def unseen_failure(self) -> BaseException | None:
        return None if self.seen else self._failure


class _Gate:
    """Events, one for each who waits: trio wakes those who wait for the same event in any order."""

    def __init__(self) -> None:
        self._open = False
        self._waiting: list[trio.Event] = []

    def open(self) -> None:
        self._open = True
        self._let_next()

    def is_open(self) -> bool:
        return self._open

    async def wait(self) -> None:
        if not self._open:
            event = trio.Event()
            self._waiting.append(event)
            try:
                await event.wait()
            finally:
                self._let_next()

    def _let_next(self) -> None:
        if self._open and self._waiting:
            self._waiting.pop(0).set()


class _Pong:
    """What becomes of a ping, as asyncio has it."""

    def __init__(self, connection: Any, answered: trio.Event, over: trio.Event) -> None:
        self._connection = connection
        self._answered, self._over = answered, over

    def done(self) -> bool:
        return self._answered.is_set() or self._over.is_set()

    def __await__(self) -> Generator[Any, Any, float]:
        return self._wait().__await__()

    async def _wait(self) -> float:
        async with trio.open_nursery() as nursery:
            for event in (self._answered, self._over):
                nursery.start_soon(self._first, event, nursery.cancel_scope)
        if not self._answered.is_set():
            raise self._connection.close_exc
        latency: float = self._connection.latency
        return latency

    @staticmethod
    async def _first(event: trio.Event, scope: trio.CancelScope) -> None:
        await event.wait()
        scope.cancel()


class _Names(Connection):
    """The names of methods that scenarios use."""

    async def close(self, *args: Any, **kwargs: Any) -> None:
        await self.aclose(*args, **kwargs)

    async def ping(self, data: Any = None, *, ack_on_close: bool = False) -> Any:
        return _Pong(self, await super().ping(data), self._ws_over)


class _ClientEnd(_Names, ClientConnection):
    """A client."""


class _ServerEnd(_Names, ServerConnection):
    """A server's connection."""


class _Server(Server):
    """A server with methods of asyncio's."""

    world: TrioWorld

    def close(
        self,
        close_connections: bool = True,
        code: Any = 1001,
        reason: Any = "",
        *,
        timeout: float | None = None,
    ) -> None:
        serialize_close(code, reason)
        check("timeout", timeout, CLOSE)
        if not self._ws_registry.closing:
            # What aclose() does before it waits.
            self._ws_say_farewell(code, reason, close_connections)
        self.world.start(self.aclose, close_connections, code, reason, timeout=timeout)

    async def wait_closed(self) -> None:
        await self._ws_over.wait()

    def is_serving(self) -> bool:
        return not self._ws_registry.closing

    @property
    def all_connections(self) -> set[Any]:
        return {*self._ws_registry.opened_connections()}


class _Site(Site):
    """A site whose functions get peers that know frames."""

    @property
    def visitors(self) -> list[TrioFramePeer]:
        return [TrioFramePeer(raw, masks=False) for raw in self.peers]


class _Listener:
    """A listening socket whose connections become peers that know frames."""

    def __init__(self, raw: TrioListener) -> None:
        self._raw = raw

    async def peer(self) -> TrioFramePeer:
        return TrioFramePeer(await self._raw.peer(), masks=False)

    def close(self) -> None:
        self._raw.close()


class TrioWorld:
    """The world on trio; see :class:`~scenarios._world.World`. Our ends have some names of asyncio's, too."""

    caller = "coroutine"
    late: Mapping[Step, str] = dict.fromkeys(Step, "timed out during opening handshake")
    refused: type[Exception] = OSError  # trio has a text and a group of its own
    too_slow: type[Exception] = trio.TooSlowError
    room = CAPACITY
    lacks: ClassVar[Mapping[Capability, str]] = {
        Capability.CANCELLED_CLOSE: "aclose() that is cancelled aborts the connection, as trio wants it",
        Capability.WRITE_LIMIT: "send() waits until its bytes are written",
    }

    def __init__(self, network: TrioNetwork, nursery: trio.Nursery) -> None:
        self.network = network
        self.nursery = nursery
        self.running: list[_Running[Any]] = []
        self._last_started = trio.Event()
        self._last_started.set()
        world = self

        class Client(connect):
            """A client that may be awaited, too: a task holds the connection open until it is closed."""

            def __init__(self, *args: Any, **kwargs: Any) -> None:
                super().__init__(*args, **{"create_connection": _ClientEnd, **kwargs})

            def __await__(self) -> Generator[Any, Any, Any]:
                return world._hold(self).__await__()

        self.client: Any = Client

    # Time.

    def now(self) -> float:
        return trio.current_time()

    async def sleep(self, seconds: float) -> None:
        await trio.sleep(seconds)

    async def advance(self, seconds: float) -> None:
        await trio.sleep(seconds)
        await self.settle()

    async def settle(self) -> None:
        await trio.testing.wait_all_tasks_blocked()

    async def within(
        self, seconds: float, function: Callable[_P, Coroutine[Any, Any, _T]], *args: _P.args, **kwargs: _P.kwargs
    ) -> _T:
        try:
            with trio.fail_after(seconds):
                return await function(*args, **kwargs)
        except trio.TooSlowError as exc:
            raise TimeoutError from exc

    def stall(self, seconds: float) -> None:
        clock = trio.lowlevel.current_clock()
        assert isinstance(clock, trio.testing.MockClock)
        clock.jump(seconds)

    # What runs at the same time.

    def start(
        self, function: Callable[_P, Coroutine[Any, Any, _T]], *args: _P.args, **kwargs: _P.kwargs
    ) -> _Running[_T]:
        running: _Running[_T] = _Running()
        self.running.append(running)

        # trio starts tasks in any order.
        before, self._last_started = self._last_started, trio.Event()
        started = self._last_started

        async def run() -> None:
            await before.wait()
            started.set()
            await running.run(function, *args, **kwargs)

        self.nursery.start_soon(run)
        return running

    def gate(self) -> _Gate:
        return _Gate()

    def source(self, items: AsyncIterator[Any]) -> Any:
        return items

    # Connections.

    @contextlib.asynccontextmanager
    async def one_end(self, side: Side, **options: Any) -> AsyncIterator[tuple[Any, TrioFramePeer]]:
        options = {"compression": None, **options}
        opener = self._open_server if side is Side.SERVER else self._open_client
        async with opener(options) as (connection, peer):
            try:
                yield connection, peer
            finally:
                peer.raw.reset()

    @contextlib.asynccontextmanager
    async def _open_server(self, options: dict[str, Any]) -> AsyncIterator[tuple[Any, TrioFramePeer]]:
        opened: list[Any] = []

        async def handler(connection: Any) -> None:
            opened.append(connection)
            await connection.wait_closed()

        async with self._serving(handler, options) as server:
            raw = await self.network.connect("localhost", _port_of(server))
            await raw.send(wire.request())
            await raw.read_until()
            await self.settle()
            yield opened[0], TrioFramePeer(raw, masks=True)
            raw.reset()

    @contextlib.asynccontextmanager
    async def _open_client(self, options: dict[str, Any]) -> AsyncIterator[tuple[Any, TrioFramePeer]]:
        listener = self.network.listen()
        peers: list[TrioPeer] = []

        async def answer() -> None:
            raw = await listener.peer()
            peers.append(raw)
            found = re.search(rb"Sec-WebSocket-Key: (\S+)", await raw.read_until())
            assert found is not None
            await raw.send(wire.response(key=found[1].decode()))

        answering = self.start(answer)
        opened: list[Any] = []
        over = trio.Event()

        async def use() -> None:
            async with self.connect(f"ws://localhost:{listener.port}/", **options) as connection:
                opened.append(connection)
                await over.wait()
                connection.abort()

        using = self.start(use)
        await self.settle()
        if using.done():
            await answering.stop()
            await using.result()
        await answering.result()
        listener.close()
        try:
            yield opened[0], TrioFramePeer(peers[0], masks=False)
            peers[0].reset()
            await opened[0].wait_closed()
        finally:
            over.set()
            await using.result()

    @contextlib.asynccontextmanager
    async def pair(
        self, *, client: Mapping[str, Any] | None = None, server: Mapping[str, Any] | None = None, **options: Any
    ) -> AsyncIterator[tuple[Any, Any]]:
        opened: list[Any] = []

        async def handler(connection: Any) -> None:
            opened.append(connection)
            await connection.wait_closed()

        async with self._serving(handler, {**options, **(server or {})}) as serving:
            async with self.connect(self.uri(serving), **{**options, **(client or {})}) as connection:
                await self.settle()
                yield connection, opened[0]

    def is_reading(self, end: Any) -> bool:
        intake = end._ws_session.intake
        return not intake.paused or intake.listening

    def shut_down(self, end: Any) -> None:
        self.nursery.start_soon(end.server.aclose)

    async def broadcast(self, connections: Iterable[Any], message: Any, **options: Any) -> None:
        await broadcast(connections, message, **options)

    # Servers and clients.

    @contextlib.asynccontextmanager
    async def _serving(self, handler: Callable[[Any], Any], options: Mapping[str, Any]) -> AsyncIterator[Any]:
        options = {"port": 0, "host": "localhost", "create_connection": _ServerEnd, **options}
        # Broadcasts have a limit of their own; whoever needs the option takes the capability.
        options.pop("write_limit", None)
        if options["host"] is None and options["port"] == 0:
            # trio gives each family a port of its own.
            options["port"] = 19999

        async def start(task_status: trio.TaskStatus[Any]) -> None:
            await serve(handler, task_status=task_status, **options)

        server = await self.nursery.start(start)
        server.world, server.__class__ = self, _Server
        try:
            yield server
        finally:
            await server.aclose()

    def serve(self, handler: Callable[[Any], Any], **options: Any) -> AbstractAsyncContextManager[Any]:
        return self._serving(handler, options)

    async def _hold(self, connecting: connect) -> Any:
        opened: list[Any] = []
        known = trio.Event()

        async def hold() -> None:
            try:
                async with connecting as connection:
                    opened.append(connection)
                    known.set()
                    await connection.wait_closed()
            finally:
                known.set()

        holding = self.start(hold)
        try:
            await known.wait()
        except trio.Cancelled:
            holding._scope.cancel()
            raise
        if not opened:
            await holding.result()
        return opened[0]

    def uri(self, server: Any, path: str = "/", user_info: str = "") -> str:
        return f"ws://{user_info}localhost:{_port_of(server)}{path}"

    def basic_auth(self, realm: str = "", **options: Any) -> Callable[..., Any]:
        return basic_auth(realm, **options)

    async def reach(self, server: Any, address: str | None = None) -> Peer:
        host = "::1" if address is not None and ":" in address else "localhost"
        port = parse_uri(server).port if isinstance(server, str) else _port_of(server)
        here = None if address is None else (address, 0)
        return TrioFramePeer(TrioPeer(await self.network.open(host, port, here)), masks=True)

    def connect(self, uri: str, **options: Any) -> Any:
        return self.client(uri, **options)

    def listen(self, host: str, port: int) -> Listener:
        return _Listener(self.network.listen(host, port))

    def chop(self, size: int | None) -> None:
        self.network.chunk = size

    @contextlib.asynccontextmanager
    async def site(
        self, answers: Mapping[str, Answer] | Sequence[Answer], host: str = "localhost", port: int = 0
    ) -> AsyncIterator[_Site]:
        understood: Any
        if isinstance(answers, Mapping):
            understood = {target: _with_frames(answer) for target, answer in answers.items()}
        else:
            understood = [_with_frames(answer) for answer in answers]
        listener = self.network.listen(host, port)
        result = _Site(listener.port, understood)
        conversations: list[_Running[None]] = []

        async def accept() -> None:
            while True:
                conversations.append(self.start(result.converse, await listener.peer()))

        accepting = self.start(accept)
        try:
            yield result
            await self.settle()
        finally:
            listener.close()
            await accepting.stop()
            for conversation in conversations:
                conversation.seen = conversation.unseen_failure is None
                conversation._scope.cancel()


def _port_of(server: Any) -> int:
    port: int = server.listeners[0].socket.getsockname()[1]
    return port


def _with_frames(answer: Answer) -> Any:
    """Have a function of a site get a peer that knows frames."""
    if not callable(answer):
        return answer

    async def answering(raw: TrioPeer, asked: Asked) -> None:
        await answer(TrioFramePeer(raw, masks=False), asked)

    return answering


def run_on_trio(scenario: Callable[[World], Coroutine[Any, Any, None]], instruments: Any = ()) -> None:
    """Run a scenario; fail if it leaves a task, or an exception that nobody saw."""

    async def run(network: TrioNetwork) -> None:
        async with trio.open_nursery() as nursery:
            world = TrioWorld(network, nursery)
            failure: Exception | None = None
            try:
                await scenario(world)
                await world.settle()
                assert not nursery.child_tasks, nursery.child_tasks
            except Exception as exc:
                failure = exc
            nursery.cancel_scope.cancel()
        for running in world.running:
            failure = failure or running.unseen_failure  # type: ignore[assignment]
        if failure is not None:
            raise failure

    run_on_network(run, instruments)
