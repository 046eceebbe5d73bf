"""The public surface is the one in the snapshot, however a name is reached."""

from __future__ import annotations

import ast
import inspect
import subprocess
import sys
import warnings
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

import websockets
from compat import surface
from compat._resolving import RESOLVE
from websockets.protocol import Protocol, Side
from websockets.server import ServerProtocol
from websockets.uri import parse_uri

PACKAGE: Any = websockets

OLD, NEW = surface.read(), surface.surface()


# -------------------------------------------------------------------------------------------------------- the snapshot


def test_snapshot_is_up_to_date() -> None:
    assert surface.dated(NEW, OLD) == OLD, "python tests/compat/surface.py --write"


def test_every_name_has_its_release() -> None:
    assert {entry["since"] for names in OLD.values() for entry in names.values()} == {"17.4", "18.0"}


def test_names_of_the_published_package() -> None:
    """As many as there were, in each module."""
    counts = {module: sum(entry["since"] == "17.4" for entry in names.values()) for module, names in OLD.items()}
    assert counts["websockets"] == 66
    assert counts["websockets.exceptions"] == 33
    assert counts["websockets.headers"] == 11
    assert [module for module, count in counts.items() if count == 0 and OLD[module]] == [
        "websockets.anyio",
        "websockets.asgi",
        "websockets.rooms",
        "websockets.testing",
        "websockets.testing.threads",
        "websockets.testing.trio",
    ]


SNAPSHOT: dict[str, Any] = {"m": {"f": {"since": "17.4", "function": "(a)", "members": {"x": "attribute"}}}}


@pytest.mark.parametrize(
    ("new", "lost"),
    [
        ({"m": {"f": {"function": "(a)", "members": {"x": "attribute", "y": "attribute"}}, "g": {}}, "n": {}}, []),
        ({}, [".m: is gone"]),
        ({"m": {}}, ["m.f: is gone"]),
        ({"m": {"f": {"function": "(a)", "members": {}}}}, ["m.f.members.x: is gone"]),
        (
            {"m": {"f": {"function": "(a, b)", "members": {"x": "attribute"}}}},
            ["m.f.function: '(a, b)', no more '(a)'"],
        ),
    ],
)
def test_what_is_lost_is_told(new: dict[str, Any], lost: list[str]) -> None:
    assert [line.removeprefix(".") for line in surface.differences(SNAPSHOT, new)] == [
        line.removeprefix(".") for line in lost
    ]


# -------------------------------------------------------------------------------------------------------- the package


