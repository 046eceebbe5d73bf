"""Install what the tests of interoperability and of deployments need below a folder, and print their settings.

Charter: standard library only; needs ``npm`` for the Node peer. To use it::

    export $(python tests/interop/install_peers.py FOLDER)

The Python peers get environments of their own, made with the interpreter that runs this script, because the
reference implementation has the same import name as the library under test; and so has its older release.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import venv
from pathlib import Path

HERE = Path(__file__).resolve().parent
DEPLOYMENT = HERE.parent / "deployment"

TIMEOUT = 600


def run(*command: str | Path) -> None:
    """Run one step; what it prints goes to standard error, because standard output is for the settings."""
    subprocess.run(command, stdin=subprocess.DEVNULL, stdout=sys.stderr, timeout=TIMEOUT, check=True)


def install_python(folder: Path, requirements: str) -> Path:
    """Install Python peers; return their interpreter."""
    venv.create(folder, with_pip=True)
    python = folder / "bin" / "python"
    run(python, "-m", "pip", "install", "--quiet", "--requirement", HERE / requirements)
    return python


def install_packages(folder: Path, requirements: Path) -> Path:
    """Install packages beside no interpreter, for programs that have the library under test; return their folder."""
    run(sys.executable, "-m", "pip", "install", "--quiet", "--target", folder, "--requirement", requirements)
    return folder


def install_node(folder: Path) -> Path:
    """Install the Node peers; return the folder of their modules."""
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copy(HERE / "package.json", folder)
    run("npm", "install", "--prefix", folder, "--no-audit", "--no-fund", "--silent")
    return folder / "node_modules"


def main() -> None:
    """Install everything below the folder named on the command line."""
    if len(sys.argv) != 2:
        sys.exit(f"usage: {sys.argv[0]} FOLDER")
    folder = Path(sys.argv[1]).resolve()
    print(f"INTEROP_PYTHON={install_python(folder / 'python', 'requirements.txt')}")
    print(f"INTEROP_LEGACY_PYTHON={install_python(folder / 'legacy', 'legacy-requirements.txt')}")
    print(f"DEPLOYMENT_PACKAGES={install_packages(folder / 'deployment', DEPLOYMENT / 'requirements.txt')}")
    print(f"INTEROP_NODE_PATH={install_node(folder / 'node')}")


if __name__ == "__main__":
    main()
