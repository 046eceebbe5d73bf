"""Settings of the whole suite.

Hypothesis runs the same examples each time, so that a red test stays red. By default there are few, ``brief``.
``HYPOTHESIS_PROFILE=suite``, as in .ci/run, has ten times as many, ``thorough`` twenty times, and ``long`` looks for
new ones. ``covered``, between the two, is for measuring coverage. Without a profile, tests have not all
combinations of their parameters: see :mod:`_kit.brief`.

The garbage of tests is collected module by module: see :mod:`_kit.garbage`.

Tests that are marked ``scenario`` are counted by the numbers of their scenarios, in the last lines of a run.

``WEBSOCKETS_TEST_TASKS=eager`` has each loop of asyncio run tasks as soon as they are made, and ``python`` has tasks
and futures in Python instead of C: programs may choose either.
"""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import sys
import tempfile
from collections.abc import Generator, Hashable, Iterator
from typing import Any

import pytest
from hypothesis import settings

from _kit import USUAL, settle
from _kit.alarm import Alarm
from _kit.brief import BRIEF, every_pair
from _kit.tls import TLS_TRANSPORTS
from websockets._rules import tls_transports

settings.register_profile("suite", derandomize=True, deadline=None, max_examples=USUAL, database=None)
settings.register_profile("thorough", settings.get_profile("suite"), max_examples=2 * USUAL)
settings.register_profile("brief", settings.get_profile("suite"), max_examples=USUAL // 10)
settings.register_profile("covered", settings.get_profile("suite"), max_examples=USUAL // 4)
settings.register_profile("long", derandomize=False, deadline=None, max_examples=5000)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "brief"))


def choose_tasks(kind: str) -> None:
    """Have every loop of asyncio use tasks of this kind."""
    if kind == "python":
        # From Python 3.14 on, asyncio's functions in C don't know tasks in Python, and those for Python go with them.
        for name in [name for name in vars(asyncio.tasks) if name.startswith("_py_")]:
            for public in (name.removeprefix("_py"), name.removeprefix("_py_")):
                for module in (asyncio.tasks, asyncio):
                    if hasattr(module, public):
                        setattr(module, public, getattr(asyncio.tasks, name))
        asyncio.Task = asyncio.tasks.Task = asyncio.tasks._PyTask  # type: ignore[misc,attr-defined]
        asyncio.Future = asyncio.futures.Future = asyncio.futures._PyFuture  # type: ignore[misc,attr-defined]
        if sys.version_info >= (3, 12):
            factory = asyncio.create_eager_task_factory(asyncio.Task)
            asyncio.eager_task_factory = asyncio.tasks.eager_task_factory = factory
    elif kind == "eager":
        initialize = asyncio.BaseEventLoop.__init__

        def __init__(self: Any) -> None:
            initialize(self)
            self.set_task_factory(asyncio.eager_task_factory)  # type: ignore[attr-defined]

        asyncio.BaseEventLoop.__init__ = __init__  # type: ignore[method-assign]
    elif kind:
        raise pytest.UsageError(f"WEBSOCKETS_TEST_TASKS must be 'eager' or 'python', not {kind!r}")


choose_tasks(os.environ.get("WEBSOCKETS_TEST_TASKS", ""))

# A shell has what runs in the background ignore Ctrl-C, and `nohup` has it ignore SIGHUP. So would the commands that
# tests start and interrupt: they inherit what is ignored, but no handler.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
if hasattr(signal, "SIGHUP") and signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:
    signal.signal(signal.SIGHUP, lambda number, frame: None)


