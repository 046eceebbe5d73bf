"""The plan of a tunnel: which proxy, what is asked of it, which options belong to which hop."""

from __future__ import annotations

import logging
from typing import Any

import pytest

from websockets._session.tunnel import Socks, check_silence, choose_proxy, plan_tunnel, without_proxy
from websockets.exceptions import InvalidProxy, ProxyError
from websockets.proxy import Proxy, Route, build_connect_request, parse_proxy
from websockets.uri import parse_uri

PLAIN, SECURE = parse_uri("ws://example.com/"), parse_uri("wss://example.com/")
CONTEXT, OTHER = object(), object()

# Lines of the log.
SECURED = "= TLS with the proxy: TLSv1.3, CIPHER"
ASKED = ["> CONNECT example.com:443 HTTP/1.1", "> Host: example.com"]

# As without a proxy: TCP, TLS with the server, TLS with the proxy.
TCP = {"family": 0, "local_addr": ("x", 1)}
PLACE = {"host": "example.com", "port": 443}
TLS = {"ssl": CONTEXT, "server_hostname": "example.com", "ssl_handshake_timeout": 3, "ssl_shutdown_timeout": 4}
PROXY_TLS = {"ssl": OTHER, "server_hostname": "p", "ssl_handshake_timeout": 5, "ssl_shutdown_timeout": 6}


def for_proxy(arguments: dict[str, Any]) -> dict[str, Any]:
    return {f"proxy_{name}": value for name, value in arguments.items()}


def route(proxy: str, uri: Any = SECURE) -> Route:
    return Route(parse_proxy(proxy), uri)


# --------------------------------------------------------------------------------------------------------- which proxy


@pytest.mark.parametrize("setting", [True, "http://proxy"])
@pytest.mark.parametrize("arguments", [{"unix": True}, {"sock": object()}])
def test_connections_that_need_no_way(setting: Any, arguments: dict[str, Any]) -> None:
    choice = choose_proxy(setting, PLAIN, arguments)
    assert (choice.proxy, choice.asks_system, choice.route(None)) == (None, False, None)


def test_no_proxy() -> None:
    assert choose_proxy(None, PLAIN, {}) == (PLAIN, None, False)


@pytest.mark.parametrize("arguments", [{}, {"unix": False, "sock": None}, {"host": None, "port": None}])
def test_proxy_of_the_system(arguments: dict[str, Any]) -> None:
    choice = choose_proxy(True, PLAIN, arguments)
    assert (choice.end, choice.proxy, choice.asks_system) == (PLAIN, None, True)
    assert choice.route(None) is None


def test_proxy_of_the_user() -> None:
    choice = choose_proxy("http://proxy:8080", PLAIN, {"host": "example.org", "port": 8765})
    assert (choice.proxy, choice.asks_system) == (Proxy("http", "proxy", 8080), False)
    assert (choice.end.host, choice.end.port, choice.end.secure) == ("example.org", 8765, False)
    way = choice.route(choice.proxy)
    assert way is not None
    assert (way.proxy, way.end) == (choice.proxy, choice.end)


def test_what_is_no_proxy() -> None:
    with pytest.raises(InvalidProxy):
        choose_proxy("ftp://proxy", PLAIN, {})


def test_without_proxy() -> None:
    assert without_proxy({**PLACE, **TCP, **TLS, **for_proxy(PROXY_TLS)}) == {**PLACE, **TCP, **TLS}


# ------------------------------------------------------------------------------------------------------------ the plan


@pytest.mark.parametrize("tls", [{}, {"ssl": None}, TLS])
def test_http_proxy(tls: dict[str, Any]) -> None:
    way = route("http://user:secret@proxy:8080")
    plan = plan_tunnel(way, {**PLACE, **TCP, **tls, "unix": False}, "me")
    assert plan.route is way
    assert plan.to_proxy == {**TCP, "host": "proxy", "port": 8080}
    assert plan.request == build_connect_request(way.proxy, SECURE, "me")
    assert (plan.proxy_tls, plan.socks) == (None, None)
    assert plan.tls == (TLS if tls is TLS else None)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({}, {"ssl": True, "server_hostname": "proxy"}),
        (PROXY_TLS, PROXY_TLS),
        ({"ssl": OTHER}, {"ssl": OTHER, "server_hostname": "proxy"}),
        ({"server_hostname": None}, {"ssl": True, "server_hostname": None}),
    ],
)
def test_https_proxy(given: dict[str, Any], expected: dict[str, Any]) -> None:
    plan = plan_tunnel(route("https://proxy."), {**PLACE, **TCP, **TLS, **for_proxy(given)}, None)
    assert (plan.proxy_tls, plan.tls) == (expected, TLS)
    assert plan.to_proxy == {**TCP, "host": "proxy.", "port": 443}


