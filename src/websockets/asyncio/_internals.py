"""The insides of asyncio and uvloop that we look at: all that leans on more than their documentation.

May know: names that asyncio and uvloop may change in any release. Must not know: connections.

Each function looks whether things are as they were when this was written, and says so. Where they aren't, whoever asks
goes the documented way, which costs time and nothing else. The table in ``docs/architecture.md`` lists them.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import sys
from asyncio import base_events, selector_events, tasks, transports
from collections import deque
from collections.abc import Callable
from types import FunctionType, ModuleType
from typing import Any, TypeAlias

__all__ = [
    "OWN_METHODS",
    "PLAIN_LOOPS",
    "RUNNING_TASKS",
    "brings_bytes",
    "connects_as_known",
    "current_task",
    "end_socket",
    "note_loop",
    "socket_behind",
    "takes_pieces",
    "task_runs",
    "waiting_bytes",
]


def _of(owner: object, name: str, *modules: ModuleType) -> object:
    """A method as one of these modules defines it; None if somebody has put another one in its place."""
    method = getattr(owner, name, None)
    own = isinstance(method, FunctionType) and any(method.__globals__ is vars(module) for module in modules)
    return method if own else None


# ------------------------------------------------------------------------------------------------------------- loops

PLAIN_LOOPS: set[object] = {_of(asyncio.BaseEventLoop, "run_until_complete", base_events)} - {None}
"""The methods ``run_until_complete`` of loops which run one callback after the other, and none within another one.

Whatever makes a loop re-entrant, such as nest_asyncio, replaces that method. In such a loop a task may wait for a read,
so it can't be resumed inside a read.
"""


def note_loop(loop: asyncio.AbstractEventLoop) -> None:
    """Add the loop to :data:`PLAIN_LOOPS` if it is one of uvloop's, which is not imported for this."""
    uvloop = getattr(sys.modules.get("uvloop.loop"), "Loop", None)
    method = getattr(uvloop, "run_until_complete", None)
    if method is not None and type(loop).run_until_complete is method:
        PLAIN_LOOPS.add(method)


# Packages whose loops do in create_connection() what asyncio's do.
_LOOPS_AS_KNOWN = {"asyncio", "uvloop", "winloop", "aiofastnet"}


def connects_as_known(loop: Any) -> bool:
    """Whether ``create_connection()`` of a loop is that of asyncio's loops, of uvloop's or of aiofastnet's.

    Another one may not lead to the network at all, or be there to see the name of every host.
    """
    method = loop.create_connection
    # aiofastnet puts functions with the loop as their first argument in the place of methods.
    method = getattr(method, "func", method)
    # The module in which a function was made: what wraps a method, or pretends to be one, takes over its names.
    made_in = getattr(getattr(method, "__func__", method), "__globals__", None)
    module = getattr(method, "__module__", None) if made_in is None else made_in.get("__name__")
    return str(module).partition(".")[0] in _LOOPS_AS_KNOWN


# ------------------------------------------------------------------------------------------------------------- tasks

_CurrentTask: TypeAlias = Callable[[asyncio.AbstractEventLoop], object]

# The function in C, where there is one: programs that use tasks in Python may have replaced the public name.
current_task: _CurrentTask = getattr(tasks, "_c_current_task", asyncio.current_task)

_running: object = getattr(tasks, "_current_tasks", None)

RUNNING_TASKS: dict[Any, Any] = _running if isinstance(_running, dict) else {}
"""The tasks that run, by their loops. From Python 3.14 on these are only tasks in Python, which :func:`current_task`
doesn't know then."""


def task_runs(loop: asyncio.AbstractEventLoop) -> bool:
    """Whether a task of this loop runs, be it in C or in Python."""
    return loop in RUNNING_TASKS or current_task(loop) is not None


# -------------------------------------------------------------------------------------------------------- transports

# The transport of asyncio's loops for sockets without TLS; no other has been seen to do nothing but write.
_TRANSPORT = getattr(selector_events, "_SelectorSocketTransport", None)

OWN_METHODS = tuple(_of(_TRANSPORT, name, selector_events, transports) for name in ("write", "writelines"))
"""Its methods ``write`` and ``writelines``; None for one that isn't its own."""

# What it keeps in ``_buffer``, up to Python 3.11 and since then: empty while nothing waits.
_BUFFERS = bytearray, deque


def socket_behind(transport: asyncio.BaseTransport) -> socket.socket | None:
    """The socket that a transport writes to, if its ``write()`` does nothing else while nothing waits; else None."""
    if type(transport) is not _TRANSPORT or None in OWN_METHODS:
        return None
    as_known = (
        isinstance(getattr(transport, "_buffer", None), _BUFFERS)
        and getattr(transport, "_closing", None) is False
        and getattr(transport, "_empty_waiter", False) is None
    )
    # What get_extra_info() gives stands in front of the socket itself.
    sock = getattr(transport.get_extra_info("socket"), "_sock", None)
    return sock if as_known and type(sock) is socket.socket else None


def end_socket(transport: asyncio.BaseTransport) -> None:
    """Close the socket of a transport of Windows' loop that calls ``connection_lost()``, as it will do after that.

    Where the peer reset the connection, ``shutdown()`` fails. asyncio doesn't expect this: it neither closes the socket
    nor counts out the transport, and a server that waits for its connections, from Python 3.12 on, waits for ever.
    """
    if type(transport).__module__ == "asyncio.proactor_events":
        sock = getattr(transport.get_extra_info("socket"), "_sock", None)
        if isinstance(sock, socket.socket):
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
            sock.close()


def takes_pieces(transport: asyncio.BaseTransport) -> bool:
    """Whether ``writelines()`` of a transport copies nothing and looks at the limits: as uvloop's, without TLS."""
    return type(transport).__module__ == "uvloop.loop" and transport.get_extra_info("sslcontext") is None


def brings_bytes(transport: asyncio.BaseTransport) -> bool:
    """Whether it costs a transport more to fill a buffer of ours than to bring its own: so it is with asyncio's TLS."""
    return type(transport).__module__ == "asyncio.sslproto"


def waiting_bytes(transport: asyncio.WriteTransport) -> int:
    """Bytes that a transport holds; those that it holds for TLS, and those that TLS gave to the transport below it."""
    # No part of the interface of transports leads to the one below; where there is no such way, its part is missing.
    below = getattr(getattr(transport, "_ssl_protocol", None), "_transport", None)
    return transport.get_write_buffer_size() + (0 if below is None else below.get_write_buffer_size())
