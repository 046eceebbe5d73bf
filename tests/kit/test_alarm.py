"""The alarm that ends a run when a test hangs."""

from __future__ import annotations

import faulthandler
import os
from types import SimpleNamespace
from typing import Any

import pytest

from _kit import alarm
from _kit.alarm import ALARM_HOLDS, HANGS_AFTER, Alarm


def test_it_is_set_now_and_then(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each test has nearly the whole time, and few tests pay for it."""
    calls: list[Any] = []
    now = 1000.0
    monkeypatch.setattr(faulthandler, "dump_traceback_later", lambda seconds, **_: calls.append((now, seconds)))
    monkeypatch.setattr(faulthandler, "cancel_dump_traceback_later", lambda: calls.append((now, None)))
    monkeypatch.setattr(alarm, "time", SimpleNamespace(monotonic=lambda: now))
    bell = Alarm()
    file = bell._file
    for moment in (0.0, 1.0, ALARM_HOLDS - 1.0, ALARM_HOLDS, ALARM_HOLDS + 1.0, 3 * ALARM_HOLDS):
        now = 1000.0 + moment
        bell.pytest_runtest_logstart()
    bell.pytest_unconfigure()
    set_at = [1000.0 + moment for moment in (0.0, ALARM_HOLDS, 3 * ALARM_HOLDS)]
    assert calls == [*((moment, HANGS_AFTER) for moment in set_at), (set_at[-1], None)]
    with pytest.raises(OSError, match=r"Bad file descriptor|descriptor"):
        os.fstat(file)


def test_the_run_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    options: list[dict[str, Any]] = []
    monkeypatch.setattr(faulthandler, "dump_traceback_later", lambda _, **found: options.append(found))
    monkeypatch.setattr(faulthandler, "cancel_dump_traceback_later", lambda: None)
    bell = Alarm()
    bell.pytest_runtest_logstart()
    assert options == [{"exit": True, "file": bell._file}]
    bell.pytest_unconfigure()
