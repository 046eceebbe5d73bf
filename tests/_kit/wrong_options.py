"""Wrong values of options for each front-end, with the error of each; and similar values that are right.

``python tests/_kit/wrong_options.py`` prints the table. May know: the public API. Must not know: event loops.
"""

from __future__ import annotations

import functools
import io
import logging
import numbers
import re
import socket
import ssl
import types
import warnings
from collections import deque
from collections.abc import Callable, Coroutine, Iterator
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from fractions import Fraction
from pathlib import PurePath
from typing import Any, NamedTuple

from werkzeug.routing import Map

from websockets._rules.option_checks import shown
from websockets.asyncio import client, router, server
from websockets.client import ClientProtocol
from websockets.exceptions import InvalidHeader, InvalidProxy, InvalidURI
from websockets.extensions.permessage_deflate import ClientPerMessageDeflateFactory, ServerPerMessageDeflateFactory
from websockets.protocol import Protocol, Side, State
from websockets.server import ServerProtocol
from websockets.sync import client as sync_client
from websockets.sync import router as sync_router
from websockets.sync import server as sync_server
from websockets.trio import client as trio_client
from websockets.trio import router as trio_router
from websockets.trio import server as trio_server
from websockets.uri import parse_uri

with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)
    from websockets.legacy import client as legacy_client
    from websockets.legacy import server as legacy_server

__all__ = ["ADDRESS", "CALLS", "OF_CONNECTIONS", "RIGHT", "WRONG", "Right", "Whole", "Wrong", "error", "options_of"]


async def echo(websocket: Any) -> None: ...


async def echo_at(websocket: Any, path: str) -> None: ...


def not_async(websocket: Any) -> None:
    websocket.send("hello")


def also_not_async(websocket: Any) -> None:
    if websocket is None:
        return
    for _ in websocket:
        try:
            websocket.recv()
        finally:
            websocket.send("hello")


async def generator(websocket: Any) -> Any:
    yield websocket


def old_generator(websocket: Any) -> Any:
    yield websocket


async def without_parameters() -> None: ...


async def with_three(websocket: Any, path: str, more: Any) -> None: ...


def with_more(more: Any, websocket: Any) -> None: ...


async def answer(connection: Any, request: Any) -> None: ...


class Stream:
    """Something like a stream of trio."""

    async def receive_some(self) -> None: ...

    async def send_all(self) -> None: ...

    async def aclose(self) -> None: ...


class Listener:
    """Something like a listener of trio."""

    async def accept(self) -> None: ...

    async def aclose(self) -> None: ...


def never_called() -> None: ...


class AsyncObject:
    """A callable that is async, which its class alone shows."""

    async def __call__(self, *arguments: Any) -> None: ...


async_object = AsyncObject()

Call = Callable[[dict[str, Any]], Any]


def _listen(serve: Callable[..., Any], options: dict[str, Any]) -> Any:
    handler = options.pop("ws_handler", options.pop("handler", echo))
    place = {} if options.get("sock") is not None else {"host": "localhost", "port": 0}
    return serve(handler, **{**place, **options})


def _begin(serving: Coroutine[Any, Any, None]) -> None:
    """Run a server on trio until it would open something, which fails, as trio isn't running."""
    try:
        serving.send(None)
    except RuntimeError as exc:
        if str(exc) != "must be called from async context":
            raise
    finally:
        serving.close()


def _listen_on_trio(options: dict[str, Any]) -> None:
    place = {} if options.get("listeners") is not None else {"port": 0}
    _begin(trio_server.serve(options.pop("handler", echo), **{**place, **options}))


class Listening:
    """A socket that listens, as far as a server for threads looks at it before it accepts a connection."""

    def fileno(self) -> int:
        return 1000

    def getsockname(self) -> str:
        return "/run/server"

    def setblocking(self, flag: bool) -> None: ...


# The options that make a server for threads open a socket, which would happen at once.
OPENING = {"host", "port", "path", "sock", "family", "backlog", "reuse_port", "dualstack_ipv6"}


def _serve_in_threads(
    serve: Callable[..., Any], first: Callable[[dict[str, Any]], Any], options: dict[str, Any]
) -> Any:
    argument = first(options)
    place = {"sock": Listening()} if OPENING.isdisjoint(options) else {}
    return serve(argument, **place, **options)


def _sync(serve: Callable[..., Any]) -> Call:
    return functools.partial(_serve_in_threads, serve, lambda options: options.pop("handler", not_async))


def _sync_route(serve: Callable[..., Any]) -> Call:
    return functools.partial(_serve_in_threads, serve, lambda options: options.pop("url_map", Map()))


# How each front-end is called with options. Hosts and ports are for TCP only.
CALLS: dict[str, Call] = {
    "connect": lambda options: client.connect(**{"uri": "ws://localhost", **options}),
    "unix_connect": lambda options: client.unix_connect(options.pop("path", "/run/server"), **options),
    "serve": functools.partial(_listen, server.serve),
    "unix_serve": lambda options: server.unix_serve(
        options.pop("handler", echo), options.pop("path", "/run/server"), **options
    ),
    "route": lambda options: router.route(**{"url_map": Map(), "host": "localhost", "port": 0, **options}),
    "unix_route": lambda options: router.unix_route(
        options.pop("url_map", Map()), options.pop("path", "/run/server"), **options
    ),
    "sync connect": lambda options: sync_client.connect(**{"uri": "ws://localhost", "legacy": False, **options}),
    "sync unix_connect": lambda options: sync_client.unix_connect(
        options.pop("path", "/run/server"), **{"legacy": False, **options}
    ),
    "sync serve": _sync(sync_server.serve),
    "sync unix_serve": _sync(sync_server.unix_serve),
    "sync route": _sync_route(sync_router.route),
    "sync unix_route": _sync_route(sync_router.unix_route),
    "legacy connect": lambda options: legacy_client.connect(**{"uri": "ws://localhost", **options}),
    "legacy unix_connect": lambda options: legacy_client.unix_connect(options.pop("path", "/run/server"), **options),
    "legacy serve": functools.partial(_listen, legacy_server.serve),
    "legacy unix_serve": lambda options: legacy_server.unix_serve(
        options.pop("ws_handler", echo), options.pop("path", "/run/server"), **options
    ),
    "trio connect": lambda options: trio_client.connect(**{"uri": "ws://localhost", **options}),
    "trio unix_connect": lambda options: trio_client.unix_connect(options.pop("path", "/run/server"), **options),
    "trio serve": _listen_on_trio,
    "trio route": lambda options: _begin(trio_router.route(**{"url_map": Map(), "port": 0, **options})),
    "Protocol": lambda options: Protocol(Side.SERVER, **options),
    "ClientProtocol": lambda options: ClientProtocol(parse_uri("ws://localhost/"), **options),
    "ServerProtocol": lambda options: ServerProtocol(**options),
    "basic_auth": lambda options: server.basic_auth(**{"realm": "here", **options}),
    "sync basic_auth": lambda options: sync_server.basic_auth(**{"realm": "here", **options}),
}

