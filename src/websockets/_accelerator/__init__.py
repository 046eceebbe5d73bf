"""The selector of the accelerator: the compiled twin where it was built, else the readable one.

``WEBSOCKETS_ACCELERATOR=python`` forces the readable one. Only "module not found" is swallowed: a compiled twin that
exists and fails to load is an error worth seeing.
"""

from __future__ import annotations

import importlib
import os
from typing import TYPE_CHECKING

__all__ = [
    "TWIN",
    "Encoded",
    "FrameDecoder",
    "Queue",
    "SendingHalf",
    "apply_mask",
    "build_frame",
    "build_header",
    "forget_masks",
    "new_mask",
    "read_buffer",
]

if TYPE_CHECKING:
    from ._python import (
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
    )

    TWIN: str


def _select() -> str:
    """The name of the twin to use."""
    if os.environ.get("WEBSOCKETS_ACCELERATOR") == "python":
        return "python"
    try:
        importlib.import_module("._native", __name__)
    except ModuleNotFoundError as error:
        if error.name != f"{__name__}._native":
            raise
        return "python"
    return "native"


if not TYPE_CHECKING:
    TWIN = _select()
    _twin = importlib.import_module(f"._{TWIN}", __name__)
    Encoded, FrameDecoder, Queue, SendingHalf = _twin.Encoded, _twin.FrameDecoder, _twin.Queue, _twin.SendingHalf
    apply_mask, build_frame, build_header = _twin.apply_mask, _twin.build_frame, _twin.build_header
    new_mask, forget_masks, read_buffer = _twin.new_mask, _twin.forget_masks, _twin.read_buffer
