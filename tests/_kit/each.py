"""One test that checks many things in the same way, and names each that is wrong.

For checks that take microseconds: pytest takes a millisecond for each test. What takes longer, or has state, is
parametrized as usual.

May know: nothing. Must not know: what is checked.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable
from typing import Any

__all__ = ["for_each"]


def for_each(
    rows: Iterable[tuple[Any, ...]], name: Callable[..., str] = lambda *row: repr(row)
) -> Callable[[Callable[..., None]], Callable[[], None]]:
    """Make a test of a check that takes arguments: it makes all checks, and then tells all that failed.

    Parameters:
        rows: the arguments of each check.
        name: the name of a check, from its arguments.
    """

    def decorate(check: Callable[..., None]) -> Callable[[], None]:
        @functools.wraps(check)
        def test() -> None:
            wrong: list[Exception] = []
            count = 0
            for row in rows:
                count += 1
                try:
                    check(*row)
                except Exception as exc:
                    exc.add_note(f"it was about {name(*row)}")
                    wrong.append(exc)
            assert count, "there is nothing to check"
            if wrong:
                raise ExceptionGroup(f"{len(wrong)} of {count} are wrong", wrong)

        # pytest looks at the signature of what is wrapped.
        del test.__wrapped__
        return test

    return decorate
