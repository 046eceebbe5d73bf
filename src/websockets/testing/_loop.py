"""An event loop whose time is made up: tests wait for hours in no time, and never for nothing.

When nothing is ready, :class:`VirtualClockLoop` jumps to its next timer. Without a timer it raises :exc:`Deadlock` with
a list of who waits where, instead of hanging as a real loop would. It may know asyncio's documented interface and
:mod:`._network`; it must not know WebSocket.

The clock moves in ``select()``: asyncio calls it once an iteration, with the time it may sleep. So the selector knows
when nothing is ready, without a look at private attributes of the loop.
"""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import os
import selectors
import socket
from collections.abc import Callable, Coroutine, Iterator
from concurrent.futures import Executor
from typing import Any, TypeVar, TypeVarTuple

from ._network import Network

__all__ = ["START", "Deadlock", "VirtualClockLoop", "describe_task", "idle", "run"]

#: What ``loop.time()`` says first. Not zero, so that code which takes 0 for "no time" shows.
START = 1000.0

#: By how many seconds a timer may be early: what is lost when numbers are rounded.
RESOLUTION = 1e-9

#: Real seconds that the loop waits for threads before it calls them lost.
PATIENCE = 60.0

#: Virtual seconds after which the loop gives up, if only timers run: keepalive, for one, goes on for ever.
TIME_LIMIT = 24 * 3600.0

_T = TypeVar("_T")
_Ts = TypeVarTuple("_Ts")

_Events = list[tuple[selectors.SelectorKey, int]]


class Deadlock(RuntimeError):
    """What runs on a :class:`VirtualClockLoop` can't go on, or would go on for ever: the message says who waits where.

    It is raised by whatever runs the loop, such as :func:`run` or :meth:`asyncio.Runner.run`.
    """


class _Clock(selectors.DefaultSelector):
    """The selector of a virtual loop: it moves the clock instead of sleeping.

    Attributes:
        now: the time, in seconds.
        horizon: the time at which the loop gives up: timers that start one another would run for ever.
        grace: seconds for what is cleaned up after that.
        spin_limit: iterations without a move of the clock after which the loop gives up.
        outside: how many parties outside the loop will wake it; meanwhile time stands still.
        idlers: futures to resolve when nothing is ready.
    """

    def __init__(self, time_limit: float) -> None:
        super().__init__()
        self.now = START
        self.horizon = START + time_limit
        self.grace = time_limit
        self.spin_limit = 1_000_000
        self.outside = 0
        self.idlers: list[asyncio.Future[None]] = []
        self._spins = 0

    def select(self, timeout: float | None = None) -> _Events:
        """Return what is ready; otherwise do what makes something ready."""
        events = super().select(0)
        self._spins += 1
        if self._spins > self.spin_limit:
            # What is cleaned up after this has its turns again.
            self._spins = 0
            raise Deadlock(f"livelock: {self.spin_limit} iterations at {self.now}; {_waiting()}")
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
            raise Deadlock(f"deadlock: at {self.now} nothing is ready and no timer is set; {_waiting()}")
        else:
            self.move(timeout)
        return []

    def move(self, seconds: float) -> None:
        """Move the clock. Rounding keeps 0.1 + 0.2 from adding up to a time nobody asked for."""
        self.now = round(self.now + seconds, 9)
        self._spins = 0
        if self.now > self.horizon:
            passed, self.horizon = self.horizon, self.now + self.grace
            raise Deadlock(f"deadlock: only timers run, and it is {self.now}, past {passed}; {_waiting()}")

    def _wait_outside(self) -> _Events:
        events = super().select(PATIENCE)
        if not events:
            raise Deadlock(f"deadlock: no thread reported in {PATIENCE} real seconds; {_waiting()}")
        return events

    def _wake_idlers(self) -> None:
        idlers, self.idlers = self.idlers, []
        for idler in idlers:
            if not idler.done():
                idler.set_result(None)


def _waiting() -> str:
    """List the tasks of the running loop that are not done, with the lines where they wait."""
    return "waiting: " + ("; ".join(sorted(map(describe_task, asyncio.all_tasks()))) or "no task")


