"""Settings of the interoperability tests."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from interop.frameworks import build_package, install_frameworks, unpack_package
from interop.suites import REPORT

# It compares reports; a failed comparison should show in what they differ.
pytest.register_assert_rewrite("interop.conversation")


def pytest_configure(config: pytest.Config) -> None:
    config.stash[REPORT] = []


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    if config.stash[REPORT]:
        terminalreporter.section("test suites of other projects")
        for line in config.stash[REPORT]:
            terminalreporter.line(line)


@pytest.fixture(scope="session")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where environments are made."""
    return Path(os.environ.get("INTEROP_CACHE") or tmp_path_factory.mktemp("cache")).resolve()


@pytest.fixture(scope="session")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A wheel of our package."""
    return build_package(tmp_path_factory.mktemp("wheel"))


@pytest.fixture(scope="session")
def package(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with our package."""
    return unpack_package(wheel, tmp_path_factory.mktemp("package"))


@pytest.fixture(scope="session")
def frameworks(cache: Path, wheel: Path) -> Path:
    """The interpreter of an environment with the frameworks and our package."""
    return install_frameworks(cache, wheel)
