"""The house holds: floors, the direction of imports, who may wait, and the house numbers.

Everything here reads the source with ``ast``; nothing is imported from it.
"""

from __future__ import annotations

import ast
import dataclasses
import functools
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from _kit.each import for_each

ROOT = Path(__file__).parents[2]
SOURCE = ROOT / "src" / "websockets"

# The floors, from the top: each is a folder, or files that belong together. A module imports from lower floors, and
# from lower rows of its own floor; ``__init__`` is the package itself.
FLOORS: dict[str, tuple[str, ...]] = {
    "shell": ("__init__ __main__ auth connection utils",),
    "command": (
        "cli",
        "cli._bench cli._serve",
        "cli._client",
        "cli._again",
        "cli._ping cli._talk",
        "cli._facts cli._format cli._target cli._workers",
        "cli._advice cli._arguments cli._latency cli._screen cli._signals cli._status",
    ),
    "legacy": (
        "legacy.auth legacy.server",
        "legacy._server_side legacy.client",
        "legacy legacy.exceptions legacy.framing legacy.handshake legacy.http legacy.protocol",
    ),
    "testing": (
        "testing testing.threads testing.trio",
        "testing._in_memory testing._threads_network testing._trio_network",
        "testing._loop",
        "testing._asyncio_network",
        "testing._asyncio_server",
        "testing._asyncio_tls",
        "testing._network testing._transport",
        "testing._link",
        "testing._addresses testing._conditions testing._scheduler",
    ),
    "gateway": ("asgi",),
    "facade": ("anyio",),
    "rooms": ("rooms", "rooms._nats rooms._redis", "rooms._brokered", "rooms._hub"),
    "front-ends": (
        "asyncio.router sync.router",
        "asyncio.server sync.server",
        "asyncio._proxy_protocol",
        "asyncio._serving sync._serving",
        "asyncio._broadcast asyncio._shutdown asyncio.client sync._broadcast sync._shutdown sync.client",
        "asyncio.connection sync.connection",
        "asyncio._session_transport sync._receiving",
        "sync._stewarded",
        "sync._session_socket",
        "asyncio._fastpath asyncio._proxy sync._proxy sync._sending",
        "asyncio._secure sync._fastpath",
        "asyncio._dial asyncio._fastpath._readable sync._fastpath._readable asyncio._loops sync._auth "
        "asyncio._tls_transport sync._bridge sync._dial sync._listening sync._secured sync._steward sync._wire",
        "asyncio asyncio._handshakes asyncio._internals sync._hooks sync._line",
        "sync sync._roles sync._system",
        "trio.router",
        "trio.server",
        "trio._serving",
        "trio._server_connection trio.client",
        "trio._arrival trio._broadcast trio._proxy trio._supervisor",
        "trio.connection trio._dial",
        "trio._session_stream",
        "trio._wire",
        "trio",
    ),
    "awaiting": ("_awaiting.basic_auth", "_awaiting _awaiting.hooks"),
    "session": (
        "_session.client_session _session.connector",
        "_session.answering _session.redirects",
        "_session.options _session.server_session",
        "_session.basic_auth _session.properties _session.routing _session.session _session.tls_in_tls",
        "_session.tls",
        "_session _session.arriving _session.broadcast _session.fragments _session.hooks _session.intake "
        "_session.log_lines _session.outbox _session.reading _session.reconnection _session.registry _session.relay "
        "_session.rooms _session.tls_records _session.tls_states _session.tunnel",
    ),
    "protocol": (
        "client server",
        "protocol",
        "protocol._port protocol._prepared proxy",
    ),
    "rules": (
        "_rules.carrier_http11 _rules.option_table",
        "_rules.carrier _rules.rates _rules.thread_checks _rules.tls_transports",
        "_rules.decompressed _rules.option_checks _rules.refusals _rules.rejection",
        "_rules _rules.addresses _rules.asgi _rules.capacity _rules.date _rules.deadlines _rules.failures "
        "_rules.handshake _rules.happy_eyeballs _rules.lifecycle _rules.messages _rules.statistics",
    ),
    "extensions": (
        "extensions.permessage_deflate",
        "extensions extensions._deflate",
        "extensions.base extensions._libraries",
    ),
    "values": (
        "http11",
        "datastructures._shortcuts headers",
        "datastructures frames http11._bodies uri",
    ),
    "words": ("exceptions typing version",),
    "codec": (
        "_codec._python",
        "_codec _codec.fields _codec.header _codec.proxy_protocol",
        "_compat _compat.deprecated _compat.environment _compat.layout",
    ),
}
# It may not be there; what it has is what its readable twins have.
COMPILED = "_codec._native"
# Where a module stands, counted from the top: its floor, its row. Who imports stands before who is imported.
PLACE_OF = {
    module: (floor, row)
    for floor, rows in enumerate(FLOORS.values())
    for row, modules in enumerate(rows)
    for module in modules.split()
}
FLOOR_OF = {module: list(FLOORS)[floor] for module, (floor, _) in PLACE_OF.items()}
PLACE_OF[COMPILED] = PLACE_OF["_codec._python"]
FLOOR_OF[COMPILED] = "codec"

