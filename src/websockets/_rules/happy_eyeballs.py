"""Happy Eyeballs: the order in which the addresses of a host are tried, and the start of each attempt (RFC 8305).

May know: addresses and errors from the operating system. Must not know: how names are looked up or connections made;
``now`` is an argument.

A name may have several addresses, and some may not work: a broken IPv6 network drops everything that is sent to it. So
attempts begin one after the other, with a short delay, or at once when one has failed. The first successful attempt is
the connection, and the others are abandoned.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Hashable, Iterable, Iterator, Sequence
from typing import Any, Final, Generic, NamedTuple, Self, TypeVar

__all__ = ["ATTEMPT_DELAY", "Pace", "Race", "address_order", "combined", "naming", "with_zone"]

# RFC 8305 section 8: the delay between two attempts, in seconds.
ATTEMPT_DELAY: Final = 0.25

# An address: a tuple that begins with its family.
A = TypeVar("A", bound=tuple[Hashable, ...])


class Pace(NamedTuple):
    """Settings for trying the addresses of a host.

    Attributes:
        delay: seconds between attempts; None to begin one only when all before it have failed.
        first: number of addresses of the preferred family to try before families alternate; 0 to keep the order of
            the look-up.
        all_errors: whether a failure is an exception group with the error of each attempt.
    """

    delay: float | None = ATTEMPT_DELAY
    first: int = 1
    all_errors: bool = False

    @classmethod
    def taken_from(cls, arguments: dict[str, Any]) -> Self:
        """Remove the settings from arguments of asyncio's ``create_connection``, and return them."""
        delay = arguments.pop("happy_eyeballs_delay", ATTEMPT_DELAY)
        first = arguments.pop("interleave", None)
        # As in asyncio: without a delay, the order of the look-up is kept.
        first = int(delay is not None) if first is None else first
        return cls(delay, first, arguments.pop("all_errors", False))


def address_order(found: Iterable[A], first: int) -> list[A]:
    """Return the addresses of a host in the order in which to try them, without duplicates (RFC 8305 section 4).

    Parameters:
        found: the addresses from the look-up, in the order of preference.
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
    """A series of attempts to connect, until one succeeds. Ask which attempts are due, and report which failed.

    Parameters:
        found: the addresses of a host, at least one, in the order of preference.
        pace: settings for trying them.

    Attributes:
        due_at: time of the next attempt; infinity if it must wait for a failure.
    """

    def __init__(self, found: Iterable[A], pace: Pace) -> None:
        self._left = deque(address_order(found, pace.first))
        self._delay = math.inf if pace.delay is None else pace.delay
        self._all_errors = pace.all_errors
        self._begun = 0
        self._errors: list[OSError] = []
        self.next_timeout = -math.inf

    def due(self, now: float) -> Iterator[A]:
        """Yield the addresses to which an attempt is due now; each attempt counts as begun.

        Parameters:
            now: the time in seconds, on the clock of ``due_at``.
        """
        while self._left and now >= self.next_timeout:
            address = self._left.popleft()
            self.next_timeout = now + self._delay if self._left else math.inf
            self._begun += 1
            yield address

    def failed(self, error: OSError) -> None:
        """Report a failed attempt: the next one is due at once."""
        self._errors.append(error)
        self.next_timeout = -math.inf if self._left else math.inf

    @property
    def lost(self) -> bool:
        """Whether all attempts have failed, and no address is left."""
        return not self._left and len(self._errors) == self._begun

    def error(self) -> Exception:
        """Return the exception for the failure of all attempts. Call it only once."""
        # This object must not keep the errors: with their tracebacks, that would be a reference cycle.
        errors, self._errors = self._errors, []
        return ExceptionGroup("create_connection failed", errors) if self._all_errors else combined(errors)


def combined(errors: Sequence[OSError]) -> OSError:
    """Return one error for several attempts: the first if all have the same text, else one with all their texts.

    If all errors have the same ``errno``, the result has it too, with the matching class.
    """
    first = errors[0]
    texts = [str(error) for error in errors]
    if len(set(texts)) == 1:
        return first
    same = len({error.errno for error in errors}) == 1
    return _os_error(first.errno if same else None, f"Multiple exceptions: {', '.join(texts)}")


def naming(error: OSError, address: tuple[Any, ...]) -> OSError:
    """Return the error of an attempt with the address in its text, as not every system or loop adds it."""
    if str(address[0]) in str(error):
        return error
    return _os_error(error.errno, f"Connect call failed {address}: {error.strerror or error}")


def _os_error(number: int | None, text: str) -> OSError:
    return OSError(text) if number is None else OSError(number, text)
