"""Draw the life of a connection from the tables that the library uses.

``python docs/make_lifecycle.py`` prints the drawing; with ``--write`` it is written to ``architecture.md`` in the same
folder, between the two marks. ``tests/docs/test_lifecycle_diagram.py`` fails if the page differs.

May know: the tables of ``websockets._rules.lifecycle`` and the marks in the page. Must not know: the engine that runs
them, so that the page shows only the tables.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from enum import Enum
from typing import TypeVar

from regions import Region
from websockets._rules.lifecycle import (
    PROJECTION,
    REACTIONS,
    RECEIVING,
    SENDING,
    Reaction,
    Receive,
    Receiving,
    Send,
    Sending,
    Side,
)

Half = TypeVar("Half", Receiving, Sending)


def diagram(rows: Mapping[Half, tuple[str | None, ...]], events: Iterable[Enum]) -> Iterator[str]:
    """Yield the lines of a Mermaid state diagram of one half; events with the same effect share an arrow."""
    yield "```mermaid"
    yield "stateDiagram-v2"
    yield f"    [*] --> {next(iter(rows)).name}"
    for before, row in rows.items():
        arrows: dict[str, list[str]] = {}
        for event, after in zip(events, row, strict=True):
            if after is not None:
                arrows.setdefault(after, []).append(event.value)
        for after, labels in arrows.items():
            yield f"    {before.name} --> {after}: {', '.join(labels)}"
    yield "```"


def table(titles: Iterable[str], rows: Iterable[Iterable[str]]) -> Iterator[str]:
    """Yield the lines of a Markdown table."""
    titles = list(titles)
    for row in [titles, ["---"] * len(titles), *rows]:
        yield f"| {' | '.join(row)} |"


def reactions() -> Iterator[str]:
    """Yield the table of automatic answers: a row for each pair of halves that needs one."""
    rows = (
        [receiving.name, sending.name, *(_reaction(reaction) for reaction in row)]
        for (receiving, sending), row in REACTIONS.items()
    )
    return table(["receiving", "sending", *(side.name.lower() for side in Side)], rows)


def _reaction(reaction: Reaction | None) -> str:
    return "–" if reaction is None else reaction.value


def projection() -> Iterator[str]:
    """Yield the table of the public state, in which the first matching row counts."""
    rows = ([_half(receiving), _half(sending), state.name] for receiving, sending, state in PROJECTION)
    return table(["receiving", "sending", "`State`"], rows)


def _half(half: Receiving | Sending | None) -> str:
    return "any" if half is None else half.name


def life() -> list[str]:
    """Return all diagrams and tables."""
    parts = [
        ["What we may still receive:"],
        diagram(RECEIVING, Receive),
        ["What we may still send:"],
        diagram(SENDING, Send),
        ["What is sent without being asked, until no row fits:"],
        reactions(),
        ["The public state, by the first row that fits:"],
        projection(),
    ]
    return ["\n".join(part) for part in parts]


REGION = Region("architecture.md", "lifecycle", life)

if __name__ == "__main__":
    REGION.main()
