"""Names for the types that appear in public signatures.

May know: the standard library. Must not know: any other module of this package.
"""

from __future__ import annotations

import http
import logging
import os
import re
from collections.abc import Sequence
from typing import Any, NewType

__all__ = [
    "Data",
    "ExtensionName",
    "ExtensionParameter",
    "LoggerLike",
    "Origin",
    "StatusLike",
    "Subprotocol",
]

# Each assignment defines the alias for type checkers and the object that programs find at run time.

Data = str | bytes
"""A message: ``str`` is a text message, ``bytes`` a binary one (RFC 6455 section 5.6)."""

BytesLike = bytes | bytearray | memoryview
"""Types accepted where bytes are needed."""

DataLike = str | bytes | bytearray | memoryview
"""Types accepted where a message is needed."""

LoggerLike = logging.Logger | logging.LoggerAdapter[Any]
"""Types accepted as a logger."""

StatusLike = http.HTTPStatus | int
"""Types accepted as an HTTP status."""

HostsLike = str | re.Pattern[str] | Sequence[str | re.Pattern[str]]
"""Types accepted as the names of a server."""

PathLike = str | bytes | os.PathLike[str] | os.PathLike[bytes]
"""Types accepted as the path of a Unix socket."""

Origin = NewType("Origin", str)
"""The value of an ``Origin`` header (RFC 6454 section 7)."""

Subprotocol = NewType("Subprotocol", str)
"""A name in a ``Sec-WebSocket-Protocol`` header (RFC 6455 section 1.9)."""

ExtensionName = NewType("ExtensionName", str)
"""A name in a ``Sec-WebSocket-Extensions`` header (RFC 6455 section 9.1)."""

ConnectionOption = NewType("ConnectionOption", str)
"""A token in a ``Connection`` header (RFC 9110 section 7.6.1)."""

UpgradeProtocol = NewType("UpgradeProtocol", str)
"""A protocol in an ``Upgrade`` header (RFC 9110 section 7.8)."""

ExtensionParameter = tuple[str, str | None]
"""A parameter of an extension: its name, and its value or ``None`` (RFC 6455 section 9.1)."""

ExtensionHeader = tuple[ExtensionName, Sequence[ExtensionParameter]]
"""An extension offered or accepted: its name and its parameters (RFC 6455 section 9.1)."""
