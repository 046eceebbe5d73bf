"""Which transport encrypts connections of asyncio: that of the event loop, ours over memory, or that of aiofastnet.

May know: the names of transports and of packages with event loops, what was measured, the environment. Must not know:
event loops, transports, TLS.

``WEBSOCKETS_TLS`` in the environment chooses for all connections that don't choose themselves.
"""

from __future__ import annotations

import importlib.util
from typing import Any, Final

from .._compat.environment import chosen
from .option_checks import Unfit

__all__ = ["ASKED", "TRANSPORTS", "choose", "installed", "is_known", "shown_choice", "transport"]

LOOP: Final = "loop"
MEMORY: Final = "memory"
AIOFASTNET: Final = "aiofastnet"

# What may be chosen.
TRANSPORTS: Final = (LOOP, MEMORY, AIOFASTNET)

# What is best on the event loops of a package where aiofastnet isn't installed. As docs/performance.md shows, uvloop's
# own transport is a little faster for some messages. But it keeps up to twice the memory, loses what arrived before a
# peer broke off, and tells nobody of a failed handshake. "websockets" is the network in memory, for tests. Loops of
# other packages use their own transports, aiofastnet's too.
BEST: Final = {"asyncio": MEMORY, "uvloop": MEMORY, "websockets": MEMORY}

# On these loops aiofastnet is better than anything else, if it is installed.
FASTER: Final = ("asyncio", "uvloop")


# The choice of the environment, or None.
ASKED: str | None = chosen("WEBSOCKETS_TLS", TRANSPORTS) or None


def transport(value: Any) -> str:
    """Accept the name of a transport."""
    if not isinstance(value, str):
        raise Unfit(TypeError)
    if value not in TRANSPORTS:
        raise Unfit(ValueError)
    return value


def installed() -> bool:
    """Return whether aiofastnet, the extra ``fast``, is installed."""
    return importlib.util.find_spec(AIOFASTNET) is not None


def is_known(network: str) -> bool:
    """Return whether a package connects in a known manner, so that its TLS may be replaced."""
    return network in BEST


def choose(network: str, option: str | None) -> str:
    """Return the name of the transport to use.

    Parameters:
        network: the package that connects: that of the event loop, or another one.
        option: the choice of the program; None for none.
    """
    if option is not None:
        return option
    best = BEST.get(network)
    if best is None:
        # Something else makes connections there, and may look at the arguments for TLS.
        return LOOP
    if ASKED is not None and not (ASKED == AIOFASTNET and network not in FASTER):
        return ASKED
    return AIOFASTNET if network in FASTER and ASKED is None and installed() else best


def shown_choice() -> str:
    """Return the name of the transport on each kind of loop, to be shown to a person."""
    chosen = [choose(network, None) for network in FASTER]
    return f"{chosen[0]} on its loops, {chosen[1]} on those of uvloop"
