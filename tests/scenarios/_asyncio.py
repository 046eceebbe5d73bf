"""The world of scenarios on asyncio: a virtual clock, a network in memory, one task for each concurrent activity.

May know: the public asyncio API, the test kit. Must not know: any scenario, private parts of the front-end.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any, ClassVar, Generic, ParamSpec, TypeVar

from _kit import CAPACITY, RawListener, RawPeer, VirtualLoop, advance, idle, run_virtual
from _kit.asking import port_of, uri_of
from _kit.ends import FramePeer, open_end
from _kit.site import Asked, Site, site
from websockets.asyncio.client import connect
from websockets.asyncio.server import basic_auth, broadcast, serve
from websockets.protocol import Side
from websockets.testing import connected_pair
from websockets.uri import parse_uri

from ._world import Answer, Capability, Listener, Peer, Step, World

__all__ = ["AsyncioWorld", "run_on_asyncio"]

_P = ParamSpec("_P")
_T = TypeVar("_T")


class _Running(Generic[_T]):
    """A task."""

    def __init__(self, task: asyncio.Task[_T]) -> None:
        self._task = task

    def done(self) -> bool:
        return self._task.done()

    async def result(self) -> _T:
        return await self._task

    async def cancel(self) -> None:
        self._task.cancel()
        await asyncio.wait([self._task])

    stop = cancel

    def cancelled(self) -> bool:
        return self._task.cancelled()


class _Gate:
    """An event."""

    def __init__(self) -> None:
        self._event = asyncio.Event()

    def open(self) -> None:
        self._event.set()

    def is_open(self) -> bool:
        return self._event.is_set()

    async def wait(self) -> None:
        await self._event.wait()


class _Site(Site):
    """A site whose functions get peers that know frames."""

    def __init__(self, served: Site) -> None:
        self.__dict__ = served.__dict__

    @property
    def visitors(self) -> list[FramePeer]:
        return [FramePeer(raw, masks=False) for raw in self.peers]


class _Listener:
    """A listening socket whose connections become peers that know frames."""

    def __init__(self, raw: RawListener) -> None:
        self._raw = raw

    async def peer(self) -> FramePeer:
        return FramePeer(await self._raw.peer(), masks=False)

    def close(self) -> None:
        self._raw.close()


class AsyncioWorld:
    """The world on a running virtual loop; see :class:`~scenarios._world.World`. Our ends are as asyncio has them."""

    caller = "coroutine"
    late: Mapping[Step, str] = dict.fromkeys(Step, "timed out during opening handshake")
    refused: type[Exception] = ConnectionRefusedError
    too_slow: type[Exception] = TimeoutError
    room = CAPACITY
    client = connect
    lacks: ClassVar[Mapping[Capability, str]] = {}

    @property
    def loop(self) -> VirtualLoop:
        """The running loop."""
        loop = asyncio.get_running_loop()
        assert isinstance(loop, VirtualLoop)
        return loop

    # Time.

    def now(self) -> float:
        return self.loop.time()

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)

    async def advance(self, seconds: float) -> None:
        await advance(seconds)

    async def settle(self) -> None:
        await idle()

    async def within(
        self, seconds: float, function: Callable[_P, Coroutine[Any, Any, _T]], *args: _P.args, **kwargs: _P.kwargs
    ) -> _T:
        async with asyncio.timeout(seconds):
            return await function(*args, **kwargs)

    def stall(self, seconds: float) -> None:
        self.loop.stall(seconds)

    # What runs at the same time.

    def start(
        self, function: Callable[_P, Coroutine[Any, Any, _T]], *args: _P.args, **kwargs: _P.kwargs
    ) -> _Running[_T]:
        return _Running(asyncio.create_task(function(*args, **kwargs)))

    def gate(self) -> _Gate:
        return _Gate()

    def source(self, items: AsyncIterator[Any]) -> Any:
        return items

    # Connections.

    def one_end(self, side: Side, **options: Any) -> AbstractAsyncContextManager[Any]:
        return open_end(side, **options)

    def pair(
        self, *, client: Mapping[str, Any] | None = None, server: Mapping[str, Any] | None = None, **options: Any
    ) -> AbstractAsyncContextManager[Any]:
        return connected_pair(client=client, server=server, **options)

    def is_reading(self, end: Any) -> bool:
        reading: bool = end.transport.is_reading()
        return reading

    def shut_down(self, end: Any) -> None:
        end.server.close()

    async def broadcast(self, connections: Iterable[Any], message: Any, **options: Any) -> None:
        broadcast(connections, message, **options)

    # Servers and clients.

    def serve(self, handler: Callable[[Any], Any], **options: Any) -> AbstractAsyncContextManager[Any]:
        return serve(handler, **{"host": "localhost", "port": 0, **options})

    def uri(self, server: Any, path: str = "/", user_info: str = "") -> str:
        return uri_of(server, path, user_info)

    def basic_auth(self, realm: str = "", **options: Any) -> Callable[..., Any]:
        return basic_auth(realm, **options)

    async def reach(self, server: Any, address: str | None = None) -> Peer:
        host = "::1" if address is not None and ":" in address else "localhost"
        port = parse_uri(server).port if isinstance(server, str) else port_of(server)
        from_there: dict[str, Any] = {} if address is None else {"local_addr": (address, 0)}
        return FramePeer(RawPeer(await self.loop.network.open(host, port, **from_there)), masks=True)

    def connect(self, uri: str, **options: Any) -> Any:
        return connect(uri, **options)

    def listen(self, host: str, port: int) -> Listener:
        return _Listener(self.loop.network.listen(host, port))

    def chop(self, size: int | None) -> None:
        self.loop.network.chunk = size

    @contextlib.asynccontextmanager
    async def site(
        self, answers: Mapping[str, Answer] | Sequence[Answer], host: str = "localhost", port: int = 0
    ) -> AsyncIterator[_Site]:
        understood: Any
        if isinstance(answers, Mapping):
            understood = {target: _with_frames(answer) for target, answer in answers.items()}
        else:
            understood = [_with_frames(answer) for answer in answers]
        async with site(understood, host, port) as served:
            yield _Site(served)


def _with_frames(answer: Answer) -> Any:
    """Have a function of a site get a peer that knows frames."""
    if not callable(answer):
        return answer

    async def answering(raw: RawPeer, asked: Asked) -> None:
        await answer(FramePeer(raw, masks=False), asked)

    return answering


def run_on_asyncio(scenario: Callable[[World], Coroutine[Any, Any, None]]) -> None:
    """Run a scenario; fail if it leaves a task, or an exception that nobody saw."""
    run_virtual(scenario(AsyncioWorld()))
