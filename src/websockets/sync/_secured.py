"""The socket of a connection with TLS, as programs see it.

May know: what ``ssl.SSLSocket`` can be asked, sockets. Must not know: connections, how TLS is done.

TLS of a connection is a channel without a socket, and its socket is a plain one. Programs that were written for an
``ssl.SSLSocket`` ask it for the certificate of the peer, or for the version of TLS. So they get an object that asks the
channel in these cases, and the socket in all others.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

from ._system import Lock

if TYPE_CHECKING:
    import ssl

__all__ = ["SecuredSocket"]

# What TLS is asked for.
ASKED: Final = frozenset(
    (
        *("cipher", "compression", "context", "get_channel_binding", "get_unverified_chain", "get_verified_chain"),
        *("getpeercert", "selected_alpn_protocol", "selected_npn_protocol", "server_hostname", "server_side"),
        *("session", "session_reused", "shared_ciphers", "version"),
    )
)


class SecuredSocket:
    """A socket that can be asked about TLS.

    Parameters:
        sock: the socket.
        tls: TLS.
        lock: what is held while TLS is asked, because other threads may be using it.
    """

    def __init__(self, sock: Any, tls: ssl.SSLObject, lock: Lock) -> None:
        self._sock, self._tls, self._lock = sock, tls, lock

    def __getattr__(self, name: str) -> Any:
        if name not in ASKED:
            return getattr(self._sock, name)
        with self._lock:
            found = getattr(self._tls, name)
        return functools.partial(self._ask, found) if callable(found) else found

    def __repr__(self) -> str:
        return f"<{type(self).__name__} of {self._sock!r}>"

    def _ask(self, method: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
        with self._lock:
            return method(*arguments, **options)
