"""What the steward does with a connection: deadlines that have passed, and reading and writing when nobody else does.

May know: the selector of the steward, the lock, the roles; the session's timeouts. Must not know: messages, users.

The steward calls these methods in its thread; how it chooses among connections, :mod:`._steward` knows.
"""

from __future__ import annotations

import math
from typing import Any, Final

from .._session.intake import Flow
from ..frames import CloseCode
from ._roles import Step, after
from ._sending import WATCHED
from ._session_socket import SessionSocket
from ._steward import ForeignLock
from ._system import READ, WRITE

__all__ = ["StewardedSocket"]

# What reading is when the steward may read.
_READING: Final = (Flow.READ, Flow.LISTEN)


class StewardedSocket(SessionSocket):
    """A session on a socket that the steward looks after."""

    def _ws_hand_to_steward(self, open_timeout: float | None) -> None:
        """Have the steward read until the opening handshake of a server's connection is over.

        Parameters:
            open_timeout: seconds that the opening handshake may take; None for no limit.
        """
        with self._ws_lock:
            self._ws_session.start_opening(open_timeout, self._ws_system.now())
            self._ws_schedule()
            self._ws_entrust_reading()

    def _ws_handle_timeout(self, now: float) -> None:
        """Handle a deadline that has passed; called by the steward."""
        session, ended = self._ws_session, False
        with self._ws_lock:
            if self._ws_lost:
                return
            if now >= session.limit_at:
                self._ws_limit_over(now)
            if now < session.next_timeout:
                self._ws_schedule()
            else:
                ended = self._ws_handle_session_timeout(now)
        self._ws_flush()
        if ended:
            with self._ws_lock:
                self._ws_abort()

    def _ws_handle_session_timeout(self, now: float) -> bool:
        """Handle a timeout of the session; return whether the connection must end. Called under the lock."""
        session = self._ws_session
        session.taken = self._ws_outbox.sent + self._ws_bypassed
        idle_check = now >= session.idle_at
        buffered = self._ws_outbox.buffered_amount + self._ws_bypassing
        traffic = session.traffic(self._ws_counted(), buffered) if idle_check else ()
        ended = session.handle_timeout(now, traffic)
        if not ended or session.has_work:
            self._ws_process_events()
        # There may be a pong to read, or it is time to stop listening for one.
        self._ws_entrust_reading()
        return ended

    def _ws_look(self) -> bool:
        """Watch the socket if nobody has received since the last look; return whether to look again."""
        with self._ws_lock:
            unchanged, self._ws_seen = self._ws_seen == self._ws_epoch, self._ws_epoch
            self._ws_listed = not self._ws_lost and not unchanged
            if unchanged:
                # If a thread is reading, the connection will be listed again when it ends.
                self._ws_entrust_reading()
            return self._ws_listed

    def _ws_attend(self, selector: Any) -> Any:
        """Update what the steward watches for; called by the steward.

        Returns:
            A connection whose socket was closed by the program, so that this one has its number; None if there is none.
        """
        stale = None
        with self._ws_lock:
            self._ws_check_broken()
            mask = self._ws_interest()
            try:
                if mask != self._ws_mask:
                    stale = self._ws_watch(selector, mask)
            except (OSError, ValueError, KeyError) as exc:
                # The program has closed the socket.
                self._ws_mask = 0
                self._ws_lose(exc)
            self._ws_close_unused()
        return stale

    def _ws_watch(self, selector: Any, mask: int) -> Any:
        before, sock, stale = self._ws_mask, self._ws_wire.sock, None
        if not mask:
            selector.unregister(sock)
        elif before:
            selector.modify(sock, mask, self)
        else:
            key = selector.get_map().get(sock.fileno())
            if key is not None:
                stale = key.data
                stale._ws_mask = 0
                selector.unregister(key.fd)
            selector.register(sock, mask, self)
        self._ws_mask = mask
        return stale

    def _ws_unwatch(self) -> None:
        """Note that the steward watches nothing any more; called by the steward when it ends."""
        with self._ws_lock:
            self._ws_mask = 0
            self._ws_close_unused()

    def _ws_interest(self) -> int:
        """Return what the steward is to watch for."""
        if self._ws_lost:
            return 0
        reads = (
            self._ws_reader is WATCHED
            and not self._ws_ending
            and (self._ws_cutting or self._ws_session.intake.flow in _READING)
        )
        return (READ if reads else 0) | (WRITE if self._ws_writer is WATCHED else 0)

    def _ws_be_ready(self, mask: int) -> None:
        """Read or write what is possible at once; called by the steward."""
        with self._ws_lock:
            wanted = self._ws_interest() & mask
            if wanted & READ:
                self._ws_claim_reading()
            if wanted & WRITE:
                self._ws_writer = after(self._ws_writer, Step.DISMISS)
        if wanted & READ:
            self._ws_read(-math.inf, watching=True)
        if wanted & WRITE:
            self._ws_flush()

    def _ws_break_off(self, exc: Exception) -> None:
        """End the connection because of an error of ours; called by the steward."""
        with self._ws_lock:
            self._ws_session.fail(CloseCode.ABNORMAL_CLOSURE, "", exc)
            self._ws_abort()

    def _ws_disown(self) -> None:
        """Refuse to be used, in a child process."""
        self._ws_foreign, self._ws_lock = True, ForeignLock()
