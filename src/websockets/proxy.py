"""Proxies between a client and a server: which one to use, what to ask of it, and what its answer means.

May know: the proxies of the system, URIs of proxies, the exchange that opens a tunnel (RFC 9110 section 9.3.6).
Must not know: how to connect to anything, TLS, SOCKS beyond its name.

Errors name the proxy, but its credentials show in the attributes named after them and nowhere else.
"""

from __future__ import annotations

import dataclasses
import ipaddress
import re
import urllib.request
from typing import Final
from urllib.parse import unquote

from .datastructures import Headers
from .exceptions import InvalidProxy, InvalidProxyMessage, InvalidProxyStatus, SecurityError
from .headers import build_authorization_basic, build_host
from .http11 import Request, ResponseHeadParser
from .uri import WebSocketURI, _parse_host_port, _parsed, _split_uri

__all__ = ["Proxy", "get_proxy", "parse_proxy"]

# The port of each kind of proxy: RFC 9110 sections 4.2.1 and 4.2.2, and what RFC 1928 section 3 says of SOCKS.
DEFAULT_PORTS: Final = {"http": 80, "https": 443, "socks4": 1080, "socks4a": 1080, "socks5": 1080, "socks5h": 1080}

# Where the system may name a proxy for us, in the order of preference.
SYSTEM_PROXIES: Final = {False: ("ws", "socks", "https", "http"), True: ("wss", "socks", "https")}

# RFC 3986 section 3.1. Anything else that stands before a colon may be a password.
is_scheme = re.compile(r"[a-z][a-z0-9+.\-]*+").fullmatch


@dataclasses.dataclass
class Proxy:
    """A proxy.

    Attributes:
        scheme: ``http``, ``https``, ``socks4``, ``socks4a``, ``socks5`` or ``socks5h``.
        host: name or address in lower case, without brackets, in ASCII.
        port: number of the port.
        username: user name, decoded; ``None`` if there are no credentials.
        password: password, decoded; ``None`` if there are no credentials.
    """

    scheme: str
    host: str
    port: int
    username: str | None = dataclasses.field(default=None, repr=False)
    password: str | None = dataclasses.field(default=None, repr=False)

    @property
    def user_info(self) -> tuple[str, str] | None:
        """User name and password, or ``None`` if there are no credentials."""
        if self.username is None or self.password is None:
            return None
        return self.username, self.password

    def __str__(self) -> str:
        """The proxy as people may see it: without credentials."""
        return f"{self.scheme}://{build_host(self.host, self.port, secure=False, always_include_port=True)}"


# Which proxy.


def get_proxy(uri: WebSocketURI) -> str | None:
    """Return the URI of the proxy that the system has for a server, or ``None``.

    On Unix, environment variables name it: ``wss_proxy``, ``socks_proxy`` or ``https_proxy`` for ``wss://``, and
    ``ws_proxy``, ``socks_proxy``, ``https_proxy`` or ``http_proxy`` for ``ws://``; ``no_proxy`` lists the exceptions.
    macOS and Windows have settings too, and may look up the address of the server to apply them. The loopback
    interface is never behind a proxy.

    Parameters:
        uri: where to connect.
    """
    if _is_loopback(uri.host):
        return None
    proxies = urllib.request.getproxies()
    name = next((name for name in SYSTEM_PROXIES[uri.secure] if proxies.get(name)), None)
    if name is None or urllib.request.proxy_bypass(f"{uri.host}:{uri.port}"):
        return None
    proxy = proxies[name]
    # That is how the settings of macOS come, which give no more than an address.
    if name == "socks" and proxy.startswith("http://"):
        return f"socks5h://{proxy.removeprefix('http://')}"
    return proxy


def _is_loopback(host: str) -> bool:
    """Return whether *host* is this machine by its name (RFC 6761 section 6.3) or its address."""
    name = host.rstrip(".")
    if name == "localhost" or name.endswith(".localhost"):
        return True
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return False
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return (mapped or address).is_loopback