FRONT_ENDS = {"asyncio", "sync", "trio"}
ABOVE_FRONT_ENDS = {"shell", "command", "legacy", "testing", "gateway", "facade", "rooms"}
# The floors on which something may wait.
WAITING_FLOORS = ABOVE_FRONT_ENDS | {"front-ends", "awaiting"}

# Modules of the standard library that wait, open sockets, start threads or read a clock: not below the front-ends...
WAITING = {
    "_thread", "asyncio", "concurrent", "datetime", "multiprocessing", "queue", "sched", "select", "selectors",
    "signal", "socket", "socketserver", "ssl", "subprocess", "threading", "time",
}  # fmt: skip

# ...with these exceptions, each for one reason.
ALLOWED = {
    ("_session.reconnection", "datetime"): "names the time zone of a date in Retry-After",
    ("_session.tls", "ssl"): "encrypts between buffers in memory, which never wait",
    ("_codec._python", "threading"): "keeps a buffer of masks for each thread",
    ("_rules.date", "time"): "dates a response, which users make too",
    ("_session.log_lines", "time"): "tells how long a connection was open, as logging itself tells the time",
}

# Link and network in memory, for every front-end: these modules import nothing of ours but one another, and of what is
# listed above only the socket module, for its constants and its exception.
CORE_OF_TESTING = {f"testing.{name}" for name in ("_addresses", "_conditions", "_link", "_network", "_scheduler")}
CORE_IMPORTS = {"socket"}

# A module imported by its name in a string doesn't show here, so only those may do it that must.
# (The command imports the handler that the user names.)
IMPORT_BY_NAME = {
    *("__init__", "_codec", "_compat.deprecated", "asyncio", "cli._serve", "extensions", "extensions._libraries"),
    *("legacy", "sync", "testing", "trio"),
}

# Other packages that may be there: each is asked for by one module, inside functions.
OPTIONAL = {
    "_session.routing": {"werkzeug"},
    "anyio": {"anyio", "trio"},
    "asyncio._proxy": {"python_socks"},
    "asyncio._secure": {"aiofastnet"},
    "rooms._nats": {"nats"},
    "rooms._redis": {"redis"},
    "sync._proxy": {"python_socks"},
    "trio._proxy": {"python_socks"},
}

# Private names that belong to another folder: the module that uses them, the name, and why it may. There is no public
# way, as it would be a promise to everybody, or would cost something for every message.
BORROWED = {
    ("_session.options", "_of"): "the protocols of many connections share options that were checked once",
    ("asyncio._fastpath._readable", "_plain"): "the readable twin reads a prepared message as the compiled one does",
    ("asyncio._fastpath._readable", "_size"): "the readable twin reads a prepared message as the compiled one does",
    ("client", "_exception"): "a response keeps why the handshake failed, for its deprecated attribute",
    ("client", "_protocol"): "the log shows the version of HTTP, which a response doesn't offer to programs",
    ("proxy", "_protocol"): "the same, of a proxy's response",
    ("legacy.server", "_ws_create_server"): "the old server makes its listening socket by itself",
    ("legacy.server", "_ws_start"): "the old server starts in the same way as the one that it derives from",
    ("protocol", "_start_anew"): "what was compressed and can't be sent must leave no trace in the compressor",
    ("protocol._prepared", "_compresses"): "a prepared message asks for the threshold of a connection",
    ("protocol._prepared", "_kind"): "connections whose compressors are alike share a message",
    ("protocol._prepared", "_pack_alone"): "only a message that was compressed alone can be shared",
    ("protocol._prepared", "_start_anew"): "the compressor doesn't know a message that was compressed without it",
    (
        "testing._in_memory",
        "_ws_streams",
    ): "a pair of connections in memory has a network of its own",
}
MAX_BORROWED = 20

