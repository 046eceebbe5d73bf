"""Workers that live and end together, as far as it can be seen without starting any; test_command starts some."""

from __future__ import annotations

import multiprocessing
import socket
from multiprocessing.connection import Connection
from typing import Any

import pytest

from websockets.cli._workers import Crew, free_port


class Process:
    """The least of a process."""

    def __init__(self, exitcode: int | None = None) -> None:
        self.exitcode = exitcode
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
        processes: Any = self.crew.processes
        processes.extend(self.processes)

    def say(self, *news: list[str] | str) -> Connection:
        """A worker says something, and no more."""
        ours, theirs = multiprocessing.Pipe(duplex=False)
        self.crew.pipes.append(ours)
        for item in news:
            theirs.send(item)
        theirs.close()
        for _ in news:
            self.crew._hear(ours)
        return ours

    def lose(self, exitcode: int) -> None:
        """The first of the workers that are left ends."""
        process: Any = self.crew.processes[0]
        process.exitcode = exitcode
        self.crew._lose(process)


def test_announced_when_all_are_ready() -> None:
    heard = Heard()
    for _ in range(2):
        heard.say(["ws://host/"])
    assert heard.announced == []
    pipe = heard.say(["ws://host/"])
    assert heard.announced == [["ws://host/"]]
    heard.crew._hear(pipe)
    assert pipe not in heard.crew.pipes
    assert pipe.closed


def test_only_the_first_failure_is_told() -> None:
    heard = Heard()
    heard.say("can't")
    heard.say("can't either")
    heard.lose(3)
    assert (heard.complaints, heard.crew.status) == (["can't"], 3)
    assert [process.calls[0] for process in heard.processes] == ["terminate"] * 3


@pytest.mark.parametrize("exitcode", [0, 1, -9])
def test_a_worker_that_ends_by_itself_makes_the_others_end(exitcode: int) -> None:
    heard = Heard()
    heard.lose(exitcode)
    assert (heard.complaints, heard.crew.status) == ([f"A worker ended with status {exitcode}."], 3)
    assert [process.calls for process in heard.processes[1:]] == [["terminate"], ["terminate"]]


def test_workers_that_were_asked_to_end() -> None:
    heard = Heard()
    heard.crew.stop()
    for exitcode in (0, -15, -9):
        heard.lose(exitcode)
    assert (heard.complaints, heard.crew.status, heard.crew.processes) == ([], 0, [])


def test_workers_that_are_asked_twice() -> None:
    heard = Heard()
    heard.crew.stop()
    heard.crew.stop()
    assert [process.calls for process in heard.processes] == [["terminate", "kill"]] * 3


def test_none_is_started_after_the_signal_to_stop() -> None:
    crew = Heard().crew
    crew.processes.clear()
    crew.stop()
    assert crew.run(2) == 0


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
