"""The table of options, for all front-ends: the allowed values of each option, and the functions that take it.

May know: names of options and of the functions that take them, checks of values. Must not know: the purpose of an
option, dependencies between options, front-ends.

To add an option, add a row to :data:`OPTIONS`: its name; its takers; the default; a check, from ``option_checks`` or a
new one there; and the allowed values, as text that follows "must be". ``python docs/make_options.py --write`` makes the
page about options from the table, and ``tests/core/test_options.py`` compares defaults with the signatures. A taker
calls :func:`check_all`, or :func:`check` for a single option.
"""

from __future__ import annotations

import difflib
import functools
import itertools
import operator
from collections.abc import Callable, Mapping, MutableMapping
from typing import Any, Final, NamedTuple

from ..http11 import SERVER, USER_AGENT
from . import option_checks as c
from . import rates as r
from . import thread_checks as t
from . import tls_transports as s
from .option_checks import Check, Unfit, UnfitHeader, optional, shown, strict

__all__ = ["OPTIONS", "Option", "check", "check_all", "check_keywords", "table"]

# The takers of options: functions and classes of the front-ends...
CONNECT: Final = "connect"
SERVE: Final = "serve"
CONNECTION: Final = "Connection"
TRIO_CONNECT: Final = "trio connect"
TRIO_SERVE: Final = "trio serve"
TRIO_CONNECTION: Final = "trio Connection"
CLIENT_PROTOCOL: Final = "ClientProtocol"
SERVER_PROTOCOL: Final = "ServerProtocol"
LEGACY_CONNECT: Final = "legacy connect"
LEGACY_SERVE: Final = "legacy serve"
LEGACY_CONNECTION: Final = "legacy connection"
CLOSE: Final = "close"
BROADCAST: Final = "broadcast"
ROUTE: Final = "route"
RUN: Final = "a server that runs the handler"
BASIC_AUTH: Final = "basic_auth"
LEGACY_BASIC_AUTH: Final = "legacy basic_auth"
SYNC_CONNECT: Final = "sync connect"
SYNC_LEGACY: Final = "sync connect without reconnection"
SYNC_SERVE: Final = "sync serve"
SYNC_ROUTE: Final = "sync route"
SYNC_RUN: Final = "a server that runs the handler in a thread"
SYNC_BASIC_AUTH: Final = "sync basic_auth"
# ...and, behind them, methods of event loops, functions that make sockets, and functions of trio.
TCP_CLIENT: Final = "create_connection"
TCP_SERVER: Final = "create_server"
UNIX_CLIENT: Final = "create_unix_connection"
UNIX_SERVER: Final = "create_unix_server"
SYNC_TCP_CLIENT: Final = "socket.create_connection"
SYNC_UNIX_CLIENT: Final = "a connected Unix socket"
SYNC_TCP_SERVER: Final = "socket.create_server"
SYNC_UNIX_SERVER: Final = "a listening Unix socket"
TRIO_TCP_CLIENT: Final = "open_tcp_stream"
TRIO_UNIX_CLIENT: Final = "open_unix_socket"

# Those of today's front-ends, and with those of the legacy API.
CONNECTS: Final = (CONNECT, SYNC_CONNECT, TRIO_CONNECT)
SERVES: Final = (SERVE, SYNC_SERVE, TRIO_SERVE)
MODERN: Final = (*CONNECTS, *SERVES, CONNECTION, TRIO_CONNECTION)
CLIENTS: Final = (*CONNECTS, LEGACY_CONNECT)
LOOP_SERVERS: Final = (SERVE, LEGACY_SERVE)
SERVERS: Final = (*SERVES, LEGACY_SERVE)
ALL: Final = (*CLIENTS, *SERVERS)
CONNECTIONS: Final = (CONNECTION, TRIO_CONNECTION, LEGACY_CONNECTION)
CLIENT_LOOPS: Final = (TCP_CLIENT, UNIX_CLIENT)
SERVER_LOOPS: Final = (TCP_SERVER, UNIX_SERVER)
SYNC_CLIENTS: Final = (SYNC_TCP_CLIENT, SYNC_UNIX_CLIENT)
SYNC_LISTENERS: Final = (SYNC_TCP_SERVER, SYNC_UNIX_SERVER)
TRIO_CLIENTS: Final = (TRIO_TCP_CLIENT, TRIO_UNIX_CLIENT)

# In place of a default: the option is required, or the event loop has its own default.
REQUIRED: Final = object()
UNSET: Final = object()

