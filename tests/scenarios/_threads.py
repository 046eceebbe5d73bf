"""The world of scenarios in threads: ``websockets.sync`` on a system whose threads take turns, with a virtual clock.

The scenario runs in the thread of the test, by a trampoline, because no ``await`` in it ever suspends. Each activity
that it starts has its own thread. Time and :meth:`ThreadWorld.settle` are exact: the clock advances, and everything has
settled, when every thread waits.

May know: the public API for threads, the test kit. Must not know: any scenario.
"""

from __future__ import annotations

import contextlib
import inspect
import re
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any, ClassVar, Generic, ParamSpec, TypeVar, cast

from _kit import CAPACITY, wire
from _kit.ends import FramePeer
from _kit.peer import RawPeer
from _kit.site import Asked, Site
from _kit.threads import Strand, VirtualListener, VirtualSystem, run_threads
from websockets.protocol import Side
from websockets.sync.client import connect, reconnect
from websockets.sync.server import basic_auth, broadcast, serve
from websockets.uri import parse_uri

from ._world import Answer, Capability, Step

__all__ = ["ThreadWorld", "run_in_threads", "trampoline"]

_P = ParamSpec("_P")
_T = TypeVar("_T")


def trampoline(coroutine: Coroutine[Any, Any, _T]) -> _T:
    """Run a coroutine that never suspends.

    Raises:
        RuntimeError: it awaited what isn't of its world.
    """
    try:
        coroutine.send(None)
    except StopIteration as stop:
        result: _T = stop.value
        return result
    coroutine.close()
    raise RuntimeError(f"{coroutine!r} suspended: a scenario may only wait for what its world has")


def plain(items: AsyncIterator[_T]) -> Iterator[_T]:
    """Iterate over the items of an asynchronous iterator that never suspends."""
    while True:
        try:
            item = trampoline(cast("Coroutine[Any, Any, _T]", items.__anext__()))
        except StopAsyncIteration:
            return
        yield item


class _Running(Generic[_T]):
    """A thread."""

    def __init__(self, system: VirtualSystem, function: Callable[[], _T]) -> None:
        self._system = system
        self._outcome: list[_T] = []
        self._failure: BaseException | None = None
        self._strand: Strand = system.start_thread(lambda: self._run(function), name="activity")

    def _run(self, function: Callable[[], _T]) -> None:
        try:
            self._outcome.append(function())
        except Exception as exc:
            self._failure = exc

    def done(self) -> bool:
        return self._strand.over

    async def result(self) -> _T:
        wait(self._system, lambda: self._strand.over)
        if self._failure is not None:
            raise self._failure
        return self._outcome[0]

    async def stop(self) -> None:
        self._strand.stopping = True
        self._system.block(lambda: self._strand.over)

    cancel = stop

    def cancelled(self) -> bool:
        return self._strand.stopping and self._strand.over


def wait(system: VirtualSystem, ready: Callable[[], bool]) -> None:
    """Wait for what isn't the library, as long as the scenario allows."""
    limit = system.running.limit
    if not system.block(ready, None if limit is None else limit - system.now()):
        raise TimeoutError


class _Gate:
    """A gate."""

    def __init__(self, system: VirtualSystem) -> None:
        self._system = system
        self._open = False

    def open(self) -> None:
        self._open = True

    def is_open(self) -> bool:
        return self._open

    async def wait(self) -> None:
        wait(self._system, self.is_open)


# ------------------------------------------------------------------------------------------------------ our connections


class _Once:
    """What may be awaited, and needn't be."""

    def __init__(self, function: Callable[[], Any]) -> None:
        self._function = function

    def __await__(self) -> Any:
        return self._function()
        yield


class _Iteration:
    """An iteration that blocks."""

    def __init__(self, items: Iterator[Any], wrap: Callable[[Any], Any] = lambda item: item) -> None:
        self._items, self._wrap = items, wrap

    def __aiter__(self) -> _Iteration:
        return self

    async def __anext__(self) -> Any:
        try:
            return self._wrap(next(self._items))
        except StopIteration:
            raise StopAsyncIteration from None

    async def aclose(self) -> None:
        self._items.close()  # type: ignore[attr-defined]


