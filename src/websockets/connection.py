"""The earlier name of :mod:`websockets.protocol`; importing it warns.

May know: old and new names. Nothing in this package uses this module.
"""

from __future__ import annotations

import warnings

from .protocol import SEND_EOF, Side, State
from .protocol import Protocol as Connection

__all__ = ["SEND_EOF", "Connection", "Side", "State"]

warnings.warn(
    "websockets.connection was renamed to websockets.protocol and Connection was renamed to Protocol",
    DeprecationWarning,
    stacklevel=2,
)
