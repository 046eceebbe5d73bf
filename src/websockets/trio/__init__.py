"""The front-end for trio: only the parts that wait, on top of the session and the protocol.

Its modules are available as attributes without being imported first, like those of the package. It needs trio, which is
an extra: ``pip install "websockets[trio]"``.

May know: whether trio is there. Must not know: anything else.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

try:
    import trio as _trio
except ModuleNotFoundError as exc:
    raise ImportError('websockets.trio needs trio: pip install "websockets[trio]"') from exc

del _trio

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
