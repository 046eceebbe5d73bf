"""The targets of the fuzzer in the suite: what is kept, and a little that is new."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from fuzz import command, engines, inputs
from fuzz.target import Broken, Reader, Target, alike, chunkings, outcome, require, shown
from fuzz.worlds import WORLDS

TARGETS = engines.find()

every_target = pytest.mark.parametrize("target", TARGETS.values(), ids=TARGETS)


# ---------------------------------------------------------------------------------------------------------- invariants


@every_target
def test_inputs_that_are_kept(target: Target) -> None:
    for data in [b"", *inputs.corpus(target.name), *inputs.regressions(target.name)]:
        assert len(data) <= target.limit
        target.check(data)


@every_target
def test_inputs_that_were_changed(target: Target) -> None:
    for data in engines.mutants(target, inputs.corpus(target.name), 75):
        target.check(data)


@every_target
@given(data=st.data())
def test_words_in_any_order(target: Target, data: st.DataObject) -> None:
    pieces = st.sampled_from(target.words) | st.binary(max_size=3)
    settings = data.draw(st.binary(min_size=target.settings, max_size=target.settings))
    target.check(settings + b"".join(data.draw(st.lists(pieces, max_size=12))))


# ---------------------------------------------------------------------------------------------------------- the fuzzer


def test_every_target_has_a_corpus() -> None:
    kept = {path.stem for path in Path(inputs.__file__).parent.glob("corpus/*.txt")}
    assert kept == set(TARGETS)
    assert all(inputs.corpus(name) for name in TARGETS)
    regressions = {path.stem for path in Path(inputs.__file__).parent.glob("regressions/*.txt")}
    assert regressions <= set(TARGETS)


def test_both_twins_are_compared_where_both_are_there() -> None:
    twins = [world.accelerator.TWIN for world in WORLDS]
    assert sorted(twins) == sorted({"python", *twins})
    assert len({id(world.connection.Connection) for world in WORLDS}) == len(WORLDS)
    if len(WORLDS) == 2:
        assert WORLDS[0].fast_path.FastPath is not WORLDS[1].fast_path.FastPath


def test_mutants_are_the_same_each_time() -> None:
    target = TARGETS["frames"]
    first = engines.mutants(target, [b"corpus"], 50)
    assert first == engines.mutants(target, [b"corpus"], 50)
    assert first != engines.mutants(target, [b"corpus"], 50, seed=1)
    assert len({*first}) > 30


@given(st.binary(max_size=1000), st.integers(0, 255))
@example(b"", 0)
def test_chunks_are_the_input(data: bytes, seed: int) -> None:
    for chunks in chunkings(data, seed):
        assert b"".join(chunks) == data


def test_settings_end_where_the_input_ends() -> None:
    reader = Reader(b"\x01\x02\x03ab")
    assert (reader.byte(), reader.number(), reader.choose("xy"), reader.take(5), reader.byte()) == (
        1,
        515,
        "y",
        b"b",
        0,
    )
    assert not reader
    assert reader.rest() == b""


def test_an_invariant_that_does_not_hold() -> None:
    with pytest.raises(Broken, match="not the same"):
        alike([1, 1, 2])
    with pytest.raises(Broken, match="fit a line"):
        shown(ValueError("two\nlines"))
    with pytest.raises(Broken, match="'why'; 5"):
        require([], "why", 5)


def test_only_exceptions_that_were_expected() -> None:
    assert outcome((ValueError,), int, "x")[0] == "raised"
    assert outcome((ValueError,), int, "5") == ("returned", 5)
    # What derives from an expected one is another.
    with pytest.raises(UnicodeDecodeError):
        outcome((ValueError,), b"\xff".decode)


# ------------------------------------------------------------------------------------------------------------- command


def test_a_finding_is_reported(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def check(data: bytes) -> None:
        require(len(data) < 5, "five bytes")

    folder = tmp_path / "close"
    monkeypatch.setattr(engines, "find", lambda: {"close": Target("close", check, (b"abc",))})
    command.prepare("close", folder)
    assert engines.child("blind", "close", 60, 1, folder) == engines.FOUND
    (found,) = folder.glob("found-*")
    assert len(found.read_bytes()) >= 5


@pytest.mark.parametrize("engine", [engine for engine in engines.ENGINES if engines.available(engine)])
def test_the_command_prints_a_table(engine: str, tmp_path: Path) -> None:
    run = [sys.executable, str(Path(command.__file__).with_name("run.py")), "--engine", engine]
    done = subprocess.run([*run, "--seconds", "1", "--target", "close"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    lines = done.stdout.splitlines()
    assert lines[0] == f"engine {engine}, seed 1, 1 s for each of 1 targets"
    name, executions, _, verdict = lines[2].split()
    assert (name, verdict) == ("close", "ok")
    assert int(executions) > 100
