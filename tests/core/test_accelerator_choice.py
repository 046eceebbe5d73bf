"""Which twin of the accelerator is used, and that what is tested is what its name says."""

from __future__ import annotations

import importlib.machinery
import importlib.util
import logging
import os
import subprocess
import sys
import types
from collections.abc import Callable, Iterable, Mapping

import pytest

import websockets
from core._twins import NATIVE, TWINS
from websockets import _codec
from websockets._compat.environment import WrongVariable

Told = Callable[[], list[tuple[str, str, str]]]


def lacking(environ: Mapping[str, str], present: Iterable[str]) -> set[str]:
    """The twins that must be there and aren't."""
    wanted = {"python", "native"} if environ.get("WEBSOCKETS_REQUIRE_NATIVE") == "1" else {"python"}
    return wanted - set(present)


def test_required_twins_are_there() -> None:
    assert lacking(os.environ, TWINS) == set()


def test_absence_of_the_native_twin_is_noticed() -> None:
    assert lacking({"WEBSOCKETS_REQUIRE_NATIVE": "1"}, ["python"]) == {"native"}
    assert lacking({"WEBSOCKETS_REQUIRE_NATIVE": "1"}, ["python", "native"]) == set()
    assert lacking({}, ["python"]) == set()


@pytest.mark.parametrize("name", TWINS)
def test_twin_is_what_its_name_says(name: str) -> None:
    suffixes = {"python": (".py",), "native": tuple(importlib.machinery.EXTENSION_SUFFIXES)}[name]
    assert TWINS[name].__file__.endswith(suffixes)
    assert TWINS[name].FrameDecoder.__module__ == TWINS[name].__name__


def native_with(**names: object) -> types.ModuleType:
    """A compiled twin that has nothing but these names."""
    module = types.ModuleType(NATIVE)
    vars(module).update(names)
    return module


def test_compiled_twin_that_is_there_is_of_these_sources() -> None:
    """If it isn't, the rest of the suite only tests the readable one: it must be built again."""
    if importlib.util.find_spec(NATIVE) is not None:
        _codec.load_native()


@pytest.mark.parametrize(
    ("value", "expected"), [("python", "python"), ("native", "native"), ("", "native"), (None, "native")]
)
def test_select_native_unless_told(monkeypatch: pytest.MonkeyPatch, value: str | None, expected: str) -> None:
    monkeypatch.setitem(sys.modules, NATIVE, native_with(FINGERPRINT=_codec.FINGERPRINT))
    monkeypatch.delenv("WEBSOCKETS_ACCELERATOR", raising=False)
    if value is not None:
        monkeypatch.setenv("WEBSOCKETS_ACCELERATOR", value)
    assert _codec._select() == expected


