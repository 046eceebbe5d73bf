"""A program that looks up modules, by their names, as attributes of the package; shared by tests of what programs find.

May know: how modules are imported.
"""

from __future__ import annotations

__all__ = ["RESOLVE"]

# It prints the name of each module that it finds. What one loads is forgotten before the next.
RESOLVE = """
import sys
for module in sys.argv[1:]:
    import websockets
    try:
        print(eval(module).__name__)
    except Exception as exc:
        print(module, repr(exc))
    for name in [name for name in sys.modules if name.partition(".")[0] == "websockets"]:
        del sys.modules[name]
"""
