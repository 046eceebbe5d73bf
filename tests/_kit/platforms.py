"""Marks for tests that need a feature which some systems don't have, with the reasons.

Each mark checks for the feature itself, not for the name of the system. So it is right on Windows, on Windows as
``tests/_windows`` emulates it, and on any other system without the feature. May know: the standard library.
"""

from __future__ import annotations

import asyncio
import os
import signal
import socket

import pytest

__all__ = [
    "PROACTOR",
    "SIGHUP",
    "needs_fork",
    "needs_reuse_port",
    "needs_selector",
    "needs_signals",
    "needs_unix_sockets",
]

#: Whether asyncio's usual loop is one for a proactor: on Windows.
PROACTOR = hasattr(asyncio, "ProactorEventLoop")

#: The signal, or one that is there, for parameters of tests that need signals.
SIGHUP: signal.Signals = getattr(signal, "SIGHUP", signal.SIGTERM)

needs_selector = pytest.mark.skipif(PROACTOR, reason="the transports of Windows' loop are others")
needs_signals = pytest.mark.skipif(PROACTOR, reason="on Windows no signal reaches another process; it just ends")
needs_unix_sockets = pytest.mark.skipif(not hasattr(socket, "AF_UNIX"), reason="there are no Unix sockets here")
needs_reuse_port = pytest.mark.skipif(not hasattr(socket, "SO_REUSEPORT"), reason="there are no shared ports here")
needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="processes can't fork here")