class _End:
    """One of our connections."""

    def __init__(self, target: Any) -> None:
        object.__setattr__(self, "target", target)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.target, name)

    def __setattr__(self, name: str, value: Any) -> None:
        setattr(self.target, name, value)

    def __eq__(self, other: object) -> bool:
        return self.target is getattr(other, "target", other)

    def __hash__(self) -> int:
        return hash(self.target)

    @property
    def server(self) -> _Server:
        return _Server(self.target._ws_system, self.target.server)

    async def recv(self, decode: bool | None = None) -> Any:
        system = self.target._ws_system
        limit = system.running.limit
        return self.target.recv(None if limit is None else limit - system.now(), decode)

    def recv_streaming(self, decode: bool | None = None) -> _Iteration:
        return _Iteration(self.target.recv_streaming(decode))

    async def send(self, message: Any, **options: Any) -> None:
        self.target.send(message, **options)

    async def ping(self, data: Any = None) -> Any:
        target = self.target
        event = target.ping(data, ack_on_close=True)

        def answered() -> float:
            wait(target._ws_system, event.is_set)
            if target.state.name == "CLOSED":
                raise target.close_exc
            latency: float = target.latency
            return latency

        return _Once(answered)

    async def pong(self, data: Any = b"") -> None:
        self.target.pong(data)

    async def close(self, *arguments: Any, **options: Any) -> None:
        self.target.close(*arguments, **options)

    async def wait_closed(self) -> None:
        system = self.target._ws_system
        limit = system.running.limit
        if not self.target.wait_closed(None if limit is None else limit - system.now()):
            raise TimeoutError

    def __aiter__(self) -> _Iteration:
        return _Iteration(iter(self.target))

    async def __aenter__(self) -> _End:
        self.target.__enter__()
        return self

    async def __aexit__(self, *exc_info: Any) -> None:
        self.target.__exit__(*exc_info)


class _Client(reconnect):
    """A client that isn't connected yet."""

    def __await__(self) -> Any:
        return _End(self.connect())
        yield

    async def __aenter__(self) -> _End:
        return _End(self.__enter__())

    async def __aexit__(self, *exc_info: Any) -> None:
        self.__exit__(*exc_info)

    def __aiter__(self) -> _Iteration:
        return _Iteration(iter(self), _End)


def _with_address(uri: str, options: dict[str, Any]) -> dict[str, Any]:
    """Say in the words of threads that a connection leads elsewhere than its URI."""
    host, port = options.pop("host", None), options.pop("port", None)
    if host is not None or port is not None:
        parsed = parse_uri(uri)
        options["address"] = host or parsed.host, port or parsed.port
    return options


class _Server:
    """One of our servers."""

    def __init__(self, system: VirtualSystem, target: Any) -> None:
        self._system, self.target = system, target
        # The threads that close the server; each connection makes an object of this class anew.
        self._closing: list[Strand] = vars(target).setdefault("closing_threads", [])

    def __getattr__(self, name: str) -> Any:
        return getattr(self.target, name)

    @property
    def sockets(self) -> list[Any]:
        return [self.target.socket]

    @property
    def connections(self) -> set[_End]:
        return {_End(connection) for connection in self.target.connections}

    @property
    def all_connections(self) -> set[_End]:
        return {_End(connection) for connection in self.target.all_connections}

    def close(self, *arguments: Any, **options: Any) -> None:
        """Begin to close the server: what follows is waited for elsewhere, as on asyncio."""
        failures: list[Exception] = []

        def close() -> None:
            try:
                self.target.shutdown(*arguments, **options)
            except Exception as exc:
                failures.append(exc)

        strand = self._system.start_thread(close, name="shutdown")
        self._system.idle()
        if failures:
            raise failures[0]
        self._closing.append(strand)

    async def wait_closed(self) -> None:
        wait(self._system, lambda: bool(self._closing) and all(strand.over for strand in self._closing))

    def is_serving(self) -> bool:
        return not self.target.socket.closed


def in_thread(function: Callable[..., Any]) -> Callable[..., Any]:
    """Have a hook or a handler, which may be a coroutine function, get connections of scenarios."""

    def call(*arguments: Any, **options: Any) -> Any:
        wrapped = [_End(argument) if hasattr(argument, "_ws_lock") else argument for argument in arguments]
        result = function(*wrapped, **options)
        return trampoline(result) if inspect.iscoroutine(result) else result

    return call


# ------------------------------------------------------------------------------------------------------ scripted peers


class _RawPeer(RawPeer):
    """A peer whose waits block the thread."""

    def __init__(self, system: VirtualSystem, end: Any) -> None:
        self._system = system
        self._version = 0
        super().__init__(end)

    def _wake(self) -> None:
        self._version += 1

    async def _news(self) -> None:
        version = self._version
        wait(self._system, lambda: self._version != version)

    async def _writable(self) -> None:
        wait(self._system, lambda: self.sock.writable)


