"""Options of clients, servers and connections, as the front-ends keep them: checked once, before anything is opened.

May know: the table of options, dependencies between options, their effect on the floors below. Must not know:
front-ends, sockets.

A front-end passes its parameters: the result of ``locals()`` at the beginning of ``connect()`` or ``serve()``.
"""

from __future__ import annotations

import functools
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final, NamedTuple, Self, TypeVar

from .._codec.proxy_protocol import TrustedProxies
from .._rules import option_table as allowed
from .._rules.capacity import Capacity
from .._rules.option_checks import required_parameters, takes_path
from .._rules.option_table import check, check_all, check_keywords
from .._rules.rates import Rates
from ..client import ClientProtocol, backoff, process_exception
from ..extensions.base import ClientExtensionFactory, ServerExtensionFactory
from ..extensions.permessage_deflate import enable_client_permessage_deflate, enable_server_permessage_deflate
from ..proxy import parse_proxy
from ..server import ServerProtocol, defer_subprotocol
from ..typing import LoggerLike
from ..uri import WebSocketURI, lookup_name, parse_uri, tls_name
from .session import Timing

__all__ = [
    "ASYNCIO_CLIENT",
    "ASYNCIO_SERVER",
    "LEGACY_CLIENT",
    "LEGACY_SERVER",
    "SYNC_CLIENT",
    "SYNC_SERVER",
    "TRIO_CLIENT",
    "TRIO_SERVER",
    "ClientOptions",
    "ClientTakers",
    "ServerOptions",
    "ServerTakers",
    "check_client",
    "check_keepalive",
    "check_tls",
    "client_extensions",
    "connection_arguments",
    "connection_maker",
    "connection_settings",
    "listener_arguments",
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

NO_ARGUMENTS: Arguments = {}  # never changed

# The options of each connection, and those of its protocol.
OF_CONNECTIONS = ("ping_interval", "ping_timeout", "close_timeout", "max_queue", "write_limit")
OF_CLIENT_PROTOCOLS = ("origin", "extensions", "subprotocols", "max_size", "logger")
OF_SERVER_PROTOCOLS = ("origins", "hosts", "extensions", "subprotocols", "max_size", "logger")


class ClientTakers(NamedTuple):
    """The functions of a front-end that take a client's options, by their names in the table; asyncio's by default.

    Attributes:
        connect: ``connect()``.
        tcp, unix: the functions that make connections.
        named: parameters of ``connect()`` that are for these functions; None means that they aren't given.
        sock: name of the argument for a connection that is open already.
        on_loop: whether an event loop has these functions.
    """

    connect: str = allowed.CONNECT
    tcp: str = allowed.TCP_CLIENT
    unix: str = allowed.UNIX_CLIENT
    named: tuple[str, ...] = ()
    sock: str = "sock"
    on_loop: bool = True


# Parameters for TLS.
NAMED_TLS = ("ssl", "server_hostname", "proxy_ssl", "proxy_server_hostname")

ASYNCIO_CLIENT: Final = ClientTakers()
LEGACY_CLIENT: Final = ClientTakers(connect=allowed.LEGACY_CONNECT)
SYNC_CLIENT: Final = ClientTakers(
    allowed.SYNC_CONNECT,
    allowed.SYNC_TCP_CLIENT,
    allowed.SYNC_UNIX_CLIENT,
    ("sock", *NAMED_TLS),
    on_loop=False,
)
TRIO_CLIENT: Final = ClientTakers(
    allowed.TRIO_CONNECT,
    allowed.TRIO_TCP_CLIENT,
    allowed.TRIO_UNIX_CLIENT,
    ("stream", *NAMED_TLS),
    "stream",
    on_loop=False,
)


class ClientOptions(NamedTuple):
    """The options of ``connect()``; they don't change.

    Attributes:
        uri: URI of the server.
        open_timeout: seconds that connecting may take; None for no limit.
        proxy: the ``proxy`` option.
        additional_headers, user_agent_header: headers of the request.
        process_exception, reconnect_delays: when to reconnect; None for the default.
        create_connection: class or factory of connections; None for the class of the front-end.
        arguments: arguments for the method of the event loop that makes the TCP connection.
        of_connection: arguments of ``create_connection``.
        of_protocol: arguments for the protocol of each connection, except its URI.
        rates: limits for what is received; None if there are none.
        tls_transport: name of the transport for TLS on asyncio; None for the best one.
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
    rates: Rates | None = None
    tls_transport: str | None = None

    @classmethod
    def of(cls, given: Arguments, logger: LoggerLike, takers: ClientTakers = ASYNCIO_CLIENT) -> Self:
        """Check the parameters of ``connect()``.

        Parameters:
            given: the parameters; other keyword arguments are in "kwargs".
            logger: where to log, if "logger" is None.
            takers: the functions of the front-end.

        Raises:
            TypeError: an option has a wrong type, or doesn't exist.
            ValueError: an option has a wrong value, or options contradict each other or the URI.
            InvalidURI: the URI isn't a WebSocket URI.
            InvalidProxy: ``proxy`` isn't the URI of a proxy.
        """
        given = dict(given)  # copied, because up to Python 3.12 a debugger may undo changes to locals()
        uri = parse_uri(given["uri"])
        for name in takers.named:
            if given[name] is not None:
                given["kwargs"][name] = given[name]
        check_tls(uri, given["kwargs"])
        # The usual functions need no check.
        if given["process_exception"] is process_exception:
            given["process_exception"] = None
        if given["reconnect_delays"] is backoff:
            given["reconnect_delays"] = None
        arguments = check_client("connect", given, takers)
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
            rates=_rates(given),
            tls_transport=given.get("tls_transport"),
            arguments=arguments,
            of_connection=_of_connection(given),
            of_protocol={name: given[name] for name in OF_CLIENT_PROTOCOLS},
        )

    @property
    def logger(self) -> LoggerLike:
        """The logger."""
        logger: LoggerLike = self.of_protocol["logger"]
        return logger

    def protocol(self, uri: WebSocketURI) -> ClientProtocol:
        """Return the protocol of a new connection.

        Parameters:
            uri: URI of the server.
        """
        return ClientProtocol._of(uri, self.of_protocol)


def check_client(who: str, given: Arguments, takers: ClientTakers) -> Arguments:
    """Check the parameters of a client, and return those for making the TCP connection.

    Parameters:
        who: name of the function that was called.
        given: its parameters; other keyword arguments are in "kwargs".
        takers: the functions of the front-end.

    Raises:
        TypeError: a parameter has a wrong type, or doesn't exist.
        ValueError: one has a wrong value.
    """
    arguments: Arguments = given["kwargs"]
    check_all(given, takers.connect)
    if arguments:
        check_keywords(who, arguments, takers.connect, takers.unix if arguments.get("unix") else takers.tcp)
        if takers.sock in arguments:
            check_place(arguments, arguments[takers.sock], takers.sock)
            arguments["sock"] = arguments.pop(takers.sock)
    if arguments.get("unix") and not takers.on_loop:
        check_path(arguments.get("path"), arguments.get("sock"))
    check_keepalive(given)
    return arguments


class ServerTakers(NamedTuple):
    """The functions of a front-end that take a server's options, by their names in the table; asyncio's by default.

    Attributes:
        serve: ``serve()``.
        run: a server that runs the handler.
        tcp, unix: the functions that make listening sockets, and take its other keyword arguments.
        handler: what a handler must be, as text.
        on_loop: whether it runs on an event loop, which does TLS with timeouts of its own, and checks the path.
        named: parameters of ``serve()`` that say where to listen, if there are no other keyword arguments.
    """

    serve: str = allowed.SERVE
    run: str = allowed.RUN
    tcp: str = allowed.TCP_SERVER
    unix: str = allowed.UNIX_SERVER
    handler: str = "an async function"
    on_loop: bool = True
    named: tuple[str, ...] = ()


ASYNCIO_SERVER: Final = ServerTakers()
LEGACY_SERVER: Final = ServerTakers(serve=allowed.LEGACY_SERVE)
SYNC_SERVER: Final = ServerTakers(
    allowed.SYNC_SERVE,
    allowed.SYNC_RUN,
    allowed.SYNC_TCP_SERVER,
    allowed.SYNC_UNIX_SERVER,
    "a function that isn't async",
    on_loop=False,
)
TRIO_SERVER: Final = ServerTakers(
    allowed.TRIO_SERVE, on_loop=False, named=("port", "host", "backlog", "listeners", "ssl")
)


class ServerOptions(NamedTuple):
    """The options of ``serve()``; all connections share one object, and it doesn't change.

    Attributes:
        handler: connection handler.
        takes_path: whether the handler also takes the path of the request.
        open_timeout: seconds that the opening handshake may take; None for no limit.
        process_request, process_response, select_subprotocol: hooks of the user.
        asks: whether a hook may choose the response, which may have to wait.
        server_header: value of the ``Server`` header.
        capacity: the limits for the number of connections; None if there are none.
        proxies: proxies that send a header of the PROXY protocol; None to expect no header.
        tls: arguments for the method of the event loop that starts TLS after such a header; None without header or TLS.
        create_connection: class or factory of connections; None for the class of the front-end.
        rates: limits for what is received on a connection; None if there are none.
        tls_transport: name of the transport for TLS on asyncio; None for the best one.
        arguments: arguments for the method of the event loop that makes the listening server.
        of_connection: arguments of ``create_connection``.
        of_protocol: arguments for the protocol of each connection.
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
    rates: Rates | None = None
    tls_transport: str | None = None
    arguments: Arguments = NO_ARGUMENTS
    of_connection: Arguments = NO_ARGUMENTS
    of_protocol: Arguments = NO_ARGUMENTS

    def without_connections(self) -> Self:
        """Return the same options, for a server that has no connections."""
        capacity = self.capacity
        return self._replace(capacity=None if capacity is None else Capacity(capacity.total, capacity.per_host))

    @classmethod
    def of(cls, given: Arguments, logger: LoggerLike, takers: ServerTakers = ASYNCIO_SERVER) -> Self:
        """Check the parameters of ``serve()``.

        Parameters:
            given: the parameters; other keyword arguments are in "kwargs".
            logger: where to log, if "logger" is None.
            takers: the functions of the front-end.

        Raises:
            TypeError: an option has a wrong type, or doesn't exist.
            ValueError: an option has a wrong value, or options contradict each other.
        """
        given = dict(given)  # copied, as in ClientOptions.of()
        check_all(given, takers.serve)
        if given["process_request"] is None:
            # With process_request, the handler may be None, because process_request may answer all requests.
            if given["handler"] is None:
                raise TypeError(f"handler must be {takers.handler}, not None: process_request answers no request")
            given["handler"] = check("handler", given["handler"], takers.run)
        arguments = listener_arguments(given, takers) if takers.named else listening_arguments("serve", given, takers)
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
            tls=tls_after_header(arguments) if given["proxy_protocol"] is not None and takers.on_loop else None,
            create_connection=given["create_connection"],
            rates=_rates(given),
            tls_transport=given.get("tls_transport"),
            arguments=arguments,
            of_connection=_of_connection(given),
            of_protocol=of_protocol,
        )

    @property
    def logger(self) -> LoggerLike:
        """The logger."""
        logger: LoggerLike = self.of_protocol["logger"]
        return logger

    @property
    def context(self) -> Any:
        """The TLS context, for front-ends that start TLS themselves; None without TLS."""
        return self.arguments.get("ssl") if self.tls is None else self.tls["sslcontext"]

    def protocol(self) -> ServerProtocol:
        """Return the protocol of a new connection."""
        return ServerProtocol._of(self.of_protocol)


