"""Makes this interpreter resemble one on Windows; for CI, where there is no such machine.

    PYTHONPATH=tests/_windows python -m pytest tests/core tests/kit tests/asyncio tests/scenarios

Python imports this file when it starts, and so does each Python that a test starts. It takes away what Windows doesn't
have, gives time the resolution that it has there, and puts :mod:`windows_events` in the place of asyncio's loops for
Unix: asyncio's own transports for a proactor, over a proactor made of a selector.

Not emulated: ``sys.platform``, ``os.name`` (``ssl``, ``multiprocessing`` and pytest would look for modules in C that
only Windows has), paths, files that can't be removed while they are open, code pages, the console. See
``docs/platforms.md`` for what to run on a real one.

Charter: knows the standard library, and nothing of ours. Modules are changed when they are first imported: a program
doesn't find more modules than on another system.
"""

from __future__ import annotations

import math
import os
import sys
import time
from collections.abc import Callable, Sequence
from importlib import abc, machinery
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any, NoReturn

# Seconds between two ticks of the clock that GetTickCount64() reads.
TICK = 0.015625

NO_FUNCTIONS = (
    "fork", "forkpty", "getpgid", "killpg", "mkfifo", "openpty", "register_at_fork", "setpgid", "setsid",
)  # fmt: skip

NO_SIGNALS = ("SIGALRM", "SIGCHLD", "SIGHUP", "SIGPIPE", "SIGQUIT", "SIGTSTP", "SIGUSR1", "SIGUSR2", "SIGWINCH")

NO_MODULES = {"fcntl", "pty", "readline", "resource", "termios", "tty", "uvloop"}

KILL = 9


def has_no_such_thing(module: ModuleType, *names: str) -> None:
    """Take names out of a module, and out of what ``import *`` finds there."""
    for name in names:
        vars(module).pop(name, None)
    if hasattr(module, "__all__"):
        vars(module)["__all__"] = [name for name in module.__all__ if name not in names]


# ------------------------------------------------------------------------------------------------- time, processes


def coarse(clock: Callable[[], float]) -> Callable[[], float]:
    """A clock that ticks 64 times a second."""

    def monotonic() -> float:
        return math.floor(clock() / TICK) * TICK

    return monotonic


def get_clock_info(name: str, known: Callable[[Any], Any] = time.get_clock_info) -> object:
    """What ``time.get_clock_info`` says."""
    info = known(name)
    return SimpleNamespace(**{**vars(info), "resolution": TICK}) if name == "monotonic" else info


def kill(pid: int, number: int, really: Callable[[int, int], None] = os.kill) -> None:
    """End a process: no signal but Ctrl-C, which only a console can send, reaches a handler in another process."""
    really(pid, 0 if number == 0 else KILL)


def change_sockets(socket: Any) -> None:
    """There are no Unix sockets, and a pair of sockets is one of TCP."""

    def socketpair(family: int = socket.AF_INET, type: int = socket.SOCK_STREAM, proto: int = 0) -> tuple[Any, Any]:
        with socket.socket(family, type, proto) as listening:
            listening.bind(("127.0.0.1" if family == socket.AF_INET else "::1", 0))
            listening.listen()
            ours = socket.create_connection(listening.getsockname()[:2])
            return ours, listening.accept()[0]

    has_no_such_thing(socket, "AF_UNIX", "SO_REUSEPORT", "send_fds", "recv_fds")
    socket.socketpair = socketpair


def change_processes(subprocess: Any) -> None:
    """Processes are ended, and get no signals."""

    def terminate(self: Any) -> None:
        if self.poll() is None:
            os.kill(self.pid, KILL)

    def send_signal(self: Any, number: int) -> None:
        if self.poll() is None and number != signal.SIGTERM:
            raise ValueError(f"Unsupported signal: {number}")
        terminate(self)

    import signal

    subprocess.Popen.terminate = subprocess.Popen.kill = terminate
    subprocess.Popen.send_signal = send_signal


def change_contexts(context: Any) -> None:
    """New processes of multiprocessing begin from nothing."""
    context._concrete_contexts.pop("fork", None)
    context._concrete_contexts.pop("forkserver", None)
    context._default_context = context.DefaultContext(context._concrete_contexts["spawn"])


CHANGES: dict[str, Callable[[Any], None]] = {
    "socket": change_sockets,
    "signal": lambda signal: has_no_such_thing(signal, *NO_SIGNALS),
    "subprocess": change_processes,
    "multiprocessing.context": change_contexts,
}


# ----------------------------------------------------------------------------------------------------------- modules


class Changing(abc.Loader):
    """Loads a module as another loader does, and then changes it."""

    def __init__(self, loader: abc.Loader, change: Callable[[Any], None]) -> None:
        self.loader = loader
        self.change = change

    def create_module(self, spec: machinery.ModuleSpec) -> ModuleType | None:
        """As the other one."""
        return self.loader.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        """As the other one; then change it."""
        self.loader.exec_module(module)
        self.change(module)


class Windows(abc.MetaPathFinder):
    """Finds modules as they are on Windows."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> machinery.ModuleSpec | None:
        """The module to load, if it is another one than elsewhere."""
        if fullname in NO_MODULES:
            self.refuse(fullname)
        if fullname == "asyncio.unix_events":
            return machinery.PathFinder.find_spec("windows_events", [str(Path(__file__).parent)])
        change = CHANGES.get(fullname)
        spec = None if change is None else machinery.PathFinder.find_spec(fullname, path)
        if change is not None and spec is not None and spec.loader is not None:
            spec.loader = Changing(spec.loader, change)
        return spec

    @staticmethod
    def refuse(name: str) -> NoReturn:
        """Say that there is no such module. The standard library gets what it needs on the system that this is."""
        raise ModuleNotFoundError(f"No module named {name!r}", name=name)


time.monotonic = coarse(time.monotonic)
time.get_clock_info = get_clock_info  # type: ignore[assignment]
os.kill = kill
has_no_such_thing(os, *NO_FUNCTIONS)
for name in CHANGES:
    if name in sys.modules:
        CHANGES[name](sys.modules[name])
sys.meta_path.insert(0, Windows())
