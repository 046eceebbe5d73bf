"""Connections through a proxy on asyncio: connect to the proxy, wait for the tunnel, start TLS in it, and hand it over.

May know: the event loop, transports, python-socks if it is installed. Must not know: which proxy is used, the request
for a tunnel, and the options of each hop, which are in the plan of :mod:`websockets._session.tunnel`; the meaning of
the proxy's response.

Two asyncio protocols follow each other: :class:`Tunnel` until the tunnel is open, including TLS, and then the
connection. The connection sees no difference. Its ``connection_made`` is called once, with the transport that it will
use. Then it gets all data from the server, also data that came in one read with the proxy's response, or during the TLS
handshake. So ``Tunnel`` pauses reading as soon as it has the response, and keeps data that arrives after it.

With HTTP, ``Tunnel`` sends the request to the proxy. With SOCKS, python-socks does it, on a socket that we take over.
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
from ..proxy import ASKING, OPENING, REACHING_SOCKS, SECURING, Route, find_proxy
from ..uri import WebSocketURI
from ._dial import open_connection
from ._secure import method_for_tls, start_tls

if TYPE_CHECKING:
    from ssl import SSLContext

    from .connection import Connection

__all__ = ["choose_route", "connect_through"]

C = TypeVar("C", bound="Connection")

# In seconds. python-socks has a default timeout of a minute, but the timeout is the choice of our caller.
NO_LIMIT = 365 * 24 * 3600.0

# CPython gh-113214: in these versions, TLS on top of TLS raises TypeError instead of the error that occurred.
TLS_IN_TLS_FAILS_BADLY = sys.version_info < (3, 11, 8) or (3, 12, 0) <= sys.version_info < (3, 12, 2)

# On these platforms, reading the proxy settings of the system may wait for the network.
SYSTEM_WAITS = sys.platform in ("darwin", "win32")


async def choose_route(
    setting: str | Literal[True] | None, uri: WebSocketURI, arguments: Mapping[str, Any]
) -> Route | None:
    """Return the route through the proxy to use, or None.

    Parameters:
        setting: the ``proxy`` option: a URI, True for the proxy of the system, or None.
        uri: URI of the server.
        arguments: arguments for making the TCP connection.

    Raises:
        InvalidProxy: the option, or the proxy of the system, isn't the URI of a proxy.
    """
    choice = choose_proxy(setting, uri, arguments)
    proxy = choice.proxy
    if choice.asks_system:
        proxy = await asyncio.to_thread(find_proxy, choice.end) if SYSTEM_WAITS else find_proxy(choice.end)
    return choice.route(proxy)


# ---------------------------------------------------------------------------------------------------------- the tunnel


async def connect_through(plan: TunnelPlan, factory: Callable[[], C], tls_transport: str | None = None) -> C:
    """Connect to a server through a proxy.

    Parameters:
        plan: the steps; its route records the progress.
        factory: function that makes the connection.
        tls_transport: name of the transport for TLS, with the proxy and in the tunnel; None for the best one.

    Returns:
        The connection.

    Raises:
        ProxyError: the proxy refuses, or its response is invalid.
        OSError: the TCP connection or TLS fails.
        ValueError: options contradict each other.
        ImportError: the proxy speaks SOCKS, and python-socks isn't installed.
    """
    route, to_proxy = plan.route, {**plan.to_proxy, **(plan.proxy_tls or {})}
    if plan.socks is not None:
        route.stage = REACHING_SOCKS
        to_proxy = {"sock": await _connect_socks(plan.socks, route.end, to_proxy)}
    # From here on the event loop owns a socket in the arguments, even if this fails. Only the loop may close it,
    # because otherwise another socket could get its number before the loop has forgotten it.
    loop = asyncio.get_running_loop()
    create = method_for_tls(loop, "create_connection", tls_transport, to_proxy.get("ssl"))
    transport, tunnel = await open_connection(loop, lambda: Tunnel(plan), create, **to_proxy)
    try:
        route.stage = ASKING
        await tunnel.answered
        route.stage = SECURING
        secured = transport if plan.tls is None else await tunnel.secure(tls_transport, **plan.tls)
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
        plan: the steps. If it has no request, the tunnel is open already.

    Attributes:
        answered: future that is done when the tunnel is open, or has the error.
    """

    transport: asyncio.Transport

    def __init__(self, plan: TunnelPlan) -> None:
        self.answered: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._plan = plan
        self._reader = plan.reader()
        self._received = b""  # from the server
        self._lost: Exception | None = None

    # Called by the transport to the proxy, and after secure() by the TLS transport, except connection_made().

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Send the request; the event loop calls this."""
        # Other event loops have transports of their own, which have the same methods but not the base class.
        self.transport = cast(asyncio.Transport, transport)
        ask = self.transport.get_extra_info
        self._plan.log_reached(lambda: ask("peername"), ask("ssl_object"))
        if (request := self._plan.request) is None:
            self.answered.set_result(None)
        else:
            self.transport.write(request)

    def data_received(self, data: bytes) -> None:
        """Process data from the proxy, or keep data from the server; the event loop calls this."""
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
        """Process the end of the stream; the event loop calls this, and closes the transport."""
        if not self.answered.done():
            self._fail(self._reader.eof())

    def connection_lost(self, exc: Exception | None) -> None:
        """Process the end of the connection; the event loop calls this."""
        self._lost = exc or ConnectionResetError("connection lost while it was being set up")
        if not self.answered.done():
            self._fail(self._reader.eof(exc))

    def _fail(self, exc: ProxyError) -> None:
        self.answered.set_exception(exc)
        self.answered.exception()  # marks the exception as retrieved: the waiting task may have been cancelled

    # Steps after the tunnel is open.

    async def secure(
        self, tls_transport: str | None, *, ssl: SSLContext | Literal[True], **options: Any
    ) -> asyncio.Transport | None:
        """Start TLS with the server; return its transport, or None if the connection is already over."""
        check_silence(self._received)
        if ssl is True:
            # Import ssl only here, because some interpreters, such as Pyodide, don't have it.
            from ssl import create_default_context

            ssl = create_default_context()
        transport = _Outer(self.transport) if _fails_badly(self.transport) else self.transport
        return await start_tls(tls_transport, transport, self, ssl, **options)

    def hand_over(self, transport: asyncio.Transport | None, connection: Connection) -> None:
        """Pass the transport and the data kept for it to the connection."""
        if transport is None or self._lost is not None:
            raise self._lost or ConnectionResetError("connection lost in the TLS handshake")
        transport.set_protocol(connection)
        connection.connection_made(transport)
        if self._received:
            # The connection sends its request in this turn of the event loop, and must not read before that.
            transport.pause_reading()
            asyncio.get_running_loop().call_soon(self._replay, transport, connection)
        else:
            transport.resume_reading()

    def _replay(self, transport: asyncio.Transport, connection: Connection) -> None:
        if not transport.is_closing():
            transport.resume_reading()
            connection.data_received(self._received)


def _fails_badly(transport: asyncio.Transport) -> bool:
    """Return whether TLS on top of this transport is affected by ``TLS_IN_TLS_FAILS_BADLY``."""
    return TLS_IN_TLS_FAILS_BADLY and type(transport).__module__ == "asyncio.sslproto"


class _Outer:
    """A wrapper of a TLS transport that has the members which asyncio's TLS on top of it needs."""

    _start_tls_compatible = True

    def __init__(self, transport: asyncio.Transport) -> None:
        self._transport = transport

    def _force_close(self, exc: BaseException | None) -> None:
        self._transport.abort()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)


# ---------------------------------------------------------------------------------------------------------------- SOCKS


async def _connect_socks(socks: Socks, end: WebSocketURI, arguments: Arguments) -> socket.socket:
    """Return a socket that is connected to the server through a SOCKS proxy."""
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
    # Event loops set this on their own sockets, so that a message doesn't wait for the acknowledgement of the previous
    # one. Some systems refuse it after the peer is gone; a later call will report that.
    with contextlib.suppress(OSError):
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return sock