MAX_FILE, MAX_FUNCTION = 650, 50


# ---------------------------------------------------------------------------------------------------------- the walker


@dataclasses.dataclass(frozen=True)
class Module:
    """A module of the package; ``name`` is relative to the package."""

    name: str
    text: str

    @functools.cached_property
    def tree(self) -> ast.Module:
        return ast.parse(self.text)


def module_name(path: Path) -> str:
    parts = path.relative_to(SOURCE).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" and len(parts) > 1 else parts)


PACKAGES = {module_name(path) for path in SOURCE.rglob("__init__.py")}
MODULES = [Module(module_name(path), path.read_text("utf-8")) for path in sorted(SOURCE.rglob("*.py"))]
NAMES = {module.name for module in MODULES} | {COMPILED}


def is_type_checking(test: ast.expr) -> bool:
    return ast.unparse(test) in ("TYPE_CHECKING", "typing.TYPE_CHECKING")


def runtime_nodes(node: ast.AST) -> Iterator[ast.AST]:
    """Every node below this one that is there at run time: what is for type checkers only is left out."""
    if isinstance(node, ast.If) and is_type_checking(node.test):
        children: list[ast.AST] = list(node.orelse)
    else:
        children = list(ast.iter_child_nodes(node))
    for child in children:
        yield child
        yield from runtime_nodes(child)


def home(module: str) -> list[str]:
    """The package that a module is in, relative to ours, as a list of names."""
    parts = [] if module == "__init__" else module.split(".")
    return parts if module in PACKAGES else parts[:-1]


def imported(module: str, node: ast.AST) -> Iterator[str]:
    """What a statement imports: "websockets.x" for a module of ours, else the name of the other package."""
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names)
    elif isinstance(node, ast.ImportFrom):
        if node.level:
            package = home(module)
            base = ["websockets", *package[: len(package) - node.level + 1]]
        else:
            base = []
        target = ".".join([*base, *filter(None, [node.module])])
        submodules = [alias.name for alias in node.names if ours(f"{target}.{alias.name}") in NAMES]
        yield from (f"{target}.{name}" for name in submodules)
        if len(submodules) < len(node.names):
            yield target


def ours(name: str) -> str | None:
    """The module of ours that goes by this name; None for a module of others."""
    first, _, rest = name.partition(".")
    return (rest or "__init__") if first == "websockets" else None


@functools.cache
def imports(module: str, tree: ast.AST) -> set[str]:
    """Everything that a module imports at run time, also inside functions."""
    return {name for node in runtime_nodes(tree) for name in imported(module, node)}


@functools.cache
def own_imports(module: Module) -> set[str]:
    return {name for name in map(ours, imports(module.name, module.tree)) if name is not None}


@functools.cache
def other_imports(module: Module) -> set[str]:
    return {name.partition(".")[0] for name in imports(module.name, module.tree) if ours(name) is None}


EDGES = [(module.name, target) for module in MODULES for target in sorted(own_imports(module))]

every_module = for_each([(module,) for module in MODULES], lambda module: module.name)


