"""Extensions of the protocol: RFC 6455 section 9.

May know: the interface in ``base``, the only module exported here. Must not know: any particular extension, so that
a program without extensions doesn't load one.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

from .base import ClientExtensionFactory, Extension, ServerExtensionFactory

if TYPE_CHECKING:
    from . import permessage_deflate as permessage_deflate
else:

    def __getattr__(name):
        if name == "permessage_deflate":
            return importlib.import_module(f".{name}", __name__)
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


__all__ = ["ClientExtensionFactory", "Extension", "ServerExtensionFactory"]
