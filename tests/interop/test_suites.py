"""The test suites of frameworks that were written for the published package, on ours.

Charter: says which suites, and how they are run; what must hold is that no test fails that passes with the published
package.
"""

from __future__ import annotations

import faulthandler
from pathlib import Path
from typing import NamedTuple

import pytest

import websockets.version
from interop.suites import REPORT, SUITE_TIMEOUT, compare, install_suite, version_of

# What is deprecated in 17.4 fails no test.
LENIENT = ("-W", "ignore::DeprecationWarning")

PLUGINS = Path(__file__).resolve().parent / "plugins"
# Not with our protocol class: the benchmarks, which have no event loop that runs, and a test of nothing but its name.
NOT_ASGI = ("--ignore=tests/benchmarks", "--deselect=tests/test_auto_detection.py::test_websocket_auto")


class Chosen(NamedTuple):
    """A suite, and how it is run.

    Attributes:
        project: its name.
        requirement: the release.
        options: options for pytest.
        files: pattern of the files with the tests; empty for all.
        plugin: a plugin of pytest for the run with ours; None for none.
    """

    project: str
    requirement: str
    options: tuple[str, ...] = ()
    files: str = ""
    plugin: Path | None = None


# The newest release, whichever it is. Of uvicorn also the last one whose tests use the legacy protocol, of websockets
# 13; and once with our own protocol class in the place of its own. langgraph-sdk uses websockets.sync.
SUITES = {
    "uvicorn": Chosen("uvicorn", "uvicorn"),
    "uvicorn-0.49": Chosen("uvicorn", "uvicorn==0.49.*", LENIENT),
    "uvicorn-asgi": Chosen("uvicorn", "uvicorn", NOT_ASGI, plugin=PLUGINS / "uvicorn_asgi.py"),
    "langgraph-sdk": Chosen("langgraph-sdk", "langgraph-sdk"),
}


@pytest.mark.parametrize("name", SUITES)
def test_suite(name: str, cache: Path, package: Path, tmp_path: Path, pytestconfig: pytest.Config) -> None:
    # A slow machine needs longer than the time after which a test counts as stuck; each suite has a limit of its own.
    faulthandler.dump_traceback_later(3 * SUITE_TIMEOUT, exit=True)
    chosen = SUITES[name]
    suite = install_suite(chosen.project, chosen.requirement, cache)
    assert version_of(suite, package) == websockets.version.version
    files = suite.files(chosen.files) if chosen.files else []
    report = pytestconfig.stash[REPORT]
    worse = compare(suite, package, list(chosen.options), files, tmp_path, report, chosen.plugin)
    if worse:
        tests = "\n".join(worse)
        (output,) = set(worse.values())
        pytest.fail(f"{output}\n{suite.name} with our package fails:\n{tests}", pytrace=False)