@pytest.mark.parametrize(
    ("module", "source", "found"),
    [
        ("client", "import socket, os.path", {"socket", "os.path"}),
        ("client", "from .protocol import Protocol", {"websockets.protocol"}),
        ("client", "from . import protocol, server", {"websockets.protocol", "websockets.server"}),
        ("client", "from . import __version__", {"websockets"}),
        ("client", "from websockets.frames import Frame", {"websockets.frames"}),
        ("client", "def f():\n    async def g():\n        from .frames import Frame", {"websockets.frames"}),
        ("asyncio.client", "from ..frames import Frame", {"websockets.frames"}),
        ("asyncio.client", "from . import connection", {"websockets.asyncio.connection"}),
        ("asyncio", "from .connection import Connection", {"websockets.asyncio.connection"}),
        ("__init__", "from .version import version", {"websockets.version"}),
        ("client", "if TYPE_CHECKING:\n    from .frames import Frame\nelse:\n    import os", {"os"}),
        ("client", "if not TYPE_CHECKING:\n    import os", {"os"}),
    ],
)
def test_walker(module: str, source: str, found: set[str]) -> None:
    assert imports(module, ast.parse(source)) == found


# ---------------------------------------------------------------------------------------------------------- the floors


def test_every_module_has_a_floor() -> None:
    assert set(FLOOR_OF) == NAMES


@every_module
def test_imports_point_down(module: Module) -> None:
    unknown = own_imports(module) - NAMES
    upward = {name for name in own_imports(module) - unknown if PLACE_OF[name] <= PLACE_OF[module.name]}
    assert not unknown
    assert not upward


def test_front_ends_stay_on_top_and_apart() -> None:
    def front_end(module: str) -> str | None:
        first = module.partition(".")[0]
        return first if first in FRONT_ENDS else None

    strays = [
        (module, target)
        for module, target in EDGES
        if FLOOR_OF[module] not in ABOVE_FRONT_ENDS and front_end(target) not in (None, front_end(module))
    ]
    assert not strays


@every_module
def test_only_chosen_modules_import_by_name(module: Module) -> None:
    names = {node.attr if isinstance(node, ast.Attribute) else node.id for node in ast.walk(module.tree)
             if isinstance(node, ast.Attribute | ast.Name)}  # fmt: skip
    assert bool(names & {"import_module", "__import__"}) is (module.name in IMPORT_BY_NAME)


@every_module
def test_no_dependency_at_run_time(module: Module) -> None:
    optional = OPTIONAL.get(module.name, set())
    # A front-end is for programs that have what it waits with.
    for_trio = module.name.partition(".")[0] == "trio" or module.name in ("testing.trio", "testing._trio_network")
    base = {"trio"} if for_trio else set()
    assert other_imports(module) <= sys.stdlib_module_names | optional | base
    top = {name for node in module.tree.body for name in imported(module.name, node)}
    assert not {name.partition(".")[0] for name in top} & optional


@pytest.mark.parametrize("floor", FLOORS)
def test_architecture_page_names_every_module(floor: str) -> None:
    page = (ROOT / "docs" / "architecture.md").read_text("utf-8")
    section = re.search(rf"^### {floor.capitalize()}: .*?(?=^##)", page, re.DOTALL | re.MULTILINE)
    assert section is not None
    assert re.findall(r"^- `([\w.]+)`: \S", section[0], re.MULTILINE) == " ".join(FLOORS[floor]).split()


# ------------------------------------------------------------------------------------------------------------- waiting

BELOW = [module for module in MODULES if FLOOR_OF.get(module.name) not in WAITING_FLOORS]


def awaiting(tree: ast.AST) -> list[int]:
    """The lines on which something waits, or is declared as a coroutine."""
    waiting = (ast.Await, ast.AsyncFunctionDef, ast.AsyncFor, ast.AsyncWith)
    return [node.lineno for node in ast.walk(tree) if isinstance(node, waiting)]


@for_each([(module,) for module in BELOW], lambda module: module.name)
def test_nothing_waits_below_the_front_ends(module: Module) -> None:
    assert not awaiting(module.tree)
    assert not [name for name in other_imports(module) & WAITING if (module.name, name) not in ALLOWED]


@pytest.mark.parametrize("module", [each for each in MODULES if FLOOR_OF.get(each.name) == "awaiting"])
def test_what_awaits_on_any_library_knows_none(module: Module) -> None:
    assert not other_imports(module) & (WAITING | {"trio"})


