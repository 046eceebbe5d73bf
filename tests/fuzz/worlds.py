"""The library twice in one process: with the compiled twin of the accelerator, and with the readable one.

May know: how modules are imported, and which variable chooses a twin. Must not know: what is done with either.

The library chooses its twin when it is imported. So it is imported once more, with the other choice and under the same
names, which then get their first owners back. All imports of the library stand at the top of its modules, so the two
never meet.
"""

from __future__ import annotations

import importlib
import os
import sys
from types import SimpleNamespace

from core._twins import TWINS

__all__ = ["WORLDS", "World"]

VARIABLE = "WEBSOCKETS_ACCELERATOR"


class World(SimpleNamespace):
    """What is needed of one copy of the library."""


def look() -> World:
    """What is needed of the copy that is imported now."""
    wanted = {
        "connection": "asyncio.connection",
        "protocol": "protocol",
        "deflate": "extensions.permessage_deflate",
        "fast_path": "asyncio._fastpath",
        "exceptions": "exceptions",
        "accelerator": "_codec",
    }
    return World(**{name: importlib.import_module(f"websockets.{path}") for name, path in wanted.items()})


def other() -> World:
    """Another copy of the library, with the twin that the first one didn't choose."""
    ours = {name: module for name, module in sys.modules.items() if name.partition(".")[0] == "websockets"}
    setting = os.environ.get(VARIABLE)
    os.environ[VARIABLE] = "python" if WORLDS[0].accelerator.TWIN == "native" else "native"
    for name in ours:
        del sys.modules[name]
    try:
        return look()
    finally:
        for name in [name for name in sys.modules if name.partition(".")[0] == "websockets"]:
            del sys.modules[name]
        sys.modules.update(ours)
        if setting is None:
            del os.environ[VARIABLE]
        else:
            os.environ[VARIABLE] = setting


WORLDS = [look()]
if "native" in TWINS:
    WORLDS.append(other())