def listening_arguments(who: str, given: Arguments, takers: ServerTakers) -> Arguments:
    """Check the parameters of a server that are for listening, and return them.

    Parameters:
        who: name of the function that was called.
        given: its parameters; other keyword arguments are in "kwargs".
        takers: the functions of the front-end.

    Raises:
        TypeError: a parameter has a wrong type, or doesn't exist.
        ValueError: a parameter has a wrong value, or there is no address to listen on.
    """
    arguments: Arguments = given["kwargs"]
    unix = arguments.pop("unix", "path" in arguments)
    check_keywords(who, arguments, takers.serve, takers.unix if unix else takers.tcp)
    place = {"path": arguments.pop("path", None)} if unix else {"host": given["host"], "port": given["port"]}
    check_place(place, arguments.get("sock"))
    if takers.on_loop:
        arguments = tls_times(arguments, given["open_timeout"], given["close_timeout"])
    elif unix:
        check_path(place["path"], arguments.get("sock"))
    return {**place, **arguments}


def check_path(path: Any, sock: Any) -> None:
    """Check that there is a Unix socket to connect to or to listen on; event loops check it later.

    Raises:
        ValueError: there is none.
    """
    if path is None and sock is None:
        raise ValueError("missing path argument")


def listener_arguments(given: Arguments, takers: ServerTakers) -> Arguments:
    """Check the parameters of a server on trio that are for listening, and return them.

    Parameters:
        given: parameters of ``serve()``.
        takers: the functions of the front-end, which name these parameters.

    Raises:
        ValueError: there is no address to listen on, or there are two.
    """
    arguments = {name: given[name] for name in takers.named}
    check_place(arguments, given["listeners"], "listeners")
    if given["listeners"] is None and given["port"] is None:
        raise ValueError("port is required when listeners is not provided")
    return arguments


