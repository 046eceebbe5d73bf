"""A server's connection until the header of the PROXY protocol is there: who may come, what is read, why it is refused.

May know: which proxies are trusted, the header, the registry of the server, what the log and the statistics say. Must
not know: transports, timers, how TLS is done.

The header comes before TLS. So no more is asked for than what surely belongs to the header.
"""

from __future__ import annotations

from collections.abc import Hashable
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from .._codec.proxy_protocol import Addresses, ProxyHeaderReader, TrustedProxies
from .._rules.addresses import shown_address
from .._rules.capacity import CROWDED
from .._rules.statistics import FAILURE, GONE, PROXY_HEADER, TIMEOUT, TLS

if TYPE_CHECKING:
    from ..typing import LoggerLike
    from .registry import Registry

__all__ = ["CLOSING", "READ_TOO_MUCH", "Arriving", "Refusal"]

# Bytes that may be read at a time after the header.
READ_SIZE: Final = 2**14

READ_TOO_MUCH: Final = "the event loop reads beyond the PROXY protocol header, so TLS can't start; use another loop"


class Refusal(NamedTuple):
    """The connection ends before anything is known of it.

    Attributes:
        reason: for the statistics of the server.
        text: for the log; None if nobody need know.
    """

    reason: str
    text: str | None


CLOSING: Final = Refusal("server is shutting down", "server is shutting down")
LEFT: Final = Refusal(GONE, None)


class Arriving:
    """What is decided about a connection from a proxy, until the connection itself takes over.

    Parameters:
        registry: connections of the server.
        proxies: the peers that may connect.
        logger: where the server logs.

    Attributes:
        addresses: what the header says; None until it is there.
    """

    addresses: Addresses | None = None
    _guest: Hashable = None  # what has a place in the registry

    def __init__(self, registry: Registry[Any, Any], proxies: TrustedProxies, logger: LoggerLike) -> None:
        self._registry, self._proxies, self._logger = registry, proxies, logger
        self._reader = ProxyHeaderReader()

    # ------------------------------------------------------------------------------------------------------------- ask

    @property
    def waiting(self) -> bool:
        """Whether it is neither a connection yet nor refused or gone."""
        return self._guest is not None

    @property
    def read_size(self) -> int:
        """How many bytes may be read next."""
        return self._reader.missing if self.addresses is None else READ_SIZE

    # ------------------------------------------------------------------------------------------------------------ tell

    def admit(self, guest: Hashable, peer: Any) -> Refusal | None:
        """Take in that the TCP connection is there.

        Parameters:
            guest: what stands for it in the registry.
            peer: address of the other end; None if it is gone already, as after the plain health check of a proxy.

        Returns:
            None if it may stay.
        """
        if peer is None:
            return LEFT
        if self._registry.closing:
            # It was accepted just before the server stopped listening.
            return CLOSING
        if peer not in self._proxies:
            return Refusal("not a trusted proxy", "its address isn't in proxy_protocol")
        if not self._registry.arrive(guest):
            return Refusal(CROWDED, CROWDED)
        self._guest = guest
        return None

    def receive_data(self, data: bytes) -> Refusal | None:
        """Take in bytes of the header; when it is whole, :attr:`addresses` has what it says.

        Parameters:
            data: what was read: :attr:`read_size` bytes at most.

        Returns:
            None if nothing is wrong.
        """
        if self.addresses is not None:
            return Refusal(FAILURE, READ_TOO_MUCH)
        try:
            self.addresses = self._reader.feed(data)
        except ValueError as exc:
            return Refusal(PROXY_HEADER, f"invalid PROXY protocol header: {exc}")
        return None

    def time_out(self, timeout: float) -> Refusal:
        """Take in that the header took too long.

        Parameters:
            timeout: seconds that it had.
        """
        return Refusal(TIMEOUT, f"no complete PROXY protocol header within {timeout} s")

    def tls_failed(self, exc: BaseException | None) -> Refusal:
        """Take in that the TLS handshake behind the header failed.

        Parameters:
            exc: why; None if the client is just gone.
        """
        gone = exc is None or isinstance(exc, ConnectionResetError | BrokenPipeError)
        return LEFT if gone else Refusal(TLS, f"{TLS}: {exc}")

    def leave(self) -> bool:
        """Free its place: from now on, it is a connection or gone.

        Returns:
            Whether it had one.
        """
        # Nothing refers to the guest any more, which refers to this object.
        guest, self._guest = self._guest, None
        return guest is not None and self._registry.arrived(guest)

    def lose(self) -> None:
        """Take in that the TCP connection is over; it counts unless it was refused or is a connection by now."""
        if self.leave():
            self.refuse(LEFT, None)

    def refuse(self, refusal: Refusal, peer: Any) -> None:
        """Count a refusal, and log it.

        Parameters:
            refusal: why.
            peer: address of the other end.
        """
        self.leave()
        self._registry.tally.refuse(refusal.reason)
        if refusal.text is not None:
            self._logger.info("connection from %s closed: %s", shown_address(peer) or "a Unix socket", refusal.text)
