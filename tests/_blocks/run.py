"""Runs programs of the documentation, each in a process of its own, on a virtual clock and a network in memory.

May know: the kit. Must not know: pages.

``python -W error tests/_blocks/run.py`` reads programs from its standard input and writes what became of them to its
standard output, both as lines of JSON. It has imported the library once; each program runs in a fork.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import gc
import json
import logging
import os
import signal
import subprocess
import sys
import tempfile
import threading
import traceback
import types
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from typing import IO, Any

sys.path.insert(0, str(Path(__file__).parents[1]))

import websockets.asyncio.client
import websockets.asyncio.server
from _kit.clock import VirtualLoop
from _kit.garbage import settle
from _kit.threads import Strand, VirtualSystem, run_threads

# Virtual seconds after which a program that goes on is interrupted, and real seconds after which it hangs.
PATIENCE, LIMIT = 600.0, 20

Main = Coroutine[Any, Any, Any]


class Interrupted(KeyboardInterrupt):
    """What the program gets at the end of the patience with it, as if by Ctrl-C."""


class Stage:
    """Where a program runs: it has its own ``asyncio.run``, with other programs beside.

    Attributes:
        complaints: what went wrong without ending the program.
        interrupted: whether it had to be interrupted.
    """

    def __init__(self, addresses: list[tuple[str, int]]) -> None:
        self.complaints: list[str] = []
        self.interrupted = False
        self._addresses = addresses
        self._beside: list[Main] = []

    def collect(self, main: Main, **options: Any) -> None:
        """``asyncio.run`` of a program that runs beside: it's begun later."""
        self._beside.append(main)

    def play(self, main: Main, **options: Any) -> Any:
        """``asyncio.run`` of the program."""
        loop = VirtualLoop()
        with asyncio.Runner(debug=options.get("debug"), loop_factory=lambda: loop) as runner:
            result = runner.run(self._supervise(loop, main))
        for context in loop.errors:
            self.complaints.append(f"{context.get('message')}: {context.get('exception')!r}")
        if self.interrupted:
            raise Interrupted
        return result

    async def _supervise(self, loop: VirtualLoop, main: Main) -> Any:
        beside, self._beside = self._beside, []
        others = [loop.create_task(other) for other in beside]
        others += [loop.create_task(echo(*address)) for address in self._addresses]
        await loop.idle()
        task = loop.create_task(main)
        done, _ = await asyncio.wait([task], timeout=PATIENCE)
        self.interrupted = not done
        with contextlib.suppress(asyncio.CancelledError):
            await end(others)
            await end([] if done else [task])
        return None if self.interrupted else task.result()


async def end(tasks: list[asyncio.Task[Any]]) -> None:
    """Cancel tasks; what they raise, other than that they were cancelled, is raised."""
    for task in tasks:
        task.cancel()
    for result in await asyncio.gather(*tasks, return_exceptions=True):
        if isinstance(result, BaseException) and not isinstance(result, asyncio.CancelledError):
            raise result


async def echo(host: str, port: int) -> None:
    """A server that sends back what it receives."""

    async def handler(websocket: websockets.asyncio.server.ServerConnection) -> None:
        async for message in websocket:
            await websocket.send(message)

    async with websockets.asyncio.server.serve(handler, host, port) as server:
        await server.serve_forever()


class Errors(logging.Handler):
    """Remembers what is logged as an error, by libraries whose errors nobody expects in the documentation."""

    def __init__(self, complaints: list[str]) -> None:
        super().__init__(logging.ERROR)
        self._complaints = complaints

    def emit(self, record: logging.LogRecord) -> None:
        cause = record.exc_info[1] if record.exc_info else None
        self._complaints.append(f"logged: {record.name}: {record.getMessage()} {cause!r}")


@contextlib.contextmanager
def watching(complaints: list[str]) -> Iterator[None]:
    """Notice what would only be printed: exceptions that nobody gets, warnings among them, and errors in logs."""

    def unraisable(args: Any) -> None:
        complaints.append(f"nobody got {args.exc_value!r}, raised in {args.object!r}")

    def in_thread(args: Any) -> None:
        complaints.append(f"a thread ended with {args.exc_value!r}")

    sys.unraisablehook, threading.excepthook = unraisable, in_thread
    for name in ("websockets", "asyncio"):
        logging.getLogger(name).addHandler(Errors(complaints))
    yield
    gc.collect()


def execute(parts: list[dict[str, Any]], run: Callable[..., Any]) -> None:
    """Execute a program in a namespace of its own, with an ``asyncio.run``."""
    module = types.ModuleType("__main__")
    sys.modules["__main__"] = module
    asyncio.run = run
    for part in parts:
        # Lines are those of the page.
        text = "\n" * (part["line"] - 1) + part["text"]
        exec(compile(text, part["page"], "exec", dont_inherit=True), vars(module))


