"""One test that checks many things in the same way."""

from __future__ import annotations

import inspect

import pytest

from _kit.each import for_each


def test_every_failure_is_told() -> None:
    @for_each([(1,), (2,), (3,)], lambda number: f"number {number}")
    def check(number: int) -> None:
        assert number == 2

    with pytest.raises(ExceptionGroup, match="2 of 3 are wrong") as raised:
        check()
    assert [exc.__notes__ for exc in raised.value.exceptions] == [["it was about number 1"], ["it was about number 3"]]
    assert not inspect.signature(check).parameters


def test_all_are_right() -> None:
    done: list[tuple[int, int]] = []
    for_each([(1, 2), (3, 4)])(lambda *row: done.append(row))()
    assert done == [(1, 2), (3, 4)]


def test_nothing_to_check() -> None:
    with pytest.raises(AssertionError, match="nothing to check"):
        for_each([])(lambda: None)()
