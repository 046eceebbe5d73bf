"""The figures of a whole run: what was measured, on what, and how each compares with ours; to JSON and back.

Charter: plain data. Must not know how it is measured or shown.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field

from bench.cases import Case
from bench.contenders import OURS, TWIN
from bench.stats import Summary


@dataclass(frozen=True)
class Row:
    """What one contender needs for one case on one loop.

    Parameters:
        case: the case.
        loop: the event loop.
        contender: name of the contender.
        label: the same for tables.
        summary: the figures; None if it failed.
        error: why it failed.
    """

    case: Case
    loop: str
    contender: str
    label: str
    summary: Summary | None = None
    error: str = ""


@dataclass
class Results:
    """All rows of a run, and its circumstances, each in one line.

    Parameters:
        about: name and value of each circumstance.
        rows: in the order in which they were measured.
    """

    about: dict[str, str] = field(default_factory=dict)
    rows: list[Row] = field(default_factory=list)

    def find(self, case: str, loop: str, contender: str) -> Row | None:
        """The row of a contender, if there is one."""
        for row in self.rows:
            if (row.case.name, row.loop, row.contender) == (case, loop, contender):
                return row
        return None

    def base(self, row: Row) -> float | None:
        """What the same costs us, with the accelerator if it is there."""
        for name in (OURS, TWIN):
            ours = self.find(row.case.name, row.loop, name)
            if ours is not None and ours.summary is not None:
                return ours.summary.cost
        return None

    def ratio(self, row: Row) -> float | None:
        """How many times as much as us a contender needs; above 1, ours is cheaper."""
        base = self.base(row)
        return row.summary.cost / base if base and row.summary is not None else None

    def cases(self, loop: str, group: str) -> list[Case]:
        """The cases of a table."""
        return list({row.case: None for row in self.rows if (row.loop, row.case.group) == (loop, group)})

    def contenders(self, loop: str, group: str) -> dict[str, str]:
        """Name and label of those who take part in a table."""
        return {row.contender: row.label for row in self.rows if (row.loop, row.case.group) == (loop, group)}

    def tables(self) -> Iterator[tuple[str, str]]:
        """Loop and group of each table."""
        yield from {(row.loop, row.case.group): None for row in self.rows}

    def to_json(self) -> str:
        rows = [{**asdict(row), "ratio": self.ratio(row)} for row in self.rows]
        return json.dumps({"about": self.about, "rows": rows}, indent=1, ensure_ascii=False) + "\n"

    @classmethod
    def from_json(cls, text: str) -> Results:
        found = json.loads(text)
        rows = []
        for fields in found["rows"]:
            del fields["ratio"]
            summary = fields.pop("summary")
            case = Case(**fields.pop("case"))
            rows.append(Row(case, summary=None if summary is None else Summary(**summary), **fields))
        return cls(found["about"], rows)
