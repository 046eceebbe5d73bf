"""The plan of a tunnel: the proxy to use, the request for the tunnel, and the options of each hop.

May know: options, URIs, proxies, the names in python-socks. Must not know: how to connect and to wait; the meaning of a
proxy's response, see :mod:`websockets.proxy`.

A front-end follows the steps of a :class:`TunnelPlan`. It connects to the proxy, starts TLS with it if there is
``proxy_tls``, calls ``log_reached()``, sends ``request``, and reads the response with ``reader()``. Or it uses
python-socks as ``socks`` says. Then it starts TLS with the server, if there is ``tls``. It records each step in
``route.stage``.
"""

from __future__ import annotations

import contextlib
import dataclasses
import logging
from collections.abc import Callable, Mapping
from typing import Any, Final, Literal, NamedTuple

from .._rules.addresses import shown_address
from .._rules.handshake import log_headers
from ..exceptions import ProxyError
from ..http11 import Request
from ..proxy import ConnectReader, Proxy, Route, connect_request, parse_proxy
from ..typing import LoggerLike
from ..uri import WebSocketURI, lookup_name, tls_name

__all__ = ["ProxyChoice", "Socks", "TunnelPlan", "check_silence", "choose_proxy", "plan_tunnel", "without_proxy"]

Arguments = dict[str, Any]

# Options for TLS with the server; with the prefix "proxy_", for TLS with the proxy.
TLS: Final = ("ssl", "server_hostname", "ssl_handshake_timeout", "ssl_shutdown_timeout")
TLS_OF_PROXY: Final = frozenset(f"proxy_{name}" for name in TLS)

# Options for a connection without a proxy, which are ignored with a proxy.
PLACES: Final = ("host", "port", "unix")

# The name in python-socks of each kind of proxy, and whether the proxy looks up the address of the server.
SOCKS: Final = {
    "socks4": ("SOCKS4", False),
    "socks4a": ("SOCKS4", True),
    "socks5": ("SOCKS5", False),
    "socks5h": ("SOCKS5", True),
}


# --------------------------------------------------------------------------------------------------------- which proxy


class ProxyChoice(NamedTuple):
    """The choice of a proxy, from the options.

    Attributes:
        end: URI of the server.
        proxy: the proxy from the options, if any.
        asks_system: whether to use the system's proxy for ``end``, if there is one.
    """

    end: WebSocketURI
    proxy: Proxy | None = None
    asks_system: bool = False

    def route(self, found: Proxy | None) -> Route | None:
        """Return the route to the server; None to connect without a proxy.

        Parameters:
            found: the proxy to use, if any.
        """
        return None if found is None else Route(found, self.end)


def choose_proxy(setting: str | Literal[True] | None, uri: WebSocketURI, arguments: Mapping[str, Any]) -> ProxyChoice:
    """Return the choice of a proxy, from the options.

    Parameters:
        setting: the ``proxy`` option: a URI, True for the proxy of the system, or None.
        uri: URI of the server.
        arguments: arguments for making the TCP connection.

    Raises:
        InvalidProxy: the option isn't the URI of a proxy.
    """
    if setting is None or arguments.get("unix") or arguments.get("sock") is not None:
        return ProxyChoice(uri)
    # The options may set another address than that of the URI.
    host, port = arguments.get("host") or uri.host, arguments.get("port") or uri.port
    end = uri if (host, port) == (uri.host, uri.port) else dataclasses.replace(uri, host=host, port=port)
    if setting is True:
        return ProxyChoice(end, asks_system=True)
    return ProxyChoice(end, parse_proxy(setting))


def without_proxy(arguments: Mapping[str, Any]) -> Arguments:
    """Return the arguments for making the TCP connection when no proxy is used."""
    return {name: value for name, value in arguments.items() if name not in TLS_OF_PROXY}


# ------------------------------------------------------------------------------------------------------------ the plan


class Socks(NamedTuple):
    """The settings for python-socks.

    Attributes:
        kind: name of a member of ``ProxyType`` in python-socks.
        proxy: the proxy.
        remote: whether the proxy looks up the address of the server.
    """

    kind: str
    proxy: Proxy
    remote: bool

    def arguments(self) -> tuple[Any, ...]:
        """Return the arguments of a ``Proxy`` of python-socks, after its type.

        Raises:
            ProxyError: the credentials can't be sent.
        """
        proxy = self.proxy
        if not all(text is None or text.isascii() for text in (proxy.username, proxy.password)):
            # python-socks also refuses them, but its error shows the password.
            raise ProxyError("a SOCKS proxy takes no user name and no password with characters outside ASCII")
        return proxy.host, proxy.port, proxy.username, proxy.password, self.remote