@pytest.mark.parametrize("name", sorted(CORE_OF_TESTING))
def test_link_and_network_in_memory_belong_to_no_front_end(name: str) -> None:
    """Imports for type checkers count as well: the core must not even name a loop, a task or a future."""
    (module,) = (module for module in MODULES if module.name == name)
    everything = {found for node in ast.walk(module.tree) for found in imported(name, node)}
    assert not awaiting(module.tree)
    assert {found for found in map(ours, everything) if found is not None} <= CORE_OF_TESTING
    assert not {found.partition(".")[0] for found in everything} & (WAITING - CORE_IMPORTS)


def test_allowed_imports_are_used() -> None:
    below = {(module.name, name) for module in BELOW for name in other_imports(module)}
    assert not set(ALLOWED) - below


def test_only_the_masks_are_kept_by_thread() -> None:
    (twin,) = (module for module in MODULES if module.name == "_codec._python")
    uses = {ast.unparse(node) for node in ast.walk(twin.tree) if isinstance(node, ast.Attribute)}
    assert {use for use in uses if use.startswith("threading.")} == {"threading.local"}


def assigned(tree: ast.AST) -> set[str]:
    """The attributes that are assigned or deleted, by a statement or by ``setattr`` and the like."""
    names: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and not isinstance(node.ctx, ast.Load):
            names.add(node.attr)
        elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith(("setattr", "delattr", "__setattr__")):
            names |= {arg.value for arg in node.args if isinstance(arg, ast.Constant) and isinstance(arg.value, str)}
    return names


@every_module
def test_only_the_lifecycle_assigns_state(module: Module) -> None:
    state = assigned(module.tree) & {"receiving", "sending", "state"}
    assert bool(state) is (module.name == "_rules.lifecycle")


def masked_by_number(tree: ast.AST) -> list[str]:
    """The expressions that take bits out of an integer, and name the bits by a number."""
    operations = [node for node in ast.walk(tree) if isinstance(node, ast.BinOp) and isinstance(node.op, ast.BitAnd)]
    return [
        ast.unparse(node)
        for node in operations
        if any(isinstance(side, ast.Constant) and isinstance(side.value, int) for side in (node.left, node.right))
    ]


@every_module
def test_bits_of_a_header_have_names(module: Module) -> None:
    """``_codec.header`` gives them. The PROXY protocol has a header of its own, and a checksum."""
    if module.name != "_codec.proxy_protocol":
        assert not masked_by_number(module.tree)


def test_what_finds_masks() -> None:
    assert masked_by_number(ast.parse("head & 0x0F; 8 & head; head & FIN; head | 0x80; a & b")) == [
        "head & 15",
        "8 & head",
    ]


@pytest.mark.parametrize(
    "source", ["x.state = 1", "x.y.state += 1", "x.state: int = 1", "(a, x.state) = 1, 2", "setattr(x, 'state', 1)",
               "object.__setattr__(x, 'state', 1)", "for x.state in y: pass", "del x.state"],
)  # fmt: skip
def test_assignment_is_seen(source: str) -> None:
    assert assigned(ast.parse(source)) == {"state"}
    assert not assigned(ast.parse("state = x.state"))


# ------------------------------------------------------------------------------------------------------- private names


def is_private(name: str) -> bool:
    return name.startswith("_") and not name.startswith("__")


def folder(module: str) -> str:
    """The folder of a module; a module of the package itself stands alone."""
    return module.partition(".")[0]


def own_object(node: ast.expr) -> bool:
    return isinstance(node, ast.Name) and node.id in ("self", "cls")


def private_definitions(tree: ast.AST) -> set[str]:
    """The private names that are defined: functions and methods, variables and attributes of ``self``."""
    names: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            names.add(node.name)
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            names.add(node.id)
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store) and own_object(node.value):
            names.add(node.attr)
    return {name for name in names if is_private(name)}


def private_uses(tree: ast.AST) -> list[str]:
    """The private attributes that are read or assigned of anything but ``self`` and ``cls``."""
    attributes = [node for node in ast.walk(tree) if isinstance(node, ast.Attribute) and not own_object(node.value)]
    return [node.attr for node in attributes if is_private(node.attr)]


def borrowed(modules: list[Module]) -> list[tuple[str, str]]:
    """The uses of private names that only other folders define: the module, and the name."""
    homes: dict[str, set[str]] = {}
    for module in modules:
        for name in private_definitions(module.tree):
            homes.setdefault(name, set()).add(folder(module.name))
    uses = [(module.name, name) for module in modules for name in private_uses(module.tree)]
    return [(module, name) for module, name in uses if name in homes and folder(module) not in homes[name]]