LOOP_CONNECT = ("connect", "unix_connect")
SYNC_CONNECT = ("sync connect", "sync unix_connect")
TRIO_CONNECT = ("trio connect", "trio unix_connect")
LOOP_SERVE = ("serve", "unix_serve", "route", "unix_route")
SYNC_SERVE = ("sync serve", "sync unix_serve", "sync route", "sync unix_route")
TRIO_SERVE = ("trio serve", "trio route")
LEGACY_CONNECT = ("legacy connect", "legacy unix_connect")
LEGACY_SERVE = ("legacy serve", "legacy unix_serve")
CONNECT = LOOP_CONNECT + SYNC_CONNECT + TRIO_CONNECT
SERVE = LOOP_SERVE + SYNC_SERVE + TRIO_SERVE
CLIENTS = CONNECT + LEGACY_CONNECT
SERVERS = SERVE + LEGACY_SERVE
# Of today, not of the legacy API.
TODAY = CONNECT + SERVE
ALL = CLIENTS + SERVERS
LOOP_CLIENTS = LOOP_CONNECT + LEGACY_CONNECT
LOOP_SERVERS = LOOP_SERVE + LEGACY_SERVE
ON_LOOPS = LOOP_CLIENTS + LOOP_SERVERS
PROTOCOLS = ("Protocol", "ClientProtocol", "ServerProtocol")
ROUTE = ("route", "unix_route", "sync route", "sync unix_route", "trio route")
WITH_HANDLER = ("serve", "unix_serve", "trio serve")
SYNC_WITH_HANDLER = ("sync serve", "sync unix_serve")

# Options that connections which are built directly take as well.
OF_CONNECTIONS = {"ping_interval", "ping_timeout", "close_timeout", "max_queue", "write_limit", "idle_timeout"}


class Wrong(NamedTuple):
    """A wrong value.

    Attributes:
        calls: who gets it.
        name: the option.
        value: its value, or a function without parameters that makes it.
        kind: class of the error.
        text: its text.
    """

    calls: tuple[str, ...]
    name: str
    value: Any
    kind: type[Exception]
    text: str


class Right(NamedTuple):
    """A right value beside wrong ones; the attributes are as those of :class:`Wrong`."""

    calls: tuple[str, ...]
    name: str
    value: Any


class Made(NamedTuple):
    """A value that must be made anew for each call."""

    make: Callable[[], Any]


def options_of(row: Wrong | Right) -> dict[str, Any]:
    """The options of a call, from a row of a table."""
    return {row.name: row.value.make() if isinstance(row.value, Made) else row.value}


def error(call: str, row: Wrong) -> Exception | None:
    """What a wrong value gets."""
    try:
        CALLS[call](options_of(row))
    except Exception as exc:
        return exc
    return None


LIMIT = "must be a number of seconds, 0 or more, or None for no limit, not"
POSITIVE = "must be a positive number of seconds, or None for no limit, not"
KEEPALIVE = "must be a positive number of seconds, or None for no keepalive, not"
SIZE = "must be a number of bytes, 0 or more, a pair of such for a message and a fragment, or None for no limit, not"
QUEUE = "must be a number of frames, 0 or more, a pair of such, or None for no limit, not"
WRITE = "must be a number of bytes, 0 or more, or a pair of such, not"
HEADER = "must be a str that can stand in a header, or None to leave it out, not"
ORIGINS = "must be a list of origins as browsers send them, compiled patterns and None, or None for any, not"
NO_BROWSER = "no browser sends that: an origin is a scheme, a host, and perhaps a port"
OLD_ORIGINS = "must be a list of origins, compiled patterns and None, or None for any, not"
NAMES = "must be a list of names, or None, not"
HEADERS = "must be headers that can be sent, as a mapping or as pairs, or None"
HANDLER = "must be an async function that takes a connection, not"
PLAIN_HANDLER = "must be a function that isn't async and takes a connection, not"
FUNCTION = "must be a function, or None, not"
PLAIN = "must be a function that isn't async, or None"
MAKER = "must be a class or a function that makes connections, or None, not"
COUNT = "must be a whole number, 1 or more, or None for no limit, not"
OF_CLIENTS = "must be a list of factories of extensions for clients, or None, not"
OF_SERVERS = "must be a list of factories of extensions for servers, or None, not"
TLS_TIME = "must be a positive number of seconds, or None, not"
PORT = "must be a port from 0 to 65535, or None, not"
LISTEN = "must be a host, several of them, or None for all interfaces, not"
CONTEXT = "must be an ssl.SSLContext, True for the usual one, or None, not"
FLAG = "must be True or False, not"
LISTENERS = "must be a list of listeners of trio, or None, not"
UNKNOWN = "got an unexpected keyword argument"

NAN, HUGE = float("nan"), 10**400
DECIMAL = Decimal("1.5")
ADDRESS = re.compile(r" at 0x[0-9A-Fa-f]+")

