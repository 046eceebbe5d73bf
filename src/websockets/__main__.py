"""The command ``python -m websockets``.

May know: the place of the command. Must not know: what it does.
"""

from __future__ import annotations

from .cli import main

__all__: list[str] = []

if __name__ == "__main__":
    main()
