"""The test suites of other projects, each run with the published package and with ours.

Charter: makes environments, unpacks source distributions, runs pytest in them and reads what it prints. Knows nothing
of what the suites test. The environments are kept below the folder in INTEROP_CACHE, if that is set.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import shutil
import signal
import subprocess
import sys
import tarfile
import tomllib
import venv
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pytest

from interop.frameworks import INSTALL_TIMEOUT, run

# Lines that are printed when all tests have run, even if all of them passed.
REPORT = pytest.StashKey[list[str]]()

PUBLISHED = "websockets==17.4"

# Seconds for one test, which some of them need with the published package, and for a whole suite.
TEST_TIMEOUT = 20
SUITE_TIMEOUT = 240

# Most tests wait most of the time.
WORKERS = 4

# Of the packages that a project develops with, those that its tests don't need; and those that are chosen here.
UNNEEDED = re.compile(r"(ruff|mypy|ty|types-.*|.*-stubs|codespell|griffe|twine|coverage.*|uvicorn|websockets)")


# The optional dependencies of projects that their tests need.
EXTRAS = {"uvicorn": "[standard]", "openai": "[aiohttp]"}


@dataclass(frozen=True)
class Suite:
    """A suite that can be run.

    Attributes:
        name: the project and its version.
        python: interpreter of an environment with the project, what its tests need, and the published package.
        folder: where its source distribution was unpacked.
    """

    name: str
    python: Path
    folder: Path

    def files(self, pattern: str) -> list[str]:
        """Return the files of tests whose names match a pattern."""
        found = sorted(str(file.relative_to(self.folder)) for file in self.folder.glob(pattern))
        assert found, pattern
        return found


@dataclass(frozen=True)
class Outcome:
    """How a run ended: the tests that passed, and the last line of pytest."""

    passed: frozenset[str]
    closing: str
    output: str


def install_suite(project: str, requirement: str, cache: Path) -> Suite:
    """Make what is needed to run the suite of a project, unless it is there."""
    contents = hashlib.sha256(f"{requirement} {PUBLISHED} {UNNEEDED.pattern} {sys.version}".encode()).hexdigest()[:16]
    folder = cache / f"suite-{contents}"
    python, finished, sources = folder / "bin" / "python", folder / "finished", folder / "sources"
    if not finished.exists():
        venv.create(folder, with_pip=True, clear=True)
        pip = (python, "-m", "pip", "--quiet")
        download = (*pip, "download", "--no-deps", "--no-binary", project, "--dest", folder, requirement)
        run(*download, timeout=INSTALL_TIMEOUT)
        (archive,) = folder.glob(f"{project.replace('-', '_')}-*.tar.gz")
        with tarfile.open(archive) as packed:
            packed.extractall(sources, filter="data")
        (unpacked,) = sources.iterdir()
        plugins = ("pytest-timeout", "pytest-xdist")
        needed = [f"{unpacked}{EXTRAS.get(project, '')}", PUBLISHED, *plugins, *needed_packages(unpacked)]
        run(*pip, "install", *needed, timeout=INSTALL_TIMEOUT)
        finished.touch()
    (unpacked,) = sources.iterdir()
    return Suite(unpacked.name.replace("-", " "), python, unpacked)


def needed_packages(unpacked: Path) -> list[str]:
    """Return what a source distribution says that its tests need."""
    groups = tomllib.loads((unpacked / "pyproject.toml").read_text("utf-8"))["dependency-groups"]

    def requirements(group: str) -> list[str]:
        """Return the requirements of a group; it may include others."""
        return [
            each
            for entry in groups[group]
            for each in ([entry] if isinstance(entry, str) else requirements(entry["include-group"]))
        ]

    return [each for each in requirements("dev") if not UNNEEDED.fullmatch(re.split(r"[^\w-]", each, maxsplit=1)[0])]


def environment(package: Path | None, plugin: Path | None = None) -> dict[str, str]:
    """Return the variables for a run, with what is installed in a folder instead of the published package."""
    variables = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    folders = [str(package)] if package is not None else []
    if plugin is not None:
        folders.append(str(plugin.parent))
    return variables | {"PYTHONPATH": os.pathsep.join(folders)} if folders else variables


def version_of(suite: Suite, package: Path | None) -> str:
    """Return the version of ``websockets`` that a run has."""
    command: list[str | Path] = [suite.python, "-c", "import websockets.version; print(websockets.version.version)"]
    return subprocess.check_output(command, env=environment(package), encoding="utf-8", timeout=TEST_TIMEOUT).strip()


def run_suite(
    suite: Suite, package: Path | None, options: list[str], copy: Path, plugin: Path | None = None
) -> Outcome:
    """Run a suite in a copy of its own, as tests write files."""
    shutil.copytree(suite.folder, copy)
    command: list[str | Path] = [
        *(suite.python, "-m", "pytest", "-p", "no:cacheprovider", "-n", str(WORKERS), "--timeout", str(TEST_TIMEOUT)),
        *("-q", "--tb=short", "-rpfE", *options),
        *(() if plugin is None else ("-p", plugin.stem)),
    ]
    with (
        (copy / "output").open("w+", encoding="utf-8", errors="replace") as output,
        subprocess.Popen(
            command,
            cwd=copy,
            env=environment(package, plugin),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
        ) as process,
    ):
        try:
            process.wait(SUITE_TIMEOUT)
        finally:
            # Tests that failed may leave processes behind, and those may ignore a polite request.
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
        output.seek(0)
        return read_outcome(output.read())


def read_outcome(output: str) -> Outcome:
    """Read what pytest printed: a line for each test that passed, and those with errors afterwards."""
    lines = output.rpartition("short test summary info")[2].splitlines()
    passed = {line.removeprefix("PASSED ") for line in lines if line.startswith("PASSED ")}
    errors = {line.removeprefix("ERROR ").partition(" - ")[0] for line in lines if line.startswith("ERROR ")}
    closing = next((line.strip("= ") for line in reversed(lines) if re.search(r" in [\d.]+s", line)), "no closing line")
    return Outcome(frozenset(passed - errors), closing, output)


def compare(
    suite: Suite,
    package: Path,
    options: list[str],
    files: list[str],
    folder: Path,
    report: list[str],
    plugin: Path | None = None,
) -> dict[str, str]:
    """Run a suite with both packages at the same time.

    Tests that pass with the published package only are run once more with both, as some fail now and then.

    Parameters:
        suite: the suite.
        package: folder in which our package is installed.
        options: options for pytest.
        files: the files of tests to run; none for all of them.
        folder: an empty folder, for copies of the suite.
        report: lines that tell how each run ended are added to it.
        plugin: a plugin of pytest for the run with ours; None for none.

    Returns:
        The tests that pass with the published package and not with ours, and what the run with ours printed.
    """
    packages = {"published": None, "ours": package}
    versions = {name: version_of(suite, package) for name, package in packages.items()}
    assert versions["published"] == PUBLISHED.partition("==")[2] != versions["ours"], versions

    def run_both(turn: str, tests: list[str]) -> tuple[Outcome, Outcome]:
        with ThreadPoolExecutor() as pool:
            runs = [
                pool.submit(
                    run_suite,
                    suite,
                    package,
                    [*options, *tests],
                    folder / f"{turn}-{name}",
                    None if package is None else plugin,
                )
                for name, package in packages.items()
            ]
        published, ours = (each.result() for each in runs)
        for outcome, version in zip((published, ours), versions.values(), strict=True):
            report.append(f"{suite.name} with websockets {version}, {turn} run: {outcome.closing}")
        assert published.passed, published.output
        return published, ours

    published, ours = run_both("first", files)
    suspects = sorted(published.passed - ours.passed)
    if not suspects:
        return {}
    report.extend(f"  to be run again: {test}" for test in suspects)
    published, ours = run_both("second", suspects)
    return dict.fromkeys(sorted(published.passed - ours.passed), ours.output)
