"""Undocumented parts of asyncio and uvloop that this library uses.

May know: names that asyncio and uvloop may change in any release. Must not know: connections.

Each function checks that the internals are as they were when this was written, and returns the result of the check. If
they have changed, its caller uses only the documented API, which is slower but works. The table in
``docs/architecture.md`` lists these checks.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
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
    "connects_as_known",
    "current_task",
    "end_socket",
    "ignore_lost_handshakes",
    "is_tls_of_loop",
    "network_of",
    "note_loop",
    "read_rest",
    "socket_behind",
    "takes_pieces",
    "task_runs",
    "waiting_bytes",
]


def _of(owner: object, name: str, *modules: ModuleType) -> object:
    """Return a method if one of these modules defines it; None if it was replaced."""
    method = getattr(owner, name, None)
    own = isinstance(method, FunctionType) and any(method.__globals__ is vars(module) for module in modules)
    return method if own else None


# ------------------------------------------------------------------------------------------------------------- loops

PLAIN_LOOPS: set[object] = {_of(asyncio.BaseEventLoop, "run_until_complete", base_events)} - {None}
"""The methods ``run_until_complete`` of event loops that never run a callback inside another one.

Libraries that make a loop re-entrant, such as nest_asyncio, replace this method. In such a loop a task may run inside a
callback, so it can't be resumed inside a read.
"""


def note_loop(loop: asyncio.AbstractEventLoop) -> None:
    """Add the loop to :data:`PLAIN_LOOPS` if it is one of uvloop's; uvloop isn't imported for this."""
    uvloop = getattr(sys.modules.get("uvloop.loop"), "Loop", None)
    method = getattr(uvloop, "run_until_complete", None)
    if method is not None and type(loop).run_until_complete is method:
        PLAIN_LOOPS.add(method)


# Packages whose create_connection() works like that of asyncio.
_LOOPS_AS_KNOWN = {"asyncio", "uvloop", "winloop", "aiofastnet"}


def network_of(loop: Any, name: str = "create_connection") -> str:
    """Return the package whose ``create_connection()`` a loop has: "asyncio" or "uvloop", for instance.

    A different one may use no network at all, or may have been installed to see the name of every host.

    Parameters:
        loop: the event loop, or an object that makes connections in its place.
        name: another method to look at.
    """
    method = getattr(loop, name)
    # aiofastnet replaces methods with partial functions that have the loop as their first argument.
    method = getattr(method, "func", method)
    # Look at the globals of the function: wrappers copy the name and the module of a method, but not these.
    made_in = getattr(getattr(method, "__func__", method), "__globals__", None)
    module = getattr(method, "__module__", None) if made_in is None else made_in.get("__name__")
    return str(module).partition(".")[0]


def connects_as_known(loop: Any) -> bool:
    """Return whether ``create_connection()`` of a loop is that of asyncio, uvloop, winloop or aiofastnet."""
    return network_of(loop) in _LOOPS_AS_KNOWN


# ------------------------------------------------------------------------------------------------------------- tasks

_CurrentTask: TypeAlias = Callable[[asyncio.AbstractEventLoop], object]

# The function in C, if there is one, because programs that use tasks in Python may have replaced the public name.
current_task: _CurrentTask = getattr(tasks, "_c_current_task", asyncio.current_task)

_running: object = getattr(tasks, "_current_tasks", None)

RUNNING_TASKS: dict[Any, Any] = _running if isinstance(_running, dict) else {}
"""The running task of each loop. From Python 3.14 on, it has only tasks written in Python, which :func:`current_task`
doesn't know."""


def task_runs(loop: asyncio.AbstractEventLoop) -> bool:
    """Return whether a task of this loop is running, one in C or one in Python."""
    return loop in RUNNING_TASKS or current_task(loop) is not None


# -------------------------------------------------------------------------------------------------------- transports

# The transport of asyncio's selector loops for sockets without TLS: its write() only writes to the socket.
_TRANSPORT = getattr(selector_events, "_SelectorSocketTransport", None)

OWN_METHODS = tuple(_of(_TRANSPORT, name, selector_events, transports) for name in ("write", "writelines"))
"""The methods ``write`` and ``writelines`` of this transport; None for a method that was replaced."""

