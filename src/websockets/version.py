"""The version of this package, under the three names that programs use.

May know: nothing. Must not know: how the package was installed; ``commit`` exists only for programs that read it.
"""

from __future__ import annotations

__all__ = ["commit", "tag", "version"]

version = "18.0"
"""The version of this package, as in ``websockets.__version__``."""
tag = commit = version
"""Another name for :data:`version`."""
released = True
