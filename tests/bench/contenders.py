"""Who takes part: what is installed in an interpreter, and what of it can do which case.

Charter: asks interpreters what they have. Must not know how anything is measured.
"""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bench.cases import THREAD_CASES, THREADS, Case

TESTS = Path(__file__).resolve().parents[1]

OURS = "ours"
TWIN = "ours-python"
BARE = "bare"

PEERS = ("websockets", "picows", "picows.websockets", "aiohttp", "websocket-client")
# The last one is no loop: it means the front-end for threads.
LOOPS = ("asyncio", "uvloop", "aiofastnet", THREADS)
# Who has what for threads.
IN_THREADS = {"websockets": ("server", "client"), "websocket-client": ("client",), BARE: ("server", "client")}

LIMIT = 60  # seconds for an interpreter to say what it has

# Runs in other interpreters: plain, and with nothing of ours on its path.
PROBE = """
import json, platform, sys
from importlib import metadata
from importlib.util import find_spec
found = {"python": platform.python_implementation() + " " + platform.python_version(), "packages": {}}
for name in ("websockets", "picows", "aiohttp", "uvloop", "aiofastnet"):
    try:
        if find_spec(name):
            found["packages"][name] = metadata.version(name)
    except metadata.PackageNotFoundError:
        found["packages"][name] = ""
if find_spec("websocket"):
    found["packages"]["websocket-client"] = metadata.version("websocket-client")
if find_spec("picows") and find_spec("picows.websockets"):
    found["packages"]["picows.websockets"] = found["packages"]["picows"]
if find_spec("websockets") and find_spec("websockets._codec"):
    from websockets import version
    from websockets import _codec
    found["twin"] = _codec.TWIN
    found["packages"]["websockets"] = version.version
print(json.dumps(found))
"""


class Unusable(Exception):
    """An interpreter does not have what is asked of it."""


@dataclass(frozen=True)
class Contender:
    """A library in an interpreter.

    Parameters:
        name: for the command line.
        label: for tables.
        library: which server and client it is, a key of ``LIBRARIES`` in ``servers`` and ``clients``.
        python: the interpreter.
        loops: event loops that it can run on.
        environment: variables that its processes get on top of ours.
    """

    name: str
    label: str
    library: str
    python: str
    loops: tuple[str, ...] = ("asyncio",)
    environment: Mapping[str, str] = field(default_factory=dict)

    def can(self, case: Case, loop: str = "asyncio") -> bool:
        """Whether it has what the case is about."""
        if loop == THREADS:
            return case in THREAD_CASES and case.role in IN_THREADS[self.library]
        if self.library == BARE:
            return not case.deflate and case.kind != "broadcast" and case.role == "server"
        # The core of picows has no compression.
        return not (self.library == "picows" and case.deflate)


def child_environment(environment: Mapping[str, str], keep_path: bool = True) -> dict[str, str]:
    """The environment of a process that runs a module of this folder.

    Parameters:
        environment: variables on top of ours.
        keep_path: whether PYTHONPATH goes on to count; for another interpreter it would lead to the wrong library.
    """
    path = [str(TESTS)]
    if keep_path and (inherited := os.environ.get("PYTHONPATH")):
        path += [str(Path(folder).resolve()) for folder in inherited.split(os.pathsep)]
    return {**os.environ, **environment, "PYTHONPATH": os.pathsep.join(path)}


def probe(python: str, keep_path: bool = True) -> dict[str, Any]:
    """What an interpreter has.

    Raises:
        Unusable: it can't be run.
    """
    environment = child_environment({}, keep_path)
    environment.pop("WEBSOCKETS_ACCELERATOR", None)
    try:
        done = subprocess.run(
            [python, "-c", PROBE], env=environment, capture_output=True, text=True, timeout=LIMIT, check=True
        )  # fmt: skip
    except subprocess.CalledProcessError as exc:
        reason = (exc.stderr.strip().splitlines() or ["no message"])[-1]
        raise Unusable(f"{python} failed: {reason}") from exc
    except (OSError, subprocess.TimeoutExpired) as exc:
        raise Unusable(f"{python} cannot be run: {exc}") from exc
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def loops_of(found: Mapping[str, Any]) -> tuple[str, ...]:
    """The event loops that an interpreter has."""
    return tuple(loop for loop in LOOPS if loop == "asyncio" or loop in found["packages"])


def loops_for(library: str, found: Mapping[str, Any]) -> tuple[str, ...]:
    """The event loops, and threads, on which an interpreter can run a library."""
    if library == "websocket-client":
        return (THREADS,)
    return (*loops_of(found), THREADS) if library in IN_THREADS else loops_of(found)


def our_contenders(python: str, found: Mapping[str, Any]) -> Iterator[Contender]:
    """The library itself, with its accelerator and without, and what the loop alone costs.

    Raises:
        Unusable: the interpreter has another library of that name, or none.
    """
    if "twin" not in found:
        raise Unusable(f"{python} does not have this library: install it there, with 'pip install .' for example")
    loops = loops_for("websockets", found)
    if found["twin"] == "native":
        yield Contender(OURS, "ours", "websockets", python, loops, {"WEBSOCKETS_ACCELERATOR": ""})
    readable = {"WEBSOCKETS_ACCELERATOR": "python"}
    yield Contender(TWIN, "ours, no accelerator", "websockets", python, loops, readable)
    yield Contender(BARE, "bare protocol", BARE, python, loops)


def peer_contenders(python: str, found: Mapping[str, Any]) -> Iterator[Contender]:
    """The other libraries that an interpreter has."""
    for name in PEERS:
        ours = name == "websockets" and "twin" in found
        if name in found["packages"] and not ours:
            yield Contender(name, f"{name} {found['packages'][name]}".strip(), name, python, loops_for(name, found))
