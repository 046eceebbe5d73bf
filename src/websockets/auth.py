"""The name that :mod:`websockets.legacy.auth` had once; importing it warns.

May know: what was called how. Nothing in this package uses it.
"""

from __future__ import annotations

import warnings

with warnings.catch_warnings():
    # The package warns when it is imported, too: one warning is enough.
    warnings.filterwarnings("ignore", "websockets.legacy is deprecated", DeprecationWarning)
    from .legacy.auth import BasicAuthWebSocketServerProtocol, basic_auth_protocol_factory

__all__ = ["BasicAuthWebSocketServerProtocol", "basic_auth_protocol_factory"]

warnings.warn(
    "websockets.auth, an alias for websockets.legacy.auth, is deprecated; docs/legacy.md says what to use instead",
    DeprecationWarning,
    stacklevel=2,
)