def check_place(place: Mapping[str, Any], sock: Any, name_of_sock: str = "sock") -> None:
    """Check that there is only one address to connect to or to listen on.

    Raises:
        ValueError: there are two.
    """
    if sock is not None:
        for name in ("host", "port", "path", "backlog"):
            if place.get(name) is not None:
                raise ValueError(f"{name} is incompatible with {name_of_sock}")


def check_keepalive(given: Mapping[str, Any]) -> None:
    """Check that ``ping_timeout`` allows keepalive with ``ping_interval``.

    Raises:
        ValueError: no pong could arrive in time.
    """
    if given["ping_timeout"] == 0 and given["ping_interval"] is not None:
        raise ValueError("ping_timeout must be positive, or None for no limit, not 0: no pong comes so soon")


def _of_connection(given: Arguments) -> Arguments:
    """Return the arguments of ``create_connection``; ``idle_timeout`` only if set, as not all factories take it."""
    names = OF_CONNECTIONS if given["idle_timeout"] is None else (*OF_CONNECTIONS, "idle_timeout")
    # Threads and trio have no write_limit: there, send() waits until its bytes are written.
    return {name: given[name] for name in names if name in given}


def _rates(given: Arguments) -> Rates | None:
    """Return the limits for what is received; None if there are none, or the front-end has no such options."""
    messages, size = given.get("max_rate"), given.get("max_bytes_rate")
    return None if messages is None and size is None else Rates(messages, size, given["on_rate"] == "close")


