"""Run tests on a CPython that is newer than this machine's, taken from a newer release of its distribution.

    python .ci/newer_python.py VERSION FOLDER SOURCE TEST...

Packages of a newer Debian are unpacked in FOLDER, from the mirror that apt already uses. Nothing is installed on the
machine: the interpreter runs in its own mount namespace, with FOLDER/root as its root. There the source tree SOURCE is
built with the compiled twin, and pytest runs the TESTs.

If the interpreter isn't available, one line says why, and the status is 0. A test that fails, or a package that can't
be built, is a failure.

Charter: knows apt, dpkg, unshare and pip by their commands, and the extra ``test`` of pyproject.toml.
"""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

# The suites to search for the interpreter, in this order: the next release, and the source of its packages.
SUITES = ("testing", "unstable")

# Packages that compiling and testing need in an empty root; VERSION stands for the version of Python.
PACKAGES = ("pythonVERSION", "pythonVERSION-dev", "pythonVERSION-venv", "gcc", "libc6-dev", "bash", "coreutils")

# Directories that are links since the merge of /usr. On an installed system, a package that isn't unpacked makes them.
MERGED = ("bin", "sbin", "lib", "lib64")

# A configuration with which apt ignores the installed packages, and writes only to its folder.
APT_CONFIG = """\
Dir::State "{folder}/state";
Dir::State::status "{folder}/status";
Dir::Cache "{folder}/cache";
Dir::Etc::sourcelist "{folder}/sources.list";
Dir::Etc::sourceparts "{folder}/none";
Dir::Etc::preferences "{folder}/none/file";
Dir::Etc::preferencesparts "{folder}/none";
APT::Install-Recommends "false";
APT::Sandbox::User "root";
Acquire::Languages "none";
"""

# The profile with few examples, as the tests with other versions use many: see tests/conftest.py.
ENVIRONMENT = {
    "PATH": "/venv/bin:/usr/bin",
    "HOME": "/tmp",
    "LANG": "C.UTF-8",
    "WEBSOCKETS_REQUIRE_NATIVE": "1",
    "HYPOTHESIS_PROFILE": "brief",
}

# A script that runs in its own namespaces. Its arguments are the root, the source tree, and the command.
ENTER = """\
set -e
root=$1 source=$2
shift 2
mount --rbind /dev "$root/dev"
mount -t proc proc "$root/proc"
mount --bind "$source" "$root/source"
cd "$root"
exec chroot "$root" "$@"
"""


class CannotBeHad(Exception):
    """The interpreter isn't available for this machine; the text says why."""


