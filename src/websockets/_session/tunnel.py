"""The plan of a tunnel: which proxy leads to a server, what is asked of it, and which options belong to which hop.

May know: options, URIs, proxies, how python-socks calls things. Must not know: how connecting and waiting are done;
what a proxy's answer means, which is for :mod:`websockets.proxy`.

A front-end carries out a :class:`TunnelPlan` in order. It connects to the proxy, starts TLS with it if there is
``proxy_tls``, sends ``request``, and reads the answer with a :class:`~websockets.proxy.ConnectReader`; or it lets
python-socks do what ``socks`` says. Then it starts TLS with the server, if there is ``tls``. It notes each step in
``route.stage``.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, Final, Literal, NamedTuple

from ..exceptions import ProxyError
from ..proxy import Proxy, Route, build_connect_request, parse_proxy
from ..uri import WebSocketURI, lookup_name, tls_name

__all__ = ["ProxyChoice", "Socks", "TunnelPlan", "check_silence", "choose_proxy", "plan_tunnel", "without_proxy"]

Arguments = dict[str, Any]

# Options about TLS with the server; with "proxy_" before them, about TLS with the proxy.
TLS: Final = ("ssl", "server_hostname", "ssl_handshake_timeout", "ssl_shutdown_timeout")
TLS_OF_PROXY: Final = frozenset(f"proxy_{name}" for name in TLS)

# Options about a connection without a proxy that mean nothing with one.
PLACES: Final = ("host", "port", "unix")

# How python-socks calls each kind of proxy, and whether the proxy looks up the address of the server.
SOCKS: Final = {
    "socks4": ("SOCKS4", False),
    "socks4a": ("SOCKS4", True),
    "socks5": ("SOCKS5", False),
    "socks5h": ("SOCKS5", True),
}


# --------------------------------------------------------------------------------------------------------- which proxy


class ProxyChoice(NamedTuple):
    """Which proxy to use, as far as the options say.

    Attributes:
        end: where the connection leads.
        proxy: the proxy that the user chose, if any.
        asks_system: whether it is the one that the system has for ``end``, if any.
    """

    end: WebSocketURI
    proxy: Proxy | None = None
    asks_system: bool = False

    def route(self, found: Proxy | None) -> Route | None:
        """Return the route to the server; None if it is reached without a proxy.

        Parameters:
            found: the proxy to use, if any.
        """
        return None if found is None else Route(found, self.end)


def choose_proxy(setting: str | Literal[True] | None, uri: WebSocketURI, arguments: Mapping[str, Any]) -> ProxyChoice:
    """Return which proxy to use, as far as the options say.

    Parameters:
        setting: the user's choice: a URI, True for the proxy of the system, or None.
        uri: what the user connects to.
        arguments: arguments for making the TCP connection.

    Raises:
        InvalidProxy: the user's choice isn't the URI of a proxy.
    """
    if setting is None or arguments.get("unix") or arguments.get("sock") is not None:
        return ProxyChoice(uri)
    # The connection may lead elsewhere than the URI says.
    host, port = arguments.get("host") or uri.host, arguments.get("port") or uri.port
    end = dataclasses.replace(uri, host=host, port=port)
    if setting is True:
        return ProxyChoice(end, asks_system=True)
    return ProxyChoice(end, parse_proxy(setting))


def without_proxy(arguments: Mapping[str, Any]) -> Arguments:
    """Return the arguments for making the TCP connection when no proxy is used."""
    return {name: value for name, value in arguments.items() if name not in TLS_OF_PROXY}


# ------------------------------------------------------------------------------------------------------------ the plan


class Socks(NamedTuple):
    """What python-socks is asked for.

    Attributes:
        kind: name of a member of its ``ProxyType``.
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
            # python-socks refuses them too, with an error that has the password in it.
            raise ProxyError("a SOCKS proxy takes no user name and no password with characters outside ASCII")
        return proxy.host, proxy.port, proxy.username, proxy.password, self.remote


class TunnelPlan(NamedTuple):
    """How to reach a server through a proxy.

    Attributes:
        route: the proxy, and where the tunnel leads; it is told how far the connection gets.
        to_proxy: arguments of the TCP connection to the proxy; ``host`` and ``port`` are among them unless python-socks
            makes it.
        proxy_tls: arguments about TLS with the proxy: ``ssl``, which is a context or True for the usual one,
            ``server_hostname``, and times; None without TLS.
        request: what to send to the proxy; None if python-socks asks it.
        socks: what python-socks is asked for; None if the proxy speaks HTTP.
        tls: arguments about TLS with the server, likewise.
    """

    route: Route
    to_proxy: Arguments
    proxy_tls: Arguments | None
    request: bytes | None
    socks: Socks | None
    tls: Arguments | None


def plan_tunnel(route: Route, arguments: Mapping[str, Any], user_agent: str | None) -> TunnelPlan:
    """Return the plan of a tunnel.

    Parameters:
        route: the proxy, and where the tunnel leads.
        arguments: as without a proxy; those about TLS apply to the server, or to the proxy if they begin with
            "proxy_"; ``host`` and ``port`` don't count; the others apply to the TCP connection to the proxy.
        user_agent: how we introduce ourselves to the proxy; None to say nothing.

    Raises:
        ValueError: options contradict the proxy, or the host of the server can't stand in a request.
    """
    proxy = route.proxy
    given = {name: arguments[f"proxy_{name}"] for name in TLS if f"proxy_{name}" in arguments}
    proxy_tls = _tls_with_proxy(proxy, given)
    to_proxy = {name: value for name, value in arguments.items() if name not in (*TLS, *TLS_OF_PROXY, *PLACES)}
    if proxy_tls is None:
        # Whoever makes the connection says what is wrong with them.
        to_proxy |= given
    tls = None if arguments.get("ssl") is None else {name: arguments[name] for name in TLS if name in arguments}
    if proxy.scheme in SOCKS:
        kind, remote = SOCKS[proxy.scheme]
        return TunnelPlan(route, to_proxy, proxy_tls, None, Socks(kind, proxy, remote), tls)
    request = build_connect_request(proxy, route.end, user_agent)
    to_proxy |= {"host": lookup_name(proxy.host), "port": proxy.port}
    return TunnelPlan(route, to_proxy, proxy_tls, request, None, tls)


def _tls_with_proxy(proxy: Proxy, given: Arguments) -> Arguments | None:
    """Return the arguments about TLS with the proxy, from its URI where the user doesn't say otherwise.

    Returns:
        The arguments; None without TLS.

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
    return None


def check_silence(received: bytes) -> None:
    """Check that nothing came through a tunnel before the TLS handshake with the server, in which we speak first.

    Parameters:
        received: what came behind the answer of the proxy.

    Raises:
        ProxyError: it may be from the proxy, and must not pass for the server's.
    """
    if received:
        raise ProxyError(f"proxy sent {len(received)} bytes before the TLS handshake")
