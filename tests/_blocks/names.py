"""What can be said of code without running it: whether the names, attributes and arguments that it uses are there.

May know: the syntax of Python, and what is importable. Must not know: pages, how programs are run.

It knows no types, with one exception: what a few names stand for, by convention, in all of the documentation.
"""

from __future__ import annotations

import ast
import asyncio
import builtins
import contextlib
import dataclasses
import functools
import importlib
import inspect
import re
import sys
import textwrap
import warnings
from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any

from websockets.asyncio.client import ClientConnection, connect
from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.http11 import Request, Response
from websockets.sync import client as threads_client
from websockets.sync import server as threads_server
from websockets.testing import InMemoryServer
from websockets.testing.threads import InMemoryServer as InMemoryServerOfThreads

__all__ = ["members", "problems"]

_CONNECTION = (ServerConnection, ClientConnection)

CONVENTIONS: dict[str, tuple[type, ...]] = {
    "websocket": _CONNECTION,
    "ws": _CONNECTION,
    "connection": _CONNECTION,
    "server": (Server, InMemoryServer),
    "request": (Request,),
    "response": (Response,),
}

# The same in programs that import something from ``websockets.sync``, or its tests in memory.
_IN_THREADS = (threads_server.ServerConnection, threads_client.ClientConnection)
CONVENTIONS_IN_THREADS = {
    **CONVENTIONS,
    **dict.fromkeys(("websocket", "ws", "connection"), _IN_THREADS),
    "server": (threads_server.Server, InMemoryServerOfThreads),
}

# Where arguments go that aren't named in a signature.
_LOOP = asyncio.BaseEventLoop
PASSED_ON: list[Callable[..., Any]] = [_LOOP.create_connection, _LOOP.create_server]
PASSED_ON_NAMES = {
    *("create_protocol", "extra_headers"),
    *("path", "host", "port", "sock", "ssl"),
    *("proxy_ssl", "proxy_server_hostname", "proxy_ssl_handshake_timeout", "proxy_ssl_shutdown_timeout"),
}


@dataclasses.dataclass(frozen=True)
class Instance:
    """An object of which only the class is known, or a few that it may have."""

    classes: tuple[type, ...]

    def find(self, name: str) -> Any:
        """What the classes have by this name; None if it's an attribute of instances."""
        return next((found for cls in self.classes if (found := getattr(cls, name, None)) is not None), None)


UNKNOWN = object()


