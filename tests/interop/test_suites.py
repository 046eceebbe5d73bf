"""The test suites of frameworks that were written for the published package, on ours.

Charter: says which suites, and how they are run; what must hold is that no test fails that passes with the published
package.
"""

from __future__ import annotations

import faulthandler
from pathlib import Path

import pytest

import websockets.version
from interop.suites import REPORT, SUITE_TIMEOUT, compare, install_suite, version_of

# The newest release, whichever it is; and the last one whose tests use the legacy protocol, of websockets 13: what that
# has is deprecated in 17.4, and a warning would fail the test.
# "asgi": with our own protocol class in the place of uvicorn's, whose tests pass with the published package.
PLUGINS = Path(__file__).resolve().parent / "plugins"
# Not with it: the benchmarks, which have no event loop that runs, and a test of nothing but the name of the class.
NOT_ASGI = ["--ignore=tests/benchmarks", "--deselect=tests/test_auto_detection.py::test_websocket_auto"]
SUITES = {
    "uvicorn": ("uvicorn", [], None),
    "uvicorn-0.49": ("uvicorn==0.49.*", ["-W", "ignore::DeprecationWarning"], None),
    "uvicorn-asgi": ("uvicorn", NOT_ASGI, PLUGINS / "uvicorn_asgi.py"),
}


@pytest.mark.parametrize("name", SUITES)
def test_suite(name: str, cache: Path, package: Path, tmp_path: Path, pytestconfig: pytest.Config) -> None:
    # A slow machine needs longer than the time after which a test counts as stuck; each suite has a limit of its own.
    faulthandler.dump_traceback_later(3 * SUITE_TIMEOUT, exit=True)
    requirement, options, plugin = SUITES[name]
    suite = install_suite("uvicorn", requirement, cache)
    assert version_of(suite, package) == websockets.version.version
    worse = compare(suite, package, options, tmp_path, pytestconfig.stash[REPORT], plugin)
    if worse:
        tests = "\n".join(worse)
        (output,) = set(worse.values())
        pytest.fail(f"{output}\n{suite.name} with our package fails:\n{tests}", pytrace=False)
