"""Proxies between a client and a server: which one to use, what to ask of it, and what its answer means.

May know: the proxies of the system, URIs of proxies, the exchange that opens a tunnel (RFC 9110 section 9.3.6).
Must not know: how to connect to anything, TLS, SOCKS beyond its name.

Errors name the proxy, but its credentials show in the attributes named after them and nowhere else.
"""

from __future__ import annotations

import dataclasses
import ipaddress
import os
import re
import urllib.request
from types import TracebackType
from typing import TYPE_CHECKING, Final
from urllib.parse import unquote

from ._compat.deprecated import deprecated_names
from .datastructures import Headers
from .exceptions import InvalidProxy, InvalidProxyMessage, InvalidProxyStatus, SecurityError
from .headers import build_authorization_basic, build_host
from .http11 import Request, ResponseHeadParser
from .uri import WebSocketURI, _parse_host_port, _parsed, _split_uri

__all__ = ["Proxy", "get_proxy", "parse_proxy"]

# The port of each kind of proxy: RFC 9110 sections 4.2.1 and 4.2.2, and what RFC 1928 section 3 says of SOCKS.
DEFAULT_PORTS: Final = {"http": 80, "https": 443, "socks4": 1080, "socks4a": 1080, "socks5": 1080, "socks5h": 1080}

# Other names of schemes. Version 4 is how curl reads this one, and urllib in the settings of Windows.
ALIASES: Final = {"socks": "socks4"}

# Where the system may name a proxy for us, in the order of preference.
SYSTEM_PROXIES: Final = {False: ("ws", "socks", "https", "http", "all"), True: ("wss", "socks", "https", "all")}

# The parts of an entry of no_proxy, which are an IPv6 address in brackets, or a name or IPv4 address; and a port.
# An IPv6 address without brackets doesn't match, as its colons aren't before a port.
split_entry = re.compile(r"(?:\[([^\[\]]*+)\]|([^:\[\]]*+))(?::0*+([0-9]*+))?+").fullmatch

# How far a connection got on its way through a proxy.
REACHING: Final = "while reaching the proxy"
ASKING: Final = "while waiting for the tunnel"
REACHING_SOCKS: Final = "while reaching the proxy or waiting for its reply"
SECURING: Final = "in the TLS handshake with the server"
OPENING: Final = "in the opening handshake with the server"

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

    Environment variables name it. For ``wss://`` the first one that is set counts of ``wss_proxy``, ``socks_proxy``,
    ``https_proxy`` and ``all_proxy``; for ``ws://``, of ``ws_proxy``, ``socks_proxy``, ``https_proxy``, ``http_proxy``
    and ``all_proxy``. Lower case wins over upper case. ``no_proxy`` lists the exceptions. Only without such variables,
    macOS and Windows have settings; they may look up the address of the server to apply them. The loopback interface
    is never behind a proxy.

    Parameters:
        uri: where to connect.
    """
    found = _system_proxy(uri)
    return None if found is None else found[0]


def find_proxy(uri: WebSocketURI) -> Proxy | None:
    """Return the proxy that the system has for a server, or ``None``.

    Parameters:
        uri: where to connect.

    Raises:
        InvalidProxy: if it isn't the URI of a proxy; the error tells where it comes from.
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
    """Return the URI of the proxy that the system has for a server, and where it comes from; or None."""
    if _is_loopback(uri.host):
        return None
    environment = urllib.request.getproxies_environment()
    proxies = environment or urllib.request.getproxies()
    names = [name for name in SYSTEM_PROXIES[uri.secure] if proxies.get(name, "").strip()]
    # The first question is for the settings, and for what earlier releases took for a match in the environment.
    if not names or urllib.request.proxy_bypass(f"{uri.host}:{uri.port}") or _is_exempt(uri, proxies.get("no", "")):
        return None
    if environment:
        return _proxy_in(proxies, names[0]), f"the environment variable {_variable(names[0], proxies)}"
    # Where Windows has SOCKS for everything, urllib puts it in the place of the others, if these have nothing else.
    names.sort(key=lambda name: proxies[name].startswith("socks://"))
    # Nobody wrote these settings for us: one that is of no use does no harm as long as there is another.
    name = next((name for name in names if _is_usable(_proxy_in(proxies, name))), names[0])
    return _proxy_in(proxies, name), f"the system's settings for {name}"


def _proxy_in(proxies: dict[str, str], name: str) -> str:
    """Return the URI of a proxy among those of the system."""
    proxy = proxies[name].strip()
    # The settings of macOS give no more than an address, which urllib turns into this.
    address = proxy.removeprefix("http://")
    return f"socks5h://{address}" if name == "socks" and "://" not in address else proxy


def _is_usable(proxy: str) -> bool:
    try:
        parse_proxy(proxy)
    except InvalidProxy:
        return False
    return True


def _variable(name: str, proxies: dict[str, str]) -> str:
    """Return the environment variable that a proxy comes from."""
    lower = f"{name}_proxy"
    others = (key for key, value in os.environ.items() if key.lower() == lower and value == proxies[name])
    return lower if os.environ.get(lower) else next(others, lower)


# Exceptions: which servers are not behind the proxy.


def _is_exempt(uri: WebSocketURI, no_proxy: str) -> bool:
    """Return whether a list of exceptions has a server in it.

    Its entries are names, which have all subdomains in them, after a dot or not; subdomains only, after ``*.``;
    addresses, in any spelling; networks; each of these with a port or without; and ``*``, which is everything.
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
    """Return the network, or the address as a network of one, that a text means; None if it is neither."""
    try:
        network = ipaddress.ip_network(text.partition("%")[0], strict=False)
    except ValueError:
        return None
    if isinstance(network, ipaddress.IPv6Network) and network.prefixlen >= 96:
        mapped = network.network_address.ipv4_mapped
        return network if mapped is None else ipaddress.IPv4Network((mapped, network.prefixlen - 96))
    return network


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

    The scheme defaults to ``http``, the port to that of the scheme. Credentials are percent-decoded; a user name alone
    has an empty password. Path, query and fragment don't count.

    Parameters:
        proxy: the URI; blanks around it do not count.

    Raises:
        InvalidProxy: if it is no URI of a proxy.
    """
    return _parsed(proxy, _parse_proxy, InvalidProxy)


def _parse_proxy(proxy: str) -> Proxy:
    """Do what :func:`parse_proxy` does, and raise ValueError with what is wrong."""
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
    """Return user name and password. Other than in HTTP, the user name may have a colon (RFC 1929 section 2)."""
    username, _, password = user_info.partition(":")
    # Bytes that are not UTF-8 survive, Basic authentication sends them as they were.
    username, password = (unquote(part, "utf-8", "surrogateescape") for part in (username, password))
    (username + password).encode("utf-8", "surrogateescape")  # to fail now, and not while connecting
    return username, password


# Failures on the way.


class Route:
    """The way to a server through a proxy; as a context manager, it names the proxy in every error.

    Parameters:
        proxy: the proxy.
        end: where the tunnel leads.

    Attributes:
        stage: how far the connection got, in words that complete a sentence.
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
        # Otherwise nobody would know that the address which can't be reached isn't the server's.
        if exc is not None:
            server = f"{self.end.host} port {self.end.port}"
            exc.add_note(f"The connection to {server} goes through the proxy {self.proxy}; it failed {self.stage}")


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


# Names from earlier releases.
if not TYPE_CHECKING:
    __getattr__ = deprecated_names(__name__)
