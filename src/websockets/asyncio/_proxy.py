"""Connections through a proxy on asyncio: reaching the proxy, waiting for the tunnel, TLS in it, and the hand-over.

May know: the loop, transports, python-socks if it is there. Must not know: which proxy the system has, what is asked of
a proxy and what its answer means: that is :mod:`websockets.proxy`'s.

Two protocols take turns: :class:`Tunnel` until the way to the server is free, with TLS if it takes TLS, and then the
connection. The connection must not notice. Its ``connection_made`` is called once, with the transport that it will use,
and then it gets all that came from the server, be it behind the proxy's answer in the same read or while TLS was being
set up. So ``Tunnel`` stops reading as soon as it has the answer, and keeps what it got nevertheless.

With HTTP, ``Tunnel`` asks the proxy itself. With SOCKS, python-socks does, on a socket that becomes ours afterwards.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import socket
import sys
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Literal, TypeVar, cast

from ..exceptions import ProxyError
from ..proxy import (
    ASKING,
    OPENING,
    REACHING_SOCKS,
    SECURING,
    ConnectReader,
    Proxy,
    Route,
    build_connect_request,
    find_proxy,
    parse_proxy,
)
from ..uri import WebSocketURI, lookup_name, tls_name
from ._dial import open_connection

if TYPE_CHECKING:
    from ssl import SSLContext

    from .connection import Connection

__all__ = ["choose_route", "connect_through", "without_proxy"]

C = TypeVar("C", bound="Connection")

Arguments = dict[str, Any]

# Arguments of the loop that are about TLS: to the server; with "proxy_" before them, to the proxy.
TLS = ("ssl", "server_hostname", "ssl_handshake_timeout", "ssl_shutdown_timeout")
PROXY_TLS = frozenset(f"proxy_{name}" for name in TLS)

# How python-socks calls each kind of proxy, and whether the proxy looks up the address of the server.
SOCKS = {
    "socks4": ("SOCKS4", False),
    "socks4a": ("SOCKS4", True),
    "socks5": ("SOCKS5", False),
    "socks5h": ("SOCKS5", True),
}

# python-socks gives up after a minute unless told otherwise, but how long to wait is our caller's choice. In seconds.
NO_LIMIT = 365 * 24 * 3600.0

# CPython gh-113214: in these versions, TLS on top of TLS can't tell what went wrong, and raises TypeError instead.
TLS_IN_TLS_FAILS_BADLY = sys.version_info < (3, 11, 8) or (3, 12, 0) <= sys.version_info < (3, 12, 2)

# Where asking the system for its proxy may wait for the network.
SYSTEM_WAITS = sys.platform in ("darwin", "win32")


# --------------------------------------------------------------------------------------------------------- which proxy


async def choose_route(
    setting: str | Literal[True] | None, uri: WebSocketURI, arguments: Mapping[str, Any]
) -> Route | None:
    """The way through the proxy to use, or None.

    Parameters:
        setting: what the user says: a URI, True for the proxy of the system, or None.
        uri: what the user connects to.
        arguments: arguments for making the TCP connection.

    Raises:
        InvalidProxy: what the user or the system says isn't the URI of a proxy.
    """
    if setting is None or arguments.get("unix") or arguments.get("sock") is not None:
        return None
    # The connection may lead elsewhere than the URI says.
    host, port = arguments.get("host") or uri.host, arguments.get("port") or uri.port
    end = dataclasses.replace(uri, host=host, port=port)
    if setting is not True:
        return Route(parse_proxy(setting), end)
    proxy = await asyncio.to_thread(find_proxy, end) if SYSTEM_WAITS else find_proxy(end)
    return None if proxy is None else Route(proxy, end)


def without_proxy(arguments: Mapping[str, Any]) -> Arguments:
    """Arguments for making the TCP connection, for when no proxy is used."""
    return {name: value for name, value in arguments.items() if name not in PROXY_TLS}


# ------------------------------------------------------------------------------------------------------------ which way


async def connect_through(
    route: Route, factory: Callable[[], C], arguments: Mapping[str, Any], user_agent: str | None
) -> C:
    """Connect to a server through a proxy.

    Parameters:
        route: where the tunnel leads, and through which proxy; it is told how far the connection gets.
        factory: makes the connection.
        arguments: as without a proxy; those about TLS apply to the server, or to the proxy if they begin with
            "proxy_"; ``host`` and ``port`` don't count; the others apply to the TCP connection to the proxy.
        user_agent: how we introduce ourselves to the proxy; None to say nothing.

    Raises:
        ProxyError: the proxy refuses, or doesn't make sense.
        OSError: the TCP connection or TLS fails.
        ValueError: options contradict each other or the proxy.
        ImportError: the proxy speaks SOCKS, and python-socks isn't installed.
    """
    proxy = route.proxy
    to_proxy = {name: value for name, value in arguments.items() if name not in ("host", "port", "unix")}
    to_server = {name: to_proxy.pop(name) for name in TLS if name in to_proxy}
    proxy_tls = {name: to_proxy.pop(f"proxy_{name}") for name in TLS if f"proxy_{name}" in to_proxy}
    to_proxy |= _checked_tls(proxy, proxy_tls)
    if proxy.scheme in SOCKS:
        route.stage = REACHING_SOCKS
        sock = await _connect_socks(proxy, route.end, to_proxy)
        return await _open_tunnel(route, None, {"sock": sock}, factory, to_server)
    request = build_connect_request(proxy, route.end, user_agent)
    to_proxy |= {"host": lookup_name(proxy.host), "port": proxy.port}
    return await _open_tunnel(route, request, to_proxy, factory, to_server)


def _checked_tls(proxy: Proxy, given: Arguments) -> Arguments:
    """Arguments for TLS to the proxy, from the proxy where the user doesn't say otherwise.

    Raises:
        ValueError: the user asks for TLS with a proxy that has none, or the other way round.
    """
    if proxy.scheme == "https":
        if "ssl" in given and given["ssl"] is None:
            raise ValueError("proxy_ssl=None is incompatible with an https:// proxy")
        return {"ssl": True, "server_hostname": tls_name(proxy.host), **given}
    if given.get("ssl") is not None:
        article = "an" if proxy.scheme == "http" else "a"
        raise ValueError(f"proxy_ssl argument is incompatible with {article} {proxy.scheme}:// proxy")
    return given


# ---------------------------------------------------------------------------------------------------------- the tunnel


async def _open_tunnel(
    route: Route, request: bytes | None, to_proxy: Arguments, factory: Callable[[], C], to_server: Arguments
) -> C:
    """A connection to the server; ``request`` asks the proxy for it, ``to_proxy`` leads to the proxy."""
    # A socket given here is the loop's from now on, also if this fails: nobody else may close it, as its number could
    # belong to another one before the loop is done with it.
    loop = asyncio.get_running_loop()
    transport, tunnel = await open_connection(loop, lambda: Tunnel(request), **to_proxy)
    try:
        route.stage = ASKING
        await tunnel.answered
        route.stage = SECURING
        secured = transport if to_server.get("ssl") is None else await tunnel.secure(**to_server)
        route.stage = OPENING
        connection = factory()
        tunnel.hand_over(secured, connection)
    except BaseException:
        transport.abort()
        raise
    return connection


def _usual_context() -> SSLContext:
    # Some interpreters, such as Pyodide, have no TLS: it is imported where it is asked for.
    from ssl import create_default_context

    return create_default_context()


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
        if self._received:
            # In TLS we speak first: what is there already may come from the proxy, and must not pass for the server's.
            raise ProxyError(f"proxy sent {len(self._received)} bytes before the TLS handshake")
        context = _usual_context() if ssl is True else ssl
        transport = _Outer(self.transport) if _fails_badly(self.transport) else self.transport
        return await asyncio.get_running_loop().start_tls(cast(asyncio.Transport, transport), self, context, **options)

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


async def _connect_socks(proxy: Proxy, end: WebSocketURI, arguments: Arguments) -> socket.socket:
    """A socket that a SOCKS proxy connected to the server."""
    try:
        from python_socks import ProxyType
        from python_socks.async_.asyncio import Proxy as Client
    except ImportError as exc:
        raise ImportError("connecting through a SOCKS proxy requires python-socks") from exc
    if not all(text is None or text.isascii() for text in (proxy.username, proxy.password)):
        # python-socks refuses them too, with an error that has the password in it.
        raise ProxyError("a SOCKS proxy takes no user name and no password with characters outside ASCII")
    kind, remote = SOCKS[proxy.scheme]
    client = Client(ProxyType[kind], proxy.host, proxy.port, proxy.username, proxy.password, remote)
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
