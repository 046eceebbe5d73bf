"""Options of clients, servers and connections, as the front-ends keep them: checked once, before anything is opened.

May know: the table of options, how they depend on each other, what they mean for the floors below. Must not know:
front-ends, sockets.

A front-end gives its parameters, as ``locals()`` has them at the beginning of ``connect()`` or ``serve()``.
"""

from __future__ import annotations

import functools
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, Self, TypeVar

from .._codec.proxy_protocol import TrustedProxies
from .._rules import option_table as allowed
from .._rules.capacity import Capacity
from .._rules.option_checks import required_parameters, takes_path
from .._rules.option_table import check, check_all, check_keywords
from ..client import ClientProtocol
from ..extensions.base import ClientExtensionFactory, ServerExtensionFactory
from ..extensions.permessage_deflate import enable_client_permessage_deflate, enable_server_permessage_deflate
from ..proxy import parse_proxy
from ..server import ServerProtocol, defer_subprotocol
from ..typing import LoggerLike
from ..uri import WebSocketURI, lookup_name, parse_uri, tls_name
from .session import Timing

__all__ = [
    "ClientOptions",
    "ServerOptions",
    "check_client",
    "check_keepalive",
    "check_tls",
    "client_extensions",
    "connection_arguments",
    "connection_settings",
    "listening_arguments",
    "queue_marks",
    "renamed_argument",
    "server_extensions",
    "shows_path",
    "tls_after_header",
    "tls_times",
    "write_marks",
]

T = TypeVar("T")

Arguments = dict[str, Any]

NO_ARGUMENTS: Arguments = {}  # nobody changes it

# What goes to each connection, and what goes to its protocol.
OF_CONNECTIONS = ("ping_interval", "ping_timeout", "close_timeout", "max_queue", "write_limit")
OF_CLIENT_PROTOCOLS = ("origin", "extensions", "subprotocols", "max_size", "logger")
OF_SERVER_PROTOCOLS = ("origins", "hosts", "extensions", "subprotocols", "max_size", "logger")


class ClientOptions(NamedTuple):
    """What ``connect()`` was told; it doesn't change.

    Attributes:
        uri: where to connect.
        open_timeout: seconds that it may take.
        proxy: which proxy to use.
        additional_headers, user_agent_header: of the request.
        process_exception, reconnect_delays: when to connect again; None for the usual.
        create_connection: what makes connections; None for the class of the front-end.
        arguments: of the method of the loop that makes the TCP connection.
        of_connection: of ``create_connection``.
        of_protocol: of the protocol of each connection, but its URI.
    """

    uri: WebSocketURI
    open_timeout: float | None
    proxy: Any
    additional_headers: Any
    user_agent_header: str | None
    process_exception: Callable[[Exception], Exception | None] | None
    reconnect_delays: Callable[[], Iterator[float]] | None
    create_connection: Callable[..., Any] | None
    arguments: Arguments
    of_connection: Arguments
    of_protocol: Arguments

    @classmethod
    def of(cls, given: Arguments, logger: LoggerLike) -> Self:
        """Check the parameters of ``connect()``.

        Parameters:
            given: the parameters; those without a name are in "kwargs".
            logger: where to log, if "logger" is None.

        Raises:
            TypeError: an option has a wrong type, or nobody takes it.
            ValueError: an option has a wrong value, or options contradict each other or the URI.
            InvalidURI: the URI isn't one.
            InvalidProxy: ``proxy`` isn't the URI of a proxy.
        """
        given = dict(given)  # up to Python 3.12, a debugger that looks at the caller's frame undoes changes
        uri = parse_uri(given["uri"])
        check_tls(uri, given["kwargs"])
        arguments = check_client("connect", given, allowed.CONNECT)
        unused = arguments.get("unix") or arguments.get("sock") is not None
        if given["proxy"] is not None and given["proxy"] is not True and not unused:
            parse_proxy(given["proxy"])
        given["extensions"] = client_extensions(given["extensions"], given["compression"])
        if given["logger"] is None:
            given["logger"] = logger
        return cls(
            uri=uri,
            open_timeout=given["open_timeout"],
            proxy=given["proxy"],
            additional_headers=given["additional_headers"],
            user_agent_header=given["user_agent_header"],
            process_exception=given["process_exception"],
            reconnect_delays=given["reconnect_delays"],
            create_connection=given["create_connection"],
            arguments=arguments,
            of_connection=_of_connection(given),
            of_protocol={name: given[name] for name in OF_CLIENT_PROTOCOLS},
        )

    @property
    def logger(self) -> LoggerLike:
        """Where to log."""
        logger: LoggerLike = self.of_protocol["logger"]
        return logger

    def protocol(self, uri: WebSocketURI) -> ClientProtocol:
        """The protocol of a connection.

        Parameters:
            uri: where it leads.
        """
        return ClientProtocol._of(uri, self.of_protocol)


