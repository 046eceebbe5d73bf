"""Connections through a proxy on asyncio: reaching the proxy, waiting for the tunnel, TLS in it, and the hand-over.

May know: the loop, transports, python-socks if it is there. Must not know: which proxy is used, what is asked of it and
with which options: that is the plan of :mod:`websockets._session.tunnel`; what its answer means.

Two protocols take turns: :class:`Tunnel` until the way to the server is free, with TLS if it takes TLS, and then the
connection. The connection must not notice. Its ``connection_made`` is called once, with the transport that it will use,
and then it gets all that came from the server, be it behind the proxy's answer in the same read or while TLS was being
set up. So ``Tunnel`` stops reading as soon as it has the answer, and keeps what it got nevertheless.

With HTTP, ``Tunnel`` asks the proxy itself. With SOCKS, python-socks does, on a socket that becomes ours afterwards.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import sys
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Literal, TypeVar, cast

from .._session.tunnel import Arguments, Socks, TunnelPlan, check_silence, choose_proxy
from ..exceptions import ProxyError
from ..proxy import ASKING, OPENING, REACHING_SOCKS, SECURING, ConnectReader, Route, find_proxy
from ..uri import WebSocketURI
from ._dial import open_connection

if TYPE_CHECKING:
    from ssl import SSLContext

    from .connection import Connection

__all__ = ["choose_route", "connect_through"]

C = TypeVar("C", bound="Connection")

# python-socks gives up after a minute unless told otherwise, but how long to wait is our caller's choice. In seconds.
NO_LIMIT = 365 * 24 * 3600.0

# CPython gh-113214: in these versions, TLS on top of TLS can't tell what went wrong, and raises TypeError instead.
TLS_IN_TLS_FAILS_BADLY = sys.version_info < (3, 11, 8) or (3, 12, 0) <= sys.version_info < (3, 12, 2)

# Where asking the system for its proxy may wait for the network.
SYSTEM_WAITS = sys.platform in ("darwin", "win32")


async def choose_route(
    setting: str | Literal[True] | None, uri: WebSocketURI, arguments: Mapping[str, Any]
) -> Route | None:
    """Return the route through the proxy to use, or None.

    Parameters:
        setting: the user's choice: a URI, True for the proxy of the system, or None.
        uri: what the user connects to.
        arguments: arguments for making the TCP connection.

    Raises:
        InvalidProxy: the choice of the user or of the system isn't the URI of a proxy.
    """
    choice = choose_proxy(setting, uri, arguments)
    proxy = choice.proxy
    if choice.asks_system:
        proxy = await asyncio.to_thread(find_proxy, choice.end) if SYSTEM_WAITS else find_proxy(choice.end)
    return choice.route(proxy)


# ---------------------------------------------------------------------------------------------------------- the tunnel


async def connect_through(plan: TunnelPlan, factory: Callable[[], C]) -> C:
    """Connect to a server through a proxy.

    Parameters:
        plan: the steps; its route is told how far the connection gets.
        factory: makes the connection.

    Raises:
        ProxyError: the proxy refuses, or doesn't make sense.
        OSError: the TCP connection or TLS fails.
        ValueError: options contradict each other.
        ImportError: the proxy speaks SOCKS, and python-socks isn't installed.
    """
    route, to_proxy = plan.route, {**plan.to_proxy, **(plan.proxy_tls or {})}
    if plan.socks is not None:
        route.stage = REACHING_SOCKS
        to_proxy = {"sock": await _connect_socks(plan.socks, route.end, to_proxy)}
    # A socket given here is the loop's from now on, also if this fails: nobody else may close it, as its number could
    # belong to another one before the loop is done with it.
    loop = asyncio.get_running_loop()
    transport, tunnel = await open_connection(loop, lambda: Tunnel(plan.request), **to_proxy)
    try:
        route.stage = ASKING
        await tunnel.answered
        route.stage = SECURING
        secured = transport if plan.tls is None else await tunnel.secure(**plan.tls)
        route.stage = OPENING
        connection = factory()
        tunnel.hand_over(secured, connection)
    except BaseException:
        transport.abort()
        raise
    return connection


class Tunnel(asyncio.Protocol):
    """The protocol of a connection to a proxy until it leads to the server.

    Parameters:
        request: what to ask of the proxy; None if it was asked already.

    Attributes:
        answered: done once the tunnel is open, or the error if it won't be.
    """

    transport: asyncio.Transport

    def __init__(self, request: bytes | None) -> None:
        self.answered: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._request = request
        self._reader = ConnectReader()
        self._received = b""  # from the server
        self._lost: Exception | None = None

    # What the transport calls: that to the proxy, and from secure() on the one in the tunnel, but connection_made().

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Called by the loop."""
        # Other loops have transports of their own, which keep the contract without the base class.
        self.transport = cast(asyncio.Transport, transport)
        if self._request is None:
            self.answered.set_result(None)
        else:
            self.transport.write(self._request)

    def data_received(self, data: bytes) -> None:
        """Called by the loop."""
        if self.answered.done():
            self._received += data
            return
        try:
            if self._reader.feed(data):
                self.transport.pause_reading()
                self._received = self._reader.rest
                self.answered.set_result(None)
        except ProxyError as exc:
            self._fail(exc)

    def eof_received(self) -> None:
        """Called by the loop: nothing else will come. The transport closes."""
        if not self.answered.done():
            self._fail(self._reader.eof())

    def connection_lost(self, exc: Exception | None) -> None:
        """Called by the loop: the connection is over."""
        self._lost = exc or ConnectionResetError("connection lost while it was being set up")
        if not self.answered.done():
            self._fail(self._reader.eof(exc))

    def _fail(self, exc: ProxyError) -> None:
        self.answered.set_exception(exc)
        self.answered.exception()  # marks it as seen: whoever waited may have given up

    # What happens once the tunnel is open.

    async def secure(self, *, ssl: SSLContext | Literal[True], **options: Any) -> asyncio.Transport | None:
        """Start TLS with the server; return the transport on top of it, or None if it is gone already."""
        check_silence(self._received)
        if ssl is True:
            # Some interpreters, such as Pyodide, have no TLS: it is imported where it is asked for.
            from ssl import create_default_context

            ssl = create_default_context()
        transport = _Outer(self.transport) if _fails_badly(self.transport) else self.transport
        return await asyncio.get_running_loop().start_tls(cast(asyncio.Transport, transport), self, ssl, **options)

    def hand_over(self, transport: asyncio.Transport | None, connection: Connection) -> None:
        """Let the connection have the transport, and all that came for it."""
        if transport is None or self._lost is not None:
            raise self._lost or ConnectionResetError("connection lost in the TLS handshake")
        transport.set_protocol(connection)
        connection.connection_made(transport)
        if self._received:
            # The connection hasn't sent its request yet; it will before the loop gets its turn.
            transport.pause_reading()
            asyncio.get_running_loop().call_soon(self._replay, transport, connection)
        else:
            transport.resume_reading()

    def _replay(self, transport: asyncio.Transport, connection: Connection) -> None:
        if not transport.is_closing():
            transport.resume_reading()
            connection.data_received(self._received)