# fmt: off
WRONG: tuple[Wrong, ...] = (
    # Times.
    Wrong(ALL, "ping_interval", "20", TypeError, f"ping_interval {KEEPALIVE} '20'"),
    Wrong(ALL, "ping_interval", 0, ValueError, f"ping_interval {KEEPALIVE} 0"),
    Wrong(ALL, "ping_interval", -1, ValueError, f"ping_interval {KEEPALIVE} -1"),
    Wrong(ALL, "ping_interval", False, ValueError, f"ping_interval {KEEPALIVE} False"),
    Wrong(ALL, "ping_interval", NAN, ValueError, f"ping_interval {KEEPALIVE} nan"),
    Wrong(ALL, "ping_interval", DECIMAL, TypeError, f"ping_interval {KEEPALIVE} Decimal('1.5')"),
    Wrong(ALL, "ping_timeout", "x", TypeError, f"ping_timeout {LIMIT} 'x'"),
    Wrong(ALL, "ping_timeout", -0.5, ValueError, f"ping_timeout {LIMIT} -0.5"),
    Wrong(ALL, "ping_timeout", [20], TypeError, f"ping_timeout {LIMIT} [20]"),
    Wrong(ALL, "ping_timeout", 0, ValueError,
          "ping_timeout must be positive, or None for no limit, not 0: no pong comes so soon"),
    Wrong(TODAY, "close_timeout", "5", TypeError, f"close_timeout {LIMIT} '5'"),
    Wrong(TODAY, "close_timeout", -1, ValueError, f"close_timeout {LIMIT} -1"),
    Wrong(LEGACY_CONNECT + LEGACY_SERVE, "close_timeout", "5", TypeError,
          "close_timeout must be a number of seconds, 0 or more, or None for 10, not '5'"),
    Wrong(CLIENTS, "open_timeout", "x", TypeError, f"open_timeout {LIMIT} 'x'"),
    Wrong(CLIENTS, "open_timeout", -1, ValueError, f"open_timeout {LIMIT} -1"),
    Wrong(SERVERS, "open_timeout", "x", TypeError, f"open_timeout {POSITIVE} 'x'"),
    Wrong(SERVERS, "open_timeout", -1, ValueError, f"open_timeout {POSITIVE} -1"),
    Wrong(SERVERS, "open_timeout", 0, ValueError, f"open_timeout {POSITIVE} 0"),
    Wrong(TODAY, "idle_timeout", 0, ValueError, f"idle_timeout {POSITIVE} 0"),
    Wrong(TODAY, "idle_timeout", True, TypeError, f"idle_timeout {POSITIVE} True"),
    *[
        Wrong(TODAY, f"max_{kind}rate", value, error, f"max_{kind}rate must be a pair of {unit}s "
              f"a second, above 0, and {unit}s at once, 1 or more, or None for no limit, not {value!r}")
        for kind, unit in (("", "message"), ("bytes_", "byte"))
        for value, error in ((5, TypeError), ((1,), ValueError), ((0, 1), ValueError), ((1, 0), ValueError),
                             ((1, 1.5), TypeError), ((float("inf"), 1), ValueError))
    ],
    Wrong(TODAY, "on_rate", "stop", ValueError,
          "on_rate must be \"wait\" or \"close\", not 'stop'"),
    Wrong(LOOP_CONNECT + LOOP_SERVE, "tls_transport", "openssl", ValueError,
          'tls_transport must be "loop", "memory", "aiofastnet", or None for the best one, not \'openssl\''),
    Wrong(LOOP_CONNECT + LOOP_SERVE, "tls_transport", 5, TypeError,
          'tls_transport must be "loop", "memory", "aiofastnet", or None for the best one, not 5'),
    Wrong(TODAY, "on_rate", None, TypeError, 'on_rate must be "wait" or "close", not None'),
    Wrong(CLIENTS, "open_timeout", HUGE, ValueError, f"open_timeout {LIMIT} 1{'0' * 96}..."),
    Wrong(CLIENTS, "open_timeout", Fraction(HUGE), ValueError, f"open_timeout {LIMIT} Fraction(1{'0' * 87}..."),
    Wrong(CLIENTS, "open_timeout", Made(lambda: -(HUGE**20)), ValueError, f"open_timeout {LIMIT} <int>"),
    Wrong(("connect",), "port", "9" * 5000, ValueError, f"port must be a port from 0 to 65535, not '{'9' * 96}..."),
    Wrong(("connect", "sync connect", "trio connect"), "proxy", 1, InvalidProxy,
          "1 isn't a valid proxy: it is not a str but int"),
    # Sizes.
    Wrong(ALL + PROTOCOLS, "max_size", "1MB", TypeError, f"max_size {SIZE} '1MB'"),
    Wrong(ALL + PROTOCOLS, "max_size", 1.5, TypeError, f"max_size {SIZE} 1.5"),
    Wrong(ALL + PROTOCOLS, "max_size", -1, ValueError, f"max_size {SIZE} -1"),
    Wrong(ALL + PROTOCOLS, "max_size", (1, 2, 3), ValueError, f"max_size {SIZE} (1, 2, 3)"),
    Wrong(ALL + PROTOCOLS, "max_size", (100, -1), ValueError, f"max_size {SIZE} (100, -1)"),
    Wrong(ALL, "max_queue", "a", TypeError, f"max_queue {QUEUE} 'a'"),
    Wrong(ALL, "max_queue", -1, ValueError, f"max_queue {QUEUE} -1"),
    Wrong(ALL, "max_queue", 1.5, TypeError, f"max_queue {QUEUE} 1.5"),
    Wrong(ALL, "max_queue", (1, 2, 3), ValueError, f"max_queue {QUEUE} (1, 2, 3)"),
    Wrong(ALL, "max_queue", (), ValueError, f"max_queue {QUEUE} ()"),
    Wrong(ALL, "max_queue", (10, 100), ValueError, f"max_queue {QUEUE} (10, 100): the second is above the first"),
    Wrong(ALL, "max_queue", [4, "a"], TypeError, f"max_queue {QUEUE} [4, 'a']"),
    Wrong(ON_LOOPS, "write_limit", -5, ValueError, f"write_limit {WRITE} -5"),
    Wrong(ON_LOOPS, "write_limit", "64k", TypeError, f"write_limit {WRITE} '64k'"),
    Wrong(ON_LOOPS, "write_limit", None, TypeError, f"write_limit {WRITE} None"),
    Wrong(ON_LOOPS, "write_limit", (5, 10), ValueError, f"write_limit {WRITE} (5, 10): the second is above the first"),
    Wrong(LEGACY_CONNECT + LEGACY_SERVE, "read_limit", "64k", TypeError,
          "read_limit must be a number of bytes, 0 or more, not '64k'"),
    Wrong(SERVE, "max_connections", 0, ValueError, f"max_connections {COUNT} 0"),
    Wrong(SERVE, "max_connections", 2.5, TypeError, f"max_connections {COUNT} 2.5"),
    Wrong(SERVE, "max_connections_per_host", "3", TypeError, f"max_connections_per_host {COUNT} '3'"),
    Wrong(SERVE, "proxy_protocol", True, TypeError,
          "proxy_protocol must be a list of addresses of proxies or None, not True"),
    Wrong(SERVE, "proxy_protocol", "10.0.0.1", TypeError,
          "proxy_protocol must be a list of addresses of proxies or None, not '10.0.0.1'"),
    Wrong(SERVE, "proxy_protocol", [], ValueError,
          "proxy_protocol is empty: it must name the proxies that are trusted"),
    # The opening handshake.
    Wrong(SERVERS, "server_header", 5, TypeError, f"server_header {HEADER} 5"),
    Wrong(SERVERS, "server_header", "a\r\nb: c", InvalidHeader, f"server_header {HEADER} 'a\\r\\nb: c'"),
    Wrong(CLIENTS, "user_agent_header", b"me", TypeError, f"user_agent_header {HEADER} b'me'"),
    Wrong(CLIENTS, "user_agent_header", "a\nb", ValueError, f"user_agent_header {HEADER} 'a\\nb'"),
    Wrong((*CLIENTS, "ClientProtocol"), "origin", 5, TypeError, f"origin {HEADER} 5"),
    Wrong((*CLIENTS, "ClientProtocol"), "origin", "a\nb", ValueError, f"origin {HEADER} 'a\\nb'"),
    Wrong(SERVE, "origins", "https://x", TypeError, f"origins {ORIGINS} 'https://x'"),
    Wrong(SERVE, "origins", ["https://x/"], ValueError,
          f"origins {ORIGINS} ['https://x/']: {NO_BROWSER}"),
    Wrong(LEGACY_SERVE, "origins", ["https://x/y"], ValueError,
          f"origins {ORIGINS} ['https://x/y']: {NO_BROWSER}"),
    Wrong(SERVE, "origins", ["https://*.x", "*"], ValueError,
          f"origins {ORIGINS} ['https://*.x', '*']: {NO_BROWSER}"),
    Wrong(SERVE, "origins", [], ValueError, f"origins {ORIGINS} []: no client could connect"),
    Wrong(SERVE, "origins", [5], TypeError, f"origins {ORIGINS} [5]: 5 is none"),
    Wrong((*LEGACY_SERVE, "ServerProtocol"), "origins", "https://x", TypeError, f"origins {OLD_ORIGINS} 'https://x'"),
    Wrong((*SERVE, "ServerProtocol"), "hosts", [5], TypeError,
          "hosts must be names or compiled patterns, not 5"),
    Wrong((*SERVE, "ServerProtocol"), "hosts", 5, TypeError,
          "hosts must be names or compiled patterns, not 5"),
    Wrong((*SERVE, "ServerProtocol"), "hosts", ["http://localhost"], ValueError,
          "hosts must be names without scheme and port: 'http://localhost'"),
    Wrong((*SERVE, "ServerProtocol"), "hosts", [], ValueError, "hosts is empty: nobody could connect"),
    Wrong((*CLIENTS, "ClientProtocol"), "extensions", "x", TypeError, f"extensions {OF_CLIENTS} 'x'"),
    Wrong((*CLIENTS, "ClientProtocol"), "extensions", [5], TypeError, f"extensions {OF_CLIENTS} [5]: 5 is none"),
    Wrong((*CLIENTS, "ClientProtocol"), "extensions", [ClientPerMessageDeflateFactory], TypeError,
          f"extensions {OF_CLIENTS} [{ClientPerMessageDeflateFactory!r}]: ClientPerMessageDeflateFactory is a class: "
          "make a factory of it, ClientPerMessageDeflateFactory()"),
    Wrong((*SERVERS, "ServerProtocol"), "extensions", "x", TypeError, f"extensions {OF_SERVERS} 'x'"),
    Wrong((*SERVERS, "ServerProtocol"), "extensions", 5, TypeError, f"extensions {OF_SERVERS} 5"),
    Wrong(ALL, "compression", "gzip", ValueError, "unsupported compression: gzip"),
    Wrong(ALL, "compression", False, ValueError, "unsupported compression: False"),
    Wrong((*ALL, *PROTOCOLS[1:]), "subprotocols", "chat", TypeError, "subprotocols must be a list, not a str"),
    Wrong(ALL, "subprotocols", {"chat"}, TypeError, "subprotocols must be a list"),
    Wrong((*ALL, *PROTOCOLS[1:]), "subprotocols", [b"chat"], TypeError, f"subprotocols {NAMES} [b'chat']"),
    Wrong((*ALL, *PROTOCOLS[1:]), "subprotocols", b"chat", TypeError, f"subprotocols {NAMES} b'chat'"),
    Wrong((*ALL, *PROTOCOLS[1:]), "subprotocols", ["a b"], ValueError, "invalid subprotocol: a b"),
    Wrong(CONNECT, "additional_headers", {"Authorization": None}, TypeError,
          f"additional_headers {HEADERS}: the value of Authorization is None"),
    Wrong(CONNECT, "additional_headers", [("X", b"x")], TypeError,
          f"additional_headers {HEADERS}: the value of X is of type bytes"),
    Wrong(CONNECT, "additional_headers", {"X": ["a", "b"]}, TypeError,
          f"additional_headers {HEADERS}: the value of X is of type list"),
    Wrong(CONNECT, "additional_headers", {"X": "a\r\nY: b"}, InvalidHeader,
          f"additional_headers {HEADERS}: invalid X header"),
    Wrong(CONNECT, "additional_headers", {"Authorization": "secret\n"}, ValueError,
          f"additional_headers {HEADERS}: invalid Authorization header"),
    Wrong(CONNECT, "additional_headers", {"a b": "c"}, InvalidHeader,
          f"additional_headers {HEADERS}: invalid a b header: expected token at 1 in a b"),
    Wrong(CONNECT, "additional_headers", {5: "x"}, TypeError, f"additional_headers {HEADERS}: 5 is no name"),
    Wrong(CONNECT, "additional_headers", "X: x", TypeError, f"additional_headers {HEADERS}"),
    Wrong(CONNECT, "additional_headers", 5, TypeError, f"additional_headers {HEADERS}"),
    Wrong(CONNECT, "additional_headers", [("a", "b", "c")], ValueError,
          f"additional_headers {HEADERS}: there is something in it that is no pair of a name and a value"),
    Wrong(LEGACY_CONNECT, "extra_headers", {"Authorization": None}, TypeError,
          f"extra_headers {HEADERS}: the value of Authorization is None"),
    Wrong(LEGACY_SERVE, "extra_headers", 5, TypeError,
          "extra_headers must be headers that can be sent, as a mapping or as pairs, a function that makes them, "
          "or None"),
    Wrong(LOOP_SERVERS + TRIO_SERVE, "process_request", "x", TypeError, f"process_request {FUNCTION} 'x'"),
    Wrong(SYNC_SERVE, "process_request", answer, TypeError, f"process_request {PLAIN}, not {answer!r}"),
    Wrong(SYNC_SERVE, "process_response", "x", TypeError, f"process_response {PLAIN}, not 'x'"),
    Wrong(SYNC_SERVE, "process_response", answer, TypeError, f"process_response {PLAIN}, not {answer!r}"),
    Wrong(SYNC_SERVE, "process_response", async_object, TypeError, f"process_response {PLAIN}, not {async_object!r}"),
    Wrong(SYNC_SERVE, "select_subprotocol", answer, TypeError, f"select_subprotocol {PLAIN}, not {answer!r}"),
    Wrong(LOOP_SERVE + TRIO_SERVE, "process_response", 5, TypeError, f"process_response {FUNCTION} 5"),
    Wrong(LOOP_SERVE + TRIO_SERVE, "select_subprotocol", "x", TypeError, f"select_subprotocol {FUNCTION} 'x'"),
    Wrong((*LEGACY_SERVE, "ServerProtocol"), "select_subprotocol", "x", TypeError,
          f"select_subprotocol {PLAIN}, not 'x'"),
    Wrong((*LEGACY_SERVE, "ServerProtocol"), "select_subprotocol", answer, TypeError,
          f"select_subprotocol {PLAIN}, not {answer!r}"),
    # Handlers.
    Wrong(WITH_HANDLER, "handler", "echo", TypeError, f"handler {HANDLER} 'echo'"),
    Wrong(WITH_HANDLER, "handler", Made(lambda: echo(None)), TypeError,
          f"handler {HANDLER} <coroutine object echo>: give the function, echo, without calling it"),
    Wrong(WITH_HANDLER, "handler", not_async, TypeError,
          f"handler {HANDLER} {not_async!r}: it isn't async, and returns nothing to wait for"),
    Wrong(WITH_HANDLER, "handler", also_not_async, TypeError,
          f"handler {HANDLER} {also_not_async!r}: it isn't async, and returns nothing to wait for"),
    Wrong(WITH_HANDLER, "handler", generator, TypeError,
          f"handler {HANDLER} {generator!r}: a function with yield gives nothing to wait for"),
    Wrong(WITH_HANDLER, "handler", old_generator, TypeError,
          f"handler {HANDLER} {old_generator!r}: a function with yield gives nothing to wait for"),
    Wrong(WITH_HANDLER, "handler", without_parameters, TypeError,
          f"handler {HANDLER} {without_parameters!r}: it can't be called with a connection alone"),
    Wrong(WITH_HANDLER, "handler", with_three, TypeError,
          f"handler {HANDLER} {with_three!r}: it can't be called with a connection alone"),
    Wrong(WITH_HANDLER, "handler", None, TypeError,
          "handler must be an async function, not None: process_request answers no request"),
    Wrong(SYNC_WITH_HANDLER, "handler", "echo", TypeError, f"handler {PLAIN_HANDLER} 'echo'"),
    Wrong(SYNC_WITH_HANDLER, "handler", Made(lambda: echo(None)), TypeError,
          f"handler {PLAIN_HANDLER} <coroutine object echo>: give the function, echo, without calling it"),
    Wrong(SYNC_WITH_HANDLER, "handler", echo, TypeError, f"handler {PLAIN_HANDLER} {echo!r}"),
    Wrong(SYNC_WITH_HANDLER, "handler", generator, TypeError, f"handler {PLAIN_HANDLER} {generator!r}"),
    Wrong(SYNC_WITH_HANDLER, "handler", async_object, TypeError, f"handler {PLAIN_HANDLER} {async_object!r}"),
    Wrong(SYNC_WITH_HANDLER, "handler", old_generator, TypeError,
          f"handler {PLAIN_HANDLER} {old_generator!r}: a function with yield does nothing when it is called"),
    Wrong(SYNC_WITH_HANDLER, "handler", never_called, TypeError,
          f"handler {PLAIN_HANDLER} {never_called!r}: it can't be called with a connection alone"),
    Wrong(SYNC_WITH_HANDLER, "handler", None, TypeError,
          "handler must be a function that isn't async, not None: process_request answers no request"),
    Wrong(LEGACY_SERVE, "ws_handler", None, TypeError, f"ws_handler {HANDLER} None"),
    Wrong(LEGACY_SERVE, "ws_handler", Made(lambda: echo(None)), TypeError,
          f"ws_handler {HANDLER} <coroutine object echo>: give the function, echo, without calling it"),
    Wrong(ROUTE, "url_map", {}, TypeError, "url_map must be a werkzeug.routing.Map, not {}"),
    Wrong(ROUTE, "server_name", 5, TypeError,
          "server_name must be a host and perhaps a port: a str, or None, not 5"),
    Wrong(ROUTE, "create_router", 5, TypeError,
          "create_router must be a class of routers, or None, not 5"),
    Wrong(ROUTE, "ssl", "cert.pem", TypeError,
          "ssl must be an ssl.SSLContext, True, or None, not 'cert.pem'"),
    Wrong(("basic_auth", "sync basic_auth"), "realm", 5, TypeError, "realm must be a str, not 5"),
    Wrong(("basic_auth",), "check_credentials", "x", TypeError, f"check_credentials {FUNCTION} 'x'"),
    Wrong(("sync basic_auth",), "check_credentials", answer, TypeError, f"check_credentials {PLAIN}, not {answer!r}"),
    # Objects.
    Wrong(ALL + PROTOCOLS, "logger", "x", TypeError, "logger must be a logger, or None, not 'x'"),
    Wrong(ALL + PROTOCOLS, "logger", False, TypeError, "logger must be a logger, or None, not False"),
    Wrong(TODAY, "create_connection", 5, TypeError, f"create_connection {MAKER} 5"),
    Wrong(LEGACY_CONNECT + LEGACY_SERVE, "create_protocol", "x", TypeError, f"create_protocol {MAKER} 'x'"),
    Wrong(CONNECT, "process_exception", 5, TypeError, f"process_exception {PLAIN} for the usual one, not 5"),
    Wrong(CONNECT, "process_exception", echo, TypeError,
          f"process_exception {PLAIN} for the usual one, not {echo!r}"),
    Wrong(CONNECT, "reconnect_delays", [1, 2], TypeError, f"reconnect_delays {PLAIN} for the usual one, not [1, 2]"),
    Wrong(PROTOCOLS, "state", "open", TypeError, "state must be a State, not 'open'"),
    # Where to, and TLS.
    Wrong(CLIENTS, "uri", 5, InvalidURI, "5 isn't a valid URI: it is not a str but int"),
    Wrong(CLIENTS, "uri", "http://localhost/", InvalidURI,
          "http://localhost/ isn't a valid URI: scheme isn't ws or wss"),
    Wrong(("connect", "sync connect", "trio connect"), "proxy", "gopher://x", InvalidProxy,
          "gopher://x isn't a valid proxy: scheme gopher isn't supported"),
    Wrong(("connect", "sync connect", "trio connect"), "proxy", False, InvalidProxy,
          "False isn't a valid proxy: it is not a str but bool"),
    Wrong(("connect", "sync connect", "trio connect"), "ssl", "cert.pem", ValueError,
          "ssl argument is incompatible with a ws:// URI"),
    Wrong(("unix_connect", "sync unix_connect", "trio unix_connect", "legacy connect"), "ssl", "cert.pem", TypeError,
          f"ssl {CONTEXT} 'cert.pem'"),
    Wrong((*WITH_HANDLER, *SYNC_WITH_HANDLER, *LEGACY_SERVE), "ssl", "cert.pem", TypeError,
          "ssl must be an ssl.SSLContext, or None, not 'cert.pem'"),
    Wrong((*WITH_HANDLER, *SYNC_WITH_HANDLER, *LEGACY_SERVE), "ssl", True, TypeError,
          "ssl must be an ssl.SSLContext, or None, not True"),
    Wrong(("connect", "trio connect", "legacy connect"), "port", 70000, ValueError,
          "port must be a port from 0 to 65535, not 70000"),
    Wrong(("connect", "trio connect", "legacy connect"), "host", 5, TypeError, "host must be a host: a str, not 5"),
    Wrong(("serve", "sync serve", "trio serve", "legacy serve"), "port", 70000, ValueError, f"port {PORT} 70000"),
    Wrong(("sync serve", "sync route"), "port", -1, ValueError, f"port {PORT} -1"),
    Wrong(("sync serve", "sync route"), "port", "80", TypeError, f"port {PORT} '80'"),
    Wrong(("sync serve", "sync route", *TRIO_SERVE), "host", ["localhost"], TypeError,
          "host must be a host: a str, or None for all interfaces, not ['localhost']"),
    Wrong(SYNC_SERVE, "executor", 5, TypeError,
          "executor must be a concurrent.futures.Executor, or None for threads, not 5"),
    Wrong(SYNC_SERVE, "executor", ThreadPoolExecutor, TypeError,
          f"executor must be a concurrent.futures.Executor, or None for threads, not {ThreadPoolExecutor!r}"),
    Wrong(SYNC_SERVE, "daemon_threads", "yes", TypeError, f"daemon_threads {FLAG} 'yes'"),
    Wrong(("sync unix_serve", "sync unix_route"), "path", None, ValueError, "missing path argument"),
    Wrong(("serve", "route"), "port", "65536", ValueError, f"port {PORT} '65536'"),
    Wrong(("serve", "route"), "port", NAN, ValueError, f"port {PORT} nan"),
    Wrong(("serve", "route"), "port", [80], TypeError, f"port {PORT} [80]"),
    Wrong(("serve", "legacy serve"), "host", 5, TypeError, f"host {LISTEN} 5"),
    Wrong(("serve", "legacy serve"), "host", ["localhost", 80], TypeError, f"host {LISTEN} ['localhost', 80]"),
    Wrong(("unix_connect", "unix_serve", "unix_route", "legacy unix_connect", "legacy unix_serve", "sync unix_serve",
           "sync unix_route", "trio unix_connect"), "path", 5, TypeError,
          "path must be the path of a Unix socket, or None, not 5"),
    Wrong(LOOP_CLIENTS + SYNC_CONNECT, "sock", "x", TypeError, "sock must be a socket, or None, not 'x'"),
    Wrong(("unix_connect", "unix_serve", "legacy unix_serve"), "sock", Made(io.BytesIO), ValueError,
          "path is incompatible with sock"),
    Wrong(("connect", "legacy connect"), "local_addr", "localhost", TypeError,
          "local_addr must be a pair of a host and a port, or None, not 'localhost'"),
    Wrong(("connect", "legacy connect"), "local_addr", ("localhost", 70000), ValueError,
          "local_addr must be a pair of a host and a port, or None, not ('localhost', 70000)"),
    Wrong(CLIENTS, "server_hostname", "a..b", ValueError,
          "server_hostname must be the name in the certificate of the server: a str, not 'a..b': "
          "a label of it is empty, too long, or can't be encoded"),
    Wrong(CLIENTS, "server_hostname", "a\0b", ValueError,
          r"server_hostname must be the name in the certificate of the server: a str, not 'a\x00b'"),
    Wrong(CONNECT, "proxy_server_hostname", ".a", ValueError,
          "proxy_server_hostname must be the name in the certificate of the proxy: a str, not '.a': "
          "a label of it is empty, too long, or can't be encoded"),
    Wrong(("connect", "serve", "sync serve"), "family", "inet", TypeError, "family must be a whole number, not 'inet'"),
    Wrong(LOOP_CLIENTS, "ssl_handshake_timeout", 0, ValueError, f"ssl_handshake_timeout {TLS_TIME} 0"),
    Wrong(LOOP_SERVERS, "ssl_shutdown_timeout", "5", TypeError, f"ssl_shutdown_timeout {TLS_TIME} '5'"),
    Wrong(LOOP_SERVERS, "start_serving", "no", TypeError, f"start_serving {FLAG} 'no'"),
    Wrong(("serve", "legacy serve", "sync serve"), "reuse_port", "yes", TypeError,
          "reuse_port must be True, False or None, not 'yes'"),
    Wrong(LOOP_SERVERS + SYNC_SERVE, "backlog", "x", TypeError, "backlog must be a whole number, not 'x'"),
    Wrong(("sync unix_connect",), "path", None, ValueError, "missing path argument"),
    Wrong(SYNC_CONNECT, "timeout", 0, ValueError, f"timeout {TLS_TIME} 0"),
    Wrong(SYNC_CONNECT, "legacy", "no", TypeError, "legacy must be True, False or None, not 'no'"),
    Wrong(SYNC_CONNECT, "proxy_ssl", "cert.pem", TypeError, f"proxy_ssl {CONTEXT} 'cert.pem'"),
    Wrong(("sync connect",), "address", "localhost", TypeError,
          "address must be a pair of a host and a port, or None, not 'localhost'"),
    Wrong(("sync connect",), "source_address", ("localhost", 70000), ValueError,
          "source_address must be a pair of a host and a port, or None, not ('localhost', 70000)"),
    Wrong(("connect", "sync connect", "trio connect"), "happy_eyeballs_delay", -1, ValueError,
          "happy_eyeballs_delay must be a number of seconds, 0 or more, or None, not -1"),
    Wrong(("connect", "sync connect"), "interleave", "x", TypeError,
          "interleave must be a whole number, 0 or more, or None, not 'x'"),
    Wrong(("connect", "sync connect"), "all_errors", "x", TypeError, f"all_errors {FLAG} 'x'"),
    # What only trio has.
    Wrong(TRIO_CONNECT, "stream", "x", TypeError, "stream must be a stream of trio, or None, not 'x'"),
    Wrong(("trio unix_connect",), "stream", Made(lambda: Stream()), ValueError, "path is incompatible with stream"),
    Wrong(TRIO_CONNECT, "server_hostname", 5, TypeError,
          "server_hostname must be the name in the certificate of the server: a str, not 5"),
    Wrong(("trio connect",), "port", "80", TypeError, "port must be a port from 0 to 65535, not '80'"),
    Wrong(("trio connect",), "local_address", ("::1", 0), TypeError,
          "local_address must be a host: a str, or None, not ('::1', 0)"),
    Wrong(TRIO_SERVE, "backlog", -1, ValueError, "backlog must be a whole number, 0 or more, or None, not -1"),
    Wrong(("trio serve",), "port", None, ValueError, "port is required when listeners is not provided"),
    Wrong(("trio serve",), "listeners", [], ValueError, f"listeners {LISTENERS} []: no client could connect"),
    Wrong(("trio serve",), "listeners", [5], TypeError, f"listeners {LISTENERS} [5]"),
    Wrong(("trio serve",), "listeners", 5, TypeError, f"listeners {LISTENERS} 5"),
    Wrong(("trio route",), "listeners", Made(lambda: [Listener()]), ValueError, "port is incompatible with listeners"),
    # Names that nobody knows.
    Wrong(("sync unix_connect",), "address", ("localhost", 80), TypeError,
          f"connect() {UNKNOWN} 'address'"),
    Wrong(SYNC_CONNECT, "extra_headers", {}, TypeError,
          f"connect() {UNKNOWN} 'extra_headers'; did you mean additional_headers?"),
    Wrong(SYNC_CONNECT, "write_limit", 5, TypeError, f"connect() {UNKNOWN} 'write_limit'"),
    Wrong(CLIENTS, "ping_intervall", 20, TypeError,
          f"connect() {UNKNOWN} 'ping_intervall'; did you mean ping_interval?"),
    Wrong(LOOP_SERVERS + SYNC_SERVE, "maxsize", 20, TypeError,
          f"serve() {UNKNOWN} 'maxsize'; did you mean max_size?"),
    Wrong(CONNECT, "loop", None, TypeError,
          f"connect() {UNKNOWN} 'loop': a connection belongs to the event loop that runs"),
    Wrong(LOOP_SERVE, "loop", None, TypeError,
          f"serve() {UNKNOWN} 'loop': a connection belongs to the event loop that runs"),
    Wrong(CONNECT, "headers", {}, TypeError, f"connect() {UNKNOWN} 'headers'; did you mean additional_headers?"),
    Wrong(LOOP_CONNECT + TRIO_CONNECT, "timeout", 5, TypeError,
          f"connect() {UNKNOWN} 'timeout'; did you mean open_timeout?"),
    Wrong(LOOP_SERVE, "extra_headers", {}, TypeError,
          f"serve() {UNKNOWN} 'extra_headers': process_response may add headers to a response"),
    Wrong(SYNC_SERVE, "write_limit", 5, TypeError, f"serve() {UNKNOWN} 'write_limit'"),
    Wrong(LOOP_SERVE, "read_limit", 5, TypeError,
          f"serve() {UNKNOWN} 'read_limit': reads of all connections share a buffer"),
    Wrong(("unix_serve",), "reuse_port", True, TypeError, f"serve() {UNKNOWN} 'reuse_port'"),
    Wrong(("connect", "trio connect", "legacy connect"), "xyzzy", 1, TypeError, f"connect() {UNKNOWN} 'xyzzy'"),
    Wrong(("trio connect",), "local_addr", None, TypeError,
          f"connect() {UNKNOWN} 'local_addr'; did you mean local_address?"),
    Wrong(LEGACY_CONNECT, "idle_timeout", 5, TypeError,
          f"connect() {UNKNOWN} 'idle_timeout'; did you mean close_timeout?"),
)
# fmt: on