# Texts for allowed values that several options share.
SECONDS = "a number of seconds, 0 or more"
LIMIT = f"{SECONDS}, or None for no limit"
FUNCTION = "a function, or None"
PLAIN_FUNCTION = "a function that isn't async, or None"
PLAIN_HANDLER = "a function that isn't async and takes a connection"
HEADER = "a str that can stand in a header, or None to leave it out"
FLAG = "True or False"
FLAG_OR_NONE = "True, False or None"


class Option(NamedTuple):
    """A row of the table.

    Attributes:
        name: name of the option.
        takers: functions and classes that take it.
        default: default value; REQUIRED or UNSET if there is none.
        check: function that returns the value to use, or raises :exc:`~websockets._rules.option_checks.Unfit`.
        allowed: text about the allowed values.
        secret: whether the value may contain a password, so that errors must not show it.
    """

    name: str
    takers: tuple[str, ...]
    default: Any
    check: Check
    allowed: str
    secret: bool = False

    def checked(self, value: Any) -> Any:
        """Check a value and return the value to use.

        Raises:
            TypeError: the value has a wrong type.
            ValueError: the value isn't allowed.
        """
        try:
            return self.check(value)
        except Unfit as unfit:
            raise self._error(unfit, value) from None

    def _error(self, unfit: Unfit, value: Any) -> Exception:
        given = "" if self.secret else f", not {shown(value)}"
        text = f"{self.name} must be {self.allowed}{given}"
        if unfit.why:
            text = f"{text}: {unfit.why}"
        return unfit.kind(text) if unfit.header is None else UnfitHeader(*unfit.header, text)


