"""Headers: a multimap whose keys ignore case (RFC 9110 section 5).

May know: what a name and a value may consist of. Must not know: what any header means, nor how a list in one is read.

Nothing can enter a :class:`Headers` that would end its line on the wire, so writing one out needs no check. What is
kept is the lines as they were received or will be sent, a string instead of a tuple and two strings for each, and from
the first change that needs it a list of pairs. The index by name is made when somebody first looks for a name.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable, Iterator, Mapping, MutableMapping
from typing import TYPE_CHECKING, Any, Protocol, Self

from ._compat.deprecated import names_of_old
from .exceptions import InvalidHeaderFormat, InvalidHeaderValue

__all__ = ["Headers", "HeadersLike", "MultipleValuesError"]

# RFC 9110 section 5.6.2:
#   token = 1*tchar
#   tchar = "!" / "#" / "$" / "%" / "&" / "'" / "*" / "+" / "-" / "." / "^" / "_" / "`" / "|" / "~" / DIGIT / ALPHA
TCHAR = r"[!#$%&'*+\-.^_`|~0-9A-Za-z]"
is_token = re.compile(rf"{TCHAR}+").fullmatch
token_at_start = re.compile(rf"{TCHAR}*").match

# RFC 9110 section 5.5:
#   field-vchar = VCHAR / obs-text
#   obs-text    = %x80-FF
# Blanks around the value are not refused, the peer strips them.
VCHAR_OR_BLANK = r"[\t\x20-\x7e\x80-\xff]"
is_value = re.compile(rf"{VCHAR_OR_BLANK}*").fullmatch

# Both at once; what separates them is in neither.
is_field = re.compile(rf"{TCHAR}+\n{VCHAR_OR_BLANK}*").fullmatch

# RFC 9112 section 5, for lines that passed the check of a parser. Blanks at the end of the value stay.
#   field-line = field-name ":" OWS field-value OWS
find_fields = re.compile(r"([^:]++):[\t ]*+([^\r]*+)\r\n").findall


class MultipleValuesError(LookupError):
    """One value was asked for, and a header of that name is there more than once."""

    def __str__(self) -> str:
        # As KeyError does: the name in quotes.
        return repr(self.args[0]) if len(self.args) == 1 else super().__str__()


def _checked(name: str, value: object) -> tuple[str, str]:
    """Return the pair if it stays on one line of its own."""
    if isinstance(name, str) and isinstance(value, str) and is_field(name + "\n" + value):
        return name, value
    if not is_token(name):
        raise InvalidHeaderFormat(name, "expected token", name, _prefix_length(name))
    if isinstance(value, (bytes, bytearray, memoryview)):
        raise TypeError(f"value of header {name} must be str, not {type(value).__name__}")
    # Numbers were always accepted.
    text = value if isinstance(value, str) else str(value)
    if not is_value(text):
        raise InvalidHeaderValue(name, text)
    return name, text


def _checked_all(pairs: Iterable[tuple[str, str]]) -> list[tuple[str, str]]:
    """Return *pairs* as :func:`_checked` would return each of them."""
    pairs = [(name, value) for name, value in pairs]
    # What is allowed is allowed character by character, so two searches over everything answer for all pairs.
    names = [name for name, _ in pairs]
    try:
        if "" not in names and is_value("".join([value for _, value in pairs])) and is_token("".join(names)):
            return pairs
    except TypeError:
        pass  # something is not a string
    return [_checked(name, value) for name, value in pairs]


def _prefix_length(name: str) -> int:
    """Return where *name* stops being a token."""
    match = token_at_start(name)
    return match.end() if match else 0


def _read_lines(lines: bytes | str) -> list[tuple[str, str]]:
    """Return the pairs of name and value in whole lines."""
    # RFC 9110 section 5.5: what is beyond ASCII is opaque, and ISO-8859-1 keeps it.
    text = lines if isinstance(lines, str) else lines.decode("iso-8859-1")
    fields: list[tuple[str, str]] = find_fields(text)
    if "\t" in text or " \r" in text:
        fields = [(name, value.rstrip(" \t")) for name, value in fields]
    return fields


def _enter(index: dict[str, str | list[str]], name: str, value: str) -> None:
    """Add a value to an index by name."""
    before = index.get(name)
    if before is None:
        index[name] = value
    elif isinstance(before, str):
        index[name] = [before, value]
    else:
        before.append(value)


class Headers(MutableMapping[str, str]):
    """The headers of a request or a response (RFC 9110 section 5).

    A mapping from names to values that ignores the case of names, except:

    * setting a value adds a header and keeps those of the same name;
    * getting a value raises :exc:`MultipleValuesError` if there are several; see :meth:`get_all`;
    * deleting a name removes all headers of that name;
    * iterating gives each name once, in lower case.

    Two are equal if for each name they have the same values in the same order.

    Parameters:
        args: at most one mapping or iterable of pairs.
        kwargs: more headers.

    Raises:
        InvalidHeaderFormat: if a name is not a token.
        InvalidHeaderValue: if a value has control characters other than a tab, or characters outside ISO-8859-1.
    """

    # Of the lines and the pairs, exactly one is there. Lines in bytes were received, and may be spelled in any way that
    # HTTP allows; those in a string are ours, and spelled as they will be sent.
    __slots__ = ("_index", "_lines", "_pairs")

    def __init__(self, *args: HeadersLike, **kwargs: str) -> None:
        self._lines: bytes | str | None = None
        self._pairs: list[tuple[str, str]] | None = []
        # A name that is there once has its value here; one that is there more often, all its values.
        self._index: dict[str, str | list[str]] | None = None
        if args or kwargs:
            self.update(*args, **kwargs)

    @classmethod
    def _from_lines(cls, lines: bytes | str) -> Self:
        """Wrap whole lines: bytes that a parser checked, or a string without anything that needs a check."""
        headers = cls.__new__(cls)
        headers._lines = lines
        headers._pairs = None
        headers._index = None
        return headers

    @classmethod
    def _from_pairs(cls, pairs: list[tuple[str, str]]) -> Self:
        """Wrap pairs of name and value that need no check."""
        headers = cls()
        headers._pairs = pairs
        return headers

    def _fields(self) -> list[tuple[str, str]]:
        """Return all pairs of name and value."""
        if self._pairs is not None:
            return self._pairs
        assert self._lines is not None
        return _read_lines(self._lines)

    def _changeable(self) -> list[tuple[str, str]]:
        """Return the list of pairs, which from now on is what is kept."""
        pairs = self._pairs = self._fields()
        self._lines = None
        return pairs

    def _by_name(self) -> dict[str, str | list[str]]:
        """Return the index of values by the lower-case name."""
        if self._index is None:
            fields = self._fields()
            index: dict[str, str | list[str]] = {name.lower(): value for name, value in fields}
            if len(index) < len(fields):
                index.clear()
                for name, value in fields:
                    _enter(index, name.lower(), value)
            self._index = index
        return self._index

    def _settle(self) -> None:
        """Let go of the index, which is made again if somebody asks: connections keep headers as long as they live."""
        self._index = None

    # Writing it out.

    def __str__(self) -> str:
        """Return the headers as on the wire, with the empty line after them."""
        if isinstance(self._lines, str):
            return self._lines + "\r\n"
        return "".join([part for name, value in self._fields() for part in (name, ": ", value, "\r\n")]) + "\r\n"

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._fields()!r})"

    def serialize(self) -> bytes:
        """Return the headers as on the wire, with the empty line after them."""
        return str(self).encode("iso-8859-1")

    def copy(self) -> Self:
        """Return a copy that is independent of this one."""
        headers = self.__class__.__new__(self.__class__)
        headers._lines = self._lines
        headers._pairs = None if self._pairs is None else self._pairs.copy()
        headers._index = None
        return headers

    __copy__ = copy

    # What a mapping has.

    def __contains__(self, key: object) -> bool:
        return isinstance(key, str) and key.lower() in self._by_name()

    def __iter__(self) -> Iterator[str]:
        return iter(self._by_name())

    def __len__(self) -> int:
        return len(self._by_name())

    def __getitem__(self, key: str) -> str:
        value = self._by_name()[key.lower()]
        if isinstance(value, str):
            return value
        raise MultipleValuesError(key)

    def __setitem__(self, key: str, value: str) -> None:
        name, text = _checked(key, value)
        # Blanks around a value aren't part of it once it is read from a line.
        if isinstance(self._lines, str) and text.strip(" \t") == text:
            self._lines += f"{name}: {text}\r\n"
        else:
            self._changeable().append((name, text))
        if self._index is not None:
            _enter(self._index, name.lower(), text)

    def set_insecure(self, key: str, value: str) -> None:
        """Add a header without a check: with a value from a stranger, it may end its line and begin others.

        Parameters:
            key: name.
            value: value.
        """
        self._changeable().append((key, value))
        self._index = None

    def __delitem__(self, key: str) -> None:
        wanted = key.lower()
        del self._by_name()[wanted]
        self._pairs = [pair for pair in self._changeable() if pair[0].lower() != wanted]

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Headers):
            return NotImplemented
        return self._by_name() == other._by_name()

    def clear(self) -> None:
        """Remove all headers."""
        self._lines, self._pairs = None, []
        self._index = None

    def update(self, *args: Any, **kwargs: str) -> None:
        """Add headers; those of the same name stay.

        Parameters:
            args: at most one mapping or iterable of pairs.
            kwargs: more headers.

        Raises:
            InvalidHeaderFormat: if a name is not a token.
            InvalidHeaderValue: if a value has control characters or characters outside ISO-8859-1.
        """
        if len(args) > 1:
            raise TypeError(f"expected at most 1 positional argument, got {len(args)}")
        # All or nothing: the check of a later pair must not leave the earlier ones behind.
        more = _checked_all(_pairs(args[0] if args else (), kwargs))
        self._changeable().extend(more)
        self._index = None

    # What only a multimap has.

    def get_all(self, key: str) -> list[str]:
        """Return all values of headers named *key*, in order; an empty list if there is none.

        Parameters:
            key: the name, in any case.
        """
        values = self._by_name().get(key.lower())
        if isinstance(values, str):
            return [values]
        return [] if values is None else values.copy()

    def raw_items(self) -> Iterator[tuple[str, str]]:
        """Return an iterator over all pairs of name and value, as they were set."""
        return iter(self._fields())


class SupportsKeysAndGetItem(Protocol):
    """The least that counts as a dict-like object of headers."""

    def keys(self) -> Iterable[str]:
        """Names of headers."""
        ...

    def __getitem__(self, key: str) -> str: ...


def _pairs(source: Any, more: dict[str, str]) -> Iterable[tuple[str, str]]:
    """Return the pairs of name and value in *source*, a ``HeadersLike``, then those in *more*."""
    if isinstance(source, Headers):
        pairs = source.raw_items()
    elif hasattr(source, "keys"):
        keys = source.keys()
        pairs = iter([(key, source[key]) for key in keys])
    else:
        pairs = iter(source)
    return itertools.chain(pairs, more.items()) if more else pairs


HeadersLike = Headers | Mapping[str, str] | Iterable[tuple[str, str]] | SupportsKeysAndGetItem
"""What may be given where headers are needed."""


# Names of old.
if not TYPE_CHECKING:
    __getattr__ = names_of_old(__name__)