def parse_proxy(proxy: str) -> Proxy:
    """Return the parts of the URI of a proxy.

    Credentials are percent-decoded, and must have both parts. The port defaults to that of the scheme.

    Parameters:
        proxy: the URI; blanks around it do not count.

    Raises:
        InvalidProxy: if it is no URI of a proxy.
    """
    return _parsed(proxy, _parse_proxy, InvalidProxy)


def _parse_proxy(proxy: str) -> Proxy:
    """Do what :func:`parse_proxy` does, and raise ValueError with what is wrong."""
    scheme, authority, path, query, fragment = _split_uri(proxy.strip())
    if scheme not in DEFAULT_PORTS:
        raise ValueError(f"scheme {scheme} isn't supported" if is_scheme(scheme) else "scheme isn't supported")
    user_info, at, host_port = authority.rpartition("@")
    host, port = _parse_host_port(host_port)
    for name, part in {"path": path.removeprefix("/"), "query": query, "fragment": fragment}.items():
        if part:
            raise ValueError(f"{name} is meaningless")
    result = Proxy(scheme, host, port or DEFAULT_PORTS[scheme])
    if at:
        result.username, result.password = _parse_user_info(user_info)
        if ":" in result.username and scheme in ("http", "https"):
            raise ValueError("username must not contain a colon")  # RFC 7617 section 2
    return result


def _parse_user_info(user_info: str) -> tuple[str, str]:
    """Return user name and password. Other than in HTTP, the user name may have a colon (RFC 1929 section 2)."""
    username, colon, password = user_info.partition(":")
    if not colon:
        raise ValueError("username provided without password")
    # Bytes that are not UTF-8 survive, Basic authentication sends them as they were.
    return unquote(username, "utf-8", "surrogateescape"), unquote(password, "utf-8", "surrogateescape")


# The tunnel: RFC 9110 section 9.3.6.


def build_connect_request(proxy: Proxy, uri: WebSocketURI, user_agent: str | None) -> bytes:
    """Return the request for a tunnel to a server.

    Parameters:
        proxy: what is asked, and with which credentials.
        uri: where the tunnel must lead.
        user_agent: value of the ``User-Agent`` header; ``None`` or empty to leave it out.

    Raises:
        ValueError: if the host of *uri* would break the request line.
    """
    headers = Headers()
    headers["Host"] = build_host(uri.host, uri.port, uri.secure)
    if user_agent:
        headers["User-Agent"] = user_agent
    if proxy.user_info is not None:
        headers["Proxy-Authorization"] = build_authorization_basic(*proxy.user_info)
    authority = build_host(uri.host, uri.port, uri.secure, always_include_port=True)
    return Request(authority, headers, "CONNECT").serialize()


class ConnectReader:
    """Reads the answer to a request for a tunnel, under the limits of an opening handshake.

    Attributes:
        rest: what came after the answer, through the tunnel; to be looked at once :meth:`feed` returned True.
    """

    def __init__(self) -> None:
        # A refusal is one, even if the page that explains it never ends.
        self._parser = ResponseHeadParser(proxy=True)
        self.rest = b""

    def feed(self, data: bytes) -> bool:
        """Read more; return whether the tunnel is open. Not to be called again after it is, or after an error.

        Raises:
            InvalidProxyStatus: if the proxy refuses.
            InvalidProxyMessage: if it is no HTTP, or exceeds a limit; the cause is chained.
        """
        try:
            response = self._parser.feed(data)
        except (ValueError, SecurityError) as exc:
            raise _invalid_message() from exc
        if response is None:
            return False
        if not 200 <= response.status_code < 300:
            raise InvalidProxyStatus(response)
        self.rest = self._parser.rest
        return True

    def eof(self, cause: Exception | None = None) -> InvalidProxyMessage:
        """Return the error that no more bytes will come, to be raised.

        Parameters:
            cause: why, if the connection didn't end in an orderly manner.
        """
        error = _invalid_message()
        try:
            self._parser.eof()
        except EOFError as exc:
            exc.__cause__ = cause
            error.__cause__ = exc
        return error


def _invalid_message() -> InvalidProxyMessage:
    return InvalidProxyMessage("did not receive a valid HTTP response from proxy")
