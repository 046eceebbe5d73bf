"""Chooses the libraries that compress and inflate: those of the extra ``zlib`` if they are installed, else ``zlib``.

May know: the names of the libraries, which of them is faster for what, the settings of zlib. Must not know: frames,
messages, how a connection uses its streams.

zlib-ng inflates in less time than zlib at any size, or in the same. ISA-L compresses large messages in half the time of
zlib's level 3 or less, to about the same size; for small messages, zlib's result is smaller, and takes as long. All
have the interface of :mod:`zlib`, and each inflates what the others compressed. ``WEBSOCKETS_DEFLATE=zlib`` in the
environment means that only :mod:`zlib` is used.
"""

from __future__ import annotations

import importlib
import zlib
from collections.abc import Mapping
from typing import Any, Final

from .._compat.environment import chosen

__all__ = ["COMPRESSES", "ERRORS", "INFLATES", "LARGE_FROM", "inflater", "large_compressor", "shown_libraries"]

# The size in bytes from which ISA-L is better: see docs/compression.md.
LARGE_FROM: Final = 512

# The levels of zlib that ISA-L replaces. It has no equivalent of the higher ones, which compress better.
_FAST_LEVELS: Final = (1, 2, 3)

# ISA-L uses the whole window. So it can't keep to one of 8 bits, unlike zlib with 9.
_MIN_BITS: Final = 9


# Which libraries may be used: "zlib" for the standard one alone; else all.
_WANTED: Final = chosen("WEBSOCKETS_DEFLATE", ("zlib",))


def _load(name: str) -> Any:
    """Return a library; None if it isn't installed, or isn't wanted."""
    if _WANTED == "zlib":
        return None
    try:
        return importlib.import_module(name)
    except ImportError:
        return None


# What compresses large messages, or None; and what inflates.
COMPRESSES: Final = _load("isal.isal_zlib")
INFLATES: Final = _load("zlib_ng.zlib_ng") or zlib

# What they raise for data that can't be inflated.
ERRORS: Final[tuple[type[Exception], ...]] = tuple({zlib.error, INFLATES.error})


def large_compressor(bits: int, settings: Mapping[str, Any]) -> Any:
    """Return a new compressor for large messages; None if that of :mod:`zlib` must be used.

    Parameters:
        bits: the window, 8 to 15, as a power of two of bytes.
        settings: keyword arguments of :func:`zlib.compressobj`, without ``wbits``.
    """
    if COMPRESSES is None or bits < _MIN_BITS or not settings.keys() <= {"level", "memLevel"}:
        return None
    if settings.get("level") not in _FAST_LEVELS:
        return None
    return COMPRESSES.compressobj(level=1, wbits=-bits, memLevel=settings.get("memLevel", zlib.DEF_MEM_LEVEL))


def inflater(bits: int, window: bytes | bytearray = b"") -> Any:
    """Return a new decompressor.

    Parameters:
        bits: the window, 9 to 15, as a power of two of bytes.
        window: the output before, to which the input may refer; empty (the default) for none.
    """
    return INFLATES.decompressobj(-bits, window) if window else INFLATES.decompressobj(-bits)


def shown_libraries() -> str:
    """Return the names of the libraries in use, to be shown to a person."""
    compresses = "zlib" if COMPRESSES is None else "ISA-L and zlib"
    inflates = "zlib" if INFLATES is zlib else "zlib-ng"
    return f"{compresses} to compress, {inflates} to inflate"
