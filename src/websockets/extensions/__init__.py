"""Extensions of the protocol: RFC 6455 section 9.

May know: the interface in ``base``, which is all that is exported here. Must not know: any particular extension, so
that a program that uses none doesn't load one.
"""

from __future__ import annotations

from .base import ClientExtensionFactory, Extension, ServerExtensionFactory

__all__ = ["ClientExtensionFactory", "Extension", "ServerExtensionFactory"]