def _fails_badly(transport: asyncio.Transport) -> bool:
    """Whether TLS on top of this transport needs help to fail; see above."""
    return TLS_IN_TLS_FAILS_BADLY and type(transport).__module__ == "asyncio.sslproto"


class _Outer:
    """A transport with TLS as asyncio's TLS on top of it wants it to be, where it isn't."""

    _start_tls_compatible = True

    def __init__(self, transport: asyncio.Transport) -> None:
        self._transport = transport

    def _force_close(self, exc: BaseException | None) -> None:
        self._transport.abort()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)


# ---------------------------------------------------------------------------------------------------------------- SOCKS


async def _connect_socks(socks: Socks, end: WebSocketURI, arguments: Arguments) -> socket.socket:
    """Return a socket that a SOCKS proxy connected to the server."""
    try:
        from python_socks import ProxyType
        from python_socks.async_.asyncio import Proxy as Client
    except ImportError as exc:
        raise ImportError("connecting through a SOCKS proxy requires python-socks") from exc
    client = Client(ProxyType[socks.kind], *socks.arguments())
    try:
        sock = await client.connect(end.host, end.port, timeout=NO_LIMIT, **arguments)
    except OSError:
        raise
    except Exception as exc:
        raise ProxyError("failed to connect to SOCKS proxy") from exc
    # Loops do this to sockets of their own: a message mustn't wait until the one before it is acknowledged.
    # Some systems refuse if the other end is gone, which will show soon enough.
    with contextlib.suppress(OSError):
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return sock
