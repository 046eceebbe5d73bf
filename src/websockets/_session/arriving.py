"""A server's connection until the header of the PROXY protocol has arrived: admission, reading, refusals.

May know: which proxies are trusted, the header, the registry of the server, log lines and statistics. Must not know:
transports, timers, how TLS is done.

The header comes before TLS. So only as many bytes are read as certainly belong to the header.
"""

from __future__ import annotations

from collections.abc import Container, Hashable
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from .._codec.proxy_protocol import Addresses, ProxyHeaderReader, TrustedProxies
from .._rules.addresses import shown_address
from .._rules.capacity import CROWDED
from .._rules.statistics import FAILURE, GONE, PROXY_HEADER, TIMEOUT, TLS

if TYPE_CHECKING:
    from ..typing import LoggerLike
    from .registry import Registry

__all__ = ["CLOSING", "LEFT", "READ_TOO_MUCH", "Arriving", "Refusal", "log_end"]

# Maximum number of bytes in a read after the header.
READ_SIZE: Final = 2**14

READ_TOO_MUCH: Final = "the event loop reads beyond the PROXY protocol header, so TLS can't start; use another loop"


class Refusal(NamedTuple):
    """The refusal of a connection before it is a WebSocket connection.

    Attributes:
        reason: reason for the statistics of the server.
        text: text for the log; None for no log line.
    """

    reason: str
    text: str | None


CLOSING: Final = Refusal("server is shutting down", "server is shutting down")
LEFT: Final = Refusal(GONE, None)


class Arriving:
    """The decisions about a connection from a proxy, until the WebSocket connection takes over.

    Parameters:
        registry: connections of the server.
        proxies: the peers that may connect; None if no header is expected, and only TLS may fail.
        logger: where the server logs.

    Attributes:
        addresses: addresses in the header; None until it is complete.
    """

    addresses: Addresses | None = None
    _guest: Hashable = None  # the object that is in the registry

    def __init__(self, registry: Registry[Any, Any], proxies: TrustedProxies | None, logger: LoggerLike) -> None:
        self._registry, self._logger = registry, logger
        self._proxies: Container[Any] = () if proxies is None else proxies
        self._reader = ProxyHeaderReader()

    # ------------------------------------------------------------------------------------------------------------- ask

    @property
    def waiting(self) -> bool:
        """Whether the header isn't complete, and the connection is neither refused nor over."""
        return self._guest is not None

    @property
    def read_size(self) -> int:
        """The maximum size of the next read in bytes."""
        return self._reader.missing if self.addresses is None else READ_SIZE

    # ------------------------------------------------------------------------------------------------------------ tell

    def admit(self, guest: Hashable, peer: Any) -> Refusal | None:
        """Admit or refuse a new TCP connection.

        Parameters:
            guest: the object that represents it in the registry.
            peer: address of the peer; None if it has already gone, for instance after a proxy's health check.

        Returns:
            The refusal; None if the connection is admitted.
        """
        if peer is None:
            return LEFT
        if self._registry.closing:
            # The connection was accepted just before the server stopped listening.
            return CLOSING
        if peer not in self._proxies:
            return Refusal("not a trusted proxy", "its address isn't in proxy_protocol")
        if not self._registry.arrive(guest):
            return Refusal(CROWDED, CROWDED)
        self._guest = guest
        return None

    def receive_data(self, data: bytes) -> Refusal | None:
        """Process bytes of the header; :attr:`addresses` is set when it is complete.

        Parameters:
            data: at most :attr:`read_size` bytes.

        Returns:
            The refusal; None if there is no error.
        """
        if self.addresses is not None:
            return Refusal(FAILURE, READ_TOO_MUCH)
        try:
            self.addresses = self._reader.feed(data)
        except ValueError as exc:
            return Refusal(PROXY_HEADER, f"invalid PROXY protocol header: {exc}")
        return None

    def time_out(self, timeout: float) -> Refusal:
        """Return the refusal for a header that didn't arrive in time.

        Parameters:
            timeout: the timeout in seconds.
        """
        return Refusal(TIMEOUT, f"no complete PROXY protocol header within {timeout} s")

    def tls_failed(self, exc: BaseException | None) -> Refusal:
        """Return the refusal for a TLS handshake that failed.

        Parameters:
            exc: the exception; None if the client has gone.
        """
        gone = exc is None or isinstance(exc, ConnectionResetError | BrokenPipeError)
        return LEFT if gone else Refusal(TLS, f"{TLS}: {exc}")

    def leave(self) -> bool:
        """Remove it from the registry, because it is a WebSocket connection now, or over.

        Returns:
            Whether it was in the registry.
        """
        # Break the cycle with the guest, which refers to this object.
        guest, self._guest = self._guest, None
        return guest is not None and self._registry.arrived(guest)

    def lose(self) -> None:
        """Count a TCP connection that ended early, unless it was refused or is a WebSocket connection."""
        if self.leave():
            self.refuse(LEFT, None)

    def refuse(self, refusal: Refusal, peer: Any) -> None:
        """Count a refusal, and log it.

        Parameters:
            refusal: the refusal.
            peer: address of the peer.
        """
        self.leave()
        self._registry.tally.refuse(refusal.reason)
        if refusal.text is not None:
            log_end(self._logger, peer, refusal.text)


def log_end(logger: Any, peer: Any, text: str) -> None:
    """Log why a TCP connection ended before it was a WebSocket connection.

    Parameters:
        logger: where to log.
        peer: address of the peer; None if it is unknown.
        text: the reason.
    """
    shown = "an unknown peer" if peer is None else shown_address(peer) or "a Unix socket"
    logger.info("connection from %s closed: %s", shown, text)
