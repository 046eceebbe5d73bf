from typing import Any

from websockets.asyncio._fastpath._readable import FastPath as FastPath
from websockets.asyncio._fastpath._readable import Messages as Messages
from websockets.asyncio._fastpath._readable import Waiter as Waiter
from websockets.sync._fastpath._readable import SocketPath as SocketPath

from ._python import Assembly, Buffer, Encoded, Queue, SendingHalf

__all__ = [
    "FINGERPRINT",
    "Assembly",
    "Encoded",
    "FastPath",
    "FrameDecoder",
    "Messages",
    "Queue",
    "SendingHalf",
    "SocketPath",
    "Waiter",
    "apply_mask",
    "build_frame",
    "build_header",
    "forget_masks",
    "new_mask",
    "read_buffer",
]

FINGERPRINT: str

class FrameDecoder:
    failure: tuple[Any, ...] | None
    ended: bool
    heard: bool
    max_fragment: int
    max_message: int
    messages: int
    payload_bytes: int
    messages_granted: int
    bytes_granted: int
    @property
    def spent(self) -> bool: ...
    @property
    def missing(self) -> int: ...
    def __init__(self, masked: bool, reserved: int, max_fragment: int, max_message: int, text: bool) -> None: ...
    def feed(self, data: Buffer, /) -> list[Any]: ...

def apply_mask(data: Buffer, mask: bytes, /) -> bytes: ...
def build_frame(head: int, payload: Buffer, mask: bytes | None, /) -> bytes: ...
def build_header(head: int, size: int, /) -> bytes: ...
def new_mask() -> bytes: ...
def forget_masks() -> None: ...
def read_buffer(size: int, /) -> memoryview: ...