# fmt: off
OPTIONS: Final = (
    # The address.
    Option("uri", CLIENTS, REQUIRED, c.anything, "the URI of a server: a str"),
    # The handler may be None if process_request answers all requests.
    Option("handler", SERVES, REQUIRED, optional(c.function), "an async function that takes a connection"),
    Option("handler", (RUN,), REQUIRED, c.handler, "an async function that takes a connection"),
    Option("handler", (SYNC_SERVE,), REQUIRED, optional(t.blocking_function), PLAIN_HANDLER),
    Option("handler", (SYNC_RUN,), REQUIRED, t.blocking_handler, PLAIN_HANDLER),
    Option("ws_handler", (LEGACY_SERVE,), REQUIRED, c.function, "an async function that takes a connection"),
    Option("ws_handler", (RUN,), REQUIRED, c.handler, "an async function that takes a connection"),
    Option("host", (TCP_CLIENT,), UNSET, optional(c.host), "a host: a str"),
    Option("host", (TRIO_TCP_CLIENT,), UNSET, optional(c.host), "a host: a str"),
    Option("host", LOOP_SERVERS, None, optional(c.hosts_to_listen_on),
           "a host, several of them, or None for all interfaces"),
    Option("host", (SYNC_SERVE, TRIO_SERVE), None, optional(c.host), "a host: a str, or None for all interfaces"),
    Option("port", (TCP_CLIENT,), UNSET, optional(c.port), "a port from 0 to 65535"),
    Option("port", (TRIO_TCP_CLIENT,), UNSET, optional(c.port_number), "a port from 0 to 65535"),
    Option("port", LOOP_SERVERS, None, optional(c.port), "a port from 0 to 65535, or None"),
    Option("port", (SYNC_SERVE, TRIO_SERVE), None, optional(c.port_number), "a port from 0 to 65535, or None"),
    Option("path", (UNIX_CLIENT, UNIX_SERVER, SYNC_UNIX_CLIENT, SYNC_UNIX_SERVER, TRIO_UNIX_CLIENT), None,
           optional(c.path), "the path of a Unix socket, or None"),
    Option("sock", (*CLIENT_LOOPS, *SERVER_LOOPS, *SYNC_LISTENERS), UNSET, optional(c.sock), "a socket, or None"),
    Option("sock", (SYNC_CONNECT,), None, optional(c.sock), "a socket, or None"),
    Option("stream", (TRIO_CONNECT,), None, optional(c.stream), "a stream of trio, or None"),
    Option("backlog", (TRIO_SERVE,), None, optional(c.size), "a whole number, 0 or more, or None"),
    Option("listeners", (TRIO_SERVE,), None, optional(c.listeners), "a list of listeners of trio, or None"),
    Option("unix", (*CLIENT_LOOPS, *SERVER_LOOPS, *SYNC_CLIENTS, *TRIO_CLIENTS), UNSET, c.flag, FLAG),
    Option("proxy", CONNECTS, True, c.anything,
           "True for the proxy of the system, the URI of a proxy, or None for none", secret=True),
    Option("proxy", (LEGACY_CONNECT,), None, c.anything,
           "True for the proxy of the system, the URI of a proxy, or None for none", secret=True),

    # The opening handshake.
    Option("origin", (*CLIENTS, CLIENT_PROTOCOL), None, optional(c.text("Origin")), HEADER),
    Option("origins", SERVES, None, optional(c.origins_of_browsers),
           "a list of origins as browsers send them, compiled patterns and None, or None for any"),
    Option("origins", (LEGACY_SERVE, SERVER_PROTOCOL), None, optional(c.origins),
           "a list of origins, compiled patterns and None, or None for any"),
    Option("hosts", (*SERVES, SERVER_PROTOCOL), None, optional(c.host_names),
           "a list of names and compiled patterns, or None for any"),
    Option("extensions", (*CLIENTS, CLIENT_PROTOCOL), None, optional(c.factories(c.OFFERS)),
           "a list of factories of extensions for clients, or None"),
    Option("extensions", (*SERVERS, SERVER_PROTOCOL), None, optional(c.factories(c.ACCEPTS)),
           "a list of factories of extensions for servers, or None"),
    Option("compression", ALL, "deflate", optional(c.compression), '"deflate", or None for none'),
    Option("subprotocols", ALL, None, optional(c.subprotocols), "a list of names, or None"),
    Option("subprotocols", (CLIENT_PROTOCOL, SERVER_PROTOCOL), None, optional(c.subprotocols_of_protocol),
           "a list of names, or None"),
    Option("select_subprotocol", (SERVE, TRIO_SERVE), None, optional(c.function), FUNCTION),
    Option("select_subprotocol", (LEGACY_SERVE, SERVER_PROTOCOL), None, optional(c.plain_function), PLAIN_FUNCTION),
    Option("select_subprotocol", (SYNC_SERVE,), None, optional(t.blocking_function), PLAIN_FUNCTION),
    Option("additional_headers", CONNECTS, None, optional(c.headers),
           "headers that can be sent, as a mapping or as pairs, or None", secret=True),
    Option("extra_headers", (LEGACY_CONNECT,), None, optional(c.headers),
           "headers that can be sent, as a mapping or as pairs, or None", secret=True),
    Option("extra_headers", (LEGACY_SERVE,), None, optional(c.headers_or_function),
           "headers that can be sent, as a mapping or as pairs, a function that makes them, or None", secret=True),
    Option("user_agent_header", CLIENTS, USER_AGENT, optional(c.user_agent), HEADER),
    Option("server_header", SERVERS, SERVER, optional(c.text("Server")), HEADER),
    Option("process_request", (*LOOP_SERVERS, TRIO_SERVE), None, optional(c.function), FUNCTION),
    Option("process_request", (SYNC_SERVE, SYNC_ROUTE), None, optional(t.blocking_function), PLAIN_FUNCTION),
    Option("process_response", (SERVE, TRIO_SERVE), None, optional(c.function), FUNCTION),
    Option("process_response", (SYNC_SERVE,), None, optional(t.blocking_function), PLAIN_FUNCTION),
    Option("open_timeout", CLIENTS, 10, optional(c.seconds), LIMIT),
    Option("open_timeout", SERVERS, 10, optional(c.positive_seconds),
           "a positive number of seconds, or None for no limit"),

    # Timeouts and buffers of a connection.
    Option("ping_interval", ALL, 20, optional(c.positive_seconds),
           "a positive number of seconds, or None for no keepalive"),
    # Programs that create connections themselves, such as uvicorn, may pass 0.
    Option("ping_interval", CONNECTIONS, 20, optional(c.seconds), f"{SECONDS}, or None for no keepalive"),
    Option("ping_timeout", (*ALL, *CONNECTIONS), 20, optional(c.seconds), LIMIT),
    Option("close_timeout", MODERN, 10, optional(c.seconds), LIMIT),
    Option("close_timeout", (LEGACY_CONNECT, LEGACY_SERVE, LEGACY_CONNECTION), None, optional(c.seconds),
           f"{SECONDS}, or None for 10"),
    Option("idle_timeout", (*CONNECTS, *SERVES, *CONNECTIONS), None, optional(strict(c.positive_seconds)),
           "a positive number of seconds, or None for no limit"),
    Option("max_size", (*ALL, LEGACY_CONNECTION, CLIENT_PROTOCOL, SERVER_PROTOCOL), 2**20, optional(c.sizes),
           "a number of bytes, 0 or more, a pair of such for a message and a fragment, or None for no limit"),
    Option("max_queue", MODERN, 16, optional(c.marks),
           "a number of frames, 0 or more, a pair of such, or None for no limit"),
    Option("max_queue", (LEGACY_CONNECT, LEGACY_SERVE, LEGACY_CONNECTION), 2**5, optional(c.marks),
           "a number of frames, 0 or more, a pair of such, or None for no limit"),
    Option("max_rate", (*CONNECTS, *SERVES), None, optional(r.rate),
           "a pair of messages a second, above 0, and messages at once, 1 or more, or None for no limit"),
    Option("max_bytes_rate", (*CONNECTS, *SERVES), None, optional(r.rate),
           "a pair of bytes a second, above 0, and bytes at once, 1 or more, or None for no limit"),
    Option("on_rate", (*CONNECTS, *SERVES), "wait", r.action, '"wait" or "close"'),
    Option("write_limit", (CONNECT, SERVE, CONNECTION), 2**15, c.marks,
           "a number of bytes, 0 or more, or a pair of such"),
    Option("write_limit", (LEGACY_CONNECT, LEGACY_SERVE, LEGACY_CONNECTION), 2**16, c.marks,
           "a number of bytes, 0 or more, or a pair of such"),
    Option("read_limit", (LEGACY_CONNECT, LEGACY_SERVE, LEGACY_CONNECTION), 2**16, c.size,
           "a number of bytes, 0 or more"),
    Option("logger", (*ALL, LEGACY_CONNECTION, CLIENT_PROTOCOL, SERVER_PROTOCOL), None, optional(c.logger),
           "a logger, or None"),
    Option("create_connection", (*CONNECTS, *SERVES), None, optional(c.plain_function),
           "a class or a function that makes connections, or None"),
    Option("executor", (SYNC_SERVE,), None, optional(t.executor), "a concurrent.futures.Executor, or None for threads"),
    Option("daemon_threads", (SYNC_SERVE,), False, c.flag, FLAG),
    Option("create_protocol", (LEGACY_CONNECT, LEGACY_SERVE), None, optional(c.plain_function),
           "a class or a function that makes connections, or None"),
    Option("state", (CLIENT_PROTOCOL, SERVER_PROTOCOL), UNSET, c.state, "a State"),

    # Reconnection, limits of a server, shutdown, broadcasts.
    Option("process_exception", CONNECTS, None, optional(c.plain_function),
           "a function that isn't async, or None for the usual one"),
    Option("reconnect_delays", CONNECTS, None, optional(c.plain_function),
           "a function that isn't async, or None for the usual one"),
    Option("legacy", (SYNC_LEGACY,), None, optional(c.flag), FLAG_OR_NONE),
    Option("max_connections", SERVES, None, optional(strict(c.at_least_one)),
           "a whole number, 1 or more, or None for no limit"),
    Option("max_connections_per_host", SERVES, None, optional(strict(c.at_least_one)),
           "a whole number, 1 or more, or None for no limit"),
    Option("proxy_protocol", SERVES, None, optional(c.proxies),
           'a list of addresses and networks of proxies, and "unix:", or None'),
    Option("timeout", (CLOSE,), None, optional(strict(c.seconds)), LIMIT),
    Option("max_buffered", (BROADCAST,), None, optional(strict(c.size)), "a number of bytes, 0 or more, or None"),

    # Routing and authentication.
    Option("url_map", (ROUTE, SYNC_ROUTE), REQUIRED, c.url_map, "a werkzeug.routing.Map"),
    Option("server_name", (ROUTE, SYNC_ROUTE), None, optional(c.string), "a host and perhaps a port: a str, or None"),
    Option("ssl", (ROUTE, SYNC_ROUTE), None, optional(c.tls_of_server_behind), "an ssl.SSLContext, True, or None"),
    Option("create_router", (ROUTE, SYNC_ROUTE), None, optional(c.plain_function), "a class of routers, or None"),
    Option("process_request", (ROUTE,), None, optional(c.function), FUNCTION),
    Option("realm", (BASIC_AUTH, SYNC_BASIC_AUTH), "", c.string, "a str"),
    Option("realm", (LEGACY_BASIC_AUTH,), None, optional(c.string), "a str, or None"),
    Option("check_credentials", (BASIC_AUTH, LEGACY_BASIC_AUTH), None, optional(c.function), FUNCTION),
    Option("check_credentials", (SYNC_BASIC_AUTH,), None, optional(t.blocking_function), PLAIN_FUNCTION),

    # Arguments for the event loop.
    Option("ssl", CLIENT_LOOPS, UNSET, optional(c.tls_of_client), "an ssl.SSLContext, True for the usual one, or None"),
    Option("ssl", (*SERVER_LOOPS, *SYNC_LISTENERS), UNSET, optional(c.tls), "an ssl.SSLContext, or None"),
    Option("ssl", (SYNC_CONNECT, TRIO_CONNECT), None, optional(c.tls_of_client),
           "an ssl.SSLContext, True for the usual one, or None"),
    Option("ssl", (TRIO_SERVE,), None, optional(c.tls), "an ssl.SSLContext, or None"),
    Option("tls_transport", (CONNECT, SERVE), None, optional(s.transport),
           '"loop", "memory", "aiofastnet", or None for the best one'),
    Option("server_hostname", (SYNC_CONNECT, TRIO_CONNECT), None, optional(c.name_for_tls),
           "the name in the certificate of the server: a str"),
    Option("server_hostname", CLIENT_LOOPS, UNSET, optional(c.name_for_tls),
           "the name in the certificate of the server: a str"),
    Option("ssl_handshake_timeout", (*CLIENT_LOOPS, *SERVER_LOOPS), UNSET, optional(c.positive_seconds),
           "a positive number of seconds, or None"),
    Option("ssl_shutdown_timeout", (*CLIENT_LOOPS, *SERVER_LOOPS), UNSET, optional(c.positive_seconds),
           "a positive number of seconds, or None"),
    Option("proxy_ssl", CLIENT_LOOPS, UNSET, optional(c.tls_of_client),
           "an ssl.SSLContext, True for the usual one, or None"),
    Option("proxy_ssl", (SYNC_CONNECT, TRIO_CONNECT), None, optional(c.tls_of_client),
           "an ssl.SSLContext, True for the usual one, or None"),
    Option("proxy_server_hostname", (SYNC_CONNECT, TRIO_CONNECT), None, optional(c.name_for_tls),
           "the name in the certificate of the proxy: a str"),
    Option("proxy_server_hostname", CLIENT_LOOPS, UNSET, optional(c.name_for_tls),
           "the name in the certificate of the proxy: a str"),
    Option("proxy_ssl_handshake_timeout", CLIENT_LOOPS, UNSET, optional(c.positive_seconds),
           "a positive number of seconds, or None"),
    Option("proxy_ssl_shutdown_timeout", CLIENT_LOOPS, UNSET, optional(c.positive_seconds),
           "a positive number of seconds, or None"),
    Option("address", (SYNC_TCP_CLIENT,), UNSET, optional(c.address), "a pair of a host and a port, or None"),
    Option("source_address", (SYNC_TCP_CLIENT,), UNSET, optional(c.address), "a pair of a host and a port, or None"),
    Option("timeout", SYNC_CLIENTS, UNSET, optional(c.positive_seconds), "a positive number of seconds, or None"),
    Option("local_addr", (TCP_CLIENT,), UNSET, optional(c.address), "a pair of a host and a port, or None"),
    Option("local_address", (TRIO_TCP_CLIENT,), UNSET, optional(c.host), "a host: a str, or None"),
    Option("family", (TCP_CLIENT, TCP_SERVER, SYNC_TCP_SERVER), UNSET, c.whole, "a whole number"),
    Option("proto", (TCP_CLIENT,), UNSET, c.whole, "a whole number"),
    Option("flags", (TCP_CLIENT, TCP_SERVER), UNSET, c.whole, "a whole number"),
    Option("happy_eyeballs_delay", (TCP_CLIENT, SYNC_TCP_CLIENT, TRIO_TCP_CLIENT), UNSET, optional(c.seconds),
           "a number of seconds, 0 or more, or None"),
    Option("interleave", (TCP_CLIENT, SYNC_TCP_CLIENT), UNSET, optional(c.size), "a whole number, 0 or more, or None"),
    Option("all_errors", (TCP_CLIENT, SYNC_TCP_CLIENT), UNSET, c.flag, FLAG),
    Option("backlog", (*SERVER_LOOPS, *SYNC_LISTENERS), UNSET, c.whole, "a whole number"),
    Option("reuse_address", (TCP_SERVER,), UNSET, optional(c.flag), FLAG_OR_NONE),
    Option("reuse_port", (TCP_SERVER, SYNC_TCP_SERVER), UNSET, optional(c.flag), FLAG_OR_NONE),
    Option("dualstack_ipv6", (SYNC_TCP_SERVER,), UNSET, c.flag, FLAG),
    Option("keep_alive", (TCP_SERVER,), UNSET, optional(c.flag), FLAG_OR_NONE),
    Option("start_serving", SERVER_LOOPS, UNSET, c.flag, FLAG),
    Option("cleanup_socket", (UNIX_SERVER,), UNSET, c.flag, FLAG),
)
# fmt: on

