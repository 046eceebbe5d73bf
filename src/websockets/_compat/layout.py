"""Memory layout of objects in CPython, for classes with thousands of instances. It has no effect elsewhere.

May know: classes and the names of attributes. Must not know: their purpose.

The instances of a class share one table of attribute names, so that each instance holds only the values. A name enters
the table when an instance first gets the attribute. But each new instance reduces the number of free places, down to
zero. If a server accepts many connections at once, the table is full before the first of them gets its next attribute.
Then each connection needs dictionaries of its own, about 800 bytes each.
"""

from __future__ import annotations

from typing import Any

__all__ = ["share_names"]


def share_names(cls: type[Any], *names: str) -> None:
    """Reserve places for attributes that instances get after ``__init__``. Call it before any instance exists.

    Parameters:
        cls: the class; each derived class has a table of its own.
        names: attributes, in any order. A table holds 30, including those set in ``__init__``.
    """
    new: Any = cls.__new__
    instance = new(cls)
    for name in names:
        # An attribute with a slot needs no place in the table; all attributes of compiled classes have slots.
        if not hasattr(getattr(cls, name, None), "__set__"):
            object.__setattr__(instance, name, None)
