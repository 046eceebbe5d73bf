"""Check that a source distribution contains everything under version control, and nothing else.

    python check_sdist.py ARCHIVE FOLDER

Charter: compares ARCHIVE with FOLDER, a copy of the files under version control; unpacks nothing.
"""

from __future__ import annotations

import re
import sys
import tarfile
from pathlib import Path

# Files that building the distribution adds.
MADE = re.compile(r"PKG-INFO|setup\.cfg|src/[^/]+\.egg-info(?:/.*)?")


def problems(archive: tarfile.TarFile, folder: Path) -> list[str]:
    """Return the mistakes in a source distribution."""
    files = {name.partition("/")[2] for name in archive.getnames() if archive.getmember(name).isfile()}
    packed = {name for name in files if not MADE.fullmatch(name)}
    tree = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    tree = {name for name in tree if not MADE.fullmatch(name)}
    found = {"missing": tree - packed, "not ours": packed - tree}
    return [f"{problem}: {', '.join(sorted(names))}" for problem, names in found.items() if names]


def main() -> None:
    """Check the archive named on the command line; exit with status 1 if something is wrong."""
    with tarfile.open(sys.argv[1]) as archive:
        if found := problems(archive, Path(sys.argv[2])):
            sys.exit("\n".join(found))
    print(f"{sys.argv[1]}: complete")


if __name__ == "__main__":
    main()
