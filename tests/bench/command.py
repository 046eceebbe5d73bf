"""The command line: what to measure, in which order, and where the figures go.

Charter: options, the order of measurements, output. Must not know how anything is measured.

Contenders take turns: each round measures all of them, one after another, so that what else the machine does meets all
of them alike. Each measurement has new processes.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import os
import platform
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from bench.cases import CASES, QUICK, THREAD_CASES, THREADS, TLS_CASES, Case, all_cases, choose
from bench.certificates import NoCertificate, make_certificate
from bench.children import ChildFailed
from bench.contenders import (
    LOOPS,
    OURS,
    TWIN,
    Contender,
    Unusable,
    our_contenders,
    peer_contenders,
    probe,
)
from bench.measure import measure
from bench.plot import plot
from bench.report import markdown, replace_section, table
from bench.results import Results, Row
from bench.stats import Measurement, summary

DEFAULT_LOOPS = ("asyncio", "uvloop")
QUICK_IDLE = 500

EPILOG = """\
CPU time is what the kernel charged to the process that is measured. The other side is raw sockets and stays on
another processor where the system allows that. Ratios above 1 mean that ours is cheaper. Compare ratios, not
figures, and only of one run.

examples:
  %(prog)s --quick
  %(prog)s --peers peers/bin/python --json figures.json --plot figures.svg
  %(prog)s --peers peers/bin/python --case 'server-echo-*' --loop asyncio uvloop aiofastnet
  %(prog)s --peers peers/bin/python --loop threads
  %(prog)s --read figures.json --case 'server-*' --plot server.svg
"""


def positive(kind: type[int] | type[float]) -> Callable[[str], float]:
    """The type of an option whose value is above zero."""

    def parse(text: str) -> float:
        value = kind(text)
        if not value > 0:
            raise ValueError
        return value

    parse.__name__ = "positive number"  # what argparse calls it when it complains
    return parse


def parser() -> argparse.ArgumentParser:
    found = argparse.ArgumentParser(
        description="Measure what messages and connections cost, for this library and others, side by side.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = found.add_argument_group("what to measure").add_argument
    add("--peers", metavar="PYTHON", help="interpreter that has other libraries: websockets, picows, aiohttp")
    add("--ours", metavar="PYTHON", default=sys.executable, help="interpreter that has this library; default: this one")
    add("--case", metavar="PATTERN", nargs="+", help="cases, such as 'server-echo-*'; default: all but TLS")
    add("--contender", metavar="NAME", nargs="+", help="who takes part, such as ours picows; default: all there are")
    add("--loop", nargs="+", choices=LOOPS, help="event loops, or threads; default: asyncio, and ours' uvloop")
    add("--tls", action="store_true", help="TLS too; needs the openssl command")
    add("--list", action="store_true", help="print the names of the cases, and measure nothing")
    add = found.add_argument_group("for how long").add_argument
    add("--rounds", metavar="N", type=positive(int), help="measurements of each, whose median counts; default: 3")
    add("--seconds", metavar="S", type=positive(float), help="length of a measurement; default: 0.5")
    add("--quick", action="store_true", help="a few cases, one loop, one short round: rough, but soon over")
    add = found.add_argument_group("what to do with the figures").add_argument
    add("--json", metavar="FILE", type=Path, help="write them to a file")
    add("--plot", metavar="FILE.svg", type=Path, help="draw bars")
    add(
        "--markdown", metavar="FILE", type=Path, nargs="?", const=Path("-"),
        help="print them as tables in Markdown, or put these between the markers of a page",
    )  # fmt: skip
    add("--read", metavar="FILE", type=Path, help="take them from a file that --json made, and measure nothing")
    return found


class Wrong(Exception):
    """What was asked for can't be done."""


# ---------------------------------------------------------------------------------------------------------- preparation


def chosen_cases(options: argparse.Namespace) -> list[Case]:
    """The cases that the options name."""
    if options.case:
        try:
            cases = choose(all_cases(), options.case)
        except ValueError as exc:
            raise Wrong(str(exc)) from exc
    elif options.loop == [THREADS]:
        cases = list(THREAD_CASES)
    else:
        cases = choose(CASES, QUICK if options.quick else ["*"])
    if options.tls:
        cases += [case for case in TLS_CASES if case not in cases]
    if options.quick:
        cases = [replace(case, connections=QUICK_IDLE) if case.kind == "idle" else case for case in cases]
    return cases


def chosen_contenders(options: argparse.Namespace, about: dict[str, str]) -> list[Contender]:
    """Those who take part, and in ``about`` what they run on."""
    try:
        found = probe(options.ours)
        contenders = list(our_contenders(options.ours, found))
        about["ours"] = f"websockets {found['packages']['websockets']}"
        about["Python"] = found["python"]
        if options.peers is not None:
            peers = probe(options.peers, keep_path=False)
            contenders += peer_contenders(options.peers, peers)
            if peers["python"] != found["python"]:
                about["Python of the others"] = peers["python"]
    except Unusable as exc:
        raise Wrong(str(exc)) from exc
    if not options.contender:
        # The bare protocol explains figures, which is not what a quick look is for.
        return [contender for contender in contenders if not options.quick or contender.name != "bare"]
    if missing := {*options.contender} - {contender.name for contender in contenders}:
        there = ", ".join(contender.name for contender in contenders)
        raise Wrong(f"{', '.join(sorted(missing))} cannot take part; there are {there}")
    return [contender for contender in contenders if contender.name in options.contender]