def connection_maker(options: ClientOptions | ServerOptions, default: Callable[..., Any]) -> Callable[..., Any]:
    """Return the function that makes connections.

    Parameters:
        options: the options of ``connect()`` or ``serve()``.
        default: class of connections of the front-end.
    """
    make = functools.partial(options.create_connection or default, **options.of_connection)
    return make if options.rates is None else functools.partial(_make_limited, make, options.rates)


def _make_limited(make: Callable[..., Any], rates: Rates, *given: Any) -> Any:
    connection = make(*given)
    connection._ws_session.limit(rates)
    return connection


class Settings(NamedTuple):
    """The checked options of a connection: timeouts, and limits of its buffers."""

    timing: Timing
    queue: tuple[int | None, int]
    write: tuple[int | None, int | None]


def connection_settings(*given: Any) -> Settings:
    """Check the parameters of a connection.

    Parameters:
        *given: :data:`OF_CONNECTIONS` and ``idle_timeout``; connections with equal options share the result.

    Raises:
        TypeError: one has a wrong type.
        ValueError: one has a wrong value.
    """
    try:
        return _settings(*given)
    except TypeError:
        # A list is accepted in place of a tuple, but can't be cached. An error is raised again.
        return _settings.__wrapped__(*given)


@functools.lru_cache(maxsize=64)
def _settings(*values: Any) -> Settings:
    given: Arguments = dict(zip((*OF_CONNECTIONS, "idle_timeout"), values, strict=True))
    check_all(given, allowed.CONNECTION)
    max_queue, write_limit = given.pop("max_queue"), given.pop("write_limit")
    return Settings(Timing(**given), queue_marks(max_queue), write_marks(write_limit))


def queue_marks(max_queue: int | tuple[int | None, int | None] | None) -> tuple[int | None, int]:
    """Return the number of frames above which reading pauses, and the number at which it resumes.

    Parameters:
        max_queue: the first number, or both; the second is a quarter of the first by default. None for no limit.
    """
    high, low = max_queue if isinstance(max_queue, tuple) else (max_queue, None)
    if high is None:
        if low is None:
            return None, 0
        high = 4 * low
    # Reduce the limit to a number that C code can store.
    high = min(high, sys.maxsize)
    return high, high // 4 if low is None else min(low, high)