def check_client(who: str, given: Arguments, taker: str) -> Arguments:
    """Check the parameters of a client, and return those for the loop.

    Parameters:
        who: the function that was called.
        given: its parameters; those without a name are in "kwargs".
        taker: the same function, as the table of options names it.

    Raises:
        TypeError: one has a wrong type, or nobody takes it.
        ValueError: one has a wrong value.
    """
    arguments: Arguments = given["kwargs"]
    check_all(given, taker)
    if arguments:
        check_keywords(who, arguments, taker, allowed.UNIX_CLIENT if arguments.get("unix") else allowed.TCP_CLIENT)
        check_place(arguments, arguments.get("sock"))
    check_keepalive(given)
    return arguments


class ServerOptions(NamedTuple):
    """What ``serve()`` was told; one object serves all connections, and doesn't change.

    Attributes:
        handler: what is called with each connection.
        takes_path: whether it wants the path of the request, too.
        open_timeout: seconds that the opening handshake may take.
        process_request, process_response, select_subprotocol: hooks of the user.
        asks: whether the user has to be asked for an answer, which may take its time.
        server_header: of the response.
        capacity: what keeps the server to its limits; None if there are none.
        proxies: who sends a header of the PROXY protocol; None if nobody does.
        tls: of the method of the loop that starts TLS behind such a header; None without header or TLS.
        create_connection: what makes connections; None for the class of the front-end.
        arguments: of the method of the loop that makes the listening server.
        of_connection: of ``create_connection``.
        of_protocol: of the protocol of each connection.
    """

    handler: Any = None
    takes_path: bool = False
    open_timeout: float | None = None
    process_request: Any = None
    process_response: Any = None
    select_subprotocol: Any = None
    asks: bool = False
    server_header: str | None = None
    capacity: Capacity[Any] | None = None
    proxies: TrustedProxies | None = None
    tls: Arguments | None = None
    create_connection: Callable[..., Any] | None = None
    arguments: Arguments = NO_ARGUMENTS
    of_connection: Arguments = NO_ARGUMENTS
    of_protocol: Arguments = NO_ARGUMENTS

    @classmethod
    def of(cls, given: Arguments, logger: LoggerLike) -> Self:
        """Check the parameters of ``serve()``.

        Parameters:
            given: the parameters; those without a name are in "kwargs".
            logger: where to log, if "logger" is None.

        Raises:
            TypeError: an option has a wrong type, or nobody takes it.
            ValueError: an option has a wrong value, or options contradict each other.
        """
        given = dict(given)  # as above
        check_all(given, allowed.SERVE)
        if given["process_request"] is None:
            # Otherwise that may answer all requests, and the handler be anything.
            if given["handler"] is None:
                raise TypeError("handler must be an async function, not None: process_request answers no request")
            given["handler"] = check("handler", given["handler"], allowed.RUN)
        arguments = listening_arguments("serve", given, allowed.SERVE)
        check_keepalive(given)
        given["extensions"] = server_extensions(given["extensions"], given["compression"])
        if given["logger"] is None:
            given["logger"] = logger
        limits = given["max_connections"], given["max_connections_per_host"]
        of_protocol = {name: given[name] for name in OF_SERVER_PROTOCOLS}
        if given["select_subprotocol"] is not None:
            of_protocol["select_subprotocol"] = defer_subprotocol
        return cls(
            handler=given["handler"],
            takes_path=takes_path(given["handler"]),
            open_timeout=given["open_timeout"],
            process_request=given["process_request"],
            process_response=given["process_response"],
            select_subprotocol=given["select_subprotocol"],
            asks=given["process_request"] is not None or given["process_response"] is not None,
            server_header=given["server_header"],
            capacity=None if limits == (None, None) else Capacity(*limits),
            proxies=given["proxy_protocol"],
            tls=None if given["proxy_protocol"] is None else tls_after_header(arguments),
            create_connection=given["create_connection"],
            arguments=arguments,
            of_connection=_of_connection(given),
            of_protocol=of_protocol,
        )

    @property
    def logger(self) -> LoggerLike:
        """Where to log."""
        logger: LoggerLike = self.of_protocol["logger"]
        return logger

    def protocol(self) -> ServerProtocol:
        """The protocol of a connection."""
        return ServerProtocol._of(self.of_protocol)


