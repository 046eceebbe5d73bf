"""A world of scenarios in threads, where every call blocks: a placeholder until ``websockets.sync`` exists.

It shows that scenarios don't depend on asyncio. The scenario runs in the thread of the test, by a trampoline, because
no ``await`` in it ever suspends. Each activity that it starts has its own thread. Our ends of connections are those of
asyncio, on a virtual loop in another thread. ``websockets.sync`` will replace them, and :class:`_Caller` and
:class:`_Wrapped` will be removed. The trampoline, and the conversion of fragments to a plain iterator, will stay.

Time and :meth:`ThreadWorld.settle` are exact: the clock advances, and everything has settled, when the loop has nothing
to do and every thread of the scenario waits in a call.

May know: asyncio, the adapter for it. Must not know: any scenario.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterable, Iterator, Mapping
from typing import Any, ClassVar, Generic, ParamSpec, TypeVar, cast

from _kit import VirtualLoop, idle, run_virtual
from websockets.protocol import Side

from ._asyncio import AsyncioWorld
from ._world import Capability

#: Real seconds for which a thread waits for the loop: more than a healthy run needs.
PATIENCE = 30

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


class _Caller:
    """A thread of the scenario, and the task on the loop that makes its calls, one after the other.

    So the library sees one caller for each thread. While the thread does anything but call, time stands still.
    """

    #: Which caller the running thread is.
    current: ClassVar[threading.local] = threading.local()

    def __init__(self, loop: VirtualLoop) -> None:
        self._loop = loop
        self._calls: asyncio.Queue[tuple[Callable[[], Awaitable[Any]] | None, Any]] = asyncio.Queue()
        self._stopped = False
        self.deadline: float | None = None

    def call(self, function: Callable[[], Awaitable[_T]]) -> _T:
        """Have the loop call a function; wait for its result."""
        done: concurrent.futures.Future[_T] = concurrent.futures.Future()
        self._loop.call_soon_threadsafe(self._calls.put_nowait, (function, done))
        return done.result(PATIENCE)

    def leave(self) -> None:
        """Make no more calls."""
        self._loop.call_soon_threadsafe(self._calls.put_nowait, (None, None))

    async def process_events(self) -> None:
        """Make the calls of the thread, until it leaves."""
        while True:
            try:
                with self._loop.outside():
                    function, done = await self._calls.get()
            except asyncio.CancelledError:
                self._stopped = True
                continue
            if function is None:
                return
            try:
                if self._stopped:
                    raise asyncio.CancelledError
                async with asyncio.timeout_at(self.deadline):
                    result = await function()
            except BaseException as exc:
                self._stopped = self._stopped or isinstance(exc, asyncio.CancelledError)
                done.set_exception(exc)
            else:
                done.set_result(result)


def _call(function: Callable[[], Awaitable[_T]]) -> _T:
    """Have the loop call a function for the running thread."""
    caller: _Caller = _Caller.current.caller
    return caller.call(function)


def _do(function: Callable[_P, _T], *args: _P.args, **kwargs: _P.kwargs) -> _T:
    """Have the loop call a function that doesn't wait."""

    async def do() -> _T:
        return function(*args, **kwargs)

    return _call(do)


class _Running(Generic[_T]):
    """A thread."""

    def __init__(self, loop: VirtualLoop, function: Callable[[], _T]) -> None:
        self._caller = _Caller(loop)
        self._outcome: concurrent.futures.Future[_T] = concurrent.futures.Future()
        self.attending = loop.create_task(self._caller.process_events())
        threading.Thread(target=self._run, args=(function,), daemon=True).start()

    def _run(self, function: Callable[[], _T]) -> None:
        _Caller.current.caller = self._caller
        try:
            self._outcome.set_result(function())
        except BaseException as exc:
            self._outcome.set_exception(exc)
        finally:
            self._caller.leave()

    async def outcome(self) -> _T:
        """Wait for the thread; return what it returned. For the loop."""
        await asyncio.wait([self.attending])
        return self._outcome.result()

    def done(self) -> bool:
        return self._outcome.done()

    async def result(self) -> _T:
        return _call(self.outcome)

    async def stop(self) -> None:
        async def stop() -> None:
            self.attending.cancel()
            await asyncio.wait([self.attending])

        _call(stop)

    cancel = stop

    def cancelled(self) -> bool:
        return self._outcome.done() and isinstance(self._outcome.exception(), asyncio.CancelledError)


