"""The fuzzer: ``python tests/fuzz/run.py --help``.

Charter: makes the folder of the fuzzer a package that this process can import, and starts ``fuzz.command``.
"""

from __future__ import annotations

import sys
from importlib import import_module
from pathlib import Path

if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).resolve().parents[1])
    sys.exit(import_module("fuzz.command").main())
