"""The test kit: a wire format to compare with, a virtual clock, and a network in memory.

What is exported here needs nothing of the library, and only :mod:`.strategies` needs a package; modules that hold the
library itself are imported by name.

From the ground up: :mod:`.wire` and :mod:`.link` stand alone, :mod:`.transport` and :mod:`.peer` are two things to do
with a link, :mod:`.network` gives both an address, and :mod:`.clock` has the loop that holds it all.
"""

from __future__ import annotations

from . import wire
from .clock import START, VirtualLoop, advance, idle, run_virtual, steps, virtual
from .link import CAPACITY, Address, Chunk, Direction, FakeSocket, Link, MemorySocket
from .network import MemoryServer, Network, RawListener
from .peer import RawPeer
from .strategies import splits
from .transport import MemoryTransport, TransportOwner, transport_pair
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
    "frame",
    "halves",
    "idle",
    "interrupted",
    "parse",
    "request",
    "response",
    "run_virtual",
    "splits",
    "steps",
    "transport_pair",
    "virtual",
    "whole",
    "wire",
    "with_tail",
]
