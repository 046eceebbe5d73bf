"""Run the Autobahn testsuite against our server and our client.

Charter: starts the real ``wstest`` beside ``echo_server.py`` and ``client.py``, reads the reports it writes, prints
one table per role and turns any failure into exit status 1. Standard library only; it does not import the library.

The two roles are independent and run at the same time. With ``--reports`` the report of each case is kept.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import re
import signal
import socket
import sys
import tempfile
import time
from asyncio.subprocess import Process
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from apis import APIS
from wstest import clean_environment, ensure_wstest, tail

HERE = Path(__file__).resolve().parent

# The name under which wstest files its results; client.py announces itself with the same.
AGENT = "websockets"

SECTIONS = {
    "1": "Framing",
    "2": "Pings and pongs",
    "3": "Reserved bits",
    "4": "Opcodes",
    "5": "Fragmentation",
    "6": "UTF-8 handling",
    "7": "Close handling",
    "9": "Limits and performance",
    "10": "Miscellaneous",
    "12": "Compression",
    "13": "Compression parameters",
}
DEFAULT_CASES = ("1.*", "2.*", "3.*", "4.*", "5.*", "6.*", "7.*", "9.*", "10.*")

# The API for threads, which has programs of its own.
THREADS = "sync"

# What wstest says of a case, worst last. Other words than these (UNCLEAN, WRONG CODE, ...) are kinds of failure.
# UNIMPLEMENTED: we declined the extension parameters that the case is about, as RFC 7692 allows.
VERDICTS = ("OK", "INFORMATIONAL", "UNIMPLEMENTED", "NON-STRICT", "FAILED")

PORT_POLL_INTERVAL = 0.02
KILL_TIMEOUT = 5


@dataclass(frozen=True)
class Options:
    """What the command line asked for, the same for both roles."""

    wstest: Path
    python: str
    cases: Sequence[str]
    loop: str
    api: str
    timeout: float
    reports: Path


@dataclass(frozen=True)
class Result:
    """What one role came to: the verdict on each case, how many there should have been, and why it ended early."""

    role: str
    verdicts: dict[str, str]
    expected: int
    seconds: float
    problem: str | None

    def count(self) -> Counter[str]:
        """Count the verdicts; a case without one counts as failed."""
        counts = Counter(self.verdicts.values())
        counts["FAILED"] += self.expected - len(self.verdicts)
        return counts


# --- child processes ---


@contextlib.asynccontextmanager
async def running(
    log: Path, *command: str | Path, env: dict[str, str] | None = None, stdout: int | None = None
) -> AsyncIterator[Process]:
    """Run a command during an ``async with`` block, with its output going to ``log``, and kill it afterwards."""
    with log.open("wb") as output:
        process = await asyncio.create_subprocess_exec(
            *command,
            stdin=asyncio.subprocess.PIPE,
            stdout=output if stdout is None else stdout,
            stderr=output,
            env=env,
        )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await asyncio.wait_for(process.wait(), KILL_TIMEOUT)


async def finish(process: Process, log: Path) -> None:
    """Wait until a process ends; raise ``RuntimeError`` if it failed."""
    if await process.wait() != 0:
        raise RuntimeError(f"exit status {process.returncode}; the end of {log.name}:\n{tail(log)}")


def reserve_port() -> socket.socket:
    """Bind a free port without listening on it, so that only a program told its number can use it.

    Both sides set SO_REUSEADDR, therefore ``wstest`` can listen on the port while it is reserved.
    """
    reservation = socket.socket()
    reservation.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    reservation.bind(("127.0.0.1", 0))
    return reservation


async def listening(port: int, process: Process, log: Path) -> None:
    """Wait until ``process`` listens on ``port``; ``wstest`` has no other way to say that it is ready."""
    while process.returncode is None:
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", port)
        except ConnectionRefusedError:
            await asyncio.sleep(PORT_POLL_INTERVAL)
        else:
            writer.close()
            return
    await finish(process, log)
    raise RuntimeError(f"{log.name}: ended before it listened:\n{tail(log)}")


# --- the two roles ---


@contextlib.asynccontextmanager
async def wstest(options: Options, mode: str, folder: Path, **specification: Any) -> AsyncIterator[Process]:
    """Run ``wstest`` in a mode during an ``async with`` block; its reports and its log go to ``folder``."""
    spec = folder / "spec.json"
    spec.write_text(json.dumps({"outdir": str(folder), "cases": options.cases, **specification}))
    # Unbuffered, so that the log is complete however wstest ends.
    env = clean_environment() | {"PYTHONUNBUFFERED": "1"}
    command = (options.wstest, "--mode", mode, "--spec", spec, "--webport", "0")
    async with running(folder / "wstest.log", *command, env=env) as process:
        yield process


def ours(options: Options, program: str) -> tuple[str | Path, ...]:
    """Return the command that runs a program of ours; those in threads have no event loop."""
    if options.api == THREADS:
        return options.python, HERE / f"threads_{program}"
    return options.python, HERE / program, "--loop", options.loop, "--api", options.api


async def fuzz_server(options: Options, folder: Path) -> None:
    """Let the fuzzing client of the testsuite loose on our echo server."""
    command = ours(options, "echo_server.py")
    log = folder / "echo_server.log"
    async with running(log, *command, stdout=asyncio.subprocess.PIPE) as server:
        assert server.stdout is not None
        line = await server.stdout.readline()
        if not line:
            raise RuntimeError(f"the echo server did not start:\n{tail(log)}")
        target = {"url": f"ws://127.0.0.1:{json.loads(line)['port']}", "agent": AGENT}
        async with wstest(options, "fuzzingclient", folder, servers=[target]) as fuzzer:
            await finish(fuzzer, folder / "wstest.log")


async def fuzz_client(options: Options, folder: Path) -> None:
    """Expose our echo client to the fuzzing server of the testsuite."""
    with reserve_port() as reservation:
        port = reservation.getsockname()[1]
        url = f"ws://127.0.0.1:{port}"
        async with wstest(options, "fuzzingserver", folder, url=url) as fuzzer:
            await listening(port, fuzzer, folder / "wstest.log")
            log = folder / "client.log"
            async with running(log, *ours(options, "client.py"), url) as client:
                await finish(client, log)


ROLES = {"server": fuzz_server, "client": fuzz_client}


async def run_role(options: Options, role: str) -> Result:
    """Run the cases for one role within the time limit and read what came of them."""
    folder = options.reports / role
    folder.mkdir(parents=True)
    start = time.monotonic()
    problem = None
    try:
        async with asyncio.timeout(options.timeout):
            await ROLES[role](options, folder)
    except TimeoutError:
        problem = f"not finished after {options.timeout:g} s"
    except RuntimeError as exc:
        problem = str(exc)
    return read_result(role, folder, time.monotonic() - start, problem)


async def run_roles(options: Options, roles: Sequence[str]) -> list[Result]:
    """Run the roles at the same time. An interruption from outside still ends the child processes."""
    task = asyncio.current_task()
    assert task is not None
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(run_role(options, role)) for role in roles]
    return [task.result() for task in tasks]


# --- reports ---


def verdict(case: dict[str, Any]) -> str:
    """Return the worse of the two verdicts on a case: on its messages, and on how the connection was closed."""
    both = {word if word in VERDICTS else "FAILED" for word in (case["behavior"], case["behaviorClose"])}
    return max(both, key=VERDICTS.index)


def read_result(role: str, folder: Path, seconds: float, problem: str | None) -> Result:
    """Read what ``wstest`` wrote about one role: it may be incomplete, or missing altogether."""
    log, index = folder / "wstest.log", folder / "index.json"
    announced = re.search(r"will run (\d+) test cases", log.read_text()) if log.exists() else None
    report = json.loads(index.read_text()).get(AGENT, {}) if index.exists() else {}
    verdicts = {case: verdict(entry) for case, entry in report.items()}
    return Result(role, verdicts, int(announced[1]) if announced else 0, seconds, problem)


def case_order(case: str) -> list[int]:
    """Sort key that puts case 10.1 after 9.8 and 7.3.6."""
    return [int(part) for part in case.split(".")]


def print_table(result: Result) -> None:
    """Print the verdicts of one role, a section a line, and then every case that is not plainly OK."""
    print(f"\n{result.role}: {len(result.verdicts)} of {result.expected} cases in {result.seconds:.1f} s\n")
    print(f"{'section':28}", *(f"{word:>13}" for word in VERDICTS))
    for number, title in SECTIONS.items():
        counts = Counter(word for case, word in result.verdicts.items() if case.split(".")[0] == number)
        if counts:
            print(f"{number:>2} {title:25}", *(f"{counts[word]:13}" for word in VERDICTS))
    total = result.count()
    print(f"{'total':28}", *(f"{total[word]:13}" for word in VERDICTS))
    print_details(result)


def print_details(result: Result) -> None:
    """Print which cases are not as they should be, and what ended the run early."""
    for word in ("NON-STRICT", "FAILED"):
        cases = sorted((case for case, found in result.verdicts.items() if found == word), key=case_order)
        if cases:
            print(f"{word}: {', '.join(cases)}")
    if result.problem is not None:
        print(f"{result.role}: {result.problem}")


def is_bad(result: Result, strict: bool) -> bool:
    """Tell whether a result must turn the run red; a run of no cases at all proves nothing, so it is bad too."""
    counts = result.count()
    complete = result.problem is None and result.expected > 0
    return not complete or bool(counts["FAILED"]) or (strict and bool(counts["NON-STRICT"]))


# --- command line ---


def parse_arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description="Run the Autobahn testsuite against our server and our client.")
    cache = Path(os.environ.get("XDG_CACHE_HOME", "~/.cache")).expanduser() / "websockets-autobahn"
    parser.add_argument("--role", choices=ROLES, help="test only this role (default: both, at the same time)")
    parser.add_argument(
        "--cases", nargs="+", default=DEFAULT_CASES, help="patterns of cases (default: all but 12.* and 13.*)"
    )
    parser.add_argument("--strict", action="store_true", help="fail on NON-STRICT too")
    parser.add_argument("--loop", choices=("asyncio", "uvloop"), default="asyncio", help="our event loop")
    parser.add_argument("--api", choices=(*APIS, THREADS), default="asyncio", help="our API (default: asyncio)")
    parser.add_argument("--python", default=sys.executable, help="interpreter for our side (default: this one)")
    parser.add_argument("--wstest", type=Path, help="an installed wstest (default: install one in the cache)")
    parser.add_argument("--cache", type=Path, default=cache, help="where wstest is installed (default: %(default)s)")
    parser.add_argument("--reports", type=Path, help="new folder to keep the reports in (default: they are deleted)")
    parser.add_argument("--timeout", type=float, default=3600, help="seconds for a role (default: %(default)s)")
    return parser.parse_args()


def run(arguments: argparse.Namespace, reports: Path) -> list[Result]:
    """Run the roles asked for, with their reports in the folder ``reports``."""
    options = Options(
        wstest=arguments.wstest or ensure_wstest(arguments.cache),
        python=arguments.python,
        cases=arguments.cases,
        loop=arguments.loop,
        api=arguments.api,
        timeout=arguments.timeout,
        reports=reports.resolve(),
    )
    return asyncio.run(run_roles(options, [arguments.role] if arguments.role else list(ROLES)))


def main() -> int:
    """Run what the command line asks for; return the exit status."""
    arguments = parse_arguments()
    with tempfile.TemporaryDirectory(prefix="autobahn-") as temporary:
        results = run(arguments, arguments.reports or Path(temporary))
    for result in results:
        print_table(result)
    return 1 if any(is_bad(result, arguments.strict) for result in results) else 0


if __name__ == "__main__":
    sys.exit(main())
