"""Happy eyeballs: in which order the addresses of a host are tried, and when each attempt begins (RFC 8305).

May know: addresses and errors as the operating system gives them. Must not know: how looking up and connecting are
done; ``now`` is an argument.

A name may have several addresses, and some may lead nowhere: a broken IPv6 network swallows all that is sent to it. So
attempts begin one after the other, each a moment after the one before, or at once when one has failed. The first that
succeeds is the connection, and the others are given up.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Hashable, Iterable, Iterator, Sequence
from typing import Any, Final, Generic, NamedTuple, Self, TypeVar

__all__ = ["ATTEMPT_DELAY", "Pace", "Race", "address_order", "combined", "naming", "with_zone"]

# RFC 8305 section 8: the delay between two attempts, in seconds.
ATTEMPT_DELAY: Final = 0.25

# An address: its family, then what else is known of it.
A = TypeVar("A", bound=tuple[Hashable, ...])


class Pace(NamedTuple):
    """How the addresses of a host are tried.

    Attributes:
        delay: seconds between attempts; None to begin one only when all before it have failed.
        first: how many addresses of the preferred family come first, before families take turns; 0 for the order of
            preference.
        all_errors: whether a failure is a group with the error of each attempt.
    """

    delay: float | None = ATTEMPT_DELAY
    first: int = 1
    all_errors: bool = False

    @classmethod
    def taken_from(cls, arguments: dict[str, Any]) -> Self:
        """The pace that arguments of asyncio's ``create_connection`` ask for; they are taken out."""
        delay = arguments.pop("happy_eyeballs_delay", ATTEMPT_DELAY)
        first = arguments.pop("interleave", None)
        # As in asyncio: who turns the race off gets the order of preference.
        first = int(delay is not None) if first is None else first
        return cls(delay, first, arguments.pop("all_errors", False))


def address_order(found: Iterable[A], first: int) -> list[A]:
    """The addresses of a host in the order in which to try them (RFC 8305 section 4); each of them once.

    Parameters:
        found: what was looked up, in the order of preference.
        first: see :class:`Pace`.
    """
    order = list(dict.fromkeys(found))
    if not first or not order:
        return order
    families: dict[Hashable, deque[A]] = {}
    for address in order:
        families.setdefault(address[0], deque()).append(address)
    preferred = families[order[0][0]]
    mixed = [preferred.popleft() for _ in range(min(first - 1, len(preferred)))]
    while any(families.values()):
        mixed += [addresses.popleft() for addresses in families.values() if addresses]
    return mixed


def with_zone(address: tuple[Any, ...]) -> tuple[Any, ...]:
    """Return an address with its zone in its host, if it is IPv6 and has one: uvloop looks at nothing else for it."""
    host, port, *more = address
    zone = more[1] if len(more) > 1 and "%" not in host else 0
    return f"{host}%{zone}" if zone else host, port, *more


class Race(Generic[A]):
    """Attempts to connect, of which the first that succeeds is wanted. Ask what is due, and tell what failed.

    Parameters:
        found: the addresses of a host, one at least, in the order of preference.
        pace: how they are tried.

    Attributes:
        due_at: when the next attempt is due; infinity if none is before another one fails.
    """

    def __init__(self, found: Iterable[A], pace: Pace) -> None:
        self._left = deque(address_order(found, pace.first))
        self._delay = math.inf if pace.delay is None else pace.delay
        self._all_errors = pace.all_errors
        self._begun = 0
        self._errors: list[OSError] = []
        self.due_at = -math.inf

    def due(self, now: float) -> Iterator[A]:
        """The addresses to which an attempt begins now, which counts as begun."""
        while self._left and now >= self.due_at:
            address = self._left.popleft()
            self.due_at = now + self._delay if self._left else math.inf
            self._begun += 1
            yield address

    def failed(self, error: OSError) -> None:
        """An attempt has failed: the next one is due at once."""
        self._errors.append(error)
        self.due_at = -math.inf if self._left else math.inf

    @property
    def lost(self) -> bool:
        """Whether all attempts have failed, and none is left."""
        return not self._left and len(self._errors) == self._begun

    def error(self) -> Exception:
        """The error that says how all attempts failed; to be asked once."""
        # Who raises it must not be referred to by it, by way of this race: that would be a circle.
        errors, self._errors = self._errors, []
        return ExceptionGroup("create_connection failed", errors) if self._all_errors else combined(errors)


def combined(errors: Sequence[OSError]) -> OSError:
    """One error for several attempts: the first if all have the same text, else one that has all their texts.

    It has the number of the errors, and the class that belongs to it, if they agree in that.
    """
    first = errors[0]
    texts = [str(error) for error in errors]
    if len(set(texts)) == 1:
        return first
    same = len({error.errno for error in errors}) == 1
    return _os_error(first.errno if same else None, f"Multiple exceptions: {', '.join(texts)}")


def naming(error: OSError, address: tuple[Any, ...]) -> OSError:
    """The error of an attempt, with the address in its text: systems and loops don't always give it."""
    if str(address[0]) in str(error):
        return error
    return _os_error(error.errno, f"Connect call failed {address}: {error.strerror or error}")


def _os_error(number: int | None, text: str) -> OSError:
    return OSError(text) if number is None else OSError(number, text)
