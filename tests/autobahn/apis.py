"""The APIs that both programs of ours can use.

Charter: knows the names of modules, not what is in them.
"""

from __future__ import annotations

import importlib
import warnings
from typing import Any

APIS = ("asyncio", "legacy", "trio")


def api_of(side: str, name: str) -> Any:
    """Return the module of an API, for the "client" or the "server". That the legacy one is old is no news here."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        return importlib.import_module(f"websockets.{name}.{side}")
