"""The books: what was sent, what arrived, what was lost, and what didn't go as it should.

May know: messages with numbers. Must not know: the library, connections.
"""

from __future__ import annotations

import random
from collections import Counter

__all__ = ["Channel", "Ledger", "make_message", "number_of"]

Message = str | bytes

_NOISE = random.Random(7).randbytes(70_000)
_TEXT = "".join(random.Random(7).choices("abcdefgh {}:,0123456789é\U0001f600", k=30_000))
_SIZES = (0, 3, 50, 50, 200, 200, 1000, 5000, 20_000, 66_000)


def make_message(number: int) -> Message:
    """A message with a number, whose content and type follow from that."""
    size = _SIZES[number * 7919 % 9973 % len(_SIZES)]
    if number % 2:
        return f"{number}:{_TEXT[number % 1000 : number % 1000 + size]}"
    return b"%d:%b" % (number, _NOISE[number % 1000 : number % 1000 + size])


def number_of(message: Message) -> int:
    """The number of a message."""
    if isinstance(message, str):
        return int(message.partition(":")[0])
    return int(message.partition(b":")[0])


class Ledger:
    """All that is counted in a run."""

    def __init__(self) -> None:
        self.sent = 0
        self.received = 0
        self.wrong: list[str] = []
        self.connections: Counter[str] = Counter()
        self.faults: Counter[str] = Counter()
        # Faults that ended otherwise than they should while the machine stood still.
        self.excused = 0
        self.open = 0
        self.most_open = 0

    @property
    def lost(self) -> int:
        """Messages that were sent on connections without a fault and did not arrive."""
        return self.sent - self.received

    def complain(self, what: str) -> None:
        """Note what didn't go as it should."""
        self.wrong.append(what)

    def opened(self) -> None:
        """Count a connection that is open now."""
        self.open += 1
        self.most_open = max(self.most_open, self.open)

    def closed(self) -> None:
        """Count a connection that isn't open any more."""
        self.open -= 1


class Channel:
    """One direction of a connection without a fault: numbered messages, which must arrive in order and unchanged.

    Parameters:
        ledger: where to count.
        first: the number of the first message.
    """

    def __init__(self, ledger: Ledger, first: int = 0) -> None:
        self.ledger = ledger
        self.next_sent = first
        self.next_received = first

    def send(self) -> Message:
        """The next message to send, which from now on counts as sent."""
        message = make_message(self.next_sent)
        self.next_sent += 1
        self.ledger.sent += 1
        return message

    def receive(self, message: Message) -> None:
        """Take in a message; it must be the next one."""
        if message != make_message(self.next_received):
            self.ledger.complain(f"expected message {self.next_received}, not {message[:20]!r}")
        self.next_received += 1
        self.ledger.received += 1
