"""An event loop with a virtual clock: tests that wait for hours end at once, and none of them hangs.

When nothing is ready, :class:`VirtualClockLoop` jumps to its next timer. If there is no timer, a real loop would hang;
this one raises :exc:`Deadlock`, with a list of the tasks and the lines where they wait.

The clock moves in ``select()``: asyncio calls it once an iteration, with the time that it may sleep. So the selector
knows when nothing is ready, and needs no private attributes of the loop.

May know: asyncio's documented interface, the network in memory. Must not know: WebSocket.
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

from ._asyncio_network import Network

__all__ = ["START", "Deadlock", "VirtualClockLoop", "describe_task", "idle", "run"]

#: The time at which each loop starts. It is not 0, so that code which confuses 0 with "no time" fails.
START = 1000.0

#: Seconds by which a timer may be early, because times are rounded.
RESOLUTION = 1e-9

#: Real seconds that the loop waits for a thread before it gives up.
PATIENCE = 60.0

#: Virtual seconds after which the loop gives up. Timers alone, such as those of keepalive, could go on for ever.
TIME_LIMIT = 24 * 3600.0

_T = TypeVar("_T")
_Ts = TypeVarTuple("_Ts")

_Events = list[tuple[selectors.SelectorKey, int]]


class Deadlock(RuntimeError):
    """A program on a :class:`VirtualClockLoop` can't go on, or would never end.

    The message says which tasks wait where. The function that runs the loop raises it, such as :func:`run` or
    :meth:`asyncio.Runner.run`.
    """


class _Clock(selectors.DefaultSelector):
    """The selector of a virtual loop: it moves the clock instead of sleeping.

    Attributes:
        now: the time, in seconds.
        horizon: the time at which the loop gives up, since timers that start one another would run for ever.
        grace: seconds for cleaning up after that.
        spin_limit: iterations without a move of the clock after which the loop gives up.
        outside: how many threads, or others outside the loop, will wake it; until then time stands still.
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
        """Return the files that are ready; if nothing is, wait for threads, wake idlers, or move the clock."""
        events = super().select(0)
        self._spins += 1
        if self._spins > self.spin_limit:
            # Cleaning up after this has as many iterations again.
            self._spins = 0
            raise Deadlock(f"livelock: {self.spin_limit} iterations at {self.now}; {_waiting()}")
        if not events and (timeout is None or timeout > 0):
            events = self._rest(timeout)
        return events

    def _rest(self, timeout: float | None) -> _Events:
        """Act when nothing is ready: wait for threads, or wake idlers, or move the clock."""
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
        """Move the clock. Times are rounded, so that 0.1 + 0.2 is 0.3."""
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
    takes milliseconds, and whether a test passes doesn't depend on the speed of the machine. If nothing is ready and
    there is no timer, :exc:`Deadlock` is raised.

    Servers and clients of asyncio, and so those of this library, meet in :attr:`network`, unchanged; no socket is
    opened. The class is a loop factory: ``asyncio.Runner(loop_factory=VirtualClockLoop)``.

    Timers, time-outs and :func:`asyncio.sleep` take virtual time, since they ask the loop for the time;
    :func:`time.time` doesn't. While functions run in threads of the loop's executor, time stands still. Real sockets
    and subprocesses take no virtual time; the loop waits for them only inside :meth:`outside`.

    Parameters:
        network: where streams of this loop connect; a new :class:`Network` by default.
        time_limit: virtual seconds after which :exc:`Deadlock` is raised.

    Attributes:
        network: where streams of this loop connect.
    """

    def __init__(self, *, network: Network | None = None, time_limit: float = TIME_LIMIT) -> None:
        # Before asyncio's constructor, which registers its self-pipe and may ask for the time.
        self._clock = _Clock(time_limit)
        super().__init__(self._clock)
        # asyncio runs a timer early by the resolution of the clock, which is 15.6 ms on Windows. Without the attribute,
        # in another release of asyncio, timers would only be less exact.
        self._clock_resolution = RESOLUTION
        self.network = Network() if network is None else network

    # The clock.

    def time(self) -> float:
        """Return the virtual time, in seconds; it begins at 1000."""
        return self._clock.now

    async def idle(self) -> None:
        """Wait until nothing is ready to run, so that only timers could go on. Time doesn't move until then."""
        idler: asyncio.Future[None] = self.create_future()
        self._clock.idlers.append(idler)
        await idler

    # Threads.

    @contextlib.contextmanager
    def outside(self) -> Iterator[None]:
        """Declare that a thread, or something else outside, will wake the loop: time stands still until it does.

        Functions in the loop's executor need no such declaration. If nothing wakes the loop for a real minute,
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
    """Wait until nothing is ready to run in the running :class:`VirtualClockLoop`; time doesn't move until then.

    After it, all that could happen without waiting has happened. To let time pass as well, :func:`asyncio.sleep` first.

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
        time_limit: virtual seconds after which :exc:`Deadlock` is raised.
        debug: asyncio's debug mode; None leaves it as the environment says.

    Returns:
        What the coroutine returns.

    Raises:
        Deadlock: it waits for something that can never happen.
    """
    with asyncio.Runner(
        debug=debug, loop_factory=lambda: VirtualClockLoop(network=network, time_limit=time_limit)
    ) as runner:
        return runner.run(main)
