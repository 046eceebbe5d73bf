"""Headers: a multimap whose keys ignore case (RFC 9110 section 5).

May know: the characters of a name and of a value. Must not know: the meaning of any header, or how to read a list in
one.

:class:`Headers` refuses every value that would end its line on the wire, so serializing needs no check. To save memory,
it stores all lines in one string, as they were received or will be sent, and makes a list of pairs only at the first
change that needs one. It makes the index by name at the first look-up.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable, Iterator, Mapping, MutableMapping
from typing import TYPE_CHECKING, Any, Protocol, Self

from .._codec.fields import TCHAR, Index, enter, find_fields
from .._compat.deprecated import deprecated_names
from ..exceptions import InvalidHeaderFormat, InvalidHeaderValue

__all__ = ["Headers", "HeadersLike", "MultipleValuesError"]

# RFC 9110 section 5.6.2.
is_token = re.compile(rf"{TCHAR}+").fullmatch
token_at_start = re.compile(rf"{TCHAR}*").match

# RFC 9110 section 5.5:
#   field-vchar = VCHAR / obs-text
#   obs-text    = %x80-FF
# White space around the value is allowed, because the peer strips it.
VCHAR_OR_BLANK = r"[\t\x20-\x7e\x80-\xff]"
is_value = re.compile(rf"{VCHAR_OR_BLANK}*").fullmatch

# Both in one search. The line feed between them can occur in neither.
is_field = re.compile(rf"{TCHAR}+\n{VCHAR_OR_BLANK}*").fullmatch


class MultipleValuesError(LookupError):
    """A look-up needs a single value, but there are several headers of that name."""

    def __str__(self) -> str:
        # The name in quotes, as KeyError shows it.
        return repr(self.args[0]) if len(self.args) == 1 else super().__str__()


def _checked(name: str, value: object) -> tuple[str, str]:
    """Return name and value as strings, if they form a valid header line."""
    if isinstance(name, str) and isinstance(value, str) and is_field(name + "\n" + value):
        return name, value
    if not is_token(name):
        raise InvalidHeaderFormat(name, "expected token", name, _prefix_length(name))
    if isinstance(value, (bytes, bytearray, memoryview)):
        raise TypeError(f"value of header {name} must be str, not {type(value).__name__}")
    # Earlier releases accepted numbers.
    text = value if isinstance(value, str) else str(value)
    if not is_value(text):
        raise InvalidHeaderValue(name, text)
    return name, text


def _checked_all(pairs: Iterable[tuple[str, str]]) -> list[tuple[str, str]]:
    """Return *pairs* as :func:`_checked` would return each of them."""
    pairs = [(name, value) for name, value in pairs]
    # The rules are about single characters, so two searches over the joined text check all pairs.
    names = [name for name, _ in pairs]
    try:
        if "" not in names and is_value("".join([value for _, value in pairs])) and is_token("".join(names)):
            return pairs
    except TypeError:
        pass  # a name or a value is not a string
    return [_checked(name, value) for name, value in pairs]


def _prefix_length(name: str) -> int:
    """Return the length of the longest prefix of *name* that is a token."""
    match = token_at_start(name)
    return match.end() if match else 0


def _read_lines(lines: bytes | str) -> list[tuple[str, str]]:
    """Return the pairs of name and value in complete lines."""
    # RFC 9110 section 5.5: bytes outside ASCII are opaque, and ISO-8859-1 keeps them.
    text = lines if isinstance(lines, str) else lines.decode("iso-8859-1")
    fields: list[tuple[str, str]] = find_fields(text)
    if "\t" in text or " \r" in text:
        fields = [(name, value.rstrip(" \t")) for name, value in fields]
    return fields


class Headers(MutableMapping[str, str]):
    """The headers of a request or a response (RFC 9110 section 5).

    A mapping from names to values that ignores the case of names, except:

    * setting a value adds a header and keeps those of the same name;
    * getting a value raises :exc:`MultipleValuesError` if there are several; see :meth:`get_all`;
    * deleting a name removes all headers of that name;
    * iterating gives each name once, in lower case.

    Two objects are equal if they have the same values in the same order for each name.

    Parameters:
        args: at most one mapping or iterable of pairs.
        kwargs: more headers.

    Raises:
        InvalidHeaderFormat: a name is not a token.
        InvalidHeaderValue: a value has control characters other than a tab, or characters outside ISO-8859-1.
    """

    # Exactly one of the lines and the pairs is set. Lines in bytes were received, and may use any spelling that HTTP
    # allows. Lines in a string are ours, in the spelling that will be sent.
    __slots__ = ("_index", "_lines", "_pairs")

    def __init__(self, *args: HeadersLike, **kwargs: str) -> None:
        self._lines: bytes | str | None = None
        self._pairs: list[tuple[str, str]] | None = []
        # Maps a name to its value, or to the list of its values if there are several.
        self._index: Index | None = None
        if args or kwargs:
            self.update(*args, **kwargs)

    def _fields(self) -> list[tuple[str, str]]:
        """Return all pairs of name and value."""
        if self._pairs is not None:
            return self._pairs
        assert self._lines is not None
        return _read_lines(self._lines)

    def _changeable(self) -> list[tuple[str, str]]:
        """Return the list of pairs, which replaces the lines from now on."""
        pairs = self._pairs = self._fields()
        self._lines = None
        return pairs

    def _by_name(self) -> Index:
        """Return the index of values by the lower-case name."""
        if self._index is None:
            fields = self._fields()
            index: Index = {name.lower(): value for name, value in fields}
            if len(index) < len(fields):
                index.clear()
                for name, value in fields:
                    enter(index, name.lower(), value)
            self._index = index
        return self._index

    # Serialization.

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

    # Methods of a mapping.

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
        # Reading the value from a line would strip white space around it, so such a value needs a pair.
        if isinstance(self._lines, str) and text.strip(" \t") == text:
            self._lines += f"{name}: {text}\r\n"
        else:
            self._changeable().append((name, text))
        if self._index is not None:
            enter(self._index, name.lower(), text)

    def set_insecure(self, key: str, value: str) -> None:
        """Add a header without a check. A value from an untrusted source can then inject more headers.

        Parameters:
            key: name of the header.
            value: value of the header.
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
        """Add headers, and keep those of the same name.

        Parameters:
            args: at most one mapping or iterable of pairs.
            kwargs: more headers.

        Raises:
            InvalidHeaderFormat: a name is not a token.
            InvalidHeaderValue: a value has control characters or characters outside ISO-8859-1.
        """
        if len(args) > 1:
            raise TypeError(f"expected at most 1 positional argument, got {len(args)}")
        # Check all pairs first, so that an invalid one leaves the headers unchanged.
        more = _checked_all(_pairs(args[0] if args else (), kwargs))
        self._changeable().extend(more)
        self._index = None

    # Methods that only a multimap has.

    def get_all(self, key: str) -> list[str]:
        """Return all values of headers named *key*, in order; an empty list if there is none.

        Parameters:
            key: name of the headers, in upper or lower case.
        """
        values = self._by_name().get(key.lower())
        if isinstance(values, str):
            return [values]
        return [] if values is None else values.copy()

    def raw_items(self) -> Iterator[tuple[str, str]]:
        """Return an iterator over all pairs of name and value, in order and in their original case."""
        return iter(self._fields())


class SupportsKeysAndGetItem(Protocol):
    """A dict-like object of headers: the methods that :class:`Headers` needs to read it."""

    def keys(self) -> Iterable[str]:
        """Return the names of the headers."""
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
"""Types accepted where headers are needed."""


# Names from earlier releases.
if not TYPE_CHECKING:
    __getattr__ = deprecated_names(__name__)
