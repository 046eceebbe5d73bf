"""Check that a wheel holds what it must, and nothing else.

Charter: looks at the wheel given on the command line only; installs and imports nothing.
"""

from __future__ import annotations

import re
import sys
import zipfile
from email import message_from_bytes

REQUIRED = {"websockets/__init__.py", "websockets/py.typed", "websockets/version.py"}

COMMAND = "websockets = websockets.cli:main"

# It is optional for those who install: without a compiler, building succeeds all the same.
TWIN = re.compile(r"websockets/_accelerator/_native\.[^/]*(?:so|pyd)")


def problems(wheel: zipfile.ZipFile) -> list[str]:
    """Return what is wrong with a wheel."""
    names = set(wheel.namelist())
    (metadata_name,) = (name for name in names if name.endswith(".dist-info/METADATA"))
    metadata = message_from_bytes(wheel.read(metadata_name))
    top = {name.partition("/")[0] for name in names if ".dist-info/" not in name}
    demands = [demand for demand in metadata.get_all("Requires-Dist", []) if "extra ==" not in demand]
    entry_points = [wheel.read(name).decode() for name in names if name.endswith(".dist-info/entry_points.txt")]
    found = {
        "missing": REQUIRED - names,
        "without compiled twin": set() if any(map(TWIN.fullmatch, names)) else {"websockets._accelerator._native"},
        "not ours": top - {"websockets"},
        "required at run time": demands,
        "without command": set() if any(COMMAND in text for text in entry_points) else {COMMAND},
        "without license": [] if metadata.get_all("License-File") else [metadata_name],
    }
    return [f"{problem}: {', '.join(sorted(items))}" for problem, items in found.items() if items]


def main() -> None:
    """Check the wheel named on the command line; exit with status 1 if something is wrong."""
    with zipfile.ZipFile(sys.argv[1]) as wheel:
        if found := problems(wheel):
            sys.exit("\n".join(found))
    print(f"{sys.argv[1]}: complete")


if __name__ == "__main__":
    main()
