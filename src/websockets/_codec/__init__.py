"""Chooses the accelerator: the compiled twin if it was built, otherwise the readable one.

``WEBSOCKETS_ACCELERATOR=python`` forces the readable one. Interpreters other than CPython always use it: they can
compile extensions, but calls into them cost more than they save, or they can't load them. If the compiled twin exists
and fails to load, :func:`tell` logs it; with ``WEBSOCKETS_REQUIRE_NATIVE=1`` it is an error.

Code in Python and a compiled twin that was built from older sources may crash together. So each names the C sources
that it belongs to, by their fingerprint, and a twin with another one isn't used.
"""

from __future__ import annotations

import importlib
import logging
import os
import sys
from typing import TYPE_CHECKING, Any

from .._compat.environment import chosen

__all__ = [
    "ACCELERATOR",
    "FINGERPRINT",
    "TWIN",
    "Assembly",
    "Encoded",
    "FrameDecoder",
    "Queue",
    "SendingHalf",
    "apply_mask",
    "build_frame",
    "build_header",
    "forget_masks",
    "load_native",
    "new_mask",
    "read_buffer",
    "read_fields",
    "tell",
]

if TYPE_CHECKING:
    from ._python import (
        Assembly,
        Encoded,
        FrameDecoder,
        Queue,
        SendingHalf,
        apply_mask,
        build_frame,
        build_header,
        forget_masks,
        new_mask,
        read_buffer,
        read_fields,
    )

    TWIN: str
    ACCELERATOR: str

# What tests/docs/test_c_sources.py computes from the C sources. The compiled twin has the same, from _native.h.
FINGERPRINT = "b196eb8dff236cf9"

# What the environment may ask for. If it doesn't, it is the compiled one if that is there.
CHOICES = ("native", "python")

# What to log about the choice, if anything: the level and the text of a line.
_news: list[tuple[int, str]] = []


def load_native() -> Any:
    """Return the compiled twin.

    Raises:
        ImportError: It was not built, doesn't load, or was built from other sources than this code needs.
    """
    native = importlib.import_module("._native", __name__)
    if getattr(native, "FINGERPRINT", None) != FINGERPRINT:
        raise ImportError("it was built from other sources; install the package again", name=native.__name__)
    return native


def _select() -> str:
    """Return the name of the twin to use.

    Raises:
        ImportError: the environment requires the compiled one, and that can't be had.
        WrongVariable: the environment asks for one that doesn't exist.
    """
    choice = chosen("WEBSOCKETS_ACCELERATOR", CHOICES)
    if choice == "python" or sys.implementation.name != "cpython":
        return "python"
    try:
        load_native()
    except ImportError as error:
        missing = isinstance(error, ModuleNotFoundError) and error.name == f"{__name__}._native"
        if not missing and os.environ.get("WEBSOCKETS_REQUIRE_NATIVE") == "1":
            raise
        level, problem = (logging.INFO, "was not built") if missing else (logging.WARNING, f"can't be loaded: {error}")
        _news.append((level, f"the slower accelerator in Python is used: the compiled one {problem}"))
        return "python"
    return "native"


def tell() -> None:
    """Log once, as ``websockets``, if the readable twin is used although nobody asked for it.

    This isn't done on import, because programs haven't set up logging by then.
    """
    while _news:
        logging.getLogger("websockets").log(*_news.pop())


if not TYPE_CHECKING:
    TWIN = _select()
    _twin = importlib.import_module(f"._{TWIN}", __name__)
    Assembly, Encoded, FrameDecoder = _twin.Assembly, _twin.Encoded, _twin.FrameDecoder
    Queue, SendingHalf = _twin.Queue, _twin.SendingHalf
    apply_mask, build_frame, build_header = _twin.apply_mask, _twin.build_frame, _twin.build_header
    new_mask, forget_masks, read_buffer = _twin.new_mask, _twin.forget_masks, _twin.read_buffer
    read_fields = _twin.read_fields
    # This one is public.
    ACCELERATOR = TWIN