class _Peer(FramePeer):
    """A peer that knows frames."""

    def __init__(self, raw: _RawPeer, masks: bool) -> None:
        super().__init__(raw, masks)
        self._system = raw._system

    async def pause(self, seconds: float) -> None:
        self._system.sleep(seconds)


class _Listener:
    """A listening socket whose connections become scripted peers."""

    def __init__(self, system: VirtualSystem, listener: VirtualListener) -> None:
        self._system, self._listener = system, listener

    @property
    def port(self) -> int:
        port: int = self._listener.getsockname()[1]
        return port

    async def raw(self) -> _RawPeer:
        wait(self._system, lambda: bool(self._listener.waiting))
        return _RawPeer(self._system, self._listener.wait())

    async def peer(self) -> _Peer:
        return _Peer(await self.raw(), masks=False)

    def close(self) -> None:
        self._listener.close()


class _Site(Site):
    """A site whose functions get peers that know frames."""

    @property
    def visitors(self) -> list[_Peer]:
        return [_Peer(raw, masks=False) for raw in self.peers]  # type: ignore[arg-type]


def _with_frames(answer: Answer) -> Any:
    """Have a function of a site get a peer that knows frames."""
    if not callable(answer):
        return answer

    async def answering(raw: Any, asked: Asked) -> None:
        await answer(_Peer(raw, masks=False), asked)

    return answering


# ------------------------------------------------------------------------------------------------------------ the world