@numbers.Integral.register
class Whole:
    """A whole number that isn't Python's, as NumPy's are."""

    def __init__(self, value: int) -> None:
        self.value = value

    def __index__(self) -> int:
        return self.value

    def __repr__(self) -> str:
        return f"Whole({self.value})"


class Handlers:
    """Kinds of callables that can be handlers."""

    async def method(self, websocket: Any) -> None: ...

    async def __call__(self, websocket: Any) -> None: ...

    def returning(self, websocket: Any) -> Any:
        return self.method(websocket)

    def raising(self, websocket: Any) -> Any:
        raise RuntimeError

    class Executor:
        def submit(self, function: Any, *arguments: Any) -> None: ...

    @types.coroutine
    def old(self, websocket: Any) -> Any:
        yield from ()


class Awaitable:
    """A handler that is a class: its instances can be awaited."""

    def __init__(self, websocket: Any) -> None:
        self.websocket = websocket

    def __await__(self) -> Iterator[Any]:
        return iter(())


@functools.wraps(with_three)
def decorated(websocket: Any) -> Any:
    """A handler that shows other parameters than it takes."""
    return with_three(websocket, "/", None)


class KeysAndValues:
    """What can be headers, and can do nothing else."""

    def keys(self) -> list[str]:
        return ["X"]

    def __getitem__(self, key: str) -> str:
        return "x"