def describe_task(task: asyncio.Task[Any]) -> str:
    """Name a task and the lines where it waits, from the outermost coroutine to the innermost."""
    lines = []
    awaited: Any = task.get_coro()
    while inspect.iscoroutine(awaited) and awaited.cr_frame is not None:
        code, line = awaited.cr_code, awaited.cr_frame.f_lineno
        lines.append(f"{code.co_qualname} ({os.path.basename(code.co_filename)}:{line})")
        awaited = awaited.cr_await
    return f"{task.get_name()} in {' > '.join(lines)}"


class VirtualClockLoop(asyncio.SelectorEventLoop):
    """An asyncio event loop with a virtual clock and a network in memory.

    Time stands still while anything is ready to run; then it jumps to the next timer. So a program that waits for hours
    takes milliseconds, and whether it passes doesn't depend on how fast the machine is. If nothing is ready and there
    is no timer, :exc:`Deadlock` is raised.

    Servers and clients of asyncio, and so those of this library, meet in :attr:`network`, unchanged: nothing is opened
    that others could see. It is a loop factory: ``asyncio.Runner(loop_factory=VirtualClockLoop)``.

    Only what asks the loop for the time sees virtual time: timers, time-outs and :func:`asyncio.sleep`, but not
    :func:`time.time`. While functions run in threads of the loop's executor, time stands still. Real sockets, where a
    program insists on them, and subprocesses take no virtual time; the loop doesn't wait for them outside
    :meth:`outside`.

    Parameters:
        network: where streams of this loop connect; a new :class:`Network` by default.
        time_limit: virtual seconds after which :exc:`Deadlock` is raised, since only timers run.

    Attributes:
        network: where streams of this loop connect.
    """

    def __init__(self, *, network: Network | None = None, time_limit: float = TIME_LIMIT) -> None:
        # Before asyncio's constructor, which registers its self-pipe and may ask for the time.
        self._clock = _Clock(time_limit)
        super().__init__(self._clock)
        # asyncio runs a timer early by as much as the clock may be wrong; on Windows that is 15.6 ms. A loop of asyncio
        # without this attribute would just do so.
        self._clock_resolution = RESOLUTION
        self.network = Network() if network is None else network

    # The clock.

    def time(self) -> float:
        """Return the virtual time, in seconds; it begins at 1000."""
        return self._clock.now

    async def idle(self) -> None:
        """Wait until nothing is ready to run: only timers, if any, could go on. Time doesn't move meanwhile."""
        idler: asyncio.Future[None] = self.create_future()
        self._clock.idlers.append(idler)
        await idler

    # Threads.

    @contextlib.contextmanager
    def outside(self) -> Iterator[None]:
        """Declare that a thread, or something else outside, will wake the loop: it really waits, and time stands still.

        Functions that run in the loop's executor are waited for without this. If nothing comes for a real minute,
        :exc:`Deadlock` is raised.
        """
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


async def idle() -> None:
    """Wait until nothing is ready to run in the running :class:`VirtualClockLoop`; time doesn't move meanwhile.

    After it, whatever could happen without waiting has happened. To let time pass as well, :func:`asyncio.sleep` first.

    Raises:
        TypeError: the running loop is another one.
    """
    loop = asyncio.get_running_loop()
    if not isinstance(loop, VirtualClockLoop):
        raise TypeError(f"{loop!r} is not a VirtualClockLoop")
    await loop.idle()


def run(
    main: Coroutine[Any, Any, _T],
    *,
    network: Network | None = None,
    time_limit: float = TIME_LIMIT,
    debug: bool | None = None,
) -> _T:
    """Run a coroutine on a new :class:`VirtualClockLoop`, as :func:`asyncio.run` does on an ordinary one.

    Parameters:
        main: the coroutine.
        network: where its streams connect; a new :class:`Network` by default.
        time_limit: virtual seconds after which :exc:`Deadlock` is raised, since only timers run.
        debug: asyncio's debug mode; None leaves it as the environment says.

    Returns:
        What the coroutine returns.

    Raises:
        Deadlock: it waits for what can never come.
    """
    with asyncio.Runner(
        debug=debug, loop_factory=lambda: VirtualClockLoop(network=network, time_limit=time_limit)
    ) as runner:
        return runner.run(main)
