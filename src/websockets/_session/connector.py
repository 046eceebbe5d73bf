"""The members of ``connect`` that never wait, shared by all front-ends, and its state between attempts.

May know: options of a client, redirects. Must not know: how to connect and to wait.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, Literal

from ..client import backoff, process_exception
from ..datastructures import HeadersLike
from ..typing import LoggerLike
from ..uri import WebSocketURI
from .options import ClientOptions, connection_maker
from .redirects import MAX_REDIRECTS, Hop, redirect_target

__all__ = ["Connector", "ConnectorState", "unix_uri", "use_network"]


class ConnectorState:
    """The private state of ``connect``, in one object, so that its names don't clash with those of subclasses.

    Parameters:
        given: the URI as the user wrote it.
        options: the options of the client.
        default: default class of connections.

    Attributes:
        first: the parsed URI of the user, before any redirect.
        max_redirects: maximum number of attempts, including redirects.
        make_connection: function that makes a connection from its protocol and, except on asyncio, what it runs on.
        hop: the latest attempt; before the first one begins, the first one.
        network: an object that makes TCP connections in place of the front-end: in tests, a network in memory.
        entered: whether a ``with`` block is active.
    """

    def __init__(self, given: str, options: ClientOptions, default: Callable[..., Any]) -> None:
        self.options = options
        self.first = options.uri
        self.max_redirects = MAX_REDIRECTS
        self.make_connection: Callable[..., Any] = connection_maker(options, default)
        self.hop = Hop(given, options.uri, options.additional_headers)
        self.network: Any = None
        self.entered = False

    def enter(self) -> None:
        """Note that a ``with`` block begins.

        Raises:
            RuntimeError: a ``with`` block is already active.
        """
        if self.entered:
            raise RuntimeError("connect() isn't reentrant")
        self.entered = True

    def connection(self, uri: WebSocketURI, *runs_on: Any) -> Any:
        """Return a new connection, before its opening handshake.

        Parameters:
            uri: URI of the server.
            *runs_on: arguments of the connection before its protocol, if the front-end has any.
        """
        return self.make_connection(*runs_on, self.options.protocol(uri))


class Connector:
    """The attributes of ``connect``, which a program may change between attempts, and its hook for redirects.

    Parameters:
        uri: URI of the server.
        options: the options of the client.
        default: default class of connections.
    """

    def __init__(self, uri: str, options: ClientOptions, default: Callable[..., Any]) -> None:
        self._ws_connector_state = ConnectorState(uri, options, default)
        self.uri = uri
        self.ws_uri = options.uri
        self.additional_headers: HeadersLike | None = options.additional_headers
        self.user_agent_header = options.user_agent_header
        self.proxy: str | Literal[True] | None = options.proxy
        self.process_exception: Callable[[Exception], Exception | None] = options.process_exception or process_exception
        self.open_timeout = options.open_timeout
        self.reconnect_delays: Callable[[], Iterator[float]] = options.reconnect_delays or backoff
        self.logger: LoggerLike = options.logger
        self.create_connection_kwargs = options.arguments

    def __repr__(self) -> str:
        return f"<{type(self).__name__} to {self._ws_connector_state.hop.shown}>"

    def process_redirect(self, exc: Exception) -> Exception | str:
        """Decide whether a failed attempt is a redirect to follow. May be overridden.

        Parameters:
            exc: exception of the attempt to connect to ``uri``.

        Returns:
            The URI to connect to next; or the exception to raise, ``exc`` itself if it isn't a redirect.
        """
        return redirect_target(exc, self.uri)


def use_network(connector: Connector, network: Any) -> None:
    """Set the object that makes TCP connections in place of the front-end.

    Parameters:
        connector: the ``connect`` object.
        network: an object with the methods of the front-end's event loop that make connections.
    """
    connector._ws_connector_state.network = network


def unix_uri(uri: str | None, arguments: Mapping[str, Any]) -> str:
    """Return the URI for the request to a server on a Unix socket.

    Parameters:
        uri: URI from the user; None for ``localhost``.
        arguments: the other arguments of ``unix_connect``; with ``ssl``, the scheme is ``wss``.
    """
    if uri is not None:
        return uri
    return "ws://localhost/" if arguments.get("ssl") is None else "wss://localhost/"
