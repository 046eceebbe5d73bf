"""``python -m websockets``: the command.

May know: where it is. Must not know: what it does.
"""

from __future__ import annotations

from .cli import main

__all__: list[str] = []

if __name__ == "__main__":
    main()
