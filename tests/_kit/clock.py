"""An event loop whose time is made up: tests wait for hours in no time, and never for nothing.

When nothing is ready, :class:`VirtualLoop` jumps to its next timer. Without a timer it raises "deadlock" with a list of
who waits where, instead of hanging as a real loop would. It may know asyncio's documented interface and
:mod:`.network`; it must not know the library.

The clock moves in ``select()``: asyncio calls it once an iteration, with the time it may sleep. So the selector knows
when nothing is ready, without a look at private attributes of the loop.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import gc
import inspect
import os
import selectors
import socket
from collections.abc import Callable, Coroutine, Iterator
from concurrent.futures import Executor
from typing import Any, ParamSpec, TypeVar, TypeVarTuple, overload

from .network import Network

__all__ = ["START", "VirtualLoop", "advance", "idle", "run_virtual", "steps", "virtual"]

#: What ``loop.time()`` says first. Not zero, so that code which takes 0 for "no time" shows.
START = 1000.0

#: Real seconds that the loop waits for threads before it calls them lost.
_PATIENCE = 10.0

_P = ParamSpec("_P")
_T = TypeVar("_T")
_Ts = TypeVarTuple("_Ts")

_Events = list[tuple[selectors.SelectorKey, int]]


class _Clock(selectors.DefaultSelector):
    """The selector of a virtual loop: it moves the clock instead of sleeping.

    Attributes:
        now: the time, in seconds.
        horizon: the time at which the loop gives up: timers that start one another would run for ever.
        spin_limit: iterations without a move of the clock after which the loop gives up.
        outside: how many parties outside the loop will wake it; meanwhile time stands still.
        idlers: futures to resolve when nothing is ready.
    """

    def __init__(self) -> None:
        super().__init__()
        self.now = START
        self.horizon = START + 24 * 3600
        self.spin_limit = 1_000_000
        self.outside = 0
        self.idlers: list[asyncio.Future[None]] = []
        self._spins = 0

    def select(self, timeout: float | None = None) -> _Events:
        """Return what is ready; otherwise do what makes something ready."""
        events = super().select(0)
        self._spins += 1
        if self._spins > self.spin_limit:
            raise RuntimeError(f"livelock: {self.spin_limit} iterations at {self.now}; {_waiting()}")
        if not events and (timeout is None or timeout > 0):
            events = self._rest(timeout)
        return events

    def _rest(self, timeout: float | None) -> _Events:
        """Nothing is ready: wait for threads, or wake those who wait for this moment, or move the clock."""
        if self.outside:
            return self._wait_outside()
        if self.idlers:
            self._wake_idlers()
        elif timeout is None:
            raise RuntimeError(f"deadlock: at {self.now} nothing is ready and no timer is set; {_waiting()}")
        else:
            self.move(timeout)
        return []

    def move(self, seconds: float) -> None:
        """Move the clock. Rounding keeps 0.1 + 0.2 from adding up to a time nobody asked for."""
        self.now = round(self.now + seconds, 9)
        self._spins = 0
        if self.now > self.horizon:
            raise RuntimeError(f"deadlock: only timers run, and it is {self.now}, past {self.horizon}; {_waiting()}")

    def _wait_outside(self) -> _Events:
        events = super().select(_PATIENCE)
        if not events:
            raise RuntimeError(f"deadlock: no thread reported in {_PATIENCE} real seconds; {_waiting()}")
        return events

    def _wake_idlers(self) -> None:
        idlers, self.idlers = self.idlers, []
        for idler in idlers:
            if not idler.done():
                idler.set_result(None)


def _waiting() -> str:
    """List the tasks of the running loop that are not done, with the lines where they wait."""
    return "waiting: " + ("; ".join(sorted(map(_describe, asyncio.all_tasks()))) or "no task")


def _describe(task: asyncio.Task[Any]) -> str:
    """Name a task and the lines where it waits, from the outermost coroutine to the innermost."""
    lines = []
    awaited: Any = task.get_coro()
    while inspect.iscoroutine(awaited) and awaited.cr_frame is not None:
        code, line = awaited.cr_code, awaited.cr_frame.f_lineno
        lines.append(f"{code.co_qualname} ({os.path.basename(code.co_filename)}:{line})")
        awaited = awaited.cr_await
    return f"{task.get_name()} in {' > '.join(lines)}"


class VirtualLoop(asyncio.SelectorEventLoop):
    """An asyncio event loop with a virtual clock and a network in memory.

    Attributes:
        network: where streams of this loop connect; its ``links`` take faults.
        errors: what was passed to ``call_exception_handler``; :func:`virtual` fails a test that leaves any here.
    """

    def __init__(self) -> None:
        # Before asyncio's constructor, which registers its self-pipe and may ask for the time.
        self._clock = _Clock()
        self.errors: list[dict[str, Any]] = []
        super().__init__(self._clock)
        self.network = Network(self)
        self.set_exception_handler(lambda loop, context: self.errors.append(context))

    # The clock.

    def time(self) -> float:
        """Return the virtual time, in seconds; it begins at :data:`START`."""
        return self._clock.now

    def stall(self, seconds: float) -> None:
        """Move the clock without running anything, as when a callback computes for that long."""
        self._clock.move(seconds)

    def give_up(self, *, after: float | None = None, spins: int | None = None) -> None:
        """Change when the loop takes a test for endless.

        Parameters:
            after: seconds from now; at first, a day from the start.
            spins: iterations without a move of the clock; at first, a million.
        """
        self._clock.horizon = self._clock.horizon if after is None else self._clock.now + after
        self._clock.spin_limit = self._clock.spin_limit if spins is None else spins

    async def idle(self) -> None:
        """Wait until nothing is ready: only timers, if any, could go on."""
        idler: asyncio.Future[None] = self.create_future()
        self._clock.idlers.append(idler)
        await idler

    # Threads.

    @contextlib.contextmanager
    def outside(self) -> Iterator[None]:
        """Declare that a thread will wake the loop: inside, time stands still and the loop really waits."""
        self._clock.outside += 1
        try:
            yield
        finally:
            self._clock.outside -= 1

    def run_in_executor(self, executor: Executor | None, func: Callable[[*_Ts], _T], *args: *_Ts) -> asyncio.Future[_T]:
        """Run a function in a thread; time stands still until it is done."""
        future = super().run_in_executor(executor, func, *args)
        stack = contextlib.ExitStack()
        stack.enter_context(self.outside())
        future.add_done_callback(lambda _: stack.close())
        return future

    async def shutdown_default_executor(self, *args: Any, **kwargs: Any) -> None:
        """Join the threads of the executor; time stands still."""
        with self.outside():
            await super().shutdown_default_executor(*args, **kwargs)

    # Streams: in memory, unless a real socket is given.

    async def create_server(self, *args: Any, **kwargs: Any) -> Any:
        """Listen in :attr:`network`."""
        if isinstance(kwargs.get("sock"), socket.socket):
            return await super().create_server(*args, **kwargs)
        return await self.network.create_server(*args, **kwargs)

    async def create_connection(self, *args: Any, **kwargs: Any) -> Any:
        """Connect in :attr:`network`."""
        if isinstance(kwargs.get("sock"), socket.socket):
            return await super().create_connection(*args, **kwargs)
        return await self.network.create_connection(*args, **kwargs)

    async def create_unix_server(self, *args: Any, **kwargs: Any) -> Any:
        """Listen at a path in :attr:`network`."""
        return await self.network.create_unix_server(*args, **kwargs)

    async def create_unix_connection(self, *args: Any, **kwargs: Any) -> Any:
        """Connect to a path in :attr:`network`."""
        return await self.network.create_unix_connection(*args, **kwargs)


def _running() -> VirtualLoop:
    loop = asyncio.get_running_loop()
    if not isinstance(loop, VirtualLoop):
        raise TypeError(f"{loop!r} is not a VirtualLoop")
    return loop


async def idle() -> None:
    """Wait until nothing is ready in the running virtual loop; time does not move."""
    await _running().idle()


async def advance(seconds: float) -> None:
    """Let virtual time pass, run the timers due in it, and then all that they made ready.

    Parameters:
        seconds: how far the clock moves; not negative.

    Raises:
        ValueError: ``seconds`` is negative.
    """
    if seconds < 0:
        raise ValueError(f"time cannot go back by {-seconds} seconds")
    loop = _running()
    await asyncio.sleep(seconds)
    await loop.idle()


async def steps(count: int) -> None:
    """Let the running loop, of any kind, go through ``count`` iterations."""
    for _ in range(count):
        await asyncio.sleep(0)


# Running tests.


class _Audit:
    """What a test must not leave behind."""

    def __init__(self, loop: VirtualLoop) -> None:
        self._loop = loop
        self._pending: list[str] = []

    async def watch(self, main: Coroutine[Any, Any, _T]) -> _T:
        """Run the test, let it settle, and note which tasks are still there."""
        result = await main
        await self._loop.idle()
        mine = asyncio.current_task()
        self._pending = sorted(_describe(task) for task in asyncio.all_tasks() if task is not mine)
        return result

    def complaints(self) -> list[str]:
        """Return a line for each thing left behind."""
        lines = [f"pending task: {task}" for task in self._pending]
        for context in self._loop.errors:
            lines.append(f"reported to the loop: {context.get('message')}: {context.get('exception')!r}")
        return lines

    def verify(self) -> None:
        """Fail if anything was left behind; the first exception reported becomes the cause."""
        if lines := self.complaints():
            causes = (context["exception"] for context in self._loop.errors if "exception" in context)
            raise AssertionError("\n".join(["the test left things behind", *lines])) from next(causes, None)


def run_virtual(main: Coroutine[Any, Any, _T], *, debug: bool | None = None) -> _T:
    """Run a coroutine to its end in a new virtual loop.

    Parameters:
        main: the coroutine.
        debug: asyncio's debug mode; None leaves it as the environment says.

    Returns:
        What the coroutine returns.

    Raises:
        AssertionError: it left a pending task, or something was reported to the loop's exception handler, such as an
            exception that was never retrieved.
        RuntimeError: it waited for what can never come; the message begins with "deadlock" or "livelock".
    """
    loop = VirtualLoop()
    audit = _Audit(loop)
    try:
        with _own_garbage(), asyncio.Runner(debug=debug, loop_factory=lambda: loop) as runner:
            result = runner.run(audit.watch(main))
    except BaseException as exc:
        for line in audit.complaints():
            exc.add_note(line)
        raise
    audit.verify()
    return result


@contextlib.contextmanager
def _own_garbage() -> Iterator[None]:
    """Collect what the body left, so that futures nobody asked complain now and not in a later test.

    Freezing takes all older objects out of the collector's sight: a collection costs a hundred times less, and
    complaints of an earlier test cannot land in this one. PyPy has nothing to freeze.
    """
    freeze, unfreeze = getattr(gc, "freeze", int), getattr(gc, "unfreeze", int)
    freeze()
    try:
        yield
        gc.collect()
    finally:
        unfreeze()


@overload
def virtual(test: Callable[_P, Coroutine[Any, Any, _T]], /) -> Callable[_P, _T]: ...


@overload
def virtual(*, debug: bool | None = None) -> Callable[[Callable[_P, Coroutine[Any, Any, _T]]], Callable[_P, _T]]: ...


def virtual(test: Callable[..., Any] | None = None, /, *, debug: bool | None = None) -> Callable[..., Any]:
    """Turn a coroutine function into a plain function that runs it with :func:`run_virtual`.

    Fixtures, parametrization and ``hypothesis.given`` see the signature of the coroutine function. Use it bare, or with
    options.

    Parameters:
        test: the coroutine function.
        debug: asyncio's debug mode; None leaves it as the environment says.

    Raises:
        TypeError: ``test`` is not a coroutine function.
    """
    if test is None:
        return functools.partial(virtual, debug=debug)
    if not inspect.iscoroutinefunction(test):
        raise TypeError(f"{test!r} is not a coroutine function")

    @functools.wraps(test)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        return run_virtual(test(*args, **kwargs), debug=debug)

    return wrapper
