"""Proxies between a client and a server: which proxy to use, the request for a tunnel, and the proxy's response.

May know: the proxies of the system, URIs of proxies, the exchange that opens a tunnel (RFC 9110 section 9.3.6).
Must not know: how to connect, TLS, SOCKS beyond its name.

Errors name the proxy. Its credentials are only in the attributes ``username`` and ``password``.
"""

from __future__ import annotations

import dataclasses
import functools
import ipaddress
import os
import re
import urllib.request
from types import TracebackType
from typing import TYPE_CHECKING, Final
from urllib.parse import unquote

from ._compat.deprecated import deprecated_names
from ._rules.handshake import log_headers
from .datastructures import Headers
from .exceptions import InvalidProxy, InvalidProxyMessage, InvalidProxyStatus, SecurityError, printable
from .headers import build_authorization_basic, build_host
from .http11 import Request, ResponseHeadParser
from .typing import LoggerLike
from .uri import WebSocketURI, _parse_host_port, _parsed, _split_uri

__all__ = ["Proxy", "get_proxy", "parse_proxy"]

# The port of each kind of proxy (RFC 9110 sections 4.2.1 and 4.2.2; for SOCKS, RFC 1928 section 3).
DEFAULT_PORTS: Final = {"http": 80, "https": 443, "socks4": 1080, "socks4a": 1080, "socks5": 1080, "socks5h": 1080}

# Other names of schemes. For "socks", curl uses version 4, and so does urllib in the settings of Windows.
ALIASES: Final = {"socks": "socks4"}

# The proxies of the system to look for, in order of preference; the key is whether the URI is secure.
SYSTEM_PROXIES: Final = {False: ("ws", "socks", "https", "http", "all"), True: ("wss", "socks", "https", "all")}

# The parts of an entry of no_proxy: an IPv6 address in brackets, a name or an IPv4 address; and a port. An IPv6 address
# without brackets doesn't match, because its colons aren't before a port.
split_entry = re.compile(r"(?:\[([^\[\]]*+)\]|([^:\[\]]*+))(?::0*+([0-9]*+))?+").fullmatch

# The stages of a connection through a proxy.
REACHING: Final = "while reaching the proxy"
ASKING: Final = "while waiting for the tunnel"
REACHING_SOCKS: Final = "while reaching the proxy or waiting for its reply"
SECURING: Final = "in the TLS handshake with the server"
OPENING: Final = "in the opening handshake with the server"

# RFC 3986 section 3.1. Other text before a colon may be a password.
is_scheme = re.compile(r"[a-z][a-z0-9+.\-]*+").fullmatch


@dataclasses.dataclass
class Proxy:
    """A proxy server.

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
        """Return the URI of the proxy, without credentials."""
        return f"{self.scheme}://{build_host(self.host, self.port, secure=False, always_include_port=True)}"


# The choice of a proxy.


def get_proxy(uri: WebSocketURI) -> str | None:
    """Return the URI of the system's proxy for a server, or ``None``.

    The proxy is in environment variables. For ``wss://``, the first variable that is set is used, of ``wss_proxy``,
    ``socks_proxy``, ``https_proxy`` and ``all_proxy``; for ``ws://``, of ``ws_proxy``, ``socks_proxy``,
    ``https_proxy``, ``http_proxy`` and ``all_proxy``. Lower case takes precedence over upper case. ``no_proxy`` lists
    the exceptions. Without any of these variables, the settings of macOS and Windows are used; they may look up the
    address of the server. The loopback interface is never behind a proxy.

    Parameters:
        uri: URI of the server.

    Returns:
        The URI of the proxy; None to connect without a proxy.
    """
    found = _system_proxy(uri)
    return None if found is None else found[0]


def find_proxy(uri: WebSocketURI) -> Proxy | None:
    """Return the system's proxy for a server, or ``None``.

    Parameters:
        uri: URI of the server.

    Raises:
        InvalidProxy: the setting isn't the URI of a proxy; the error names the setting.
    """
    found = _system_proxy(uri)
    if found is None:
        return None
    proxy, origin = found
    try:
        return parse_proxy(proxy)
    except InvalidProxy as exc:
        raise InvalidProxy(exc.proxy, f"{exc.msg}; it comes from {origin}") from None


def _system_proxy(uri: WebSocketURI) -> tuple[str, str] | None:
    """Return the URI of the system's proxy for a server, and the name of the setting; or None."""
    if _is_loopback(uri.host):
        return None
    environment = urllib.request.getproxies_environment()
    proxies = environment or urllib.request.getproxies()
    names = [name for name in SYSTEM_PROXIES[uri.secure] if proxies.get(name, "").strip()]
    # The first check is for the settings, and for the rules that earlier releases applied to the environment.
    if not names or urllib.request.proxy_bypass(f"{uri.host}:{uri.port}") or _is_exempt(uri, proxies.get("no", "")):
        return None
    if environment:
        return _proxy_in(proxies, names[0]), f"the environment variable {_variable(names[0], proxies)}"
    # If Windows has a SOCKS proxy for all protocols, urllib also returns it for protocols without another proxy.
    names.sort(key=lambda name: proxies[name].startswith("socks://"))
    # The settings weren't made for this library, so skip a proxy of an unknown kind if there is another one.
    name = next((name for name in names if _is_usable(_proxy_in(proxies, name))), names[0])
    return _proxy_in(proxies, name), f"the system's settings for {name}"