class Factory:
    """A factory of extensions that is a class: it needs no object."""

    name = "x-nothing"

    @staticmethod
    def get_request_params() -> list[Any]:
        return []

    @classmethod
    def process_response_params(cls, params: Any, accepted: Any) -> Any: ...


INFINITY = float("inf")

# fmt: off
RIGHT: tuple[Right, ...] = tuple(
    Right(calls, name, value)
    for calls, name, values in (
        (ALL, "ping_interval", [None, 0.01, 1, Fraction(1, 2), INFINITY, True]),
        (ALL, "ping_timeout", [None, 0.01, 1, Fraction(1, 2), INFINITY, True]),
        (ALL, "close_timeout", [None, 0, 0.0, False, 1, Fraction(1, 2), INFINITY]),
        (CLIENTS, "open_timeout", [None, 0, 0.5, 10**9, Fraction(1, 2), INFINITY, True]),
        (SERVERS, "open_timeout", [None, 0.5, 10**9, Fraction(1, 2), INFINITY, True]),
        (LOOP_CONNECT + LOOP_SERVE, "tls_transport", [None, "loop", "memory", "aiofastnet"]),
        (TODAY, "max_rate", [None, (1, 1), [0.5, 10**6]]),
        (TODAY, "max_bytes_rate", [None, (1, 1), [0.5, 10**6]]),
        (TODAY, "on_rate", ["wait", "close"]),
        (TODAY, "idle_timeout", [None, 0.1, Fraction(1, 2), INFINITY]),
        (ALL + PROTOCOLS, "max_size", [None, 0, 1, True, (None, 10), (10, None), [10, 20], (None, None), 1e6]),
        (ALL, "max_queue", [None, 0, 1, False, (8, 2), [8, 8], (8, None), (None, 3), (None, None), (8.0, 2.0)]),
        (ON_LOOPS, "write_limit", [0, 1, 2**30, (8, 2), [8, None], (None, None)]),
        (SERVE, "max_connections", [None, 1, 10**6]),
        (SERVE, "proxy_protocol", [None, ["10.0.0.1"], ("unix:", "::1", "10.0.0.0/8"), {"fe80::/10"}]),
        (SERVERS, "server_header", [None, "", "mine", "é"]),
        (CLIENTS, "user_agent_header", [None, "", "mine", False]),
        (CLIENTS, "origin", [None, "", "null", "https://x/", "app"]),
        (SERVERS, "origins", [None, ["https://x"], ("https://x:8", None), {"null"}, ["app://x"], [re.compile(".*/.*")],
                              ["https://x", "https://x/"], ["chrome-extension://abc"], {"https://x": 1}]),
        (SERVE, "hosts", [None, "localhost", ["localhost", "[::1]"], re.compile("x")]),
        (CLIENTS, "extensions", [None, [], (), [ClientPerMessageDeflateFactory()], [Factory]]),
        (SERVERS, "extensions", [None, [], (), [ServerPerMessageDeflateFactory()]]),
        (ALL, "compression", [None, "deflate", "deflated"[:-1]]),
        (ALL, "subprotocols", [None, [], ["chat"], ("a", "b")]),
        (PROTOCOLS[1:], "subprotocols", [{"chat"}, {"chat": 1}, iter(["chat"])]),
        (CONNECT, "additional_headers", [None, {}, {"X": "x", "Y": 5}, [("X", "x")], (["X", "x"],), [], ["Xy"],
                                            KeysAndValues(), [deque(["X", "x"])], [iter(["X", "x"])]]),
        (LEGACY_SERVE, "extra_headers", [None, {"X": "x"}, lambda path, headers: {"X": "x"}]),
        (LOOP_SERVERS + TRIO_SERVE, "process_request", [None, answer, lambda *_: None]),
        (SYNC_SERVE, "process_request", [None, lambda *_: None]),
        (SYNC_SERVE, "select_subprotocol", [None, lambda *_: None]),
        (SYNC_WITH_HANDLER, "handler", [not_async, lambda *_: echo(None), print, type,
                                        functools.partial(with_more, 1)]),
        (SYNC_SERVE, "executor", [None, ThreadPoolExecutor(), Handlers.Executor()]),
        (SYNC_SERVE, "daemon_threads", [True, False, 1]),
        (LOOP_SERVE + TRIO_SERVE, "select_subprotocol", [None, answer, lambda *_: None]),
        (WITH_HANDLER, "handler", [echo, echo_at, decorated, Handlers().method, Handlers().returning,
                                   Handlers().raising, Handlers().old, Handlers(), Awaitable,
                                   functools.partial(echo_at, path="/"),
                                   lambda websocket: echo(websocket), lambda *_: echo(None), type]),
        (CONNECT, "process_exception", [None, lambda exc: None]),
        (CONNECT, "reconnect_delays", [None, lambda: iter([1])]),
        (TODAY, "create_connection", [None, lambda *_, **__: None]),
        (("trio connect",), "stream", [None, Stream()]),
        (("trio connect",), "port", [None, 0, 65535, True]),
        (("trio connect",), "local_address", [None, "127.0.0.1"]),
        (("trio serve",), "host", [None, "localhost", b"localhost"]),
        (("trio serve",), "backlog", [None, 0, 100]),
        (("trio serve",), "listeners", [None, [Listener()], (Listener(),)]),
        (("trio connect",), "ssl", [None]),
        (("connect", "sync connect"), "proxy", [None, True, "http://localhost:8080"]),
        (("connect",), "host", [None, "localhost", b"localhost"]),
        (("connect", "serve"), "port", [None, 0, 65535, "80", b"80", "http", 80.0, True, "²"]),
        (("serve",), "host", [None, "", "localhost", ["localhost", None], []]),
        (("unix_connect", "sync unix_connect"), "ssl", [None, ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT), True]),
        (WITH_HANDLER + SYNC_WITH_HANDLER, "ssl", [None, ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)]),
        (("route", "sync route", "trio route"), "ssl", [None, True, ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)]),
        (("connect",), "local_addr", [None, ("localhost", 0), ["localhost", 0], (b"localhost", 0),
                                      ("localhost", None), ("::1", "0", 0, 0)]),
        (CONNECT, "server_hostname",
         [None, "", "a.", "caf\xe9.example", "fe80::1%eth0", "1.2.3.4"]),
        (CONNECT, "proxy_server_hostname", [None, "", "a.", "caf\xe9.example"]),
        (("connect", "serve", "sync connect", "legacy serve"), "sock", [None, io.BytesIO()]),
        (("legacy connect",), "proxy", [None, True]),
        (ALL + PROTOCOLS, "logger", [None, logging.getLogger("x"), logging.LoggerAdapter(logging.getLogger("x"), {})]),
        (("connect", "serve"), "family", [socket.AF_INET, 0]),
        (LOOP_SERVERS, "start_serving", [True, False, 1]),
        (("sync unix_connect",), "path", ["/run/a", b"/run/a", PurePath("/run/a")]),
        (("unix_connect", "unix_serve"), "path", [None, "/run/a", b"/run/a", PurePath("/run/a")]),
        (("unix_serve",), "unix", [True]),
        (("serve", "connect", "sync connect"), "unix", [False, 0]),
        (SYNC_CONNECT, "timeout", [None, 0.1, Fraction(1, 2), INFINITY]),
        (SYNC_CONNECT, "legacy", [False, 0]),
        (("sync connect",), "address", [None, ("localhost", 80), ["localhost", "http"]]),
        (("sync connect",), "source_address", [None, ("localhost", 0), ["localhost", 0], ("::1", 0, 0, 0)]),
        (("connect", "sync connect", "trio connect"), "happy_eyeballs_delay", [None, 0, 0.25]),
        (("connect", "sync connect"), "interleave", [None, 0, 2]),
        (("connect", "sync connect"), "all_errors", [False, True, 1]),
        (PROTOCOLS, "state", [State.OPEN]),
    )
    for value in values
)
# fmt: on


def _print() -> None:
    number = 0
    for row in WRONG:
        for call in row.calls:
            exc = error(call, row)
            number += 1
            value = ADDRESS.sub("", shown(options_of(row)[row.name]))
            print(f"{call}({row.name}={value[:60]}): {type(exc).__name__}: {ADDRESS.sub('', str(exc))}")
    print(f"{len(WRONG)} values, {number} calls")


if __name__ == "__main__":
    _print()
