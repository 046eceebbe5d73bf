"""Signals that end the command, as far as can be seen without any."""

from __future__ import annotations

import asyncio
import signal
import threading
from typing import Any

import pytest

from websockets.cli._client import run
from websockets.cli._signals import Interruption, handled, heeded, loading

if not hasattr(signal, "SIGHUP"):
    pytest.skip("there is no SIGHUP here", allow_module_level=True)


def test_signals_that_somebody_has_us_ignore() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        assert heeded(["SIGTERM", "SIGHUP", "SIGNOTHING"]) == [signal.SIGTERM]
    finally:
        signal.signal(signal.SIGHUP, before)


def test_handlers_are_put_back() -> None:
    def own(number: int, frame: object) -> None: ...

    numbers = [signal.SIGINT, signal.SIGTERM, signal.SIGHUP]
    before = [signal.getsignal(number) for number in numbers]
    with handled(own):
        assert [signal.getsignal(number) for number in numbers] == [own] * 3
    assert [signal.getsignal(number) for number in numbers] == before


def test_a_thread_other_than_the_main_one_handles_none() -> None:
    seen: list[Any] = []

    def work() -> None:
        with handled(print):
            seen.append(signal.getsignal(signal.SIGTERM))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [signal.getsignal(signal.SIGTERM)]


def while_loading() -> object:
    """What Ctrl-C means while modules are imported."""
    with loading():
        return signal.getsignal(signal.SIGINT)


def test_ctrl_c_while_modules_are_imported() -> None:
    def own(number: int, frame: object) -> None: ...

    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        assert while_loading() is signal.SIG_DFL
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
        elsewhere = threading.Thread(target=while_loading)
        elsewhere.start()
        elsewhere.join()
        for other in (own, signal.SIG_IGN):
            signal.signal(signal.SIGINT, other)
            assert while_loading() is other
            assert signal.getsignal(signal.SIGINT) is other
    finally:
        signal.signal(signal.SIGINT, before)


async def stubborn(cancelled: list[int], times: int) -> int:
    """Work that wants to be cancelled so many times."""
    for _ in range(times):
        try:
            await asyncio.sleep(3600)
        except asyncio.CancelledError:
            cancelled.append(1)
    return 0


@pytest.mark.parametrize(
    ("numbers", "times", "status"),
    [
        ((signal.SIGTERM,), 1, 0),
        ((signal.SIGHUP,), 1, 0),
        ((signal.SIGTERM, signal.SIGINT), 2, 0),
        ((signal.SIGHUP, signal.SIGHUP, signal.SIGINT), 2, 0),
        ((signal.SIGTERM, signal.SIGHUP), 1, 0),
    ],
)
def test_what_is_cancelled(numbers: tuple[int, ...], times: int, status: int) -> None:
    cancelled: list[int] = []

    async def work() -> int:
        loop = asyncio.get_running_loop()
        for delay, number in enumerate(numbers):
            loop.call_later(delay / 100, signal.raise_signal, number)
        return await stubborn(cancelled, times)

    assert run(work()) == status
    assert len(cancelled) == times


def test_the_second_signal_ends_the_work() -> None:
    async def work() -> int:
        loop = asyncio.get_running_loop()
        loop.call_soon(signal.raise_signal, signal.SIGINT)
        await stubborn([], 1)
        loop.call_soon(signal.raise_signal, signal.SIGINT)
        return await stubborn([], 0) or await asyncio.sleep(3600, 1)

    assert run(work()) == 130


def test_the_third_signal_interrupts_what_goes_on() -> None:
    async def work() -> int:
        loop = asyncio.get_running_loop()
        for _ in range(3):
            loop.call_soon(signal.raise_signal, signal.SIGTERM)
        return await stubborn([], 1)

    with pytest.raises(KeyboardInterrupt):
        run(work())


async def test_a_signal_before_the_beginning() -> None:
    interruption = Interruption()
    interruption(signal.SIGTERM, None)
    task = asyncio.create_task(asyncio.sleep(3600))
    interruption.begin(task)
    with pytest.raises(asyncio.CancelledError):
        await task


def test_a_signal_after_the_end() -> None:
    interruption = Interruption()

    async def work() -> None:
        interruption.begin(asyncio.current_task())

    asyncio.run(work())
    interruption(signal.SIGTERM, None)