# Names from other libraries or earlier releases that don't resemble today's names.
KNOWN_AS: Final = {
    "header": "additional_headers",
    "headers": "additional_headers",
    "ssl_context": "ssl",
    "sslopt": "ssl",
    "extra_headers": "additional_headers",
    "timeout": "open_timeout",
}

# Options of releases before 14.0 that have no replacement.
GONE: Final = {
    "loop": "a connection belongs to the event loop that runs",
    "read_limit": "reads of all connections share a buffer",
    "legacy_recv": "recv() raises ConnectionClosed",
    "extra_headers": "process_response may add headers to a response",
}


@functools.lru_cache(maxsize=64)
def table(taker: str) -> Mapping[str, Option]:
    """Return the options of a taker, by name."""
    return {option.name: option for option in OPTIONS if taker in option.takers}


def check(name: str, value: Any, taker: str = CONNECTION) -> Any:
    """Check one option.

    Parameters:
        name: name of the option.
        value: the value.
        taker: function or class that takes the option.

    Returns:
        The value to use.

    Raises:
        TypeError: the value has a wrong type.
        ValueError: the value isn't allowed.
    """
    option = table(taker)[name]
    return value if value is option.default else option.checked(value)


def check_all(given: MutableMapping[str, Any], taker: str) -> None:
    """Check all options of a taker, and replace their values by the values to use.

    Parameters:
        given: parameters by name; those that aren't in the table stay unchanged.
        taker: function or class that takes the options.

    Raises:
        TypeError: an option has a wrong type.
        ValueError: an option has a value that isn't allowed.
    """
    options, defaults, values_of = _rows(taker)
    try:
        values = values_of(given)
    except KeyError:
        values = tuple(given.get(option.name, option.default) for option in options)
    # Most values are the default, and usually the same object; a large number may be another, equal object.
    for option in itertools.compress(options, map(operator.is_not, values, defaults)):
        name = option.name
        value = given[name]
        if type(value) is not int or value != option.default:
            given[name] = option.checked(value)


