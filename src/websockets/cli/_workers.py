"""Worker processes that serve at the same port, with SO_REUSEPORT, and the parent process that manages them.

May know: processes, signals, pipes. Must not know: the service.

The parent ends the workers by SIGTERM. If the parent itself ends, for any reason, a pipe to which only it could write
is closed. The workers wait for that, and end too. Signals from a terminal, or to the whole group, also reach the
workers, which ignore them, because the parent handles them.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import multiprocessing
import multiprocessing.connection
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnContext
from multiprocessing.process import BaseProcess

from ._signals import ENDING, ONCE, handled
from ._status import ABNORMAL, INTERRUPTED, OK

__all__ = ["Crew", "free_port", "report", "run_workers"]

# Seconds that workers may take to end. After that they are killed, because one may be stopped, or in an endless loop.
PATIENCE = 17.0


# From sys/prctl.h.
PR_SET_PDEATHSIG = 1


@contextlib.contextmanager
def free_port(host: str | None, port: int) -> Iterator[int]:
    """Provide the port, or a free one for 0, which is reserved during the ``with`` block."""
    if port:
        yield port
        return
    family, kind, protocol, _, address = socket.getaddrinfo(host, 0, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[
        0
    ]
    # This socket doesn't listen, so it gets no connections.
    with socket.socket(family, kind, protocol) as holder:
        holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        holder.bind(address)
        yield holder.getsockname()[1]


# ------------------------------------------------------------------------------------------------------------- a worker


def worker_main(work: Callable[[Connection], None], pipe: Connection) -> None:
    """Run a worker until SIGTERM or the end of the parent.

    Parameters:
        work: the work of the worker.
        pipe: connection to the parent, for reports.
    """
    # The parent blocked these signals before it started this process.
    ending = {getattr(signal, name) for name in ENDING}
    for number in ending - {signal.SIGTERM}:
        signal.signal(number, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, ending)
    above = multiprocessing.parent_process()
    assert above is not None
    go_on_without_parent()
    # Wait in a thread, because the work may not have begun, or may be blocked.
    threading.Thread(target=end_after, args=(above, PATIENCE), daemon=True).start()
    work(pipe)


def report(pipe: Connection, news: list[str] | str) -> None:
    """Send a report to the parent: the addresses where this worker listens, or an error as a text.

    ``pipe.send()`` would do, but if it fails, its traceback keeps a view of an ``io.BytesIO``. If the garbage collector
    frees both, CPython 3.12 and 3.13 complain, or crash.

    Raises:
        OSError: the parent has ended.
    """
    pipe.send_bytes(json.dumps(news).encode())


def go_on_without_parent() -> None:
    """Ask the kernel to continue this process when the parent ends, because a stopped process couldn't end.

    Only Linux can do that, by PR_SET_PDEATHSIG. On other systems, a stopped worker ends when it is continued.
    """
    if sys.platform == "linux":
        with contextlib.suppress(ImportError, OSError, AttributeError):
            import ctypes

            ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGCONT)


def end_after(above: BaseProcess, patience: float) -> None:
    """End this process when the parent has ended: in good order, or after *patience* seconds by force."""
    above.join()
    # Send the signal to the main thread, which alone runs handlers. If it were sent to the process while the main
    # thread is still stopped, another thread could get it, and nothing would wake the main thread.
    signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGTERM)
    time.sleep(patience)
    os._exit(ABNORMAL)


# ----------------------------------------------------------------------------------------------------------- the parent


@dataclasses.dataclass(eq=False)
class Worker:
    """A worker, as the parent knows it.

    Parameters:
        process: the process.
        pipe: connection for its reports; None after the last one.
    """

    process: BaseProcess
    pipe: Connection | None

    @property
    def ended(self) -> bool:
        """Return whether the worker has ended."""
        return self.process.exitcode is not None


class Crew:
    """A group of workers; if one ends, all end.

    Parameters:
        work: the work of each worker, in its own process. It is called with the end of a pipe, for `report`.
        announce: called with the addresses when all workers listen.
        complain: called with the text of an error.
    """

    def __init__(
        self,
        work: Callable[[Connection], None],
        announce: Callable[[list[str]], None],
        complain: Callable[[str], None],
    ) -> None:
        self.work = work
        self.announce = announce
        self.complain = complain
        self.workers: list[Worker] = []
        self.missing = 0
        self.asked = 0  # number of signals that ask to end
        self.deadline: float | None = None  # time when workers that have not ended are killed
        self.killed = False
        self.status = OK

    def run(self, number: int) -> int:
        """Start workers, and wait until all have ended. If one ends by itself, the others are ended.

        Parameters:
            number: number of workers.

        Returns:
            The status for the shell.
        """
        context = multiprocessing.get_context("spawn")
        self.missing = number
        # Each signal makes this socket readable, after its handler has run.
        ours, theirs = socket.socketpair()
        with ours, theirs, waking(theirs):
            ours.setblocking(False)
            try:
                for _ in range(number):
                    if not self.asked:
                        self._start(context)
                while self.workers:
                    self._wait(ours)
                    self._attend()
            finally:
                # Workers are left only if starting one, or announcing them, failed.
                self._kill()
                for worker in self.workers:
                    worker.process.join()
        return self.status

    def ask(self, number: int, frame: object = None) -> None:
        """Ask the workers to end; at the second call, kill them. This is a handler of signals."""
        if not self.asked or signal.Signals(number).name not in ONCE:
            self.asked += 1

    def _start(self, context: SpawnContext) -> None:
        ours, theirs = context.Pipe(duplex=False)
        process = context.Process(target=worker_main, args=(self.work, theirs))
        with signals_blocked():
            process.start()
        theirs.close()  # only the worker holds this end now, so the pipe closes when the worker ends
        self.workers.append(Worker(process, ours))

    def _wait(self, signals: socket.socket) -> None:
        """Wait for an event: a report, the end of a worker, a signal, or the deadline."""
        pipes = [worker.pipe for worker in self.workers if worker.pipe is not None]
        ends = [worker.process.sentinel for worker in self.workers]
        unlimited = self.deadline is None or self.killed
        timeout = None if unlimited else max((self.deadline or 0) - time.monotonic(), 0)
        multiprocessing.connection.wait([*pipes, *ends, signals], timeout)
        with contextlib.suppress(BlockingIOError):
            signals.recv(4096)

    def _attend(self) -> None:
        """Handle the events."""
        for worker in self.workers:
            while worker.pipe is not None and worker.pipe.poll():
                self._hear(worker)
        for worker in [worker for worker in self.workers if worker.ended]:
            self._lose(worker)
        if self.asked and self.deadline is None:
            self._stop()
        if self.asked > 1 and not self.killed:
            self.status = INTERRUPTED
            self._kill()
        elif self.deadline is not None and time.monotonic() >= self.deadline and not self.killed:
            self._complain(f"{len(self.workers)} of the workers didn't end within {PATIENCE:g} seconds: killed.")
            self._kill()

    def _hear(self, worker: Worker) -> None:
        """Handle a report of a worker: its addresses, an error, or the end of its reports."""
        assert worker.pipe is not None
        try:
            news: list[str] | str = json.loads(worker.pipe.recv_bytes())
        except (EOFError, OSError):
            worker.pipe.close()
            worker.pipe = None
            return
        if isinstance(news, str):
            self._fail(news)
        else:
            self.missing -= 1
            if not self.missing:
                self.announce(news)

    def _lose(self, worker: Worker) -> None:
        """Handle the end of a worker."""
        self.workers.remove(worker)
        # A signal to the whole group may have reached it first.
        if not self.asked:
            self._fail(f"A worker ended with status {worker.process.exitcode}.")
        worker.process.join()
        worker.process.close()
        if worker.pipe is not None:
            worker.pipe.close()

    def _fail(self, text: str) -> None:
        # Only the first failure is reported, because the others end as its consequence.
        if self.deadline is None:
            self._complain(text)
            self._stop()

    def _complain(self, text: str) -> None:
        self.status = ABNORMAL
        # Standard error may be closed.
        with contextlib.suppress(OSError):
            self.complain(text)

    def _stop(self) -> None:
        """Ask all to end in good order."""
        self.deadline = time.monotonic() + PATIENCE
        for worker in self.workers:
            worker.process.terminate()

    def _kill(self) -> None:
        """Kill all workers, including stopped ones."""
        self.killed = True
        for worker in self.workers:
            worker.process.kill()


@contextlib.contextmanager
def waking(sock: socket.socket) -> Iterator[None]:
    """During a ``with`` block, make every signal with a handler write to a socket."""
    sock.setblocking(False)
    before = signal.set_wakeup_fd(sock.fileno(), warn_on_full_buffer=False)
    try:
        yield
    finally:
        signal.set_wakeup_fd(before)


@contextlib.contextmanager
def signals_blocked() -> Iterator[None]:
    """During a ``with`` block, block the signals that end the command; processes started in it inherit this.

    So a signal can't interrupt a worker before it has set which ones it ignores, nor the parent while it starts one.
    """
    from multiprocessing import resource_tracker  # imported here, because Windows doesn't have it

    # multiprocessing unblocks the signals while it starts its resource tracker, so start that first.
    resource_tracker.ensure_running()
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {getattr(signal, name) for name in ENDING})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def run_workers(
    number: int,
    work: Callable[[Connection], None],
    announce: Callable[[list[str]], None],
    complain: Callable[[str], None],
) -> int:
    """Run workers until Ctrl-C, SIGTERM or SIGHUP, which the parent passes on as SIGTERM.

    Parameters:
        number: number of workers.
        work, announce, complain: as for :class:`Crew`.

    Returns:
        The status for the shell.
    """
    crew = Crew(work, announce, complain)
    # SIGCHLD reports the end of a worker, even if a child of the worker keeps its pipes open.
    before = signal.signal(signal.SIGCHLD, lambda *_: None)
    try:
        with handled(crew.ask):
            return crew.run(number)
    finally:
        signal.signal(signal.SIGCHLD, before)