def listening_arguments(who: str, given: Arguments, taker: str) -> Arguments:
    """Check what is for the loop among the parameters of a server, and return that.

    Parameters:
        who: the function that was called.
        given: its parameters; those without a name are in "kwargs".
        taker: the same function, as the table of options names it.

    Raises:
        TypeError: one has a wrong type, or nobody takes it.
        ValueError: one has a wrong value, or they don't say where to listen.
    """
    arguments: Arguments = given["kwargs"]
    unix = arguments.pop("unix", "path" in arguments)
    loop = allowed.UNIX_SERVER if unix else allowed.TCP_SERVER
    check_keywords(who, arguments, taker, loop)
    place = {"path": arguments.pop("path", None)} if unix else {"host": given["host"], "port": given["port"]}
    check_place(place, arguments.get("sock"))
    return {**place, **tls_times(arguments, given["open_timeout"], given["close_timeout"])}


def check_place(place: Mapping[str, Any], sock: Any) -> None:
    """Hold who connects or listens to one place.

    Raises:
        ValueError: there are two.
    """
    if sock is not None:
        for name in ("host", "port", "path"):
            if place.get(name) is not None:
                raise ValueError(f"{name} is incompatible with sock")


def check_keepalive(given: Mapping[str, Any]) -> None:
    """Hold ``ping_timeout`` to ``ping_interval``.

    Raises:
        ValueError: no answer to a keepalive ping could come in time.
    """
    if given["ping_timeout"] == 0 and given["ping_interval"] is not None:
        raise ValueError("ping_timeout must be positive, or None for no limit, not 0: no pong comes so soon")


def _of_connection(given: Arguments) -> Arguments:
    """What ``create_connection`` is called with; ``idle_timeout`` only if it is used, as not all know of it."""
    names = OF_CONNECTIONS if given["idle_timeout"] is None else (*OF_CONNECTIONS, "idle_timeout")
    return {name: given[name] for name in names}


class Settings(NamedTuple):
    """What a connection needs to know, checked: times, and marks of its buffers."""

    timing: Timing
    queue: tuple[int | None, int]
    write: tuple[int | None, int | None]


def connection_settings(*given: Any) -> Settings:
    """Check the parameters of a connection.

    Parameters:
        *given: :data:`OF_CONNECTIONS` and ``idle_timeout``; one object serves all connections that have the same.

    Raises:
        TypeError: one has a wrong type.
        ValueError: one has a wrong value.
    """
    try:
        return _settings(*given)
    except TypeError:
        # A list may stand in place of a tuple, but what is kept must not be one. Or the error comes again.
        return _settings.__wrapped__(*given)


