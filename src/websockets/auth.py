"""The name that :mod:`websockets.legacy.auth` had once; importing it warns.

May know: what was called how. Nothing in this package uses it.
"""

from __future__ import annotations

import warnings

from .legacy.auth import BasicAuthWebSocketServerProtocol, basic_auth_protocol_factory

__all__ = ["BasicAuthWebSocketServerProtocol", "basic_auth_protocol_factory"]

warnings.warn(
    "websockets.auth, an alias for websockets.legacy.auth, is deprecated; docs/legacy.md says what to use instead",
    DeprecationWarning,
    stacklevel=2,
)
