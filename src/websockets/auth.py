"""The earlier name of :mod:`websockets.legacy.auth`; importing it warns.

May know: old and new names. Nothing in this package uses this module.
"""

from __future__ import annotations

import warnings

with warnings.catch_warnings():
    # The legacy package warns, too, when it is imported; one warning is enough.
    warnings.filterwarnings("ignore", "websockets.legacy is deprecated", DeprecationWarning)
    from .legacy.auth import BasicAuthWebSocketServerProtocol, basic_auth_protocol_factory

__all__ = ["BasicAuthWebSocketServerProtocol", "basic_auth_protocol_factory"]

warnings.warn(
    "websockets.auth, an alias for websockets.legacy.auth, is deprecated; docs/legacy.md says what to use instead",
    DeprecationWarning,
    stacklevel=2,
)