def _parse(text: str, name: str = "block") -> ast.Module:
    """Make sure that code compiles, where await and the like may stand at the top level; return its tree."""
    with warnings.catch_warnings():
        # What is a SyntaxWarning now was a DeprecationWarning before Python 3.12.
        warnings.simplefilter("error", SyntaxWarning)
        warnings.simplefilter("error", DeprecationWarning)
        compile(text, name, "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT, dont_inherit=True)
        return ast.parse(text, name)


def problems(text: str, supposed: set[str] | frozenset[str] = frozenset()) -> list[str]:
    """Say what is wrong with code.

    Parameters:
        text: the code.
        supposed: names that it doesn't define.

    Raises:
        SyntaxError: it doesn't compile.
    """
    with warnings.catch_warnings():
        # Names that are deprecated are there.
        warnings.simplefilter("ignore", DeprecationWarning)
        checker = _Checker(_parse(text), supposed)
        return list(dict.fromkeys(checker.check()))


class _Checker:
    def __init__(self, tree: ast.Module, supposed: set[str] | frozenset[str]) -> None:
        self.tree = tree
        self.found: list[str] = []
        self.imported = dict(self._imports())
        self.assigned, self.bound = _bound(tree)
        self.known = self.bound | set(self.imported) | set(supposed) | set(dir(builtins)) | {"__name__", "__file__"}
        self.conventions = {
            name: Instance(classes)
            for name, classes in (CONVENTIONS_IN_THREADS if self._uses_threads() else CONVENTIONS).items()
            if name not in self.assigned and name not in self.imported
        }

    def _uses_threads(self) -> bool:
        modules = (node.module for node in ast.walk(self.tree) if isinstance(node, ast.ImportFrom))
        return any(
            module is not None and module.startswith(("websockets.sync.", "websockets.testing.threads"))
            for module in modules
        )

    def check(self) -> Iterator[str]:
        """Look at every name, attribute and call."""
        for node in ast.walk(self.tree):
            if isinstance(node, ast.Name) and node.id not in self.known | set(self.conventions):
                self.found.append(f"{node.id} is not defined")
            elif isinstance(node, ast.Attribute):
                self.value(node)
            elif isinstance(node, ast.Call):
                self.call(node)
        yield from self.found

    def _imports(self) -> Iterator[tuple[str, Any]]:
        for node in ast.walk(self.tree):
            if isinstance(node, ast.Import):
                for alias in node.names:
                    module = self._module(alias.name)
                    top = self._module(alias.name.partition(".")[0])
                    yield (alias.asname, module) if alias.asname else (alias.name.partition(".")[0], top)
            elif isinstance(node, ast.ImportFrom):
                module = self._module(node.module or "")
                for alias in node.names:
                    yield alias.asname or alias.name, self._member(module, alias.name)

    def _module(self, name: str) -> Any:
        """A module; only those of ours and of the standard library must be there."""
        try:
            return importlib.import_module(name)
        except ImportError:
            if name.partition(".")[0] in {"websockets", *sys.stdlib_module_names}:
                self.found.append(f"there is no module {name}")
            return UNKNOWN

    def _member(self, module: Any, name: str) -> Any:
        if module is UNKNOWN or name == "*":
            return UNKNOWN
        if hasattr(module, name):
            return getattr(module, name)
        return self._module(f"{module.__name__}.{name}")

    def value(self, node: ast.expr) -> Any:
        """What an expression stands for, if that can be told; complains of attributes that aren't there."""
        if isinstance(node, ast.Name):
            if node.id in self.conventions:
                return self.conventions[node.id]
            return UNKNOWN if node.id in self.bound else self.imported.get(node.id, UNKNOWN)
        if not isinstance(node, ast.Attribute):
            return UNKNOWN
        owner = self.value(node.value)
        if isinstance(owner, Instance):
            if not any(node.attr in members(cls) for cls in owner.classes):
                self.found.append(f"{ast.unparse(node)}: there is no such attribute")
            return owner.find(node.attr)
        if isinstance(owner, ModuleType | type):
            if hasattr(owner, node.attr):
                return getattr(owner, node.attr)
            if isinstance(owner, ModuleType) or node.attr not in members(owner):
                self.found.append(f"{ast.unparse(node)}: there is no such name")
        return UNKNOWN

    def call(self, node: ast.Call) -> None:
        """Complain of keyword arguments that a function of ours doesn't have."""
        function = self.value(node.func)
        if not callable(function) or not getattr(function, "__module__", "").startswith("websockets"):
            return
        allowed = arguments(function)
        for keyword in node.keywords:
            if keyword.arg is not None and keyword.arg not in allowed:
                self.found.append(f"{ast.unparse(node.func)}() has no argument {keyword.arg}")


def _bound(tree: ast.Module) -> tuple[set[str], set[str]]:
    """The names that are assigned, and all that are bound in any way but by an import."""
    assigned, bound = set(), set()
    for node in ast.walk(tree):
        match node:
            case ast.Assign(targets=targets):
                assigned |= {each.id for target in targets for each in ast.walk(target) if isinstance(each, ast.Name)}
            case ast.Name(ctx=ast.Store() | ast.Del(), id=name):
                bound.add(name)
            case ast.arg(arg=name) | ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name):
                bound.add(name)
            case ast.ClassDef(name=name) | ast.MatchAs(name=str(name)) | ast.MatchStar(name=str(name)):
                bound.add(name)
            case ast.ExceptHandler(name=str(name)) | ast.MatchMapping(rest=str(name)):
                bound.add(name)
    return assigned, bound | assigned


@functools.cache
def members(cls: type) -> frozenset[str]:
    """What an instance of a class has, be it only declared, or assigned in a method."""
    found = set(dir(cls))
    for base in cls.__mro__:
        found |= set(vars(base).get("__annotations__", ()))
        source = _source(base)
        found |= set(re.findall(r"\bself\.(\w+)\b[^=\n]*=", source))
    return frozenset(found)


def _source(cls: type) -> str:
    """The source of a class; only of its methods, if it says that it is from another module than they are."""
    # What dataclasses make has no source.
    functions = [inspect.unwrap(each) for each in vars(cls).values() if inspect.isfunction(each)]
    methods = [each for each in functions if not each.__code__.co_filename.startswith("<")]
    if any(each.__module__ != cls.__module__ for each in methods):
        return "".join(textwrap.dedent(inspect.getsource(each)) for each in methods)
    with contextlib.suppress(OSError, TypeError):
        return textwrap.dedent(inspect.getsource(cls))
    return ""


@functools.cache
def arguments(function: Callable[..., Any]) -> frozenset[str]:
    """The names of arguments that a function takes."""
    parameters = inspect.signature(function).parameters.values()
    names = {each.name for each in parameters}
    if any(each.kind is each.VAR_KEYWORD for each in parameters):
        names |= PASSED_ON_NAMES | {name for each in PASSED_ON for name in inspect.signature(each).parameters}
        for other in _wrapped(function):
            names |= arguments(other)
    return frozenset(names)


def _wrapped(function: Any) -> Iterator[Any]:
    """What gets the keyword arguments that a function only passes on."""
    if function not in (connect, serve):
        yield from (connect, serve)