def play_in_threads(stage: Stage, request: dict[str, Any]) -> None:
    """Run a program of threads, which take turns on a virtual clock, and others beside."""
    failures: list[Exception] = []

    def start(system: VirtualSystem, parts: list[dict[str, Any]]) -> Strand:
        def run() -> None:
            try:
                execute(parts, stage.play)
            except Exception as exc:
                failures.append(exc)

        strand: Strand = system.start_thread(run, name="program")
        return strand

    def play(system: VirtualSystem) -> None:
        strands = [start(system, parts) for parts in request["beside"]]
        system.idle()
        main = start(system, request["parts"])
        stage.interrupted = not system.block(lambda: main.over, PATIENCE)
        for strand in [main, *strands]:
            strand.stopping = True
            system.block(functools.partial(getattr, strand, "over"))

    run_threads(play)
    if failures:
        raise failures[0]


def takes_turns(request: dict[str, Any]) -> bool:
    """Whether a program is one of threads that starts none itself."""
    text = "".join(part["text"] for part in request["parts"])
    return "websockets.sync" in text and "threading" not in text


def perform(request: dict[str, Any]) -> str | None:
    """Run a program; say why it failed, if it did."""
    addresses = [(host, port) for host, port in request["addresses"]]
    stage = Stage(addresses)
    try:
        with watching(stage.complaints):
            if takes_turns(request):
                play_in_threads(stage, request)
                request = {**request, "beside": [], "parts": []}
            for other in request["beside"]:
                execute(other, stage.collect)
            with contextlib.suppress(Interrupted):
                execute(request["parts"], stage.play)
    except BaseException as exc:
        pages = {part["page"] for parts in [request["parts"], *request["beside"]] for part in parts}
        frames = [frame for frame in traceback.extract_tb(exc.__traceback__) if frame.filename in pages]
        where = "".join(f"\n  {frame.filename}:{frame.lineno}, in {frame.name}" for frame in frames)
        notes = "".join(f"\n  {note}" for note in getattr(exc, "__notes__", ()))
        return f"{type(exc).__name__}: {exc}{notes}{where}\n" + "\n".join(stage.complaints)
    if stage.interrupted is not request["goes_on"]:
        stage.complaints.append("it doesn't end by itself" if stage.interrupted else "it ends by itself")
    return "\n".join(stage.complaints) or None


# ---------------------------------------------------------------------------------------------------------- processes


def prepared(request: dict[str, Any], outcome: IO[str]) -> None:
    """Run a program in this process, which is there for nothing else."""
    for name in [name for name in os.environ if name.lower().endswith("_proxy")]:
        del os.environ[name]
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
        failure = perform(request)
    sys.stdout.flush()
    sys.stderr.flush()
    outcome.write(json.dumps(failure))
    outcome.flush()


def forked(request: dict[str, Any], outcome: IO[str], output: IO[str]) -> int:
    """Run a program in a fork."""
    pid = os.fork()
    if pid:
        return os.waitpid(pid, 0)[1]
    try:
        signal.alarm(LIMIT)
        null = os.open(os.devnull, os.O_RDONLY)
        for source, target in ((null, 0), (output.fileno(), 1), (output.fileno(), 2)):
            os.dup2(source, target)
        # What was read ahead from standard input is for the parent.
        sys.stdin = os.fdopen(0, closefd=False, encoding="utf-8")
        prepared(request, outcome)
    finally:
        os._exit(0)


def spawned(request: dict[str, Any], outcome: IO[str], output: IO[str]) -> int:
    """Run a program in a process that is begun for it."""
    command = [sys.executable, *(f"-W{option}" for option in sys.warnoptions), __file__, outcome.name]
    text = json.dumps(request)
    done = subprocess.run(
        command, input=text, stdout=output, stderr=output, text=True, encoding="utf-8", timeout=LIMIT, check=False
    )
    return done.returncode


def answer(request: dict[str, Any]) -> dict[str, Any]:
    """Run a program in another process; tell what it printed, and why it failed."""
    begin = forked if hasattr(os, "fork") else spawned
    with tempfile.TemporaryDirectory() as folder:
        paths = [Path(folder, name) for name in ("outcome", "output")]
        with paths[0].open("w", encoding="utf-8") as outcome, paths[1].open("w", encoding="utf-8") as output:
            status = begin(request, outcome, output)
        told, printed = (path.read_text("utf-8") for path in paths)
    failure = json.loads(told) if told else f"it ended with status {status}"
    return {"failure": failure, "output": printed}


def main(arguments: list[str]) -> None:
    """Answer requests, or be the process that was begun for one."""
    if arguments:
        with open(arguments[0], "w", encoding="utf-8") as outcome:
            prepared(json.loads(sys.stdin.read()), outcome)
        return
    # Programs collect their garbage: this spares each a look at what is imported.
    settle()
    for line in sys.stdin:
        print(json.dumps(answer(json.loads(line))), flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
