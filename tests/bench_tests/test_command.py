"""The command of the benchmark: options, the order of measurements, exit status; and all of it once, for a moment."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from argparse import Namespace
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from bench import command
from bench.cases import CASES, TLS_CASES, Case, all_cases, choose
from bench.children import ChildFailed
from bench.contenders import Contender
from bench.report import BEGIN, END
from bench.results import Results, Row
from bench.stats import Measurement

from .samples import results

ROOT = Path(__file__).parents[2]
RUN = ROOT / "tests" / "bench" / "run.py"
LIMIT = 60  # seconds; it takes a few


def run(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src"), "PYTHONUTF8": "1"}
    return subprocess.run(
        [sys.executable, "-W", "error", RUN, *arguments],
        env=environment,
        capture_output=True,
        text=True,
        encoding="utf-8",
        timeout=LIMIT,
    )


@pytest.fixture
def figures(tmp_path: Path) -> Path:
    """A file with results."""
    file = tmp_path / "figures.json"
    file.write_text(results().to_json(), "utf-8")
    return file


# ------------------------------------------------------------------------------------------------------------ all of it


def test_quick_run(tmp_path: Path) -> None:
    file, picture = tmp_path / "figures.json", tmp_path / "figures.svg"
    # One of each role; .ci/run has all of them.
    cases = ["server-echo-32B-x64", "client-json-1KB-20x1"]
    done = run("--quick", "--seconds", "0.02", "--case", *cases, "--json", file, "--plot", picture, "--markdown")
    assert (done.returncode, done.stderr) == (0, "")
    found = Results.from_json(file.read_text("utf-8"))
    # Without a compiler there is one twin only.
    contenders = list({row.contender: None for row in found.rows})
    assert contenders[-1] == "ours-python"
    assert [(row.case.name, row.contender) for row in found.rows] == [(c, name) for c in cases for name in contenders]
    for row in found.rows:
        assert row.summary is not None
        # In so short a time the kernel may have counted no CPU time, on a machine with more to do.
        assert row.summary.rate is not None
        assert row.summary.rate > 0
        assert row.summary.cost >= 0
        assert row.summary.round_trip is not None
        assert f"[{row.case.name}, asyncio]" in done.stdout
    assert "### Server, asyncio" in done.stdout
    ElementTree.fromstring(picture.read_text("utf-8"))


def test_help() -> None:
    done = run("--help")
    assert (done.returncode, done.stderr) == (0, "")
    for option in ("--peers", "--case", "--loop", "--rounds", "--quick", "--tls", "--json", "--plot", "--markdown"):
        assert option in done.stdout


# -------------------------------------------------------------------------------------------------------------- options


def options(*arguments: str) -> Namespace:
    return command.parser().parse_args(arguments)


def names(*arguments: str) -> list[str]:
    return [case.name for case in command.chosen_cases(options(*arguments))]


def test_tls_is_an_option() -> None:
    tls = [case.name for case in TLS_CASES]
    assert names() == [case.name for case in CASES]
    assert names("--tls") == [*names(), *tls]
    assert names("--case", "idle", "--tls") == ["idle", *tls]
    assert names("--case", "server-tls-*", "--tls")[:3] == tls[:3]


def test_quick_opens_fewer_connections() -> None:
    (quick,) = [case for case in command.chosen_cases(options("--quick")) if case.kind == "idle"]
    (usual,) = choose(CASES, ["idle"])
    assert quick.connections < usual.connections


def contender(name: str, *loops: str) -> Contender:
    return Contender(name, name, "websockets", "python", ("asyncio", *loops))


def test_loops() -> None:
    ours, peer = contender("ours", "uvloop"), contender("aiohttp", "aiofastnet")
    assert command.chosen_loops(options(), [ours, peer]) == ["asyncio", "uvloop"]
    assert command.chosen_loops(options(), [contender("ours"), peer]) == ["asyncio"]
    assert command.chosen_loops(options("--quick"), [ours, peer]) == ["asyncio"]
    assert command.chosen_loops(options("--loop", "aiofastnet"), [ours, peer]) == ["aiofastnet"]
    with pytest.raises(command.Wrong, match="aiofastnet is not installed"):
        command.chosen_loops(options("--loop", "aiofastnet"), [ours])


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["--case", "nothing"], "no case is called nothing"),
        (["--contender", "nobody"], "nobody cannot take part; there are "),
        (["--peers", "no/such/python"], "no/such/python cannot be run"),
        (["--read", "no-such-file"], "no-such-file has no figures"),
    ],
)
def test_what_cannot_be_done_is_said(
    arguments: list[str], complaint: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(ROOT / "src"))
    assert command.main(arguments) == 2
    assert complaint in capsys.readouterr().err


@pytest.mark.parametrize(
    "arguments", [["--rounds", "0"], ["--rounds", "1.5"], ["--seconds", "-1"], ["--seconds", "nan"]]
)
def test_nothing_is_measured_for_no_time(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        command.main(arguments)
    assert "invalid positive number value" in capsys.readouterr().err


def test_list(capsys: pytest.CaptureFixture[str]) -> None:
    assert command.main(["--list"]) == 0
    listed = [line.split()[0] for line in capsys.readouterr().out.splitlines()]
    assert listed == [case.name for case in all_cases()]
    assert len(listed) == len({*listed}) > len(CASES + TLS_CASES)


# ------------------------------------------------------------------------------------------------------------ measuring


def test_contenders_take_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    turns: list[str] = []

    def measure(contender: Contender, *others: Any) -> Measurement:
        turns.append(contender.name)
        return Measurement(float(len(turns)))

    monkeypatch.setattr(command, "measure", measure)
    (case,) = choose(CASES, ["idle"])
    able = [contender("ours"), contender("aiohttp"), contender("websockets")]
    rows = list(command.take_turns(able, case, "asyncio", options("--rounds", "3"), None))
    assert turns == ["ours", "aiohttp", "websockets", "websockets", "aiohttp", "ours", "ours", "aiohttp", "websockets"]
    assert [row.summary and row.summary.cost for row in rows] == [6.0, 5.0, 4.0]
    assert list(command.take_turns(able, case, "uvloop", options("--rounds", "3"), None)) == []


def test_a_failure_does_not_end_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    def measure(contender: Contender, *others: Any) -> Measurement:
        if contender.name == "aiohttp":
            raise ChildFailed("no route to nowhere")
        return Measurement(1.0)

    monkeypatch.setattr(command, "measure", measure)
    (case,) = choose(CASES, ["idle"])
    able = [contender("aiohttp"), contender("ours")]
    failed, good = command.take_turns(able, case, "asyncio", options("--rounds", "2"), None)
    assert (failed.summary, failed.error) == (None, "no route to nowhere")
    assert good.summary is not None


def test_who_failed_is_not_asked_again(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def measure(contender: Contender, *others: Any) -> Measurement:
        asked.append(contender.name)
        raise ChildFailed("no route to nowhere")

    monkeypatch.setattr(command, "measure", measure)
    list(command.take_turns([contender("ours")], CASES[0], "asyncio", options("--rounds", "3"), None))
    assert asked == ["ours"]


def test_interrupted_run_puts_out_what_it_has(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def measure(contender: Contender, case: Case, *others: Any) -> Measurement:
        if case.name == "idle":
            raise KeyboardInterrupt
        return Measurement(1.0)

    monkeypatch.setattr(command, "measure", measure)
    monkeypatch.setenv("PYTHONPATH", str(ROOT / "src"))
    file = tmp_path / "figures.json"
    arguments = ["--case", "broadcast", "idle", "--contender", "ours-python", "--loop", "asyncio", "--json", str(file)]
    assert command.main(arguments) == 130
    found = Results.from_json(file.read_text("utf-8"))
    assert [row.case.name for row in found.rows] == ["broadcast"]
    assert found.about["incomplete"] == "interrupted"
    assert capsys.readouterr().err == "interrupted\n"


def test_exit_status_tells_of_our_failures_only(monkeypatch: pytest.MonkeyPatch, figures: Path) -> None:
    assert command.main(["--read", str(figures)]) == 0
    found = results()
    found.rows.append(Row(choose(CASES, ["broadcast"])[0], "asyncio", "ours", "ours", error="it hung"))
    assert command.failures(found) == ["ours failed in broadcast on asyncio: it hung"]
    figures.write_text(found.to_json(), "utf-8")
    assert command.main(["--read", str(figures)]) == 1


# -------------------------------------------------------------------------------------------------- figures from a file


def test_read_chooses(figures: Path, tmp_path: Path) -> None:
    file = tmp_path / "some.json"
    chosen = ["--case", "server-*", "--loop", "uvloop", "--contender", "ours"]
    assert command.main(["--read", str(figures), *chosen, "--json", str(file)]) == 0
    rows = json.loads(file.read_text("utf-8"))["rows"]
    assert [(row["case"]["name"], row["loop"], row["contender"]) for row in rows] == [
        ("server-echo-256B", "uvloop", "ours"),
        ("server-echo-256B-x64", "uvloop", "ours"),
    ]


def test_markdown_goes_between_the_markers(figures: Path, tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(f"# Title\n\n{BEGIN}\n{END}\n", "utf-8")
    assert command.main(["--read", str(figures), "--markdown", str(page)]) == 0
    assert "### Server, asyncio" in page.read_text("utf-8")
    page.write_text("# Title\n", "utf-8")
    assert command.main(["--read", str(figures), "--markdown", str(page)]) == 2
    assert page.read_text("utf-8") == "# Title\n"
