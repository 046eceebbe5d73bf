"""The test kit: the contents of :mod:`websockets.testing`, which is tested itself; scripted peers; a second wire
format.

Only :mod:`.strategies` needs a package. From bottom to top: :mod:`.garbage` and :mod:`.wire` depend on nothing,
:mod:`.peer` sends raw bytes on a link, :mod:`.network` gives it an address, and :mod:`.clock` has the event loop for
all of them. Modules that use more of the library than ``websockets.testing`` are imported by name.
"""

from __future__ import annotations

from websockets.testing import Direction, Link, MemoryTransport
from websockets.testing._addresses import Address, FakeSocket
from websockets.testing._asyncio_server import MemoryServer
from websockets.testing._conditions import CAPACITY, Chunk
from websockets.testing._link import MemorySocket
from websockets.testing._transport import TransportOwner, transport_pair

from . import wire
from .clock import START, VirtualLoop, advance, idle, run_virtual, steps, virtual
from .garbage import own_garbage, settle
from .network import Network, RawListener
from .peer import RawPeer
from .strategies import USUAL, examples, splits
from .wire import (
    CHUNKERS,
    KEY,
    MASK,
    Chunker,
    Row,
    accept_key,
    bytewise,
    frame,
    halves,
    interrupted,
    parse,
    request,
    response,
    whole,
    with_tail,
)

__all__ = [
    "CAPACITY",
    "CHUNKERS",
    "KEY",
    "MASK",
    "START",
    "USUAL",
    "Address",
    "Chunk",
    "Chunker",
    "Direction",
    "FakeSocket",
    "Link",
    "MemoryServer",
    "MemorySocket",
    "MemoryTransport",
    "Network",
    "RawListener",
    "RawPeer",
    "Row",
    "TransportOwner",
    "VirtualLoop",
    "accept_key",
    "advance",
    "bytewise",
    "examples",
    "frame",
    "halves",
    "idle",
    "interrupted",
    "own_garbage",
    "parse",
    "request",
    "response",
    "run_virtual",
    "settle",
    "splits",
    "steps",
    "transport_pair",
    "virtual",
    "whole",
    "wire",
    "with_tail",
]
