"""What the log says, without what differs from run to run."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable

__all__ = ["lines", "told"]

# The lines that the logger of a connection completes; what it adds is the business of a few tests.
completed = re.compile(
    r"(connection (?:open|closed|handler failed)"
    r"|(?:connection rejected|HTTP response sent) \(.*?\)|opening handshake failed: [^:]*)"
    r": .*, id [0-9a-f-]{36}"
).fullmatch


def told(record: logging.LogRecord) -> str:
    """The text of a record, as far as it says what happened, and not to whom."""
    text = record.getMessage()
    match = completed(text)
    return text if match is None else match[1]


def lines(records: Iterable[logging.LogRecord], *levels: str) -> list[str]:
    """The texts of records, or of those of some levels."""
    return [told(record) for record in records if not levels or record.levelname in levels]