class ThreadWorld:
    """The world in threads; see :class:`~scenarios._world.World`."""

    caller = "thread"
    late: Mapping[Step, str] = {
        Step.RESPONSE: "timed out while waiting for handshake response",
        Step.TLS: "timed out during the TLS handshake",
        Step.TUNNEL: "timed out while connecting to HTTP proxy",
    }
    refused: type[Exception] = ConnectionRefusedError
    too_slow: type[Exception] = TimeoutError
    room = CAPACITY
    client = _Client
    lacks: ClassVar[Mapping[Capability, str]] = {
        Capability.CANCELLATION: "a thread that waits can't be told to stop: calls have time-outs instead",
        Capability.STALL: "threads don't stand still all at once",
        Capability.WRITE_LIMIT: "send() waits until the system has taken the message",
        Capability.ORDER: "which of two threads goes on first is up to the system",
    }

    def __init__(self, system: VirtualSystem) -> None:
        self._system = system

    # Time.

    def now(self) -> float:
        return self._system.now()

    async def sleep(self, seconds: float) -> None:
        limit = self._system.running.limit
        if limit is not None and limit < self.now() + seconds:
            self._system.sleep(limit - self.now())
            raise TimeoutError
        self._system.sleep(seconds)
        if not seconds:
            self._system.idle()

    async def advance(self, seconds: float) -> None:
        self._system.sleep(seconds)
        self._system.idle()

    async def settle(self) -> None:
        self._system.idle()

    async def within(
        self, seconds: float, function: Callable[_P, Coroutine[Any, Any, _T]], *args: _P.args, **kwargs: _P.kwargs
    ) -> _T:
        self._system.running.limit = self.now() + seconds
        try:
            return await function(*args, **kwargs)
        finally:
            self._system.running.limit = None

    # What runs at the same time.

    def start(
        self, function: Callable[_P, Coroutine[Any, Any, _T]], *args: _P.args, **kwargs: _P.kwargs
    ) -> _Running[_T]:
        return _Running(self._system, lambda: trampoline(function(*args, **kwargs)))

    def gate(self) -> _Gate:
        return _Gate(self._system)

    def source(self, items: AsyncIterator[Any]) -> Iterator[Any]:
        return plain(items)

    # Connections.

    @contextlib.asynccontextmanager
    async def one_end(self, side: Side, **options: Any) -> AsyncIterator[tuple[_End, _Peer]]:
        options = {"compression": None, **options}
        opener = self._open_server if side is Side.SERVER else self._open_client
        async with opener(options) as (connection, peer):
            try:
                yield connection, peer
            finally:
                peer.raw.reset()

    @contextlib.asynccontextmanager
    async def _open_server(self, options: dict[str, Any]) -> AsyncIterator[tuple[_End, _Peer]]:
        opened: list[_End] = []

        def handler(connection: Any) -> None:
            opened.append(connection)
            connection.target.wait_closed()

        async with self.serve(handler, **options) as server:
            peer = await self.reach(server)
            await peer.write(wire.request())
            await peer.read_until()
            wait(self._system, lambda: bool(opened))
            yield opened[0], peer
            peer.raw.reset()

    @contextlib.asynccontextmanager
    async def _open_client(self, options: dict[str, Any]) -> AsyncIterator[tuple[_End, _Peer]]:
        listener = self.listen("localhost", 0)

        async def opening() -> Any:
            return connect(f"ws://localhost:{listener.port}/", legacy=True, **options)

        running = self.start(opening)
        peer = await listener.peer()
        head = await peer.read_until()
        found = re.search(rb"Sec-WebSocket-Key: (\S+)", head)
        assert found is not None
        await peer.write(wire.response(key=found[1].decode()))
        connection = await running.result()
        listener.close()
        yield _End(connection), peer
        peer.raw.reset()
        connection.wait_closed()

    @contextlib.asynccontextmanager
    async def pair(
        self, *, client: Mapping[str, Any] | None = None, server: Mapping[str, Any] | None = None, **options: Any
    ) -> AsyncIterator[tuple[_End, _End]]:
        opened: list[_End] = []

        def handler(connection: Any) -> None:
            opened.append(connection)
            connection.target.wait_closed()

        async with (
            self.serve(handler, **options, **(server or {})) as serving,
            self.connect(self.uri(serving), **options, **(client or {})) as end,
        ):
            wait(self._system, lambda: bool(opened))
            yield end, opened[0]

    def is_reading(self, end: Any) -> bool:
        return not end.target._ws_session.intake.paused

    def shut_down(self, end: Any) -> None:
        server = end.target.server
        self._system.start_thread(server.shutdown, name="shutdown")

    async def broadcast(self, connections: Iterable[Any], message: Any, **options: Any) -> None:
        broadcast([end.target for end in connections], message, **options)

    # Servers and clients.

    @contextlib.asynccontextmanager
    async def serve(self, handler: Callable[[Any], Any], **options: Any) -> AsyncIterator[Any]:
        hooks = ("process_request", "process_response", "select_subprotocol", "create_connection")
        options = {
            name: in_thread(value) if name in hooks and callable(value) and not isinstance(value, type) else value
            for name, value in options.items()
        }
        with serve(
            in_thread(handler) if callable(handler) else handler, **{"host": "localhost", "port": 0, **options}
        ) as server:
            serving = self._system.start_thread(server.serve_forever, name="server")
            self._system.idle()
            yield _Server(self._system, server)
        self._system.block(lambda: serving.over)

    def uri(self, server: Any, path: str = "/", user_info: str = "") -> str:
        return f"ws://{user_info}localhost:{server.socket.getsockname()[1]}{path}"

    def basic_auth(self, realm: str = "", **options: Any) -> Callable[..., Any]:
        if callable(options.get("check_credentials")):
            options["check_credentials"] = in_thread(options["check_credentials"])
        return basic_auth(realm, **options)

    async def reach(self, server: Any, address: str | None = None) -> Any:
        host = "::1" if address is not None and ":" in address else "localhost"
        port = parse_uri(server).port if isinstance(server, str) else server.socket.getsockname()[1]
        end = self._system.network.reach(host, port, None if address is None else (address, 0))
        return _Peer(_RawPeer(self._system, end), masks=True)

    def connect(self, uri: str, **options: Any) -> Any:
        return _Client(uri, **_with_address(uri, options))

    def listen(self, host: str, port: int) -> _Listener:
        return _Listener(self._system, self._system.network.listen(host, port))

    def chop(self, size: int | None) -> None:
        self._system.network.chunk = size

    def site(
        self, answers: Mapping[str, Answer] | Sequence[Answer], host: str = "localhost", port: int = 0
    ) -> AbstractAsyncContextManager[Any]:
        understood: Any
        if isinstance(answers, Mapping):
            understood = {target: _with_frames(answer) for target, answer in answers.items()}
        else:
            understood = [_with_frames(answer) for answer in answers]
        return self._site(understood, host, port)

    @contextlib.asynccontextmanager
    async def _site(self, answers: Any, host: str, port: int) -> AsyncIterator[_Site]:
        listener = self.listen(host, port)
        result = _Site(listener.port, answers)
        conversations: list[_Running[None]] = []

        async def accept() -> None:
            while True:
                peer = await listener.raw()
                conversations.append(self.start(result.converse, peer))

        accepting = self.start(accept)
        try:
            yield result
            self._system.idle()
        finally:
            listener.close()
            for running in [accepting, *conversations]:
                await running.stop()


def run_in_threads(scenario: Callable[[Any], Coroutine[Any, Any, None]]) -> None:
    """Run a scenario; fail if it leaves a thread."""
    # The steward reads what nobody else reads without a moment in between, and so times are exact.
    run_threads(lambda system: trampoline(scenario(ThreadWorld(system))), look_every=0)
