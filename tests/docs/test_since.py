"""What the reference marks as new is there, and is what the snapshot of public names says."""

from __future__ import annotations

import importlib
import inspect
import json
from typing import Any

import pytest

from _ext import since


def resolve(name: str) -> Any:
    """The object of a full name."""
    module, _, rest = name.rpartition(".")
    try:
        return getattr(importlib.import_module(module), rest)
    except ImportError:
        return getattr(resolve(module), rest)


def test_new_members_are_there() -> None:
    for name in since.MEMBERS:
        owner, _, member = name.rpartition(".")
        cls = resolve(owner)
        assert hasattr(cls, member) or member in cls.__annotations__, name


def test_new_parameters_are_there() -> None:
    for name, parameters in since.PARAMETERS.items():
        assert set(parameters) <= set(inspect.signature(resolve(name)).parameters), name


def test_the_list_is_about_older_names() -> None:
    snapshot = json.loads(since.SNAPSHOT.read_text("utf-8"))
    for name in since.NEW:
        module, _, last = name.rpartition(".")
        assert snapshot[module][last]["since"] == since.BEFORE


def test_what_all_front_ends_have_is_new_in_all() -> None:
    """The same members and parameters in the front-ends, apart from those that only one has."""
    of = {
        name: set(since.PARAMETERS[f"websockets.{name}"])
        for name in ("asyncio.server.serve", "sync.server.serve", "trio.server.serve")
    }
    assert of["trio.server.serve"] == of["asyncio.server.serve"] & of["sync.server.serve"]


@pytest.mark.parametrize(
    ("listed", "found"),
    [
        ("", []),
        ("(a b)", [("", ["a", "b"])]),
        ("x y(z) w", [("x", []), ("y", ["z"]), ("w", [])]),
    ],
)
def test_lists(listed: str, found: list[tuple[str, list[str]]]) -> None:
    assert [*since.members(listed)] == found


def test_marks() -> None:
    lines = ["Text.", "", ":param a: first", "    and on", ":param b: second", ":returns: a thing"]
    since.mark(lines, ["a", "b", "c"])
    assert lines[3:5] == ["    and on *New in 18.0.*", ":param b: second *New in 18.0.*"]
