"""Several processes that serve at the same port, as SO_REUSEPORT lets them, and the one that keeps them together.

May know: processes, signals, pipes. Must not know: what is served.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import multiprocessing.connection
import signal
import socket
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnContext
from multiprocessing.process import BaseProcess

from ._status import ABNORMAL, OK

__all__ = ["Crew", "free_port", "run_workers"]


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
        self.pipes: list[Connection] = []
        self.processes: list[BaseProcess] = []
        self.missing = 0
        self.stopping = False
        self.status = OK

    def run(self, number: int) -> int:
        """Start so many workers, and wait until all have ended. One that ends by itself makes the others end.

        Returns:
            The status for the shell.
        """
        context = multiprocessing.get_context("spawn")
        self.missing = number
        for _ in range(number):
            if not self.stopping:
                self._start(context)
        while self.processes:
            ready = multiprocessing.connection.wait([*self.pipes, *(process.sentinel for process in self.processes)])
            for pipe in [pipe for pipe in self.pipes if pipe in ready]:
                self._hear(pipe)
            for process in [process for process in self.processes if process.sentinel in ready]:
                self._lose(process)
        return self.status

    def stop(self, *_: object) -> None:
        """Ask the workers to end; when asked again, don't ask them. This can handle a signal."""
        for process in self.processes:
            if self.stopping:
                process.kill()
            else:
                process.terminate()
        self.stopping = True

    def _start(self, context: SpawnContext) -> None:
        ours, theirs = context.Pipe(duplex=False)
        process = context.Process(target=self.work, args=(theirs,))
        process.start()
        theirs.close()  # so that the end of the worker is the end of the pipe
        self.pipes.append(ours)
        self.processes.append(process)

    def _hear(self, pipe: Connection) -> None:
        """A worker says where it listens, or why it can't; or it won't say any more."""
        try:
            news: list[str] | str = pipe.recv()
        except EOFError:
            self.pipes.remove(pipe)
            pipe.close()
            return
        if isinstance(news, list):
            self.missing -= 1
            if not self.missing:
                self.announce(news)
        else:
            self._fail(news)

    def _lose(self, process: BaseProcess) -> None:
        """A worker has ended."""
        process.join()
        self.processes.remove(process)
        if process.exitcode or not self.stopping:
            self._fail(f"A worker ended with status {process.exitcode}.")
        process.close()

    def _fail(self, text: str) -> None:
        # The first one is the cause: the others are asked to end because of it.
        if not self.stopping:
            self.complain(text)
            self.status = ABNORMAL
            self.stop()


def run_workers(
    number: int,
    work: Callable[[Connection], None],
    announce: Callable[[list[str]], None],
    complain: Callable[[str], None],
) -> int:
    """Run workers until Ctrl-C or SIGTERM, which the workers get as SIGTERM.

    Parameters:
        number: how many.
        work, announce, complain: as for :class:`Crew`.

    Returns:
        The status for the shell.
    """
    crew = Crew(work, announce, complain)
    before = {each: signal.signal(each, crew.stop) for each in (signal.SIGINT, signal.SIGTERM)}
    try:
        return crew.run(number)
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)