class TunnelPlan(NamedTuple):
    """The steps to connect to a server through a proxy.

    Attributes:
        route: the proxy and the server; it records the progress.
        to_proxy: arguments of the TCP connection to the proxy; ``host`` and ``port`` are among them unless python-socks
            makes it.
        proxy_tls: arguments for TLS with the proxy: ``ssl``, which is a context or True for the default one,
            ``server_hostname``, and timeouts; None without TLS.
        asked: the request to the proxy; None with python-socks.
        socks: the settings for python-socks; None for an HTTP proxy.
        tls: arguments for TLS with the server, as in ``proxy_tls``.
        logger: where to log the steps at DEBUG; None to log nothing.
    """

    route: Route
    to_proxy: Arguments
    proxy_tls: Arguments | None
    asked: Request | None
    socks: Socks | None
    tls: Arguments | None
    logger: LoggerLike | None = None

    @property
    def request(self) -> bytes | None:
        """The bytes of the request to the proxy; None with python-socks."""
        return None if self.asked is None else self.asked.serialize()

    def reader(self) -> ConnectReader:
        """Return the reader of the proxy's response."""
        return ConnectReader(self.logger)

    def log_reached(self, address: Callable[[], Any], tls: Any) -> None:
        """Log that the proxy was reached, or with python-socks that the tunnel is open; and the request to the proxy.

        Parameters:
            address: function that returns the address of the proxy; it is called if it is logged.
            tls: the ``ssl.SSLObject`` of the connection to the proxy; None without TLS.
        """
        logger = self.logger
        if logger is None:
            return
        # The proxy may be gone already.
        with contextlib.suppress(OSError):
            done = "connected to the proxy" if self.socks is None else "the tunnel is open, by the proxy"
            logger.debug("= %s at %s", done, shown_address(address()))
        if tls is not None:
            logger.debug("= TLS with the proxy: %s, %s", tls.version(), tls.cipher()[0])
        if self.asked is not None:
            logger.debug("> %s %s %s", self.asked.method, self.asked.path, self.asked.protocol)
            log_headers(logger, ">", self.asked.headers)


def plan_tunnel(
    route: Route, arguments: Mapping[str, Any], user_agent: str | None, logger: LoggerLike | None = None
) -> TunnelPlan:
    """Return the plan of a tunnel.

    Parameters:
        route: the proxy and the server.
        arguments: as without a proxy; those for TLS apply to the server, or to the proxy if they begin with "proxy_";
            ``host`` and ``port`` are ignored; the others apply to the TCP connection to the proxy.
        user_agent: value of the ``User-Agent`` header for the proxy; None to leave it out.
        logger: where to log the steps, if it logs at DEBUG.

    Raises:
        ValueError: options contradict the proxy, or the host of the server can't be sent in a request.
    """
    proxy = route.proxy
    logger = logger if logger is not None and logger.isEnabledFor(logging.DEBUG) else None
    if logger is not None:
        logger.debug("= connecting to %s port %d through the proxy %s", route.end.host, route.end.port, proxy)
    given = {name: arguments[f"proxy_{name}"] for name in TLS if f"proxy_{name}" in arguments}
    proxy_tls = _tls_with_proxy(proxy, given)
    to_proxy = {name: value for name, value in arguments.items() if name not in (*TLS, *TLS_OF_PROXY, *PLACES)}
    if proxy_tls is None:
        # The method that makes the connection reports errors in these arguments.
        to_proxy |= given
    tls = None if arguments.get("ssl") is None else {name: arguments[name] for name in TLS if name in arguments}
    if proxy.scheme in SOCKS:
        kind, remote = SOCKS[proxy.scheme]
        return TunnelPlan(route, to_proxy, proxy_tls, None, Socks(kind, proxy, remote), tls, logger)
    request = connect_request(proxy, route.end, user_agent)
    to_proxy |= {"host": lookup_name(proxy.host), "port": proxy.port}
    return TunnelPlan(route, to_proxy, proxy_tls, request, None, tls, logger)


def _tls_with_proxy(proxy: Proxy, given: Arguments) -> Arguments | None:
    """Return the arguments for TLS with the proxy, with defaults from its URI.

    Returns:
        The arguments; None without TLS.

    Raises:
        ValueError: the options ask for TLS with a proxy without TLS, or forbid TLS with a proxy that needs it.
    """
    if proxy.scheme == "https":
        if "ssl" in given and given["ssl"] is None:
            raise ValueError("proxy_ssl=None is incompatible with an https:// proxy")
        return {"ssl": True, "server_hostname": tls_name(proxy.host), **given}
    if given.get("ssl") is not None:
        article = "an" if proxy.scheme == "http" else "a"
        raise ValueError(f"proxy_ssl argument is incompatible with {article} {proxy.scheme}:// proxy")
    return None


def check_silence(received: bytes) -> None:
    """Check that no data came before the TLS handshake with the server, which the client begins.

    Parameters:
        received: data after the response of the proxy.

    Raises:
        ProxyError: there is such data: it may be from the proxy, and must not be treated as the server's.
    """
    if received:
        raise ProxyError(f"proxy sent {len(received)} bytes before the TLS handshake")