def chosen_loops(options: argparse.Namespace, contenders: Sequence[Contender]) -> list[str]:
    """The loops that the options name; somebody must have each."""
    if options.loop is None:
        ours = {loop for contender in contenders if contender.name in (OURS, TWIN) for loop in contender.loops}
        return [loop for loop in DEFAULT_LOOPS[: 1 if options.quick else None] if loop in ours or loop == "asyncio"]
    for loop in options.loop:
        if not any(loop in contender.loops for contender in contenders):
            raise Wrong(f"{loop} is not installed where it is needed")
    return list(options.loop)


def describe(options: argparse.Namespace, about: dict[str, str]) -> None:
    """The other circumstances of a run."""
    about["system"] = f"{platform.system()} {platform.machine()}, {os.cpu_count()} processors"
    rounds = f"medians of {options.rounds} rounds" if options.rounds > 1 else "one round"
    about["rounds"] = f"{rounds} of {options.seconds} s"
    about["date"] = time.strftime("%Y-%m-%d")


@contextlib.contextmanager
def certificate_for(cases: Sequence[Case]) -> Iterator[str | None]:
    """A certificate, if some case needs one."""
    if not any(case.tls for case in cases):
        yield None
        return
    with tempfile.TemporaryDirectory() as folder:
        try:
            made = make_certificate(Path(folder))
        except NoCertificate as exc:
            raise Wrong(str(exc)) from exc
        yield made


# ------------------------------------------------------------------------------------------------------------ measuring


def take_turns(
    contenders: Sequence[Contender], case: Case, loop: str, options: argparse.Namespace, certificate: str | None
) -> Iterator[Row]:
    """Measure one case on one loop with all who can do it."""
    able = [contender for contender in contenders if contender.can(case, loop) and loop in contender.loops]
    taken: dict[str, list[Measurement]] = {contender.name: [] for contender in able}
    errors: dict[str, str] = {}
    for number in range(options.rounds):
        # Every other round goes backwards, so that nobody always follows the same neighbour.
        for contender in able if number % 2 == 0 else reversed(able):
            if contender.name in errors:
                continue
            try:
                taken[contender.name].append(
                    measure(contender, case, loop, options.seconds, options.ours, certificate)
                )  # fmt: skip
            except ChildFailed as exc:
                errors[contender.name] = str(exc)
    for contender in able:
        if contender.name in errors:
            yield Row(case, loop, contender.name, contender.label, error=errors[contender.name])
        else:
            yield Row(case, loop, contender.name, contender.label, summary(taken[contender.name]))


def measure_all(options: argparse.Namespace) -> Results:
    """Measure what the options ask for, and show each case as soon as it has been measured."""
    results = Results()
    contenders = chosen_contenders(options, results.about)
    cases = chosen_cases(options)
    loops = chosen_loops(options, contenders)
    describe(options, results.about)
    for name, value in results.about.items():
        print(f"{name}: {value}")
    if not any(contender.name == OURS for contender in contenders):
        print("the accelerator of ours does not take part")
    try:
        with certificate_for(cases) as certificate:
            for loop, case in itertools.product(loops, cases):
                rows = list(take_turns(contenders, case, loop, options, certificate))
                results.rows += rows
                if rows:
                    print(f"\n{table(results, rows)}", flush=True)
    except KeyboardInterrupt:
        results.about["incomplete"] = "interrupted"
    return results


def read(options: argparse.Namespace) -> Results:
    """Take the results from a file, or those of them that the options name."""
    try:
        results = Results.from_json(options.read.read_text("utf-8"))
    except (OSError, ValueError, KeyError, TypeError) as exc:
        raise Wrong(f"{options.read} has no figures: {exc}") from exc
    names = {case.name for case in chosen_cases(options)} if options.case else None
    results.rows = [
        row
        for row in results.rows
        if (names is None or row.case.name in names)
        and (options.loop is None or row.loop in options.loop)
        and (options.contender is None or row.contender in options.contender)
    ]
    return results


# --------------------------------------------------------------------------------------------------------------- output


def put_out(options: argparse.Namespace, results: Results) -> None:
    """Write the figures wherever they were asked for."""
    if options.json is not None:
        options.json.write_text(results.to_json(), "utf-8")
    if options.plot is not None:
        options.plot.write_text(plot(results), "utf-8")
    if options.markdown == Path("-"):
        print(f"\n{markdown(results)}")
    elif options.markdown is not None:
        try:
            page = replace_section(options.markdown.read_text("utf-8"), markdown(results))
        except (OSError, ValueError) as exc:
            raise Wrong(f"{options.markdown}: {exc}") from exc
        options.markdown.write_text(page, "utf-8")


def failures(results: Results) -> list[str]:
    """What failed of ours; if a peer fails, that is its own affair."""
    return [
        f"{row.label} failed in {row.case.name} on {row.loop}: {row.error}"
        for row in results.rows
        if row.contender in (OURS, TWIN) and row.summary is None
    ]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command.

    Returns:
        The exit status: 1 if ours failed in something, 2 if it can't be done, 130 if it was interrupted.
    """
    options = parser().parse_args(arguments)
    options.rounds = options.rounds or (1 if options.quick else 3)
    options.seconds = options.seconds or (0.15 if options.quick else 0.5)
    if options.list:
        for case in all_cases():
            print(f"{case.name:28} {case.role}: {case.title}")
        return 0
    try:
        results = measure_all(options) if options.read is None else read(options)
        put_out(options, results)
    except Wrong as exc:
        print(exc, file=sys.stderr)
        return 2
    if options.read is None and "incomplete" in results.about:
        print("interrupted", file=sys.stderr)
        return 130
    for failure in (failed := failures(results)):
        print(failure, file=sys.stderr)
    return 1 if failed else 0
