"""Make uvicorn's own tests run ``websockets.asgi``: a plugin for pytest, in the process that runs them.

Charter: puts our class in the place of ``WebSocketsSansIOProtocol``, whose name the tests import. A few tests look at
private parts of that class, or give it a transport that has only the methods which it calls. For those, the class here
answers as that one would, from what ours has; everything else is ours.
"""

# pyright: reportMissingImports=false
# uvicorn is installed where this runs, not where types are checked.

from __future__ import annotations

import math
from typing import Any

from uvicorn.protocols.websockets import websockets_sansio_impl as original

from websockets._rules.deadlines import Alarm
from websockets.asgi import UvicornProtocol


class _Whole:
    """A transport of a test, with the other methods that every transport of asyncio has."""

    def __init__(self, transport: Any) -> None:
        self._transport = transport

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """Ignore the limits: the tests say when the buffer is full."""

    def get_write_buffer_size(self) -> int:
        """Return 0: everything is written at once."""
        return 0

    def can_write_eof(self) -> bool:
        """Return False, as with TLS: the test asks whether the transport was closed."""
        return False

    def writelines(self, pieces: Any) -> None:
        """Write several pieces."""
        self._transport.write(b"".join(pieces))

    def abort(self) -> None:
        """Close."""
        self._transport.close()


class Protocol(UvicornProtocol):
    """Our class, with the private attributes of uvicorn's that its tests look at."""

    def __init__(self, config: Any, server_state: Any, app_state: Any, _loop: Any = None) -> None:
        super().__init__(config=config, server_state=server_state, app_state=app_state)

    def connection_made(self, transport: Any) -> None:
        """Begin to use a transport of asyncio, or one of a test."""
        if not hasattr(transport, "abort"):
            # uvicorn's own class pauses after one message, whatever the setting is.
            self._ws_session.inbox.high = self._ws_high = 0
            transport = _Whole(transport)
        super().connection_made(transport)

    @property
    def close_timer(self) -> object:
        """Something while a closing handshake is waited for, or None."""
        alarm = self._ws_session.alarm
        return alarm if alarm is Alarm.CLOSING and not self.transport.is_closing() else None

    @property
    def ping_timer(self) -> object:
        """The time of the next ping, or None."""
        return self._ws_session.next_timeout if math.isfinite(self._ws_session.next_timeout) else None

    @property
    def ping_sent_at(self) -> float:
        """Not 0 when a ping was sent."""
        return float(self.statistics.pings_sent)


def pytest_configure() -> None:
    """Put our class in the place of uvicorn's before the tests import it."""
    original.WebSocketsSansIOProtocol = Protocol