# The types of its ``_buffer``, up to Python 3.11 and since 3.12; empty if there is nothing to write.
_BUFFERS = bytearray, deque


def socket_behind(transport: asyncio.BaseTransport) -> socket.socket | None:
    """Return the socket of a transport whose ``write()`` only writes to it while its buffer is empty; else None."""
    if type(transport) is not _TRANSPORT or None in OWN_METHODS:
        return None
    as_known = (
        isinstance(getattr(transport, "_buffer", None), _BUFFERS)
        and getattr(transport, "_closing", None) is False
        and getattr(transport, "_empty_waiter", False) is None
    )
    # get_extra_info() returns a wrapper around the socket.
    sock = getattr(transport.get_extra_info("socket"), "_sock", None)
    return sock if as_known and type(sock) is socket.socket else None


def end_socket(transport: asyncio.BaseTransport) -> None:
    """Close the socket of a transport of the Windows event loop, before the loop itself does.

    If the peer has reset the connection, ``shutdown()`` fails. asyncio doesn't expect this: it doesn't close the socket
    and doesn't remove the transport from its server. From Python 3.12 on, the server then waits for it forever.
    """
    if type(transport).__module__ == "asyncio.proactor_events":
        sock = getattr(transport.get_extra_info("socket"), "_sock", None)
        if isinstance(sock, socket.socket):
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
            sock.close()


# Where connection_lost() is called, transports of these modules haven't closed their sockets yet.
_CLOSE_AFTERWARDS = ("asyncio.selector_events", "uvloop.loop")


def read_rest(transport: asyncio.BaseTransport, buffer: memoryview | bytearray) -> int:
    """Read what the peer had sent when writing failed: transports don't read any more then. Call in connection_lost().

    Returns:
        The number of bytes that were read; zero if there are none, or if this transport lets nobody else read.
    """
    secure = transport.get_extra_info("sslcontext") is not None
    if type(transport).__module__ not in _CLOSE_AFTERWARDS or secure:
        return 0
    # A socket of the event loop has no method that reads.
    with contextlib.suppress(OSError), transport.get_extra_info("socket").dup() as sock:
        sock.settimeout(0)
        received: int = sock.recv_into(buffer)
        return received
    return 0


def ignore_lost_handshakes(loop: asyncio.AbstractEventLoop) -> None:
    """Keep aiofastnet from reporting each client that leaves during the TLS handshake as an error of the program.

    It reports the class :exc:`ConnectionResetError` in place of an exception, which logging can't show, either.
    """
    report = loop.call_exception_handler
    if getattr(report, "func", None) is not _report:
        # A loop may have no room for attributes.
        with contextlib.suppress(AttributeError):
            loop.call_exception_handler = functools.partial(_report, report)  # type: ignore[method-assign]


def _report(report: Callable[[dict[str, Any]], None], context: dict[str, Any]) -> None:
    if context.get("exception") is not ConnectionResetError:
        report(context)


def takes_pieces(transport: asyncio.BaseTransport) -> bool:
    """Return whether ``writelines()`` copies nothing and checks the limits, as that of uvloop without TLS does."""
    return type(transport).__module__ == "uvloop.loop" and transport.get_extra_info("sslcontext") is None


def is_tls_of_loop(transport: asyncio.BaseTransport) -> bool:
    """Return whether a transport is the TLS of asyncio or of uvloop.

    Their ``is_closing()`` hides that writing has failed. And both read best for a protocol of another kind than a
    connection is: asyncio's for one without a buffer, uvloop's for one that has a buffer and isn't a ``Protocol``. For
    others, uvloop's makes 256 KiB for each read.
    """
    secure = transport.get_extra_info("sslcontext") is not None
    return secure and type(transport).__module__ in ("asyncio.sslproto", "uvloop.loop")


def waiting_bytes(transport: asyncio.WriteTransport) -> int:
    """Return the size of a transport's write buffer in bytes; with TLS, including the transport below."""
    # The interface of transports has no access to the one below; without these attributes, its bytes aren't counted.
    below = getattr(getattr(transport, "_ssl_protocol", None), "_transport", None)
    return transport.get_write_buffer_size() + (0 if below is None else below.get_write_buffer_size())