def _proxy_in(proxies: dict[str, str], name: str) -> str:
    """Return the URI of one of the system's proxies."""
    proxy = proxies[name].strip()
    # The settings of macOS have only an address; urllib adds "http://" to it.
    address = proxy.removeprefix("http://")
    return f"socks5h://{address}" if name == "socks" and "://" not in address else proxy


def _is_usable(proxy: str) -> bool:
    try:
        parse_proxy(proxy)
    except InvalidProxy:
        return False
    return True


def _variable(name: str, proxies: dict[str, str]) -> str:
    """Return the name of the environment variable that has a proxy."""
    lower = f"{name}_proxy"
    others = (key for key, value in os.environ.items() if key.lower() == lower and value == proxies[name])
    return lower if os.environ.get(lower) else next(others, lower)


# Exceptions: servers that are not behind the proxy.


def _is_exempt(uri: WebSocketURI, no_proxy: str) -> bool:
    """Return whether a list of exceptions contains a server.

    An entry is a name, with or without a leading dot, which includes all subdomains; ``*.`` and a name, for subdomains
    only; an address, in any spelling; or a network. Each may have a port. The entry ``*`` means all servers.
    """
    return any(_matches(entry, uri.host, uri.port) for entry in re.split(r"[,\s]+", no_proxy))


def _matches(entry: str, host: str, port: int) -> bool:
    parts = split_entry(entry)
    address, name, wanted = parts.groups() if parts else (entry, None, None)
    pattern = (address or name or "").lower()
    if wanted and wanted != str(port):
        return False
    if pattern == "*":
        return True
    network = _network(host)
    if network is None:
        return _matches_name(pattern, host.rstrip("."))
    pattern, percent, zone = pattern.partition("%")
    exempt = _network(pattern)
    return exempt is not None and network[0] in exempt and (not percent or host.endswith(f"%{zone}"))


def _matches_name(pattern: str, host: str) -> bool:
    pattern = pattern.rstrip(".")
    if pattern.startswith("*."):
        return host.endswith(pattern[1:])
    pattern = pattern.lstrip(".")
    return pattern != "" and (host == pattern or host.endswith(f".{pattern}"))


def _network(text: str) -> ipaddress.IPv4Network | ipaddress.IPv6Network | None:
    """Return the network in a text, or an address as a network with one address; None if it is neither."""
    try:
        network = ipaddress.ip_network(text.partition("%")[0], strict=False)
    except ValueError:
        return None
    if isinstance(network, ipaddress.IPv6Network) and network.prefixlen >= 96:
        mapped = network.network_address.ipv4_mapped
        return network if mapped is None else ipaddress.IPv4Network((mapped, network.prefixlen - 96))
    return network