# Where tests of TLS on asyncio are, and the parameters by which they ask for it.
OVER_TLS = ("asyncio", "kit", "legacy", "robustness", "scenarios")
ASK_FOR_TLS = frozenset(("tls", "secure", "secure_proxy"))


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run each test of TLS on asyncio with each transport for it: where "tls" is in its name, or it asks for TLS."""
    asks = "tls" in metafunc.function.__name__ or not ASK_FOR_TLS.isdisjoint(metafunc.fixturenames)
    itself = any("tls_transport" in mark.args[0] for mark in metafunc.definition.iter_markers("parametrize"))
    if metafunc.definition.path.parent.name in OVER_TLS and asks and not itself:
        metafunc.parametrize("tls_transport", TLS_TRANSPORTS, indirect=True)


@pytest.fixture(autouse=True)
def tls_transport(request: pytest.FixtureRequest) -> Iterator[str | None]:
    """The transport for TLS on asyncio, as if the environment asked for it; None for what it asks for."""
    name: str | None = getattr(request, "param", None)
    before, tls_transports.ASKED = tls_transports.ASKED, name or tls_transports.ASKED
    yield name
    tls_transports.ASKED = before


def pytest_configure(config: pytest.Config) -> None:
    """Set the alarm, and let the processes that tests start share bytecode.

    They do so also where none may be written beside the sources. There are hundreds of these processes, and compiling
    the library takes each longer than everything else that it does.
    """
    config.pluginmanager.register(Alarm())
    if os.environ.pop("PYTHONDONTWRITEBYTECODE", "") and "PYTHONPYCACHEPREFIX" not in os.environ:
        folder = tempfile.TemporaryDirectory(prefix="bytecode-", ignore_cleanup_errors=True)
        os.environ["PYTHONPYCACHEPREFIX"] = folder.name
        config.add_cleanup(folder.cleanup)


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """Have the collector see nothing of what is there before the first test."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.enable()
        settle()


def pytest_runtest_teardown(item: pytest.Item, nextitem: pytest.Item | None) -> None:
    """Have what a module left complain in the last of its tests."""
    if nextitem is None or nextitem.path != item.path:
        settle()


def pytest_sessionfinish() -> None:
    """Let pytest hear every complaint. It collects five times in the end; once is enough with all there is by then."""
    getattr(gc, "unfreeze", int)()
    settle()


def combination(item: pytest.Item) -> dict[str, Hashable]:
    """What a test is run with: a row of each table by which it is parametrized, and what fixtures have."""
    params: dict[str, object] = getattr(getattr(item, "callspec", None), "params", {})
    tables = {name: name for name in params}
    for mark in item.iter_markers("parametrize"):
        names = mark.args[0] if isinstance(mark.args[0], str) else ",".join(mark.args[0])
        tables.update((name.strip(), names) for name in names.split(","))
    rows: dict[str, tuple[int, ...]] = {}
    for name, value in params.items():
        # A value is the same object in all combinations, but not always hashable.
        rows[tables[name]] = (*rows.get(tables[name], ()), id(value))
    return dict(rows)


def leave_out_combinations(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave of each test the combinations of its parameters in which every pair of values meets."""
    tests: dict[object, list[pytest.Item]] = {}
    for item in items:
        tests.setdefault((item.parent, getattr(item, "originalname", item.name)), []).append(item)
    chosen: set[pytest.Item] = set()
    for of_test in tests.values():
        chosen.update(of_test[place] for place in every_pair(map(combination, of_test)))
    left_out = [item for item in items if item not in chosen]
    if left_out:
        items[:] = [item for item in items if item in chosen]
        config.hook.pytest_deselected(items=left_out)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Have the report of a test tell its scenarios; run what is without TLS once. Leave out what is too much."""
    for item in items[:]:
        params: dict[str, object] = getattr(getattr(item, "callspec", None), "params", {})
        flags = [params[name] for name in ASK_FOR_TLS.intersection(params)]
        if flags and not any(flags) and params.get("tls_transport", TLS_TRANSPORTS[0]) != TLS_TRANSPORTS[0]:
            items.remove(item)
            continue
        for mark in item.iter_markers("scenario"):
            item.user_properties += [("scenario", number) for number in mark.args]
    if BRIEF:
        leave_out_combinations(config, items)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Tell how many scenarios passed: those with a test that passed, and none that did not; with -v, test by test."""
    counts: dict[int, list[int]] = {}
    for outcome in ("passed", "failed", "error"):
        for report in terminalreporter.getreports(outcome):
            for name, number in getattr(report, "user_properties", ()):
                if name == "scenario":
                    counts.setdefault(int(str(number)), [0, 0])[outcome != "passed"] += 1
    if counts:
        good = [number for number, (passed, failed) in counts.items() if passed and not failed]
        terminalreporter.section("scenarios of docs/robustness.md")
        if config.get_verbosity() > 0:
            for number, (passed, failed) in sorted(counts.items()):
                terminalreporter.line(f"{number:2}: {passed} passed, {failed} failed")
        for number in sorted(set(counts) - set(good)):
            terminalreporter.line(f"scenario {number} does not hold")
        terminalreporter.line(f"{len(good)} of {len(counts)} passed")
