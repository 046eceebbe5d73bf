"""What the package promises: every public name with its signature, its members, and the release that it came with.

Charter: describes the package that can be imported, and compares that with ``public_api.json`` beside it. What programs
of release 17.4 rely on is marked as such. After a change on purpose::

    python tests/compat/surface.py --write

It refuses to lose anything that was promised, unless it is told to with ``--lose``.
"""

from __future__ import annotations

import argparse
import ast
import enum
import importlib
import inspect
import itertools
import json
import pkgutil
import sys
import textwrap
import warnings
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import websockets
from websockets._session.properties import assignable
from websockets.asyncio import _fastpath
from websockets.asyncio._fastpath import _readable
from websockets.version import version

SNAPSHOT = Path(__file__).with_name("public_api.json")

# Names that programs rely on, although no module exports them.
UNEXPORTED = {
    "websockets.asyncio.client": "process_exception",
    "websockets.client": "ClientConnection backoff process_exception",
    "websockets.datastructures": "SupportsKeysAndGetItem",
    "websockets.http11": "RequestParser ResponseParser",
    "websockets.legacy.exceptions": "AbortHandshake InvalidStatusCode RedirectHandshake",
    "websockets.protocol": "Event",
    "websockets.server": "ServerConnection",
    "websockets.trio.client": "process_exception",
    "websockets.typing": "BytesLike DataLike",
    "websockets.utils": "generate_key",
}

# Methods with underscores that programs call, by operators and statements.
SPECIAL = [
    *("__await__", "__aenter__", "__aexit__", "__aiter__", "__enter__", "__exit__", "__iter__", "__str__"),
    *("__len__", "__contains__", "__getitem__", "__setitem__", "__delitem__"),
]


# ----------------------------------------------------------------------------------------------------- what is public


def modules() -> Iterator[ModuleType]:
    """The public modules."""
    yield websockets
    for found in pkgutil.walk_packages(websockets.__path__, "websockets."):
        if not any(part.startswith("_") for part in found.name.split(".")):
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", DeprecationWarning)
                yield importlib.import_module(found.name)


def public_names(module: ModuleType) -> list[str]:
    """The names that a module exports, and those that programs use all the same."""
    names = {*getattr(module, "__all__", ()), *UNEXPORTED.get(module.__name__, "").split()}
    return sorted(name for name in names if not name.startswith("_"))


# -------------------------------------------------------------------------------------------------------- descriptions


def describe(module: ModuleType, name: str) -> dict[str, Any]:
    """Say what a name stands for."""
    value = getattr(module, name)
    if inspect.isclass(value) or inspect.isfunction(value):
        home = f"{value.__module__}.{value.__qualname__}"
        if is_public(value) and home != f"{module.__name__}.{name}":
            return {"same as": home}
    if inspect.isclass(value):
        return describe_class(value)
    if inspect.isfunction(value):
        return {"function": function(value)}
    return {"data": type(value).__name__ if isinstance(value, int | str | bytes) else ""}


def function(value: Any) -> str:
    """How a function is called."""
    is_async = inspect.iscoroutinefunction(value) or inspect.isasyncgenfunction(value)
    return f"{'async ' if is_async else ''}{signature(value)}"


def signature(value: Any) -> str:
    """A signature, without what differs from one process, Python or release to another."""
    found = inspect.signature(value)
    parameters = [each.replace(default=Shown(each.default)) for each in found.parameters.values()]
    return str(found.replace(parameters=parameters))


class Shown:
    """A default as the snapshot shows it."""

    def __new__(cls, default: object) -> Any:
        return default if default is inspect.Parameter.empty else super().__new__(cls)

    def __init__(self, default: object) -> None:
        self.default = default

    def __repr__(self) -> str:
        if isinstance(self.default, enum.Enum):
            return str(self.default.name)
        if isinstance(self.default, str) and "websockets/" in self.default:
            return "<name and version>"
        return str(getattr(self.default, "__name__", repr(self.default)))


def describe_class(cls: type) -> dict[str, Any]:
    """Say what a class is and has."""
    parts = [cls, *private_bases(cls)]
    members = {name: text for part in reversed(parts) for name, text in describe_members(part)}
    result: dict[str, Any] = {"bases": sorted({name_of(base) for part in parts for base in part.__bases__} - {""})}
    if issubclass(cls, enum.Enum):
        return {**result, "values": {member.name: member.value for member in cls}}
    if any("__init__" in vars(part) for part in parts):
        result["init"] = signature(cls.__init__)
    return {**result, "members": dict(sorted(members.items()))}