def run(*command: str | Path, **environment: str | Path) -> str:
    """Run a command that is needed to get the interpreter; return its output."""
    surroundings = {**os.environ, **{name: str(value) for name, value in environment.items()}}
    line = shlex.join(map(str, command[:4]))
    try:
        done = subprocess.run(command, env=surroundings, capture_output=True, text=True, timeout=600, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise CannotBeHad(f"{line}: {error}") from error
    if done.returncode:
        said = (done.stderr or done.stdout).strip().splitlines() or [f"status {done.returncode}"]
        raise CannotBeHad(f"{line}: {said[-1]}")
    return done.stdout


def mirrors() -> list[str]:
    """Return the repositories of Debian that this machine uses."""
    lines = run("apt-get", "indextargets", "--format", "$(ORIGIN) $(LABEL) $(REPO_URI)", "Identifier: Packages")
    found = [line.split(" ", 2)[2] for line in lines.splitlines() if line.startswith("Debian Debian ")]
    if not found:
        raise CannotBeHad("apt has no list of Debian's packages: not Debian, or 'apt-get update' was never run")
    return list(dict.fromkeys(found))


def download(version: str, folder: Path) -> list[Path]:
    """Download the interpreter and all packages that it needs, including the C library; return the packages."""
    for name in ("none", "state/lists/partial", "cache/archives/partial"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    (folder / "status").touch()
    (folder / "apt.conf").write_text(APT_CONFIG.format(folder=folder))
    wanted = [name.replace("VERSION", version) for name in PACKAGES]
    problem = CannotBeHad("no suite")
    for mirror in mirrors():
        for suite in SUITES:
            (folder / "sources.list").write_text(f"deb {mirror} {suite} main\n")
            try:
                run("apt-get", "update", "--error-on=any", APT_CONFIG=folder / "apt.conf")
                run("apt-get", "install", "--download-only", "--yes", *wanted, APT_CONFIG=folder / "apt.conf")
            except CannotBeHad as error:
                problem = CannotBeHad(f"{suite} of {mirror}: {error}")
            else:
                return sorted((folder / "cache" / "archives").glob("*.deb"))
    raise problem


def unpack(packages: list[Path], root: Path) -> None:
    """Unpack packages, without running their installation scripts."""
    for name in MERGED:
        (root / "usr" / name).mkdir(parents=True)
        (root / name).symlink_to(f"usr/{name}")
    for name in ("dev", "proc", "source", "tmp", "wheels"):
        (root / name).mkdir()
    for package in packages:
        fetch = shlex.join(["dpkg-deb", "--fsys-tarfile", str(package)])
        run("bash", "-o", "pipefail", "-c", f"{fetch} | tar -x --no-same-owner --keep-directory-symlink -C {root}")
    (root / "etc" / "hosts").write_text("127.0.0.1 localhost\n::1 localhost\n")
    # The installation of ca-certificates would make this file; pip doesn't start without it.
    authorities = sorted((root / "usr" / "share" / "ca-certificates").rglob("*.crt"))
    bundle = root / "etc" / "ssl" / "certs" / "ca-certificates.crt"
    bundle.parent.mkdir(parents=True, exist_ok=True)
    bundle.write_text("".join(path.read_text() for path in authorities))


def inside(root: Path, source: Path, *command: str) -> list[str]:
    """Return the command that runs another command in that root."""
    namespaces = ["--mount", "--pid", "--fork", "--kill-child"]
    if os.getuid():
        namespaces.append("--map-root-user")
    return ["unshare", *namespaces, "bash", "-c", ENTER, "enter", str(root), str(source), *command]


def wheels(version: str, source: Path, folder: Path) -> None:
    """Download the requirements of building and testing with this machine's pip, which can reach the index."""
    project = tomllib.loads((source / "pyproject.toml").read_text())
    wanted = [*project["build-system"]["requires"], *project["project"]["optional-dependencies"]["test"]]
    options = ["--quiet", "--only-binary=:all:", "--python-version", version, "--dest", str(folder)]
    subprocess.run([sys.executable, "-m", "pip", "download", *options, *wanted], check=True)


def main() -> int:
    """Get the interpreter, build, and run the tests; return the status for the shell."""
    version, (folder, source), tests = sys.argv[1], (Path(name).resolve() for name in sys.argv[2:4]), sys.argv[4:]
    root = folder / "root"
    python = f"/usr/bin/python{version}"
    try:
        for name in ("apt-get", "dpkg-deb", "unshare", "chroot"):
            if shutil.which(name) is None:
                raise CannotBeHad(f"there is no {name} here")
        unpack(download(version, folder / "apt"), root)
        print(run(*inside(root, source, python, "-VV")), end="", flush=True)
    except CannotBeHad as reason:
        print(f"CPython {version} cannot be had here, so nothing was tested on it: {reason}")
        return 0
    wheels(version, source, root / "wheels")
    pip = ["/venv/bin/pip", "--isolated", "install", "--quiet", "--no-cache-dir", "--no-index", "--find-links=/wheels"]
    steps = [
        f"{python} -m venv /venv",
        f'{shlex.join(pip)} "/source[test]"',
        "cd /source",
        f"/venv/bin/python -m pytest -q -p no:cacheprovider {shlex.join(tests)}",
    ]
    # Don't pass on the environment of the machine, which belongs to another interpreter.
    clean = ["/usr/bin/env", "-i", *(f"{name}={value}" for name, value in ENVIRONMENT.items())]
    command = inside(root, source, *clean, "/usr/bin/bash", "-euo", "pipefail", "-c", "\n".join(steps))
    return subprocess.run(command, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
