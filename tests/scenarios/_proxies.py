"""Shared by tests of clients behind a proxy: its answer, the environment that names it, what errors tell of the way.

May know: the texts of errors. Must not know: any front-end.
"""

from __future__ import annotations

import os

import pytest

__all__ = ["OPEN", "REACHING", "TIMED_OUT", "chain", "named", "set_environment"]

OPEN = b"HTTP/1.1 200 Connection established\r\n\r\n"

TIMED_OUT = "timed out during opening handshake"

# How far a connection came.
REACHING = "while reaching the proxy"


def set_environment(monkeypatch: pytest.MonkeyPatch, variables: dict[str, str]) -> None:
    """Have these variables tell of proxies, and no others."""
    for name in os.environ:
        if name.lower().endswith("_proxy"):
            monkeypatch.delenv(name)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)


def chain(exc: BaseException | None) -> list[BaseException]:
    """An exception and its causes."""
    return [] if exc is None else [exc, *chain(exc.__cause__)]


def named(exc: BaseException, stage: str, proxy: str = "http://proxy:8080") -> bool:
    """Whether an error tells which way the connection went, and how far it came, without a change of its text."""
    note = f"The connection to example.com port 80 goes through the proxy {proxy}; it failed {stage}"
    return exc.__notes__ == [note] and proxy not in str(exc)
