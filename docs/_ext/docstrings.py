"""Docstrings as pages: their sections, the types of parameters as in the source, and links.

Sphinx would evaluate annotations, and show the definition of an alias instead of its name. Here a type is the text of
the annotation, and each name in it is looked up in the module of the annotation.
"""

from __future__ import annotations

import ast
import enum
import functools
import importlib
import importlib.util
import inspect
import itertools
import pkgutil
import re
import sys
from collections.abc import Iterator
from types import ModuleType
from typing import Any

from docutils import nodes
from sphinx.addnodes import pending_xref
from sphinx.application import Sphinx
from sphinx.domains.python import ObjectEntry, PyObject, PythonDomain
from sphinx.environment import BuildEnvironment
from sphinx.ext.napoleon.docstring import GoogleDocstring

import websockets

# ---------------------------------------------------------------------------------------------------- names and objects


def public_modules() -> Iterator[ModuleType]:
    for found in pkgutil.walk_packages(websockets.__path__, "websockets."):
        if not any(part.startswith("_") for part in found.name.split(".")):
            yield importlib.import_module(found.name)


@functools.cache
def public_objects() -> dict[int, list[str]]:
    """Return the full public names of objects, by their identity."""
    result: dict[int, list[str]] = {}
    for name in vars(websockets)["__all__"]:
        result.setdefault(id(getattr(websockets, name)), []).append(f"websockets.{name}")
    for module in public_modules():
        for name, value in vars(module).items():
            if not name.startswith("_") and not isinstance(value, ModuleType):
                result.setdefault(id(value), []).append(f"{module.__name__}.{name}")
    return result


def follow(value: Any, path: str) -> Any:
    """Return the attribute at a dotted path, or None."""
    for name in path.split("."):
        value = getattr(value, name, None)
    return value


def imported(name: str) -> Any:
    """Return the object with a full name, or None."""
    module, _, rest = name, "", ""
    while module:
        try:
            value = importlib.import_module(module)
        except ImportError:
            module, _, last = module.rpartition(".")
            rest = f"{last}.{rest}" if rest else last
        else:
            return follow(value, rest) if rest else value
    return None


# ---------------------------------------------------------------------------------------------------------------- links


def candidates(node: pending_xref) -> Iterator[str]:
    """Yield the full names that a reference may mean."""
    target = node["reftarget"]
    yield target
    module, cls = node.get("py:module"), node.get("py:class")
    value = follow(sys.modules.get(module), target) if module else None
    for found in (value, imported(target)):
        if found is not None:
            yield from public_objects().get(id(found), ())
    if module and cls:
        for base in getattr(follow(sys.modules[module], cls), "__mro__", ()):
            yield from (f"{name}.{target}" for name in public_objects().get(id(base), ()))
    if "." in target and not target.startswith("websockets.") and imported(target) is not None:
        return  # It is of another package: asyncio.Server isn't our Server.
    # A name that is imported only for type checkers, or under another name, isn't found at run time.
    for end in (target, target.rpartition(".")[2]):
        for names in public_objects().values():
            yield from (name for name in names if name.endswith(f".{end}"))


def is_internal(node: pending_xref) -> bool:
    """Return whether a reference leads to an object that exists, but that the reference doesn't describe."""
    owner, _, member = node["reftarget"].rpartition(".")
    module, cls = node.get("py:module"), owner or node.get("py:class")
    found = follow(sys.modules[module], cls) if module and cls else imported(owner)
    described = re.search(rf"^ +(\w+, )*{member}(, \w+)*: ", getattr(found, "__doc__", None) or "", re.MULTILINE)
    return described is not None or hasattr(found, member) or member in internal_names()


@functools.cache
def internal_names() -> set[str]:
    """Return the names of our private classes, which only annotations mention."""
    modules = [module for name, module in sys.modules.items() if name.startswith("websockets.")]
    return {
        name
        for module in modules
        for name, value in vars(module).items()
        if inspect.isclass(value) and value.__module__.startswith("websockets.") and id(value) not in public_objects()
    }


def resolve(app: Sphinx, env: BuildEnvironment, node: pending_xref, child: nodes.Element) -> nodes.Element | None:
    """Resolve references that Sphinx can't: aliases, other public names of an object, members of base classes."""
    if node.get("refdomain") != "py":
        return None
    domain = env.domains.python_domain
    for name in candidates(node):
        if name in domain.objects:
            return domain.resolve_xref(env, node["refdoc"], app.builder, "obj", name, node, child)
    return child if is_internal(node) else None


