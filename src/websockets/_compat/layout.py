"""How CPython lays out objects that there are thousands of. Other implementations have no use for it, nor harm from it.

May know: classes and the names of attributes. Must not know: what these are for.

The instances of a class share one table of the names of their attributes, so that each holds nothing but the values. A
name takes its place in the table when an instance first has it; yet with every instance made, one free place less is
left, up to none. A server that accepts many connections at once would find the table closed when the first of them
is ready for its next attribute, and each connection would get dictionaries of its own, some 800 bytes each.
"""

from __future__ import annotations

from typing import Any

__all__ = ["share_names"]


def share_names(cls: type[Any], *names: str) -> None:
    """Reserve places for attributes which instances get after they were made, before any instance is made.

    Parameters:
        cls: the class; a class derived from it has a table of its own.
        names: attributes, in any order; 30 for a class are what a table holds, those set in ``__init__`` included.
    """
    new: Any = cls.__new__
    instance = new(cls)
    for name in names:
        # What has a slot, as attributes of compiled classes do, needs no place in the table.
        if not hasattr(getattr(cls, name, None), "__set__"):
            object.__setattr__(instance, name, None)
