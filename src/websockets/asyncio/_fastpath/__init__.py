"""The fast path of a message between a transport and a task: the compiled twin if it was built, else the readable one.

``_readable`` specifies both.
"""

from __future__ import annotations

from socket import socket
from typing import TYPE_CHECKING

from ..._codec import TWIN
from .._internals import OWN_METHODS, PLAIN_LOOPS, RUNNING_TASKS, current_task
from ._readable import FULL, SENT, SLOW

__all__ = ["FULL", "SENT", "SLOW", "FastPath", "Messages", "Waiter"]

if TYPE_CHECKING or TWIN == "python":
    from ._readable import FastPath, Messages, Waiter
else:
    from ..._codec import _native
    from ..._codec._native import FastPath, Messages, Waiter

    _native.know_plain_loops(PLAIN_LOOPS)
    _native.know_tasks(current_task, RUNNING_TASKS)
    _native.know_transport(*OWN_METHODS, socket.fileno)
