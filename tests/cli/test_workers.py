"""Workers that live and end together: as far as can be seen without starting any, and then as processes.

The processes serve nothing, so that they start quickly: see crew.py. test_command starts real servers.
"""

from __future__ import annotations

import contextlib
import gc
import multiprocessing
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from cli.commands import ENVIRONMENT, LIMIT
from cli.crew import PATIENCE
from websockets.cli._workers import Crew, Worker, end_after, free_port, go_on_without_parent, report

if not hasattr(socket, "SO_REUSEPORT"):
    pytest.skip("there are no shared ports here", allow_module_level=True)

# ----------------------------------------------------------------------------------------------------------- the rules


class Process:
    """The least of a process."""

    def __init__(self) -> None:
        self.exitcode: int | None = None
        self.calls: list[str] = []

    def __getattr__(self, name: str) -> Any:
        return lambda: self.calls.append(name)


class Heard:
    """A crew of three, and what it says."""

    def __init__(self) -> None:
        self.announced: list[list[str]] = []
        self.complaints: list[str] = []
        self.crew = Crew(lambda pipe: None, self.announced.append, self.complaints.append)
        self.crew.missing = 3
        self.processes = [Process() for _ in range(3)]
        for each in self.processes:
            process: Any = each
            self.crew.workers.append(Worker(process, None))

    def say(self, number: int, *news: list[str] | str) -> Worker:
        """A worker says something, and no more."""
        worker = self.crew.workers[number]
        worker.pipe, theirs = multiprocessing.Pipe(duplex=False)
        for item in news:
            report(theirs, item)
        theirs.close()
        self.crew._attend()
        return worker

    def end(self, *exitcodes: int) -> None:
        """The first of the workers that are left end."""
        for worker, exitcode in zip(self.crew.workers, exitcodes, strict=False):
            process: Any = worker.process
            process.exitcode = exitcode
        self.crew._attend()

    def signal(self, *numbers: int) -> None:
        """Signals come."""
        for number in numbers:
            self.crew.ask(number)
        self.crew._attend()


def test_announced_when_all_are_ready() -> None:
    heard = Heard()
    for number in range(2):
        heard.say(number, ["ws://host/"])
    assert heard.announced == []
    worker = heard.say(2, ["ws://host/"])
    assert heard.announced == [["ws://host/"]]
    assert worker.pipe is None


