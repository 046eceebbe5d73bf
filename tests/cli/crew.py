"""A crew of workers that serve nothing: ``python crew.py NUMBER BEHAVIOUR``, for test_workers.py.

Each worker prints its number when it works, and "told" when it is told to end; the process above prints "ready".
Behaviours other than "obedient" are what can go wrong.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import time
from multiprocessing.connection import Connection

from websockets.cli import _workers

# How long those may take that don't end: on a busy machine, others need some of that.
PATIENCE = 2.0

# In the process above; in a worker; else the tests ask for what is here.
behaviour = sys.argv[2] if __name__ in ("__main__", "__mp_main__") else ""
if behaviour:
    _workers.PATIENCE = PATIENCE


def say(*words: object) -> None:
    # Not print(): it may be interrupted by a signal whose handler says something too.
    os.write(1, f"{' '.join(map(str, words))}\n".encode())


def told(number: int, frame: object) -> None:
    say("told")
    if behaviour != "deaf":
        sys.exit()


def leave_a_child_and_die() -> None:
    """The child has all that this process had open, the pipes to the process above included."""
    child = os.fork()
    if child:
        say(child)
        os._exit(7)
    time.sleep(3600)


def work(pipe: Connection) -> None:
    signal.signal(signal.SIGTERM, told)
    say(os.getpid())
    if behaviour == "leaves a child":
        leave_a_child_and_die()
    with contextlib.suppress(OSError):  # nobody may be there any more
        _workers.report(pipe, [str(os.getpid())])
    while True:
        time.sleep(3600)


def announce(news: list[str]) -> None:
    if behaviour == "no output":
        raise OSError("no output")
    say("ready")


def complain(text: str) -> None:
    print(text, file=sys.stderr)


if __name__ == "__main__":
    sys.exit(_workers.run_workers(int(sys.argv[1]), work, announce, complain))

if behaviour == "starts late":
    # Before it works, the process above has ended.
    above = os.getppid()
    say(os.getpid())
    while os.getppid() == above:
        time.sleep(0.01)