def test_there_is_no_other_twin(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WEBSOCKETS_ACCELERATOR", "rust")
    with pytest.raises(WrongVariable, match="^WEBSOCKETS_ACCELERATOR must be native or python, not 'rust'$"):
        _codec._select()


def test_select_python_without_native(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_codec, "_news", [])
    monkeypatch.delenv("WEBSOCKETS_ACCELERATOR", raising=False)
    monkeypatch.setitem(sys.modules, NATIVE, None)
    assert _codec._select() == "python"


class BrokenFinder:
    """Finds a native twin that exists and doesn't load."""

    def __init__(self, error: ImportError) -> None:
        self.error = error

    def find_spec(self, name: str, path: object = None, target: object = None) -> importlib.machinery.ModuleSpec | None:
        return importlib.machinery.ModuleSpec(name, self) if name == NATIVE else None  # type: ignore[arg-type]

    def create_module(self, spec: object) -> None:
        """Leave it to the import system."""

    def exec_module(self, module: object) -> None:
        raise self.error


@pytest.fixture(params=[ImportError, ModuleNotFoundError])
def broken_native(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """A compiled twin that was built and can't be loaded, as by an older compiler for PyPy."""
    monkeypatch.delenv("WEBSOCKETS_ACCELERATOR", raising=False)
    monkeypatch.delitem(sys.modules, NATIVE, raising=False)
    broken = BrokenFinder(request.param("undefined symbol", name="something.else"))
    monkeypatch.setattr(sys, "meta_path", [broken, *sys.meta_path])


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> Told:
    """What the log says of the choice: logger, level and text."""
    monkeypatch.setattr(_codec, "_news", [])
    caplog.set_level(logging.INFO, "websockets")

    def tell() -> list[tuple[str, str, str]]:
        caplog.clear()
        _codec.tell()
        return [(record.name, record.levelname, record.getMessage()) for record in caplog.records]

    return tell


def test_broken_native_twin(broken_native: None, told: Told, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WEBSOCKETS_REQUIRE_NATIVE", raising=False)
    assert _codec._select() == "python"
    text = "the slower accelerator in Python is used: the compiled one can't be loaded: undefined symbol"
    assert told() == [("websockets", "WARNING", text)]
    assert told() == []


def test_broken_native_twin_that_is_required(broken_native: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WEBSOCKETS_REQUIRE_NATIVE", "1")
    with pytest.raises(ImportError, match=r"^undefined symbol$"):
        _codec._select()


# Older ones named no sources at all.
@pytest.fixture(params=[{}, {"FINGERPRINT": "of older sources"}], ids=["none", "other"])
def stale_native(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """A compiled twin of other sources than the code in Python beside it, as after an update of a working tree."""
    monkeypatch.delenv("WEBSOCKETS_ACCELERATOR", raising=False)
    monkeypatch.setitem(sys.modules, NATIVE, native_with(**request.param))


def test_stale_native_twin(stale_native: None, told: Told, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WEBSOCKETS_REQUIRE_NATIVE", raising=False)
    assert _codec._select() == "python"
    ((name, level, text),) = told()
    assert (name, level) == ("websockets", "WARNING")
    assert text.endswith("can't be loaded: it was built from other sources; install the package again")


def test_stale_native_twin_that_is_required(stale_native: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WEBSOCKETS_REQUIRE_NATIVE", "1")
    with pytest.raises(ImportError, match=r"^it was built from other sources; install the package again$"):
        _codec._select()


def test_other_interpreters_have_the_readable_twin(
    broken_native: None, told: Told, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It isn't even tried to load another one, and nobody can do anything about it."""
    monkeypatch.setenv("WEBSOCKETS_REQUIRE_NATIVE", "1")
    monkeypatch.setattr(sys, "implementation", types.SimpleNamespace(name="pypy"))
    assert _codec._select() == "python"
    assert told() == []


def test_missing_twin_is_told_once(told: Told, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WEBSOCKETS_ACCELERATOR", raising=False)
    monkeypatch.setitem(sys.modules, NATIVE, None)
    _codec._select()
    text = "the slower accelerator in Python is used: the compiled one was not built"
    assert told() == [("websockets", "INFO", text)]
    assert told() == []


def test_what_was_asked_for_is_not_told(told: Told, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WEBSOCKETS_ACCELERATOR", "python")
    _codec._select()
    assert told() == []


def test_missing_twin_is_told_when_there_is_a_log() -> None:
    """Not when it is imported, but with the first connection; in every process once, however many loops it has."""
    script = """
import asyncio, logging, sys
sys.modules["websockets._codec._native"] = None
import websockets
from websockets.testing import connected_pair, run
logging.basicConfig(format="%(name)s %(message)s", level=logging.INFO)
async def main():
    for _ in range(2):
        async with connected_pair():
            pass
for _ in range(2):
    run(main())
print(websockets.ACCELERATOR)
"""
    environ = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    environ.pop("WEBSOCKETS_ACCELERATOR", None)
    done = subprocess.run([sys.executable, "-c", script], env=environ, capture_output=True, text=True, check=True)
    assert done.stdout == "python\n"
    text = "websockets the slower accelerator in Python is used: the compiled one was not built"
    assert [line for line in done.stderr.splitlines() if "accelerator" in line] == [text]


def test_the_choice_is_public() -> None:
    assert websockets.ACCELERATOR == _codec.TWIN


def test_environment_forces_python() -> None:
    script = "import websockets._codec as a; print(a.TWIN, a.FrameDecoder.__module__, a.build_frame.__module__)"
    environ = {**os.environ, "WEBSOCKETS_ACCELERATOR": "python", "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run([sys.executable, "-c", script], env=environ, capture_output=True, text=True, check=True)
    module = "websockets._codec._python"
    assert done.stdout.split() == ["python", module, module]


def test_selected_twin_is_one_of_those_tested() -> None:
    selected = TWINS[_codec.TWIN]
    assert _codec.FrameDecoder is selected.FrameDecoder
    assert _codec.apply_mask is selected.apply_mask
    assert _codec.build_frame is selected.build_frame
    assert _codec.build_header is selected.build_header
