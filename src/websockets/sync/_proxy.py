"""Connections through a proxy in a thread: connect to the proxy, wait for the tunnel, start TLS in it.

May know: lines to a peer, python-socks if it is installed. Must not know: which proxy is used, the request for a
tunnel, and the options of each hop, which are in the plan of :mod:`websockets._session.tunnel`; the meaning of the
proxy's response.

With HTTP, the request is sent to the proxy here. With SOCKS, python-socks does it, and gives us its socket.
"""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Mapping
from typing import Any, Final, Literal

from .._session.tunnel import Arguments, Socks, TunnelPlan, check_silence, choose_proxy
from ..exceptions import ProxyError
from ..proxy import ASKING, OPENING, REACHING_SOCKS, SECURING, ConnectReader, Route, find_proxy
from ..uri import WebSocketURI
from ._dial import open_connection
from ._line import Line, is_late, seconds_until

__all__ = ["SECURING_SERVER", "choose_route", "connect_through"]

# Texts of the error when the deadline passes.
SECURING_SERVER: Final = "timed out during the TLS handshake"
WAITING_FOR_HTTP: Final = "timed out while connecting to HTTP proxy"
WAITING_FOR_SOCKS: Final = "timed out while connecting to SOCKS proxy"

# In seconds. python-socks has a default timeout of a minute, but the timeout is the choice of our caller.
NO_LIMIT: Final = 365 * 24 * 3600.0


def choose_route(setting: str | Literal[True] | None, uri: WebSocketURI, arguments: Mapping[str, Any]) -> Route | None:
    """Return the route through the proxy to use, or None.

    Parameters:
        setting: the ``proxy`` option: a URI, True for the proxy of the system, or None.
        uri: URI of the server.
        arguments: arguments for making the TCP connection.

    Raises:
        InvalidProxy: the option, or the proxy of the system, isn't the URI of a proxy.
    """
    choice = choose_proxy(setting, uri, arguments)
    return choice.route(find_proxy(choice.end) if choice.asks_system else choice.proxy)


def connect_through(plan: TunnelPlan, deadline: float | None) -> Line:
    """Connect to a server through a proxy.

    Parameters:
        plan: the steps; its route records the progress.
        deadline: the time until which the server must be reached; None for no limit.

    Returns:
        The line to the server, with TLS if the plan has it.

    Raises:
        ProxyError: the proxy refuses, or its response is invalid.
        OSError: the TCP connection or TLS fails.
        TimeoutError: the deadline has passed.
        ValueError: options contradict each other.
        ImportError: the proxy speaks SOCKS, and python-socks isn't installed.
    """
    route = plan.route
    if plan.socks is None:
        # The name in the certificate of a proxy without TLS is ignored.
        to_proxy = {name: value for name, value in plan.to_proxy.items() if name != "server_hostname"}
        line = Line(open_connection(deadline=deadline, text=WAITING_FOR_HTTP, **to_proxy), deadline)
    else:
        route.stage = REACHING_SOCKS
        line = Line(_connect_socks(plan.socks, route.end, plan.to_proxy, deadline), deadline)
    try:
        if plan.proxy_tls is not None:
            line.start_tls(WAITING_FOR_HTTP, **plan.proxy_tls)
        rest, request = b"", plan.request
        plan.log_reached(lambda: line.sock.getpeername(), None if line.channel is None else line.channel.ssl_object)
        if request is not None:
            route.stage = ASKING
            rest = _ask(line, request, plan.reader())
        if plan.tls is not None:
            route.stage = SECURING
            check_silence(rest)
            line.start_tls(SECURING_SERVER, **plan.tls)
        elif rest:
            line.unread(rest)
    except BaseException:
        line.close()
        raise
    route.stage = OPENING
    return line


def _ask(line: Line, request: bytes, reader: ConnectReader) -> bytes:
    """Ask an HTTP proxy for a tunnel; return what came behind its response."""
    try:
        line.send(request, WAITING_FOR_HTTP)
        while data := line.receive(WAITING_FOR_HTTP):
            if reader.feed(data):
                return reader.rest
    except OSError as exc:
        if is_late(exc):
            raise
        error = reader.eof(exc)
        raise error from error.__cause__
    raise reader.eof()


# ---------------------------------------------------------------------------------------------------------------- SOCKS


def _connect_socks(socks: Socks, end: WebSocketURI, arguments: Arguments, deadline: float | None) -> socket.socket:
    """Return a socket that is connected to the server through a SOCKS proxy."""
    try:
        from python_socks import ProxyType
        from python_socks.sync import Proxy as Client
    except ImportError as exc:
        raise ImportError("connecting through a SOCKS proxy requires python-socks") from exc
    client = Client(ProxyType[socks.kind], *socks.arguments())
    left = seconds_until(deadline, WAITING_FOR_SOCKS)
    local = arguments.get("source_address")
    options = {} if local is None else {"local_addr": local}
    try:
        sock = client.connect(end.host, end.port, timeout=min(left, NO_LIMIT), **options)
    except TimeoutError as exc:
        raise TimeoutError(WAITING_FOR_SOCKS) from exc
    except OSError:
        raise
    except Exception as exc:
        raise ProxyError("failed to connect to SOCKS proxy") from exc
    # Some systems refuse this after the peer is gone; a later call will report that.
    with contextlib.suppress(OSError):
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return sock
