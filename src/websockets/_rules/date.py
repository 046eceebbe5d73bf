"""The date of responses: RFC 9110 section 6.6.1.

May know: the clock of the system, the only one below the front-ends. The date can't be an argument, because users make
responses too. Must not know: responses.
"""

from __future__ import annotations

import email.utils
import time

__all__ = ["date"]


class _Date:
    """The ``Date`` header, formatted once a second."""

    second = -1
    text = ""

    def __call__(self) -> str:
        """Return the date as the header has it now."""
        second = int(time.time())
        if second != self.second:
            self.text = email.utils.formatdate(second, usegmt=True)
            self.second = second
        return self.text


date = _Date()