class _Wrapped:
    """An object of asyncio whose methods block.

    Parameters:
        target: the object.
        waiting: its coroutine functions.
        calling: its functions that belong into the thread of the loop.
    """

    def __init__(self, target: Any, waiting: str, calling: str) -> None:
        self.target = target
        self._waiting, self._calling = frozenset(waiting.split()), frozenset(calling.split())

    def __getattr__(self, name: str) -> Any:
        value = getattr(self.target, name)
        if name in self._waiting:

            async def wait(*args: Any, **kwargs: Any) -> Any:
                return _call(lambda: value(*args, **kwargs))

            return wait
        if name in self._calling:
            return lambda *args, **kwargs: _do(value, *args, **kwargs)
        return value


class _Fragments(_Wrapped):
    """An iteration that blocks."""

    def __init__(self, target: AsyncIterator[Any]) -> None:
        super().__init__(target, "aclose", "")

    def __aiter__(self) -> _Fragments:
        return self

    async def __anext__(self) -> Any:
        return _call(lambda: anext(self.target))


class _End(_Wrapped):
    """One of our connections."""

    def __init__(self, target: Any) -> None:
        super().__init__(target, "recv pong close wait_closed __aenter__ __aexit__", "abort")

    async def send(self, message: Any, **options: Any) -> None:
        if isinstance(message, Iterator):
            message = _items(message)
        _call(lambda: self.target.send(message, **options))

    async def ping(self, data: Any = None) -> Any:
        waiter = _call(lambda: self.target.ping(data))

        async def wait() -> float:
            latency: float = _call(lambda: waiter)
            return latency

        return _Once(wait)

    def recv_streaming(self, decode: bool | None = None) -> _Fragments:
        return _Fragments(self.target.recv_streaming(decode))

    def __aiter__(self) -> _Fragments:
        return _Fragments(aiter(self.target))

    async def __aenter__(self) -> _End:
        return self

    async def __aexit__(self, *exc_info: Any) -> None:
        _call(lambda: self.target.__aexit__(*exc_info))


class _Once:
    """What may be awaited, and needn't be."""

    def __init__(self, function: Callable[[], Coroutine[Any, Any, Any]]) -> None:
        self._function = function

    def __await__(self) -> Any:
        return self._function().__await__()


async def _items(items: Iterator[Any]) -> AsyncIterator[Any]:
    """The items of an iterator that blocks, each taken in a thread."""
    loop = asyncio.get_running_loop()
    assert isinstance(loop, VirtualLoop)
    end = object()
    while (item := await _Running(loop, lambda: next(items, end)).outcome()) is not end:
        yield item


class _Block:
    """A block of asyncio, entered and left on the loop."""

    def __init__(self, block: Any, wrap: Callable[[Any], Any]) -> None:
        self._block, self._wrap = block, wrap

    async def __aenter__(self) -> Any:
        return self._wrap(_call(self._block.__aenter__))

    async def __aexit__(self, *exc_info: Any) -> Any:
        return _call(lambda: self._block.__aexit__(*exc_info))


def _peer(peer: Any) -> Any:
    return _Wrapped(
        peer,
        "send text close write frame expect expect_close finish read_until read_until_eof pause",
        "stop_reading resume_reading eof hang_up reset delay vanish",
    )


