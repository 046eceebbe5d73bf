"""Check that a wheel contains all necessary files, and nothing else.

    python check_wheel.py WHEEL [SOURCE]

Charter: compares the wheel with the source tree SOURCE, by default the one of this file; installs and imports nothing.
"""

from __future__ import annotations

import re
import sys
import zipfile
from collections.abc import Iterable
from email import message_from_bytes
from email.message import Message
from pathlib import Path

COMMAND = "websockets = websockets.cli:main"

# The compiled twin is optional: without a compiler, building succeeds, too.
TWIN = re.compile(r"websockets/_codec/_native\.[^/]*(?:so|pyd)")

# Files for Python, and files for type checkers.
WANTED = ("*.py", "*.pyi", "py.typed")


def belonging(source: Path) -> set[str]:
    """Return the names of the files that a wheel must contain."""
    package = source / "src" / "websockets"
    return {path.relative_to(package.parent).as_posix() for pattern in WANTED for path in package.rglob(pattern)}


def problems(wheel: zipfile.ZipFile, source: Path) -> list[str]:
    """Return the mistakes in a wheel."""
    names = set(wheel.namelist())
    wanted = belonging(source)
    found: dict[str, Iterable[str]] = {
        "missing": wanted - names,
        "without compiled twin": [] if any(map(TWIN.fullmatch, names)) else ["websockets._codec._native"],
        "not ours": {name for name in names - wanted if ".dist-info/" not in name and not TWIN.fullmatch(name)},
    }
    (info,) = {name.partition("/")[0] for name in names if name.partition("/")[0].endswith(".dist-info")}
    metadata, tags = (message_from_bytes(wheel.read(f"{info}/{name}")) for name in ("METADATA", "WHEEL"))
    entry_points = wheel.read(f"{info}/entry_points.txt").decode()
    found["without command"] = [] if COMMAND in entry_points else [COMMAND]
    found |= metadata_problems(metadata, tags)
    return [f"{problem}: {', '.join(sorted(items))}" for problem, items in found.items() if items]


def metadata_problems(metadata: Message, tags: Message) -> dict[str, Iterable[str]]:
    """Return the mistakes in the metadata of a wheel."""
    classifiers = metadata.get_all("Classifier", [])
    urls = [metadata["Home-page"] or "", *metadata.get_all("Project-URL", [])]
    return {
        "required at run time": [text for text in metadata.get_all("Requires-Dist", []) if "extra ==" not in text],
        "without license": [] if metadata.get_all("License-File") else ["License-File"],
        "without description": [] if metadata.get_payload() else ["README"],
        "leads nowhere on an index": re.findall(r"\]\((?!\w+:|#)[^)]*\)", str(metadata.get_payload())),
        "not said to be typed": [] if "Typing :: Typed" in classifiers else ["Typing :: Typed"],
        "placeholder": [url for url in urls if re.search(r"example\.|localhost|todo", url, re.IGNORECASE)],
        # A wheel with a compiled twin is for one interpreter on one platform.
        "for any platform": [tag for tag in tags.get_all("Tag", []) if tag.endswith("-none-any")],
    }


def main() -> None:
    """Check the wheel named on the command line; exit with status 1 if something is wrong."""
    source = Path(sys.argv[2]) if len(sys.argv) > 2 else Path(__file__).resolve().parent.parent
    with zipfile.ZipFile(sys.argv[1]) as wheel:
        if found := problems(wheel, source):
            sys.exit("\n".join(found))
    print(f"{sys.argv[1]}: complete")


if __name__ == "__main__":
    main()