def test_a_report_that_fails_leaves_nothing_that_the_collector_complains_about(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    complaints: list[object] = []
    monkeypatch.setattr(sys, "unraisablehook", complaints.append)
    ours, theirs = multiprocessing.Pipe(duplex=False)
    ours.close()
    with theirs, pytest.raises(BrokenPipeError) as caught:
        report(theirs, "can't")
    caught.value.args = (caught.value,)  # a cycle, so that only the collector can free it
    del caught
    gc.collect()
    assert complaints == []


def test_only_the_first_failure_is_told() -> None:
    heard = Heard()
    heard.say(0, "can't")
    heard.say(1, "can't either")
    heard.end(3)
    assert (heard.complaints, heard.crew.status) == (["can't"], 3)
    assert [process.calls[0] for process in heard.processes] == ["terminate"] * 3


def test_a_reason_comes_before_the_end_that_it_explains() -> None:
    """Also if there was no time yet to listen to it."""
    heard = Heard()
    process: Any = heard.processes[0]
    process.exitcode = 3
    heard.say(0, "can't")
    assert heard.complaints == ["can't"]


def test_nobody_to_complain_to() -> None:
    heard = Heard()

    def complain(text: str) -> None:
        raise OSError("the terminal was closed")

    heard.crew.complain = complain
    heard.say(0, "can't")
    assert heard.crew.status == 3
    assert [process.calls for process in heard.processes] == [["terminate"]] * 3


@pytest.mark.parametrize("exitcode", [0, 1, -9])
def test_a_worker_that_ends_by_itself_makes_the_others_end(exitcode: int) -> None:
    heard = Heard()
    heard.end(exitcode)
    assert (heard.complaints, heard.crew.status) == ([f"A worker ended with status {exitcode}."], 3)
    assert [process.calls for process in heard.processes[1:]] == [["terminate"], ["terminate"]]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_workers_that_were_asked_to_end(number: int) -> None:
    heard = Heard()
    heard.signal(number)
    assert [process.calls for process in heard.processes] == [["terminate"]] * 3
    heard.end(0, -15, -9)
    assert (heard.complaints, heard.crew.status, heard.crew.workers) == ([], 0, [])


def test_a_signal_to_all_that_reached_a_worker_first() -> None:
    heard = Heard()
    heard.crew.ask(signal.SIGTERM)
    heard.end(0)
    assert (heard.complaints, heard.crew.status) == ([], 0)


@pytest.mark.parametrize(
    ("numbers", "killed"),
    [
        ((signal.SIGTERM, signal.SIGTERM), True),
        ((signal.SIGINT, signal.SIGTERM), True),
        ((signal.SIGHUP, signal.SIGTERM), True),
        ((signal.SIGHUP, signal.SIGHUP), False),
        ((signal.SIGTERM, signal.SIGHUP), False),
    ],
)
def test_workers_that_are_asked_twice(numbers: tuple[int, ...], killed: bool) -> None:
    heard = Heard()
    for number in numbers:
        heard.signal(number)
    assert [process.calls for process in heard.processes] == [["terminate", "kill"] if killed else ["terminate"]] * 3
    assert heard.crew.status == (130 if killed else 0)
    heard.signal(signal.SIGTERM)
    assert [process.calls for process in heard.processes] == [["terminate", "kill"]] * 3


def test_workers_that_do_not_end() -> None:
    heard = Heard()
    heard.signal(signal.SIGTERM)
    heard.end(0)
    heard.crew.deadline = 0
    heard.signal()
    heard.signal()
    assert heard.complaints == ["2 of the workers didn't end within 17 seconds: killed."]
    assert [process.calls for process in heard.processes[1:]] == [["terminate", "kill"]] * 2
    assert heard.crew.status == 3


def test_none_is_started_after_the_signal_to_stop() -> None:
    crew = Heard().crew
    crew.workers.clear()
    crew.ask(signal.SIGTERM)
    assert crew.run(2) == 0


def test_a_worker_that_goes_on_without_the_process_above(monkeypatch: pytest.MonkeyPatch) -> None:
    done: list[object] = []
    monkeypatch.setattr(signal, "pthread_kill", lambda *call: done.append(call))
    monkeypatch.setattr(time, "sleep", done.append)
    monkeypatch.setattr(os, "_exit", done.append)
    above: Any = Process()
    end_after(above, 12)
    assert above.calls == ["join"]
    assert done == [(threading.main_thread().ident, signal.SIGTERM), 12, 3]


def test_systems_that_cannot_continue_a_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ctypes", None)
    go_on_without_parent()
    monkeypatch.setattr(sys, "platform", "darwin")
    go_on_without_parent()


@pytest.mark.skipif(not hasattr(socket, "SO_REUSEPORT"), reason="no system to share ports on")
def test_a_free_port_is_kept() -> None:
    with free_port("127.0.0.1", 0) as port:
        assert port
        with socket.socket() as other, pytest.raises(OSError, match="in use"):
            other.bind(("127.0.0.1", port))
        with socket.socket() as sharing:
            sharing.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            sharing.bind(("127.0.0.1", port))


def test_a_port_that_is_given() -> None:
    with free_port(None, 8765) as port:
        assert port == 8765


# ----------------------------------------------------------------------------------------------------------- processes


class Running:
    """A crew that runs.

    Parameters:
        process: the process above.
        workers: those below.
    """

    def __init__(self, process: subprocess.Popen[str], workers: list[int]) -> None:
        self.process = process
        self.workers = workers

    def line(self) -> str:
        """The next line that one of them prints."""
        assert self.process.stdout is not None
        return self.process.stdout.readline().removesuffix("\n")

    def signal(self, *numbers: int) -> None:
        """Send signals to the process above."""
        for number in numbers:
            self.process.send_signal(number)

    def end(self) -> tuple[int, list[str], str]:
        """Wait until all have ended: nobody is left who could print anything. Return the status and what they print."""
        out, err = self.process.communicate(timeout=LIMIT)
        return self.process.returncode, out.splitlines(), err


@contextlib.contextmanager
def crew(number: int = 1, behaviour: str = "obedient", *, before: str = "", ready: bool = True) -> Iterator[Running]:
    """Run a crew, beginning when all its workers work; end it, whatever becomes of it.

    Parameters:
        number: how many workers.
        behaviour: theirs; see crew.py.
        before: what a shell does before it becomes the process above.
        ready: whether they get as far as that all work.
    """
    command = [sys.executable, str(Path(__file__).with_name("crew.py")), str(number), behaviour]
    if before:
        command = ["sh", "-c", f'{before}; exec "$@"', "sh", *command]
    process = subprocess.Popen(
        command,
        env=ENVIRONMENT,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    watchdog = threading.Timer(LIMIT, os.killpg, (process.pid, signal.SIGKILL))
    watchdog.start()
    running = Running(process, [])
    try:
        running.workers += [int(running.line()) for _ in range(number)]
        if ready:
            assert running.line() == "ready"
        yield running
    finally:
        watchdog.cancel()
        # All are in its group.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        with contextlib.suppress(ValueError):  # it was read to its end before
            process.communicate()


def test_workers_end_with_the_process_above_them() -> None:
    with crew(2) as running:
        if sys.platform == "linux":  # elsewhere nobody would continue it
            os.kill(running.workers[0], signal.SIGSTOP)
        running.signal(signal.SIGKILL)
        assert running.end() == (-9, ["told"] * 2, "")


def test_a_worker_that_does_not_listen_ends_all_the_same() -> None:
    with crew(1, "deaf") as running:
        running.signal(signal.SIGKILL)
        begin = time.monotonic()
        assert running.end() == (-9, ["told"], "")
        assert time.monotonic() - begin >= PATIENCE * 0.9


def test_a_worker_that_starts_when_the_process_above_has_ended() -> None:
    with crew(1, "starts late", ready=False) as running:
        running.signal(signal.SIGKILL)
        status, out, err = running.end()
        # It may have begun its work, or been ended before that.
        assert (status, err) == (-9, "")
        assert out in ([], [str(running.workers[0])], [str(running.workers[0]), "told"])


def test_a_stopped_worker_is_killed() -> None:
    with crew() as running:
        os.kill(running.workers[0], signal.SIGSTOP)
        running.signal(signal.SIGTERM)
        assert running.end() == (3, [], f"1 of the workers didn't end within {PATIENCE:g} seconds: killed.\n")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGHUP])
