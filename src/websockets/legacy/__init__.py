"""The API of releases before 14.0, as adapters over the asyncio API; importing it warns.

May know: the modules of this package, which load at their first use. ``docs/legacy.md`` says how to upgrade.
"""

from __future__ import annotations

import importlib
import warnings
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from . import auth as auth
    from . import client as client
    from . import exceptions as exceptions
    from . import framing as framing
    from . import handshake as handshake
    from . import http as http
    from . import protocol as protocol
    from . import server as server
else:

    def __getattr__(name):
        if name in ("auth", "client", "exceptions", "framing", "handshake", "http", "protocol", "server"):
            return importlib.import_module(f".{name}", __name__)
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


__all__: list[str] = []

warnings.warn(
    "websockets.legacy is deprecated; docs/legacy.md says what to use instead",
    DeprecationWarning,
    stacklevel=2,
)
