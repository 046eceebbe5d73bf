"""Options of connections, checked once, before anything waits or is opened.

May know: what users may pass and what it means for the floors below. Must not know: front-ends, sockets.
"""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeVar

from ._capacity import Capacity
from ._handshake import HostNames
from ._proxy_protocol import TrustedProxies
from .extensions.base import ClientExtensionFactory, ServerExtensionFactory
from .extensions.permessage_deflate import enable_client_permessage_deflate, enable_server_permessage_deflate
from .headers import validate_subprotocols
from .typing import HostsLike, Subprotocol
from .uri import WebSocketURI

__all__ = [
    "check_tls",
    "checked_capacity",
    "checked_hosts",
    "checked_proxy_protocol",
    "checked_seconds",
    "checked_subprotocols",
    "client_extensions",
    "connection_arguments",
    "idle_option",
    "queue_marks",
    "renamed_argument",
    "server_extensions",
    "takes_path",
    "tls_after_header",
    "tls_times",
    "write_marks",
]

T = TypeVar("T")


def queue_marks(max_queue: int | tuple[int | None, int | None] | None) -> tuple[int | None, int]:
    """The number of frames waiting above which reading pauses, and the one at which it resumes.

    Parameters:
        max_queue: the first, or both; the second is a quarter of the first unless given. None for no limit.

    Raises:
        ValueError: they are negative, or in the wrong order.
    """
    high, low = max_queue if isinstance(max_queue, tuple) else (max_queue, None)
    if high is None:
        if low is None:
            return None, 0
        high = 4 * low
    if low is None:
        low = high // 4
    if low < 0:
        raise ValueError(f"low must be positive or equal to zero: {low}")
    if high < low:
        raise ValueError(f"high must be greater than or equal to low: {high} < {low}")
    return high, low


def write_marks(write_limit: int | tuple[int, int | None]) -> tuple[int, int | None]:
    """The sizes in bytes between which a transport asks to pause and to resume writing."""
    return write_limit if isinstance(write_limit, tuple) else (write_limit, None)


def server_extensions(
    extensions: Sequence[ServerExtensionFactory] | None, compression: str | None
) -> Sequence[ServerExtensionFactory] | None:
    """The extensions of a server: those given, and compression unless it is among them or turned off.

    Raises:
        ValueError: ``compression`` is neither "deflate" nor None.
    """
    return enable_server_permessage_deflate(extensions) if _deflates(compression) else extensions


def client_extensions(
    extensions: Sequence[ClientExtensionFactory] | None, compression: str | None
) -> Sequence[ClientExtensionFactory] | None:
    """The extensions of a client: those given, and compression unless it is among them or turned off.

    Raises:
        ValueError: ``compression`` is neither "deflate" nor None.
    """
    return enable_client_permessage_deflate(extensions) if _deflates(compression) else extensions


def _deflates(compression: str | None) -> bool:
    if compression not in ("deflate", None):
        raise ValueError(f"unsupported compression: {compression}")
    return compression is not None


def checked_subprotocols(subprotocols: Sequence[Subprotocol] | None) -> Sequence[Subprotocol] | None:
    """Subprotocols as they were given.

    Raises:
        TypeError: they aren't a sequence, or they are a string.
        ValueError: one of them isn't a token of HTTP.
    """
    if subprotocols is not None:
        validate_subprotocols(subprotocols)
    return subprotocols


def checked_seconds(name: str, seconds: float | None, *, zero: bool = False) -> float | None:
    """A length of time as it was given; None for no limit.

    Parameters:
        name: the option, for the error.
        seconds: what was given.
        zero: whether it may be no time at all.

    Raises:
        TypeError: it isn't a number.
        ValueError: it is negative, or zero where that makes no sense, or not a number in the sense of floats.
    """
    if seconds is None:
        return None
    if isinstance(seconds, bool) or not isinstance(seconds, int | float):
        raise TypeError(f"{name} must be a number of seconds or None, not {seconds!r}")
    if not (seconds >= 0 if zero else seconds > 0):
        raise ValueError(f"{name} must be positive{' or equal to zero' if zero else ''}: {seconds}")
    return seconds


def idle_option(idle_timeout: float | None) -> dict[str, Any]:
    """``idle_timeout`` as an argument for connections; none if it isn't used: who makes them may not know of it.

    Raises:
        TypeError: it isn't a number.
        ValueError: it isn't positive.
    """
    seconds = checked_seconds("idle_timeout", idle_timeout)
    return {} if seconds is None else {"idle_timeout": seconds}