class Names(PythonDomain):
    """Names of Python as Sphinx knows them, where each front-end has names that the others have, too."""

    def note_object(self, name: str, objtype: str, node_id: str, aliased: bool = False, location: Any = None) -> None:
        """Note a described object, but not under its name in a private module: several modules may describe it."""
        if not (aliased and "._" in name):
            super().note_object(name, objtype, node_id, aliased, location)

    def find_obj(self, *args: Any) -> list[tuple[str, ObjectEntry]]:
        """Find the objects that a name may mean: those next to the module of the reference; Sphinx warns of several."""
        found = super().find_obj(*args)
        _, module, _, name = args[:4]
        distances = [distance(full, module or "", name) for full, _ in found]
        return [entry for entry, each in zip(found, distances, strict=True) if each == min(distances)]


def distance(full: str, module: str, name: str) -> tuple[bool, int, bool]:
    """Return how far an object is from a module that mentions it by a short name; compare the results.

    Next is what the module has by this name. A name that is imported only for type checkers is one of the front-end
    that the module belongs to. Other modules mean the front-end for asyncio.
    """
    here = follow(sys.modules.get(module), name)
    common = itertools.takewhile(lambda pair: pair[0] == pair[1], zip(full.split("."), module.split("."), strict=False))
    asyncio = full.startswith("websockets.asyncio.")
    return full not in public_objects().get(id(here), ()), -len([*common]), not asyncio


# ---------------------------------------------------------------------------------------------------------------- types


@functools.cache
def private_aliases(module: str) -> dict[str, str]:
    """Return the private type aliases of a module, with their definitions."""
    result: dict[str, str] = {}
    package = importlib.import_module(module).__package__
    for node in ast.parse(inspect.getsource(sys.modules[module])).body:
        if isinstance(node, ast.ImportFrom) and node.level and node.module:
            found = private_aliases(importlib.util.resolve_name("." * node.level + node.module, package))
            names = {alias.name for alias in node.names}
            result |= {name: text for name, text in found.items() if name in names}
        elif isinstance(node, ast.Assign) and is_alias(node.targets[0], module):
            result[ast.unparse(node.targets[0])] = ast.unparse(node.value).replace("'", "")
    return result


def is_alias(target: ast.expr, module: str) -> bool:
    """Return whether the target of an assignment is an alias that the reference doesn't describe."""
    name = ast.unparse(target)
    return re.match(r"_?[A-Z]\w*[a-z]\w*$", name) is not None and f"{module}.{name}" not in described()


def described() -> set[str]:
    """Return the full names that pages describe."""
    return exported() | {f"websockets.typing.{name}" for name in vars(websockets.typing)}


@functools.cache
def exported() -> set[str]:
    """Return the full names that modules export, and that are therefore described."""
    return {f"{module.__name__}.{name}" for module in public_modules() for name in getattr(module, "__all__", ())}


def type_text(annotation: object, module: str) -> str:
    """Return an annotation as in the source, with private aliases replaced by their definitions."""
    text = annotation if isinstance(annotation, str) else inspect.formatannotation(annotation)
    aliases = private_aliases(module)
    while (expanded := re.sub(r"\b\w+\b", lambda found: aliases.get(found[0], found[0]), text)) != text:
        text = expanded
    return text


def signature_of(obj: object) -> inspect.Signature | None:
    try:
        return inspect.signature(obj)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        return None


def types(obj: Any, described: str) -> Iterator[str]:
    """Yield the fields for the types of the parameters that a docstring describes."""
    signature = signature_of(obj)
    if signature is None:
        return
    home = inspect.unwrap(obj.__init__ if inspect.isclass(obj) else obj)
    # A class that is public in another module than its own uses the names of that module.
    own = inspect.isclass(obj) and "__init__" in vars(obj)
    module = obj.__module__ if own else getattr(home, "__module__", None) or obj.__module__
    for name, parameter in signature.parameters.items():
        if parameter.annotation is not parameter.empty and re.search(rf"^:param \\?\*?\\?\*?{name}:", described, re.M):
            stars = {"VAR_POSITIONAL": r"\*", "VAR_KEYWORD": r"\*\*"}.get(parameter.kind.name, "")
            yield f":type {stars}{name}: {type_text(parameter.annotation, module)}"
    if re.search("^:returns?:", described, re.M) and signature.return_annotation is not signature.empty:
        yield f":rtype: {type_text(signature.return_annotation, module)}"


