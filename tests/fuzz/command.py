"""The command line of the fuzzer: which targets, for how long, and a table of what came of it.

May know: engines, inputs that are kept, child processes. Must not know: what a target checks.

Each target runs in a process of its own, one after the other, so that a crash of the compiled twin, too much memory or
an endless loop is a finding like any other. Exit status 1 means that something was found.
"""

from __future__ import annotations

import argparse
import os
import re
import resource
import subprocess
import sys
import tempfile
from hashlib import sha1
from pathlib import Path
from types import FrameType
from typing import Any, NamedTuple

from fuzz import engines, inputs
from fuzz.target import Target

__all__ = ["main"]

# Bytes of the longest input that is put under version control.
LONGEST_KEPT = 400

# A file, and two lines that followed each other.
Arc = tuple[str, int, int]


class Row(NamedTuple):
    """What came of one target."""

    name: str
    executions: int
    cpu: float
    found: list[Path]
    log: str


def parse_arguments(arguments: list[str] | None, names: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="tests/fuzz/run.py", description="Fuzz the library, each target in turn.")
    parser.add_argument("--seconds", type=int, default=60, help="for all targets together; default: 60")
    parser.add_argument("--target", action="append", choices=names, help="only this one; may be repeated")
    parser.add_argument("--engine", choices=engines.ENGINES, help="default: atheris if it is installed, else blind")
    parser.add_argument("--seed", type=int, default=1, help="of all that is random; default: 1")
    parser.add_argument("--folder", type=Path, help="keep inputs and findings there; go on with those that are there")
    parser.add_argument("--distill", type=int, metavar="N", help="no fuzzing: make N inputs of FOLDER the corpus")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    return parser.parse_args(arguments)


def main(arguments: list[str] | None = None) -> int:
    """Run the command.

    Parameters:
        arguments: those of the command line; by default the real ones.

    Returns:
        The exit status: 1 if anything was found.
    """
    # In a child nothing of the library may be imported before the engine is ready to watch it.
    is_child = arguments is None and "--child" in sys.argv
    names = [sys.argv[sys.argv.index("--child") + 1]] if is_child else sorted(engines.find())
    options = parse_arguments(arguments, names)
    engine = options.engine or next(filter(engines.available, engines.ENGINES))
    if is_child:
        return engines.child(engine, options.child, options.seconds, options.seed, options.folder)
    chosen = options.target or names
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.folder or Path(temporary)
        if options.distill is not None:
            for name in chosen:
                distill(name, folder / name, options.distill)
            return 0
        seconds = max(options.seconds // len(chosen), 1)
        print(f"engine {engine}, seed {options.seed}, {seconds} s for each of {len(chosen)} targets")
        print(f"{'target':<14}{'executions':>12}{'CPU s':>10}", flush=True)
        rows = [run(engine, name, seconds, options.seed, folder / name) for name in chosen]
        return report(rows)


def prepare(name: str, folder: Path) -> None:
    """Put the inputs that are kept where the engine looks for them."""
    (folder / "corpus").mkdir(parents=True, exist_ok=True)
    for data in [*inputs.corpus(name), *inputs.regressions(name)]:
        (folder / "corpus" / sha1(data, usedforsecurity=False).hexdigest()).write_bytes(data)


def command(engine: str, name: str, seconds: int, seed: int, folder: Path) -> list[str]:
    run = str(Path(__file__).with_name("run.py"))
    options = {"child": name, "engine": engine, "seconds": seconds, "seed": seed, "folder": folder.resolve()}
    return [sys.executable, run, *(word for key, value in options.items() for word in (f"--{key}", str(value)))]


def run(engine: str, name: str, seconds: int, seed: int, folder: Path) -> Row:
    """Fuzz one target in a process of its own."""
    prepare(name, folder)
    before = {*folder.glob("found-*")}
    used = children_time()
    environment = {**os.environ, "PYTHONHASHSEED": "0"}
    done = subprocess.run(
        command(engine, name, seconds, seed, folder),
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        check=False,
    )
    counts = re.findall(r"stat::number_of_executed_units: +(\d+)", done.stdout)
    found = sorted({*folder.glob("found-*")} - before)
    log = excerpt(done.stdout) if found or done.returncode or not counts else ""
    if done.returncode and not found:
        log += f"exit status {done.returncode}\n"
    row = Row(name, int(counts[-1]) if counts else 0, children_time() - used, found, log)
    print(line(row), flush=True)
    return row


def excerpt(output: str) -> str:
    """What an engine printed, without its progress."""
    lines = [line for line in output.splitlines() if not re.match(r"#\d|INFO|WARNING|stat::|Dictionary|0x", line)]
    return "\n".join(lines)[-4000:] + "\n"


def children_time() -> float:
    """Seconds of CPU that children used which ended."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def line(row: Row) -> str:
    """A row of the table."""
    verdict = "FOUND" if row.log else "ok"
    return f"{row.name:<14}{row.executions:>12}{row.cpu:>10.1f}  {verdict}"


def report(rows: list[Row]) -> int:
    """Print what was found, and the sum."""
    print(
        line(Row("all", sum(row.executions for row in rows), sum(row.cpu for row in rows), [], "")).removesuffix("ok")
    )
    for row in rows:
        for path in row.found:
            print(f"\n{row.name}: {path.read_bytes()!r}")
        if row.log:
            print(f"\n{row.name}:\n{row.log}")
    return 1 if any(row.log for row in rows) else 0


def distill(name: str, folder: Path, count: int) -> None:
    """Make the shortest inputs of a folder that reach something new the corpus."""
    prepare(name, folder)
    everything = [path.read_bytes() for path in (folder / "corpus").iterdir()]
    short = sorted((data for data in everything if len(data) <= LONGEST_KEPT), key=lambda data: (len(data), data))
    reached: set[Arc] = set()
    kept: list[bytes] = []
    for data in short:
        arcs = trace(engines.find()[name], data)
        if len(kept) < count and not arcs <= reached:
            reached |= arcs
            kept.append(data)
    inputs.write_corpus(name, kept)
    print(f"{name}: {len(kept)} of {len(everything)} inputs are kept")


def trace(target: Target, data: bytes) -> set[Arc]:
    """The steps from line to line that an input makes in the library."""
    arcs: set[Arc] = set()

    def follow(frame: FrameType, event: str, _: object) -> Any:
        if "websockets" not in frame.f_code.co_filename:
            return None
        last = 0

        def step(frame: FrameType, event: str, _: object) -> Any:
            nonlocal last
            arcs.add((frame.f_code.co_filename, last, frame.f_lineno))
            last = frame.f_lineno
            return step

        return step

    sys.settrace(follow)
    try:
        target.check(data)
    finally:
        sys.settrace(None)
    return arcs