def test_private_names_stay_in_their_folder() -> None:
    found = borrowed(MODULES)
    assert {*found} == {*BORROWED}
    assert len(found) < MAX_BORROWED


def test_what_finds_private_names() -> None:
    modules = [
        Module("a.one", "class C:\n    _x = 1\n    def __init__(self): self._y = self._z = 1\n    def _f(self): ..."),
        Module("a.two", "c._x, c._y, c._f()"),  # the same folder
        Module("b", "def _z(): ...\nc._x = c._y; c._z; self._f(); cls._f(); c._unknown; c.__x; c.d._f()"),
    ]
    assert borrowed(modules) == [("b", "_x"), ("b", "_y"), ("b", "_f")]


# ------------------------------------------------------------------------------------------------------- house numbers

Function = ast.FunctionDef | ast.AsyncFunctionDef


def body_length(function: Function) -> int:
    """Lines of the body, without the docstring."""
    body = function.body[1:] if ast.get_docstring(function) is not None else function.body
    return (body[-1].end_lineno or 0) - body[0].lineno + 1 if body else 0


def functions(tree: ast.AST) -> list[Function]:
    return [node for node in ast.walk(tree) if isinstance(node, Function)]


@every_module
def test_files_are_short(module: Module) -> None:
    assert len(module.text.splitlines()) <= MAX_FILE


@every_module
def test_functions_are_short(module: Module) -> None:
    assert not {f.name: n for f in functions(module.tree) if (n := body_length(f)) > MAX_FUNCTION}


def test_length_of_a_body() -> None:
    (function,) = functions(ast.parse('def f(\n    a,\n):\n    """Doc.\n    string."""\n    x = 1\n\n    return x\n'))
    (documented,) = functions(ast.parse('def f():\n    """Docstring alone."""\n'))
    assert (body_length(function), body_length(documented)) == (3, 0)


def is_overload(node: ast.AST) -> bool:
    """Whether this is a signature for type checkers, or a setter: the docstring is elsewhere."""
    if not isinstance(node, Function):
        return False
    return any(ast.unparse(decorator).endswith(("overload", ".setter")) for decorator in node.decorator_list)


def public_definitions(node: ast.Module | ast.ClassDef, prefix: str = "") -> Iterator[tuple[str, str | None]]:
    """The public classes, functions and methods of a module, each with its docstring."""
    for child in node.body:
        if not isinstance(child, Function | ast.ClassDef) or child.name.startswith("_") or is_overload(child):
            continue
        yield prefix + child.name, ast.get_docstring(child)
        if isinstance(child, ast.ClassDef):
            yield from public_definitions(child, f"{prefix}{child.name}.")


@every_module
def test_every_module_has_a_charter(module: Module) -> None:
    assert ast.get_docstring(module.tree)


@every_module
def test_public_names_have_docstrings(module: Module) -> None:
    assert not [name for name, docstring in public_definitions(module.tree) if not docstring]


# ------------------------------------------------------------------------------------------------- where to change what


def defined(path: Path) -> set[str]:
    """The names that a file defines at any level; for C, all of its words."""
    text = path.read_text("utf-8")
    if path.suffix != ".py":
        return set(re.findall(r"\w+", text))
    nodes = list(ast.walk(ast.parse(text)))
    names = {node.name for node in nodes if isinstance(node, Function | ast.ClassDef)}
    return names | {node.id for node in nodes if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)}


def test_where_to_change_what() -> None:
    page = (ROOT / "docs" / "architecture.md").read_text("utf-8")
    section = re.search(r"^## Where to change what$.*?(?=^## )", page, re.DOTALL | re.MULTILINE)
    assert section is not None
    rows = re.findall(r"^\| (\w.*) \| (`.*`) \| (`.*`) \|$", section[0], re.MULTILINE)
    assert len(rows) >= 10
    for _, files, names in rows:
        for file in re.findall(r"`(.*?)`", files):
            assert not set(re.findall(r"`(.*?)`", names)) - defined(SOURCE / file), file