def type_of_attribute(name: str, obj: Any) -> str | None:
    """Return the type of an attribute or a property, from its annotation."""
    owner = imported(name.rpartition(".")[0])
    if isinstance(obj, property):
        annotation, module = inspect.signature(obj.fget).return_annotation, obj.fget.__module__
        return None if annotation is inspect.Signature.empty else type_text(annotation, module)
    for cls in getattr(owner, "__mro__", ()):
        annotation = vars(cls).get("__annotations__", {}).get(name.rpartition(".")[2])
        if annotation is not None:
            return type_text(annotation, cls.__module__)
    return None


def linked(text: str) -> str:
    """Return a type as markup, with a link for each name."""
    return re.sub(r"[A-Za-z_][\w.]*", r"\\ :py:class:`\g<0>`\\ ", text.replace("...", "…"))


# ----------------------------------------------------------------------------------------------------------- docstrings


# Modules whose docstrings are for users, too. Other modules have docstrings for developers, and an introduction in the
# page.
INTRODUCED = {"websockets.exceptions", "websockets.testing"}


def introduction(lines: list[str]) -> list[str]:
    """Return the docstring of a module without the charter ("May know"), which is for developers."""
    text = "\n".join(lines)
    return re.sub(r"^May know: .*?(\n\n|\Z)", "", text, flags=re.DOTALL | re.MULTILINE).split("\n")


def bases(cls: type) -> Iterator[str]:
    """Yield the public base classes of a class, including those behind private ones."""
    for base in cls.__bases__:
        if names := [name for name in public_objects().get(id(base), ()) if name in exported()]:
            yield names[0]
        elif base.__module__ == "builtins" and base is not object:
            yield base.__name__
        elif base.__module__.startswith("websockets."):
            yield from bases(base)


def add_types(lines: list[str], fields: list[str]) -> None:
    """Put the fields for types next to the parameters, which other text may follow."""
    of_parameters = [field for field in fields if field.startswith(":type ")]
    of_result = [field for field in fields if field.startswith(":rtype")]
    if of_result:
        at = index(lines, ":return") + 1
        while at < len(lines) and lines[at].startswith(" "):
            at += 1
        lines[at:at] = of_result
    if of_parameters:
        at = index(lines, ":param ")
        lines[at:at] = of_parameters


def index(lines: list[str], start: str) -> int:
    return next(at for at, line in enumerate(lines) if line.startswith(start))


def one_by_one(text: str) -> str:
    """Split a description of several attributes into one for each."""
    return re.sub(
        r"^:ivar (\w+(?:, \w+)+):(.*\n(?:[ ].*\n?|\n(?=[ ]))*)",
        lambda found: "".join(f":ivar {name}:{found[2]}" for name in found[1].split(", ")),
        text + "\n",
        flags=re.MULTILINE,
    )


def process(app: Sphinx, what: str, name: str, obj: Any, options: object, lines: list[str]) -> None:
    """Convert the sections of a docstring to fields."""
    if what == "module":
        lines[:] = introduction(lines) if name in INTRODUCED else []
        return
    # Napoleon would treat text before a colon in the docstring of an attribute as a type, which is wrong here.
    kind = "object" if what in ("attribute", "data", "property") else what
    lines[:] = GoogleDocstring(lines, app.config, app, kind, name, obj, options).lines()
    lines[:] = [*one_by_one("\n".join(lines)).rstrip().split("\n"), ""]
    if kind == "object" and (text := type_of_attribute(name, obj)):
        lines[:] = [*lines, f":Type: {linked(text)}", ""]
    elif callable(obj):
        add_types(lines, [*types(obj, "\n".join(lines))])
    if inspect.isclass(obj) and issubclass(obj, enum.Enum):
        lines += [*(f"- ``{member.name}`` = {member.value!r}" for member in obj), ""]
    if inspect.isclass(obj) and (derived := ", ".join(f":py:class:`~{base}`" for base in bases(obj))):
        lines[:] = [f"Derived from {derived}.", "", *lines]


def shorten(app: Sphinx, what: str, name: str, obj: Any, *rest: Any) -> tuple[str, None] | None:
    """Omit the signature of an enumeration, because its members are listed."""
    return ("", None) if inspect.isclass(obj) and issubclass(obj, enum.Enum) else None


def setup(app: Sphinx) -> dict[str, bool]:
    app.setup_extension("sphinx.ext.autodoc")
    app.setup_extension("sphinx.ext.napoleon")
    # The code above calls the classes of Napoleon, so Sphinx must not.
    app.config.napoleon_google_docstring = app.config.napoleon_numpy_docstring = False
    for field in PyObject.doc_field_types:
        if field.name == "variable":
            field.label = "Attributes"
    app.connect("autodoc-process-docstring", process)
    app.connect("autodoc-process-signature", shorten)
    app.connect("missing-reference", resolve)
    app.add_domain(Names, override=True)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