class ThreadWorld:
    """The world in threads; see :class:`~scenarios._world.World`."""

    # As long as our ends are those of asyncio.
    caller = "coroutine"
    refused: type[Exception] = AsyncioWorld.refused
    too_slow: type[Exception] = AsyncioWorld.too_slow
    room = AsyncioWorld.room
    lacks: ClassVar[Mapping[Capability, str]] = {
        Capability.CANCELLATION: "a thread that waits can't be told to stop: calls have time-outs instead",
        Capability.STALL: "threads don't stand still all at once",
        Capability.ORDER: "which of two threads goes on first is up to the system",
        Capability.ADDRESSES: "names and ports are those of the machine",
        Capability.NETWORK: "the stand-in has connections only; websockets.sync brings its servers and clients",
    }

    def __init__(self, loop: VirtualLoop) -> None:
        self._loop = loop
        self._there = AsyncioWorld()

    # Time.

    def now(self) -> float:
        return self._loop.time()

    async def sleep(self, seconds: float) -> None:
        _call(lambda: self._there.sleep(seconds))

    async def advance(self, seconds: float) -> None:
        _call(lambda: self._there.advance(seconds))

    async def settle(self) -> None:
        _call(idle)

    async def within(
        self, seconds: float, function: Callable[_P, Coroutine[Any, Any, _T]], *args: _P.args, **kwargs: _P.kwargs
    ) -> _T:
        caller: _Caller = _Caller.current.caller
        caller.deadline = self.now() + seconds
        try:
            return await function(*args, **kwargs)
        finally:
            caller.deadline = None

    # What runs at the same time.

    def start(
        self, function: Callable[_P, Coroutine[Any, Any, _T]], *args: _P.args, **kwargs: _P.kwargs
    ) -> _Running[_T]:
        return _do(_Running[_T], self._loop, lambda: trampoline(function(*args, **kwargs)))

    def gate(self) -> Any:
        return _Wrapped(self._there.gate(), "wait", "open")

    def source(self, items: AsyncIterator[Any]) -> Iterator[Any]:
        return plain(items)

    # Connections.

    def one_end(self, side: Side, **options: Any) -> Any:
        return _Block(self._there.one_end(side, **options), lambda ends: (_End(ends[0]), _peer(ends[1])))

    def pair(self, **options: Any) -> Any:
        return _Block(self._there.pair(**options), lambda ends: tuple(map(_End, ends)))

    def is_reading(self, end: Any) -> bool:
        return self._there.is_reading(end.target)

    def shut_down(self, end: Any) -> None:
        _do(self._there.shut_down, end.target)

    async def broadcast(self, connections: Iterable[Any], message: Any, **options: Any) -> None:
        ends = [end.target for end in connections]
        _call(lambda: self._there.broadcast(ends, message, **options))

    def __getattr__(self, name: str) -> Any:
        raise NotImplementedError(f"{name}: {self.lacks[Capability.NETWORK]}")


def run_in_threads(scenario: Callable[[Any], Coroutine[Any, Any, None]]) -> None:
    """Run a scenario in this thread, beside a loop in another one; fail if it leaves anything."""
    ready: concurrent.futures.Future[tuple[VirtualLoop, _Caller]] = concurrent.futures.Future()
    ended: concurrent.futures.Future[None] = concurrent.futures.Future()

    async def process_events() -> None:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, VirtualLoop)
        caller = _Caller(loop)
        ready.set_result((loop, caller))
        await caller.process_events()

    def run() -> None:
        try:
            run_virtual(process_events())
        except BaseException as exc:
            ended.set_exception(exc)
        else:
            ended.set_result(None)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    loop, _Caller.current.caller = ready.result()
    try:
        trampoline(scenario(ThreadWorld(loop)))
    except asyncio.CancelledError:
        # The loop gave up; its own error says why.
        _Caller.current.caller.leave()
        ended.result()
        raise
    finally:
        if not ended.done():
            _Caller.current.caller.leave()
            thread.join()
        del _Caller.current.caller
    ended.result()
