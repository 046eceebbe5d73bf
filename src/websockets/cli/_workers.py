"""Several processes that serve at the same port, as SO_REUSEPORT lets them, and the one that keeps them together.

May know: processes, signals, pipes. Must not know: what is served.

The process above tells the workers to end by SIGTERM. If it ends itself, in whatever way, a pipe ends that only it
could write to: the workers wait for that, and end too. Signals from a terminal, or to the whole group, reach the
workers as well; those are for the process above.
"""

from __future__ import annotations

import contextlib
import dataclasses
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

__all__ = ["Crew", "free_port", "run_workers"]

# How long workers may take to end, in seconds. After that they are killed: one may be stopped, or busy for ever.
PATIENCE = 17.0


# From sys/prctl.h.
PR_SET_PDEATHSIG = 1


@contextlib.contextmanager
def free_port(host: str | None, port: int) -> Iterator[int]:
    """The port, or a free one for 0, which nobody else is given meanwhile."""
    if port:
        yield port
        return
    family, kind, protocol, _, address = socket.getaddrinfo(host, 0, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[
        0
    ]
    # It doesn't listen, so it doesn't get connections.
    with socket.socket(family, kind, protocol) as holder:
        holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        holder.bind(address)
        yield holder.getsockname()[1]


# ------------------------------------------------------------------------------------------------------------- a worker


def work_below(work: Callable[[Connection], None], pipe: Connection) -> None:
    """What a worker does: its work, until SIGTERM or the end of the process above.

    Parameters:
        work: its work.
        pipe: where it sends news.
    """
    # Until here, the process above had them held back.
    held_back = {getattr(signal, name) for name in ENDING}
    for number in held_back - {signal.SIGTERM}:
        signal.signal(number, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, held_back)
    above = multiprocessing.parent_process()
    assert above is not None
    go_on_without_parent()
    # In a thread, as the work may not have begun, or not get on.
    threading.Thread(target=end_after, args=(above, PATIENCE), daemon=True).start()
    work(pipe)


def go_on_without_parent() -> None:
    """Have the kernel continue this process, if it is stopped, when the one above ends: else it couldn't end.

    Linux alone can do that, by PR_SET_PDEATHSIG. Elsewhere a worker that is stopped ends when somebody continues it.
    """
    if sys.platform == "linux":
        with contextlib.suppress(ImportError, OSError, AttributeError):
            import ctypes

            ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGCONT)


def end_after(above: BaseProcess, patience: float) -> None:
    """End this process once the one above has ended: in good order, or after so many seconds without it."""
    above.join()
    # Not to the process as a whole: while the main thread is still stopped, another one gets the signal, and nothing
    # wakes the main thread, which alone runs handlers.
    signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGTERM)
    time.sleep(patience)
    os._exit(ABNORMAL)


# ------------------------------------------------------------------------------------------------- the process above it


@dataclasses.dataclass(eq=False)
class Worker:
    """A worker, seen from above.

    Parameters:
        process: the process.
        pipe: what it says; None once it says no more.
    """

    process: BaseProcess
    pipe: Connection | None

    @property
    def ended(self) -> bool:
        """Whether it has ended."""
        return self.process.exitcode is not None


class Crew:
    """Workers that live and end together.

    Parameters:
        work: what each does, in a process of its own. It is called with the end of a pipe; it sends where it listens,
            or why it can't, as a text.
        announce: told where they listen, once all of them do.
        complain: told what went wrong.
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
        self.asked = 0  # signals that ask to end
        self.deadline: float | None = None  # when workers are killed that should have ended
        self.killed = False
        self.status = OK

    def run(self, number: int) -> int:
        """Start workers, and wait until all have ended. One that ends by itself makes the others end.

        Parameters:
            number: how many.

        Returns:
            The status for the shell.
        """
        context = multiprocessing.get_context("spawn")
        self.missing = number
        # Whatever signal comes makes this socket readable, after its handler has run.
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
                # None is left, unless it was impossible to start one, or to announce them.
                self._kill()
                for worker in self.workers:
                    worker.process.join()
        return self.status

    def ask(self, number: int, frame: object = None) -> None:
        """Ask the workers to end, or the second time, end them. This handles signals."""
        if not self.asked or signal.Signals(number).name not in ONCE:
            self.asked += 1

    def _start(self, context: SpawnContext) -> None:
        ours, theirs = context.Pipe(duplex=False)
        process = context.Process(target=work_below, args=(self.work, theirs))
        with held_back():
            process.start()
        theirs.close()  # so that the end of the worker is the end of the pipe
        self.workers.append(Worker(process, ours))

    def _wait(self, signals: socket.socket) -> None:
        """Wait until something happens: news, the end of a worker, a signal, the deadline."""
        pipes = [worker.pipe for worker in self.workers if worker.pipe is not None]
        ends = [worker.process.sentinel for worker in self.workers]
        unlimited = self.deadline is None or self.killed
        timeout = None if unlimited else max((self.deadline or 0) - time.monotonic(), 0)
        multiprocessing.connection.wait([*pipes, *ends, signals], timeout)
        with contextlib.suppress(BlockingIOError):
            signals.recv(4096)

    def _attend(self) -> None:
        """Do what follows from what happened."""
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
        """A worker says where it listens, or why it can't; or it won't say any more."""
        assert worker.pipe is not None
        try:
            news: list[str] | str = worker.pipe.recv()
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
        """A worker has ended."""
        self.workers.remove(worker)
        # A signal to all may have reached it first.
        if not self.asked:
            self._fail(f"A worker ended with status {worker.process.exitcode}.")
        worker.process.join()
        worker.process.close()
        if worker.pipe is not None:
            worker.pipe.close()

    def _fail(self, text: str) -> None:
        # The first one is the cause: the others are asked to end because of it.
        if self.deadline is None:
            self._complain(text)
            self._stop()

    def _complain(self, text: str) -> None:
        self.status = ABNORMAL
        # There may be nobody left to complain to.
        with contextlib.suppress(OSError):
            self.complain(text)

    def _stop(self) -> None:
        """Ask all to end in good order."""
        self.deadline = time.monotonic() + PATIENCE
        for worker in self.workers:
            worker.process.terminate()

    def _kill(self) -> None:
        """End all at once; this ends those, too, that are stopped."""
        self.killed = True
        for worker in self.workers:
            worker.process.kill()


@contextlib.contextmanager
def waking(sock: socket.socket) -> Iterator[None]:
    """During a ``with`` block, every signal that has a handler writes to a socket."""
    sock.setblocking(False)
    before = signal.set_wakeup_fd(sock.fileno(), warn_on_full_buffer=False)
    try:
        yield
    finally:
        signal.set_wakeup_fd(before)


@contextlib.contextmanager
def held_back() -> Iterator[None]:
    """During a ``with`` block, hold back the signals that end the command; a process that is started there inherits it.

    So a worker isn't interrupted before it has said which it ignores, and none is forgotten that is just being started.
    """
    from multiprocessing import resource_tracker  # here, as there is none on Windows

    # A process of multiprocessing's own: while it starts that, it would let the signals through.
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
    """Run workers until Ctrl-C, SIGTERM or SIGHUP, which the workers get as SIGTERM.

    Parameters:
        number: how many.
        work, announce, complain: as for :class:`Crew`.

    Returns:
        The status for the shell.
    """
    crew = Crew(work, announce, complain)
    # The end of a worker is seen by this, even if it left something behind that keeps its pipes open.
    before = signal.signal(signal.SIGCHLD, lambda *_: None)
    try:
        with handled(crew.ask):
            return crew.run(number)
    finally:
        signal.signal(signal.SIGCHLD, before)