def write_marks(write_limit: int | tuple[int, int | None]) -> tuple[int, int | None]:
    """Return the sizes in bytes at which a transport pauses and resumes writing."""
    return write_limit if isinstance(write_limit, tuple) else (write_limit, None)


def server_extensions(
    extensions: Sequence[ServerExtensionFactory] | None, compression: str | None
) -> Sequence[ServerExtensionFactory] | None:
    """Return the extensions of a server, with compression added unless it is among them or turned off."""
    return extensions if compression is None else enable_server_permessage_deflate(extensions)


def client_extensions(
    extensions: Sequence[ClientExtensionFactory] | None, compression: str | None
) -> Sequence[ClientExtensionFactory] | None:
    """Return the extensions of a client, with compression added unless it is among them or turned off."""
    return extensions if compression is None else enable_client_permessage_deflate(extensions)


def tls_times(arguments: dict[str, Any], open_timeout: float | None, close_timeout: float | None) -> dict[str, Any]:
    """Return the arguments of a listening socket, with the timeouts of TLS set from those of WebSocket."""
    if arguments.get("ssl") is None:
        return arguments
    times = {"ssl_handshake_timeout": open_timeout, "ssl_shutdown_timeout": close_timeout}
    # Event loops refuse zero. Then leave out the timeout of TLS, because the timeout of WebSocket passes first.
    return {**{name: time for name, time in times.items() if time}, **arguments}


def tls_after_header(arguments: Arguments) -> Arguments | None:
    """Remove TLS from the arguments of a listening socket, as it starts after a header of the PROXY protocol.

    Returns:
        Arguments for ``start_tls()``; None without TLS.
    """
    if arguments.get("ssl") is None:
        return None
    times = ("ssl_handshake_timeout", "ssl_shutdown_timeout")
    return {"sslcontext": arguments.pop("ssl"), **{name: arguments.pop(name) for name in times if name in arguments}}


def check_tls(uri: WebSocketURI, arguments: dict[str, Any]) -> None:
    """Check that ``ssl`` agrees with the URI.

    Raises:
        ValueError: one asks for TLS and the other forbids it.
    """
    # Any false value turns TLS off.
    if uri.secure and not arguments.get("ssl", True):
        raise ValueError(f"ssl={arguments['ssl']} is incompatible with a wss:// URI")
    if not uri.secure and arguments.get("ssl") is not None:
        raise ValueError("ssl argument is incompatible with a ws:// URI")


def connection_arguments(
    uri: WebSocketURI, arguments: dict[str, Any], first: WebSocketURI | None = None
) -> dict[str, Any]:
    """Return the arguments for making the TCP connection, with defaults from the URI.

    Parameters:
        uri: URI of the server.
        arguments: arguments from the user; ``host`` and ``port`` change the address, but not the name in TLS.
        first: the URI of the user, before redirects.
    """
    if "server_hostname" in arguments and first is not None and tls_name(uri.host) != tls_name(first.host):
        # After a redirect to another host, this name belongs to another server.
        arguments = {name: value for name, value in arguments.items() if name != "server_hostname"}
    places_itself = arguments.get("unix") or arguments.get("sock") is not None
    defaults: dict[str, Any] = {} if places_itself else {"host": lookup_name(uri.host), "port": uri.port}
    if uri.secure:
        defaults["ssl"] = True
        defaults["server_hostname"] = tls_name(uri.host)
    return {**defaults, **arguments}


def shows_path(handler: Any) -> bool:
    """Return whether a handler of the legacy API takes the path of the request, by its visible signature.

    Parameters:
        handler: connection handler.
    """
    return len(required_parameters(handler)) == 2


def renamed_argument(arguments: dict[str, Any], old: str, new: str, value: T | None) -> T | None:
    """Return the value of an argument that was renamed, and may still be passed under its old name.

    Parameters:
        arguments: other keyword arguments; ``old`` is removed from them.
        old: the old name.
        new: the new name.
        value: the value that was passed under the new name.
    """
    if old not in arguments:
        return value
    warnings.warn(f"{old} was renamed to {new}", DeprecationWarning, stacklevel=3)
    older: T = arguments.pop(old)
    return older if value is None else value
