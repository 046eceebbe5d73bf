"""Rooms on asyncio: who hears what, in one process, or in several ones over Redis or NATS.

May know: the names below. Must not know: anything else.
"""

from __future__ import annotations

from .._session.rooms import HubStatistics, Member, Presence
from ._hub import Hub
from ._nats import NatsHub
from ._redis import RedisHub

__all__ = ["Hub", "HubStatistics", "Member", "NatsHub", "Presence", "RedisHub"]
