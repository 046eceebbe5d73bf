"""What a target of the fuzzer is, and what all of them need.

May know: bytes, exceptions. Must not know: the library, the engines, where inputs come from.

A target takes any bytes and checks an invariant: it returns if that holds and raises if not, whatever the input. The
first bytes of an input may be settings, such as how the rest is cut into reads; :class:`Reader` takes them off.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

__all__ = ["Reader", "Target", "alike", "chunkings", "outcome", "require", "shown"]

# Inputs up to this many bytes are also tried a byte at a time.
BYTEWISE_UP_TO = 700

# Errors quote a line of the peer at most, which has 8 KiB at most, with four or six characters for one of them.
LONGEST_ERROR = 50_000


class Target(NamedTuple):
    """One thing to fuzz.

    Attributes:
        name: what it is called on the command line, and its corpus.
        check: raises if the invariant doesn't hold for an input.
        words: pieces that inputs are likely to be made of.
        limit: bytes of the longest input worth trying.
        settings: bytes that an input begins with before what its words are for.
    """

    name: str
    check: Callable[[bytes], None]
    words: tuple[bytes, ...]
    limit: int = 2048
    settings: int = 0


class Broken(AssertionError):
    """An invariant that doesn't hold. Not an ``assert``: those of the library itself must be told from ours."""


def require(holds: object, *what: object) -> None:
    """Say that an invariant is broken unless it holds, with what there is to say about it."""
    if not holds:
        raise Broken("; ".join(repr(item) for item in what))


class Reader:
    """Takes settings off the front of an input; past its end, all of them are 0."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.at = 0

    def byte(self) -> int:
        """The next byte."""
        self.at += 1
        return self.data[self.at - 1] if self.at <= len(self.data) else 0

    def number(self) -> int:
        """The next two bytes."""
        return self.byte() << 8 | self.byte()

    def choose(self, items: Any) -> Any:
        """One of some items."""
        return items[self.byte() % len(items)]

    def take(self, size: int) -> bytes:
        """At most so many bytes."""
        taken = self.data[self.at : self.at + size]
        self.at += size
        return taken

    def rest(self) -> bytes:
        """All that is left."""
        return self.take(max(len(self.data) - self.at, 0))

    def __bool__(self) -> bool:
        """Whether anything is left."""
        return self.at < len(self.data)


def chunkings(data: bytes, seed: int) -> Iterator[list[bytes]]:
    """The same bytes in several ways: in one piece, a byte at a time, and cut at random.

    Parameters:
        data: what arrives.
        seed: which of the random ways; those of one seed are always the same.
    """
    yield [data]
    if len(data) <= BYTEWISE_UP_TO:
        yield [data[index : index + 1] for index in range(len(data))]
    yield cut(data, seed)


def cut(data: bytes, seed: int) -> list[bytes]:
    """Cut at random, in pieces that are short, or long, or both."""
    chance = random.Random(seed)
    pieces = []
    at = 0
    while at < len(data):
        size = chance.choice((1, 2, 3, 7, 50, 500))
        pieces.append(data[at : at + size])
        at += size
    return pieces


def outcome(expected: tuple[type[BaseException], ...], function: Callable[..., Any], *arguments: Any) -> Any:
    """What a call returned or raised, in a form that can be compared.

    Parameters:
        expected: the exceptions that the call may raise, themselves and not what derives from them.
        function: what to call.
        arguments: with what.

    Raises:
        BaseException: any exception that wasn't expected.
    """
    try:
        return "returned", function(*arguments)
    except expected as exc:
        if type(exc) not in expected:
            raise
        return "raised", shown(exc)


def shown(exc: BaseException | None) -> tuple[str, str] | None:
    """An exception as people see it, which must be short and in one printable line."""
    if exc is None:
        return None
    text = str(exc)
    require(text.isprintable() and len(text) <= LONGEST_ERROR, "an error that doesn't fit a line", type(exc), text)
    return type(exc).__name__, text


def alike(results: list[Any], *what: object) -> Any:
    """Require that all results are the same; return it."""
    for result in results[1:]:
        require(result == results[0], "not the same", results[0], result, *what)
    return results[0]