def checked_capacity(max_connections: int | None, max_connections_per_host: int | None) -> Capacity[Any] | None:
    """What keeps a server to its limits; None if there are none.

    Raises:
        TypeError: a limit isn't a whole number.
        ValueError: it leaves room for nobody.
    """
    limits = {"max_connections": max_connections, "max_connections_per_host": max_connections_per_host}
    for name, limit in limits.items():
        if limit is None:
            continue
        if isinstance(limit, bool) or not isinstance(limit, int):
            raise TypeError(f"{name} must be a whole number or None, not {limit!r}")
        if limit < 1:
            raise ValueError(f"{name} must be at least 1: {limit}")
    if max_connections is None and max_connections_per_host is None:
        return None
    return Capacity(max_connections, max_connections_per_host)


def checked_hosts(hosts: HostsLike | None) -> HostNames | None:
    """The names that a server answers to, ready to be compared; None for any.

    Raises:
        TypeError: there is something among them that is neither a name nor a pattern.
        ValueError: there are none, or one can't be the name of a host.
    """
    return None if hosts is None else HostNames.of(hosts)


def checked_proxy_protocol(proxy_protocol: Iterable[str] | None) -> TrustedProxies | None:
    """The proxies that send a header of the PROXY protocol; None without it.

    Raises:
        TypeError: they aren't strings, or not several.
        ValueError: there are none, or one is neither an address nor a network.
    """
    return None if proxy_protocol is None else TrustedProxies.of(proxy_protocol)


def tls_times(arguments: dict[str, Any], open_timeout: float | None, close_timeout: float | None) -> dict[str, Any]:
    """Arguments of a listening socket, with the limits of TLS handshakes that follow from those of WebSocket's."""
    if arguments.get("ssl") is None:
        return arguments
    times = {"ssl_handshake_timeout": open_timeout, "ssl_shutdown_timeout": close_timeout}
    return {**{name: time for name, time in times.items() if time is not None}, **arguments}


def tls_after_header(arguments: dict[str, Any]) -> dict[str, Any] | None:
    """Take TLS out of the arguments of a listening socket, as it starts behind a header of the PROXY protocol.

    Returns:
        Arguments for ``start_tls()``; None without TLS.

    Raises:
        TypeError: ``ssl`` isn't a context.
    """
    if arguments.get("ssl") is None:
        return None
    context = arguments.pop("ssl")
    if isinstance(context, bool):
        raise TypeError(f"ssl must be an SSLContext or None, not {context!r}")
    times = ("ssl_handshake_timeout", "ssl_shutdown_timeout")
    return {"sslcontext": context, **{name: arguments.pop(name) for name in times if name in arguments}}


def check_tls(uri: WebSocketURI, arguments: dict[str, Any]) -> None:
    """Hold ``ssl`` to what the URI says.

    Raises:
        ValueError: one asks for TLS and the other forbids it.
    """
    # Anything that isn't true turns TLS off, further down.
    if uri.secure and not arguments.get("ssl", True):
        raise ValueError(f"ssl={arguments['ssl']} is incompatible with a wss:// URI")
    if not uri.secure and arguments.get("ssl") is not None:
        raise ValueError("ssl argument is incompatible with a ws:// URI")


def connection_arguments(uri: WebSocketURI, arguments: dict[str, Any]) -> dict[str, Any]:
    """Arguments for making the TCP connection, from the URI where the user doesn't say otherwise.

    Parameters:
        uri: where to connect.
        arguments: what the user says; ``host`` and ``port`` change the place, but not the name in TLS.
    """
    places_itself = arguments.get("unix") or arguments.get("sock") is not None
    defaults: dict[str, Any] = {} if places_itself else {"host": uri.host, "port": uri.port}
    if uri.secure:
        defaults["ssl"] = True
        defaults["server_hostname"] = uri.host
    return {**defaults, **arguments}


def takes_path(handler: Callable[..., Any]) -> bool:
    """Whether a connection handler is one of the oldest, which take the path of the request beside the connection."""
    try:
        parameters = inspect.signature(handler).parameters.values()
    except (TypeError, ValueError):  # some callables don't tell
        return False
    positional = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    return sum(p.kind in positional and p.default is p.empty for p in parameters) == 2


def renamed_argument(arguments: dict[str, Any], old: str, new: str, value: T | None) -> T | None:
    """The value of an argument that had another name once, and may still be passed under it.

    Parameters:
        arguments: keyword arguments that have no place of their own; ``old`` is taken out of them.
        old: the name of old.
        new: the name of today.
        value: what was passed under the name of today.
    """
    if old not in arguments:
        return value
    warnings.warn(f"{old} was renamed to {new}", DeprecationWarning, stacklevel=3)
    older: T = arguments.pop(old)
    return older if value is None else value
