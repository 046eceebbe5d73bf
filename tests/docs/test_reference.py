"""The reference has every public name, with a description, and its members with theirs."""

from __future__ import annotations

import ast
import inspect
import itertools
import re
import textwrap
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

from _kit.each import for_each
from compat import surface
from websockets._session.properties import assignable

DOCS = Path(__file__).parents[2] / "docs"
DIRECTIVES = re.findall(
    r"^\.\. auto(\w+):: (websockets[\w.]*)$",
    "".join(page.read_text("utf-8") for page in sorted(DOCS.glob("reference/**/*.md"))),
    re.MULTILINE,
)

# Modules that only have names of other modules, for those who look for them there.
OF_OTHERS = {
    "websockets",
    "websockets.asyncio",
    "websockets.trio",
    "websockets.auth",
    "websockets.connection",
    "websockets.legacy",
}


def described() -> Iterator[tuple[str, str]]:
    """The names that the reference describes, each with its module."""
    for kind, path in DIRECTIVES:
        if kind == "module":
            yield from ((path, name) for name in vars(import_module(path))["__all__"])
        else:
            module, _, name = path.rpartition(".")
            yield module, name


DESCRIBED = sorted(set(described()))
CLASSES = [(module, name) for module, name in DESCRIBED if inspect.isclass(getattr(import_module(module), name))]


# What ClientProtocol and ServerProtocol were called once, and warns.
OLD = ["websockets.client.ClientConnection", "websockets.server.ServerConnection"]


def attributes_described(source: str) -> set[str]:
    """The names that are assigned or declared, and followed by a string that says what they are."""
    body = ast.parse(textwrap.dedent(source)).body
    if len(body) == 1 and isinstance(body[0], ast.ClassDef):
        body = body[0].body
    found = set()
    for node, after in itertools.pairwise(body):
        if isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant) and isinstance(after.value.value, str):
            if isinstance(node, ast.Assign):
                found |= {each.id for target in node.targets for each in ast.walk(target) if isinstance(each, ast.Name)}
            elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
                found.add(node.target.id)
    return found


def test_every_name_is_in_the_list() -> None:
    page = (DOCS / "reference.md").read_text("utf-8")
    sections = re.findall(r"^## `([\w.]+)`\n(.*?)(?=^## )", page, re.DOTALL | re.MULTILINE)
    lists = [
        (home, "".join(re.findall(r"^- (`\w+`(?:, `\w+`)*)", section, re.MULTILINE))) for home, section in sections
    ]
    names = [(home, name) for home, text in lists for name in re.findall(r"\w+", text)]
    assert len(names) == len(set(names))
    # The interface of extensions is listed where it is imported from.
    assert not {(module.removesuffix(".base"), name) for module, name in DESCRIBED} - set(names)


def test_every_module_is_in_the_reference() -> None:
    modules = {module.__name__ for module in surface.modules() if surface.public_names(module)}
    whole = {path for kind, path in DIRECTIVES if kind == "module"}
    # The interface of extensions is described where it is defined; deprecated names are listed one by one.
    assert modules - OF_OTHERS - whole == {"websockets.extensions", "websockets.legacy.exceptions"}


def test_every_public_name_is_in_the_reference() -> None:
    known = {id(getattr(import_module(module), name)) for module, name in DESCRIBED}
    missing = [
        f"{module.__name__}.{name}"
        for module in surface.modules()
        for name in surface.public_names(module)
        if id(getattr(module, name)) not in known
    ]
    assert missing == OLD


@for_each(DESCRIBED)
def test_every_name_has_a_description(module: str, name: str) -> None:
    value: Any = getattr(import_module(module), name)
    if inspect.isclass(value) or inspect.isfunction(value):
        assert value.__doc__
    else:
        assert name in attributes_described(inspect.getsource(import_module(module)))


@for_each(CLASSES)
def test_every_member_has_a_description(module: str, name: str) -> None:
    cls = getattr(import_module(module), name)
    bare = [
        member
        for member, value in vars(cls).items()
        if not member.startswith("_")
        and (inspect.isfunction(value) or isinstance(value, property | assignable | classmethod | staticmethod))
        and not inspect.getdoc(getattr(cls, member))
    ]
    assert bare == []
