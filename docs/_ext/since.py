"""Marks of what is new: "New in 18.0" in the reference, at names, members and parameters.

Names are new as ``tests/compat/public_api.json`` says. Members and parameters of names that are older are listed here,
found by a comparison with the release before.
"""

from __future__ import annotations

import importlib
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sphinx.application import Sphinx

SNAPSHOT = Path(__file__).parents[2] / "tests" / "compat" / "public_api.json"

# The release that the list is about. The one before is what the snapshot calls the first.
RELEASE, BEFORE = "18.0", "17.4"

SERVE = "hosts idle_timeout max_connections max_connections_per_host proxy_protocol"

# Each name with its new members and, in parentheses, parameters of the name itself or of a member.
NEW = {
    "websockets.asyncio.client.connect": "(idle_timeout max_rate max_bytes_rate on_rate)",
    "websockets.asyncio.connection.Connection": "abort buffered_amount statistics close(timeout) send(compress)",
    "websockets.asyncio.server.Server": "statistics close(timeout)",
    "websockets.asyncio.server.ServerConnection": "respond(headers)",
    "websockets.asyncio.server.broadcast": "(on_slow max_buffered)",
    "websockets.asyncio.server.serve": f"({SERVE} max_rate max_bytes_rate on_rate)",
    "websockets.client.ClientProtocol": "read_response_with take_cut_response",
    "websockets.extensions.permessage_deflate.ClientPerMessageDeflateFactory": "(threshold)",
    "websockets.extensions.permessage_deflate.PerMessageDeflate": "(threshold)",
    "websockets.extensions.permessage_deflate.ServerPerMessageDeflateFactory": "(threshold)",
    "websockets.frames.Frame": "from_head head",
    "websockets.protocol.Protocol": "release_failure send_prepared send_binary(compress) send_text(compress)",
    "websockets.server.ServerProtocol": "(hosts) process_host reject(headers)",
    "websockets.sync.client.connect": "(idle_timeout)",
    "websockets.sync.client.reconnect": "(idle_timeout)",
    "websockets.sync.connection.Connection": "abort buffered_amount statistics close(timeout) send(compress timeout)",
    "websockets.sync.server.Server": "statistics shutdown(timeout)",
    "websockets.sync.server.ServerConnection": "respond(headers)",
    "websockets.sync.server.broadcast": "(on_slow max_buffered)",
    "websockets.sync.server.serve": f"({SERVE} daemon_threads executor)",
    "websockets.trio.client.connect": "(idle_timeout) attempts",
    "websockets.trio.connection.Connection": "abort buffered_amount statistics aclose(timeout) send(compress)",
    "websockets.trio.server.Server": "statistics aclose(timeout)",
    "websockets.trio.server.ServerConnection": "respond(headers)",
    "websockets.trio.server.broadcast": "(on_slow max_buffered)",
    "websockets.trio.server.serve": f"({SERVE})",
}

MEMBER = re.compile(r"(\w*)(?:\(([^)]*)\))?")


def members(listed: str) -> Iterator[tuple[str, list[str]]]:
    """Yield each member in a list with its new parameters; the member "" stands for the name itself."""
    for found in MEMBER.finditer(listed):
        if found[0]:
            yield found[1], (found[2] or "").split()


def new_names() -> set[str]:
    """Return the full names that the release brought, from the snapshot of all public names."""
    snapshot = json.loads(SNAPSHOT.read_text("utf-8"))
    return {
        f"{module}.{name}"
        for module, names in snapshot.items()
        for name, entry in names.items()
        if entry["since"] == RELEASE
    }


def new_members() -> set[str]:
    """Return the full names of new members of older names."""
    return {
        f"{name}.{member}" for name, listed in NEW.items() for member, parameters in members(listed) if not parameters
    }


def new_parameters() -> dict[str, list[str]]:
    """Return the new parameters of functions, methods and classes that are older."""
    return {
        f"{name}.{member}".rstrip("."): parameters
        for name, listed in NEW.items()
        for member, parameters in members(listed)
        if parameters
    }


NAMES, MEMBERS, PARAMETERS = new_names(), new_members(), new_parameters()


def known_as(name: str) -> Iterator[str]:
    """Yield the names of an object: its own, and those as a member of the classes that its class is derived from."""
    docstrings = importlib.import_module("docstrings")
    yield name
    owner, _, member = name.rpartition(".")
    for base in getattr(docstrings.imported(owner), "__mro__", ()):
        for other in docstrings.public_objects().get(id(base), ()):
            yield f"{other}.{member}"


def mark(lines: list[str], parameters: list[str]) -> None:
    """Add a mark to the fields of parameters, each of which may go on in indented lines."""
    for parameter in parameters:
        start = re.compile(rf":param (\\?\*)*{parameter}:")
        at = next((at for at, line in enumerate(lines) if start.match(line)), None)
        if at is not None:
            while at + 1 < len(lines) and lines[at + 1].startswith(" "):
                at += 1
            lines[at] += f" *New in {RELEASE}.*"


def process(app: Sphinx, what: str, name: str, obj: Any, options: object, lines: list[str]) -> None:
    names = {*known_as(name)} if what in ("method", "attribute", "property") else {name}
    if names & (NAMES | MEMBERS) and name.rpartition(".")[0] not in NAMES:
        lines += [f".. versionadded:: {RELEASE}", ""]
    for each in names & set(PARAMETERS):
        mark(lines, PARAMETERS[each])


def setup(app: Sphinx) -> dict[str, bool]:
    # After the docstrings have become fields.
    app.connect("autodoc-process-docstring", process, priority=600)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