def typed_names() -> set[str]:
    """The names that the package imports for type checkers."""
    assert websockets.__file__ is not None
    tree = ast.parse(Path(websockets.__file__).read_text("utf-8"))
    (block,) = (node for node in tree.body if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING")
    return {str(alias.asname) for node in block.body if isinstance(node, ast.ImportFrom) for alias in node.names}


def test_type_checkers_know_the_same_names() -> None:
    # That one is declared in the module, with its description.
    assert typed_names() | {"ACCELERATOR"} == {*PACKAGE._HOMES, *(name for name in PACKAGE._MODULES if "." not in name)}


def test_names_are_complete() -> None:
    assert {*PACKAGE.__all__} == {*PACKAGE._HOMES, "__version__"}
    assert {*PACKAGE.__all__, *PACKAGE._MODULES, *NAMES_OF_OLD["websockets"].split()} <= {*dir(websockets)}
    modules = {name.removeprefix("websockets.") for name in OLD} - {"websockets", "connection"}
    assert {name for name in modules if "." not in name} <= PACKAGE._MODULES | {"asyncio", "extensions", "sync"}


def test_unknown_names() -> None:
    for submodule in (
        "",
        ".asyncio",
        ".client",
        ".exceptions",
        ".extensions",
        ".legacy",
        ".server",
        ".sync",
        ".testing",
    ):
        module = f"websockets{submodule}"
        with pytest.raises(AttributeError, match=rf"^module '{module}' has no attribute 'nothing'$"):
            _ = import_module(module).nothing


def test_version() -> None:
    assert websockets.__version__ == websockets.version.version == websockets.version.tag == websockets.version.commit


def run(program: str, *arguments: str) -> str:
    """What a program prints in a fresh process."""
    done = subprocess.run([sys.executable, "-c", program, *arguments], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_every_module_resolves_after_importing_the_package() -> None:
    """Each on its own: what one loads is forgotten before the next."""
    modules = sorted({*OLD} - {"websockets", "websockets.connection"})
    assert run(RESOLVE, *modules).splitlines() == modules


@pytest.mark.parametrize(
    ("package", "module"),
    [
        ("websockets", "frames"),
        ("websockets.asyncio", "router"),
        ("websockets.legacy", "auth"),
        ("websockets.sync", "client"),
        ("websockets.extensions", "permessage_deflate"),
    ],
)
def test_module_is_an_attribute_of_its_package(package: str, module: str, monkeypatch: pytest.MonkeyPatch) -> None:
    found = import_module(f"{package}.{module}")
    monkeypatch.delattr(import_module(package), module)
    assert getattr(import_module(package), module) is found


def test_importing_the_package_loads_next_to_nothing() -> None:
    loaded = run("import sys, websockets; print(*sorted(name for name in sys.modules if 'websockets' in name))").split()
    assert loaded == ["websockets", "websockets.version"]
    assert run("import sys, websockets; print('asyncio' in sys.modules)") == "False\n"


def test_star_import() -> None:
    assert run("from websockets import *; print(connect.__module__)") == "websockets.asyncio.client\n"


# ---------------------------------------------------------------------------------------------------- deprecated names


def test_module_of_old() -> None:
    sys.modules.pop("websockets.connection", None)
    text = "websockets.connection was renamed to websockets.protocol and Connection was renamed to Protocol"
    with pytest.warns(DeprecationWarning, match=f"^{text}$"):
        module = import_module("websockets.connection")
    assert module.Connection is Protocol
    assert (module.Side, module.State, module.SEND_EOF) == (Side, websockets.State, b"")


def test_protocols_of_old() -> None:
    with pytest.warns(DeprecationWarning, match=r"^ClientConnection was renamed to ClientProtocol$") as caught:
        client = websockets.client.ClientConnection(parse_uri("ws://localhost/"), max_size=None)
    assert caught[0].filename == __file__
    assert isinstance(client, websockets.ClientProtocol)
    assert client.max_message_size is None
    with pytest.warns(DeprecationWarning, match=r"^ServerConnection was renamed to ServerProtocol$") as caught:
        server = websockets.server.ServerConnection(subprotocols=None)
    assert caught[0].filename == __file__
    assert isinstance(server, ServerProtocol)


NAMES_OF_OLD = {
    "websockets": (
        "AbortHandshake BasicAuthWebSocketServerProtocol InvalidStatusCode RedirectHandshake WebSocketClientProtocol "
        "WebSocketCommonProtocol WebSocketProtocolError WebSocketServer WebSocketServerProtocol "
        "basic_auth_protocol_factory"
    ),
    "websockets.client": "WebSocketClientProtocol connect unix_connect",
    "websockets.exceptions": "AbortHandshake InvalidStatusCode RedirectHandshake WebSocketProtocolError",
    "websockets.server": "WebSocketServer WebSocketServerProtocol broadcast serve unix_serve",
}


def home_of_old(name: str) -> Any:
    """The object that a deprecated name stands for."""
    if name == "WebSocketProtocolError":
        return websockets.ProtocolError
    homes = [
        import_module(f"websockets.legacy.{home}") for home in ("auth", "client", "exceptions", "protocol", "server")
    ]
    (found,) = {id(getattr(home, name)): getattr(home, name) for home in homes if hasattr(home, name)}.values()
    return found


@pytest.mark.parametrize(
    ("module", "name"), [(module, name) for module, names in NAMES_OF_OLD.items() for name in names.split()]
)
def test_name_of_old(module: str, name: str) -> None:
    home = home_of_old(name)
    with pytest.warns(DeprecationWarning, match=rf"^{module}\.{name} is deprecated$") as caught:
        found = getattr(import_module(module), name)
    assert caught[0].filename == __file__
    assert found is home


def test_names_of_today_come_first() -> None:
    assert websockets.connect is not import_module("websockets.legacy.client").connect
    assert websockets.serve is not import_module("websockets.legacy.server").serve
    assert websockets.broadcast is not import_module("websockets.legacy.server").broadcast


INSTEAD = "docs/legacy.md says what to use instead"


@pytest.mark.parametrize(
    ("statement", "text"),
    [
        ("import websockets.legacy", f"websockets.legacy is deprecated; {INSTEAD}"),
        ("import websockets.legacy.server", f"websockets.legacy is deprecated; {INSTEAD}"),
        ("from websockets.legacy.client import connect", f"websockets.legacy is deprecated; {INSTEAD}"),
        ("import websockets.auth", f"websockets.auth, an alias for websockets.legacy.auth, is deprecated; {INSTEAD}"),
        ("from websockets import WebSocketServerProtocol", "websockets.WebSocketServerProtocol is deprecated"),
        ("from websockets.client import connect", "websockets.client.connect is deprecated"),
    ],
)
def test_importing_what_is_old_warns(statement: str, text: str) -> None:
    program = f"import warnings\nwarnings.simplefilter('always')\nimport websockets\n{statement}\n"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True)
    assert f"<string>:4: DeprecationWarning: {text}\n" in done.stderr


@pytest.mark.parametrize(
    "statement",
    [
        "import websockets.auth",
        "from websockets.auth import basic_auth_protocol_factory",
        "import websockets; websockets.auth",
    ],
)
def test_the_other_name_of_an_old_module_warns_once(statement: str) -> None:
    program = f"""
import warnings
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    {statement}
print(*[warning.message for warning in caught], sep="\\n")
"""
    assert run(program) == f"websockets.auth, an alias for websockets.legacy.auth, is deprecated; {INSTEAD}\n"


def test_nothing_loads_the_legacy_api_unasked() -> None:
    program = (
        "import sys, websockets.client, websockets.server, websockets.exceptions, websockets.asyncio.client, "
        "websockets.asyncio.server, websockets.asyncio.router; print('websockets.legacy' in sys.modules)"
    )
    assert run(program) == "False\n"


def test_names_of_today_do_not_warn() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        of_today = [module for module in OLD if not module.startswith(("websockets.legacy", "websockets.auth"))]
        assert all(inspect.ismodule(import_module(module)) for module in of_today if module != "websockets.connection")
        assert all(getattr(websockets, name) is not None for name in PACKAGE.__all__)
