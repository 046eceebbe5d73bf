"""Limits of rates: how many messages and bytes may be received in a second, by token buckets.

May know: numbers, ``now`` as an argument, how the options may look. Must not know: connections, who waits.
"""

from __future__ import annotations

import dataclasses
import math
from typing import Any, Final

from .option_checks import Unfit, at_least_one, positive_seconds, strict

__all__ = ["Rates", "RatesInUse", "action", "rate"]

_positive: Final = strict(positive_seconds)
_whole: Final = strict(at_least_one)

Rate = tuple[float, int]


def rate(value: Any) -> Rate:
    """Accept a pair of a number a second, above 0, and of the number that may come at once, 1 or more."""
    if not isinstance(value, tuple | list):
        raise Unfit(TypeError)
    if len(value) != 2:
        raise Unfit(ValueError)
    number = _positive(value[0])
    if math.isinf(number):
        raise Unfit(ValueError)
    return number, _whole(value[1])


def action(value: Any) -> str:
    """Accept what to do beyond the limit: ``"wait"`` or ``"close"``."""
    if not isinstance(value, str):
        raise Unfit(TypeError)
    if value not in ("wait", "close"):
        raise Unfit(ValueError)
    return value


@dataclasses.dataclass(frozen=True, slots=True)
class Rates:
    """The limits, as options.

    Attributes:
        messages: messages a second, and how many may come at once; None for no limit.
        bytes: the same for bytes.
        closes: whether to close a connection beyond a limit.
    """

    messages: Rate | None
    bytes: Rate | None
    closes: bool


# This part of a full bucket, or what is left in it if that is less, may be taken before the next look at the clock.
# Nobody knows when exactly it was taken. In the peer's favor it counts as taken at once after the last look, so that as
# much again may have flowed in since. So a peer may send this part more at once than the limit says.
_UNSEEN: Final = 8

# A number of messages, or of bytes, that never arrives.
_ENDLESS: Final = 2**62


class _Bucket:
    """A token bucket, which is full at first.

    Parameters:
        rate: tokens a second, and how many there may be.

    Attributes:
        granted: how many tokens may be taken before the next call of :meth:`take`.
    """

    __slots__ = ("_at", "_burst", "_rate", "_tokens", "granted")

    def __init__(self, rate: Rate) -> None:
        self._rate, self._burst = rate
        self._tokens = float(self._burst)
        self._at = -math.inf
        self.granted = 0

    def take(self, number: int, now: float) -> float:
        """Take tokens out; return the seconds until there are as many as were taken, 0 if there were enough."""
        before = min(number, self.granted)
        full = min(self._tokens - before + (now - self._at) * self._rate, self._burst)
        self._tokens, self._at = full - (number - before), now
        self.granted = max(min(int(self._tokens), self._burst // _UNSEEN), 0)
        return max(-self._tokens / self._rate, 0)


class RatesInUse:
    """The limits of one connection.

    Parameters:
        rates: the limits.

    Attributes:
        closes: whether to close the connection beyond a limit.
        messages_granted: number of messages since the beginning of the connection beyond which :meth:`take` must be
            called; and bytes_granted: number of bytes since the last call.
    """

    __slots__ = ("_bytes", "_counted", "_messages", "bytes_granted", "closes", "messages_granted")

    def __init__(self, rates: Rates) -> None:
        self.closes = rates.closes
        self._messages = None if rates.messages is None else _Bucket(rates.messages)
        self._bytes = None if rates.bytes is None else _Bucket(rates.bytes)
        self._counted = self.messages_granted = self.bytes_granted = 0

    def take(self, messages: int, size: int, now: float) -> float:
        """Count what was received; return the seconds for which nothing more may be, 0 to go on.

        Parameters:
            messages: number of messages since the beginning of the connection.
            size: number of bytes since the last call.
            now: seconds of any monotonic clock.
        """
        new, self._counted = messages - self._counted, messages
        wait = 0.0 if self._messages is None else self._messages.take(new, now)
        if self._bytes is not None:
            wait = max(wait, self._bytes.take(size, now))
        self.messages_granted = _ENDLESS if self._messages is None else messages + self._messages.granted
        self.bytes_granted = _ENDLESS if self._bytes is None else self._bytes.granted
        return wait
