"""The alarm that ends a run when a test hangs.

May know: pytest's hooks, the real clock. Must not know: any test.
"""

from __future__ import annotations

import faulthandler
import os
import time

__all__ = ["ALARM_HOLDS", "HANGS_AFTER", "Alarm"]

#: Seconds after which a test hangs: then the run ends, with what each thread is doing.
HANGS_AFTER = 120

#: Seconds for which the alarm isn't set anew, which starts a thread. pytest's own alarm does that for each test.
ALARM_HOLDS = 10


class Alarm:
    """Ends a run when a test hangs. It goes by the real clock, as virtual ones stand still then."""

    def __init__(self) -> None:
        # pytest captures what is written to standard error while a test runs.
        self._file = os.dup(2)
        self._since = float("-inf")

    def pytest_runtest_logstart(self) -> None:
        """A test begins."""
        if time.monotonic() - self._since >= ALARM_HOLDS:
            self._since = time.monotonic()
            faulthandler.dump_traceback_later(HANGS_AFTER, exit=True, file=self._file)

    def pytest_enter_pdb(self) -> None:
        """Whoever looks at a test may take the time."""
        faulthandler.cancel_dump_traceback_later()

    def pytest_unconfigure(self) -> None:
        """The last test has ended."""
        faulthandler.cancel_dump_traceback_later()
        os.close(self._file)