def test_signals_to_the_whole_group(number: int) -> None:
    """From a terminal, or a service manager. A shell may send another SIGHUP."""
    with crew() as running:
        os.killpg(running.process.pid, number)
        if number == signal.SIGHUP:
            os.killpg(running.process.pid, number)
        assert running.end() == (0, ["told"], "")


def test_the_second_signal_ends_all_at_once() -> None:
    with crew(1, "deaf") as running:
        running.signal(signal.SIGTERM)
        assert running.line() == "told"
        running.signal(signal.SIGTERM)
        assert running.end() == (130, [], "")


def test_a_crew_that_was_started_to_ignore_signals() -> None:
    """SIGHUP, as by nohup; and SIGCHLD, which must not hide that workers end."""
    with crew(before="trap '' HUP CHLD") as running:
        running.signal(signal.SIGHUP)
        os.kill(running.workers[0], signal.SIGHUP)
        os.kill(running.workers[0], signal.SIGKILL)
        assert running.end() == (3, [], "A worker ended with status -9.\n")


def test_a_worker_that_leaves_a_child_which_has_its_pipes() -> None:
    with crew(1, "leaves a child", ready=False) as running:
        child = int(running.line())
        running.process.wait(LIMIT)
        os.kill(child, signal.SIGKILL)
        assert running.end() == (3, [], "A worker ended with status 7.\n")


def test_nobody_hears_that_all_work() -> None:
    with crew(1, "no output", ready=False) as running:
        status, out, err = running.end()
        assert (status, out) == (1, [])
        assert err.endswith("OSError: no output\n")