def is_public(value: Any) -> bool:
    return not any(part.startswith("_") for part in f"{value.__module__}.{value.__qualname__}".split("."))


def private_bases(cls: type) -> Iterator[type]:
    """Bases of ours that are only there to be inherited from: what they have is the class's own."""
    for base in cls.__bases__:
        if base.__module__.startswith("websockets.") and not is_public(base):
            # Compiled classes have no signatures to show; their readable twins have.
            yield _readable.FastPath if base is _fastpath.FastPath else base
            yield from private_bases(base)


def name_of(base: type) -> str:
    return f"{base.__module__}.{base.__qualname__}" if is_public(base) and base is not object else ""


def describe_members(cls: type) -> Iterator[tuple[str, str]]:
    """The members that a class itself defines, each in a line."""
    for name in instance_attributes(cls):
        yield name, "attribute"
    for name, annotation in vars(cls).get("__annotations__", {}).items():
        if not name.startswith("_"):
            yield name, f"attribute: {annotation}"
    for name, value in vars(cls).items():
        if name in SPECIAL or not name.startswith("_"):
            yield name, describe_member(cls, name, value)


def describe_member(cls: type, name: str, value: Any) -> str:
    if isinstance(value, property | assignable):
        assert value.fget is not None
        return f"property{signature(value.fget)}"
    if isinstance(value, classmethod | staticmethod):
        return f"{type(value).__name__} {function(value.__func__)}"
    if inspect.isfunction(value) or inspect.isasyncgenfunction(value):
        return function(value)
    annotation = vars(cls).get("__annotations__", {}).get(name)
    return "attribute" if annotation is None else f"attribute: {annotation}"


def instance_attributes(cls: type) -> Iterator[str]:
    """The public attributes that a constructor sets."""
    if "__init__" not in vars(cls) or "__dataclass_fields__" in vars(cls):
        return
    # Some leave that to another method, which is called with options that were checked already, too.
    constructors = [vars(cls)[name] for name in ("__init__", "_set_up") if name in vars(cls)]
    trees = [ast.parse(textwrap.dedent(inspect.getsource(constructor))) for constructor in constructors]
    for node in itertools.chain.from_iterable(map(ast.walk, trees)):
        if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store) and not node.attr.startswith("_"):
            assert isinstance(node.value, ast.Name)
            if node.value.id == "self":
                yield node.attr


def surface() -> dict[str, dict[str, dict[str, Any]]]:
    """Every public name of the package."""
    return {
        module.__name__: {name: describe(module, name) for name in public_names(module)}
        for module in sorted(modules(), key=lambda module: module.__name__)
    }


# -------------------------------------------------------------------------------------------------------- the snapshot


def read() -> dict[str, Any]:
    """The snapshot: ``surface()``, with the release that each name came with."""
    snapshot: dict[str, Any] = json.loads(SNAPSHOT.read_text("utf-8"))
    return snapshot


def differences(old: Any, new: Any, place: str = "") -> Iterator[str]:
    """What is in the snapshot and is no more, or not as it was, one line each."""
    if not (isinstance(old, dict) and isinstance(new, dict)):
        if old != new:
            yield f"{place}: {new!r}, no more {old!r}"
        return
    for key in old:
        if key != "since" and key not in new:
            yield f"{place}.{key}: is gone"
        elif key != "since":
            yield from differences(old[key], new[key], f"{place}.{key}".removeprefix("."))


def dated(new: dict[str, Any], old: dict[str, Any]) -> dict[str, Any]:
    """``new``, with what ``old`` says of when each name came; others came now."""
    return {
        module: {
            name: {"since": old.get(module, {}).get(name, {}).get("since", version), **entry}
            for name, entry in names.items()
        }
        for module, names in new.items()
    }


def main() -> None:
    """Print what is lost; write the snapshot if asked to."""
    parser = argparse.ArgumentParser(description="Compare the package with the snapshot of its public names.")
    parser.add_argument("--write", action="store_true", help="bring the snapshot up to date")
    parser.add_argument("--lose", action="store_true", help="even if something that was promised is gone")
    arguments = parser.parse_args()
    old, new = read(), surface()
    lost = list(differences(old, new))
    print("\n".join(lost) or "nothing is lost")
    if lost and not arguments.lose:
        sys.exit(1)
    if arguments.write:
        SNAPSHOT.write_text(json.dumps(dated(new, old), indent=1, ensure_ascii=False) + "\n", "utf-8")


if __name__ == "__main__":
    main()
