"""The virtual clock: time, deadlocks, and what a test may not leave behind."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import inspect
import socket
import threading
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from _kit import START, VirtualLoop, advance, idle, run_virtual, steps, virtual


def loop() -> VirtualLoop:
    """Return the running loop."""
    running = asyncio.get_running_loop()
    assert isinstance(running, VirtualLoop)
    return running


async def forever() -> None:
    await loop().create_future()


# Time.


@virtual
async def test_time_jumps_to_the_next_timer() -> None:
    began = time.monotonic()
    assert loop().time() == START
    await asyncio.sleep(3600)
    assert loop().time() == START + 3600
    assert time.monotonic() - began < 60


@virtual
async def test_sums_of_delays_are_exact() -> None:
    await asyncio.sleep(0.1)
    await asyncio.sleep(0.2)
    assert loop().time() == 1000.3


@virtual
async def test_timers_run_in_order() -> None:
    seen: list[tuple[str, float]] = []

    def note(name: str) -> None:
        seen.append((name, loop().time() - START))

    for name, delay in [("c", 3.0), ("a", 1.0), ("b", 2.0), ("now", 0.0)]:
        loop().call_later(delay, note, name)
    await advance(10)
    assert seen == [("now", 0.0), ("a", 1.0), ("b", 2.0), ("c", 3.0)]


@virtual
async def test_advance_runs_what_becomes_ready_and_nothing_later() -> None:
    seen: list[str] = []

    def chain(left: int) -> None:
        seen.append(f"step {left}")
        if left:
            loop().call_soon(chain, left - 1)

    loop().call_later(1, chain, 3)
    late = loop().call_later(1.001, seen.append, "late")
    await advance(1)
    assert seen == ["step 3", "step 2", "step 1", "step 0"]
    assert loop().time() == START + 1
    late.cancel()


@virtual
async def test_advance_by_nothing_and_backwards() -> None:
    await advance(0)
    assert loop().time() == START
    with pytest.raises(ValueError, match="by 1 seconds"):
        await advance(-1)


@virtual
async def test_stall_moves_the_clock_and_runs_nothing() -> None:
    seen: list[float] = []
    loop().call_later(5, lambda: seen.append(loop().time()))
    loop().stall(7)
    assert loop().time() == START + 7
    assert seen == []
    await idle()
    assert seen == [START + 7]


@virtual
async def test_idle_does_not_move_the_clock() -> None:
    task = asyncio.create_task(asyncio.sleep(1))
    await idle()
    assert loop().time() == START
    assert not task.done()
    await task


@virtual
async def test_two_tasks_can_wait_for_idle() -> None:
    await asyncio.gather(idle(), idle())


@virtual
async def test_waiting_for_idle_can_be_cancelled() -> None:
    task = asyncio.create_task(idle())
    await steps(1)
    task.cancel()
    await idle()
    assert task.cancelled()


@virtual
async def test_steps_count_iterations() -> None:
    seen: list[int] = []

    def count(number: int) -> None:
        seen.append(number)
        if number < 10:
            loop().call_soon(count, number + 1)

    count(0)
    await steps(4)
    assert seen == [0, 1, 2, 3, 4]
    await idle()


@virtual
async def test_timeouts_work() -> None:
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(30):
            await forever()
    assert loop().time() == START + 30


def test_helpers_refuse_another_loop() -> None:
    with pytest.raises(TypeError, match="not a VirtualClockLoop"):
        asyncio.run(idle())


# Never for nothing.


@pytest.mark.parametrize("wait", [forever, lambda: asyncio.Event().wait()], ids=["future", "event"])
def test_deadlock_is_an_error_that_names_the_task(wait: Callable[[], Coroutine[Any, Any, object]]) -> None:
    async def stuck() -> None:
        await wait()

    async def main() -> None:
        await asyncio.create_task(stuck(), name="the culprit")

    with pytest.raises(RuntimeError, match=r"deadlock: at 1000\.0 .*the culprit in \S+stuck \(test_clock\.py:\d+\) > "):
        run_virtual(main())


def test_timers_that_start_one_another_end_at_the_horizon() -> None:
    def again() -> None:
        asyncio.get_running_loop().call_later(20, again)

    async def main() -> None:
        loop().give_up(after=100)
        again()
        await forever()

    with pytest.raises(RuntimeError, match=r"deadlock: only timers run, and it is 1120\.0, past 1100\.0"):
        run_virtual(main())


def test_a_loop_that_spins_is_an_error() -> None:
    def again() -> None:
        asyncio.get_running_loop().call_soon(again)

    async def main() -> None:
        loop().give_up(spins=50)
        again()
        await forever()

    with pytest.raises(RuntimeError, match=r"livelock: 50 iterations at 1000\.0"):
        run_virtual(main())


# Threads and real sockets.


@virtual
async def test_time_stands_still_for_executors() -> None:
    release = threading.Event()
    loop().call_later(1, release.set)
    assert await loop().run_in_executor(None, lambda: (release.is_set(), threading.get_ident())[0]) is False
    assert loop().time() == START


@virtual
async def test_time_stands_still_for_declared_threads() -> None:
    future: asyncio.Future[str] = loop().create_future()
    thread = threading.Thread(target=loop().call_soon_threadsafe, args=(future.set_result, "done"))
    with loop().outside():
        thread.start()
        assert await future == "done"
    thread.join()
    assert loop().time() == START


def test_a_thread_that_never_reports_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        with loop().outside():
            await forever()

    monkeypatch.setattr("websockets.testing._loop.PATIENCE", 0.001)
    with pytest.raises(RuntimeError, match="deadlock: no thread reported"):
        run_virtual(main())


@virtual
async def test_real_sockets_work_beside_the_virtual_ones() -> None:
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    with ours, theirs:
        theirs.send(b"hello")
        assert await loop().sock_recv(ours, 100) == b"hello"
    assert loop().time() == START


@virtual
async def test_real_sockets_get_real_transports() -> None:
    lost: asyncio.Future[Exception | None] = loop().create_future()

    class Accepted(asyncio.Protocol):
        def connection_lost(self, exc: Exception | None) -> None:
            lost.set_result(exc)

    listener = socket.create_server(("127.0.0.1", 0))
    server = await loop().create_server(Accepted, sock=listener)
    ours = socket.create_connection(listener.getsockname())
    transport, _ = await loop().create_connection(asyncio.Protocol, sock=ours)
    transport.abort()
    with loop().outside():
        assert await lost is None
    server.close()
    assert loop().network.links == []


# Running tests.


def test_the_result_comes_back() -> None:
    async def main() -> int:
        return 42

    assert run_virtual(main()) == 42


@pytest.mark.parametrize("debug", [True, False])
def test_debug_mode_can_be_chosen(debug: bool) -> None:
    @virtual(debug=debug)
    async def body() -> bool:
        return loop().get_debug()

    assert body() is debug


def test_only_coroutine_functions_can_be_decorated() -> None:
    with pytest.raises(TypeError, match="not a coroutine function"):
        virtual(lambda: None)  # type: ignore[arg-type, return-value]


@pytest.fixture
def seven() -> int:
    return 7


@pytest.mark.parametrize("factor", [1, 2])
@virtual
async def test_fixtures_and_parameters_reach_the_coroutine(seven: int, factor: int, tmp_path: object) -> None:
    assert (seven * factor) in (7, 14)
    assert tmp_path


@given(number=st.integers(0, 5))
@virtual
async def test_hypothesis_reaches_the_coroutine(number: int) -> None:
    await advance(number)
    assert loop().time() == START + number


def test_the_decorated_function_keeps_its_name_and_is_no_coroutine_function() -> None:
    assert test_time_jumps_to_the_next_timer.__name__ == "test_time_jumps_to_the_next_timer"
    assert not inspect.iscoroutinefunction(test_time_jumps_to_the_next_timer)


def test_failures_pass_through() -> None:
    async def main() -> None:
        raise LookupError("mine")

    with pytest.raises(LookupError, match="mine"):
        run_virtual(main())


def test_failures_carry_notes_of_what_else_went_wrong() -> None:
    async def main() -> None:
        loop().call_soon(int, "not a number")
        await idle()
        raise LookupError("mine")

    with pytest.raises(LookupError) as caught:
        run_virtual(main())
    [note] = caught.value.__notes__
    assert "reported to the loop" in note
    assert "not a number" in note


def test_a_pending_task_is_a_failure() -> None:
    async def main() -> None:
        task = asyncio.create_task(forever(), name="left over")
        await steps(1)
        assert not task.done()

    with pytest.raises(AssertionError, match="pending task: left over"):
        run_virtual(main())


@virtual
async def test_a_task_that_only_needs_iterations_is_none() -> None:
    task = asyncio.create_task(steps(20))
    assert not task.done()


def test_a_failed_callback_is_a_failure() -> None:
    async def main() -> None:
        loop().call_soon(int, "not a number")

    with pytest.raises(AssertionError, match=r"reported to the loop: .*not a number") as caught:
        run_virtual(main())
    assert isinstance(caught.value.__cause__, ValueError)


@pytest.mark.parametrize("cyclic", [False, True])
def test_an_exception_never_retrieved_is_a_failure(cyclic: bool) -> None:
    async def fail() -> None:
        raise LookupError("unheard")

    async def main() -> None:
        task = asyncio.create_task(fail())
        holder: list[object] = [task]
        if cyclic:
            # Only the garbage collector ends this one.
            holder.append(holder)
        await idle()

    with pytest.raises(AssertionError, match=r"Task exception was never retrieved: LookupError\('unheard'\)"):
        run_virtual(main())


def test_a_report_without_exception_is_a_failure_too() -> None:
    async def main() -> None:
        loop().call_exception_handler({"message": "odd"})

    with pytest.raises(AssertionError, match="reported to the loop: odd: None") as caught:
        run_virtual(main())
    assert caught.value.__cause__ is None


@virtual
async def test_expected_reports_can_be_taken() -> None:
    loop().call_exception_handler({"message": "odd"})
    assert loop().errors == [{"message": "odd"}]
    loop().errors.clear()


def test_garbage_of_earlier_tests_is_left_alone() -> None:
    reports: list[object] = []
    earlier = asyncio.new_event_loop()
    earlier.set_exception_handler(lambda *report: reports.append(report))
    holder: list[object] = [earlier.create_future()]
    holder[0].set_exception(LookupError("unheard"))  # type: ignore[attr-defined]
    holder.append(holder)
    earlier.close()
    gc.disable()
    try:
        del holder
        run_virtual(steps(1))
        gc.collect()
        assert reports == []
        getattr(gc, "unfreeze", int)()
        gc.collect()
        assert len(reports) == 1
    finally:
        gc.enable()


@virtual
async def test_async_generators_are_closed() -> None:
    async def numbers() -> AsyncIterator[int]:
        yield 1
        yield 2

    async for number in numbers():
        assert number == 1
        break


@virtual
async def test_context_variables_pass_into_tasks() -> None:
    variable: contextvars.ContextVar[int] = contextvars.ContextVar("variable", default=0)
    variable.set(1)

    async def read() -> int:
        return variable.get()

    assert await asyncio.create_task(read()) == 1
