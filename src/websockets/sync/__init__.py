"""The front-end for threads: only the parts that wait, on top of the session and the protocol.

Its modules are available as attributes without being imported first, like those of the package.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from . import client as client
    from . import connection as connection
    from . import router as router
    from . import server as server
else:

    def __getattr__(name):
        if name in ("client", "connection", "router", "server"):
            return importlib.import_module(f".{name}", __name__)
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
