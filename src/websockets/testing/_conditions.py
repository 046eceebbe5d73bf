"""What a network does to data, in numbers: how long it travels, what is lost, how much a read gives, what fits.

Random numbers come from a generator that the caller gives, so that a seed decides them all. Losses follow the rules of
TCP for retransmission (RFC 6298 section 5).

May know: numbers. Must not know: links, addresses, clocks, event loops.
"""

from __future__ import annotations

import random
from collections.abc import Callable

__all__ = ["CAPACITY", "Chunk", "Delay", "check_conditions", "draw_delay", "draw_retransmissions", "limit_read"]

#: Bytes that fit into one direction of a link, the sender's and the receiver's kernel buffers taken together.
CAPACITY = 64 * 1024

#: Most bytes that a read gives: a number, two numbers between which to draw one each time, or a function of the number
#: of bytes available; None for no limit.
Chunk = int | tuple[int, int] | Callable[[int], int] | None

#: Seconds that a write travels: a number, or two numbers between which to draw one each time.
Delay = float | tuple[float, float]

# TCP waits this many seconds before it sends lost data again. The pause doubles each time, up to a longest one, and
# after a number of attempts TCP gives up. The numbers are those of Linux.
_FIRST_PAUSE, _LONGEST_PAUSE, _RETRIES = 0.2, 120.0, 15


def check_conditions(delay: Delay, loss: float, chunk: Chunk, capacity: int) -> None:
    """Check the conditions of a network, as :class:`~websockets.testing.Network` explains them.

    Raises:
        ValueError: a number makes no sense.
    """
    shortest, longest = delay if isinstance(delay, tuple) else (delay, delay)
    sizes = chunk if isinstance(chunk, tuple) else (1, 1) if chunk is None or callable(chunk) else (chunk, chunk)
    if not 0 <= shortest <= longest:
        raise ValueError(f"delay must be positive or zero, or a range of such numbers: {delay}")
    if not 0 <= loss <= 1:
        raise ValueError(f"loss must be a probability from 0 to 1: {loss}")
    if not 1 <= sizes[0] <= sizes[1]:
        raise ValueError(f"chunk must be positive, or a range of positive numbers: {chunk}")
    if capacity < 1:
        raise ValueError(f"capacity must be positive: {capacity}")


def draw_delay(source: random.Random, delay: Delay) -> float:
    """Return the seconds that one write travels."""
    return source.uniform(*delay) if isinstance(delay, tuple) else delay


def draw_retransmissions(source: random.Random, loss: float) -> tuple[float, bool]:
    """Decide how often TCP sends one write again.

    Parameters:
        source: the random numbers; nothing is drawn if nothing can be lost.
        loss: probability from 0 to 1 that one attempt is lost.

    Returns:
        The seconds that this takes, and whether TCP gives up in the end.
    """
    stall, pause = 0.0, _FIRST_PAUSE
    # A link that loses nothing draws nothing: a seed promises the order of the numbers, too.
    for _ in range(_RETRIES + 1 if loss else 0):
        if source.random() >= loss:
            return stall, False
        stall += pause
        pause = min(2 * pause, _LONGEST_PAUSE)
    return stall, loss > 0


def limit_read(source: random.Random, chunk: Chunk, available: int) -> int:
    """Return how many of the available bytes one read gives: at least 1 if there are any."""
    if chunk is None:
        return available
    if isinstance(chunk, tuple):
        chunk = source.randint(*chunk)
    elif callable(chunk):
        chunk = chunk(available)
    return min(available, max(1, chunk))