@functools.lru_cache(maxsize=64)
def _is_loopback(host: str) -> bool:
    """Return whether *host* is the loopback interface, by name (RFC 6761 section 6.3) or address."""
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

    The scheme defaults to ``http``, and the port to that of the scheme. Credentials are percent-decoded; a user name
    alone has an empty password. Path, query and fragment are ignored.

    Parameters:
        proxy: the URI; blanks around it are ignored.

    Raises:
        InvalidProxy: it isn't the URI of a proxy.
    """
    return _parsed(proxy, _parse_proxy, InvalidProxy)


def _parse_proxy(proxy: str) -> Proxy:
    """Parse like :func:`parse_proxy`, but raise ValueError with the reason."""
    proxy = proxy.strip()
    given, colon, _ = proxy.partition(":")
    if "://" not in proxy and not (colon and _scheme(given) in DEFAULT_PORTS):
        proxy = f"http://{proxy}"
    given, authority, path, query, fragment = _split_uri(proxy)
    scheme = _scheme(given)
    if scheme not in DEFAULT_PORTS:
        raise ValueError(f"scheme {scheme} isn't supported" if is_scheme(scheme) else "scheme isn't supported")
    if "@" in path + query + fragment:
        raise ValueError("special characters in credentials must be percent-encoded")
    user_info, _, host_port = authority.rpartition("@")
    host, port = _parse_host_port(host_port)
    result = Proxy(scheme, host, port or DEFAULT_PORTS[scheme])
    if user_info:
        result.username, result.password = _parse_user_info(user_info)
        if ":" in result.username and scheme in ("http", "https"):
            raise ValueError("username must not contain a colon")  # RFC 7617 section 2
    return result


def _scheme(given: str) -> str:
    scheme = given.lower()
    return ALIASES.get(scheme, scheme)


def _parse_user_info(user_info: str) -> tuple[str, str]:
    """Return user name and password; unlike in HTTP, the user name may have a colon (RFC 1929 section 2)."""
    username, _, password = user_info.partition(":")
    # Keep bytes that are not UTF-8, because Basic authentication sends them unchanged.
    username, password = (unquote(part, "utf-8", "surrogateescape") for part in (username, password))
    (username + password).encode("utf-8", "surrogateescape")  # raise now, and not while connecting
    return username, password


# Failures while connecting through the proxy.


class Route:
    """The route to a server through a proxy; as a context manager, it names the proxy in every error.

    Parameters:
        proxy: the proxy.
        end: URI of the server.

    Attributes:
        stage: the current stage of the connection, as the end of a sentence.
    """

    def __init__(self, proxy: Proxy, end: WebSocketURI) -> None:
        self.proxy = proxy
        self.end = end
        self.stage = REACHING

    def __enter__(self) -> Route:
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        # Without the note, users may think that the address in the error is that of the server.
        if exc is not None:
            server = f"{self.end.host} port {self.end.port}"
            exc.add_note(f"The connection to {server} goes through the proxy {self.proxy}; it failed {self.stage}")


# The tunnel: RFC 9110 section 9.3.6.


def build_connect_request(proxy: Proxy, uri: WebSocketURI, user_agent: str | None) -> bytes:
    """Return the bytes of the request for a tunnel to a server; the same as :func:`connect_request`."""
    return connect_request(proxy, uri, user_agent).serialize()


def connect_request(proxy: Proxy, uri: WebSocketURI, user_agent: str | None) -> Request:
    """Return the request for a tunnel to a server.

    Parameters:
        proxy: the proxy, with its credentials.
        uri: URI of the server.
        user_agent: value of the ``User-Agent`` header; ``None`` or empty to leave it out.

    Raises:
        ValueError: the host of *uri* can't be sent in a request line.
    """
    headers = Headers()
    headers["Host"] = build_host(uri.host, uri.port, uri.secure)
    if user_agent:
        headers["User-Agent"] = user_agent
    if proxy.user_info is not None:
        headers["Proxy-Authorization"] = build_authorization_basic(*proxy.user_info)
    authority = build_host(uri.host, uri.port, uri.secure, always_include_port=True)
    return Request(authority, headers, "CONNECT")


class ConnectReader:
    """Reads the response to a request for a tunnel, with the limits of an opening handshake.

    Parameters:
        logger: where to log the response at DEBUG; None to log nothing.

    Attributes:
        rest: data after the response, from the tunnel; valid after :meth:`feed` has returned True.
    """

    def __init__(self, logger: LoggerLike | None = None) -> None:
        self._logger = logger
        # Read only the head, because the body of a refusal may never end.
        self._parser = ResponseHeadParser(proxy=True)
        self.rest = b""

    def feed(self, data: bytes) -> bool:
        """Read data; return whether the tunnel is open. Don't call it again after that, or after an error.

        Raises:
            InvalidProxyStatus: the proxy refuses.
            InvalidProxyMessage: the response isn't HTTP, or exceeds a limit; the cause is chained.
        """
        try:
            response = self._parser.feed(data)
        except (ValueError, SecurityError) as exc:
            raise _invalid_message() from exc
        if response is None:
            return False
        if self._logger is not None:
            reason = printable(response.reason_phrase)
            self._logger.debug("< %s %d %s", response._protocol, response.status_code, reason)
            log_headers(self._logger, "<", response.headers)
        if not 200 <= response.status_code < 300:
            raise InvalidProxyStatus(response)
        self.rest = self._parser.rest
        return True

    def eof(self, cause: Exception | None = None) -> InvalidProxyMessage:
        """Return the error to raise when the connection ended before the response was complete.

        Parameters:
            cause: the exception, if the connection was lost.
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


# Names from earlier releases.
if not TYPE_CHECKING:
    __getattr__ = deprecated_names(__name__)
