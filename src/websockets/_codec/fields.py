"""The header lines of HTTP (RFC 9110 section 5, RFC 9112 section 5): their characters, and their values by name.

May know: the characters of a name and of a value.
Must not know: the meaning of a header, the limits of HTTP, which line is wrong and why.

:func:`read_fields` is the readable twin of ``_fields.c`` beside this file.
"""

from __future__ import annotations

import re
from typing import Final, TypeAlias

__all__ = ["FIELD_LINE", "TCHAR", "Index", "enter", "find_fields", "read_fields"]

# The values by name in lower case; a name that occurs several times has a list of values.
Index: TypeAlias = dict[str, str | list[str]]

# RFC 9110 section 5.6.2:
#   token = 1*tchar
#   tchar = "!" / "#" / "$" / "%" / "&" / "'" / "*" / "+" / "-" / "." / "^" / "_" / "`" / "|" / "~" / DIGIT / ALPHA
TCHAR: Final = r"[!#$%&'*+\-.^_`|~0-9A-Za-z]"

# RFC 9112 section 5, RFC 9110 section 5.5:
#   field-line  = field-name ":" OWS field-value OWS
#   field-name  = token
#   field-vchar = VCHAR / obs-text
# A space before the colon is refused, and so are control characters other than the tab.
FIELD_LINE: Final = rf"{TCHAR}++:[\t -~\x80-\xff]*+"

# For lines that are valid. White space at the end of the value stays.
find_fields = re.compile(r"([^:]++):[\t ]*+([^\r]*+)\r\n").findall

_match_fields = re.compile(rf"(?:{FIELD_LINE}\r\n)*+\r\n".encode()).match


def read_fields(data: bytes, start: int, most: int) -> tuple[Index, int] | None:
    """Read the header lines of HTTP from ``start`` up to the empty line.

    Returns:
        The values by name, and where the empty line ends. None unless the lines are all there, valid, and at most
        ``most``.
    """
    if not 0 <= start <= len(data):
        raise ValueError(f"there is no byte {start}")
    match = _match_fields(data, start)
    if match is None:
        return None
    # Bytes outside ASCII are opaque, and ISO-8859-1 keeps them.
    fields = find_fields(match[0].decode("iso-8859-1"))
    if len(fields) > most:
        return None
    index: Index = {}
    for name, value in fields:
        enter(index, name.lower(), value.rstrip(" \t"))
    return index, match.end()


def enter(index: Index, name: str, value: str) -> None:
    """Add a value to the values by name."""
    before = index.get(name)
    if before is None:
        index[name] = value
    elif isinstance(before, str):
        index[name] = [before, value]
    else:
        before.append(value)
