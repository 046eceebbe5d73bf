"""Calls of the user's hooks in the thread of a connection."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from websockets._session.hooks import CallHook, Steps
from websockets.sync._hooks import carry_out


def decide(*hooks: Any) -> Steps[list[Any]]:
    """Ask all hooks, and go on if one fails."""
    results: list[Any] = []
    for hook in hooks:
        try:
            results.append((yield CallHook(hook, ("argument",))))
        except LookupError as exc:
            results.append(exc)
    return results


def test_decision_without_hooks() -> None:
    assert carry_out(decide()) == []


def test_results_and_errors_reach_the_decision() -> None:
    error = LookupError()

    def fail(argument: str) -> None:
        raise error

    assert carry_out(decide(str.upper, fail, len)) == ["ARGUMENT", error, 8]


def test_error_that_the_decision_does_not_know() -> None:
    with pytest.raises(ZeroDivisionError):
        carry_out(decide(lambda argument: 1 / 0))


def test_hook_that_ends_the_thread() -> None:
    closed = False

    def steps() -> Steps[None]:
        nonlocal closed
        try:
            yield CallHook(exit, ())
        finally:
            closed = True

    with pytest.raises(SystemExit):
        carry_out(steps())
    assert closed


async def later(argument: str) -> bool:
    return True


class Later:
    def __await__(self) -> Iterator[Any]:
        yield


@pytest.mark.parametrize(
    ("hook", "text"),
    [
        (lambda argument: later(argument), "returned something to await, of later, and threads don't await"),
        (lambda argument: Later(), "returned something to await, of Later, and threads don't await"),
    ],
)
def test_what_nobody_would_await_is_an_error(hook: Any, text: str) -> None:
    """A coroutine is true, and so a check that isn't awaited would let everybody in."""
    with pytest.raises(TypeError, match=text):
        carry_out(decide(hook))


def test_lock_is_held_while_the_decision_runs_and_not_while_a_hook_runs() -> None:
    lock = threading.Lock()
    seen: list[bool] = []

    def hook(number: int) -> int:
        seen.append(lock.locked())
        if number == 2:
            raise LookupError
        return number

    def steps() -> Steps[str]:
        for number in range(4):
            seen.append(lock.locked())
            with contextlib.suppress(LookupError):
                yield CallHook(hook, (number,))
        return "over"

    assert carry_out(steps(), lock) == "over"
    assert seen == [True, False] * 4
    assert not lock.locked()
    del seen[:]
    assert carry_out(steps(), threading.Lock(), lock) == "over"
    assert seen == [True, False] * 4