@pytest.mark.parametrize(
    ("scheme", "kind", "remote"),
    [
        ("socks4", "SOCKS4", False),
        ("socks4a", "SOCKS4", True),
        ("socks5", "SOCKS5", False),
        ("socks5h", "SOCKS5", True),
    ],
)
def test_socks_proxy(scheme: str, kind: str, remote: bool) -> None:
    way = route(f"{scheme}://user:secret@proxy")
    plan = plan_tunnel(way, {**PLACE, **TCP, **TLS}, "me")
    assert (plan.to_proxy, plan.proxy_tls, plan.request, plan.tls) == (TCP, None, None, TLS)
    assert plan.socks is not None
    assert plan.socks == Socks(kind, way.proxy, remote)
    assert plan.socks.arguments() == ("proxy", 1080, "user", "secret", remote)


def test_socks_proxy_without_credentials() -> None:
    socks = plan_tunnel(route("socks5h://proxy"), PLACE, None).socks
    assert socks is not None
    assert socks.arguments() == ("proxy", 1080, None, None, True)


@pytest.mark.parametrize("credentials", ["\xe9:x", "x:\xe9"])
def test_credentials_that_socks_cannot_send(credentials: str) -> None:
    socks = plan_tunnel(route(f"socks5h://{credentials}@proxy"), PLACE, None).socks
    assert socks is not None
    with pytest.raises(ProxyError, match="with characters outside ASCII$"):
        socks.arguments()


@pytest.mark.parametrize(
    ("proxy", "ssl", "text"),
    [
        ("https://proxy", None, "proxy_ssl=None is incompatible with an https:// proxy"),
        ("http://proxy", OTHER, "proxy_ssl argument is incompatible with an http:// proxy"),
        ("http://proxy", False, "proxy_ssl argument is incompatible with an http:// proxy"),
        ("socks5h://proxy", True, "proxy_ssl argument is incompatible with a socks5h:// proxy"),
    ],
)
def test_tls_that_contradicts_the_proxy(proxy: str, ssl: Any, text: str) -> None:
    with pytest.raises(ValueError, match=f"^{text}$"):
        plan_tunnel(route(proxy), {**PLACE, "proxy_ssl": ssl}, None)


@pytest.mark.parametrize("proxy", ["http://proxy", "socks5h://proxy"])
def test_options_that_nobody_has_a_use_for_are_not_hidden(proxy: str) -> None:
    """The front-end, which makes the connection, says that a name for TLS is of no use without TLS."""
    plan = plan_tunnel(route(proxy), {**PLACE, "proxy_ssl": None, "proxy_server_hostname": "x"}, None)
    assert (plan.to_proxy["ssl"], plan.to_proxy["server_hostname"], plan.proxy_tls) == (None, "x", None)


def test_plan_changes_nothing() -> None:
    arguments = {**PLACE, **TCP, **TLS, **for_proxy(PROXY_TLS)}
    before = dict(arguments)
    plan_tunnel(route("https://proxy"), arguments, None)
    assert arguments == before


def test_silence_before_tls() -> None:
    check_silence(b"")
    with pytest.raises(ProxyError, match="^proxy sent 3 bytes before the TLS handshake$"):
        check_silence(b"abc")


class Encrypted:
    """What is told of TLS."""

    def version(self) -> str:
        return "TLSv1.3"

    def cipher(self) -> tuple[str, str, int]:
        return "CIPHER", "TLSv1.3", 256


def gone() -> Any:
    raise OSError("not connected")


@pytest.mark.parametrize(
    ("proxy", "tls", "address", "lines"),
    [
        (
            "https://proxy",
            Encrypted(),
            lambda: ("::1", 443),
            ["= connected to the proxy at [::1]:443", SECURED, *ASKED],
        ),
        ("http://proxy", None, gone, ASKED),
        ("socks5h://proxy", None, lambda: ("10.0.0.1", 1), ["= the tunnel is open, by the proxy at 10.0.0.1:1"]),
    ],
)
def test_steps_in_the_log(
    proxy: str, tls: Any, address: Any, lines: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    logger = logging.getLogger("test")
    with caplog.at_level(logging.DEBUG, "test"):
        plan_tunnel(route(proxy), {}, None, logger).log_reached(address, tls)
    first, *rest = (record.getMessage() for record in caplog.records)
    assert first.startswith("= connecting to example.com port 443 through the proxy ")
    assert rest == lines
    caplog.clear()
    plan_tunnel(route(proxy), {}, None, logger).log_reached(address, tls)
    assert not caplog.records