@functools.lru_cache(maxsize=64)
def _settings(*values: Any) -> Settings:
    given: Arguments = dict(zip((*OF_CONNECTIONS, "idle_timeout"), values, strict=True))
    check_all(given, allowed.CONNECTION)
    max_queue, write_limit = given.pop("max_queue"), given.pop("write_limit")
    return Settings(Timing(**given), queue_marks(max_queue), write_marks(write_limit))


def queue_marks(max_queue: int | tuple[int | None, int | None] | None) -> tuple[int | None, int]:
    """The number of frames waiting above which reading pauses, and the one at which it resumes.

    Parameters:
        max_queue: the first, or both; the second is a quarter of the first unless given. None for no limit.
    """
    high, low = max_queue if isinstance(max_queue, tuple) else (max_queue, None)
    if high is None:
        if low is None:
            return None, 0
        high = 4 * low
    # As many as can be counted, and more than anybody has.
    high = min(high, sys.maxsize)
    return high, high // 4 if low is None else min(low, high)


def write_marks(write_limit: int | tuple[int, int | None]) -> tuple[int, int | None]:
    """The sizes in bytes between which a transport asks to pause and to resume writing."""
    return write_limit if isinstance(write_limit, tuple) else (write_limit, None)


def server_extensions(
    extensions: Sequence[ServerExtensionFactory] | None, compression: str | None
) -> Sequence[ServerExtensionFactory] | None:
    """The extensions of a server: those given, and compression unless it is among them or turned off."""
    return extensions if compression is None else enable_server_permessage_deflate(extensions)


def client_extensions(
    extensions: Sequence[ClientExtensionFactory] | None, compression: str | None
) -> Sequence[ClientExtensionFactory] | None:
    """The extensions of a client: those given, and compression unless it is among them or turned off."""
    return extensions if compression is None else enable_client_permessage_deflate(extensions)


def tls_times(arguments: dict[str, Any], open_timeout: float | None, close_timeout: float | None) -> dict[str, Any]:
    """Arguments of a listening socket, with the limits of TLS handshakes that follow from those of WebSocket's."""
    if arguments.get("ssl") is None:
        return arguments
    times = {"ssl_handshake_timeout": open_timeout, "ssl_shutdown_timeout": close_timeout}
    # Loops refuse zero. Then they may take the time that they take by default: WebSocket's limit comes before.
    return {**{name: time for name, time in times.items() if time}, **arguments}


def tls_after_header(arguments: Arguments) -> Arguments | None:
    """Take TLS out of the arguments of a listening socket, as it starts behind a header of the PROXY protocol.

    Returns:
        Arguments for ``start_tls()``; None without TLS.
    """
    if arguments.get("ssl") is None:
        return None
    times = ("ssl_handshake_timeout", "ssl_shutdown_timeout")
    return {"sslcontext": arguments.pop("ssl"), **{name: arguments.pop(name) for name in times if name in arguments}}


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


def connection_arguments(
    uri: WebSocketURI, arguments: dict[str, Any], first: WebSocketURI | None = None
) -> dict[str, Any]:
    """Arguments for making the TCP connection, from the URI where the user doesn't say otherwise.

    Parameters:
        uri: where to connect.
        arguments: what the user says; ``host`` and ``port`` change the place, but not the name in TLS.
        first: where the user wanted to go, if a redirect may have led elsewhere.
    """
    if "server_hostname" in arguments and first is not None and tls_name(uri.host) != tls_name(first.host):
        # It is the name of another server, which must not pass for this one.
        arguments = {name: value for name, value in arguments.items() if name != "server_hostname"}
    places_itself = arguments.get("unix") or arguments.get("sock") is not None
    defaults: dict[str, Any] = {} if places_itself else {"host": lookup_name(uri.host), "port": uri.port}
    if uri.secure:
        defaults["ssl"] = True
        defaults["server_hostname"] = tls_name(uri.host)
    return {**defaults, **arguments}


def shows_path(handler: Any) -> bool:
    """Whether a handler of the legacy API takes the path of the request, too: it always went by what a handler shows.

    Parameters:
        handler: connection handler.
    """
    return len(required_parameters(handler)) == 2


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