@functools.lru_cache(maxsize=64)
def _rows(taker: str) -> tuple[list[Option], list[Any], Callable[[Mapping[str, Any]], tuple[Any, ...]]]:
    """Return the options of a taker that need a check, their defaults, and a function that gets their values."""
    options = [option for option in table(taker).values() if option.check is not c.anything]
    return options, [option.default for option in options], operator.itemgetter(*(option.name for option in options))


def check_keywords(who: str, given: MutableMapping[str, Any], taker: str, loop: str) -> None:
    """Check keyword arguments for the event loop, and replace their values by the values to use.

    Parameters:
        who: name of the function that was called.
        given: its keyword arguments.
        taker: name of the same function in the table.
        loop: method of the event loop.

    Raises:
        TypeError: an argument has a wrong type, or doesn't exist; then the error suggests a similar name.
        ValueError: an argument has a value that isn't allowed.
    """
    ours, passed_on = table(taker), table(loop)
    for name in given:
        option = passed_on.get(name) or ours.get(name)
        if option is None:
            raise TypeError(f"{who}() got an unexpected keyword argument {name!r}{_hint(name, {**ours, **passed_on})}")
        given[name] = option.checked(given[name])


def _hint(name: str, known: Mapping[str, Option]) -> str:
    """Return a suggestion for an unknown name."""
    meant = KNOWN_AS.get(name)
    if meant not in known:
        if name in GONE:
            return f": {GONE[name]}"
        meant = next(iter(difflib.get_close_matches(name, known, n=1)), None)
    return "" if meant is None else f"; did you mean {meant}?"
