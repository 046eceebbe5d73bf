"""Connections through a proxy on trio: connect to the proxy, wait for the tunnel, and start TLS in it.

May know: streams, python-socks if it is installed. Must not know: which proxy is used, the request for a tunnel, and
the options of each hop, which are in the plan of :mod:`websockets._session.tunnel`; the meaning of the proxy's
response.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any, Literal

import trio

from .._session.tunnel import Arguments, Socks, TunnelPlan, check_silence, choose_proxy
from ..exceptions import ProxyError
from ..proxy import ASKING, OPENING, REACHING_SOCKS, SECURING, ConnectReader, Route, find_proxy
from ..uri import WebSocketURI
from ._dial import open_stream, secure
from ._wire import close_now, socket_of

__all__ = ["choose_route", "connect_through"]

# In seconds. python-socks has a default timeout of a minute, but the timeout is the choice of our caller.
NO_LIMIT = 365 * 24 * 3600.0

# On these platforms, reading the proxy settings of the system may wait for the network.
SYSTEM_WAITS = sys.platform in ("darwin", "win32")

# Maximum number of bytes of a proxy's response in a read.
READ_SIZE = 2**16


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
        proxy = await trio.to_thread.run_sync(find_proxy, choice.end) if SYSTEM_WAITS else find_proxy(choice.end)
    return choice.route(proxy)


async def connect_through(plan: TunnelPlan, streams: Any = None) -> tuple[trio.abc.Stream, bytes]:
    """Connect to a server through a proxy.

    Parameters:
        plan: the steps; its route records the progress.
        streams: as for :func:`open_stream`.

    Returns:
        The stream to the server, and the bytes that the server has already sent.

    Raises:
        ProxyError: the proxy refuses, or its response is invalid.
        OSError: the TCP connection or TLS fails.
        ValueError: options contradict each other.
        ImportError: the proxy speaks SOCKS, and python-socks isn't installed.
    """
    route, to_proxy, received = plan.route, {**plan.to_proxy, **(plan.proxy_tls or {})}, b""
    stream: trio.abc.Stream
    if plan.socks is not None:
        route.stage = REACHING_SOCKS
        stream = await _connect_socks(plan.socks, route.end, to_proxy)
    else:
        stream = await open_stream(to_proxy, streams)
    try:
        plan.log_reached(lambda: socket_of(stream).getpeername(), getattr(stream, "ssl_object", None))
        if (request := plan.request) is not None:
            route.stage = ASKING
            received = await _ask(stream, request, plan.reader())
        if plan.tls is not None:
            route.stage = SECURING
            check_silence(received)
    except BaseException:
        await close_now(stream)
        raise
    if plan.tls is not None:
        stream = await secure(stream, plan.tls["ssl"], plan.tls.get("server_hostname"))
    route.stage = OPENING
    return stream, received


async def _ask(stream: trio.abc.Stream, request: bytes, reader: ConnectReader) -> bytes:
    """Ask a proxy for a tunnel; return the bytes after its response."""
    try:
        await stream.send_all(request)
        while data := await stream.receive_some(READ_SIZE):
            if reader.feed(bytes(data)):
                return reader.rest
    except (OSError, trio.BrokenResourceError) as exc:
        # trio wraps the errors of sockets.
        cause = exc.__cause__ if isinstance(exc, trio.BrokenResourceError) else exc
        error = reader.eof(cause if isinstance(cause, Exception) else exc)
        raise error from error.__cause__
    raise reader.eof()


async def _connect_socks(socks: Socks, end: WebSocketURI, arguments: Arguments) -> trio.SocketStream:
    """Return a stream to the server through a SOCKS proxy."""
    try:
        from python_socks import ProxyType
        from python_socks.async_.trio import Proxy as Client
    except ImportError as exc:
        raise ImportError("connecting through a SOCKS proxy requires python-socks") from exc
    client = Client(ProxyType[socks.kind], *socks.arguments())
    local = arguments.get("local_address")
    bound = {} if local is None else {"local_addr": (local, 0)}
    try:
        sock = await client.connect(end.host, end.port, timeout=NO_LIMIT, **bound)
    except OSError:
        raise
    except Exception as exc:
        raise ProxyError("failed to connect to SOCKS proxy") from exc
    return trio.SocketStream(sock)
