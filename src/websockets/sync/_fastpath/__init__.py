"""The fast path of a message between a socket and a thread: the compiled twin if it was built, else the readable one.

``_readable`` specifies both.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..._codec import TWIN
from .._roles import Role
from .._system import DONTWAIT

__all__ = ["SocketPath"]

if TYPE_CHECKING or TWIN == "python":
    from ._readable import SocketPath
else:
    from ..._codec import _native
    from ..._codec._native import SocketPath

    _native.know_roles(Role.FREE, Role.TAKEN, DONTWAIT)
